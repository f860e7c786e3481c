"""What the stochastic model is worth, and what a plan is worth on days it has not seen.

Three numbers bracket the value of planning with samples (Birge and Louveaux, *Introduction to
Stochastic Programming*, chapter 4). All are costs, so that WS <= RP <= EEV:

RP, the recourse problem
    The model itself: one day-ahead schedule for all samples, (5)-(24).
EEV, the expected result of the mean-value plan
    The day-ahead schedule is planned for one mean day and then meets the samples. It can not be
    kept as it stands: by (11) it must equal the mean need of the samples in every period. So it is
    repaired, each kWh moved at a price on top of the energy's own.
WS, wait and see
    Each sample is known before the day-ahead market closes. Then neither one schedule for all nor
    (11), which couples samples, binds: both are left out, and the result is a lower bound.

A mean of plugged and unplugged is no day. As the mean day of a car stands its sample nearest to
the mean of its presence and charging need.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from evcm.aggregator import model as m
from evcm.aggregator.methods import solve
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import AggregatorPlan, value_at_risk
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.recourse import operate_days
from evcm.aggregator.steps import reachable_steps
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks, SolverError
from evcm.inputs.prices import PriceSeries


@dataclass(frozen=True)
class Bracket:
    """A cost known to lie between a proven bound and a plan's cost (USD)."""

    bound_usd: float
    cost_usd: float


@dataclass(frozen=True, eq=False)
class StochasticValue:
    """WS <= RP <= EEV with their proven brackets, USD a day.

    `repaired_mwh` is the day-ahead energy by which the mean-value plan had to be moved.
    """

    wait_and_see: Bracket
    recourse: Bracket
    mean_value: Bracket
    repaired_mwh: float
    mean_plan: AggregatorPlan = field(repr=False)
    recourse_plan: AggregatorPlan = field(repr=False)

    @property
    def value_of_stochastic_solution_usd(self) -> float:
        """EEV - RP: what planning with samples saves."""
        return self.mean_value.cost_usd - self.recourse.cost_usd

    @property
    def value_of_perfect_information_usd(self) -> float:
        """RP - WS: what knowing the day would save, at most."""
        return self.recourse.cost_usd - self.wait_and_see.bound_usd

    def table(self) -> pd.DataFrame:
        """The three brackets, one row each."""
        names = ("wait and see", "recourse problem", "mean-value plan")
        brackets = (self.wait_and_see, self.recourse, self.mean_value)
        rows = [(n, b.bound_usd, b.cost_usd) for n, b in zip(names, brackets, strict=True)]
        return pd.DataFrame(rows, columns=["plan", "bound_usd", "cost_usd"])


def _highest_price(problem: AggregatorProblem) -> float:
    """Highest price that energy can have, USD/kWh."""
    highest = float(np.abs(problem.step_price_usd_per_kwh).max())
    if isinstance(problem.price, PriceSeries):
        prices = problem.price.real_time_usd_per_kwh(problem.samples)
        highest = max(highest, *(float(np.abs(p).max()) for p in prices))
    return highest


def take_samples(problem: AggregatorProblem, samples: Iterable[int]) -> AggregatorProblem:
    """The problem over some of its samples (0-based), their probabilities scaled to sum to 1."""
    at = np.asarray(list(samples), int)
    checks = Checks(problem.label)
    checks.require(
        at.size > 0 and bool(((at >= 0) & (at < problem.samples)).all()),
        "samples", at.tolist(), f"at least one of 0..{problem.samples - 1}",
    )  # fmt: skip
    checks.done()
    probability, price = problem.probability[at], problem.price
    if isinstance(price, PriceSeries) and price.samples > 1:
        buy, sell = price.real_time_usd_per_kwh(problem.samples)
        price = PriceSeries(price.day_ahead_usd_per_kwh, buy[:, at], sell[:, at])
    each = np.broadcast_to(at, (problem.vehicles, at.size))
    return _days(problem, each, probability / probability.sum(), price=price)


def _days(
    problem: AggregatorProblem, at: IntArray, probability: FloatArray, **options: Any
) -> AggregatorProblem:
    """The problem over other samples (S,): the s-th has car v's day of sample ``at[v, s]``."""
    arrays = ("available", "travelling", "trip_energy_kwh")
    picked: dict[str, Any] = {
        name: np.take_along_axis(getattr(problem, name), at[None], axis=2) for name in arrays
    }
    if problem.midnight_soc_kwh is not None:
        picked["midnight_soc_kwh"] = np.take_along_axis(problem.midnight_soc_kwh, at, axis=1)
    return problem.with_options(probability=probability, **(picked | options))


