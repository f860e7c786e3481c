"""Kernels of one iteration on the market's rows: elimination, residuals, directions.

Arrays and rows are those of `evcm.aggregator.interior.program`, which says what is solved and in
which order; chains of cars have their kernels in `evcm.aggregator.interior.chains`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpotrf, dpotri

from evcm import compiled as nb
from evcm.aggregator.interior.chains import JIT
from evcm.arrays import BoolArray, FloatArray, IntArray

PRIMAL, DUAL = 1e-5, 1e-9
R = 4
"""Rows of a period and sample but the mean."""


class Rows(NamedTuple):
    """Coefficients of A, B (R, 2), W and P (R,); limits (T, N, R); largest W; probabilities."""

    ab: FloatArray
    w: FloatArray
    p: FloatArray
    limit: FloatArray
    w_max: FloatArray
    probability: FloatArray


class MarketData(NamedTuple):
    """Corners (S) sorted by period, points (K) by corner and sample, bounds and costs of E (T, N).

    `corner` (T + 1) and `point` (S N + 1) are offsets; `block` tells periods with points. `least`
    (T, N) is the least multiplier of the two rows of (10).
    """

    corner: IntArray
    x: FloatArray
    cost: FloatArray
    block: BoolArray
    point: IntArray
    y: FloatArray
    f: FloatArray
    e_low: FloatArray
    e_high: FloatArray
    e_cost: FloatArray
    least: FloatArray


class State(NamedTuple):
    """Iterate of the market; y of rows (T, N, R), mean, corners and points."""

    W: FloatArray
    zw_low: FloatArray
    zw_high: FloatArray
    s: FloatArray
    zs: FloatArray
    y: FloatArray
    E: FloatArray
    ze_low: FloatArray
    ze_high: FloatArray
    m: FloatArray
    zm: FloatArray
    v: FloatArray
    zv: FloatArray
    y4: FloatArray
    y5: FloatArray
    y6: FloatArray


class Scratch(NamedTuple):
    """Scratch of the market kernels."""

    P: FloatArray
    theta_w: FloatArray
    V: FloatArray
    tm: FloatArray
    tv: FloatArray
    a0: FloatArray
    ybar: FloatArray
    b0: FloatArray
    b1: FloatArray
    VP: FloatArray
    G: FloatArray
    Q: FloatArray
    F: FloatArray
    RR: FloatArray
    FQF: FloatArray
    f: FloatArray
    kk: FloatArray
    part: FloatArray
    eb: FloatArray
    q_w: FloatArray
    qm: FloatArray
    qv: FloatArray
    ts: FloatArray
    bm: FloatArray
    second: State


@nb.njit(**JIT)
def factor(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, s: State, x: Scratch, A: FloatArray,
) -> None:  # fmt: skip
    """Eliminate the rows of every (t, n), and points; adds to A (N, 2T, 2T)."""
    BN, Ni, QF, om = np.empty((2, R)), np.empty((R, R)), np.empty(R), np.empty(R)
    x.FQF[:] = 0.0
    for t in range(T):
        c0, c1 = d.corner[t], d.corner[t + 1]
        S = c1 - c0
        width = S + 2 if d.block[t] else 2
        b0, b1, b2 = 0.0, 0.0, 0.0
        for k in range(c0, c1):
            x.tm[k] = 1.0 / (s.zm[k] / s.m[k] + PRIMAL)
            b0 += x.tm[k]
            b1 += x.tm[k] * d.x[k]
        mean = b1 / b0
        for k in range(c0, c1):
            b2 += x.tm[k] * (d.x[k] - mean) ** 2
        x.b0[t], x.b1[t], x.VP[t] = b0, b1, b2 + 1e-14
        for n in range(N):
            if d.block[t]:
                V = 1e-14
                for k in range(c0, c1):
                    a0, a1, a2 = 0.0, 0.0, 0.0
                    for i in range(d.point[k * N + n], d.point[k * N + n + 1]):
                        tv = 1.0 / (s.zv[i] / s.v[i] + PRIMAL)
                        x.tv[i] = tv
                        a0 += tv
                        a1 += tv * d.y[i]
                        a2 += tv * d.y[i] * d.y[i]
                    x.a0[k, n], x.ybar[k, n] = a0, a1 / a0
                    V += max(a2 - a1 * a1 / a0, 0.0)
            else:
                low, high = s.E[t, n] - d.e_low[t, n], d.e_high[t, n] - s.E[t, n]
                V = 1.0 / (s.ze_low[t, n] / low + s.ze_high[t, n] / high + PRIMAL)
            x.V[t, n] = V
            w_left = rows.w_max[t, n] - s.W[t, n]
            theta_w = 1.0 / (s.zw_low[t, n] / s.W[t, n] + s.zw_high[t, n] / w_left + PRIMAL)
            x.theta_w[t, n] = theta_w
            den = 1.0 / theta_w
            for i in range(R):
                own = V
                if i < R - 1:
                    own = 1.0 / (s.zs[t, n, i] / s.s[t, n, i] + PRIMAL)
                    x.ts[t, n, i] = own
                Ni[i, i] = 1.0 / (own + DUAL)
                om[i] = Ni[i, i] * rows.w[i]
                den += om[i] * rows.w[i]
            for i in range(R):
                diag = Ni[i, i]
                for j in range(R):
                    Ni[i, j] = -om[i] * om[j] / den
                Ni[i, i] += diag
            for p in range(2):
                for j in range(R):
                    v = 0.0
                    for i in range(R):
                        v += rows.ab[i, p] * Ni[i, j]
                    BN[p, j] = v
            h00, h01, h11 = 0.0, 0.0, 0.0
            for i in range(R):
                h00 += BN[0, i] * rows.ab[i, 0]
                h01 += BN[0, i] * rows.ab[i, 1]
                h11 += BN[1, i] * rows.ab[i, 1]
            det = h00 * h11 - h01 * h01
            g00, g01, g11 = h11 / det, -h01 / det, h00 / det
            A[n, 2 * t, 2 * t] += g00
            A[n, 2 * t, 2 * t + 1] += g01
            A[n, 2 * t + 1, 2 * t] += g01
            A[n, 2 * t + 1, 2 * t + 1] += g11
            RR, Q, F = x.RR[t, n], x.Q[t, n], x.F[t, n]
            for j in range(R):
                RR[0, j] = g00 * BN[0, j] + g01 * BN[1, j]
                RR[1, j] = g01 * BN[0, j] + g11 * BN[1, j]
            for i in range(R):
                for j in range(R):
                    Q[i, j] = Ni[i, j] - BN[0, i] * RR[0, j] - BN[1, i] * RR[1, j]
            if d.block[t]:
                for i in range(S):
                    for k in range(R - 1):
                        F[k, i] = -rows.p[k] * d.x[c0 + i]
                    F[R - 1, i] = x.ybar[c0 + i, n]
                for k in range(R):
                    F[k, S] = 0.0
            else:
                for k in range(R):
                    F[k, 0] = -rows.p[k]
            for k in range(R - 1):
                F[k, width - 1] = 0.0
            F[R - 1, width - 1] = -V * rows.probability[n]
            for i in range(width):
                g0, g1 = 0.0, 0.0
                for k in range(R):
                    g0 += RR[0, k] * F[k, i]
                    g1 += RR[1, k] * F[k, i]
                x.G[n, t, 0, i], x.G[n, t, 1, i] = g0, g1
            for i in range(width):
                for k in range(R):
                    v = 0.0
                    for j in range(R):
                        v += Q[k, j] * F[j, i]
                    QF[k] = v
                for j in range(width):
                    v = 0.0
                    for k in range(R):
                        v += F[k, j] * QF[k]
                    x.FQF[t, i, j] += v


@nb.njit(**JIT)
def border(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, x: Scratch, start: IntArray, Ainv: FloatArray,
    K: FloatArray,
) -> None:  # fmt: skip
    """The border's matrix: G' A^-1 G, and each period's own entries."""
    K[:] = 0.0
    w = x.G.shape[3]
    H = np.empty((2, w))
    for n in range(N):
        for t in range(T):
            Gt, wt = x.G[n, t], start[t + 1] - start[t]
            for u in range(T):
                wu, Gu = start[u + 1] - start[u], x.G[n, u]
                a00, a01 = Ainv[n, 2 * t, 2 * u], Ainv[n, 2 * t, 2 * u + 1]
                a10, a11 = Ainv[n, 2 * t + 1, 2 * u], Ainv[n, 2 * t + 1, 2 * u + 1]
                for j in range(wu):
                    H[0, j] = a00 * Gu[0, j] + a01 * Gu[1, j]
                    H[1, j] = a10 * Gu[0, j] + a11 * Gu[1, j]
                for i in range(wt):
                    p, q = Gt[0, i], Gt[1, i]
                    for j in range(wu):
                        K[start[t] + i, start[u] + j] += p * H[0, j] + q * H[1, j]
    for t in range(T):
        s, e, c0 = start[t], start[t + 1], d.corner[t]
        for i in range(e - s):
            for j in range(e - s):
                K[s + i, s + j] += x.FQF[t, i, j]
        for n in range(N):
            K[e - 1, e - 1] -= x.V[t, n] * rows.probability[n] ** 2
        if not d.block[t]:
            K[s, s] += 1.0 / x.VP[t]
            K[s, e - 1] -= 1.0
            K[e - 1, s] -= 1.0
            continue
        for i in range(d.corner[t + 1] - c0):
            own, mean = 1.0 / x.tm[c0 + i], -d.x[c0 + i]
            for n in range(N):
                own += 1.0 / x.a0[c0 + i, n]
                mean += x.ybar[c0 + i, n] * rows.probability[n]
            K[s + i, s + i] += own
            K[s + i, e - 1] += mean
            K[e - 1, s + i] += mean
            K[s + i, e - 2] += 1.0
            K[e - 2, s + i] += 1.0


