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
from typing import NamedTuple

import numpy as np

from evcm import compiled as nb
from evcm.aggregator.interior.cars import PricedVisits, Segments, Units
from evcm.aggregator.interior.chains import JIT
from evcm.aggregator.interior.kernels import MarketData, R, Rows
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray, IntArray

EDGE_MW = 1e-6
"""How close to an edge of the price curve a load counts as on it (as in the true cost)."""

TIGHT = 1e-7
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


def reach(problem: AggregatorProblem, segments: Segments) -> tuple[FloatArray, ...]:
    """Range of the cars' power E (T, N) and of P (T,) in MW, from levels, chargers and caps.

    P is near every E_n by the real-time limit: where a sample has no car, it is 0.
    """
    p, g, k, dt = problem, segments, problem.figures, problem.period_h
    low, high = np.zeros((p.periods, p.samples)), np.zeros((p.periods, p.samples))
    car = g.vehicle
    weight = p.group_size[car] / 1000.0
    _reach(
        g.sample, g.start, g.length, g.arrival_kwh, g.end_kwh, g.kind == 2,
        weight / (dt * k.charge_efficiency[car]), weight * k.discharge_efficiency[car] / dt,
        k.soc_min_kwh[car], k.soc_max_kwh[car], p.charge_step_kwh[car],
        p.discharge_step_kwh[car], low, high,
    )  # fmt: skip
    h, room = _returned(problem), _feeding_room(problem)
    e_low = np.maximum(-low, problem.floor_mw[:, None])
    e_high = np.minimum(high + np.maximum(1 - h, 0.0) * room, problem.cap_mw[:, None])
    away = low + h * room if p.real_time_limit == "v2g" else p.plugged_mw
    p_low = np.maximum(e_low @ p.probability, (e_low - away).max(axis=1) - EDGE_MW)
    p_high = np.minimum(e_high @ p.probability, (e_high + away).min(axis=1) + EDGE_MW)
    return e_low, e_high, p_low, p_high


def _feeding_room(problem: AggregatorProblem) -> FloatArray:
    """Most that can be charged and fed back at once, W (T, N) MW."""
    k = problem.figures
    weight = problem.group_size * k.power_kw / 1000.0 * k.feeds_in / (1 + k.charge_efficiency)
    return problem.sum_plugged(weight)


def _returned(problem: AggregatorProblem) -> float:
    """Share of W that comes back, η_chg η_dsg of the cars that feed (they are alike)."""
    k = problem.figures
    at = int(np.argmax(k.feeds_in))
    return float(k.charge_efficiency[at] * k.discharge_efficiency[at])


@nb.njit(**JIT)
def _reach(  # pragma: no cover
    sample: IntArray, start: IntArray, length: IntArray, arrival: FloatArray, end: FloatArray,
    ring: BoolArray, up: FloatArray, down: FloatArray, low: FloatArray, high: FloatArray,
    most_up: FloatArray, most_down: FloatArray, fed: FloatArray, taken: FloatArray,
) -> None:  # fmt: skip
    T = fed.shape[0]
    for i in range(sample.size):
        for j in range(length[i]):
            t = (start[i] + j) % T
            floor = end[i] if j == length[i] - 1 and not ring[i] else low[i]
            first = j == 0 and not ring[i]
            before_high = arrival[i] if first else high[i]
            before_low = arrival[i] if first else low[i]
            n = sample[i]
            fed[t, n] += down[i] * min(max(before_high - floor, 0.0), most_down[i])
            taken[t, n] += up[i] * min(max(high[i] - before_low, 0.0), most_up[i])


