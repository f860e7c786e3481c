"""Cars that come: arrival, stay, energy and car class, drawn per port by hour and weekday.

Times are continuous: the next arrival at a free port is the first point of a Poisson process whose
rate changes by the hour of the week. A session is then snapped as a whole to the nearest step
boundary and keeps its stay, so that a day has the same sessions and energy at every step length. A
car that finds the last step of the port still in use waits for the next one and stays as long.

Random numbers come from Philox 4x32-10, keyed by the seed and counted by (session, port,
environment, episode): any number of threads, and any order, gives the same bits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm import compiled as nb
from evcm import data
from evcm.arrays import FloatArray, IntArray, read_only
from evcm.errors import Checks, Fault, InputError
from evcm.v2x.battery import charge_kwh
from evcm.v2x.world import PLACES, World

FIELDS = (
    "arrival_step",
    "departure_step",
    "capacity_kwh",
    "arrival_kwh",
    "target_kwh",
    "floor_kwh",
    "accept_kw",
    "transition_soc",
    "charge_kw",
    "discharge_kw",
    "car",
)
"""Columns of a session. Powers are at the battery: `accept_kw` is the full acceptance A,
`charge_kw` what the port lets through, `discharge_kw` the most it may give. `departure_step` may
lie inside a step. `floor_kwh` is the least content that V2G may leave; `target_kwh` the wish at
departure."""

(ARRIVAL, DEPARTURE, CAPACITY, START, TARGET, FLOOR, ACCEPT, TRANSITION, CHARGE, DISCHARGE, CAR) = (
    range(len(FIELDS))
)

BURN_IN_H = 36.0
"""Arrivals are drawn from so long before the start, so that cars already stand there."""

_MIN_STAY_H = 1.0 / 6.0
_MAX_STAY_H = 48.0


@dataclass(frozen=True, eq=False)
class Sessions:
    """Sessions of one run: `port` (n,) and `values` (n, len(FIELDS)), sorted by port and time."""

    port: IntArray = field(repr=False)
    values: FloatArray = field(repr=False)

    def __post_init__(self) -> None:
        port = np.asarray(self.port, dtype=np.int64)
        values = np.asarray(self.values, dtype=float).reshape(-1, len(FIELDS))
        order = np.lexsort((values[:, ARRIVAL], port)) if port.size else np.arange(0)
        object.__setattr__(self, "port", read_only(port[order], np.int64))
        object.__setattr__(self, "values", read_only(values[order]))
        _check_sessions(self)

    def __len__(self) -> int:
        return int(self.port.size)

    def column(self, name: str) -> FloatArray:
        """One column of FIELDS, (n,)."""
        return self.values[:, FIELDS.index(name)]

    def table(self) -> pd.DataFrame:
        """Sessions as a tidy frame."""
        frame = pd.DataFrame(self.values, columns=list(FIELDS))
        frame.insert(0, "port", self.port)
        return frame

    @staticmethod
    def from_table(table: pd.DataFrame) -> Sessions:
        """Sessions from a frame with the columns of `table`."""
        lacking = [n for n in ("port", *FIELDS) if n not in table.columns]
        checks = Checks("sessions")
        checks.require(not lacking, "columns", f"without {', '.join(lacking)}", ", ".join(FIELDS))
        checks.done()
        return Sessions(table["port"].to_numpy(np.int64), table[list(FIELDS)].to_numpy(dtype=float))

    def packed(self, ports: int) -> tuple[FloatArray, IntArray]:
        """Rows by port, (ports, most sessions at a port, fields), and the count of each port."""
        count = np.bincount(self.port, minlength=ports).astype(np.int64)
        rows = np.zeros((ports, max(int(count.max(initial=0)), 1), len(FIELDS)))
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        rows[self.port, np.arange(len(self)) - first[self.port]] = self.values
        return rows, count


def _check_sessions(s: Sessions) -> None:
    c = Checks("sessions")
    v = s.values
    finite = c.require(bool(np.isfinite(v).all()), "values", "not finite", "finite numbers")
    if finite and len(s):
        _each(c, v[:, DEPARTURE] > v[:, ARRIVAL], s, "departure_step", "after arrival_step")
        _each(c, v[:, ARRIVAL] >= 0, s, "arrival_step", ">= 0")
        _each(c, v[:, ARRIVAL] == np.floor(v[:, ARRIVAL]), s, "arrival_step", "a whole step")
        _each(c, v[:, CAPACITY] > 0, s, "capacity_kwh", "> 0")
        _each(c, v[:, ACCEPT] > 0, s, "accept_kw", "> 0")
        _each(c, v[:, CHARGE] >= 0, s, "charge_kw", ">= 0")
        _each(c, v[:, CHARGE] <= v[:, ACCEPT], s, "charge_kw", "at most accept_kw")
        _each(c, v[:, DISCHARGE] >= 0, s, "discharge_kw", ">= 0")
        inside = (v[:, START] >= 0) & (v[:, START] <= v[:, CAPACITY])
        _each(c, inside, s, "arrival_kwh", "0..capacity_kwh")
        _each(c, v[:, TARGET] <= v[:, CAPACITY], s, "target_kwh", "at most capacity_kwh")
        _each(c, v[:, FLOOR] <= v[:, START], s, "floor_kwh", "at most arrival_kwh")
        same = s.port[1:] == s.port[:-1]
        late = np.concatenate([[True], ~same | (v[1:, ARRIVAL] >= np.ceil(v[:-1, DEPARTURE]))])
        _each(c, late, s, "arrival_step", "not before the last car's last step at that port ends")
    c.done()


def _each(c: Checks, good: NDArray[np.bool_], s: Sessions, name: str, allowed: str) -> None:
    bad = np.flatnonzero(~good)
    if bad.size:
        row = int(bad[0])
        value = float(s.values[row, FIELDS.index(name)])
        c.require(False, f"{name} of session {row} at port {s.port[row]}", value, allowed)


@cache
def arrival_tables() -> FloatArray:
    """(places, 168, 5): rate of a free port (1/h), log-mean and log-sd of stay (h) and energy."""
    table = data.read_table("v2x/arrivals.csv")
    out = np.zeros((len(PLACES), 168, 5))
    for n, place in enumerate(PLACES):
        rows = table[table["place"] == place].sort_values(["weekday", "hour"])
        if len(rows) != 168:
            raise InputError("v2x/arrivals.csv", [Fault(place, len(rows), "168 rows")])
        out[n, :, 0] = rows["arrivals_per_free_port_h"]
        for col, name in ((1, "stay"), (3, "energy")):
            unit = "h" if name == "stay" else "kwh"
            mean, sd = rows[f"{name}_mean_{unit}"], rows[f"{name}_sd_{unit}"]
            variance = np.log1p((sd / mean) ** 2)
            out[n, :, col] = np.log(mean) - variance / 2
            out[n, :, col + 1] = np.sqrt(variance)
    out.setflags(write=False)
    return out


_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)


@nb.njit(cache=True)
def philox(
    c0: int, c1: int, c2: int, c3: int, seed: int
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    """Philox 4x32-10: four 32-bit words from a counter of four words and a 64-bit key."""
    x0, x1 = np.uint64(c0) & _LOW, np.uint64(c1) & _LOW
    x2, x3 = np.uint64(c2) & _LOW, np.uint64(c3) & _LOW
    k0, k1 = np.uint64(seed) & _LOW, np.uint64(seed) >> _32
    for _ in range(10):
        p0, p1 = _M0 * x0, _M1 * x2
        x0, x1, x2, x3 = (
            (p1 >> _32) ^ x1 ^ k0,
            p1 & _LOW,
            (p0 >> _32) ^ x3 ^ k1,
            p0 & _LOW,
        )
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return x0, x1, x2, x3


@nb.njit(cache=True)
def _unit(word: np.uint64) -> float:
    share: float = (float(word) + 0.5) * (1.0 / 4294967296.0)
    return share


@nb.njit(cache=True)
def _normal(first: np.uint64, second: np.uint64) -> float:
    return math.sqrt(-2.0 * math.log(_unit(first))) * math.cos(2.0 * math.pi * _unit(second))


@nb.njit(cache=True)
def _next_arrival(rate: FloatArray, hour_of_week: float, wait: float) -> float:
    """Hours until the summed rate reaches `wait`, from an hour of the week on (inf: never)."""
    elapsed, at = 0.0, hour_of_week
    for _ in range(400):
        index = int(at) % 168
        left = math.floor(at) + 1.0 - at
        if rate[index] * left >= wait:
            return float(elapsed + wait / rate[index])
        wait -= rate[index] * left
        elapsed += left
        at = math.floor(at) + 1.0
        if at >= 168.0:
            at -= 168.0
    return math.inf


@nb.njit(cache=True)
def draw_port(layout, table, seed, episode, env, port, start_hour, step_h, steps, rows):  # type: ignore[no-untyped-def]
    """Draw the sessions of one port into `rows` (most, fields); return their number, -1: too many.

    ``layout`` is a `Layout`, ``table`` the array of `arrival_tables`.
    """
    charger = layout.port_charger[port]
    law = table[layout.lot_place[layout.charger_lot[charger]]]
    rate = law[:, 0]
    is_dc, phases, phase_kw, both_ways = layout.charger_table[charger]
    eta_charge = layout.charge_efficiency[charger]
    eta_discharge = layout.discharge_efficiency[charger]
    now, free_step, count, number = -BURN_IN_H, -(10**9), 0, 0
    while True:
        a = philox(3 * number, port, env, episode, seed)
        b = philox(3 * number + 1, port, env, episode, seed)
        d = philox(3 * number + 2, port, env, episode, seed)
        number += 1
        at = now + _next_arrival(rate, (start_hour + now) % 168.0, -math.log(_unit(a[0])))
        if at >= steps * step_h:
            return count
        cell = law[int((start_hour + at) % 168.0)]
        stay_h = math.exp(cell[1] + cell[2] * _normal(a[1], a[2]))
        stay_h = min(max(stay_h, _MIN_STAY_H), _MAX_STAY_H)
        now = at + stay_h
        arrival = max(math.floor(at / step_h + 0.5), free_step)
        departure = round(arrival + stay_h / step_h, 6)
        if departure <= 0 or arrival >= steps:
            continue
        if count == rows.shape[0]:
            return -1
        free_step = math.ceil(departure)
        row = rows[count]
        count += 1
        # Which car
        pick, shares = _unit(b[0]), layout.car_table[:, 1 if is_dc > 0 else 0]
        car = 0
        while car < shares.size - 1 and pick > shares[car]:
            car += 1
        _, _, capacity, ac_kw, dc_kw, car_phases, give_kw, transition = layout.car_table[car]
        capacity *= 1.0 + layout.driver[2] * (2.0 * _unit(b[1]) - 1.0)
        accept = dc_kw if is_dc > 0 else ac_kw
        port_kw = phase_kw * (1.0 if is_dc > 0 else min(phases, car_phases))
        charge = min(accept, port_kw * eta_charge)
        # What the driver wants
        target = layout.driver[0] + (layout.driver[1] - layout.driver[0]) * _unit(b[2])
        energy = math.exp(cell[3] + cell[4] * _normal(d[0], d[1]))
        content = max(target * capacity - energy, 0.05 * capacity)
        row[ARRIVAL] = max(arrival, 0)
        row[DEPARTURE] = departure
        row[CAPACITY] = capacity
        row[START] = content
        row[TARGET] = target * capacity
        row[FLOOR] = min(content, layout.car_soc_min[car] * capacity)
        row[ACCEPT] = accept
        row[TRANSITION] = transition
        row[CHARGE] = charge
        row[DISCHARGE] = min(give_kw, port_kw / eta_discharge) if both_ways > 0 else 0.0
        row[CAR] = car
        if departure > steps:
            # The run ends before the stay: the car then wants no more than it could have got.
            row[DEPARTURE] = steps
            hours = (steps - row[ARRIVAL]) * step_h
            reach = content + charge_kwh(content, charge, accept, transition, capacity, hours)
            row[TARGET] = min(row[TARGET], reach)


@nb.njit(cache=True)
def draw_station(layout, table, seed, episode, env, start_hour, step_h, steps, rows, count):  # type: ignore[no-untyped-def]
    """Draw all ports of one station into `rows` (P, most, fields) and `count` (P,)."""
    worst = 0
    for port in range(layout.port_charger.size):
        n = draw_port(
            layout, table, seed, episode, env, port, start_hour, step_h, steps, rows[port]
        )
        count[port] = n
        if n < 0:
            worst = -1
    return worst


def most_sessions(steps: int, step_h: float) -> int:
    """Room for the sessions of a port: one in each step at most, or some 23 a day."""
    return int(min(steps, 8 + math.ceil(0.6 * steps * step_h)))


def draw_sessions(
    world: World,
    steps: int,
    step_h: float,
    seed: int,
    start_hour: float = 0.0,
    *,
    env: int = 0,
    episode: int = 0,
) -> Sessions:
    """Draw the sessions of a run from an hour of the week on (0: Monday 00:00).

    Each lot's place chooses the distributions. The same seed, 0 <= seed < 2**63, gives the same
    sessions at every step length, up to the snapping to steps; `env` and `episode` are further
    counters, for many environments under one seed.
    """
    checks = Checks("sessions")
    checks.require(0 <= seed < 2**63, "seed", seed, "0..2**63-1")
    checks.require(steps >= 1, "steps", steps, ">= 1")
    checks.require(step_h > 0, "step_h", step_h, "> 0")
    checks.done()
    rows = np.zeros((world.ports, most_sessions(steps, step_h), len(FIELDS)))
    count = np.zeros(world.ports, dtype=np.int64)
    full = draw_station(
        world.layout, arrival_tables(), seed, episode, env, start_hour, step_h, steps, rows, count
    )
    checks.require(full == 0, "sessions at one port", "too many", f"<= {rows.shape[1]}")
    checks.done()
    return unpack(rows, count)


def unpack(rows: FloatArray, count: IntArray | Sequence[int]) -> Sessions:
    """`Sessions` from packed rows (P, most, fields) and counts (P,)."""
    kept = np.arange(rows.shape[1]) < np.asarray(count)[:, None]
    port = np.nonzero(kept)[0]
    return Sessions(port, rows[kept])