@nb.njit(**JIT)
def totals(T: int, N: int, d: MarketData, s: State, x: Scratch) -> None:  # pragma: no cover
    """P and, in blocks, E of the weights."""
    for t in range(T):
        P = 0.0
        for k in range(d.corner[t], d.corner[t + 1]):
            P += d.x[k] * s.m[k]
        x.P[t] = P
        if d.block[t]:
            for n in range(N):
                E = 0.0
                for k in range(d.corner[t], d.corner[t + 1]):
                    for i in range(d.point[k * N + n], d.point[k * N + n + 1]):
                        E += d.y[i] * s.v[i]
                s.E[t, n] = E


@nb.njit(**JIT)
def measure(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, s: State, x: Scratch, total: FloatArray,
    eta: FloatArray, found: FloatArray,
) -> None:  # fmt: skip
    """Prices eta of the totals; found = complementarity, residual, objective of the market."""
    comp, worst, cost = 0.0, 0.0, 0.0
    for t in range(T):
        ones, mean, P = -1.0, -x.P[t], x.P[t]
        for k in range(d.corner[t], d.corner[t + 1]):
            ones += s.m[k]
            comp += s.m[k] * s.zm[k]
            cost += d.cost[k] * s.m[k]
        worst = max(worst, abs(ones))
        for n in range(N):
            A, B, W, E = total[n, 2 * t], total[n, 2 * t + 1], s.W[t, n], s.E[t, n]
            mean += rows.probability[n] * E
            comp += W * s.zw_low[t, n] + (rows.w_max[t, n] - W) * s.zw_high[t, n]
            a, b = 0.0, 0.0
            for k in range(R):
                y = s.y[t, n, k]
                a += rows.ab[k, 0] * y
                b += rows.ab[k, 1] * y
                left = rows.ab[k, 0] * A + rows.ab[k, 1] * B + rows.w[k] * W + rows.p[k] * P
                if k < R - 1:
                    comp += s.zs[t, n, k] * s.s[t, n, k]
                    left += s.s[t, n, k] - rows.limit[t, n, k]
                else:
                    left -= E
                worst = max(worst, abs(left))
            eta[n, 2 * t], eta[n, 2 * t + 1] = a, b
            if d.block[t]:
                for k in range(d.corner[t], d.corner[t + 1]):
                    lack = -s.m[k]
                    for i in range(d.point[k * N + n], d.point[k * N + n + 1]):
                        lack += s.v[i]
                        comp += s.v[i] * s.zv[i]
                        cost += d.f[i] * s.v[i]
                    worst = max(worst, abs(lack))
            else:
                comp += (E - d.e_low[t, n]) * s.ze_low[t, n] + (d.e_high[t, n] - E) * s.ze_high[
                    t, n
                ]
                cost += d.e_cost[t, n] * E
        worst = max(worst, abs(mean))
    found[0], found[1], found[2] = comp, worst, cost


