"""Cars of one day: where they live and work, when they leave and return, what they use (2.2).

From is uniform over the load buses, To uniform over From's neighbours in the branch list. Departure
and arrival are normal in half-hour periods, rounded to the nearest period and then clamped; they
are drawn again together while they are too close. Every draw is keyed by (seed, scenario, sample,
purpose, car), never by thread.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks, Fault, InputError
from evcm.inputs import LOAD_BUSES, PERIOD_H, PERIODS, Scenario, TripLaw, WearLaw, wear_law
from evcm.trips import kernels


@dataclass(frozen=True, eq=False)
class Roads:
    """Directed edges between load buses that one trip can take, sorted by From, then To.

    `from_index` and `to_index` (E) count into `LOAD_BUSES`; edges first[k]..first[k+1]-1 leave bus
    k; `length_km` (E) is the length of the line.
    """

    from_index: IntArray
    to_index: IntArray
    length_km: FloatArray
    first: IntArray

    def __len__(self) -> int:
        return int(self.from_index.size)


@cache
def roads() -> Roads:
    """Neighbours of each load bus in the branch list, both ways."""
    table = data.read_table("trips/branch_lengths.csv")
    place = {bus: k for k, bus in enumerate(LOAD_BUSES)}
    both_ways = sorted(
        (place[int(a)], place[int(b)], float(km))
        for x, y, km in table[["from_bus", "to_bus", "length_km"]].itertuples(index=False)
        for a, b in ((x, y), (y, x))
    )
    origin = np.array([e[0] for e in both_ways], dtype=np.int64)
    first = np.searchsorted(origin, np.arange(len(LOAD_BUSES) + 1)).astype(np.int64)
    lonely = [bus for bus, k in place.items() if first[k] == first[k + 1]]
    if lonely:
        raise InputError("branch lengths", [Fault(f"bus {b}", 0, ">= 1 branch") for b in lonely])
    return Roads(
        origin,
        np.array([e[1] for e in both_ways], dtype=np.int64),
        np.array([e[2] for e in both_ways]),
        first,
    )


@dataclass(frozen=True, eq=False)
class Cars:
    """The cars of one day, drawn in full. Arrays are (V); `speed_kmh` is (T).

    Arrival periods above 48 are on the next day. `slope` is the degradation slope m_v.
    """

    from_bus: IntArray
    to_bus: IntArray
    distance_km: FloatArray
    consumption_kwh_per_km: FloatArray
    departure: IntArray
    arrival: IntArray
    storage_cost_usd_per_kwh: FloatArray
    slope: FloatArray
    speed_kmh: FloatArray

    def __len__(self) -> int:
        return int(self.from_bus.size)


def law_numbers(law: TripLaw) -> kernels.LawNumbers:
    """The scalars of a law for the kernels."""
    low, high = law.arrival_range_period
    return kernels.LawNumbers(
        float(law.departure_mean_period), float(law.departure_sd_period),
        int(law.departure_latest_period), float(law.arrival_mean_period),
        float(law.arrival_sd_period), int(low), int(high), int(law.minimum_separation_periods),
        *map(float, law.consumption_kwh_per_km), *map(float, law.speed_range_kmh),
    )  # fmt: skip


def speed_law(law: TripLaw) -> tuple[FloatArray, FloatArray]:
    """Mean and standard deviation of the speed by period, km/h, each (T)."""
    mean, sd = np.zeros(PERIODS), np.zeros(PERIODS)
    for band in law.speed_bands:
        for first, last in band.periods:
            mean[first - 1 : last], sd[first - 1 : last] = band.mean_kmh, band.sd_kmh
    return mean, sd


def edge_distance_km(law: TripLaw) -> FloatArray:
    """One-way trip distance of each directed edge of `roads`, km."""
    return np.asarray(law.distance_share * roads().length_km)


def check_draw(law: TripLaw, seed: int, sample: int = 0) -> None:
    """Check what every draw needs: a seed, a sample number and a law that leaves room for a day.

    Raises
    ------
    InputError
        A number is out of range, or the longest leg at the lowest speed lasts over half a day.
    """
    checks = Checks("trips")
    checks.require(0 <= seed < 2**63, "seed", seed, "0..2**63-1")
    checks.require(sample >= 0, "sample", sample, ">= 0")
    longest = float(edge_distance_km(law).max())
    slowest = law.speed_range_kmh[0]
    checks.require(
        longest <= slowest * PERIOD_H * PERIODS / 2, "distance_share", law.distance_share,
        f"a longest leg ({longest:.4g} km) of at most 12 h at the lowest speed ({slowest:g} km/h)",
    )  # fmt: skip
    checks.done()


def no_day(law: TripLaw, count: int) -> InputError:
    """Error for a law whose departure and arrival never fall far enough apart."""
    allowed = "a law under which departure and arrival can be so far apart, by day and by night"
    found = f"{law.minimum_separation_periods} ({count} cars without a day)"
    return InputError(f"trip law {law.name}", [Fault("minimum_separation_periods", found, allowed)])


def draw_cars(
    scenario: Scenario, law: TripLaw, seed: int, sample: int, wear: WearLaw | None = None
) -> Cars:
    """Draw the cars of one Monte Carlo sample, the very cars that the simulation counted.

    Parameters
    ----------
    scenario, law, seed, sample
        The keys of the draw; `sample` counts from 0.
    wear : WearLaw, optional
        Law of the storage cost; the paper's if left out.

    Returns
    -------
    Cars

    Raises
    ------
    InputError
        A key is out of range, or the law admits no day.
    """
    check_draw(law, seed, sample)
    wear = wear or wear_law()
    net, size = roads(), scenario.cars
    origin, edge, departure, arrival = (np.empty(size, dtype=np.int64) for _ in range(4))
    consumption, cost = np.empty(size), np.empty(size)
    failed = kernels.draw_cars(
        seed, scenario.number, sample, law_numbers(law), net.first,
        wear.storage_cost_mean_usd_per_kwh, wear.storage_cost_sd_usd_per_kwh,
        *wear.storage_cost_range_usd_per_kwh, origin, edge, consumption, departure, arrival, cost,
    )  # fmt: skip
    if failed:
        raise no_day(law, failed)
    buses = np.array(LOAD_BUSES)
    return Cars(
        buses[origin], buses[net.to_index[edge]], edge_distance_km(law)[edge], consumption,
        departure, arrival, cost, wear.slope(cost),
        draw_speeds(law, kernels.stream(seed, scenario.number, sample, kernels.SPEED)),
    )  # fmt: skip


def draw_speeds(law: TripLaw, key: np.uint64) -> FloatArray:
    """Speed by period (T), km/h, of one stream: one draw per period, clamped."""
    speed = np.empty(PERIODS)
    kernels.draw_speeds(np.uint64(key), *speed_law(law), *law.speed_range_kmh, speed)
    return speed
