"""Uncontrolled charging: where, when, and as much as was driven."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evcm import inputs
from evcm.errors import InputError
from evcm.inputs import Charger, paper
from evcm.trips import fleet, montecarlo
from evcm.trips.cars import Cars
from evcm.trips.uncontrolled import bus_index, charge_at_once

LAW = inputs.paper().law()


def car(departure=16, arrival=40, km=20.0, consumption=0.225, speed=40.0):
    one = np.ones(1)
    return Cars(
        np.array([2]), np.array([4]), km * one, consumption * one, np.array([[departure]]),
        np.array([[arrival]]), 120 * one, 0.001 * one, np.array([0]), np.full(48, speed),
        inputs.paper(),
    )  # fmt: skip


def hits(day, bus):
    return (np.flatnonzero(day.power_mw[:, paper().buses.index(bus), 0]) + 1).tolist()


def test_one_car_by_hand():
    # One leg: 20 km x 0.25 kWh/km = 5 kWh, 5.5556 kWh from the grid, 11.111 kW over a half-hour.
    day = charge_at_once(car())
    assert hits(day, 4) == [17]  # the period after the outbound leg
    assert hits(day, 2) == [41]  # the period after the arrival period, in which it still drives
    assert day.power_mw[16, paper().buses.index(4), 0] == pytest.approx(0.005 / 0.9 / 0.5)
    assert day.energy_mwh == pytest.approx([0.010 / 0.9])
    assert day.unserved_kwh.tolist() == [0.0]


def test_other_reading_starts_at_home_one_period_earlier():
    day = charge_at_once(car(), home_start="arrival")
    assert hits(day, 2) == [40]
    assert hits(day, 4) == [17]
    assert day.energy_mwh == pytest.approx([0.010 / 0.9])


def test_weak_charger_takes_its_time_over_midnight():
    # 2 kW x 0.5 h x 0.9 = 0.9 kWh a period: 5 kWh take five full periods and a rest.
    weak = Charger(2.0, 0.9, 0.9)
    day = charge_at_once(car(arrival=46), weak)
    assert hits(day, 4) == list(range(17, 23))
    assert hits(day, 2) == [1, 2, 3, 4, 47, 48]
    assert day.power_mw.max() == pytest.approx(0.002)
    assert day.energy_mwh == pytest.approx([0.010 / 0.9])


def test_a_stay_too_short_is_counted():
    day = charge_at_once(car(departure=16, arrival=20), Charger(2.0, 0.9, 0.9))
    assert hits(day, 4) == [17, 18, 19]
    assert day.unserved_kwh == pytest.approx([5 - 2.7])
    assert day.energy_mwh * 0.9 + day.unserved_kwh / 1000 == pytest.approx([0.010])


def test_without_a_visit_both_legs_are_recharged_at_home():
    day = charge_at_once(car(departure=20, arrival=24, speed=10.0))
    assert hits(day, 4) == []
    assert hits(day, 2) == [25]
    assert day.energy_mwh == pytest.approx([0.010 / 0.9])


def test_scenario_energy_is_gchr_over_charge_efficiency():
    result = montecarlo.simulate(paper(), paper().scenario(3), LAW, 1)
    day = charge_at_once(result.cars("max"))
    assert day.power_mw.shape == (48, 11, 1)
    assert day.energy_mwh == pytest.approx([result.gchr_mwh.max() / 0.9], rel=1e-12)
    several = charge_at_once(fleet.build_fleet(result, "max"))
    assert several.power_mw.shape == (48, 11, 10)
    assert several.energy_mwh == pytest.approx(np.full(10, result.gchr_mwh.max() / 0.9), rel=1e-9)
    assert (several.power_mw >= 0).all()
    assert several.unserved_kwh.max() == 0
    assert several.mean_mw == pytest.approx(several.power_mw.mean(axis=2))


def test_each_bus_gets_its_own_legs():
    cars = montecarlo.cars(paper(), paper().scenario(1), LAW, 1, 0)
    day = charge_at_once(cars)
    leg = cars.distance_km * cars.consumption_kwh_per_km / 0.9 / 0.9 / 1000
    for k, bus in enumerate(paper().buses):
        expected = leg[cars.from_bus == bus].sum() + leg[cars.to_bus == bus].sum()
        assert day.power_mw[:, k, 0].sum() * 0.5 == pytest.approx(expected)


def test_table_is_tidy():
    day = charge_at_once(car())
    table = day.table()
    assert len(table) == 48 * 11
    at = table[(table["period"] == 17) & (table["bus"] == 4)]
    assert at["power_mw"].item() == pytest.approx(day.power_mw[16, paper().buses.index(4), 0])
    assert table["power_mw"].sum() * 0.5 == pytest.approx(day.energy_mwh[0])


def test_bus_index():
    assert bus_index(np.array([2, 14, 7, -1]), inputs.paper().buses).tolist() == [0, 10, -1, -1]


def test_kernel_runs_as_plain_python(monkeypatch):
    from evcm.trips import kernels

    cars = montecarlo.cars(paper(), replace(paper().scenario(1), cars=40), LAW, 1, 0)
    fast = charge_at_once(cars)
    for name, value in vars(kernels).items():
        if hasattr(value, "py_func"):
            monkeypatch.setattr(kernels, name, value.py_func)
    assert np.array_equal(charge_at_once(cars).power_mw, fast.power_mw)


def test_unknown_reading_is_refused():
    with pytest.raises(InputError, match="home_start"):
        charge_at_once(car(), home_start="departure")
