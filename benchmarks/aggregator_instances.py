"""Time, proven gap and size of the fast exact aggregator method on many instances.

    python benchmarks/aggregator_instances.py [FOLDER | --study SCENARIO] [--gap 1e-3] [--only TEXT]

FOLDER holds instances (.npz; by default ../shared/reference/eva). With --study, or without such a
folder, the 22 problems of a scenario are drawn in the published way (weighted groups, system cap).
One line for each problem: cars, groups, plugged-in (period, group, sample) triples; periods with a
convex hull, nodes and linear programs; processor seconds (one thread), wall-clock seconds, proven
gap; with --before, the former method's processor seconds, its proven gap and its commit (200 s of
wall clock at most: a gap above the one asked for tells that); and, where ../shared/reference has
it, what the published run of the same problem needed (CPLEX through NEOS, 4 threads, 25,200 s
allowed) and the gap it stopped at.
Medians and maxima at the end.
With --store the rows go to benchmarks/results/aggregator_instances.json, which the book shows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference"


def instances(arguments):
    from evcm.aggregator.problem import load_problem

    if arguments.study is None:
        for path in sorted(arguments.folder.glob("*.npz")):
            if arguments.only in path.stem:
                yield path.stem, load_problem(path)
        return
    from evcm import inputs
    from evcm.aggregator import of_fleet
    from evcm.trips import fleet, montecarlo

    law = inputs.paper().law()
    draw = montecarlo.grouped_draw(
        inputs.paper(), inputs.paper().scenario(arguments.study), law, seed=1
    )
    for side in ("min", "max"):
        cars = fleet.weighted_fleet(draw, side)
        for bus in inputs.paper().buses:
            name = f"sc{arguments.study}-{side}-bus{bus:02d}"
            if arguments.only in name:
                yield name, of_fleet.aggregator_problem(cars, bus)


def published(name):
    """Seconds and gap of the published run of an instance of the same name."""
    record = REFERENCE / "neos_runs.csv"
    if not record.exists():
        return "", ""
    runs = pd.read_csv(record)
    scenario, side, bus = name.split("-")
    keys = {"sc1": "Sc1", "sc2": "Sc2", "sc3": "Sc3"}
    mine = runs[(runs.side == side) & (runs.bus == int(bus[3:]))]
    wanted = mine[mine.scen == keys[scenario]] if scenario in keys else mine[
        ~mine.scen.isin(keys.values())
    ]  # fmt: skip
    if wanted.empty:
        return "", ""
    run = wanted.iloc[0]
    return f"{run.seconds:.0f}", f"{100 * run.gap:.1f}"


BEFORE = """
import sys, time
from evcm.aggregator.{module} import {name}
from evcm.aggregator.problem import load_problem
for line in sys.stdin:
    path, gap = line.split()
    problem = load_problem(path)
    began = time.process_time()
    plan = {name}(problem, gap=float(gap), {options})
    print(time.process_time() - began, 100 * plan.gap, flush=True)
"""


class Before:
    """A former method, in a checkout of an earlier commit, beside this one in the same run."""

    def __init__(
        self, checkout, module="decomposition", name="solve_decomposition",
        options="time_limit_s=200.0",
    ):  # fmt: skip
        told = BEFORE.format(module=module, name=name, options=options)
        self.worker = subprocess.Popen(
            [sys.executable, "-c", told], env=os.environ | {"PYTHONPATH": str(checkout)},
            cwd=checkout, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        told = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
        self.commit = subprocess.run(told, capture_output=True, text=True, check=True).stdout[:-1]

    def measure(self, problem, gap):
        """Processor seconds and proven gap of one problem."""
        from evcm.aggregator.problem import save_problem

        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "p.npz"
            save_problem(path, problem)
            self.worker.stdin.write(f"{path} {gap}\n")
            self.worker.stdin.flush()
            seconds, found = map(float, self.worker.stdout.readline().split())
        return {"before, cpu s": seconds, "before, gap %": found, "before, code": self.commit}


def measure(name, problem, gap):
    from evcm.aggregator.certificate import certify_plan
    from evcm.aggregator.interior.solve import solve_interior
    from evcm.errors import InfeasibleError

    trace = []
    cpu, wall = time.process_time(), time.perf_counter()
    row = {
        "instance": name, "cars": problem.cars, "groups": problem.vehicles,
        "plugged": int(problem.available.sum()),
    }  # fmt: skip
    try:
        plan = solve_interior(problem, gap=gap, trace=trace)
    except InfeasibleError as error:
        seconds = time.process_time() - cpu
        return row | {"cpu s": seconds, "gap %": "infeasible", "note": str(error)}
    row |= {"cpu s": time.process_time() - cpu, "wall s": time.perf_counter() - wall}
    certify_plan(problem, plan)
    run = dict(zip(("published s", "published gap %"), published(name), strict=True))
    return row | {
        "hulls": trace[-1].blocks, "nodes": trace[-1].node, "programs": trace[-1].programs,
        "cost $": plan.cost_usd,
        "gap %": 100 * plan.gap, **run,
    }  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=REFERENCE / "eva")
    parser.add_argument("--study", type=int, choices=(1, 2, 3))
    parser.add_argument("--gap", type=float, default=1e-3)
    parser.add_argument("--only", default="")
    parser.add_argument("--before", type=Path, help="checkout of 2775b7b: its method beside this")
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    arguments = parser.parse_args()
    if arguments.study is None and not arguments.folder.is_dir():
        print(f"{arguments.folder}: no such folder; the problems of scenario 1 instead")
        arguments.study = 1
    rows = []
    for name, problem in instances(arguments):
        if not rows:
            measure(name, problem, 0.1)  # compiled kernels are loaded now
            before = Before(arguments.before) if arguments.before else None
            if before is not None:
                before.measure(problem, 0.1)
        rows.append(measure(name, problem, arguments.gap))
        if before is not None:
            rows[-1] |= before.measure(problem, arguments.gap)
        print(", ".join(f"{k} {_short(v)}" for k, v in rows[-1].items()), flush=True)
    if arguments.store:
        from evcm.store import measured

        part = "reference" if arguments.study is None else f"scenario {arguments.study}"
        measured.store("aggregator_instances", part, rows)
    table = pd.DataFrame(rows)
    print(table.to_string(index=False, float_format=lambda x: f"{x:.3f}"))
    gaps = pd.to_numeric(table["gap %"], errors="coerce")
    for name in ("cpu s", "wall s"):
        print(f"{name}: median {table[name].median():.2f}, largest {table[name].max():.2f}")
    if "before, cpu s" in table:
        now, then = table["cpu s"], table["before, cpu s"]
        print(f"before: sum {then.sum():.1f} s, {then.sum() / now.sum():.2f} times this one's; "
              f"largest {then.max():.1f} s, {then.max() / now.max():.2f} times")  # fmt: skip
    proven = int((gaps <= 100 * arguments.gap).sum())
    print(f"gap: largest {gaps.max():.4f} %, within the gap asked for: {proven} of {len(table)}")


def _short(value):
    return f"{value:.3f}" if isinstance(value, float | np.floating) else value


if __name__ == "__main__":
    main()
