"""Other clocks, lists of cars, recorded sessions, prices by period: against hand-solved cases."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from evcm import inputs
from evcm.aggregator import methods, of_fleet
from evcm.aggregator.certificate import check_plan
from evcm.cli.inputs import report
from evcm.errors import InfeasibleError, InputError
from evcm.inputs.example import write_example
from evcm.inputs.values import Clock
from evcm.network.caps import solve_caps
from evcm.network.opf import solve_day
from evcm.study import flow
from evcm.trips import fleet, montecarlo
from evcm.trips.fleet import feeds_in
from evcm.trips.uncontrolled import charge_at_once

CLOCKS = {
    24: (60, [24]), 48: (30, [24]), 96: (15, [24]), 92: (15, [23]), 100: (15, [25]),
    336: (30, [24] * 7),
}  # fmt: skip


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def set_clock(folder, periods, laws=None):
    """Give a folder another clock; loads are flat, prices by period."""
    minutes, hours = CLOCKS[periods]
    laws = laws or ["published"] * len(hours)
    edit(folder / "study.toml", "period_minutes = 30", f"period_minutes = {minutes}")
    edit(folder / "study.toml", "day_hours = [24]\n", f"day_hours = {hours}\n")
    edit(folder / "study.toml", 'laws = ["published"]\n', f"laws = {laws}\n".replace("'", '"'))
    period = np.arange(1, periods + 1)
    table = pd.DataFrame({"period": period, "load_factor": 0.8})
    table.to_csv(folder / "load/profile.csv", index=False)
    return period


def prices(folder, values, buy=None, sell=None):
    """Prices by period in USD."""
    (folder / "market/price_steps.csv").unlink(missing_ok=True)
    table = pd.DataFrame({"period": np.arange(1, len(values) + 1), "price_per_kwh": values})
    if buy is not None:
        table = table.assign(real_time_buy_per_kwh=buy, real_time_sell_per_kwh=sell)
    table.to_csv(folder / "market/prices.csv", index=False)
    edit(folder / "market/market.toml", 'currency = "PEN"\nper_usd = 4.08', 'currency = "USD"')


def charging_only(folder):
    market = folder / "market/market.toml"
    edit(market, 'real_time_limit = "v2g"', 'real_time_limit = "plug"')
    edit(market, "system_cap_mw = 259.0", "system_cap_mw = 400.0")
    edit(folder / "vehicle/vehicle.toml", "feeds_in = true", "feeds_in = false")


def steady(folder):
    """40 km/h always, one real-time sample."""
    law = folder / "trips/law.toml"
    for mean, sd in ((50.0, 20.0), (35.0, 15.0), (20.0, 10.0)):
        edit(law, f"mean_kmh = {mean}\nsd_kmh = {sd}", "mean_kmh = 40.0\nsd_kmh = 0.0")
    edit(folder / "scenarios/scenarios.toml", "real_time_samples = 10", "real_time_samples = 1")


def one_car(folder, text="2,4,20,08:00,18:00,0.225"):
    (folder / "trips/roads.csv").unlink()
    head = "home_bus,work_bus,distance_km,departure,arrival,consumption_kwh_per_km"
    (folder / "trips/cars.csv").write_text(f"{head}\n{text}\n")


@pytest.fixture
def folder(tmp_path):
    write_example(tmp_path / "mine", cars=40)
    return tmp_path / "mine"


@pytest.mark.parametrize("periods", CLOCKS)
def test_one_car_by_hand_on_every_clock(folder, periods):
    set_clock(folder, periods)
    one_car(folder)
    steady(folder)
    charging_only(folder)
    clock_h = Clock(CLOCKS[periods][0] / 60, tuple(CLOCKS[periods][1]),
                                  ("published",) * len(CLOCKS[periods][1])).clock_h()  # fmt: skip
    cheap = (clock_h >= 5) & (clock_h < 6)
    prices(folder, np.where(cheap, 0.05, np.where(clock_h == 12, 0.06, 0.10)))
    given = inputs.read(folder)
    assert given.periods == periods
    days = len(CLOCKS[periods][1])
    drawn = fleet.build_fleet(montecarlo.simulate(given, given.scenarios[0]), "max")
    assert len(drawn) == 1
    leg = 20 * 0.225 / 0.9  # 5 kWh at the battery
    assert drawn.trips.energy_kwh.sum() == pytest.approx(2 * leg * days, abs=1e-6)
    # 20 km at 40 km/h: half an hour on the road, each way
    road = max(1, round(0.5 / given.period_h))
    assert drawn.trips.travelling.sum() == 2 * road * days
    cost = {}
    for bus in (2, 4):
        problem = of_fleet.aggregator_problem(drawn, bus)
        plan = methods.solve(problem, gap=1e-9)
        assert not check_plan(problem, plan).faults
        grid_kwh = 1000 * given.period_h * plan.day_ahead_mw.sum()
        assert grid_kwh == pytest.approx(leg / 0.9 * days, abs=1e-6)  # driven and losses
        cost[bus] = plan.cost_usd
    assert cost[2] == pytest.approx(days * leg / 0.9 * 0.05, abs=1e-6)
    at_work = 0.06 if given.period_h * 150 * 0.9 >= leg else 0.10
    assert cost[4] == pytest.approx(days * leg / 0.9 * at_work, abs=1e-6)
    at_once = charge_at_once(drawn)
    assert 1000 * at_once.energy_mwh[0] == pytest.approx(2 * days * leg / 0.9, abs=1e-6)
    assert at_once.power_mw.shape == (periods, 11, 1)


@pytest.mark.parametrize("periods", CLOCKS)
def test_one_car_that_feeds_in_by_hand_on_every_clock(folder, periods):
    """Home with 55 kWh in the dear evening: sold down to 12, filled to 60 in the cheap morning."""
    set_clock(folder, periods)
    one_car(folder)
    steady(folder)
    edit(folder / "market/market.toml", "system_cap_mw = 259.0", "system_cap_mw = 400.0")
    minutes, hours = CLOCKS[periods]
    clock_h = Clock(minutes / 60, tuple(hours), ("published",) * len(hours)).clock_h()
    dear, cheap = (clock_h >= 12) & (clock_h < 22), (clock_h >= 5) & (clock_h < 8)
    prices(folder, np.where(dear, 0.20, np.where(cheap, 0.05, 0.10)))
    given, days = inputs.read(folder), len(hours)
    drawn = fleet.build_fleet(montecarlo.simulate(given, given.scenarios[0]), "max")
    problem = of_fleet.aggregator_problem(drawn, 2)
    plan = methods.solve(problem, gap=1e-9)
    assert not check_plan(problem, plan).faults
    charged, drawn_kwh = (given.period_h * x.sum() for x in (plan.charge_kw, plan.discharge_kw))
    assert drawn_kwh == pytest.approx(43 * days, abs=1e-6)  # at the battery
    assert charged == pytest.approx(48 / 0.9 * days, abs=1e-6)  # at the grid
    driven, lost = 5 * days, 0.1 * charged + 0.1 * drawn_kwh  # the leg home, both conversions
    bought = 1000 * given.period_h * plan.day_ahead_mw.sum()
    assert bought == pytest.approx(driven + lost, abs=1e-6)
    wear = problem.wear_usd_per_kwh[0] * 43 * days
    assert plan.cost_usd == pytest.approx(days * (48 / 0.9 * 0.05 - 38.7 * 0.20) + wear, abs=1e-6)


@pytest.mark.parametrize("periods", CLOCKS)
def test_the_law_keeps_its_hours_and_energy_on_every_clock(folder, periods):
    set_clock(folder, periods)
    given = inputs.read(folder)
    scenario = given.scenarios[0]
    result = montecarlo.simulate(given, scenario)
    cars = result.cars("max")
    days = given.clock.days
    assert cars.departure.shape == (40, days)
    per_day = 2 * cars.distance_km * cars.consumption_kwh_per_km / 0.9
    assert result.gchr_mwh.max() == pytest.approx(days * per_day.sum() / 1000, rel=1e-9)
    first = np.array(given.clock.first_period[:-1])
    since = (cars.departure - 1 - first) * given.period_h
    assert since.min() >= 0
    assert since.max() <= 9.5 + 1
    gap = (cars.arrival - cars.departure) * given.period_h
    assert gap.min() >= 1.5
    night = cars.departure[:, 1:] - cars.arrival[:, :-1]
    assert (night * given.period_h >= 1.5).all()
    assert (cars.departure[:, 0] + periods - cars.arrival[:, -1] >= 1.5 / given.period_h).all()
    drawn = fleet.build_fleet(result, "max", 1, 2)
    energy = drawn.trips.energy_kwh.sum(axis=0)
    assert energy == pytest.approx(np.repeat(days * per_day[:, None], 2, axis=1), rel=1e-9)
    there = drawn.trips.at_from.astype(int) + drawn.trips.at_to + drawn.trips.travelling
    assert there.max() == 1
    met = set(of_fleet.buses_with_cars(drawn))
    assert met <= set(given.buses)


def test_fewer_cars_drive_at_the_weekend(folder):
    law = folder / "trips/law.toml"
    text = law.read_text()
    begin = text.index("[presets.published]")
    body = text[begin : text.index("# What the paper prints")]
    weekend = body.replace("published", "weekend").replace("share = 1.0", "share = 0.4")
    law.write_text(text.replace(body, body + weekend))
    edit(folder / "scenarios/scenarios.toml", "cars = 40", "cars = 2000")
    set_clock(folder, 336, ["published"] * 5 + ["weekend"] * 2)
    given = inputs.read(folder)
    cars = montecarlo.cars(given, given.scenarios[0], None, 1, 0)
    share = (cars.departure > 0).mean(axis=0)
    assert (share[:5] == 1).all()
    assert share[5:] == pytest.approx([0.4, 0.4], abs=0.05)
    assert np.array_equal(cars.departure == 0, cars.arrival == 0)
    drawn = fleet.real_time_fleet(cars, np.ones(2000, dtype=int), None, (1, 1, 0), 1, name="a week")
    home = drawn.trips.at_from[240:, :, 0].mean(axis=1)
    assert home.min() > 0.55  # who stays at home is plugged in there
    day = charge_at_once(drawn)
    assert 1000 * day.energy_mwh[0] == pytest.approx(
        drawn.trips.energy_kwh.sum() / 0.9, rel=1e-9
    )  # fmt: skip


def test_classes_have_their_own_battery_charger_and_efficiency(folder):
    path = folder / "vehicle/vehicle.toml"
    first = path.read_text().split("\n[[class]]\n")[1].replace("share = 1.0", "share = 0.7")
    second = (
        first.replace('"car"', '"van"').replace("share = 0.7", "share = 0.3")
        .replace("feeds_in = true", "feeds_in = false").replace("power_kw = 150.0", "power_kw = 22")
        .replace("discharge_efficiency = 0.9", "discharge_efficiency = 0.8")
        .replace("capacity_kwh = 80.0", "capacity_kwh = 120.0")
    )  # fmt: skip
    path.write_text(f"# two classes\n[[class]]\n{first}\n[[class]]\n{second}")
    edit(folder / "scenarios/scenarios.toml", "cars = 40", "cars = 600")
    given = inputs.read(folder)
    result = montecarlo.simulate(given, given.scenarios[0])
    drawn = fleet.build_fleet(result, "max")
    vans = drawn.vehicle_class == 1
    assert drawn.group_size[vans].sum() == pytest.approx(180, abs=40)
    efficiency = np.where(vans, 0.8, 0.9)
    expected = 2 * drawn.distance_km * drawn.consumption_kwh_per_km / efficiency
    assert drawn.trips.energy_kwh.sum(axis=0)[:, 0] == pytest.approx(expected, rel=1e-9)
    assert montecarlo.gchr_kwh(drawn.trips.energy_kwh, drawn.group_size) == pytest.approx(
        np.full(10, 1000 * result.gchr_mwh.max())
    )
    problem = of_fleet.aggregator_problem(drawn, 4)
    mine = np.flatnonzero((drawn.from_bus == 4) | (drawn.to_bus == 4))
    assert np.array_equal(problem.feeds_in, ~vans[mine])
    assert np.array_equal(problem.charger.power_kw, np.where(vans[mine], 22.0, 150.0))
    plan = methods.solve(problem, gap=1e-2)
    assert not check_plan(problem, plan).faults
    assert not plan.discharge_kw[:, vans[mine]].any()
    assert charge_at_once(drawn).energy_mwh == pytest.approx(
        np.full(10, result.gchr_mwh.max() / 0.9)
    )


def two_classes(folder, **van):
    """The class of the folder as ``car``, and a van that only charges, with figures of its own."""
    path = folder / "vehicle/vehicle.toml"
    first = path.read_text().split("\n[[class]]\n")[1].replace("share = 1.0", "share = 0.5")
    second = first.replace('"car"', '"van"').replace("feeds_in = true", "feeds_in = false")
    for name, value in van.items():
        second = re.sub(f"{name} = .*", f"{name} = {value}", second)
    path.write_text(f"# two classes\n[[class]]\n{first}\n[[class]]\n{second}")


def van_of_one_hour(folder):
    """A van at home from 20:00 to 21:00 alone, and a car that is at home all night."""
    set_clock(folder, 24)
    steady(folder)
    two_classes(folder)
    rows = "2,4,20,21:00,43:30,0.225,van\n2,4,20,08:00,18:00,0.225,car"
    (folder / "trips/roads.csv").unlink()
    head = "home_bus,work_bus,distance_km,departure,arrival,consumption_kwh_per_km,vehicle_class"
    (folder / "trips/cars.csv").write_text(f"{head}\n{rows}\n")
    edit(folder / "market/market.toml", "system_cap_mw = 259.0", "system_cap_mw = 400.0")
    prices(folder, np.full(24, 0.1))
    given = inputs.read(folder)
    return fleet.build_fleet(montecarlo.simulate(given, given.scenarios[0]), "max")


@pytest.mark.parametrize("cap_kw", [1.0, 1.5, 2.0, 2.5, 4.0])
def test_charging_only_cars_count_against_a_cap_that_others_feed_under(folder, cap_kw):
    """The van needs 5 kWh in one hour under a low cap: the car must feed in the rest."""
    drawn = van_of_one_hour(folder)
    cap = np.full(24, 0.02)
    cap[20] = cap_kw / 1000
    problem = of_fleet.aggregator_problem(drawn, 2, cap)
    van = int(np.flatnonzero(~problem.feeds_in)[0])
    assert problem.available[:, van, 0].nonzero()[0].tolist() == [20]
    plan = methods.solve(problem, gap=1e-9)
    assert not check_plan(problem, plan).faults
    assert plan.charge_kw[20, van, 0] == pytest.approx(5 / 0.9, abs=1e-6)
    assert not plan.discharge_kw[:, van].any()
    fed_kw = plan.discharge_kw[20, 1 - van, 0]  # at the battery
    assert 0.9 * fed_kw == pytest.approx(5 / 0.9 - cap_kw, abs=1e-6)
    assert 1000 * plan.day_ahead_mw[20] == pytest.approx(cap_kw, abs=1e-6)
    # where the car cannot feed in either, no plan lives with that cap, and the hour is named
    with pytest.raises(InfeasibleError, match="period 21"):
        methods.solve(problem.with_options(allow_v2g=False, real_time_limit="plug"), gap=1e-9)


def test_the_least_cap_of_charging_only_cars_is_what_their_trips_take(folder):
    drawn = van_of_one_hour(folder)
    van = np.flatnonzero(drawn.vehicle_class == 1)
    assert feeds_in(drawn, van).tolist() == [False]
    cap = np.full(24, 1.0)
    whole = of_fleet.aggregator_problem(drawn, 2, cap, allow_v2g=False, real_time_limit="plug")
    cap[20] = 5.0 / 0.9 / 1000 + 1e-6
    assert methods.solve(whole.with_options(trading_cap_mw=cap), gap=1e-9).cost_usd > 0
    with pytest.raises(InfeasibleError):
        methods.solve(whole.with_options(trading_cap_mw=cap - 2e-6), gap=1e-9)


def test_a_list_of_cars_is_counted_not_the_scenario(folder):
    drawn = van_of_one_hour(folder)
    given = drawn.inputs
    assert given.scenarios[0].cars == 40
    assert montecarlo.simulate(given, given.scenarios[0]).scenario.cars == drawn.cars == 2
    assert any("2 cars, " in line and "about 2 schedules" in line for line in report(given))


def test_why_cars_that_only_charge_have_no_plan_is_said(folder, tmp_path):
    """Days of sessions that never meet: no sample may leave the day-ahead power."""
    sessions(folder, [SESSIONS[0], (9, "2019-03-02 18:00", "2019-03-02 22:00", 9.0)])
    edit(folder / "vehicle/vehicle.toml", "feeds_in = true", "feeds_in = false")
    settings = flow.Settings(cars_per_group=1, gap=0.05, jobs=1)
    with pytest.raises(InfeasibleError, match=r'real_time_limit = "plug".*same power'):
        flow.run(inputs.read(folder), settings, tmp_path / "results")


@pytest.mark.parametrize("feeds", ["true", "false"])
def test_a_connection_is_a_branch_with_a_limit_for_cars_of_every_kind(folder, feeds):
    """Bus 14's load and cars behind a branch of 16 MVA: caps and operation keep to it."""
    bus, branch = folder / "network/bus.csv", folder / "network/branch.csv"
    rows = bus.read_text().strip().splitlines()
    load = rows[-1].split(",")
    assert load[0] == "14"
    behind = ["15", "1", *load[2:4], "0", "0", *load[6:]]
    rows[-1] = ",".join([*load[:2], "0", "0", *load[4:]])
    bus.write_text("\n".join([*rows, ",".join(behind)]) + "\n")
    branch.write_text(branch.read_text() + "21,14,15,0.001,0.005,0,1,16\n")
    roads = folder / "trips/roads.csv"
    roads.write_text(re.sub(r"\b14\b", "15", roads.read_text()))
    edit(folder / "vehicle/vehicle.toml", "feeds_in = true", f"feeds_in = {feeds}")
    given = inputs.read(folder)
    assert given.buses[-1] == 15
    caps = solve_caps(given.day)
    total = np.hypot(given.load_p_mw[:, -1] + caps.cap_mw[:, -1], given.load_q_mvar[:, -1])
    assert total.max() <= 16.0 + 1e-4
    drawn = fleet.build_fleet(montecarlo.simulate(given, given.scenarios[0]), "max")
    many = replace(drawn, group_size=400 * drawn.group_size)
    at_once = charge_at_once(many).mean_mw
    assert at_once[:, -1].max() > 5.0
    day = solve_day(given.day.with_cars(at_once))
    served = day.load_p_mw[:, -1] - day.nsp_mw[:, -1]
    assert served.max() <= 16.0 + 1e-4
    assert day.nsp_mw[:, -1].max() > 1.0


