from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from instances import random_problem

from evcm.aggregator import load_plan, load_problem, save_problem

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "eva"
TOOL = Path(__file__).resolve().parents[2] / "shared" / "tools" / "check_plan.py"


def evcm(*arguments: object) -> subprocess.CompletedProcess[str]:
    code = "import sys; from evcm.cli import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", code, "aggregator", *map(str, arguments)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_solve_and_check(tmp_path: Path) -> None:
    instance, out = tmp_path / "case-bus06.npz", tmp_path / "plan.npz"
    save_problem(instance, random_problem(3))
    done = evcm("solve", instance, "--out", out, "--method", "model")
    assert done.returncode == 0, done.stderr
    assert "case-bus06 (bus 6)" in done.stdout
    assert "gap" in done.stdout
    plan = load_plan(out, load_problem(instance))
    assert plan.gap <= 1e-3
    checked = evcm("check", instance, out)
    assert checked.returncode == 0
    assert checked.stdout.rstrip().endswith("certified")
    content = dict(np.load(out))
    np.savez(out, **{**content, "soc_kwh": content["soc_kwh"] + 0.5})
    assert evcm("check", instance, out).returncode in (1, 2)


def test_a_plan_of_another_problem_is_refused(tmp_path: Path) -> None:
    instance, other, out = tmp_path / "a.npz", tmp_path / "b.npz", tmp_path / "plan.npz"
    save_problem(instance, random_problem(3))
    save_problem(other, random_problem(3).with_options(system_cap_mw=1e5))
    options = ("--no-v2g", "--real-time-limit", "plug")
    assert evcm("solve", instance, "--out", out, *options).returncode == 0
    checked = evcm("check", instance, out)  # the plan tells its options
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "no V2G" in checked.stdout
    assert "word of the method" in checked.stdout
    refused = evcm("check", other, out)
    assert refused.returncode == 2
    assert "another one" in refused.stderr
    for gap in ("inf", "nan", "2"):
        assert evcm("check", instance, out, "--gap", gap).returncode != 0


def test_no_plan_no_file(tmp_path: Path) -> None:
    p = random_problem(7, cap="trading")
    instance, out = tmp_path / "tight-bus10.npz", tmp_path / "plan.npz"
    save_problem(instance, p.with_options(trading_cap_mw=np.full(12, 1e-5)))
    for method in ("auto", "model"):
        done = evcm("solve", instance, "--out", out, "--method", method)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "bus 10" in done.stderr
        assert "period" in done.stderr
        assert "uniform increase" in done.stderr
        assert "Traceback" not in done.stderr
        assert [f.name for f in tmp_path.iterdir()] == [instance.name]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("none.npz", "--out", "x.npz"), "missing"),
        (("text.npz", "--out", "x.npz"), "plain arrays"),
        (("good.npz", "--out", "no/such/x.npz"), "existing folder"),
        (("good.npz", "--out", "x.npz", "--gap", "-1"), "--gap"),
        (("good.npz", "--out", "x.npz", "--method", "magic"), "--method"),
        (("good.npz",), "--out"),
    ],
)
def test_bad_input_is_one_message_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], part: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.npz").write_text("no archive")
    save_problem(tmp_path / "good.npz", random_problem(0))
    done = evcm("solve", *arguments)
    assert done.returncode == 2
    assert part in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "x.npz").exists()


def test_a_time_limit_writes_the_best_plan_and_says_so(tmp_path: Path) -> None:
    instance, out = tmp_path / "a.npz", tmp_path / "plan.npz"
    save_problem(instance, random_problem(11, periods=12, vehicles=6, samples=3, steps=8))
    done = evcm("solve", instance, "--out", out, "--method", "model", "--gap", "1e-9",
                "--time-limit", "0.001")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "time limit" in done.stdout
    assert evcm("check", instance, out, "--gap", "1").returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference instances are not there")
@pytest.mark.parametrize("name", ["sc1-min-bus14", "sc3cap-max-bus13"])
def test_the_model_on_reference_instances(name: str, tmp_path: Path) -> None:
    instance, out = REFERENCE / f"{name}.npz", tmp_path / "plan.npz"
    done = evcm("solve", instance, "--out", out, "--method", "model", "--gap", "0.01",
                "--time-limit", "120")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert evcm("check", instance, out, "--gap", "0.01").returncode == 0
