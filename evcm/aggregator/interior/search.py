"""Plans and branching around the linear programs.

Interior solutions are centres of optimal faces, so steps are read with a tolerance, periods that
hang between corners go to the heavier corner (E moves along with P), and ties at an edge belong to
the step of P. The program with all steps fixed as read gives a plan: its net schedules. A program
starts from an iterate of a like one, half way to the optimum of that. The first plan comes before
any hull, and closes all steps that cost more when enforced. Branching: best bound first;
the period with the largest gap between true and relaxed cost is split by its day-ahead step, else
by the real-time step of one sample. A node ends as soon as the exact Lagrangian closes it, which
is often long before its program is solved.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from evcm.aggregator.interior import chains as ch
from evcm.aggregator.interior.cars import choose_units, cut_visits, make_chains
from evcm.aggregator.interior.likes import Likes, alone, choose
from evcm.aggregator.interior.market import (
    EDGE_MW,
    Bound,
    Lagrangian,
    Reading,
    find_steps,
    make_rows,
    market_data,
    read,
)
from evcm.aggregator.interior.newton import MarketData, Middle
from evcm.aggregator.interior.plans import SHORT_MW, Candidate, recover
from evcm.aggregator.interior.program import Answer, solve_program
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray
from evcm.errors import SolverError

Progress = Callable[[float, float, float], None]
"""Called with the best objective, the best bound (USD) and the seconds since the start."""

MOST_NODES, MOST_WITHOUT_PLAN = 400, 40
LOOSE = 1e-2
"""Residual (units of power) up to which a plan is read: what it misses is told exactly then."""

PATIENCE = 4
"""One node in so many looks for a plan, however far its true cost is from the best one's."""

MOST_ENTRIES = 5_000_000
"""Periods of all visits up to which each may have a chain of its own (2 GB)."""

COARSE = 0.5
"""Share of the gap asked for that classes of like visits may cost a program (`likes`)."""

CUTS = (False, False, True)
"""A program is solved with at most so many sets of classes: whether one of them is the last, after
which the chains stay those of the answer."""

WARM = 4.0
"""Complementarity, as a multiple of turnover, at which an iterate is kept for like programs."""


@dataclass(frozen=True)
class Event:
    """One thing that happened in a search: when, at which node, and what is then known (USD)."""

    seconds: float
    node: int
    action: str
    bound_usd: float
    lower_usd: float
    best_usd: float
    blocks: int
    programs: int


@dataclass(frozen=True, eq=False)
class Relaxed:
    """A node's program: its answer, data, exact bound, the steps read and each period's gap."""

    answer: Answer
    data: MarketData
    bound: Bound
    reading: Reading
    gaps: FloatArray


class NoPlanError(Exception):
    """The exact Lagrangian exceeds what any plan can cost: there is none."""


