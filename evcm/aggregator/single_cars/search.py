"""Whole steps from fractional ones: a dive for a good plan, and branching until the gap is closed.

The master's day-ahead cost is the convex hull of the price steps. In a few periods its power lies
between the ends of steps, where the true cost is higher than the hull. A *dive* gives those periods
one step each, a few at a time, and lets the rest of the day adapt. The real-time costs of the
periods in which some sample leaves the day-ahead step are then added as blocks, and the samples'
steps are read from the solution: with all steps fixed the problem is linear and its cost true.

If the gap is still open, the steps of the period with the largest difference between true and hull
cost are split in two, best bound first. Columns serve every node: cars know nothing of steps.
"""

from __future__ import annotations

import heapq
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from evcm.aggregator.single_cars import master as bundle
from evcm.aggregator.single_cars.market import Duals, Market, lower_hull
from evcm.aggregator.single_cars.master import Answer, Columns, Master, MasterSolution
from evcm.aggregator.steps import StepChoices
from evcm.arrays import FloatArray, IntArray
from evcm.errors import InfeasibleError

LOOSE = 1e-3
"""How far from a step's end a power may be and count as there, in units (MW of 700 cars)."""

CLEAR = 0.25
"""A power this near to an end of its piece of the hull, as a share of the piece, belongs there."""

Report = Callable[[str, float, float, int], None]


@dataclass(frozen=True, eq=False)
class Incumbent:
    """Best plan so far: its cost and turnover (in units), and the mixture that makes it."""

    cost: float
    turnover: float
    market: Market
    columns: Columns


@dataclass(order=True)
class _Node:
    bound: float
    number: int
    market: Market = field(compare=False)
    duals: Duals = field(compare=False)


