"""Visits as chains: the cars' part of the linear programs, eliminated visit by visit.

A visit of n_v cars is a chain of levels X_j (MWh of the group) with charge c_j and discharge g_j:

    X_j - X_{j-1} = c_j - g_j,   lo_j <= X_j <= hi_j,   0 <= c_j <= c_max,   0 <= g_j <= g_max.

All chains of a sample meet the rest of the problem only in charging power A_t = Σ u c and power fed
back B_t = Σ d g of each family of cars (MW; u = 1 / (Δt η_chg), d = η_dsg / Δt), and these in D
totals of the market (where all cars are of one family, A and B themselves). Given prices of A and
B, Newton's matrix of a chain in its multipliers is tridiagonal. Its inverse follows from products
of ratios, and goes at once into the response of A and B to their prices, one 2T x 2T matrix per
sample and family. A car that never leaves is a ring: one rank-one update.

Every kernel works on a range of samples, each alone and added up in order, so that samples may run
on any number of threads with the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evcm import compiled as nb
from evcm.arrays import BoolArray, FloatArray, IntArray

JIT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy"}
"""No fast-math: it gains nothing here, and leaves the order of a sum to the compiler."""
PRIMAL = 1e-6
"""Regularisation of levels, charge and discharge: flat faces would cancel all digits."""


class Chains(NamedTuple):
    """Chains sorted by sample; entries of all chains one after another (M entries, Q chains).

    `offset` (Q + 1) cuts entries into chains, `of_sample` (N + 1) chains into samples. `at` (M,) is
    where A of an entry's family and period stands among all of a sample; B comes next. `ring` tells
    a car that never leaves. `low`, `high`, `charge_max`, `discharge_max` (M,) bound X, c and g;
    `arrival`, `wear`, `up`, `down` (Q,) are the level before, the cost of g, and MW per unit of c
    and g. `limited`: whether the bounds on c and g matter. `family` (Q,) is of the cars, and `adds`
    (families, 2, D) what a unit of A and of B of each family adds to each total.
    """

    offset: IntArray
    of_sample: IntArray
    at: NDArray[np.int32]
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
    family: IntArray
    adds: FloatArray


GAP, Z, DGAP, DZ, INV, REST, SECOND = range(7)
"""Of each bound: distance, dual, directions of both, 1 / distance, what it adds to the right side
(or dual / distance, while a matrix is made), and the product of the predictor's directions."""

NU, DNU, PIVOT, RATIO, THETA_X, TC, TG, REST_X, RC, RG, H = range(11)
"""Of each entry: multiplier and its direction, 1 / D and L of LDL', the inverses of X, c and g in
it, what is left of their right sides, and M^-1 of those."""


class Work(NamedTuple):
    """Iterate, directions and scratch of the kernels.

    `bounds` (7, M, B) are of X from below and above, of c and g from 0 and, where limited, of c and
    g from above (B = 4 or 6); `entry` (11, M) of levels. `cq` and `gam` close rings. `power`, `k`
    (N, 2T of each family) are A and B of each period in turn and their right sides, `answer`
    (N, families, 2T, 2T) what they answer to prices, and `reach` (4, N) what kernels tell of a
    sample.
    """

    bounds: FloatArray
    entry: FloatArray
    cq: FloatArray
    gam: FloatArray
    power: FloatArray
    k: FloatArray
    answer: FloatArray
    reach: FloatArray


def make_work(C: Chains, periods: int) -> Work:
    """Scratch for a set of chains."""
    M, N, B = C.low.size, C.of_sample.size - 1, 6 if C.limited else 4
    families, size = C.adds.shape[0], 2 * periods
    shapes = [(7, M, B), (11, M), (M if C.ring.any() else 1,), C.ring.shape]
    shapes += [(N, families * size), (N, families * size), (N, families, size, size), (4, N)]
    return Work(*(np.zeros(shape) for shape in shapes))


