"""Caps that no plan can keep to: by how much, where, and the least caps that would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.errors import InfeasibleError, SolverError

LIMIT_S = 1800.0
"""Longest that one of the two linear programs may take."""

UNLIMITED_MW = 1e6
"""A cap that binds nobody."""


@dataclass(frozen=True, eq=False)
class LeastCap:
    """The least that caps must rise for a plan to exist.

    Attributes
    ----------
    uniform_increase : float
        Least share u such that all caps times 1 + u admit a plan (the trading caps, or P^SYScap);
        infinite where no share does.
    raised_mw, cap_mw : (T,)
        Increases of single periods' caps with the least sum, and the caps on the aggregator's own
        power that then hold.
    needed_mwh : (N,)
        Energy that the cars' trips cost at the grid in each sample, at the least.
    allowed_mwh : float
        Energy that the caps admit in a day.
    """

    uniform_increase: float
    raised_mw: FloatArray = field(repr=False)
    cap_mw: FloatArray = field(repr=False)
    needed_mwh: FloatArray
    allowed_mwh: float


def least_cap(problem: AggregatorProblem) -> LeastCap:
    """Least caps under which a plan exists, by two linear programs; rises of 0 where they do.

    Raises
    ------
    InfeasibleError
        No plan exists under any cap.
    """
    scale = problem.trading_cap_mw
    if scale is None:
        scale = np.full(problem.periods, problem.system_cap_mw)
    share = _least(problem, np.asarray(scale)[:, None])
    raised = _least(problem, np.eye(problem.periods))
    if raised is None:
        raise InfeasibleError(
            f"{problem.label}: no plan exists, whatever the caps: the cars' schedules and the "
            "limits on real-time trade contradict one another",
            bus=problem.bus,
        )
    uniform, cap = np.inf if share is None else float(share[0]), problem.cap_mw
    allowed = float(cap.sum() * problem.period_h)
    return LeastCap(uniform, raised, cap + raised, needed_mwh(problem), allowed)


def needed_mwh(problem: AggregatorProblem) -> FloatArray:
    """Energy that the cars' trips cost at the grid in each sample (N,), at the least."""
    visits, k = problem.visits, problem.figures
    v = visits.vehicle
    lack = np.maximum(k.departure_soc_kwh[v] - visits.arrival_soc_kwh, 0.0)
    lack = np.nan_to_num(lack) * (problem.group_size / k.charge_efficiency)[v]
    return np.bincount(visits.sample, lack, problem.samples) / 1000.0


def _least(problem: AggregatorProblem, columns: FloatArray) -> FloatArray | None:
    """Least sum of w >= 0 such that caps + columns @ w admit a plan; None where none does."""
    import cvxpy as cp  # it takes a second to load, and few problems come here

    from evcm.aggregator import model as m

    x, w = m.variables(problem), cp.Variable(columns.shape[1], nonneg=True)
    free = problem.with_options(
        system_cap_mw=None, trading_cap_mw=np.full(problem.periods, UNLIMITED_MW)
    )
    within = m.traded_mw(problem, x) <= m.wide(problem.cap_mw + columns @ w, problem.samples)
    program = cp.Problem(cp.Minimize(cp.sum(w)), [*m.rules(free, x), within])
    outcome = m.run_highs(program, 0.0, LIMIT_S)
    if outcome.infeasible:
        return None
    if not outcome.solved or not np.isfinite(outcome.bound):
        raise SolverError(f"{problem.label}: the least caps were not found in {LIMIT_S:g} s")
    return np.asarray(np.maximum(w.value, 0.0))


