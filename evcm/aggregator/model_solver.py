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
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from evcm.aggregator.infeasible import raise_infeasible, require_reachable
from evcm.aggregator.model import Model, Variant, build_model, run_highs, schedules
from evcm.aggregator.plan import AggregatorPlan, plan_from_cars
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import StepChoices, drop_steps, reachable_steps, read_steps
from evcm.arrays import BoolArray, FloatArray
from evcm.errors import SolverError
from evcm.highs import Outcome
from evcm.inputs.prices import PriceSeries

Progress = Callable[[float, float, float], None]
"""Called with the best objective, the best bound (USD) and the seconds since the start."""

FIRST_S = 3600.0
"""Seconds for which the first linear program is waited for."""


class _Search:
    """State of one solution: best plan (none before the first is offered), best bound, clock."""

    plan: AggregatorPlan

    def __init__(
        self, problem: AggregatorProblem, gap: float, limit_s: float | None,
        progress: Progress | None, variant: Variant,
    ) -> None:  # fmt: skip
        self.problem, self.gap, self.variant = problem, gap, variant
        self.progress = progress or (lambda *_: None)
        self.limit_s = np.inf if limit_s is None else limit_s
        self.began, self.best_usd, self.bound_usd = time.perf_counter(), np.inf, -np.inf

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left_s(self) -> float:
        return max(0.0, self.limit_s - self.seconds)

    @property
    def gap_usd(self) -> float:
        return self.gap * self.plan.cost.turnover_usd

    @property
    def over(self) -> bool:
        """Whether the gap is closed or the time is up."""
        return self.best_usd - self.bound_usd <= self.gap_usd or self.left_s <= 0

    def run(
        self, choices: StepChoices, relaxed: bool, gap_usd: float, limit_s: float
    ) -> tuple[Model, Outcome]:
        """Build the model and give it to HiGHS."""
        model = build_model(self.problem, choices, relaxed, self.variant)
        return model, run_highs(model.cvxpy, gap_usd, limit_s)

    def raise_bound(self, bound_usd: float) -> None:
        """A bound on plans that use the steps left: others cost no less than the best plan."""
        bound = min(bound_usd, self.best_usd)
        if np.isfinite(bound):
            self.bound_usd = max(self.bound_usd, bound)
            self.progress(self.best_usd, self.bound_usd, self.seconds)

    def offer(self, model: Model) -> AggregatorPlan:
        """Plan in a solved model, at the true prices; with what moving a bought schedule costs."""
        plan = plan_from_cars(
            self.problem, **schedules(self.problem, model.x), method="model",
            bound_usd=self.bound_usd, seconds=self.seconds, status="",
        )  # fmt: skip
        if self.variant.pinned_mw is not None:
            moved = float(np.abs(plan.day_ahead_mw - self.variant.pinned_mw).sum())
            repair = 1000.0 * self.problem.period_h * self.variant.repair_usd_per_kwh * moved
            plan = replace(plan, objective_usd=plan.objective_usd + repair)
        if plan.objective_usd < self.best_usd:
            self.plan, self.best_usd = plan, plan.objective_usd
            self.progress(self.best_usd, self.bound_usd, self.seconds)
        return plan

    def polish(self, choices: StepChoices, plan: AggregatorPlan) -> None:
        """Fix the steps in which a plan lies, solve what remains, and again from there."""
        before = np.inf
        for _ in range(4):
            if self.over or before - plan.objective_usd < 0.1 * self.gap_usd:
                return
            cars_mw = plan.day_ahead_mw[:, None] + plan.real_time_mw
            fixed = read_steps(choices, plan.day_ahead_mw, cars_mw)
            model, outcome = self.run(fixed, True, 0.0, self.left_s)
            if not outcome.solved:
                return
            before, plan = self.best_usd, self.offer(model)

    def evaded(self, plan: AggregatorPlan, exact: BoolArray) -> BoolArray:
        """Periods (T,) without exact real-time prices in which a plan has a real-time cost."""
        p = self.problem
        paid = p.real_time_payment_usd(plan.day_ahead_mw, plan.real_time_mw) @ p.probability
        return np.asarray(~exact & (paid > max(1e-9, 0.1 * self.gap_usd / p.periods)))

    def finish(self) -> AggregatorPlan:
        """The best plan with its bound and a true sentence about how it ended."""
        asked, gap = f"{100 * self.gap:g} %", self.best_usd - self.bound_usd
        proven = f"{100 * gap / self.plan.cost.turnover_usd:.3g} % of turnover"
        if gap <= self.gap_usd:
            ended = f"proven within the asked gap of {asked} of turnover"
        elif self.left_s <= 0:
            stopped = f"stopped at the time limit of {self.limit_s:g} s"
            ended = f"{stopped} with a proven gap of {proven}; {asked} was asked"
        else:
            ended = f"the solver could not close the gap: {proven} is proven; {asked} was asked"
        return self.plan.finished(self.bound_usd, self.seconds, ended)


