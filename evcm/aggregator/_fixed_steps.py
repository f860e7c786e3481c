"""Upper bounds: with every price step fixed, the problem is one LP whose optimum is a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evcm.aggregator._highs import LP, Answer
from evcm.aggregator._market import choose_steps, cost_by_period
from evcm.aggregator._vehicle_lp import VehicleLP
from evcm.inputs import FloatArray, IntArray


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