def find_steps(problem: AggregatorProblem, segments: Segments, units: Units) -> Steps:
    """Steps within reach, in units."""
    e_low, e_high, p_low, p_high = reach(problem, segments)
    edge, price = problem.step_edge_mw, problem.step_price_usd_per_kwh
    if edge.size:
        differs = (np.diff(price, axis=1) > 0).any(axis=0)  # equal neighbours are one step
        edge, price = edge[differs], price[:, np.concatenate([[True], differs])]
    load = problem.system_load_mw[:, None]
    wall = np.full((problem.periods, 1), np.inf)
    low = np.concatenate([-wall, edge - load], axis=1)
    high = np.concatenate([edge - load, wall], axis=1)
    least, most = np.minimum(p_low, e_low.min(axis=1)), np.maximum(p_high, e_high.max(axis=1))
    near = (low <= most[:, None]) & (high >= least[:, None])
    first = np.argmax(near, axis=1)
    width = int(near.sum(axis=1).max(initial=1))
    at = np.minimum(first[:, None] + np.arange(width), low.shape[1] - 1)
    fresh = first[:, None] + np.arange(width) < low.shape[1]
    low, high, price = (np.take_along_axis(a, at, axis=1) for a in (low, high, price))
    a_low, a_high = np.maximum(low, p_low[:, None]), np.minimum(high, p_high[:, None])
    b_low = np.maximum(low[:, None], e_low[..., None])
    b_high = np.minimum(high[:, None], e_high[..., None])
    scale = 1000.0 * problem.period_h * units.mw / units.usd
    return Steps(
        price * scale, a_low / units.mw, a_high / units.mw, b_low / units.mw, b_high / units.mw,
        fresh & (a_low <= a_high), fresh[:, None] & (b_low <= b_high), np.zeros(problem.samples),
        np.zeros((problem.periods, problem.samples)),
    )  # fmt: skip


def make_rows(problem: AggregatorProblem, units: Units) -> Rows:
    """Coefficients and limits of the market's rows, in units."""
    k = problem.figures
    feeding = int(np.argmax(k.feeds_in))
    h = _returned(problem)
    v2g = problem.real_time_limit == "v2g"
    plugged = problem.plugged_mw / units.mw
    first = (1.0, -2.0, 1 - 2 * h, -1.0) if v2g else (1.0, -1.0, 1 - h, -1.0)
    second = (-1.0, 0.0, -1.0, 1.0) if v2g else (-1.0, 1.0, h - 1, 1.0)
    third = (1.0, 1 / k.discharge_efficiency[feeding], 1 + k.charge_efficiency[feeding], 0.0)
    table = np.array([first, second, third, (1.0, -1.0, 1 - h, 0.0)])
    limit = np.zeros((*plugged.shape, R))
    if not v2g:
        limit[..., :2] = plugged[..., None]
    limit[..., 2] = plugged * (1 + 1e-9) + TIGHT
    return Rows(
        np.ascontiguousarray(table[:, :2]), table[:, 2].copy(), table[:, 3].copy(), limit,
        _feeding_room(problem) / units.mw + TIGHT, problem.probability,
    )  # fmt: skip


@nb.njit(**JIT)
def _hull(  # pragma: no cover
    x: float, price_a: float, weight: float, tilt: float, toll: float, price: FloatArray,
    low: FloatArray, high: FloatArray, is_open: BoolArray, ys: FloatArray, fs: FloatArray,
) -> int:  # fmt: skip
    """Lower hull of (weight (λ_b - λ_a) + tilt λ_b)(y - x) + toll |y - x| over ends of open steps;
    its size.
    """
    n = 0
    for b in range(price.size):
        if not is_open[b]:
            continue
        for side in range(2):
            y = low[b] if side == 0 else high[b]
            f = (weight * (price[b] - price_a) + tilt * price[b]) * (y - x) + toll * abs(y - x)
            if n > 0 and y <= ys[n - 1] + 1e-12:
                if f < fs[n - 1]:
                    n -= 1
                else:
                    continue
            while n > 1 and (fs[n - 1] - fs[n - 2]) * (y - ys[n - 2]) >= (f - fs[n - 2]) * (
                ys[n - 1] - ys[n - 2]
            ):
                n -= 1
            ys[n], fs[n] = y, f
            n += 1
    return n


