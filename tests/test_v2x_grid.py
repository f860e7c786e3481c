"""Stations on the 14-bus system and the 13-node feeder, and caps."""

from dataclasses import replace

import numpy as np
import pytest

from evcm.errors import InputError
from evcm.inputs import paper, read
from evcm.inputs.example import write_example
from evcm.network.opf import solve_day
from evcm.v2x.grid import (
    Stations,
    bus_power_mw,
    feeder_table,
    on_feeder,
    operate,
    period_kw,
    under_cap,
)
from evcm.v2x.rules import as_fast_as_possible, baselines
from evcm.v2x.solve import optimum
from evcm.v2x.station import make_case, run
from evcm.v2x.world import example_world


@pytest.fixture(scope="module")
def case():
    return make_case(example_world(25, "home"), seed=3, start_hour=24.0)


@pytest.mark.parametrize(("minutes", "start"), [(5, 0.0), (15, 0.0), (60, 0.0), (15, 18.5)])
def test_periods_keep_the_energy_and_the_clock(minutes, start):
    day = make_case(
        example_world(6, "public"), seed=2, steps=24 * 60 // minutes, step_h=minutes / 60,
        start_hour=start,
    )  # fmt: skip
    finished = run(day, as_fast_as_possible)
    power = period_kw(paper(), finished)
    assert 0.5 * power.sum() == pytest.approx(finished.grid_kwh.sum())
    if minutes == 15:
        at = round(start * 2)
        assert power[at] == pytest.approx(2 * finished.grid_kwh[:2].sum())
    with pytest.raises(InputError, match="length of the run"):
        period_kw(paper(), run(make_case(example_world(2), steps=8), as_fast_as_possible))


def test_stations_load_the_bus_and_the_generation_follows(case):
    finished = run(case, as_fast_as_possible)
    groups = [Stations(finished, 9, 60), Stations(finished, 14, 20), Stations(finished, 9, 10)]
    power = bus_power_mw(paper(), groups)
    one = period_kw(paper(), finished) / 1000
    np.testing.assert_allclose(power[:, paper().buses.index(9)], 70 * one)
    day, base = operate(paper(), groups), solve_day(paper().day)
    assert day.load_mwh - base.load_mwh == pytest.approx(90 * finished.grid_kwh.sum() / 1000)
    assert day.generation_mwh > base.generation_mwh
    with pytest.raises(InputError, match="bus"):
        operate(paper(), [Stations(finished, 7)])


def test_stations_on_the_feeder_lower_its_voltage(case):
    finished = run(case, as_fast_as_possible)
    groups = [Stations(finished, 9, 40)]
    day = operate(paper(), groups)
    terminals = {"675.a": 1.0, "675.b": 1.0, "675.c": 1.0}
    states = on_feeder(paper(), groups, day, terminals)
    none = on_feeder(paper(), [Stations(finished, 9, 0)], day, terminals)
    assert len(states.v_pu) == 48
    peak = int(np.argmax(period_kw(paper(), finished)))
    assert states.at("675", "a")[peak] < none.at("675", "a")[peak]


def test_cap_limits_the_cars_not_the_building(case):
    cap = np.full(48, 5.0)
    cap[34:46] = 2.0  # MW for 40 stations: 50 kW each from 17:00 to 23:00
    capped = under_cap(paper(), case, cap, stations=40)
    free, held = optimum(case), optimum(capped, hard_limits=True)
    power = period_kw(paper(), held.run)
    assert power[34:46].max() <= 50.0 + 1e-6
    assert period_kw(paper(), free.run)[34:46].max() > 50.0
    assert held.reward <= free.reward
    for bad in (np.full(47, 1.0), np.full(48, -1.0)):
        with pytest.raises(InputError, match="cap_mw"):
            under_cap(paper(), case, bad)


def test_cap_of_a_long_step_is_the_least_of_its_half_hours():
    coarse = make_case(example_world(3), seed=1, steps=24, step_h=1.0)
    cap = np.full(48, 0.1)
    cap[21] = 0.002
    limit = under_cap(paper(), coarse, cap).series.import_limit_kw[:, 0]
    base = coarse.series.base_kw[:, 0]
    assert limit[10] == pytest.approx(base[10] + 2.0)
    assert limit[11] == pytest.approx(min(base[11] + 100.0, coarse.series.import_limit_kw[11, 0]))


