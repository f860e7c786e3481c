"""The aggregator's model (2.3), equation by equation, in CVXPY on HiGHS.

This is the readable reference: every constraint of the paper is one small function that names its
equation. The fast methods solve the same model.

The price is a step function of the system's load, and the aggregator moves that load. Since the
rest of the load is known, each period offers a few price steps, each an interval of the
aggregator's own power. One step is chosen: power p_b lies in the interval of step b where z_b = 1
and is 0 elsewhere, Σ z = 1, and the cost is Σ λ_b p_b. This multiple-choice form needs no big M
and is the convex hull of a period's cost. `evcm.aggregator.bigm` holds the paper's own form.

In real time, with day-ahead step a and the cars' power in step b, the trade d costs
λ_b d = (λ_b - λ_a) d + λ_a d. The second part adds up to λ_a Σ_n π_n d = 0 by (11), so the model
charges the first part alone. It is never negative: whoever buys (d > 0) raises the price, whoever
sells lowers it. That is why real-time prices may be left out of periods where they do not matter
without losing a valid bound (`StepChoices.exact`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cvxpy as cp
import numpy as np
import scipy.sparse as sp

from evcm import highs
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import StepChoices, real_time_pairs
from evcm.arrays import FloatArray, IntArray
from evcm.inputs.prices import PriceSeries
from evcm.paper import implements

Constraints = list[cp.Constraint]


@dataclass(frozen=True, eq=False)
class Variables:
    """Decision variables: cars over the K plugged-in triples, trade over periods and samples."""

    charge_kw: cp.Variable
    discharge_kw: cp.Variable
    soc_kwh: cp.Variable
    worn_kwh: cp.Variable
    day_ahead_mw: cp.Variable
    surplus_mw: cp.Variable
    deficit_mw: cp.Variable


def variables(problem: AggregatorProblem) -> Variables:
    """G2B, B2G, soc, deg; P^EM, P+, P-."""
    K, T, N = problem.plugged.size, problem.periods, problem.samples
    sizes = {"G2B": K, "B2G": K, "soc": K, "deg": K, "P_EM": T, "P_plus": (T, N), "P_minus": (T, N)}
    return Variables(*(cp.Variable(size, name=name) for name, size in sizes.items()))


def schedules(problem: AggregatorProblem, x: Variables) -> dict[str, FloatArray]:
    """The cars' schedules in a solved model (T, V, N), 0 where no car is plugged in."""
    cars, found = problem.plugged, {}
    for name in ("charge_kw", "discharge_kw", "soc_kwh"):
        found[name] = np.zeros(problem.available.shape)
        found[name][cars.period, cars.vehicle, cars.sample] = getattr(x, name).value
    return found


@implements("14", "16")
def charger_limit(problem: AggregatorProblem, x: Variables) -> Constraints:
    """0 <= G2B, 0 <= B2G, G2B + B2G <= P_max; B2G = 0 for cars that only charge."""
    k, vehicle = problem.figures, problem.plugged.vehicle
    limits = [
        x.charge_kw >= 0,
        x.discharge_kw >= 0,
        x.charge_kw + x.discharge_kw <= k.power_kw[vehicle],
    ]
    only = np.flatnonzero(~k.feeds_in[vehicle])
    return [*limits, x.discharge_kw[only] == 0] if only.size else limits


@implements("17", "18")
def soc_balance(problem: AggregatorProblem, x: Variables) -> Constraints:
    """soc_t = soc_{t-1} + Δt (η_chg G2B - B2G) while plugged in, through midnight."""
    efficiency = problem.figures.charge_efficiency[problem.plugged.vehicle]
    gained = cp.multiply(efficiency, x.charge_kw) - x.discharge_kw
    return [x.soc_kwh == soc_before(problem, x) + problem.period_h * gained]


def soc_before(problem: AggregatorProblem, x: Variables) -> cp.Expression:
    """soc_{t-1}; before the first period of a visit the charge with which the car arrives."""
    return problem.plugged.previous @ x.soc_kwh + problem.plugged.arrival_soc_kwh


@implements("19")
def soc_limits(problem: AggregatorProblem, x: Variables) -> Constraints:
    """SoC_min <= soc <= SoC_max."""
    k, vehicle = problem.figures, problem.plugged.vehicle
    return [x.soc_kwh >= k.soc_min_kwh[vehicle], x.soc_kwh <= k.soc_max_kwh[vehicle]]


def departure_contract(problem: AggregatorProblem, x: Variables) -> Constraints:
    """Soc >= S_dep at the end of a visit: the hand-over contract, not printed in the paper."""
    at, k = np.flatnonzero(problem.plugged.ends), problem.figures
    return [x.soc_kwh[at] >= k.departure_soc_kwh[problem.plugged.vehicle[at]]] if at.size else []


