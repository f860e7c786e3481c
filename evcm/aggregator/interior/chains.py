"""Visits as chains: the cars' part of the linear programs, eliminated visit by visit.

A visit of n_v cars is a chain of levels X_j (MWh of the group) with charge c_j and discharge g_j:

    X_j - X_{j-1} = c_j - g_j,   lo_j <= X_j <= hi_j,   0 <= c_j <= c_max,   0 <= g_j <= g_max.

All chains of a sample meet the rest of the problem only in their totals, charging power
A_t = Σ u c and power fed back B_t = Σ d g (MW; u = 1 / (Δt η_chg), d = η_dsg / Δt). Given prices of
A and B, Newton's matrix of a chain in its multipliers is tridiagonal. Its inverse follows from
products of ratios, and goes at once into the response of the totals to their prices, one 2T x 2T
matrix per sample. A car that never leaves is a ring: one rank-one update.

Every kernel works on a range of samples, each alone and added up in order, so that samples may run
on any number of threads with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from evcm import compiled as nb
from evcm.arrays import BoolArray, FloatArray, IntArray

JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""No fast-math: it gains nothing here, and leaves the order of a sum to the compiler."""
TINY = 1e-14
PRIMAL = 1e-6
"""Regularisation of levels, charge and discharge: flat faces would cancel all digits."""


class Chains(NamedTuple):
    """Chains sorted by sample; entries of all chains one after another (M entries, Q chains).

    `offset` (Q + 1) cuts entries into chains, `of_sample` (N + 1) chains into samples. `first` is a
    chain's period, `ring` tells a car that never leaves. `low`, `high`, `charge_max`,
    `discharge_max` (M,) bound X, c and g; `arrival`, `wear`, `up`, `down` (Q,) are the level
    before, the cost of g, and MW per unit of c and g. `limited`: whether the bounds
    on c and g matter.
    """

    offset: IntArray
    of_sample: IntArray
    first: IntArray
    ring: BoolArray
    low: FloatArray
    high: FloatArray
    charge_max: FloatArray
    discharge_max: FloatArray
    arrival: FloatArray
    wear: FloatArray
    up: FloatArray
    down: FloatArray
    limited: bool


class Levels(NamedTuple):
    """Iterate of the chains (M,): X, c, g, multiplier nu; duals of the bounds."""

    X: FloatArray
    c: FloatArray
    g: FloatArray
    nu: FloatArray
    zl: FloatArray
    zu: FloatArray
    zc: FloatArray
    zg: FloatArray
    zcu: FloatArray
    zgu: FloatArray


class Work(NamedTuple):
    """Scratch of the kernels (M,), the response (N, 4, T, 2T) and right sides (N, 2T)."""

    inv: FloatArray
    D: FloatArray
    Lo: FloatArray
    theta_x: FloatArray
    tc: FloatArray
    tg: FloatArray
    rest_x: FloatArray
    rc: FloatArray
    rg: FloatArray
    h: FloatArray
    cq: FloatArray
    gam: FloatArray
    second: FloatArray
    S: FloatArray
    k: FloatArray
    reach: FloatArray


def make_work(chains: Chains, periods: int) -> Work:
    """Scratch for a set of chains."""
    M, Q, N = chains.low.size, chains.first.size, chains.of_sample.size - 1
    ring = M if chains.ring.any() else 1
    return Work(
        inv=np.zeros((6, M)), D=np.zeros(M), Lo=np.zeros(M), theta_x=np.zeros(M), tc=np.zeros(M),
        tg=np.zeros(M), rest_x=np.zeros(M), rc=np.zeros(M), rg=np.zeros(M), h=np.zeros(M),
        cq=np.zeros(ring), gam=np.zeros(Q), second=np.zeros((6, M)),
        S=np.zeros((N, 4, periods, 2 * periods)), k=np.zeros((N, 2 * periods)),
        reach=np.zeros((4, N)),
    )  # fmt: skip


def each_sample(
    threads: int,
) -> tuple[Callable[[Any, int, tuple[Any, ...]], None], ThreadPoolExecutor | None]:
    """How to run a kernel for all samples: at once, or cut over a pool that the caller closes."""
    if threads == 1:

        def in_row(kernel: Any, samples: int, args: tuple[Any, ...]) -> None:
            kernel(0, samples, *args)

        return in_row, None
    pool = ThreadPoolExecutor(threads)

    def on_pool(kernel: Any, samples: int, args: tuple[Any, ...]) -> None:
        cuts = np.linspace(0, samples, min(threads, samples) + 1).astype(int).tolist()
        done: Iterable[None] = pool.map(lambda cut: kernel(*cut, *args), pairwise(cuts))
        for _ in done:
            pass

    return on_pool, pool


