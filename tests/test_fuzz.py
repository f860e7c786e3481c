"""Mutated inputs of every kind: one message and exit code 2, or a certified result.

Each case is made from a seed. A few run with the fast tests, thousands with the slow ones.
"""

import random
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from evcm import cli
from evcm.aggregator.methods import solve
from evcm.aggregator.plan import save_plan
from evcm.aggregator.problem import save_problem
from tests import fuzz
from tests.instances import random_problem

FEW, MANY = 3, 900
"""Cases of each kind among the fast tests and among the slow ones."""

CASE = """function mpc = small
mpc.version = '2';
mpc.baseMVA = 100;
mpc.bus = [
1 3 0 0 0 0 1 1 0 69 1 1.06 0.94;
2 1 20 10 0 0 1 1 0 69 1 1.06 0.94;
3 1 45 15 0 0 1 1 0 69 1 1.06 0.94;
];
mpc.gen = [
1 80 0 100 -100 1.05 100 1 150 0;
];
mpc.branch = [
1 2 0.02 0.06 0.03 130 130 130 0 0 1 -360 360;
1 3 0.08 0.24 0.025 130 130 130 0 0 1 -360 360;
2 3 0.06 0.18 0.02 65 65 65 0 0 1 -360 360;
];
mpc.gencost = [
2 0 0 3 0.11 5 150;
];
"""


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A small sound input of every kind, by name."""
    at = tmp_path_factory.mktemp("sound")
    periods = np.arange(1, 49)
    shape = 0.6 + 0.4 * np.sin(periods / 8) ** 2
    pd.DataFrame({"period": periods, "bus02_mw": 1.0, "bus03_mw": -0.5}).to_csv(
        at / "ev.csv", index=False
    )
    pd.DataFrame({"period": periods, "load_factor": shape}).to_csv(at / "load.csv", index=False)
    pd.DataFrame({"period": periods, "bus14_mw": np.maximum(0, shape - 0.9)}).to_csv(
        at / "nsp.csv", index=False
    )
    (at / "case.m").write_text(CASE)
    problem = random_problem(1)
    save_problem(at / "instance-bus02.npz", problem)
    save_plan(at / "plan.npz", solve(problem, gap=0.1))
    for words in (
        ["building", "example", str(at / "office")], ["inputs", "example", str(at / "study")],
        ["v2x", "run", str(at / "trace"), "--chargers", "2", "--steps", "8"],
    ):  # fmt: skip
        assert CliRunner().invoke(cli.app, words).exit_code == 0, words
    return at


KINDS = {
    "ev": ("ev.csv", "opf --case {at}/case.m --ev {at}/ev.csv --out {out}"),
    "load": ("load.csv", "opf --case {at}/case.m --load-factor {at}/load.csv --out {out}"),
    "case": ("case.m", "opf --case {at}/case.m --out {out}"),
    "caps": ("case.m", "caps --case {at}/case.m --out {out}"),
    "nsp": ("nsp.csv", "reinforce --nsp {at}/nsp.csv --out {out}"),
    "instance": ("instance-bus02.npz", "aggregator check {at}/instance-bus02.npz {at}/plan.npz"),
    "plan": ("plan.npz", "aggregator check {at}/instance-bus02.npz {at}/plan.npz"),
    "building": ("office/*", "building run --config {at}/office/building.toml --out {out}"),
    "study": ("study/**/*", "inputs check {at}/study"),
    "trace": ("trace/*", "v2x replay {at}/trace"),
}
"""File that is mutated, and the command that reads it."""


def mutated(rng, path):
    content = path.read_bytes()
    if path.suffix == ".npz":
        return fuzz.archive(rng, content)
    try:
        plain = content.decode()
    except UnicodeDecodeError:
        return fuzz.raw(rng, content)
    return fuzz.text(rng, plain).encode() if rng.random() < 0.85 else fuzz.raw(rng, content)


def failures(kind, inputs, folder, seeds):
    pattern, command = KINDS[kind]
    found = []
    for seed in seeds:
        rng = random.Random(f"{kind} {seed}")
        at = folder / str(seed)
        shutil.copytree(inputs, at)
        victim = rng.choice(sorted(p for p in at.glob(pattern) if p.is_file()))
        victim.write_bytes(mutated(rng, victim))
        before = {p.name for p in at.iterdir()}
        words = command.format(at=at, out=at / "out").split()
        found += [f"{kind} {seed}: {fault}" for fault in fuzz.faults(words)]
        found += [f"{kind} {seed}: {left}" for left in fuzz.none_left(at, before)]
        shutil.rmtree(at)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_sound_inputs_are_accepted(kind, inputs, tmp_path):
    words = KINDS[kind][1].format(at=inputs, out=tmp_path / "out").split()
    done = CliRunner().invoke(cli.app, words)
    assert done.exit_code in (0, 1), (done.output, done.exception)


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_mutated_inputs(kind, inputs, tmp_path):
    assert failures(kind, inputs, tmp_path, range(FEW)) == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_mutated_inputs(kind, inputs, tmp_path):
    assert failures(kind, inputs, tmp_path, range(FEW, FEW + MANY)) == []


def commands():
    found = {}

    def walk(command, words):
        for name, below in getattr(command, "commands", {}).items():
            walk(below, [*words, name])
        if not hasattr(command, "commands"):
            found[" ".join(words)] = command

    walk(typer.main.get_command(cli.app), [])
    return found


QUICK = {"opf", "caps", "reinforce", "feeder", "aggregator solve", "aggregator check", "status",
         "v2x run", "trips", "inputs check", "equation", "building days", "hosting", "study",
         "compare", "synthesis"}  # fmt: skip
"""Commands whose options are mutated; a long computation is stopped before its first task."""


def options(count, folder, inputs, monkeypatch):
    """Commands with one option of a strange value."""
    from evcm.store import each
    from evcm.trips import montecarlo

    class Stopped(BaseException):
        pass

    def stop(*_, **__):
        raise Stopped

    monkeypatch.setattr(each, "_finished", stop)
    monkeypatch.setattr(montecarlo, "simulate", stop)
    found, every = [], commands()
    for seed in range(count):
        rng = random.Random(f"options {seed}")
        name = rng.choice(sorted(QUICK))
        at = folder / str(seed)
        at.mkdir()
        words = name.split()
        values = {
            "instance": inputs / "instance-bus02.npz", "plan_file": inputs / "plan.npz",
            "nsp": inputs / "nsp.csv", "out": at / "out", "folder": inputs / "study",
        }  # fmt: skip
        asked = [p for p in every[name].params if p.name not in ("help", "cluster")]
        victim = rng.choice(asked)
        for p in asked:
            value = str(values[p.name]) if p.name in values and p.required else None
            value = str(values["out"]) if p.name == "out" else value
            if p is victim and not getattr(p, "is_flag", False):
                value = rng.choice(fuzz.NUMBERS + fuzz.WORDS)
                if p.name in ("out", "log"):
                    value = f"{at}/{value}"
            if value is not None and "\0" not in value:
                words += [value] if p.param_type_name == "argument" else [f"{p.opts[0]}={value}"]
        try:
            found += [f"{words}: {fault}" for fault in fuzz.faults(words)]
        except Stopped:
            continue
    return found


def test_a_few_strange_options(inputs, tmp_path, monkeypatch):
    assert options(30, tmp_path, inputs, monkeypatch) == []


@pytest.mark.slow
def test_many_strange_options(inputs, tmp_path, monkeypatch):
    assert options(1000, tmp_path, inputs, monkeypatch) == []


def test_the_suite_makes_ten_thousand_mutations():
    assert len(KINDS) * MANY + 1000 >= 10_000


def test_mutations_come_from_their_seed(inputs):
    for name in ("ev.csv", "instance-bus02.npz"):
        first, second = (mutated(random.Random("a"), Path(inputs) / name) for _ in range(2))
        assert first == second
