"""A wheel in an empty folder, without the checkout: every command does its work there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from evcm.cli import app

ROOT = Path(__file__).resolve().parents[1]

COMMANDS = """
--version
equation 45
inputs example mine --case case9 --cars 200
inputs check mine
trips --scenario 1 --out drawn
quickstart --out first
quickstart --case case30 --out other
opf --ev first/ev.csv --out day.csv
opf --case case9 --out nine.csv
caps --out caps.csv
aggregator solve first/instance-bus14.npz --out plan.npz --gap 0.05
aggregator check first/instance-bus14.npz plan.npz --gap 0.05
feeder --out volts.csv
study --scenario 1 --side min --cars-per-group 60 --gap 0.05 --jobs 1 --out results --log log
compare --scenario 1 --side min --cars-per-group 60 --gap 0.05 --jobs 1 --out results
hosting --counts 2000 --seeds 1 --days 1 --jobs 1 --out results
synthesis --repeats 1 --jobs 1 --out results
status results --json
results where
results csv results --out tables
report results
building example office
building run --config office/building.toml --out dispatched
building days --days 50 --jobs 1 --out results
v2x run trace --chargers 3 --steps 24 --rule first_come
v2x optimum trace
v2x replay trace
v2x compare --chargers 2 --steps 24
"""

NOT_RUN = {
    "results get": "needs a built book",
    "hinges": "forty minutes at any size; its steps are tested by test_hinges.py",
    "reinforce": "its input is a day that lacks power: below",
}


def leaves():
    """Every command as it is typed."""
    found = []

    def walk(command, words):
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append(" ".join(words))
        else:
            for name, below in inner.items():
                walk(below, [*words, name])

    walk(typer.main.get_command(app), [])
    return found


def test_every_command_is_in_the_list():
    lines = COMMANDS.split("\n")
    missing = [
        leaf for leaf in leaves()
        if leaf not in NOT_RUN and not any(f"{line} ".startswith(f"{leaf} ") for line in lines)
    ]  # fmt: skip
    assert missing == []


@pytest.fixture(scope="module")
def evcm(tmp_path_factory):
    """The command of a wheel installed by itself, and an empty folder to run it in."""
    at = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    built = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(at), str(ROOT)]
    subprocess.run([*pip, *built], check=True)
    (wheel,) = at.glob("*.whl")
    put = ["install", "--no-deps", "--target", str(at / "site"), str(wheel)]
    subprocess.run([*pip, *put], check=True)
    empty = at / "empty"
    empty.mkdir()

    def call(*words):
        return subprocess.run(
            [sys.executable, "-m", "evcm", *words], cwd=empty, capture_output=True, text=True,
            check=False, env={**os.environ, "PYTHONPATH": str(at / "site")},
        )  # fmt: skip

    return call, empty, at / "site"


@pytest.mark.slow
def test_every_command_works_from_a_wheel_in_an_empty_folder(evcm):
    call, empty, site = evcm
    where = subprocess.run(
        [sys.executable, "-c", "import evcm; print(evcm.__file__)"], cwd=empty, text=True,
        capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(site)},
    ).stdout  # fmt: skip
    assert where.startswith(str(site))
    failed = []
    for line in COMMANDS.strip().split("\n"):
        done = call(*line.split())
        if done.returncode != 0 or "Traceback" in done.stderr:
            failed.append((line, done.returncode, done.stderr[-600:], done.stdout[-200:]))
    assert failed == []
    (empty / "nsp.csv").write_text(
        "period,bus14_mw\n" + "".join(f"{t},{int(t == 39)}\n" for t in range(1, 49))
    )
    sized = call("reinforce", "--nsp", "nsp.csv", "--out", "sizes.csv")
    assert sized.returncode == 0, sized.stderr
    assert not list(empty.glob(".*"))  # nothing left lying about
