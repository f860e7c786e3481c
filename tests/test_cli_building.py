"""`evcm building`: the example runs, its tables agree, and bad files are refused by row."""

import json
from pathlib import Path

import pandas as pd
import pytest
from mutations import refused_or_done
from typer.testing import CliRunner

from evcm.building.certificate import certify
from evcm.building.files import read_building
from evcm.building.solve import dispatch
from evcm.cli import app, main
from evcm.errors import EvcmError, InputError

runner = CliRunner()


def run(*args):
    return runner.invoke(app, ["building", *map(str, args)])


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    assert run("example", folder).exit_code == 0
    return folder


@pytest.fixture
def copy(example, tmp_path):
    for file in example.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def refused(folder, match):
    result = run("run", "--config", folder / "building.toml", "--out", folder / "out")
    assert isinstance(result.exception, EvcmError), result.output
    assert not (folder / "out").exists()
    with pytest.raises(InputError, match=match):
        raise result.exception


def change(folder, name, row, column, value):
    table = pd.read_csv(folder / name, dtype=object)
    table.loc[row - 1, column] = value
    table.to_csv(folder / name, index=False)


def test_the_example_runs_and_its_tables_agree(copy):
    result = run("run", "--config", copy / "building.toml", "--out", copy / "out")
    assert result.exit_code == 0, result.output
    summary = pd.read_csv(copy / "out" / "summary.csv").set_index("variant")
    costs = pd.read_csv(copy / "out" / "costs.csv").set_index("variant")
    dispatch = pd.read_csv(copy / "out" / "dispatch.csv")
    cars = pd.read_csv(copy / "out" / "cars.csv")
    assert len(summary) == 5
    assert (summary["gap"] <= 1e-4).all()
    for name, row in summary.iterrows():
        mine = dispatch[dispatch["variant"] == name]
        assert mine["grid_kw"].sum() / 4 == pytest.approx(row["import_kwh"], abs=1e-3)
        assert mine["grid_kw"].max() == pytest.approx(row["peak_kw"], abs=1e-5)
        assert costs.loc[name].sum() == pytest.approx(row["cost_usd"], abs=1e-4)
        given = cars[cars["variant"] == name]["charge_kw"].sum() / 4
        assert given == pytest.approx(row["charged_kwh"], abs=1e-3)
    proofs = json.loads((copy / "out" / "certificate.json").read_text())
    assert set(proofs) == set(summary.index)


def test_clock_times_and_missing_bays_are_read(copy):
    table = pd.DataFrame(
        {"arrival": ["09:15", "10:00"], "departure": ["17:00", "11.6"], "energy_kwh": [20, 5]}
    )
    table.to_csv(copy / "sessions.csv", index=False)
    result = run("run", "--config", copy / "building.toml", "--out", copy / "out")
    assert result.exit_code == 0, result.output
    cars = pd.read_csv(copy / "out" / "cars.csv")
    stay = cars[cars["variant"] == "as printed"].groupby("row")["period"].agg(["min", "max"])
    assert stay.to_numpy().tolist() == [[38, 68], [41, 46]]


@pytest.mark.parametrize(
    ("name", "row", "column", "value", "match"),
    [
        ("pv.csv", 12, "irradiance_kw_per_m2", -0.2, r"row 12, irradiance_kw_per_m2: got -0.2"),
        ("tariff.csv", 3, "hour", "x", r"row 3, hour: got x"),
        ("tariff.csv", 3, "hour", 1, r"row 3, hour: got 01:00; allowed: each hour once"),
        ("load.csv", 5, "load_kw", "much", r"row 5, load_kw: got much"),
        ("sessions.csv", 2, "energy_kwh", 500, r"row 2, energy_kwh: got 500.0; allowed: <= "),
        ("sessions.csv", 2, "departure", 50, r"row 2, stay"),
        ("sessions.csv", 2, "bay", 1.7, r"row 2, bay: got 1.7; allowed: a whole number"),
        ("sessions.csv", 2, "bay", 0, r"row 2, bay: got 0; allowed: 1..6"),
        ("load.csv", 24, "hour", 25.5, r"hour 23:00: got missing"),
        ("load.csv", 24, "hour", -3, r"row 24, hour: got -3"),
        ("sessions.csv", 2, "bay", 9, r"row 2, bay: got 9; allowed: 1..6"),
        ("sessions.csv", 4, "arrival", "noon", r"row 4, arrival"),
    ],
)
def test_a_bad_row_is_refused_with_its_number(copy, name, row, column, value, match):
    change(copy, name, row, column, value)
    refused(copy, match)


def test_missing_tariff_hours_are_named(copy):
    table = pd.read_csv(copy / "tariff.csv")
    table[table["hour"] != 13].to_csv(copy / "tariff.csv", index=False)
    refused(copy, r"tariff.csv: hour 13:00: got missing")


