"""Certificate of an operating point: (45)-(55) evaluated again in numpy, without any solver.

Every function takes plain arrays of a state and returns how far an equation is off, per unit: an
equality's residual, or by how much a limit is exceeded (0 when it holds). `certify_day` and
`certify_caps` collect them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evcm.arrays import FloatArray, IntArray
from evcm.errors import Certificate
from evcm.network.caps import Caps
from evcm.network.case import Network
from evcm.network.opf import OperatedDay, OpfDay
from evcm.paper import implements

TOLERANCE_PU = 1e-6
"""Largest residual of a state that counts as certified."""


def _over(value: FloatArray, low: FloatArray | float, high: FloatArray | float) -> FloatArray:
    """How far `value` is outside [low, high], 0 inside."""
    return np.asarray(np.maximum(np.maximum(low - value, value - high), 0.0))


@implements("47", role="certificate")
def active_flow_pu(network: Network, v_pu: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """Active power into each branch, from end and to end (47). (T, nl, 2)

    P_km = V_k V_m |Y_km| cos(delta_k - delta_m - theta_km) + V_k^2 Re(Y_kk), with the branch's own
    two-port admittances; for a series admittance alone Y_kk = -Y_km, the form of the paper.
    """
    y = network.admittance_pu()
    f, t = network.branch_from, network.branch_to
    vf, vt, d = v_pu[:, f], v_pu[:, t], angle_rad[:, f] - angle_rad[:, t]
    into_from = vf * vt * np.abs(y[:, 1]) * np.cos(d - np.angle(y[:, 1])) + vf**2 * y[:, 0].real
    into_to = vf * vt * np.abs(y[:, 2]) * np.cos(-d - np.angle(y[:, 2])) + vt**2 * y[:, 3].real
    return np.stack([into_from, into_to], axis=2)


@implements("48", role="certificate")
def reactive_flow_pu(network: Network, v_pu: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """Reactive power into each branch, from end and to end (48). (T, nl, 2)"""
    y = network.admittance_pu()
    f, t = network.branch_from, network.branch_to
    vf, vt, d = v_pu[:, f], v_pu[:, t], angle_rad[:, f] - angle_rad[:, t]
    into_from = vf * vt * np.abs(y[:, 1]) * np.sin(d - np.angle(y[:, 1])) - vf**2 * y[:, 0].imag
    into_to = vf * vt * np.abs(y[:, 2]) * np.sin(-d - np.angle(y[:, 2])) - vt**2 * y[:, 3].imag
    return np.stack([into_from, into_to], axis=2)


def _at_buses(network: Network, bus: IntArray, power: FloatArray) -> FloatArray:
    """Sum at each bus of powers (T, n) that stand at the buses `bus` (n,). (T, nb)"""
    return np.asarray(power @ np.eye(network.n_bus)[bus])


def _leaving(network: Network, flow: FloatArray) -> FloatArray:
    """Sum over m of the flows (T, nl, 2) that leave bus k. (T, nb)"""
    from_end, to_end = flow[..., 0], flow[..., 1]
    return _at_buses(network, network.branch_from, from_end) + _at_buses(
        network, network.branch_to, to_end
    )


@implements("44", "45", "46", "49", "50", "51", "52", "53", "54", role="certificate")
def ac_opf(
    state: OperatedDay, demand_p_mw: FloatArray, nsp_mw: FloatArray
) -> dict[str, FloatArray]:
    """The AC OPF as a table of contents: each equation, and how far a state is off it (pu).

    Minimise the power at the slack plus C_pen times the power not supplied (44), subject to what
    is listed here. An equation has the difference of its sides, a limit the excess over it.

    Parameters
    ----------
    state : OperatedDay
        Generation, voltages and angles of T periods.
    demand_p_mw, nsp_mw : (T, n_bus)
        Load asked for, cars or caps (54) included, and what of it goes unsupplied.

    Returns
    -------
    dict of (T, ...) arrays by equation number.

    See Also
    --------
    certify_day, certify_caps : collect the largest of each.
    """
    net, base = state.network, state.network.base_mva
    V, delta = state.v_pu, np.deg2rad(state.angle_deg)
    Pg, Qg = (_at_buses(net, net.generator_bus, g) / base
              for g in (state.generation_p_mw, state.generation_q_mvar))  # fmt: skip
    shed_up = np.where(net.sheddable, np.maximum(demand_p_mw, 0.0), 0.0)
    Pd, Qd, NSP = demand_p_mw / base, state.load_q_mvar / base, nsp_mw / base
    Psh, Qsh = net.shunt_g_mw / base * V**2, -net.shunt_b_mvar / base * V**2
    P, Q = active_flow_pu(net, V, delta), reactive_flow_pu(net, V, delta)  # (47), (48)
    across = state.angle_deg[:, net.branch_from] - state.angle_deg[:, net.branch_to]
    return {
        "45": np.abs(Pg + NSP - Pd - Psh - _leaving(net, P)),
        "46": np.abs(Qg - Qd - Qsh - _leaving(net, Q)),
        "49": _over(np.hypot(P, Q), 0.0, net.limit_mva[:, None] / base),
        "50": _over(V, net.v_min_pu, net.v_max_pu),
        "51": np.abs(delta[:, [net.slack]]),
        "angles": np.deg2rad(_over(across, net.angle_min_deg, net.angle_max_deg)),
        "52": _over(state.generation_p_mw, net.p_min_mw, net.p_max_mw) / base,
        "53": _over(state.generation_q_mvar, net.q_min_mvar, net.q_max_mvar) / base,
        "NSP": _over(nsp_mw, 0.0, shed_up) / base,
    }


@implements("55", role="certificate")
def cap_limit(caps: Caps) -> FloatArray:
    """Excess of a cap over its range, shares of its bus's load (55)."""
    load = caps.day.aggregator_load_mw
    off = _over(caps.cap_mw, caps.share_min * load, caps.share_max * load)
    return np.asarray(off / caps.network.base_mva)


