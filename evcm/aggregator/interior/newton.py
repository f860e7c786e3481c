"""The market's part of a program: its iterate, and what it adds to Newton's steps.

Rows, bounds and unknowns are those told in `program`. Of every period and sample the rows are
eliminated by hand, of a block the points, too; what is left is a part of the sample's matrix and a
border.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from evcm import compiled as nb
from evcm.aggregator.interior import chains as ch
from evcm.aggregator.interior.chains import JIT, Chains
from evcm.arrays import BoolArray, FloatArray, IntArray

PRIMAL, DUAL = 1e-5, 1e-9


class Rows(NamedTuple):
    """Rows of a period and sample but the mean: R = 3 + K for K families of cars that feed back.

    `table` (R, D + K + 1) are coefficients of the cars' D totals, of W of each family and of P;
    `limit` (T, N, R) limits, `w_max` (T, N, K) the largest W, `probability` (N,) of samples.
    """

    table: FloatArray
    limit: FloatArray
    w_max: FloatArray
    probability: FloatArray

    @property
    def at_once(self) -> FloatArray:
        """Coefficients of W of each family (R, K)."""
        return self.table[:, -1 - self.w_max.shape[2] : -1]


@nb.njit(**JIT)
def sizes(table: FloatArray) -> tuple[int, int, int]:
    """D, K and R of a table of rows."""
    R, columns = table.shape
    return columns - R + 2, R - 3, R


class MarketData(NamedTuple):
    """Corners (S) sorted by period, points (K) by corner and sample, bounds and costs of E (T, N).

    `corner` (T + 1) and `point` (S N + 1) are offsets, `day` (S) and `real` (K) price steps,
    `block` tells periods with points, `least` (T, N) the least multiplier of the rows of (10).
    """

    corner: IntArray
    x: FloatArray
    cost: FloatArray
    day: IntArray
    block: BoolArray
    point: IntArray
    y: FloatArray
    f: FloatArray
    real: IntArray
    e_low: FloatArray
    e_high: FloatArray
    e_cost: FloatArray
    least: FloatArray

    def told(self, t: int) -> bytes:
        """All that is known of period `t`."""
        c0, c1 = self.corner[t : t + 2]
        N = self.e_low.shape[1]
        k0, k1 = self.point[c0 * N], self.point[c1 * N]
        own = self.block[t], self.x[c0:c1], self.cost[c0:c1], self.y[k0:k1], self.f[k0:k1]
        return b"|".join(a.tobytes() for a in (*own, self.e_low[t], self.e_high[t]))


class Bounded(NamedTuple):
    """One value for each bound of the market, as views of one array.

    Of each period and sample (T, N, 2K + R - 1): W of K families from below and above, slacks of
    all rows but the last. Weights of corners and of points; E from below and above in periods
    without a block (F, N, 2).
    """

    cell: FloatArray
    m: FloatArray
    v: FloatArray
    E: FloatArray


class State(NamedTuple):
    """Iterate, direction and scratch of the market.

    `bounds` (7, size) are as those of `chains`. Values and directions: multipliers `y` of rows
    (2, T, N, R), `y4` of the mean and `y5` of Σ m = 1 (2, T), `y6` of Σ v = m (2, S, N), and `E`
    (2, T, N), which in a block follows from the weights. `M` (T, N, D + R, R) moves what rows lack
    into the totals and their own multipliers. `lack` and `f` (T, N, R) are what rows lack, before
    and after elimination, and `moved` M times that. `theta` (T, N, R + K) are inverses of slacks,
    of E and of W, `tm` and `tv` of m and v; `qw`, `qm`, `qv` what is left of their right sides, and
    `eb` what that moves E. `split` (2, S, N) are Σ v's inverse and what Σ v = m leaves; `period`
    (6, T) is P, the mean x of corners, the inverses of their sum and spread, what Σ m = 1 leaves,
    and the cost of trade. The border's unknowns are P and the multiplier of the mean of each period
    or, in a block, all corners and the multipliers of Σ m = 1 and of the mean, from `start` (T + 1)
    on; `unit` is P in each, and `bar` (size, N) in the last row: the mean y of a corner's points.
    """

    start: IntArray
    bounds: FloatArray
    y: FloatArray
    y4: FloatArray
    y5: FloatArray
    y6: FloatArray
    E: FloatArray
    M: FloatArray
    lack: FloatArray
    f: FloatArray
    moved: FloatArray
    theta: FloatArray
    tm: FloatArray
    tv: FloatArray
    qw: FloatArray
    qm: FloatArray
    qv: FloatArray
    eb: FloatArray
    split: FloatArray
    period: FloatArray
    unit: FloatArray
    bar: FloatArray


class Middle(NamedTuple):
    """An iterate half way to an optimum, from which a program of the same chains starts."""

    chains: Chains
    levels: tuple[FloatArray, FloatArray]
    market: tuple[FloatArray, ...]
    data: MarketData
    P: FloatArray
    mu: float


@nb.njit(**JIT)
def bounded(d: MarketData, flat: FloatArray) -> Bounded:
    """Views of one value for each bound."""
    T, N = d.e_low.shape
    free = T - d.block.sum()
    E = flat.size - 2 * N * free
    v = E - d.y.size
    m = v - d.x.size
    return Bounded(
        flat[:m].reshape(T, N, m // (T * N)), flat[m:v], flat[v:E], flat[E:].reshape(free, N, 2)
    )


class Market:
    """Iterate of the market, and its part of Newton's steps."""

    def __init__(self, rows: Rows, d: MarketData) -> None:
        self.rows, self.d = rows, d
        T, N = self.shape = d.e_low.shape
        S, points = d.x.size, d.y.size
        self.D, self.K, R = sizes(rows.table)
        cells = 2 * self.K + R - 1
        self.of = np.repeat(np.arange(T), np.diff(d.corner))
        self.cell = np.repeat(np.arange(S * N), np.diff(d.point))
        self.at = self.of[self.cell // N] * N + self.cell % N
        width = np.where(d.block, np.diff(d.corner) + 2, 2)
        start = np.concatenate([[0], np.cumsum(width)]).astype(np.int64)
        size = T * N * cells + S + points + 2 * N * (T - int(d.block.sum()))
        shapes = (
            (7, size), (2, T, N, R), (2, T), (2, T), (2, S, N), (2, T, N), (T, N, self.D + R, R),
            (T, N, R), (T, N, R), (T, N, self.D + R), (T, N, R + self.K), (S,), (points,),
            (T, N, self.K), (S,), (points,), (T, N), (2, S, N), (6, T), start[-1:], (start[-1], N),
        )  # fmt: skip
        self.s = s = State(start, *(np.zeros(shape) for shape in shapes))
        self.g, self.z = (bounded(d, s.bounds[kind]) for kind in (ch.GAP, ch.Z))
        self.border = np.zeros((start[-1], start[-1]))
        s.unit[start[:-1]] = 1.0
        at = np.flatnonzero(d.block[self.of])
        s.unit[(start[:-1] - d.corner[:-1])[self.of[at]] + at] = d.x[at]
        # Plain tuples: numba takes them in twice as fast as named ones.
        self.all = tuple(rows), tuple(d), tuple(s)

    # --- starts --------------------------------------------------------------------------

    def begin(self, y3: FloatArray, total: FloatArray, mu: float) -> None:
        """A first iterate near totals (N, DT) and prices of energy (T, N)."""
        r, g, z, y, K = self.rows, self.g.cell, self.z.cell, self.s.y[0], self.K
        totals = total.reshape(self.shape[1], -1, self.D).transpose(1, 0, 2)
        net, scale = totals @ r.table[-1, : self.D], max(float(np.abs(y3).mean()), 1e-6)
        size = 0.2 * float(np.abs(totals[..., 0]).mean()) + 1e-3
        W = np.minimum(size, 0.5 * r.w_max)
        low, high = (self.d.x[end] for end in (self.d.corner[:-1], self.d.corner[1:] - 1))
        P = np.clip(net @ r.probability, low, high)
        bought = np.broadcast_to(P[:, None, None], (*self.shape, 1))
        used = np.concatenate([totals, W, bought], axis=2) @ r.table.T
        g[..., :K], g[..., K : 2 * K] = W, r.w_max - W
        g[..., 2 * K :] = np.maximum((r.limit - used)[..., :-1], size)
        y[..., :-1], y[..., -1] = mu / g[..., 2 * K :], y3
        y[..., :2] = np.maximum(y[..., :2], np.maximum(0.05 * np.abs(y3), 0.01 * scale)[..., None])
        z[..., : 2 * K], z[..., 2 * K :] = mu / g[..., : 2 * K], y[..., :-1]
        self.s.y4[0] = 0.0
        self.trade(P, net + W @ r.at_once[-1], mu)

    def trade(self, P: FloatArray, E: FloatArray, mu: float) -> None:
        """Start what belongs to corners, points and bounds of E near P (T,) and E (T, N)."""
        d, s, of, cell, g, z = self.d, self.s, self.of, self.cell, self.g, self.z
        first, last = d.x[d.corner[:-1]], d.x[d.corner[1:] - 1]
        m = np.exp(-np.abs(d.x - np.clip(P, first, last)[of]) / (0.1 * (last - first)[of] + 1e-6))
        m += 0.02
        g.m[:] = m / np.bincount(of, m, self.shape[0])[of]
        room = d.e_high - d.e_low
        s.E[0] = np.clip(E, d.e_low + 0.1 * room, d.e_high - 0.1 * room)
        g.E[:] = np.stack([s.E[0] - d.e_low, d.e_high - s.E[0]], axis=2)[~d.block]
        z.E[:] = mu / g.E
        count = np.diff(d.point)
        share = np.repeat(g.m, self.shape[1])
        g.v[:] = (share / np.maximum(count, 1))[cell]
        y3 = s.y[0, ..., -1] - s.y4[0, :, None] * self.rows.probability
        cost = d.f - d.y * y3.ravel()[self.at]
        least = np.full(count.size, np.inf)
        np.minimum.at(least, cell, cost)
        given = np.where(count > 0, mu / share * count - least, 0.0)
        s.y6[0] = given.reshape(-1, self.shape[1])
        z.v[:] = np.maximum(mu / np.maximum(g.v, 1e-300), cost + given[cell])
        q = (s.y[0] @ self.rows.table[:, -1]).sum(axis=1)
        cost = d.cost + d.x * (q - s.y4[0])[of] - s.y6[0].sum(axis=1)
        s.y5[0] = mu - np.minimum.reduceat(cost, d.corner[:-1])
        z.m[:] = np.maximum(mu / g.m, cost + s.y5[0, of])

    def resume(self, old: Middle) -> None:
        """The iterate of a like program; periods whose corners or points differ start anew."""
        d, o, s, N = self.d, old.data, self.s, self.shape[1]
        bounds, y, y4, y5, y6, E = old.market
        theirs = [bounded(o, kind) for kind in bounds]
        for mine, former in zip((self.g, self.z), theirs, strict=True):
            mine.cell[:] = former.cell
        s.y[0], s.y4[0] = y, y4
        self.trade(old.P, E, old.mu)
        same = np.array([d.told(t) == o.told(t) for t in range(self.shape[0])])
        corner = same[self.of], np.repeat(same, np.diff(o.corner))
        point = corner[0][self.cell // N], np.repeat(np.repeat(corner[1], N), np.diff(o.point))
        for mine, former in zip((self.g, self.z), theirs, strict=True):
            mine.m[corner[0]], mine.v[point[0]] = former.m[corner[1]], former.v[point[1]]
            mine.E[same[~d.block]] = former.E[same[~o.block]]
        s.y5[0, same], s.E[0, same], s.y6[0, corner[0]] = y5[same], E[same], y6[corner[1]]


@nb.njit(**JIT)
def measure(
    w: Rows, d: MarketData, s: State, total: FloatArray, eta: FloatArray,
) -> float:  # fmt: skip
    """What rows lack at `total` (N, DT), and prices eta of these; the residual."""
    w, d, s = Rows(*w), MarketData(*d), State(*s)
    g, (T, N), worst = bounded(d, s.bounds[ch.GAP]), d.e_low.shape, 0.0
    D, K, R = sizes(w.table)
    for t in range(T):
        ones, P, cost = -1.0, 0.0, 0.0
        for c in range(d.corner[t], d.corner[t + 1]):
            ones += g.m[c]
            P += d.x[c] * g.m[c]
            cost += d.cost[c] * g.m[c]
        s.period[0, t], mean = P, P
        for n in range(N):
            if d.block[t]:
                s.E[0, t, n] = 0.0
                for c in range(d.corner[t], d.corner[t + 1]):
                    off = -g.m[c]
                    for i in range(d.point[c * N + n], d.point[c * N + n + 1]):
                        off += g.v[i]
                        s.E[0, t, n] += d.y[i] * g.v[i]
                        cost += d.f[i] * g.v[i]
                    worst = max(worst, abs(off))
            E, price, moved = s.E[0, t, n], eta[n, D * t :], total[n, D * t :]
            cost += d.e_cost[t, n] * E
            mean -= w.probability[n] * E
            price[:D] = 0.0
            for k in range(R):
                lack = (g.cell[t, n, 2 * K + k] if k < R - 1 else -E) - w.limit[t, n, k]
                for j in range(D):
                    price[j] += w.table[k, j] * s.y[0, t, n, k]
                    lack += w.table[k, j] * moved[j]
                for j in range(K):
                    lack += w.table[k, D + j] * g.cell[t, n, j]
                lack += w.table[k, D + K] * P
                s.lack[t, n, k], worst = lack, max(worst, abs(lack))
        s.period[5, t], worst = cost, max(worst, max(abs(ones), abs(mean)))
    return worst


@nb.njit(**JIT)
def factor(w: Rows, d: MarketData, s: State, A: FloatArray) -> None:
    """Eliminate points, and the rows of every period and sample; adds to A (N, DT, DT)."""
    w, d, s = Rows(*w), MarketData(*d), State(*s)
    ch.rates(0, s.bounds.shape[1], s.bounds)
    rate, (T, N), loose = bounded(d, s.bounds[ch.REST]), d.e_low.shape, 0
    D, K, R = sizes(w.table)
    om, BN, Q, H = np.empty(R), np.empty((D, R)), np.empty((R, R)), np.empty((D, D))
    for t in range(T):
        b, b0, b1, b2 = s.start[t] - d.corner[t], 0.0, 0.0, 1e-14
        for c in range(d.corner[t], d.corner[t + 1]):
            s.tm[c] = 1.0 / (rate.m[c] + PRIMAL)
            b0 += s.tm[c]
            b1 += s.tm[c] * d.x[c]
        for c in range(d.corner[t], d.corner[t + 1]):
            b2 += s.tm[c] * (d.x[c] - b1 / b0) ** 2
        s.period[1, t], s.period[2, t], s.period[3, t] = b1 / b0, 1.0 / b0, 1.0 / b2
        for n in range(N):
            theta, M = s.theta[t, n], s.M[t, n]
            if d.block[t]:
                theta[R - 1] = 1e-14
                for c in range(d.corner[t], d.corner[t + 1]):
                    a0, a1, a2 = 0.0, 0.0, 0.0
                    for i in range(d.point[c * N + n], d.point[c * N + n + 1]):
                        s.tv[i] = 1.0 / (rate.v[i] + PRIMAL)
                        a0 += s.tv[i]
                        a1 += s.tv[i] * d.y[i]
                        a2 += s.tv[i] * d.y[i] * d.y[i]
                    s.split[0, c, n], s.bar[b + c, n] = 1.0 / a0, a1 / a0
                    theta[R - 1] += max(a2 - a1 * a1 / a0, 0.0)
            else:
                theta[R - 1] = 1.0 / (rate.E[loose, n, 0] + rate.E[loose, n, 1] + PRIMAL)
            s.bar[s.start[t + 1] - 1, n] = -theta[R - 1] * w.probability[n]
            Q[:] = 0.0
            for k in range(R):
                if k < R - 1:
                    theta[k] = 1.0 / (rate.cell[t, n, 2 * K + k] + PRIMAL)
                Q[k, k] = 1.0 / (theta[k] + DUAL)
            for j in range(K):
                den = rate.cell[t, n, j] + rate.cell[t, n, K + j] + PRIMAL
                theta[R + j] = 1.0 / den
                for k in range(R):
                    om[k] = 0.0
                    for i in range(R):
                        om[k] += Q[k, i] * w.table[i, D + j]
                    den += om[k] * w.table[k, D + j]
                for k in range(R):
                    for i in range(R):
                        Q[k, i] -= om[k] * om[i] / den
            for a in range(D):
                H[a] = 0.0
                for j in range(R):
                    BN[a, j] = 0.0
                    for i in range(R):
                        BN[a, j] += w.table[i, a] * Q[i, j]
                    for e in range(D):
                        H[a, e] += BN[a, j] * w.table[j, e]
            _invert(H)
            for a in range(D):
                for e in range(D):
                    A[n, D * t + a, D * t + e] += H[a, e]
            for j in range(R):
                for a in range(D):
                    M[a, j] = 0.0
                    for e in range(D):
                        M[a, j] += H[a, e] * BN[e, j]
                for i in range(R):
                    M[D + i, j] = Q[i, j]
                    for a in range(D):
                        M[D + i, j] -= BN[a, i] * M[a, j]
        loose += not d.block[t]


@nb.njit(**JIT)
def _invert(H: FloatArray) -> None:
    """The inverse of a small symmetric positive matrix, in place."""
    for p in range(H.shape[0]):
        pivot = 1.0 / H[p, p]
        H[p, p] = 1.0
        for b in range(H.shape[0]):
            H[p, b] *= pivot
        for a in range(H.shape[0]):
            if a != p:
                share = H[a, p]
                H[a, p] = 0.0
                for b in range(H.shape[0]):
                    H[a, b] -= share * H[p, b]


@nb.njit(**JIT)
def border(
    w: Rows, d: MarketData, s: State, inverse: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """The border's matrix: F' Q F and G' A^-1 G of all samples, and each period's own entries.

    F (R, width) tells what a unit of each unknown of a period's border moves in its rows; G are the
    first D rows of M times F, and Q is the rest of M.
    """
    w, d, s = Rows(*w), MarketData(*d), State(*s)
    (T, N), wide = d.e_low.shape, 0
    D, K, R = sizes(w.table)
    for t in range(T):
        wide = max(wide, s.start[t + 1] - s.start[t])
    F, H, G, q = np.empty((R, wide)), np.empty((D, wide)), np.empty((T, D, wide)), np.empty(R)
    out[:] = 0.0
    for n in range(N):
        for t in range(T):
            b, M = s.start[t], s.M[t, n]
            for i in range(s.start[t + 1] - b):
                for k in range(R):
                    F[k, i] = -w.table[k, D + K] * s.unit[b + i]
                F[R - 1, i] += s.bar[b + i, n]
                for a in range(D):
                    G[t, a, i] = 0.0
                    for k in range(R):
                        G[t, a, i] += M[a, k] * F[k, i]
                for k in range(R):
                    q[k] = 0.0
                    for j in range(R):
                        q[k] += M[D + k, j] * F[j, i]
                for j in range(i + 1):
                    for k in range(R):
                        out[b + i, b + j] += F[k, j] * q[k]
        for t in range(T):
            wt = s.start[t + 1] - s.start[t]
            for u in range(t + 1):
                Gu, wu = G[u], s.start[u + 1] - s.start[u]
                for a in range(D):
                    for j in range(wu):
                        v = 0.0
                        for b in range(D):
                            v += inverse[n, D * t + a, D * u + b] * Gu[b, j]
                        H[a, j] = v
                for i in range(wt):
                    for j in range(wu):
                        v = 0.0
                        for a in range(D):
                            v += G[t, a, i] * H[a, j]
                        out[s.start[t] + i, s.start[u] + j] += v
    for t in range(T):
        b, last = s.start[t], s.start[t + 1] - 1
        for n in range(N):
            out[last, last] -= s.theta[t, n, R - 1] * w.probability[n] ** 2
        if not d.block[t]:
            out[b, b] += s.period[3, t]
            out[last, b] -= 1.0
            continue
        for c in range(d.corner[t], d.corner[t + 1]):
            i = b + c - d.corner[t]
            out[i, i] += 1.0 / s.tm[c]
            out[last, i] -= d.x[c]
            out[last - 1, i] += 1.0
            for n in range(N):
                out[i, i] += s.split[0, c, n]
                out[last, i] += s.bar[i, n] * w.probability[n]
    ch.mirror(out)


@nb.njit(**JIT)
def right_side(
    w: Rows, d: MarketData, s: State, k: FloatArray, A: FloatArray, sm: float,
) -> FloatArray:  # fmt: skip
    """Right side of the border, with A^-1 and the chains' right sides `k` of the totals (N, DT)."""
    w, d, s = Rows(*w), MarketData(*d), State(*s)
    ch.rests(0, s.bounds.shape[1], s.bounds, sm)
    g, rest, (T, N) = bounded(d, s.bounds[ch.GAP]), bounded(d, s.bounds[ch.REST]), d.e_low.shape
    D, K, R = sizes(w.table)
    out, kk, loose = np.zeros(s.start[T]), np.empty(k.shape), 0
    for t in range(T):
        b, last, q, y4 = s.start[t], s.start[t + 1] - 1, -s.y4[0, t], s.y4[0, t]
        out[last] = s.period[0, t]
        for n in range(N):
            y, f, theta, y3 = s.y[0, t, n], s.f[t, n], s.theta[t, n], s.y[0, t, n, R - 1]
            y3 -= w.probability[n] * y4
            if d.block[t]:
                eb = 0.0
                for c in range(d.corner[t], d.corner[t + 1]):
                    b0, b1, off = 0.0, 0.0, -g.m[c]
                    for i in range(d.point[c * N + n], d.point[c * N + n + 1]):
                        s.qv[i] = d.f[i] - d.y[i] * y3 + s.y6[0, c, n] - rest.v[i]
                        b0 += s.qv[i] * s.tv[i]
                        b1 += s.qv[i] * s.tv[i] * d.y[i]
                        off += g.v[i]
                    s.split[1, c, n] = (off - b0) * s.split[0, c, n]
                    out[b + c - d.corner[t]] += s.split[1, c, n]
                    eb -= b1 + s.bar[b + c - d.corner[t], n] * (off - b0)
            else:
                eb = y3 - d.e_cost[t, n] + rest.E[loose, n, 0] - rest.E[loose, n, 1]
                eb *= theta[R - 1]
            s.eb[t, n] = eb
            out[last] -= w.probability[n] * (s.E[0, t, n] + eb)
            for i in range(R):
                q += w.table[i, D + K] * y[i]
                f[i] = s.lack[t, n, i]
                if i < R - 1:
                    f[i] += theta[i] * (rest.cell[t, n, 2 * K + i] - y[i])
                if i < 2:
                    f[i] += theta[i] * d.least[t, n]
            f[R - 1] -= eb
            for j in range(K):
                qw = rest.cell[t, n, K + j] - rest.cell[t, n, j]
                for i in range(R):
                    qw += w.table[i, D + j] * y[i]
                s.qw[t, n, j] = qw
                for i in range(R):
                    f[i] -= w.table[i, D + j] * qw * theta[R + j]
            _times(s.M[t, n], f, s.moved[t, n], k[n, D * t :], kk[n, D * t :])
        ones, bb, bx = -1.0, 0.0, 0.0
        for c in range(d.corner[t], d.corner[t + 1]):
            s.qm[c] = d.cost[c] + d.x[c] * q + s.y5[0, t] - rest.m[c]
            if d.block[t]:
                for n in range(N):
                    s.qm[c] -= s.y6[0, c, n]
                out[b + c - d.corner[t]] -= s.qm[c]
            ones += g.m[c]
            bb += s.qm[c] * s.tm[c]
            bx += s.qm[c] * s.tm[c] * (d.x[c] - s.period[1, t])
        s.period[4, t] = ones - bb
        if d.block[t]:
            out[last - 1] = -ones
        else:
            out[b] = -(bx + s.period[1, t] * ones) * s.period[3, t]
            loose += 1
    for n in range(N):
        Ak = np.dot(A[n], kk[n])
        for t in range(T):
            q, v, M = 0.0, 0.0, s.M[t, n]
            for i in range(R):
                v = s.moved[t, n, D + i]
                for a in range(D):
                    v += M[a, i] * Ak[D * t + a]
                q += w.table[i, D + K] * v
            for j in range(s.start[t], s.start[t + 1]):
                out[j] += s.bar[j, n] * v - s.unit[j] * q  # v is of the last row
    return out


@nb.njit(**JIT)
def _times(
    M: FloatArray, f: FloatArray, moved: FloatArray, k: FloatArray, right: FloatArray,
) -> None:  # fmt: skip
    """M times what rows lack; its first are for the totals, beside the chains' k."""
    for i in range(M.shape[0]):
        moved[i] = 0.0
        for j in range(M.shape[1]):
            moved[i] += M[i, j] * f[j]
    for a in range(M.shape[0] - M.shape[1]):
        right[a] = k[a] + moved[a]


@nb.njit(**JIT)
def back(
    w: Rows, d: MarketData, s: State, k: FloatArray, db: FloatArray, A: FloatArray,
    whole: FloatArray, refined: bool, deta: FloatArray,
) -> tuple[float, float]:  # fmt: skip
    """Directions of all unknowns, and deta of the prices; the largest steps, inverted.

    From the border's direction `db`; `A` is the inverse of `whole`.
    """
    w, d, s = Rows(*w), MarketData(*d), State(*s)
    g, rest, (T, N) = bounded(d, s.bounds[ch.DGAP]), bounded(d, s.bounds[ch.REST]), d.e_low.shape
    D, K, R = sizes(w.table)
    right, left, dP, loose = np.empty(k.shape), np.empty(R), np.zeros(T), 0
    for t in range(T):
        for j in range(s.start[t], s.start[t + 1]):
            dP[t] += s.unit[j] * db[j]
        for n in range(N):
            for i in range(R):
                left[i] = s.f[t, n, i] + w.table[i, D + K] * dP[t]
            for j in range(s.start[t], s.start[t + 1]):
                left[R - 1] -= s.bar[j, n] * db[j]
            _times(s.M[t, n], left, s.moved[t, n], k[n, D * t :], right[n, D * t :])
    for n in range(N):
        np.dot(A[n], right[n], deta[n])
        if refined:  # digits that the inverse has lost: the predictor can do without
            missed = np.dot(whole[n], deta[n])
            for i in range(D * T):
                missed[i] = right[n, i] - missed[i]
            more = np.dot(A[n], missed)
            for i in range(D * T):
                deta[n, i] += more[i]
    for t in range(T):
        b, last, c0, c1 = s.start[t], s.start[t + 1] - 1, d.corner[t], d.corner[t + 1]
        mean, d4, q = s.period[1, t], db[last], -db[last]
        for n in range(N):
            y, M = s.y[1, t, n], s.M[t, n]
            for i in range(R):
                y[i] = s.moved[t, n, D + i]
                for a in range(D):
                    y[i] += M[a, i] * deta[n, D * t + a]
                q += w.table[i, D + K] * y[i]
        s.y4[1, t], s.y5[1, t], lack = d4, s.period[4, t] * s.period[2, t] - q * mean, dP[t]
        if d.block[t]:
            s.y5[1, t] = db[last - 1]
        for c in range(c0, c1):
            own = -(s.qm[c] + d.x[c] * q + s.y5[1, t]) * s.tm[c]
            g.m[c] = db[b + c - c0] if d.block[t] else own
            lack -= d.x[c] * g.m[c]
        for c in range(c0, 0 if d.block[t] else c1):  # rounding in the weights must not move P
            g.m[c] += lack * s.period[3, t] * s.tm[c] * (d.x[c] - mean)
        for n in range(N):
            y, theta, step = s.y[1, t, n], s.theta[t, n], s.y[1, t, n, R - 1]
            step -= w.probability[n] * d4
            for j in range(K):
                W = s.qw[t, n, j]
                for i in range(R):
                    W += w.table[i, D + j] * y[i]
                g.cell[t, n, j], g.cell[t, n, K + j] = -theta[R + j] * W, theta[R + j] * W
            for i in range(R - 1):
                pull = rest.cell[t, n, 2 * K + i] - s.y[0, t, n, i]
                if i < 2:
                    pull += d.least[t, n]
                g.cell[t, n, 2 * K + i] = theta[i] * (pull - y[i])
            s.E[1, t, n] = step * theta[R - 1] + s.eb[t, n]
            if not d.block[t]:
                g.E[loose, n, 0], g.E[loose, n, 1] = s.E[1, t, n], -s.E[1, t, n]
                continue
            for c in range(c0, c1):
                d6 = s.split[1, c, n] + s.bar[b + c - c0, n] * step - g.m[c] * s.split[0, c, n]
                s.y6[1, c, n] = d6
                for i in range(d.point[c * N + n], d.point[c * N + n + 1]):
                    g.v[i] = -(s.qv[i] - d.y[i] * step + d6) * s.tv[i]
        loose += not d.block[t]
    rp, rd = ch.duals(0, s.bounds.shape[1], s.bounds)
    return rp, rd
