"""What a study of a network takes that is nothing but a case file: wall clock and processor time.

    python benchmarks/your_network.py            # case30 with 2,000 cars: prints
    python benchmarks/your_network.py case118    # case118 with 20,000 cars: prints and stores

Runs the commands as a user types them: `evcm inputs example F --case C --cars N`, then `evcm study
--inputs F` on two processes. The study refuses a plan without its certificate.
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

CARS = {"case30": 2_000, "case118": 20_000}


def evcm(*words):
    """Run the command; its wall clock and processor time, workers included, in seconds."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-m", "evcm", *map(str, words)], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begin, used


def measure(case, cars, jobs=2):
    """Write the inputs, run the study, and say in one row what was done and what it took."""
    with tempfile.TemporaryDirectory() as work:
        folder, out = Path(work) / "inputs", Path(work) / "results"
        evcm("inputs", "example", folder, "--case", case, "--cars", cars)
        wall, processor = evcm("study", "--inputs", folder, "--out", out, "--jobs", jobs)
        told, load = inputs.read(folder), Store(out).load_table
        plans = load("aggregators.parquet")
        days = system_summary(load("system.parquet"), load("transmission.parquet"))
    return {
        "case": case, "buses": told.network.n_bus, "aggregators": len(told.buses), "cars": cars,
        "cars_per_group": told.scenarios[0].cars_per_group, "plans": len(plans),
        "largest_gap": plans["gap"].max(),
        "raised_caps": int((plans["cap_raised_percent"] > 0).sum()),
        "opf_days": len(days), "nse_mwh": days["nse_mwh"].max(), "jobs": jobs, "wall_s": wall,
        "processor_s": processor,
    }  # fmt: skip


def main(case="case30"):
    """Measure one case, print its row, and store that of case118."""
    row = measure(case, CARS[case])
    for name, value in row.items():
        print(f"{name:16s}{value:.4g}" if isinstance(value, float) else f"{name:16s}{value}")
    if case == "case118":
        measured.store("your_network", "case118", [row])


if __name__ == "__main__":
    main(*sys.argv[1:])