SESSIONS = [
    # bus, arrival, departure, kWh: two days; one goes over midnight
    (9, "2019-03-01 08:00", "2019-03-01 12:00", 9.0),
    (9, "2019-03-01 09:10", "2019-03-01 17:00", 18.0),
    (14, "2019-03-02 22:00", "2019-03-03 06:00", 4.5),
    (9, "2019-03-02 07:00", "2019-03-02 13:00", 27.0),
]


def sessions(folder, rows=SESSIONS, head="bus,arrival,departure,energy_kwh", separator=","):
    (folder / "trips/roads.csv").unlink(missing_ok=True)
    (folder / "trips/law.toml").unlink(missing_ok=True)
    lines = [separator.join(str(x) for x in row) for row in rows]
    path = folder / "trips/sessions.csv"
    path.write_text("\n".join([head.replace(",", separator), *lines]) + "\n")


def test_recorded_sessions_are_the_real_time_samples(folder):
    sessions(folder)
    charging_only(folder)
    prices(folder, [0.2] * 16 + [0.1] * 32)
    given = inputs.read(folder)
    result = montecarlo.simulate(given, given.scenarios[0])
    assert result.gchr_mwh == pytest.approx([0.027, 0.0315])
    drawn = fleet.build_fleet(result, "max")
    assert drawn.probability.tolist() == [0.5, 0.5]
    assert of_fleet.buses_with_cars(drawn) == (9, 14)
    problem = of_fleet.aggregator_problem(drawn, 9)
    assert problem.available[:, 0, 0].nonzero()[0].tolist() == list(range(16, 24))
    assert problem.available[:, 0, 1].nonzero()[0].tolist() == list(range(14, 26))
    night = of_fleet.aggregator_problem(drawn, 14)
    assert night.available[:, 0, 1].nonzero()[0].tolist() == [*range(12), *range(44, 48)]
    assert not night.available[:, 0, 0].any()
    plan = methods.solve(problem, gap=1e-6)
    assert not check_plan(problem, plan).faults
    traded = plan.day_ahead_mw[:, None] + plan.deficit_mw - plan.surplus_mw
    assert 500 * traded.sum(axis=0) == pytest.approx([27 / 0.9, 27 / 0.9], abs=1e-6)
    assert plan.cost_usd == pytest.approx(30 * 0.1, abs=1e-5)
    at_once = charge_at_once(drawn)
    assert 1000 * at_once.energy_mwh == pytest.approx([30.0, 35.0], abs=1e-6)
    nine, fourteen = given.buses.index(9), given.buses.index(14)
    assert at_once.power_mw[16, nine, 0] == pytest.approx(9 / 0.9 / 0.5 / 1000)
    assert at_once.power_mw[44, fourteen, 1] == pytest.approx(4.5 / 0.9 / 0.5 / 1000)


