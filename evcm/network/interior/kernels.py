"""Numba kernels of the fast AC OPF: branch flows with derivatives, and one interior-point solve.

The method is a primal-dual interior point on the polar AC OPF, per unit. Generators, power
not supplied and caps are all *injections*: a power at one bus, active or reactive, with bounds,
cost and a sign (+1 supply, -1 demand). Their rows of the Newton system are diagonal and are
eliminated at once, which leaves four unknowns per bus for `evcm.network.interior.blocks`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray
from evcm.network.interior.blocks import fill, jit, solve_blocks
from evcm.network.interior.branch import Grid, branch_second, branch_terms, hold, scatter
from evcm.network.status import Status
from evcm.paper import implements

SOLVED, ITERATIONS, SINGULAR, DIVERGED = (
    int(s) for s in (Status.OPTIMAL, Status.ITERATION_LIMIT, Status.SINGULAR, Status.DIVERGED)
)
"""How a solve ended, as the kernels know it."""


class Effort(NamedTuple):
    """Knobs of one attempt."""

    tolerance: float
    gap: float
    iterations: int
    sigma: float
    barrier: float
    damping: float


@jit
def _largest_step(s: FloatArray, ds: FloatArray, on: NDArray[np.bool_]) -> float:
    step = 1.0
    for i in range(s.size):
        if on[i] and ds[i] < 0.0 and -s[i] / ds[i] * 0.99995 < step:
            step = -s[i] / ds[i] * 0.99995
    return step


@implements("45", "46", "49", "50", "51")
@jit
def interior_point(
    g: Grid,
    p_load: FloatArray,
    q_load: FloatArray,
    low: FloatArray,
    high: FloatArray,
    effort: Effort,
    x: FloatArray,
    u: FloatArray,
    lam: FloatArray,
    mult: FloatArray,
) -> tuple[int, int]:
    """One period, all in pu. `x` (bus, 2) angle and voltage, `u` injections: start and result.

    `lam` (bus, 2) and `mult` (2 bus + 2 injections + 4 branches) receive the multipliers of the
    balances and of the limits: voltage low, voltage high, injection low, injection high, flow from,
    flow to, angle low, angle high. Returns how it ended, and the iterations.
    """
    n, nj, nl = x.shape[0], u.size, g.f.size
    nz = 2 * n + 2 * nj + 4 * nl
    o_u, o_f = 2 * n, 2 * n + 2 * nj
    o_a = o_f + 2 * nl
    fixed = np.zeros((n, 2), np.bool_)
    fixed[g.slack, 0] = True
    held = np.zeros(nj, np.bool_)
    on = np.zeros(nz, np.bool_)
    for k in range(n):
        if g.v_max[k] - g.v_min[k] < 1e-9:
            fixed[k, 1] = True
            x[k, 1] = 0.5 * (g.v_max[k] + g.v_min[k])
        else:
            on[k] = on[n + k] = True
    for j in range(nj):
        if high[j] - low[j] < 1e-9:
            held[j] = True
            u[j] = 0.5 * (high[j] + low[j])
        else:
            on[o_u + j] = low[j] > -1e9
            on[o_u + nj + j] = high[j] < 1e9
    for e in range(nl):
        on[o_f + e] = on[o_f + nl + e] = g.limit2[e] < 1e9
        on[o_a + e], on[o_a + nl + e] = g.angle_min[e] > -1e9, g.angle_max[e] < 1e9
    active = 0
    for i in range(nz):
        active += on[i]
    h, s, mu, ds, dmu = np.zeros(nz), np.ones(nz), mult, np.zeros(nz), np.zeros(nz)
    value, first = np.zeros((nl, 4)), np.zeros((nl, 4, 3))
    flow_grad, hess, w = np.zeros((nl, 2, 3)), np.zeros((3, 3)), np.zeros(4)
    bal, grad, grad_u = np.zeros((n, 2)), np.zeros((n, 2)), np.zeros(nj)
    diag, off = np.zeros((n, 4, 4)), np.zeros((g.plan.row.size, 4, 4))
    factor_diag, factor_off = np.zeros_like(diag), np.zeros_like(off)
    weight, rhs, dx, error = (
        np.zeros_like(off),
        np.zeros((n, 4)),
        np.zeros((n, 4)),
        np.zeros((n, 4)),
    )
    curve, du = np.ones(nj), np.zeros(nj)
    gamma, cost_before = effort.barrier, np.inf
    for iteration in range(effort.iterations + 1):
        # values, balances (45), (46) and limits (49), (50), (52), (53)
        for k in range(n):
            v2 = x[k, 1] * x[k, 1]
            bal[k, 0] = p_load[k] + g.shunt_g[k] * v2
            bal[k, 1] = q_load[k] - g.shunt_b[k] * v2
            h[k], h[n + k] = g.v_min[k] - x[k, 1], x[k, 1] - g.v_max[k]
        cost = 0.0
        for j in range(nj):
            bal[g.at[j], g.kind[j]] -= g.sign[j] * u[j]
            h[o_u + j], h[o_u + nj + j] = low[j] - u[j], u[j] - high[j]
            cost += g.cost[j] * u[j]
        for e in range(nl):
            f, t = g.f[e], g.t[e]
            branch_terms(g.y[e], x[f, 0] - x[t, 0], x[f, 1], x[t, 1], value[e], first[e])
            bal[f, 0] += value[e, 0]
            bal[f, 1] += value[e, 1]
            bal[t, 0] += value[e, 2]
            bal[t, 1] += value[e, 3]
            if on[o_a + e]:
                h[o_a + e] = g.angle_min[e] - x[f, 0] + x[t, 0]
            if on[o_a + nl + e]:
                h[o_a + nl + e] = x[f, 0] - x[t, 0] - g.angle_max[e]
            for side in range(2):
                if on[o_f + e + side * nl]:
                    p, q = value[e, 2 * side], value[e, 2 * side + 1]
                    h[o_f + e + side * nl] = p * p + q * q - g.limit2[e]
                    for i in range(3):
                        flow_grad[e, side, i] = 2.0 * (
                            p * first[e, 2 * side, i] + q * first[e, 2 * side + 1, i]
                        )
        if iteration == 0:
            for i in range(nz):
                mu[i] = 0.0
                if on[i]:
                    s[i] = max(1.0, -h[i])
                    mu[i] = gamma / s[i]
        # gradient of the Lagrangian
        for k in range(n):
            v = x[k, 1]
            grad[k, 0] = 0.0
            grad[k, 1] = 2.0 * v * (g.shunt_g[k] * lam[k, 0] - g.shunt_b[k] * lam[k, 1])
            grad[k, 1] += mu[n + k] - mu[k]
        for j in range(nj):
            grad_u[j] = g.cost[j] - g.sign[j] * lam[g.at[j], g.kind[j]]
            grad_u[j] += mu[o_u + nj + j] - mu[o_u + j]
        for e in range(nl):
            f, t = g.f[e], g.t[e]
            w[0], w[1], w[2], w[3] = lam[f, 0], lam[f, 1], lam[t, 0], lam[t, 1]
            grad[f, 0] += mu[o_a + nl + e] - mu[o_a + e]
            grad[t, 0] -= mu[o_a + nl + e] - mu[o_a + e]
            for i in range(3):
                part = 0.0
                for q in range(4):
                    part += w[q] * first[e, q, i]
                for side in range(2):
                    part += mu[o_f + e + side * nl] * flow_grad[e, side, i]
                if i == 0:
                    grad[f, 0] += part
                    grad[t, 0] -= part
                else:
                    grad[f if i == 1 else t, 1] += part
        # convergence
        worst, steep, big, far, gap = 0.0, 0.0, 0.0, 0.0, 0.0
        for k in range(n):
            for i in range(2):
                worst = max(worst, abs(bal[k, i]))
                big = max(big, abs(lam[k, i]))
                far = max(far, abs(x[k, i]))
                if not fixed[k, i]:
                    steep = max(steep, abs(grad[k, i]))
        for j in range(nj):
            far = max(far, abs(u[j]))
            if not held[j]:
                steep = max(steep, abs(grad_u[j]))
        for i in range(nz):
            if on[i]:
                worst = max(worst, h[i])
                big = max(big, mu[i])
                gap += s[i] * mu[i]
        if not (np.isfinite(worst) and np.isfinite(steep) and np.isfinite(gap)):
            return DIVERGED, iteration
        tol, target = effort.tolerance, effort.gap * (abs(cost) + 1e-3)
        if (
            worst < tol
            and steep < 10.0 * tol * (1.0 + big)
            and gap < target
            and abs(cost - cost_before) < 10.0 * target
        ):
            return SOLVED, iteration
        if iteration == effort.iterations:
            break
        if far > 1e6 or big > 1e14:
            return DIVERGED, iteration
        cost_before = cost
        # Newton matrix
        fill(diag, 0.0)
        fill(off, 0.0)
        for k in range(n):
            if on[k]:
                for i in (k, n + k):
                    turn = (gamma + mu[i] * h[i]) / s[i]
                    grad[k, 1] += turn if i >= n else -turn
                    diag[k, 1, 1] += mu[i] / s[i]
            diag[k, 0, 0] += effort.damping
            diag[k, 1, 1] += effort.damping
            diag[k, 1, 1] += 2.0 * (g.shunt_g[k] * lam[k, 0] - g.shunt_b[k] * lam[k, 1])
            diag[k, 2, 1] += 2.0 * g.shunt_g[k] * x[k, 1]
            diag[k, 3, 1] -= 2.0 * g.shunt_b[k] * x[k, 1]
            diag[k, 1, 2] = diag[k, 2, 1]
            diag[k, 1, 3] = diag[k, 3, 1]
        for e in range(nl):
            f, t = g.f[e], g.t[e]
            w[0], w[1], w[2], w[3] = lam[f, 0], lam[f, 1], lam[t, 0], lam[t, 1]
            for side in range(2):
                i = o_f + e + side * nl
                w[2 * side] += 2.0 * mu[i] * value[e, 2 * side]
                w[2 * side + 1] += 2.0 * mu[i] * value[e, 2 * side + 1]
            branch_second(g.y[e], x[f, 0] - x[t, 0], x[f, 1], x[t, 1], w, hess)
            for side in range(2):
                i = o_f + e + side * nl
                if on[i]:
                    turn, stiff = (gamma + mu[i] * h[i]) / s[i], mu[i] / s[i]
                    for a in range(3):
                        for b in range(3):
                            hess[a, b] += stiff * flow_grad[e, side, a] * flow_grad[e, side, b]
                            for q in (2 * side, 2 * side + 1):
                                hess[a, b] += 2.0 * mu[i] * first[e, q, a] * first[e, q, b]
                    grad[f, 0] += turn * flow_grad[e, side, 0]
                    grad[t, 0] -= turn * flow_grad[e, side, 0]
                    grad[f, 1] += turn * flow_grad[e, side, 1]
                    grad[t, 1] += turn * flow_grad[e, side, 2]
            for i in (o_a + e, o_a + nl + e):
                if on[i]:
                    turn = (gamma + mu[i] * h[i]) / s[i]
                    turn = turn if i >= o_a + nl else -turn
                    grad[f, 0] += turn
                    grad[t, 0] -= turn
                    hess[0, 0] += mu[i] / s[i]
            scatter(g, e, first[e], hess, diag, off)
        hold(g, fixed, diag, off)
        for k in range(n):
            for i in range(2):
                rhs[k, i] = 0.0 if fixed[k, i] else -grad[k, i]
                rhs[k, 2 + i] = -bal[k, i]
        for j in range(nj):
            if not held[j]:
                curve[j] = 1e-9 + effort.damping  # keeps a free injection's row solvable
                for i in (o_u + j, o_u + nj + j):
                    if on[i]:
                        turn = (gamma + mu[i] * h[i]) / s[i]
                        grad_u[j] += turn if i >= o_u + nj else -turn
                        curve[j] += mu[i] / s[i]
                r = 2 + g.kind[j]
                diag[g.at[j], r, r] -= 1.0 / curve[j]
                rhs[g.at[j], r] -= g.sign[j] * grad_u[j] / curve[j]
        if not solve_blocks(g.plan, diag, off, factor_diag, factor_off, weight, rhs, dx, error):
            return SINGULAR, iteration
        # steps
        for j in range(nj):
            du[j] = 0.0
            if not held[j]:
                du[j] = (g.sign[j] * dx[g.at[j], 2 + g.kind[j]] - grad_u[j]) / curve[j]
        for k in range(n):
            ds[k] = -h[k] - s[k] + dx[k, 1]
            ds[n + k] = -h[n + k] - s[n + k] - dx[k, 1]
        for j in range(nj):
            ds[o_u + j] = -h[o_u + j] - s[o_u + j] + du[j]
            ds[o_u + nj + j] = -h[o_u + nj + j] - s[o_u + nj + j] - du[j]
        for e in range(nl):
            f, t = g.f[e], g.t[e]
            for side in range(2):
                i = o_f + e + side * nl
                ds[i] = -h[i] - s[i] - flow_grad[e, side, 0] * (dx[f, 0] - dx[t, 0])
                ds[i] -= flow_grad[e, side, 1] * dx[f, 1] + flow_grad[e, side, 2] * dx[t, 1]
            ds[o_a + e] = -h[o_a + e] - s[o_a + e] + dx[f, 0] - dx[t, 0]
            ds[o_a + nl + e] = -h[o_a + nl + e] - s[o_a + nl + e] - dx[f, 0] + dx[t, 0]
        for i in range(nz):
            if on[i]:
                dmu[i] = -mu[i] + (gamma - mu[i] * ds[i]) / s[i]
        step, step_dual = _largest_step(s, ds, on), _largest_step(mu, dmu, on)
        for k in range(n):
            for i in range(2):
                x[k, i] += step * dx[k, i]
                lam[k, i] += step_dual * dx[k, 2 + i]
        for j in range(nj):
            u[j] += step * du[j]
        gap = 0.0
        for i in range(nz):
            if on[i]:
                s[i] += step * ds[i]
                mu[i] += step_dual * dmu[i]
                gap += s[i] * mu[i]
        if active > 0:
            # a barrier far below its target leaves a flat optimum without curvature
            gamma = max(effort.sigma * gap, 0.2 * target) / active
    return ITERATIONS, effort.iterations


@jit
def solve_periods(
    g: Grid,
    p_load: FloatArray,
    q_load: FloatArray,
    low: FloatArray,
    high: FloatArray,
    effort: Effort,
    x: FloatArray,
    u: FloatArray,
    lam: FloatArray,
    mult: FloatArray,
    todo: NDArray[np.bool_],
    ended: IntArray,
    iterations: IntArray,
) -> None:
    """Solve the periods marked in `todo`; arrays have the period first."""
    for t in range(p_load.shape[0]):
        if todo[t]:
            ended[t], iterations[t] = interior_point(
                g, p_load[t], q_load[t], low[t], high[t], effort, x[t], u[t], lam[t], mult[t]
            )
