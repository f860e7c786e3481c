"""Cars of one day: where they live and work, when they leave and return, what they use (2.2).

From is drawn by the share of cars that live at each bus (the paper: all alike), To uniform over
From's neighbours by road. Departure and arrival are normal, rounded to the nearest period and then
clamped; they are drawn again together while they are too close. Every draw is keyed by (seed,
scenario, sample, purpose, car), never by thread. Cars from a list are taken as they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks, Fault, InputError
from evcm.inputs.study import Inputs
from evcm.inputs.values import CarList, Roads, Scenario, Sessions, TripLaw
from evcm.trips import kernels


@dataclass(frozen=True, eq=False)
class Cars:
    """The cars of one horizon of D days, drawn in full.

    Vectors are (V), `departure` and `arrival` (V, D) in periods of the horizon (0: the car stays at
    home that day; arrivals may pass T), `speed_kmh` (T). `slope` is the degradation slope m_v,
    `vehicle_class` counts into `inputs.vehicles`, `list_row` (V) into a list of cars.
    """

    from_bus: IntArray
    to_bus: IntArray
    distance_km: FloatArray
    consumption_kwh_per_km: FloatArray
    departure: IntArray
    arrival: IntArray
    storage_cost_usd_per_kwh: FloatArray
    slope: FloatArray
    vehicle_class: IntArray
    speed_kmh: FloatArray
    inputs: Inputs = field(repr=False)
    list_row: IntArray | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return int(self.from_bus.size)


def roads(inputs: Inputs) -> Roads:
    """Roads of the study; raises `InputError` where its cars do not follow a law on roads."""
    if not isinstance(inputs.cars, Roads):
        raise InputError(inputs.name, [Fault("cars", "a list or sessions", "a law on roads")])
    return inputs.cars


def law_numbers(inputs: Inputs, law: TripLaw | None = None) -> kernels.LawNumbers:
    """The figures of the laws of all days, in periods of the horizon, for the kernels.

    `law` stands in for the law of the first day and of the days like it.
    """
    clock, laws = inputs.clock, inputs.day_laws(law)
    days = list(enumerate(laws))
    tiny = 1e-9

    def at(attribute: str) -> FloatArray:
        return np.array([clock.period(d, getattr(one, attribute)) for d, one in days])

    def periods(attribute: str) -> FloatArray:
        return np.array([getattr(one, attribute) / clock.period_h for one in laws])

    low, high = (
        np.array([clock.period(d, one.arrival_range_h[k]) for d, one in days]) for k in (0, 1)
    )
    mean, sd, slow, fast = np.empty((4, clock.periods))
    hours = clock.clock_h()
    for d, one in days:
        first, end = clock.first_period[d : d + 2]
        slow[first:end], fast[first:end] = one.speed_range_kmh
        for band in one.speed_bands:
            for begin, until in band.hours:
                inside = first + np.flatnonzero(
                    (hours[first:end] >= begin - tiny) & (hours[first:end] < until - tiny)
                )
                mean[inside], sd[inside] = band.mean_kmh, band.sd_kmh
    low_kwh, high_kwh = laws[0].consumption_kwh_per_km
    return kernels.LawNumbers(
        at("departure_mean_h"), periods("departure_sd_h"),
        np.array(clock.first_period[:-1], dtype=np.int64) + 1, _down(at("departure_latest_h")),
        at("arrival_mean_h"), periods("arrival_sd_h"), -_down(-low), _down(high),
        -_down(-periods("minimum_separation_h")), np.array([one.driving_share for one in laws]),
        float(low_kwh), float(high_kwh), mean, sd, slow, fast, clock.periods,
    )  # fmt: skip


def _down(periods: FloatArray) -> IntArray:
    """Rounded down, but for what is next to nothing."""
    return np.asarray(np.floor(periods + 1e-9), dtype=np.int64)


def fleet_numbers(inputs: Inputs, law: TripLaw | None = None) -> kernels.FleetNumbers:
    """Homes, roads and vehicle classes for the kernels."""
    net = roads(inputs)
    classes = inputs.vehicles
    wear = [c.wear for c in classes]
    return kernels.FleetNumbers(
        _below(net.home_share), net.first, edge_distance_km(inputs, law or inputs.law()),
        _below(np.array([c.share for c in classes])), efficiencies(inputs),
        np.array([float(w.storage_cost_mean_usd_per_kwh) for w in wear]),
        np.array([float(w.storage_cost_sd_usd_per_kwh) for w in wear]),
        *np.array([w.storage_cost_range_usd_per_kwh for w in wear], dtype=float).T.copy(),
    )  # fmt: skip


def _below(share: FloatArray) -> FloatArray:
    """Cumulated shares; the last is 1."""
    return np.array([math.fsum(share[: k + 1]) for k in range(len(share))]).clip(max=1.0)


def efficiencies(inputs: Inputs) -> FloatArray:
    """Discharge efficiency of each vehicle class (C)."""
    return np.array([float(c.charger.discharge_efficiency) for c in inputs.vehicles])


def slopes(inputs: Inputs, cost: FloatArray, kind: IntArray) -> FloatArray:
    """Degradation slope m_v of vehicles (V) of the given classes."""
    found = np.empty(len(cost))
    for c, one in enumerate(inputs.vehicles):
        mine = kind == c
        found[mine] = one.wear.slope(cost[mine])
    return found


def edge_distance_km(inputs: Inputs, law: TripLaw) -> FloatArray:
    """One-way trip distance of each directed edge of `roads`, km."""
    return np.asarray(law.distance_share * roads(inputs).length_km)


def check_draw(inputs: Inputs, law: TripLaw | None, seed: int, sample: int = 0) -> None:
    """Check what every draw needs: a seed, a sample number and a law that leaves room for a day.

    Raises
    ------
    InputError
        A number is out of range, or the longest leg at the lowest speed lasts over half a day.
    """
    checks = Checks("trips")
    checks.require(0 <= seed < 2**63, "seed", seed, "0..2**63-1")
    checks.require(sample >= 0, "sample", sample, ">= 0")
    law = law or (None if isinstance(inputs.cars, Sessions) else inputs.law())
    if law is not None:
        one_way = (
            edge_distance_km(inputs, law)
            if isinstance(inputs.cars, Roads)
            else inputs.cars.distance_km  # type: ignore[union-attr]
        )
        longest, slowest = float(one_way.max(initial=0.0)), law.speed_range_kmh[0]
        checks.require(
            longest <= slowest * 12.0, "distance_share", law.distance_share,
            f"a longest leg ({longest:.4g} km) of at most 12 h at the lowest speed "
            f"({slowest:g} km/h)",
        )  # fmt: skip
    checks.done()


def no_day(law: TripLaw, count: int) -> InputError:
    """Error for a law whose departure and arrival never fall far enough apart."""
    allowed = "a law under which departure and arrival can be so far apart, by day and by night"
    found = f"{law.minimum_separation_h} ({count} cars without a day)"
    return InputError(f"trip law {law.name}", [Fault("minimum_separation_h", found, allowed)])


def draw_cars(
    inputs: Inputs, scenario: Scenario, law: TripLaw | None, seed: int, sample: int
) -> Cars:  # fmt: skip
    """Draw the cars of one Monte Carlo sample (from 0), the very cars that the simulation counted.

    Without a law, it is that of the inputs.

    Raises
    ------
    InputError
        A key is out of range, or the law admits no day.
    """
    check_draw(inputs, law, seed, sample)
    if isinstance(inputs.cars, CarList):
        return listed_cars(inputs, inputs.cars, scenario, law, seed, sample)
    net, size, days = roads(inputs), scenario.cars, inputs.clock.days
    origin, edge, kind = (np.empty(size, dtype=np.int64) for _ in range(3))
    departure, arrival = (np.empty((size, days), dtype=np.int64) for _ in range(2))
    consumption, cost = np.empty(size), np.empty(size)
    numbers = law_numbers(inputs, law)
    failed = kernels.draw_cars(
        seed, scenario.number, sample, numbers, fleet_numbers(inputs, law), origin, edge,
        consumption, departure, arrival, cost, kind,
    )  # fmt: skip
    if failed:
        raise no_day(law or inputs.law(), failed)
    return Cars(
        net.bus[origin], net.bus[net.to_index[edge]],
        edge_distance_km(inputs, law or inputs.law())[edge], consumption,
        departure, arrival, cost, slopes(inputs, cost, kind), kind,
        draw_speeds(numbers, kernels.stream(seed, scenario.number, sample, kernels.SPEED)), inputs,
    )  # fmt: skip


def listed_cars(
    inputs: Inputs, listed: CarList, scenario: Scenario, law: TripLaw | None, seed: int, sample: int
) -> Cars:
    """Cars of a list: as they are, with what the list leaves open drawn by the law."""
    law = law or inputs.law()
    key = kernels.stream(seed, scenario.number, sample, kernels.CAR_LIST)
    draw = np.random.Generator(np.random.Philox(key=int(key)))
    every = np.repeat(np.arange(len(listed)), listed.count)
    kind = listed.vehicle_class[every]
    wear = [inputs.vehicles[c].wear for c in kind]
    cost = np.clip(
        draw.normal([w.storage_cost_mean_usd_per_kwh for w in wear],
                    [w.storage_cost_sd_usd_per_kwh for w in wear]),
        *np.array([w.storage_cost_range_usd_per_kwh for w in wear]).T,
    )  # fmt: skip
    given = listed.consumption_kwh_per_km[every]
    drawn = draw.uniform(*law.consumption_kwh_per_km, every.size)
    departure, arrival = listed_days(listed, inputs, law, every, draw, 0.0)
    numbers = law_numbers(inputs, law)
    return Cars(
        listed.home_bus[every], listed.work_bus[every], listed.distance_km[every],
        np.where(np.isnan(given), drawn, given), departure, arrival, cost,
        slopes(inputs, cost, kind), kind,
        draw_speeds(numbers, kernels.stream(seed, scenario.number, sample, kernels.SPEED)),
        inputs, every,
    )  # fmt: skip


def listed_days(
    listed: CarList, inputs: Inputs, law: TripLaw, every: IntArray, draw: np.random.Generator,
    spread: float,
) -> tuple[IntArray, IntArray]:  # fmt: skip
    """Departure and arrival (V, D) of listed cars; `spread` scales their standard deviations."""
    clock = inputs.clock
    departure, arrival = (np.zeros((every.size, clock.days), dtype=np.int64) for _ in range(2))
    for d, one in enumerate(inputs.day_laws(law)):
        times = []
        for mean, sd in (
            (listed.departure_h, listed.departure_sd_h), (listed.arrival_h, listed.arrival_sd_h),
        ):  # fmt: skip
            drawn = mean[every] + spread * sd[every] * draw.standard_normal(every.size)
            times.append(np.array([math.floor(clock.period(d, h) + 0.5) for h in drawn]))
        first = clock.first_period[d] + 1
        begin = np.clip(times[0], first, clock.first_period[d + 1])
        end = np.clip(times[1], begin + 1, begin + clock.periods - 2)
        goes = draw.uniform(size=every.size) < one.driving_share
        departure[:, d], arrival[:, d] = np.where(goes, begin, 0), np.where(goes, end, 0)
    return departure, arrival


def draw_speeds(numbers: kernels.LawNumbers, key: np.uint64) -> FloatArray:
    """Speed by period (T), km/h, of one stream: one draw per period, clamped."""
    speed = np.empty(numbers.periods)
    kernels.draw_speeds(np.uint64(key), numbers, speed)
    return speed
