"""The market of the linear programs: reachable steps, convex hulls, true cost, exact Lagrangian.

In one period the market sees the day-ahead power P and the cars' power E_n of every sample. With P
in step a and E_n in step b_n, and because real-time trade has mean zero, the period costs

    λ_a P + Σ_n π_n (λ_{b_n} - λ_a)(E_n - P),

and the second term is never negative where prices do not decrease with load. Without it, the cost
is a function of P alone: its convex envelope is spanned by *corners*, the ends of the steps. In a
period with a *block*, each corner (a, x) carries for every sample the convex hull of the points
(y, π_n (λ_b - λ_a)(y - x)) at the ends y of its steps b: together the convex hull of all choices.

Costs of samples may count by other weights ρ than their probabilities, as under a risk measure
(`risk`). With the *tilt* ρ - π, real-time trade costs Σ_n ρ_n λ_{b_n} d_n, so that

    λ_a P + Σ_n [π_n (λ_{b_n} - λ_a) + (ρ_n - π_n) λ_{b_n}] (E_n - P).

Only blocks take that, or periods whose steps are all fixed.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np

from evcm import compiled as nb
from evcm.aggregator.interior import cars
from evcm.aggregator.interior.cars import Segments, Units
from evcm.aggregator.interior.chains import JIT
from evcm.aggregator.interior.newton import MarketData, Rows
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import reachable_steps
from evcm.arrays import BoolArray, FloatArray, IntArray

EDGE_MW = 1e-6
"""How close to an edge of the price curve a load counts as on it (as in the true cost)."""

TIGHT = 1e-8
"""Half the width that a range without interior is given (units of power)."""


class Steps(NamedTuple):
    """Steps that each period can reach, at most S of them, in units.

    `price` (T, S); ranges of P (T, S) and of E (T, N, S) in each step; `day` and `real` mask the
    steps that are open: branching and fixing only ever close them. `tilt` (N,) is by how much
    costs of a sample weigh more than its probability; it sums to zero. `toll` (T, N) is a price of
    |E - P| in blocks, taken back by what (10) lets cars trade.
    """

    price: FloatArray
    day_low: FloatArray
    day_high: FloatArray
    real_low: FloatArray
    real_high: FloatArray
    day: BoolArray
    real: BoolArray
    tilt: FloatArray
    toll: FloatArray

    def only(self, day: BoolArray, real: BoolArray) -> Steps:
        """The same market with fewer steps open."""
        return self._replace(day=day, real=real)

    @property
    def open(self) -> bool:
        """Whether every period and sample has a step left."""
        return bool(self.day.any(axis=1).all() and self.real.any(axis=2).all())


def find_steps(problem: AggregatorProblem, units: Units) -> Steps:
    """Steps within reach, in units; where a period has fewer than others, the rest hold nothing."""
    c = reachable_steps(problem)
    near = c.day_ahead | c.real_time.any(axis=1)
    at = np.argsort(~near, axis=1, kind="stable")[:, : int(near.sum(axis=1).max(initial=1))]

    def kept(array: Any) -> Any:
        return np.take_along_axis(array, at if array.ndim == 2 else at[:, None], -1)

    day, real = kept(c.day_ahead), kept(c.real_time)
    scale, none = 1000.0 * problem.period_h * units.mw / units.usd, np.zeros(real.shape[:2])
    return Steps(
        kept(problem.step_price_usd_per_kwh) * scale,
        np.where(day, kept(c.day_ahead_low_mw) / units.mw, 1.0),
        np.where(day, kept(c.day_ahead_high_mw) / units.mw, -1.0),
        np.where(real, kept(c.real_time_low_mw) / units.mw, 1.0),
        np.where(real, kept(c.real_time_high_mw) / units.mw, -1.0),
        day, real, np.zeros(problem.samples), none,
    )  # fmt: skip


def make_rows(problem: AggregatorProblem, units: Units) -> Rows:
    """Coefficients and limits of the market's rows, in units."""
    k, families = problem.figures, cars.find_families(problem)
    (count, _, D), K = families.adds.shape, families.charge.size
    h, more = families.charge * families.discharge, 1 + families.charge
    v2g, table = problem.real_time_limit == "v2g", np.zeros((3 + K, D + K + 1))
    table[[0, 1, -1], 0] = 1.0, -1.0, 1.0  # of A, or of A - B
    if v2g or count == 1:
        table[[0, 1, -1], 1] = (-2.0, 0.0, -1.0) if v2g else (-1.0, 1.0, -1.0)
    table[2:-1, :D] = np.eye(K, D, D - K) if count > 1 else (1.0, 1.0 / families.discharge[0])
    table[:2, D:-1] = (1 - 2 * h, -np.ones(K)) if v2g else (1 - h, h - 1)
    table[:2, -1] = -1.0, 1.0
    table[2:-1, D:-1] = np.diag(more)
    table[-1, D:-1] = 1 - h
    power = problem.group_size * k.power_kw / 1000.0 / units.mw
    own = [problem.sum_plugged(power * (families.of == family)) for family in range(K)]
    plugs = np.stack(own, axis=2)
    limit = np.zeros((*plugs.shape[:2], 3 + K))
    if not v2g:
        limit[..., :2] = problem.plugged_mw[..., None] / units.mw
    limit[..., 2:-1] = plugs * (1 + 1e-9) + TIGHT
    w_max = plugs * bool(k.feeds_in.any()) / more + TIGHT
    return Rows(table, limit, w_max, problem.probability)


