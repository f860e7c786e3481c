"""One linear program over cars and market, by a primal-dual interior-point method.

Market of period t and sample n, in MW: charging A and power fed back B of all cars, W charged and
fed back at once (no battery moves, so one W stands for all cars; h = η_chg η_dsg of it comes back),
day-ahead power P and the cars' power E. Rows, each with its multiplier y:

    E - F <= P + L,   P <= E + F + L     real-time limit: F = B + h W of (10), or L of the plugs
    A + B / η_dsg + (1 + η_chg) W <= plugs
    A - B + (1 - h) W = E,   Σ_n π_n E_n = P

P is a mixture of corners x_s with weights m_s. In a period with a block, each corner carries a
mixture of points (y_i, cost f_i) of E for every sample, with weights v_i; elsewhere E has bounds
and a linear cost.

Per iteration (a) every chain is eliminated into its sample's response (`chains`), (b) the rows of
each period and sample are eliminated by hand, points too, (c) one 2T x 2T matrix per sample is
inverted, and (d) a border of 2 unknowns per period (P and the multiplier of the mean), or of all
corners, remains and is solved densely. The direction is Mehrotra's predictor and corrector. Free
variables are regularised (primal 1e-5, dual 1e-9): E is usually far from its bounds, and cancels
all digits otherwise.

References
----------
S. Mehrotra, "On the implementation of a primal-dual interior point method", SIAM J. Optimization
2(4), 1992. Chains and samples are eliminated as in J. Gondzio and A. Grothey, "Exploiting structure
in parallel implementation of interior point methods for optimization", Comput. Manag. Sci. 6, 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.linalg.lapack import dgetrf, dgetrs

from evcm.aggregator.interior import chains as ch
from evcm.aggregator.interior import kernels
from evcm.aggregator.interior.chains import Chains, Levels
from evcm.aggregator.interior.kernels import MarketData, R, Rows, Scratch, State
from evcm.arrays import FloatArray

MAX_ITERATIONS = 80


class Middle(NamedTuple):
    """An iterate half way to an optimum, from which a program of the same chains starts."""

    chains: Chains
    levels: Levels
    state: State
    data: MarketData
    P: FloatArray
    mu: float


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a program stopped: powers (T, N), multipliers, and how well it was solved.

    `paid` (T,) is the relaxed cost of each period's trade; `ended` tells optimal, stopped (by the
    caller) or failed.
    """

    chains: Levels
    state: State
    P: FloatArray
    E: FloatArray
    W: FloatArray
    paid: FloatArray
    wear: float
    objective: float
    complementarity: float
    residual: float
    iterations: int
    ended: str
    middle: Middle | None

    @property
    def multipliers(self) -> tuple[FloatArray, FloatArray]:
        """Of the rows (T, N, R) and of the mean (T,)."""
        return self.state.y, self.state.y4


Watch = Callable[[int, float, float, float, FloatArray, FloatArray], bool]
"""Told iteration, complementarity, residual, objective, multipliers; ends the program if true."""


def _start(
    rows: Rows, d: MarketData, chains: Chains, price: FloatArray, work: ch.Work
) -> tuple[Levels, State]:
    """A first iterate inside all bounds; `price` (T,) of energy sets the scale of multipliers."""
    T, N = d.e_low.shape
    y3 = price[:, None] * rows.probability
    scale = max(float(np.abs(y3).mean()), 1e-6)
    span = chains.high - chains.low
    mu = 0.3 * scale * max(float(0.3 * span.mean()), 1e-9)
    levels = ch.first_levels(chains, float(np.mean(chains.up)) * float(np.mean(y3)), mu)
    total = np.zeros((N, 2 * T))
    ch.step(0, N, T, chains, levels, work, ch.zero_levels(chains), 0.0, 0.0, total)
    A, B = total[:, 0::2].T, total[:, 1::2].T
    net = A - B
    size = 0.2 * float(np.abs(A).mean()) + 1e-3
    W = np.minimum(size, 0.5 * rows.w_max)
    floor = np.maximum(0.05 * np.abs(y3), 0.01 * scale)
    P = np.clip(net @ rows.probability, d.x[d.corner[:-1]], d.x[d.corner[1:] - 1])
    left = (
        rows.limit[..., : R - 1]
        - A[..., None] * rows.ab[: R - 1, 0] - B[..., None] * rows.ab[: R - 1, 1]
        - W[..., None] * rows.w[: R - 1] - P[:, None, None] * rows.p[: R - 1]
    )  # fmt: skip
    s = np.maximum(left, size)
    y = np.empty((T, N, R))
    y[..., : R - 1] = np.maximum(mu / s, floor[..., None])
    y[..., 2] = mu / s[..., 2]
    y[..., R - 1] = y3
    E = net + rows.w[R - 1] * W
    cars = (W, mu / W, mu / (rows.w_max - W), s, y[..., : R - 1].copy(), y)
    return levels, State(*cars, *_trade(rows, d, y, np.zeros(T), P, E, mu))


