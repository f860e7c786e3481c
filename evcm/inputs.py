"""Validated, frozen inputs of the study (2.1, 2.3.1). Each is checked once, when it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, freeze, read_only
from evcm.errors import Checks
from evcm.paper import implements

PERIODS = 48
"""Half-hour periods in a day; period i (1-based) starts at clock (i-1)/2 h."""

PERIOD_H = 0.5
"""Length of a period in hours."""

LOAD_BUSES: tuple[int, ...] = (2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14)
"""Buses of the IEEE 14-bus system that carry load, one aggregator each, in array order."""


def check_bus(bus: int, subject: str = "bus") -> int:
    """Return `bus` if it carries load; raise `InputError` otherwise."""
    checks = Checks(subject)
    checks.require(bus in LOAD_BUSES, "bus", bus, "a load bus: " + ", ".join(map(str, LOAD_BUSES)))
    checks.done()
    return int(bus)


@dataclass(frozen=True)
class Scenario:
    """One adoption scenario (2.1): how many cars, how many Monte Carlo and real-time samples.

    `cars_per_group` cars share one schedule in the aggregator step (1: single cars).
    """

    number: int
    cars: int
    samples: int
    market_share: float = 0.0
    real_time_samples: int = 10
    cars_per_group: int = 10

    def __post_init__(self) -> None:
        c = Checks(f"scenario {self.number}")
        for name in ("cars", "samples", "real_time_samples", "cars_per_group"):
            c.require(getattr(self, name) >= 1, name, getattr(self, name), ">= 1")
        c.require(0 <= self.market_share <= 1, "market_share", self.market_share, "0..1")
        c.done()

    @property
    def car_days(self) -> int:
        """Car-days that the Monte Carlo simulation draws."""
        return self.cars * self.samples


@dataclass(frozen=True)
class SpeedBand:
    """A speed law (km/h) and the 1-based inclusive period ranges in which it holds."""

    name: str
    mean_kmh: float
    sd_kmh: float
    periods: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class TripLaw:
    """Distributions behind a car's day (2.2, Figure 4).

    Departure and arrival are normal in (1-based, real-valued) half-hour periods and clamped;
    arrival periods above 48 are on the next day. Speeds are normal per band, clamped, one draw per
    sample and period. Specific consumption is uniform.
    """

    name: str
    departure_mean_period: float
    departure_sd_period: float
    departure_latest_period: int
    arrival_mean_period: float
    arrival_sd_period: float
    arrival_range_period: tuple[int, int]
    minimum_separation_periods: int
    consumption_kwh_per_km: tuple[float, float]
    distance_share: float
    speed_range_kmh: tuple[float, float]
    speed_bands: tuple[SpeedBand, ...]

    def __post_init__(self) -> None:
        c = Checks(f"trip law {self.name}")
        for name in ("departure_sd_period", "arrival_sd_period"):
            c.require(getattr(self, name) >= 0, name, getattr(self, name), ">= 0")
        c.require(
            1 <= self.departure_latest_period <= PERIODS,
            "departure_latest_period", self.departure_latest_period, f"1..{PERIODS}",
        )  # fmt: skip
        low, high = self.arrival_range_period
        c.require(
            1 <= low <= high <= 2 * PERIODS,
            "arrival_range_period", self.arrival_range_period, "1 <= low <= high <= 96",
        )  # fmt: skip
        c.require(
            self.minimum_separation_periods >= 1,
            "minimum_separation_periods", self.minimum_separation_periods, ">= 1",
        )  # fmt: skip
        for name in ("consumption_kwh_per_km", "speed_range_kmh"):
            low_, high_ = getattr(self, name)
            c.require(0 < low_ <= high_, name, (low_, high_), "0 < low <= high")
        c.require(self.distance_share > 0, "distance_share", self.distance_share, "> 0")
        covered = sorted(p for b in self.speed_bands for a, z in b.periods for p in range(a, z + 1))
        c.require(
            covered == list(range(1, PERIODS + 1)),
            "speed_bands", covered, "each period 1..48 in exactly one band",
        )  # fmt: skip
        c.done()


Figure = Any
"""One number for all cars, or one for each vehicle group (V,)."""


class _Figures:
    """Equality and hash of a frozen dataclass whose fields are numbers or vectors."""

    def _key(self) -> tuple[object, ...]:
        values = [np.asarray(getattr(self, f.name), float) for f in fields(self)]  # type: ignore[arg-type]
        return tuple((v.shape, v.tobytes()) for v in values)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _freeze(self, c: Checks) -> bool:
        """Keep vectors as read-only floats; report what is no number or vector."""
        good = True
        for f in fields(self):  # type: ignore[arg-type]
            value = np.asarray(getattr(self, f.name))
            good &= c.require(
                value.dtype.kind in "iuf" and value.ndim <= 1 and value.size > 0,
                f.name, getattr(self, f.name), "a number, or one number per vehicle",
            )  # fmt: skip
            if good and value.ndim:
                object.__setattr__(self, f.name, read_only(value))
        return good


@dataclass(frozen=True, eq=False)
class Battery(_Figures):
    """Car battery (2.3.1), kWh; every figure is one number, or one for each vehicle group (V,).

    `departure_soc_kwh` is the hand-over contract S_dep.
    """

    capacity_kwh: Figure
    soc_min_kwh: Figure
    soc_max_kwh: Figure
    departure_soc_kwh: Figure

    def __post_init__(self) -> None:
        c = Checks("battery")
        if self._freeze(c):
            low, high = np.asarray(self.soc_min_kwh), np.asarray(self.soc_max_kwh)
            c.require(bool(np.all(self.capacity_kwh > 0)), "capacity_kwh", self.capacity_kwh, "> 0")
            c.require(
                bool(np.all((low >= 0) & (low <= high) & (high <= self.capacity_kwh))),
                "soc_min_kwh, soc_max_kwh", (self.soc_min_kwh, self.soc_max_kwh),
                "0 <= soc_min_kwh <= soc_max_kwh <= capacity_kwh",
            )  # fmt: skip
            c.require(
                bool(np.all((low <= self.departure_soc_kwh) & (self.departure_soc_kwh <= high))),
                "departure_soc_kwh", self.departure_soc_kwh, "soc_min_kwh..soc_max_kwh",
            )  # fmt: skip
        c.done()


@dataclass(frozen=True, eq=False)
class Charger(_Figures):
    """Charger of one plugged-in car: power limit in kW and efficiencies both ways.

    Every figure is one number, or one for each vehicle group (V,).
    """

    power_kw: Figure
    charge_efficiency: Figure
    discharge_efficiency: Figure

    def __post_init__(self) -> None:
        c = Checks("charger")
        if self._freeze(c):
            c.require(bool(np.all(self.power_kw > 0)), "power_kw", self.power_kw, "> 0")
            for name in ("charge_efficiency", "discharge_efficiency"):
                value = np.asarray(getattr(self, name))
                c.require(
                    bool(np.all((value > 0) & (value <= 1))),
                    name, getattr(self, name), "0 < value <= 1",
                )  # fmt: skip
        c.done()


@dataclass(frozen=True)
class WearLaw:
    """Storage cost C_v (USD/kWh), normal and clamped, and degradation slope m_v, linear in C_v."""

    storage_cost_mean_usd_per_kwh: float
    storage_cost_sd_usd_per_kwh: float
    storage_cost_range_usd_per_kwh: tuple[float, float]
    degradation_slope_range: tuple[float, float]

    def slope(self, storage_cost_usd_per_kwh: FloatArray) -> FloatArray:
        """Degradation slope m_v for each storage cost C_v."""
        low, high = self.storage_cost_range_usd_per_kwh
        share = (np.asarray(storage_cost_usd_per_kwh) - low) / (high - low)
        m_low, m_high = self.degradation_slope_range
        return np.asarray(m_low + (m_high - m_low) * share)


@dataclass(frozen=True, eq=False)
class PriceSteps:
    """Price of energy as a non-decreasing step function of the system load.

    Price b (USD/kWh) holds for loads in (edge[b-1], edge[b]] MW; the last price continues above
    the last edge; at an edge both neighbours are admissible, so that an optimum is attained.
    """

    edge_mw: FloatArray = field(repr=False)
    price_usd_per_kwh: FloatArray = field(repr=False)

    def __post_init__(self) -> None:
        freeze(self, {"edge_mw": float, "price_usd_per_kwh": float})
        edge, price = self.edge_mw, self.price_usd_per_kwh
        c = Checks("price curve")
        same = c.require(
            edge.ndim == 1 and edge.shape == price.shape and edge.size >= 1,
            "price_edge_mw, price_usd_per_kwh", (edge.shape, price.shape),
            "two equally long vectors with at least one step",
        )  # fmt: skip
        if same:
            finite = c.require(bool(np.isfinite(edge).all()), "price_edge_mw", edge, "finite")
            finite &= c.require(
                bool(np.isfinite(price).all()), "price_usd_per_kwh", price, "finite"
            )
            for name, values, strict in (
                ("price_edge_mw", edge, True),
                ("price_usd_per_kwh", price, False),
            ):
                step = np.diff(values)
                bad = np.flatnonzero(step <= 0 if strict else step < 0)
                if finite and bad.size:
                    b = int(bad[0]) + 1
                    c.require(
                        False, f"{name}[{b}]", f"{values[b]:g} after {values[b - 1]:g}",
                        "increasing edges" if strict else "a price curve that does not decrease",
                    )  # fmt: skip
        c.done()

    def __len__(self) -> int:
        return int(self.edge_mw.size)

    def admissible(
        self, load_mw: FloatArray, tolerance_mw: float = 1e-6
    ) -> tuple[FloatArray, FloatArray]:
        """Lowest and highest admissible price at each load (they differ only at an edge)."""
        last = len(self) - 1
        low = np.searchsorted(self.edge_mw, np.asarray(load_mw) - tolerance_mw, side="left")
        high = np.searchsorted(self.edge_mw, np.asarray(load_mw) + tolerance_mw, side="left")
        return (
            self.price_usd_per_kwh[np.minimum(low, last)],
            self.price_usd_per_kwh[np.minimum(high, last)],
        )

    def payment(self, load_mw: FloatArray, power_mw: FloatArray) -> FloatArray:
        """USD per hour paid for `power_mw` (negative: earned) when the system load is `load_mw`.

        At an edge the aggregator takes the better neighbour: the lower price when it buys, the
        higher when it sells.
        """
        low, high = self.admissible(load_mw)
        power = np.asarray(power_mw)
        return np.asarray(np.where(power >= 0, low, high) * power * 1000.0)


@dataclass(frozen=True, eq=False)
class LoadProfile:
    """The reference day: load factor, and the system load that the aggregators are told (MW)."""

    load_factor: FloatArray = field(repr=False)
    aggregator_forecast_mw: FloatArray = field(repr=False)

    def __post_init__(self) -> None:
        freeze(self, {"load_factor": float, "aggregator_forecast_mw": float})
        c = Checks("load profile")
        for f in fields(self):
            values = getattr(self, f.name)
            if c.require(values.shape == (PERIODS,), f.name, values.shape, f"({PERIODS},)"):
                bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
                if bad.size:
                    t = int(bad[0])
                    c.require(False, f"{f.name}, period {t + 1}", values[t], "a number >= 0")
        c.done()


@cache
def scenarios() -> tuple[Scenario, ...]:
    """The paper's three scenarios."""
    content = data.read_toml("scenarios/scenarios.toml")
    return tuple(
        Scenario(
            number=s["number"],
            cars=s["cars"],
            samples=s["samples"],
            market_share=s["market_share"],
            real_time_samples=content["real_time_samples"],
        )
        for s in content["scenario"]
    )


