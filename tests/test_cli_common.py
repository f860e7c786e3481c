"""What all commands share: help at once, options, log, JSON, status, signals, the first answer."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm import cli
from evcm.cli import common
from evcm.errors import InputError
from evcm.inputs.folder import paper
from evcm.store.results import Store
from tests.store_tasks import environment


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(a) for a in arguments])


def test_help_and_version_import_nothing_heavy():
    code = (
        "import sys; from evcm.cli import app\n"
        "try: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('numpy', 'pandas', 'numba', 'cvxpy', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "quickstart" in done.stdout


def test_the_package_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "evcm", "--version"], capture_output=True, text=True,
        env=environment(), check=True,
    )  # fmt: skip
    assert done.stdout.startswith("evcm ")


def test_cases_are_parsed_once():
    assert common.which_cases("all", "both", paper()) == ((1, 2, 3), ("min", "max"))
    assert common.which_cases("2", "max", paper()) == ((2,), ("max",))
    with pytest.raises(InputError, match=r"--scenario: got 4.*--side: got left"):
        common.which_cases("4", "left", paper())


PARTS = {
    "study": "results",
    "study --jobs 1": "results",
    "study --scenario all --side both": "results",
    "study --scenario 1 --side max": "results-scenario-1-side-max",
    "study --seeds 1-8 --cars-per-group 50": "results-cars-per-group-50-seeds-1-8",
    "study --side max --out mine": "mine",
    "compare --scenario 1 --side max": "results-scenario-1-side-max",
    "hosting --counts 6000,7000 --days 3": "results-counts-6000,7000-days-3",
    "building days --days 50": "results-days-50",
}


@pytest.mark.parametrize("line", PARTS, ids=lambda line: line.replace(" ", "_"))
def test_a_part_never_replaces_the_tables_of_the_whole(line, tmp_path, monkeypatch):
    """Without --out, what is computed differently goes to a folder of its own."""
    from evcm.study import building_days, comparison, flow, hosting, seeds

    class StoppedError(Exception):
        pass

    def stop(*arguments):
        raise StoppedError(str(next(a for a in arguments if isinstance(a, Path))))

    for module, name in ((flow, "run"), (comparison, "run"), (hosting, "run"), (seeds, "run"),
                         (building_days, "random_days")):  # fmt: skip
        monkeypatch.setattr(module, name, stop)
    monkeypatch.chdir(tmp_path)
    asked = run(*line.split())
    assert isinstance(asked.exception, StoppedError)
    assert str(asked.exception) == PARTS[line]
    assert ("not the whole" in asked.stderr) == PARTS[line].startswith("results-")
    assert list(tmp_path.iterdir()) == []


def test_plain_json_of_numpy_and_tables():
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, float("nan")]})
    assert common.plain({"t": table, "x": table["b"].to_numpy()[0]}) == {
        "t": [{"a": 1, "b": 0.5}, {"a": 2, "b": None}], "x": 0.5,
    }  # fmt: skip


def test_status_tells_steps_tables_and_damage(tmp_path):
    from tests.test_each import draws, each

    with Store(tmp_path).locked() as store:
        each(draws(3), store, "plans")
        store.save_table("t.parquet", "k", pd.DataFrame({"a": [1]}))
        store.save_table("cut.parquet", "k", pd.DataFrame({"a": [1]}))
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    found = json.loads(run("status", tmp_path, "--json").output)
    assert [(s["step"], s["results"], s["damaged"]) for s in found["steps"]] == [("plans", 3, 0)]
    assert {t["table"]: t["state"] for t in found["tables"]} == {
        "t.parquet": "whole", "cut.parquet": "damaged",
    }  # fmt: skip
    assert "plans" in run("status", tmp_path).output


def test_a_log_tells_what_ran_and_from_measured_costs_how_long_it_will_take(tmp_path):
    from tests.test_each import draws, each

    for count in (2, 6):
        with common.working(tmp_path / "log") as progress:
            each(draws(count), Store(tmp_path), "s", 1, progress, "Step")
    said = (tmp_path / "log").read_text()
    assert "Step: 2 of 2 to compute\n" in said
    measured = r"Step: 4 of 6 to compute, about 0 s on 1 processes, at 0\.\d\d s each as measured"
    assert re.search(measured, said)
    assert "Step: seed5 took" in said


def test_a_terminated_command_leaves_no_workers_and_says_what_was_kept(tmp_path):
    arguments = ["building", "days", "--out", str(tmp_path / "r"), "--days", "1000", "--jobs", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "evcm", *arguments], env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    for _ in range(1200):
        if (tmp_path / "r" / ".lock").exists() and len(_group(process.pid)) >= 3:
            break
        time.sleep(0.1)
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143
    assert "1000" not in said or "results are kept in" in said
    assert "Traceback" not in said
    time.sleep(1.5)
    assert _group(process.pid) == []


def _group(leader):
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == leader and process.status() != "zombie":
                found.append(process.pid)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def test_quickstart_of_a_bare_case(tmp_path):
    done = run("quickstart", "--case", "case9", "--out", tmp_path / "q", "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)["numbers"]
    assert len(numbers) == 5
    day = pd.read_csv(tmp_path / "q" / "day.csv")
    assert numbers["peak, MW"] == pytest.approx(day["load_mw"].max(), abs=1e-6)
    assert (tmp_path / "q" / "figure.html").stat().st_size > 1e6


@pytest.mark.slow
def test_quickstart_gives_five_numbers_and_inputs_for_other_commands(tmp_path):
    done = run("quickstart", "--out", tmp_path / "q", "--json")
    assert done.exit_code == 0, done.output
    numbers = json.loads(done.stdout)["numbers"]
    assert len(numbers) == 5
    assert numbers["energy that the cars need, MWh a day"] == pytest.approx(17.95, abs=0.01)
    at = tmp_path / "q"
    assert run("opf", "--ev", at / "ev.csv", "--out", tmp_path / "day.csv").exit_code == 0
    pd.testing.assert_frame_equal(
        pd.read_csv(tmp_path / "day.csv"), pd.read_csv(at / "day.csv"), rtol=1e-6
    )
    nsp = ("reinforce", "--nsp", at / "day.csv", "--out", tmp_path / "sizes.csv")
    assert run(*nsp).exit_code in (0, 2)  # a day with nothing short is said in words
    plan = ("aggregator", "solve", at / "instance-bus14.npz", "--out", tmp_path / "p.npz")
    assert run(*plan, "--gap", "0.05").exit_code == 0
