"""Caps on what each aggregator may buy (2.4.1): the largest total the network serves (54), (55)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.network import injections
from evcm.network.case import Day
from evcm.network.injections import Part
from evcm.network.opf import Method, OperatedDay, as_method, operated, solve_injections

Side = Literal["import", "export"]

GAP = 2e-9
"""Relative gap of the caps: the optimum is flat, so a looser one shows at single buses."""


@dataclass(frozen=True, eq=False)
class Caps(OperatedDay):
    """Caps of T periods, with the operating point that serves the load and all caps at once.

    `day` is the load without the cars that the caps are for. `side` says what they bound:
    ``import``, what an aggregator may buy (2.4.1), or ``export``, what it may feed in. `cap_mw` is
    (period, aggregator), positive either way, columns as `network.ev_bus`. `price` (T, n_bus) is by
    how much the total falls for one MW more of load at a bus.
    """

    cap_mw: FloatArray = field(repr=False)
    side: Side
    share_min: float
    share_max: float

    @property
    def ev_mw(self) -> FloatArray:
        """Power of each aggregator that uses its whole cap, negative for export. (T, K)"""
        return self.cap_mw if self.side == "import" else -self.cap_mw

    @property
    def total_mw(self) -> FloatArray:
        """Sum of the caps in each period. (T,)"""
        return np.asarray(self.cap_mw.sum(axis=1))

    @property
    def total_mwh(self) -> float:
        """Energy of the day if every cap is bought."""
        return float(self.total_mw.sum() * self.day.period_h)

    @property
    def worth(self) -> FloatArray:
        """What one MW of each cap is worth to all others, MW per MW. (T, K)

        The total would rise by 1 less this where an aggregator gets one MW more: 0 to 1 at a bus
        whose cap is at its largest share, 1 where the cap is free, above 1 at its least share.
        """
        return np.asarray(self.price[:, self.network.ev_bus])


def solve_caps(
    day: Day,
    *,
    share_min: float | None = None,
    share_max: float | None = None,
    method: Method = "fast",
) -> Caps:
    """Maximise the sum of the caps subject to the OPF's constraints, with no power unsupplied.

    `day` is the load without the cars that the caps are for; `share_min`, `share_max` are the range
    of a cap as a share of its bus's load, the network's if left out.

    Raises
    ------
    InputError
        Shares out of order, an unknown method.
    InfeasibleError
        The network cannot serve the load and the least caps: names period and limits.
    SolverError
        A period did not converge.

    See Also
    --------
    evcm.network.certificate.certify_caps : checks a result without any solver.
    """
    low = day.network.cap_share_min if share_min is None else share_min
    high = day.network.cap_share_max if share_max is None else share_max
    as_method(method)
    c = Checks("caps")
    c.require(0 <= low <= high, "share_min, share_max", (low, high), "0 <= share_min <= share_max")
    c.done()
    return _solve(day, injections.caps(day, low, high), "import", low, high, method)


def solve_exports(day: Day, *, share_max: float = 1.0, method: Method = "fast") -> Caps:
    """Maximise what all aggregators may feed in at once, beside the load.

    The import caps alone promise nothing to a plan that feeds in: generators cannot fall below
    their least power. The mirror image of (54), (55): a limit is at most a share of its bus's load,
    so that no bus turns into a source unless `share_max` is above 1.

    Raises
    ------
    InputError
        A negative share, an unknown method.
    InfeasibleError
        The network cannot serve the load alone.
    SolverError
        A period did not converge.

    See Also
    --------
    solve_caps : what aggregators may buy. A plan within both is served.
    """
    as_method(method)
    c = Checks("export limits")
    c.require(0 <= share_max < np.inf, "share_max", share_max, ">= 0")
    c.done()
    return _solve(day, injections.exports(day, share_max), "export", 0.0, share_max, method)


def _solve(
    day: Day, caps: injections.Injections, side: Side, low: float, high: float, method: Method
) -> Caps:
    """The operating point with the largest sum of `caps`."""
    started = time.perf_counter()
    inj = injections.generation(day.network, day.n_periods).free_of_cost() + caps
    what = "caps" if side == "import" else "export limits"
    state = solve_injections(day, inj, method, gap=GAP).require(what)
    power = inj.unpack(state.injection)
    cap = power[Part.CAP if side == "import" else Part.EXPORT]
    return Caps(
        cap_mw=cap, side=side, share_min=low, share_max=high,
        **operated(day, state, power, method, started),
    )  # fmt: skip


def network_room_mw(day: Day, reach_mw: FloatArray) -> FloatArray:
    """Most that all aggregators together can draw in each period (T,), losses included.

    An AC OPF of its own: it maximises Σ_k P_k with -reach_k <= P_k <= reach_k (T, K) and no power
    unsupplied. It spreads the total where it costs the least, so no plan can draw more.
    """
    inj = injections.generation(day.network, day.n_periods).free_of_cost()
    inj += injections.Injections.of(
        Part.CAP, day.network.ev_bus, -reach_mw, reach_mw, sign=-1.0, cost_per_mw=-1.0
    )
    state = solve_injections(day, inj).require("network room")
    return np.asarray(inj.unpack(state.injection)[Part.CAP].sum(axis=1))
