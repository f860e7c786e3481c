"""A reader's own building: configuration in TOML; load, sun, tariff and sessions in CSV."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray, IntArray
from evcm.building.inputs import Bank, Building, Horizon, PvGroup, Response, Sessions
from evcm.errors import Checks
from evcm.store import times
from evcm.store.files import read_toml

T = TypeVar("T")

SERIES = {"load": "load_kw", "pv": "irradiance_kw_per_m2", "tariff": "price_usd_per_kwh"}
"""Key of each file in the configuration and its column besides `hour`."""

FEED_IN = "feed_in_usd_per_kwh"
"""Optional column of the tariff."""

CARS = (("arrival", "departure", "energy_kwh"), ("bay", "power_kw", "kind"))
"""Columns of the sessions: required and optional."""

RESULTS = ("summary.csv", "costs.csv", "dispatch.csv", "cars.csv", "certificate.json")
"""Files that ``evcm building run`` writes."""

SECTIONS = ("horizon", "building", "bank", "response", "pv_group", "files", "sessions")


def read_building(path: str | Path) -> tuple[Building, Sessions]:
    """Read a configuration with its CSV files; file names are relative to the configuration.

    Times are read as `evcm.store.times.moment` does; dates count from the midnight before the
    earliest of all files. See `series_means` for how rows become periods.

    Raises
    ------
    InputError
        A missing, unknown or mistyped entry, a file that lacks hours, a row that does not fit or
        would not be used.
    """
    path = Path(path)
    content = _toml(path)
    named = content["files"]
    optional = {"tariff": (FEED_IN,)}
    tables = {key: times.read_table(path.parent / named[key], ("hour", column),
                                    optional.get(key, ()))
              for key, column in SERIES.items()}  # fmt: skip
    cars = times.read_table(path.parent / named["sessions"], *CARS)
    moments = {key: moments_of(path.parent / named[key], table, ("hour",))["hour"]
               for key, table in tables.items()}  # fmt: skip
    kept = moments_of(path.parent / named["sessions"], cars, ("arrival", "departure"))
    start = times.midnight(m for each in (*moments.values(), *kept.values()) for m in each)
    horizon = record(Horizon, content.get("horizon", {}), "horizon")
    series: dict[str, FloatArray | None] = {FEED_IN: None}
    for key, table in tables.items():
        hours = times.hours(moments[key], start)
        series |= read_series(path.parent / named[key], table, hours, horizon)
    parts: dict[str, Any] = {
        "horizon": horizon,
        "bank": record(Bank, content.get("bank", {}), "bank"),
        "response": record(Response, content.get("response", {}), "response"),
        "groups": tuple(record(PvGroup, g, f"pv_group {n + 1}")
                        for n, g in enumerate(content.get("pv_group", []))),
    }  # fmt: skip
    building = record(Building, content.get("building", {}), "building", **series, **parts)
    power_kw = content.get("sessions", {}).get("power_kw", 7.7)
    stay = [times.hours(kept[name], start) for name in ("arrival", "departure")]
    where, by_date = path.parent / named["sessions"], dated(kept["arrival"])
    return building, _sessions(where, cars, stay, building, power_kw, by_date)


def read_sections(path: Path, sections: Sequence[str], many: str) -> dict[str, Any]:
    """Content of a TOML file of known `sections`: tables, and `many` a list of tables.

    Raises
    ------
    InputError
        The file is missing or is no TOML; every section that is unknown or of another kind.
    """
    content = read_toml(path)
    c = Checks(str(path))
    for name, value in content.items():
        if not c.require(name in sections, f"section {name}", "unknown", ", ".join(sections)):
            continue
        if name == many:
            good = isinstance(value, list) and all(isinstance(g, dict) for g in value)
            c.require(good, f"section {name}", value, f"[[{name}]], once for each")
        else:
            c.require(isinstance(value, dict), f"section {name}", value, f"[{name}], once")
    c.done()
    return content


def _toml(path: Path) -> dict[str, Any]:
    """The configuration, every section of the kind that it must be."""
    content = read_sections(path, SECTIONS, "pv_group")
    c = Checks(str(path))
    named = content.setdefault("files", {})
    for name in (*SERIES, "sessions"):
        good = isinstance(named.get(name), str) and "\0" not in named[name]
        c.require(good, f"files.{name}", named.get(name), "the name of a CSV file")
    for name in sorted(set(named) - {*SERIES, "sessions"}):
        c.require(False, f"files.{name}", "unknown", ", ".join([*SERIES, "sessions"]))
    for name, value in content.get("sessions", {}).items():
        if c.require(name == "power_kw", f"sessions.{name}", "unknown", "power_kw"):
            good = isinstance(value, int | float) and not isinstance(value, bool)
            good = good and 0 < value < 1e6
            c.require(good, "sessions.power_kw", value, "a number > 0")
    c.done()
    return content


def record(kind: type[T], given: dict[str, Any], where: str, **more: Any) -> T:
    """A dataclass from a section; unknown, missing and mistyped entries are named."""
    c = Checks(f"section {where}")
    known = {f.name: f for f in fields(kind) if f.name not in more}  # type: ignore[arg-type]
    for name, value in given.items():
        if not c.require(name in known, name, value, "an entry of: " + ", ".join(known)):
            continue
        wanted, said = ENTRIES[str(known[name].type)]
        good = isinstance(value, wanted) and isinstance(value, bool) == (wanted is bool)
        if isinstance(value, int):
            good = good and abs(value) < 10**9
        c.require(good, name, value, said)
    for name, f in known.items():
        lacking = name not in given and f.default is MISSING
        c.require(not lacking, name, "missing", "required")
    c.done()
    return kind(**given, **more)


ENTRIES: dict[str, tuple[Any, str]] = {
    "str": (str, "a text"), "int": (int, "a whole number"), "bool": (bool, "true or false"),
    "float": ((int, float), "a number"),
}  # fmt: skip
"""What an entry of a section may be, by the type of its field."""


def moments_of(path: Path, table: pd.DataFrame, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Times of some columns of a table, by name; faults carry the file's name."""
    c = Checks(str(path))
    found = {name: times.moments(table, name, c) for name in names}
    c.done()
    return found


