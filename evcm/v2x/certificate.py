"""A station's run re-checked without its kernel: energy, batteries, limits, money and reward.

Batteries are integrated numerically here (Runge-Kutta over the acceptance curve), not in closed
form; everything else is re-evaluated in numpy from the sessions, the commands and the series.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray
from evcm.errors import Certificate
from evcm.v2x.arrivals import START
from evcm.v2x.kernel import TERMS
from evcm.v2x.station import Run, session_steps

SUBSTEPS = 400
"""Runge-Kutta steps within one step of the run."""


@dataclass(frozen=True)
class StationCertificate(Certificate):
    """Largest errors of a run.

    energy: size of grid − Δbattery − losses over the throughput. battery_kwh: against the numerical
    integration of each step. content_kwh: book-keeping of the contents. bounds_kwh: contents
    beyond floor or capacity. idle_kwh: energy where no car stands. power_kw: lots and transformers.
    terms: each reported term, in its own unit. reward_usd: the reward.
    """

    energy: float
    battery_kwh: float
    content_kwh: float
    bounds_kwh: float
    idle_kwh: float
    power_kw: float
    terms: float
    reward_usd: float

    subject = "station certificate"

    def violations(self) -> tuple[str, ...]:
        """Errors above `TOLERANCES`."""
        return self.beyond(TOLERANCES)


TOLERANCES = {
    "energy": 1e-9,
    "battery_kwh": 1e-4,  # the kink of the acceptance curve costs the numerical method this much
    "content_kwh": 1e-9,
    "bounds_kwh": 1e-9,
    "idle_kwh": 0.0,
    "power_kw": 1e-8,
    "terms": 1e-7,
    "reward_usd": 1e-7,
}


def certify(run: Run) -> StationCertificate:
    """Re-check every number of a run; call ``require()`` on the answer to raise on a fault."""
    k = session_steps(run.case)
    t, port, hours, rows = k.step, k.port, k.hours, k.values
    before = np.where(k.first, rows[:, START], run.content_kwh[np.maximum(t - 1, 0), port])
    layout = run.case.world.layout
    charger = layout.port_charger[port]
    eta_charge, eta_give = layout.charge_efficiency[charger], layout.discharge_efficiency[charger]
    grid, battery = run.grid_kwh[t, port], run.battery_kwh[t, port]
    losses = np.maximum(grid, 0) * (1 - eta_charge) + np.maximum(-battery, 0) * (1 - eta_give)
    throughput = max(float(np.abs(grid).sum()), 1e-12)
    after = run.content_kwh[t, port]
    taken = _integrate(run, t, port, hours, before, rows)
    idle = np.ones_like(run.grid_kwh, dtype=bool)
    idle[t, port] = False
    # A content that is floor or capacity exactly may stand a rounding error beyond.
    beyond = np.maximum(rows[:, 5] - after, after - rows[:, 2])
    power, terms = _power_and_terms(run, t, port, hours, before, rows, losses)
    reward = float(terms.sum(axis=0) @ run.case.weights.vector())
    return StationCertificate(
        energy=float(np.abs(grid - battery - losses).sum()) / throughput,
        battery_kwh=float(np.abs(taken - battery).max(initial=0.0)),
        content_kwh=float(np.abs(before + battery - after).max(initial=0.0)),
        bounds_kwh=float(beyond.max(initial=0.0)),
        idle_kwh=float(np.abs(run.grid_kwh[idle]).max(initial=0.0)),
        power_kw=power,
        terms=float(np.abs(terms - run.terms).max(initial=0.0)),
        reward_usd=abs(reward - run.reward),
    )


def _integrate(
    run: Run, t: NDArray[np.int64], port: NDArray[np.int64], hours: FloatArray,
    before: FloatArray, rows: FloatArray,
) -> FloatArray:  # fmt: skip
    """Energy taken by each battery, by Runge-Kutta of order four."""
    layout = run.case.world.layout
    charger = layout.port_charger[port]
    capacity, floor, full, transition, most, least = rows[:, [2, 5, 6, 7, 8, 9]].T
    taper_room = (1.0 - transition) * capacity

    def acceptance(content: FloatArray) -> FloatArray:
        room = np.maximum(capacity - content, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            falling = np.where(taper_room > 0, room / taper_room, np.inf)
        return np.where(room > 0, full * np.minimum(falling, 1.0), 0.0)

    kw = run.command_kw[t, port]
    charge = np.minimum(np.maximum(kw, 0) * layout.charge_efficiency[charger], most)
    charge = np.minimum(charge, acceptance(before))
    give = np.minimum(np.maximum(-kw, 0) / layout.discharge_efficiency[charger], least)
    give = np.where(before > floor, give, 0.0)
    # Chargers that share their power
    cell = t * layout.charger_kw.size + charger
    for value, factor in (
        (charge, 1.0 / layout.charge_efficiency[charger]),
        (give, layout.discharge_efficiency[charger]),
    ):
        together = np.bincount(cell, weights=value * factor, minlength=int(cell.max(initial=0)) + 1)
        value *= np.minimum(1.0, layout.charger_kw[charger] / np.maximum(together[cell], 1e-300))
    content, dt = before.copy(), hours / SUBSTEPS
    for _ in range(SUBSTEPS):
        k1 = np.minimum(charge, acceptance(content))
        k2 = np.minimum(charge, acceptance(content + 0.5 * dt * k1))
        k3 = np.minimum(charge, acceptance(content + 0.5 * dt * k2))
        k4 = np.minimum(charge, acceptance(content + dt * k3))
        content = np.minimum(content + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4), capacity)
    given = np.minimum(give * hours, np.maximum(before - floor, 0.0))
    return np.asarray(content - before - given)


def _power_and_terms(
    run: Run, t: NDArray[np.int64], port: NDArray[np.int64], hours: FloatArray,
    before: FloatArray, rows: FloatArray, losses: FloatArray,
) -> tuple[float, FloatArray]:  # fmt: skip
    """Largest error of a mean power, and all terms (T, len(TERMS))."""
    case, steps = run.case, len(run.case.series)
    s, layout, world = case.series, case.world.layout, case.world
    of_lot = layout.charger_lot[layout.port_charger]
    mean_kw = run.grid_kwh / s.step_h
    lots = layout.lot_transformer.size
    lot_kw = np.stack([mean_kw[:, of_lot == k].sum(axis=1) for k in range(lots)], axis=1)
    net = s.base_kw.copy()
    for k in range(lots):
        net[:, layout.lot_transformer[k]] += lot_kw[:, k]
    error = max(
        float(np.abs(lot_kw - run.lot_kw).max()), float(np.abs(net - run.transformer_kw).max())
    )

    def total(value: FloatArray) -> FloatArray:
        return np.bincount(t, weights=value, minlength=steps)[:steps].astype(float)

    def cost(kw: FloatArray) -> FloatArray:
        buy, sell = s.buy_usd_per_kwh[:, None], s.sell_usd_per_kwh[:, None]
        return np.asarray((np.where(kw > 0, buy, sell) * kw).sum(axis=1) * s.step_h)

    def excess(kw: FloatArray, import_kw: FloatArray, export_kw: FloatArray) -> FloatArray:
        over = np.maximum(kw - import_kw, 0) + np.maximum(-kw - export_kw, 0)
        return np.asarray(over.sum(axis=1) * s.step_h)

    grid, battery = run.grid_kwh[t, port], run.battery_kwh[t, port]
    after, start, wish, capacity = before + battery, rows[:, 3], rows[:, 4], rows[:, 2]
    leaves = rows[:, 1] <= t + 1
    missing = np.maximum(wish - after, 0)
    surplus = np.where(leaves, np.maximum(after - np.maximum(wish, start), 0), 0)
    share = np.where(wish > start, 1 - missing / np.where(wish > start, wish - start, 1), 1)
    ageing = world.ageing
    soc = (before + after) / (2 * capacity)
    warm = s.temperature_c[t]
    fade = ageing.cycle_fade(np.abs(battery), capacity, warm)
    fade = fade + ageing.calendar_fade(hours, soc, warm)
    overload = excess(lot_kw, layout.lot_limit_kw[:, 0], layout.lot_limit_kw[:, 1])
    overload = overload + excess(net, s.import_limit_kw, s.export_limit_kw)
    bus = net.sum(axis=1, keepdims=True)
    overload = overload + excess(bus, layout.bus_limit_kw[:1], layout.bus_limit_kw[1:])
    named = {
        "energy_cost_usd": cost(net) - cost(s.base_kw),
        "tariff_usd": world.tariff_usd_per_kwh * total(battery - surplus),
        "unserved_kwh": total(np.where(leaves, missing, 0)),
        "ageing_usd": total(ageing.cost_usd(fade, 1.0) * capacity),
        "overload_kwh": overload,
        "tracking_kwh": np.abs(mean_kw.sum(axis=1) - s.setpoint_kw) * s.step_h,
        "charged_kwh": total(np.maximum(grid, 0)),
        "discharged_kwh": total(np.maximum(-grid, 0)),
        "losses_kwh": total(losses),
        "departures": total(leaves.astype(float)),
        "satisfaction": total(np.where(leaves, np.maximum(share, 0), 0)),
        "battery_kwh": total(battery),
    }
    return error, np.stack([named[name] for name in TERMS], axis=1)