@nb.njit(**JIT)
def factor(  # pragma: no cover
    lo: int, hi: int, T: int, C: Chains, s: Levels, w: Work, A: FloatArray,
) -> None:  # fmt: skip
    """LDL' of every chain's matrix, and the response A (N, 2T, 2T) of the totals to prices."""
    for n in range(lo, hi):
        S4 = w.S[n]
        S4[:] = 0.0
        row, cu, gu = np.empty(T), np.empty(T), np.empty(T)
        low, high, X, c, g = C.low, C.high, s.X, s.c, s.g
        ia, ib, ic, ig, icu, igu = w.inv[0], w.inv[1], w.inv[2], w.inv[3], w.inv[4], w.inv[5]
        D, Lo, theta_x, tc, tg, cq = w.D, w.Lo, w.theta_x, w.tc, w.tg, w.cq
        for i in range(C.offset[C.of_sample[n]], C.offset[C.of_sample[n + 1]]):
            p, q = 1.0 / max(X[i] - low[i], TINY), 1.0 / max(high[i] - X[i], TINY)
            ia[i], ib[i] = p, q
            theta_x[i] = 1.0 / (s.zl[i] * p + s.zu[i] * q + PRIMAL)
            ic[i], ig[i] = 1.0 / c[i], 1.0 / g[i]
            if C.limited:
                icu[i] = 1.0 / max(C.charge_max[i] - c[i], TINY)
                igu[i] = 1.0 / max(C.discharge_max[i] - g[i], TINY)
                tc[i] = 1.0 / (s.zc[i] * ic[i] + s.zcu[i] * icu[i] + PRIMAL)
                tg[i] = 1.0 / (s.zg[i] * ig[i] + s.zgu[i] * igu[i] + PRIMAL)
            else:
                tc[i] = 1.0 / (s.zc[i] * ic[i] + PRIMAL)
                tg[i] = 1.0 / (s.zg[i] * ig[i] + PRIMAL)
        for k in range(C.of_sample[n], C.of_sample[n + 1]):
            a, b = C.offset[k], C.offset[k + 1]
            L, f, u, d = b - a, C.first[k], C.up[k], C.down[k]
            D[a] = 1.0 / (theta_x[a] + tc[a] + tg[a])
            for i in range(a + 1, b):
                ratio = -theta_x[i - 1] * D[i - 1]
                Lo[i - 1] = ratio
                own = 0.0 if C.ring[k] and i == b - 1 else theta_x[i]
                D[i] = 1.0 / (own + theta_x[i - 1] + tc[i] + tg[i] + ratio * theta_x[i - 1])
            if C.ring[k]:
                for i in range(a, b):
                    cq[i] = 0.0
                cq[a], cq[b - 1] = -1.0, 1.0
                for i in range(a + 1, b):
                    cq[i] -= Lo[i - 1] * cq[i - 1]
                cq[b - 1] *= D[b - 1]
                for i in range(b - 2, a - 1, -1):
                    cq[i] = cq[i] * D[i] - Lo[i] * cq[i + 1]
                w.gam[k] = theta_x[b - 1] / (1.0 + theta_x[b - 1] * (cq[b - 1] - cq[a]))
                for i in range(a, b):
                    t = (f + i - a) % T
                    ci, gi = u * tc[i] * cq[i], -d * tg[i] * cq[i]
                    for j in range(i, b):
                        cj, gj = w.gam[k] * u * tc[j] * cq[j], -w.gam[k] * d * tg[j] * cq[j]
                        v = f + j - a - (T if f + i - a >= T else 0)
                        S4[0, t, v] += ci * cj
                        S4[1, t, v] += ci * gj
                        if v != t:
                            S4[2, t, v] += gi * cj
                        S4[3, t, v] += gi * gj
            for j in range(L):
                cu[j], gu[j] = u * tc[a + j], d * tg[a + j]
            diag = 0.0
            for i in range(L - 1, -1, -1):
                if i == L - 1:
                    diag = D[a + i]
                else:
                    ratio = Lo[a + i]
                    diag = D[a + i] + ratio * ratio * diag
                    for j in range(i + 1, L):
                        row[j] *= -ratio
                row[i] = diag
                t = (f + i) % T
                ci, gi = cu[i], gu[i]
                s0, s1, s2, s3 = S4[0, t], S4[1, t], S4[2, t], S4[3, t]
                s0[t] += u * ci - ci * diag * ci
                s1[t] += ci * diag * gi
                s3[t] += d * gi - gi * diag * gi
                back = 0 if f + i < T else T
                for j in range(i + 1, L):
                    m = row[j]
                    cj, gj, v = cu[j] * m, gu[j] * m, f + j - back
                    s0[v] -= ci * cj
                    s1[v] += ci * gj
                    s2[v] += gi * cj
                    s3[v] -= gi * gj
        _fold(S4, A[n])