def test_a_cap_holds_where_pv_exceeds_the_building():
    # 100 kW of PV and a building of 5 kW: the cars' 2 kW are to be kept at noon too.
    home = example_world(8, "workplace")
    lot = replace(home.lots[0], export_limit_kw=np.inf)
    sunny = replace(
        home.transformers[0], lots=(lot,), pv_rated_kw=100.0, building_peak_kw=5.0,
        export_limit_kw=np.inf,
    )  # fmt: skip
    case = make_case(replace(home, transformers=(sunny,)), seed=2, steps=48, step_h=0.5)
    capped = under_cap(paper(), case, np.full(48, 0.002))
    assert capped.series.import_limit_kw.min() < 0
    base = capped.series.base_kw[:, 0]
    for rule in ("first_come", "round_robin", "least_laxity"):
        cars = run(capped, baselines()[rule]).grid_kwh.sum(axis=1) / case.series.step_h
        assert cars.max() <= 2.0 + 1e-6
        assert cars[base < 0].max() > 1.0
    best = optimum(capped, hard_limits=True).run
    assert (best.grid_kwh.sum(axis=1) / case.series.step_h).max() <= 2.0 + 1e-6
    # What takes more is counted as overload of the cap.
    free = run(capped, as_fast_as_possible)
    cars = free.grid_kwh.sum(axis=1) / case.series.step_h
    assert cars.max() > 20.0
    over = np.maximum(cars - 2.0, 0.0).sum() * case.series.step_h
    assert free.total["overload_kwh"] >= over - 1e-6


@pytest.fixture(scope="module")
def quarter_hours(tmp_path_factory):
    """case30 on a day of 96 quarter-hours."""
    folder = tmp_path_factory.mktemp("grid") / "case30"
    write_example(folder, case="case30", cars=100)
    study = folder / "study.toml"
    study.write_text(study.read_text().replace("period_minutes = 30", "period_minutes = 15"))
    rows = [f"{t},{0.6 + 0.2 * (t > 40)}" for t in range(1, 97)]
    (folder / "load/profile.csv").write_text("\n".join(["period,load_factor", *rows]) + "\n")
    return read(folder)


@pytest.mark.parametrize(("minutes", "start"), [(5, 0.0), (15, 31.25), (60, 24.0)])
def test_stations_stand_on_any_network_and_day(quarter_hours, minutes, start):
    told = quarter_hours
    series = make_case(
        example_world(6, "public"), seed=2, steps=24 * 60 // minutes, step_h=minutes / 60,
        start_hour=start,
    )  # fmt: skip
    finished = run(series, as_fast_as_possible)
    power = period_kw(told, finished)
    assert power.shape == (96,)
    assert 0.25 * power.sum() == pytest.approx(finished.grid_kwh.sum())
    if minutes == 15:  # the run begins at 07:15, in period 30
        assert power[29] == pytest.approx(4 * finished.grid_kwh[0].sum())
        with pytest.raises(InputError, match="whole period of 30 minutes"):
            period_kw(paper(), finished)
    bus = told.buses[-1]
    assert bus not in paper().buses
    groups = [Stations(finished, bus, 5), Stations(finished, told.buses[0], 2)]
    day, base = operate(told, groups), solve_day(told.day)
    assert day.load_mwh - base.load_mwh == pytest.approx(7 * finished.grid_kwh.sum() / 1000)
    table = feeder_table(told, groups, day)
    assert table.groupby("bus")["period"].max().to_dict() == {told.buses[0]: 96, bus: 96}
    mine = table[table["bus"] == bus]
    np.testing.assert_allclose(mine["ev_mw"], 5 * power / 1000)
    place = int(np.flatnonzero(told.network.bus_number == bus)[0])
    np.testing.assert_array_equal(mine["v_pu"], day.v_pu[:, place])


def test_a_cap_holds_in_every_step_of_another_clock(quarter_hours):
    case = make_case(example_world(3), seed=1, steps=24, step_h=1.0, start_hour=24.0)
    cap = np.full(96, 0.1)
    cap[41] = 0.002  # 10:15
    limit = under_cap(quarter_hours, case, cap).series.import_limit_kw[:, 0]
    assert limit[10] == pytest.approx(case.series.base_kw[10, 0] + 2.0)
    assert limit[11] > limit[10]
    with pytest.raises(InputError, match=r"cap_mw, shape.*\(96,\)"):
        under_cap(quarter_hours, case, np.full(48, 1.0))
