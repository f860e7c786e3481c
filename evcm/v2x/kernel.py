"""One step of a charging station, alone or in a batch: the only place where energy moves.

In a step every port holds its command (grid side, charging positive). A charger whose ports
together draw more than it has scales their commands down alike. The battery then takes or gives
energy exactly (`evcm.v2x.battery`); what a lot, a transformer or the bus carries is the mean over
the step.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from evcm import compiled as nb
from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.v2x.arrivals import (
    ACCEPT,
    ARRIVAL,
    CAPACITY,
    CHARGE,
    DEPARTURE,
    DISCHARGE,
    FIELDS,
    FLOOR,
    START,
    TARGET,
    TRANSITION,
    draw_station,
    most_sessions,
)
from evcm.v2x.battery import charge_command_kw, charge_kwh, discharge_kwh
from evcm.v2x.world import World

TERMS = (
    "energy_cost_usd",
    "tariff_usd",
    "unserved_kwh",
    "ageing_usd",
    "overload_kwh",
    "tracking_kwh",
    "charged_kwh",
    "discharged_kwh",
    "losses_kwh",
    "departures",
    "satisfaction",
    "battery_kwh",
)
"""What a step reports, summed over the station.

energy_cost_usd: bought minus sold at the transformers' meters, less what building and PV alone
would cost. tariff_usd: paid by drivers for each kWh that the battery gains, up to the wish (what
stands above it is paid back at departure). unserved_kwh: missing to the wish, at departure.
overload_kwh: excess over the limits of lots, transformers and the bus, either way. tracking_kwh:
distance of the ports' power from the set-point. charged_kwh, discharged_kwh: at the ports, grid
side. satisfaction: sum over departing cars of the share of the wanted energy they got.
battery_kwh: change of contents.
"""

PORT_FEATURES = 7
LOOK_AHEAD_H = (1.0, 2.0, 4.0, 8.0, 12.0)
_AHEAD = np.array(LOOK_AHEAD_H)
GLOBAL_FEATURES = 6 + len(LOOK_AHEAD_H)
TRANSFORMER_FEATURES = 4

(COST, TARIFF, UNSERVED, AGEING, OVERLOAD, TRACKING, CHARGED, DISCHARGED, LOSSES) = range(9)
(DEPARTURES, SATISFACTION, BATTERY) = range(9, 12)


class State(NamedTuple):
    """State of B stations with P ports: which session each port is at, and its battery content."""

    content: FloatArray
    """(B, P) kWh, of the car at the port."""
    pointer: IntArray
    """(B, P) number of the port's session that is present or next."""
    rows: FloatArray
    """(B, P, S, fields) sessions."""
    visits: IntArray
    """(B, P) sessions of each port."""
    t: IntArray
    """(B,) step."""
    offset: IntArray
    """(B,) row of the series at which the run started."""


class Flows(NamedTuple):
    """What a step did."""

    grid_kwh: FloatArray
    """(B, P) energy at the ports, grid side, charging positive."""
    battery_kwh: FloatArray
    """(B, P) change of the batteries' contents."""
    lot_kw: FloatArray
    """(B, L) mean power of the ports of each lot."""
    transformer_kw: FloatArray
    """(B, M) mean power through each transformer, building and PV included."""
    terms: FloatArray
    """(B, len(TERMS))"""


def new_state(world: World, batch: int, steps: int, step_h: float, most: int = 0) -> State:
    """An empty state for `batch` runs of `steps` steps (`most`: sessions of a port, at least)."""
    ports = world.ports
    most = max(most, most_sessions(steps, step_h))
    return State(
        content=np.zeros((batch, ports)),
        pointer=np.zeros((batch, ports), dtype=np.int64),
        rows=np.zeros((batch, ports, most, len(FIELDS))),
        visits=np.zeros((batch, ports), dtype=np.int64),
        t=np.zeros(batch, dtype=np.int64),
        offset=np.zeros(batch, dtype=np.int64),
    )


