"""Figures of the trips hold the data that they are given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evcm import data, inputs
from evcm.plots import trips as plots_trips
from evcm.trips import montecarlo
from evcm.trips.montecarlo import one_day
from evcm.trips.uncontrolled import charge_at_once

LAW = inputs.paper().law()


@pytest.fixture(scope="module")
def result():
    return montecarlo.simulate(inputs.paper(), inputs.paper().scenario(2), LAW, 1)


def test_roads_show_every_branch_and_bus():
    figure = plots_trips.roads(inputs.paper(), LAW)
    assert len(figure.layout.annotations) == 13
    assert list(figure.data[-1].text) == [str(b) for b in inputs.paper().buses]


def test_cars_by_bus_stand_beside_the_published(result):
    ours, published = montecarlo.table_1([result]), data.read_table("published/table1.csv")
    figure = plots_trips.cars_by_bus(ours, published, 2, "max")
    sums = [int(np.sum(trace.y)) for trace in figure.data]
    assert sums == [2500] * 4
    assert list(figure.data[1].y)[:3] == [96, 183, 199]


def test_times_count_all_cars(result):
    cars = result.cars("min")
    figure = plots_trips.times([LAW], {"published": (cars.departure, cars.arrival)})
    assert [trace.y.sum() for trace in figure.data] == pytest.approx([1e4] * 4)
    assert figure.data[2].x.max() == 9.5  # the latest departure, period 20


def test_speeds_keep_the_limits(result):
    cars = result.cars("min")
    figure = plots_trips.speeds(inputs.paper(), LAW, cars.speed_kmh)
    assert np.array_equal(figure.data[-1].y, cars.speed_kmh)
    assert min(figure.data[1].y) >= 10
    density = plots_trips.speed_density(LAW)
    assert [t.name for t in density.data] == ["high", "medium", "low"]
    assert max(density.data[0].y) == pytest.approx(1 / (20 * np.sqrt(2 * np.pi)))


def test_gchr_shows_every_sample_and_both_published_extremes(result):
    draw = montecarlo.grouped_draw(inputs.paper(), result.scenario)
    figure = plots_trips.gchr(result, draw, data.read_table("published/gchr.csv"))
    assert np.array_equal(figure.data[0].x, result.gchr_mwh)
    assert sorted(shape.x0 for shape in figure.layout.shapes) == [18.2669, 25.8659]
    energy = plots_trips.driving_energy(result)
    assert np.array_equal(energy.data[-1].y, result.energy_mwh[result.max_sample])


def test_day_has_one_place_per_car_and_period():
    cars = montecarlo.cars(inputs.paper(), replace(inputs.paper().scenario(1), cars=3), LAW, 1, 0)
    figure = plots_trips.day(cars, one_day(cars))
    assert sum(len(trace.base) for trace in figure.data[:3]) == 3 * 48
    legs = 2 * cars.distance_km * cars.consumption_kwh_per_km / 0.9
    assert [t.y.sum() for t in figure.data[3:]] == pytest.approx(legs.tolist())


def test_uncontrolled_sums_over_buses(result):
    day = charge_at_once(result.cars("max"))
    load = inputs.paper().load_factor * inputs.paper().market.system_cap_mw
    figure = plots_trips.uncontrolled({"baseline": day}, load)
    assert figure.data[0].y.sum() * 0.5 == pytest.approx(day.energy_mwh[0])
    assert np.array_equal(figure.data[1].y, load)