class Search:
    """Best plan and best bound of a problem, in units of power and money."""

    def __init__(
        self, problem: AggregatorProblem, gap: float, deadline: float, threads: int,
        progress: Progress | None, alike: bool = True,
    ) -> None:  # fmt: skip
        self.problem, self.gap, self.deadline, self.progress = problem, gap, deadline, progress
        self.began = time.perf_counter()
        self.units = choose_units(problem)
        self.segments = cut_visits(problem)
        self.steps = find_steps(problem, self.units)
        self.likes, self.classes = (
            choose(problem, self.segments) if alike else (alone(self.segments), None)
        )
        self.rows = make_rows(problem, self.units)
        self.lagrangian = Lagrangian(problem, self.segments, self.rows, self.units)
        self._represent()
        self.run_samples, self.pool = ch.each_sample(threads)
        self.edge = EDGE_MW / self.units.mw
        self.tolerance = max(1e-3 * 2.5e-3 * problem.cars / self.units.mw, self.edge)
        self.allowed = float(np.clip(3e-8 / self.units.mw, 1e-7, 1e-5))
        self.upper = np.inf
        self.best: tuple[Candidate, Likes] | None = None
        """The best plan found here; None where a plan told at the start is better than all."""
        self.lower = -np.inf
        self.turnover = 1.0 / self.units.usd
        self.programs, self.nodes = 0, 0
        self.tried: set[bytes] = set()
        self.last: Middle | None = None
        self.blocks: set[int] = set()
        self.trace: list[Event] = []
        day = self.steps.day
        self.price = (self.steps.price * day).sum(axis=1) / np.maximum(day.sum(axis=1), 1)

    # --- what is known -------------------------------------------------------------------

    @property
    def planned(self) -> bool:
        """Whether a plan is known."""
        return bool(np.isfinite(self.upper))

    @property
    def cutoff(self) -> float:
        """Bound at which a node is closed."""
        return self.upper - 0.97 * self.gap * self.turnover

    @property
    def target(self) -> float:
        """The gap asked for, as money."""
        return self.gap * self.turnover

    @property
    def late(self) -> bool:
        """Whether time is up; the first plan is waited for."""
        return time.perf_counter() > self.deadline and self.planned

    @property
    def done(self) -> bool:
        """Whether the gap is closed, or time is up with a plan."""
        return self.planned and (self.lower >= self.cutoff or self.late)

    @property
    def known_usd(self) -> tuple[float, float]:
        """Objective and bound."""
        return self.upper * self.units.usd, self.lower * self.units.usd

    @property
    def may_be_finer(self) -> bool:
        """Whether representatives stand for visits that could have chains of their own."""
        return self.classes is not None and int(self.segments.length.sum()) <= MOST_ENTRIES

    def tell(self) -> None:
        """Report objective and bound."""
        if self.progress is not None:
            best, proven = self.known_usd
            self.progress(best, proven, time.perf_counter() - self.began)

    def note(self, action: str, bound: float = np.nan, blocks: int = 0) -> None:
        """Keep what happened."""
        usd, seconds = self.units.usd, time.perf_counter() - self.began
        self.trace.append(
            Event(
                seconds, self.nodes, action, bound * usd, self.lower * usd, self.upper * usd,
                blocks, self.programs,
            )
        )  # fmt: skip

    def offer(self, c: Candidate) -> float:
        """Keep a plan if it holds and is the best; returns its true cost."""
        found = read(self.steps, self.problem.probability, c.P, c.E, self.edge)
        cost = float(found.day_cost.sum() + found.real_cost.sum()) + c.wear
        if cost < self.upper and c.short <= SHORT_MW / self.units.mw:
            parts = abs(found.day_cost.sum()) + abs(found.real_cost.sum()) + c.wear
            self.upper, self.best = cost, (c, self.likes)
            self.turnover = max(1.0 / self.units.usd, float(parts))
            self.note("a better plan, all steps fixed")
            self.tell()
        return cost

    def envelope(self, t: int) -> tuple[FloatArray, FloatArray]:
        """Corners of the envelope of period `t`'s day-ahead cost: power (MW) and cost (USD)."""
        d = market_data(self.steps, self.problem.probability, ())
        at = slice(d.corner[t], d.corner[t + 1])
        return d.x[at] * self.units.mw, d.cost[at] * self.units.usd

    # --- programs ------------------------------------------------------------------------

    def _represent(self) -> None:
        """Chains of the representatives; their bound tells when the exact one is due."""
        few = self.likes.segments
        self.chains, self.bounds = make_chains(self.problem, few, self.units), [self.lagrangian]
        if self.classes is not None:
            self.bounds.insert(0, Lagrangian(self.problem, few, self.rows, self.units))

    def program(
        self, day: BoolArray, real: BoolArray, blocks: set[int], share: float,
        watch: bool = False, middle: Middle | None = None,
    ) -> tuple[Answer, MarketData]:  # fmt: skip
        """Solve a program to a share of the gap; `watch`: end it when its bound closes the node."""
        steps = self.steps.only(day, real)
        data = market_data(steps, self.problem.probability, blocks)
        cutoff, hopeless = self.cutoff, self._hopeless() if watch else np.inf

        def closed(it: int, comp: float, objective: float, y: FloatArray, y4: FloatArray) -> bool:
            if self.late:
                return True
            if not watch or it < 6 or it % 3:
                return False
            level = min(hopeless, cutoff)
            if np.isfinite(cutoff) and comp <= 0.02 * self.turnover and objective >= cutoff:
                level = cutoff
            elif it < 18 or comp <= self.turnover:
                return False
            return all(part.bound(y, y4, steps).value >= level for part in self.bounds)

        with np.errstate(all="ignore"):  # a program that loses its digits says so by its result
            answer = solve_program(
                self.chains, self.rows, data, self.price, share * self.target, self.allowed,
                self.run_samples, closed, middle, WARM * self.turnover,
            )  # fmt: skip
        self.programs += 1
        return answer, data

    def _hopeless(self) -> float:
        """More than any plan costs: most expensive step and power in every period, all wear."""
        s = self.steps
        reach = np.maximum(np.abs(s.real_low), np.abs(s.real_high))
        most = float((np.abs(s.price)[:, None] * np.where(s.real, reach, 0.0)).max(axis=2).sum())
        wear = float(np.repeat(self.chains.wear, np.diff(self.chains.offset)) @ self.chains.high)
        return 4.0 * most + wear + 1.0

    def relax(
        self, day: BoolArray, real: BoolArray, blocks: set[int], share: float = 0.15,
        middle: Middle | None = None,
    ) -> Relaxed:  # fmt: skip
        """The relaxation of a node, with its exact bound."""
        for last in CUTS:
            answer, data = self.program(day, real, blocks, share, True, middle)
            bound = self.lagrangian.bound(*answer.multipliers, self.steps.only(day, real))
            if last or answer.ended != "optimal" or not self.cut(answer, bound.value):
                break
        if not np.isfinite(bound.value):
            raise SolverError(f"{self.problem.label}: the interior-point method lost its digits")
        if np.isinf(self.upper) and bound.value > self._hopeless():
            if day is self.steps.day and real is self.steps.real:
                raise NoPlanError
            bound = bound._replace(value=np.inf)  # no plan has these steps
        found = self.loose(answer.P, answer.E)
        gaps = found.day_cost + found.real_cost - answer.paid
        return Relaxed(answer, data, bound, found, gaps)

    def cut(self, answer: Answer, bound: float) -> bool:
        """Cut classes that cost a program too much; whether it is to be solved again."""
        good = answer.objective - bound <= COARSE * self.target or bound >= self.cutoff
        if self.classes is None or good:
            return False
        if not self.classes.cut(self.lagrangian.fed_back(answer.multipliers[0])):
            return False
        self.likes = self.classes.likes()
        self._represent()
        self.tried.clear()  # what was too much for fewer representatives may hold now
        self.note(f"classes cut: {self.chains.ring.size} chains", bound)
        return True

    def loose(self, P: FloatArray, E: FloatArray) -> Reading:
        """Steps read with a tolerance."""
        return read(self.steps, self.problem.probability, P, E, self.tolerance)

    def plan_program(self, day: BoolArray, real: BoolArray) -> Answer:
        """The program of a plan, all steps fixed, from the iterate of the last such."""
        answer, _ = self.program(day, real, set(), 0.1, middle=self.last)
        self.last = answer.middle
        return answer

    def recovered(self, answer: Answer) -> Candidate:
        """The plan of a program's answer."""
        return recover(self.problem, self.likes, self.chains, self.rows, self.units, answer)

    def fixed(self, P: FloatArray, E: FloatArray) -> tuple[Answer, Candidate, float] | None:
        """The program with all steps fixed as read; None if it was tried before or failed.

        Steps that a tolerance reads need not hold any plan, or hold it but for that tolerance: then
        they are read without one. What is returned last may miss a limit.
        """
        every = np.arange(self.steps.day.shape[1])
        missed = None
        for tolerance in (self.tolerance, self.edge):
            found = read(self.steps, self.problem.probability, P, E, tolerance)
            key = found.day.tobytes() + found.real.tobytes()
            if key in self.tried and self.planned:
                return missed
            if key in self.tried:
                continue
            self.tried.add(key)
            day, real = every == found.day[:, None], every == found.real[..., None]
            for last in CUTS:  # what is recovered below must be of the chains as they are then
                answer = self.plan_program(day, real)
                if last or answer.residual > LOOSE or self.classes is None:
                    break
                bound = self.lagrangian.bound(*answer.multipliers, self.steps.only(day, real))
                if not self.cut(answer, bound.value):
                    break
            if answer.residual > LOOSE:
                continue
            c = self.recovered(answer)
            missed = answer, c, self.offer(c)
            if c.short <= SHORT_MW / self.units.mw:
                return missed
        return missed

    # --- plans ---------------------------------------------------------------------------

    def day_weights(self, r: Relaxed, t: Any) -> FloatArray:
        """Weight of every day-ahead step in period t of a solution (S,)."""
        at, weights = slice(*r.data.corner[t : t + 2]), np.zeros(self.steps.day.shape[1])
        np.add.at(weights, r.data.day[at], r.answer.m[at])
        return weights

    def real_weights(self, r: Relaxed, t: Any) -> tuple[FloatArray, FloatArray]:
        """Weight of every real-time step (N, S), and relaxed real-time cost (N,), in a block."""
        d, N, weights = r.data, self.problem.samples, np.zeros(self.steps.real.shape[1:])
        ends = d.point[d.corner[t] * N : d.corner[t + 1] * N + 1]
        at, n = slice(ends[0], ends[-1]), np.repeat(np.arange(ends.size - 1) % N, np.diff(ends))
        np.add.at(weights, (n, d.real[at]), r.answer.v[at])
        return weights, np.asarray(np.bincount(n, r.answer.v[at] * d.f[at], N), float)

    def nearest(self, r: Relaxed, day: BoolArray) -> tuple[FloatArray, FloatArray]:
        """P and E moved into the heaviest step where true and relaxed cost differ."""
        P, s = r.answer.P.copy(), self.steps
        off = np.flatnonzero(r.gaps > 0.02 * self.target)
        for t in off:
            w = np.where(day[t], self.day_weights(r, t), 0.0)
            a, at = int(np.argmax(w)), int(r.reading.day[t])
            if w[a] < 0.85 * w.sum() and r.gaps[t] < 0.15 * self.target and day[t, at]:
                a = at  # neither clear nor expensive: where P lies
            P[t] = np.clip(P[t], s.day_low[t, a], s.day_high[t, a])
        E = r.answer.E + (P - r.answer.P)[:, None]
        for t in off:
            if r.data.block[t] and abs(P[t] - r.answer.P[t]) < 1e-6:
                b = np.argmax(self.real_weights(r, t)[0], axis=1)
                n = np.arange(b.size)
                E[t] = np.clip(E[t], s.real_low[t, n, b], s.real_high[t, n, b])
        return P, E

    def polish(self, P: FloatArray, E: FloatArray, bound: float, times: int = 3) -> None:
        """Fixed-step programs from a starting point, while they improve and a node is open."""
        last = np.inf
        for _ in range(times):
            if self.late or bound >= self.cutoff:
                return
            found = self.fixed(P, E)
            if found is None:
                return
            answer, candidate, cost = found
            if (
                cost > last - 0.03 * self.target
                or cost > self.upper + 0.5 * self.target
                or answer.objective - cost < 0.02 * self.target
            ):
                return
            last, P, E = cost, candidate.P, candidate.E

    # --- branching -----------------------------------------------------------------------

    def branch(
        self, r: Relaxed, day: BoolArray, real: BoolArray
    ) -> list[tuple[BoolArray, BoolArray]]:
        """Two parts of a node; none where nothing is left to decide."""
        s = self.steps
        # Where weights tell nothing, any choice of the period with the largest gap.
        for told, t in product((True, False), np.argsort(-r.gaps)):
            at = middle_step(self.day_weights(r, t) if told else day[t], day[t])
            if at is not None:
                return [(half, real) for half in halves(day, (t,), at)]
            w, order = real[t], np.argsort(-real[t].sum(axis=1))
            if told and not r.data.block[t]:
                continue
            if told:
                w, paid = self.real_weights(r, t)
                price, trade = s.price[t, r.reading.real[t]], r.answer.E[t] - r.answer.P[t]
                extra = self.problem.probability * (price - s.price[t, r.reading.day[t]])
                order = np.argsort(paid - (extra + s.tilt * price) * trade)
            for n in order:
                at = middle_step(w[n], real[t, n])
                if at is not None:
                    return [(day, half) for half in halves(real, (t, n), at)]
        return []

    def useful(
        self, bound: Bound, day: BoolArray, real: BoolArray
    ) -> tuple[BoolArray, BoolArray, float]:
        """Steps that a better plan may have, and a bound on plans with any of the others."""
        keep, stay = day & (bound.day < self.cutoff), real & (bound.real < self.cutoff)
        others = np.append(bound.day[day & ~keep], bound.real[real & ~stay])
        return keep, stay, float(others.min(initial=np.inf))

    def run(self, start: AggregatorPlan | None = None) -> None:
        """Search for better plans than `start` until the gap is closed or time is up."""
        if start is not None and self.problem.risk_weight == 0:
            self.upper = start.objective_usd / self.units.usd
            self.turnover = max(1.0, start.cost.turnover_usd) / self.units.usd
        try:
            self._run()
        finally:
            if self.pool is not None:
                self.pool.shutdown()

    def _run(self) -> None:
        if not self.steps.open:
            raise NoPlanError
        day, real = self.steps.day, self.steps.real
        if not self.planned:
            self.turnover = max(1.0 / self.units.usd, 10.0)
        root = self.relax(day, real, self.blocks, middle=self.last)
        if not self.planned:  # the scale of money, until there is a plan
            parts = abs(root.reading.day_cost.sum()) + abs(root.reading.real_cost.sum())
            self.turnover = max(1.0 / self.units.usd, float(parts) + root.answer.wear)
        self.lower = root.bound.value
        self.note("relaxation without real-time trade", root.bound.value)
        self.tell()
        self.polish(*self.nearest(root, day), root.bound.value, 1)
        day, real, closed = self.useful(root.bound, day, real)
        blocks = self.blocks
        blocks |= {int(t) for t in np.flatnonzero(root.gaps > 0.03 * self.target)}
        middle, made = root.answer.middle, 0
        heap = [(root.bound.value, 0, day, real, None if self.classes else middle)]
        if not self.steps.only(day, real).open:
            heap.clear()
        del root  # it would stay all the while
        while heap:
            self.lower = min(closed, heap[0][0])
            most = MOST_NODES if self.planned else MOST_WITHOUT_PLAN
            if heap[0][0] >= self.cutoff or self.nodes >= most or self.late:
                break
            bound, _, day, real, own = heapq.heappop(heap)
            middle = middle if self.classes else own  # of a large fleet only the last is kept
            self.nodes += 1
            for _ in range(3):
                r = self.relax(day, real, blocks, middle=middle)
                middle = r.answer.middle
                bound = max(bound, r.bound.value)
                self.note(f"relaxation with {len(blocks)} hulls", r.bound.value, len(blocks))
                outside = np.where(r.data.block, 0.0, r.gaps)
                new = {int(t) for t in np.flatnonzero(outside > 0.03 * self.target)}
                if bound >= self.cutoff or outside.sum() < 0.3 * self.target or not new:
                    break
                blocks |= new
            if bound < self.cutoff:
                if r.answer.objective + r.gaps.sum() < self.upper - 0.05 * self.target:
                    self.polish(r.answer.P, r.answer.E, bound)  # a better plan, if it reads well
                near = r.answer.objective + 0.35 * r.gaps.sum() < self.upper
                if bound < self.cutoff and (near or self.nodes % PATIENCE == 0):
                    self.polish(*self.nearest(r, day), bound)
            if bound >= self.cutoff:
                closed = min(closed, bound)
                continue
            day, real, others = self.useful(r.bound, day, real)
            closed = min(closed, others)
            if not self.steps.only(day, real).open:
                continue
            parts = self.branch(r, day, real)
            if not parts:  # nothing to decide is left: only the program was not solved far enough
                tight = self.relax(day, real, blocks, 0.01, middle)
                closed = min(closed, max(bound, tight.bound.value))
            for d, q in parts:
                made += 1
                heapq.heappush(heap, (bound, made, d, q, None if self.classes else middle))
        self.lower = min(closed, heap[0][0] if heap else np.inf, self.upper)
        self.note("the search ends", self.lower, len(blocks))
        self.tell()


def middle_step(weights: Any, is_open: BoolArray) -> int | None:
    """The step after which to cut, next to half of the weights; None if all are on one side."""
    share = np.cumsum(weights) / max(float(weights.sum()), 1e-12)
    left = np.logical_or.accumulate(is_open)
    right = is_open.sum() > np.cumsum(is_open)
    inside = np.flatnonzero((share > 1e-2) & (share < 1 - 1e-2) & left & right)
    return int(inside[np.argmin(np.abs(share[inside] - 0.5))]) if inside.size else None


def halves(mask: BoolArray, at: tuple[int, ...], last: Any) -> list[BoolArray]:
    """A mask with the steps up to `last`, and with those above, open at one place."""
    above = np.arange(mask.shape[-1]) > last
    parts = []
    for half in (~above, above):
        part = mask.copy()
        part[at] &= half
        parts.append(part)
    return parts
