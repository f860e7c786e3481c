"""Inputs, data files, errors and file handling: what is read, what is refused, what is written."""

from __future__ import annotations

import os
import re
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm import cli, data, inputs
from evcm.errors import Checks, Fault, InfeasibleError, InputError, SolverError
from evcm.inputs import Battery, Charger, PriceSteps, Scenario, SpeedBand
from evcm.inputs.example import write_example
from evcm.inputs.values import Clock
from evcm.network.readers import from_case
from evcm.store import files
from evcm.study import flow


def test_scenarios_are_the_papers():
    assert [(s.number, s.cars, s.samples, s.market_share) for s in inputs.paper().scenarios] == [
        (1, 2000, 200, 0.08), (2, 2500, 120, 0.10), (3, 3750, 80, 0.15),
    ]  # fmt: skip
    assert all(s.real_time_samples == 10 for s in inputs.paper().scenarios)
    assert inputs.paper().scenario(2) is inputs.paper().scenarios[1]


def test_trip_law_presets():
    published, printed = inputs.paper().law(), inputs.paper().law("printed")
    assert published.name == "published"
    assert published.arrival_mean_h == pytest.approx(19.9)  # 19:54
    assert printed.arrival_mean_h == pytest.approx(22 + 4 / 60)  # 22:04
    assert printed.arrival_sd_h == pytest.approx(4.3)  # 4 h 18 min
    assert published.departure_mean_h == pytest.approx(8 + 2 / 60, abs=0.005)
    assert printed.departure_sd_h == pytest.approx(71 / 60)
    assert published.speed_bands == printed.speed_bands


def test_printed_arrival_is_the_share_before_midnight_read_as_a_time():
    # A spreadsheet shows the number 0.9197 as 22:04 when its cell is formatted as a time.
    minutes = round(0.9197 * 24 * 60)
    assert divmod(minutes, 60) == (22, 4)
    table = data.read_table("trips/histograms.csv")
    arrival = table[table["event"] == "arrival"]
    before = arrival.loc[arrival["half_hour"] < 48, "cars_per_10000"].sum() / 10_000
    assert before == pytest.approx(0.9197, abs=1e-9)


def test_vehicle_and_market():
    assert inputs.paper().vehicles[0].battery == Battery(80.0, 12.0, 76.0, 60.0)
    assert inputs.paper().vehicles[0].charger == Charger(150.0, 0.9, 0.9)
    law = inputs.paper().vehicles[0].wear
    assert law.slope(np.array([100.0, 120.0, 140.0])) == pytest.approx([0.0006, 0.00115, 0.0017])
    price = inputs.paper().market.price
    assert len(price) == 19
    assert price.edge_mw[-1] == inputs.paper().market.system_cap_mw == 259.0
    assert price.price_usd_per_kwh[0] == pytest.approx(0.0125842 / 4.08)


def test_load_profile_is_the_reference_day():
    factor = inputs.paper().load_factor
    assert factor.sum() * 0.5 * 259 == pytest.approx(5486.083, abs=0.005)
    assert int(np.argmax(factor)) + 1 == 30
    assert factor.max() * 259 == pytest.approx(250.114, abs=0.001)
    above = np.flatnonzero(inputs.paper().forecast_mw > 259) + 1
    assert above.tolist() == [23, 24]


def test_price_at_an_edge_admits_both_neighbours():
    price = PriceSteps(np.array([10.0, 20.0]), np.array([1.0, 2.0]))
    low, high = price.admissible(np.array([5.0, 10.0, 15.0, 20.0, 30.0]))
    assert low.tolist() == [1, 1, 2, 2, 2]
    assert high.tolist() == [1, 2, 2, 2, 2]
    paid = price.payment(np.array([10.0, 10.0]), np.array([3.0, -3.0]))
    assert paid.tolist() == [3000.0, -6000.0]


def test_inputs_are_frozen_and_their_arrays_read_only():
    with pytest.raises(FrozenInstanceError):
        inputs.paper().vehicles[0].battery.capacity_kwh = 1.0
    with pytest.raises(ValueError, match="read-only"):
        inputs.paper().market.price.edge_mw[0] = 1.0
    source = np.array([1.0, 2.0])
    price = PriceSteps(source, source)
    source[0] = 99.0
    assert price.edge_mw[0] == 1.0


