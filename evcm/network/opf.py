"""The operator's AC OPF (2.4): one call solves a day of 48 periods with not-supplied power.

Each period minimises the power at the slack plus a penalty on power not supplied (44), subject to
the power balances (45), (46) with the branch flows (47), (48), the branch limits (49), the voltage
limits (50), the reference angle (51) and the generators' limits (52), (53). Two methods give the
same optimum: ``fast``, an interior point of our own over all periods at once, and ``pypower``, a
plain loop over PYPOWER.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import BoolArray, FloatArray, freeze
from evcm.errors import Checks, InfeasibleError, SolverError
from evcm.network import injections
from evcm.network.case import (
    Day,
    Network,
    bus_load_mvar,
    bus_load_mw,
    ieee14,
    reference_load_factor,
)
from evcm.network.injections import Injections
from evcm.network.interior import solve
from evcm.paper import implements

Method = Literal["fast", "pypower"]
METHODS: tuple[Method, ...] = ("fast", "pypower")

PERIOD_H = 0.5
"""Length of a period in hours."""

NEGLIGIBLE_MW = 1e-6
"""An interior point stops just inside its bounds; less than this not supplied counts as none."""


@dataclass(frozen=True, eq=False)
class OpfDay:
    """Result of T periods; arrays are (period, bus) or (period, generator).

    `nsp_mw` is the power not supplied; `load_p_mw` the load asked for, EVs included. `status`
    says for each period how it was obtained.
    """

    network: Network
    load_p_mw: FloatArray = field(repr=False)
    load_q_mvar: FloatArray = field(repr=False)
    generation_p_mw: FloatArray = field(repr=False)
    generation_q_mvar: FloatArray = field(repr=False)
    v_pu: FloatArray = field(repr=False)
    angle_deg: FloatArray = field(repr=False)
    nsp_mw: FloatArray = field(repr=False)
    objective: FloatArray = field(repr=False)
    status: tuple[str, ...] = field(repr=False)
    method: str
    seconds: float

    def __post_init__(self) -> None:
        freeze(self)

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
        return float(self.load_mw.sum() * PERIOD_H)

    @property
    def generation_mwh(self) -> float:
        """Energy generated."""
        return float(self.generation_mw.sum() * PERIOD_H)

    @property
    def nse_mwh(self) -> float:
        """Energy not supplied (NSE)."""
        return float(self.nsp_mw.sum() * PERIOD_H)

    @property
    def losses_mwh(self) -> float:
        """Energy lost in the network."""
        return float(self.losses_mw.sum() * PERIOD_H)

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


def check_loads(
    network: Network, load_p_mw: FloatArray, load_q_mvar: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Loads as (T, n_bus) float arrays; raises `InputError` on a wrong shape or value."""
    p, q = np.asarray(load_p_mw, float), np.asarray(load_q_mvar, float)
    c = Checks("bus loads")
    good = p.ndim == 2 and p.shape[0] >= 1 and p.shape[1] == network.n_bus
    c.require(good, "load_p_mw", f"shape {p.shape}", f"(periods, {network.n_bus} buses)")
    c.require(q.shape == p.shape, "load_q_mvar", f"shape {q.shape}", f"{p.shape}")
    for name, values in (("load_p_mw", p), ("load_q_mvar", q)):
        bad = np.argwhere(~np.isfinite(values))
        if bad.size and values.ndim == 2:
            t, k = int(bad[0][0]), int(bad[0][1])
            where = f"{name}, period {t + 1}, column {k + 1}"
            c.require(False, where, float(values[t, k]), "a finite number")
    c.done()
    return p, q


def solve_day(
    network: Network,
    load_p_mw: FloatArray,
    load_q_mvar: FloatArray,
    *,
    method: Method = "fast",
    tolerance: float | None = None,
) -> OpfDay:
    """Solve the AC OPF (44)-(53) of every period.

    Parameters
    ----------
    network
    load_p_mw, load_q_mvar : (T, n_bus)
        Load at each bus (43); negative where cars feed in more than the bus draws. T is free:
        periods do not depend on each other.
    method
        ``fast`` or ``pypower``.
    tolerance
        Termination tolerance for PYPOWER; None keeps its defaults.

    Raises
    ------
    InputError
        Wrong shapes, numbers that are not finite, an unknown method.
    InfeasibleError
        No operating point keeps every limit: names the period and the limits that bind.
    SolverError
        A period did not converge.
    """
    as_method(method)
    p, q = check_loads(network, load_p_mw, load_q_mvar)
    started = time.perf_counter()
    inj = injections.generation(network, len(p)) + injections.not_supplied(network, p)
    angle, v, u, iterations = solve_injections(network, p, q, inj, method, "OPF", tolerance)
    ng = network.generator_bus.size
    nsp = np.zeros_like(p)
    nsp[:, network.sheddable] = np.where(u[:, 2 * ng :] < NEGLIGIBLE_MW, 0.0, u[:, 2 * ng :])
    generation_p = u[:, :ng]
    return OpfDay(
        network=network,
        load_p_mw=p,
        load_q_mvar=q,
        generation_p_mw=generation_p,
        generation_q_mvar=u[:, ng : 2 * ng],
        v_pu=v,
        angle_deg=np.rad2deg(angle),
        nsp_mw=nsp,
        objective=objective(network, generation_p, nsp),
        status=tuple(f"optimal after {n} iterations ({method})" for n in iterations),
        method=method,
        seconds=time.perf_counter() - started,
    )