def raise_infeasible(problem: AggregatorProblem) -> NoReturn:
    """Raise `InfeasibleError` naming bus, periods and the least caps that would do.

    Its details are ``bus``, ``periods`` (1-based), ``raised_mw`` and ``cap_mw`` of those periods,
    ``uniform_increase``, ``extra_energy_mwh``, ``needed_mwh`` and ``allowed_mwh``.
    """
    least = least_cap(problem)
    short = np.flatnonzero(least.raised_mw > 1e-6)
    if not short.size:
        raise SolverError(
            f"{problem.label}: HiGHS finds no plan, yet the caps could be met; "
            "the problem is numerically on the edge"
        )
    kind = "trading cap" if problem.trading_cap_mw is not None else "system cap"
    energy = float(least.raised_mw.sum() * problem.period_h)
    uniform = f"no uniform increase of the {kind} admits a plan"
    if np.isfinite(least.uniform_increase):
        share = f"{100 * least.uniform_increase:.1f} %"
        uniform = f"the least uniform increase of the {kind} that admits a plan is {share}"
    most = int(np.argmax(least.raised_mw))
    raise InfeasibleError(
        f"{problem.label}: the {kind} is too low: the cars' trips need "
        f"{least.needed_mwh.min():.2f} to {least.needed_mwh.max():.2f} MWh, depending on the "
        f"sample, and the {kind}s admit {least.allowed_mwh:.2f} MWh in the whole day; {uniform}; "
        f"the least extra energy is {energy:.4f} MWh, in periods {_ranges(short + 1)}, most in "
        f"period {most + 1}: {problem.cap_mw[most]:.4f} -> {least.cap_mw[most]:.4f} MW",
        bus=problem.bus,
        periods=[int(t) + 1 for t in short],
        raised_mw=least.raised_mw[short].tolist(),
        cap_mw=least.cap_mw[short].tolist(),
        uniform_increase=least.uniform_increase,
        extra_energy_mwh=energy,
        needed_mwh=least.needed_mwh.tolist(),
        allowed_mwh=least.allowed_mwh,
    )


def _ranges(numbers: IntArray) -> str:
    """Sorted whole numbers in words: 1 to 4, 7, 9 to 10."""
    breaks = np.flatnonzero(np.diff(numbers) > 1) + 1
    runs = [(int(run[0]), int(run[-1])) for run in np.split(numbers, breaks)]
    return ", ".join(f"{a}" if a == z else f"{a} to {z}" for a, z in runs)


def require_reachable(problem: AggregatorProblem) -> None:
    """Check that every visit is long enough for its car to end it with S_dep.

    Raises
    ------
    InfeasibleError
        Names the worst visit (car, sample, periods) and the energy it lacks. Its details are
        ``vehicle``, ``sample``, ``first_period``, ``last_period`` (all 1-based), ``lacking_kwh``
        and ``count``.
    """
    visits, k = problem.visits, problem.figures
    step, low = problem.charge_step_kwh[visits.vehicle], k.soc_min_kwh[visits.vehicle]
    departure, arrival = k.departure_soc_kwh[visits.vehicle], visits.arrival_soc_kwh
    # Soc bounds bind from the first period on; the contract at the end of the visit.
    need = np.maximum(low - step, departure - step * visits.length)
    lacking = np.maximum(need, 0.0) - arrival
    if problem.midnight_soc_kwh is not None:
        lacking = np.maximum(lacking, _lacking_at_midnight(problem, problem.midnight_soc_kwh))
    lacking = np.where(visits.always_plugged, 0.0, lacking)
    count = int((lacking > 1e-6).sum())
    if not count:
        return
    worst = int(np.argmax(lacking))
    v, n, start, length = (int(column[worst]) for column in visits[:4])
    last = (start + length - 1) % problem.periods
    others = f"; {count} visits are too short in all" if count > 1 else ""
    raise InfeasibleError(
        f"{problem.label}: car {v + 1}, sample {n + 1}, periods {start + 1} to {last + 1}: the "
        f"visit is too short, {lacking[worst]:.3f} kWh are missing. The car arrives with "
        f"{arrival[worst]:.3f} kWh, must leave with {departure[worst]:g} kWh and can gain at most "
        f"{step[worst]:g} kWh in a period{others}",
        vehicle=v + 1, sample=n + 1, first_period=start + 1, last_period=last + 1,
        lacking_kwh=float(lacking[worst]), count=count,
    )  # fmt: skip


def _lacking_at_midnight(problem: AggregatorProblem, midnight_kwh: FloatArray) -> FloatArray:
    """Energy that visits over midnight lack for the given charge after period 1 (20)."""
    visits, arrival = problem.visits, problem.visits.arrival_soc_kwh
    up, down = problem.charge_step_kwh[visits.vehicle], problem.discharge_step_kwh[visits.vehicle]
    given = midnight_kwh[visits.vehicle, visits.sample]
    before = (-visits.start) % problem.periods + 1  # periods up to and with period 1
    after = visits.length - before
    departure = problem.figures.departure_soc_kwh[visits.vehicle]
    short = np.maximum(given - (arrival + up * before), arrival - down * before - given)
    lacking = np.maximum(short, departure - (given + up * after))
    return np.where(after >= 0, lacking, 0.0)
