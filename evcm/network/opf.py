"""The operator's AC OPF (2.4): one call solves a day of 48 periods with not-supplied power.

Each period minimises the power at the slack plus a penalty on power not supplied (44), subject to
the power balances (45), (46) with the branch flows (47), (48), the branch limits (49), the voltage
limits (50), the reference angle (51) and the generators' limits (52), (53);
`evcm.network.certificate.ac_opf` writes them out. Two methods give the same optimum: ``fast``, an
interior point of our own over all periods at once, and ``pypower``, a plain loop over PYPOWER.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from evcm.arrays import BoolArray, FloatArray, IntArray, freeze
from evcm.errors import Checks, SolverError
from evcm.network import injections
from evcm.network.case import Day, Network
from evcm.network.injections import Injections, Part
from evcm.network.interior import solve
from evcm.network.interior.solve import State
from evcm.network.limits import CAUSES, Limit, Multipliers, binding
from evcm.network.status import Status
from evcm.paper import implements

Method = Literal["fast", "pypower"]
METHODS: tuple[Method, ...] = ("fast", "pypower")

NEGLIGIBLE_MW = 1e-6
"""An interior point stops just inside its bounds; less than this not supplied counts as none."""

SERVED_MW = 1e-4
"""Power not supplied in a period below which the network counts as serving all of it."""


@dataclass(frozen=True, eq=False)
class OperatedDay:
    """Operating points of T periods; arrays are (period, bus) or (period, generator).

    `status` and `iterations` say for each period how it was obtained.
    """

    day: Day
    generation_p_mw: FloatArray = field(repr=False)
    generation_q_mvar: FloatArray = field(repr=False)
    v_pu: FloatArray = field(repr=False)
    angle_deg: FloatArray = field(repr=False)
    price: FloatArray = field(repr=False)
    status: tuple[Status, ...] = field(repr=False)
    iterations: IntArray = field(repr=False)
    method: Method
    seconds: float

    def __post_init__(self) -> None:
        freeze(self, {"iterations": np.int64})

    @property
    def network(self) -> Network:
        """The network."""
        return self.day.network

    @property
    def load_p_mw(self) -> FloatArray:
        """Active load of `day` at each bus. (T, n_bus)"""
        return self.day.load_p_mw

    @property
    def load_q_mvar(self) -> FloatArray:
        """Reactive load of `day` at each bus. (T, n_bus)"""
        return self.day.load_q_mvar


def operated(
    day: Day, state: State, power: dict[Part, FloatArray], method: Method, begun: float
) -> dict[str, Any]:
    """The fields of `OperatedDay` from a solver's state and its injections `power` by part."""
    return {
        "day": day, "generation_p_mw": power[Part.ACTIVE_GENERATION],
        "generation_q_mvar": power[Part.REACTIVE_GENERATION], "v_pu": state.v_pu,
        "angle_deg": np.rad2deg(state.angle_rad), "price": state.price[:, :, 0],
        "status": tuple(Status(s) for s in state.status), "iterations": state.iterations,
        "method": method, "seconds": time.perf_counter() - begun,
    }  # fmt: skip


