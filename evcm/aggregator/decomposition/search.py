"""Branch and bound over price steps."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from evcm.aggregator.decomposition.relaxation import (
    Bound,
    FixedSteps,
    Relaxation,
    Solution,
    priced,
    safe_bound,
)
from evcm.aggregator.market import Steps, choose_steps, cost_by_period
from evcm.aggregator.vehicle_lp import VehicleLP
from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.highs import Answer


def split(
    relaxation: Relaxation, steps: Steps, answer: Answer, t: int
) -> tuple[list[Steps], str] | None:
    """Two parts of a node that no longer mix the steps of period `t`, and what was split.

    First the day-ahead step; where that is settled, the step of the sample whose true real-time
    cost exceeds the relaxed one most. None where nothing is mixed.
    """
    block, z, lp = relaxation.blocks[t], answer.column, relaxation.lp
    N, S = lp.problem.samples, lp.steps.real_time.shape[2]
    n, _, b = block.pair.T
    upper = _upper_half(np.bincount(block.step, z[block.z], S).astype(float))
    if upper is not None:
        parts = []
        for half in (~upper, upper):
            day_ahead = steps.day_ahead.copy()
            day_ahead[t] &= half
            parts.append(steps.restricted(day_ahead, steps.real_time))
        return parts, f"day-ahead step of period {t + 1}"
    weight = np.bincount(n * S + b, z[block.pair_z], N * S).reshape(N, S)
    for sample in np.argsort(-_sample_gaps(relaxation, answer, t)):
        upper = _upper_half(weight[sample])
        if upper is not None:
            parts = []
            for half in (~upper, upper):
                real_time = steps.real_time.copy()
                real_time[t, sample] &= half
                parts.append(steps.restricted(steps.day_ahead, real_time))
            return parts, f"real-time step of period {t + 1}, sample {sample + 1}"
    return None


def _sample_gaps(relaxation: Relaxation, answer: Answer, t: int) -> FloatArray:
    """True less relaxed real-time cost of each sample in period `t` (N,)."""
    lp, block, z = relaxation.lp, relaxation.blocks[t], answer.column
    power, traded = lp.power(z), lp.traded(z)
    a, b = choose_steps(lp.problem, lp.steps, power, traded)
    price = lp.steps.price_usd_per_mw
    true = (price[b[t]] - price[a[t]]) * (traded[t] - power[t]) * lp.problem.probability
    paid = block.cost * z[block.first : block.first + block.cost.size]
    pairs = paid[2 * block.step.size :].reshape(3, -1).sum(axis=0)
    return np.asarray(true - np.bincount(block.pair[:, 0], pairs, lp.problem.samples))


def _upper_half(weight: FloatArray) -> BoolArray | None:
    """Steps of the upper half of the weight; None where it lies on one step."""
    below = np.cumsum(weight)
    inside = np.flatnonzero((below > 1e-4) & (below < 1 - 1e-4))
    if not inside.size:
        return None
    middle = inside[np.argmin(np.abs(below[inside] - 0.5))]
    return np.asarray(np.arange(weight.size) > middle)


def halve(steps: Steps) -> list[Steps]:
    """Two parts of a node without a look at any solution; none where every step is settled."""
    for which in ("day_ahead", "real_time"):
        masks: BoolArray = getattr(steps, which)
        count = masks.sum(axis=-1)
        if count.max() > 1:
            at = np.unravel_index(int(np.argmax(count)), count.shape)
            allowed = np.flatnonzero(masks[at])
            upper = np.arange(masks.shape[-1]) >= allowed[allowed.size // 2]
            parts = []
            for half in (~upper, upper):
                mask = masks.copy()
                mask[at] &= half
                both = {"day_ahead": steps.day_ahead, "real_time": steps.real_time} | {which: mask}
                parts.append(steps.restricted(both["day_ahead"], both["real_time"]))
            return parts
    return []


Progress = Callable[[float, float, float], None]
"""Told the best cost, the bound and the seconds."""


@dataclass(order=True)
class Node:
    """A part of the search tree: which steps are allowed, and a bound on all plans with them."""

    bound: float
    number: int
    steps: Steps = field(compare=False)


@dataclass(frozen=True)
class Trace:
    """What happened at one node, for the book and for the curious.

    `blocks` counts the periods with a convex hull, `nodes` and `solves` the nodes and LPs so far,
    `columns` and `rows` the size of the relaxation's LP.
    """

    node: int
    bound_usd: float
    best_usd: float
    lower_usd: float
    action: str
    seconds: float
    blocks: int
    nodes: int
    solves: int
    columns: int
    rows: int


class Search:
    """Best-first search; `lower` and `upper` are valid whenever it stops."""

    def __init__(
        self, lp: VehicleLP, gap: float, deadline: float, progress: Progress | None = None
    ) -> None:
        self.lp, self.gap, self.deadline, self.progress = lp, gap, deadline, progress
        self.relaxation = Relaxation(lp)
        self.fixed: FixedSteps | None = None
        self.steps = lp.steps
        self.upper = np.inf
        self.best: Solution | None = None
        self.turnover = 1.0
        self.pruned = np.inf
        self.tried: set[bytes] = set()
        self.nodes = 0
        self.made = 0
        self.heap: list[Node] = []
        self.trace: list[Trace] = []
        self.started = time.perf_counter()

    @property
    def lower(self) -> float:
        """Least cost that any plan can have."""
        return min(self.pruned, self.heap[0].bound if self.heap else np.inf, self.upper)

    @property
    def cutoff(self) -> float:
        """Nodes with a bound above cannot improve the plan by more than the gap."""
        return self.upper - 0.97 * self.gap * self.turnover

    @property
    def time_left_s(self) -> float:
        """Until the deadline. The first plan is waited for."""
        return self.deadline - time.perf_counter() if np.isfinite(self.upper) else np.inf

    def run(self) -> str:
        """Search until the gap is closed or the time is over; how it ended."""
        heapq.heappush(self.heap, Node(-np.inf, 0, self.steps))
        while self.heap and self.heap[0].bound < self.cutoff:
            if self.time_left_s <= 0:
                return "stopped"
            node = heapq.heappop(self.heap)
            children = self._process(node)
            if children is None:
                return "infeasible"
            for child in children:
                heapq.heappush(self.heap, child)
            if self.progress is not None:
                self.progress(self.upper, self.lower, time.perf_counter() - self.started)
            if self.upper - self.lower <= self.gap * self.turnover:
                break
        return "optimal"

    def _process(self, node: Node) -> list[Node] | None:
        self.nodes += 1
        steps, bound = node.steps, node.bound
        for attempt in range(20):
            self.relaxation.restrict(steps)
            first = self.fixed is None
            answer = self.relaxation.solve("ipm" if first else "simplex", self.time_left_s)
            if answer.status == "infeasible":
                if first or self._proved_empty(steps, answer):
                    self._note(node, np.inf, "no plan has these steps")
                    return None if first else []
                return self._split_blindly(steps, bound)
            found = safe_bound(self.lp, answer.row_dual, steps)
            bound = max(bound, found.value)
            if answer.status == "stopped":
                return [Node(bound, node.number, steps)]
            if attempt == 0 or node.number == 0:
                self._improve(answer)
            if bound >= self.cutoff:
                self.pruned = min(self.pruned, bound)
                self._note(node, bound, "closed")
                return []
            steps = self._fix(steps, found)
            if node.number == 0:
                self.steps = steps
            if not steps.open:
                self._note(node, bound, "closed by fixing")
                return []
            gaps = self._gaps(answer)
            fresh = self._worth_a_block(gaps)
            if not fresh:
                break
            for t in fresh:
                self.relaxation.add_block(t, self.steps)
            self._note(node, bound, f"blocks for periods {', '.join(str(t + 1) for t in fresh)}")
        return self._branch(node, steps, bound, answer, gaps)

    def _improve(self, answer: Answer) -> None:
        """Look for a better plan near a solution of the relaxation."""
        lp = self.lp
        if self.fixed is None:
            self.fixed = FixedSteps(lp, self.relaxation.solver)
        start = priced(lp, answer.column[: lp.matrix.shape[1]])
        self._offer(start)
        a, b = choose_steps(lp.problem, lp.steps, lp.power(start.z), lp.traded(start.z))
        key = a.tobytes() + b.tobytes()
        if key in self.tried:
            return
        self.tried.add(key)
        near = self.upper + self.gap * self.turnover
        if self.nodes > 1:
            # Only bounds change in the relaxation, so its basis serves; costs change in the other.
            start = self._hold(a, b) or start
            near = self.upper + 0.1 * self.gap * self.turnover
            if start.cost_usd > near:
                return
        self._offer(self.fixed.improve(start, near, self.time_left_s))

    def _hold(self, a: IntArray, b: IntArray) -> Solution | None:
        """Best solution of the relaxation with these steps, where it allows them."""
        S = self.lp.steps.day_ahead.shape[1]
        day_ahead, real_time = np.arange(S) == a[:, None], np.arange(S) == b[..., None]
        for t in range(a.size):
            if t not in self.relaxation.blocks:
                day_ahead[t] |= self.steps.day_ahead[t]
        self.relaxation.restrict(self.steps.restricted(day_ahead, real_time))
        answer = self.relaxation.solve("simplex", self.time_left_s)
        if answer.status != "optimal":
            return None
        found = priced(self.lp, answer.column[: self.lp.matrix.shape[1]])
        self._offer(found)
        return found

    def _offer(self, found: Solution) -> None:
        """Keep a solution if it is the best so far."""
        if found.cost_usd < self.upper:
            self.best, self.upper, self.turnover = found, found.cost_usd, found.turnover_usd

    def _fix(self, steps: Steps, found: Bound) -> Steps:
        """Drop steps that no plan better than the cutoff uses."""
        cutoff = self.cutoff
        day_ahead = steps.day_ahead & (found.day_ahead < cutoff)
        real_time = steps.real_time & (found.real_time < cutoff)
        if (day_ahead != steps.day_ahead).any() or (real_time != steps.real_time).any():
            self.pruned = min(self.pruned, cutoff)
        return steps.restricted(day_ahead, real_time)

    def _gaps(self, answer: Answer) -> FloatArray:
        """By how much each period's true cost exceeds what the relaxation pays (T,)."""
        z = answer.column
        lp = self.lp
        day_ahead, real_time = cost_by_period(lp.problem, lp.steps, lp.power(z), lp.traded(z))
        return np.asarray(day_ahead + real_time - self.relaxation.cost_by_period(z))

    def _worth_a_block(self, gaps: FloatArray) -> list[int]:
        target = self.gap * self.turnover
        if gaps.sum() <= 0.3 * target:
            return []
        worth = np.flatnonzero(gaps > 0.03 * target)
        return [int(t) for t in worth if t not in self.relaxation.blocks]

    def _branch(
        self, node: Node, steps: Steps, bound: float, answer: Answer, gaps: FloatArray
    ) -> list[Node]:
        """Split the steps of the period with the largest gap."""
        for t in np.argsort(-gaps):
            t = int(t)
            if t not in self.relaxation.blocks:
                if gaps[t] <= 1e-9:
                    break
                self.relaxation.add_block(t, self.steps)
                return [Node(bound, node.number, steps)]
            found = split(self.relaxation, steps, answer, t)
            if found is not None:
                parts, what = found
                self._note(node, bound, f"split: {what}")
                return self._children(bound, parts)
        # Every step is chosen: the relaxation is exact here.
        self.pruned = min(self.pruned, bound)
        self._note(node, bound, "exact")
        return []

    def _split_blindly(self, steps: Steps, bound: float) -> list[Node]:
        """Split a node that the solver calls infeasible without a proof that we can repeat."""
        parts = halve(steps)
        if not parts:
            self.pruned = min(self.pruned, bound)
        return self._children(bound, parts)

    def _children(self, bound: float, parts: list[Steps]) -> list[Node]:
        out = []
        for part in parts:
            self.made += 1
            if part.open:
                out.append(Node(bound, self.made, part))
        return out

    def _proved_empty(self, steps: Steps, answer: Answer) -> bool:
        """Whether the solver's ray, times a large number, is a bound above every cost."""
        ray = answer.row_dual
        if ray.size == 0 or not np.isfinite(ray).all() or not np.any(ray):
            return False
        enough = self.upper if np.isfinite(self.upper) else 1e4
        scale = 1.0 / np.abs(ray).max()
        return any(
            safe_bound(self.lp, sign * factor * scale * ray, steps).value > enough
            for factor in (1e2, 1e4, 1e6)
            for sign in (1.0, -1.0)
        )

    def _note(self, node: Node, bound: float, action: str) -> None:
        solver, fixed = self.relaxation.solver, self.fixed
        self.trace.append(
            Trace(
                node.number, bound, self.upper, min(self.lower, bound), action,
                time.perf_counter() - self.started, len(self.relaxation.blocks), self.nodes,
                solver.solves + (fixed.solver.solves if fixed else 0), solver.columns, solver.rows,
            )
        )  # fmt: skip
