"""Fleets: groups keep energy and wear, real-time days, buses, aggregator problems."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evcm import inputs
from evcm.aggregator import of_fleet
from evcm.errors import InputError
from evcm.trips import fleet as fleets
from evcm.trips import montecarlo

PAPER = inputs.paper()

LAW = PAPER.law()


@pytest.fixture(scope="module")
def result():
    return montecarlo.simulate(PAPER, PAPER.scenario(3), LAW, 1)


@pytest.fixture(scope="module")
def grouped(result):
    return fleets.build_fleet(result, "max")


@pytest.fixture(scope="module")
def single(result):
    return fleets.build_fleet(result, "max", cars_per_group=1)


def test_energy_of_every_day_is_that_of_the_monte_carlo_sample(result, grouped, single):
    expected = 1000 * result.gchr_mwh[result.max_sample]
    for fleet in (grouped, single):
        assert fleet.cars == 3750
        day = montecarlo.gchr_kwh(fleet.trips.energy_kwh, fleet.group_size)
        assert day.shape == (10,)
        assert day == pytest.approx(np.full(10, expected), rel=1e-11)


def test_groups_share_an_edge_and_keep_wear(result, grouped):
    cars = result.cars("max")
    wear = cars.slope * cars.storage_cost_usd_per_kwh
    total = 0
    for a, b in {(a, b) for a, b in zip(grouped.from_bus, grouped.to_bus, strict=True)}:
        mine = (grouped.from_bus == a) & (grouped.to_bus == b)
        theirs = (cars.from_bus == a) & (cars.to_bus == b)
        size = grouped.group_size[mine]
        assert size.sum() == theirs.sum()
        assert size.max() - size.min() <= 1
        product = grouped.slope[mine] * grouped.storage_cost_usd_per_kwh[mine]
        assert size @ product == pytest.approx(wear[theirs].sum(), rel=1e-12)
        assert size @ grouped.consumption_kwh_per_km[mine] == pytest.approx(
            cars.consumption_kwh_per_km[theirs].sum(), rel=1e-12
        )
        total += size.sum()
    assert total == 3750
    assert 8 <= grouped.group_size.min() <= grouped.group_size.max() <= 12


@given(st.integers(1, 400), st.integers(0, 50))
@settings(max_examples=30, deadline=None)
def test_any_group_size_keeps_cars_and_energy(per_group, sample):
    scenario = replace(PAPER.scenario(1), cars=300)
    cars = montecarlo.cars(PAPER, scenario, LAW, 2, sample)
    merged, size = fleets.group_cars(cars, per_group)
    assert size.sum() == 300
    assert size.min() >= 1
    energy = cars.distance_km @ cars.consumption_kwh_per_km
    assert (size * merged.distance_km) @ merged.consumption_kwh_per_km == pytest.approx(energy)


def test_groups_are_cut_along_consumption(grouped):
    """Sorted by consumption, so that a group's mean stands for similar cars."""
    mine = (grouped.from_bus == 9) & (grouped.to_bus == 14)
    assert mine.sum() > 2
    assert (np.diff(grouped.consumption_kwh_per_km[mine]) >= 0).all()


def test_days_differ_and_what_stays_stays(single, result):
    cars = result.cars("max")
    assert np.array_equal(single.from_bus, cars.from_bus)
    assert np.array_equal(single.storage_cost_usd_per_kwh, cars.storage_cost_usd_per_kwh)
    assert single.probability == pytest.approx(np.full(10, 0.1))
    for n in range(1, 10):
        assert not np.array_equal(single.arrival[:, 0], single.arrival[:, n])
        assert not np.array_equal(single.speed_kmh[0], single.speed_kmh[n])
    assert not np.array_equal(single.arrival[:, 0], cars.arrival)
    assert single.departure.mean() == pytest.approx(cars.departure.mean(), abs=0.1)