LAW = inputs.paper().law()


@pytest.mark.parametrize(
    ("make", "field", "allowed"),
    [
        (lambda: Scenario(1, 0, 5), "cars", ">= 1"),
        (lambda: Scenario(1, 5, 0), "samples", ">= 1"),
        (lambda: Scenario(1, 5, 5, market_share=1.5), "market_share", "0..1"),
        (lambda: inputs.paper().scenario(4), "number", "1, 2, 3"),
        (lambda: inputs.paper().law("guess"), "law", "published, printed"),
        (lambda: replace(LAW, departure_sd_h=-1.0), "departure_sd_h", ">= 0"),
        (lambda: replace(LAW, departure_latest_h=24), "departure_latest_h", "< 24"),
        (lambda: replace(LAW, arrival_range_h=(25, 20)), "arrival_range_h", "low <="),
        (lambda: replace(LAW, minimum_separation_h=0), "minimum_separation_h", "0 < hours"),
        (lambda: replace(LAW, driving_share=1.5), "driving_share", "0..1"),
        (lambda: replace(LAW, speed_range_kmh=(0.0, 10.0)), "speed_range_kmh", "0 < low"),
        (lambda: replace(LAW, consumption_kwh_per_km=(0.3, 0.2)), "consumption_kwh_per_km", "high"),
        (lambda: replace(LAW, distance_share=0.0), "distance_share", "> 0"),
        (
            lambda: replace(LAW, speed_bands=(SpeedBand("all", 50.0, 1.0, ((0, 23),)),)),
            "speed_bands", "exactly one band",
        ),
        (lambda: Battery(0.0, 0.0, 0.0, 0.0), "capacity_kwh", "> 0"),
        (lambda: Battery(80.0, 20.0, 10.0, 15.0), "soc_min_kwh, soc_max_kwh", "soc_min_kwh <="),
        (lambda: Battery(80.0, 12.0, 76.0, 77.0), "departure_soc_kwh", "soc_min_kwh..soc_max_kwh"),
        (lambda: Charger(0.0, 0.9, 0.9), "power_kw", "> 0"),
        (lambda: Charger(10.0, 1.1, 0.9), "charge_efficiency", "0 < value <= 1"),
        (lambda: PriceSteps(np.ones(2), np.ones(3)), "price_edge_mw", "equally long"),
        (lambda: PriceSteps(np.array([2.0, 1.0]), np.ones(2)), "price_edge_mw[1]", "increasing"),
        (
            lambda: PriceSteps(np.array([1.0, 2.0, 3.0]), np.array([1.0, 3.0, 2.0])),
            "price_usd_per_kwh[2]: got 2 after 3", "does not decrease",
        ),
        (lambda: PriceSteps(np.array([1.0, np.nan]), np.ones(2)), "price_edge_mw", "finite"),
    ],
)  # fmt: skip
def test_bad_inputs_name_field_value_and_what_is_allowed(make, field, allowed):
    with pytest.raises(InputError) as caught:
        make()
    assert field in str(caught.value)
    assert allowed in str(caught.value)


def test_all_faults_come_together():
    with pytest.raises(InputError) as caught:
        Scenario(1, 0, -2, market_share=2.0)
    assert [f.field for f in caught.value.faults] == ["cars", "samples", "market_share"]
    assert isinstance(caught.value, ValueError)


def test_checks_and_faults():
    checks = Checks("thing")
    assert checks.require(True, "a", 1, "anything")
    checks.done()
    assert not checks.require(False, "b", "x" * 200, "short")
    with pytest.raises(InputError, match=r"thing: b: got x{38}\.\.\.x{38}; allowed: short"):
        checks.done()
    assert str(Fault("f", 3, "4")) == "f: got 3; allowed: 4"
    for kind in (InfeasibleError, SolverError):
        assert kind("message", bus=3).details == {"bus": 3}


def test_every_data_folder_has_a_source():
    folders = [f for f in data.root().iterdir() if f.is_dir() and any(f.iterdir())]
    assert len(folders) >= 5
    for folder in folders:
        assert len(data.source(folder.name)) > 40, folder


def test_missing_data_is_named():
    with pytest.raises(InputError, match=r"trips/nothing\.csv"):
        data.path("trips/nothing.csv")


