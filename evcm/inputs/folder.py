"""Read the inputs of a study from a folder of files, each fault with its file and line.

A folder holds ``study.toml`` and the folders ``network``, ``load``, ``market``, ``vehicle``,
``scenarios`` and ``trips``; `evcm.inputs.example` writes one with a comment on every field. The
paper's study is the folder ``data/`` that ships with the package, read like any other.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks, Fault, InputError
from evcm.inputs.prices import PriceSeries
from evcm.inputs.study import Inputs, Market
from evcm.inputs.values import (
    Battery,
    CarList,
    Charger,
    Clock,
    PriceSteps,
    Roads,
    Scenario,
    Sessions,
    SpeedBand,
    TripLaw,
    VehicleClass,
    WearLaw,
    roads_of,
    some,
)
from evcm.network import case as tables
from evcm.network.case import Day, Network
from evcm.network.readers import from_case
from evcm.store.reading import Table, Toml, read_table


@cache
def paper() -> Inputs:
    """The paper's study: the inputs in the folder that ships with the package."""
    return read(data.root())


def read(folder: str | Path) -> Inputs:
    """Read and check the inputs in a folder.

    Raises
    ------
    InputError
        All faults that were found, each with file, line, value and what is allowed. A misspelt key
        and a row that is not used are faults.
    """
    return _Reader(Path(folder)).read()