def test_common_exports_of_sessions_read_alike(folder):
    sessions(folder)
    expected = inputs.read(folder).cars
    zone = "America/Los_Angeles"
    acn = []
    for bus, start, end, kwh in SESSIONS:
        utc = [datetime.fromisoformat(t) + timedelta(hours=8) for t in (start, end)]
        stamps = [format_datetime(t).replace("-0000", "GMT") for t in utc]
        acn.append((bus, *(f'"{s}"' for s in stamps), kwh, "x1"))
    sessions(folder, acn, "bus,connectionTime,disconnectTime,kWhDelivered,sessionID")
    (folder / "trips/sessions.toml").write_text(f'time_zone = "{zone}"\n')
    assert same(inputs.read(folder).cars, expected)
    iso = [
        (b, *((datetime.fromisoformat(t) + timedelta(hours=8)).isoformat() + "Z" for t in (s, e)),
         str(kwh).replace(".", ","))
        for b, s, e, kwh in SESSIONS
    ]  # fmt: skip
    sessions(folder, iso, separator=";")
    path = folder / "trips/sessions.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert same(inputs.read(folder).cars, expected)


def same(a, b):
    names = "bus", "sample", "first_period", "last_period", "energy_kwh"
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in names)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ((9, "2019-03-01 12:00", "2019-03-01 08:00", 9.0), "line 6, departure"),
        ((7, "2019-03-01 08:00", "2019-03-01 12:00", 9.0), "line 6, column bus: got 7"),
        ((9, "yesterday", "2019-03-01 12:00", 9.0), "line 6, column arrival: got yesterday"),
        ((9, "2019-03-01 08:00", "2019-03-01 12:00", 70.0), "line 6, energy_kwh: got 70"),
        ((9, "2019-03-01 08:00", "2019-03-01 12:00", 0), "line 6, energy_kwh: got 0"),
    ],
)
def test_bad_sessions_are_named_with_their_line(folder, row, match):
    sessions(folder, [*SESSIONS, row])
    with pytest.raises(InputError, match=match):
        inputs.read(folder)


