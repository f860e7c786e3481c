"""The benchmarks run, at their smallest sizes. What they measure is not tested."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "words",
    [
        "building.py --days 1 --repeats 1",
        "feeder.py --solves 60 --jobs 1",
        "hosting.py --days 1 --cars 8000",
        "opf.py --days 1 --skip-pandapower",
        "store.py --tasks 4 --results 20",
        "trips.py",
        "v2x.py --episodes 1 --envs 8",
    ],
)
def test_a_benchmark_runs_and_stores_nothing_unasked(words: str) -> None:
    kept = ROOT / "benchmarks" / "results"
    before = {path: path.read_bytes() for path in kept.iterdir()}
    name, *options = words.split()
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / name), *options], cwd=ROOT, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    after = {path: path.read_bytes() for path in kept.iterdir()}
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout
    assert after == before