def test_atomic_leaves_nothing_behind(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("old")

    def interrupted():
        with files.atomic(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]
    with files.atomic(target) as temporary:
        temporary.write_text("new")
    assert target.read_text() == "new"
    with pytest.raises(InputError, match="existing folder"), files.atomic(tmp_path / "no" / "b"):
        pass


def test_tables_and_arrays_survive_the_round_trip(tmp_path):
    table = pd.DataFrame({"x": [1.0, 0.5], "y": [2.0, 3.0]})
    files.write_csv(tmp_path / "t.csv", table)
    assert (tmp_path / "t.csv").read_text() == "x,y\n1.000000,2.000000\n0.500000,3.000000\n"
    pd.testing.assert_frame_equal(files.read_csv(tmp_path / "t.csv", ["x", "y"]), table)
    files.write_parquet(tmp_path / "t.parquet", table)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "t.parquet"), table)
    files.write_npz(tmp_path / "a.npz", a=np.arange(3), b=np.array(2.5))
    arrays = files.read_npz(tmp_path / "a.npz", ["a", "b"])
    assert arrays["a"].tolist() == [0, 1, 2]
    assert arrays["b"] == 2.5
    files.write_json(tmp_path / "j.json", {"b": 1, "a": [1, 2]})
    assert (tmp_path / "j.json").read_text().index('"a"') < 10


@pytest.mark.parametrize(
    ("content", "required", "match"),
    [
        (None, ["x"], "missing; allowed: an existing"),
        ("x,y\n1,2\n", ["x", "z"], "column z: got missing; allowed: found: x, y"),
        ("x\n1\nabc\n", ["x"], "column x, row 2: got abc"),
        ("x\n1\ninf\n", ["x"], "a finite number"),
        ("", ["x"], "a CSV table"),
    ],
)
def test_bad_csv_is_named(tmp_path, content, required, match):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=match):
        files.read_csv(path, required)


def test_bad_npz_is_named(tmp_path):
    with pytest.raises(InputError, match="missing; allowed: an existing"):
        files.read_npz(tmp_path / "no.npz", ["a"])
    (tmp_path / "text.npz").write_text("not an archive")
    with pytest.raises(InputError, match="plain arrays"):
        files.read_npz(tmp_path / "text.npz", ["a"])
    np.savez(tmp_path / "pickle.npz", a=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="plain arrays"):
        files.read_npz(tmp_path / "pickle.npz", ["a"])
    np.savez(tmp_path / "lacking.npz", a=np.ones(1))
    with pytest.raises(InputError, match="array b: got missing"):
        files.read_npz(tmp_path / "lacking.npz", ["a", "b"])


@pytest.fixture
def folder(tmp_path):
    write_example(tmp_path / "mine")
    return tmp_path / "mine"


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_an_unchanged_example_is_the_papers_study(folder):
    assert inputs.read(folder).fingerprint == inputs.paper().fingerprint
    other = folder.rename(folder.with_name("elsewhere"))
    assert inputs.read(other).fingerprint == inputs.paper().fingerprint
    edit(other / "market/market.toml", "system_cap_mw = 259.0", "system_cap_mw = 260.0")
    assert inputs.read(other).fingerprint != inputs.paper().fingerprint


def test_every_field_of_an_example_has_a_comment(folder):
    assert "study.toml" in (folder / "README.md").read_text()
    for path in folder.rglob("*"):
        if path.suffix in (".toml", ".csv"):
            assert path.read_text().startswith("# "), path