def test_an_over_booked_bay_is_refused(copy):
    rows = [(9, 12, 5, 1), (11, 14, 5, 1)]
    columns = ["arrival", "departure", "energy_kwh", "bay"]
    pd.DataFrame(rows, columns=columns).to_csv(copy / "sessions.csv", index=False)
    refused(copy, r"row 2, bay: got bay 1 at 11:00; allowed: a free bay; row 1 holds it then")
    seven = pd.DataFrame([(9, 12, 5)] * 7, columns=columns[:3])
    seven.to_csv(copy / "sessions.csv", index=False)
    refused(copy, r"row 7, bay: got all 6 bays are taken at 09:00")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("bays = 6", "bays = 6.5", r"bays: got 6.5; allowed: a whole number"),
        ("bays = 6", "isles = 6", r"isles: got 6; allowed: an entry of"),
        (
            "connection_kw = 250.0",
            "",
            r"section building: connection_kw: got missing; allowed: required",
        ),
        ("[bank]", "[batteries]", r"section batteries"),
        ('load = "load.csv"', 'load = "none.csv"', r"none.csv: file: got missing"),
        ("[horizon]", "[horizon", r"a TOML file"),
        ("[horizon]", "[[horizon]]", r"section horizon: got .*; allowed: \[horizon\], once"),
        ("step_h = 0.25", "step_h = 24.0", r"step_h: got 24.0; allowed: 0 < step_h <= 1 h"),
        ("bays = 6", "bays = 99999999999999999999", r"bays: got 99999999999999999999"),
        ("bays = 6", "bays = true", r"bays: got True; allowed: a whole number"),
        ("[sessions]", "[sessions]\nrates = 1", r"sessions.rates: got unknown"),
        ("power_kw = 7.7", "power_kw = [1]", r"sessions.power_kw: got \[1\]"),
        ('name = "roof"', "name = 7", r"name: got 7; allowed: a text"),
    ],
)
def test_a_bad_configuration_is_refused(copy, old, new, match):
    config = copy / "building.toml"
    text = config.read_text("utf-8")
    assert old in text
    config.write_text(text.replace(old, new, 1), "utf-8")
    refused(copy, match)


def test_missing_files_and_folders_are_refused(tmp_path):
    result = run("run", "--config", tmp_path / "none.toml", "--out", tmp_path / "out")
    assert isinstance(result.exception, InputError)
    result = run("example", tmp_path / "no" / "folder")
    assert isinstance(result.exception, InputError)


# ------------------------------------------------------------------ files that people really have

FILES = Path(__file__).resolve().parents[2] / "shared" / "reference" / "files"
needs_files = pytest.mark.skipif(not FILES.is_dir(), reason="the reference files are not here")


def printed(config, out):
    result = run("run", "--config", config, "--out", out)
    assert result.exit_code == 0, result.output
    row = pd.read_csv(out / "summary.csv").set_index("variant").loc["as printed"]
    return row["cost_usd"], row["import_kwh"]


@needs_files
def test_hours_past_24_are_kept(tmp_path):
    found = printed(FILES / "building-25h-day" / "building.toml", tmp_path / "out")
    assert found == pytest.approx((75.0, 300.0))


@needs_files
@pytest.mark.parametrize(("periods", "step_h", "usd"), [(24, 1.0, 484.0), (96, 0.25, 555.52)])
def test_rows_finer_than_the_periods_are_averaged(tmp_path, periods, step_h, usd):
    for file in (FILES / "building-quarter-hours").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "building.toml"
    text = config.read_text().replace("periods = 24", f"periods = {periods}")
    config.write_text(text.replace("step_h = 1.0", f"step_h = {step_h}"))
    assert printed(config, tmp_path / "out") == pytest.approx((usd, 1210.0))


