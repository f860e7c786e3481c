"""The worst samples count for more: CVaR by searches in which costs of samples are weighted.

CVaR is the largest mean cost under any probabilities q of a set Q,

    CVaR_α[C] = max { Σ_n q_n C_n : 0 <= q_n <= π_n / (1 - α), Σ_n q_n = 1 },

so that the objective is max over Q of Σ_n ρ_n C_n with weights ρ = (1 - w) π + w q.

**Bound.** For any q of Q no plan has a lower objective than the least ρ-weighted cost of all plans.
Costs are weighted by ρ, while the mean (11) keeps π. Then trade is no longer a cost alone: it also
moves money between samples, and a mixture of steps buys at one price what it sells at another, in
the same half-hour. It can, because (10) limits trade only on the mean of the mixture. A price on
|E - P| of every point, a *toll*, that the right of (10) to trade takes back, limits it in each.
Any toll is valid; good ones are found by subgradients, and the bound counts |E - P| exactly.

The less a sample counts beside others, the more such trade earns, and the weaker is a bound. So the
first weights leave every sample some of its probability; what they prove holds for all.

**Plan.** With all steps fixed, plans are a polytope and costs are linear: plans for several q mix.
A small linear program finds the best mixture, and its multipliers are the next q.
"""

from __future__ import annotations

import heapq
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from evcm import highs
from evcm.aggregator.interior.likes import alone
from evcm.aggregator.interior.market import Lagrangian
from evcm.aggregator.interior.newton import Middle
from evcm.aggregator.interior.plans import SHORT_MW, Candidate, changes
from evcm.aggregator.interior.program import Answer
from evcm.aggregator.interior.search import Progress, Relaxed, Search, halves, middle_step
from evcm.aggregator.plan import real_time_cost_by_sample_usd, value_at_risk
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray
from evcm.errors import SolverError

ROUNDS, MIXES = 8, 60
NODES, TRIED, TOLLS = 200, 10, 3
"""Nodes for each weights, those after which a slow pace is given up, and subgradients at each node
(three times as many at the first)."""

LIGHTEST = (0.25, 0.005)
"""Least weight of a sample in the first round and in others, as a share of its probability: days
that cost nothing are any days."""


class Node(NamedTuple):
    """A part of the choices of steps: its bound, when it was made, its tolls and an iterate."""

    bound: float
    order: int
    day: BoolArray
    real: BoolArray
    toll: FloatArray
    middle: Middle | None


