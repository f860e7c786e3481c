"""`evcm feeder`: the published case out of the box, clear refusals, no partial files."""

from __future__ import annotations

import sys

import pandas as pd
import pytest

from evcm import cli
from evcm.feeder import states


def run(monkeypatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["evcm", "feeder", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return int(stop.value.code or 0)


def test_published_case(monkeypatch, tmp_path, capsys):
    out = tmp_path / "V.csv"
    assert run(monkeypatch, "--out", str(out)) == 0
    table = pd.read_csv(out, dtype={"node": str})
    assert list(table.columns) == ["node", "phase", "v_pu", "angle_deg"]
    both = states.published_solution().merge(table, on=["node", "phase"], suffixes=("", "_ours"))
    assert len(both) == len(states.published_solution()) == 35
    assert (both["v_pu"] - both["v_pu_ours"]).abs().max() <= 5e-4
    turn = (both["angle_deg"] - both["angle_deg_ours"] + 180) % 360 - 180
    assert turn.abs().max() <= 0.1
    said = capsys.readouterr().out
    assert "3577.1" in said
    assert "j1724." in said


def test_absent_phase_is_refused_by_name(monkeypatch, tmp_path, capsys):
    out = tmp_path / "V.csv"
    assert run(monkeypatch, "--out", str(out), "--ev-kw", "50", "--ev-at", "611.a") == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "node 611, phase" in message
    assert "node 611 has phase c" in message
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--head-pu", "nan"), "head_v_pu"),
        (("--spread", "nowhere"), "by_load, by_node, one_phase"),
        (("--ev-at", "999.a"), "999"),
        (("--ev-kw", "90000"), "period 1, node"),
    ],
)
def test_refusals(monkeypatch, tmp_path, capsys, arguments, words):
    assert run(monkeypatch, "--out", str(tmp_path / "V.csv"), *arguments) == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not list(tmp_path.iterdir())


def test_missing_folder(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch, "--out", str(tmp_path / "none" / "V.csv")) == 2
    assert "an existing folder" in capsys.readouterr().err
