"""Plans and branching around the linear programs.

Interior solutions are centres of optimal faces, so steps are read with a tolerance, periods that
hang between corners go to the heavier corner (E moves along with P), and ties at an edge belong to
the step of P. The program with all steps fixed as read gives a plan: its net schedules. A program
starts from an iterate of a like one, half way to the optimum of that. Branching: best bound first;
the period with the largest gap between true and relaxed cost is split by its day-ahead step, else
by the real-time step of one sample. A node ends as soon as the exact Lagrangian closes it, which
is often long before its program is solved.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evcm.aggregator.interior import chains as ch
from evcm.aggregator.interior.cars import choose_units, cut_visits, make_chains
from evcm.aggregator.interior.kernels import MarketData
from evcm.aggregator.interior.likes import Likes, alone, choose
from evcm.aggregator.interior.market import (
    EDGE_MW,
    Bound,
    Lagrangian,
    Reading,
    Steps,
    find_steps,
    make_rows,
    market_data,
    read,
)
from evcm.aggregator.interior.plans import SHORT_MW, Candidate, recover
from evcm.aggregator.interior.program import Answer, Middle, solve_program
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import SolverError

Progress = Callable[[float, float, float], None]
"""Called with the best objective, the best bound (USD) and the seconds since the start."""

MOST_NODES, MOST_WITHOUT_PLAN = 400, 40
MOST_ENTRIES = 5_000_000
"""Periods of all visits up to which each may have a chain of its own (2 GB)."""

COARSE = 0.5
"""Share of the gap asked for that classes of like visits may cost a program (`likes`)."""

CUTS = (False, False, True)
"""A program is solved with at most so many sets of classes: whether one of them is the last, after
which the chains stay those of the answer."""

WARM = 4.0
"""Complementarity, as a multiple of turnover, at which an iterate is kept for like programs."""

NEAR = 3
"""Day-ahead steps on either side of the root's that a first dive looks at."""


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
        self.steps = find_steps(problem, self.segments, self.units)
        self.likes, self.classes = (
            choose(problem, self.segments) if alike else (alone(self.segments), None)
        )
        self.rows = make_rows(problem, self.units)
        self.lagrangian = Lagrangian(problem, self.segments, self.rows, self.units)
        self._represent()
        self.run_samples, self.pool = ch.each_sample(threads)
        self.edge = EDGE_MW / self.units.mw
        self.tolerance = max(1e-3 * 2.5e-3 * problem.cars / self.units.mw, self.edge)
        self.allowed = float(np.clip(3e-7 / self.units.mw, 1e-7, 1e-5))
        self.upper = np.inf
        self.best: tuple[Candidate, Likes] | None = None
        """The best plan found here; None where a plan told at the start is better than all."""
        self.lower = -np.inf
        self.turnover = 1.0 / self.units.usd
        self.programs, self.iterations, self.nodes = 0, 0, 0
        self.tried: set[bytes] = set()
        self.last: Middle | None = None
        self.centre: IntArray | None = None
        self.blocks: set[int] = set()
        self.trace: list[Event] = []
        middle = self.steps.price * np.where(self.steps.day, 1.0, np.nan)
        self.price = np.nan_to_num(np.nanmean(middle, axis=1), nan=10.0) if (
            self.steps.open
        ) else np.zeros(problem.periods)  # fmt: skip

    def hold(self, cost_usd: float, turnover_usd: float) -> None:
        """A plan of this cost is known: look only for better ones."""
        self.upper = cost_usd / self.units.usd
        self.turnover = max(1.0, turnover_usd) / self.units.usd

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
    def may_be_finer(self) -> bool:
        """Whether representatives stand for visits that could have chains of their own."""
        return self.classes is not None and int(self.segments.length.sum()) <= MOST_ENTRIES

    def tell(self) -> None:
        """Report objective and bound."""
        if self.progress is not None:
            usd = self.units.usd
            now = time.perf_counter() - self.began
            self.progress(self.upper * usd, self.lower * usd, now)

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
        """Chains of the representatives, and their bound, which tells when the exact one is due."""
        chains = self.likes.segments
        self.chains = make_chains(self.problem, chains, self.units)
        self.quick = (
            self.lagrangian if self.classes is None
            else Lagrangian(self.problem, chains, self.rows, self.units)
        )  # fmt: skip

    def _reaches(self, level: float, y: FloatArray, y4: FloatArray, steps: Steps) -> bool:
        """Whether the exact bound at multipliers reaches a level."""
        if self.quick.bound(y, y4, steps).value < level:
            return False
        return self.classes is None or self.lagrangian.bound(y, y4, steps).value >= level

    def program(
        self, day: BoolArray, real: BoolArray, blocks: set[int], share: float,
        watch: bool = False, near: bool = False, middle: Middle | None = None,
    ) -> tuple[Answer, MarketData]:  # fmt: skip
        """Solve a program to a share of the gap; `watch`: end it when its bound closes the node."""
        steps = self.steps.only(day, real)
        data = market_data(
            steps,
            self.problem.probability,
            blocks,
            NEAR if near else None,
            self.centre,
        )
        cutoff, hopeless = self.cutoff, self._hopeless() if watch else np.inf

        def closed(
            it: int, comp: float, residual: float, objective: float, y: FloatArray, y4: FloatArray
        ) -> bool:
            if self.late:
                return True
            if not watch or it < 6 or it % 3:
                return False
            known = np.isfinite(cutoff)
            if known and comp <= 0.02 * self.turnover and objective >= cutoff:
                return self._reaches(cutoff, y, y4, steps)
            if it >= 18 and comp > self.turnover:
                return self._reaches(min(hopeless, cutoff), y, y4, steps)
            return False

        with np.errstate(all="ignore"):  # a program that loses its digits says so by its result
            answer = solve_program(
                self.chains,
                self.rows,
                data,
                self.price,
                share * self.target,
                self.allowed,
                self.run_samples,
                closed,
                middle,
                WARM * self.turnover,
            )
        self.programs += 1
        self.iterations += answer.iterations
        return answer, data

    def _hopeless(self) -> float:
        """More than any plan costs: most expensive step and power in every period, all wear."""
        s = self.steps
        reach = np.maximum(np.abs(s.real_low), np.abs(s.real_high))
        most = float((np.abs(s.price)[:, None] * np.where(s.real, reach, 0.0)).max(axis=2).sum())
        wear = float(np.repeat(self.chains.wear, np.diff(self.chains.offset)) @ self.chains.high)
        return 4.0 * most + wear + 1.0

    def relax(
        self,
        day: BoolArray,
        real: BoolArray,
        blocks: set[int],
        share: float = 0.15,
        middle: Middle | None = None,
    ) -> Relaxed:
        """The relaxation of a node, with its exact bound."""
        near = np.isinf(self.upper) and self.centre is not None
        for last in CUTS:
            answer, data = self.program(day, real, blocks, share, True, near, middle)
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

    def _bound(self, answer: Answer, day: BoolArray, real: BoolArray) -> float:
        if self.classes is None:
            return answer.objective
        return self.lagrangian.bound(*answer.multipliers, self.steps.only(day, real)).value

    def cut(self, answer: Answer, bound: float) -> bool:
        """Cut classes that cost a program too much; whether it is to be solved again."""
        if self.classes is None or answer.objective - bound <= COARSE * self.target:
            return False
        if bound >= self.cutoff or not self.classes.cut(
            self.lagrangian.fed_back(answer.multipliers[0])
        ):
            return False
        self.likes = self.classes.likes()
        self._represent()
        self.tried.clear()  # what was too much for fewer representatives may hold now
        self.note(f"classes cut: {self.chains.first.size} chains", bound)
        return True

    def loose(self, P: FloatArray, E: FloatArray) -> Reading:
        """Steps read with a tolerance."""
        return read(self.steps, self.problem.probability, P, E, self.tolerance)

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
                answer, _ = self.program(day, real, set(), 0.1, middle=self.last)
                self.last = answer.middle
                if (
                    last
                    or answer.residual > 1e-3
                    or not self.cut(answer, self._bound(answer, day, real))
                ):
                    break
            if answer.residual <= 1e-3:  # what the plan misses is told exactly by `recover`
                c = recover(self.problem, self.likes, self.chains, self.rows, self.units, answer)
                missed = answer, c, self.offer(c)
                if c.short <= SHORT_MW / self.units.mw:
                    return missed
        return missed

    # --- plans ---------------------------------------------------------------------------

    def day_weights(self, r: Relaxed, t: Any) -> FloatArray:
        """Weight of every day-ahead step in period t of a solution (S,)."""
        d, weights = r.data, np.zeros(self.steps.day.shape[1])
        for i in range(d.corner[t], d.corner[t + 1]):
            weights[self._step_of(t, d.x[i], d.cost[i])] += r.answer.state.m[i]
        return weights

    def _step_of(self, t: Any, x: float, cost: float) -> int:
        s = self.steps
        k = np.flatnonzero((s.day_low[t] - 1e-9 <= x) & (x <= s.day_high[t] + 1e-9))
        prefer = 1e-9 * k * (1 if x > 0 else -1)
        return int(k[np.argmin(np.abs(s.price[t, k] * x - cost) + prefer)])

    def real_weights(self, r: Relaxed, t: Any) -> tuple[FloatArray, FloatArray]:
        """Weight of every real-time step (N, S), and relaxed real-time cost (N,), in a block."""
        s, d, N = self.steps, r.data, self.problem.samples
        corner = np.arange(*d.corner[t : t + 2])
        a = np.array([self._step_of(t, d.x[c], d.cost[c]) for c in corner])
        ends = d.point[corner[0] * N : (corner[-1] + 1) * N + 1]
        of, n = np.divmod(np.repeat(np.arange(corner.size * N), np.diff(ends)), N)
        y, v, f = (array[ends[0] : ends[-1], None] for array in (d.y, r.answer.state.v, d.f))
        step, own = np.arange(s.real.shape[2]), a[of][:, None]
        near = (s.real_low[t, n] - 1e-9 <= y) & (y <= s.real_high[t, n] + 1e-9)
        off = y - d.x[corner[of], None]
        each = self.problem.probability[n, None] * (s.price[t] - s.price[t, own])
        cost = (each + s.tilt[n, None] * s.price[t]) * off + s.toll[t, n, None] * np.abs(off)
        worse = np.abs(cost - f) + 1e-9 * np.abs(step - own)
        weights: FloatArray = np.zeros(s.real.shape[1:])
        np.add.at(weights, (n, np.argmin(np.where(near, worse, np.inf), axis=1)), v[:, 0])
        paid = np.asarray(np.bincount(n, (v * f)[:, 0], N), float)
        return weights, paid

    def pick(self, r: Relaxed, t: Any, day: BoolArray) -> tuple[int, float]:
        """Step to fix in a period with a gap: heaviest if clear or expensive, else where P lies."""
        w = np.where(day[t], self.day_weights(r, t), 0.0)
        a = int(np.argmax(w))
        share = float(w[a] / max(w.sum(), 1e-9))
        at = r.reading.day[t]
        if share < 0.85 and r.gaps[t] < 0.15 * self.target and day[t, at]:
            a = int(at)
        return a, share

    def nearest(self, r: Relaxed, day: BoolArray) -> tuple[FloatArray, FloatArray]:
        """P and E moved into the heavier step where true and relaxed cost differ."""
        P, s = r.answer.P.copy(), self.steps
        off = np.flatnonzero(r.gaps > 0.02 * self.target)
        for t in off:
            a, _ = self.pick(r, t, day)
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
        s, pi = self.steps, self.problem.probability
        for t in np.argsort(-r.gaps):
            if day[t].sum() > 1:
                at = self._middle(self.day_weights(r, t), day[t])
                if at is not None:
                    return [(half, real) for half in halves(day, (t,), at)]
            if not r.data.block[t]:
                continue
            w, paid = self.real_weights(r, t)
            found = r.reading
            extra = s.price[t, found.real[t]] - s.price[t, found.day[t]]
            trade = r.answer.E[t] - r.answer.P[t]
            true = extra * trade * pi + s.tilt * s.price[t, found.real[t]] * trade
            for n in np.argsort(-(true - paid)):
                at = self._middle(w[n], real[t, n])
                if at is not None:
                    return [(day, half) for half in halves(real, (t, n), at)]
        return self._split_anything(r, day, real)

    @staticmethod
    def _middle(weights: FloatArray, is_open: BoolArray) -> int | None:
        share = np.cumsum(weights) / max(float(weights.sum()), 1e-12)
        inside = [
            int(i)
            for i in np.flatnonzero((share > 1e-2) & (share < 1 - 1e-2))
            if is_open[: i + 1].any() and is_open[i + 1 :].any()
        ]
        return min(inside, key=lambda i: abs(share[i] - 0.5)) if inside else None

    def _split_anything(
        self, r: Relaxed, day: BoolArray, real: BoolArray
    ) -> list[tuple[BoolArray, BoolArray]]:
        """Where weights tell nothing, cut the widest choice of the period with the largest gap."""
        for t in np.argsort(-r.gaps):
            if day[t].sum() > 1:
                at = int(np.flatnonzero(day[t])[(day[t].sum() - 1) // 2])
                return [(half, real) for half in halves(day, (t,), at)]
        for t in np.argsort(-r.gaps):
            n = int(np.argmax(real[t].sum(axis=1)))
            if real[t, n].sum() > 1:
                at = int(np.flatnonzero(real[t, n])[(real[t, n].sum() - 1) // 2])
                return [(day, half) for half in halves(real, (t, n), at)]
        return []

    def run(self) -> None:
        """Search until the gap is closed, time is up or nothing is left."""
        try:
            self._run()
        finally:
            if self.pool is not None:
                self.pool.shutdown()

    def _run(self) -> None:
        if not self.steps.open:
            raise NoPlanError
        day, real = self.steps.day, self.steps.real
        root = self._root(day, real)
        blocks = self.blocks
        blocks |= {int(t) for t in np.flatnonzero(root.gaps > 0.03 * self.target)}
        closed = np.inf
        middle = root.answer.middle
        heap = [(root.bound.value, 0, day, real, None if self.classes else middle)]
        made = 0
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
                if bound < self.cutoff and r.answer.objective + 0.35 * r.gaps.sum() < self.upper:
                    self.polish(*self.nearest(r, day), bound)
            if bound >= self.cutoff:
                closed = min(closed, bound)
                continue
            keep, stay = day & (r.bound.day < self.cutoff), real & (r.bound.real < self.cutoff)
            if (keep != day).any() or (stay != real).any():
                closed = min(closed, self.cutoff)
            if not (keep.any(axis=1).all() and stay.any(axis=2).all()):
                continue
            parts = self.branch(r, keep, stay)
            if not parts:  # nothing to decide is left: only the program was not solved far enough
                tight = self.relax(day, real, blocks, 0.01, middle)
                closed = min(closed, max(bound, tight.bound.value))
            for d, q in parts:
                made += 1
                heapq.heappush(heap, (bound, made, d, q, None if self.classes else middle))
        self.lower = min(closed, heap[0][0] if heap else np.inf, self.upper)
        self.note("the search ends", self.lower, len(blocks))
        self.tell()

    def _root(self, day: BoolArray, real: BoolArray) -> Relaxed:
        """The relaxation without real-time cost; sets the scale of money and the centre."""
        if not self.planned:
            self.turnover = max(1.0 / self.units.usd, 10.0)
        root = self.relax(day, real, self.blocks, middle=self.last)
        found = root.reading
        if not self.planned:
            parts = abs(found.day_cost.sum()) + abs(found.real_cost.sum()) + root.answer.wear
            self.turnover = max(1.0 / self.units.usd, float(parts))
        self.lower = root.bound.value
        self.centre = found.day
        self.note("relaxation without real-time trade", root.bound.value)
        self.tell()
        return root


def halves(mask: BoolArray, at: tuple[int, ...], last: int) -> list[BoolArray]:
    """A mask with the steps up to `last`, and with those above, open at one place."""
    above = np.arange(mask.shape[-1]) > last
    parts = []
    for half in (~above, above):
        part = mask.copy()
        part[at] &= half
        parts.append(part)
    return parts
