"""Upper bounds: with every price step fixed, the problem is one LP whose optimum is a plan."""

from __future__ import annotations

import numpy as np

from evcm.aggregator._highs import LP
from evcm.aggregator._market import choose_steps, cost_by_period
from evcm.aggregator._vehicle_lp import VehicleLP
from evcm.inputs import FloatArray, IntArray


def true_cost(lp: VehicleLP, z: FloatArray) -> float:
    """Cost of a solution of the vehicle LP at the true prices."""
    m = lp.entries
    trade = cost_by_period(lp.problem, lp.steps, lp.power(z), lp.traded(z))
    return float(trade.sum() + lp.cost[m : 2 * m] @ z[m : 2 * m])


class FixedSteps:
    """The vehicle LP with P and E of every period and sample held within one step each."""

    def __init__(self, lp: VehicleLP, start: LP) -> None:
        self.lp = lp
        self.solver = LP(lp.matrix, lp.cost, lp.low, lp.high, lp.row_low, lp.row_high)
        pieces = np.arange(lp.first_piece, lp.matrix.shape[1])
        self.solver.costs(pieces, np.zeros(pieces.size))
        self.solver.copy_basis(start)

    def improve(
        self, z: FloatArray, hopeful_usd: float, time_limit_s: float = np.inf
    ) -> tuple[FloatArray, float]:
        """Best solution found from `z` on, and its true cost: fix its steps, solve, repeat.

        Repeats only while the cost is below `hopeful_usd`.
        """
        best, best_cost = z, true_cost(self.lp, z)
        for _ in range(3):
            a, b = choose_steps(
                self.lp.problem, self.lp.steps, self.lp.power(best), self.lp.traded(best)
            )
            z, cost, stated = self.solve(a, b, time_limit_s)
            gain = best_cost - cost
            if gain > 0:
                best, best_cost = z, cost
            # A new choice of steps at the edges is worth another round only if it was worth
            # something now.
            little = 1e-4 * abs(best_cost)
            if gain < little or stated - cost < little or best_cost > hopeful_usd:
                break
        return best, best_cost

    def solve(
        self, a: IntArray, b: IntArray, time_limit_s: float = np.inf
    ) -> tuple[FloatArray, float, float]:
        """Best solution with day-ahead steps a (T,) and real-time steps b (T, N).

        Returns it, its true cost, and its cost with these steps (higher where a power ends on an
        edge and the other step is cheaper). Infinite where there is none.
        """
        self._fix(a, b)
        answer = self.solver.solve("simplex", time_limit_s)
        if answer.status != "optimal":
            return np.zeros(0), np.inf, np.inf
        return answer.column, true_cost(self.lp, answer.column), answer.value

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
