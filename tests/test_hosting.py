import math
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from coordination_fleets import problems
from typer.testing import CliRunner

from evcm import aggregator, cli, inputs
from evcm.aggregator import of_fleet
from evcm.coordination import allocation
from evcm.coordination.capped import under_cap
from evcm.errors import InfeasibleError, InputError
from evcm.inputs import paper
from evcm.inputs.example import write_example
from evcm.network import opf
from evcm.plots import hosting as plots_hosting
from evcm.store import columns, fingerprint
from evcm.store.results import StaleError
from evcm.study import growing, hosting, limits
from evcm.study import hosting_points as points
from evcm.study.hosting import Grid
from evcm.trips import uncontrolled

PAPER = inputs.paper()

SMALL = Grid(
    counts=(2200, 13_200), seeds=(1, 3), capped_seeds=(1,), sweep_counts=(),
    regimes=("apart", "proportional"),
    threshold_start=6600, outage_days=2, feeder_draws=1,
    groups=44, samples=2, days=3, curve_days=2, block=1000, most=12_000,
    uncontrolled_charger_kw=(22.0, 150.0),
)  # fmt: skip


def test_the_first_cars_of_a_day_do_not_depend_on_how_many_follow():
    few, many = (
        growing.drawn_day(PAPER, 500, 3),
        growing.drawn_day(PAPER, 2000, 3),
    )
    part = growing.first_cars(many, 0, 500)
    for name in ("from_bus", "to_bus", "departure", "arrival", "consumption_kwh_per_km"):
        np.testing.assert_array_equal(getattr(few, name), getattr(part, name))


def test_a_growing_fleet_is_the_fleet_of_its_first_cars():
    day, charger = growing.drawn_day(PAPER, 2000, 0), PAPER.vehicles[0].charger
    power, unserved = growing.growing_fleet_mw(day, 500, charger)
    assert power.shape == (5, 48, 11)
    whole = uncontrolled.charge_at_once(growing.first_cars(day, 0, 1500), charger)
    np.testing.assert_allclose(power[3], whole.power_mw[:, :, 0], atol=1e-9)
    np.testing.assert_array_equal(unserved, 0.0)


def test_blocks_of_slow_chargers_leave_what_their_cars_alone_would():
    told = PAPER
    slow = replace(told.vehicles[0].charger, power_kw=1.0)
    day = growing.drawn_day(PAPER, 1500, 1)
    power, unserved = growing.growing_fleet_mw(day, 500, slow)
    for blocks in (1, 2, 3):
        whole = uncontrolled.charge_at_once(growing.first_cars(day, 0, 500 * blocks), slow)
        np.testing.assert_allclose(power[blocks], whole.power_mw[:, :, 0], atol=1e-9)
        np.testing.assert_allclose(unserved[blocks], whole.unserved_kwh[0], rtol=1e-9)
    assert 0 < unserved[1] < unserved[2] < unserved[3]


def test_the_first_shortage_is_where_a_scan_finds_it():
    site = paper().day
    charger = PAPER.vehicles[0].charger
    days = [growing.growing_fleet_mw(growing.drawn_day(PAPER, 12_000, d), 2000, charger)[0]
            for d in (0, 1)]  # fmt: skip
    days.append(np.zeros_like(days[0]))
    power = np.stack(days)
    found = growing.first_shortage(site, power)
    for day, first in zip(power, found, strict=True):
        short = [not opf.served(site, p).all() for p in day]
        scan = short.index(True) if any(short) else len(day)
        assert first == scan
    assert found[2] == 7


def test_a_drawn_car_can_stand_for_several():
    told = PAPER
    charger = told.vehicles[0].charger
    one, _ = Grid(block=100, most=1000).fleet(2, told).drawn(charger)
    ten, unserved = Grid(block=1000, most=10_000, weight=10).fleet(2, told).drawn(charger)
    assert ten.shape == (2, 11, 48, 11)
    np.testing.assert_array_equal(ten, 10 * one)
    np.testing.assert_array_equal(unserved, 0.0)
    with pytest.raises(InputError, match="weight"):
        Grid(block=250, weight=3)


