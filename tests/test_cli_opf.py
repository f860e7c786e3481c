"""`evcm opf` and `evcm caps`: columns, variants, and one clear message for each bad input."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm.cli import app
from evcm.errors import EvcmError, InfeasibleError, InputError
from evcm.inputs import paper

runner = CliRunner()


def ev_table(value=0.0):
    table = pd.DataFrame({"period": np.arange(1, 49)})
    for bus in paper().buses:
        table[f"bus{bus:02d}_mw"] = value
    return table


def run(*args):
    return runner.invoke(app, [str(a) for a in args])


def test_opf_writes_the_agreed_columns(tmp_path):
    ev = ev_table()
    ev.loc[23, "bus14_mw"] = 15.97
    ev.sample(frac=1, random_state=0).to_csv(tmp_path / "ev.csv", index=False)
    result = run("opf", "--ev", tmp_path / "ev.csv", "--out", tmp_path / "out.csv")
    assert result.exit_code == 0, result.output
    out = pd.read_csv(tmp_path / "out.csv")
    buses = [f"nsp_bus{b:02d}_mw" for b in (4, 5, 7, 9, 10, 11, 12, 13, 14)]
    head = ["period", "load_mw", "generation_mw", "nsp_mw", "losses_mw", "v_min_pu"]
    assert list(out.columns) == [*head, *buses, "status"]
    assert out["period"].tolist() == list(range(1, 49))
    assert out.loc[23, "nsp_mw"] > 5.0
    assert out["nsp_mw"].drop(23).max() == 0.0
    balance = out["generation_mw"] + out["nsp_mw"] - out["load_mw"] - out["losses_mw"]
    assert balance.abs().max() < 1e-5
    assert out["status"].str.startswith("optimal").all()


def test_opf_without_cars_and_as_published(tmp_path):
    result = run("opf", "--out", tmp_path / "out.csv", "--as-published")
    assert result.exit_code == 0
    assert "5486.08 MWh" in result.output


def test_opf_of_another_network_with_a_few_aggregators(tmp_path):
    table = pd.DataFrame({"period": np.arange(1, 49), "bus7": 2.0})
    table.to_csv(tmp_path / "ev.csv", index=False)
    args = ("--case", "case30", "--ev", tmp_path / "ev.csv", "--out", tmp_path / "out.csv")
    assert run("opf", *args).exit_code == 0
    plain = run("opf", "--case", "case30", "--out", tmp_path / "plain.csv")
    assert plain.exit_code == 0
    more = (
        pd.read_csv(tmp_path / "out.csv")["load_mw"]
        - pd.read_csv(tmp_path / "plain.csv")["load_mw"]
    )
    assert np.allclose(more, 2.0, atol=1e-5)


def test_caps_writes_one_column_per_aggregator(tmp_path):
    result = run("caps", "--out", tmp_path / "caps.csv", "--as-published")
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "caps.csv")
    assert list(table.columns) == ["period", *(f"bus{b:02d}_mw" for b in paper().buses)]
    assert len(table) == 48
    assert table.iloc[29, 1:].sum() == pytest.approx(8.656, rel=0.005)


def _drop(name):
    return lambda t: t.drop(columns=name)


BAD = [
    (lambda t: t.assign(bus07_mw=1.0), "column bus07_mw: got unknown bus"),
    (lambda t: t.assign(note=1.0), "column note: got unknown bus"),
    (lambda t: t.assign(bus2_mw=1.0), "repeated bus"),
    (_drop("bus13_mw"), "column bus13_mw: got missing"),
    (_drop("period"), "column period: got missing"),
    (lambda t: t.iloc[:47], r"missing \[48\]"),
    (lambda t: pd.concat([t, t.iloc[:1]]), "repeated"),
    (lambda t: t.assign(period=t["period"] - 1), r"unknown \[0.0\]"),
    (lambda t: t.assign(bus04_mw="x"), "column bus04_mw, row 1"),
    (lambda t: t.assign(bus04_mw=np.nan), "a finite number"),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_bad_ev_tables(tmp_path, change, message):
    change(ev_table()).to_csv(tmp_path / "ev.csv", index=False)
    result = run("opf", "--ev", tmp_path / "ev.csv", "--out", tmp_path / "out.csv")
    assert isinstance(result.exception, InputError)
    assert pd.Series([str(result.exception)]).str.contains(message).all(), str(result.exception)
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.parametrize(
    ("value", "message"), [(1e4, "too little"), (-60.0, "generation at bus 1 at least 0 MW")]
)
def test_a_day_beyond_the_network_is_refused(tmp_path, value, message):
    ev_table(value).to_csv(tmp_path / "ev.csv", index=False)
    result = run("opf", "--ev", tmp_path / "ev.csv", "--out", tmp_path / "out.csv")
    assert isinstance(result.exception, InfeasibleError)
    assert "period 1" in str(result.exception)
    assert message in str(result.exception)
    assert list(tmp_path.iterdir()) == [tmp_path / "ev.csv"]


def test_a_negative_load_factor_is_refused(tmp_path):
    table = pd.DataFrame({"period": np.arange(1, 49), "load_factor": 0.8})
    table.loc[4, "load_factor"] = -0.1
    table.to_csv(tmp_path / "load.csv", index=False)
    for command in ("opf", "caps"):
        result = run(command, "--load-factor", tmp_path / "load.csv", "--out", tmp_path / "o.csv")
        assert isinstance(result.exception, InputError)
        assert "row 5: got -0.1; allowed: a load factor >= 0" in str(result.exception)


@pytest.mark.parametrize(
    "args",
    [
        ("--case", "case30", "--as-published"),
        ("--case", "nowhere.m"),
        ("--method", "newton"),
        ("--ev", "nowhere.csv"),
    ],
)
def test_other_bad_arguments(tmp_path, args):
    result = run("opf", "--out", tmp_path / "o.csv", *args)
    assert isinstance(result.exception, EvcmError)


def test_a_missing_folder_is_refused_before_work(tmp_path):
    result = run("opf", "--out", tmp_path / "none" / "o.csv")
    assert "an existing folder" in str(result.exception)


def test_exit_code_and_message_from_the_shell(tmp_path):
    ev_table(1e4).to_csv(tmp_path / "ev.csv", index=False)
    command = [str(Path(sys.executable).parent / "evcm"), "opf"]
    command += ["--ev", str(tmp_path / "ev.csv"), "--out", str(tmp_path / "o.csv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("evcm: OPF, period 1: no operating point keeps every limit")
    assert "Traceback" not in done.stderr