def new_flows(world: World, batch: int) -> Flows:
    """Arrays for the results of a step."""
    return Flows(
        grid_kwh=np.zeros((batch, world.ports)),
        battery_kwh=np.zeros((batch, world.ports)),
        lot_kw=np.zeros((batch, len(world.lots))),
        transformer_kw=np.zeros((batch, len(world.transformers))),
        terms=np.zeros((batch, len(TERMS))),
    )


def observation_size(world: World) -> int:
    """Length of the default observation."""
    return (
        GLOBAL_FEATURES
        + TRANSFORMER_FEATURES * len(world.transformers)
        + PORT_FEATURES * world.ports
    )


def present(state: State) -> BoolArray:
    """Ports with a car now, (B, P)."""
    n = np.minimum(state.pointer, state.rows.shape[2] - 1)[..., None]
    arrival = np.take_along_axis(state.rows[..., ARRIVAL], n, axis=2)[..., 0]
    return np.asarray((state.pointer < state.visits) & (arrival <= state.t[:, None]))


@nb.njit(cache=True)
def admit(state, b):  # type: ignore[no-untyped-def]
    """Let the cars in that arrive at the current step."""
    t = state.t[b]
    for p in range(state.content.shape[1]):
        n = state.pointer[b, p]
        if n < state.visits[b, p] and state.rows[b, p, n, ARRIVAL] == t:
            state.content[b, p] = state.rows[b, p, n, START]


@nb.njit(cache=True)
def start(layout, state, b, table, seed, episode, env, start_hour, step_h, steps):  # type: ignore[no-untyped-def]
    """Draw a new run for row b: sessions from the counters, step 0. Nonzero: too many sessions."""
    full = draw_station(
        layout, table, seed, episode, env, start_hour, step_h, steps, state.rows[b], state.visits[b]
    )
    state.t[b] = 0
    state.pointer[b, :] = 0
    admit(state, b)
    return full


@nb.njit(cache=True)
def bounds(layout, series, state, b, charge, give):  # type: ignore[no-untyped-def]
    """Write the greatest mean powers (kW, grid side) of each port in this step, both ways."""
    t, step_h = state.t[b], series.scale[0]
    for p in range(layout.port_charger.size):
        charge[p], give[p] = 0.0, 0.0
        n = state.pointer[b, p]
        if n >= state.visits[b, p] or state.rows[b, p, n, ARRIVAL] > t:
            continue
        row, h = state.rows[b, p, n], layout.port_charger[p]
        content = state.content[b, p]
        hours = min(row[DEPARTURE] - t, 1.0) * step_h
        taken = charge_kwh(content, row[CHARGE], row[ACCEPT], row[TRANSITION], row[CAPACITY], hours)
        given = discharge_kwh(content, row[DISCHARGE], row[FLOOR], hours)
        charge[p] = taken / layout.charge_efficiency[h] / step_h
        give[p] = given * layout.discharge_efficiency[h] / step_h


@nb.njit(cache=True)
def commands_for(layout, series, state, b, mean_kw, command):  # type: ignore[no-untyped-def]
    """Write the commands (kW) whose mean power over this step is `mean_kw`, where it can be."""
    t, step_h = state.t[b], series.scale[0]
    for p in range(layout.port_charger.size):
        command[p] = 0.0
        n = state.pointer[b, p]
        if n >= state.visits[b, p] or state.rows[b, p, n, ARRIVAL] > t or mean_kw[p] == 0.0:
            continue
        row, h = state.rows[b, p, n], layout.port_charger[p]
        hours = min(row[DEPARTURE] - t, 1.0) * step_h
        if mean_kw[p] > 0.0:
            battery = mean_kw[p] * step_h * layout.charge_efficiency[h]
            inner = charge_command_kw(
                state.content[b, p], battery, row[ACCEPT], row[TRANSITION], row[CAPACITY], hours
            )
            command[p] = min(inner, row[CHARGE]) / layout.charge_efficiency[h]
        else:
            battery = -mean_kw[p] * step_h / layout.discharge_efficiency[h]
            inner = min(battery / hours, row[DISCHARGE])
            command[p] = -inner * layout.discharge_efficiency[h]