@needs_files
def test_a_table_for_a_list_of_tables_is_one_message(tmp_path, capsys, monkeypatch):
    config = FILES / "building-toml" / "building.toml"
    given = ["evcm", "building", "run", "--config", str(config), "--out", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", given)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 2
    assert "[[pv_group]], once for each" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SMALL = """
[files]
load = "load.csv"
pv = "pv.csv"
tariff = "tariff.csv"
sessions = "sessions.csv"
[horizon]
start_h = 0.0
periods = 24
[building]
bays = 1
connection_kw = 100.0
"""


@pytest.fixture
def small(tmp_path):
    """A day of 24 hours without load or sun, 0.10 USD/kWh, one car of 10 kWh at night."""
    hours = pd.DataFrame({"hour": range(24)})
    hours.assign(load_kw=0).to_csv(tmp_path / "load.csv", index=False)
    hours.assign(irradiance_kw_per_m2=0).to_csv(tmp_path / "pv.csv", index=False)
    hours.assign(price_usd_per_kwh=0.1).to_csv(tmp_path / "tariff.csv", index=False)
    (tmp_path / "sessions.csv").write_text("arrival,departure,energy_kwh\n22:00,6:00,10\n")
    (tmp_path / "building.toml").write_text(SMALL)
    return tmp_path


def test_a_stay_over_midnight_charges_on_in_the_morning(small):
    tariff = pd.DataFrame({"hour": range(24), "price_usd_per_kwh": 0.1})
    tariff.loc[3, "price_usd_per_kwh"] = 0.0
    tariff.to_csv(small / "tariff.csv", index=False)
    assert run("run", "--config", small / "building.toml", "--out", small / "out").exit_code == 0
    summary = pd.read_csv(small / "out" / "summary.csv").set_index("variant")
    # 7.7 kWh free of charge at three, and 2.3 kWh at 0.10.
    assert summary.loc["shifting", "cost_usd"] == pytest.approx(0.23)
    cars = pd.read_csv(small / "out" / "cars.csv")
    mine = cars[cars["variant"] == "as printed"]
    assert mine["period"].tolist() == [23, 24, 1, 2, 3, 4, 5, 6]
    assert mine["charge_kw"].tolist() == pytest.approx([7.7, 2.3, 0, 0, 0, 0, 0, 0])


def test_a_night_beyond_a_working_day_is_refused(small):
    config = small / "building.toml"
    config.write_text(SMALL.replace("start_h = 0.0\nperiods = 24", "start_h = 9.0\nperiods = 14"))
    refused(small, r"load.csv: row 1, hour: got 00:00; allowed: within 09:00 to 23:00")
    for name in ("load.csv", "pv.csv", "tariff.csv"):
        table = pd.read_csv(small / name)
        table[table["hour"].between(9, 22)].to_csv(small / name, index=False)
    refused(small, r"sessions.csv: row 1, stay: got 22:00 to 6:00")


@pytest.mark.parametrize(
    ("arrival", "departure"),
    [
        ("22:00:00", "06:00:00"), ("22,0", "30,0"),
        ("2024-03-01T22:00", "2024-03-02T06:00"),
        ("2024-03-01 22:00:00+01:00", "2024-03-02 06:00:00+01:00"),
        ("Fri, 01 Mar 2024 22:00:00 GMT", "Sat, 02 Mar 2024 06:00:00 GMT"),
    ],
)  # fmt: skip
def test_times_in_every_form(small, arrival, departure):
    content = f"arrival;departure;energy_kwh\r\n{arrival};{departure};10,0\r\n"
    (small / "sessions.csv").write_text("\ufeff" + content, encoding="utf-8")
    assert printed(small / "building.toml", small / "out") == pytest.approx((1.0, 10.0))


def test_negative_tariffs_pay_for_charging(small):
    tariff = pd.DataFrame({"hour": range(24), "price_usd_per_kwh": 0.1})
    tariff.loc[23, "price_usd_per_kwh"] = -0.2
    tariff.to_csv(small / "tariff.csv", index=False)
    assert run("run", "--config", small / "building.toml", "--out", small / "out").exit_code == 0
    summary = pd.read_csv(small / "out" / "summary.csv").set_index("variant")
    assert summary.loc["shifting", "cost_usd"] == pytest.approx(-0.2 * 7.7 + 0.1 * 2.3)


# ------------------------------------------------------------------ nobody's files are overwritten


def test_the_example_leaves_an_edited_file_alone(copy):
    config = copy / "building.toml"
    assert run("example", copy).exit_code == 0  # the same files again
    config.write_text(config.read_text() + "# mine\n")
    result = run("example", copy)
    assert isinstance(result.exception, InputError)
    assert "building.toml" in str(result.exception)
    assert config.read_text().endswith("# mine\n")
    assert run("example", copy, "--force").exit_code == 0
    assert not config.read_text().endswith("# mine\n")


def test_results_do_not_replace_other_tables(small):
    out = small / "out"
    out.mkdir()
    (out / "summary.csv").write_text("mine")
    arguments = ("run", "--config", small / "building.toml", "--out", out)
    assert "summary.csv" in str(run(*arguments).exception)
    assert (out / "summary.csv").read_text() == "mine"
    assert run(*arguments, "--force").exit_code == 0
    assert run(*arguments).exit_code == 0  # its own results
    assert (out / "summary.csv").read_text() != "mine"


# ------------------------------------------------------------------ anything at all


def fuzz(folder, seeds):
    def use():
        own, cars = read_building(folder / "building.toml")
        if own.horizon.periods * own.bays < 500:
            certify(dispatch(own, cars)).require()

    return refused_or_done([f for f in folder.iterdir() if f.is_file()], use, seeds)


def test_anything_is_refused_or_certified(small):
    assert fuzz(small, range(150)) > 0


@pytest.mark.slow
def test_anything_at_all_is_refused_or_certified(small):
    assert fuzz(small, range(150, 2000)) > 20
