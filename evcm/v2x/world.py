"""The world of a charging station: bus, transformers, lots, chargers, ports and cars.

    grid bus -> transformers -> lots (parking lot or building) -> chargers -> ports -> cars

Limits hold both ways, import and export. A port and a charger limit the power at every instant (a
charger shares its power among its ports); a lot, a transformer and the bus limit the mean power of
a step, as a meter reads it, and what exceeds them is counted as overload. Building load and PV sit
on the transformer. An aggregator of many stations is a `World` with many transformers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Literal, NamedTuple

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.v2x.ageing import Ageing, default_ageing

Place = Literal["workplace", "public", "home"]
PLACES: tuple[Place, ...] = ("workplace", "public", "home")


@dataclass(frozen=True)
class ChargerType:
    """A charger: kind, phases, volts (phase to neutral), amperes, ports and efficiencies."""

    name: str
    kind: Literal["ac", "dc"]
    phases: int
    voltage_v: float
    current_a: float
    ports: int = 1
    charge_efficiency: float = 1.0
    discharge_efficiency: float = 1.0
    bidirectional: bool = True

    def __post_init__(self) -> None:
        c = Checks(f"charger {self.name}")
        c.name(self.name)
        c.require(self.kind in ("ac", "dc"), "kind", self.kind, "ac or dc")
        c.require(self.phases in (1, 2, 3), "phases", self.phases, "1, 2 or 3")
        c.require(0 < self.voltage_v < 1e6, "voltage_v", self.voltage_v, "0 < value < 1e6")
        c.require(0 < self.current_a < 1e6, "current_a", self.current_a, "0 < value < 1e6")
        c.require(self.ports >= 1, "ports", self.ports, ">= 1")
        names = ("charge_efficiency", "discharge_efficiency")
        c.each(self, names, lambda v: 0 < v <= 1, "0 < value <= 1")
        c.done()

    def power_kw(self, car_phases: int = 3) -> float:
        """Grid-side power for a car with so many phases (a DC charger needs none of them)."""
        phases = 1 if self.kind == "dc" else min(self.phases, car_phases)
        return self.voltage_v * self.current_a * phases / 1000.0


@dataclass(frozen=True)
class CarModel:
    """A car class. `ac_kw`, `dc_kw` are full acceptances at the battery (0: cannot)."""

    name: str
    capacity_kwh: float
    ac_kw: float
    dc_kw: float
    ac_phases: int = 3
    discharge_kw: float = 0.0
    transition_soc: float = 0.8
    soc_min: float = 0.15
    share: float = 1.0

    def __post_init__(self) -> None:
        c = Checks(f"car {self.name}")
        c.name(self.name)
        c.each(self, ("capacity_kwh", "ac_kw"), lambda v: 0 < v < 1e6, "0 < value < 1e6")
        c.each(self, ("dc_kw", "discharge_kw", "share"), lambda v: 0 <= v < 1e6, "0 <= value < 1e6")
        c.require(self.ac_phases in (1, 2, 3), "ac_phases", self.ac_phases, "1, 2 or 3")
        c.require(0 <= self.transition_soc <= 1, "transition_soc", self.transition_soc, "0..1")
        c.require(0 <= self.soc_min < 1, "soc_min", self.soc_min, "0 <= value < 1")
        c.done()


@dataclass(frozen=True)
class Lot:
    """A parking lot or building: chargers, the place that sets its arrivals, limits (kW)."""

    name: str
    place: Place
    chargers: tuple[ChargerType, ...]
    import_limit_kw: float = math.inf
    export_limit_kw: float = math.inf

    def __post_init__(self) -> None:
        c = Checks(f"lot {self.name}")
        c.name(self.name)
        c.require(self.place in PLACES, "place", self.place, ", ".join(PLACES))
        c.require(len(self.chargers) >= 1, "chargers", len(self.chargers), "at least one")
        _check_limits(c, self.import_limit_kw, self.export_limit_kw)
        c.done()


@dataclass(frozen=True)
class Transformer:
    """A transformer: its lots, limits both ways, and the building load and PV behind its meter."""

    name: str
    lots: tuple[Lot, ...]
    import_limit_kw: float = math.inf
    export_limit_kw: float = math.inf
    building_peak_kw: float = 0.0
    pv_rated_kw: float = 0.0

    def __post_init__(self) -> None:
        c = Checks(f"transformer {self.name}")
        c.name(self.name)
        c.require(len(self.lots) >= 1, "lots", len(self.lots), "at least one")
        _check_limits(c, self.import_limit_kw, self.export_limit_kw)
        names = ("building_peak_kw", "pv_rated_kw")
        c.each(self, names, lambda v: 0 <= v < 1e9, "0 <= value < 1e9")
        c.done()


@cache
def default_cars() -> tuple[CarModel, ...]:
    """The car classes of ``data/v2x/cars.toml``."""
    return tuple(CarModel(**entry) for entry in data.read_toml("v2x/cars.toml")["car"])


@dataclass(frozen=True)
class World:
    """Transformers at one grid bus, the cars that come, and what drivers pay and want.

    ``tariff_usd_per_kwh`` is paid by the driver for each kWh the battery leaves with above its
    arrival, up to the wish (energy taken out for V2G is paid back). ``target_soc`` is the range
    from which a driver's wish at departure is drawn. ``capacity_spread`` is the relative
    half-width of the capacities within a car class.
    """

    transformers: tuple[Transformer, ...]
    name: str = "station"
    bus: str = "bus"
    import_limit_kw: float = math.inf
    export_limit_kw: float = math.inf
    cars: tuple[CarModel, ...] = field(default_factory=default_cars)
    ageing: Ageing = field(default_factory=default_ageing)
    tariff_usd_per_kwh: float = 0.25
    target_soc: tuple[float, float] = (0.75, 0.95)
    capacity_spread: float = 0.1

    def __post_init__(self) -> None:
        c = Checks(f"world {self.name}")
        c.name(self.name)
        c.name(self.bus, "bus")
        c.require(len(self.transformers) >= 1, "transformers", len(self.transformers), ">= 1")
        c.require(sum(k.share for k in self.cars) > 0, "cars", len(self.cars), "a share above 0")
        if any(h.kind == "dc" for h in self.chargers):
            c.require(
                any(k.dc_kw > 0 and k.share > 0 for k in self.cars),
                "cars", "no car with dc_kw > 0", "a car that can use the DC chargers",
            )  # fmt: skip
        tariff = self.tariff_usd_per_kwh
        c.require(abs(tariff) < 1e6, "tariff_usd_per_kwh", tariff, "a number, at most 1e6")
        low, high = self.target_soc
        c.require(0 < low <= high <= 1, "target_soc", self.target_soc, "0 < low <= high <= 1")
        c.require(0 <= self.capacity_spread < 1, "capacity_spread", self.capacity_spread, "0..1")
        _check_limits(c, self.import_limit_kw, self.export_limit_kw)
        c.done()

    @property
    def lots(self) -> tuple[Lot, ...]:
        """All lots, in array order."""
        return tuple(lot for t in self.transformers for lot in t.lots)

    @property
    def chargers(self) -> tuple[ChargerType, ...]:
        """All chargers, in array order."""
        return tuple(h for lot in self.lots for h in lot.chargers)

    @property
    def ports(self) -> int:
        """Number of ports."""
        return sum(h.ports for h in self.chargers)

    @cached_property
    def layout(self) -> Layout:
        """The world as index and limit arrays."""
        return _layout(self)


class Layout(NamedTuple):
    """The world as arrays: ports P, chargers H, lots L, transformers M, car classes K."""

    port_charger: IntArray
    """(P,) charger of a port."""
    port_kw: FloatArray
    """(P,) greatest grid-side power of a port, either way, kW."""
    charger_lot: IntArray
    """(H,) lot of a charger."""
    charger_kw: FloatArray
    """(H,) power that the ports of a charger share, kW."""
    charge_efficiency: FloatArray
    """(H,)"""
    discharge_efficiency: FloatArray
    """(H,)"""
    lot_transformer: IntArray
    """(L,) transformer of a lot."""
    lot_limit_kw: FloatArray
    """(L, 2) import and export limit."""
    bus_limit_kw: FloatArray
    """(2,) import and export limit."""
    port_first: IntArray
    """(H + 1,) ports of charger h: port_first[h] .. port_first[h + 1] - 1; likewise below."""
    charger_first: IntArray
    """(L + 1,)"""
    lot_first: IntArray
    """(M + 1,)"""
    charger_table: FloatArray
    """(H, 4) is DC, phases, kW per phase (DC: kW), bidirectional."""
    lot_place: IntArray
    """(L,) index into PLACES."""
    car_table: FloatArray
    """(K, 8) AC share summed up, DC share summed up, capacity, AC kW, DC kW, phases, discharge kW,
    transition SoC."""
    car_soc_min: FloatArray
    """(K,)"""
    driver: FloatArray
    """(3,) lowest and highest target SoC, capacity spread."""
    money: FloatArray
    """(4,) tariff USD/kWh, cycle USD/kWh, calendar USD/(kWh h), SoC slope of calendar ageing."""


def _check_limits(c: Checks, import_kw: float, export_kw: float) -> None:
    c.require(import_kw >= 0, "import_limit_kw", import_kw, ">= 0")
    c.require(export_kw >= 0, "export_limit_kw", export_kw, ">= 0")


def _layout(world: World) -> Layout:
    chargers, lots = world.chargers, world.lots
    charger_lot = [n for n, lot in enumerate(lots) for _ in lot.chargers]
    port_charger = [n for n, h in enumerate(chargers) for _ in range(h.ports)]
    share = np.array([k.share for k in world.cars])
    dc_share = np.where([k.dc_kw > 0 for k in world.cars], share, 0.0)
    car_table = np.array(
        [
            [0, 0, k.capacity_kwh, k.ac_kw, k.dc_kw, k.ac_phases, k.discharge_kw, k.transition_soc]
            for k in world.cars
        ]
    )
    car_table[:, 0] = np.cumsum(share) / share.sum()
    car_table[:, 1] = np.cumsum(dc_share) / max(dc_share.sum(), 1e-300)
    ageing = world.ageing
    return Layout(
        port_charger=np.array(port_charger, dtype=np.int64),
        port_kw=np.array([chargers[n].power_kw() for n in port_charger]),
        charger_lot=np.array(charger_lot, dtype=np.int64),
        charger_kw=np.array([h.power_kw() for h in chargers]),
        charge_efficiency=np.array([h.charge_efficiency for h in chargers]),
        discharge_efficiency=np.array([h.discharge_efficiency for h in chargers]),
        lot_transformer=np.array(
            [m for m, t in enumerate(world.transformers) for _ in t.lots], dtype=np.int64
        ),
        lot_limit_kw=np.array([[x.import_limit_kw, x.export_limit_kw] for x in lots]),
        bus_limit_kw=np.array([world.import_limit_kw, world.export_limit_kw]),
        port_first=_first([h.ports for h in chargers]),
        charger_first=_first([len(lot.chargers) for lot in lots]),
        lot_first=_first([len(t.lots) for t in world.transformers]),
        charger_table=np.array(
            [[h.kind == "dc", h.phases, h.power_kw(1), h.bidirectional] for h in chargers],
            dtype=float,
        ),
        lot_place=np.array([PLACES.index(x.place) for x in lots], dtype=np.int64),
        car_table=car_table,
        car_soc_min=np.array([k.soc_min for k in world.cars]),
        driver=np.array([*world.target_soc, world.capacity_spread]),
        money=np.array(
            [
                world.tariff_usd_per_kwh,
                ageing.cycle_usd_per_kwh,
                ageing.calendar_usd_per_kwh_h,
                ageing.soc_slope,
            ]
        ),
    )


def _first(counts: list[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


@cache
def charger_types() -> dict[str, ChargerType]:
    """The charger types of ``data/v2x/chargers.toml`` by name."""
    entries = data.read_toml("v2x/chargers.toml")["charger"]
    return {entry["name"]: ChargerType(**entry) for entry in entries}


def example_world(chargers: int = 25, place: Place = "workplace") -> World:
    """A mixed station: `chargers` chargers of all types in turn behind one transformer.

    The transformer carries 20 % of the chargers' power, with a building and PV beside them.
    """
    types = tuple(charger_types().values())
    checks = Checks("example world")
    checks.require(chargers >= 1, "chargers", chargers, ">= 1")
    checks.require(place in PLACES, "place", place, ", ".join(PLACES))
    checks.done()
    pattern = (2, 2, 0, 2, 1, 2, 3, 0, 2, 4, 2, 5)  # mostly three-phase AC, a few of each other
    chosen = tuple(types[pattern[n % len(pattern)]] for n in range(chargers))
    total = sum(h.power_kw() for h in chosen)
    lot = Lot(place, place, chosen, import_limit_kw=0.18 * total, export_limit_kw=0.15 * total)
    transformer = Transformer(
        "transformer",
        (lot,),
        import_limit_kw=0.2 * total,
        export_limit_kw=0.12 * total,
        building_peak_kw=0.08 * total,
        pv_rated_kw=0.08 * total,
    )
    return World((transformer,), name=f"{place}, {chargers} chargers")
