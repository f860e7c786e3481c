"""The paper's own linearization (25)-(42), with big M: for comparison, not for use.

An indicator PQP_{t,b} says whether the load lies above the lower edge of price step b. The price is
then Σ_b (λ_b - λ_{b-1}) PQP_b, and the cost needs the products of indicator and power, the
"effective" powers, which big-M inequalities force. Every step of every period and sample gets its
binary, reachable or not.

As printed the model is not usable. By (27), (28) an indicator may stay 0 while the load is above
its edge, and (33), (36), (39), (42) allow an effective power only where the indicator is 0. With
indicator 0, (31) asks for no more than effect >= P - M_big: the more M_big, the more a step pays
the aggregator for nothing. `as_printed=True` shows it. Corrected, the indicator is forced both
ways and the effective power vanishes with it; then M_big does not move the optimum.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import cvxpy as cp
import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from evcm.aggregator import model as m
from evcm.aggregator.infeasible import raise_infeasible, require_reachable
from evcm.aggregator.model_solver import run_highs
from evcm.aggregator.plan import AggregatorPlan, plan_from_cars
from evcm.aggregator.plugged import Plugged, list_plugged
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.errors import Checks, SolverError
from evcm.inputs.values import PriceSteps
from evcm.paper import implements

Form = Literal["printed", "switch corrected", "corrected"]

FORMS: tuple[Form, ...] = ("printed", "switch corrected", "corrected")
"""As printed; with (33) and (36) corrected; with (27) forced both ways, too."""


def least_cost_usd(
    power_mw: float, system_load_mw: float, prices: PriceSteps, period_h: float, form: Form,
    big_m_mw: float = 1000.0,
) -> float:  # fmt: skip
    """Least day-ahead cost (22) of a period under a form of the printed inequalities.

    Parameters
    ----------
    power_mw : float
        Power bought (negative: sold), given.
    system_load_mw : float
        Load of the rest of the system.
    prices : PriceSteps
    period_h : float
        Length of the period.
    form : {"printed", "switch corrected", "corrected"}
        Which inequalities hold.
    big_m_mw : float
        The constant M_big of the formulation. A sound form does not depend on it.

    Returns
    -------
    float
        USD for the period.

    Raises
    ------
    InputError
        An unknown form, or a constant that is too small for the load.
    SolverError
        The solver did not reach an optimum.
    """
    checks = Checks("printed price steps")
    checks.require(form in FORMS, "form", form, ", ".join(FORMS))
    least = abs(power_mw) + system_load_mw + float(prices.edge_mw[-1])
    checks.require(big_m_mw >= least, "big_m_mw", big_m_mw, f">= {least:g}")
    checks.done()
    cost, rows = _problem(power_mw, system_load_mw, prices, period_h, form, big_m_mw)
    steps = len(prices)
    integer = np.concatenate([np.zeros(2 + 2 * steps), np.ones(steps)])
    upper = np.concatenate([np.full(2 + 2 * steps, np.inf), np.ones(steps)])
    answer = milp(
        cost, constraints=rows, integrality=integer, bounds=Bounds(np.zeros(upper.size), upper)
    )
    if not answer.success:
        raise SolverError(f"printed price steps, {form}: {answer.message}")
    return float(answer.fun)


def _problem(
    power_mw: float, load_mw: float, prices: PriceSteps, period_h: float, form: Form, big_m: float
) -> tuple[np.ndarray, LinearConstraint]:
    """Objective (22) and rows; columns: bought, sold, effective bought and sold by step, PQP."""
    steps = len(prices)
    columns = 2 + 3 * steps
    rise = np.diff(prices.price_usd_per_kwh, prepend=0.0) * 1000.0 * period_h
    cost = np.concatenate([[0.0, 0.0], rise, -rise, np.zeros(steps)])
    rows: list[tuple[dict[int, float], float, float]] = []
    rows.append(({0: 1.0, 1: -1.0}, power_mw, power_mw))  # (25), the power is given
    total = power_mw + load_mw
    for b in range(steps):
        # Step b begins at the upper edge of the step before; the first begins at nothing.
        edge = float(prices.edge_mw[b - 1]) if b else 0.0
        pqp = 2 + 2 * steps + b
        rows.append(({pqp: edge}, -np.inf, total))  # (27)
        if form == "corrected":
            rows.append(({pqp: -big_m}, -np.inf, edge - total))  # (27) the other way
        for part, whole in ((2 + b, 0), (2 + steps + b, 1)):
            # (31), (34): effective >= whole - M (1 - PQP)
            rows.append(({part: 1.0, whole: -1.0, pqp: -big_m}, -big_m, np.inf))
            rows.append(({part: 1.0, whole: -1.0}, -np.inf, 0.0))  # (32), (35)
            if form == "printed":
                rows.append(({part: 1.0, pqp: big_m}, -np.inf, big_m))  # (33), (36)
            else:
                rows.append(({part: 1.0, pqp: -big_m}, -np.inf, 0.0))
    matrix = np.zeros((len(rows), columns))
    for i, (entries, _, _) in enumerate(rows):
        for column, value in entries.items():
            matrix[i, column] = value
    return cost, LinearConstraint(matrix, [r[1] for r in rows], [r[2] for r in rows])


@dataclass(frozen=True, eq=False)
class BigMVariables:
    """Indicators and effective powers of the price steps above the first.

    Day-ahead arrays are (T, B-1), real-time ones (T N, B-1).
    """

    bought_mw: cp.Variable
    sold_mw: cp.Variable
    indicator: cp.Variable
    indicator_n: cp.Variable
    effect_bought: cp.Variable
    effect_sold: cp.Variable
    effect_surplus: cp.Variable
    effect_deficit: cp.Variable


@dataclass(frozen=True, eq=False)
class BigMAnswer:
    """What HiGHS made of the big-M form.

    Attributes
    ----------
    objective_usd, bound_usd : float
        Of the mixed-integer program; inf and -inf where it found none.
    plan : AggregatorPlan or None
        Its schedules at the true prices; the bound is the program's, and holds for the corrected
        form only.
    columns, rows, binaries : int
        Size of the program.
    seconds : float
    status : str
    """

    objective_usd: float
    bound_usd: float
    plan: AggregatorPlan | None
    columns: int
    rows: int
    binaries: int
    seconds: float
    status: str


def least_big_m(problem: AggregatorProblem) -> float:
    """An M_big (MW) that no load or power within the plugs exceeds."""
    power = float(2 * problem.plugged_mw.max())
    load = problem.system_load_mw
    edge = problem.price_steps.edge_mw
    return power + float(max(load.max() - edge.min(), edge.max() - load.min(), 0.0)) + 1.0


def big_m_variables(problem: AggregatorProblem) -> BigMVariables:
    """Variables of (25)-(42)."""
    T, cells, B = problem.periods, problem.periods * problem.samples, len(problem.price_steps) - 1
    return BigMVariables(
        bought_mw=cp.Variable(T, nonneg=True),
        sold_mw=cp.Variable(T, nonneg=True),
        indicator=cp.Variable((T, B), boolean=True),
        indicator_n=cp.Variable((cells, B), boolean=True),
        effect_bought=cp.Variable((T, B)),
        effect_sold=cp.Variable((T, B)),
        effect_surplus=cp.Variable((cells, B)),
        effect_deficit=cp.Variable((cells, B)),
    )


@implements("25", role="print")
def bought_and_sold(x: m.Variables, y: BigMVariables) -> m.Constraints:
    """P^EM = P^EM+ - P^EM-."""
    return [x.day_ahead_mw == y.bought_mw - y.sold_mw]


@implements("26", role="print")
def effective_power(y: BigMVariables) -> cp.Expression:
    """Day-ahead power that pays a step's rise of price, P^EMeffect+ - P^EMeffect- (T, B-1)."""
    return y.effect_bought - y.effect_sold


