"""Monte Carlo: totals, extremes, the same bits on any number of threads, Table 1, `evcm trips`."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm import cli, data, inputs
from evcm.errors import InputError
from evcm.trips import kernels, montecarlo
from evcm.trips import legs as trips
from evcm.trips.cars import edge_distance_km, roads
from evcm.trips.uncontrolled import one_day

PAPER = inputs.paper()

LAW = PAPER.law()
SMALL = replace(PAPER.scenario(1), cars=150, samples=12)


@pytest.fixture(scope="module")
def result():
    return montecarlo.simulate(PAPER, PAPER.scenario(1), LAW, seed=1, threads=2)


def test_the_three_scenarios_are_a_million_car_days():
    assert [s.car_days for s in PAPER.scenarios] == [400_000, 300_000, 300_000]


def test_gchr_is_the_energy_of_the_cars_drawn_again(result):
    for sample in (0, 57, result.min_sample, result.max_sample):
        drawn = montecarlo.cars(PAPER, result.scenario, LAW, 1, sample)
        legs = drawn.distance_km * drawn.consumption_kwh_per_km / 0.9
        assert result.gchr_mwh[sample] == pytest.approx(2 * legs.sum() / 1000, rel=1e-12)
        day = one_day(drawn)
        total = montecarlo.gchr_kwh(day.energy_kwh)
        assert result.gchr_mwh[sample] == pytest.approx(total[0] / 1000, rel=1e-12)
        by_period = day.energy_kwh[:, :, 0].sum(axis=1) / 1000
        assert result.energy_mwh[sample] == pytest.approx(by_period, rel=1e-11, abs=1e-15)
        assert result.driving[sample].sum() == day.travelling.sum() + overlap(day)


def overlap(day):
    """Car-periods shared by two legs: the simulation counts legs, X counts cars."""
    return int(np.maximum(day.work_first - day.work_last - 1, 0).sum())


def test_gchr_weighs_groups():
    energy = np.arange(24.0).reshape(4, 3, 2)
    weight = np.array([1, 2, 5])
    expected = [sum(w * energy[:, v, n].sum() for v, w in enumerate(weight)) for n in (0, 1)]
    assert montecarlo.gchr_kwh(energy, weight) == pytest.approx(expected)
    assert montecarlo.gchr_kwh(energy) == pytest.approx(energy.sum(axis=(0, 1)))


def test_extremes_are_the_extremes(result):
    assert result.gchr_mwh[result.min_sample] == result.gchr_mwh.min()
    assert result.gchr_mwh[result.max_sample] == result.gchr_mwh.max()
    assert result.sample("min") == result.min_sample
    assert result.sample("max") == result.max_sample
    first = replace(result, gchr_mwh=np.array([2.0, 1.0, 3.0, 1.0, 3.0]))
    assert (first.min_sample, first.max_sample) == (1, 2)


@pytest.mark.parametrize("threads", [2, 3, 5, 16])
def test_same_bits_on_any_number_of_threads(threads):
    one = montecarlo.simulate(PAPER, SMALL, LAW, 3, 1)
    other = montecarlo.simulate(PAPER, SMALL, LAW, 3, threads)
    assert one.gchr_mwh.tobytes() == other.gchr_mwh.tobytes()
    assert one.energy_mwh.tobytes() == other.energy_mwh.tobytes()
    assert one.driving.tobytes() == other.driving.tobytes()


def test_more_samples_leave_the_first_ones_alone():
    few = montecarlo.simulate(PAPER, SMALL, LAW, 3)
    more = montecarlo.simulate(PAPER, replace(SMALL, samples=20), LAW, 3)
    assert np.array_equal(few.gchr_mwh, more.gchr_mwh[:12])
    assert not np.array_equal(few.gchr_mwh, montecarlo.simulate(PAPER, SMALL, LAW, 4).gchr_mwh)


def test_mean_and_spread_are_those_of_independent_cars(result):
    # A car's day is 2 km SC / 0.9; km and SC are independent, so moments are sums over edges.
    net, km = roads(PAPER), edge_distance_km(PAPER, LAW)
    p = 1 / 11 / np.diff(net.first)[net.from_index]
    assert p.sum() == pytest.approx(1)
    low, high = LAW.consumption_kwh_per_km
    sc, sc2 = (low + high) / 2, (low**2 + low * high + high**2) / 3
    mean = 2 / 0.9 * (p @ km) * sc
    variance = (2 / 0.9) ** 2 * (p @ km**2) * sc2 - mean**2
    n, samples = result.scenario.cars, result.scenario.samples
    deviation = np.sqrt(n * variance) / 1000
    assert result.gchr_mwh.mean() == pytest.approx(
        n * mean / 1000, abs=4 * deviation / np.sqrt(samples)
    )
    assert result.gchr_mwh.std() == pytest.approx(deviation, rel=0.2)


def test_the_law_of_times_does_not_move_the_energy(result):
    printed = montecarlo.simulate(PAPER, PAPER.scenario(1), PAPER.law("printed"), 1)
    assert printed.gchr_mwh.mean() == pytest.approx(result.gchr_mwh.mean(), rel=0.005)
    hours = np.arange(48)
    assert printed.energy_mwh.sum(0) @ hours != pytest.approx(result.energy_mwh.sum(0) @ hours)


def test_kernel_gives_the_same_as_plain_python(monkeypatch):
    tiny = replace(SMALL, cars=12, samples=2)
    fast = montecarlo.simulate(PAPER, tiny, LAW, 9, 1)
    for name, value in vars(kernels).items():
        if hasattr(value, "py_func"):
            monkeypatch.setattr(kernels, name, value.py_func)
    with np.errstate(over="ignore"):
        slow = montecarlo.simulate(PAPER, tiny, LAW, 9, 1)
    assert np.array_equal(fast.driving, slow.driving)
    assert fast.gchr_mwh == pytest.approx(slow.gchr_mwh, rel=1e-13)
    assert fast.energy_mwh == pytest.approx(slow.energy_mwh, rel=1e-12)


def test_table_1_counts_every_car(result):
    table = montecarlo.table_1([result])
    assert table.groupby("side")[["departures", "arrivals"]].sum().to_numpy().tolist() == [
        [2000, 2000], [2000, 2000],
    ]  # fmt: skip
    assert table["bus"].tolist() == list(PAPER.buses) * 2
    drawn = result.cars("max")
    row = table[(table["side"] == "max") & (table["bus"] == 13)].iloc[0]
    assert row["departures"] == (drawn.from_bus == 13).sum()
    assert row["arrivals"] == (drawn.to_bus == 13).sum()


def test_published_table_1_columns_are_sides_with_departures_and_arrivals():
    """Buses 2 to 5 and the others are two islands of the branch list: no trip crosses."""
    table = data.read_table("published/table1.csv")
    for (scenario, _), rows in table.groupby(["scenario", "side"]):
        assert rows["departures"].sum() == PAPER.scenario(scenario).cars
        assert rows["arrivals"].sum() == PAPER.scenario(scenario).cars
        south = rows[rows["bus"] <= 5]
        assert south["departures"].sum() == south["arrivals"].sum()


def test_weighted_groups_spread_as_the_published_runs():
    published = {1: (14.5867, 20.4740), 2: (18.2669, 25.8659), 3: (27.5256, 37.9537)}
    for scenario in PAPER.scenarios:
        single = montecarlo.simulate(PAPER, scenario, LAW, 1)
        low, high = published[scenario.number]
        assert low < single.gchr_mwh.min() < single.gchr_mwh.max() < high
        draw = montecarlo.grouped_draw(PAPER, scenario, LAW, 1)
        assert draw.groups * 10 == scenario.cars
        draws = [montecarlo.grouped_draw(PAPER, scenario, LAW, seed) for seed in range(12)]
        lowest = [d.light_mwh.min() for d in draws]
        highest = [d.heavy_mwh.max() for d in draws]
        assert low == pytest.approx(np.mean(lowest), rel=0.04)
        assert high == pytest.approx(np.mean(highest), rel=0.04)
        assert (draw.light_mwh < draw.even_mwh).all()
        assert (draw.heavy_mwh > draw.even_mwh).all()
        assert draw.light_mwh + draw.heavy_mwh == pytest.approx(2 * draw.even_mwh)
        for side, total in (("min", draw.light_mwh.min()), ("max", draw.heavy_mwh.max())):
            drawn, weight = draw.cars(side)
            assert weight.sum() == scenario.cars
            legs = 2 * drawn.distance_km * drawn.consumption_kwh_per_km / 0.9
            assert weight @ legs / 1000 == pytest.approx(total, rel=1e-12)
    assert 10 in weight  # scenario 3 has an odd number of groups


def test_gchr_table_marks_the_extremes(result):
    table = montecarlo.gchr_table([result])
    assert len(table) == 200
    assert table.loc[table["side"] == "min", "sample"].tolist() == [result.min_sample]
    assert table.loc[table["side"] == "max", "sample"].tolist() == [result.max_sample]


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: montecarlo.simulate(PAPER, SMALL, LAW, -1), "seed"),
        (lambda: montecarlo.simulate(PAPER, SMALL, LAW, 2**63), "seed"),
        (lambda: montecarlo.simulate(PAPER, SMALL, LAW, 1, 0), "threads"),
        (lambda: montecarlo.cars(PAPER, SMALL, LAW, 1, 12), "sample"),
        (lambda: montecarlo.simulate(PAPER, SMALL, LAW).cars("middle"), "side"),
        (lambda: montecarlo.grouped_draw(PAPER, SMALL, LAW, 1, 151), "groups"),
        (lambda: montecarlo.grouped_draw(PAPER, SMALL, LAW, 1, 10).cars("min"), "groups"),
        (
            lambda: montecarlo.grouped_draw(PAPER, replace(SMALL, published_groups=None), LAW),
            "groups",
        ),
        (
            lambda: montecarlo.simulate(PAPER, SMALL, replace(
                LAW, departure_sd_h=0.0, arrival_sd_h=0.0, arrival_mean_h=18.5,
                minimum_separation_h=12.0,
            )),
            "minimum_separation_h",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named(call, field):
    with pytest.raises(InputError, match=field):
        call()


def run(*args):
    return CliRunner().invoke(cli.app, ["trips", *args])


def test_command_prints_and_writes(tmp_path, result):
    out = tmp_path / "new" / "folder"
    done = run("--scenario", "1", "--seed", "1", "--threads", "1", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert f"{result.gchr_mwh.min():.4f}" in done.output
    assert f"{result.gchr_mwh.max():.4f}" in done.output
    gchr = pd.read_parquet(out / "gchr.parquet")
    assert np.array_equal(gchr["gchr_mwh"], result.gchr_mwh)
    pd.testing.assert_frame_equal(
        pd.read_parquet(out / "table1.parquet"), montecarlo.table_1([result]), check_dtype=False
    )
    summary = json.loads((out / "trips.json").read_text())
    assert summary["scenarios"][0]["max_sample"] == result.max_sample
    assert sorted(p.name for p in out.iterdir()) == [
        "gchr.parquet", "table1.parquet", "trips.json",
    ]  # fmt: skip


def test_command_takes_all_scenarios_and_the_printed_law():
    done = run("--law", "printed")
    assert done.exit_code == 0, done.output
    for number in (1, 2, 3):
        assert f"Scenario {number}" in done.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--scenario", "4"], ["--scenario", "4", "1, 2, 3, all"]),
        (["--law", "guess"], ["law", "guess", "published, printed"]),
        (["--seed", "-1"], ["seed", "-1"]),
        (["--threads", "0"], ["threads", "0"]),
    ],
)
def test_command_refuses_bad_options(args, words, tmp_path):
    done = run(*args, "--out", str(tmp_path / "out"))
    assert isinstance(done.exception, InputError)
    for word in words:
        assert word in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_command_refuses_a_file_as_folder(tmp_path):
    (tmp_path / "file").write_text("x")
    for name in ("file", "file/below"):
        done = run("--scenario", "1", "--out", str(tmp_path / name))
        assert isinstance(done.exception, InputError)
        assert "--out" in str(done.exception)


def test_main_turns_errors_into_one_line_and_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evcm", "trips", "--scenario", "9"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert capsys.readouterr().err.strip().count("\n") == 0


def test_each_range_covers_everything_once_in_order():
    for size, threads in ((10, 3), (2, 8), (1, 1), (7, 7)):
        ranges = trips.each_range(lambda a, z: (a, z), size, threads)
        assert [i for a, z in ranges for i in range(a, z)] == list(range(size))