@nb.njit(**JIT)
def _hull(
    x: float, price_a: float, weight: float, tilt: float, toll: float, price: FloatArray,
    low: FloatArray, high: FloatArray, is_open: BoolArray, ys: FloatArray, fs: FloatArray,
    steps: IntArray, own: int,
) -> int:  # fmt: skip
    """Lower hull of (weight (λ_b - λ_a) + tilt λ_b)(y - x) + toll |y - x| over ends of open steps.

    Fills ends, their values and their steps, next to `own` in a tie, from the start of arrays;
    returns their number.
    """
    n = 0
    for b in range(price.size):
        if not is_open[b]:
            continue
        for y in (low[b], high[b]):
            f = (weight * (price[b] - price_a) + tilt * price[b]) * (y - x) + toll * abs(y - x)
            if n > 0 and y <= ys[n - 1] + 1e-12:
                tie = f == fs[n - 1] and abs(b - own) < abs(steps[n - 1] - own)
                if f >= fs[n - 1] and not tie:
                    continue
                n -= 1
            while n > 1 and (fs[n - 1] - fs[n - 2]) * (y - ys[n - 2]) >= (f - fs[n - 2]) * (
                ys[n - 1] - ys[n - 2]
            ):
                n -= 1
            ys[n], fs[n], steps[n] = y, f, b
            n += 1
    return n


@nb.njit(**JIT)
def _corners(
    steps: Steps, probability: FloatArray, block: BoolArray, corner: IntArray, x: FloatArray,
    cost: FloatArray, day: IntArray, point: IntArray, y: FloatArray, f: FloatArray, real: IntArray,
) -> tuple[int, int]:  # fmt: skip
    """Fill corners and points of all periods; returns their numbers."""
    T, N, S = steps.real.shape
    c, k = 0, 0
    for t in range(T):
        corner[t] = c
        price, low, high = steps.price[t], steps.day_low[t], steps.day_high[t]
        if not block[t]:
            c += _hull(
                0.0, 0.0, 1.0, 0.0, 0.0, price, low, high, steps.day[t], x[c:], cost[c:], day[c:],
                S,
            )  # fmt: skip
            point[corner[t] * N : c * N] = k
            continue
        for a in range(S):
            if not steps.day[t, a]:
                continue
            for side in range(2 if high[a] - low[a] > 1e-9 else 1):
                x[c], day[c] = low[a] if side == 0 else high[a], a
                cost[c] = price[a] * x[c]
                for n in range(N):
                    point[c * N + n] = k
                    k += _hull(
                        x[c], price[a], probability[n], steps.tilt[n], steps.toll[t, n], price,
                        steps.real_low[t, n], steps.real_high[t, n], steps.real[t, n],
                        y[k:], f[k:], real[k:], a,
                    )  # fmt: skip
                c += 1
    corner[T] = c
    point[c * N] = k
    return c, k


