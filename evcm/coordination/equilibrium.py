"""Equilibrium: aggregators answer each other's plans until none can gain more than epsilon.

Apart, every aggregator plans as if it were alone, and all of them buy in the same cheap half-hours.
Here each knows the day-ahead plans of the others. Its market is the forecast plus their power, and
so is the load in (29)-(30). In turn each one solves its own problem against them; it moves where
that gains more than the tolerance, and looks no further once a bound proves that nothing does. A
round without a move ends it, and every proven bound of that round then stands against the plans
that stand: aggregator k cannot gain more than epsilon_k = cost less bound by any other plan. The
deviations of the others in real time are not known to it, as they are not known day-ahead to
anyone; `evcm.coordination.account` prices them.

Step prices make an exact equilibrium unlikely and several near ones possible: what is found is the
one that answers in turn lead to from the plans made apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from evcm.aggregator import methods
from evcm.aggregator.plan import AggregatorPlan, objective_usd, plan_cost
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination.account import Planned
from evcm.coordination.capped import CERTAIN_MW, fits
from evcm.errors import Checks

MANY = 40
PATIENCE, PATIENCE_WITH_MANY = 16, 2
"""Rounds at the tolerance asked for, the second of more than `MANY` aggregators; then it doubles by
round. Answers to step prices may go round in circles, and a hundred aggregators hardly come to rest
within a hundredth of turnover each. What is proven in the end, to the gap asked for, is the epsilon
of every one."""

ANSWER_S = 600.0
"""Most seconds for an answer; the best plan so far then stands, its gap told by its bound."""


class Ending(Enum):
    """How the rounds ended; the value says what to do about it."""

    SETTLED = "nobody gains more than its epsilon: an epsilon-equilibrium"
    STOPPED = "still moving after the last round: allow more rounds, or a larger tolerance"


@dataclass(frozen=True, eq=False)
class Equilibrium(Planned):
    """Where the answers ended.

    `plans` are priced against the others' final day-ahead plans, and their bounds hold there.
    `epsilon_usd` (K,) is the most that each could still gain, proven; inf where an aggregator's
    bound is older than the plans of the others (`Ending.STOPPED`). `moves` counts, for every round,
    the aggregators that changed their plan.
    """

    epsilon_usd: FloatArray
    moves: tuple[int, ...]
    ending: Ending


def against(problem: AggregatorProblem, others_mw: FloatArray) -> AggregatorProblem:
    """The same aggregator in the market that the others' day-ahead power (T,) leaves."""
    return problem.with_options(system_load_mw=problem.system_load_mw + others_mw)


def repriced(problem: AggregatorProblem, plan: AggregatorPlan) -> AggregatorPlan:
    """A plan at the prices of another market; it has no bound there."""
    cost = plan_cost(problem, plan.day_ahead_mw, plan.real_time_mw, plan.soc_kwh)
    return replace(plan, cost=cost, objective_usd=objective_usd(problem, cost), bound_usd=-np.inf)


def find_equilibrium(
    problems: Sequence[AggregatorProblem],
    start: Sequence[AggregatorPlan],
    *,
    gap: float = 5e-3,
    tolerance: float = 1e-2,
    max_rounds: int = 22,
) -> Equilibrium:
    """Best responses in turn, from given plans, until a round passes without a move.

    Of every aggregator there is a problem, whose `system_load_mw` is the forecast without any car,
    and a plan to `start` from, such as the one it makes apart. The `gap` to prove for an answer and
    the `tolerance`, the least gain for which an aggregator moves, are shares of its turnover. Both
    double with every round after the first `PATIENCE`; the last bounds are proven to the gap asked.

    Raises
    ------
    InputError
        Plans and problems differ in number, or a number is out of range.
    InfeasibleError
        The others leave an aggregator no room under (29)-(30).
    """
    c = Checks("equilibrium")
    c.require(len(problems) >= 1, "problems", len(problems), ">= 1")
    c.require(len(start) == len(problems), "start", len(start), f"{len(problems)} plans")
    c.require(0 < gap <= 0.5, "gap", gap, "0 < gap <= 0.5")
    c.require(tolerance >= 0, "tolerance", tolerance, ">= 0")
    c.require(max_rounds >= 1, "max_rounds", max_rounds, ">= 1")
    c.done()
    plans = list(start)
    power = np.column_stack([plan.day_ahead_mw for plan in plans])
    moves: list[int] = []
    asked = gap
    still = 0  # answers in a row after which nobody moved
    for number in range(max_rounds):
        moved = 0
        if number >= (PATIENCE_WITH_MANY if len(problems) > MANY else PATIENCE):
            gap, tolerance = min(2 * gap, 0.5), 2 * tolerance
        for k, problem in enumerate(problems):
            market = against(problem, power.sum(axis=1) - power[:, k])
            held = repriced(market, plans[k])
            stays = fits(held, market.cap_mw, CERTAIN_MW)
            best = methods.solve(
                market, gap=gap, time_limit_s=ANSWER_S, start=held if stays else None
            )
            gain = held.cost_usd - best.cost_usd
            if gain > tolerance * best.cost.turnover_usd or not stays:
                plans[k], power[:, k] = best, best.day_ahead_mw
                moved, still = moved + 1, 1
            else:
                plans[k] = replace(held, bound_usd=min(best.bound_usd, held.cost_usd))
                still += 1
            if still >= len(problems):
                if gap > asked:
                    plans = _proven(problems, plans, power, asked)
                return _ended(plans, problems, power, [*moves, moved], Ending.SETTLED)
        moves.append(moved)
    return _ended(plans, problems, power, moves, Ending.STOPPED)


def _proven(
    problems: Sequence[AggregatorProblem], plans: Sequence[AggregatorPlan], power: FloatArray,
    gap: float,
) -> list[AggregatorPlan]:  # fmt: skip
    """The plans that came to rest, their bounds proven anew to a smaller gap."""
    found = []
    for k, (problem, held) in enumerate(zip(problems, plans, strict=True)):
        market = against(problem, power.sum(axis=1) - power[:, k])
        best = methods.solve(market, gap=gap, time_limit_s=ANSWER_S, start=held)
        bound = min(max(best.bound_usd, held.bound_usd), held.cost_usd)
        found.append(replace(held, bound_usd=bound))
    return found


def _ended(
    plans: Sequence[AggregatorPlan], problems: Sequence[AggregatorProblem], power: FloatArray,
    moves: Sequence[int], ending: Ending,
) -> Equilibrium:  # fmt: skip
    """Every plan at the final prices; bounds count only where the others have not moved since."""
    total = power.sum(axis=1)
    final = []
    for k, plan in enumerate(plans):
        priced = repriced(against(problems[k], total - power[:, k]), plan)
        settled = ending is Ending.SETTLED
        final.append(replace(priced, bound_usd=plan.bound_usd if settled else -np.inf))
    epsilon = np.array([plan.cost_usd - plan.bound_usd for plan in final])
    return Equilibrium(tuple(final), epsilon, tuple(moves), ending)
