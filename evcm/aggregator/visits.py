"""Visits of cars to the aggregator's bus, and the charge with which each begins.

A visit is a run of periods in which a car is plugged in; the day is cyclic, so an overnight visit
wraps around midnight. Between aggregators stands a hand-over contract: a car leaves every visit
with at least the departure charge S_dep, and so it arrives with S_dep less the energy of the leg
that it has just driven.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evcm import compiled as nb
from evcm.arrays import BoolArray, FloatArray
from evcm.paper import implements

Int32Array = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Visits:
    """All visits of an aggregator's cars, as flat arrays with one entry per visit.

    Visits are ordered by car, then sample, then start.

    Attributes
    ----------
    vehicle, sample : int32 arrays
        Whose visit it is, and in which sample.
    start, length : int32 arrays
        First period (0-based) and number of periods; the last period is
        ``(start + length - 1) % T``. A car that is always plugged in has ``start = 0`` and
        ``length = T``.
    arrival_soc_kwh : float64 array
        State of charge before the first period; NaN for a car that is always plugged in, whose
        charge before period 0 is its charge after period T-1.
    """

    vehicle: Int32Array
    sample: Int32Array
    start: Int32Array
    length: Int32Array
    arrival_soc_kwh: FloatArray

    def __len__(self) -> int:
        return int(self.vehicle.size)

    @property
    def always_plugged(self) -> BoolArray:
        """Which visits never begin or end."""
        return np.isnan(self.arrival_soc_kwh)


@nb.njit(cache=True)
def _fill(
    available: BoolArray, travelling: BoolArray, energy: FloatArray, departure: FloatArray,
    vehicle: Int32Array, sample: Int32Array, start: Int32Array, length: Int32Array,
    arrival: FloatArray,
) -> None:  # fmt: skip
    """All visits; each arrives with the departure charge less the leg that ends where it starts."""
    periods, vehicles, samples = available.shape
    i = 0
    for v in range(vehicles):
        for n in range(samples):
            before = i
            for t in range(periods):
                if not available[t, v, n] or available[t - 1, v, n]:
                    continue
                run, driven = 1, 0.0
                while available[(t + run) % periods, v, n]:
                    run += 1
                for back in range(1, periods + 1):
                    if not travelling[t - back, v, n]:
                        break
                    driven += energy[t - back, v, n]
                vehicle[i], sample[i], start[i], length[i] = v, n, t, run
                arrival[i] = departure[v] - driven
                i += 1
            if i == before and available[0, v, n]:
                vehicle[i], sample[i], start[i], length[i] = v, n, 0, periods
                arrival[i] = np.nan
                i += 1


@implements("13", "15")
def find_visits(
    available: BoolArray,
    travelling: BoolArray,
    trip_energy_kwh: FloatArray,
    departure_kwh: float | FloatArray,
) -> Visits:
    """Visits of every car in every sample.

    The power B2R that (13) draws from the battery while a car drives (15) enters here: the leg's
    energy is what a car lacks when its next visit begins.

    Parameters
    ----------
    available, travelling : (T, V, N) bool
        Plugged in at the bus; driving.
    trip_energy_kwh : (T, V, N)
        Energy driven in each period, at the battery.
    departure_kwh : float or (V,)
        The hand-over contract S_dep of each car.
    """
    begun = (np.count_nonzero(now & ~available[t - 1]) for t, now in enumerate(available))
    total = sum(begun) + np.count_nonzero(available.all(axis=0))
    vehicle, sample, start, length = (np.empty(total, np.int32) for _ in range(4))
    arrival = np.empty(total)
    departure = np.array(np.broadcast_to(departure_kwh, available.shape[1]), float)
    _fill(
        available, travelling, trip_energy_kwh, departure,
        vehicle, sample, start, length, arrival,
    )  # fmt: skip
    return Visits(vehicle, sample, start, length, arrival)