def totals(C: Chains, each: FloatArray) -> FloatArray:
    """Totals (N, DT) of what is told of A and B of each family (N, 2T of each)."""
    if len(C.adds) == 1:  # A and B are the totals
        return each
    told = each.reshape(len(each), len(C.adds), -1, 2)
    return np.ascontiguousarray(np.einsum("nftp,fpd->ntd", told, C.adds)).reshape(len(each), -1)


def prices(C: Chains, eta: FloatArray) -> FloatArray:
    """Prices of A and B of each family (N, 2T of each) from those of the totals (N, DT)."""
    if len(C.adds) == 1:
        return eta
    told = eta.reshape(len(eta), -1, C.adds.shape[2])
    return np.ascontiguousarray(np.einsum("ntd,fpd->nftp", told, C.adds)).reshape(len(eta), -1)


def answer(C: Chains, w: Work) -> FloatArray:
    """What the totals answer to their prices (N, DT, DT); `factor` has filled `w`."""
    N, families, size, _ = w.answer.shape
    if families == 1:
        return w.answer[:, 0]
    each = w.answer.reshape(N, families, size // 2, 2, size)
    each = np.einsum("nftpx,fpd->nftdx", each, C.adds).reshape(N, families, -1, size // 2, 2)
    whole = np.ascontiguousarray(np.einsum("nfxuq,fqe->nxue", each, C.adds))
    return whole.reshape(N, each.shape[2], -1)


Run = Callable[..., None]
"""Runs a kernel for so many samples, with more arguments."""


def each_sample(threads: int) -> tuple[Run, ThreadPoolExecutor | None]:
    """How to run a kernel for all samples: at once, or cut over a pool that the caller closes."""
    pool = None if threads == 1 else ThreadPoolExecutor(threads)

    def run(kernel: Callable[..., None], samples: int, *args: Any) -> None:
        if pool is None:
            kernel(0, samples, *args)
            return
        cuts = np.linspace(0, samples, min(threads, samples) + 1).astype(int).tolist()
        for _ in pool.map(lambda cut: kernel(*cut, *args), pairwise(cuts)):
            pass

    return run, pool


@nb.njit(**JIT)
def rates(lo: int, hi: int, bounds: FloatArray) -> None:
    """1 / distance and dual / distance of bounds (7, M)."""
    gap, z, inv, rest = (
        bounds[GAP, lo:hi],
        bounds[Z, lo:hi],
        bounds[INV, lo:hi],
        bounds[REST, lo:hi],
    )
    for i in range(hi - lo):
        one = 1.0 / gap[i]
        inv[i], rest[i] = one, z[i] * one


@nb.njit(**JIT)
def rests(lo: int, hi: int, bounds: FloatArray, sm: float) -> None:
    """What bounds add to the right side of products `sm`."""
    inv, rest, second = bounds[INV, lo:hi], bounds[REST, lo:hi], bounds[SECOND, lo:hi]
    for i in range(hi - lo):
        rest[i] = (sm - second[i]) * inv[i]


@nb.njit(**JIT)
def duals(lo: int, hi: int, bounds: FloatArray) -> tuple[float, float]:
    """Directions of duals; the largest primal and dual steps, inverted."""
    z, dgap, dz = bounds[Z, lo:hi], bounds[DGAP, lo:hi], bounds[DZ, lo:hi]
    inv, rest = bounds[INV, lo:hi], bounds[REST, lo:hi]
    rp, rd = 1e-300, 1e-300
    for i in range(hi - lo):
        share = dgap[i] * inv[i]
        dz[i] = rest[i] - z[i] * share - z[i]
        rp, rd = max(rp, -share), max(rd, -dz[i] / z[i])
    return rp, rd


@nb.njit(**JIT)
def move(
    lo: int, hi: int, bounds: FloatArray, ap: float, ad: float, taken: bool,
) -> float:  # fmt: skip
    """Complementarity after a step; takes it, or keeps the products of its directions."""
    total = 0.0
    for i in range(lo, hi):
        dgap, dz = bounds[DGAP, i], bounds[DZ, i]
        gap, z = bounds[GAP, i] + ap * dgap, bounds[Z, i] + ad * dz
        total += gap * z
        if taken:
            bounds[GAP, i], bounds[Z, i] = gap, z
        else:
            bounds[SECOND, i] = dgap * dz
    return total


@nb.njit(**JIT)
def factor(lo: int, hi: int, T: int, C: Chains, w: Work) -> None:
    """LDL' of every chain's matrix, and what A and B of each family answer to their prices.

    A chain adds each pair of periods to `X` once: from the earlier to the later, which may be past
    midnight.
    """
    pivot, ratio, row, cq = w.entry[PIVOT], w.entry[RATIO], np.empty(2 * T), w.cq
    theta_x, tc, tg, X = w.entry[THETA_X], w.entry[TC], w.entry[TG], np.empty((2 * T, 4 * T))
    rate, B, flat = w.bounds[REST], w.bounds.shape[2], w.bounds.reshape(7, -1)
    for n in range(lo, hi):
        first, end = C.offset[C.of_sample[n]], C.offset[C.of_sample[n + 1]]
        rates(B * first, B * end, flat)
        for i in range(first, end):
            own, more = rate[i, 2] + PRIMAL, rate[i, 3] + PRIMAL
            if C.limited:
                own += rate[i, 4]
                more += rate[i, 5]
            theta_x[i], tc[i] = 1.0 / (rate[i, 0] + rate[i, 1] + PRIMAL), 1.0 / own
            tg[i] = 1.0 / more
        for family in range(C.adds.shape[0]):
            X[:] = 0.0
            for q in range(C.of_sample[n], C.of_sample[n + 1]):
                if C.family[q] != family:
                    continue
                a, b, ring = C.offset[q], C.offset[q + 1], C.ring[q]
                L, u, d = b - a, C.up[q], C.down[q]
                pivot[a] = 1.0 / (theta_x[a] + tc[a] + tg[a])
                for i in range(a + 1, b):
                    x, own = theta_x[i - 1], 0.0 if ring and i == b - 1 else theta_x[i]
                    ratio[i - 1] = -x * pivot[i - 1]
                    # Of a ring that neither charges nor discharges nothing is left: any level does.
                    pivot[i] = 1.0 / max(own + x + tc[i] + tg[i] + ratio[i - 1] * x, 1e-12 * x)
                if ring:
                    cq[a:b] = 0.0
                    cq[a], cq[b - 1], w.gam[q] = -1.0, 1.0, 0.0
                    for i in range(a + 1, b):
                        cq[i] -= ratio[i - 1] * cq[i - 1]
                    _solve(q, a, b, ring, w, cq)
                    w.gam[q] = theta_x[b - 1] / (1.0 + theta_x[b - 1] * (cq[b - 1] - cq[a]))
                    for i in range(a, b):
                        t = C.at[i] - 2 * T * family
                        row[t], row[t + 1] = u * tc[i] * cq[i], -d * tg[i] * cq[i]
                    for i in range(2 * T):
                        for j in range(i, 2 * T):
                            X[i, j] += w.gam[q] * row[i] * row[j]
                # Row i of the inverse, times what a price of A and of B takes in each later period.
                diag = 0.0
                for i in range(L - 1, -1, -1):
                    back, ci, gi = ratio[a + i], u * tc[a + i], d * tg[a + i]
                    t = C.at[a + i] - 2 * T * family
                    later, of_a, of_b = row[2 * i + 2 :], X[t, t + 2 :], X[t + 1, t + 2 :]
                    for j in range(2 * (L - 1 - i)):
                        v = -back * later[j]
                        of_a[j] -= ci * v
                        of_b[j] += gi * v
                        later[j] = v
                    diag = pivot[a + i] + back * back * diag
                    row[2 * i], row[2 * i + 1] = ci * diag, -gi * diag
                    X[t, t] += ci * (u - row[2 * i])
                    X[t, t + 1] -= ci * row[2 * i + 1]
                    X[t + 1, t + 1] += gi * (d + row[2 * i + 1])
            whole = w.answer[n, family]
            for i in range(2 * T):
                for j in range(i, 2 * T):
                    v = X[i, j] + X[i, j + 2 * T]
                    if j > i:
                        v += X[j, i] + X[j, i + 2 * T]
                    whole[j, i] = v
            mirror(whole)


@nb.njit(**JIT)
def mirror(A: FloatArray) -> None:
    """Copy what is below the diagonal above it."""
    for i in range(A.shape[0]):
        for j in range(i):
            A[j, i] = A[i, j]


@nb.njit(**JIT)
def right_side(
    lo: int, hi: int, T: int, C: Chains, w: Work, price: FloatArray, sm: float,
) -> None:  # fmt: skip
    """Right sides of a chain's Newton system at prices of A and B; h = M^-1 h0, and k."""
    gap, rest, B, flat = w.bounds[GAP], w.bounds[REST], w.bounds.shape[2], w.bounds.reshape(7, -1)
    nu, rest_x, rc, rg, h = w.entry[NU], w.entry[REST_X], w.entry[RC], w.entry[RG], w.entry[H]
    ratio, theta_x, tc, tg = w.entry[RATIO], w.entry[THETA_X], w.entry[TC], w.entry[TG]
    for n in range(lo, hi):
        own, out = price[n], w.k[n]
        out[:] = 0.0
        rests(B * C.offset[C.of_sample[n]], B * C.offset[C.of_sample[n + 1]], flat, sm)
        for q in range(C.of_sample[n], C.of_sample[n + 1]):
            a, b, ring = C.offset[q], C.offset[q + 1], C.ring[q]
            u, d, cost = C.up[q], C.down[q], C.wear[q]
            for i in range(a, b):
                after = nu[i + 1] if i < b - 1 else (nu[a] if ring else 0.0)
                rest_x[i] = nu[i] - after + rest[i, 1] - rest[i, 0]
                rc[i] = u * own[C.at[i]] - nu[i] - rest[i, 2]
                rg[i] = cost + d * own[C.at[i] + 1] + nu[i] - rest[i, 3]
                if C.limited:
                    rc[i] += rest[i, 4]
                    rg[i] += rest[i, 5]
            before = C.low[b - 1] + gap[b - 1, 0] if ring else C.arrival[q]
            carry = rest_x[b - 1] * theta_x[b - 1] if ring else 0.0
            for i in range(a, b):
                X, x = C.low[i] + gap[i, 0], rest_x[i] * theta_x[i]
                v = X - before - gap[i, 2] + gap[i, 3] - x + rc[i] * tc[i] - rg[i] * tg[i] + carry
                if i > a:
                    v -= ratio[i - 1] * h[i - 1]
                h[i], before, carry = v, X, x
            _solve(q, a, b, ring, w, h)
            for i in range(a, b):
                out[C.at[i]] += u * tc[i] * (h[i] - rc[i])
                out[C.at[i] + 1] -= d * tg[i] * (rg[i] + h[i])


@nb.njit(**JIT)
def _solve(q: int, a: int, b: int, ring: bool, w: Work, x: FloatArray) -> None:
    """The rest of M^-1 of chain q, after the first pass along it."""
    pivot, ratio = w.entry[PIVOT], w.entry[RATIO]
    x[b - 1] *= pivot[b - 1]
    for i in range(b - 2, a - 1, -1):
        x[i] = x[i] * pivot[i] - ratio[i] * x[i + 1]
    if ring:
        y = w.gam[q] * (x[b - 1] - x[a])
        for i in range(a, b):
            x[i] -= y * w.cq[i]


@nb.njit(**JIT)
def back(
    lo: int, hi: int, T: int, C: Chains, w: Work, price: FloatArray,
) -> None:  # fmt: skip
    """Directions at those of prices of A and B; largest steps into reach[0] (primal), reach[1]."""
    dgap, dnu, B, h = w.bounds[DGAP], w.entry[DNU], w.bounds.shape[2], w.entry[H]
    rest_x, rc, rg, ratio = w.entry[REST_X], w.entry[RC], w.entry[RG], w.entry[RATIO]
    theta_x, tc, tg, flat = w.entry[THETA_X], w.entry[TC], w.entry[TG], w.bounds.reshape(7, -1)
    for n in range(lo, hi):
        for q in range(C.of_sample[n], C.of_sample[n + 1]):
            a, b, ring = C.offset[q], C.offset[q + 1], C.ring[q]
            for i in range(a, b):
                dgap[i, 2] = C.up[q] * price[n, C.at[i]]
                dgap[i, 3] = C.down[q] * price[n, C.at[i] + 1]
                dnu[i] = tc[i] * dgap[i, 2] - tg[i] * dgap[i, 3]
                if i > a:
                    dnu[i] -= ratio[i - 1] * dnu[i - 1]
            _solve(q, a, b, ring, w, dnu)
            for i in range(a, b):
                dnu[i] += h[i]
            for i in range(a, b):
                after = dnu[i + 1] if i < b - 1 else (dnu[a] if ring else 0.0)
                dx = -(rest_x[i] + dnu[i] - after) * theta_x[i]
                dc = -(rc[i] + dgap[i, 2] - dnu[i]) * tc[i]
                dg = -(rg[i] + dgap[i, 3] + dnu[i]) * tg[i]
                dgap[i, 0], dgap[i, 1], dgap[i, 2], dgap[i, 3] = dx, -dx, dc, dg
                if C.limited:
                    dgap[i, 4], dgap[i, 5] = -dc, -dg
        a, b = B * C.offset[C.of_sample[n]], B * C.offset[C.of_sample[n + 1]]
        w.reach[0, n], w.reach[1, n] = duals(a, b, flat)


@nb.njit(**JIT)
def step(
    lo: int, hi: int, T: int, C: Chains, w: Work, ap: float, ad: float, taken: bool,
) -> None:  # fmt: skip
    """Complementarity after a step into reach[2]; second-order products where it is not taken.

    Else A and B of each family, and wear into reach[3].
    """
    gap, B, flat = w.bounds[GAP], w.bounds.shape[2], w.bounds.reshape(7, -1)
    for n in range(lo, hi):
        a, b = B * C.offset[C.of_sample[n]], B * C.offset[C.of_sample[n + 1]]
        w.reach[2, n] = move(a, b, flat, ap, ad, taken)
        if not taken:
            continue
        worn, out = 0.0, w.power[n]
        out[:] = 0.0
        for q in range(C.of_sample[n], C.of_sample[n + 1]):
            for i in range(C.offset[q], C.offset[q + 1]):
                w.entry[NU, i] += ad * w.entry[DNU, i]
                worn += C.wear[q] * gap[i, 3]
                out[C.at[i]] += C.up[q] * gap[i, 2]
                out[C.at[i] + 1] += C.down[q] * gap[i, 3]
        w.reach[3, n] = worn


def start(C: Chains, w: Work, price: float, mu: float) -> None:
    """Start inside all bounds, with multipliers near a price of energy (per unit of c)."""
    gap, z, span = w.bounds[GAP], w.bounds[Z], C.high - C.low
    last, first = C.offset[1:] - 1, C.offset[:-1]
    X = C.low + 0.5 * span
    before = np.concatenate([[0.0], X[:-1]])
    before[first] = np.where(C.ring, X[last], C.arrival)
    change, extra = X - before, np.maximum(0.15 * span, 1e-3 * span.mean())
    c, g = np.maximum(change, 0) + extra, np.maximum(-change, 0) + extra
    if C.limited:
        c = np.clip(c, 0.1 * C.charge_max, 0.9 * C.charge_max)
        g = np.clip(g, 0.1 * C.discharge_max, 0.9 * C.discharge_max)
        gap[:, 4], gap[:, 5] = C.charge_max - c, C.discharge_max - g
    gap[:, 0], gap[:, 1], gap[:, 2], gap[:, 3] = X - C.low, C.high - X, c, g
    w.entry[NU], z[:] = price, mu / gap
    end = last[~C.ring]
    z[end, 0] = np.maximum(z[end, 0], price)
    z[:, 2:4] = np.maximum(z[:, 2:4], 0.05 * abs(price))
    w.bounds[DGAP], w.bounds[DZ], w.entry[DNU] = 0.0, 0.0, 0.0