@nb.njit(**JIT)
def _fold(S4: FloatArray, A: FloatArray) -> None:  # pragma: no cover
    """Symmetric A (2T, 2T), rows A_t and B_t in turn, from the parts above the diagonal."""
    T = S4.shape[1]
    A[:] = 0.0
    for t in range(T):
        A[2 * t, 2 * t] += S4[0, t, t]
        A[2 * t, 2 * t + 1] += S4[1, t, t]
        A[2 * t + 1, 2 * t] += S4[1, t, t]
        A[2 * t + 1, 2 * t + 1] += S4[3, t, t]
        for u in range(2 * T):
            if u == t:
                continue
            v = u if u < T else u - T
            x0, x1, x2, x3 = S4[0, t, u], S4[1, t, u], S4[2, t, u], S4[3, t, u]
            A[2 * t, 2 * v] += x0
            A[2 * v, 2 * t] += x0
            A[2 * t, 2 * v + 1] += x1
            A[2 * v + 1, 2 * t] += x1
            A[2 * t + 1, 2 * v] += x2
            A[2 * v, 2 * t + 1] += x2
            A[2 * t + 1, 2 * v + 1] += x3
            A[2 * v + 1, 2 * t + 1] += x3


@nb.njit(**JIT)
def right_side(  # pragma: no cover
    lo: int, hi: int, T: int, C: Chains, s: Levels, w: Work, eta: FloatArray, sm: float,
) -> None:  # fmt: skip
    """Right sides of a chain's Newton system; h = M^-1 h0, and k (N, 2T) for the totals."""
    for n in range(lo, hi):
        X, c, g, nu = s.X, s.c, s.g, s.nu
        ia, ib, ic, ig, icu, igu = w.inv[0], w.inv[1], w.inv[2], w.inv[3], w.inv[4], w.inv[5]
        kl, ku, kc, kg = w.second[0], w.second[1], w.second[2], w.second[3]
        rest_x, rc, rg, theta_x, tc, tg, h = w.rest_x, w.rc, w.rg, w.theta_x, w.tc, w.tg, w.h
        out, price = w.k[n], eta[n]
        out[:] = 0.0
        for q in range(C.of_sample[n], C.of_sample[n + 1]):
            a, b = C.offset[q], C.offset[q + 1]
            f, u, d, cost = C.first[q] - a, C.up[q], C.down[q], C.wear[q]
            for i in range(a, b - 1):
                rest_x[i] = nu[i] - nu[i + 1]
            rest_x[b - 1] = nu[b - 1] - (nu[a] if C.ring[q] else 0.0)
            for i in range(a, b):
                rest_x[i] += (sm - ku[i]) * ib[i] - (sm - kl[i]) * ia[i]
                t = f + i
                if t >= T:
                    t -= T
                rc[i] = u * price[2 * t] - nu[i] - (sm - kc[i]) * ic[i]
                rg[i] = cost + d * price[2 * t + 1] + nu[i] - (sm - kg[i]) * ig[i]
            if C.limited:
                for i in range(a, b):
                    rc[i] += (sm - w.second[4, i]) * icu[i]
                    rg[i] += (sm - w.second[5, i]) * igu[i]
            before = X[b - 1] if C.ring[q] else C.arrival[q]
            carry = rest_x[b - 1] * theta_x[b - 1] if C.ring[q] else 0.0
            for i in range(a, b):
                own = rest_x[i] * theta_x[i]
                v = X[i] - before - c[i] + g[i] - own + rc[i] * tc[i] - rg[i] * tg[i] + carry
                if i > a:
                    v -= w.Lo[i - 1] * h[i - 1]
                h[i] = v
                before = X[i]
                carry = own
            h[b - 1] *= w.D[b - 1]
            for i in range(b - 2, a - 1, -1):
                h[i] = h[i] * w.D[i] - w.Lo[i] * h[i + 1]
            if C.ring[q]:
                y = w.gam[q] * (h[b - 1] - h[a])
                for i in range(a, b):
                    h[i] -= y * w.cq[i]
            for i in range(a, b):
                t = f + i
                if t >= T:
                    t -= T
                out[2 * t] += u * tc[i] * (h[i] - rc[i])
                out[2 * t + 1] -= d * tg[i] * (rg[i] + h[i])