def test_counts_of_another_network_lie_about_its_own_first_shortage(tmp_path):
    assert growing.mean_room(PAPER) == hosting.GRID_ROOM
    assert hosting.grid_for(PAPER) == Grid()
    other = inputs.write_example(tmp_path / "case57", case="case57", cars=100)
    grid, room = hosting.grid_for(other), growing.mean_room(other)
    assert room > 10 * hosting.GRID_ROOM
    assert min(grid.counts) < room < max(grid.counts) < grid.most
    assert len(grid.counts) == 3
    fleet = grid.fleet(1, other)
    _, first = fleet.first_cars(other.day, fleet.power_mw())
    assert 0.5 * room < first[0] < 2 * room


def test_a_fleet_of_listed_cars_does_not_grow(tmp_path):
    folder = tmp_path / "listed"
    inputs.write_example(folder)
    (folder / "trips/roads.csv").unlink()
    (folder / "trips/cars.csv").write_text(
        "home_bus,work_bus,distance_km,departure,arrival\n2,3,20,07:30,18:00\n"
    )
    with pytest.raises(InputError, match=r"trips/roads\.csv"):
        hosting.grid_for(inputs.read(folder))


def test_the_median_has_its_interval():
    x = np.r_[np.arange(1000.0, 1099.0), np.inf]
    found = hosting.first_count(x)
    assert found["median"] == 1050.0
    assert found["median_low"] == 1039.0
    assert found["median_high"] == 1060.0
    assert found["p05"] == 1005.0
    assert found["p95"] == 1095.0


@pytest.mark.parametrize("draws", [4, 5, 6, 8, 9, 40, 101])
def test_the_interval_holds_the_median_with_the_chance_it_says(draws):
    """By hand: of n days k lie below the median with a chance of (n choose k) / 2^n."""
    found = hosting.first_count(np.arange(draws, dtype=float))
    if draws < 6:
        assert np.isnan(found["median_low"])
        assert np.isnan(found["median_high"])
        return
    below, above = int(found["median_low"]), int(found["median_high"])
    assert above == draws - 1 - below
    chance = sum(math.comb(draws, k) for k in range(below + 1, above + 1)) / 2**draws
    narrower = sum(math.comb(draws, k) for k in range(below + 2, above)) / 2**draws
    assert narrower < 0.95 <= chance


def test_the_largest_fleet_is_the_edge_of_what_a_cap_carries():
    problem = problems(2200)[5]
    cap = np.full(48, 2.0)
    most = points.largest_fleet(problem, cap)
    grow = most / problem.cars
    inside = problem.with_options(group_size=np.floor(problem.group_size * grow * 0.99))
    assert aggregator.solve(under_cap(inside, cap), gap=0.1).day_ahead_mw.max() <= 2.0 + 1e-6
    outside = problem.with_options(group_size=np.ceil(problem.group_size * grow * 1.01))
    with pytest.raises(InfeasibleError):
        aggregator.solve(under_cap(outside, cap), gap=0.1)


def test_cars_that_may_not_feed_in_do_not():
    problem = points.grouped_problems(
        PAPER, points.Point("apart", 2000, 1, 150.0, 0.5, 200, 2, 0.03)
    )[9]
    barred = problem.storage_cost_usd_per_kwh >= points.NO_FEED_IN_USD_PER_KWH
    assert 0 < barred.sum() < barred.size
    plan = aggregator.solve(problem, gap=0.03)
    # charging and discharging at once moves no battery; a battery that falls feeds in
    net = problem.charger.charge_efficiency * plan.charge_kw - plan.discharge_kw
    assert net[:, barred].min() >= -1e-3
    assert net[:, ~barred].min() < -1.0


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hosting")
    with pytest.MonkeyPatch.context() as patch:
        # an edit of the code while the tests run would make the stored tables stale
        patch.setattr(fingerprint, "of_modules", cache(fingerprint.of_modules))
        yield folder, hosting.run(PAPER, SMALL, folder, jobs=1)


