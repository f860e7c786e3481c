"""How good an operating point can be at best: the second-order-cone relaxation of the AC OPF.

An interior point finds a local optimum. With W_kk = V_k^2 and W_km = V_k V_m e^(j(δ_k - δ_m)) every
equation of (45)-(53) is linear in W, but for |W_km|^2 = W_kk W_mm. Relaxed to <=, the problem is
convex: its optimum bounds that of the OPF, and of the caps, from the other side.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evcm.arrays import FloatArray
from evcm.errors import SolverError
from evcm.network import injections
from evcm.network.case import Day
from evcm.network.injections import ACTIVE, Injections
from evcm.network.opf import opf_injections
from evcm.paper import implements

ITERATIONS = 200
"""Most iterations of the cone solver."""


def opf_bound(day: Day) -> FloatArray:
    """No operating point of a period has a smaller objective (44) than this. (T,)

    Raises
    ------
    SolverError
        The cone solver ended without an optimum: the period is named.

    See Also
    --------
    evcm.network.opf.solve_day : an operating point.
    """
    return _bounds(day, opf_injections(day))


@implements("54", "55", role="bound")
def caps_bound(
    day: Day, share_min: float | None = None, share_max: float | None = None
) -> FloatArray:
    """No caps of a period have a larger total than this, MW. (T,)

    Raises
    ------
    SolverError
        The cone solver ended without an optimum: the period is named.

    See Also
    --------
    evcm.network.caps.solve_caps : caps, and the shares' defaults.
    """
    low = day.network.cap_share_min if share_min is None else share_min
    high = day.network.cap_share_max if share_max is None else share_max
    inj = injections.generation(day.network, day.n_periods).free_of_cost()
    return -_bounds(day, inj + injections.caps(day, low, high))


def _bounds(day: Day, inj: Injections) -> FloatArray:
    """Least cost of `inj` in the relaxed problem, period by period."""
    import cvxpy as cp

    problem, given = _model(cp, day, inj)
    base = day.network.base_mva
    found = np.zeros(day.n_periods)
    for t in range(day.n_periods):
        given["p"].value, given["q"].value = day.load_p_mw[t] / base, day.load_q_mvar[t] / base
        for name, bound in (("low", inj.low[t]), ("high", inj.high[t])):
            given[name].value = np.where(np.isfinite(bound), bound, 0.0) / base
        problem.solve(solver=cp.CLARABEL, max_iter=ITERATIONS)
        if problem.status != cp.OPTIMAL:
            raise SolverError(
                f"relaxation, period {t + 1}: {problem.status}", period=t + 1,
                status=problem.status,
            )  # fmt: skip
        found[t] = problem.value * base
    return found


def _model(cp: Any, day: Day, inj: Injections) -> tuple[Any, dict[str, Any]]:
    """The relaxed problem, per unit, and what changes from period to period."""
    net, base = day.network, day.network.base_mva
    n, f, t = net.n_bus, net.branch_from, net.branch_to
    at_f, at_t, at_inj = (np.eye(n)[ends] for ends in (f, t, inj.bus))
    W, c, s = cp.Variable(n), cp.Variable(f.size), cp.Variable(f.size)
    u = cp.Variable(inj.bus.size)
    given = {
        "p": cp.Parameter(n), "q": cp.Parameter(n), "low": cp.Parameter(inj.bus.size),
        "high": cp.Parameter(inj.bus.size),
    }  # fmt: skip
    ff, ft, tf, tt = np.moveaxis(net.admittance_pu(), 1, 0)
    Wf, Wt = at_f @ W, at_t @ W
    multiply = cp.multiply
    P_from = multiply(ff.real, Wf) + multiply(ft.real, c) + multiply(ft.imag, s)  # (47)
    P_to = multiply(tt.real, Wt) + multiply(tf.real, c) - multiply(tf.imag, s)
    Q_from = -multiply(ff.imag, Wf) - multiply(ft.imag, c) + multiply(ft.real, s)  # (48)
    Q_to = -multiply(tt.imag, Wt) - multiply(tf.imag, c) - multiply(tf.real, s)
    active = (inj.kind == ACTIVE) * inj.sign
    reactive = (inj.kind != ACTIVE) * inj.sign
    shunt_p, shunt_q = net.shunt_g_mw / base, -net.shunt_b_mvar / base
    constraints = [
        at_inj.T @ multiply(active, u)
        == given["p"] + multiply(shunt_p, W) + at_f.T @ P_from + at_t.T @ P_to,  # (45), (54)
        at_inj.T @ multiply(reactive, u)
        == given["q"] + multiply(shunt_q, W) + at_f.T @ Q_from + at_t.T @ Q_to,  # (46)
        W - net.v_min_pu**2 >= 0,  # (50)
        net.v_max_pu**2 - W >= 0,
        cp.SOC(Wf + Wt, cp.vstack([2 * c, 2 * s, Wf - Wt])),  # |W_km|^2 <= W_kk W_mm
    ]
    limited = np.flatnonzero(np.isfinite(net.limit_mva))
    if limited.size:
        limit = net.limit_mva[limited] / base
        for P, Q in ((P_from, Q_from), (P_to, Q_to)):  # (49)
            constraints.append(cp.SOC(limit, cp.vstack([P[limited], Q[limited]])))
    for bound, sign in ((net.angle_min_deg, 1.0), (net.angle_max_deg, -1.0)):
        held = np.flatnonzero(np.abs(bound) < 90)  # a wider angle leaves no half-plane
        if held.size:
            slope = np.tan(np.deg2rad(bound[held]))
            constraints.append(sign * (s[held] - multiply(slope, c[held])) >= 0)
    for name, values, sign in (("low", inj.low, 1.0), ("high", inj.high, -1.0)):  # (52), (53), (55)
        held = np.flatnonzero(np.isfinite(values).all(axis=0))
        constraints.append(sign * (u[held] - given[name][held]) >= 0)
    return cp.Problem(cp.Minimize(inj.cost_per_mw @ u), constraints), given