@implements("20")
def midnight_soc(problem: AggregatorProblem, x: Variables) -> Constraints:
    """soc_1 = given charge, an option."""
    cars, given = problem.plugged, problem.midnight_soc_kwh
    at = np.flatnonzero(cars.period == 0)
    if given is None or not at.size:
        return []
    return [x.soc_kwh[at] == given[cars.vehicle[at], cars.sample[at]]]


@implements("21")
def degradation(problem: AggregatorProblem, x: Variables) -> Constraints:
    """Deg >= soc_{t-1} - soc_t, deg >= 0."""
    return [x.worn_kwh >= soc_before(problem, x) - x.soc_kwh, x.worn_kwh >= 0]


def cars_power_mw(problem: AggregatorProblem, power_kw: cp.Expression) -> cp.Expression:
    """Sum of a power over the cars, (T, N) MW."""
    total = problem.plugged.total @ power_kw
    return cp.reshape(total, (problem.periods, problem.samples), order="C")


def fed_kw(problem: AggregatorProblem, x: Variables) -> cp.Expression:
    """Power that each car feeds into the grid, η_dsg B2G (K,) kW."""
    efficiency = problem.figures.discharge_efficiency[problem.plugged.vehicle]
    return cp.multiply(efficiency, x.discharge_kw)


@implements("10")
def real_time_limit(problem: AggregatorProblem, x: Variables) -> Constraints:
    """0 <= P+ + P- <= energy fed back; with the limit "plug", <= power of the plugs in use."""
    limit: cp.Expression | FloatArray = problem.plugged_mw
    if problem.real_time_limit == "v2g":
        limit = cars_power_mw(problem, fed_kw(problem, x))
    return [x.surplus_mw >= 0, x.deficit_mw >= 0, x.surplus_mw + x.deficit_mw <= limit]


@implements("11")
def real_time_mean(problem: AggregatorProblem, x: Variables) -> Constraints:
    """Σ_n π_n (P- - P+) = 0 in every period."""
    return [(x.deficit_mw - x.surplus_mw) @ problem.probability == 0]


@implements("12")
def power_balance(problem: AggregatorProblem, x: Variables) -> Constraints:
    """P^EM + P- - P+ = Σ_v n_v (G2B - η_dsg B2G)."""
    net_kw = x.charge_kw - fed_kw(problem, x)
    return [traded_mw(problem, x) == cars_power_mw(problem, net_kw)]


def traded_mw(problem: AggregatorProblem, x: Variables) -> cp.Expression:
    """P^EM + P- - P+ (T, N)."""
    return wide(x.day_ahead_mw, problem.samples) + x.deficit_mw - x.surplus_mw


def wide(vector: cp.Expression, columns: int) -> cp.Expression:
    """A vector (size,) repeated in columns (size, columns)."""
    return cp.reshape(vector, (vector.size, 1), order="C") @ np.ones((1, columns))


@implements("29", "30")
def system_cap(problem: AggregatorProblem, x: Variables) -> Constraints:
    """P^EM + Psys <= P^SYScap, day-ahead and in every sample."""
    if problem.system_cap_mw is None:
        return []
    room = problem.system_cap_mw - problem.system_load_mw
    return [x.day_ahead_mw <= room, traded_mw(problem, x) <= room[:, None]]


@implements("56", "57")
def trading_cap(problem: AggregatorProblem, x: Variables) -> Constraints:
    """P^EM <= Pcap, day-ahead and in every sample: the operator's caps, and those on feeding in."""
    found = []
    if (cap := problem.trading_cap_mw) is not None:
        found += [x.day_ahead_mw <= cap, traded_mw(problem, x) <= cap[:, None]]
    if (most := problem.export_cap_mw) is not None:
        found += [x.day_ahead_mw >= -most, traded_mw(problem, x) >= -most[:, None]]
    return found


@dataclass(frozen=True, eq=False)
class DayAheadSteps:
    """Open (period, step) pairs, which is chosen, and the power bought at it."""

    period: IntArray
    step: IntArray
    chosen: cp.Variable
    power_mw: cp.Variable
    sums_to_power: cp.Constraint
    constraints: Constraints


@implements("22", "25", "26", "31", "32", "34", "35")
def day_ahead_steps(
    problem: AggregatorProblem, choices: StepChoices, x: Variables, relaxed: bool
) -> DayAheadSteps:
    """One price step per period: lo_b z_b <= p_b <= hi_b z_b, Σ z_b = 1, Σ p_b = P^EM."""
    period, step = np.nonzero(choices.day_ahead)
    low, high = choices.day_ahead_low_mw[period, step], choices.day_ahead_high_mw[period, step]
    return steps_between(problem, period, step, low, high, x, relaxed)


