"""The aggregator's market, period by period: reachable price steps, true cost, cheapest steps.

In one period the market sees the day-ahead power P and the power E_n = P + d_n of every sample.
With P in step a and E_n in step b_n of the price curve, and because the real-time trade has mean
zero, the period costs

    λ_a P + Σ_n π_n (λ_{b_n} - λ_a)(E_n - P).

The second term is never negative: E_n > P puts E_n in the same or a higher step than P, E_n < P in
the same or a lower one, and prices do not decrease. So real-time trade can only add to the cost of
the day-ahead energy, and leaving it out gives a lower bound.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evcm import compiled as nb
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray, IntArray

EDGE_TOLERANCE_MW = 1e-6
"""How close to an edge of the price curve a load counts as on it (as in the true cost)."""


@dataclass(frozen=True, eq=False)
class Steps:
    """Steps of the price curve that each period can reach, and the power within each.

    Attributes
    ----------
    price_usd_per_mw : (S,)
        Price of one MW over one period. Neighbouring steps of equal price are one step.
    edge_mw : (S - 1,)
        Loads at which the price changes.
    day_ahead_low, day_ahead_high : (T, S)
        Range of P in each step; empty (low > high) where the step cannot be reached.
    real_time_low, real_time_high : (T, N, S)
        The same for E of each sample.
    day_ahead, real_time : (T, S), (T, N, S) bool
        Steps still allowed. Branching and fixing only ever shrink these masks.
    """

    price_usd_per_mw: FloatArray
    edge_mw: FloatArray
    day_ahead_low: FloatArray
    day_ahead_high: FloatArray
    real_time_low: FloatArray
    real_time_high: FloatArray
    day_ahead: BoolArray
    real_time: BoolArray

    def restricted(self, day_ahead: BoolArray, real_time: BoolArray) -> Steps:
        """The same market with fewer steps allowed."""
        return replace(self, day_ahead=day_ahead, real_time=real_time)

    @property
    def open(self) -> bool:
        """Whether every period and sample still has a step."""
        return bool(self.day_ahead.any(axis=1).all() and self.real_time.any(axis=2).all())

    def range_of_day_ahead(self) -> tuple[FloatArray, FloatArray]:
        """Hull of the allowed steps of P, (T,) each."""
        low = np.where(self.day_ahead, self.day_ahead_low, np.inf).min(axis=1)
        high = np.where(self.day_ahead, self.day_ahead_high, -np.inf).max(axis=1)
        return low, high

    def range_of_real_time(self) -> tuple[FloatArray, FloatArray]:
        """Hull of the allowed steps of E, (T, N) each."""
        low = np.where(self.real_time, self.real_time_low, np.inf).min(axis=2)
        high = np.where(self.real_time, self.real_time_high, -np.inf).max(axis=2)
        return low, high


def find_steps(
    problem: AggregatorProblem,
    day_ahead: tuple[FloatArray, FloatArray],
    real_time: tuple[FloatArray, FloatArray],
) -> Steps:
    """Steps within reach, given the range of P (T,) and of E (T, N)."""
    price, edge = problem.price_steps.price_usd_per_kwh, problem.step_edge_mw
    differs = np.diff(price) > 0  # the last price goes on above the last edge
    edge = edge[differs]
    price = price[np.r_[True, differs]] * 1000.0 * problem.period_h
    low = np.r_[-np.inf, edge] - problem.system_load_mw[:, None]
    high = np.r_[edge, np.inf] - problem.system_load_mw[:, None]
    a_low, a_high = np.maximum(low, day_ahead[0][:, None]), np.minimum(high, day_ahead[1][:, None])
    b_low = np.maximum(low[:, None], real_time[0][..., None])
    b_high = np.minimum(high[:, None], real_time[1][..., None])
    return Steps(price, edge, a_low, a_high, b_low, b_high, a_low <= a_high, b_low <= b_high)


def choose_steps(
    problem: AggregatorProblem, steps: Steps, power: FloatArray, traded: FloatArray
) -> tuple[IntArray, IntArray]:
    """Steps in which P (T,) and E (T, N) lie; at an edge, the one that costs less.

    A buyer takes the lower price, a seller the higher; E prefers the step of P.
    """
    tolerance = 10 * EDGE_TOLERANCE_MW

    def neighbours(load: FloatArray) -> tuple[IntArray, IntArray]:
        return (
            np.searchsorted(steps.edge_mw, load - tolerance, side="left"),
            np.searchsorted(steps.edge_mw, load + tolerance, side="left"),
        )

    low, high = neighbours(problem.system_load_mw + power)
    a = np.where(power >= 0, low, high)
    low, high = neighbours(problem.system_load_mw[:, None] + traded)
    b = np.where(traded > power[:, None], low, high)
    return a, np.where((low <= a[:, None]) & (a[:, None] <= high), a[:, None], b)


def cost_by_period(
    problem: AggregatorProblem, steps: Steps, power: FloatArray, traded: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """True cost of day-ahead and of real-time trade in each period (T,), USD."""
    a, b = choose_steps(problem, steps, power, traded)
    price_a, price_b = steps.price_usd_per_mw[a], steps.price_usd_per_mw[b]
    extra = (price_b - price_a[:, None]) * (traded - power[:, None])
    return price_a * power, np.asarray(extra @ problem.probability)


def lower_envelope(steps: Steps, t: int) -> FloatArray:
    """Convex envelope of λ(Psys + P) P over the allowed steps of period `t`: points (K, 2)."""
    points: list[tuple[float, float]] = []
    for a in np.flatnonzero(steps.day_ahead[t]):
        for p in (steps.day_ahead_low[t, a], steps.day_ahead_high[t, a]):
            points.append((float(p), float(steps.price_usd_per_mw[a] * p)))
    hull: list[tuple[float, float]] = []
    for p, c in sorted(points):
        if hull and p - hull[-1][0] < 1e-12:
            continue
        while len(hull) > 1 and (hull[-1][1] - hull[-2][1]) * (p - hull[-2][0]) >= (
            c - hull[-2][1]
        ) * (hull[-1][0] - hull[-2][0]):
            hull.pop()
        hull.append((p, c))
    return np.array(hull)


@nb.njit(cache=True)
def least_by_step(  # type: ignore[no-untyped-def]  # pragma: no cover
    price, probability, a_low, a_high, b_low, b_high, a_ok, b_ok, q, r, value_a, value_b
):
    """Kernel of `cheapest`; `price` is (T, S), by period and step."""
    T, S = a_low.shape
    N = r.shape[1]
    best = np.empty(N)
    for t in range(T):
        for a in range(S):
            value_a[t, a] = np.inf
            for n in range(N):
                value_b[t, n, a] = np.inf
        for a in range(S):
            if not a_ok[t, a]:
                continue
            for side in range(2):
                p = a_low[t, a] if side == 0 else a_high[t, a]
                total = (price[t, a] + q[t]) * p
                for n in range(N):
                    best[n] = np.inf
                    for b in range(S):
                        if b_ok[t, n, b]:
                            up = probability[n] * (price[t, b] - price[t, a])
                            c = up + r[t, n]
                            v = min(c * b_low[t, n, b], c * b_high[t, n, b]) - up * p
                            best[n] = min(best[n], v)
                    total += best[n]
                value_a[t, a] = min(value_a[t, a], total)
                for n in range(N):
                    for b in range(S):
                        if b_ok[t, n, b]:
                            up = probability[n] * (price[t, b] - price[t, a])
                            c = up + r[t, n]
                            v = min(c * b_low[t, n, b], c * b_high[t, n, b]) - up * p
                            value_b[t, n, b] = min(value_b[t, n, b], total - best[n] + v)


def cheapest(
    probability: FloatArray, steps: Steps, q: FloatArray, r: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Least of cost + q P + Σ_n r_n E_n in each period, with each step enforced in turn.

    The exact minimum over steps and powers: with the steps given, the expression is linear in every
    E_n, and after minimising over E_n it is concave in P, so the ends of the ranges suffice.

    Parameters
    ----------
    q, r : (T,), (T, N)
        Prices of P and E from the rest of the problem (USD per MW).

    Returns
    -------
    (T, S), (T, N, S)
        Minimum with P in step a; with E_n in step b. Infinite where not allowed.
    """
    value_a, value_b = np.empty(steps.day_ahead.shape), np.empty(steps.real_time.shape)
    price = np.tile(steps.price_usd_per_mw, (steps.day_ahead.shape[0], 1))
    least_by_step(
        price, probability, steps.day_ahead_low, steps.day_ahead_high,
        steps.real_time_low, steps.real_time_high, steps.day_ahead, steps.real_time,
        q, r, value_a, value_b,
    )  # fmt: skip
    return value_a, value_b