def read_series(
    path: Path, table: pd.DataFrame, hours: FloatArray, horizon: Horizon
) -> dict[str, FloatArray]:
    """Means in each period of every column besides `hour`, by name, each (T,).

    Raises
    ------
    InputError
        A value that is no number (or below zero, prices apart), and the faults of `series_means`.
    """
    c, names = Checks(str(path)), [n for n in table.columns if n != "hour"]
    values = {n: times.numbers(table, n, c, -np.inf if n.endswith("usd_per_kwh") else 0.0)
              for n in names}  # fmt: skip
    c.done()
    found = {n: series_means(hours, v, horizon, c) for n, v in values.items()}
    c.done()
    return found


def series_means(hours: FloatArray, values: FloatArray, horizon: Horizon, c: Checks) -> FloatArray:
    """Mean of a series in each period, (T,).

    A row holds from its hour to the next row's; rows stand at equal distances of an hour at most.
    Rows of one whole day from midnight on are repeated where the horizon goes past midnight.
    Every row must be used, and every hour of the horizon covered; faults go to `c`.
    """
    order = np.argsort(np.round(3600 * hours), kind="stable")
    hours, values, row = hours[order], values[order], order + 1
    gaps = np.round(3600 * np.diff(hours)).astype(np.int64)
    for n in np.flatnonzero(gaps == 0):
        c.require(False, f"row {row[n + 1]}, hour", _clock(hours[n + 1]), "each hour once")
    if c.faults:
        return np.zeros(horizon.periods)
    sizes, count = np.unique(gaps, return_counts=True)
    step = int(sizes[count.argmax()]) / 3600 if gaps.size else 1.0
    c.require(step <= 1.0, "hour", f"rows {step:g} h apart", "a row for every hour at least")
    for n in np.flatnonzero(np.abs(gaps / 3600 - step) > 1e-9):
        if gaps[n] / 3600 < step:
            c.require(False, f"row {row[n + 1]}, hour", _clock(hours[n + 1]),
                      f"rows {60 * step:g} minutes apart, as most are")  # fmt: skip
        else:
            c.require(False, f"hour {_clock(hours[n] + step)}", "missing",
                      f"a row every {60 * step:g} minutes")  # fmt: skip
    if c.faults:
        return np.zeros(horizon.periods)
    day = abs(hours.size * step - 24.0) < 1e-6 and abs(hours[0]) < 1e-6
    copies = int(np.ceil(horizon.end_h / 24.0 - 1e-9)) if day else 1
    starts = np.concatenate([hours + 24.0 * k for k in range(copies)])
    used = (starts + step > horizon.start_h + 1e-6) & (starts < horizon.end_h - 1e-6)
    for n in np.flatnonzero(~used.reshape(copies, -1).any(axis=0)):
        c.require(False, f"row {row[n]}, hour", _clock(hours[n]),
                  f"within {_clock(horizon.start_h)} to {_clock(horizon.end_h)}, the horizon; "
                  "every row must be used")  # fmt: skip
    for hour in np.arange(horizon.start_h, horizon.end_h - 1e-6, step):
        covered = starts[0] <= hour + 1e-6 and hour < starts[-1] + step - 1e-6
        c.require(covered, f"hour {_clock(hour)}", "missing", "a row for all of the horizon")
    edges = horizon.start_h + horizon.step_h * np.arange(horizon.periods + 1)
    total = np.concatenate([[0.0], np.cumsum(np.tile(values, copies) * step)])
    at = np.interp(edges, np.append(starts, starts[-1] + step), total)
    # A mean of equal rows is that row to the last bit.
    means: FloatArray = np.round(np.diff(at) / horizon.step_h, 12)
    return means


