"""Certificate of an operating point: (45)-(55) evaluated again in numpy, without any solver.

Every function takes plain arrays of a state and returns how far an equation is off, per unit: an
equality's residual, or by how much a limit is exceeded (0 when it holds). `certify_day` and
`certify_caps` collect them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from evcm.arrays import FloatArray
from evcm.errors import SolverError
from evcm.network.caps import Caps
from evcm.network.case import Network
from evcm.network.opf import OpfDay
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


def _sum_at_bus(network: Network, flow: FloatArray) -> FloatArray:
    """Sum over m of the flows that leave bus k. (T, nb)"""
    total = np.zeros((flow.shape[0], network.n_bus))
    for side, ends in enumerate((network.branch_from, network.branch_to)):
        for branch, bus in enumerate(ends):
            total[:, bus] += flow[:, branch, side]
    return total


def _at_generators(network: Network, power: FloatArray) -> FloatArray:
    """Sum of the generators' power at each bus. (T, nb)"""
    total = np.zeros((power.shape[0], network.n_bus))
    for column, bus in enumerate(network.generator_bus):
        total[:, bus] += power[:, column]
    return total


@implements("45", "54", role="certificate")
def active_balance(
    network: Network,
    generation_p_mw: FloatArray,
    nsp_mw: FloatArray,
    demand_p_mw: FloatArray,
    v_pu: FloatArray,
    angle_rad: FloatArray,
) -> FloatArray:
    """Residual of Pg + NSP = Pd + sum of P_km (45); with caps the demand includes them (54)."""
    flow = _sum_at_bus(network, active_flow_pu(network, v_pu, angle_rad))
    shunt = network.shunt_g_mw * v_pu**2
    supply = _at_generators(network, generation_p_mw) + nsp_mw
    return np.abs((supply - demand_p_mw - shunt) / network.base_mva - flow)


@implements("46", role="certificate")
def reactive_balance(
    network: Network,
    generation_q_mvar: FloatArray,
    demand_q_mvar: FloatArray,
    v_pu: FloatArray,
    angle_rad: FloatArray,
) -> FloatArray:
    """Residual of Qg = Qd + Qsh + sum of Q_km (46)."""
    flow = _sum_at_bus(network, reactive_flow_pu(network, v_pu, angle_rad))
    shunt = -network.shunt_b_mvar * v_pu**2
    supply = _at_generators(network, generation_q_mvar)
    return np.abs((supply - demand_q_mvar - shunt) / network.base_mva - flow)


@implements("49", role="certificate")
def flow_limit(network: Network, v_pu: FloatArray, angle_rad: FloatArray) -> FloatArray:
    """Excess of S_km = sqrt(P_km^2 + Q_km^2) over the branch's limit, both ends (49)."""
    p = active_flow_pu(network, v_pu, angle_rad)
    q = reactive_flow_pu(network, v_pu, angle_rad)
    limit = network.limit_mva[None, :, None] / network.base_mva
    return _over(np.hypot(p, q), 0.0, limit)


@implements("50", role="certificate")
def voltage_limit(network: Network, v_pu: FloatArray) -> FloatArray:
    """Excess of a voltage over its limits (50)."""
    return _over(v_pu, network.v_min_pu, network.v_max_pu)


@implements("51", role="certificate")
def angle_limit(network: Network, angle_rad: FloatArray) -> FloatArray:
    """Angles (51): the slack's is zero, no other is further than half a turn from it."""
    off = _over(angle_rad, -np.pi, np.pi)
    off[:, network.slack] = np.abs(angle_rad[:, network.slack])
    return off


@implements("52", role="certificate")
def active_generation_limit(network: Network, generation_p_mw: FloatArray) -> FloatArray:
    """Excess of active generation over its limits (52)."""
    return _over(generation_p_mw, network.p_min_mw, network.p_max_mw) / network.base_mva


@implements("53", role="certificate")
def reactive_generation_limit(network: Network, generation_q_mvar: FloatArray) -> FloatArray:
    """Excess of reactive generation over its limits (53)."""
    return _over(generation_q_mvar, network.q_min_mvar, network.q_max_mvar) / network.base_mva