class RiskSearch(Search):
    """Best plan and best bound under (1 - w) E[C] + w CVaR_α[C]; every visit has a chain."""

    def __init__(
        self, problem: AggregatorProblem, gap: float, deadline: float, threads: int,
        progress: Progress | None,
    ) -> None:  # fmt: skip
        super().__init__(problem, gap, deadline, threads, progress, alike=False)
        self.plain, self.plain_wear = self.segments, self.chains.wear
        self.q = self.rho = problem.probability
        self.most = problem.probability / (1 - problem.risk_alpha)
        self.costs: list[FloatArray] = []
        self.risk_usd, self.proven_usd = np.inf, -np.inf
        self.money = self.turnover
        self.lightest: Candidate | None = None
        self.mixed: set[bytes] = set()

    # --- what is known -------------------------------------------------------------------

    @property
    def target(self) -> float:
        """The gap asked for, as money."""
        return self.gap * (self.turnover if self.best is None else self.money)

    @property
    def goal(self) -> float:
        """Bound that is asked for."""
        return self.risk_usd / self.units.usd - 0.97 * self.target

    @property
    def cutoff(self) -> float:
        """Bound at which a node is closed; these weights cannot reach more than a plan's cost."""
        return self.goal if self.upper >= self.goal else self.upper - 0.97 * self.target

    @property
    def closed(self) -> bool:
        """Whether the gap is closed, or time is up with a plan."""
        return self.late or self.proven_usd >= self.goal * self.units.usd

    @property
    def known_usd(self) -> tuple[float, float]:
        """Objective and bound."""
        return self.risk_usd, self.proven_usd

    def prove(self) -> None:
        """Keep the bound of these weights."""
        self.proven_usd = max(self.proven_usd, self.lower * self.units.usd)
        self.tell()

    def parts_usd(self, c: Candidate) -> tuple[float, FloatArray, FloatArray]:
        """True cost of a plan: day-ahead, and trade and wear in each sample (N,)."""
        p, g, mw = self.problem, self.plain, self.units.mw
        fall = np.maximum(-changes(self.likes, self.units, c.X)[1], 0.0)
        worn = fall * np.repeat(1e-3 * g.cars * g.wear, g.length)
        wear = np.bincount(np.repeat(g.sample, g.length), worn, p.samples).astype(float)
        trade = real_time_cost_by_sample_usd(p, c.P * mw, (c.E - c.P[:, None]) * mw)
        return float(p.day_ahead_payment_usd(c.P * mw).sum()), trade, wear

    def offer(self, c: Candidate) -> float:
        """Keep a plan if it holds and is the best; returns its cost at the weights."""
        p, w = self.problem, self.problem.risk_weight
        day, trade, wear = self.parts_usd(c)
        cost = day + trade + wear
        weighted = float(self.rho @ cost) / self.units.usd
        if c.short > SHORT_MW / self.units.mw:
            return weighted
        self.costs.append(cost)
        if weighted < self.upper:
            self.upper, self.lightest = weighted, c
        tail = value_at_risk(cost, p.probability, p.risk_alpha)[1]
        risk = float((1 - w) * (p.probability @ cost) + w * tail)
        if risk < self.risk_usd:
            self.risk_usd, self.best = risk, (c, self.likes)
            parts = abs(day) + abs(float(p.probability @ trade)) + float(p.probability @ wear)
            self.money = max(1.0, parts) / self.units.usd
            self.note("a plan of less risk")
            self.tell()
        return weighted

    # --- weights -------------------------------------------------------------------------

    def weigh(self, q: FloatArray, lightest: float = LIGHTEST[-1]) -> None:
        """Weigh costs by (1 - w) π + w q from here on, no sample by less than told."""
        p, w, g = self.problem, self.problem.risk_weight, self.plain
        q = q + max(lightest - (1 - w), 0.0) / w * (p.probability - q)  # in Q, as both are
        self.q, self.rho = q, (1 - w) * p.probability + w * q
        share = np.divide(self.rho, p.probability, out=np.zeros(q.size), where=p.probability > 0)
        self.segments = g._replace(wear=g.wear * share[g.sample])
        self.likes = alone(self.segments)
        self.chains = self.chains._replace(wear=self.plain_wear * share[g.sample])
        self.lagrangian = Lagrangian(p, self.segments, self.rows, self.units, of_trade=True)
        self.bounds = [self.lagrangian]
        self.steps = self.steps._replace(
            tilt=self.rho - p.probability, toll=np.zeros_like(self.steps.toll)
        )
        known = (float(self.rho @ cost) for cost in self.costs)
        self.upper, self.lower = min(known, default=np.inf) / self.units.usd, -np.inf
        self.lightest, self.nodes = None, 0
        self.tried.clear()

    def worst(self, costs: list[FloatArray]) -> tuple[float, FloatArray, FloatArray]:
        """Least risk of a mixture of plans with these costs: that risk, q, and the shares."""
        p, w, N, K = self.problem, self.problem.risk_weight, self.problem.samples, len(costs)
        table, free = np.array(costs), np.array([np.inf])
        rows = np.block([[-w * table, np.ones((K, 1))], [np.ones((1, N)), np.zeros((1, 1))]])
        program = highs.LP(
            sparse.csc_matrix(rows), np.append(np.zeros(N), -1.0), np.append(np.zeros(N), -free),
            np.append(self.most, free), np.append(np.full(K, -np.inf), 1.0),
            np.append((1 - w) * (table @ p.probability), 1.0),
        )  # fmt: skip
        found = program.solve()
        if found.status != "optimal":
            raise SolverError(f"{p.label}: weights of samples: HiGHS ended {found.status}")
        q = np.clip(found.column[:N], 0.0, self.most)
        q /= max(float(q.sum()), 1.0)
        room = self.most - q
        q += room * (1.0 - q.sum()) / max(float(room.sum()), 1e-300)
        share = np.maximum(-found.row_dual[:K], 0.0)
        return -found.value, q, share / share.sum()

    # --- plans ---------------------------------------------------------------------------

    def of_plan(self, c: Candidate) -> tuple[BoolArray, BoolArray]:
        """The steps of a plan alone."""
        every, at = np.arange(self.steps.day.shape[1]), self.loose(c.P, c.E)
        return every == at.day[:, None], every == at.real[..., None]

    def mix(self, c: Candidate) -> None:
        """The best plan with the steps of a plan: a mixture of best plans for several weights."""
        day, real = self.of_plan(c)
        key = day.tobytes() + real.tobytes()
        if key in self.mixed:
            return
        self.mixed.add(key)
        answers: list[Answer] = []
        costs: list[FloatArray] = []
        centre, lower, share, usd = self.q, -np.inf, np.ones(1), self.units.usd
        for _ in range(MIXES):
            answer = self.plan_program(day, real)
            if answer.residual > 1e-3 or self.late:
                break
            plan = self.recovered(answer)
            fixed, trade, wear = self.parts_usd(plan)
            self.offer(plan)
            answers.append(answer)
            costs.append(fixed + trade + wear)
            if answer.objective * usd > lower:
                lower, centre = answer.objective * usd, self.q
            value, q, share = self.worst(costs)
            if value - lower < 0.1 * self.target * usd:
                break
            self.weigh(0.5 * (centre + q))
        if len(answers) > 1:
            levels = np.tensordot(share, np.array([a.levels for a in answers]), 1)
            W = np.tensordot(share, np.array([a.W for a in answers]), 1)
            self.offer(self.recovered(replace(answers[-1], levels=levels, W=W)))

    # --- bounds --------------------------------------------------------------------------

    def trade(self, r: Relaxed) -> tuple[FloatArray, FloatArray]:
        """|E - P| of all points, and as much as (10) allows on the whole, (T, N) each."""
        d, s = r.data, r.answer
        T, N = r.answer.E.shape
        at = np.repeat(np.arange(d.x.size * N), np.diff(d.point))
        t = np.repeat(np.arange(T), np.diff(d.corner))[at // N]
        used = np.bincount(t * N + at % N, np.abs(d.y - d.x[at // N]) * s.v, T * N).astype(float)
        return used.reshape(T, N), 0.5 * s.s[..., :2].sum(axis=2)

    def next_toll(self, toll: FloatArray, r: Relaxed, aim: float, length: float) -> FloatArray:
        """Tolls after a subgradient step towards a bound."""
        used, room = self.trade(r)
        slope = np.where((toll <= 0) & (used < room), 0.0, used - room)
        step = length * max(aim - r.bound.value, 0.0) / max(float((slope**2).sum()), 1e-12)
        return np.asarray(np.maximum(toll + step * slope, 0.0))

    def relax(
        self, day: BoolArray, real: BoolArray, blocks: set[int], share: float = 0.15,
        middle: Middle | None = None,
    ) -> Relaxed:  # fmt: skip
        """The relaxation of a node; tolls are no cost."""
        r = super().relax(day, real, blocks, share, middle)
        if not self.steps.toll.any():
            return r
        a, tolls = r.answer, (self.steps.toll * self.trade(r)[0]).sum(axis=1)
        a = replace(a, paid=a.paid - tolls, objective=a.objective - float(tolls.sum()))
        return replace(r, answer=a, gaps=r.gaps + tolls)

    def root(self, c: Candidate) -> Node:
        """All steps; tolls are first the multipliers of (10) with the steps of a plan."""
        answer, _ = self.program(*self.of_plan(c), set(), 0.1, middle=self.last)
        toll = np.maximum(answer.multipliers[0][..., :2].sum(axis=2), 0.0)
        return Node(-np.inf, 0, self.steps.day, self.steps.real, toll, None)

    def tighten(self, node: Node, times: int) -> tuple[Node, Relaxed]:
        """A node with a better bound: tolls that bring it up, and fewer steps."""
        length, toll, best = 1.0, node.toll, None
        for _ in range(times):
            toll = toll * (node.day.sum(axis=1) > 1)[:, None]  # one step cannot be mixed
            self.steps = self.steps._replace(toll=toll)
            r = self.relax(node.day, node.real, set(range(toll.shape[0])), middle=node.middle)
            if best is None or r.bound.value > node.bound:
                best, node = r, node._replace(bound=max(r.bound.value, node.bound), toll=toll)
            else:
                length *= 0.7
            day = node.day & (r.bound.day < self.cutoff)
            real = node.real & (r.bound.real < self.cutoff)
            if not (day.any(axis=1).all() and real.any(axis=2).all()):
                node = node._replace(bound=max(node.bound, self.cutoff))
            if node.bound >= self.cutoff or self.late:
                break
            node = node._replace(day=day, real=real, middle=r.answer.middle)
            toll = self.next_toll(toll, r, self.cutoff + 0.5 * self.target, length)
        assert best is not None
        return node, best

    def explore(self, ends: bool) -> None:
        """Branch and bound at the weights; `ends` where a plan shows that they miss the goal."""
        if self.best is None:
            return
        heap, made, closed, first = [self.root(self.best[0])], 0, np.inf, np.inf
        proven = self.proven_usd / self.units.usd
        while heap:
            self.lower = max(self.lower, min(closed, heap[0].bound))
            missed = ends and self.upper < self.goal
            if self.lower >= self.cutoff or self.nodes >= NODES or missed or self.late:
                break
            if self.nodes == 1:
                first = self.lower
            elif self.nodes >= TRIED:
                hoped = first + (self.lower - first) * np.sqrt(NODES / self.nodes)
                if hoped < proven:
                    break  # at such a pace other weights have proven more
            self.nodes += 1
            try:
                node, r = self.tighten(heap[0], TOLLS if made else 3 * TOLLS)
            except SolverError:  # lost its digits: this part stays as it is
                closed = min(closed, heapq.heappop(heap).bound)
                continue
            heapq.heappop(heap)
            closed = min(closed, self.cutoff)  # of the steps dropped, and of it where it is closed
            self.note("relaxation with tolls", node.bound, r.data.block.sum())
            if node.bound >= self.cutoff:
                continue
            if r.answer.objective + r.gaps.sum() < self.upper - 0.05 * self.target:
                self.polish(r.answer.P, r.answer.E, node.bound)
            parts = self.parts(r, node)
            if not parts:
                closed = min(closed, node.bound)
            for day, real in parts:
                made += 1
                heapq.heappush(heap, node._replace(order=made, day=day, real=real))
        rest = heap[0].bound if heap else np.inf
        self.lower = max(self.lower, min(closed, rest, self.upper))

    def parts(self, r: Relaxed, node: Node) -> list[tuple[BoolArray, BoolArray]]:
        """Two parts of a node: by the day-ahead step with the largest gap, else by any step."""
        several = np.flatnonzero(node.day.sum(axis=1) > 1)
        if not several.size:
            return self.branch(r, node.day, node.real)
        t = several[np.argmax(r.gaps[several])]
        at = middle_step(self.day_weights(r, t), node.day[t])
        if at is None:
            at = middle_step(node.day[t], node.day[t])
        return [(half, node.real) for half in halves(node.day, (t,), at)]

    def _run(self) -> None:
        super()._run()  # all samples alike: the expected cost
        self.prove()
        near, last = LIGHTEST
        first = near if near > 1 - self.problem.risk_weight else last
        for turn, share in enumerate([first] + ROUNDS * [last]):
            if self.closed or self.best is None:
                break
            known = len(self.costs)
            self.mix(self.best[0] if self.lightest is None else self.lightest)
            if len(self.costs) == known and (turn > 1 or first == last):
                break  # no better weights are known
            self.weigh(self.worst(self.costs)[1], share)
            self.explore(ends=share == last)
            self.prove()
        self.lower = self.proven_usd / self.units.usd