@nb.njit(**JIT)
def back(  # pragma: no cover
    lo: int, hi: int, T: int, C: Chains, s: Levels, w: Work, deta: FloatArray, sm: float,
    e: Levels,
) -> None:  # fmt: skip
    """Directions e of all chain variables; largest steps into reach[0] (primal), reach[1]."""
    for n in range(lo, hi):
        rp, rd = 1e-300, 1e-300
        ia, ib, ic, ig, icu, igu = w.inv[0], w.inv[1], w.inv[2], w.inv[3], w.inv[4], w.inv[5]
        kl, ku, kc, kg = w.second[0], w.second[1], w.second[2], w.second[3]
        price, tc, tg = deta[n], w.tc, w.tg
        z = np.empty(T)
        for q in range(C.of_sample[n], C.of_sample[n + 1]):
            a, b = C.offset[q], C.offset[q + 1]
            f, L, u, d = C.first[q] - a, b - a, C.up[q], C.down[q]
            for i in range(a, b):
                t = f + i
                if t >= T:
                    t -= T
                p0, p1 = u * price[2 * t], d * price[2 * t + 1]
                e.c[i], e.g[i] = p0, p1
                y = tc[i] * p0 - tg[i] * p1
                if i > a:
                    y -= w.Lo[i - 1] * z[i - a - 1]
                z[i - a] = y
            z[L - 1] *= w.D[b - 1]
            for i in range(L - 2, -1, -1):
                z[i] = z[i] * w.D[a + i] - w.Lo[a + i] * z[i + 1]
            if C.ring[q]:
                y = w.gam[q] * (z[L - 1] - z[0])
                for i in range(L):
                    z[i] -= y * w.cq[a + i]
            for i in range(L):
                e.nu[a + i] = z[i] + w.h[a + i]
            for i in range(a, b - 1):
                e.X[i] = -(w.rest_x[i] + e.nu[i] - e.nu[i + 1]) * w.theta_x[i]
            e.X[b - 1] = (
                -(w.rest_x[b - 1] + e.nu[b - 1] - (e.nu[a] if C.ring[q] else 0.0))
                * w.theta_x[b - 1]
            )
            for i in range(a, b):
                e.c[i] = -(w.rc[i] + e.c[i] - e.nu[i]) * tc[i]
                e.g[i] = -(w.rg[i] + e.g[i] + e.nu[i]) * tg[i]
        for i in range(C.offset[C.of_sample[n]], C.offset[C.of_sample[n + 1]]):
            dx, ec, eg = e.X[i], e.c[i], e.g[i]
            xl = (sm - kl[i] - s.zl[i] * dx) * ia[i] - s.zl[i]
            xu = (sm - ku[i] + s.zu[i] * dx) * ib[i] - s.zu[i]
            xc = (sm - kc[i] - s.zc[i] * ec) * ic[i] - s.zc[i]
            xg = (sm - kg[i] - s.zg[i] * eg) * ig[i] - s.zg[i]
            e.zl[i], e.zu[i], e.zc[i], e.zg[i] = xl, xu, xc, xg
            rp = max(rp, max(max(-dx * ia[i], dx * ib[i]), max(-ec * ic[i], -eg * ig[i])))
            rd = max(rd, max(max(-xl / s.zl[i], -xu / s.zu[i]), max(-xc / s.zc[i], -xg / s.zg[i])))
            if C.limited:
                yc = (sm - w.second[4, i] + s.zcu[i] * ec) * icu[i] - s.zcu[i]
                yg = (sm - w.second[5, i] + s.zgu[i] * eg) * igu[i] - s.zgu[i]
                e.zcu[i], e.zgu[i] = yc, yg
                rp = max(rp, max(ec * icu[i], eg * igu[i]))
                rd = max(rd, max(-yc / s.zcu[i], -yg / s.zgu[i]))
        w.reach[0, n], w.reach[1, n] = rp, rd