@dataclass(eq=False)
class Search:
    """State of one solution."""

    master: Master
    gap: float
    deadline: float
    report: Report | None = None
    incumbent: Incumbent | None = None
    bound: float = -np.inf
    nodes: int = 0

    # ---- costs -----------------------------------------------------------------------------
    def parts(self, market: Market, s: MasterSolution) -> tuple[float, float, float]:
        """True day-ahead and real-time cost, and wear, of a master solution (in units)."""
        p, unit = market.problem, market.unit_mw
        power, own = s.day_ahead * unit, s.own_power * unit
        day = p.price_steps.payment(p.system_load_mw + power, power).sum() * p.period_h
        gain = p.price_steps.payment(p.system_load_mw[:, None] + own, own - power[:, None])
        trade = (gain @ p.probability).sum() * p.period_h / unit
        return float(day) / unit, float(trade), float(s.share @ self.master.columns.worn)

    def turnover(self, market: Market, s: MasterSolution) -> float:
        """What a gap is measured against, in units."""
        if self.incumbent is not None:
            return self.incumbent.turnover
        day, trade, wear = self.parts(market, s)
        return max(1.0 / market.unit_mw, abs(day) + abs(trade) + wear)

    @property
    def cutoff(self) -> float:
        """A node whose bound reaches this holds no plan worth looking for."""
        if self.incumbent is None:
            return np.inf
        return self.incumbent.cost - self.gap * self.incumbent.turnover

    def late(self) -> bool:
        """Whether the time limit has passed."""
        return time.perf_counter() > self.deadline

    # ---- one node --------------------------------------------------------------------------
    def relax(
        self, market: Market, start: Duals, share: float, rounds: int
    ) -> tuple[Market, MasterSolution, Answer]:
        """Column generation at a node to a `share` of the gap; steps it lacked are shown."""
        turnover = [0.0]

        def target(value: float, bound: float) -> bool:
            scale = turnover[0] or self.scale
            return value - bound < share * self.gap * scale or bound >= self.cutoff

        def report(value: float, bound: float, columns: int) -> None:
            if self.report is not None:
                self.report("prices", value, bound, columns)

        for _ in range(6):
            s, best = bundle.generate(
                self.master, market, start, target, rounds, self.deadline, report
            )
            wider = market.showing(best.duals)
            if wider is market or self.late():
                break
            market, start, rounds = wider, best.duals, 6
        return market, s, best

    scale: float = 20.0

    def dive(self, market: Market, solution: MasterSolution) -> None:
        """Look for a plan near a solution of the relaxation."""
        s, current = solution, market
        for _ in range(30):
            excess, step, doubt = day_ahead_excess(current, s)
            excess = np.where(current.choices.day_ahead.sum(axis=1) > 1, excess, 0.0)
            # What the smallest ones add up to does not matter beside the gap.
            rank = np.argsort(excess)
            loose = np.zeros(excess.size, bool)
            loose[rank] = np.cumsum(excess[rank]) > 0.1 * self.gap * self.scale
            if not loose.any() or self.late():
                break
            # The clear cases go together; a doubtful one is tried both ways, by itself.
            few = np.flatnonzero(loose & (doubt < CLEAR))
            if few.size:
                current = current.changed(choices=_only(current.choices, few, step[few, 0]))
                s = self._refresh(current, 1)
            else:
                t = np.flatnonzero(loose)[[int(np.argmin(doubt[loose]))]]
                pair = [
                    current.changed(choices=_only(current.choices, t, step[t, side]))
                    for side in (0, 1)
                ]
                tries = [self._refresh(choice, 0) for choice in pair]
                best = int(np.argmin([one.value for one in tries]))
                current, s = pair[best], tries[best]
            if s.slack > 1e-2:
                return
        _, step, _ = day_ahead_excess(current, s)
        every = np.arange(len(step))
        current = current.changed(choices=_only(current.choices, every, step[:, 0]))
        s = self._refresh(current, 1)
        moved = real_time_cost(current, s) > 1e-6 * self.scale
        if (moved & ~current.blocks).any():
            s = self._refresh(current.with_blocks(moved, s.day_ahead), 2)
        self._settle(current, s)

    def _refresh(self, market: Market, rounds: int) -> MasterSolution:
        rows = market.rows()
        s = self.master.solve(market, rows, 1e-4)
        for _ in range(rounds):
            answer = self.master.price(market, s.duals)
            reduced = self.master.reduced_cost(market, answer, s)
            new = np.flatnonzero(reduced < -1e-9)
            if -np.minimum(reduced, 0).sum() < 0.05 * self.gap * self.scale or self.late():
                break
            self.master.add(market, answer, new)
            s = self.master.solve(market, rows, 1e-4)
        return s

    def _settle(self, market: Market, s: MasterSolution) -> None:
        """Fix all steps, solve to optimality, keep the plan if it is the best."""
        unit, day = market.unit_mw, np.argmax(market.choices.day_ahead, axis=1)
        plain = market.changed(blocks=np.zeros_like(market.blocks))
        last = np.inf
        for tolerance in (1e-3, 1e-4, 1e-4):
            steps = fixed_steps(market, s, day, tolerance)
            fixed = plain.changed(choices=steps, fixed=True)
            try:
                s = bundle.settle(
                    self.master, fixed, 0.1 * self.gap * self.scale, 10, self.deadline
                )
            except InfeasibleError:
                return
            if s.slack > 1e-4:
                return
            parts = self.parts(market, s)
            cost, turnover = s.value, max(1.0 / unit, sum(abs(x) for x in parts))
            if self.incumbent is None or cost < self.incumbent.cost:
                used = s.share > 1e-7
                self.incumbent = Incumbent(cost, turnover, fixed, self.master.columns.taken(used))
                self.scale = turnover
            if self.report is not None:
                self.report("plan", cost, self.bound, len(self.master.columns))
            if cost > last - 0.05 * self.gap * self.scale or self.late():
                return
            last, day = cost, None

    # ---- the whole -------------------------------------------------------------------------
    def run(self, market: Market, start: Duals) -> None:
        """Solve to the gap, or until the deadline."""
        counter = itertools.count()
        open_nodes = [_Node(-np.inf, next(counter), market, start)]
        finished = np.inf
        while open_nodes:
            node = heapq.heappop(open_nodes)
            self.nodes += 1
            market, s, best = self.relax(
                node.market, node.duals, 0.25, 60 if self.nodes == 1 else 12
            )
            bound = max(node.bound, best.bound)
            rest = min([n.bound for n in open_nodes] + [finished])
            self.bound = max(self.bound, min(bound, rest))
            if s.slack > 1e-2 and self.incumbent is None and self.nodes == 1:
                # Either no plan exists, or leaving power unmet was cheaper than the only plan.
                if self.raises == 2:
                    self.unmet = s
                    return
                self.raises += 1
                self.nodes = 0
                self.master.penalty *= 20.0
                heapq.heappush(open_nodes, _Node(-np.inf, next(counter), market, best.duals))
                continue
            self.scale = self.turnover(market, s)
            child = self._with_missing_blocks(market, s)
            if bound < self.cutoff and child is None:
                self.dive(market, s)
            if bound >= self.cutoff or self.late():
                finished = min(finished, bound)
                if self.late():
                    break
                continue
            children = [child] if child is not None else self._halves(market, s, best)
            for market in children:
                heapq.heappush(open_nodes, _Node(bound, next(counter), market, best.duals))
        rest = min([n.bound for n in open_nodes] + [finished])
        if np.isfinite(rest):
            self.bound = max(self.bound, rest)

    unmet: MasterSolution | None = None
    raises: int = 0

    def _with_missing_blocks(self, market: Market, s: MasterSolution) -> Market | None:
        """The market with blocks where real-time cost is understated; None if it is not."""
        trade = np.where(market.blocks, 0.0, real_time_cost(market, s))
        if trade.sum() < 0.1 * self.gap * self.scale:
            return None
        return market.with_blocks(trade > 0.02 * trade.sum(), s.day_ahead)

    def _halves(self, market: Market, s: MasterSolution, best: Answer) -> list[Market]:
        """Two halves of the steps of the period with the largest excess over the hull."""
        market = market.changed(choices=self._drop(market, best))
        excess, _, _ = day_ahead_excess(market, s)
        several = market.choices.day_ahead.sum(axis=1) > 1
        t = int(np.argmax(np.where(several, excess, -1.0)))
        if not several[t]:
            return self._other_halves(market, s)
        power = s.day_ahead[t] * market.unit_mw
        steps = np.flatnonzero(market.choices.day_ahead[t])
        at = int(np.searchsorted(market.choices.high_mw[t, steps], power))
        at = min(max(at, 1), steps.size - 1)
        halves = []
        for part in (steps[:at], steps[at:]):
            day = market.choices.day_ahead.copy()
            day[t] = False
            day[t, part] = True
            halves.append(market.changed(choices=replace(market.choices, day_ahead=day)))
        return halves

    def _other_halves(self, market: Market, s: MasterSolution) -> list[Market]:
        """With one day-ahead step everywhere: two halves of a sample's real-time steps."""
        if not market.blocks.all():
            return [market.with_blocks(np.ones_like(market.blocks), s.day_ahead)]
        T, N = market.shape
        count = market.choices.real_time.sum(axis=2)
        t, n = np.unravel_index(int(np.argmax(count)), (T, N))
        if count[t, n] <= 1:
            return []
        steps = np.flatnonzero(market.choices.real_time[t, n])
        power = s.own_power[t, n] * market.unit_mw
        at = int(np.searchsorted(market.choices.high_mw[t, steps], power))
        at = min(max(at, 1), steps.size - 1)
        halves = []
        for part in (steps[:at], steps[at:]):
            real = market.choices.real_time.copy()
            real[t, n] = False
            real[t, n, part] = True
            halves.append(market.changed(choices=replace(market.choices, real_time=real)))
        return halves

    def _drop(self, market: Market, best: Answer) -> StepChoices:
        """Steps that no better plan can use: choosing them lifts the bound above its cost."""
        if self.incumbent is None:
            return market.choices
        day = market.choices.day_ahead.copy()
        room = self.incumbent.cost - best.bound
        for t in range(day.shape[0]):
            corners = market.corners(t)
            value = market.step_values(best.duals, t)
            low, high = market.step_ends(t)
            least = np.full(day.shape[1], np.inf)
            np.minimum.at(least, corners.step, value)
            if not market.blocks[t]:
                # Corners list only the cheapest price at a point; a step's own ends may cost more.
                price = market.usd_per_mwh
                worth = (best.duals.energy[t] - best.duals.reach[t]).sum()
                least = np.minimum((price - worth) * low, (price - worth) * high)
            day[t] &= least - value.min() <= room + 1e-9
        return replace(market.choices, day_ahead=day)