def market_data(steps: Steps, probability: FloatArray, blocks: Collection[int]) -> MarketData:
    """Corners and points of the open steps, blocks in some periods.

    Ranges without an interior are widened by `TIGHT`.
    """
    T, N, S = steps.real.shape
    block = np.zeros(T, bool)
    block[list(blocks)] = True
    most = int(2 * steps.day.sum()) + 1
    room = int(block.sum()) * 4 * S * S * N + 1
    corner, point = np.zeros(T + 1, np.int64), np.zeros(most * N + 1, np.int64)
    (x, cost), (y, f) = np.empty((2, most)), np.empty((2, room))
    day, real = np.empty(most, np.int64), np.empty(room, np.int64)
    c, k = _corners(steps, probability, block, corner, x, cost, day, point, y, f, real)
    # With all steps fixed, real-time trade has a linear cost, outside of blocks too.
    fixed = ~block & (steps.day.sum(axis=1) == 1) & (steps.real.sum(axis=2) == 1).all(axis=1)
    mine = (steps.price * steps.day).sum(axis=1)[:, None]
    theirs = (steps.price[:, None] * steps.real).sum(axis=2)
    e_cost = (probability * (theirs - mine) + steps.tilt * theirs) * fixed[:, None]
    cost[:c] -= np.repeat(e_cost.sum(axis=1), np.diff(corner)) * x[:c]
    low = np.where(steps.real, steps.real_low, np.inf).min(axis=2)
    high = np.where(steps.real, steps.real_high, -np.inf).max(axis=2)
    low, high = np.where(block[:, None], -1e5, low), np.where(block[:, None], 1e5, high)
    wider = TIGHT * (high - low < 2 * TIGHT)
    return MarketData(
        corner, x[:c].copy(), cost[:c].copy(), day[:c].copy(), block, point[: c * N + 1].copy(),
        y[:k].copy(), f[:k].copy(), real[:k].copy(), low - wider, high + wider, e_cost,
        0.5 * steps.toll * block[:, None],
    )  # fmt: skip


class Reading(NamedTuple):
    """Steps in which powers lie (T,), (T, N), and the true cost of each period's trade (T,)."""

    day: IntArray
    real: IntArray
    day_cost: FloatArray
    real_cost: FloatArray


def read(
    steps: Steps, probability: FloatArray, P: FloatArray, E: FloatArray, tolerance: float
) -> Reading:
    """Cheapest steps that hold P (T,) and E (T, N) within a tolerance; ties to the step of P."""
    price, each = steps.price, np.arange(P.size)
    x, fits = _holds(steps.day_low, steps.day_high, P[:, None], tolerance)
    cost = np.where(fits, price * x, np.inf)
    a = np.argmin(cost, axis=1)
    x, price_a = x[each, a][:, None, None], price[each, a][:, None, None]
    y, fits = _holds(steps.real_low, steps.real_high, E[..., None], tolerance)
    extra = np.maximum((price[:, None] - price_a) * (y - x), 0.0)
    extra = np.where(
        fits, extra + 1e-12 * np.abs(np.arange(price.shape[1]) - a[:, None, None]), np.inf
    )
    b = np.argmin(extra, axis=2)
    real = np.take_along_axis(extra, b[..., None], 2)[..., 0] @ probability
    if steps.tilt.any():
        d = np.take_along_axis(y - x, b[..., None], 2)[..., 0]
        real += (price[each[:, None], b] * d) @ steps.tilt
    return Reading(a, b, cost[each, a], real)


def _holds(
    low: FloatArray, high: FloatArray, power: FloatArray, tolerance: float
) -> tuple[FloatArray, BoolArray]:
    """Power moved into each step (..., S), and which steps hold it, or are the nearest to it."""
    there = low <= high
    x = np.clip(power, low, np.maximum(low, high))
    near = np.where(there, np.abs(x - power), np.inf)
    return x, there & (near <= np.maximum(tolerance, near.min(axis=-1, keepdims=True)))


@nb.njit(**JIT)
def least_by_step(
    steps: Steps, probability: FloatArray, q: FloatArray, r: FloatArray, limit: FloatArray,
    value_a: FloatArray, value_b: FloatArray,
) -> None:  # fmt: skip
    """Least of cost + q P + Σ_n (r_n E_n + limit_n |E_n - P|) per period, each step enforced.

    With the steps given, the least over E_n is at an end of its step or at P, so that it is concave
    in P between any ends of steps, and these suffice: without limits those of its own step. Fills
    `value_a` (T, S) for P in step a and `value_b` (T, N, S) for E_n in step b; infinite where a
    step is closed. `limit` is (T, N), or (T, 0) for none.
    """
    T, S = steps.price.shape
    N, limited = r.shape[1], limit.shape[1] > 0
    value_a[:] = np.inf
    value_b[:] = np.inf
    best, each, kinks = np.empty(N), np.empty((N, S)), np.empty(2 + 2 * N * S)
    for t in range(T):
        price = steps.price[t]
        for a in range(S):
            if not steps.day[t, a]:
                continue
            low, high = steps.day_low[t, a], steps.day_high[t, a]
            kinks[0], kinks[1] = low, high
            count = 2
            for n in range(N if limited else 0):
                for b in range(S):
                    for e in (steps.real_low[t, n, b], steps.real_high[t, n, b]):
                        if steps.real[t, n, b] and low < e < high:
                            kinks[count] = e
                            count += 1
            for k in range(count):
                x = kinks[k]
                total = (price[a] + q[t]) * x
                for n in range(N):
                    best[n] = np.inf
                    for b in range(S):
                        each[n, b] = np.inf
                        if steps.real[t, n, b]:
                            up = probability[n] * (price[b] - price[a]) + steps.tilt[n] * price[b]
                            lo, hi = steps.real_low[t, n, b], steps.real_high[t, n, b]
                            slope = up + r[t, n]
                            least = min(slope * lo, slope * hi)
                            if limited:
                                least = np.inf
                                for e in (lo, hi, min(max(x, lo), hi)):
                                    least = min(least, slope * e + limit[t, n] * abs(e - x))
                            each[n, b] = least - up * x
                            best[n] = min(best[n], each[n, b])
                    total += best[n]
                value_a[t, a] = min(value_a[t, a], total)
                for n in range(N):
                    for b in range(S):
                        value_b[t, n, b] = min(value_b[t, n, b], total - best[n] + each[n, b])