class _Reader:
    """Reads file by file; faults of all files are collected before anything is refused."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checks = Checks(f"inputs {folder}")

    def read(self) -> Inputs:
        self.checks.require(self.folder.is_dir(), "folder", str(self.folder), "an existing folder")
        self.checks.done()
        parts: dict[str, Any] = {}
        for name, part in (
            ("study", self.study), ("network", self.network), ("market", self.market),
            ("vehicles", self.vehicles), ("scenarios", self.scenarios), ("laws", self.laws),
        ):  # fmt: skip
            with self.collected():
                parts[name] = part()
        clock: Any = parts["study"][1] if parts.get("study") else None
        network: Any = parts.get("network")
        if clock is not None:
            with self.collected():
                parts["price"] = self.price(clock, parts.get("market"))
        if clock is not None and network is not None:
            with self.collected():
                parts["load"] = self.load(clock, network)
        if network is not None:
            with self.collected():
                parts["cars"] = self.cars(clock, network, parts.get("vehicles") or ())
        self.checks.done()
        cap, limit, currency, rate = parts["market"]
        p, q, forecast = parts["load"]
        with self.collected():
            return Inputs(
                parts["study"][0], clock, network, p, q, forecast,
                Market(parts["price"], cap, limit, currency, rate), parts["laws"],
                parts["cars"], parts["vehicles"], parts["scenarios"],
            )  # fmt: skip
        raise InputError(self.checks.subject, self.checks.faults)

    @contextmanager
    def collected(self) -> Iterator[None]:
        """Keep the faults that are found inside, under the name of their file.

        A part ends at its own faults, not at those of the parts before.
        """
        found, self.checks = self.checks, Checks(self.checks.subject)
        try:
            yield
        except InputError as error:
            if error.subject != found.subject:  # else they are in the list
                where = error.subject.removeprefix(str(self.folder) + "/")
                self.checks.faults += [
                    Fault(f"{where}{', ' if f.field.startswith('line ') else ': '}{f.field}",
                          f.value, f.allowed)
                    for f in error.faults
                ]  # fmt: skip
        finally:
            found.faults += self.checks.faults
            self.checks = found

    def toml(self, name: str) -> Toml:
        return Toml(self.folder / name, self.checks, name)

    @contextmanager
    def built(self, told: Toml | str, *keys: str | int, part: str = "") -> Iterator[None]:
        """Faults of a value made from a file are named by the file, and by the part of it.

        Of a TOML file the line is told, too: of the key below `keys` that the fault names.
        """
        try:
            yield
        except InputError as error:
            faults = []
            for f in error.faults:
                line = "" if isinstance(told, str) else told.line_below(keys, f.field)
                place = f"{line.removeprefix(', ')}: " if line else ""
                field = f"{place}{part}{error.subject}: {f.field}"
                faults.append(Fault(field, f.value, f.allowed))
            name = told if isinstance(told, str) else told.label
            raise InputError(f"{self.folder / name}", faults) from error

    def clean(self, file: Toml) -> bool:
        """Finish a TOML file; whether it had no fault."""
        file.finish()
        return not any(f.field.startswith(file.label) for f in self.checks.faults)

    def study(self) -> tuple[str, Clock] | None:
        f = self.toml("study.toml")
        name = f.text_of("name")
        minutes = f.number("period_minutes", above=0, high=60)
        if minutes is not None and not (minutes.is_integer() and 60 % minutes == 0):
            told = f.get("period_minutes")
            f.fault(("period_minutes",), told, "60, 30, 15, or another whole part of an hour")
        hours = f.numbers("day_hours", default=(24,))
        laws = f.get("laws")
        if not (isinstance(laws, list) and all(isinstance(law, str) for law in laws)):
            f.fault(("laws",), laws, "a list of names, one for each day")
        if not self.clean(f):
            return None
        with self.built(f):
            return name, Clock(minutes / 60, tuple(hours), tuple(laws))

    def network(self) -> Network | None:
        f = self.toml("network/network.toml")
        case = f.text_of("case", default="")
        name = f.text_of("name")
        base: Any = None if case else f.number("base_mva", above=0)
        if case:
            f.get("base_mva")
        chosen = f.numbers("aggregator_buses", default=())
        rules = {
            "nsp_penalty_per_mw": f.number("nsp_penalty_per_mw", above=1, default=6000.0),
            "cap_share_min": f.number("cap_share_min", low=0, default=0.025),
            "cap_share_max": f.number("cap_share_max", low=0, default=1.0),
        }
        low, high = rules["cap_share_min"], rules["cap_share_max"]
        if low is not None and high is not None and low > high:
            f.fault(("cap_share_min",), low, f"at most cap_share_max, {high:g}")
        if not self.clean(f):
            return None
        if case:
            with self.built(f.label):  # the faults are of the case file
                found = from_case(self.folder / "network" / case)
            index = {int(b): i for i, b in enumerate(found.bus_number)}
            strange = [b for b in chosen if b not in index]
            c = Checks(str(self.folder / "network/network.toml"))
            c.require(not strange, "aggregator_buses", strange, "buses of the case")
            c.done()
            at = [index[int(b)] for b in chosen] if chosen else found.ev_bus.tolist()
            return replace(found, ev_bus=np.array(sorted(at), dtype=np.int64), **rules)
        number, whole = "number", "whole"
        kinds: Any = dict.fromkeys(tables.BUS, number) | {"bus": whole, "type": whole}
        bus = self.table("network/bus.csv", kinds)
        kinds = dict.fromkeys(tables.BRANCH, number) | {"from_bus": whole, "to_bus": whole}
        branch = self.table(
            "network/branch.csv", kinds,
            {"branch": whole, **dict.fromkeys(tables.BRANCH_OPTIONAL, number)},
        )  # fmt: skip
        kinds = dict.fromkeys(tables.GENERATOR, number) | {"bus": whole}
        generator = self.table("network/generator.csv", kinds)
        self.known(branch, ("from_bus", "to_bus"), bus["bus"], "a bus of bus.csv")
        self.known(generator, ("bus",), bus["bus"], "a bus of bus.csv")
        self.checks.done()
        with self.built("network"):
            return tables.of_tables(
                name, base, bus.columns, branch.columns, generator.columns,
                [int(b) for b in chosen] if chosen else None, **rules,
            )  # fmt: skip

    def table(
        self, name: str, required: Any, optional: Any = None, others: Any = None
    ) -> Table:  # fmt: skip
        return read_table(self.folder / name, required, optional, others)

    def known(
        self, table: Table, columns: tuple[str, ...], buses: Any, allowed: str
    ) -> None:  # fmt: skip
        """Record each row that names a bus which is none of `buses`."""
        for column in columns:
            for row in np.flatnonzero(~np.isin(table[column], buses)):
                where = table.where(int(row), column).removeprefix(str(self.folder) + "/")
                self.checks.require(False, where, int(table[column][row]), allowed)

    def periods(self, table: Table, periods: int) -> IntArray:
        """Row of each period 1..T; a row too many, too few or twice is a fault."""
        found = table["period"]
        short = str(table.path).removeprefix(str(self.folder) + "/")
        seen: dict[int, int] = {}
        for row, period in enumerate(found.tolist()):
            where = table.where(row, "period").removeprefix(str(self.folder) + "/")
            allowed = f"each of 1..{periods} once"
            self.checks.require(1 <= period <= periods and period not in seen, where, period,
                                allowed)  # fmt: skip
            seen[period] = row
        lacking = [p for p in range(1, periods + 1) if p not in seen]
        self.checks.require(
            not lacking, f"{short}, column period", f"missing {lacking[:5]}",
            f"each of 1..{periods} once",
        )  # fmt: skip
        self.checks.done()
        return np.array([seen[p] for p in range(1, periods + 1)], dtype=np.int64)

    def load(self, clock: Clock, network: Network) -> tuple[FloatArray, FloatArray, FloatArray]:
        t = self.table("load/profile.csv", {"period": "whole", "load_factor": "number"},
                       {"aggregator_forecast_mw": "number"})  # fmt: skip
        row = self.periods(t, clock.periods)
        self.finite(t, low=0)
        factor = t["load_factor"][row]
        day = Day.scaled(network, factor, clock.period_h)
        p, q = day.load_p_mw.copy(), day.load_q_mvar.copy()
        for name, added in (("load/bus_mw.csv", False), ("load/added_mw.csv", True)):
            if not (self.folder / name).exists():
                continue
            table = self.table(name, {"period": "whole"}, None, "number")
            order = self.periods(table, clock.periods)
            self.finite(table)
            for column in table.columns:
                if column == "period":
                    continue
                digits = column.removeprefix("bus").removesuffix("_mw")
                known = digits.isdigit() and int(digits) in network.bus_number
                where = f"{name}, column {column}"
                allowed = "bus02_mw for bus 2, for buses of the network"
                if not self.checks.require(known, where, "unknown bus", allowed):
                    continue
                k = int(np.flatnonzero(network.bus_number == int(digits))[0])
                if added:
                    p[:, k] += table[column][order]
                    continue
                nominal = network.load_p_mw[k]
                share = network.load_q_mvar[k] / nominal if nominal else 0.0
                p[:, k] = table[column][order]
                q[:, k] = share * p[:, k]
        self.checks.done()
        told = "aggregator_forecast_mw" in t
        forecast = t["aggregator_forecast_mw"][row] if told else p.sum(axis=1)
        return p, q, forecast

    def finite(self, table: Table, low: float = -np.inf) -> None:
        """Record every number of a table that is not finite or below `low`."""
        for name, values in table.columns.items():
            if values.dtype == object:
                continue
            for row in np.flatnonzero(~(np.isfinite(values) & (values >= low))):
                where = table.where(int(row), name).removeprefix(str(self.folder) + "/")
                allowed = "a finite number" if low == -np.inf else f"a finite number >= {low:g}"
                self.checks.require(False, where, float(values[row]), allowed)
        self.checks.done()

    def market(self) -> tuple[float, str, str, float] | None:
        f = self.toml("market/market.toml")
        found = (
            f.number("system_cap_mw", above=0),
            f.text_of("real_time_limit", among=("v2g", "plug"), default="v2g"),
            f.text_of("currency", default="USD"),
            f.number("per_usd", above=0, default=1.0),
        )
        return found if self.clean(f) else None

    def price(self, clock: Clock, market: tuple[Any, ...] | None) -> PriceSteps | PriceSeries:
        steps, series = "market/price_steps.csv", "market/prices.csv"
        there = [name for name in (steps, series) if (self.folder / name).exists()]
        c = Checks(str(self.folder / "market"))
        c.require(
            len(there) == 1, "prices", there or "none", "price_steps.csv or prices.csv, one of them"
        )
        c.done()
        rate = market[3] if market else 1.0
        if there[0] == steps:
            t = self.table(steps, {"upper_edge_mw": "number", "price_per_kwh": "number"})
            with self.built(steps):
                return PriceSteps(t["upper_edge_mw"], t["price_per_kwh"] / rate)
        t = self.table(
            series, {"period": "whole", "price_per_kwh": "number"},
            {"real_time_buy_per_kwh": "number", "real_time_sell_per_kwh": "number"},
        )  # fmt: skip
        row = self.periods(t, clock.periods)
        self.finite(t)
        names = "real_time_buy_per_kwh", "real_time_sell_per_kwh"
        buy, sell = (t[name][row] / rate if name in t else None for name in names)
        with self.built(series):
            return PriceSeries(t["price_per_kwh"][row] / rate, buy, sell)

    def vehicles(self) -> tuple[VehicleClass, ...] | None:
        f = self.toml("vehicle/vehicle.toml")
        size = f.tables("class")
        rows: list[tuple[Any, ...]] = []
        for k in range(size):
            number: Callable[..., Any] = lambda *keys, k=k, **limits: f.number(  # noqa: E731
                "class", k, *keys, **limits
            )
            rows.append((
                f.text_of("class", k, "name"), number("share", low=0, high=1, default=1.0),
                f.flag("class", k, "feeds_in", default=True),
                [number("battery", x, low=0, high=1e6)
                 for x in ("capacity_kwh", "soc_min_kwh", "soc_max_kwh", "departure_soc_kwh")],
                [number("charger", "power_kw", above=0, high=1e6),
                 number("charger", "charge_efficiency", above=0, high=1),
                 number("charger", "discharge_efficiency", above=0, high=1)],
                [number("wear", "storage_cost_mean_usd_per_kwh", low=0),
                 number("wear", "storage_cost_sd_usd_per_kwh", low=0),
                 f.numbers("class", k, "wear", "storage_cost_range_usd_per_kwh", size=2),
                 f.numbers("class", k, "wear", "degradation_slope_range", size=2)],
            ))  # fmt: skip
        if not self.clean(f) or not size:
            return None
        found = []
        for k, (name, share, feeds, *told) in enumerate(rows):
            parts: list[Any] = []
            for kind, values in zip((Battery, Charger, WearLaw), told, strict=True):
                with self.collected(), self.built(f, "class", k, part=f"class {name}, "):
                    parts.append(kind(*values))
            if len(parts) == len(told):
                with self.collected(), self.built(f, "class", k, part=f"class {name}, "):
                    found.append(VehicleClass(name, share, parts[0], parts[1], parts[2], feeds))
        return tuple(found) if len(found) == size else None

    def scenarios(self) -> tuple[Scenario, ...] | None:
        f = self.toml("scenarios/scenarios.toml")
        samples = f.number("real_time_samples", low=1, high=10_000, whole=True)
        group = f.number("cars_per_group", low=1, high=1e7, whole=True, default=10)
        rows = []
        for k in range(f.tables("scenario")):
            groups = f.get("scenario", k, "published_groups")
            rows.append((
                f.number("scenario", k, "number", low=0, high=10**6, whole=True),
                f.number("scenario", k, "cars", low=1, high=10**8, whole=True),
                f.number("scenario", k, "samples", low=1, high=10**7, whole=True),
                f.number("scenario", k, "market_share", low=0, high=1, default=0.0),
                groups if groups is None
                else f.number("scenario", k, "published_groups", low=1, high=10**8, whole=True),
            ))  # fmt: skip
        if not self.clean(f):
            return None
        found = []
        for k, (n, cars, draws, share, groups) in enumerate(rows):
            with self.collected(), self.built(f, "scenario", k):
                found.append(Scenario(n, cars, draws, share, samples, group, groups))
        return tuple(found) if len(found) == len(rows) else None

    def laws(self) -> dict[str, TripLaw] | None:
        if (self.folder / "trips" / "sessions.csv").exists():
            return {}
        f = self.toml("trips/law.toml")
        common: dict[str, Any] = {
            "distance_share": f.number("distance_share", above=0),
            "minimum_separation_h": f.number("minimum_separation_h", above=0, high=12),
            "consumption_kwh_per_km": f.numbers("consumption_kwh_per_km", size=2),
            "speed_range_kmh": f.numbers("speed", "range_kmh", size=2),
        }
        bands: list[Any] = []
        for k in range(f.tables("speed", "band")):
            spans = f.get("speed", "band", k, "hours")
            good = isinstance(spans, list) and all(
                isinstance(s, list) and len(s) == 2 and all(type(x) in (int, float) for x in s)
                for s in spans
            )
            if not good:
                f.fault(("speed", "band", k, "hours"), spans, "a list of pairs [from, to)")
            bands.append((
                f.text_of("speed", "band", k, "name"),
                f.number("speed", "band", k, "mean_kmh", above=0),
                f.number("speed", "band", k, "sd_kmh", low=0),
                tuple((float(a), float(b)) for a, b in spans) if good else (),
            ))  # fmt: skip
        presets: dict[str, dict[str, Any]] = {}
        for name in f.names("presets"):
            presets[name] = {
                key: f.number("presets", name, key)
                for key in ("departure_mean_h", "departure_sd_h", "departure_latest_h",
                            "arrival_mean_h", "arrival_sd_h")
            }  # fmt: skip
            presets[name]["arrival_range_h"] = f.numbers("presets", name, "arrival_range_h", size=2)
            presets[name]["driving_share"] = f.number(
                "presets", name, "driving_share", low=0, high=1, default=1.0
            )
        if not self.clean(f):
            return None
        laws = {}
        for name, own in presets.items():
            with self.collected(), self.built(f, "presets", name):
                speed_bands = tuple(SpeedBand(*band) for band in bands)
                laws[name] = TripLaw(name=name, speed_bands=speed_bands, **common, **own)
        return laws if len(laws) == len(presets) else None

    def cars(
        self, clock: Clock | None, network: Network, vehicles: tuple[VehicleClass, ...]
    ) -> Roads | CarList | Sessions | None:
        """The cars; None for sessions without a clock, whose fault is told already."""
        ways: dict[str, Callable[[], Roads | CarList | Sessions | None]] = {
            "roads.csv": lambda: self.roads(network),
            "cars.csv": lambda: self.car_list(network, vehicles),
            "sessions.csv": lambda: (
                None if clock is None else self.sessions(clock, network, vehicles)
            ),
        }
        there = [name for name in ways if (self.folder / "trips" / name).exists()]
        c = Checks(str(self.folder / "trips"))
        c.require(len(there) == 1, "cars", there or "none", f"one of {', '.join(ways)}")
        c.done()
        return ways[there[0]]()

    def roads(self, network: Network) -> Roads:
        whole, number = "whole", "number"
        t = self.table("trips/roads.csv", {"from_bus": whole, "to_bus": whole, "length_km": number})
        buses = network.ev_bus_number
        allowed = "a bus with an aggregator: " + some(buses)
        self.known(t, ("from_bus", "to_bus"), buses, allowed)
        for row in np.flatnonzero(t["from_bus"] == t["to_bus"]):
            where = f"{table_where(t, int(row), self.folder)}, to_bus"
            self.checks.require(False, where, int(t["to_bus"][row]), "another bus than from_bus")
        weight = None
        if (self.folder / "trips" / "homes.csv").exists():
            homes = self.table("trips/homes.csv", {"bus": whole, "weight": number})
            self.known(homes, ("bus",), buses, allowed)
            self.finite(homes, low=0)
            at = {int(b): float(w) for b, w in zip(homes["bus"], homes["weight"], strict=True)}
            weight = np.array([at.get(b, 0.0) for b in buses])
            self.checks.require(
                len(at) == len(homes), "trips/homes.csv, column bus", "a bus twice", "each bus once"
            )
        self.checks.done()
        with self.built("trips/roads.csv"):
            rows = zip(t["from_bus"], t["to_bus"], t["length_km"], strict=True)
            return roads_of(buses, [(int(a), int(b), float(km)) for a, b, km in rows], weight)

    def class_index(self, table: Table, vehicles: tuple[VehicleClass, ...]) -> IntArray:
        """Class of each row; the first where the table names none."""
        names = [v.name for v in vehicles]
        found = np.zeros(len(table), dtype=np.int64)
        for row in range(len(table)) if "vehicle_class" in table else ():
            name = table["vehicle_class"][row]
            where = table.where(row, "vehicle_class").removeprefix(str(self.folder) + "/")
            if names and self.checks.require(name in names, where, name, ", ".join(names)):
                found[row] = names.index(name)
        return found

    def car_list(self, network: Network, vehicles: tuple[VehicleClass, ...]) -> CarList:
        t = self.table(
            "trips/cars.csv",
            {"home_bus": "whole", "work_bus": "whole", "distance_km": "number",
             "departure": "clock", "arrival": "clock"},
            {"departure_sd_h": "number", "arrival_sd_h": "number", "count": "whole",
             "consumption_kwh_per_km": "number", "vehicle_class": "text", "car": "text"},
        )  # fmt: skip
        allowed = "a bus with an aggregator: " + some(network.ev_bus_number)
        self.known(t, ("home_bus", "work_bus"), network.ev_bus_number, allowed)
        self.finite(t, low=0)
        size = len(t)
        ones = np.ones(size, dtype=np.int64)
        values = t.columns
        found = CarList(
            t["home_bus"], t["work_bus"], t["distance_km"], t["departure"], t["arrival"],
            values.get("departure_sd_h", np.zeros(size)),
            values.get("arrival_sd_h", np.zeros(size)),
            values.get("consumption_kwh_per_km", np.full(size, np.nan)),
            self.class_index(t, vehicles), values.get("count", ones),
        )  # fmt: skip
        for row in range(size):
            leave, back = found.departure_h[row], found.arrival_h[row]
            where = table_where(t, row, self.folder)
            self.checks.require(
                0 <= leave < 24 and leave < back < leave + 24, f"{where}, departure, arrival",
                (float(leave), float(back)), "a departure in the day, an arrival within 24 h after",
            )  # fmt: skip
            self.checks.require(
                found.home_bus[row] != found.work_bus[row], f"{where}, work_bus",
                int(found.work_bus[row]), "another bus than home_bus",
            )  # fmt: skip
            km = float(found.distance_km[row])
            self.checks.require(km > 0, f"{where}, distance_km", km, "> 0")
            self.checks.require(
                found.count[row] >= 1, f"{where}, count", int(found.count[row]), ">= 1"
            )
        self.checks.done()
        return found

    def sessions(
        self, clock: Clock, network: Network, vehicles: tuple[VehicleClass, ...]
    ) -> Sessions:
        from evcm.inputs.sessions import read_sessions

        names = tuple(v.name for v in vehicles)
        if not names:
            self.checks.done()
        zone, bus, first = "", None, None
        if (self.folder / "trips" / "sessions.toml").exists():
            f = self.toml("trips/sessions.toml")
            zone = f.text_of("time_zone", default="")
            if zone and zone not in zoneinfo.available_timezones():
                f.fault(("time_zone",), zone, "a zone such as America/Los_Angeles")
            if f.get("bus") is not None:
                bus = f.number("bus", whole=True, low=0)
            start = f.text_of("first_day", default="")
            if start:
                try:
                    first = datetime.fromisoformat(start)
                except ValueError:
                    f.fault(("first_day",), start, "a date such as 2019-03-04")
            if not self.clean(f):
                self.checks.done()
        buses = network.ev_bus_number
        path = self.folder / "trips" / "sessions.csv"
        return read_sessions(path, clock, buses, names, vehicles, zone, bus, first)


def table_where(table: Table, row: int, folder: Path) -> str:
    """File and line of a row, the file below `folder`."""
    return table.where(row).removeprefix(str(folder) + "/")