def test_fewer_days_and_threads_change_nothing(result, grouped):
    few = fleets.build_fleet(result, "max", samples=3, threads=3)
    assert np.array_equal(few.arrival, grouped.arrival[:, :3])
    assert np.array_equal(few.trips.energy_kwh, grouped.trips.energy_kwh[:, :, :3])
    assert few.probability == pytest.approx(np.full(3, 1 / 3))


def test_every_vehicle_is_at_two_buses(grouped):
    seen = np.zeros(len(grouped), dtype=int)
    present = np.zeros(grouped.trips.travelling.shape, dtype=int)
    for bus in PAPER.buses:
        index = np.flatnonzero((grouped.from_bus == bus) | (grouped.to_bus == bus))
        mine = of_fleet.aggregator_problem(grouped, bus)
        seen[index] += 1
        present[:, index] += mine.available
        assert not (mine.available & mine.travelling).any()
        home = grouped.from_bus[index] == bus
        assert np.array_equal(mine.available[:, home], grouped.trips.at_from[:, index[home]])
    assert (seen == 2).all()
    assert (present + grouped.trips.travelling == 1)[
        :, ~grouped.trips.no_visit.any(axis=(1, 2))
    ].all()


def test_aggregator_problem_carries_the_paper_market(grouped):
    problem = of_fleet.aggregator_problem(grouped, 4)
    assert problem.bus == 4
    assert problem.battery == PAPER.vehicles[0].battery
    assert problem.charger == PAPER.vehicles[0].charger
    assert problem.system_cap_mw == PAPER.market.system_cap_mw
    assert problem.trading_cap_mw is None
    assert problem.samples == 10
    assert problem.periods == 48
    mine = (grouped.from_bus == 4) | (grouped.to_bus == 4)
    assert np.array_equal(problem.travelling, grouped.trips.travelling[:, mine])
    assert problem.group_size.sum() == grouped.group_size[mine].sum()
    capped = of_fleet.aggregator_problem(
        grouped, 4, trading_cap_mw=np.full(48, 2.0), real_time_limit="plug"
    )
    assert capped.system_cap_mw is None
    assert capped.real_time_limit == "plug"
    assert (capped.cap_mw == 2.0).all()


def test_every_visit_can_restore_its_leg(single):
    """The rule of the trip law: at least three periods apart, so a visit lasts at least one."""
    energy = 0.0
    for bus in PAPER.buses:
        problem = of_fleet.aggregator_problem(single, bus)
        visits = problem.visits
        assert visits.length.min() >= 1
        need = problem.battery.departure_soc_kwh - visits.arrival_soc_kwh
        assert (need > 0).all()
        assert (need <= problem.charge_step_kwh[visits.vehicle] * visits.length).all()
        energy += need.sum()
    assert energy == pytest.approx(single.trips.energy_kwh.sum(), rel=1e-9)


def test_a_day_without_visit_books_both_legs_at_home():
    slow = replace(
        LAW, speed_range_kmh=(10.0, 10.0), departure_sd_h=0.0, departure_mean_h=9.5,
        arrival_sd_h=0.0, arrival_mean_h=14.5,
    )  # fmt: skip
    scenario = replace(PAPER.scenario(1), cars=300, samples=2)
    fleet = fleets.build_fleet(montecarlo.simulate(PAPER, scenario, slow), "max", 1, 2)
    lost = fleet.trips.no_visit
    assert lost.sum() > 0
    v = int(np.flatnonzero(lost.all(axis=(1, 2)))[0])
    bus = int(fleet.from_bus[v])
    problem = of_fleet.aggregator_problem(fleet, bus)
    index = np.flatnonzero((fleet.from_bus == bus) | (fleet.to_bus == bus))
    mine = int(np.flatnonzero(index == v)[0])
    visit = np.flatnonzero((problem.visits.vehicle == mine) & (problem.visits.sample == 0))
    assert visit.size == 1
    both = 2 * fleet.distance_km[v] * fleet.consumption_kwh_per_km[v] / 0.9
    assert 60 - problem.visits.arrival_soc_kwh[visit[0]] == pytest.approx(both, rel=1e-9)