def nearest_to_mean(problem: AggregatorProblem) -> IntArray:
    """For each car the sample nearest to its mean day (V,).

    Distance counts presence in each period, and the charge with which visits begin as a share of
    the departure charge.
    """
    weight = problem.probability
    presence = problem.available.astype(float)
    distance = ((presence - (presence @ weight)[:, :, None]) ** 2).sum(axis=0)
    v, need = problem.visits, np.zeros((problem.vehicles, problem.samples))
    departure = problem.figures.departure_soc_kwh[v.vehicle]
    lacking = np.where(v.always_plugged, 0, departure - v.arrival_soc_kwh)
    np.add.at(need, (v.vehicle, v.sample), lacking / departure)
    distance += (need - (need @ weight)[:, None]) ** 2
    return np.asarray(np.argmin(distance, axis=1))


def mean_day(problem: AggregatorProblem) -> AggregatorProblem:
    """The problem with one sample: each car's day nearest to its mean."""
    return _days(problem, nearest_to_mean(problem)[:, None], np.ones(1), risk_weight=0.0)


def stochastic_value(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    repair_usd_per_kwh: float | None = None,
    time_limit_s: float = 120.0,
) -> StochasticValue:
    """WS, RP and EEV of a problem.

    The problem has no risk weight. Moving a kWh of the mean-value plan costs `repair_usd_per_kwh`,
    the highest step price by default. `gap` (share of turnover) and `time_limit_s` are for each
    solution.

    Raises
    ------
    SolverError
        The proven brackets contradict WS <= RP <= EEV.
    """
    checks = Checks(problem.label)
    checks.require(problem.risk_weight == 0, "risk_weight", problem.risk_weight, "0")
    checks.done()
    price = _highest_price(problem)
    repair = price if repair_usd_per_kwh is None else repair_usd_per_kwh
    recourse = solve(problem, gap=gap, time_limit_s=time_limit_s)
    mean_plan = solve(mean_day(problem), gap=gap, time_limit_s=time_limit_s)
    repaired = solve_model(
        problem, gap, time_limit_s, variant=m.Variant(True, mean_plan.day_ahead_mw, repair)
    )
    moved = np.abs(repaired.day_ahead_mw - mean_plan.day_ahead_mw).sum() * problem.period_h
    each = [
        _wait_and_see(take_samples(problem, [n]), gap, time_limit_s) for n in range(problem.samples)
    ]
    ws = Bracket(*(float(problem.probability @ ends) for ends in zip(*each, strict=True)))
    rp = Bracket(recourse.bound_usd, recourse.objective_usd)
    eev = Bracket(repaired.bound_usd, repaired.objective_usd)
    slack = 1e-6 * recourse.cost.turnover_usd
    if ws.bound_usd > rp.cost_usd + slack or rp.bound_usd > eev.cost_usd + slack:
        raise SolverError(f"WS <= RP <= EEV fails: {ws}, {rp}, {eev}")
    return StochasticValue(ws, rp, eev, float(moved), mean_plan, recourse)


def _wait_and_see(problem: AggregatorProblem, gap: float, limit_s: float) -> tuple[float, float]:
    """Bound and least cost of one known day, buying in both markets.

    The linear relaxation proves most days well enough; the others take whole steps.
    """
    known = solve(problem, gap=gap, time_limit_s=limit_s)  # all day-ahead: one such plan
    asked, steps = gap * known.cost.turnover_usd, reachable_steps(problem)
    bound, cost = -np.inf, known.cost_usd
    for relaxed in (True, False):
        model = m.build_model(problem, steps, relaxed, variant=m.Variant(zero_mean=False))
        # One sample is small: here the simplex method is the faster one.
        solver = {"solver" if relaxed else "mip_lp_solver": "choose"}
        outcome = m.run_highs(model.cvxpy, asked, limit_s, **solver)
        if not np.isfinite(outcome.bound):
            raise SolverError(f"{problem.label}: wait and see: no bound ({outcome.status})")
        if outcome.solved and not relaxed:
            cost = min(cost, float(model.cvxpy.value))
        bound = min(outcome.bound, cost)
        if cost - bound <= asked:
            break
    return bound, cost