@nb.njit(cache=True)
def _acceptance_kw(content, accept, transition, capacity):  # type: ignore[no-untyped-def]
    room, taper_room = capacity - content, (1.0 - transition) * capacity
    if room >= taper_room:
        return accept
    return accept * max(room, 0.0) / taper_room


# The two functions below take each array by name and are inlined: views of rows and calls with
# whole named tuples cost more than the physics (reference counts, copies of every field).
@nb.njit(cache=True, inline="always")
def _share(  # type: ignore[no-untyped-def]
    first, last, limit, eta_charge, eta_give, port_kw, b, t,
    content, pointer, count, rows, action, normalised,
):  # fmt: skip
    """Factors by which a charger with several ports scales commands down, charging and giving."""
    charge, give = 0.0, 0.0
    for p in range(first, last):
        n = pointer[b, p]
        if n >= count[b, p] or rows[b, p, n, ARRIVAL] > t:
            continue
        kw = action[b, p] * port_kw[p] if normalised else action[b, p]
        if kw > 0.0:
            accept = _acceptance_kw(
                content[b, p],
                rows[b, p, n, ACCEPT],
                rows[b, p, n, TRANSITION],
                rows[b, p, n, CAPACITY],
            )
            charge += min(kw, min(rows[b, p, n, CHARGE], accept) / eta_charge)
        elif kw < 0.0 and content[b, p] > rows[b, p, n, FLOOR]:
            give += min(-kw, rows[b, p, n, DISCHARGE] * eta_give)
    charge_share = 1.0 if charge <= limit else limit / charge
    give_share = 1.0 if give <= limit else limit / give
    return charge_share, give_share


@nb.njit(cache=True)
def _excess(kw, import_kw, export_kw):  # type: ignore[no-untyped-def]
    """Power beyond a limit, whichever way it flows."""
    return max(kw - import_kw, 0.0) + max(-kw - export_kw, 0.0)


@nb.njit(cache=True)
def _cost_per_h(kw, buy, sell):  # type: ignore[no-untyped-def]
    return kw * (buy if kw > 0.0 else sell)


