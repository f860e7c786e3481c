"""The nearest powers that keep every limit: what a controller asked for, made possible.

    minimise Σ (p − p0)²   s.t.   port bounds, and for each charger, lot, transformer and the bus
                                  −export <= Σ p + base <= import

The powers are means of the step and the bounds know taper and floor, so a projected action
overloads nothing. Mostly one limit binds, and then p = clip(p0 − λ) with one λ is exact; where it
is not, the quadratic program is solved by Clarabel through CVXPY.
"""

from __future__ import annotations

from typing import Any

import cvxpy as cp
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray
from evcm.errors import InfeasibleError, SolverError
from evcm.v2x.environment import ChargingStation
from evcm.v2x.station import Limits, limits

_FEASIBLE_KW = 1e-9

ITERATIONS = 200
"""Most iterations of the solver."""


def project(wanted_kw: FloatArray, bounds: Limits) -> tuple[FloatArray, str]:
    """Nearest powers (P,) within the limits, and how they were found.

    Returns ``"inside"`` (nothing to do), ``"one limit"`` (closed form) or ``"convex"`` (solver).

    Raises
    ------
    InfeasibleError
        No powers of the ports keep the limits.
    SolverError
        The solver did not finish.
    """
    clipped = np.clip(wanted_kw, bounds.low, bounds.up)
    broken = _broken(clipped, bounds)
    if broken.size == 0:
        return clipped, "inside"
    # The tightest broken node on its own: if its answer keeps all limits, it is the projection.
    for node in broken:
        trial = _one_node(wanted_kw, bounds, int(node))
        if trial is not None and _broken(trial, bounds).size == 0:
            return trial, "one limit"
    return _convex(wanted_kw, bounds), "convex"


def _broken(p: FloatArray, b: Limits) -> NDArray[np.int64]:
    """Nodes whose limits `p` breaks, worst first."""
    total = b.member @ p
    excess = np.maximum(total - b.node_up, b.node_low - total)
    order = np.argsort(-excess, kind="stable")
    return order[excess[order] > _FEASIBLE_KW]


def _one_node(wanted: FloatArray, b: Limits, node: int) -> FloatArray | None:
    """clip(wanted − λ) on the node's ports with its sum on the limit; None where there is none."""
    inside = b.member[node] > 0
    low, up, aim = b.low[inside], b.up[inside], wanted[inside]
    total = float(np.clip(aim, low, up).sum())
    goal = float(np.clip(total, b.node_low[node], b.node_up[node]))
    if not low.sum() - _FEASIBLE_KW <= goal <= up.sum() + _FEASIBLE_KW:
        return None
    out = np.clip(wanted, b.low, b.up)
    out[inside] = _water_level(aim, low, up, goal)
    return out


def _water_level(aim: FloatArray, low: FloatArray, up: FloatArray, goal: float) -> FloatArray:
    """The clip(aim − λ, low, up) whose sum is `goal`; linear in λ between its kinks."""
    kinks = np.sort(np.concatenate([aim - up, aim - low]))
    sums = np.clip(aim - kinks[:, None], low, up).sum(axis=1)  # falls with λ
    at = int(np.searchsorted(-sums, -goal))
    if at == 0:
        return np.asarray(np.clip(aim - kinks[0], low, up))
    if at == kinks.size:
        return np.asarray(np.clip(aim - kinks[-1], low, up))
    drop = sums[at - 1] - sums[at]
    share = (sums[at - 1] - goal) / drop if drop > 0 else 0.0
    level = kinks[at - 1] + share * (kinks[at] - kinks[at - 1])
    return np.asarray(np.clip(aim - level, low, up))


def _convex(wanted: FloatArray, b: Limits) -> FloatArray:
    p = cp.Variable(wanted.size)
    finite_up, finite_low = np.isfinite(b.node_up), np.isfinite(b.node_low)
    problem = cp.Problem(
        cp.Minimize(cp.sum_squares(p - wanted)),
        [
            p >= b.low,
            p <= b.up,
            b.member[finite_up] @ p <= b.node_up[finite_up],
            b.member[finite_low] @ p >= b.node_low[finite_low],
        ],
    )
    problem.solve(solver=cp.CLARABEL, max_iter=ITERATIONS)
    if problem.status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE):
        broken = _broken(np.clip(np.zeros_like(wanted), b.low, b.up), b)
        raise InfeasibleError(
            "no powers of the ports keep the limits of this step", nodes=broken.tolist()
        )
    if problem.status != cp.OPTIMAL or p.value is None:
        raise SolverError(f"projection: Clarabel ended with {problem.status}")
    return np.asarray(np.clip(np.asarray(p.value, dtype=float), b.low, b.up))


class ProjectLimits(gym.Wrapper[Any, Any, Any, Any]):
    """Replace each action by the nearest one that keeps every limit.

    ``info["projection"]`` says how it was found, ``info["projected_kw"]`` what was set. Where the
    building alone breaks a limit, the ports' own bounds are kept and the overload is counted.
    """

    env: gym.Env[Any, Any]

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Project, then step."""
        core = self.env.unwrapped
        assert isinstance(core, ChargingStation)
        station = core.station
        bounds = limits(station)
        # The wish is a command; what it would move in this step is at most the port's bound.
        wanted = core.command_kw(action)
        try:
            kw, how = project(wanted, bounds)
        except InfeasibleError:
            kw, how = _least_overload(wanted, bounds), "building overload"
        out = core.step_kw(station.commands_for(kw))
        out[4]["projection"], out[4]["projected_kw"] = how, kw
        return out


def _least_overload(wanted: FloatArray, b: Limits) -> FloatArray:
    """Nearest powers after moving each unreachable node limit to the nearest reachable one."""
    reach_low, reach_up = b.member @ b.low, b.member @ b.up
    relaxed = Limits(
        b.low, b.up, b.member,
        np.minimum(b.node_low, reach_up), np.maximum(b.node_up, reach_low),
    )  # fmt: skip
    return project(wanted, relaxed)[0]
