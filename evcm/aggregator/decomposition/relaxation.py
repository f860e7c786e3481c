"""Lower bounds: the vehicle LP with a convex hull for the periods where real-time trade matters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from evcm.aggregator.market import Steps, cheapest, choose_steps, cost_by_period
from evcm.aggregator.vehicle_lp import VehicleLP
from evcm.arrays import FloatArray, IntArray
from evcm.highs import LP, Answer


@dataclass(frozen=True, eq=False)
class Solution:
    """A solution of the vehicle LP, its cost at the true prices, and its turnover."""

    z: FloatArray
    cost_usd: float
    turnover_usd: float


def priced(lp: VehicleLP, z: FloatArray) -> Solution:
    """A solution of the vehicle LP at the true prices."""
    m = lp.entries
    day_ahead, real_time = cost_by_period(lp.problem, lp.steps, lp.power(z), lp.traded(z))
    parts = float(day_ahead.sum()), float(real_time.sum()), float(lp.cost[m : 2 * m] @ z[m : 2 * m])
    return Solution(z, sum(parts), max(1.0, sum(map(abs, parts))))


class FixedSteps:
    """The vehicle LP with P and E of every period and sample held within one step each."""

    def __init__(self, lp: VehicleLP, start: LP) -> None:
        self.lp = lp
        self.solver = LP(lp.matrix, lp.cost, lp.low, lp.high, lp.row_low, lp.row_high)
        pieces = np.arange(lp.first_piece, lp.matrix.shape[1])
        self.solver.costs(pieces, np.zeros(pieces.size))
        self.solver.copy_basis(start)

    def improve(
        self, start: Solution, hopeful_usd: float, time_limit_s: float = np.inf
    ) -> Solution:
        """Best solution found from `start` on: fix its steps, solve, repeat.

        Repeats only while the cost is below `hopeful_usd`.
        """
        best, lp = start, self.lp
        for _ in range(2):
            a, b = choose_steps(lp.problem, lp.steps, lp.power(best.z), lp.traded(best.z))
            answer = self._solve(a, b, time_limit_s)
            if answer.status != "optimal":
                break
            found = priced(lp, answer.column)
            gain = best.cost_usd - found.cost_usd
            best = found if gain > 0 else best
            # Other steps at the edges are worth another round only if this one was.
            little = 1e-5 * best.turnover_usd
            waste = answer.value - found.cost_usd
            if gain < little or waste < little or best.cost_usd > hopeful_usd:
                break
        return best

    def _solve(self, a: IntArray, b: IntArray, time_limit_s: float) -> Answer:
        """Best solution with day-ahead steps a (T,) and real-time steps b (T, N)."""
        self._fix(a, b)
        return self.solver.solve("simplex", time_limit_s)

    def _fix(self, a: IntArray, b: IntArray) -> None:
        lp, steps = self.lp, self.lp.steps
        T, N = lp.problem.periods, lp.problem.samples
        t, n = np.arange(T), np.arange(N)
        self.solver.bounds(
            np.arange(lp.first_p, lp.first_piece),
            steps.day_ahead_low[t, a], steps.day_ahead_high[t, a],
        )  # fmt: skip
        at = t[:, None], n, b
        self.solver.bounds(
            np.arange(lp.first_e, lp.first_p),
            steps.real_time_low[at].ravel(), steps.real_time_high[at].ravel(),
        )  # fmt: skip
        price = steps.price_usd_per_mw
        extra = (price[b] - price[a][:, None]) * lp.problem.probability
        self.solver.costs(np.arange(lp.first_e, lp.first_p), extra.ravel())
        self.solver.costs(np.arange(lp.first_p, lp.first_piece), price[a] - extra.sum(axis=1))


@dataclass(frozen=True, eq=False)
class Bound:
    """A safe lower bound, and what each step would cost instead.

    `day_ahead` (T, S) and `real_time` (T, N, S) are lower bounds with one step enforced.
    """

    value: float
    day_ahead: FloatArray
    real_time: FloatArray


def safe_bound(lp: VehicleLP, row_dual: FloatArray, steps: Steps) -> Bound:
    """Lagrangian bound from any row duals of the vehicle LP.

    Every row is moved into the objective with its dual (wrong signs are cut to zero), the cars'
    columns go to the bound that their reduced cost asks for, and the market of each period is
    minimised exactly, steps and real-time cost included. No tolerance of a solver enters.
    """
    y = np.asarray(row_dual[: lp.market_rows])
    low, high = lp.row_low[: lp.market_rows], lp.row_high[: lp.market_rows]
    y = np.where((y > 0) & np.isinf(low), 0.0, np.where((y < 0) & np.isinf(high), 0.0, y))
    rows = y @ np.where(y > 0, low, np.where(y < 0, high, 0.0))
    reduced = lp.cost[: lp.first_piece] - lp.transposed @ y
    cars = reduced[: lp.first_e]
    value = rows + cars @ np.where(cars > 0, lp.low[: lp.first_e], lp.high[: lp.first_e])
    by_a, by_b = cheapest(
        lp.problem.probability, steps, lp.power(reduced), lp.traded(reduced)
    )  # fmt: skip
    least = by_a.min(axis=1)
    # Rounding in sums of about 1e5 terms of a few dollars.
    total = float(value + least.sum()) - 1e-9 * (1.0 + abs(float(rows)))
    rest = total - least
    return Bound(total, by_a + rest[:, None], by_b + rest[:, None, None])


@dataclass(frozen=True, eq=False)
class _Block:
    """Columns of one period's convex hull, and the steps that each stands for."""

    step: IntArray
    pair: IntArray
    first: int
    cost: FloatArray

    @property
    def z(self) -> IntArray:
        """Indicator columns of the day-ahead steps."""
        return self.first + np.arange(self.step.size)

    @property
    def pair_z(self) -> IntArray:
        """Indicator columns of (sample, day-ahead step, real-time step)."""
        return self.first + 2 * self.step.size + np.arange(len(self.pair))


