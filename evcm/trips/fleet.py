"""Fleets: from a Monte Carlo sample to the problems of its aggregators (2.2.2, 2.3).

Of the extreme sample, From, To, distance, specific consumption, storage cost and degradation slope
stay. Departures, arrivals and speeds are drawn again for each of the N real-time samples. Cars of
one directed edge can be put into groups that share one schedule.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evcm import inputs
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.inputs import LOAD_BUSES, TripLaw, check_bus
from evcm.trips import kernels
from evcm.trips.cars import (
    Cars,
    check_draw,
    edge_distance_km,
    law_numbers,
    no_day,
    roads,
    speed_law,
)
from evcm.trips.legs import Trips, drive, each_range
from evcm.trips.montecarlo import GroupedDraw, MonteCarlo, Side


@dataclass(frozen=True, eq=False)
class Fleet:
    """Vehicles (single cars or groups) with N real-time days each.

    Vectors are (V), `departure` and `arrival` (V, N), `speed_kmh` (N, T), arrays in `trips`
    (T, V, N). `group_size` cars share one schedule; consumption is their mean, so that energy is
    exact, and slope x storage cost is the mean of their products, so that wear is exact.
    """

    group_size: IntArray
    from_bus: IntArray
    to_bus: IntArray
    distance_km: FloatArray
    consumption_kwh_per_km: FloatArray
    storage_cost_usd_per_kwh: FloatArray
    slope: FloatArray
    departure: IntArray
    arrival: IntArray
    speed_kmh: FloatArray
    trips: Trips
    probability: FloatArray
    name: str = ""

    def __len__(self) -> int:
        return int(self.group_size.size)

    @property
    def cars(self) -> int:
        """Cars in all groups."""
        return int(self.group_size.sum())


def group_cars(cars: Cars, cars_per_group: int) -> tuple[Cars, IntArray]:
    """Merge cars of one directed edge, sorted by consumption, into near-equal groups.

    Each edge gets as many groups as make their mean size closest to `cars_per_group`, at least one;
    sizes on an edge differ by one car at most. Departure and arrival of the result are those of a
    group's first car: real-time days are drawn for groups as for cars.

    Returns
    -------
    (Cars, (V) int array)
        One entry per group, and how many cars it stands for.
    """
    checks = Checks("groups")
    checks.require(cars_per_group >= 1, "cars_per_group", cars_per_group, ">= 1")
    checks.done()
    if cars_per_group == 1:
        return cars, np.ones(len(cars), dtype=np.int64)
    order = np.lexsort((cars.consumption_kwh_per_km, cars.to_bus, cars.from_bus))
    edge = cars.from_bus[order] * 1000 + cars.to_bus[order]
    runs = np.split(order, np.flatnonzero(np.diff(edge)) + 1)
    members = [
        part
        for run in runs
        for part in np.array_split(run, max(1, round(run.size / cars_per_group)))
    ]
    size = np.array([m.size for m in members], dtype=np.int64)
    first = np.array([m[0] for m in members])
    start = np.concatenate([[0], np.cumsum(size)[:-1]])
    together = np.concatenate(members)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(values[together], start) / size)

    cost = mean(cars.storage_cost_usd_per_kwh)
    wear = mean(cars.storage_cost_usd_per_kwh * cars.slope)
    return Cars(
        cars.from_bus[first], cars.to_bus[first], cars.distance_km[first],
        mean(cars.consumption_kwh_per_km), cars.departure[first], cars.arrival[first], cost,
        wear / cost, cars.speed_kmh,
    ), size  # fmt: skip


def build_fleet(
    result: MonteCarlo,
    side: Side,
    cars_per_group: int | None = None,
    samples: int | None = None,
    threads: int = 1,
) -> Fleet:
    """Fleet of s_min or s_max with its real-time days.

    Parameters
    ----------
    result : MonteCarlo
    side : {"min", "max"}
    cars_per_group : int, optional
        The scenario's if left out; 1 models single cars.
    samples : int, optional
        Real-time samples N, each with probability 1/N; the scenario's if left out.
    threads : int
        The result does not depend on it.
    """
    scenario = result.scenario
    grouped, size = group_cars(
        result.cars(side), scenario.cars_per_group if cars_per_group is None else cars_per_group
    )
    return real_time_fleet(
        grouped, size, result.law, (result.seed, scenario.number, result.sample(side)),
        scenario.real_time_samples if samples is None else samples, threads=threads,
        name=f"scenario {scenario.number} {side}",
    )  # fmt: skip


def weighted_fleet(draw: GroupedDraw, side: Side, samples: int | None = None) -> Fleet:
    """Fleet of a draw in weighted groups (13 and 7 cars), the way that the published runs did."""
    scenario = draw.scenario
    cars, size = draw.cars(side)
    return real_time_fleet(
        cars, size, draw.law, (draw.seed, scenario.number, draw.sample(side)),
        scenario.real_time_samples if samples is None else samples,
        name=f"scenario {scenario.number} {side}, weighted groups",
    )  # fmt: skip


def real_time_fleet(
    cars: Cars,
    group_size: IntArray,
    law: TripLaw,
    keys: tuple[int, int, int],
    samples: int,
    dtype: Any = np.float64,
    threads: int = 1,
    name: str = "",
) -> Fleet:
    """Draw departures, arrivals and speeds of N real-time samples for given cars or groups.

    `keys` are (seed, scenario number, Monte Carlo sample): vehicle v's day n depends on them and on
    (v, n) alone.

    Raises
    ------
    InputError
        A number is out of range, or the law admits no day.
    """
    check_draw(law, keys[0], keys[2])
    checks = Checks("real-time samples")
    checks.require(samples >= 1, "samples", samples, ">= 1")
    checks.require(len(cars) >= 1, "cars", len(cars), ">= 1")
    checks.done()
    departure, arrival = (np.empty((len(cars), samples), dtype=np.int64) for _ in range(2))
    speed = np.empty((samples, inputs.PERIODS))
    numbers, speeds = law_numbers(law), speed_law(law)
    failed = each_range(
        lambda a, z: kernels.draw_real_time(
            *keys, a, z, numbers, *speeds, departure, arrival, speed
        ),
        len(cars), threads,
    )  # fmt: skip
    if sum(failed):
        raise no_day(law, sum(failed))
    trips = drive(
        departure, arrival, cars.distance_km, cars.consumption_kwh_per_km, speed, dtype=dtype,
        threads=threads,
    )  # fmt: skip
    return Fleet(
        group_size, cars.from_bus, cars.to_bus, cars.distance_km, cars.consumption_kwh_per_km,
        cars.storage_cost_usd_per_kwh, cars.slope, departure, arrival, speed, trips,
        np.full(samples, 1.0 / samples), name,
    )  # fmt: skip


def single_bus_fleet(
    cars: int,
    bus: int,
    seed: int,
    samples: int = 10,
    law: TripLaw | None = None,
    threads: int = 1,
) -> Fleet:
    """Single cars that all live or work at one bus, in memory-lean form (float32 energy).

    Edges are drawn as the network law has them: an edge that leaves `bus` with weight one over the
    number of neighbours of `bus`, one that reaches it with one over the number of its origin's.
    """
    check_bus(bus)
    law = law or inputs.trip_law()
    check_draw(law, seed)
    checks = Checks("single-bus fleet")
    checks.require(1 <= cars <= 10_000_000, "cars", cars, "1..10,000,000")
    checks.done()
    net, wear, place = roads(), inputs.wear_law(), LOAD_BUSES.index(bus)
    edges = np.flatnonzero((net.from_index == place) | (net.to_index == place))
    weight = 1.0 / np.diff(net.first)[net.from_index[edges]]
    key = kernels.stream(seed, bus, cars, kernels.BUS_FLEET)
    draw = np.random.Generator(np.random.Philox(key=[int(key), kernels.BUS_FLEET]))
    edge = draw.choice(edges, size=cars, p=weight / weight.sum())
    cost = np.clip(
        draw.normal(wear.storage_cost_mean_usd_per_kwh, wear.storage_cost_sd_usd_per_kwh, cars),
        *wear.storage_cost_range_usd_per_kwh,
    )
    consumption = draw.uniform(*law.consumption_kwh_per_km, cars)
    buses, nothing = np.array(LOAD_BUSES), np.zeros(cars, dtype=np.int64)
    drawn = Cars(
        buses[net.from_index[edge]], buses[net.to_index[edge]], edge_distance_km(law)[edge],
        consumption, nothing, nothing, cost, wear.slope(cost), np.zeros(inputs.PERIODS),
    )  # fmt: skip
    return real_time_fleet(
        drawn, np.ones(cars, dtype=np.int64), law, (seed, bus, cars), samples, np.float32, threads,
        name=f"bus {bus}, {cars} cars",
    )  # fmt: skip
