"""What a task costs beside its own work, and what thousands of results cost to keep and to read.

    python benchmarks/store.py [--tasks 400] [--results 2000] [--store]

With --store the rows go to ``benchmarks/results/store.json``; the chapter on performance shows
them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from evcm import inputs
from evcm.store import measured
from evcm.store.each import each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study import hosting_points as points

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.store_tasks import Cluster, Draw  # noqa: E402


def clocked(work):
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, time.perf_counter() - wall, time.process_time() - cpu


def overhead(tasks, jobs, label, folder):
    """Milliseconds per task of the loop, once its workers are there."""
    each([Draw(k) for k in range(8)], Store(folder / label), "warm", jobs)
    work = [Draw(k) for k in range(tasks)]
    _, wall, cpu = clocked(lambda: each(work, Store(folder / label), "s", jobs))
    return {
        "hands": label, "tasks": tasks, "wall_ms_per_task": 1e3 * wall / tasks,
        "coordinator_ms_per_task": 1e3 * cpu / tasks,
    }  # fmt: skip


def kept(results, folder):
    """Seconds to keep results one by one, to merge them, and to read all."""
    step = Store(folder).step("points")
    rng = np.random.default_rng(0)
    rows = {
        f"p{k}": ("key", Result({"cars": k, "power_mw": rng.normal(size=48).tolist()}), 1.0)
        for k in range(results)
    }
    _, write, write_cpu = clocked(lambda: [step.add({n: row}) for n, row in rows.items()])
    _, merge, _ = clocked(step.merge)
    again, read, _ = clocked(lambda: Store(folder).step("points"))
    found, get, _ = clocked(lambda: [again.get(name, "key") for name in rows])
    assert all(result is not None for result in found)
    return {
        "results": results, "write_s": write, "write_processor_s": write_cpu, "merge_s": merge,
        "read_s": read + get, "files": len(list(step.folder.iterdir())),
        "bytes_per_result": sum(f.stat().st_size for f in step.folder.iterdir()) / results,
    }  # fmt: skip


def fleet():
    """Processor seconds of one fleet: eleven aggregators of 200 groups, and its OPF days."""
    point = points.Point(
        "apart", 8000, 1, inputs.paper().vehicles[0].charger.power_kw, 1.0, 200, 4, 0.03
    )
    points.solve_point(inputs.paper(), point)  # compiles
    row, wall, cpu = clocked(lambda: points.solve_point(inputs.paper(), point))
    packed = sum(len(part) for part in Result(row).pack())
    return {"fleet": "8,000 cars in 200 groups", "processor_s": cpu, "wall_s": wall,
            "bytes": packed}  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--tasks", type=int, default=400)
    parser.add_argument("--results", type=int, default=2000)
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory(dir=ROOT) as name:
        folder = Path(name)
        rows = [overhead(given.tasks, 1, "this process", folder)]
        rows.append(overhead(given.tasks, 2, "2 processes", folder))
        cluster = Cluster(folder / "cluster", 2).wait_for(2)
        try:
            rows.append(overhead(given.tasks, cluster.address, "Dask, 2 workers", folder))
        finally:
            cluster.stop()
        parts = {"overhead": rows, "kept": [kept(given.results, folder / "kept")]}
    parts["fleet"] = [fleet()]
    for part, found in parts.items():
        print(part)
        for row in found:
            print("  " + ", ".join(
                f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
                for name, value in row.items()
            ))  # fmt: skip
    if given.store:
        assert max(row["coordinator_ms_per_task"] for row in rows) < 20
        for part, found in parts.items():
            measured.store("store", part, found)


if __name__ == "__main__":
    main()