@dataclass(frozen=True, eq=False)
class OpfDay(OperatedDay):
    """Result of T periods.

    `day` is what was asked, EVs included; `nsp_mw` the power not supplied. `price` (T, n_bus) is
    what one MW more of load at a bus adds to the objective (44): 1 where the slack supplies it
    without losses, 6000 where it goes unsupplied. `multipliers` say what each limit is worth.
    """

    nsp_mw: FloatArray = field(repr=False)
    objective: FloatArray = field(repr=False)
    multipliers: Multipliers = field(repr=False)

    @property
    def load_mw(self) -> FloatArray:
        """Load of the system in each period, EVs included. (T,)"""
        return np.asarray(self.load_p_mw.sum(axis=1))

    @property
    def generation_mw(self) -> FloatArray:
        """Generation of the system in each period. (T,)"""
        return np.asarray(self.generation_p_mw.sum(axis=1))

    @property
    def losses_mw(self) -> FloatArray:
        """Losses in each period: generation and power not supplied less the load. (T,)"""
        return np.asarray(self.generation_mw + self.nsp_mw.sum(axis=1) - self.load_mw)

    @property
    def load_mwh(self) -> float:
        """Energy asked for."""
        return float(self.load_mw.sum() * self.day.period_h)

    @property
    def generation_mwh(self) -> float:
        """Energy generated."""
        return float(self.generation_mw.sum() * self.day.period_h)

    @property
    def nse_mwh(self) -> float:
        """Energy not supplied (NSE)."""
        return float(self.nsp_mw.sum() * self.day.period_h)

    @property
    def losses_mwh(self) -> float:
        """Energy lost in the network."""
        return float(self.losses_mw.sum() * self.day.period_h)

    @property
    def peak_mw(self) -> float:
        """Largest load of the system."""
        return float(self.load_mw.max())

    @property
    def load_factor(self) -> float:
        """Mean load over peak load; the paper's Table 3 calls it power factor."""
        return float(self.load_mw.mean() / self.load_mw.max())

    @property
    def v_min_pu(self) -> FloatArray:
        """Lowest voltage in each period. (T,)"""
        return np.asarray(self.v_pu.min(axis=1))

    def binding(self, period: int) -> list[Limit]:
        """The limits that bind in a period (from 0), by name, with what one unit more is worth.

        Generation comes first, then branches and voltages; the worth is in units of (44).
        """
        inj = opf_injections(self.day.at([period]))
        return binding(self.network, inj, 0, self.multipliers.at([period]))

    def shortages(self) -> pd.DataFrame:
        """Every period with power not supplied and the limit that causes it.

        Returns
        -------
        DataFrame
            ``period`` (from 1), ``nsp_mw``, ``kind`` (one of `limits.CAUSES`), ``limit`` in words,
            and ``worth_mw``: power not supplied saved per unit of the limit (MW, MVA, Mvar,
            hundredth pu or degree).
        """
        rows, penalty = [], self.network.nsp_penalty_per_mw
        for t in np.flatnonzero(self.nsp_mw.sum(axis=1) >= SERVED_MW).tolist():
            cause = [x for x in self.binding(t) if x.kind in CAUSES]
            strong = [x for x in cause if x.worth >= penalty / 2]
            first = min(
                strong or cause, key=lambda x: (CAUSES.index(x.kind) if strong else 0, -x.worth)
            )
            nsp = float(self.nsp_mw[t].sum())
            rows.append((t + 1, nsp, first.kind, first.text, first.worth / penalty))
        return pd.DataFrame(rows, columns=["period", "nsp_mw", "kind", "limit", "worth_mw"])

    def to_frame(self) -> pd.DataFrame:
        """The state by period and bus, one row each.

        Returns
        -------
        DataFrame
            ``period`` (from 1), ``bus``, ``v_pu``, ``angle_deg``, ``load_mw``, ``load_mvar``,
            ``generation_mw``, ``generation_mvar``, ``nsp_mw`` and ``price`` (units of (44) per MW).
        """
        net, periods = self.network, self.day.n_periods
        at_bus = np.eye(net.n_bus)[net.generator_bus]
        columns = {
            "v_pu": self.v_pu, "angle_deg": self.angle_deg, "load_mw": self.load_p_mw,
            "load_mvar": self.load_q_mvar, "generation_mw": self.generation_p_mw @ at_bus,
            "generation_mvar": self.generation_q_mvar @ at_bus, "nsp_mw": self.nsp_mw,
            "price": self.price,
        }  # fmt: skip
        return pd.DataFrame(
            {
                "period": np.repeat(np.arange(1, periods + 1), net.n_bus),
                "bus": np.tile(net.bus_number, periods),
            }
            | {name: values.ravel() for name, values in columns.items()}
        )


@implements("44")
def objective(network: Network, generation_p_mw: FloatArray, nsp_mw: FloatArray) -> FloatArray:
    """Objective (44) of each period: C_pen times the power not supplied plus the slack's power."""
    cost, penalty = injections.cost_per_mw(network)
    return np.asarray(generation_p_mw @ cost + penalty * nsp_mw.sum(axis=1))


def as_method(name: str) -> Method:
    """`name` as a method; raises `InputError` for one that does not exist."""
    c = Checks("OPF")
    c.require(name in METHODS, "method", name, ", ".join(METHODS))
    c.done()
    return "fast" if name == "fast" else "pypower"


def opf_injections(day: Day) -> Injections:
    """What the OPF of a day chooses: generation (52), (53) and power not supplied (45)."""
    return injections.generation(day.network, day.n_periods) + injections.not_supplied(day)


