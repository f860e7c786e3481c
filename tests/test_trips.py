"""Trips: places, days, legs, presence, and the kernels behind them."""

from __future__ import annotations

from dataclasses import replace
from math import erf, sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evcm import data, inputs
from evcm.errors import InputError
from evcm.inputs.values import roads_of
from evcm.trips import kernels
from evcm.trips import legs as trips
from evcm.trips.cars import draw_cars, draw_speeds, edge_distance_km, law_numbers, roads

PAPER = inputs.paper()

LAW = PAPER.law("published")
SCENARIO = PAPER.scenario(1)


def day(departure, arrival, km=10.0, consumption=0.2, speed=40.0, efficiency=0.9, **options):
    """Trips of one car on one day at one speed (or a speed by period)."""
    return trips.drive(
        np.array([departure]), np.array([arrival]), np.array([km]), np.array([consumption]),
        np.broadcast_to(np.asarray(speed, float), (1, 48)), efficiency, **options,
    )  # fmt: skip


def periods(mask):
    return (np.flatnonzero(mask[:, 0, 0]) + 1).tolist()


def test_roads_are_the_branch_list_both_ways():
    net, table = roads(PAPER), data.read_table("trips/roads.csv")
    assert len(net) == 2 * len(table)
    buses = np.array(PAPER.buses)
    pairs = set(zip(buses[net.from_index].tolist(), buses[net.to_index].tolist(), strict=True))
    for a, b in zip(table.from_bus, table.to_bus, strict=True):
        assert {(a, b), (b, a)} <= pairs
    assert edge_distance_km(PAPER, LAW).min() == pytest.approx(4.0)
    assert edge_distance_km(PAPER, LAW).max() == pytest.approx(33.25)


def test_worked_example_by_hand():
    # 45 km at 40 km/h: periods of 20, 20 and 5 km; 0.225 kWh/km / 0.9 = 0.25 kWh per km.
    one = day(16, 40, km=45.0, consumption=0.225)
    energy = one.energy_kwh[:, 0, 0]
    assert energy[15:18] == pytest.approx([5.0, 5.0, 1.25])
    assert energy[37:40] == pytest.approx([1.25, 5.0, 5.0])
    assert periods(one.travelling) == [16, 17, 18, 38, 39, 40]
    assert periods(one.at_to) == list(range(19, 38))
    assert periods(one.at_from) == list(range(1, 16)) + list(range(41, 49))
    assert (one.work_first[0, 0, 0], one.work_last[0, 0, 0]) == (19, 37)


def test_exact_multiple_of_a_period_takes_no_extra_period():
    assert periods(day(16, 40, km=20.0).travelling) == [16, 40]


def test_arrival_after_midnight_wraps():
    one = day(10, 50, km=30.0)  # legs of two periods; arrival period 50 is 2 next morning
    assert periods(one.travelling) == [1, 2, 10, 11]
    assert periods(one.at_from) == list(range(3, 10))
    assert periods(one.at_to) == list(range(12, 49))


def test_visit_to_work_may_pass_midnight():
    one = day(16, 54, km=10.0)  # leg of one period; back in period 54 = 6
    assert periods(one.at_to) == [1, 2, 3, 4, 5, *range(17, 49)]
    assert periods(one.at_from) == list(range(7, 16))


def test_overlapping_legs_keep_their_energy_and_leave_no_visit():
    one = day(20, 26, km=20.0, speed=10.0)  # legs of four periods each in a day of seven
    assert one.no_visit[0, 0]
    assert not one.at_to.any()
    assert periods(one.travelling) == list(range(20, 27))
    leg = 20.0 * 0.2 / 0.9
    assert one.energy_kwh.sum() == pytest.approx(2 * leg, rel=1e-12)
    assert one.energy_kwh[22, 0, 0] == pytest.approx(2 * leg / 4)


def test_touching_legs_leave_no_visit():
    one = day(20, 23, km=20.0, speed=20.0)
    assert one.no_visit[0, 0]
    assert periods(one.travelling) == [20, 21, 22, 23]
    assert not one.at_to.any()