@nb.njit(**JIT)
def _corners(  # pragma: no cover
    steps: Steps, probability: FloatArray, block: BoolArray, near: int, centre: IntArray,
    corner: IntArray, x: FloatArray, cost: FloatArray, point: IntArray, y: FloatArray,
    f: FloatArray, e_cost: FloatArray,
) -> tuple[int, int]:  # fmt: skip
    """Fill corners and points of all periods; returns their numbers."""
    T, N, S = steps.real.shape
    ys, fs = np.empty(2 * S + 2), np.empty(2 * S + 2)
    c, k = 0, 0
    for t in range(T):
        corner[t] = c
        if block[t]:
            some = False
            for a in range(S):
                if steps.day[t, a] and abs(a - centre[t]) <= near:
                    some = True
            for a in range(S):
                if not steps.day[t, a] or (some and abs(a - centre[t]) > near):
                    continue
                lo, hi = steps.day_low[t, a], steps.day_high[t, a]
                for side in range(2 if hi - lo > 1e-9 else 1):
                    x[c] = lo if side == 0 else hi
                    cost[c] = steps.price[t, a] * x[c]
                    for n in range(N):
                        point[c * N + n] = k
                        size = _hull(
                            x[c], steps.price[t, a], probability[n], steps.tilt[n],
                            steps.toll[t, n], steps.price[t], steps.real_low[t, n],
                            steps.real_high[t, n], steps.real[t, n], ys, fs,
                        )  # fmt: skip
                        for i in range(size):
                            y[k + i], f[k + i] = ys[i], fs[i]
                        k += size
                    c += 1
            continue
        one, a = True, -1
        for s in range(S):
            if steps.day[t, s]:
                one = one and a < 0
                a = s
        for n in range(N):
            count = 0
            for s in range(S):
                count += steps.real[t, n, s]
            one = one and count == 1
        if one:  # all steps fixed: real-time trade has a linear cost
            both, price = 0.0, steps.price[t, a]
            for n in range(N):
                for s in range(S):
                    if steps.real[t, n, s]:
                        e_cost[t, n] = probability[n] * (steps.price[t, s] - price)
                        e_cost[t, n] += steps.tilt[n] * steps.price[t, s]
                both += e_cost[t, n]
            lo, hi = steps.day_low[t, a], steps.day_high[t, a]
            for side in range(2 if hi - lo > 1e-9 else 1):
                x[c] = lo if side == 0 else hi
                cost[c] = (price - both) * x[c]
                for n in range(N):
                    point[c * N + n] = k
                c += 1
        else:
            size = _hull(
                0.0, 0.0, 1.0, 0.0, 0.0, steps.price[t], steps.day_low[t], steps.day_high[t],
                steps.day[t], ys, fs,
            )  # fmt: skip
            for i in range(size):
                x[c], cost[c] = ys[i], fs[i]
                for n in range(N):
                    point[c * N + n] = k
                c += 1
    corner[T] = c
    point[c * N] = k
    return c, k