@nb.njit(**JIT)
def right_side(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, s: State, x: Scratch, k: FloatArray,
    total: FloatArray, sm: float,
) -> None:  # fmt: skip
    """Right sides f of the rows, and kk = k + R f of the totals."""
    z = x.second
    for t in range(T):
        c0, c1, P = d.corner[t], d.corner[t + 1], x.P[t]
        q = 0.0
        for n in range(N):
            for i in range(R - 1):
                q += rows.p[i] * s.y[t, n, i]
        for c in range(c0, c1):
            g = d.cost[c] + d.x[c] * (q - s.y4[t]) + s.y5[t]
            if d.block[t]:
                for n in range(N):
                    g -= s.y6[c, n]
            x.qm[c] = g - (sm - z.m[c]) / s.m[c]
        for n in range(N):
            A, B, W, E = total[n, 2 * t], total[n, 2 * t + 1], s.W[t, n], s.E[t, n]
            pi, y3 = rows.probability[n], s.y[t, n, R - 1]
            if d.block[t]:
                e0 = 0.0
                for c in range(c0, c1):
                    b0, b1, lack = 0.0, 0.0, -s.m[c]
                    for i in range(d.point[c * N + n], d.point[c * N + n + 1]):
                        qv = d.f[i] - d.y[i] * (y3 - pi * s.y4[t]) + s.y6[c, n]
                        qv -= (sm - z.v[i]) / s.v[i]
                        x.qv[i] = qv
                        b0 += qv * x.tv[i]
                        b1 += qv * x.tv[i] * d.y[i]
                        lack += s.v[i]
                    x.part[c, n] = (lack - b0) / x.a0[c, n]
                    e0 -= b1 + x.a0[c, n] * x.ybar[c, n] * x.part[c, n]
            else:
                qE = d.e_cost[t, n] - y3 + pi * s.y4[t]
                qE -= (sm - z.ze_low[t, n]) / (E - d.e_low[t, n])
                qE += (sm - z.ze_high[t, n]) / (d.e_high[t, n] - E)
                e0 = -qE * x.V[t, n]
            x.eb[t, n] = e0
            q_w = -(sm - z.zw_low[t, n]) / W + (sm - z.zw_high[t, n]) / (rows.w_max[t, n] - W)
            for i in range(R):
                q_w += rows.w[i] * s.y[t, n, i]
            x.q_w[t, n] = q_w
            for i in range(R):
                rho = rows.ab[i, 0] * A + rows.ab[i, 1] * B + rows.w[i] * W + rows.p[i] * P
                if i < R - 1:
                    s_ = s.s[t, n, i]
                    least = d.least[t, n] if i < 2 else 0.0
                    y = s.y[t, n, i] - least
                    rho += s_ + x.ts[t, n, i] * ((sm - z.s[t, n, i]) / s_ - y)
                    rho -= rows.limit[t, n, i]
                else:
                    rho -= E + e0
                x.f[t, n, i] = rho - rows.w[i] * q_w * x.theta_w[t, n]
            for p in range(2):
                v = k[n, 2 * t + p]
                for i in range(R):
                    v += x.RR[t, n, p, i] * x.f[t, n, i]
                x.kk[n, 2 * t + p] = v


