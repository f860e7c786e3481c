"""How the readable model is solved to a proven gap with HiGHS.

1. Linear relaxation without real-time prices: a bound, and the value μ_t of day-ahead power.
2. Fix the price steps in which its solution lies; what remains is a linear program with exact
   prices. Its answer is a plan.
3. Drop the day-ahead steps that no better plan can use (`steps.drop_steps`).
4. Where the true real-time cost of a solution exceeds the modelled one, that period gets exact
   real-time prices. Solve again, first the linear relaxation, which is tight, then the
   mixed-integer program over the steps that are left, and fix the steps of each solution.

The bound is valid at every moment, so a time limit leaves the best plan with its gap.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace

import cvxpy as cp
import numpy as np

from evcm.aggregator.infeasible import raise_infeasible, require_reachable
from evcm.aggregator.model import Model, Variant, build_model
from evcm.aggregator.plan import AggregatorPlan, plan_from_cars
from evcm.aggregator.plugged import list_plugged
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import (
    StepChoices,
    drop_by_reduced_cost,
    drop_steps,
    reachable_steps,
    read_steps,
)
from evcm.arrays import BoolArray
from evcm.errors import SolverError
from evcm.inputs.prices import PriceSeries

Progress = Callable[[float, float, float], None]
"""Called with the best objective, the best bound (USD) and the seconds since the start."""

Narrow = Callable[[StepChoices, float], StepChoices]
"""Drops the steps that no plan below an objective (USD) uses."""

METHOD = "model"

_FEASIBLE = 2  # HiGHS: kSolutionStatusFeasible


@dataclass(frozen=True)
class Outcome:
    """How HiGHS ended: whether with a solution, its bound (USD), and its own word."""

    solved: bool
    infeasible: bool
    bound_usd: float
    status: str


def run_highs(model: cp.Problem, gap_usd: float, seconds: float, **options: object) -> Outcome:
    """Give a CVXPY problem to HiGHS on one thread."""
    if seconds <= 0:
        return Outcome(False, False, -np.inf, "no time left")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # CVXPY warns of limits; the status says the same
        try:
            model.solve(
                solver=cp.HIGHS,
                highs_options={
                    "time_limit": float(seconds),
                    "mip_rel_gap": 0.0,
                    "mip_abs_gap": float(gap_usd),
                    "threads": 1,
                    # Its simplex takes ten times as long on these storage problems.
                    "mip_lp_solver" if model.is_mixed_integer() else "solver": "ipm",
                    **options,
                },
            )
        except cp.error.SolverError as error:
            return Outcome(False, False, -np.inf, f"HiGHS failed: {error}")
    infeasible = model.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE)
    if model.status == "infeasible_or_unbounded":
        infeasible = True  # no cost falls without limit: prices and chargers are bounded
    info = getattr(model.solver_stats, "extra_stats", None)
    # A stopped solver may hand back a point that is not feasible.
    feasible = info is not None and info.primal_solution_status == _FEASIBLE
    solved = bool(feasible and model.value is not None and np.isfinite(model.value))
    bound = float(model.value) if solved and model.status == cp.OPTIMAL else -np.inf
    if model.is_mixed_integer() and info is not None:
        bound = float(info.mip_dual_bound)
    return Outcome(solved, infeasible, bound, f"HiGHS: {model.status}")


class _Search:
    """State of one solution: best plan, best bound, clock."""

    def __init__(
        self, problem: AggregatorProblem, gap: float, limit_s: float | None,
        progress: Progress | None, variant: Variant,
    ) -> None:  # fmt: skip
        self.problem, self.gap, self.progress = problem, gap, progress
        self.variant = variant
        self.began = time.perf_counter()
        self.limit_s = np.inf if limit_s is None else limit_s
        self.cars = list_plugged(problem)
        self.bound_usd = -np.inf
        self.plan: AggregatorPlan | None = None

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left_s(self) -> float:
        return max(0.0, self.limit_s - self.seconds)

    @property
    def done(self) -> bool:
        return self.plan is not None and self.gap_now <= self.gap

    @property
    def gap_now(self) -> float:
        if self.plan is None:
            return np.inf
        return (self.plan.objective_usd - self.bound_usd) / self.plan.cost.turnover_usd

    @property
    def gap_usd(self) -> float:
        return 0.0 if self.plan is None else self.gap * self.plan.cost.turnover_usd

    def raise_bound(self, bound_usd: float) -> None:
        if np.isfinite(bound_usd):
            self.bound_usd = max(self.bound_usd, bound_usd)
            self._tell()

    def offer(self, plan: AggregatorPlan) -> None:
        if self.plan is None or plan.objective_usd < self.plan.objective_usd:
            self.plan = plan
            self._tell()

    def _tell(self) -> None:
        if self.progress is not None:
            cost = np.inf if self.plan is None else self.plan.objective_usd
            self.progress(cost, self.bound_usd, self.seconds)

    def build(self, choices: StepChoices, exact: BoolArray, relaxed: bool) -> Model:
        return build_model(self.problem, choices, exact, relaxed, self.cars, self.variant)

    def read(self, model: Model) -> AggregatorPlan:
        """Plan in a solved model, at the true prices."""
        spread = self.cars.spread
        plan = plan_from_cars(
            self.problem,
            charge_kw=spread(self.problem, model.x.charge_kw.value),
            discharge_kw=spread(self.problem, model.x.discharge_kw.value),
            soc_kwh=spread(self.problem, model.x.soc_kwh.value),
            bound_usd=self.bound_usd,
            seconds=self.seconds,
            method=METHOD,
            status="",
        )
        return replace(plan, objective_usd=plan.objective_usd + self._repair_usd(plan))

    def _repair_usd(self, plan: AggregatorPlan) -> float:
        """Cost of moving the day-ahead schedule away from one already bought."""
        if self.variant.pinned_mw is None:
            return 0.0
        moved = float(np.abs(plan.day_ahead_mw - self.variant.pinned_mw).sum())
        return 1000.0 * self.problem.period_h * self.variant.repair_usd_per_kwh * moved


def solve_model(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    variant: Variant | None = None,
) -> AggregatorPlan:
    """Solve the readable model to a proven gap.

    Parameters
    ----------
    problem : AggregatorProblem
    gap : float
        Proven distance to the optimum to stop at, as a share of turnover.
    time_limit_s : float, optional
        Stop with the best plan after this many seconds; the plan's status says so. The first
        linear program is waited for, so that there is a plan.
    progress : callable, optional
        Told the objective, the bound and the seconds at every improvement.
    variant : Variant, optional
        A schedule already bought (`evcm.aggregator.value`); the plan's objective then holds
        the cost of moving it.

    Raises
    ------
    InfeasibleError
        No plan exists: a visit is too short, or the caps are too low; says where and how much.
    SolverError
        HiGHS failed.
    """
    require_reachable(problem)
    search = _Search(problem, gap, time_limit_s, progress, variant or Variant())
    choices = reachable_steps(problem)
    exact = np.full(problem.periods, problem.risk_weight > 0)
    narrow, evaded = _relaxation(search, choices, exact)
    exact = exact | evaded
    relaxed = True
    while not search.done and search.left_s > 0:
        if search.plan is not None:
            choices = narrow(choices, search.plan.objective_usd)
        more = _exact_prices(search, choices, exact, relaxed)
        if not more.any():
            if not relaxed:
                break
            relaxed = False
        exact = exact | more
    return _finish(search)


def _relaxation(
    search: _Search, choices: StepChoices, exact: BoolArray
) -> tuple[Narrow, BoolArray]:
    """First bound and first plans.

    Returns how to drop the steps that no plan below an objective uses, and the periods whose
    real-time prices the relaxation evades.
    """
    problem = search.problem
    model = search.build(choices, exact, relaxed=True)
    # Waited for, whatever the time limit: there is no plan before it.
    outcome = run_highs(model.cvxpy, 0.0, np.inf)
    if outcome.infeasible:
        raise_infeasible(problem)
    if not outcome.solved:
        raise SolverError(f"{problem.label}: no bound and no plan found ({outcome.status})")
    relaxed_usd, day = outcome.bound_usd, model.day
    search.raise_bound(relaxed_usd)
    # CVXPY's dual of G p - P = 0 adds dual (G p - P) to the cost: a MW more is worth -dual.
    value, reduced = day.sums_to_power.dual_value, day.not_negative.dual_value

    def narrow(choices: StepChoices, objective_usd: float) -> StepChoices:
        if problem.risk_weight > 0:
            slack = objective_usd - relaxed_usd
            return drop_by_reduced_cost(choices, day.period, day.step, reduced, slack)
        return drop_steps(problem, choices, -value, relaxed_usd, objective_usd)

    plan = search.read(model)
    _polish(search, choices, plan)
    return narrow, _evaded(search, plan, exact)


def _polish(search: _Search, choices: StepChoices, plan: AggregatorPlan, rounds: int = 4) -> None:
    """Fix the steps in which a plan lies, solve what remains, and again from there."""
    search.offer(plan)
    exact = np.ones(search.problem.periods, bool)
    for _ in range(rounds):
        if search.done or search.left_s <= 0:
            return
        cars_mw = plan.day_ahead_mw[:, None] + plan.real_time_mw
        fixed = read_steps(search.problem, choices, plan.day_ahead_mw, cars_mw)
        model = search.build(fixed, exact, relaxed=True)
        outcome = run_highs(model.cvxpy, 0.0, search.left_s)
        if not outcome.solved:
            return
        before = search.plan.objective_usd if search.plan else np.inf
        plan = search.read(model)
        search.offer(plan)
        if before - plan.objective_usd < 0.1 * search.gap_usd:
            return


def _exact_prices(
    search: _Search, choices: StepChoices, exact: BoolArray, relaxed: bool
) -> BoolArray:
    """One solve, linear or mixed-integer; the periods whose real-time prices it evades."""
    problem = search.problem
    model = search.build(choices, exact, relaxed)
    outcome = run_highs(model.cvxpy, 0.5 * search.gap_usd, search.left_s)
    if outcome.infeasible:
        # Every step that a better plan could use has been dropped: the plan is optimal.
        search.raise_bound(search.plan.objective_usd if search.plan else -np.inf)
        return np.zeros(problem.periods, bool)
    # Steps were dropped because no plan below the known objective uses them.
    best = search.plan.objective_usd if search.plan else np.inf
    search.raise_bound(min(outcome.bound_usd, best))
    if not outcome.solved:
        return np.zeros(problem.periods, bool)
    plan = search.read(model)
    _polish(search, choices, plan)
    return _evaded(search, plan, exact)


def _evaded(search: _Search, plan: AggregatorPlan, exact: BoolArray) -> BoolArray:
    """Periods (T,) without exact real-time prices in which a plan has a real-time cost."""
    problem = search.problem
    if isinstance(problem.price, PriceSeries):  # exact from the start
        return np.zeros(problem.periods, bool)
    paid = problem.real_time_payment_usd(plan.day_ahead_mw, plan.real_time_mw) @ problem.probability
    evaded = np.where(exact, 0.0, paid)
    return np.asarray(evaded > max(1e-9, 0.1 * search.gap_usd / problem.periods))


def _finish(search: _Search) -> AggregatorPlan:
    """The best plan with its bound and a true sentence about how it ended."""
    assert search.plan is not None
    if search.done:
        ended = f"proven within the asked gap of {100 * search.gap:g} % of turnover"
    elif search.left_s <= 0:
        ended = (
            f"stopped at the time limit of {search.limit_s:g} s with a proven gap of "
            f"{100 * search.gap_now:.3g} % of turnover; {100 * search.gap:g} % was asked"
        )
    else:
        ended = (
            f"the solver could not close the gap: {100 * search.gap_now:.3g} % of turnover is "
            f"proven; {100 * search.gap:g} % was asked"
        )
    return search.plan.finished(search.bound_usd, search.seconds, ended)