@given(
    departure=st.integers(1, 48), gap=st.integers(1, 47), km=st.floats(0.5, 110),
    consumption=st.floats(0.05, 0.5), seed=st.integers(0, 2**32),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_energy_is_exact_and_every_period_has_one_place(departure, gap, km, consumption, seed):
    speed = np.random.default_rng(seed).uniform(10, 100, 48)
    one = day(departure, departure + gap, km, consumption, speed)
    assert one.energy_kwh.sum() == pytest.approx(2 * km * consumption / 0.9, rel=1e-12)
    assert (one.energy_kwh >= 0).all()
    assert (one.energy_kwh[~one.travelling] == 0).all()
    places = one.travelling.astype(int) + one.at_from + one.at_to
    assert places.max() == 1
    if not one.no_visit[0, 0]:
        assert places.min() == 1
        assert one.at_to.sum() == one.work_last[0, 0] - one.work_first[0, 0] + 1


def test_consumption_scales_energy_and_nothing_else():
    single, double = day(16, 40, 25.0, 0.2), day(16, 40, 25.0, 0.4)
    assert np.allclose(double.energy_kwh, 2 * single.energy_kwh, rtol=1e-14)
    assert np.array_equal(single.travelling, double.travelling)


def test_drawn_cars_keep_the_law():
    drawn = draw_cars(PAPER, SCENARIO, LAW, 5, 3)
    assert set(drawn.from_bus.tolist()) == set(PAPER.buses)
    table = data.read_table("trips/roads.csv")
    length = {}
    for a, b, km in table.itertuples(index=False):
        length[a, b] = length[b, a] = km
    pairs = zip(drawn.from_bus.tolist(), drawn.to_bus.tolist(), strict=True)
    assert drawn.distance_km.tolist() == pytest.approx([0.25 * length[p] for p in pairs])
    assert drawn.departure.min() >= 1
    assert drawn.departure.max() == 20
    assert drawn.arrival.min() >= 30
    assert drawn.arrival.max() <= 56
    gap = drawn.arrival - drawn.departure
    assert ((gap >= 3) & (gap <= 45)).all()
    low, high = LAW.consumption_kwh_per_km
    assert low < drawn.consumption_kwh_per_km.min() < low + 0.001
    assert high - 0.001 < drawn.consumption_kwh_per_km.max() < high
    assert drawn.storage_cost_usd_per_kwh.min() >= 100
    assert drawn.storage_cost_usd_per_kwh.max() <= 140
    assert drawn.slope == pytest.approx(
        0.0006 + 0.0011 * (drawn.storage_cost_usd_per_kwh - 100) / 40
    )
    assert drawn.speed_kmh.min() >= 10
    assert drawn.speed_kmh.max() <= 100


def many(law=LAW, samples=50):
    drawn = [draw_cars(PAPER, SCENARIO, law, 11, s) for s in range(samples)]
    return tuple(
        np.concatenate([getattr(c, name).ravel() for c in drawn])
        for name in ("from_bus", "to_bus", "departure", "arrival", "consumption_kwh_per_km")
    )


def normal_cdf(x, mean, sd):
    return 0.5 * (1 + erf((x - mean) / (sd * sqrt(2))))


def test_frequencies_are_those_of_the_rounded_then_clamped_normal():
    origin, destination, departure, arrival, consumption = many()
    n = departure.size
    for bus in PAPER.buses:
        share = np.mean(origin == bus)
        assert share == pytest.approx(1 / 11, abs=5 * sqrt(1 / 11 / n))
        reached, count = np.unique(destination[origin == bus], return_counts=True)
        expected = count.sum() / reached.size
        assert np.abs(count - expected).max() < 5 * sqrt(expected)
    for values, mean, sd, low, high in (
        (departure, 17.07, 2.83, 1, 20), (arrival, 40.80, 5.28, 30, 56),
    ):  # fmt: skip
        for period in range(low, high + 1):
            upper = 1.0 if period == high else normal_cdf(period + 0.5, mean, sd)
            lower = 0.0 if period == low else normal_cdf(period - 0.5, mean, sd)
            p = upper - lower
            # Pairs too close over the night are drawn again, which moves far tails a little.
            assert np.mean(values == period) == pytest.approx(p, abs=5 * sqrt(p / n) + 2e-4)
    assert abs(np.corrcoef(departure, arrival)[0, 1]) < 0.02
    assert abs(np.corrcoef(departure, consumption)[0, 1]) < 0.02


def test_histogram_moments_are_the_published_law():
    table = data.read_table("trips/histograms.csv")
    for event, mean, sd in (("departure", 17.07, 2.83), ("arrival", 40.80, 5.28)):
        mine = table[table["event"] == event]
        weight, period = mine["cars_per_10000"].to_numpy(), mine["half_hour"].to_numpy() + 1
        assert weight.sum() == 10_000
        centre = np.average(period, weights=weight)
        assert centre == pytest.approx(mean, abs=0.005)
        spread = sqrt(np.average((period - centre) ** 2, weights=weight))
        assert spread == pytest.approx(sd, abs=0.006)


def test_nearest_rounding_is_closest_to_the_histograms():
    table = data.read_table("trips/histograms.csv")
    for event, mean, sd in (("departure", 17.07, 2.83), ("arrival", 40.80, 5.28)):
        mine = table[table["event"] == event]
        period, share = mine["half_hour"].to_numpy() + 1, mine["cars_per_10000"].to_numpy() / 1e4
        distance = {}
        for name, shift in (("nearest", 0.5), ("up", 0.0), ("down", 1.0)):
            p = [normal_cdf(k + shift, mean, sd) - normal_cdf(k + shift - 1, mean, sd)
                 for k in period]  # fmt: skip
            distance[name] = 0.5 * np.abs(share - p).sum()
        assert min(distance, key=distance.get) == "nearest", distance
        assert distance["nearest"] < 0.1


def test_printed_law_returns_later_and_less_regularly():
    _, _, _, published, _ = many(samples=5)
    _, _, _, printed, _ = many(PAPER.law("printed"), samples=5)
    assert printed.mean() > published.mean() + 3
    assert np.mean(printed == 56) > 0.05 > np.mean(published == 56)


def test_a_sample_does_not_depend_on_others_and_seeds_matter():
    a, again = (
        draw_cars(PAPER, SCENARIO, LAW, 1, 7),
        draw_cars(PAPER, SCENARIO, LAW, 1, 7),
    )
    assert np.array_equal(a.arrival, again.arrival)
    assert np.array_equal(a.speed_kmh, again.speed_kmh)
    for other in (
        draw_cars(PAPER, SCENARIO, LAW, 2, 7),
        draw_cars(PAPER, SCENARIO, LAW, 1, 8),
    ):
        assert not np.array_equal(a.arrival, other.arrival)
    other = draw_cars(PAPER, PAPER.scenario(2), LAW, 1, 7)
    assert not np.array_equal(a.from_bus, other.from_bus[:2000])
    few = draw_cars(PAPER, replace(SCENARIO, cars=10), LAW, 1, 7)
    assert np.array_equal(few.arrival, a.arrival[:10])


def test_uniforms_are_uniform():
    key = np.uint64(kernels.stream(1, 2, 3, kernels.CAR))
    values = np.array([kernels.uniform(key, i) for i in range(20_000)])
    assert 0 < values.min() < 1e-3
    assert 1 > values.max() > 1 - 1e-3
    count, _ = np.histogram(values, 20, (0, 1))
    assert ((count - 1000) ** 2 / 1000).sum() < 43.8  # chi-square, 19 degrees of freedom, 0.1 %
    # Equal numbers in different places must not cancel.
    keys = [kernels.stream(s, n, k, p) for s in range(5) for n in range(4) for k in range(5)
            for p in range(1, 7)]  # fmt: skip
    assert len({int(k) for k in keys}) == len(keys)
    neighbours = np.array(
        [kernels.uniform(np.uint64(kernels.fold(key, v)), 0) for v in range(20_000)]
    )
    assert abs(np.corrcoef(neighbours[1:], neighbours[:-1])[0, 1]) < 0.03


def test_splitmix_finaliser_has_its_published_values():
    # splitmix64 seeded with 1234567: the known first outputs of the generator.
    state = np.uint64(1234567)
    out = [int(kernels.word(state, i)) for i in range(3)]
    assert out == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def python(kernel, *args):
    with np.errstate(over="ignore"):
        return kernel.py_func(*args)


def unjit(monkeypatch):
    """Let kernels call each other as plain Python, so that `.py_func` runs no compiled code."""
    for name, value in vars(kernels).items():
        if hasattr(value, "py_func"):
            monkeypatch.setattr(kernels, name, value.py_func)


def test_kernels_give_the_same_as_plain_python(monkeypatch):
    drawn = draw_cars(PAPER, replace(SCENARIO, cars=30), LAW, 4, 2)
    speeds = draw_speeds(law_numbers(PAPER), kernels.stream(4, 1, 2, kernels.SPEED))
    trip = trips.drive(
        drawn.departure[:, None],
        drawn.arrival[:, None],
        drawn.distance_km,
        drawn.consumption_kwh_per_km,
        speeds,
        0.9,
    )
    unjit(monkeypatch)
    with np.errstate(over="ignore"):
        plain = draw_cars(PAPER, replace(SCENARIO, cars=30), LAW, 4, 2)
    for name in ("from_bus", "to_bus", "departure", "arrival"):
        assert np.array_equal(getattr(plain, name), getattr(drawn, name)), name
    for name in ("consumption_kwh_per_km", "storage_cost_usd_per_kwh", "speed_kmh"):
        assert getattr(plain, name) == pytest.approx(getattr(drawn, name), rel=1e-13), name
    again = trips.drive(
        drawn.departure[:, None],
        drawn.arrival[:, None],
        drawn.distance_km,
        drawn.consumption_kwh_per_km,
        speeds,
        0.9,
    )
    for name in ("energy_kwh", "travelling", "at_from", "at_to", "work_first", "work_last"):
        assert np.array_equal(getattr(again, name), getattr(trip, name)), name


def test_recharge_kernel_stops_at_the_limit_and_at_departure():
    for run in (kernels.recharge, kernels.recharge.py_func):
        grid = np.zeros(48)
        left = run(47, 49, 30.0, 20.0, 0.5, 0.9, grid)  # 9 kWh a period at the battery
        assert left == pytest.approx(3.0)
        assert grid[[46, 47, 0]] == pytest.approx([20.0, 20.0, 20.0])
        assert grid[1:46].sum() == 0


def test_a_law_without_a_possible_day_says_so():
    law = replace(
        LAW, departure_sd_h=0.0, arrival_sd_h=0.0, minimum_separation_h=12.0, arrival_mean_h=18.5,
    )  # fmt: skip
    with pytest.raises(InputError, match="minimum_separation_h"):
        draw_cars(PAPER, replace(SCENARIO, cars=2), law, 1, 0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"departure": [0]}, "departure and arrival of vehicle 0.*1 <= departure <= 48"),
        ({"arrival": [16]}, "departure < arrival"),
        ({"arrival": [64]}, "arrival < departure \\+ 48"),
        ({"distance_km": [-1.0]}, "distance_km.*finite and > 0"),
        ({"distance_km": [1.0, 2.0]}, "distance_km.*shape"),
        ({"consumption_kwh_per_km": [np.nan]}, "consumption_kwh_per_km"),
        ({"speed_kmh": np.zeros((1, 48))}, "speed_kmh"),
        ({"speed_kmh": np.ones((2, 48))}, "speed_kmh.*shape"),
        ({"discharge_efficiency": 1.5}, "discharge_efficiency"),
        ({"threads": 0}, "threads"),
    ],
)
def test_bad_days_are_refused(changes, match):
    good = {
        "departure": [16], "arrival": [40], "distance_km": [10.0],
        "consumption_kwh_per_km": [0.2], "speed_kmh": np.full((1, 48), 40.0),
        "discharge_efficiency": 0.9,
    }  # fmt: skip
    kept = {k: np.asarray(v) if isinstance(v, list) else v for k, v in (good | changes).items()}
    with pytest.raises(InputError, match=match):
        trips.drive(**kept)


