"""A reader's own station: chargers in TOML, sessions and prices in CSV."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from evcm.arrays import FloatArray, IntArray
from evcm.building.files import dated, moments_of, read_sections, read_series, record, stays
from evcm.building.inputs import Horizon
from evcm.errors import Checks
from evcm.store import times
from evcm.v2x.arrivals import Sessions, draw_sessions
from evcm.v2x.rewards import BALANCED, Weights
from evcm.v2x.series import Series, week_series
from evcm.v2x.station import Case
from evcm.v2x.world import ChargerType, Lot, Transformer, World, charger_types, example_world

SECTIONS = ("station", "transformer", "lot", "charger")
"""Sections of a station file; there may be many ``[[charger]]``."""

SESSION_COLUMNS = (
    ("arrival", "departure", "energy_kwh"),
    ("port", "capacity_kwh", "arrival_kwh", "charge_kw", "discharge_kw", "floor_kwh"),
)
"""Columns of the sessions: required and optional. Energies and powers are at the battery."""

PRICE_COLUMNS = (("hour", "buy_usd_per_kwh"), ("sell_usd_per_kwh", "building_kw", "pv_kw"))
"""Columns of the prices: required and optional."""

CAPACITY_KWH = 60.0
"""Of a car whose session names none."""


@dataclass(frozen=True)
class _Station:
    """What ``[station]`` may say."""

    name: str = "station"
    import_limit_kw: float = np.inf
    export_limit_kw: float = np.inf
    tariff_usd_per_kwh: float = 0.25


@dataclass(frozen=True)
class _Transformer:
    """What ``[transformer]`` may say."""

    import_limit_kw: float = np.inf
    export_limit_kw: float = np.inf
    building_peak_kw: float = 0.0
    pv_rated_kw: float = 0.0


@dataclass(frozen=True)
class _Lot:
    """What ``[lot]`` may say."""

    place: str = "workplace"
    import_limit_kw: float = np.inf
    export_limit_kw: float = np.inf


@dataclass(frozen=True)
class _Chargers:
    """What a ``[[charger]]`` may say: a type by name, how many, and what differs from the type."""

    type: str
    count: int = 1
    ports: int = 0
    current_a: float = 0.0
    charge_efficiency: float = 0.0
    discharge_efficiency: float = 0.0


def read_station(path: str | Path) -> World:
    """Read a station: ``[station]``, ``[transformer]``, ``[lot]`` and one or more ``[[charger]]``.

    A charger is one of the types of ``data/v2x/chargers.toml``, ``count`` times; its ports, current
    and efficiencies may be its own.

    Raises
    ------
    InputError
        A missing, unknown or mistyped entry, with what is allowed.
    """
    path = Path(path)
    content = read_sections(path, SECTIONS, "charger")
    c = Checks(str(path))
    c.require(bool(content.get("charger")), "section charger", "none", "one [[charger]] at least")
    c.done()
    chargers: list[ChargerType] = []
    for n, entry in enumerate(content["charger"]):
        chargers += _chargers(record(_Chargers, entry, f"charger {n + 1}"), n + 1)
    c.require(len(chargers) <= 10_000, "chargers", len(chargers), "at most 10,000")
    c.done()
    lot = record(_Lot, content.get("lot", {}), "lot")
    transformer = record(_Transformer, content.get("transformer", {}), "transformer")
    station = record(_Station, content.get("station", {}), "station")
    place: Any = lot.place
    inner = Lot("lot", place, tuple(chargers), lot.import_limit_kw, lot.export_limit_kw)
    return World((Transformer("transformer", (inner,), **vars(transformer)),), **vars(station))


def _chargers(given: _Chargers, number: int) -> list[ChargerType]:
    known, c = charger_types(), Checks(f"section charger {number}")
    c.require(given.type in known, "type", given.type, ", ".join(known))
    c.require(1 <= given.count <= 10_000, "count", given.count, "1..10000")
    c.done()
    own = ("ports", "current_a", "charge_efficiency", "discharge_efficiency")
    changes: dict[str, Any] = {n: getattr(given, n) for n in own if getattr(given, n)}
    return [replace(known[given.type], **changes)] * given.count


def read_prices(path: str | Path, world: World, horizon: Horizon, day: int = 0) -> Series:
    """Read prices, and where they are there the building's load and PV, of a station.

    Columns: hour, buy_usd_per_kwh; sell_usd_per_kwh (else 80 % of a positive price, and equal to a
    negative one); building_kw and pv_kw behind the first transformer (else the data's week). Rows
    become steps as in `evcm.building.files.series_means`.

    Raises
    ------
    InputError
        As `evcm.building.files.read_series`.
    """
    path = Path(path)
    table = times.read_table(path, *PRICE_COLUMNS)
    hours = moments_of(path, table, ("hour",))["hour"]
    found = read_series(path, table, times.hours(hours, times.midnight(hours)), horizon)
    start = 24.0 * day + horizon.start_h
    series = week_series(world, horizon.periods, horizon.step_h, start, found["buy_usd_per_kwh"])
    if "sell_usd_per_kwh" in found:
        series = replace(series, sell_usd_per_kwh=found["sell_usd_per_kwh"])
    if "building_kw" in found or "pv_kw" in found:
        base = series.base_kw.copy()
        base[:, 0] = found.get("building_kw", 0.0) - found.get("pv_kw", np.zeros(len(series)))
        series = replace(series, base_kw=base)
    return series


def read_sessions(path: str | Path, world: World, horizon: Horizon) -> Sessions:
    """Read sessions of a station: arrival, departure and energy_kwh, the rest where it is there.

    A car comes at the next whole step and wants `energy_kwh` in its battery, which holds
    `capacity_kwh` (60) and `arrival_kwh` (as much as leaves room, half of it at most) when it
    comes. Its power is the port's, or `charge_kw`; it gives nothing without `discharge_kw`. A clock
    time of departure at or before the arrival's is the next day's. Without a column port (from 1),
    cars take the first free port in the order of their arrival.

    Raises
    ------
    InputError
        Every row that does not fit, with the reason.
    """
    path = Path(path)
    table, h = times.read_table(path, *SESSION_COLUMNS), horizon
    moments = moments_of(path, table, ("arrival", "departure"))
    start = times.midnight(m for each in moments.values() for m in each)
    raw = [times.hours(moments[name], start) for name in ("arrival", "departure")]
    c, rows = Checks(str(path)), table.index.to_numpy(np.int64)
    arrival, departure = stays(raw, h, dated(moments["arrival"]))
    energy = times.numbers(table, "energy_kwh", c, 0.0)

    def column(name: str, default: FloatArray | float) -> FloatArray:
        given = name in table.columns
        return times.numbers(table, name, c, 0.0) if given else np.full(rows.size, default)

    capacity = column("capacity_kwh", CAPACITY_KWH)
    held = column("arrival_kwh", np.clip(capacity - energy, 0.0, 0.5 * capacity))
    floor = column("floor_kwh", np.minimum(held, 0.15 * capacity))
    give = column("discharge_kw", 0.0)
    most = column("charge_kw", np.inf)
    first = np.ceil((arrival - h.start_h) / h.step_h - 1e-9)
    last = (departure - h.start_h) / h.step_h
    for n, row in enumerate(rows):
        stay = f"{table['arrival'].iloc[n]} to {table['departure'].iloc[n]}"
        good = 0 <= first[n] < last[n] <= h.periods + 1e-9
        c.require(good, f"row {row}, stay", stay,
                  f"a whole step at least, in {h.clock(0)} to {h.clock(h.periods)}")  # fmt: skip
        room = float(capacity[n] - held[n])
        c.require(energy[n] <= room + 1e-9, f"row {row}, energy_kwh", float(energy[n]),
                  f"<= {room:g}, the room of the battery")  # fmt: skip
    c.done()
    port = _ports(table, first, last, world, c)
    c.done()
    layout = world.layout
    charger = layout.port_charger[port]
    car = layout.port_kw[port] * layout.charge_efficiency[charger]
    charge = np.minimum(most, car)
    both = layout.charger_table[charger, 3] > 0
    values = np.column_stack([
        first, np.minimum(last, h.periods), capacity, held, held + energy, np.minimum(floor, held),
        np.maximum(charge, 1e-9), np.full(rows.size, 0.8), charge,
        np.where(both, np.minimum(give, layout.port_kw[port]), 0.0), np.zeros(rows.size),
    ])  # fmt: skip
    return Sessions(port, values)


def _ports(table: Any, first: FloatArray, last: FloatArray, world: World, c: Checks) -> IntArray:
    """Ports of sessions: as the column says, else the first free one."""
    rows = table.index.to_numpy(np.int64)
    if "port" in table.columns:
        given = times.numbers(table, "port", c) - 1
        for n, row in enumerate(rows):
            good = 0 <= given[n] < world.ports and given[n] == np.floor(given[n])
            c.require(good, f"row {row}, port", table["port"].iloc[n], f"1..{world.ports}, whole")
        return np.asarray(np.nan_to_num(given), dtype=np.int64)
    free, port = np.zeros(world.ports), np.zeros(rows.size, dtype=np.int64)
    for n in np.argsort(first, kind="stable"):
        at = np.flatnonzero(free <= first[n])
        if c.require(at.size > 0, f"row {rows[n]}, port", f"all {world.ports} ports are taken",
                     "a free port"):  # fmt: skip
            port[n], free[at[0]] = at[0], np.ceil(last[n])
    return port


def read_case(
    station: str | Path | World | None = None,
    sessions: str | Path | None = None,
    prices: str | Path | None = None,
    *,
    horizon: Horizon | None = None,
    day: int = 0,
    seed: int = 0,
    weights: Weights = BALANCED,
) -> Case:
    """A case of a reader's own files; what is not given is the example's, the data's or drawn.

    The station may be a `World`, too; the horizon is a day of 96 quarter-hours by default, of the
    `day` of the week (0 is Monday). `InputError` says what does not fit in a file.

    See Also
    --------
    read_station, read_sessions, read_prices : the files.
    """
    h = horizon or Horizon(0.0, 96, 0.25)
    world = example_world() if station is None else station
    world = world if isinstance(world, World) else read_station(world)
    start = 24.0 * day + h.start_h
    series = (
        week_series(world, h.periods, h.step_h, start)
        if prices is None
        else read_prices(prices, world, h, day)
    )
    cars = (
        draw_sessions(world, h.periods, h.step_h, seed, start)
        if sessions is None
        else read_sessions(sessions, world, h)
    )
    return Case(world, series, cars, weights, seed if sessions is None else None)
