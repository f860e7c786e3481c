"""Days of uncontrolled charging that grow car by car, and the count at which power runs short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np

from evcm.arrays import FloatArray, IntArray
from evcm.inputs.study import Inputs
from evcm.inputs.values import Charger, Scenario, TripLaw
from evcm.network import opf
from evcm.network.case import Day
from evcm.trips import cars, uncontrolled
from evcm.trips.cars import Cars

PROBE = 2000
"""Cars drawn for the mean car of `mean_room`."""

MOST_ROOM = 1e9
"""Cars at which `mean_room` looks no further."""

DRAW = 100
"""Scenario number that keys the draws of hosting days, apart from those of the scenarios."""


def drawn_day(
    inputs: Inputs, most: int, day: int, seed: int = 1, law: TripLaw | None = None
) -> Cars:  # fmt: skip
    """One day of `most` cars under a trip law; the inputs' own if left out."""
    scenario = Scenario(number=DRAW, cars=most, samples=day + 1)
    return cars.draw_cars(inputs, scenario, law, seed, day)


def first_cars(day: Cars, start: int, stop: int) -> Cars:
    """Cars start..stop-1 of a day."""
    vectors: dict[str, Any] = {
        name: value[start:stop]
        for name, value in vars(day).items()
        if isinstance(value, np.ndarray) and name != "speed_kmh"
    }
    return replace(day, **vectors)


def growing_fleet_mw(
    day: Cars, block: int, charger: Charger | None = None
) -> tuple[FloatArray, FloatArray]:
    """Uncontrolled power (B + 1, T, K) of the first 0, block, 2 block .. cars, and unserved kWh.

    The charger is that of each car's class if left out.
    """
    told, blocks = day.inputs, len(day) // block
    buses = len(told.buses)
    day = first_cars(day, 0, blocks * block)
    mine = np.repeat(np.arange(blocks), block) * buses
    origin, work = (uncontrolled.bus_index(x, told.buses) for x in (day.from_bus, day.to_bus))
    at_work = np.where(work < 0, -1, mine + work)
    kw, unserved = uncontrolled.power_by_place(day, mine + origin, at_work, blocks * buses, charger)
    power = kw.reshape(blocks, buses, told.periods).transpose(0, 2, 1) / 1000.0
    by_block = unserved.reshape(blocks, buses).sum(axis=1)
    return (
        np.concatenate([np.zeros((1, *power.shape[1:])), power]).cumsum(axis=0),
        np.concatenate([[0.0], by_block]).cumsum(),
    )


@dataclass(frozen=True)
class GrowingDays:
    """Days of uncontrolled charging whose cars are counted in, `block` by `block` up to `most`.

    A car drawn stands for `weight` cars.
    """

    days: int
    block: int
    most: int
    weight: int
    inputs: Inputs = field(repr=False, compare=False)

    def __str__(self) -> str:
        return f"{self.days}days-{self.block}to{self.most}by{self.weight}"

    def at(self, cars: int) -> int:
        """Blocks of the first `cars` cars, of all where there are fewer."""
        return min(cars, self.most) // self.block

    def drawn(
        self, charger: Charger | None = None, law: TripLaw | None = None
    ) -> tuple[FloatArray, FloatArray]:
        """Power (D, B + 1, T, K) MW and unserved energy (D, B + 1) kWh of the first blocks."""
        size, told = self.block // self.weight, self.inputs
        found: Iterator[tuple[FloatArray, FloatArray]] = (
            growing_fleet_mw(drawn_day(told, self.most // self.weight, day, law=law), size, charger)
            for day in range(self.days)
        )
        shape = (self.days, self.at(self.most) + 1)
        power, unserved = np.empty((*shape, told.periods, len(told.buses))), np.empty(shape)
        for day, (mw, kwh) in enumerate(found):
            power[day], unserved[day] = self.weight * mw, self.weight * kwh
        return power, unserved

    def power_mw(self) -> FloatArray:
        """Power of `drawn` at the inputs' own charger and law; kept for the next who asks."""
        return _power_mw(self, self.inputs.fingerprint)

    def first_cars(self, site: Day, power_mw: FloatArray) -> tuple[IntArray, FloatArray]:
        """First block, and first count, at which each day lacks power (D,); inf where none does."""
        block = first_shortage(site, power_mw)
        cars = block * float(self.block)
        return block, np.where(cars > self.most, np.inf, cars)


def mean_room(inputs: Inputs) -> float:
    """Cars, all like the mean of a day's, at which power first goes unsupplied, to 2 %.

    A guess at where to look: 0 where power is unsupplied without cars, inf from `MOST_ROOM` on.
    """
    site, day = inputs.day, drawn_day(inputs, PROBE, 0)
    mean_mw = growing_fleet_mw(day, len(day))[0][1] / len(day)
    if not opf.served(site, 0.0 * mean_mw).all():
        return 0.0
    low, high = 0.0, 1000.0
    while not (short := ~opf.served(site, high * mean_mw)).any():
        low, high = high, 2.0 * high
        if high > MOST_ROOM:
            return float("inf")
    site, mean_mw = site.at(short), mean_mw[short]
    while high - low > 0.02 * high:
        middle = 0.5 * (low + high)
        if opf.served(site, middle * mean_mw).all():
            low = middle
        else:
            high = middle
    return high


@lru_cache(maxsize=1)
def _power_mw(days: GrowingDays, _inputs: str) -> FloatArray:
    return days.drawn()[0]


def first_shortage(site: Day, power_mw: FloatArray) -> IntArray:
    """First block at which each day lacks power (D,), by bisection; B + 1 where none does.

    `power_mw` is (D, B + 1, T, K). More cars never draw less: bisection finds the first, and only
    periods that are short with many cars are looked at again with fewer.
    """
    days, blocks = power_mw.shape[0], power_mw.shape[1] - 1
    low, high = np.zeros(days, np.int64), np.full(days, blocks + 1, np.int64)
    suspect = np.ones((days, power_mw.shape[2]), bool)
    while (high - low > 1).any():
        middle = np.minimum((low + high) // 2, blocks)
        day, period = np.nonzero(suspect & (high - low > 1)[:, None])
        short = np.zeros_like(suspect)
        short[day, period] = ~opf.served(site.at(period), power_mw[day, middle[day], period])
        bad, split = short.any(axis=1), high - low > 1
        suspect[bad] = short[bad]
        high = np.where(split & bad, middle, high)
        low = np.where(split & ~bad, middle, low)
    return high