@dataclass(frozen=True)
class FlowCertificate(Certificate):
    """Largest residual per equation, per unit, and the period (from 1) where it stands."""

    residual_pu: Mapping[str, float]
    period: Mapping[str, int]

    @property
    def largest_pu(self) -> float:
        """Largest residual over all equations."""
        return max(self.residual_pu.values())

    def violations(self) -> tuple[str, ...]:
        """Equations that are off by more than `TOLERANCE_PU`; what is no number is one."""
        return tuple(
            f"equation {name} is off by {value:.3g} pu in period {self.period[name]}; "
            f"allowed: {TOLERANCE_PU:g} pu"
            for name, value in self.residual_pu.items()
            if not value <= TOLERANCE_PU
        )


def _collect(parts: dict[str, FloatArray]) -> FlowCertificate:
    residual, period = {}, {}
    for name, values in parts.items():
        worst = values.reshape(values.shape[0], -1).max(axis=1)
        residual[name], period[name] = float(worst.max()), int(worst.argmax()) + 1
    return FlowCertificate(residual, period)


def certify_day(day: OpfDay) -> FlowCertificate:
    """Re-check (45)-(53) on every period of a day.

    (47) and (48) define the flows that (45), (46) and (49) use; they have no residual of their own.

    See Also
    --------
    ac_opf : the equations.
    """
    return _collect(ac_opf(day, day.load_p_mw, day.nsp_mw))


def certify_caps(caps: Caps) -> FlowCertificate:
    """Re-check (46)-(55) on the operating point that serves the load and all caps at once.

    See Also
    --------
    ac_opf : the equations; (54) is (45) with the caps as demand and nothing unsupplied.
    """
    demand = caps.day.with_cars(caps.ev_mw).load_p_mw
    found = ac_opf(caps, demand, np.zeros_like(demand))
    found["54"], found["55"] = found.pop("45"), cap_limit(caps)
    del found["NSP"]
    return _collect(found)
