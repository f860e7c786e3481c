"""When cars are plugged in: their visits to the aggregator's bus, and the periods of these.

A visit is a run of periods in which a car is plugged in; the day is cyclic, so an overnight visit
wraps around midnight. Between aggregators stands a hand-over contract: a car leaves every visit
with at least the departure charge S_dep, and so it arrives with S_dep less the energy of the leg
that it has just driven.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from evcm import compiled as nb
from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.paper import implements

Int32Array = NDArray[np.int32]


class Visits(NamedTuple):
    """All visits of an aggregator's cars, one entry each, ordered by car, sample and start.

    `start` is the first period (0-based), the last is ``(start + length - 1) % T``.
    `arrival_soc_kwh` is the state of charge before the first period. A car that is always plugged
    in has ``start = 0``, ``length = T`` and NaN: before period 0 it has its charge after the last.
    """

    vehicle: Int32Array
    sample: Int32Array
    start: Int32Array
    length: Int32Array
    arrival_soc_kwh: FloatArray

    @property
    def always_plugged(self) -> BoolArray:
        """Which visits never begin or end."""
        return np.isnan(self.arrival_soc_kwh)


@nb.njit(cache=True)
def _fill(
    available: BoolArray, travelling: BoolArray, energy: FloatArray, departure: FloatArray,
    found: Visits,
) -> None:  # fmt: skip
    """All visits; each arrives with the departure charge less the leg that ends where it starts."""
    vehicle, sample, start, length, arrival = found
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
    """Visits of every car in every sample, from arrays (T, V, N) and S_dep of each car (V,).

    The power B2R that (13) draws from the battery while a car drives (15) enters here: the leg's
    energy is what a car lacks when its next visit begins.
    """
    begun = (np.count_nonzero(now & ~available[t - 1]) for t, now in enumerate(available))
    total = sum(begun) + np.count_nonzero(available.all(axis=0))
    vehicle, sample, start, length = (np.empty(total, np.int32) for _ in range(4))
    found = Visits(vehicle, sample, start, length, np.empty(total))
    departure = np.array(np.broadcast_to(departure_kwh, available.shape[1]), float)
    _fill(available, travelling, trip_energy_kwh, departure, found)
    return found


@dataclass(frozen=True, eq=False)
class Plugged:
    """The K triples (period, vehicle, sample) in which a car is plugged in, as flat indices.

    Attributes
    ----------
    period, vehicle, sample : (K,)
        Indices of each triple.
    previous : (K, K) sparse
        Takes a vector over triples to the value one period before in the same visit.
    arrival_soc_kwh : (K,)
        Charge before the first period of a visit, 0 elsewhere.
    ends : (K,) bool
        Last period of a visit.
    total : (T N, K) sparse
        Sum over the cars of each (period, sample), kW per car to MW.
    """

    period: IntArray
    vehicle: IntArray
    sample: IntArray
    previous: sp.csr_array
    arrival_soc_kwh: FloatArray
    ends: BoolArray
    total: sp.csr_array

    @property
    def size(self) -> int:
        """K."""
        return int(self.period.size)


def list_plugged(available: BoolArray, visits: Visits, group_size: FloatArray) -> Plugged:
    """Index the plugged-in triples, by period, vehicle and sample."""
    period, vehicle, sample = np.nonzero(available)
    size, (T, _, N) = period.size, available.shape
    position = np.empty(available.shape, int)
    position[period, vehicle, sample] = np.arange(size)
    begins = ~visits.always_plugged
    first = position[visits.start[begins], visits.vehicle[begins], visits.sample[begins]]
    arrival, inside = np.zeros(size), np.ones(size, bool)
    arrival[first], inside[first] = visits.arrival_soc_kwh[begins], False
    rows = np.flatnonzero(inside)
    before = position[period[rows] - 1, vehicle[rows], sample[rows]]
    weight, cell = group_size[vehicle] / 1000.0, period * N + sample
    return Plugged(
        period,
        vehicle,
        sample,
        previous=sp.csr_array((np.ones(rows.size), (rows, before)), shape=(size, size)),
        arrival_soc_kwh=arrival,
        ends=~available[(period + 1) % T, vehicle, sample],
        total=sp.csr_array((weight, (cell, np.arange(size))), shape=(T * N, size)),
    )