class Bound(NamedTuple):
    """Exact Lagrangian: a lower bound, and the bound with each step enforced, (T, S), (T, N, S)."""

    value: float
    day: FloatArray
    real: FloatArray


class Lagrangian:
    """Lower bounds from any multipliers: real cars, true price steps; no tolerance enters.

    `of_trade`: (10) limits |E - P|, instead of E - P and P - E apart. No bound is lower for that.
    """

    def __init__(
        self, problem: AggregatorProblem, segments: Segments, rows: Rows, units: Units,
        of_trade: bool = False,
    ) -> None:  # fmt: skip
        self.rows, self.of_trade = rows, of_trade
        wear = segments.wear * problem.probability[segments.sample] * units.mw / units.usd
        weight = segments.cars / 1000.0 / units.mw
        self.cars = segments.of_sample(problem.samples), segments, weight, wear
        families = cars.find_families(problem)
        self.adds, feeds = families.adds, problem.figures.feeds_in
        own = (
            (feeds & (families.of == family)).astype(float) for family in range(rows.w_max.shape[2])
        )
        self.feeding = np.stack([problem.sum_plugged(mine) > 0 for mine in own], axis=2)

    def _prices(self, y: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Multipliers of legal sign, and what a unit of each total, W and P costs (J, T, N)."""
        y = np.array(y)
        y[..., :-1] = np.maximum(y[..., :-1], 0.0)
        # Charging and feeding back at once must not pay where cars can do both: else the
        # cost of a car's visit is not convex.
        at_once = self.rows.at_once
        lack = np.maximum(1e-13 - y @ at_once, 0.0) * self.feeding
        y[..., 2:-1] += lack / at_once[2:-1].diagonal()
        return y, np.moveaxis(y @ self.rows.table, 2, 0)

    def _cars(self, prices: FloatArray, fed: FloatArray) -> float:
        """Least cost of the cars at prices of the totals."""
        own = np.tensordot(self.adds, prices[: self.adds.shape[2]], 1)  # (families, 2, T, N)
        buy, cost = (np.ascontiguousarray(own[:, end].swapaxes(1, 2)) for end in (0, 1))
        return float(cars.least_cost(*self.cars, buy, -cost, fed))

    def fed_back(self, y: FloatArray) -> FloatArray:
        """Energy (kWh) that a car of each segment feeds back at the prices of multipliers y."""
        fed = np.zeros(self.cars[1].size)
        self._cars(self._prices(y)[1], fed)
        return fed

    def bound(self, y: FloatArray, y4: FloatArray, steps: Steps) -> Bound:
        """The bound at multipliers y (T, N, R) and y4 (T,), over the open steps."""
        w, pi = self.rows, self.rows.probability
        y, prices = self._prices(y)
        at_once = np.moveaxis(prices[self.adds.shape[2] : -1], 0, 2)
        fixed = float((np.minimum(at_once, 0.0) * w.w_max).sum())
        fixed += self._cars(prices, np.zeros(0)) - float((y * w.limit).sum())
        apart = (y[..., 0] - y[..., 1]) * self.of_trade
        limit = (y[..., 0] + y[..., 1])[:, : None if self.of_trade else 0]
        q = (prices[-1] + apart).sum(axis=1) - y4
        r = -y[..., -1] - apart + pi * y4[:, None]
        day, real = np.empty(steps.day.shape), np.empty(steps.real.shape)
        least_by_step(steps, pi, q, r, limit, day, real)
        least = day.min(axis=1)
        total = fixed + float(least.sum())
        if not np.isfinite(total):
            return Bound(-np.inf, day, real)
        return Bound(total, day - least[:, None] + total, real - least[:, None, None] + total)
