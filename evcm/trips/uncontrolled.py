"""Uncontrolled charging: the baseline that coordination is compared with.

Each car recharges a leg's energy at once, at the full power of its charger: at To from the period
after the outbound leg, at From after its arrival. A car cannot charge while it drives, and its
arrival period is the last one that it drives in (equation 1 places it at From while t > arr), so
charging at From starts in the period after it. ``home_start="arrival"`` is the other reading, one
period earlier; energy is the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.inputs.values import Charger
from evcm.trips import kernels
from evcm.trips.cars import Cars
from evcm.trips.fleet import Fleet, chargers
from evcm.trips.montecarlo import one_day

HomeStart = Literal["after_arrival", "arrival"]


@dataclass(frozen=True, eq=False)
class UncontrolledDay:
    """Uncontrolled charging by period, bus with an aggregator (`buses`) and sample.

    `power_mw` (T, K, N) is the mean power drawn from the grid in a period. `unserved_kwh` (N) is
    the energy at the battery that stays too short for a weak charger left out; 0 at 150 kW.
    """

    power_mw: FloatArray = field(repr=False)
    unserved_kwh: FloatArray
    buses: tuple[int, ...]
    period_h: float

    @property
    def mean_mw(self) -> FloatArray:
        """(T, K) power averaged over the samples."""
        return np.asarray(self.power_mw.mean(axis=2))

    @property
    def energy_mwh(self) -> FloatArray:
        """(N) energy drawn from the grid in the horizon."""
        return np.asarray(self.power_mw.sum(axis=(0, 1)) * self.period_h)

    def table(self) -> pd.DataFrame:
        """Mean power, tidy: period (1..T), bus, power_mw."""
        mean = self.mean_mw
        periods, buses = mean.shape
        return pd.DataFrame(
            {
                "period": np.repeat(np.arange(1, periods + 1), buses),
                "bus": np.tile(self.buses, periods),
                "power_mw": mean.ravel(),
            }
        )


def charge_at_once(
    vehicles: Cars | Fleet, charger: Charger | None = None, home_start: HomeStart = "after_arrival"
) -> UncontrolledDay:  # fmt: skip
    """Power by bus when every car recharges at once.

    Vehicles are one sample of single cars (N = 1), or a fleet with its N real-time samples. The
    charger is that of each vehicle's class if left out; the grid gives energy / eta_chg.
    `home_start` is the first period of charging at From. Where a slow day leaves no visit to To,
    both legs are recharged at From.
    """
    checks = Checks("uncontrolled charging")
    checks.require(
        home_start in ("after_arrival", "arrival"), "home_start", home_start,
        "after_arrival, arrival",
    )  # fmt: skip
    checks.done()
    told = vehicles.inputs
    origin = bus_index(vehicles.from_bus, told.buses)
    destination = bus_index(vehicles.to_bus, told.buses)
    shift = 1 if home_start == "after_arrival" else 0
    grid_kw, unserved = power_by_place(
        vehicles, origin, destination, len(told.buses), charger, shift
    )
    power_mw = np.asarray(grid_kw.transpose(2, 1, 0) / 1000.0)
    return UncontrolledDay(power_mw, unserved.sum(axis=1), told.buses, told.period_h)


def power_by_place(
    vehicles: Cars | Fleet, origin: IntArray, destination: IntArray, places: int,
    charger: Charger | None = None, home_shift: int = 1,
) -> tuple[FloatArray, FloatArray]:  # fmt: skip
    """Power in kW (N, places, T) where cars recharge at once, and unserved kWh (N, places) by home.

    `origin` and `destination` (V,) say at which place, from 0, each car is at home and at work,
    buses or terminals of a feeder; -1 for no work.
    """
    told = vehicles.inputs
    if isinstance(vehicles, Fleet):
        departure, arrival, trips = vehicles.departure, vehicles.arrival, vehicles.trips
        weight = vehicles.group_size.astype(float)
    else:
        departure, arrival = vehicles.departure[:, None], vehicles.arrival[:, None]
        trips = one_day(vehicles)
        weight = np.ones(len(vehicles))
    used = charger or chargers(vehicles)
    power = np.broadcast_to(np.asarray(used.power_kw, float), weight.shape)
    efficiency = np.broadcast_to(np.asarray(used.charge_efficiency, float), weight.shape)
    # both legs of every day are alike; a session has one, the energy that it takes
    legs = np.where(destination[:, None] >= 0, 2, 1) * np.maximum((departure > 0).sum(axis=2), 1)
    leg_kwh = trips.energy_kwh.sum(axis=0, dtype=np.float64) / legs  # (V, N)
    samples = departure.shape[1]
    grid_kw = np.zeros((samples, places, told.periods))
    unserved = np.zeros((samples, places))
    per_vehicle = departure, arrival, trips.work_first, trips.work_last, leg_kwh
    for n in range(samples):
        dep, arr, first, last, kwh = (np.ascontiguousarray(x[:, n]) for x in per_vehicle)
        kernels.uncontrolled(
            dep, arr, first, last, origin, destination, kwh, weight, home_shift,
            power, told.period_h, efficiency, grid_kw[n], unserved[n],
        )  # fmt: skip
    return grid_kw, unserved


def bus_index(bus: NDArray[Any], buses: tuple[int, ...]) -> IntArray:
    """Positions of buses in `buses`; -1 for what is none of them."""
    return np.asarray(pd.Index(buses).get_indexer(pd.Index(bus)), dtype=np.int64)