def _only(choices: StepChoices, periods: np.ndarray, steps: np.ndarray) -> StepChoices:
    day = choices.day_ahead.copy()
    day[periods] = False
    day[periods, steps] = True
    return replace(choices, day_ahead=day)


def fixed_steps(
    market: Market, s: MasterSolution, day: IntArray | None, tolerance: float
) -> StepChoices:
    """One step for each period, and for each sample; the day-ahead one wherever it reaches.

    `day` gives the day-ahead steps; without it they are read from the solution, and a power at an
    edge belongs to the cheaper side.
    """
    choices, unit = market.choices, market.unit_mw
    T, N = market.shape
    price = market.usd_per_mwh
    chosen, real = np.zeros_like(choices.day_ahead), np.zeros_like(choices.real_time)
    for t in range(T):
        low, high = choices.low_mw[t] / unit, choices.high_mw[t] / unit
        power, own = s.day_ahead[t], s.own_power[t]
        if day is None:
            open_ = market.choices.day_ahead[t]
            holds = np.flatnonzero(open_ & (low <= power + tolerance) & (power <= high + tolerance))
            if not holds.size:
                holds = np.flatnonzero(open_)[:1]
            a = int(holds[np.argmin(price[holds] * power)])
        else:
            a = int(day[t])
        chosen[t, a] = True
        for n in range(N):
            open_ = choices.real_time[t, n]
            if not market.trades:  # then the cars' power is the day-ahead power
                real[t, n, a] = True
                continue
            if open_[a] and low[a] - tolerance <= own[n] <= high[a] + tolerance:
                real[t, n, a] = True
                continue
            holds = np.flatnonzero(
                open_ & (low <= own[n] + tolerance) & (own[n] <= high + tolerance)
            )
            if not holds.size:
                apart = np.maximum(low - own[n], own[n] - high)
                holds = np.array([int(np.argmin(np.where(open_, apart, np.inf)))])
            real[t, n, holds[int(np.argmin(price[holds] * (own[n] - power)))]] = True
    return replace(choices, day_ahead=chosen, real_time=real)