FAULTS = [
    (
        "study.toml",
        "period_minutes = 30",
        "period_minutes = 7",
        "study.toml, line 7: period_minutes: got 7; allowed: 60, 30, 15",
    ),
    ("study.toml", 'laws = ["published"]', 'laws = ["sunday"]', "law of a day: got sunday"),
    ("study.toml", "day_hours = [24]", "day_hours = [26]", "23, 24 or 25"),
    ("market/market.toml", "per_usd", "per_usb", "market/market.toml, line 6: per_usb"),
    ("market/market.toml", '"v2g"\n', '"grid"\n', "got grid; allowed: v2g, plug"),
    ("market/price_steps.csv", "202.0200", "190", "increasing edges"),
    ("load/profile.csv", "\n1,0.806333", "\n49,1,200\n1,0.806333", "line 4, column period: got 49"),
    ("load/profile.csv", "1,0.806333", "1,nil", "line 4, column load_factor: got nil"),
    ("load/profile.csv", "1,0.806333", "1,-0.8", "got -0.8; allowed: a finite number >= 0"),
    ("network/branch.csv", "\n2,1,5", "\n2,1,55", "line 5, column to_bus: got 55"),
    ("network/bus.csv", "14,1,14.9", "14,1,14.9,9", "line 17: got 9 cells; allowed: 8"),
    ("network/network.toml", "base_mva = 100.0", 'base_mva = "100"', "base_mva: got 100;"),
    ("trips/roads.csv", "2,3,75.4", "2,7,75.4", "line 5, column to_bus: got 7"),
    ("trips/roads.csv", "2,3,75.4", "2,2,75.4", "line 5, to_bus: got 2; allowed: another"),
    ("trips/law.toml", "hours = [[16.5, 21.5]]", "hours = [[16.5, 20]]", "exactly one band"),
    ("trips/law.toml", "departure_sd_h = 1.415", "departure_sd_h = []", "departure_sd_h: got []"),
    ("vehicle/vehicle.toml", "share = 1.0", "share = 0.9", "sum to 1"),
    (
        "vehicle/vehicle.toml",
        "soc_min_kwh = 12.0",
        "soc_min_kwh = 90.0",
        "vehicle.toml, line 16: class car, battery: departure_soc_kwh",
    ),
    ("scenarios/scenarios.toml", "number = 2", "number = 1", "different numbers"),
    ("scenarios/scenarios.toml", "cars = 2000", "cars = 2000.5", "a whole number"),
    (
        "vehicle/vehicle.toml",
        "[100.0, 140.0]",
        "[140.0, 100.0]",
        "vehicle.toml, line 28: class car, wear: storage_cost_range_usd_per_kwh: got (140.0, 100",
    ),
    ("study.toml", "period_minutes = 30", "period_minutes = 7.5", "period_minutes: got 7.5; all"),
]


def test_faults_of_a_vehicle_class_are_told_at_once_each_with_its_line(folder):
    for old, new in (
        ("[100.0, 140.0]", "[140.0, 100.0]"),
        ("soc_min_kwh = 12", "soc_min_kwh = 90"),
    ):
        edit(folder / "vehicle/vehicle.toml", old, new)
    with pytest.raises(InputError) as caught:
        inputs.read(folder)
    assert re.findall(r"vehicle\.toml, line (\d+): class car", str(caught.value)) == [
        "13", "16", "28"
    ]  # fmt: skip


@pytest.mark.parametrize("nth", [0, 1])
def test_of_several_like_tables_the_one_at_fault_is_named(folder, nth):
    law = folder / "trips/law.toml"
    lines = law.read_text().splitlines()
    at = [k for k, line in enumerate(lines) if line.startswith("departure_latest_h")][nth]
    lines[at] = "departure_latest_h = 30.0"
    law.write_text("\n".join(lines))
    cars = folder / "vehicle/vehicle.toml"
    one = cars.read_text().replace("share = 1.0", "share = 0.5")
    two = one.replace('"car"', '"van"')
    halves = [one, two]
    halves[nth] = halves[nth].replace("soc_min_kwh = 12.0", "soc_min_kwh = 70.0")
    halves[nth] = halves[nth].replace("departure_soc_kwh = 60.0", "departure_soc_kwh = 65.0")
    cars.write_text("\n".join(halves))
    line = next(
        k
        for k, text in enumerate(cars.read_text().splitlines(), 1)
        if "departure_soc_kwh = 65" in text
    )
    with pytest.raises(InputError) as caught:
        inputs.read(folder)
    assert f"trips/law.toml, line {at + 1}: trip law" in str(caught.value)
    name = ("car", "van")[nth]
    assert f"vehicle/vehicle.toml, line {line}: class {name}, battery" in str(caught.value)


@pytest.mark.parametrize(("name", "old", "new", "match"), FAULTS)
def test_a_fault_in_a_folder_is_named_with_file_line_and_value(folder, name, old, new, match):
    edit(folder / name, old, new)
    with pytest.raises(InputError) as caught:
        inputs.read(folder)
    assert match in str(caught.value)
    done = CliRunner().invoke(cli.app, ["inputs", "check", str(folder)])
    assert isinstance(done.exception, InputError)


def no_file(folder):
    (folder / "network/branch.csv").unlink()
    return "network/branch.csv: file: got missing"