def steps_between(
    problem: AggregatorProblem, period: IntArray, step: IntArray,
    low_mw: FloatArray | cp.Expression, high_mw: FloatArray | cp.Expression, x: Variables,
    relaxed: bool,
) -> DayAheadSteps:  # fmt: skip
    """The choice of a step, for (period, step) pairs and the power (MW) between which each lies."""
    z, p = _choice(period.size, relaxed, "z"), cp.Variable(period.size, name="p")
    each = sums(period, problem.periods)
    sums_to_power = each @ p == x.day_ahead_mw
    limits = [cp.multiply(low_mw, z) <= p, p <= cp.multiply(high_mw, z), each @ z == 1]
    return DayAheadSteps(period, step, z, p, sums_to_power, [*limits, sums_to_power])


@dataclass(frozen=True, eq=False)
class RealTimeSteps:
    """What real-time trade pays in each sample (N,), in all and above the day-ahead price.

    In MW USD/kWh, to be multiplied by 1000 Δt.
    """

    paid: cp.Expression
    extra: cp.Expression
    constraints: Constraints


@implements("23", "24", "37", "38", "40", "41")
def real_time_steps(
    problem: AggregatorProblem,
    choices: StepChoices,
    x: Variables,
    day: DayAheadSteps,
    relaxed: bool,
) -> RealTimeSteps:
    """A real-time step b beside the day-ahead step a, in each sample of the exact periods.

    Σ_b z_ab = z_a, Σ_b p_ab = p_a, Σ_ab y_ab = power of the cars; p_ab lies in step a and y_ab in
    step b where z_ab = 1.
    """
    if isinstance(problem.price, PriceSeries):  # given: no step is chosen
        buy, sell = problem.price.real_time_usd_per_kwh(problem.samples)
        paid, extra = (
            cp.sum(cp.multiply(buy - at, x.deficit_mw) - cp.multiply(sell - at, x.surplus_mw), 0)
            for at in (0.0, problem.price.day_ahead_usd_per_kwh[:, None])
        )
        return RealTimeSteps(paid, extra, [])
    pair, sample, b = real_time_pairs(problem, choices, day.period, day.step)
    if not pair.size:
        nothing = cp.Constant(np.zeros(problem.samples))
        return RealTimeSteps(nothing, nothing, [])
    N, period, a = problem.samples, day.period[pair], day.step[pair]
    z = _choice(pair.size, relaxed, "z_n")
    p, y = cp.Variable(pair.size, name="p_n"), cp.Variable(pair.size, name="y_n")
    exact = np.flatnonzero(choices.exact[day.period])
    per_a = sums(np.searchsorted(exact, pair) * N + sample, exact.size * N)
    cells, cell_of = np.unique(period * N + sample, return_inverse=True)
    per_cell = sums(cell_of, cells.size)
    constraints = [
        per_a @ z == day.chosen[np.repeat(exact, N)],
        per_a @ p == day.power_mw[np.repeat(exact, N)],
        per_cell @ y == cp.vec(traded_mw(problem, x), order="C")[cells],
        cp.multiply(choices.day_ahead_low_mw[period, a], z) <= p,
        p <= cp.multiply(choices.day_ahead_high_mw[period, a], z),
        cp.multiply(choices.real_time_low_mw[period, sample, b], z) <= y,
        y <= cp.multiply(choices.real_time_high_mw[period, sample, b], z),
    ]
    step_price = problem.step_price_usd_per_kwh
    price, at_a = step_price[period, b], step_price[period, a]
    paid, extra = (sums(sample, N, each) @ (y - p) for each in (price, price - at_a))
    return RealTimeSteps(paid, extra, constraints)


def _choice(size: int, relaxed: bool, name: str) -> cp.Variable:
    """Which of several are chosen, or by what share."""
    return cp.Variable(size, name=name, **({"bounds": [0, 1]} if relaxed else {"boolean": True}))


def sums(group_of: IntArray, groups: int, weight: FloatArray | float = 1.0) -> sp.csr_array:
    """Matrix that adds up the entries of each group, each times its weight."""
    size = group_of.size
    each = np.broadcast_to(weight, size).astype(float)
    return sp.csr_array((each, (group_of, np.arange(size))), shape=(groups, size))


def wear_usd_per_kwh(problem: AggregatorProblem) -> FloatArray:
    """Cost of a kWh drawn from each car's group (K,)."""
    return problem.wear_usd_per_kwh[problem.plugged.vehicle]


