"""A reader's own building: configuration in TOML; load, sun, tariff and sessions in CSV."""

from __future__ import annotations

import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray
from evcm.building.inputs import Bank, Building, Horizon, PvGroup, Response, Sessions
from evcm.errors import Checks, Fault, InputError
from evcm.store.files import read_csv

T = TypeVar("T")

SERIES = {"load": "load_kw", "pv": "irradiance_kw_per_m2", "tariff": "price_usd_per_kwh"}
"""Key of each file in the configuration and its column besides `hour`."""

SECTIONS = ("horizon", "building", "bank", "response", "pv_group", "files", "sessions")


def read_building(path: str | Path) -> tuple[Building, Sessions]:
    """Read a configuration with its CSV files; file names are relative to the configuration.

    Raises
    ------
    InputError
        A missing or unknown entry, a file that lacks hours, or a row that does not fit.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing TOML file")])
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(str(path), [Fault("content", str(error), "TOML")]) from error
    c = Checks(str(path))
    for name in sorted(set(content) - set(SECTIONS)):
        c.require(False, f"section {name}", "unknown", ", ".join(SECTIONS))
    named = content.get("files", {})
    for name in (*SERIES, "sessions"):
        c.require(isinstance(named.get(name), str), f"files.{name}", named.get(name), "a CSV file")
    for name in sorted(set(named) - {*SERIES, "sessions"}):
        c.require(False, f"files.{name}", "unknown", ", ".join([*SERIES, "sessions"]))
    c.done()
    horizon = _make(Horizon, content.get("horizon", {}), "horizon")
    series = {column: read_series(path.parent / named[key], column, horizon)
              for key, column in SERIES.items()}  # fmt: skip
    parts: dict[str, Any] = {
        "horizon": horizon,
        "bank": _make(Bank, content.get("bank", {}), "bank"),
        "response": _make(Response, content.get("response", {}), "response"),
        "groups": tuple(_make(PvGroup, g, f"pv_group {n + 1}")
                        for n, g in enumerate(content.get("pv_group", []))),
    }  # fmt: skip
    building = _make(Building, content.get("building", {}), "building", **series, **parts)
    power = content.get("sessions", {}).get("power_kw", 7.7)
    sessions = read_sessions(path.parent / named["sessions"], building, power)
    return building, sessions


def _make(kind: type[T], given: dict[str, Any], where: str, **more: Any) -> T:
    """A dataclass from a section; unknown, missing and mistyped entries are named."""
    c = Checks(f"section {where}")
    known = {f.name: str(f.type) for f in fields(kind) if f.name not in more}  # type: ignore[arg-type]
    for name, value in given.items():
        if c.require(name in known, name, value, "an entry of: " + ", ".join(known)):
            wanted = (
                str if known[name] == "str" else (int if known[name] == "int" else (int, float))
            )
            good = isinstance(value, wanted) and not isinstance(value, bool)
            c.require(good, name, value, {"str": "a text", "int": "a whole number"}.get(
                known[name], "a number"))  # fmt: skip
    c.done()
    try:
        return kind(**given, **more)
    except TypeError as error:
        raise InputError(f"section {where}", [Fault("entries", str(error), "all required")]) from (
            error
        )


def clock_hour(value: object) -> float:
    """A clock time as decimal hours: 13.5 or 13:30; not a number where it is neither."""
    found = re.fullmatch(r"\s*(\d{1,2}):(\d{2})\s*", str(value))
    if found:
        return int(found[1]) + int(found[2]) / 60 if int(found[2]) < 60 else float("nan")
    try:
        return float(str(value))
    except ValueError:
        return float("nan")


def read_series(path: Path, column: str, horizon: Horizon) -> FloatArray:
    """Read `hour` and a column; each period takes the row of its own start, or of its full hour.

    Raises
    ------
    InputError
        An hour that is missing, unreadable or there twice, or a value below zero, with its row.
    """
    table = read_csv(path, ["hour", column], numeric=False)
    values = pd.to_numeric(table[column], errors="coerce").to_numpy(dtype=float)
    c, rows = Checks(str(path)), {}
    for n, (text, value) in enumerate(zip(table["hour"], values.tolist(), strict=True), start=1):
        hour = clock_hour(text)
        if c.require(np.isfinite(hour), f"row {n}, hour", text, "13.5 or 13:30"):
            minute = round(60 * hour)
            c.require(minute not in rows, f"row {n}, hour", text, "each hour once")
            rows[minute] = value
        c.require(bool(np.isfinite(value)) and value >= 0, f"row {n}, {column}",
                  str(table[column].iloc[n - 1]), "a number >= 0")  # fmt: skip
    found = np.full(horizon.periods, np.nan)
    for t, hour in enumerate(horizon.hours()):
        start = round(60 * hour) % 1440
        key = next((m for m in (start, start // 60 * 60) if m in rows), None)
        if key is not None:
            found[t] = rows[key]
        else:
            c.require(False, f"hour {horizon.clock(t)}", "missing", "a row for every full hour")
    c.done()
    return found


def read_sessions(path: Path, building: Building, power_kw: float) -> Sessions:
    """Read arrival, departure, energy_kwh and, if there, bay (from 1), power_kw and kind.

    Times are clock hours; a car is served in the whole periods of its stay. Without a column bay,
    cars take the first free bay in the order of their arrival.

    Raises
    ------
    InputError
        Every row that does not fit, with the reason.
    """
    table = read_csv(path, ["arrival", "departure", "energy_kwh"], numeric=False)
    h, c = building.horizon, Checks(str(path))
    table["row"] = np.arange(1, len(table) + 1)
    table["kind"] = table.get("kind", "car")
    for name in ("arrival", "departure"):
        table[name] = [clock_hour(v) for v in table[name]]
    if "power_kw" not in table:
        table["power_kw"] = power_kw
    if "bay" not in table:
        table["bay"] = 0
    for name in ("arrival", "departure", "energy_kwh", "power_kw", "bay"):
        table[name] = pd.to_numeric(table[name], errors="coerce")
        for row in table["row"][~np.isfinite(table[name].to_numpy(dtype=float))]:
            c.require(False, f"row {row}, {name}", "not a number", "a number; times 13.5 or 13:30")
    c.done()
    for _, car in table.iterrows():
        where = f"row {car['row']}, stay"
        stay = (float(car["arrival"]), float(car["departure"]))
        c.require(h.start_h - 1e-9 <= stay[0] < stay[1] <= h.end_h + 1e-9, where, stay,
                  f"arrival, then departure, in {h.clock(0)} to {h.clock(h.periods)}")  # fmt: skip
    c.done()
    first = (table["arrival"].to_numpy() - h.start_h) / h.step_h
    last = (table["departure"].to_numpy() - h.start_h) / h.step_h
    table["arrival"], table["departure"] = np.ceil(first - 1e-9), np.floor(last + 1e-9)
    r = building.response
    table["give_kwh"] = np.maximum(0.0, (1 - r.floor_share) * r.battery_kwh - table["energy_kwh"])
    for _, car in table.iterrows():
        c.require(car["arrival"] < car["departure"], f"row {car['row']}, stay", "no whole period",
                  f"at least one period of {60 * h.step_h:g} minutes")  # fmt: skip
    if (table["bay"] == 0).all():
        table["bay"] = _first_free(table, building, c)
    c.done()
    table["bay"] = table["bay"].astype(int) - 1
    return Sessions.from_table(table).check(h, building.bays)


def _first_free(table: pd.DataFrame, building: Building, c: Checks) -> pd.Series:
    """Bays (from 1) in the order of arrival; a car that meets no free bay is a fault."""
    free, bays = np.zeros(building.bays), pd.Series(0, index=table.index)
    for n in table.sort_values(["arrival", "row"]).index:
        open_bays = np.flatnonzero(free <= table.loc[n, "arrival"])
        at = building.horizon.clock(int(table.loc[n, "arrival"]))
        if c.require(open_bays.size > 0, f"row {table.loc[n, 'row']}, bay",
                     f"all {building.bays} bays are taken at {at}", "a free bay"):  # fmt: skip
            bays[n] = int(open_bays[0]) + 1
            free[open_bays[0]] = table.loc[n, "departure"]
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
                 "stored_kwh": plan.stored_kwh, "v2g_kw": plan.give_kw.sum(axis=1)}  # fmt: skip
        dispatch.append(pd.DataFrame(head | flows))
        s = plan.sessions
        for n in range(len(s)):
            span = np.arange(s.arrival[n], s.departure[n])
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
