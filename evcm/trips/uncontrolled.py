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

from evcm import inputs
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.inputs import LOAD_BUSES, PERIOD_H, PERIODS, Charger
from evcm.trips import kernels
from evcm.trips.cars import Cars
from evcm.trips.fleet import Fleet
from evcm.trips.legs import Trips, drive

HomeStart = Literal["after_arrival", "arrival"]


@dataclass(frozen=True, eq=False)
class UncontrolledDay:
    """Uncontrolled charging by period, load bus (order of `LOAD_BUSES`) and day.

    `power_mw` (T, K, N) is the mean power drawn from the grid in a period. `unserved_kwh` (N) is
    the energy at the battery that stays too short for a weak charger left out; 0 at 150 kW.
    """

    power_mw: FloatArray = field(repr=False)
    unserved_kwh: FloatArray

    @property
    def mean_mw(self) -> FloatArray:
        """(T, K) power averaged over the days."""
        return np.asarray(self.power_mw.mean(axis=2))

    @property
    def energy_mwh(self) -> FloatArray:
        """(N) energy drawn from the grid in a day."""
        return np.asarray(self.power_mw.sum(axis=(0, 1)) * PERIOD_H)

    def table(self) -> pd.DataFrame:
        """Mean power, tidy: period (1..48), bus, power_mw."""
        mean = self.mean_mw
        return pd.DataFrame(
            {
                "period": np.repeat(np.arange(1, PERIODS + 1), len(LOAD_BUSES)),
                "bus": np.tile(LOAD_BUSES, PERIODS),
                "power_mw": mean.ravel(),
            }
        )


def charge_at_once(
    vehicles: Cars | Fleet, charger: Charger | None = None, home_start: HomeStart = "after_arrival"
) -> UncontrolledDay:
    """Power by bus when every car recharges at once.

    Parameters
    ----------
    vehicles
        One day of single cars (N = 1), or a fleet with its N real-time days.
    charger : Charger, optional
        The paper's if left out. Its charge efficiency applies: the grid gives energy / eta_chg.
    home_start : {"after_arrival", "arrival"}
        First period of charging at From.

    Returns
    -------
    UncontrolledDay
        Where a slow day leaves no visit to To, both legs are recharged at From.
    """
    checks = Checks("uncontrolled charging")
    checks.require(
        home_start in ("after_arrival", "arrival"), "home_start", home_start,
        "after_arrival, arrival",
    )  # fmt: skip
    checks.done()
    charger = charger or inputs.charger()
    if isinstance(vehicles, Fleet):
        departure, arrival, trips = vehicles.departure, vehicles.arrival, vehicles.trips
        weight = vehicles.group_size.astype(float)
    else:
        departure, arrival = vehicles.departure[:, None], vehicles.arrival[:, None]
        trips = one_day(vehicles, charger)
        weight = np.ones(len(vehicles))
    leg_kwh = trips.energy_kwh.sum(axis=0, dtype=np.float64) / 2  # (V, N), both legs are equal
    origin, destination = bus_index(vehicles.from_bus), bus_index(vehicles.to_bus)
    days = departure.shape[1]
    grid_kw = np.zeros((days, len(LOAD_BUSES), PERIODS))
    unserved = np.zeros(days)
    for n in range(days):
        unserved[n] = kernels.uncontrolled(
            departure[:, n], arrival[:, n], trips.work_first[:, n], trips.work_last[:, n], origin,
            destination, leg_kwh[:, n], weight, 1 if home_start == "after_arrival" else 0,
            charger.power_kw, PERIOD_H, charger.charge_efficiency, grid_kw[n],
        )  # fmt: skip
    return UncontrolledDay(np.asarray(grid_kw.transpose(2, 1, 0) / 1000.0), unserved)


def one_day(cars: Cars, charger: Charger | None = None) -> Trips:
    """Trips (T, V, 1) of one day's cars at that day's speeds."""
    efficiency = (charger or inputs.charger()).discharge_efficiency
    return drive(
        cars.departure, cars.arrival, cars.distance_km, cars.consumption_kwh_per_km,
        cars.speed_kmh, efficiency,
    )  # fmt: skip


def bus_index(bus: NDArray[Any]) -> IntArray:
    """Positions of buses in `LOAD_BUSES`."""
    return np.searchsorted(np.array(LOAD_BUSES), bus).astype(np.int64)