def _day_ahead_usd(problem: AggregatorProblem, day: DayAheadSteps) -> cp.Expression:
    """Cost of day-ahead power at the price of its steps."""
    price = problem.step_price_usd_per_kwh[day.period, day.step]
    return 1000.0 * problem.period_h * (price @ day.power_mw)


@implements("5", "6", "7", "8", "9")
def expected_cost_usd(
    problem: AggregatorProblem, x: Variables, day: DayAheadSteps, extra: cp.Expression | float = 0.0
) -> cp.Expression:
    """Day-ahead energy, battery wear, and what real-time trade pays in each sample besides."""
    weight = problem.probability
    wear = (wear_usd_per_kwh(problem) * weight[problem.plugged.sample]) @ x.worn_kwh
    real_time = 1000.0 * problem.period_h * cp.sum(cp.multiply(weight, extra))
    return _day_ahead_usd(problem, day) + wear + real_time


def conditional_value_at_risk_usd(
    problem: AggregatorProblem, x: Variables, day: DayAheadSteps, paid: cp.Expression
) -> tuple[cp.Expression, Constraints]:
    """CVaR_α of the cost of a day: min over η of η + E[(C_n - η)+] / (1 - α)."""
    N = problem.samples
    wear = sums(problem.plugged.sample, N, wear_usd_per_kwh(problem)) @ x.worn_kwh
    cost = _day_ahead_usd(problem, day) + wear + 1000.0 * problem.period_h * paid
    eta, excess = cp.Variable(name="eta"), cp.Variable(N, name="excess")
    cvar = eta + problem.probability @ excess / (1 - problem.risk_alpha)
    return cvar, [excess >= 0, excess >= cost - eta]


@dataclass(frozen=True, eq=False)
class Variant:
    """Changes to the model, for the value of stochastic planning.

    Without `zero_mean` (11) is left out; all periods must then have exact real-time prices.
    `pinned_mw` (T,) is a day-ahead schedule already bought; moving it costs `repair_usd_per_kwh`
    besides.
    """

    zero_mean: bool = True
    pinned_mw: FloatArray | None = None
    repair_usd_per_kwh: float = 0.0


@dataclass(frozen=True, eq=False)
class Model:
    """The model as CVXPY has it, with the parts that an answer is read from."""

    cvxpy: cp.Problem
    x: Variables
    day: DayAheadSteps


def rules(problem: AggregatorProblem, x: Variables, zero_mean: bool = True) -> Constraints:
    """What cars and trade must keep, whatever power costs; (11) unless `zero_mean` is False."""
    every = (
        charger_limit, soc_balance, soc_limits, departure_contract, midnight_soc, degradation,
        real_time_limit, *([real_time_mean] if zero_mean else []), power_balance, system_cap,
        trading_cap,
    )  # fmt: skip
    return [constraint for rule in every for constraint in rule(problem, x)]


def build_model(
    problem: AggregatorProblem,
    choices: StepChoices,
    relaxed: bool = False,
    variant: Variant | None = None,
) -> Model:
    """Equations (5)-(24), (29), (30), (56), (57) for the open price steps.

    Where it is `relaxed` choices may be fractions. Without (11) trade costs its whole price.
    """
    x, variant = variables(problem), variant or Variant()
    day = day_ahead_steps(problem, choices, x, relaxed)
    real = real_time_steps(problem, choices, x, day, relaxed)
    constraints = [*rules(problem, x, variant.zero_mean), *day.constraints, *real.constraints]
    extra = real.extra if variant.zero_mean else real.paid
    objective = expected_cost_usd(problem, x, day, extra)
    if variant.pinned_mw is not None:
        moved = cp.norm1(x.day_ahead_mw - variant.pinned_mw)
        objective += 1000.0 * problem.period_h * variant.repair_usd_per_kwh * moved
    if problem.risk_weight > 0:
        cvar, more = conditional_value_at_risk_usd(problem, x, day, real.paid)
        objective = (1 - problem.risk_weight) * objective + problem.risk_weight * cvar
        constraints += more
    return Model(cp.Problem(cp.Minimize(objective), constraints), x, day)


def run_highs(
    model: cp.Problem, gap_usd: float, seconds: float, **options: object
) -> highs.Outcome:
    """Give a program of the model to HiGHS, by default to its interior-point method.

    Its simplex takes ten times as long on these storage problems.
    """
    solver = "mip_lp_solver" if model.is_mixed_integer() else "solver"
    asked: dict[str, Any] = {"mip_rel_gap": 0.0, "mip_abs_gap": float(gap_usd), solver: "ipm"}
    return highs.run(model, seconds, **(asked | options))