@nb.njit(**JIT)
def border_right_side(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, s: State, x: Scratch, start: IntArray,
    Ak: FloatArray, out: FloatArray,
) -> None:  # fmt: skip
    """The border's right side."""
    for t in range(T):
        c0, c1, b, e = d.corner[t], d.corner[t + 1], start[t], start[t + 1]
        for i in range(e - b):
            out[b + i] = 0.0
        last, ones = x.P[t], -1.0
        for n in range(N):
            last -= rows.probability[n] * (s.E[t, n] + x.eb[t, n])
            a0, a1 = Ak[n, 2 * t], Ak[n, 2 * t + 1]
            for i in range(e - b):
                v = x.G[n, t, 0, i] * a0 + x.G[n, t, 1, i] * a1
                for k in range(R):
                    q = 0.0
                    for j in range(R):
                        q += x.Q[t, n, k, j] * x.f[t, n, j]
                    v += x.F[t, n, k, i] * q
                out[b + i] += v
        bb, bx = 0.0, 0.0
        for c in range(c0, c1):
            ones += s.m[c]
            bb += x.qm[c] * x.tm[c]
            bx += x.qm[c] * x.tm[c] * d.x[c]
        x.bm[t] = ones - bb
        out[e - 1] += last
        if d.block[t]:
            out[e - 2] -= ones
            for c in range(c0, c1):
                v = -x.qm[c]
                for n in range(N):
                    v += x.part[c, n]
                out[b + c - c0] += v
        else:
            out[b] += (-bx - x.b1[t] * (ones - bb) / x.b0[t]) / x.VP[t]


