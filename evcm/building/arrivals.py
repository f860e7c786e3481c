"""Who comes to the bays: last trips (2), kilometres (3), classes of charging."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray
from evcm.building.inputs import Horizon, Sessions
from evcm.errors import Checks
from evcm.paper import implements


@dataclass(frozen=True)
class ChargingClass:
    """A class of charging: power (drawn between its limits, kW), share of cars, mean spare stay."""

    name: str
    power_min_kw: float
    power_max_kw: float
    share: float
    spare_h: float

    def __post_init__(self) -> None:
        c = Checks(f"charging class {self.name}")
        c.require(0 < self.power_min_kw <= self.power_max_kw, "power",
                  (self.power_min_kw, self.power_max_kw), "0 < least <= most")  # fmt: skip
        c.require(self.share >= 0, "share", self.share, ">= 0")
        c.require(self.spare_h >= 0, "spare_h", self.spare_h, ">= 0")
        c.done()


@dataclass(frozen=True)
class ArrivalLaw:
    """End of the last trip (2), daily kilometres (3), battery, classes and cars per day.

    `clearness` are the two parameters of a Beta law of a day's irradiance over a clear day's.
    `empty_share` is the share of bay-hours without a car in the paper's hourly draw.
    """

    cars_per_day: float
    classes: tuple[ChargingClass, ...]
    end_mean_h: float = 16.5
    end_sd_h: float = 3.5
    km_log_mean: float = 3.1
    km_log_sd: float = 0.87
    kwh_per_km: float = 0.2
    battery_kwh: float = 30.0
    clearness: tuple[float, float] = (5.0, 3.0)
    empty_share: float = 0.25

    def __post_init__(self) -> None:
        c = Checks("arrivals")
        names = ("cars_per_day", "end_sd_h", "km_log_sd", "kwh_per_km", "battery_kwh")
        c.each(self, names, lambda v: v > 0, "> 0")
        c.require(sum(k.share for k in self.classes) > 0, "classes", len(self.classes),
                  "at least one with a share > 0")  # fmt: skip
        c.require(0 <= self.empty_share <= 1, "empty_share", self.empty_share, "0 .. 1")
        c.require(min(self.clearness) > 0, "clearness", self.clearness, "two numbers > 0")
        c.done()


@dataclass(frozen=True, eq=False)
class RandomDay:
    """Sessions of one random day, cars that found no free bay, and the day's clearness."""

    sessions: Sessions
    turned_away: int
    clearness: float


@implements("2", paper="building")
def last_trip_density(hour: FloatArray, mean_h: float = 16.5, sd_h: float = 3.5) -> FloatArray:
    """Density (2) of the end of the last trip, per hour, as printed: 0 < hour <= 24."""
    hour = np.asarray(hour, dtype=float)
    centred = np.where(hour > mean_h - 12, hour - mean_h, hour + 24 - mean_h)
    return np.asarray(np.exp(-(centred**2) / (2 * sd_h**2)) / (np.sqrt(2 * np.pi) * sd_h))


@implements("2", paper="building")
def last_trip_end_h(rng: np.random.Generator, law: ArrivalLaw, size: int) -> FloatArray:
    """Ends of last trips (2): a normal law wrapped to the day, (size,) h."""
    return np.asarray(np.mod(rng.normal(law.end_mean_h, law.end_sd_h, size), 24.0))


@implements("3", paper="building")
def daily_km(rng: np.random.Generator, law: ArrivalLaw, size: int) -> FloatArray:
    """Daily kilometres (3): lognormal, (size,) km."""
    return np.asarray(rng.lognormal(law.km_log_mean, law.km_log_sd, size))


def random_day(law: ArrivalLaw, horizon: Horizon, bays: int, seed: int, day: int = 0) -> RandomDay:
    """Cars of a random day, each at the first bay that is free when it comes.

    A car asks for the energy of its kilometres, at most a battery, and stays as long as its class
    needs for it and some spare time. A car that meets no free bay is turned away; at closing time a
    car takes what it has got.
    """
    rng = np.random.default_rng([seed, day, 7])
    count = int(rng.poisson(law.cars_per_day))
    arrival_h = np.sort(last_trip_end_h(rng, law, count))
    energy = np.minimum(daily_km(rng, law, count) * law.kwh_per_km, law.battery_kwh)
    share = np.array([k.share for k in law.classes])
    drawn = rng.choice(len(law.classes), size=count, p=share / share.sum())
    mix, spare = rng.random(count), rng.exponential(size=count)
    clearness = float(rng.beta(*law.clearness))
    free, rows, turned_away = np.zeros(bays, dtype=int), [], 0
    for n in range(count):
        if not horizon.start_h <= arrival_h[n] < min(horizon.end_h, 24.0):
            continue
        kind = law.classes[drawn[n]]
        kw = kind.power_min_kw + mix[n] * (kind.power_max_kw - kind.power_min_kw)
        first = int((arrival_h[n] - horizon.start_h) / horizon.step_h)
        open_bays = np.flatnonzero(free <= first)
        if not open_bays.size:
            turned_away += 1
            continue
        need = int(np.ceil(energy[n] / (kw * horizon.step_h) - 1e-12))
        stay = max(need, 1) + round(spare[n] * kind.spare_h / horizon.step_h)
        last, bay = min(first + stay, horizon.periods), int(open_bays[0])
        free[bay] = last
        wanted = min(energy[n], kw * horizon.step_h * (last - first))
        rows.append((bay, first, last, wanted, kw, energy[n], kind.name))
    return RandomDay(_sessions(rows, law.battery_kwh), turned_away, clearness)


def hourly_day(law: ArrivalLaw, horizon: Horizon, bays: int, seed: int, day: int = 0) -> RandomDay:
    """The paper's own draw: each bay and hour has no car or a class, at full power all the hour."""
    rng = np.random.default_rng([seed, day, 14])
    share = np.array([k.share for k in law.classes])
    kinds = (1 - law.empty_share) * share / share.sum()
    drawn = rng.choice(len(kinds) + 1, size=(horizon.periods, bays), p=[law.empty_share, *kinds])
    mix, rows = rng.random((horizon.periods, bays)), []
    for t, bay in zip(*np.nonzero(drawn), strict=True):
        kind = law.classes[drawn[t, bay] - 1]
        kw = kind.power_min_kw + mix[t, bay] * (kind.power_max_kw - kind.power_min_kw)
        energy = kw * horizon.step_h
        rows.append((int(bay), int(t), int(t) + 1, energy, kw, energy, kind.name))
    return RandomDay(_sessions(rows, law.battery_kwh), 0, 1.0)


def _sessions(rows: list[tuple[int, int, int, float, float, float, str]], full: float) -> Sessions:
    names = ["bay", "arrival", "departure", "energy_kwh", "power_kw", "driven_kwh", "kind"]
    table = pd.DataFrame(rows, columns=names)
    # The battery was full before the day's driving; V2G may go down to a floor of a fifth.
    table["give_kwh"] = np.maximum(0.0, 0.8 * full - table.pop("driven_kwh").astype(float))
    return Sessions.from_table(table)