def unknown_bus(folder):
    edit(folder / "trips/roads.csv", "2,3,75.4", "2,99,75.4")
    return "trips/roads.csv, line 5, column to_bus: got 99; allowed: a bus with an aggregator: 2, 3"


def road_that_leads_nowhere(folder):
    edit(folder / "trips/roads.csv", "2,3,75.4", "2,2,75.4")
    return "trips/roads.csv, line 5, to_bus: got 2; allowed: another bus than from_bus"


def sessions_that_overlap(folder):
    (folder / "trips/roads.csv").unlink()
    (folder / "trips/sessions.toml").write_text("bus = 9\n")
    (folder / "trips/sessions.csv").write_text(
        "station,arrival,departure,energy_kwh\nA,2024-03-04T08:00,2024-03-04T12:00,5\n"
        "A,2024-03-04T11:00,2024-03-04T13:00,4\n"
    )
    return "trips/sessions.csv, line 3, arrival: got 2024-03-04 11:00:00; allowed: at station A"


def a_load_row_too_many(folder):
    path = folder / "load/profile.csv"
    path.write_text(path.read_text().rstrip() + "\n49,0.8,200\n")
    return "column period: got 49; allowed: each of 1..48 once"


@pytest.mark.parametrize(
    "spoil",
    [no_file, unknown_bus, road_that_leads_nowhere, sessions_that_overlap, a_load_row_too_many],
)
@pytest.mark.parametrize("command", ["study", "compare", "hosting", "trips", "opf"])
def test_a_spoilt_folder_ends_every_command_with_one_message(
    folder, tmp_path, monkeypatch, capsys, spoil, command
):
    said, before = spoil(folder), sorted(tmp_path.rglob("*"))
    out = ["--out", str(tmp_path / "out.csv")]
    monkeypatch.setattr("sys.argv", ["evcm", command, "--inputs", str(folder), *out])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("evcm: ") == 1
    assert "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before


def test_a_cap_that_no_car_can_live_with_is_said_in_words(tmp_path, monkeypatch, capsys):
    write_example(tmp_path / "in", "case9", 30)
    edit(tmp_path / "in/market/market.toml", "system_cap_mw = 322.220", "system_cap_mw = 200.0")
    options = ["--gap", "0.2", "--side", "max", "--jobs", "1", "--out", str(tmp_path / "out")]
    call = ["evcm", "study", "--inputs", str(tmp_path / "in"), *options]
    monkeypatch.setattr("sys.argv", call)
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    assert "(bus 5): the system cap is too low" in told
    assert "the least uniform increase of the system cap that admits a plan is" in told
    assert not list((tmp_path / "out").rglob("*.parquet"))


def test_a_network_that_cannot_serve_its_load_ends_the_study_before_the_plans(tmp_path):
    given = write_example(tmp_path / "in", "case6ww", 30)
    heavy = replace(given, load_p_mw=1.6 * given.load_p_mw, load_q_mvar=1.6 * given.load_q_mvar)
    settings = flow.Settings(gap=0.2, sides=("max",), jobs=1)
    steps = []
    with pytest.raises(InfeasibleError, match=r"case6ww: the network cannot serve its load.*2\.5%"):
        flow.run(heavy, settings, tmp_path / "out", lambda step, *_: steps.append(step))
    assert "Aggregators" not in steps


def test_faults_of_all_files_come_together(folder):
    for name, old, new, _ in (FAULTS[3], FAULTS[6], FAULTS[12], FAULTS[19]):
        edit(folder / name, old, new)
    (folder / "vehicle/vehicle.toml").unlink()
    with pytest.raises(InputError) as caught:
        inputs.read(folder)
    for _, _, _, match in (FAULTS[3], FAULTS[6], FAULTS[12], FAULTS[19]):
        assert match in str(caught.value)
    assert "vehicle/vehicle.toml: file: got missing" in str(caught.value)


def test_a_fault_of_the_clock_hides_none_of_the_cars(folder):
    edit(folder / "study.toml", "period_minutes = 30", "period_minutes = 7")
    with (folder / "trips/roads.csv").open("a") as roads:
        roads.write("99,2,5\n")
    with pytest.raises(InputError) as caught:
        inputs.read(folder)
    assert "period_minutes: got 7" in str(caught.value)
    assert "column from_bus: got 99" in str(caught.value)