@nb.njit(cache=True)
def advance(layout, series, state, b, action, normalised, flows):  # type: ignore[no-untyped-def]
    """One step of run b under `action` (B, P): kW, or shares of port power if `normalised`."""
    content_, pointer, count, rows = state.content, state.pointer, state.visits, state.rows
    grid_kwh, battery_kwh = flows.grid_kwh, flows.battery_kwh
    port_kw, port_first, charger_kw = layout.port_kw, layout.port_first, layout.charger_kw
    eta_charges, eta_gives = layout.charge_efficiency, layout.discharge_efficiency
    step_h = series.scale[0]
    t = state.t[b]
    i = state.offset[b] + t
    wear, rest = layout.money[1] * series.cycle_factor[i], series.calendar_factor[i]
    rest, slope = layout.money[2] * rest, layout.money[3]
    charged, given, battery, losses, ageing = 0.0, 0.0, 0.0, 0.0, 0.0
    unserved, surplus, departures, satisfaction = 0.0, 0.0, 0.0, 0.0
    bus_kw, ports_kw, overload_kw, cost = 0.0, 0.0, 0.0, 0.0
    for m in range(layout.lot_first.size - 1):
        transformer_kw = series.base_kw[i, m]
        cost -= _cost_per_h(transformer_kw, series.buy[i], series.sell[i])
        for k in range(layout.lot_first[m], layout.lot_first[m + 1]):
            lot_kwh = 0.0
            for h in range(layout.charger_first[k], layout.charger_first[k + 1]):
                eta_charge, eta_give = eta_charges[h], eta_gives[h]
                first, last = port_first[h], port_first[h + 1]
                charge_share, give_share = 1.0, 1.0
                if last - first > 1:
                    charge_share, give_share = _share(
                        first, last, charger_kw[h], eta_charge, eta_give, port_kw, b, t,
                        content_, pointer, count, rows, action, normalised,
                    )  # fmt: skip
                for p in range(first, last):
                    n = pointer[b, p]
                    if n >= count[b, p] or rows[b, p, n, ARRIVAL] > t:
                        grid_kwh[b, p] = 0.0
                        battery_kwh[b, p] = 0.0
                        continue
                    departure, capacity = rows[b, p, n, DEPARTURE], rows[b, p, n, CAPACITY]
                    hours = min(departure - t, 1.0) * step_h
                    content = content_[b, p]
                    kw = action[b, p] * port_kw[p] if normalised else action[b, p]
                    taken, grid = 0.0, 0.0
                    if kw > 0.0:
                        accept, transition = rows[b, p, n, ACCEPT], rows[b, p, n, TRANSITION]
                        most = rows[b, p, n, CHARGE]
                        if charge_share < 1.0:
                            most = min(most, _acceptance_kw(content, accept, transition, capacity))
                        command = min(kw * eta_charge, most) * charge_share
                        taken = charge_kwh(content, command, accept, transition, capacity, hours)
                        grid = taken / eta_charge
                        charged += grid
                        losses += grid * (1.0 - eta_charge)
                    elif kw < 0.0:
                        command = min(-kw / eta_give, rows[b, p, n, DISCHARGE]) * give_share
                        taken = -discharge_kwh(content, command, rows[b, p, n, FLOOR], hours)
                        grid = taken * eta_give
                        given -= grid
                        losses -= taken * (1.0 - eta_give)
                    after = content + taken
                    battery += taken
                    stress = 1.0 + slope * ((content + after) / (2.0 * capacity) - 0.5)
                    ageing += wear * abs(taken) + rest * capacity * hours * stress
                    grid_kwh[b, p] = grid
                    battery_kwh[b, p] = taken
                    content_[b, p] = after
                    lot_kwh += grid
                    if departure <= t + 1.0:
                        target = rows[b, p, n, TARGET]
                        missing, wanted = max(target - after, 0.0), target - rows[b, p, n, START]
                        surplus += max(after - max(target, rows[b, p, n, START]), 0.0)
                        unserved += missing
                        departures += 1.0
                        satisfaction += max(1.0 - missing / wanted, 0.0) if wanted > 0.0 else 1.0
                        pointer[b, p] = n + 1
            lot_kw = lot_kwh / step_h
            flows.lot_kw[b, k] = lot_kw
            overload_kw += _excess(lot_kw, layout.lot_limit_kw[k, 0], layout.lot_limit_kw[k, 1])
            transformer_kw += lot_kw
            ports_kw += lot_kw
        flows.transformer_kw[b, m] = transformer_kw
        overload_kw += _excess(transformer_kw, series.import_kw[i, m], series.export_kw[i, m])
        cost += _cost_per_h(transformer_kw, series.buy[i], series.sell[i])
        bus_kw += transformer_kw
    overload_kw += _excess(bus_kw, layout.bus_limit_kw[0], layout.bus_limit_kw[1])
    terms = flows.terms
    terms[b, COST], terms[b, TARIFF] = cost * step_h, layout.money[0] * (battery - surplus)
    terms[b, UNSERVED], terms[b, AGEING] = unserved, ageing
    terms[b, OVERLOAD] = overload_kw * step_h
    terms[b, TRACKING] = abs(ports_kw - series.setpoint_kw[i]) * step_h
    terms[b, CHARGED], terms[b, DISCHARGED] = charged, given
    terms[b, LOSSES] = losses
    terms[b, DEPARTURES], terms[b, SATISFACTION] = departures, satisfaction
    terms[b, BATTERY] = battery
    state.t[b] = t + 1
    for p in range(port_kw.size):
        n = pointer[b, p]
        if n < count[b, p] and rows[b, p, n, ARRIVAL] == t + 1:
            content_[b, p] = rows[b, p, n, START]