def scenario(number: int) -> Scenario:
    """Scenario by its number."""
    checks = Checks("scenario")
    numbers = [s.number for s in scenarios()]
    checks.require(number in numbers, "number", number, ", ".join(map(str, numbers)))
    checks.done()
    return scenarios()[numbers.index(number)]


@cache
def trip_law(preset: str = "published") -> TripLaw:
    """Trip law preset: ``published`` (what the results used) or ``printed`` (the paper's text)."""
    content = data.read_toml("trips/law.toml")
    checks = Checks("trip law")
    checks.require(preset in content["presets"], "preset", preset, ", ".join(content["presets"]))
    checks.done()
    values = content["presets"][preset]
    pair = _pair
    return TripLaw(
        name=preset,
        **{k: v for k, v in values.items() if k != "arrival_range_period"},
        arrival_range_period=_period_range(values["arrival_range_period"]),
        minimum_separation_periods=content["minimum_separation_periods"],
        consumption_kwh_per_km=pair(content["consumption_kwh_per_km"]),
        distance_share=content["distance_share"],
        speed_range_kmh=pair(content["speed"]["range_kmh"]),
        speed_bands=tuple(
            SpeedBand(
                b["name"], b["mean_kmh"], b["sd_kmh"], tuple(_period_range(p) for p in b["periods"])
            )
            for b in content["speed"]["band"]
        ),
    )