@pytest.mark.parametrize("case", ["case9", "case30", "case57", "case118", "case300"])
def test_a_bare_case_makes_a_runnable_folder(tmp_path, case):
    given = write_example(tmp_path / "x", case, 3000)
    ours = inputs.paper()
    net = from_case(case)
    assert given.buses == net.ev_bus_number
    assert given.load_factor == pytest.approx(ours.load_factor)
    assert given.cars.home_share @ np.ones(len(given.buses)) == pytest.approx(1)
    assert given.cars.home_share == pytest.approx(
        net.load_p_mw[net.ev_bus] / net.load_p_mw[net.ev_bus].sum()
    )
    assert (given.forecast_mw < given.market.system_cap_mw).all()
    total = net.load_p_mw.sum() / 259
    assert given.market.price.edge_mw == pytest.approx(ours.market.price.edge_mw * total, abs=1e-3)
    for name in ("resistance_pu", "limit_mva", "p_max_mw", "q_min_mvar", "shift_deg"):
        assert np.array_equal(getattr(given.network, name), getattr(net, name)), name


def test_an_example_never_overwrites(folder, tmp_path):
    before = sorted(p.name for p in tmp_path.iterdir())
    for args in (
        [str(folder)], [str(tmp_path / "no" / "x")], [str(tmp_path / "x"), "--case", "case99"],
        [str(tmp_path / "x"), "--case", "case4gs", "--cars", "0"],
    ):  # fmt: skip
        done = CliRunner().invoke(cli.app, ["inputs", "example", *args])
        assert done.exit_code != 0
        assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_check_says_what_a_study_will_do(folder):
    done = CliRunner().invoke(cli.app, ["inputs", "check", str(folder)])
    assert done.exit_code == 0
    for words in ("48 periods of 30 min", "aggregators  11", "2000 cars", "PEN at 4.08"):
        assert words in done.stdout


def test_load_by_bus_in_mw_and_generation_as_negative_load(folder):
    periods = np.arange(1, 49)
    own = pd.DataFrame({"period": periods, "bus09_mw": 20.0, "bus7_mw": 1.0})
    own.to_csv(folder / "load/bus_mw.csv", index=False, sep=";", decimal=",")
    sun = pd.DataFrame({"period": periods[::-1], "bus14_mw": -periods / 10.0})
    sun.to_csv(folder / "load/added_mw.csv", index=False)
    given, ours = inputs.read(folder), inputs.paper()
    at = {int(b): k for k, b in enumerate(given.network.bus_number)}
    assert (given.load_p_mw[:, at[9]] == 20.0).all()
    assert given.load_q_mvar[:, at[9]] == pytest.approx(np.full(48, 20.0 * 16.6 / 29.5))
    assert (given.load_p_mw[:, at[7]] == 1.0).all()
    added = given.load_p_mw[:, at[14]] - ours.load_p_mw[:, at[14]]
    assert added == pytest.approx(-periods[::-1] / 10.0)
    assert np.array_equal(given.load_p_mw[:, at[2]], ours.load_p_mw[:, at[2]])
    own.iloc[:47].to_csv(folder / "load/bus_mw.csv", index=False)
    with pytest.raises(InputError, match=r"bus_mw\.csv, column period: got missing \[48\]"):
        inputs.read(folder)


def test_clock_of_days_with_23_24_and_25_hours():
    clock = Clock(0.25, (23, 24, 25), ("a", "b", "a"))
    assert clock.first_period == (0, 92, 188, 288)
    assert clock.period(0, 2.75) == 12
    assert clock.period(0, 3.0) == 9  # at 02:00 the clock shows 03:00
    assert clock.period(1, 0.0) == 93
    assert clock.period(2, 3.0) == 188 + 1 + 16  # the hour from 02:00 comes twice
    shown = clock.clock_h()
    assert shown.size == clock.periods == 288
    assert shown[:13].tolist() == [*np.arange(0, 2, 0.25), 3.0, 3.25, 3.5, 3.75, 4.0]
    assert shown[188:][12:17].tolist() == [2.0, 2.25, 2.5, 2.75, 3.0]
    for day, hour in ((0, 8.0), (1, 12.5), (2, 23.75)):
        assert shown[int(clock.period(day, hour)) - 1] == hour
