"""Panels and sun: (1) and (4)-(6)."""

from __future__ import annotations

import numpy as np

from evcm._building_inputs import Building
from evcm.inputs import FloatArray
from evcm.paper import implements

STANDARD_KW_PER_M2 = 1.0
"""Irradiance at which panels are rated, I of (4)."""


@implements("1", paper="building")
def panel_peak_w(open_circuit_v: float, short_circuit_a: float, fill_factor: float) -> float:
    """Peak power of a panel, W: Voc · Isc · FF (1)."""
    return open_circuit_v * short_circuit_a * fill_factor


@implements("4", paper="building")
def peak_sun_hours(irradiance_kw_per_m2: FloatArray, step_h: float = 1.0) -> float:
    """Hours at standard irradiance that bring the day's irradiation (4), h."""
    return float(np.sum(irradiance_kw_per_m2) * step_h / STANDARD_KW_PER_M2)


@implements("5", paper="building")
def panel_energy_kwh(peak_kw: float, sun_hours: float, efficiency: float = 0.9) -> float:
    """Energy of panels over a day (5), kWh: peak power · peak sun hours · efficiency."""
    return peak_kw * sun_hours * efficiency


@implements("6", paper="building")
def panel_power_kw(
    peak_kw: float, irradiance_kw_per_m2: FloatArray, efficiency: float = 0.9
) -> FloatArray:
    """Power of panels in each period (6), kW; its sum over the day is (5)."""
    return np.asarray(peak_kw * efficiency * np.asarray(irradiance_kw_per_m2) / STANDARD_KW_PER_M2)


def available_kw(building: Building) -> FloatArray:
    """What each PV group can give, (T, groups) kW, by (6) and at most its rating."""
    sun, share = building.irradiance_kw_per_m2, building.panel_efficiency
    columns = [np.minimum(panel_power_kw(g.rated_kw, sun, share), g.rated_kw)
               for g in building.groups]  # fmt: skip
    return np.column_stack(columns) if columns else np.zeros((building.horizon.periods, 0))
