"""One linear program over cars and market, by a primal-dual interior-point method.

Market of period t and sample n, in MW: charging A and power fed back B of all cars, W charged and
fed back at once (no battery moves, so one W stands for a whole family of cars with the same
efficiencies; h = η_chg η_dsg of it comes back), day-ahead power P and the cars' power E. Rows, each
with its multiplier y:

    E - F <= P + L,   P <= E + F + L     real-time limit: F = B + Σ h W of (10), or L of the plugs
    U + (1 + η_chg) W <= plugs           of each family that feeds back, U its A + B / η_dsg
    A - B + Σ (1 - h) W = E,   Σ_n π_n E_n = P

The cars' totals, D of a period, are A and B where all cars are one family. Where there are several,
U of each that feeds back comes on top (cars that only charge are a family, too, and have no U), and
under the limit of the plugs, where no row tells A from B, A - B takes the place of the two.

P is a mixture of corners x_s with weights m_s. In a period with a block, each corner carries a
mixture of points (y_i, cost f_i) of E for every sample, with weights v_i; elsewhere E has bounds
and a linear cost.

Per iteration (a) every chain is eliminated into its sample's response (`chains`), (b) the rows of
each period and sample are eliminated by hand, points too, (c) one DT x DT matrix per sample is
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

import numpy as np
from scipy.linalg.lapack import dgetrf, dgetrs, dpotrf, dpotri

from evcm.aggregator.interior import chains as ch
from evcm.aggregator.interior import newton
from evcm.aggregator.interior.chains import Chains, Run, Work
from evcm.aggregator.interior.newton import Market, MarketData, Middle, Rows
from evcm.arrays import BoolArray, FloatArray

MAX_ITERATIONS = 80


@dataclass(frozen=True, eq=False)
class Answer:
    """Where a program stopped: powers (T, N), multipliers, and how well it was solved.

    `levels` (3, M) are X, c and g of all chains; `multipliers` those of rows (T, N, R) and of the
    mean (T,); `s` (T, N, R - 1), `m` and `v` slacks of rows and weights of corners and points; `W`
    (T, N, K) is of each family that feeds back.
    `paid` (T,) is the relaxed cost of each period's trade; `ended` tells optimal, stopped (by the
    caller) or failed.
    """

    levels: FloatArray
    multipliers: tuple[FloatArray, FloatArray]
    s: FloatArray
    m: FloatArray
    v: FloatArray
    P: FloatArray
    E: FloatArray
    W: FloatArray
    paid: FloatArray
    wear: float
    objective: float
    residual: float
    ended: str
    middle: Middle | None


Watch = Callable[[int, float, float, FloatArray, FloatArray], bool]
"""Told iteration, complementarity, objective and multipliers; ends the program if true."""


def invert(lo: int, hi: int, A: FloatArray, whole: FloatArray, good: BoolArray) -> None:
    """Inverses of symmetric positive matrices, in place; `whole` are the matrices."""
    for n in range(lo, hi):
        whole[n] = A[n]
        c, bad = dpotrf(A[n].T, lower=0, overwrite_a=1, clean=0)
        good[n] = not bad
        if not bad:
            dpotri(c, lower=0, overwrite_c=1)  # in place: c is A's own memory
        ch.mirror(A[n])


def _begin(market: Market, chains: Chains, work: Work, price: FloatArray, run: Run) -> None:
    """A first iterate inside all bounds; `price` (T,) of energy sets the scale of multipliers."""
    T, N = market.shape
    y3 = price[:, None] * market.rows.probability
    span = max(0.3 * float((chains.high - chains.low).mean()), 1e-9)
    mu = 0.3 * max(float(np.abs(y3).mean()), 1e-6) * span
    ch.start(chains, work, float(np.mean(chains.up)) * float(np.mean(y3)), mu)
    run(ch.step, N, T, chains, work, 0.0, 0.0, True)
    market.begin(y3, ch.totals(chains, work.power), mu)


def solve_program(
    chains: Chains, rows: Rows, data: MarketData, price: FloatArray, tolerance: float,
    allowed: float, run: Run, watch: Watch | None = None, middle: Middle | None = None,
    keep: float = 0.0,
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
    market, (T, N) = Market(rows, data), data.e_low.shape
    work = ch.make_work(chains, T)
    middle = middle if middle is not None and middle.chains.low is chains.low else None
    warm = middle is not None
    if middle is None:
        _begin(market, chains, work, price, run)
    else:
        work.bounds[:2], work.entry[ch.NU] = middle.levels
        market.resume(middle)
    D, K = market.D, market.K
    whole = np.empty((N, D * T, D * T))
    (eta, deta), good = np.zeros((2, N, D * T)), np.ones(N, bool)
    s, bounds = market.s, market.s.bounds
    pairs = work.bounds[ch.GAP].size + bounds.shape[1]
    run(ch.step, N, T, chains, work, 0.0, 0.0, True)

    def direction(sm: float) -> tuple[float, float]:
        run(ch.right_side, N, T, chains, work, ch.prices(chains, eta), sm)
        k = ch.totals(chains, work.k)
        b = newton.right_side(*market.all, k, A, sm)
        db = dgetrs(lu, pivot, b, trans=1)[0]
        rp, rd = newton.back(*market.all, k, db, A, whole, sm > 0.0, deta)
        run(ch.back, N, T, chains, work, ch.prices(chains, deta))
        reach = work.reach.max(axis=1)
        return 1.0 / max(rp, float(reach[0])), 1.0 / max(rd, float(reach[1]))

    ended, slow, least = "failed", 0, np.inf
    saved: Middle | None = None
    for it in range(MAX_ITERATIONS):
        residual = newton.measure(*market.all, ch.totals(chains, work.power), eta)
        wear = float(work.reach[3].sum())
        comp = float(bounds[ch.GAP] @ bounds[ch.Z] + work.reach[2].sum())
        objective = float(s.period[5].sum()) + wear
        if not np.isfinite(comp + residual):
            residual = np.inf
            break
        if comp < tolerance and (residual < allowed or least < residual < 1e-2):
            ended = "optimal"  # or as good as its digits allow: bounds and plans are checked
            break
        least = min(least, 3 * residual)
        mu = comp / pairs
        if saved is None and 0.2 * keep < comp < keep and residual < 0.03:
            own = work.bounds[:2].copy(), work.entry[ch.NU].copy()
            trade = bounds[:2].copy(), *(a[0].copy() for a in (s.y, s.y4, s.y5, s.y6, s.E))
            saved = Middle(chains, own, trade, data, s.period[0].copy(), mu)
        if watch is not None and watch(it, comp, objective, s.y[0], s.y4[0]):
            ended = "stopped"
            break
        run(ch.factor, N, T, chains, work)
        A = ch.answer(chains, work)
        newton.factor(*market.all, A)
        run(invert, N, A, whole, good)
        if not good.all():
            break
        newton.border(*market.all, A, market.border)
        lu, pivot, bad = dgetrf(market.border.T, overwrite_a=1)
        if bad:
            break

        work.bounds[ch.SECOND] = bounds[ch.SECOND] = 0.0
        sm = mu
        if comp >= tolerance:
            ap, ad = direction(0.0)
            ap, ad = min(1.0, ap), min(1.0, ad)
            run(ch.step, N, T, chains, work, ap, ad, False)
            after = float(work.reach[2].sum())
            after += ch.move(0, bounds.shape[1], bounds, ap, ad, False)
            sm = max((after / comp) ** 3 * mu, 0.02 * tolerance / pairs)
        # else only rows are not met yet: smaller products would cost digits
        ap, ad = direction(sm)
        ap, ad = min(1.0, 0.995 * ap), min(1.0, 0.995 * ad)
        slow = slow + 1 if max(ap, ad) < 1e-3 or (warm and min(ap, ad) < 0.05) else 0
        if warm and slow > 1:  # too far from the other program: from the start, then
            warm, slow, least = False, 0, np.inf
            _begin(market, chains, work, price, run)
            run(ch.step, N, T, chains, work, 0.0, 0.0, True)
            continue
        if slow > 4:
            break
        run(ch.step, N, T, chains, work, ap, ad, True)
        ch.move(0, bounds.shape[1], bounds, ap, ad, True)
        for array, share in ((s.y, ad), (s.y4, ad), (s.y5, ad), (s.y6, ad), (s.E, ap)):
            array[0] += share * array[1]
    g, gap = market.g, work.bounds[ch.GAP]
    levels = np.stack([chains.low + gap[:, 0], gap[:, 2], gap[:, 3]])
    return Answer(
        levels, (s.y[0], s.y4[0]), g.cell[..., 2 * K :], g.m, g.v, s.period[0], s.E[0],
        g.cell[..., :K], s.period[5], wear, objective, residual, ended, saved or middle,
    )  # fmt: skip
