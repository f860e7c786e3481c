"""Monte Carlo simulation of a scenario: energy requirement per sample, and its extremes (2.2.2)."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray, read_only
from evcm.errors import Checks
from evcm.inputs.study import Inputs
from evcm.inputs.values import CarList, Roads, Scenario, Sessions, TripLaw
from evcm.paper import implements
from evcm.trips import kernels
from evcm.trips.cars import (
    Cars,
    check_draw,
    draw_cars,
    efficiencies,
    fleet_numbers,
    law_numbers,
    no_day,
)
from evcm.trips.legs import Trips, drive, each_range

Side = Literal["min", "max"]
SIDES: tuple[Side, Side] = ("min", "max")


@implements("3")
def gchr_kwh(energy_kwh: NDArray[Any], group_size: NDArray[Any] | None = None) -> FloatArray:
    """GChR of equation (3): the energy of all trips, R (T, V, N), kWh, per sample (N).

    `group_size` (V) are cars per vehicle; 1 if left out.
    """
    per_vehicle = np.asarray(energy_kwh).sum(axis=0, dtype=np.float64)
    weight = np.ones(per_vehicle.shape[0]) if group_size is None else np.asarray(group_size)
    return np.asarray(weight @ per_vehicle)


@dataclass(frozen=True, eq=False)
class MonteCarlo:
    """What a simulation found. Arrays are read-only.

    `gchr_mwh` (S) is the energy requirement of each sample; `energy_mwh` and `driving` (S, T) are
    the energy and the number of car-legs on the road by period. `law` is None for recorded
    sessions. `seconds` is the wall clock that it took on `threads` threads.
    """

    scenario: Scenario
    law: TripLaw | None
    seed: int
    inputs: Inputs = field(repr=False)
    gchr_mwh: FloatArray = field(repr=False)
    energy_mwh: FloatArray = field(repr=False)
    driving: IntArray = field(repr=False)
    threads: int
    seconds: float

    @property
    def min_sample(self) -> int:
        """Index of s_min, the sample with the least GChR (the first of equals)."""
        return int(np.argmin(self.gchr_mwh))

    @property
    def max_sample(self) -> int:
        """Index of s_max, the sample with the most GChR (the first of equals)."""
        return int(np.argmax(self.gchr_mwh))

    def sample(self, side: Side) -> int:
        """Index of the extreme sample of a side, ``min`` or ``max``."""
        check_side(side)
        return self.min_sample if side == "min" else self.max_sample

    def cars(self, side: Side) -> Cars:
        """Draw the cars of s_min or s_max again, in full."""
        return draw_cars(self.inputs, self.scenario, self.law, self.seed, self.sample(side))


def check_side(side: str) -> None:
    """Raise `InputError` unless `side` is ``min`` or ``max``."""
    checks = Checks("Monte Carlo")
    checks.require(side in SIDES, "side", side, "min, max")
    checks.done()


def default_threads() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def simulate(
    inputs: Inputs,
    scenario: Scenario,
    law: TripLaw | None = None,
    seed: int = 1,
    threads: int | None = None,
) -> MonteCarlo:
    """Draw every car of every sample and book its legs by period.

    The result depends on the inputs, the scenario, the law and the seed alone: same bits on any
    number of threads, and `cars` draws any sample again by itself. Recorded sessions are not drawn:
    their days are the samples. Left out, the law is that of the inputs, and threads are all
    processors.

    Raises
    ------
    InputError
        The seed or the number of threads is out of range, or the law admits no day.
    """
    if isinstance(inputs.cars, Sessions):
        return _recorded(scenario, inputs, inputs.cars, seed)
    if isinstance(inputs.cars, CarList):
        scenario = replace(scenario, cars=int(inputs.cars.count.sum()))
    law = law or inputs.law()
    threads = default_threads() if threads is None else threads
    check_draw(inputs, law, seed)
    clock = time.perf_counter()
    shape = (scenario.samples, inputs.periods)
    total, energy = np.zeros(scenario.samples), np.zeros(shape)
    driving = np.zeros(shape, dtype=np.int64)
    if isinstance(inputs.cars, Roads):
        numbers, homes = law_numbers(inputs, law), fleet_numbers(inputs, law)
        failed = each_range(
            lambda a, z: kernels.simulate_samples(
                seed, scenario.number, a, z, scenario.cars, numbers, homes, inputs.period_h,
                total, energy, driving,
            ),
            scenario.samples, threads,
        )  # fmt: skip
        if sum(failed):
            raise no_day(law, sum(failed))
    else:
        for sample in range(scenario.samples):
            trips = one_day(draw_cars(inputs, scenario, law, seed, sample))
            energy[sample] = trips.energy_kwh.sum(axis=(1, 2))
            driving[sample] = trips.travelling.sum(axis=(1, 2))
            total[sample] = energy[sample].sum()
    return MonteCarlo(
        scenario, law, seed, inputs, read_only(total / 1000), read_only(energy / 1000),
        np.asarray(driving), threads, time.perf_counter() - clock,
    )  # fmt: skip


def _recorded(scenario: Scenario, inputs: Inputs, sessions: Sessions, seed: int) -> MonteCarlo:
    """Energy of the recorded days, booked where a session begins."""
    energy = np.zeros((sessions.days, inputs.periods))
    np.add.at(
        energy, (sessions.sample, (sessions.first_period - 1) % inputs.periods), sessions.energy_kwh
    )
    most = int(np.bincount(sessions.sample).max())
    return MonteCarlo(
        replace(scenario, cars=most, samples=sessions.days), None, seed, inputs,
        read_only(energy.sum(axis=1) / 1000), read_only(energy / 1000),
        np.zeros(energy.shape, dtype=np.int64), 1, 0.0,
    )  # fmt: skip


def one_day(cars: Cars) -> Trips:
    """Trips (T, V, 1) of one sample's cars at that sample's speeds."""
    return drive(
        cars.departure[:, None], cars.arrival[:, None], cars.distance_km,
        cars.consumption_kwh_per_km, cars.speed_kmh,
        efficiencies(cars.inputs)[cars.vehicle_class], period_h=cars.inputs.period_h,
    )  # fmt: skip


def cars(
    inputs: Inputs, scenario: Scenario, law: TripLaw | None, seed: int, sample: int
) -> Cars:  # fmt: skip
    """Draw one sample's cars in full; `sample` counts from 0.

    Raises
    ------
    InputError
        The sample is not one of the scenario's.
    """
    checks = Checks(f"scenario {scenario.number}")
    inside = 0 <= sample < scenario.samples
    checks.require(inside, "sample", sample, f"0..{scenario.samples - 1}")
    checks.done()
    return draw_cars(inputs, scenario, law, seed, sample)


def table_1(results: list[MonteCarlo]) -> pd.DataFrame:
    """Table 1: cars by bus of departure (From) and of arrival (To), for s_min and s_max.

    Columns: scenario, side, bus, departures, arrivals.
    """
    rows = []
    for result in results:
        for side in SIDES:
            home, work = _ends(result, side)
            for bus in result.inputs.buses:
                leave, reach = int((home == bus).sum()), int((work == bus).sum())
                rows.append((result.scenario.number, side, bus, leave, reach))
    return pd.DataFrame(rows, columns=["scenario", "side", "bus", "departures", "arrivals"])


def _ends(result: MonteCarlo, side: Side) -> tuple[IntArray, IntArray]:
    """From and To of the cars of an extreme sample; sessions are at one bus alone."""
    recorded = result.inputs.cars
    if isinstance(recorded, Sessions):
        here = recorded.bus[recorded.sample == result.sample(side)]
        return here, here
    drawn = result.cars(side)
    return drawn.from_bus, drawn.to_bus


def gchr_table(results: list[MonteCarlo]) -> pd.DataFrame:
    """GChR of every sample, tidy: scenario, sample, gchr_mwh, side (min, max or empty)."""
    frames = []
    for result in results:
        side = np.full(result.scenario.samples, "", dtype=object)
        side[result.min_sample], side[result.max_sample] = "min", "max"
        frames.append(
            pd.DataFrame(
                {
                    "scenario": result.scenario.number,
                    "sample": np.arange(result.scenario.samples),
                    "gchr_mwh": result.gchr_mwh,
                    "side": side.astype(str),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True, eq=False)
class GroupedDraw:
    """GChR (MWh) when a scenario is drawn as a few weighted groups instead of single cars.

    `even_mwh` (S) gives every group the same weight; `light_mwh` and `heavy_mwh` (S) are the two
    uneven weightings of the published runs.
    """

    scenario: Scenario
    law: TripLaw
    seed: int
    groups: int
    inputs: Inputs = field(repr=False)
    even_mwh: FloatArray = field(repr=False)
    light_mwh: FloatArray = field(repr=False)
    heavy_mwh: FloatArray = field(repr=False)

    def sample(self, side: Side) -> int:
        """Index of the sample with the least light GChR, or with the most heavy GChR."""
        check_side(side)
        return int(np.argmin(self.light_mwh) if side == "min" else np.argmax(self.heavy_mwh))

    def cars(self, side: Side) -> tuple[Cars, IntArray]:
        """Draw an extreme sample's groups again: one car each, and how many cars it stands for.

        Raises
        ------
        InputError
            The scenario does not have ten cars per group, so that the weights do not add up.
        """
        checks = Checks(f"scenario {self.scenario.number}")
        right = self.scenario.cars == 10 * self.groups
        checks.require(right, "groups", self.groups, f"{self.scenario.cars} cars / 10")
        checks.done()
        few = replace(self.scenario, cars=self.groups)
        drawn = draw_cars(self.inputs, few, self.law, self.seed, self.sample(side))
        order = np.argsort(drawn.distance_km * drawn.consumption_kwh_per_km, kind="stable")
        weight = np.empty(self.groups, dtype=np.int64)
        light = _light_weights(self.groups)
        weight[order] = light if side == "min" else light[::-1]
        return drawn, weight


def grouped_draw(
    inputs: Inputs, scenario: Scenario, law: TripLaw | None = None, seed: int = 1,
    groups: int | None = None,
) -> GroupedDraw:  # fmt: skip
    """Draw each sample as weighted groups, the way that the published runs did.

    The group stands for ten cars on average. On the min side the half of the groups with less
    energy counts 13-fold and the other half 7-fold, on the max side the reverse, and a median group
    10-fold. Weights scale by cars / (10 x groups), which is 1 for the paper's scenarios.

    Raises
    ------
    InputError
        There are more groups than cars, or none.
    """
    law = law or inputs.law()
    groups = scenario.published_groups or 0 if groups is None else groups
    checks = Checks(f"scenario {scenario.number}")
    checks.require(1 <= groups <= scenario.cars, "groups", groups, f"1..{scenario.cars}")
    checks.done()
    scale = scenario.cars / (10.0 * groups) / 1000.0
    light = _light_weights(groups)
    few = replace(scenario, cars=groups)
    efficiency = efficiencies(inputs)
    energy = np.empty((scenario.samples, groups))
    for sample in range(scenario.samples):
        drawn = draw_cars(inputs, few, law, seed, sample)
        leg = 2.0 * drawn.distance_km * drawn.consumption_kwh_per_km
        energy[sample] = leg / efficiency[drawn.vehicle_class]
    energy.sort(axis=1)
    return GroupedDraw(
        scenario, law, seed, groups, inputs, scale * 10.0 * energy.sum(axis=1),
        scale * energy @ light, scale * energy @ light[::-1],
    )  # fmt: skip


def _light_weights(groups: int) -> IntArray:
    """Cars per group in order of energy on the min side: 13, then 10 for a median group, then 7."""
    rank = np.arange(groups)
    return np.where(rank < groups // 2, 13, np.where(rank >= (groups + 1) // 2, 7, 10))