def solve_injections(
    network: Network,
    p: FloatArray,
    q: FloatArray,
    inj: Injections,
    method: Method,
    what: str,
    tolerance: float | None = None,
    gap: float = solve.GAP,
) -> tuple[FloatArray, FloatArray, FloatArray, NDArray[np.int64]]:
    """Angles (rad), voltages (pu), injections (MW, Mvar) and iterations by either method."""
    if method == "fast":
        state = solve.solve(network, p, q, inj, what, gap)
        return state.angle_rad, state.v_pu, state.injection, state.iterations
    from evcm.network import pypower

    rows = []
    for t in range(len(p)):
        try:
            rows.append(
                pypower.solve_period(network, p[t], q[t], inj.period(t), t + 1, what, tolerance)
            )
        except SolverError:
            # the fast method's diagnosis tells an infeasible period from a solver's failure
            solve.solve(network, p[t : t + 1], q[t : t + 1], inj.period(t), what)
            raise
    angle, v, u, iterations = zip(*rows, strict=True)
    return np.stack(angle), np.stack(v), np.stack(u), np.array(iterations, np.int64)


def study_day(
    ev_mw: FloatArray | None = None,
    as_published: bool = False,
    *,
    method: Method = "fast",
    network: Network | None = None,
) -> OpfDay:
    """The reference day of the study with the aggregators' power `ev_mw` (48, 11) on top of it."""
    net = ieee14(as_published) if network is None else network
    factor = reference_load_factor()
    load_p = bus_load_mw(factor, ev_mw, net)
    return solve_day(net, load_p, bus_load_mvar(factor, net), method=method)


SERVED_MW = 1e-4
"""Power not supplied in a period below which the network counts as serving all of it."""


@dataclass(frozen=True, eq=False)
class Assessment:
    """State of the network by period (T,): power not supplied, losses (MW), lowest voltage (pu).

    Where no operating point exists, `nsp_mw` is inf and the others are nan.
    """

    nsp_mw: FloatArray = field(repr=False)
    losses_mw: FloatArray = field(repr=False)
    v_min_pu: FloatArray = field(repr=False)

    @property
    def short_mw(self) -> FloatArray:
        """Power not supplied (T,), 0 where it is no more than rounding."""
        return np.where(self.nsp_mw < SERVED_MW, 0.0, self.nsp_mw)


def assess(site: Day, ev_mw: FloatArray) -> Assessment:
    """Solve the AC OPF with the aggregators' power `ev_mw` (T, K), period by period.

    A period that the OPF calls infeasible, or cannot solve, has no operating point here; it never
    counts as served.
    """
    load = site.with_cars(ev_mw)
    short = np.full(len(load), np.inf)
    losses, v_min = (np.full(len(load), np.nan) for _ in range(2))
    todo = np.arange(len(load))
    while todo.size:
        try:
            day = solve_day(site.network, load[todo], site.load_q_mvar[todo])
        except (InfeasibleError, SolverError) as error:
            bad = np.asarray(error.details["periods"], int) - 1
            todo = np.delete(todo, bad)
            continue
        short[todo] = day.nsp_mw.sum(axis=1)
        losses[todo], v_min[todo] = day.losses_mw, day.v_min_pu
        break
    return Assessment(short, losses, v_min)


def shortage_mw(site: Day, ev_mw: FloatArray) -> FloatArray:
    """Power not supplied (T,) with the aggregators' power `ev_mw` (T, K); inf where no state is."""
    return assess(site, ev_mw).nsp_mw


def served(site: Day, ev_mw: FloatArray) -> BoolArray:
    """In which periods (T,) the network serves load and aggregators in full."""
    return np.asarray(shortage_mw(site, ev_mw) < SERVED_MW)