def test_sessions_that_overlap_at_a_station_are_refused(folder):
    rows = [
        (*SESSIONS[0], "A"),
        (*SESSIONS[1], "B"),
        (9, "2019-03-01 11:59", "2019-03-01 13:00", 2, "A"),
    ]
    sessions(folder, rows, "bus,arrival,departure,energy_kwh,station")
    with pytest.raises(InputError, match=r"line 4, arrival.*at station A not before"):
        inputs.read(folder)
    sessions(folder, rows[:2], "bus,arrival,departure,energy_kwh,station")
    assert len(inputs.read(folder).cars) == 2


REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "sessions"


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="needs ../shared/reference/sessions")
def test_a_month_of_real_sessions(folder):
    table = pd.read_csv(REFERENCE / "caltech-2019-03.csv")
    start = pd.Timestamp("2019-03-01")
    times = {
        name: [
            (start + pd.Timedelta(minutes=5 * int(p))).isoformat() for p in table[f"{name}_period"]
        ]
        for name in ("arrival", "departure")
    }
    rows = zip(times["arrival"], times["departure"], table["energy_kwh"], table["station"],
               table["max_power_kw"], strict=True)  # fmt: skip
    sessions(folder, rows, "arrival,departure,energy_kwh,station,charger_kw")
    (folder / "trips/sessions.toml").write_text("bus = 9\n")
    charging_only(folder)
    edit(folder / "vehicle/vehicle.toml", "soc_min_kwh = 12.0", "soc_min_kwh = 0.0")
    given = inputs.read(folder)
    assert len(given.cars) == 954
    drawn = fleet.build_fleet(montecarlo.simulate(given, given.scenarios[0]), "max")
    asked = table["energy_kwh"].sum()
    served = drawn.trips.energy_kwh.sum()
    assert 0.985 * asked < served <= asked
    problem = of_fleet.aggregator_problem(drawn, 9)
    assert problem.cars == len(drawn)
    assert problem.charger.power_kw.max() == pytest.approx(6.6)
    at_once = charge_at_once(drawn)
    assert 900 * at_once.energy_mwh.sum() == pytest.approx(served, rel=1e-9)


def test_negative_prices_and_real_time_prices_of_their_own(folder):
    set_clock(folder, 24)
    one_car(folder)
    steady(folder)
    charging_only(folder)
    values = np.full(24, 0.1)
    values[3] = -0.02
    prices(folder, values, values + 0.05, values - 0.05)
    given = inputs.read(folder)
    assert given.market.price.buy_usd_per_kwh == pytest.approx(values + 0.05)
    drawn = fleet.build_fleet(montecarlo.simulate(given, given.scenarios[0]), "max")
    problem = of_fleet.aggregator_problem(drawn, 2)
    plan = methods.solve(problem, gap=1e-9)
    # at least the leg, at most a full battery, is paid for being taken
    assert plan.cost_usd <= -0.02 * 5 / 0.9 + 1e-9
    assert not check_plan(problem, plan).faults