@nb.njit(**JIT)
def products(  # pragma: no cover
    lo: int, hi: int, C: Chains, s: Levels, w: Work, e: Levels, ap: float, ad: float,
) -> None:  # fmt: skip
    """Complementarity after a trial step into reach[2]; second-order products."""
    for n in range(lo, hi):
        total = 0.0
        second = w.second
        for i in range(C.offset[C.of_sample[n]], C.offset[C.of_sample[n + 1]]):
            x, c, g = s.X[i] + ap * e.X[i], s.c[i] + ap * e.c[i], s.g[i] + ap * e.g[i]
            total += (x - C.low[i]) * (s.zl[i] + ad * e.zl[i])
            total += (C.high[i] - x) * (s.zu[i] + ad * e.zu[i])
            total += c * (s.zc[i] + ad * e.zc[i]) + g * (s.zg[i] + ad * e.zg[i])
            second[0, i] = e.X[i] * e.zl[i]
            second[1, i] = -e.X[i] * e.zu[i]
            second[2, i] = e.c[i] * e.zc[i]
            second[3, i] = e.g[i] * e.zg[i]
            if C.limited:
                total += (C.charge_max[i] - c) * (s.zcu[i] + ad * e.zcu[i])
                total += (C.discharge_max[i] - g) * (s.zgu[i] + ad * e.zgu[i])
                second[4, i] = -e.c[i] * e.zcu[i]
                second[5, i] = -e.g[i] * e.zgu[i]
        w.reach[2, n] = total


@nb.njit(**JIT)
def step(  # pragma: no cover
    lo: int, hi: int, T: int, C: Chains, s: Levels, w: Work, e: Levels, ap: float, ad: float,
    total: FloatArray,
) -> None:  # fmt: skip
    """Take a step; totals A, B (N, 2T); complementarity into reach[2], wear into reach[3]."""
    for n in range(lo, hi):
        comp, worn, out = 0.0, 0.0, total[n]
        out[:] = 0.0
        for q in range(C.of_sample[n], C.of_sample[n + 1]):
            f, a, cost = C.first[q], C.offset[q], C.wear[q]
            for i in range(a, C.offset[q + 1]):
                s.X[i] += ap * e.X[i]
                s.c[i] += ap * e.c[i]
                s.g[i] += ap * e.g[i]
                s.nu[i] += ad * e.nu[i]
                s.zl[i] += ad * e.zl[i]
                s.zu[i] += ad * e.zu[i]
                s.zc[i] += ad * e.zc[i]
                s.zg[i] += ad * e.zg[i]
                comp += (s.X[i] - C.low[i]) * s.zl[i] + (C.high[i] - s.X[i]) * s.zu[i]
                comp += s.c[i] * s.zc[i] + s.g[i] * s.zg[i]
                if C.limited:
                    s.zcu[i] += ad * e.zcu[i]
                    s.zgu[i] += ad * e.zgu[i]
                    comp += (C.charge_max[i] - s.c[i]) * s.zcu[i]
                    comp += (C.discharge_max[i] - s.g[i]) * s.zgu[i]
                worn += cost * s.g[i]
                t = f + i - a
                if t >= T:
                    t -= T
                out[2 * t] += C.up[q] * s.c[i]
                out[2 * t + 1] += C.down[q] * s.g[i]
        w.reach[2, n], w.reach[3, n] = comp, worn


def first_levels(chains: Chains, price: float, mu: float) -> Levels:
    """A start inside all bounds, its multipliers near a price of energy (per unit of c)."""
    span = chains.high - chains.low
    X = chains.low + 0.5 * span
    last, start = chains.offset[1:] - 1, chains.offset[:-1]
    before = np.concatenate([[0.0], X[:-1]])
    before[start] = np.where(chains.ring, X[last], chains.arrival)
    change, extra = X - before, np.maximum(0.15 * span, 1e-3 * span.mean())
    c, g = np.maximum(change, 0) + extra, np.maximum(-change, 0) + extra
    if chains.limited:
        c = np.clip(c, 0.1 * chains.charge_max, 0.9 * chains.charge_max)
        g = np.clip(g, 0.1 * chains.discharge_max, 0.9 * chains.discharge_max)
    nu = np.full(X.size, price)
    zl, zu, zc, zg = mu / (X - chains.low), mu / (chains.high - X), mu / c, mu / g
    end = last[~chains.ring]
    zl[end] = np.maximum(zl[end], nu[end])
    zc, zg = np.maximum(zc, 0.05 * abs(price)), np.maximum(zg, 0.05 * abs(price))
    none = np.zeros(X.size if chains.limited else 1)
    zcu, zgu = none, none.copy()
    if chains.limited:
        zcu, zgu = mu / (chains.charge_max - c), mu / (chains.discharge_max - g)
    return Levels(X, c, g, nu, zl, zu, zc, zg, zcu, zgu)


def zero_levels(chains: Chains) -> Levels:
    """Room for directions."""
    M, limited = chains.low.size, chains.low.size if chains.limited else 1
    X, c, g, nu, zl, zu, zc, zg = (np.zeros(M) for _ in range(8))
    return Levels(X, c, g, nu, zl, zu, zc, zg, np.zeros(limited), np.zeros(limited))
