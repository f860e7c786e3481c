"""Upper bounds: with every price step fixed, the problem is one LP whose optimum is a plan."""

from __future__ import annotations

import numpy as np

from evcm.aggregator._highs import LP
from evcm.aggregator._market import Steps, choose_steps, cost_by_period
from evcm.aggregator._vehicle_lp import VehicleLP
from evcm.inputs import FloatArray


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
        self, z: FloatArray, time_limit_s: float = np.inf, rounds: int = 3
    ) -> tuple[FloatArray, float]:
        """Best solution found from `z` on, and its true cost: fix its steps, solve, repeat."""
        best, best_cost = z, true_cost(self.lp, z)
        for _ in range(rounds):
            self._fix(best)
            answer = self.solver.solve("simplex", time_limit_s)
            if answer.status != "optimal":
                break
            cost = true_cost(self.lp, answer.column)
            gain = best_cost - cost
            if gain > 0:
                best, best_cost = answer.column, cost
            # A new choice of steps at the edges is worth another round only if it was worth
            # something now.
            if gain < 1e-4 * abs(best_cost) or answer.value - cost < 1e-4 * abs(best_cost):
                break
        return best, best_cost

    def _fix(self, z: FloatArray) -> None:
        lp, steps = self.lp, self.lp.steps
        T, N = lp.problem.periods, lp.problem.samples
        a, b = choose_steps(lp.problem, steps, lp.power(z), lp.traded(z))
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
