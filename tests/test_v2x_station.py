"""Stepping a station: energy, limits, sharing, step length, certificate."""

import math
from dataclasses import replace

import numpy as np
import pytest

from evcm.errors import InputError, SolverError
from evcm.v2x import kernel
from evcm.v2x.arrivals import FIELDS, Sessions
from evcm.v2x.certificate import certify
from evcm.v2x.rewards import BALANCED
from evcm.v2x.rules import as_fast_as_possible, baselines, least_laxity
from evcm.v2x.series import Series
from evcm.v2x.station import Case, Run, Station, make_case, replay, run
from evcm.v2x.world import PLACES, ChargerType, Lot, Transformer, World, example_world


def flat_series(steps, step_h, base_kw=0.0, import_kw=math.inf, export_kw=math.inf, price=0.1):
    one = np.ones(steps)
    node = np.ones((steps, 1))
    return Series(
        step_h, price * one, 0.8 * price * one, base_kw * node, import_kw * node,
        export_kw * node, 25.0 * one, 0.0 * one,
    )  # fmt: skip


def row(arrival, departure, content, target, **more):
    values = {
        "arrival_step": arrival, "departure_step": departure, "capacity_kwh": 50.0,
        "arrival_kwh": content, "target_kwh": target, "floor_kwh": min(content, 7.5),
        "accept_kw": 11.0, "transition_soc": 0.8, "charge_kw": 11.0, "discharge_kw": 11.0,
        "car": 0.0,
    }  # fmt: skip
    return [{**values, **more}[name] for name in FIELDS]


def small_case(rows, ports, charger, steps, step_h, **series):
    world = World((Transformer("t", (Lot("lot", "public", (charger,)),)),))
    sessions = Sessions(np.array(ports), np.array(rows))
    return Case(world, flat_series(steps, step_h, **series), sessions)


def wild(seed):
    rng = np.random.default_rng(seed)
    return lambda station: station.layout.port_kw * rng.uniform(-1.3, 1.3, station.world.ports)