def _trade(
    rows: Rows, d: MarketData, y: FloatArray, y4: FloatArray, P: FloatArray, E: FloatArray,
    mu: float,
) -> tuple[FloatArray, ...]:  # fmt: skip
    """The part of a state that belongs to corners, points and bounds of E, near P and E."""
    T, N = d.e_low.shape
    K, S = d.y.size, d.x.size
    of = np.repeat(np.arange(T), np.diff(d.corner))
    first, last = d.x[d.corner[:-1]], d.x[d.corner[1:] - 1]
    m = np.exp(-np.abs(d.x - np.clip(P, first, last)[of]) / (0.1 * (last - first)[of] + 1e-6))
    m += 0.02
    m = m / np.bincount(of, m, T)[of]
    room = d.e_high - d.e_low
    E = np.clip(E, d.e_low + 0.1 * room, d.e_high - 0.1 * room)
    count = np.diff(d.point)
    of_point = np.repeat(np.arange(count.size), count)
    v = (np.repeat(m, N) / np.maximum(count, 1))[of_point] if K else np.zeros(0)
    y6 = np.zeros((S, N))
    y3 = y[..., R - 1] - y4[:, None] * rows.probability
    q = (y[..., : R - 1] @ rows.p[: R - 1]).sum(axis=1)
    gm = d.cost + d.x * (q - y4)[of]
    zv = np.zeros(0)
    if K:
        corner, sample = of_point // N, of_point % N
        cost = d.f - d.y * y3[of[corner], sample]
        least = np.full(S * N, np.inf)
        np.minimum.at(least, of_point, cost)
        given = np.where(count > 0, mu / np.repeat(m, N) * count - least, 0.0)
        y6 = given.reshape(S, N)
        gm = gm - y6.sum(axis=1) * d.block[of]
        zv = np.maximum(mu / np.maximum(v, 1e-300), cost + given[of_point])
    least = np.full(T, np.inf)
    np.minimum.at(least, of, gm)
    y5 = -least + mu
    zm = np.maximum(mu / m, gm + y5[of])
    return E, mu / (E - d.e_low), mu / (d.e_high - E), m, zm, v, zv, y4, y5, y6


def _resume(rows: Rows, d: MarketData, old: Middle) -> tuple[Levels, State]:
    """The iterate of a like program; only periods whose corners or points differ start anew."""
    T, N = d.e_low.shape
    levels, s, o = Levels(*(a.copy() for a in old.levels)), old.state, old.data
    trade = _trade(rows, d, s.y, s.y4.copy(), old.P, s.E, old.mu)
    fresh = State(*(a.copy() for a in s[:6]), *trade)
    for t in range(T):
        at, was = slice(*d.corner[t : t + 2]), slice(*o.corner[t : t + 2])
        k = slice(*d.point[[at.start * N, at.stop * N]])
        j = slice(*o.point[[was.start * N, was.stop * N]])
        if (
            d.block[t] != o.block[t]
            or not np.array_equal(d.x[at], o.x[was])
            or not np.array_equal(d.cost[at], o.cost[was])
            or not np.array_equal(d.y[k], o.y[j])
            or not np.array_equal(d.f[k], o.f[j])
        ):
            continue
        fresh.m[at], fresh.zm[at], fresh.v[k], fresh.zv[k] = s.m[was], s.zm[was], s.v[j], s.zv[j]
        fresh.y5[t], fresh.y6[at] = s.y5[t], s.y6[was]
        kept = (d.e_low[t] == o.e_low[t]) & (d.e_high[t] == o.e_high[t])
        for new, former in ((fresh.E, s.E), (fresh.ze_low, s.ze_low), (fresh.ze_high, s.ze_high)):
            new[t, kept] = former[t, kept]
    return levels, fresh


