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

from evcm import highs
from evcm.aggregator import model as m
from evcm.aggregator.infeasible import raise_infeasible, require_reachable
from evcm.aggregator.plan import AggregatorPlan, plan_from_cars
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
    """Least day-ahead cost (22) of a period under a form of the printed inequalities, USD.

    `power_mw` is bought (negative: sold) on top of the rest of the system's load. A sound form
    does not depend on the constant M_big.

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
    # Step b begins at the upper edge of the step before; the first begins at nothing.
    edge = np.concatenate([[0.0], prices.edge_mw[:-1]])
    rise = np.diff(prices.price_usd_per_kwh, prepend=0.0) * 1000.0 * period_h
    bought, sold = cp.Variable(1, nonneg=True), cp.Variable(1, nonneg=True)
    load = cp.Constant([power_mw + system_load_mw])
    cost, rows = priced(load, bought, sold, edge, rise, big_m_mw, form, nonneg=True)
    program = cp.Problem(cp.Minimize(cp.sum(cost)), [bought - sold == power_mw, *rows])
    outcome = m.run_highs(program, 0.0, highs.LIMIT_S, mip_lp_solver="choose")
    if not outcome.solved:
        raise SolverError(f"printed price steps, {form}: {outcome.status}")
    return float(program.value)


def priced(
    load_mw: cp.Expression, bought: cp.Expression, sold: cp.Expression, edge_mw: FloatArray,
    rise: FloatArray, m_big: float, form: Form, nonneg: bool = False,
) -> tuple[cp.Expression, m.Constraints]:  # fmt: skip
    """What power pays at each load (size,) for the rises of price at edges (B,), and its rows."""
    count = edge_mw.size
    shape = (load_mw.size, count)
    on = cp.Variable(shape, boolean=True)
    more, less = cp.Variable(shape, nonneg=nonneg), cp.Variable(shape, nonneg=nonneg)
    rows = [
        *indicators(m.wide(load_mw, count), edge_mw, on, m_big, form),
        *effects(more, m.wide(bought, count), on, m_big, form),
        *effects(less, m.wide(sold, count), on, m_big, form),
    ]
    return (more - less) @ rise, rows


@implements("27", "28")
@implements("27", "28", role="print")
def indicators(
    load_mw: cp.Expression, edge_mw: FloatArray, on: cp.Variable, m_big: float, form: Form
) -> m.Constraints:
    """PQP_b = 1 where a load lies above the lower edge of step b; all but `form` (size, B)."""
    lower = np.broadcast_to(edge_mw, on.shape)
    if form != "corrected":
        return [load_mw >= cp.multiply(lower, on)]
    return [load_mw >= lower - m_big * (1 - on), load_mw <= lower + m_big * on]


@implements("33", "36", "39", "42")
@implements("31", "32", "33", "34", "35", "36", role="print")
@implements("37", "38", "39", "40", "41", "42", role="print")
def effects(
    effect: cp.Variable, power: cp.Expression, on: cp.Variable, m_big: float, form: Form
) -> m.Constraints:
    """Effective power (size, B): a power bought or sold where the indicator is 1, 0 elsewhere."""
    rows = [effect >= power - m_big * (1 - on), effect <= power]
    if form == "printed":
        return [*rows, effect <= m_big * (1 - on)]
    return [*rows, effect >= 0, effect <= m_big * on]


@dataclass(frozen=True, eq=False)
class BigMAnswer:
    """What HiGHS made of the big-M form, and the size of the program.

    Objective and bound are of the mixed-integer program, inf and -inf where it found none. `plan`
    are its schedules at the true prices, with the program's bound, which holds for the corrected
    form only.
    """

    objective_usd: float
    bound_usd: float
    plan: AggregatorPlan | None
    columns: int
    rows: int
    binaries: int


def least_big_m(problem: AggregatorProblem) -> float:
    """An M_big (MW) that no load or power within the plugs exceeds."""
    power = float(2 * problem.plugged_mw.max())
    load, edge = problem.system_load_mw, problem.price_steps.edge_mw
    return power + float(max(load.max() - edge.min(), edge.max() - load.min(), 0.0)) + 1.0


@implements("22", "23", "24", "25", "26", role="print")
def build_big_m(
    problem: AggregatorProblem, m_big: float | None = None, as_printed: bool = False
) -> tuple[cp.Problem, m.Variables]:
    """The big-M model as CVXPY has it; `m_big` in MW.

    Indicators and effective powers belong to the price steps above the first, whose price is paid
    on all power: (T, B-1) day-ahead, (T N, B-1) in real time.
    """
    m_big = least_big_m(problem) if m_big is None else m_big
    edge, price = problem.price_steps.edge_mw[:-1], problem.price_steps.price_usd_per_kwh
    checks = Checks("big-M model")
    checks.require(m_big > 0, "m_big", m_big, "> 0 MW")
    checks.require(problem.risk_weight == 0, "risk_weight", problem.risk_weight, "0")
    checks.require(edge.size > 0, "price", price.size, "at least two steps")
    checks.done()
    form: Form = "printed" if as_printed else "corrected"
    x, load, rise = m.variables(problem), problem.system_load_mw, np.diff(price)
    bought, sold = (cp.Variable(problem.periods, nonneg=True) for _ in range(2))
    day_extra, day_rows = priced(x.day_ahead_mw + load, bought, sold, edge, rise, m_big, form)
    cars_load = m.traded_mw(problem, x) + load[:, None]
    real_load, more, less = (
        cp.vec(power, order="C") for power in (cars_load, x.deficit_mw, x.surplus_mw)
    )
    real_extra, real_rows = priced(real_load, more, less, edge, rise, m_big, form)
    # Big-M products hold for powers up to M_big, no further.
    limits = [x.day_ahead_mw == bought - sold, bought <= m_big, sold <= m_big]
    day_ahead = price[0] * cp.sum(x.day_ahead_mw) + cp.sum(day_extra)
    trade, weight = x.deficit_mw - x.surplus_mw, problem.probability
    real_time = price[0] * cp.sum(trade @ weight) + np.tile(weight, problem.periods) @ real_extra
    wear = m.wear_usd_per_kwh(problem) * weight[problem.plugged.sample]
    cost = 1000.0 * problem.period_h * (day_ahead + real_time) + wear @ x.worn_kwh
    constraints = [*m.rules(problem, x), *limits, *day_rows, *real_rows]
    return cp.Problem(cp.Minimize(cost), constraints), x


def solve_big_m(
    problem: AggregatorProblem,
    m_big: float | None = None,
    as_printed: bool = False,
    gap: float = 1e-3,
    time_limit_s: float = 600.0,
) -> BigMAnswer:
    """Give the big-M form to HiGHS, as the paper gave it to a solver.

    The problem has no risk weight. `m_big` (MW) is just large enough by default, `gap` that of the
    mixed-integer program; `as_printed` takes the inequalities as they stand in the paper.
    """
    require_reachable(problem)
    began = time.perf_counter()
    program, x = build_big_m(problem, m_big, as_printed)
    rows, columns = program.get_problem_data(cp.HIGHS)[0]["A"].shape
    outcome = m.run_highs(program, 0.0, time_limit_s, mip_rel_gap=gap, mip_lp_solver="choose")
    if outcome.infeasible:
        raise_infeasible(problem)
    value, plan = np.inf, None
    if outcome.solved:
        value = float(program.value)
        plan = plan_from_cars(
            problem, **m.schedules(problem, x), bound_usd=outcome.bound,
            seconds=time.perf_counter() - began, status=outcome.status,
            method="big M as printed" if as_printed else "big M",
        )  # fmt: skip
    binaries = sum(v.size for v in program.variables() if v.attributes["boolean"])
    return BigMAnswer(value, outcome.bound, plan, int(columns), int(rows), binaries)
