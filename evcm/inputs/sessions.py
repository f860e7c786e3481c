"""Recorded charging sessions: read, put on the study's periods, and checked against each other."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from evcm.arrays import IntArray
from evcm.errors import Checks
from evcm.inputs.values import Clock, Sessions, VehicleClass
from evcm.store.reading import Kind, Table, read_table, read_text

NAMES: dict[str, tuple[str, ...]] = {
    "arrival": ("arrival", "connectionTime"),
    "departure": ("departure", "disconnectTime"),
    "energy_kwh": ("energy_kwh", "kWhDelivered"),
    "station": ("station", "stationID", "spaceID"),
}
"""Columns by their name here, and what common exports call them."""

UNUSED = (
    "_id", "clusterID", "siteID", "sessionID", "userID", "userInputs", "timezone",
    "doneChargingTime",
)  # fmt: skip
"""Columns of common exports that say nothing about power."""


def read_sessions(
    path: Path,
    clock: Clock,
    buses: tuple[int, ...],
    classes: tuple[str, ...],
    vehicles: tuple[VehicleClass, ...],
    zone: str = "",
    bus: int | None = None,
    first_day: datetime | None = None,
) -> Sessions:
    """Sessions of a table: arrival, departure, energy_kwh and, where there is more than one, bus.

    Parameters
    ----------
    path
        Optional columns: station, bus, vehicle_class, battery_kwh, charger_kw; the names of ACN's
        exports are understood. Times with a zone are brought to `zone`; others are local.
    clock
        The horizon; the recorded days are cut into as many of them as they fill.
    buses, classes, vehicles
        What a bus and a class may be.
    zone : str
        Time zone of the clock.
    bus : int, optional
        Bus of all sessions.
    first_day : datetime, optional
        Midnight at which the first sample begins; that of the first arrival if left out.

    Returns
    -------
    Sessions
        Times are rounded to the nearest start of a period; a session fills one period at least,
        and one less than the horizon at most.

    Raises
    ------
    InputError
        All faults with their lines: unknown buses or classes, sessions that end before they begin
        or overlap at a station, more energy than the battery holds.
    """
    table, column = _table(path)
    c = Checks(str(path))
    size = len(table)
    times = {name: _local(table[column[name]], zone) for name in ("arrival", "departure")}
    order = np.argsort(np.array([t.timestamp() for t in times["arrival"]]), kind="stable")
    begin = first_day or times["arrival"][order[0]]
    begin = begin.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    sample, first = _on_clock(times["arrival"], begin, clock)
    last_sample, after = _on_clock(times["departure"], begin, clock)
    last = np.maximum(after + (last_sample - sample) * clock.periods - 1, first)
    last = np.minimum(last, first + clock.periods - 2)
    at = _buses(table, bus, buses, c)
    kind = _classes(table, classes, c)
    energy = table[column["energy_kwh"]]
    nothing = np.full(size, np.nan)
    battery = table.columns.get("battery_kwh", nothing)
    charger = table.columns.get("charger_kw", nothing)
    for row in range(size):
        where = f"line {table.line[row]}"
        start, end = times["arrival"][row], times["departure"][row]
        c.require(start < end, f"{where}, departure", str(end), f"after the arrival, {start}")
        c.require(sample[row] >= 0, f"{where}, arrival", str(start), f"from {begin.date()} on")
        cell = vehicles[int(kind[row])].battery
        room = float(cell.departure_soc_kwh) - float(cell.soc_min_kwh)
        if np.isfinite(battery[row]):
            room *= float(battery[row]) / float(cell.capacity_kwh)
        c.require(
            0 < energy[row] <= room, f"{where}, energy_kwh", float(energy[row]),
            f"0 < energy <= {room:g} kWh, what the battery takes between its limits",
        )  # fmt: skip
        for name, values in (("battery_kwh", battery), ("charger_kw", charger)):
            value = float(values[row])
            c.require(np.isnan(value) or value > 0, f"{where}, {name}", value, "> 0")
    if "station" in column:
        _no_overlap(table, column["station"], times, c)
    c.done()
    return Sessions(
        at, sample, first, last, energy, kind, battery, charger, int(sample.max()) + 1
    )  # fmt: skip


def _table(path: Path) -> tuple[Table, dict[str, str]]:
    """The table, and the name that each known column has in it."""
    lines = [x for x in read_text(path).splitlines() if x.strip() and x.lstrip()[0] != "#"]
    head = lines[0] if lines else ""
    separator = max(";\t,", key=head.count)
    names = [cell.strip().strip('"') for cell in head.split(separator)]
    column = {
        name: next((x for x in known if x in names), known[0])
        for name, known in NAMES.items()
        if name != "station" or any(x in names for x in known)
    }
    required: dict[str, Kind] = {
        column["arrival"]: "time", column["departure"]: "time", column["energy_kwh"]: "number",
    }  # fmt: skip
    optional: dict[str, Kind] = {
        "bus": "whole", "vehicle_class": "text", "battery_kwh": "number", "charger_kw": "number",
        **dict.fromkeys((*UNUSED, *NAMES["station"]), "text"),
    }  # fmt: skip
    return read_table(path, required, optional), column


def _local(times: Any, zone: str) -> list[datetime]:
    """Times on the wall clock of a zone; those without a zone are taken as they are."""
    there = ZoneInfo(zone) if zone else None
    return [
        t if t.tzinfo is None else (t.astimezone(there) if there else t).replace(tzinfo=None)
        for t in times
    ]


def _on_clock(times: list[datetime], begin: datetime, clock: Clock) -> tuple[IntArray, IntArray]:
    """Sample (from 0) and nearest start of a period (1-based) of each time."""
    sample, period = (np.empty(len(times), dtype=np.int64) for _ in range(2))
    for k, t in enumerate(times):
        days = (t - begin) // timedelta(days=1)
        n, day = divmod(days, clock.days)
        hours = (t - begin - timedelta(days=days)) / timedelta(hours=1)
        sample[k], period[k] = n, round(clock.period(day, hours))
    return sample, period


def _buses(table: Table, bus: int | None, buses: tuple[int, ...], c: Checks) -> IntArray:
    allowed = "a bus with an aggregator: " + ", ".join(map(str, buses[:20]))
    if "bus" in table:
        for row in np.flatnonzero(~np.isin(table["bus"], buses)):
            c.require(False, f"line {table.line[row]}, column bus", int(table["bus"][row]), allowed)
        return np.asarray(table["bus"], dtype=np.int64)
    only = buses[0] if bus is None and len(buses) == 1 else bus
    c.require(only is not None, "column bus", "missing", "a column, or bus in sessions.toml")
    c.require(only is None or only in buses, "sessions.toml, bus", only, allowed)
    return np.full(len(table), -1 if only is None else only, dtype=np.int64)


def _classes(table: Table, classes: tuple[str, ...], c: Checks) -> IntArray:
    found = np.zeros(len(table), dtype=np.int64)
    for row in range(len(table)) if "vehicle_class" in table else ():
        name = table["vehicle_class"][row]
        where = f"line {table.line[row]}, column vehicle_class"
        if c.require(name in classes, where, name, ", ".join(classes)):
            found[row] = classes.index(name)
    return found


def _no_overlap(
    table: Table, station: str, times: dict[str, list[datetime]], c: Checks
) -> None:  # fmt: skip
    """Record each session that begins before the one before it at the same station ends."""
    before: dict[str, int] = {}
    for row in sorted(range(len(table)), key=lambda r: times["arrival"][r]):
        name = str(table[station][row])
        other = before.get(name)
        if other is not None:
            end = times["departure"][other]
            c.require(
                times["arrival"][row] >= end, f"line {table.line[row]}, arrival",
                str(times["arrival"][row]),
                f"at station {name} not before {end}, when the session of line "
                f"{table.line[other]} ends",
            )  # fmt: skip
        if other is None or times["departure"][row] > times["departure"][other]:
            before[name] = row