@implements("44", role="certificate")
def nsp_limit(network: Network, nsp_mw: FloatArray, load_p_mw: FloatArray) -> FloatArray:
    """Excess of power not supplied over 0..max(0, Pd) at PQ buses, and over 0 elsewhere."""
    most = np.where(network.sheddable, np.maximum(load_p_mw, 0.0), 0.0)
    return _over(nsp_mw, 0.0, most) / network.base_mva


@implements("55", role="certificate")
def cap_limit(caps: Caps) -> FloatArray:
    """Excess of a cap over its range, shares of its bus's load (55)."""
    load = np.maximum(caps.load_p_mw[:, caps.network.ev_bus], 0.0)
    off = _over(caps.cap_mw, caps.share_min * load, caps.share_max * load)
    return np.asarray(off / caps.network.base_mva)


@dataclass(frozen=True)
class FlowCertificate:
    """Largest residual per equation, per unit, and the period (from 1) where it stands."""

    residual_pu: Mapping[str, float]
    period: Mapping[str, int]
    tolerance_pu: float

    @property
    def largest_pu(self) -> float:
        """Largest residual over all equations."""
        return max(self.residual_pu.values())

    @property
    def holds(self) -> bool:
        """Whether every residual is within the tolerance (a residual that is no number is not)."""
        return all(value <= self.tolerance_pu for value in self.residual_pu.values())

    def require(self) -> FlowCertificate:
        """Return the certificate, or raise `SolverError` naming the equation that fails."""
        if not self.holds:
            bad = next(k for k, v in self.residual_pu.items() if not v <= self.tolerance_pu)
            raise SolverError(
                f"certificate: equation {bad} is off by {self.residual_pu[bad]:.3g} pu in period "
                f"{self.period[bad]}; allowed: {self.tolerance_pu:g} pu",
                equation=bad,
                period=self.period[bad],
            )
        return self


def _collect(parts: dict[str, FloatArray], tolerance_pu: float) -> FlowCertificate:
    residual, period = {}, {}
    for name, values in parts.items():
        worst = values.reshape(values.shape[0], -1).max(axis=1)
        residual[name], period[name] = float(worst.max()), int(worst.argmax()) + 1
    return FlowCertificate(residual, period, tolerance_pu)


def _network_part(
    state: OpfDay | Caps, demand_p_mw: FloatArray, nsp_mw: FloatArray
) -> dict[str, FloatArray]:
    net, v, angle = state.network, state.v_pu, np.deg2rad(state.angle_deg)
    pg, qg = state.generation_p_mw, state.generation_q_mvar
    return {
        "45": active_balance(net, pg, nsp_mw, demand_p_mw, v, angle),
        "46": reactive_balance(net, qg, state.load_q_mvar, v, angle),
        "49": flow_limit(net, v, angle),
        "50": voltage_limit(net, v),
        "51": angle_limit(net, angle),
        "52": active_generation_limit(net, pg),
        "53": reactive_generation_limit(net, qg),
    }


def certify_day(day: OpfDay, tolerance_pu: float = TOLERANCE_PU) -> FlowCertificate:
    """Re-check (45)-(53) on every period of a day.

    (47) and (48) define the flows that (45), (46) and (49) use; they have no residual of their own.
    """
    parts = _network_part(day, day.load_p_mw, day.nsp_mw)
    parts["NSP"] = nsp_limit(day.network, day.nsp_mw, day.load_p_mw)
    return _collect(parts, tolerance_pu)


def certify_caps(caps: Caps, tolerance_pu: float = TOLERANCE_PU) -> FlowCertificate:
    """Re-check (46)-(55) on the operating point that serves the load and all caps at once."""
    demand = caps.load_p_mw.copy()
    demand[:, caps.network.ev_bus] += caps.cap_mw
    parts = _network_part(caps, demand, np.zeros_like(demand))
    parts["54"] = parts.pop("45")
    parts["55"] = cap_limit(caps)
    return _collect(parts, tolerance_pu)
