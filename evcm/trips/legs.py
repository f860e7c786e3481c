"""Trips: who drives where, when, and the energy it takes by period (2.2, 2.2.1, equations 1-2).

A car leaves home bus From at its departure period, drives to work bus To, and is back home at its
arrival period. The outbound leg fills periods forward from the departure, the return leg backward
from the arrival; each full period takes speed x hours x specific consumption / efficiency, the last
one the remainder, so that a leg takes exactly distance x consumption / efficiency.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import Checks
from evcm.paper import implements
from evcm.trips import kernels


@dataclass(frozen=True, eq=False)
class Trips:
    """Where vehicles are and what they use. Arrays are (T, V, N) unless said otherwise.

    `travelling` is X, `energy_kwh` is R at the battery, `at_from` and `at_to` are the presence CS
    of equations (1) and (2). `work_first` and `work_last` (V, N, D) are the first and last period
    of each day's visit to To (above T: past the end); `no_visit` says where there is none.
    """

    energy_kwh: NDArray[Any]
    travelling: BoolArray
    at_from: BoolArray
    at_to: BoolArray
    work_first: IntArray
    work_last: IntArray

    @property
    def no_visit(self) -> BoolArray:
        """(V, N, D) whether the two legs leave no period at the destination."""
        return np.asarray(self.work_last < self.work_first)


def drive(
    departure: IntArray,
    arrival: IntArray,
    distance_km: FloatArray,
    consumption_kwh_per_km: FloatArray,
    speed_kmh: FloatArray,
    discharge_efficiency: float | FloatArray,
    dtype: Any = np.float64,
    threads: int = 1,
    period_h: float | None = None,
) -> Trips:
    """Book both legs of every vehicle by period: the adopted form of the pseudo-code (2.2.1).

    Where a slow day makes the legs meet or overlap, both are booked in full (a period then holds
    the energy of two legs) and the vehicle has no visit to its destination that day.

    Departure and arrival are periods (V), (V, N) or (V, N, D), 1-based; 0 on a day without a trip.
    Arrivals above T are past the end, that is, at the beginning. One-way distance and specific
    consumption are (V), the speed (N, T). eta_dsg, a number or (V), is applied once. Without
    `period_h`, days have 24 h. Energy of the `dtype` float32 halves a large fleet; the result does
    not depend on the threads.
    """
    departure, arrival = _by_day(departure), _by_day(arrival)
    speed = np.atleast_2d(speed_kmh)
    efficiency = np.broadcast_to(np.asarray(discharge_efficiency, float), np.shape(distance_km))
    _check_days(departure, arrival, distance_km, consumption_kwh_per_km, speed, efficiency)
    vehicles, samples, days = departure.shape
    periods = speed.shape[1]
    length = 24.0 * days / periods if period_h is None else period_h
    energy = np.zeros((periods, vehicles, samples), dtype=dtype)
    count = np.zeros((periods, vehicles, samples), dtype=np.uint8)
    work_first, work_last = np.empty_like(departure), np.empty_like(departure)
    each_range(
        lambda a, z: kernels.fill_trips(
            a, z, departure, arrival, distance_km, consumption_kwh_per_km / efficiency, speed,
            length, energy, count, work_first, work_last,
        ),
        vehicles, threads,
    )  # fmt: skip
    travelling = np.minimum(count, 1, out=count).view(np.bool_)
    return Trips(
        energy, travelling, at_home(departure, arrival, travelling),
        at_work(work_first, work_last, travelling), work_first, work_last,
    )  # fmt: skip


def _by_day(periods: IntArray) -> IntArray:
    """(V, N, D) from (V), (V, N) or (V, N, D)."""
    periods = np.asarray(periods, dtype=np.int64)
    return np.ascontiguousarray(periods.reshape(*periods.shape, *(1,) * (3 - periods.ndim)))


def _check_days(
    departure: IntArray, arrival: IntArray, distance_km: FloatArray,
    consumption_kwh_per_km: FloatArray, speed: FloatArray, efficiency: FloatArray,
) -> None:  # fmt: skip
    checks = Checks("trips")
    vehicles, samples, _ = departure.shape
    periods = speed.shape[1]
    for name, array, shape in (
        ("arrival", arrival, departure.shape), ("distance_km", distance_km, (vehicles,)),
        ("consumption_kwh_per_km", consumption_kwh_per_km, (vehicles,)),
        ("speed_kmh", speed, (samples, periods)),
    ):  # fmt: skip
        checks.require(np.shape(array) == shape, name, np.shape(array), f"shape {shape}")
    checks.done()
    for name, array in (
        ("distance_km", distance_km), ("consumption_kwh_per_km", consumption_kwh_per_km),
        ("speed_kmh", speed),
    ):  # fmt: skip
        bad = np.asarray(array)[~(np.isfinite(array) & (np.asarray(array) > 0))]
        checks.require(bad.size == 0, name, bad.ravel()[:1], "finite and > 0")
    bad = efficiency[~((efficiency > 0) & (efficiency <= 1))]
    checks.require(not bad.size, "discharge_efficiency", bad[:1], "0 < value <= 1")
    gap = arrival - departure
    fits = (departure >= 1) & (departure <= periods) & (gap >= 1) & (gap < periods)
    fits |= (departure == 0) & (arrival == 0)
    whole = fits.all(axis=(1, 2))
    v = int(np.argmin(whole)) if vehicles else 0
    checks.require(
        bool(fits.all()), f"departure and arrival of vehicle {v}",
        (departure[v : v + 1].tolist(), arrival[v : v + 1].tolist()),
        f"1 <= departure <= {periods} and departure < arrival < departure + {periods}",
    )  # fmt: skip
    checks.done()


@implements("1")
def at_home(departure: IntArray, arrival: IntArray, travelling: BoolArray) -> BoolArray:
    """CS at From (T, V, N): t > arr or t < dep, through midnight, and not on the road.

    Of several days' trips, (V, N, D), none may hold; an arrival after the end (above T) starts the
    stay at the beginning.
    """
    departure, arrival = _by_day(departure), _by_day(arrival)
    periods = travelling.shape[0]
    t = np.arange(1, periods + 1).reshape(-1, 1, 1)
    inside = ~travelling
    for d in range(departure.shape[2]):
        dep, arr = departure[:, :, d], arrival[:, :, d]
        inside &= (t > arr) | ((t < dep) & (t + periods > arr)) | (dep == 0)
    return np.asarray(inside)


@implements("2")
def at_work(work_first: IntArray, work_last: IntArray, travelling: BoolArray) -> BoolArray:
    """CS at To (T, V, N): de <= t <= ai, the periods between the two legs of any day."""
    work_first, work_last = _by_day(work_first), _by_day(work_last)
    periods = travelling.shape[0]
    t = np.arange(1, periods + 1).reshape(-1, 1, 1)
    inside = np.zeros(travelling.shape, dtype=bool)
    for d in range(work_first.shape[2]):
        first, last = work_first[:, :, d], work_last[:, :, d]
        inside |= (t >= first) & (t <= last)
        inside |= (t + periods >= first) & (t + periods <= last)
    inside &= ~travelling
    return np.asarray(inside)


def each_range(work: Callable[[int, int], Any], size: int, threads: int) -> list[Any]:
    """Run ``work(first, end)`` on one range of `size` items per thread; results in order."""
    check_threads(threads)
    cuts = np.linspace(0, size, min(threads, max(size, 1)) + 1).astype(int)
    ranges = list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))
    if len(ranges) == 1:
        return [work(*ranges[0])]
    with ThreadPoolExecutor(len(ranges)) as pool:
        return list(pool.map(lambda r: work(*r), ranges))


def check_threads(threads: int) -> None:
    """Raise `InputError` unless `threads` is a sensible number."""
    checks = Checks("trips")
    checks.require(1 <= threads <= 1024, "threads", threads, "1..1024")
    checks.done()


def leg_as_printed(
    distance_km: float, consumption_kwh_per_km: float, speed_kmh: float, efficiency: float,
    period_h: float = 0.5,
) -> list[float]:  # fmt: skip
    """Energy of a leg by period, kWh, by the pseudo-code to the letter, at one speed.

    Step 4 takes the remainder as ``sv + td - rdt``: a speed where the distance of a period is
    meant. The book shows what that does; nothing else uses it.
    """
    covered, energy = 0.0, []
    while covered <= distance_km:
        covered += speed_kmh * period_h
        if covered <= distance_km:
            energy.append(speed_kmh * consumption_kwh_per_km / efficiency * period_h)
        else:
            rest = speed_kmh + distance_km - covered
            energy.append(rest * consumption_kwh_per_km / efficiency)
    return energy
