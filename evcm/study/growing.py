"""Days of uncontrolled charging that grow car by car, and the count at which power runs short."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from evcm.arrays import FloatArray, IntArray
from evcm.inputs.study import Inputs
from evcm.inputs.values import Charger, Scenario, TripLaw
from evcm.network import opf
from evcm.network.case import Day
from evcm.trips import cars, uncontrolled
from evcm.trips.cars import Cars

DRAW = 100
"""Scenario number that keys the draws of hosting days, apart from those of the scenarios."""


def drawn_day(
    most: int, day: int, seed: int = 1, law: TripLaw | None = None, inputs: Inputs | None = None
) -> Cars:
    """One day of `most` cars under a trip law; the inputs' own, and the paper's, if left out."""
    scenario = Scenario(number=DRAW, cars=most, samples=day + 1)
    return cars.draw_cars(scenario, law, seed, day, inputs)


def first_cars(day: Cars, start: int, stop: int) -> Cars:
    """Cars start..stop-1 of a day."""
    vectors: dict[str, Any] = {
        name: value[start:stop]
        for name, value in vars(day).items()
        if isinstance(value, np.ndarray) and name != "speed_kmh"
    }
    return replace(day, **vectors)


def growing_fleet_mw(day: Cars, block: int, charger: Charger) -> tuple[FloatArray, FloatArray]:
    """Uncontrolled power (B + 1, T, K) of the first 0, block, 2 block .. cars, and unserved kWh."""
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