@nb.njit(**JIT)
def totals_right_side(  # pragma: no cover
    T: int, N: int, x: Scratch, start: IntArray, db: FloatArray, right: FloatArray,
) -> None:  # fmt: skip
    """Right side of the totals (N, 2T) once the border's direction `db` is known."""
    for n in range(N):
        for t in range(T):
            p, q = x.kk[n, 2 * t], x.kk[n, 2 * t + 1]
            for i in range(start[t + 1] - start[t]):
                p -= x.G[n, t, 0, i] * db[start[t] + i]
                q -= x.G[n, t, 1, i] * db[start[t] + i]
            right[n, 2 * t], right[n, 2 * t + 1] = p, q


@nb.njit(**JIT)
def back(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, s: State, x: Scratch, start: IntArray,
    db: FloatArray, deta: FloatArray, sm: float, e: State,
) -> tuple[float, float]:  # fmt: skip
    """Directions e of the market; returns the largest primal and dual steps, inverted."""
    z = x.second
    rp, rd = 1e-300, 1e-300
    right = np.empty(R)
    for t in range(T):
        c0, c1, b, last = d.corner[t], d.corner[t + 1], start[t], start[t + 1] - 1
        d4, q = db[last], 0.0
        e.y4[t] = d4
        for n in range(N):
            for k in range(R):
                v = x.f[t, n, k]
                for i in range(last + 1 - b):
                    v -= x.F[t, n, k, i] * db[b + i]
                right[k] = v
            for k in range(R):
                v = x.RR[t, n, 0, k] * deta[n, 2 * t] + x.RR[t, n, 1, k] * deta[n, 2 * t + 1]
                for j in range(R):
                    v += x.Q[t, n, k, j] * right[j]
                e.y[t, n, k] = v
                if k < R - 1:
                    q += rows.p[k] * v
                    s_, z_ = s.s[t, n, k], s.zs[t, n, k]
                    y = s.y[t, n, k] - (d.least[t, n] if k < 2 else 0.0)
                    ds = x.ts[t, n, k] * ((sm - z.s[t, n, k]) / s_ - y - v)
                    dz = (sm - z.s[t, n, k] - z_ * ds) / s_ - z_
                    e.s[t, n, k], e.zs[t, n, k] = ds, dz
                    rp, rd = max(rp, -ds / s_), max(rd, -dz / z_)
        if d.block[t]:
            e.y5[t] = db[last - 1]
        else:
            e.y5[t] = (x.bm[t] - (q - d4) * x.b1[t]) / x.b0[t]
        lack, mean = db[b], x.b1[t] / x.b0[t]
        for c in range(c0, c1):
            if d.block[t]:
                e.m[c] = db[b + c - c0]
            else:
                e.m[c] = -(x.qm[c] + d.x[c] * (q - d4) + e.y5[t]) * x.tm[c]
                lack -= d.x[c] * e.m[c]
        for c in range(c0, c1):
            if not d.block[t]:  # rounding in the weights must not move P
                e.m[c] += lack * x.tm[c] * (d.x[c] - mean) / x.VP[t]
            dm = e.m[c]
            dz = (sm - z.m[c] - s.zm[c] * dm) / s.m[c] - s.zm[c]
            e.zm[c] = dz
            rp, rd = max(rp, -dm / s.m[c]), max(rd, -dz / s.zm[c])
        for n in range(N):
            step = e.y[t, n, R - 1] - rows.probability[n] * d4
            W, left = s.W[t, n], rows.w_max[t, n] - s.W[t, n]
            dW = x.q_w[t, n]
            for k in range(R):
                dW += rows.w[k] * e.y[t, n, k]
            dW *= -x.theta_w[t, n]
            lo = (sm - z.zw_low[t, n] - s.zw_low[t, n] * dW) / W - s.zw_low[t, n]
            hi = (sm - z.zw_high[t, n] + s.zw_high[t, n] * dW) / left - s.zw_high[t, n]
            e.W[t, n], e.zw_low[t, n], e.zw_high[t, n] = dW, lo, hi
            rp = max(rp, max(-dW / W, dW / left))
            rd = max(rd, max(-lo / s.zw_low[t, n], -hi / s.zw_high[t, n]))
            if d.block[t]:
                for c in range(c0, c1):
                    d6 = x.part[c, n] + x.ybar[c, n] * step - e.m[c] / x.a0[c, n]
                    e.y6[c, n] = d6
                    for i in range(d.point[c * N + n], d.point[c * N + n + 1]):
                        dv = -(x.qv[i] - d.y[i] * step + d6) * x.tv[i]
                        dz = (sm - z.v[i] - s.zv[i] * dv) / s.v[i] - s.zv[i]
                        e.v[i], e.zv[i] = dv, dz
                        rp, rd = max(rp, -dv / s.v[i]), max(rd, -dz / s.zv[i])
            else:
                dE = step * x.V[t, n] + x.eb[t, n]
                low, high = s.E[t, n] - d.e_low[t, n], d.e_high[t, n] - s.E[t, n]
                lo = (sm - z.ze_low[t, n] - s.ze_low[t, n] * dE) / low - s.ze_low[t, n]
                hi = (sm - z.ze_high[t, n] + s.ze_high[t, n] * dE) / high - s.ze_high[t, n]
                e.E[t, n], e.ze_low[t, n], e.ze_high[t, n] = dE, lo, hi
                rp = max(rp, max(-dE / low, dE / high))
                rd = max(rd, max(-lo / s.ze_low[t, n], -hi / s.ze_high[t, n]))
    return rp, rd