@pytest.mark.parametrize("rule", ["maximum total", "max-min fair"])
def test_caps_run_out_first_where_the_least_of_all_largest_fleets_is(rule):
    point = points.Point(rule, 6000, 2, 150.0, 1.0, 40, 2, 0.03)
    found = points.LimitTask(point, PAPER).run().record
    each = points.grouped_problems(PAPER, point)
    met = np.array([p.cars for p in each], float)
    caps = allocation.allocate(rule, met, of_fleet.site_of(each, PAPER))
    most = [
        points.largest_fleet(p, cap) / p.cars * 6000 for p, cap in zip(each, caps.T, strict=True)
    ]
    assert found["bus"] == [each[int(np.argmin(most))].bus]
    assert found["most_cars"] == pytest.approx([min(most)], rel=1e-6)


def test_tables_tell_the_regimes_apart(stored):
    _, tables = stored
    own = tables["points"].set_index(["regime", "cars"])["nse_mwh"]
    assert own["apart", 2200] == 0.0
    assert own["apart", 13_200] > 0.0
    assert own["proportional", 13_200] == 0.0
    free = tables["uncontrolled"].set_index(["charger_kw", "cars"])
    assert free.loc[(150.0, 0), "nse_mwh"] == 0.0
    assert free.loc[(150.0, 13_200), "peak_mw"] > free.loc[(150.0, 0), "peak_mw"]
    most = tables["caps"].groupby("rule")["most_cars"].min()
    assert most["maximum total"] < most["proportional"]


def test_every_column_of_every_table_has_its_meaning(stored):
    for name, table in stored[1].items():
        told = columns.described(f"hosting/{name}", table.columns)
        assert told["meaning"].str.len().min() > 3


def test_first_counts_name_every_regime_and_its_limit(stored):
    first = hosting.first_counts(stored[1]).set_index("regime")
    assert {"uncontrolled", "apart", "proportional"} <= set(first.index)
    assert 2200 < first.loc["apart", "median"] <= 13_200
    assert first.loc["apart", "draws"] == 2
    assert first.loc["apart", "limit"] == "generation"
    assert first.loc["proportional", "limit"] == "cap below the trips"


def test_a_first_shortage_is_a_step_between_served_and_short(stored):
    """The fleet one step smaller is served on most days, the one found is not."""
    step = 2 * SMALL.groups
    near = points.Point("apart", step, 1, 150.0, 1.0, SMALL.groups, SMALL.samples, SMALL.gap)

    def is_a_step(seed, first):
        small, large = (
            points.solve_point(PAPER, replace(near, seed=seed, cars=count))["days_short"]
            for count in (first - step, first)
        )
        return small < 0.5 <= large

    for _, row in stored[1]["first"].iterrows():
        seed, first = int(row["seed"]), int(row["first_cars"])
        assert is_a_step(seed, first)
    # of the last fleet, wherever the search starts; it may have several such counts
    for start in (first + 3 * step, first - 3 * step):
        asked = replace(near, seed=seed, cars=start)
        found = points.ThresholdTask(asked, PAPER, SMALL.most).run().record
        assert is_a_step(seed, int(found["first_cars"]))
    none = points.ThresholdTask(asked, PAPER, SMALL.threshold_start).run().record
    assert none == {"first_cars": np.inf, "limit": "none"}


def test_a_quantile_of_unsupplied_energy_may_be_infinite_but_never_nan():
    values = np.array([0.0, 1.0, np.inf, np.inf])
    assert hosting._quantile(values, 0.05) == 0.0
    assert hosting._quantile(values, 0.95) == np.inf
    assert hosting._quantile(np.arange(21.0), 0.05) == pytest.approx(1.0)


def test_generation_runs_out_before_wires_and_voltages(stored):
    limits_of = stored[1]["limits"].query("latest_h == 9.5")
    median = limits_of.groupby("limit")["first_cars"].median()
    assert median["all limits"] == median["generation"]
    assert median["generation"] < median["branch ratings"]


