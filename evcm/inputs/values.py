"""Parts of what a study is told (2.1-2.3.1): frozen, each checked once, when it is made."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

from evcm.arrays import FloatArray, IntArray, freeze, read_only
from evcm.errors import Checks


@dataclass(frozen=True)
class Scenario:
    """One adoption scenario (2.1): how many cars, how many Monte Carlo and real-time samples.

    `cars_per_group` cars share one schedule in the aggregator step (1: single cars).
    `published_groups` groups stood for the cars behind the published tables.
    """

    number: int
    cars: int
    samples: int
    market_share: float = 0.0
    real_time_samples: int = 10
    cars_per_group: int = 10
    published_groups: int | None = None

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
    """A speed law (km/h) and the hours of the day, [from, to), in which it holds."""

    name: str
    mean_kmh: float
    sd_kmh: float
    hours: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class TripLaw:
    """Distributions behind a car's day (2.2, Figure 4), by the clock.

    Departure and arrival are normal in hours since midnight, rounded to the nearest start of a
    period and then clamped; hours above 24 are on the next day. They are drawn again together while
    less than `minimum_separation_h` apart. Speeds are normal per band, clamped, one draw per sample
    and period. Specific consumption is uniform. A trip is `distance_share` of its road. Of all
    cars, `driving_share` drive on a day of this law; the others stay at home.
    """

    name: str
    departure_mean_h: float
    departure_sd_h: float
    departure_latest_h: float
    arrival_mean_h: float
    arrival_sd_h: float
    arrival_range_h: tuple[float, float]
    minimum_separation_h: float
    consumption_kwh_per_km: tuple[float, float]
    distance_share: float
    speed_range_kmh: tuple[float, float]
    speed_bands: tuple[SpeedBand, ...]
    driving_share: float = 1.0

    def __post_init__(self) -> None:
        c = Checks(f"trip law {self.name}")
        for name in ("departure_sd_h", "arrival_sd_h"):
            c.require(getattr(self, name) >= 0, name, getattr(self, name), ">= 0")
        latest = self.departure_latest_h
        c.require(0 <= latest < 24, "departure_latest_h", latest, "0 <= hours < 24")
        low, high = self.arrival_range_h
        c.require(
            0 <= low <= high < 48, "arrival_range_h", self.arrival_range_h, "0 <= low <= high < 48"
        )
        apart = self.minimum_separation_h
        c.require(0 < apart <= 12, "minimum_separation_h", apart, "0 < hours <= 12")
        for name in ("consumption_kwh_per_km", "speed_range_kmh"):
            low_, high_ = getattr(self, name)
            c.require(0 < low_ <= high_, name, (low_, high_), "0 < low <= high")
        c.require(self.distance_share > 0, "distance_share", self.distance_share, "> 0")
        share = self.driving_share
        c.require(0 <= share <= 1, "driving_share", share, "0..1")
        edges = sorted(span for band in self.speed_bands for span in band.hours)
        ends = [0.0, *(e for _, e in edges)]
        c.require(
            [s for s, _ in edges] == ends[:-1] and ends[-1] == 24 and all(s < e for s, e in edges),
            "speed_bands", edges, "each hour 0..24 in exactly one band",
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

    def __post_init__(self) -> None:
        c = Checks("wear")
        costs, slopes = self.storage_cost_range_usd_per_kwh, self.degradation_slope_range
        c.require(
            0 <= costs[0] < costs[1] < np.inf, "storage_cost_range_usd_per_kwh", costs,
            "0 <= low < high",
        )  # fmt: skip
        c.require(
            0 <= slopes[0] <= slopes[1] < np.inf, "degradation_slope_range", slopes,
            "0 <= low <= high",
        )  # fmt: skip
        c.done()

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


@dataclass(frozen=True)
class VehicleClass:
    """Vehicles of one kind: battery, charger and wear; whether they feed in, or charge only.

    `share` of all cars are of this class.
    """

    name: str
    share: float
    battery: Battery
    charger: Charger
    wear: WearLaw
    feeds_in: bool = True


@dataclass(frozen=True)
class Clock:
    """The periods of a study: their length and the days that they fill.

    A day has 24 hours, or 23 or 25 where the clock changes at 03:00. `laws` names the trip law of
    each day. Periods are numbered 1..T through all days, and the last is followed by the first.
    """

    period_h: float
    day_hours: tuple[int, ...] = (24,)
    laws: tuple[str, ...] = ("published",)

    def __post_init__(self) -> None:
        c = Checks("clock")
        minutes = 60 * self.period_h
        whole = 0.5 < minutes < 1e6 and abs(minutes - round(minutes)) < 1e-9
        c.require(
            whole and 60 % round(minutes) == 0, "period_h", self.period_h, "a whole part of an hour"
        )
        hours = self.day_hours
        c.require(
            len(hours) > 0 and all(h in (23, 24, 25) for h in hours),
            "day_hours", hours, "23, 24 or 25 for each day",
        )  # fmt: skip
        c.require(len(self.laws) == len(hours), "laws", self.laws, f"one for each of {len(hours)}")
        c.done()

    @property
    def days(self) -> int:
        """Number of days."""
        return len(self.day_hours)

    @property
    def first_period(self) -> tuple[int, ...]:
        """Periods before each day, and T as the last entry. (days + 1,)"""
        ends = np.cumsum([0, *self.day_hours]) / self.period_h
        return tuple(round(float(e)) for e in ends)

    @property
    def periods(self) -> int:
        """T, the periods of all days."""
        return self.first_period[-1]

    def period(self, day: int, clock_h: float) -> float:
        """Real-valued period (1-based) at which the clock of a day shows `clock_h` hours."""
        changed = self.day_hours[day] - 24 if clock_h >= 3 else 0
        return self.first_period[day] + (1 + (clock_h + changed) / self.period_h)

    def clock_h(self) -> FloatArray:
        """What the clock shows at the start of each period, hours since midnight. (T,)"""
        found = []
        for hours in self.day_hours:
            passed = np.arange(round(hours / self.period_h)) * self.period_h
            found.append(np.where(passed < 3 + min(hours - 24, 0), passed, passed - (hours - 24)))
        return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class Roads:
    """Roads between the buses that have an aggregator, both ways, and where cars live.

    `bus` (K) are the aggregators' buses. The directed edges (E) are sorted by From, then To:
    `from_index` and `to_index` count into `bus`; edges first[k]..first[k+1]-1 leave bus k;
    `length_km` is the length of the road. `home_share` (K) of the cars live at each bus.
    """

    bus: IntArray
    from_index: IntArray
    to_index: IntArray
    length_km: FloatArray
    first: IntArray
    home_share: FloatArray

    def __len__(self) -> int:
        return int(self.from_index.size)


def roads_of(
    bus: tuple[int, ...],
    roads: Iterable[tuple[int, int, float]],
    home_weight: FloatArray | None = None,
) -> Roads:
    """Roads from pairs of buses and lengths in km, each usable both ways.

    Parameters
    ----------
    bus : (K,)
        Buses with an aggregator.
    roads
        (one bus, other bus, km).
    home_weight : (K,), optional
        How many cars live at each bus, up to a factor; equally many if left out.

    Raises
    ------
    InputError
        A road ends at another bus or where it starts, comes twice, has no length; or a bus where
        cars live has no road.
    """
    place = {int(b): k for k, b in enumerate(bus)}
    weight = np.ones(len(bus)) if home_weight is None else np.asarray(home_weight, float)
    c = Checks("roads")
    edges: dict[tuple[int, int], float] = {}
    for a, b, km in roads:
        good = c.require(a != b, f"road {a}-{b}", "leads nowhere", "two different buses")
        for end in {a, b}:
            allowed = "a bus with an aggregator: " + some(bus)
            good &= c.require(end in place, f"road {a}-{b}", f"ends at bus {end}", allowed)
        good &= c.require(0 < km < 1e5, f"road {a}-{b}, length_km", km, "0 < km < 100,000")
        if good and c.require((place[a], place[b]) not in edges, f"road {a}-{b}", "twice", "once"):
            edges[place[a], place[b]] = edges[place[b], place[a]] = float(km)
    origin = np.array([a for a, _ in sorted(edges)], dtype=np.int64)
    first = np.searchsorted(origin, np.arange(len(bus) + 1)).astype(np.int64)
    c.require(
        weight.shape == (len(bus),) and bool((weight >= 0).all()) and weight.sum() > 0,
        "home weight", weight.tolist(), "numbers >= 0, not all 0",
    )  # fmt: skip
    c.done()
    for b, k in place.items():
        c.require(first[k] < first[k + 1] or weight[k] == 0, f"bus {b}", "no road", ">= 1 road")
    c.done()
    return Roads(
        np.array(bus, dtype=np.int64), origin,
        np.array([b for _, b in sorted(edges)], dtype=np.int64),
        np.array([edges[e] for e in sorted(edges)]), first, weight / weight.sum(),
    )  # fmt: skip


def some(buses: Iterable[int], most: int = 20) -> str:
    """Numbers of buses for a message; the first `most` of them."""
    found = [str(b) for b in buses]
    return ", ".join(found[:most]) + (f" ... ({len(found)} in all)" if len(found) > most else "")


@dataclass(frozen=True, eq=False)
class CarList:
    """Cars one by one: home and work bus, one-way distance, hours by the clock. Vectors (V,).

    `departure_sd_h` and `arrival_sd_h` spread the times of the real-time samples. `consumption`
    is nan where the law draws it. `vehicle_class` counts into the study's classes, `count` cars
    are alike. Cars drive on days whose law lets them.
    """

    home_bus: IntArray
    work_bus: IntArray
    distance_km: FloatArray
    departure_h: FloatArray
    arrival_h: FloatArray
    departure_sd_h: FloatArray
    arrival_sd_h: FloatArray
    consumption_kwh_per_km: FloatArray
    vehicle_class: IntArray
    count: IntArray

    def __len__(self) -> int:
        return int(self.home_bus.size)


@dataclass(frozen=True, eq=False)
class Sessions:
    """Recorded charging sessions, one entry each; their days are the real-time samples.

    `sample` counts the recorded days from 0; `first_period` and `last_period` (1-based, of the
    study's clock) are those in which the car is plugged in throughout, the last may pass T into
    the next day. `energy_kwh` is what the battery takes. A car is of a class, and may have a
    battery (kWh) and a charger (kW) of its own; nan: those of its class.
    """

    bus: IntArray
    sample: IntArray
    first_period: IntArray
    last_period: IntArray
    energy_kwh: FloatArray
    vehicle_class: IntArray
    battery_kwh: FloatArray
    charger_kw: FloatArray
    days: int

    def __len__(self) -> int:
        return int(self.bus.size)