def market_data(
    steps: Steps, probability: FloatArray, blocks: Collection[int],
    near: int | None = None, centre: IntArray | None = None,
) -> MarketData:  # fmt: skip
    """Corners and points of the open steps, blocks in some periods.

    Ranges without an interior are widened by `TIGHT`. `near` keeps only the day-ahead steps within
    so many of `centre` (T,) in blocks: no relaxation then, but a smaller program that finds plans.
    """
    T, N, S = steps.real.shape
    block = np.zeros(T, bool)
    block[list(blocks)] = True
    most = int(2 * steps.day.sum()) + 1
    room = int(block.sum()) * 4 * S * S * N + 1
    corner, point = np.zeros(T + 1, np.int64), np.zeros(most * N + 1, np.int64)
    x, cost, y, f = np.empty(most), np.empty(most), np.empty(room), np.empty(room)
    e_cost = np.zeros((T, N))
    reach = near if near is not None and centre is not None else S
    middle = np.zeros(T, np.int64) if centre is None else centre
    c, k = _corners(steps, probability, block, reach, middle, corner, x, cost, point, y, f, e_cost)
    low = np.where(steps.real, steps.real_low, np.inf).min(axis=2)
    high = np.where(steps.real, steps.real_high, -np.inf).max(axis=2)
    low, high = np.where(block[:, None], -1e5, low), np.where(block[:, None], 1e5, high)
    wider = TIGHT * (high - low < 2 * TIGHT)
    return MarketData(
        corner, x[:c].copy(), cost[:c].copy(), block, point[: c * N + 1].copy(), y[:k].copy(),
        f[:k].copy(), low - wider, high + wider, e_cost, 0.5 * steps.toll * block[:, None],
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
    lo, hi, price = steps.day_low, steps.day_high, steps.price
    T, S = price.shape
    each = np.arange(T)
    x = np.clip(P[:, None], lo, np.maximum(lo, hi))
    near = np.abs(x - P[:, None])
    fits = (near <= np.maximum(tolerance, near.min(axis=1, keepdims=True, where=lo <= hi,
                                                   initial=np.inf))) & (lo <= hi)  # fmt: skip
    cost = np.where(fits, price * x, np.inf)
    a = np.argmin(cost, axis=1)
    x, price_a = x[each, a][:, None, None], price[each, a][:, None, None]
    lo, hi = steps.real_low, steps.real_high
    y = np.clip(E[..., None], lo, np.maximum(lo, hi))
    near = np.abs(y - E[..., None])
    fits = (near <= np.maximum(tolerance, near.min(axis=2, keepdims=True, where=lo <= hi,
                                                   initial=np.inf))) & (lo <= hi)  # fmt: skip
    extra = np.maximum((price[:, None] - price_a) * (y - x), 0.0)
    extra = np.where(fits, extra + 1e-12 * np.abs(np.arange(S) - a[:, None, None]), np.inf)
    b = np.argmin(extra, axis=2)
    real = np.take_along_axis(extra, b[..., None], 2)[..., 0] @ probability
    if steps.tilt.any():
        d = np.take_along_axis(y - x, b[..., None], 2)[..., 0]
        real += (price[each[:, None], b] * d) @ steps.tilt
    return Reading(a, b, cost[each, a], real)


@nb.njit(cache=True)
def least_by_step(  # pragma: no cover
    price: FloatArray, probability: FloatArray, a_low: FloatArray, a_high: FloatArray,
    b_low: FloatArray, b_high: FloatArray, a_ok: BoolArray, b_ok: BoolArray, q: FloatArray,
    r: FloatArray, value_a: FloatArray, value_b: FloatArray,
) -> None:  # fmt: skip
    """Least of cost + q P + Σ_n r_n E_n in each period, with each step enforced in turn.

    With the steps given, the expression is linear in every E_n, and after minimising over E_n it is
    concave in P, so the ends of the ranges suffice. Fills `value_a` (T, S) for P in step a and
    `value_b` (T, N, S) for E_n in step b; infinite where a step is closed.
    """
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


class Bound(NamedTuple):
    """Exact Lagrangian: a lower bound, and the bound with each step enforced, (T, S), (T, N, S)."""

    value: float
    day: FloatArray
    real: FloatArray


class Lagrangian:
    """Lower bounds from any multipliers: real cars, true price steps; no tolerance enters."""

    def __init__(
        self, problem: AggregatorProblem, segments: Segments, rows: Rows, units: Units
    ) -> None:
        self.rows = rows
        self.cars = PricedVisits(problem, segments, units)
        k = problem.figures
        self.feeding = problem.sum_plugged(k.feeds_in.astype(float)) > 0

    def _prices(self, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Multipliers of legal sign, and the prices of A and of power fed back (N, T) in them."""
        w = self.rows
        y = np.array(y)
        y[..., : R - 1] = np.maximum(y[..., : R - 1], 0.0)
        # Charging and feeding back at once must not pay where cars can do both: else the
        # cost of a car's visit is not convex.
        lack = np.maximum(1e-13 - y @ w.w, 0.0) * self.feeding
        y[..., 2] += lack / w.w[2]
        buy = np.ascontiguousarray((y @ w.ab[:, 0]).T)
        sell = np.ascontiguousarray(-(y @ w.ab[:, 1]).T)
        return y, buy, sell

    def fed_back(self, y: FloatArray) -> FloatArray:
        """Energy (kWh) that a car of each segment feeds back at the prices of multipliers y."""
        return self.cars.fed_back(*self._prices(y)[1:])

    def without_trade(self, y: FloatArray) -> tuple[FloatArray, float]:
        """Multipliers y (T, N, R) of legal sign, and the bound's part of cars, W and limits."""
        w = self.rows
        y, buy, sell = self._prices(y)
        fixed = float(np.minimum(y @ w.w, 0.0).ravel() @ w.w_max.ravel())
        fixed -= float((y * w.limit).sum())
        fixed += self.cars.least_cost(buy, sell)
        return y, fixed

    def bound(self, y: FloatArray, y4: FloatArray, steps: Steps) -> Bound:
        """The bound at multipliers y (T, N, R) and y4 (T,), over the open steps."""
        w, pi = self.rows, self.rows.probability
        y, fixed = self.without_trade(y)
        q = (y @ w.p).sum(axis=1) - y4
        r = -y[..., R - 1] + pi * y4[:, None]
        day, real = np.empty(steps.day.shape), np.empty(steps.real.shape)
        least_by_step(
            steps.price, pi, steps.day_low, steps.day_high, steps.real_low, steps.real_high,
            steps.day, steps.real, q, r, day, real,
        )  # fmt: skip
        return bound_of(fixed, day, real)


def bound_of(fixed: float, day: FloatArray, real: FloatArray) -> Bound:
    """A bound of its fixed part and of the least of each period with each step enforced."""
    least = day.min(axis=1)
    total = fixed + float(least.sum())
    if not np.isfinite(total):
        return Bound(-np.inf, day, real)
    return Bound(total, day - least[:, None] + total, real - least[:, None, None] + total)