def _period_range(values: Sequence[int]) -> tuple[int, int]:
    first, last = values
    return int(first), int(last)


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return low, high


@cache
def battery() -> Battery:
    """The paper's battery (2.3.1) with the hand-over charge of its published runs."""
    return Battery(**data.read_toml("vehicle/vehicle.toml")["battery"])


@cache
def charger() -> Charger:
    """The paper's charger (2.3.1)."""
    return Charger(**data.read_toml("vehicle/vehicle.toml")["charger"])


@cache
def wear_law() -> WearLaw:
    """Law of the storage cost and the degradation slope (2.3.1)."""
    values = data.read_toml("vehicle/vehicle.toml")["wear"]
    return WearLaw(
        values["storage_cost_mean_usd_per_kwh"],
        values["storage_cost_sd_usd_per_kwh"],
        _pair(values["storage_cost_range_usd_per_kwh"]),
        _pair(values["degradation_slope_range"]),
    )


@cache
def price_steps() -> PriceSteps:
    """The 19 price-quantity pairs, converted to USD per kWh."""
    table = data.read_table("market/price_steps.csv")
    rate = data.read_toml("market/market.toml")["pen_per_usd"]
    return PriceSteps(
        table["upper_edge_mw"].to_numpy(float), table["price_pen_per_kwh"].to_numpy(float) / rate
    )


@implements("4")
@cache
def system_cap_mw() -> float:
    """P^SYScap of equation (4), MW."""
    return float(data.read_toml("market/market.toml")["system_cap_mw"])


@cache
def load_profile() -> LoadProfile:
    """Load factors of the reference day and the aggregators' forecast."""
    table = data.read_table("load/profile.csv")
    return LoadProfile(
        table["load_factor"].to_numpy(float), table["aggregator_forecast_mw"].to_numpy(float)
    )
