"""Caps that no plan can meet: where they bind, and the least caps that would do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn

import cvxpy as cp
import numpy as np

from evcm.aggregator import model as m
from evcm.aggregator.problem import AggregatorProblem
from evcm.errors import InfeasibleError, SolverError
from evcm.inputs import FloatArray


@dataclass(frozen=True, eq=False)
class LeastCaps:
    """The least that caps must rise for a plan to exist.

    Attributes
    ----------
    uniform_increase : float
        Least share u such that caps times 1 + u admit a plan; inf where no share does.
    raised_mw : (T,)
        Increases of the caps of single periods with the least sum.
    cap_mw : (T,)
        The caps that then hold, on the aggregator's own power.
    """

    uniform_increase: float
    raised_mw: FloatArray = field(repr=False)
    cap_mw: FloatArray = field(repr=False)


def least_caps(problem: AggregatorProblem) -> LeastCaps:
    """Least caps under which a plan exists.

    Two linear programs without prices: one scales all caps alike (the trading caps, or
    P^SYScap), one raises the caps of single periods by the least sum.
    """
    cars = m.fleet(problem)
    x = m.variables(problem, cars)
    rest = [
        *m.charger_limit(problem, x),
        *m.soc_balance(problem, cars, x),
        *m.soc_limits(problem, x),
        *m.departure_contract(problem, cars, x),
        *m.midnight_soc(problem, cars, x),
        *m.real_time_limit(problem, cars, x),
        *m.real_time_mean(problem, x),
        *m.power_balance(problem, cars, x),
    ]
    T = problem.periods
    scaled = problem.trading_cap_mw
    if scaled is None:
        scaled = np.full(T, problem.system_cap_mw)
    share = cp.Variable(nonneg=True)
    uniform = _least(share, scaled * share, problem, x, rest)
    raised = cp.Variable(T, nonneg=True)
    if _least(cp.sum(raised), raised, problem, x, rest) is None:
        raise InfeasibleError(
            f"{problem.label}: no plan exists, whatever the caps: the cars' schedules and the "
            "limits on real-time trade contradict one another",
            bus=problem.bus,
        )
    return LeastCaps(
        np.inf if uniform is None else uniform, raised.value, problem.cap_mw + raised.value
    )


def _least(
    size: cp.Expression, raised_mw: cp.Expression, problem: AggregatorProblem, x: m.Variables,
    rest: m.Constraints,
) -> float | None:  # fmt: skip
    cap = problem.cap_mw + raised_mw
    wide = cp.reshape(cap, (problem.periods, 1), order="C") @ np.ones((1, problem.samples))
    program = cp.Problem(
        cp.Minimize(size), [*rest, x.day_ahead_mw <= cap, m.traded_mw(problem, x) <= wide]
    )
    program.solve(solver=cp.HIGHS, highs_options={"solver": "ipm", "threads": 1})
    if program.status in (cp.INFEASIBLE, "infeasible_or_unbounded"):
        return None
    if program.status != cp.OPTIMAL:
        raise SolverError(f"{problem.label}: least caps: HiGHS says {program.status}")
    return max(0.0, float(program.value))


def raise_infeasible(problem: AggregatorProblem) -> NoReturn:
    """Raise `InfeasibleError` naming bus, periods and the least caps that would do.

    Its details are ``bus``, ``periods`` (1-based), ``raised_mw`` and ``cap_mw`` of those periods
    and ``uniform_increase``.
    """
    least = least_caps(problem)
    short = np.flatnonzero(least.raised_mw > 1e-6)
    if not short.size:
        raise SolverError(
            f"{problem.label}: HiGHS finds no plan, yet the caps could be met; "
            "the problem is numerically on the edge"
        )
    kind = "trading cap" if problem.trading_cap_mw is not None else "system cap"
    raises = ", ".join(
        f"period {t + 1}: {problem.cap_mw[t]:.4f} -> {least.cap_mw[t]:.4f} MW" for t in short
    )
    uniform = (
        f"a uniform increase of the {kind}s of {100 * least.uniform_increase:.3g} % is the least "
        "that admits a plan"
        if np.isfinite(least.uniform_increase)
        else "no uniform increase admits a plan"
    )
    raise InfeasibleError(
        f"{problem.label}: the {kind} is too low for the cars' trips: {uniform}; or raise single "
        f"periods by {least.raised_mw.sum():.4f} MW in all ({raises})",
        bus=problem.bus,
        periods=[int(t) + 1 for t in short],
        raised_mw=least.raised_mw[short].tolist(),
        cap_mw=least.cap_mw[short].tolist(),
        uniform_increase=least.uniform_increase,
    )