@pytest.mark.parametrize("minutes", [1, 5, 15, 60])
@pytest.mark.parametrize("eta", [(1.0, 1.0), (0.8, 0.9), (0.93, 0.85)])
def test_energy_is_conserved_under_random_v2g(minutes, eta):
    world = example_world(10, "public")
    transformer = world.transformers[0]
    lot = transformer.lots[0]
    chargers = tuple(
        replace(h, charge_efficiency=eta[0], discharge_efficiency=eta[1], bidirectional=True)
        for h in lot.chargers
    )
    world = replace(
        world, transformers=(replace(transformer, lots=(replace(lot, chargers=chargers),)),)
    )
    case = make_case(world, seed=minutes, steps=24 * 60 // minutes, step_h=minutes / 60)
    finished = run(case, wild(minutes))
    total = finished.total
    throughput = total["charged_kwh"] + total["discharged_kwh"]
    assert throughput > 100
    assert total["discharged_kwh"] > 1
    net = total["charged_kwh"] - total["discharged_kwh"]
    assert abs(net - total["battery_kwh"] - total["losses_kwh"]) <= 1e-9 * throughput
    in_, out = np.maximum(finished.battery_kwh, 0), np.maximum(-finished.battery_kwh, 0)
    assert total["charged_kwh"] == pytest.approx(in_.sum() / eta[0], rel=1e-12)
    assert total["discharged_kwh"] == pytest.approx(out.sum() * eta[1], rel=1e-12)
    assert total["losses_kwh"] == pytest.approx(
        in_.sum() * (1 / eta[0] - 1) + out.sum() * (1 - eta[1]), abs=1e-9
    )


def test_round_trip_is_the_product_of_the_efficiencies():
    charger = ChargerType("c", "ac", 3, 230, 32, 1, 0.9, 0.8)
    case = small_case([row(0, 8, 10.0, 10.0)], [0], charger, 8, 0.25)
    up = [11.0] * 4
    station = Station(case)
    bought = sum(float(station.step(np.array([p])).grid_kwh[0]) for p in up)
    stored = float(station.state.content[0, 0]) - 10.0
    sold = 0.0
    for _ in range(4):
        sold -= float(station.step(np.array([-stored * 0.8])).grid_kwh[0])
    assert station.state.content[0, 0] == pytest.approx(10.0, abs=1e-12)
    assert sold / bought == pytest.approx(0.9 * 0.8, rel=1e-12)


@pytest.mark.parametrize("minutes", [1, 5, 15, 60, 240])
def test_taper_case_through_the_station(minutes):
    # 11 kW at the battery; the post draws 11 / 0.93 kW.
    charger = ChargerType("c", "ac", 3, 230, 32, 1, 0.93, 0.9)
    steps = 240 // minutes
    case = small_case([row(0, steps, 10.0, 50.0)], [0], charger, steps, minutes / 60)
    finished = run(case, lambda station: np.array([22.08]))
    assert finished.content_kwh[-1, 0] / 50 == pytest.approx(0.9507, abs=1e-4)


def test_sessions_and_energy_of_a_day_agree_at_5_and_60_minutes():
    world = example_world(25, "public")
    days: dict[int, list[tuple[float, float]]] = {5: [], 60: []}
    for minutes in days:
        for seed in range(30):
            # Different seeds at the two step lengths: two independent samples.
            case = make_case(
                world, seed=1000 * minutes + seed, steps=24 * 60 // minutes, step_h=minutes / 60
            )
            finished = run(case, as_fast_as_possible)
            days[minutes].append((len(case.sessions), finished.total["charged_kwh"]))
    fine, coarse = np.array(days[5]), np.array(days[60])
    error = np.sqrt((fine.var(axis=0, ddof=1) + coarse.var(axis=0, ddof=1)) / len(fine))
    assert (np.abs(fine.mean(axis=0) - coarse.mean(axis=0)) <= 2 * error).all()


def test_energy_of_the_same_sessions_hardly_depends_on_the_step():
    world = example_world(25, "public")
    energy = []
    for minutes in (5, 60):
        case = make_case(world, seed=8, steps=24 * 60 // minutes, step_h=minutes / 60)
        energy.append(run(case, as_fast_as_possible).total["charged_kwh"])
    assert energy[0] == pytest.approx(energy[1], rel=0.03)


def test_overload_counts_the_excess_both_ways():
    charger = ChargerType("c", "ac", 3, 230, 32)
    case = small_case([row(0, 2, 30.0, 30.0)], [0], charger, 2, 1.0, import_kw=8.0, export_kw=4.0)
    station = Station(case)
    assert station.step(np.array([-11.0]))["overload_kwh"] == pytest.approx(11.0 - 4.0)
    assert station.step(np.array([11.0]))["overload_kwh"] == pytest.approx(11.0 - 8.0)


def test_limits_of_lot_transformer_and_bus_add_up():
    charger = ChargerType("c", "ac", 3, 230, 32)
    lot = Lot("lot", "public", (charger,), import_limit_kw=9.0)
    world = World((Transformer("t", (lot,), import_limit_kw=8.0),), import_limit_kw=6.0)
    sessions = Sessions(np.array([0]), np.array([row(0, 1, 10.0, 30.0)]))
    case = Case(world, flat_series(1, 1.0, base_kw=2.0, import_kw=8.0), sessions)
    result = Station(case).step(np.array([11.0]))
    assert result["overload_kwh"] == pytest.approx((11 - 9) + (13 - 8) + (13 - 6))


def test_ports_of_a_charger_share_its_power():
    charger = ChargerType("c", "dc", 3, 500, 30, ports=2)  # 15 kW for two cars of 11 kW
    rows = [row(0, 4, 10.0, 40.0), row(0, 4, 10.0, 40.0)]
    case = small_case(rows, [0, 1], charger, 4, 0.25)
    result = Station(case).step(np.array([11.0, 5.5]))
    assert result.grid_kwh.sum() == pytest.approx(15 * 0.25)
    assert result.grid_kwh[0] == pytest.approx(2 * result.grid_kwh[1])
    alone = Station(case).step(np.array([11.0, 0.0]))
    assert alone.grid_kwh[0] == pytest.approx(11 * 0.25)
    given = Station(case).step(np.array([-15.0, -15.0]))
    assert given.grid_kwh.sum() == pytest.approx(-15 * 0.25)


def test_discharge_stops_at_the_floor_and_partial_steps_count():
    charger = ChargerType("c", "ac", 3, 230, 32)
    case = small_case([row(0, 1.5, 10.0, 10.0)], [0], charger, 3, 1.0)
    finished = run(case, lambda station: np.array([-11.0]))
    assert finished.content_kwh[0, 0] == 7.5  # the floor, not below
    case = small_case([row(0, 1.5, 10.0, 30.0)], [0], charger, 3, 1.0)
    finished = run(case, lambda station: np.array([8.0]))
    assert finished.grid_kwh[:, 0] == pytest.approx([8.0, 4.0, 0.0])


def test_tariff_ends_at_the_wish():
    charger = ChargerType("c", "ac", 3, 230, 32)
    case = small_case([row(0, 2, 10.0, 15.0)], [0], charger, 2, 1.0)
    finished = run(case, lambda station: np.array([11.0]))
    assert finished.content_kwh[1, 0] == pytest.approx(32.0)
    assert finished.total["tariff_usd"] == pytest.approx(0.25 * 5.0)


@pytest.mark.parametrize("place", PLACES)
def test_certificate_agrees_with_the_kernel_and_finds_faults(place):
    case = make_case(example_world(12, place), seed=4, start_hour=24.0)
    for policy in (wild(3), least_laxity):
        certify(run(case, policy)).require()
    finished = run(case, wild(3))
    t, p = np.argwhere(finished.battery_kwh > 1.0)[0]
    battery = finished.battery_kwh.copy()
    battery[t, p] *= 1.01
    broken = Run(**{**vars(finished), "battery_kwh": battery})
    with pytest.raises(SolverError, match="energy"):
        certify(broken).require()
    terms = finished.terms.copy()
    terms[3, kernel.OVERLOAD] += 1e-3
    with pytest.raises(SolverError, match="terms"):
        certify(Run(**{**vars(finished), "terms": terms})).require()


def test_step_in_plain_python_gives_the_same():
    case = make_case(example_world(12, "public"), seed=4)
    fast, slow = Station(case), Station(case)
    rng = np.random.default_rng(0)
    for _ in range(60):
        command = fast.layout.port_kw * rng.uniform(-1, 1, fast.world.ports)
        result = fast.step(command)
        kernel.advance.py_func(
            slow.layout, slow.arrays, slow.state, 0, command[None], False, slow.flows
        )
        np.testing.assert_allclose(slow.flows.terms[0], result.terms, rtol=1e-12, atol=1e-12)
        observations = np.zeros((2, kernel.observation_size(fast.world)), dtype=np.float32)
        for function, out in (
            (kernel.observe, observations[0]),
            (kernel.observe.py_func, observations[1]),
        ):
            function(fast.layout, fast.arrays, fast.state, 0, 96, fast.flows, out)
        np.testing.assert_allclose(observations[0], observations[1], atol=1e-6)
        bounds = np.zeros((4, fast.world.ports))
        kernel.bounds(fast.layout, fast.arrays, fast.state, 0, bounds[0], bounds[1])
        kernel.bounds.py_func(fast.layout, fast.arrays, fast.state, 0, bounds[2], bounds[3])
        np.testing.assert_allclose(bounds[:2], bounds[2:], rtol=1e-12)


def test_wrong_commands_and_steps_are_refused():
    case = make_case(example_world(3), seed=1, steps=2)
    station = Station(case)
    with pytest.raises(InputError, match="command_kw"):
        station.step(np.zeros(1))
    with pytest.raises(InputError, match="command_kw"):
        station.step(np.full(station.world.ports, np.nan))
    station.step(np.zeros(station.world.ports))
    station.step(np.zeros(station.world.ports))
    with pytest.raises(InputError, match="the run is over"):
        station.step(np.zeros(station.world.ports))
    with pytest.raises(InputError, match="command_kw"):
        replay(case, np.zeros((1, 1)))


@pytest.mark.parametrize("place", PLACES)
def test_rules_keep_the_limits(place):
    case = make_case(example_world(25, place), seed=3, start_hour=24.0)
    runs = {name: run(case, rule, name) for name, rule in baselines().items()}
    for name, finished in runs.items():
        if name != "as_fast_as_possible":
            assert finished.total["overload_kwh"] < 1e-6, name
    assert set(runs) >= {
        "as_fast_as_possible", "as_late_as_possible", "first_come", "round_robin",
        "least_laxity", "earliest_deadline", "price_threshold",
    }  # fmt: skip


def test_price_threshold_gives_energy_in_dear_hours():
    case = make_case(example_world(25, "home"), seed=3, start_hour=24.0)
    finished = run(case, baselines()["price_threshold"])
    given = np.maximum(-finished.grid_kwh, 0).sum(axis=1)
    price = case.series.buy_usd_per_kwh
    assert given.sum() > 1
    assert price[given > 0].min() >= np.quantile(price, 0.85)


@pytest.mark.parametrize(
    ("rule", "order"),
    [
        ("first_come", [0, 1, 2]),
        ("earliest_deadline", [2, 0, 1]),
        ("least_laxity", [1, 2, 0]),
    ],
)
def test_each_rule_serves_in_its_own_order(rule, order):
    # At step 2 there is power for one car only. Hours left 6, 7 and 5; hours needed 1, 5 and 2.
    charger = ChargerType("c", "ac", 3, 230, 32)
    world = World((Transformer("t", (Lot("lot", "public", (charger,) * 3),)),))
    wish = {"transition_soc": 1.0, "capacity_kwh": 80.0}
    rows = [
        row(0, 8, 10.0, 21.0, **wish),
        row(1, 9, 10.0, 65.0, **wish),
        row(2, 7, 10.0, 32.0, **wish),
    ]
    sessions = Sessions(np.array([0, 1, 2]), np.array(rows))
    case = Case(world, flat_series(9, 1.0, import_kw=11.0), sessions)
    station = Station(case)
    station.step(np.zeros(3))
    station.step(np.zeros(3))
    served = []
    for _ in order:
        command = baselines()[rule](station)
        first = int(np.argmax(command))
        assert command[first] == pytest.approx(11.0)
        served.append(first)
        # Take the car that was served out of the race.
        rows[first][FIELDS.index("target_kwh")] = 10.0
        station = Station(replace(case, sessions=Sessions(np.array([0, 1, 2]), np.array(rows))))
        station.step(np.zeros(3))
        station.step(np.zeros(3))
    assert served == order


def test_round_robin_raises_all_alike():
    charger = ChargerType("c", "ac", 3, 230, 32)
    world = World((Transformer("t", (Lot("lot", "public", (charger,) * 3),)),))
    rows = [row(0, 4, 10.0, 11.0), row(0, 4, 10.0, 40.0), row(0, 4, 10.0, 40.0)]
    sessions = Sessions(np.array([0, 1, 2]), np.array(rows))
    case = Case(world, flat_series(4, 1.0, import_kw=12.0), sessions, BALANCED)
    finished = run(case, baselines()["round_robin"])
    assert finished.grid_kwh[0] == pytest.approx([1.0, 5.5, 5.5])