def test_single_bus_fleet_is_lean_and_follows_the_network_law():
    fleet = fleets.single_bus_fleet(PAPER, 20_000, 4, seed=3, samples=4, threads=2)
    assert len(fleet) == fleet.cars == 20_000
    assert fleet.trips.energy_kwh.dtype == np.float32
    assert fleet.trips.travelling.dtype == bool
    assert of_fleet.aggregator_problem(fleet, 4).vehicles == 20_000
    # Bus 4 has neighbours 2, 3 and 5 with 3, 2 and 2 neighbours of their own.
    weight = {
        (4, 2): 1 / 3,
        (4, 3): 1 / 3,
        (4, 5): 1 / 3,
        (2, 4): 1 / 3,
        (3, 4): 1 / 2,
        (5, 4): 1 / 2,
    }
    total = sum(weight.values())
    for (a, b), w in weight.items():
        share = np.mean((fleet.from_bus == a) & (fleet.to_bus == b))
        assert share == pytest.approx(w / total, abs=0.02)
    exact = 2 * fleet.distance_km * fleet.consumption_kwh_per_km / 0.9
    assert fleet.trips.energy_kwh.sum(axis=0) == pytest.approx(
        np.repeat(exact[:, None], 4, axis=1), rel=1e-5
    )
    again = fleets.single_bus_fleet(PAPER, 20_000, 4, seed=3, samples=4)
    assert np.array_equal(again.trips.energy_kwh, fleet.trips.energy_kwh)
    assert np.array_equal(again.consumption_kwh_per_km, fleet.consumption_kwh_per_km)


def test_weighted_fleet_has_the_published_weights():
    draw = montecarlo.grouped_draw(PAPER, PAPER.scenario(1))
    fleet = fleets.weighted_fleet(draw, "min")
    assert sorted(set(fleet.group_size.tolist())) == [7, 13]
    assert montecarlo.gchr_kwh(fleet.trips.energy_kwh, fleet.group_size) == pytest.approx(
        np.full(10, 1000 * draw.light_mwh.min())
    )


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda r: fleets.build_fleet(r, "both"), "side"),
        (lambda r: fleets.build_fleet(r, "min", 0), "cars_per_group"),
        (lambda r: fleets.build_fleet(r, "min", samples=0), "samples"),
        (lambda r: of_fleet.aggregator_problem(fleets.build_fleet(r, "min"), 1), "bus"),
        (lambda r: fleets.single_bus_fleet(PAPER, 10, 7, 1), "bus"),
        (lambda r: fleets.single_bus_fleet(PAPER, 0, 4, 1), "cars"),
        (lambda r: fleets.single_bus_fleet(PAPER, 10, 4, -1), "seed"),
        (
            lambda r: of_fleet.aggregator_problem(fleets.single_bus_fleet(PAPER, 10, 4, 1), 14),
            "works",
        ),
        (
            lambda r: of_fleet.aggregator_problem(
                fleets.build_fleet(r, "min"), 4, trading_cap_mw=np.ones(47)
            ),
            "trading_cap_mw",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(result, call, field):
    with pytest.raises(InputError, match=field):
        call(result)


def test_real_time_kernel_gives_the_same_as_plain_python(monkeypatch):
    from evcm.trips import kernels

    tiny = montecarlo.simulate(PAPER, replace(PAPER.scenario(1), cars=25, samples=2), LAW, 6)
    fast = fleets.build_fleet(tiny, "min", 1, 3)
    for name, value in vars(kernels).items():
        if hasattr(value, "py_func"):
            monkeypatch.setattr(kernels, name, value.py_func)
    with np.errstate(over="ignore"):
        slow = fleets.build_fleet(tiny, "min", 1, 3)
    assert np.array_equal(fast.departure, slow.departure)
    assert np.array_equal(fast.arrival, slow.arrival)
    assert fast.speed_kmh == pytest.approx(slow.speed_kmh, rel=1e-13)
    assert fast.trips.energy_kwh == pytest.approx(slow.trips.energy_kwh, rel=1e-12, abs=1e-12)