def solve_day(day: Day, *, method: Method = "fast") -> OpfDay:
    """Solve the AC OPF (44)-(53) of every period.

    The load of `day` is with cars (43), negative where they feed in more than the bus draws.

    Raises
    ------
    InputError
        An unknown method.
    InfeasibleError
        No operating point keeps every limit: names the period and the limits that bind.
    SolverError
        A period did not converge.

    See Also
    --------
    evcm.network.certificate.ac_opf : the equations, written out.
    evcm.network.certificate.certify_day : checks a result without any solver.
    assess : the same where periods without an operating point are no error.
    """
    as_method(method)
    started = time.perf_counter()
    inj = opf_injections(day)
    state = solve_injections(day, inj, method).require("OPF")
    return _result(day, inj, state, method, started)


def _result(day: Day, inj: Injections, state: State, method: Method, begun: float) -> OpfDay:
    power = inj.unpack(state.injection)
    nsp, shed = np.zeros_like(day.load_p_mw), power[Part.NOT_SUPPLIED]
    nsp[:, day.network.sheddable] = np.where(shed < NEGLIGIBLE_MW, 0.0, shed)
    return OpfDay(
        nsp_mw=nsp, objective=objective(day.network, power[Part.ACTIVE_GENERATION], nsp),
        multipliers=state.multipliers, **operated(day, state, power, method, begun),
    )  # fmt: skip


def solve_injections(
    day: Day, inj: Injections, method: Method = "fast", gap: float = solve.GAP
) -> State:
    """The operating points that choose the injections `inj` best, by either method.

    PYPOWER cannot tell an infeasible period from a failure of its own; where it ends without an
    answer, the fast method says which it was.
    """
    if method == "fast":
        return solve.solve(day, inj, gap)
    from evcm.network import pypower

    state = pypower.solve(day, inj)
    failed = np.flatnonzero(~state.solved)
    if failed.size:
        probe = solve.solve(day.at(failed), inj.at(failed), gap)
        if not probe.nearest:
            raise SolverError(
                f"PYPOWER ended without an answer in {failed.size} of {day.n_periods} periods, "
                f"first period {failed[0] + 1}; the fast method has one: use method fast",
                period=int(failed[0]) + 1, periods=(failed + 1).tolist(),
            )  # fmt: skip
        found = {int(failed[t]): why for t, why in probe.nearest.items()}
        state.status[list(found)] = Status.INFEASIBLE
        state.nearest.update(found)
    return state


@dataclass(frozen=True, eq=False)
class Assessment:
    """State of the network by period (T,): power not supplied, losses (MW), lowest voltage (pu).

    Where no operating point exists, `nsp_mw` is inf and the others are nan; `status` says why.
    """

    nsp_mw: FloatArray = field(repr=False)
    losses_mw: FloatArray = field(repr=False)
    v_min_pu: FloatArray = field(repr=False)
    status: tuple[Status, ...] = field(repr=False)

    @property
    def short_mw(self) -> FloatArray:
        """Power not supplied (T,), 0 where it is no more than rounding."""
        return np.where(self.nsp_mw < SERVED_MW, 0.0, self.nsp_mw)


def assess(day: Day, ev_mw: FloatArray | None = None) -> Assessment:
    """Solve the AC OPF with the aggregators' power `ev_mw` (T, K), period by period.

    A period that the OPF calls infeasible, or cannot solve, has no operating point here; it never
    counts as served.

    See Also
    --------
    evcm.network.outages.assess_outages : the same under the loss of any one branch.
    """
    day = day if ev_mw is None else day.with_cars(ev_mw)
    inj = opf_injections(day)
    state = solve.solve(day, inj)
    return assessment(day, inj, state)


def assessment(day: Day, inj: Injections, state: State) -> Assessment:
    """What an operator looks at first, of a state that may lack some periods."""
    result, solved = _result(day, inj, state, "fast", time.perf_counter()), state.solved
    return Assessment(
        nsp_mw=np.where(solved, result.nsp_mw.sum(axis=1), np.inf),
        losses_mw=np.where(solved, result.losses_mw, np.nan),
        v_min_pu=np.where(solved, result.v_min_pu, np.nan),
        status=result.status,
    )


def shortage_mw(day: Day, ev_mw: FloatArray) -> FloatArray:
    """Power not supplied (T,) with the aggregators' power `ev_mw` (T, K); inf where no state is."""
    return assess(day, ev_mw).nsp_mw


def served(day: Day, ev_mw: FloatArray) -> BoolArray:
    """In which periods (T,) the network serves load and aggregators in full.

    For searches that ask thousands of times: a period counts as served where one attempt of the OPF
    finds its operating point. `assess` tries harder, and says why there is none.
    """
    day = day.with_cars(ev_mw)
    inj = opf_injections(day)
    state = solve.solve(day, inj, once=True)
    return np.asarray(assessment(day, inj, state).nsp_mw < SERVED_MW)