def test_a_later_clamp_hosts_more(stored):
    """Cars that the clamp piles up in one half-hour charge at work all at once."""
    tables = stored[1]
    first = (
        tables["limits"].query("limit == 'all limits'").groupby("latest_h")["first_cars"].median()
    )
    assert first[9.5] <= first[13.0]
    nse = tables["clamp"].query("cars == 13200").set_index("latest_h")["nse_mwh"]
    assert nse[13.0] < nse[9.5]
    added = tables["added"].query("latest_h == 9.5").set_index("period")["mw_per_1000_cars"]
    assert added.idxmax() in range(17, 24)


def test_the_loss_of_a_branch_can_leave_no_room_at_all(stored):
    outages = stored[1]["outages"]
    assert len(outages) == paper().network.branch_from.size
    bare = outages[outages["nse_without_cars_mwh"] > 0]
    assert len(bare) > 0
    assert (bare["median_first_cars"] == 0).all()
    lone = limits.without_branch(paper().network, 13)
    assert 8 not in lone.bus_number
    assert lone.ev_bus_number == paper().network.ev_bus_number


def test_there_is_no_such_limit():
    with pytest.raises(InputError, match="branch ratings"):
        limits.only(paper().network, "money")


def test_a_second_run_reads_what_is_stored(stored, monkeypatch):
    folder, tables = stored
    for name in ("_uncontrolled_tables", "_points"):
        monkeypatch.setattr(hosting, name, lambda *_: pytest.fail("computed again"))
    again = hosting.run(PAPER, SMALL, folder)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table)


def test_stale_tables_are_refused(stored):
    folder, _ = stored
    with pytest.raises(StaleError, match="other code"):
        hosting.load(PAPER, folder, Grid())


def test_figures_are_drawn(stored):
    _, tables = stored
    first = hosting.first_counts(tables)
    slide = plots_hosting.slide(tables, first, 150.0)
    assert {"uncontrolled", "apart", "proportional"} <= {t.name for t in slide.data}
    for what in plots_hosting.QUANTITIES:
        assert plots_hosting.quantity(tables, what, 150.0).data
    assert plots_hosting.first_days(tables["uncontrolled_first"], 150.0).data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": (300,)}, "counts"),
        ({"days": 3, "curve_days": 9}, "curve_days"),
        ({"block": 7}, "block"),
        ({"sweep_v2g_share": (1.5,)}, "sweep_v2g_share"),
        ({"gap": 0.0}, "gap"),
        ({"uncontrolled_charger_kw": (0.0,)}, "charger_kw"),
    ],
)
def test_a_bad_grid_is_named(change, message):
    with pytest.raises(InputError, match=message):
        Grid(**change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["hosting", "--counts", "many"], "--counts"),
        (["hosting", "--counts", "150"], "multiples of 200"),
        (["compare", "--scenario", "7"], "--scenario"),
        (["compare", "--side", "left"], "--side"),
    ],
)
def test_the_command_line_names_bad_input(tmp_path, arguments, message):
    result = CliRunner().invoke(cli.app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_a_fleet_of_several_kinds_keeps_its_own_chargers(tmp_path):
    write_example(tmp_path / "mine", cars=100)
    path = tmp_path / "mine/vehicle/vehicle.toml"
    first = path.read_text().split("\n[[class]]\n")[1].replace("share = 1.0", "share = 0.5")
    second = first.replace('"car"', '"van"').replace("power_kw = 150.0", "power_kw = 11.0")
    path.write_text(f"# two\n[[class]]\n{first}\n[[class]]\n{second}")
    told = inputs.read(tmp_path / "mine")
    point = points.Point("apart", 200, 1, 150.0, 1.0, 100, 2, 0.1)
    own = np.concatenate([p.figures.power_kw for p in points.grouped_problems(told, point)])
    assert set(own) == {11.0, 150.0}
    swept = points.grouped_problems(told, replace(point, charger_kw=22.0))
    assert {x for p in swept for x in p.figures.power_kw} == {22.0}
    day = growing.drawn_day(told, 400, 0)
    mw, _ = growing.growing_fleet_mw(day, 400)
    assert np.array_equal(mw[1], uncontrolled.charge_at_once(day).mean_mw)
    assert not np.allclose(
        mw[1], growing.growing_fleet_mw(day, 400, told.vehicles[0].charger)[0][1]
    )