@implements("27", "28")
@implements("27", "28", role="print")
def indicators(
    problem: AggregatorProblem, x: m.Variables, y: BigMVariables, m_big: float, as_printed: bool
) -> m.Constraints:
    """PQP_b = 1 where the load lies above the lower edge of step b, day-ahead and in real time."""
    edge = problem.price_steps.edge_mw[:-1]
    day = _column(x.day_ahead_mw + problem.system_load_mw, edge.size)
    real = m.traded_mw(problem, x) + problem.system_load_mw[:, None]
    real = _column(cp.vec(real, order="C"), edge.size)
    constraints = []
    for load, on in ((day, y.indicator), (real, y.indicator_n)):
        lower = np.broadcast_to(edge, load.shape)
        if as_printed:
            constraints.append(load >= cp.multiply(lower, on))
        else:
            constraints += [load >= lower - m_big * (1 - on), load <= lower + m_big * on]
    return constraints


@implements("33", "36")
@implements("31", "32", "33", "34", "35", "36", role="print")
def day_ahead_effects(y: BigMVariables, m_big: float, as_printed: bool) -> m.Constraints:
    """Bought and sold power where the indicator is 1, and 0 elsewhere."""
    steps = y.indicator.shape[1]
    return [
        *_effect(y.effect_bought, _column(y.bought_mw, steps), y.indicator, m_big, as_printed),
        *_effect(y.effect_sold, _column(y.sold_mw, steps), y.indicator, m_big, as_printed),
    ]


@implements("39", "42")
@implements("37", "38", "39", "40", "41", "42", role="print")
def real_time_effects(
    x: m.Variables, y: BigMVariables, m_big: float, as_printed: bool
) -> m.Constraints:
    """Surplus and deficit where the sample's indicator is 1, and 0 elsewhere."""
    steps = y.indicator_n.shape[1]
    surplus = _column(cp.vec(x.surplus_mw, order="C"), steps)
    deficit = _column(cp.vec(x.deficit_mw, order="C"), steps)
    return [
        *_effect(y.effect_surplus, surplus, y.indicator_n, m_big, as_printed),
        *_effect(y.effect_deficit, deficit, y.indicator_n, m_big, as_printed),
    ]