def real_time_cost(market: Market, s: MasterSolution, tolerance: float = LOOSE) -> FloatArray:
    """True expected cost of real-time trade by period (T), beyond the day-ahead price.

    Powers within `tolerance` of a step's end count as at that end: the interior-point method leaves
    them a little off.
    """
    trade = s.own_power - s.day_ahead[:, None]
    T, _ = market.shape
    total = np.zeros(T)
    for t in range(T):
        low, high = (
            market.choices.low_mw[t] / market.unit_mw,
            market.choices.high_mw[t] / market.unit_mw,
        )
        base = _cheapest(market, low, high, s.day_ahead[t], s.day_ahead[t], tolerance)
        extra = market.usd_per_mwh - market.usd_per_mwh[base]
        own = s.own_power[t][:, None]
        holds = (low <= own + tolerance) & (own <= high + tolerance)
        cost = np.where(holds, np.maximum(extra * trade[t][:, None], 0.0), np.inf).min(axis=1)
        total[t] = market.problem.probability @ np.where(np.isfinite(cost), cost, 0.0)
    return total


def _cheapest(
    market: Market, low: FloatArray, high: FloatArray, power: float, amount: float,
    tolerance: float,
) -> int:  # fmt: skip
    """The step that holds a power, the cheaper one at an edge."""
    holds = np.flatnonzero((low <= power + tolerance) & (power <= high + tolerance))
    return int(holds[int(np.argmin(market.usd_per_mwh[holds] * amount))])


def day_ahead_excess(
    market: Market, s: MasterSolution, tolerance: float = LOOSE
) -> tuple[FloatArray, IntArray, FloatArray]:
    """True day-ahead cost beyond the hull's by period (T), the two steps to try (T, 2), and how
    doubtful the first is: 0 at an end of the hull's piece, 1/2 in its middle (T).
    """
    T, _ = market.shape
    excess, step, doubt = np.zeros(T), np.zeros((T, 2), np.int64), np.zeros(T)
    for t in range(T):
        open_ = np.flatnonzero(market.choices.day_ahead[t])
        low, high = (ends[open_] for ends in market.step_ends(t))
        power = float(np.clip(s.day_ahead[t], low.min(), high.max()))
        price = market.usd_per_mwh[open_]
        holds = np.flatnonzero((low <= power + tolerance) & (power <= high + tolerance))
        at = holds[int(np.argmin(price[holds] * power))]
        ends = np.clip(power, low[at], high[at])
        step[t] = open_[at]
        if open_.size == 1:
            continue
        corners = market.corners(t)
        chain = lower_hull(corners.power, corners.cost)
        hull = float(np.interp(ends, corners.power[chain], corners.cost[chain]))
        excess[t] = max(price[at] * ends - hull, 0.0)
        right = int(np.clip(np.searchsorted(corners.power[chain], power), 1, chain.size - 1))
        pair = chain[[right - 1, right]]
        if abs(corners.power[pair[1]] - power) < abs(corners.power[pair[0]] - power):
            pair = pair[::-1]
        width = float(np.abs(np.diff(corners.power[pair])).max(initial=0.0))
        if excess[t] > 0 and width > 0:
            step[t] = corners.step[pair]
            doubt[t] = abs(corners.power[pair[0]] - power) / width
    return excess, step, doubt
