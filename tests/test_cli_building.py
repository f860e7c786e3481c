"""`evcm building`: the example runs, its tables agree, and bad files are refused by row."""

import json

import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm.cli import app
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
        ("tariff.csv", 3, "hour", 1, r"row 3, hour: got 1; allowed: each hour once"),
        ("load.csv", 5, "load_kw", "much", r"row 5, load_kw: got much"),
        ("sessions.csv", 2, "energy_kwh", 500, r"row 2, energy_kwh: got 500.0; allowed: <= "),
        ("sessions.csv", 2, "departure", 1, r"row 2, stay"),
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
    refused(copy, r"row 2, bay: got bay 1 at 11:00; allowed: a free bay; row 1 holds it until 12")
    seven = pd.DataFrame([(9, 12, 5)] * 7, columns=columns[:3])
    seven.to_csv(copy / "sessions.csv", index=False)
    refused(copy, r"row 7, bay: got all 6 bays are taken at 09:00")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("bays = 6", "bays = 6.5", r"bays: got 6.5; allowed: a whole number"),
        ("bays = 6", "isles = 6", r"isles: got 6; allowed: an entry of"),
        ("connection_kw = 250.0", "", r"section building: entries"),
        ("[bank]", "[batteries]", r"section batteries"),
        ('load = "load.csv"', 'load = "none.csv"', r"none.csv: file: got missing"),
        ("[horizon]", "[horizon", r"content"),
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
