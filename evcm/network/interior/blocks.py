"""Block elimination on the bus graph: the linear algebra of one Newton step.

Every bus holds four unknowns (angle, voltage, and the multipliers of its two power balances), so
the Newton matrix is a symmetric matrix of 4x4 blocks with the sparsity of the network. Buses are
eliminated in minimum-degree order; the fill is worked out once per network. One step costs a few
microseconds for 14 buses and grows almost linearly with the number of buses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from evcm import compiled as nb
from evcm.arrays import FloatArray, IntArray

REFINEMENTS = 8
"""Most steps of iterative refinement of one solve."""

SHIFTS = (0.0, 1e-8, 1e-6)
"""Shifts of the factored matrix, per unit, tried in turn."""


class Elimination(NamedTuple):
    """Order and fill of the elimination.

    `order` lists buses as they are eliminated. Block e couples `row[e]` (eliminated first) with
    `col[e]`. Blocks of the n-th eliminated bus are ``start[n]..start[n+1]-1``; `update` lists for
    each pair of them the block (or, below 0, the diagonal -1-bus) that the elimination changes.
    """

    order: IntArray
    row: IntArray
    col: IntArray
    start: IntArray
    update_start: IntArray
    update: IntArray
    branch_block: IntArray
    branch_forward: NDArray[np.bool_]


def eliminate(n_bus: int, branch_from: IntArray, branch_to: IntArray) -> Elimination:
    """Minimum-degree order and fill for a network (bus and branch indices from 0)."""
    neighbours: list[set[int]] = [set() for _ in range(n_bus)]
    for f, t in zip(branch_from.tolist(), branch_to.tolist(), strict=True):
        neighbours[f].add(t)
        neighbours[t].add(f)
    left, order = set(range(n_bus)), []
    row, col, start = [], [], [0]
    while left:
        k = min(left, key=lambda b: (len(neighbours[b]), b))
        near = sorted(neighbours[k])
        order.append(k)
        left.remove(k)
        row += [k] * len(near)
        col += near
        start.append(len(row))
        for a in near:
            neighbours[a] |= set(near) - {a}
            neighbours[a].discard(k)
    block = {(r, c): e for e, (r, c) in enumerate(zip(row, col, strict=True))}
    update: list[int] = []
    update_start = [0]
    for n in range(n_bus):
        own = range(start[n], start[n + 1])
        for a in own:
            for b in own:
                i, j = col[a], col[b]
                update.append(-1 - i if i == j else block.get((i, j), -(10**9)))
        update_start.append(len(update))
    ends = list(zip(branch_from.tolist(), branch_to.tolist(), strict=True))
    of_branch = [block[(f, t) if (f, t) in block else (t, f)] for f, t in ends]
    lists = (order, row, col, start, update_start, update, of_branch)
    forward = np.array([pair in block for pair in ends], np.bool_)
    return Elimination._make([*(np.array(values, np.int64) for values in lists), forward])


jit = nb.njit(cache=True, nogil=True, error_model="numpy")
"""How the kernels of this room are compiled."""


@jit
def fill(a: FloatArray, value: float) -> None:
    """Set all entries of blocks (k, 4, 4). Loops compile faster than expressions."""
    for k in range(a.shape[0]):
        for i in range(4):
            for j in range(4):
                a[k, i, j] = value


@jit
def copy(a: FloatArray, out: FloatArray) -> None:
    """Copy blocks (k, 4, 4)."""
    for k in range(a.shape[0]):
        for i in range(4):
            for j in range(4):
                out[k, i, j] = a[k, i, j]


@jit
def invert4(a: FloatArray, out: FloatArray) -> bool:
    """Inverse of a 4x4 block by Gauss-Jordan with partial pivoting; False if it is singular."""
    w = np.empty((4, 8))
    for i in range(4):
        for j in range(4):
            w[i, j] = a[i, j]
            w[i, 4 + j] = 1.0 if i == j else 0.0
    for c in range(4):
        p = c
        for i in range(c + 1, 4):
            if abs(w[i, c]) > abs(w[p, c]):
                p = i
        if not abs(w[p, c]) > 1e-300:
            return False
        if p != c:
            for j in range(8):
                w[c, j], w[p, j] = w[p, j], w[c, j]
        scale = 1.0 / w[c, c]
        for j in range(8):
            w[c, j] *= scale
        for i in range(4):
            if i != c:
                factor = w[i, c]
                if factor != 0.0:
                    for j in range(8):
                        w[i, j] -= factor * w[c, j]
    for i in range(4):
        for j in range(4):
            out[i, j] = w[i, 4 + j]
    return True


@jit
def factor(plan: Elimination, diag: FloatArray, off: FloatArray, weight: FloatArray) -> bool:
    """Factor in place: `diag` becomes the inverse pivots, `weight` the pivot times each block."""
    pivot, start, update = np.empty((4, 4)), plan.start, plan.update
    for n in range(plan.order.size):
        k = plan.order[n]
        if not invert4(diag[k], pivot):
            return False
        for i in range(4):
            for j in range(4):
                diag[k, i, j] = pivot[i, j]
        first, last = start[n], start[n + 1]
        for e in range(first, last):
            for i in range(4):
                for j in range(4):
                    total = 0.0
                    for m in range(4):
                        total += pivot[i, m] * off[e, m, j]
                    weight[e, i, j] = total
        position = plan.update_start[n]
        for a in range(first, last):
            for b in range(first, last):
                target = update[position]
                position += 1
                if target < -(10**8):  # the mirror image of a block that is kept
                    continue
                for i in range(4):
                    for j in range(4):
                        total = 0.0
                        for m in range(4):
                            total += off[a, m, i] * weight[b, m, j]
                        if target < 0:
                            diag[-1 - target, i, j] -= total
                        else:
                            off[target, i, j] -= total
    return True


@jit
def substitute(
    plan: Elimination, diag: FloatArray, off: FloatArray, weight: FloatArray, x: FloatArray
) -> None:
    """Solve with the factors: `x` (bus, 4) holds the right side and becomes the solution."""
    y, order, col, start = np.empty(4), plan.order, plan.col, plan.start
    for n in range(order.size):
        k = order[n]
        for i in range(4):
            y[i] = 0.0
            for m in range(4):
                y[i] += diag[k, i, m] * x[k, m]
        for e in range(start[n], start[n + 1]):
            c = col[e]
            for j in range(4):
                total = 0.0
                for m in range(4):
                    total += off[e, m, j] * y[m]
                x[c, j] -= total
        for i in range(4):
            x[k, i] = y[i]
    for n in range(order.size - 1, -1, -1):
        k = order[n]
        for e in range(start[n], start[n + 1]):
            c = col[e]
            for i in range(4):
                total = 0.0
                for m in range(4):
                    total += weight[e, i, m] * x[c, m]
                x[k, i] -= total


@jit
def multiply(
    plan: Elimination, diag: FloatArray, off: FloatArray, x: FloatArray, out: FloatArray
) -> None:
    """Product of the (unfactored) block matrix with `x` (bus, 4)."""
    for k in range(diag.shape[0]):
        for i in range(4):
            total = 0.0
            for m in range(4):
                total += diag[k, i, m] * x[k, m]
            out[k, i] = total
    for e in range(plan.row.size):
        r, c = plan.row[e], plan.col[e]
        for i in range(4):
            upper, lower = 0.0, 0.0
            for m in range(4):
                upper += off[e, i, m] * x[c, m]
                lower += off[e, m, i] * x[r, m]
            out[r, i] += upper
            out[c, i] += lower


@jit
def _refine(
    plan: Elimination,
    diag0: FloatArray,
    off0: FloatArray,
    diag: FloatArray,
    off: FloatArray,
    weight: FloatArray,
    rhs: FloatArray,
    x: FloatArray,
    error: FloatArray,
    tolerance: float,
) -> bool:
    """Solve with the factors, refined against `diag0`, `off0`; False above a relative residual."""
    scale = 1e-300
    for k in range(rhs.shape[0]):
        for i in range(4):
            scale = max(scale, abs(rhs[k, i]))
            x[k, i] = rhs[k, i]
    substitute(plan, diag, off, weight, x)
    for step in range(REFINEMENTS + 1):
        multiply(plan, diag0, off0, x, error)
        worst = 0.0
        for k in range(rhs.shape[0]):
            for i in range(4):
                error[k, i] = rhs[k, i] - error[k, i]
                off_by = abs(error[k, i])
                worst = off_by if not off_by <= worst else worst  # nan stays
        if worst <= 1e-11 * scale or step == REFINEMENTS or not np.isfinite(worst):
            break
        substitute(plan, diag, off, weight, error)
        for k in range(rhs.shape[0]):
            for i in range(4):
                x[k, i] += error[k, i]
    return worst <= tolerance * scale


@jit
def _dense(
    plan: Elimination, diag0: FloatArray, off0: FloatArray, rhs: FloatArray, x: FloatArray
) -> None:
    """Solve the block system as one dense matrix, scaled to a unit diagonal range."""
    n, row, col = diag0.shape[0], plan.row, plan.col
    a = np.zeros((4 * n, 4 * n))
    b = np.zeros(4 * n)
    for k in range(n):
        for i in range(4):
            b[4 * k + i] = rhs[k, i]
            for j in range(4):
                a[4 * k + i, 4 * k + j] = diag0[k, i, j]
    for e in range(row.size):
        for i in range(4):
            for j in range(4):
                a[4 * row[e] + i, 4 * col[e] + j] += off0[e, i, j]
                a[4 * col[e] + j, 4 * row[e] + i] += off0[e, i, j]
    size = np.ones(4 * n)
    for i in range(4 * n):
        largest = 0.0
        for j in range(4 * n):
            largest = max(largest, abs(a[i, j]))
        if largest > 0.0:
            size[i] = 1.0 / np.sqrt(largest)
    for i in range(4 * n):
        b[i] *= size[i]
        for j in range(4 * n):
            a[i, j] *= size[i] * size[j]
    _gauss(a, b)
    for k in range(n):
        for i in range(4):
            x[k, i] = b[4 * k + i] * size[4 * k + i]


@jit
def _gauss(a: FloatArray, b: FloatArray) -> None:
    """Solve a dense system in place by elimination with partial pivoting; nan if singular.

    LAPACK through `numpy.linalg` would do, and would take three seconds to compile.
    """
    n = b.size
    for c in range(n):
        p = c
        for i in range(c + 1, n):
            if abs(a[i, c]) > abs(a[p, c]):
                p = i
        if p != c:
            for j in range(c, n):
                a[c, j], a[p, j] = a[p, j], a[c, j]
            b[c], b[p] = b[p], b[c]
        for i in range(c + 1, n):
            part = a[i, c] / a[c, c]
            if part != 0.0:
                for j in range(c + 1, n):
                    a[i, j] -= part * a[c, j]
                b[i] -= part * b[c]
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            b[i] -= a[i, j] * b[j]
        b[i] /= a[i, i]


@jit
def solve_blocks(
    plan: Elimination,
    diag0: FloatArray,
    off0: FloatArray,
    diag: FloatArray,
    off: FloatArray,
    weight: FloatArray,
    rhs: FloatArray,
    x: FloatArray,
    error: FloatArray,
) -> bool:
    """Solve the system of blocks `diag0`, `off0`; the other arrays are scratch. False if singular.

    Elimination by blocks does not pivot between buses. Where refinement does not repair what that
    costs, the factor is made of a matrix shifted by `SHIFTS`, up for angle and voltage and down for
    the multipliers of the balances: such a matrix has a stable factor in any order (R. J.
    Vanderbei, "Symmetric quasidefinite matrices", SIAM J. Optimization 5(1), 1995), and refinement
    against the true matrix takes the shift out again. What the matrix itself does not give to seven
    digits, and no shift to eleven, is solved densely with pivoting, a work that grows with the cube
    of the buses.
    """
    for shift in SHIFTS:
        copy(diag0, diag)
        copy(off0, off)
        for k in range(diag.shape[0]):
            for i in range(4):
                diag[k, i, i] += shift if i < 2 else -shift
        if not factor(plan, diag, off, weight):
            continue
        tolerance = 1e-11 if shift > 0.0 else 1e-7
        if _refine(plan, diag0, off0, diag, off, weight, rhs, x, error, tolerance):
            return True
    _dense(plan, diag0, off0, rhs, x)
    return bool(np.isfinite(x).all())
