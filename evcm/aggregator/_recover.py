"""From a solution of the vehicle LP to the schedules of a plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evcm.aggregator._vehicle_lp import VehicleLP
from evcm.inputs import FloatArray


@dataclass(frozen=True, eq=False)
class Schedules:
    """Schedules of a plan, and by how much the power of the plugs is exceeded (MW, <= 0: fits)."""

    day_ahead_mw: FloatArray
    surplus_mw: FloatArray
    deficit_mw: FloatArray
    charge_kw: FloatArray
    discharge_kw: FloatArray
    soc_kwh: FloatArray
    excess_mw: float


def recover_schedules(lp: VehicleLP, z: FloatArray) -> Schedules:
    """Schedules that balance exactly.

    Each car's net change of charge becomes charging or discharging. What the LP charges and
    discharges at once, in W or in one car, is spread over the plugged-in cars in proportion to the
    charger power that they have left. Totals, day-ahead power and real-time trade follow by
    definition, so rounding in the LP's rows does not reach them.
    """
    problem, k, m = lp.problem, lp.plugged, lp.entries
    T, V, N = problem.available.shape
    charger, dt = problem.charger, problem.period_h
    eta_c, eta_d = charger.charge_efficiency, charger.discharge_efficiency
    soc = np.clip(z[:m], k.soc_low, k.soc_high)
    before = np.where(k.previous < 0, k.arrival_kwh, soc[k.previous])
    net = soc - before
    charge, discharge = np.maximum(net, 0) / (dt * eta_c), np.maximum(-net, 0) / dt
    cell = k.period * N + k.sample
    size = problem.group_size[k.vehicle]
    # Energy that the LP charges into and takes from one battery within the period.
    both = np.minimum(z[m : 2 * m], np.maximum(net + z[m : 2 * m], 0.0))
    both = np.where(both > 1e-7, both, 0.0)
    w_kw = 1000.0 * np.maximum(z[lp.first_w : lp.first_e], 0.0)
    w_kw = w_kw + np.bincount(cell, size * both / (dt * eta_c), T * N)
    left = np.maximum(charger.power_kw - charge - discharge, 0.0)
    spare = np.bincount(cell, size * left, T * N)
    need = (1 + eta_c) * w_kw
    excess = float((need - spare).max(initial=0.0)) / 1000.0
    share = np.minimum(1.0, need / np.maximum(spare, 1e-12))[cell] * left / (1 + eta_c)
    charge, discharge = charge + share, discharge + eta_c * share

    def spread(values: FloatArray) -> FloatArray:
        out = np.zeros((T, V, N))
        out[k.period, k.vehicle, k.sample] = values
        return out

    traded = np.bincount(cell, size * (charge - eta_d * discharge), T * N).reshape(T, N) / 1000.0
    power = traded @ problem.probability
    trade = traded - power[:, None]
    return Schedules(
        power, np.maximum(-trade, 0.0), np.maximum(trade, 0.0),
        spread(charge), spread(discharge), spread(soc), excess,
    )  # fmt: skip