class Relaxation:
    """The LP of all nodes: one HiGHS object; only bounds, costs and blocks change."""

    def __init__(self, lp: VehicleLP) -> None:
        self.lp = lp
        self.solver = LP(lp.matrix, lp.cost, lp.low, lp.high, lp.row_low, lp.row_high)
        self.blocks: dict[int, _Block] = {}

    def restrict(self, steps: Steps) -> None:
        """Allow only these steps."""
        lp = self.lp
        low, high = steps.range_of_day_ahead()
        self.solver.bounds(np.arange(lp.first_p, lp.first_piece), low, high)
        low, high = steps.range_of_real_time()
        self.solver.bounds(np.arange(lp.first_e, lp.first_p), low.ravel(), high.ravel())
        for t, block in self.blocks.items():
            a_ok = steps.day_ahead[t, block.step]
            n, a, b = block.pair.T
            pair_ok = steps.day_ahead[t, a] & steps.real_time[t, n, b]
            self.solver.bounds(block.z, np.zeros(a_ok.size), a_ok.astype(float))
            self.solver.bounds(block.pair_z, np.zeros(n.size), pair_ok.astype(float))

    def add_block(self, t: int, steps: Steps) -> None:
        """Replace the envelope of period `t` by the hull of day-ahead and real-time steps.

        z_a chooses the day-ahead step, z_nab the real-time step b of sample n with it. p' and y'
        are the powers above the lower ends of their steps; p_a splits over b for each sample, and
        E_n over a and b. The cost is that of the module `_market`, linear in these columns.
        """
        lp, N = self.lp, self.lp.problem.samples
        price, probability = steps.price_usd_per_mw, lp.problem.probability
        A = np.flatnonzero(steps.day_ahead[t])
        pair = np.array([
            (n, a, b)
            for n in range(N) for a in A for b in np.flatnonzero(steps.real_time[t, n])
        ])  # fmt: skip
        n, a, b = pair.T
        a_low, a_high = steps.day_ahead_low[t], steps.day_ahead_high[t]
        b_low, b_high = steps.real_time_low[t, n, b], steps.real_time_high[t, n, b]
        more = probability[n] * (price[b] - price[a])
        cost = np.concatenate([
            price[A] * a_low[A], price[A], more * (b_low - a_low[a]), -more, more
        ])  # fmt: skip
        k, m = A.size, len(pair)
        high = np.concatenate([
            np.ones(k), a_high[A] - a_low[A], np.ones(m), (a_high - a_low)[a], b_high - b_low
        ])  # fmt: skip
        first = self.solver.add_columns(cost, np.zeros(2 * k + 3 * m), high)
        self.blocks[t] = _Block(A, pair, first, cost)
        z, p = first + np.arange(k), first + k + np.arange(k)
        zz, pp, yy = (first + 2 * k + i * m + np.arange(m) for i in range(3))
        which = np.searchsorted(A, a)
        row: list[IntArray] = []
        column: list[IntArray] = []
        value: list[FloatArray] = []

        def add(r: ArrayLike, c: ArrayLike, v: ArrayLike) -> None:
            i, j, x = np.broadcast_arrays(r, c, np.asarray(v, float))
            row.append(i.ravel())
            column.append(j.ravel())
            value.append(x.ravel())

        add(0, z, 1.0)
        add(1, z, a_low[A])
        add(1, p, 1.0)
        add(1, lp.first_p + t, -1.0)
        at = 2
        add(at + n, zz, b_low)
        add(at + n, yy, 1.0)
        add(at + np.arange(N), lp.first_e + t * N + np.arange(N), -1.0)
        at += N
        for whole, part in ((z, zz), (p, pp)):
            add(at + n * k + which, part, 1.0)
            add(at + np.arange(N * k), whole[np.arange(N * k) % k], -1.0)
            at += N * k
        equal = at
        add(at + np.arange(m), pp, 1.0)
        add(at + np.arange(m), zz, -(a_high - a_low)[a])
        at += m
        add(at + np.arange(m), yy, 1.0)
        add(at + np.arange(m), zz, -(b_high - b_low))
        at += m
        matrix: sparse.csr_matrix = sparse.csr_matrix(
            (np.concatenate(value), (np.concatenate(row), np.concatenate(column))),
            shape=(at, self.solver.columns),
        )
        low = np.r_[1.0, np.zeros(equal - 1), np.full(2 * m, -np.inf)]
        self.solver.add_rows(matrix, low, np.r_[1.0, np.zeros(at - 1)])
        pieces = lp.first_piece + np.flatnonzero(lp.piece_period == t)
        self.solver.costs(pieces, np.zeros(pieces.size))

    def cost_by_period(self, z: FloatArray) -> FloatArray:
        """What the relaxation thinks that each period's trade costs (T,)."""
        lp = self.lp
        T = lp.problem.periods
        pieces = slice(lp.first_piece, lp.first_piece + lp.piece_period.size)
        found = np.bincount(lp.piece_period, lp.cost[pieces] * z[pieces], T) + lp.start_cost
        for t, block in self.blocks.items():
            found[t] = block.cost @ z[block.first : block.first + block.cost.size]
        return found

    def solve(self, solver: str, time_limit_s: float = np.inf) -> Answer:
        """Solve with the current steps."""
        return self.solver.solve(solver, time_limit_s)
