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
import scipy.sparse as sp

from evcm.aggregator import model as m
from evcm.aggregator.methods import solve
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import AggregatorPlan, value_at_risk
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import reachable_steps
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks, SolverError
from evcm.highs import LP
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
    """Bound and least cost of one known day, buying in both markets."""
    variant = m.Variant(zero_mean=False)
    model = m.build_model(problem, reachable_steps(problem), variant=variant)
    known = solve(problem, gap=gap, time_limit_s=limit_s)  # all day-ahead: one such plan
    asked = gap * known.cost.turnover_usd
    # One sample is small: here the simplex method is the faster one.
    outcome = m.run_highs(model.cvxpy, asked, limit_s, mip_lp_solver="choose")
    if not np.isfinite(outcome.bound_usd):
        raise SolverError(f"{problem.label}: wait and see: no bound ({outcome.status})")
    found = float(model.cvxpy.value) if outcome.solved else np.inf
    return outcome.bound_usd, min(found, known.cost_usd)


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
    days = [
        _operate_day(take_samples(fresh, [n]), n + 1, given, penalty) for n in range(fresh.samples)
    ]
    real_time, wear, penalties, penalized, bound = np.array(days).T
    day_ahead = float(fresh.day_ahead_payment_usd(given).sum())
    return FreshDays(
        day_ahead + real_time + wear + penalties, real_time, wear, penalties, penalized,
        day_ahead + bound,
    )  # fmt: skip


def _staircase(
    problem: AggregatorProblem, load_mw: FloatArray, reach_mw: float
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Parts of a trade along the price curve: period, sign, width (MW) and price of each."""
    if isinstance(problem.price, PriceSeries):
        price = np.stack(problem.price.real_time_usd_per_kwh(1))
        width = np.full(price.shape, reach_mw)
    else:
        edge, load = np.concatenate([[-np.inf], problem.step_edge_mw, [np.inf]]), load_mw[:, None]
        up = np.minimum(edge[1:], load + reach_mw) - np.maximum(edge[:-1], load)
        down = np.minimum(edge[1:], load) - np.maximum(edge[:-1], load - reach_mw)
        width = np.stack([up, down])
        price = np.broadcast_to(problem.price.price_usd_per_kwh, width.shape)
    side, period, step = np.nonzero(width > 1e-9)
    width, price = width[side, period, step], price[side, period, step]
    return period, np.where(side == 0, 1.0, -1.0), width, price


def _operate_day(
    problem: AggregatorProblem, number: int, day_ahead_mw: FloatArray, penalty_usd_per_kwh: float
) -> tuple[float, float, float, float, float]:
    """Operate a problem's only sample as a known day; `number` names it in messages.

    A small linear program, for HiGHS directly. A car's columns are its charge e, the energy s
    discharged in a period, and the power w charged and fed back at once, which moves no battery
    and wears none. Trade above and below the day-ahead power is split along the steps of the price
    curve, each part at its step's price.

    Returns
    -------
    real_time_usd, wear_usd, penalty_usd, penalized_kwh, bound_usd : float
        Cost of the day besides its day-ahead energy.
    """
    T, dt, k, cars = problem.periods, problem.period_h, problem.figures, problem.plugged
    K, v, kwh, plugged = cars.size, cars.vehicle, 1000.0 * dt, problem.plugged_mw[:, 0]
    reach = float(plugged.max() + np.abs(day_ahead_mw).max()) + 1.0
    part, sign, width, price = _staircase(problem, problem.system_load_mw + day_ahead_mw, reach)
    J, efficiency = part.size, k.charge_efficiency[v]
    # Columns: e, s, w (K each), parts (J), trade beyond (10) (T), power beyond the cap (T).
    eye, none, beyond = sp.eye_array(K), sp.coo_array((K, K)), sp.eye_array(T)
    change, per_kwh = eye - cars.previous, sp.diags_array(1 / (dt * efficiency))
    charge = sp.hstack([per_kwh @ change, per_kwh, eye])
    discharge = sp.hstack([none, eye / dt, sp.diags_array(efficiency)])
    offset = cars.arrival_soc_kwh / (dt * efficiency)  # G2B = charge x - offset
    fed = cars.total @ sp.diags_array(k.discharge_efficiency[v]) @ discharge
    parts = sp.csr_array((np.ones(J), (part, np.arange(J))), shape=(T, J))
    signed = sp.csr_array((sign, (part, np.arange(J))), shape=(T, J))
    plug = problem.real_time_limit == "plug"
    matrix = sp.block_array([
        [sp.hstack([change, eye, none]), None, None, None],  # energy charged
        [charge + discharge, None, None, None],  # charger
        [cars.total @ charge - fed, -signed, None, None],  # power of the cars less trade
        [None if plug else -fed, parts, -beyond, None],  # trade within (10), or beyond
        [None, signed, None, -beyond],  # caps (30), (57)
        [None, signed, None, beyond],  # caps on feeding in
    ])  # fmt: skip
    free, penalty = np.full(T, np.inf), kwh * penalty_usd_per_kwh
    given = day_ahead_mw + cars.total @ offset
    wear = np.concatenate([np.zeros(K), problem.wear_usd_per_kwh[v], np.zeros(K)])
    cost = [wear, kwh * sign * price, np.full(2 * T, penalty)]
    least = np.where(cars.ends, k.departure_soc_kwh[v], k.soc_min_kwh[v])
    both = np.where(k.feeds_in[v], k.power_kw[v], 0.0)
    most = [k.soc_max_kwh[v], problem.discharge_step_kwh[v], both, width, free, free]
    arrival, cap, floor = cars.arrival_soc_kwh, problem.cap_mw, problem.floor_mw
    row_low = [arrival, np.full(K, -np.inf), given, -free, -free, floor - day_ahead_mw]
    row_high = [
        arrival + problem.charge_step_kwh[v], k.power_kw[v] + offset, given,
        plugged if plug else np.zeros(T), cap - day_ahead_mw, free,
    ]  # fmt: skip
    parts_of = (cost, [least, np.zeros(2 * K + J + 2 * T)], most, row_low, row_high)
    c, low, high, below, above = (np.concatenate(vectors) for vectors in parts_of)
    answer = LP(sp.csc_matrix(matrix), c, low, high, below, above).solve(time_limit_s=600.0)
    if answer.status != "optimal":
        raise SolverError(f"{problem.label}, day {number}: HiGHS ended {answer.status}")
    x = answer.column
    trade = np.asarray(signed @ x[3 * K : 3 * K + J])
    over = float(x[3 * K + J :].sum())
    real_time = float(problem.real_time_payment_usd(day_ahead_mw, trade[:, None]).sum())
    return real_time, float(wear @ x[: 3 * K]), penalty * over, kwh * over, answer.value


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