@dataclass(frozen=True, eq=False)
class FreshDays:
    """Cost of a day-ahead schedule on days that it was not planned for, (S,) each.

    `cost_usd` holds day-ahead, real time and wear at true prices, and penalties for
    `penalized_kwh`, trade beyond what (10) and the caps allow. No way to operate a day costs less
    than `bound_usd`.
    """

    cost_usd: FloatArray
    real_time_usd: FloatArray
    wear_usd: FloatArray
    penalty_usd: FloatArray
    penalized_kwh: FloatArray
    bound_usd: FloatArray

    @property
    def profit_usd(self) -> FloatArray:
        """Profit of each day: the cost with the other sign (drivers pay nothing in the model)."""
        return -self.cost_usd

    def confidence_interval(self, z: float = 1.959964) -> tuple[float, float]:
        """Mean profit a day, plus and minus z standard errors (95 % by default)."""
        profit = self.profit_usd
        half = z * float(profit.std(ddof=1)) / np.sqrt(profit.size)
        return float(profit.mean()) - half, float(profit.mean()) + half


def operate_fresh_days(
    day_ahead_mw: FloatArray, fresh: AggregatorProblem, penalty_usd_per_kwh: float | None = None
) -> FreshDays:
    """Operate fresh days under a day-ahead schedule (T,), each with full knowledge of its own day.

    The samples of `fresh` are days, not plans for one: (11) says nothing about a single day and is
    left out. Real-time trade pays the step price at the day's own load. What goes beyond the limit
    (10) or a cap pays `penalty_usd_per_kwh` besides (ten times the highest step price by default),
    so that every day can be operated.

    Each day is a linear program with the staircase of step prices in place of the price of the
    whole trade. It bounds the cost of the day from below; its schedule is then charged the true
    price, and both are reported.
    """
    top = _highest_price(fresh)
    penalty = 10 * top if penalty_usd_per_kwh is None else penalty_usd_per_kwh
    checks = Checks(fresh.label)
    checks.require(
        np.shape(day_ahead_mw) == (fresh.periods,),
        "day_ahead_mw", f"shape {np.shape(day_ahead_mw)}", f"({fresh.periods},)",
    )  # fmt: skip
    checks.require(penalty >= 0, "penalty_usd_per_kwh", penalty, ">= 0")
    checks.require(fresh.midnight_soc_kwh is None, "midnight_soc_kwh", "given", "None")
    checks.done()
    given = np.asarray(day_ahead_mw, float)
    real_time, wear, penalties, penalized, bound = operate_days(fresh, given, penalty)
    day_ahead = float(fresh.day_ahead_payment_usd(given).sum())
    return FreshDays(
        day_ahead + real_time + wear + penalties, real_time, wear, penalties, penalized,
        day_ahead + bound,
    )  # fmt: skip


def resample_days(problem: AggregatorProblem, days: int, seed: int) -> AggregatorProblem:
    """Fresh days for a problem known by its samples alone: each car repeats one of its own days.

    Cars are drawn independently of one another, so that a fresh day mixes days of the samples.
    """
    checks = Checks(problem.label)
    checks.require(days >= 1, "days", days, ">= 1")
    checks.done()
    rng = np.random.default_rng(seed)
    at = rng.choice(problem.samples, size=(problem.vehicles, days), p=problem.probability)
    return _days(problem, at, np.full(days, 1.0 / days), midnight_soc_kwh=None)


def cvar_frontier(
    problem: AggregatorProblem,
    weights: Iterable[float] = (0.0, 0.25, 0.5, 0.75, 1.0),
    alpha: float = 0.8,
    gap: float = 1e-3,
    time_limit_s: float = 120.0,
) -> pd.DataFrame:
    """Expected cost and CVaR_α of the cost for growing risk weights, of whole buses too.

    A plan found for one weight competes for every other: the best plan known under each weight is
    reported. With each point the best of one set of plans, the expected cost cannot fall and CVaR
    cannot rise with the weight; the proven gap says how far each may still be from its optimum.

    Returns
    -------
    DataFrame
        Columns weight, expected_usd, cvar_usd, objective_usd, bound_usd, gap.
    """
    weights = sorted(float(w) for w in weights)
    plans, bounds = [], []
    for weight in weights:
        asked = problem.with_options(risk_weight=weight, risk_alpha=alpha)
        plan = solve(asked, gap=gap, time_limit_s=time_limit_s)
        cost = plan.cost
        _, cvar = value_at_risk(cost.by_sample_usd, problem.probability, alpha)
        plans.append((cost.total_usd, cvar, cost.turnover_usd))
        bounds.append(plan.bound_usd)
    rows = []
    for weight, bound in zip(weights, bounds, strict=True):
        # Ties go to the plan that costs least, or at weight 1 to the least tail.
        mixed = [((1 - weight) * e + weight * c, e, c, turn) for e, c, turn in plans]
        objective, expected, cvar, turnover = min(mixed)
        rows.append((weight, expected, cvar, objective, bound, (objective - bound) / turnover))
    names = ["weight", "expected_usd", "cvar_usd", "objective_usd", "bound_usd", "gap"]
    return pd.DataFrame(rows, columns=names)
