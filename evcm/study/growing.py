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
    blocks = len(day) // block
    told, unserved = day.inputs, np.zeros(blocks + 1)
    power = np.zeros((blocks + 1, told.periods, len(told.buses)))
    for b in range(blocks):
        part = uncontrolled.charge_at_once(first_cars(day, b * block, (b + 1) * block), charger)
        power[b + 1], unserved[b + 1] = part.power_mw[:, :, 0], part.unserved_kwh[0]
    return power.cumsum(axis=0), unserved.cumsum()


def first_shortage(site: Day, power_mw: FloatArray) -> IntArray:
    """First block at which each day lacks power (D,), by bisection; B + 1 where none does.

    `power_mw` is (D, B + 1, T, K). More cars never draw less, so bisection finds the first.
    """
    days, blocks, periods = power_mw.shape[0], power_mw.shape[1] - 1, power_mw.shape[2]
    wide = site.repeated(days)

    def short(block: IntArray) -> np.ndarray:
        flat = power_mw[np.arange(days), block].reshape(days * periods, -1)
        every = opf.served(wide, flat).reshape(days, periods).all(axis=1)
        return np.logical_not(every)

    low, high = np.zeros(days, np.int64), np.full(days, blocks + 1, np.int64)
    while (high - low > 1).any():
        middle = np.minimum((low + high) // 2, blocks)
        bad = short(middle)
        split = high - low > 1
        high = np.where(split & bad, middle, high)
        low = np.where(split & ~bad, middle, low)
    return high