def solve_model(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    variant: Variant | None = None,
) -> AggregatorPlan:
    """Solve the readable model to a proven gap, a share of turnover.

    After `time_limit_s` seconds it stops with the best plan, whose status says so; the first linear
    program is waited for, so that there is one. `progress` is told every improvement. Under a
    `variant` with a schedule already bought the plan's objective holds the cost of moving it.

    Raises
    ------
    InfeasibleError
        No plan exists: a visit is too short, or the caps are too low; says where and how much.
    SolverError
        HiGHS failed.
    """
    require_reachable(problem)
    search = _Search(problem, gap, time_limit_s, progress, variant or Variant())
    every, relaxed = reachable_steps(problem), True
    if not every.open:
        raise_infeasible(problem)
    known = isinstance(problem.price, PriceSeries)  # real-time prices are given, no step is chosen
    exact = np.full(problem.periods, known or problem.risk_weight > 0)
    choices = replace(every, exact=exact)
    # Waited for beyond the time limit: there is no plan before it.
    model, outcome = search.run(choices, relaxed, 0.0, FIRST_S)
    if outcome.infeasible:
        raise_infeasible(problem)
    if not outcome.solved:
        raise SolverError(f"{problem.label}: no bound and no plan found ({outcome.status})")
    first, relaxed_usd, lift = model, outcome.bound, _lift(problem, choices, model)
    while True:
        # No step that a better plan could use may be left: then the plan is optimal.
        search.raise_bound(np.inf if outcome.infeasible else outcome.bound)
        evaded = np.zeros_like(exact)
        if outcome.solved:
            plan = search.offer(model)
            search.polish(choices, plan)
            evaded = search.evaded(plan, exact)
        if search.over or not (relaxed or evaded.any()):
            return search.finish()
        relaxed = relaxed and (model is first or bool(evaded.any()))
        exact = exact | evaded
        choices = drop_steps(replace(every, exact=exact), lift, search.best_usd - relaxed_usd)
        model, outcome = search.run(choices, relaxed, 0.5 * search.gap_usd, search.left_s)


def _lift(problem: AggregatorProblem, choices: StepChoices, model: Model) -> FloatArray:
    """How far forcing each day-ahead step (T, B) lifts the bound of the solved first relaxation.

    Without real-time costs it splits into one choice per period under the multiplier μ_t of
    Σ_b p_{t,b} = P^EM_t, and the difference of two one-period minima says it. With a risk weight
    it holds those costs, and nothing is known.
    """
    if problem.risk_weight > 0:
        return np.zeros(choices.day_ahead.shape)
    # CVXPY's dual of G p - P = 0 adds dual (G p - P) to the cost: a MW more is worth -dual.
    value = -model.day.sums_to_power.dual_value
    slope = 1000.0 * problem.period_h * problem.step_price_usd_per_kwh - value[:, None]
    least = np.minimum(slope * choices.day_ahead_low_mw, slope * choices.day_ahead_high_mw)
    least = np.where(choices.day_ahead, least, np.inf)
    return np.asarray(least - least.min(axis=1, keepdims=True))