@nb.njit(cache=True)
def observe(layout, series, state, b, steps, flows, out):  # type: ignore[no-untyped-def]
    """Write the default observation of run b into `out` (n,), float32, every value in [-2, 2]."""
    t = state.t[b]
    i = min(state.offset[b] + t, series.buy.size - 1)
    step_h, price = series.scale[0], series.scale[2]
    hour = series.scale[1] + (state.offset[b] + t) * step_h
    day, week = 2.0 * math.pi * hour / 24.0, 2.0 * math.pi * hour / 168.0
    out[0], out[1] = math.sin(day), math.cos(day)
    out[2], out[3] = math.sin(week), math.cos(week)
    out[4] = t / steps
    out[5] = series.buy[i] / price
    at = 6
    for n in range(_AHEAD.size):
        later = min(i + int(_AHEAD[n] / step_h + 0.5), series.buy.size - 1)
        out[at] = series.buy[later] / price
        at += 1
    scale = 0.0
    for h in range(layout.charger_kw.size):
        scale += layout.charger_kw[h]
    for m in range(layout.lot_first.size - 1):
        out[at] = min(max(series.base_kw[i, m] / scale, -2.0), 2.0)
        out[at + 1] = min(max(series.import_kw[i, m] / scale, -2.0), 2.0)
        out[at + 2] = min(series.export_kw[i, m] / scale, 2.0)
        out[at + 3] = min(max(flows.transformer_kw[b, m] / scale, -2.0), 2.0)
        at += 4
    content, pointer, count, rows = state.content, state.pointer, state.visits, state.rows
    port_kw = layout.port_kw
    for p in range(port_kw.size):
        n = pointer[b, p]
        if n < count[b, p] and rows[b, p, n, ARRIVAL] <= t:
            capacity = rows[b, p, n, CAPACITY]
            out[at] = 1.0
            out[at + 1] = content[b, p] / capacity
            out[at + 2] = rows[b, p, n, TARGET] / capacity
            out[at + 3] = min((rows[b, p, n, DEPARTURE] - t) * step_h / 24.0, 2.0)
            out[at + 4] = min(capacity / 100.0, 2.0)
            out[at + 5] = min(rows[b, p, n, CHARGE] / port_kw[p], 2.0)
            out[at + 6] = min(rows[b, p, n, DISCHARGE] / port_kw[p], 2.0)
        else:
            for q in range(7):
                out[at + q] = 0.0
        at += 7


@nb.njit(cache=True)
def _rest(flows, b):  # type: ignore[no-untyped-def]
    """No power through the transformers of run b: nothing has happened yet."""
    for m in range(flows.transformer_kw.shape[1]):
        flows.transformer_kw[b, m] = 0.0


@nb.njit(cache=True)
def _weighted(terms, weights):  # type: ignore[no-untyped-def]
    total = 0.0
    for n in range(weights.size):
        total += terms[n] * weights[n]
    return total


# A store through a field of a named tuple in the body of a parallel loop is dropped (Numba 0.68):
# its dead-code pass does not see that the field is an argument's. So the bodies below write to
# arrays that are arguments themselves, and call functions for everything else. These have one
# signature each: the loop's own index is unsigned, which would compile all of them once more.
@nb.njit(cache=True, parallel=True)
def step_all(layout, series, state, action, normalised, flows, weights, steps, obs, reward):  # type: ignore[no-untyped-def]
    """Step every run; runs are independent, so the threads cannot change a bit."""
    for run in nb.prange(state.t.size):
        b = np.int64(run)
        advance(layout, series, state, b, action, normalised, flows)
        reward[b] = _weighted(flows.terms[b], weights)
        observe(layout, series, state, b, steps, flows, obs[b])


@nb.njit(cache=True, parallel=True)
def start_all(layout, series, state, table, seed, episode, steps, flows, obs, full):  # type: ignore[no-untyped-def]
    """Start a new episode in every run."""
    step_h, start_hour = series.scale[0], series.scale[1]
    for run in nb.prange(state.t.size):
        b = np.int64(run)
        hour = (start_hour + state.offset[b] * step_h) % 168.0
        full[b] = start(layout, state, b, table, seed, episode, b, hour, step_h, steps)
        _rest(flows, b)
        observe(layout, series, state, b, steps, flows, obs[b])