def _clock(hour: float) -> str:
    """An hour as hh:mm, counted on past 24."""
    minutes = round(60 * hour)
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _sessions(
    path: Path, table: pd.DataFrame, stay: list[FloatArray], building: Building,
    power_kw: float, by_date: bool,
) -> Sessions:  # fmt: skip
    """Sessions of a table with the columns `CARS`.

    A car is served in the whole periods of its stay. A clock time of departure at or before the
    arrival's is the next day's; in a horizon of one whole day the stay then goes on in its first
    periods. Without a column bay, cars take the first free bay in the order of their arrival.
    """
    h, c, rows = building.horizon, Checks(str(path)), table.index.to_numpy(np.int64)
    count = len(table)
    energy = times.numbers(table, "energy_kwh", c, 0.0)
    power = (times.numbers(table, "power_kw", c) if "power_kw" in table
             else np.full(count, power_kw))  # fmt: skip
    kind = table["kind"].tolist() if "kind" in table else ["car"] * count
    for n, name in enumerate(kind):
        c.name(name, f"row {rows[n]}, kind")
    bay = times.numbers(table, "bay", c) - 1 if "bay" in table else None
    for k in np.flatnonzero(bay % 1 > 0) if bay is not None else ():
        c.require(False, f"row {rows[k]}, bay", table["bay"].iloc[k], "a whole number")
    arrival, departure = stays(stay, h, by_date)
    last_h = h.end_h + 24.0 * h.cyclic
    for n in range(count):
        good = h.start_h - 1e-9 <= arrival[n] < min(departure[n], h.end_h)
        good = good and departure[n] <= (arrival[n] + 24.0 if h.cyclic else last_h) + 1e-9
        c.require(good, f"row {rows[n]}, stay",
                  f"{table['arrival'].iloc[n]} to {table['departure'].iloc[n]}",
                  f"arrival, then departure, in {h.clock(0)} to {h.clock(h.periods)}")  # fmt: skip
    c.done()
    first = np.ceil((arrival - h.start_h) / h.step_h - 1e-9).astype(np.int64)
    last = np.floor((departure - h.start_h) / h.step_h + 1e-9).astype(np.int64)
    for k in np.flatnonzero((first >= last) | (first >= h.periods)):
        c.require(False, f"row {rows[k]}, stay", "no whole period",
                  f"at least one period of {60 * h.step_h:g} minutes")  # fmt: skip
    c.done()
    if bay is None:
        bay = _first_free(rows, first, last, building, c)
    c.done()
    r = building.response
    give = np.maximum(0.0, (1 - r.floor_share) * r.battery_kwh - energy)
    cars = Sessions(bay.astype(np.int64), first, last, energy, power, give, tuple(kind),
                    rows)  # fmt: skip
    return cars.check(h, building.bays)