def _zeros(state: State) -> State:
    return State(*(np.zeros_like(a) for a in state))


def solve_program(
    chains: Chains, rows: Rows, data: MarketData, price: FloatArray, tolerance: float,
    allowed: float, run: Callable[[Any, int, tuple[Any, ...]], None],
    watch: Watch | None = None, middle: Middle | None = None, keep: float = 0.0,
) -> Answer:  # fmt: skip
    """Solve one linear program to a complementarity of `tolerance` (the money of the data).

    Parameters
    ----------
    chains, rows, data
        Cars, market rows, and the corners and points that are open.
    price : (T,)
        Price near which the multipliers start.
    allowed : float
        Largest violation of a row at which a program counts as solved (units of power).
    run : callable
        Runs a kernel for every sample (`chains.each_sample`).
    watch : callable, optional
        May end the program early.
    middle : Middle, optional
        Iterate of a like program to start from.
    keep : float
        Complementarity near which an iterate is kept for like programs.
    """
    d, (T, N) = data, data.e_low.shape
    work = ch.make_work(chains, T)
    middle = middle if middle is not None and middle.chains.low is chains.low else None
    warm = middle is not None
    levels, s = _resume(rows, d, middle) if middle else _start(rows, d, chains, price, work)
    e, me = ch.zero_levels(chains), _zeros(s)
    width = np.where(d.block, np.diff(d.corner) + 2, 2)
    start = np.concatenate([[0], np.cumsum(width)]).astype(np.int64)
    size, wide, S = int(start[-1]), int(width.max()), d.x.size
    grid, each = (T, N), (S, N)
    x = Scratch(
        np.zeros(T), np.zeros(grid), np.zeros(grid), np.zeros(S), np.zeros(d.y.size),
        np.ones(each), np.zeros(each), np.zeros(T), np.zeros(T), np.zeros(T),
        np.zeros((N, T, 2, wide)), np.zeros((T, N, R, R)), np.zeros((T, N, R, wide)),
        np.zeros((T, N, 2, R)), np.zeros((T, wide, wide)), np.zeros((T, N, R)),
        np.zeros((N, 2 * T)), np.zeros(each), np.zeros(grid), np.zeros(grid), np.zeros(S),
        np.zeros(d.y.size), np.zeros((T, N, R)), np.zeros(T), _zeros(s),
    )  # fmt: skip
    A, K, total, eta = (
        np.zeros((N, 2 * T, 2 * T)), np.zeros((size, size)), np.zeros((N, 2 * T)),
        np.zeros((N, 2 * T)),
    )  # fmt: skip
    whole = np.empty_like(A)
    right, b, found, good = np.zeros((N, 2 * T)), np.zeros(size), np.zeros(3), np.ones(N, bool)
    pairs = (6 if chains.limited else 4) * chains.low.size + 5 * T * N
    pairs += 2 * int((~d.block).sum()) * N + S + d.y.size
    run(ch.step, N, (T, chains, levels, work, e, 0.0, 0.0, total))

    def direction(sm: float) -> tuple[float, float]:
        run(ch.right_side, N, (T, chains, levels, work, eta, sm))
        kernels.right_side(T, N, rows, d, s, x, work.k, total, sm)
        Ak = (A @ x.kk[:, :, None])[:, :, 0]
        kernels.border_right_side(T, N, rows, d, s, x, start, Ak, b)
        db = dgetrs(lu, pivot, b, trans=1)[0]
        kernels.totals_right_side(T, N, x, start, db, right)
        deta = (A @ right[:, :, None])[:, :, 0]
        if sm > 0.0:  # digits that the inverse has lost: the predictor can do without
            rest = right - (whole @ deta[:, :, None])[:, :, 0]
            deta += (A @ rest[:, :, None])[:, :, 0]
        rp, rd = kernels.back(T, N, rows, d, s, x, start, db, deta, sm, me)
        run(ch.back, N, (T, chains, levels, work, deta, sm, e))
        return (
            1.0 / max(rp, float(work.reach[0].max())), 1.0 / max(rd, float(work.reach[1].max()))
        )  # fmt: skip

    ended, iterations, slow, least = "failed", 0, 0, np.inf
    saved: Middle | None = None
    for it in range(MAX_ITERATIONS):
        iterations = it
        kernels.totals(T, N, d, s, x)
        kernels.measure(T, N, rows, d, s, x, total, eta, found)
        comp = float(found[0] + work.reach[2].sum())
        residual, objective = float(found[1]), float(found[2] + work.reach[3].sum())
        if not np.isfinite(comp + residual):
            break
        if comp < tolerance and (residual < allowed or least < residual < 1e-2):
            ended = "optimal"  # or as good as its digits allow: bounds and plans are checked
            break
        least = min(least, 3 * residual)
        if saved is None and 0.2 * keep < comp < keep and residual < 0.03:
            saved = Middle(
                chains, Levels(*(a.copy() for a in levels)), State(*(a.copy() for a in s)), d,
                x.P.copy(), comp / pairs,
            )  # fmt: skip
        if watch is not None and watch(it, comp, residual, objective, s.y, s.y4):
            ended = "stopped"
            break
        mu = comp / pairs
        run(ch.factor, N, (T, chains, levels, work, A))
        kernels.factor(T, N, rows, d, s, x, A)
        whole[:] = A
        run(kernels.invert, N, (A, good))
        if not good.all():
            break
        kernels.border(T, N, rows, d, x, start, A, K)
        lu, pivot, bad = dgetrf(K.T, overwrite_a=1)
        if bad:
            break

        work.second[:] = 0.0
        for array in x.second:
            array[:] = 0.0
        sm = mu
        if comp >= tolerance:
            ap, ad = direction(0.0)
            ap, ad = min(1.0, ap), min(1.0, ad)
            run(ch.products, N, (chains, levels, work, e, ap, ad))
            after = float(work.reach[2].sum()) + kernels.products(T, N, rows, d, s, x, me, ap, ad)
            sm = max((after / comp) ** 3 * mu, 0.02 * tolerance / pairs)
        # else only rows are not met yet: smaller products would cost digits
        ap, ad = direction(sm)
        ap, ad = min(1.0, 0.995 * ap), min(1.0, 0.995 * ad)
        slow = slow + 1 if max(ap, ad) < 1e-3 or (warm and min(ap, ad) < 0.05) else 0
        if warm and slow > 1:  # too far from the other program: from the start, then
            warm, slow, least = False, 0, np.inf
            levels, s = _start(rows, d, chains, price, work)
            run(ch.step, N, (T, chains, levels, work, e, 0.0, 0.0, total))
            continue
        if slow > 4:
            break
        run(ch.step, N, (T, chains, levels, work, e, ap, ad, total))
        for name in ("W", "s", "m", "v", "E"):
            array, change = getattr(s, name), getattr(me, name)
            array += ap * change
        for name in (
            "zw_low",
            "zw_high",
            "zs",
            "y",
            "ze_low",
            "ze_high",
            "zm",
            "zv",
            "y4",
            "y5",
            "y6",
        ):
            array, change = getattr(s, name), getattr(me, name)
            array += ad * change
    of = np.repeat(np.arange(T), np.diff(d.corner))
    paid = np.asarray(np.bincount(of, d.cost * s.m, T), float)
    if d.y.size:
        corner = np.repeat(np.arange(S * N), np.diff(d.point)) // N
        paid += np.bincount(of[corner], d.f * s.v, T)
    paid += (d.e_cost * s.E).sum(axis=1) * ~d.block
    return Answer(
        levels, s, x.P, s.E, s.W, paid, float(work.reach[3].sum()), objective, comp, residual,
        iterations, ended, saved or middle,
    )  # fmt: skip
