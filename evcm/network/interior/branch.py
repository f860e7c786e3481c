"""Numba kernels of one branch: flows, derivatives, and their places in the Newton matrix."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray
from evcm.network.interior.blocks import Elimination, jit
from evcm.paper import implements


class Grid(NamedTuple):
    """What does not change between periods: graph, branch admittances, limits, injections."""

    plan: Elimination
    f: IntArray
    t: IntArray
    y: FloatArray  # (branch, 8): real and imaginary of ff, ft, tf, tt
    limit2: FloatArray  # (branch,): squared MVA limit in pu, inf where there is none
    angle_min: FloatArray  # (branch,): rad, -inf where there is none
    angle_max: FloatArray
    shunt_g: FloatArray
    shunt_b: FloatArray
    v_min: FloatArray
    v_max: FloatArray
    slack: int
    at: IntArray  # (injection,): bus
    kind: IntArray  # 0 active, 1 reactive
    sign: FloatArray
    cost: FloatArray


@implements("47", "48")
@jit
def branch_terms(
    y: FloatArray, d: float, vf: float, vt: float, value: FloatArray, first: FloatArray
) -> None:
    """Pf, Qf, Pt, Qt of a branch and their derivatives by (angle difference, Vf, Vt)."""
    c, s, vv = np.cos(d), np.sin(d), vf * vt
    a1, a2 = y[2] * c + y[3] * s, y[2] * s - y[3] * c
    b1, b2 = y[4] * c - y[5] * s, y[4] * s + y[5] * c
    value[0] = y[0] * vf * vf + vv * a1
    value[1] = -y[1] * vf * vf + vv * a2
    value[2] = y[6] * vt * vt + vv * b1
    value[3] = -y[7] * vt * vt - vv * b2
    first[0, 0], first[0, 1], first[0, 2] = -vv * a2, 2.0 * y[0] * vf + vt * a1, vf * a1
    first[1, 0], first[1, 1], first[1, 2] = vv * a1, -2.0 * y[1] * vf + vt * a2, vf * a2
    first[2, 0], first[2, 1], first[2, 2] = -vv * b2, vt * b1, 2.0 * y[6] * vt + vf * b1
    first[3, 0], first[3, 1], first[3, 2] = -vv * b1, -vt * b2, -2.0 * y[7] * vt - vf * b2


@jit
def branch_second(
    y: FloatArray, d: float, vf: float, vt: float, w: FloatArray, h: FloatArray
) -> None:
    """Hessian (3x3, lower part mirrored) of w0 Pf + w1 Qf + w2 Pt + w3 Qt."""
    c, s, vv = np.cos(d), np.sin(d), vf * vt
    a1, a2 = y[2] * c + y[3] * s, y[2] * s - y[3] * c
    b1, b2 = y[4] * c - y[5] * s, y[4] * s + y[5] * c
    h[0, 0] = vv * (-w[0] * a1 - w[1] * a2 - w[2] * b1 + w[3] * b2)
    cross = -w[0] * a2 + w[1] * a1 - w[2] * b2 - w[3] * b1
    h[0, 1] = vt * cross
    h[0, 2] = vf * cross
    h[1, 1] = 2.0 * (w[0] * y[0] - w[1] * y[1])
    h[1, 2] = w[0] * a1 + w[1] * a2 + w[2] * b1 - w[3] * b2
    h[2, 2] = 2.0 * (w[2] * y[6] - w[3] * y[7])
    h[1, 0], h[2, 0], h[2, 1] = h[0, 1], h[0, 2], h[1, 2]


@jit
def scatter(
    g: Grid, e: int, first: FloatArray, h: FloatArray, diag: FloatArray, off: FloatArray
) -> None:
    """Add branch e to the Newton matrix: rows of a bus are angle, voltage, lambda P, lambda Q."""
    f, t = g.f[e], g.t[e]
    df, dt, b = diag[f], diag[t], np.empty((4, 4))
    df[0, 0] += h[0, 0]
    df[0, 1] += h[0, 1]
    df[1, 0] += h[0, 1]
    df[1, 1] += h[1, 1]
    dt[0, 0] += h[0, 0]
    dt[0, 1] -= h[0, 2]
    dt[1, 0] -= h[0, 2]
    dt[1, 1] += h[2, 2]
    b[0, 0], b[0, 1], b[1, 0], b[1, 1] = -h[0, 0], h[0, 2], -h[0, 1], h[1, 2]
    for q in range(2):
        df[2 + q, 0] += first[q, 0]
        df[0, 2 + q] += first[q, 0]
        df[2 + q, 1] += first[q, 1]
        df[1, 2 + q] += first[q, 1]
        dt[2 + q, 0] -= first[2 + q, 0]
        dt[0, 2 + q] -= first[2 + q, 0]
        dt[2 + q, 1] += first[2 + q, 2]
        dt[1, 2 + q] += first[2 + q, 2]
        b[0, 2 + q], b[1, 2 + q] = first[2 + q, 0], first[2 + q, 1]
        b[2 + q, 0], b[2 + q, 1] = -first[q, 0], first[q, 2]
        b[2 + q, 2], b[2 + q, 3] = 0.0, 0.0
    target = off[g.plan.branch_block[e]]
    for i in range(4):
        for j in range(4):
            if g.plan.branch_forward[e]:
                target[i, j] += b[i, j]
            else:
                target[j, i] += b[i, j]


@jit
def hold(g: Grid, fixed: NDArray[np.bool_], diag: FloatArray, off: FloatArray) -> None:
    """Freeze angles and voltages that are given: identity row and column."""
    for k in range(diag.shape[0]):
        for i in range(2):
            if fixed[k, i]:
                for j in range(4):
                    diag[k, i, j] = 0.0
                    diag[k, j, i] = 0.0
                diag[k, i, i] = 1.0
    for e in range(g.plan.row.size):
        for i in range(2):
            if fixed[g.plan.row[e], i]:
                for j in range(4):
                    off[e, i, j] = 0.0
            if fixed[g.plan.col[e], i]:
                for j in range(4):
                    off[e, j, i] = 0.0