def _effect(
    effect: cp.Variable, power: cp.Expression, on: cp.Variable, m_big: float, as_printed: bool
) -> m.Constraints:
    rows = [effect >= power - m_big * (1 - on), effect <= power]
    if as_printed:
        return [*rows, effect <= m_big * (1 - on)]
    return [*rows, effect >= 0, effect <= m_big * on]


def _column(vector: cp.Expression, copies: int) -> cp.Expression:
    """A vector beside itself, (size, copies)."""
    return cp.reshape(vector, (vector.size, 1), order="C") @ np.ones((1, copies))


@implements("22", "23", "24", role="print")
def big_m_cost_usd(problem: AggregatorProblem, x: m.Variables, y: BigMVariables) -> cp.Expression:
    """Day-ahead and real-time cost; the first step's price is paid on all power."""
    mwh = 1000.0 * problem.period_h
    price = problem.price_steps.price_usd_per_kwh
    rise: FloatArray = np.diff(price)
    weight = np.tile(problem.probability, problem.periods)
    trade = x.deficit_mw - x.surplus_mw
    net = y.effect_deficit - y.effect_surplus
    day_ahead = price[0] * cp.sum(x.day_ahead_mw) + cp.sum(effective_power(y) @ rise)
    real_time = price[0] * cp.sum(trade @ problem.probability) + weight @ (net @ rise)
    return mwh * (day_ahead + real_time)


def build_big_m(
    problem: AggregatorProblem, m_big: float | None = None, as_printed: bool = False
) -> tuple[cp.Problem, Plugged, m.Variables]:
    """The big-M model as CVXPY has it; `m_big` in MW."""
    m_big = least_big_m(problem) if m_big is None else m_big
    checks = Checks("big-M model")
    checks.require(m_big > 0, "m_big", m_big, "> 0 MW")
    checks.require(problem.risk_weight == 0, "risk_weight", problem.risk_weight, "0")
    checks.require(
        len(problem.price_steps) > 1, "price", len(problem.price_steps), "at least two steps"
    )
    checks.done()
    cars = list_plugged(problem)
    x, y = m.variables(problem, cars), big_m_variables(problem)
    wear = problem.wear_usd_per_kwh[cars.vehicle] * problem.probability[cars.sample]
    constraints = [
        *m.charger_limit(problem, cars, x),
        *m.soc_balance(problem, cars, x),
        *m.soc_limits(problem, cars, x),
        *m.departure_contract(problem, cars, x),
        *m.midnight_soc(problem, cars, x),
        *m.degradation(cars, x),
        *m.real_time_limit(problem, cars, x),
        *m.real_time_mean(problem, x),
        *m.power_balance(problem, cars, x),
        *m.system_cap(problem, x),
        *m.trading_cap(problem, x),
        *bought_and_sold(x, y),
        *indicators(problem, x, y, m_big, as_printed),
        *day_ahead_effects(y, m_big, as_printed),
        *real_time_effects(x, y, m_big, as_printed),
        # Big-M products hold for powers up to M_big, no further.
        y.bought_mw <= m_big,
        y.sold_mw <= m_big,
    ]
    objective = cp.Minimize(big_m_cost_usd(problem, x, y) + wear @ x.worn_kwh)
    return cp.Problem(objective, constraints), cars, x


def solve_big_m(
    problem: AggregatorProblem,
    m_big: float | None = None,
    as_printed: bool = False,
    gap: float = 1e-3,
    time_limit_s: float = 600.0,
) -> BigMAnswer:
    """Give the big-M form to HiGHS, as the paper gave it to a solver.

    Parameters
    ----------
    problem : AggregatorProblem
        Without a risk weight.
    m_big : float, optional
        M_big in MW; by default just large enough.
    as_printed : bool
        The inequalities as they stand in the paper.
    gap : float
        Relative gap of the mixed-integer program.
    time_limit_s : float
    """
    require_reachable(problem)
    began = time.perf_counter()
    program, cars, x = build_big_m(problem, m_big, as_printed)
    rows, columns = program.get_problem_data(cp.HIGHS)[0]["A"].shape
    outcome = run_highs(program, 0.0, time_limit_s, mip_rel_gap=gap, mip_lp_solver="choose")
    if outcome.infeasible:
        raise_infeasible(problem)
    seconds = time.perf_counter() - began
    plan = None
    if outcome.solved:
        plan = plan_from_cars(
            problem,
            charge_kw=cars.spread(problem, x.charge_kw.value),
            discharge_kw=cars.spread(problem, x.discharge_kw.value),
            soc_kwh=cars.spread(problem, x.soc_kwh.value),
            bound_usd=outcome.bound_usd,
            seconds=seconds,
            method="big M as printed" if as_printed else "big M",
            status=outcome.status,
        )
    T, N = problem.periods, problem.samples
    return BigMAnswer(
        objective_usd=float(program.value) if outcome.solved else np.inf,
        bound_usd=outcome.bound_usd,
        plan=plan,
        columns=int(columns),
        rows=int(rows),
        binaries=T * (N + 1) * (len(problem.price_steps) - 1),
        seconds=seconds,
        status=outcome.status,
    )
