"""What a network takes that is nothing but a case file: wall clock and processor time.

    python benchmarks/your_network.py                          # all of case30: prints
    python benchmarks/your_network.py case118 study            # prints and stores
    python benchmarks/your_network.py case57 study compare hosting

Runs the commands as a user types them: `evcm inputs example F --case C --cars N`, then `evcm
study`, `compare` and `hosting` with `--inputs F`. All refuse a plan without its certificate. A
row is stored by case and command as soon as its command has ended.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from evcm import inputs
from evcm.store import measured
from evcm.store.results import Store
from evcm.study.tables import system_summary

CARS = {"case30": 400, "case57": 4_000, "case118": 20_000, "case300": 20_000}
COMMANDS = {"study": [], "compare": [], "hosting": ["--seeds", 1, "--days", 2]}


def evcm(*words):
    """Run the command; its wall clock and processor time, workers included, in seconds."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "evcm", *map(str, words)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, used


def facts(command, out):
    """What a command left behind, in a few numbers."""
    load = Store(out).load_table
    if command == "hosting":
        points, first = load("hosting/points.parquet"), load("hosting/first.parquet")
        # what an aggregator could still gain at an equilibrium is no gap of its own problem
        settled = points["regime"] == "equilibrium"
        return {"points": len(points), "with_plans": int(points["feasible"].sum()),
                "largest_gap": points.loc[~settled, "gap_found"].max(),
                "largest_epsilon_share": points.loc[settled, "gap_found"].max(),
                "first_cars": load("hosting/uncontrolled_first.parquet")["first_cars"].median(),
                "first_cars_apart": first["first_cars"].median()}  # fmt: skip
    if command == "compare":
        regimes, ended = (load(f"coordination/{n}.parquet") for n in ("regimes", "equilibrium"))
        plans = Store(out).step("plans")
        gaps = [plans.get(row["name"], row["key"]).record["gap"] for row in plans.facts()]
        paid = regimes.groupby("regime")["paid_usd"].sum()
        return {"regimes": len(regimes), "plans": len(gaps), "largest_gap": max(gaps),
                "epsilon_sum_usd": ended["epsilon_sum_usd"].max(),
                "nse_mwh": regimes["nse_mwh"].max(),
                "paid_apart_usd": paid["apart"], "paid_joint_usd": paid["joint"]}  # fmt: skip
    plans = load("aggregators.parquet")
    days = system_summary(load("system.parquet"), load("transmission.parquet"))
    return {"plans": len(plans), "largest_gap": plans["gap"].max(),
            "raised_caps": int((plans["cap_raised_percent"] > 0).sum()), "opf_days": len(days),
            "nse_mwh": days["nse_mwh"].max()}  # fmt: skip


def measure(case, commands, jobs=2):
    """Write the inputs, run the commands one after another: each, what it did and what it cost."""
    with tempfile.TemporaryDirectory() as work:
        folder, out = Path(work) / "inputs", Path(work) / "results"
        evcm("inputs", "example", folder, "--case", case, "--cars", CARS[case])
        told = inputs.read(folder)
        size = {"case": case, "buses": told.network.n_bus, "aggregators": len(told.buses),
                "cars": CARS[case], "cars_per_group": told.scenarios[0].cars_per_group}  # fmt: skip
        for command in commands:
            wall, processor = evcm(command, "--inputs", folder, "--out", out, "--jobs", jobs,
                                   *COMMANDS[command])  # fmt: skip
            yield command, {**size, **facts(command, out), "jobs": jobs, "wall_s": wall,
                            "processor_s": processor}  # fmt: skip


def main(case="case30", *commands):
    """Measure one case, print its rows, and store each: a study under the name of its case."""
    for command, row in measure(case, commands or COMMANDS):
        print(command)
        for name, value in row.items():
            print(
                f"  {name:18s}{value:.4g}" if isinstance(value, float) else f"  {name:18s}{value}"
            )
        measured.store("your_network", case if command == "study" else f"{case} {command}", [row])


if __name__ == "__main__":
    main(*sys.argv[1:])