def dated(moments: list[times.Moment]) -> bool:
    """Whether times of a column are dates, not clocks."""
    return bool(moments) and not isinstance(moments[0], float)


def stays(stay: list[FloatArray], horizon: Horizon, by_date: bool) -> tuple[FloatArray, FloatArray]:
    """Arrivals and departures in hours of the horizon, each (n,).

    Of clock times, a departure before its arrival is the next day's, and so is a stay before the
    horizon begins where it lasts past midnight.
    """
    arrival, departure = (np.array(s) for s in stay)
    if by_date:
        return arrival, departure
    departure = departure + 24.0 * (departure < arrival)
    later = (arrival < horizon.start_h - 1e-9) & (arrival + 24.0 < horizon.end_h - 1e-9)
    return arrival + 24.0 * later, departure + 24.0 * later


def _first_free(
    rows: IntArray, first: IntArray, last: IntArray, building: Building, c: Checks
) -> FloatArray:
    """Bays in the order of arrival; a car that meets no free bay is a fault."""
    h, bays = building.horizon, np.zeros(first.size)
    taken = np.zeros((h.periods, building.bays), dtype=bool)
    for n in np.argsort(first, kind="stable"):
        span = h.span(int(first[n]), int(last[n]))
        free = np.flatnonzero(~taken[span].any(axis=0))
        if c.require(free.size > 0, f"row {rows[n]}, bay",
                     f"all {building.bays} bays are taken at {h.clock(int(first[n]))}",
                     "a free bay"):  # fmt: skip
            bays[n] = free[0]
            taken[span, free[0]] = True
    return bays


def tables(plans: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Tables to write: summary, costs, dispatch by period, cars by period."""
    from evcm.building.solve import costs, summary

    first = next(iter(plans.values()))
    h = first.building.horizon
    dispatch, cars = [], []
    for name, plan in plans.items():
        head = {"variant": name, "period": np.arange(1, h.periods + 1),
                "hour": [h.clock(t) for t in range(h.periods)]}  # fmt: skip
        units = {f"{g.name.lower().replace(' ', '_')}_kw": plan.power_kw[:, k]
                 for k, g in enumerate(plan.building.groups)}  # fmt: skip
        flows = {"demand_kw": plan.demand_kw, "grid_kw": plan.grid_kw, **units,
                 "bank_in_kw": plan.bank_in_kw, "bank_out_kw": plan.bank_out_kw,
                 "stored_kwh": plan.stored_kwh, "export_kw": plan.export_kw,
                 "v2g_kw": plan.give_kw.sum(axis=1)}  # fmt: skip
        dispatch.append(pd.DataFrame(head | flows))
        s = plan.sessions
        for n in range(len(s)):
            span = h.span(int(s.arrival[n]), int(s.departure[n]))
            cars.append(pd.DataFrame({
                "variant": name, "row": int(s.row[n]), "bay": int(s.bay[n]) + 1,
                "period": span + 1, "charge_kw": plan.charge_kw[span, s.bay[n]],
                "give_kw": plan.give_kw[span, s.bay[n]]}))  # fmt: skip
    columns = ["variant", "row", "bay", "period", "charge_kw", "give_kw"]
    return {
        "summary": pd.DataFrame([{"variant": n} | summary(p) for n, p in plans.items()]),
        "costs": pd.DataFrame([{"variant": n} | costs(p) for n, p in plans.items()]),
        "dispatch": pd.concat(dispatch, ignore_index=True),
        "cars": pd.concat(cars, ignore_index=True) if cars else pd.DataFrame(columns=columns),
    }