@pytest.mark.parametrize(("seed", "sample", "field"), [(-1, 0, "seed"), (1, -1, "sample")])
def test_bad_keys_are_refused(seed, sample, field):
    with pytest.raises(InputError, match=field):
        draw_cars(PAPER, SCENARIO, LAW, seed, sample)


def test_a_leg_of_more_than_half_a_day_is_refused():
    with pytest.raises(InputError, match="distance_share"):
        draw_cars(PAPER, SCENARIO, replace(LAW, distance_share=2.0), 1, 0)


def test_roads_that_lead_nowhere_are_refused():
    table = data.read_table("trips/roads.csv")
    rows = [row for row in table.itertuples(index=False) if 11 not in row]
    with pytest.raises(InputError, match="bus 11: got no road"):
        roads_of(PAPER.buses, rows)
    for row, match in (
        ((2, 7, 5.0), "ends at bus 7"), ((2, 2, 5.0), "leads nowhere"), ((5, 4, 9.0), "twice"),
        ((2, 14, 0.0), "length_km"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=match):
            roads_of(PAPER.buses, [*table.itertuples(index=False), row])
    assert len(roads(PAPER)) == 26


def test_printed_pseudo_code_takes_a_speed_for_a_distance():
    # 45 km at 40 km/h, 0.225/0.9 = 0.25 kWh/km: the remainder is 5 km, printed as 5 + 20 km.
    assert trips.leg_as_printed(45.0, 0.225, 40.0, 0.9) == pytest.approx([5.0, 5.0, 6.25])
    # An exact multiple of a period's distance gets a further period of a whole speed.
    assert trips.leg_as_printed(40.0, 0.225, 40.0, 0.9) == pytest.approx([5.0, 5.0, 5.0])


def test_law_numbers_and_speed_bands():
    numbers = law_numbers(PAPER, LAW)
    assert numbers.departure_latest.item() == 20
    assert (numbers.arrival_low.item(), numbers.arrival_high.item()) == (30, 56)
    mean, sd = numbers.speed_mean, numbers.speed_sd
    assert mean[[0, 28, 29, 32, 33, 42, 43, 47]].tolist() == [50, 50, 35, 35, 20, 20, 35, 35]
    assert sd[[0, 29, 33]].tolist() == [20, 15, 10]


REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "eva"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="reference cases are not beside the project")
def test_published_legs_sum_to_the_adopted_energy_and_clamp_without_redrawing():
    """The published runs follow the adopted form: both legs of a day take the same energy."""
    compared, departures, arrivals = 0, [], []
    for file in sorted(REFERENCE.glob("sc1-*.npz")):
        with np.load(file) as case:
            driving, energy = case["travelling"].astype(bool), case["trip_energy_kwh"]
        begin = driving & ~np.roll(driving, 1, axis=0)
        for v, n in np.argwhere(begin.sum(axis=0) == 2):
            legs = []
            for start in np.flatnonzero(begin[:, v, n]):
                end = start
                while driving[(end + 1) % 48, v, n]:
                    end += 1
                kwh = sum(energy[t % 48, v, n] for t in range(start, end + 1))
                legs.append((start + 1, end + 1, kwh))
            assert legs[0][2] == pytest.approx(legs[1][2], rel=1e-3)
            compared += 1
            out = [leg for leg in legs if 5 <= leg[0] <= 25]
            if len(out) == 1:
                departures.append(out[0][0])
                back = legs[1 - legs.index(out[0])][1]
                arrivals.append(back if back >= 25 else back + 48)
    assert compared > 7000
    n = len(departures)
    for values, period, mean, sd in (
        (np.array(departures), 20, 17.07, 2.83), (np.array(arrivals), 30, 40.80, 5.28),
    ):  # fmt: skip
        beyond = normal_cdf(period - 0.5, mean, sd)
        p = 1 - beyond if period == 20 else normal_cdf(period + 0.5, mean, sd)
        assert np.mean(values == period) == pytest.approx(p, abs=5 * sqrt(p / n))
