"""100,000 unbalanced power flows of the 13-node feeder, each certified, on two processes.

    python benchmarks/feeder.py [--solves 100000] [--jobs 2]

Head voltage, load and cars differ from solve to solve, so that every load is set anew. Wall and
processor seconds (of this process and its workers) are printed, for one process and for two.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np
from joblib.externals.loky import get_reusable_executor

from evcm import feeder
from evcm.feeder import FeederCases
from evcm.store import measured


def cases(count: int) -> FeederCases:
    rng = np.random.default_rng(0)
    return FeederCases(
        period=rng.integers(1, 49, count),
        head_v_pu=rng.uniform(0.97, 1.05, count),
        load_scale=rng.uniform(0.5, 1.0, count),
        ev_kw=rng.normal(0, 300, count),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--solves", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    given = parser.parse_args()
    count, most, rows = given.solves, given.jobs, []
    asked = cases(count)
    feeder.solve(cases(100))  # imports and first touch are not part of the measurement
    print(f"{count} power flows, target 60 s on 2 cores; load average {os.getloadavg()[0]:.1f}")
    print("jobs   wall s   ms per solve   60 s / wall   worst certificate")
    for jobs in sorted({1, most}):
        start = time.perf_counter()
        states = feeder.solve(asked, jobs=jobs)
        wall = time.perf_counter() - start
        worst = states.certificate.worst
        rows.append({"what": f"{count:,} power flows, {jobs} process(es)", "wall_s": wall,
                     "times": wall / rows[0]["wall_s"] if rows else 1.0})  # fmt: skip
        print(f"{jobs:4d} {wall:8.1f} {1000 * wall / count:14.3f} {60 / wall:13.2f} {worst:19.1e}")
    print(f"iterations of a solve: {states.iterations.mean():.1f}")
    get_reusable_executor(reuse=True).shutdown(wait=True)  # so that the workers' time is booked
    used = os.times()
    print(
        f"processor seconds, both runs: {used.user:.1f} here, {used.children_user:.1f} in workers"
    )
    if given.store:
        measured.store("speed", "unbalanced feeder", rows)


if __name__ == "__main__":
    main()
