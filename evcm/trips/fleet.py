"""Fleets: from a Monte Carlo sample to the problems of its aggregators (2.2.2, 2.3).

Of the extreme sample, From, To, distance, specific consumption, storage cost and degradation slope
stay. Departures, arrivals and speeds are drawn again for each of the N real-time samples. Cars of
one directed edge can be put into groups that share one schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import Checks
from evcm.inputs.study import Inputs
from evcm.inputs.values import Battery, CarList, Charger, Sessions, TripLaw
from evcm.trips import kernels
from evcm.trips.cars import (
    Cars,
    check_draw,
    draw_speeds,
    edge_distance_km,
    efficiencies,
    law_numbers,
    listed_days,
    no_day,
    roads,
)
from evcm.trips.legs import Trips, drive, each_range
from evcm.trips.montecarlo import GroupedDraw, MonteCarlo, Side


@dataclass(frozen=True, eq=False)
class Fleet:
    """Vehicles (single cars or groups) with N real-time samples of the horizon each.

    Vectors are (V), `departure` and `arrival` (V, N, D), `speed_kmh` (N, T), arrays in `trips`
    (T, V, N). `group_size` cars share one schedule; consumption is their mean, so that energy is
    exact, and slope x storage cost is the mean of their products, so that wear is exact.
    `vehicle_class` counts into `inputs.vehicles`; `battery_kwh` and `charger_kw` (V), where given,
    stand in for the class's where they are numbers. A session has no To: its bus is -1.
    """

    group_size: IntArray
    from_bus: IntArray
    to_bus: IntArray
    distance_km: FloatArray
    consumption_kwh_per_km: FloatArray
    storage_cost_usd_per_kwh: FloatArray
    slope: FloatArray
    vehicle_class: IntArray
    departure: IntArray
    arrival: IntArray
    speed_kmh: FloatArray
    trips: Trips
    probability: FloatArray
    inputs: Inputs = field(repr=False)
    name: str = ""
    battery_kwh: FloatArray | None = field(default=None, repr=False)
    charger_kw: FloatArray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return int(self.group_size.size)

    @property
    def cars(self) -> int:
        """Cars in all groups."""
        return int(self.group_size.sum())


def _by_class(inputs: Inputs, part: str, figure: str, kind: IntArray) -> Any:
    """A figure of battery or charger of vehicles: one number where all classes agree, else (V)."""
    values = [getattr(getattr(c, part), figure) for c in inputs.vehicles]
    return values[0] if len(set(values)) == 1 else np.array(values, dtype=float)[kind]


def batteries(fleet: Fleet, mine: IntArray | slice = slice(None)) -> Battery:
    """Batteries of the vehicles `mine`; a vehicle's own capacity scales its class's limits."""
    names = "capacity_kwh", "soc_min_kwh", "soc_max_kwh", "departure_soc_kwh"
    kind = fleet.vehicle_class[mine]
    figures = [_by_class(fleet.inputs, "battery", name, kind) for name in names]
    if fleet.battery_kwh is not None:
        own = fleet.battery_kwh[mine]
        scale = np.where(np.isnan(own), 1.0, own / figures[0])
        figures = [figure * scale for figure in figures]
    return Battery(*figures)


def chargers(vehicles: Cars | Fleet, mine: IntArray | slice = slice(None)) -> Charger:
    """Chargers of the vehicles `mine`."""
    names = "power_kw", "charge_efficiency", "discharge_efficiency"
    kind = vehicles.vehicle_class[mine]
    figures = [_by_class(vehicles.inputs, "charger", name, kind) for name in names]
    own = vehicles.charger_kw if isinstance(vehicles, Fleet) else None
    if own is not None:
        figures[0] = np.where(np.isnan(own[mine]), figures[0], own[mine])
    return Charger(*figures)


def feeds_in(fleet: Fleet, mine: IntArray | slice = slice(None)) -> BoolArray | None:
    """Which of the vehicles `mine` may feed in; None where all may."""
    may = np.array([c.feeds_in for c in fleet.inputs.vehicles])
    return None if may.all() else np.asarray(may[fleet.vehicle_class[mine]])


def group_cars(cars: Cars, cars_per_group: int) -> tuple[Cars, IntArray]:
    """Merge cars of one edge and class, sorted by consumption, into near-equal groups.

    Each gets as many groups as make their mean size closest to `cars_per_group`, at least one;
    their sizes differ by one car at most. Departure and arrival of the result are those of a
    group's first car: real-time days are drawn for groups as for cars. Returned are `Cars` with one
    entry per group, and how many cars each stands for (V).
    """
    checks = Checks("groups")
    checks.require(cars_per_group >= 1, "cars_per_group", cars_per_group, ">= 1")
    checks.done()
    if cars_per_group == 1:
        return cars, np.ones(len(cars), dtype=np.int64)
    rows = () if cars.list_row is None else (cars.list_row,)
    alike = (*rows, cars.to_bus, cars.from_bus, cars.vehicle_class)
    order = np.lexsort((cars.consumption_kwh_per_km, *alike))
    other = np.any([np.diff(values[order]) != 0 for values in alike], axis=0)
    runs = np.split(order, np.flatnonzero(other) + 1)
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
        np.divide(wear, cost, out=np.zeros_like(cost), where=cost > 0), cars.vehicle_class[first],
        cars.speed_kmh, cars.inputs, None if cars.list_row is None else cars.list_row[first],
    ), size  # fmt: skip


def build_fleet(
    result: MonteCarlo,
    side: Side,
    cars_per_group: int | None = None,
    samples: int | None = None,
    threads: int = 1,
) -> Fleet:
    """Fleet of s_min or s_max with its real-time days.

    Cars per group (1 models single cars) and real-time samples N, each with probability 1/N, are
    the scenario's if left out. The result does not depend on the threads.
    """
    scenario, told = result.scenario, result.inputs
    if isinstance(told.cars, Sessions):
        return session_fleet(told.cars, told)
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
    law: TripLaw | None,
    keys: tuple[int, int, int],
    samples: int,
    dtype: Any = np.float64,
    threads: int = 1,
    name: str = "",
) -> Fleet:
    """Draw departures, arrivals and speeds of N real-time samples for given cars or groups.

    `keys` are (seed, scenario number, Monte Carlo sample): vehicle v's sample n depends on them and
    on (v, n) alone. Listed cars keep their hours but for the standard deviations that they have.

    Raises
    ------
    InputError
        A number is out of range, or the law admits no day.
    """
    told = cars.inputs
    law = law or told.law()
    check_draw(told, law, keys[0], keys[2])
    checks = Checks("real-time samples")
    checks.require(samples >= 1, "samples", samples, ">= 1")
    checks.require(len(cars) >= 1, "cars", len(cars), ">= 1")
    checks.done()
    shape = (len(cars), samples, told.clock.days)
    departure, arrival = (np.empty(shape, dtype=np.int64) for _ in range(2))
    speed = np.empty((samples, told.periods))
    numbers = law_numbers(told, law)
    if isinstance(told.cars, CarList):
        _listed_samples(told.cars, cars, law, keys, numbers, departure, arrival, speed)
    else:
        failed = each_range(
            lambda a, z: kernels.draw_real_time(*keys, a, z, numbers, departure, arrival, speed),
            len(cars), threads,
        )  # fmt: skip
        if sum(failed):
            raise no_day(law, sum(failed))
    trips = drive(
        departure, arrival, cars.distance_km, cars.consumption_kwh_per_km, speed,
        efficiencies(told)[cars.vehicle_class], dtype, threads, told.period_h,
    )  # fmt: skip
    return Fleet(
        group_size, cars.from_bus, cars.to_bus, cars.distance_km, cars.consumption_kwh_per_km,
        cars.storage_cost_usd_per_kwh, cars.slope, cars.vehicle_class, departure, arrival, speed,
        trips, np.full(samples, 1.0 / samples), told, name,
    )  # fmt: skip


def _listed_samples(
    listed: CarList, cars: Cars, law: TripLaw, keys: tuple[int, int, int],
    numbers: kernels.LawNumbers, departure: IntArray, arrival: IntArray, speed: FloatArray,
) -> None:  # fmt: skip
    """Fill departure, arrival (V, N, D) and speed (N, T) of listed cars."""
    assert cars.list_row is not None
    stream = kernels.stream(*keys, kernels.REAL_TIME_DAY)
    for n in range(departure.shape[1]):
        draw = np.random.Generator(np.random.Philox(key=int(kernels.fold(np.uint64(stream), n))))
        departure[:, n], arrival[:, n] = listed_days(
            listed, cars.inputs, law, cars.list_row, draw, 1.0
        )
        key = kernels.fold(np.uint64(kernels.stream(*keys, kernels.REAL_TIME_SPEED)), n)
        speed[n] = draw_speeds(numbers, key)


def session_fleet(sessions: Sessions, inputs: Inputs) -> Fleet:
    """Recorded sessions as vehicles: each stands for one session of every recorded day, or none.

    A session's energy is what its car has driven in the period before it is plugged in, at most
    what the charger can give in the stay. Vehicles are alike in bus, class, battery and charger.
    """
    T, N = inputs.periods, sessions.days
    own = np.nan_to_num(np.column_stack([sessions.battery_kwh, sessions.charger_kw]), nan=-1.0)
    alike = np.column_stack([sessions.bus, sessions.vehicle_class, own])
    kinds, of_session = np.unique(alike, axis=0, return_inverse=True)
    slot = np.empty(len(sessions), dtype=np.int64)
    heads: list[FloatArray] = []
    for k, kind in enumerate(kinds):
        mine = np.flatnonzero(of_session.ravel() == k)
        order = mine[np.lexsort((sessions.first_period[mine], sessions.sample[mine]))]
        sample = sessions.sample[order]
        rank = np.arange(order.size) - np.searchsorted(sample, sample)
        slot[order] = len(heads) + rank
        heads += [kind] * (int(rank.max()) + 1)
    head = np.array(heads)
    V, kind = len(head), head[:, 1].astype(np.int64)
    battery, charger = (np.where(head[:, j] < 0, np.nan, head[:, j]) for j in (2, 3))
    energy = np.zeros((T, V, N))
    travelling, home = (np.zeros((T, V, N), dtype=bool) for _ in range(2))
    departure, arrival = (np.zeros((V, N, 1), dtype=np.int64) for _ in range(2))
    classes = [inputs.vehicles[c].charger for c in sessions.vehicle_class]
    power = np.where(np.isnan(sessions.charger_kw), [float(c.power_kw) for c in classes],
                     sessions.charger_kw)  # fmt: skip
    most = power * [float(c.charge_efficiency) for c in classes] * inputs.period_h
    for i in range(len(sessions)):
        v, n = slot[i], sessions.sample[i]
        first, last = int(sessions.first_period[i]), int(sessions.last_period[i])
        before = (first - 2) % T
        home[np.arange(first - 1, last) % T, v, n] = True
        travelling[before, v, n] = True
        energy[before, v, n] = min(sessions.energy_kwh[i], most[i] * (last - first + 1))
        # away from the period after this stay to the one before it, through the end
        begin = last % T + 1
        departure[v, n, 0], arrival[v, n, 0] = begin, first - 1 + (T if first - 1 < begin else 0)
    nothing = np.zeros((V, N, 1), dtype=np.int64)
    trips = Trips(energy, travelling, home, np.zeros_like(home), nothing, nothing - 1)
    wear = [inputs.vehicles[c].wear for c in kind]
    cost = np.array([float(w.storage_cost_mean_usd_per_kwh) for w in wear])
    slope = np.array([float(w.slope(np.array([c]))[0]) for w, c in zip(wear, cost, strict=True)])
    return Fleet(
        np.ones(V, dtype=np.int64), head[:, 0].astype(np.int64), np.full(V, -1), np.zeros(V),
        np.zeros(V), cost, slope, kind, departure, arrival, np.zeros((N, T)), trips,
        np.full(N, 1.0 / N), inputs, "sessions",
        None if np.isnan(battery).all() else battery, None if np.isnan(charger).all() else charger,
    )  # fmt: skip


def single_bus_fleet(
    inputs: Inputs, cars: int, bus: int, seed: int, samples: int = 10, threads: int = 1
) -> Fleet:
    """Single cars that all live or work at one bus, in memory-lean form (float32 energy).

    Edges are drawn as the network law has them: an edge that leaves `bus` with weight one over the
    number of neighbours of `bus`, one that reaches it with one over the number of its origin's.
    All cars are of the first class.
    """
    told, law = inputs, inputs.law()
    check_draw(told, law, seed)
    checks = Checks("single-bus fleet")
    allowed = "a bus with an aggregator: " + ", ".join(map(str, told.buses))
    checks.require(bus in told.buses, "bus", bus, allowed)
    checks.require(1 <= cars <= 10_000_000, "cars", cars, "1..10,000,000")
    checks.done()
    net, wear, place = roads(told), told.vehicles[0].wear, told.buses.index(bus)
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
    nothing = np.zeros((cars, told.clock.days), dtype=np.int64)
    drawn = Cars(
        net.bus[net.from_index[edge]], net.bus[net.to_index[edge]],
        edge_distance_km(told, law)[edge], consumption, nothing, nothing, cost, wear.slope(cost),
        np.zeros(cars, dtype=np.int64), np.zeros(told.periods), told,
    )  # fmt: skip
    return real_time_fleet(
        drawn, np.ones(cars, dtype=np.int64), law, (seed, bus, cars), samples, np.float32, threads,
        name=f"bus {bus}, {cars} cars",
    )  # fmt: skip
