"""Coordination beyond one shot: unused cap goes to those who can use it.

The paper hands caps out once, before anyone has planned. What an aggregator leaves unused is lost
to the others. Here the operator takes unused cap back and offers it to the aggregators whose plan a
cap still makes pay more, round by round, until the network serves every plan in full and no
aggregator would gain from more cap that the network could give; what is then left is shared out
equally. No cap falls below what its
aggregator uses, so an old plan stays feasible, and no aggregator ever ends worse than it started.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evcm.aggregator import methods
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import allocation
from evcm.coordination.account import Planned
from evcm.coordination.capped import USED_MW, fits, peak_use_mw, under_cap
from evcm.errors import Checks, InfeasibleError
from evcm.network import opf
from evcm.network.case import Day

Solve = Callable[[int, FloatArray], AggregatorPlan]
"""Plan of aggregator k under caps (T,); raises `InfeasibleError` where there is none."""


@dataclass(frozen=True, eq=False)
class Round:
    """One round: which aggregators (positions) were offered more, and what each gained, USD/day."""

    offered: tuple[int, ...]
    gain_usd: FloatArray = field(repr=False)
    nse_mwh: float


@dataclass(frozen=True, eq=False)
class Reallocation(Planned):
    """Where the loop ended. Caps and powers are (T, K).

    `free` are the plans without any cap: no cap can make an aggregator cheaper than its
    `free` bound. `start` are the plans under the caps at the start, None where none exists.
    `residual_usd` (K,) is what each aggregator would still gain, USD a day, from all the room that
    the network could give to it alone; 0 where its plan is as good as without a cap.
    """

    cap_mw: FloatArray = field(repr=False)
    start: tuple[AggregatorPlan | None, ...] = field(repr=False)
    free: tuple[AggregatorPlan, ...] = field(repr=False)
    rounds: tuple[Round, ...]
    residual_usd: FloatArray
    nse_mwh: float
    status: str


def no_cap_mw(problem: AggregatorProblem) -> FloatArray:
    """A cap (T,) that never binds: every charger of every plugged-in car at full power."""
    return np.asarray(problem.plugged_mw.max(axis=1) + 1.0)


def direct(problems: Sequence[AggregatorProblem], gap: float) -> Solve:
    """Solve each plan here and now."""
    return lambda k, cap: methods.solve(under_cap(problems[k], cap), gap=gap)


def reallocate(
    problems: Sequence[AggregatorProblem],
    start_cap_mw: FloatArray,
    site: Day,
    *,
    gap: float = 1e-2,
    max_rounds: int = 8,
    solve: Solve | None = None,
    start_plans: Sequence[AggregatorPlan | None] | None = None,
) -> Reallocation:
    """Re-allocate caps until the network serves every plan and more cap is of no use.

    Problems stand in the order of `network.ev_bus` of the `site`. `start_cap_mw` (T, K) are
    one-shot caps, such as those of `evcm.coordination.allocation.allocate`, and `start_plans` the
    plans under them where they are at hand. Gains below the `gap` of a plan, a share of its
    turnover, count as none. `solve` finds a plan, here if left out (a study passes one that stores
    plans).

    Raises
    ------
    InputError
        Shapes differ.
    InfeasibleError
        The network cannot give an aggregator the least that its cars' trips need.
    """
    solve = direct(problems, gap) if solve is None else solve
    c = Checks("reallocation")
    shape = (problems[0].periods, len(problems))
    c.require(np.shape(start_cap_mw) == shape, "start_cap_mw", np.shape(start_cap_mw), str(shape))
    c.require(max_rounds >= 1, "max_rounds", max_rounds, ">= 1")
    c.done()
    known = [None] * len(problems) if start_plans is None else list(start_plans)
    loop = _Loop(problems, np.array(start_cap_mw, float), site, gap, solve, known)
    return loop.run(max_rounds)


class _Loop:
    def __init__(
        self, problems: Sequence[AggregatorProblem], cap: FloatArray, site: Day, gap: float,
        solve: Solve, known: Sequence[AggregatorPlan | None],
    ) -> None:  # fmt: skip
        self.problems, self.cap, self.site, self.gap, self.solve = problems, cap, site, gap, solve
        self.free = tuple(solve(k, no_cap_mw(p)) for k, p in enumerate(problems))
        self.most = np.column_stack([no_cap_mw(p) for p in problems])
        self.wish = np.column_stack([peak_use_mw(p) for p in self.free])
        self.use = np.zeros_like(cap)
        plans = [self._start(k, plan) for k, plan in enumerate(known)]
        self.start = tuple(plans)
        self.plans: list[AggregatorPlan | None] = list(plans)

    def _start(self, k: int, known: AggregatorPlan | None) -> AggregatorPlan | None:
        """The plan under the first caps; where there is none, note the least that would do."""
        try:
            at_hand = known is not None and fits(known, self.cap[:, k])
            plan = known if at_hand else self._best(k, self.cap[:, k])
            assert plan is not None
        except InfeasibleError as error:
            if "raised_mw" not in error.details:
                raise
            self.use[:, k] = self.cap[:, k]
            short = np.asarray(error.details["periods"], int) - 1
            self.use[short, k] = np.asarray(error.details["cap_mw"]) + USED_MW
            return None
        self.use[:, k] = peak_use_mw(plan)
        return plan

    def _best(self, k: int, cap: FloatArray) -> AggregatorPlan:
        """The free plan where it fits, which nothing can beat; a plan under the cap elsewhere."""
        return self.free[k] if fits(self.free[k], cap) else self.solve(k, cap)

    def could_gain(self, k: int) -> float:
        """Most that aggregator k could gain from any caps, USD a day."""
        plan = self.plans[k]
        return np.inf if plan is None else plan.cost_usd - self.free[k].cost_usd

    def tolerance(self, k: int) -> float:
        """Gains that a gap cannot tell from none."""
        return self.gap * self.free[k].cost.turnover_usd

    def wanting(self) -> list[int]:
        """Aggregators that a cap still makes pay more."""
        every = range(len(self.plans))
        return [k for k in every if self.could_gain(k) > self.tolerance(k)]

    def offer(self, who: list[int]) -> FloatArray:
        """Caps that leave everyone what they use and share the rest among `who`.

        First up to what each would use without a cap, then, where room is left, beyond it: a plan
        that cannot have its first wish may want another period. Among more than `allocation.MANY`
        each sharing ends with its first level.
        """
        weight = np.zeros(len(self.plans))
        weight[who] = 1.0
        wish = np.where(weight > 0, np.maximum(self.wish, self.use), self.use)
        cap = allocation.fill(self.site, self.use, wish, weight)
        short = [k for k in who if not (cap[:, k] >= wish[:, k] - USED_MW).all()]
        if short:
            weight[:] = 0.0
            weight[short] = 1.0
            cap = allocation.fill(self.site, cap, np.where(weight > 0, self.most, cap), weight)
        return cap

    def take(self, k: int, cap: FloatArray) -> float:
        """Let aggregator k plan again under a cap; keep the better plan; return its gain."""
        old = self.plans[k]
        new = self._best(k, cap)
        gain = 0.0 if old is None else old.cost_usd - new.cost_usd
        if old is None or gain > 0:
            self.plans[k], self.use[:, k] = new, peak_use_mw(new)
        return max(0.0, gain)

    def nse_mwh(self) -> float:
        """Energy not supplied with the day-ahead power of the plans at hand."""
        power = [np.zeros(len(self.cap)) if p is None else p.day_ahead_mw for p in self.plans]
        short = opf.shortage_mw(self.site, np.column_stack(power))
        return float(np.where(short < opf.SERVED_MW, 0.0, short).sum() * self.site.period_h)

    def run(self, max_rounds: int) -> Reallocation:
        rounds: list[Round] = []
        status = f"stopped after {max_rounds} rounds"
        for _ in range(max_rounds):
            who = self.wanting()
            if not who:
                status = "no aggregator pays more than without a cap"
                break
            lacking = [k for k in who if self.plans[k] is None]
            cap = self.offer(who)
            gain = np.zeros(len(self.plans))
            for k in who:
                gain[k] = self.take(k, cap[:, k])
            self.cap = np.maximum(cap, self.use)
            rounds.append(Round(tuple(who), gain, self.nse_mwh()))
            if not lacking and all(gain[k] <= self.tolerance(k) for k in who):
                status = "no aggregator gains from what the network has left"
                break
        residual = self.residual()
        self.cap = allocation.fill(self.site, self.use, self.most, np.ones(len(self.plans)))
        assert all(plan is not None for plan in self.plans)
        plans = tuple(plan for plan in self.plans if plan is not None)
        return Reallocation(
            plans, self.cap, self.start, self.free, tuple(rounds), residual, self.nse_mwh(), status
        )

    def residual(self) -> FloatArray:
        """What each aggregator would gain from all the room that is left, given to it alone."""
        left = np.zeros(len(self.plans))
        for k in self.wanting():
            plan = self.plans[k]
            alone = self.offer([k])[:, k]
            if plan is not None:
                left[k] = max(0.0, plan.cost_usd - self._best(k, alone).cost_usd)
        return left