@nb.njit(**JIT)
def products(  # pragma: no cover
    T: int, N: int, rows: Rows, d: MarketData, s: State, x: Scratch, e: State, ap: float,
    ad: float,
) -> float:  # fmt: skip
    """Complementarity after a trial step; second-order products into x.second."""
    z, total = x.second, 0.0
    for c in range(s.m.size):
        total += (s.m[c] + ap * e.m[c]) * (s.zm[c] + ad * e.zm[c])
        z.m[c] = e.m[c] * e.zm[c]
    for i in range(s.v.size):
        total += (s.v[i] + ap * e.v[i]) * (s.zv[i] + ad * e.zv[i])
        z.v[i] = e.v[i] * e.zv[i]
    for t in range(T):
        for n in range(N):
            W = s.W[t, n] + ap * e.W[t, n]
            total += W * (s.zw_low[t, n] + ad * e.zw_low[t, n])
            total += (rows.w_max[t, n] - W) * (s.zw_high[t, n] + ad * e.zw_high[t, n])
            z.zw_low[t, n], z.zw_high[t, n] = (
                e.W[t, n] * e.zw_low[t, n],
                -e.W[t, n] * e.zw_high[t, n],
            )
            for k in range(R - 1):
                total += (s.s[t, n, k] + ap * e.s[t, n, k]) * (s.zs[t, n, k] + ad * e.zs[t, n, k])
                z.s[t, n, k] = e.s[t, n, k] * e.zs[t, n, k]
            if not d.block[t]:
                E = s.E[t, n] + ap * e.E[t, n]
                total += (E - d.e_low[t, n]) * (s.ze_low[t, n] + ad * e.ze_low[t, n])
                total += (d.e_high[t, n] - E) * (s.ze_high[t, n] + ad * e.ze_high[t, n])
                z.ze_low[t, n], z.ze_high[t, n] = (
                    e.E[t, n] * e.ze_low[t, n],
                    -e.E[t, n] * e.ze_high[t, n],
                )
    return total


def invert(lo: int, hi: int, A: FloatArray, good: BoolArray) -> None:
    """Inverses of symmetric positive matrices, in place."""
    for n in range(lo, hi):
        c, bad = dpotrf(A[n].T, lower=0, overwrite_a=1, clean=0)
        good[n] = not bad
        if not bad:
            dpotri(c, lower=0, overwrite_c=1)  # in place: c is A's own memory
    mirror(lo, hi, A)


@nb.njit(**JIT)
def mirror(lo: int, hi: int, A: FloatArray) -> None:  # pragma: no cover
    """Copy one triangle of each matrix onto the other."""
    for n in range(lo, hi):
        for i in range(A.shape[1]):
            for j in range(i):
                A[n, j, i] = A[n, i, j]
