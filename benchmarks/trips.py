"""How long 1,000,000 car-days of trips and their energy take.

    python benchmarks/trips.py [--store]

Each number is the best of several runs in a process of its own, in seconds of wall clock and of
processor time. Compared are one and two threads, the same day written with numpy arrays, and the
same kernel as plain Python (on fewer car-days, scaled). The first and the second start of a process
show what compiling costs, and that it is cached. With --store the rows are kept for the book.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

REPEATS = 7


def timed(work, repeats=REPEATS):
    best = (np.inf, np.inf)
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        best = min(best, (time.perf_counter() - wall, time.process_time() - cpu))
    return best


def all_scenarios(threads):
    from evcm import inputs
    from evcm.trips import montecarlo

    law = inputs.paper().law()
    return [
        montecarlo.simulate(inputs.paper(), s, law, 1, threads) for s in inputs.paper().scenarios
    ]


def first_call(folder):
    """Seconds of the first simulation in a new process that keeps its kernels in `folder`."""
    code = (
        "import time; import benchmarks.trips as b; import evcm.trips.montecarlo;"
        "t = time.perf_counter();"
        "b.all_scenarios(2); print(time.perf_counter() - t)"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": folder}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, stdout=subprocess.PIPE,
        text=True, cwd=Path(__file__).resolve().parents[1],
    )  # fmt: skip
    return float(done.stdout)


def numpy_day(scenario, law, seed):
    """The same simulation with numpy arrays, a sample at a time, as one would write it first.

    Same laws, other random numbers. Legs are booked period by period over all cars at once.
    """
    from evcm import inputs
    from evcm.trips.cars import edge_distance_km, law_numbers, roads

    net, km_of, numbers = (
        roads(inputs.paper()),
        edge_distance_km(inputs.paper(), law),
        law_numbers(inputs.paper(), law),
    )
    mean, sd = numbers.speed_mean, numbers.speed_sd
    draw = np.random.default_rng(seed)
    out = np.empty(scenario.samples)
    energy = np.zeros((scenario.samples, 48))
    low, high = (1 + 2 * h for h in law.arrival_range_h)
    for s in range(scenario.samples):
        size = scenario.cars
        speed = np.clip(draw.normal(mean, sd), *law.speed_range_kmh)
        origin = draw.integers(0, 11, size)
        count = np.diff(net.first)[origin]
        km = km_of[net.first[origin] + (draw.random(size) * count).astype(int)]
        need = draw.uniform(*law.consumption_kwh_per_km, size) / 0.9
        departure = np.rint(draw.normal(1 + 2 * law.departure_mean_h, 2 * law.departure_sd_h, size))
        departure = np.clip(departure, 1, 1 + 2 * law.departure_latest_h).astype(int)
        arrival = np.rint(draw.normal(1 + 2 * law.arrival_mean_h, 2 * law.arrival_sd_h, size))
        arrival = np.clip(arrival, low, high).astype(int)
        for start, step in ((departure, 1), (arrival, -1)):
            left, at, mine, per_km = km.copy(), start - 1, np.arange(size), need.copy()
            while mine.size:
                at = at % 48
                part = np.minimum(left, speed[at] * 0.5)
                energy[s] += np.bincount(at, part * per_km, 48)
                left = left - part
                keep = left > 0
                left, at, per_km, mine = left[keep], at[keep] + step, per_km[keep], mine[keep]
        out[s] = 2 * (km * need).sum() / 1000
    return out, energy


def plain_python(cars, samples):
    """Wall-clock and processor seconds per car-day of the kernel without Numba."""
    from evcm import inputs
    from evcm.trips import kernels, montecarlo

    compiled = {n: v for n, v in vars(kernels).items() if hasattr(v, "py_func")}
    for name, value in compiled.items():
        setattr(kernels, name, value.py_func)
    try:
        with np.errstate(over="ignore"):
            few = replace(inputs.paper().scenario(1), cars=cars, samples=samples)
            wall, cpu = timed(
                lambda: montecarlo.simulate(inputs.paper(), few, inputs.paper().law(), 1, 1), 3
            )
    finally:
        for name, value in compiled.items():
            setattr(kernels, name, value)
    return wall / (cars * samples), cpu / (cars * samples)


def main():
    from evcm import inputs
    from evcm.store import measured

    with tempfile.TemporaryDirectory() as folder:
        cold, warm = first_call(folder), first_call(folder)
    all_scenarios(1)
    one, two = timed(lambda: all_scenarios(1)), timed(lambda: all_scenarios(2))
    law = inputs.paper().law()
    arrays = timed(lambda: [numpy_day(s, law, 1) for s in inputs.paper().scenarios], 3)
    python = plain_python(250, 4)
    same = all(
        a.gchr_mwh.tobytes() == b.gchr_mwh.tobytes()
        and a.energy_mwh.tobytes() == b.energy_mwh.tobytes()
        for a, b in zip(all_scenarios(1), all_scenarios(2), strict=True)
    )
    car_days = sum(s.car_days for s in inputs.paper().scenarios)
    print(f"{car_days:,} car-days, best of {REPEATS}; {os.cpu_count()} processors")
    rows = [
        ("kernels, 1 thread", *one),
        ("kernels, 2 threads", *two),
        ("numpy arrays, 1 thread", *arrays),
        ("plain Python, 1 thread (scaled)", python[0] * car_days, python[1] * car_days),
    ]
    for name, wall, cpu in rows:
        print(f"{name:34s}{wall:10.3f} s wall {cpu:10.3f} s cpu {wall / two[0]:10.1f} x")
    print(f"first call of a new process: {cold:.2f} s compiling, {warm:.2f} s from the cache")
    print(f"same bits on 1 and 2 threads: {same}")
    means = [r.gchr_mwh.mean() for r in all_scenarios(1)]
    theirs = [numpy_day(s, law, 1)[0].mean() for s in inputs.paper().scenarios]
    print(f"mean GChR, MWh: kernels {np.round(means, 3)}, numpy {np.round(theirs, 3)}")
    figures = {"one_thread_s": one[0], "two_threads_s": two[0], "numpy_s": arrays[0]}
    print(
        json.dumps(
            figures | {"python_s": python[0] * car_days, "compile_s": cold, "cached_s": warm}
        )
    )
    if "--store" in sys.argv[1:]:
        measured.store("speed", "1,000,000 car-days", [
            {"what": name, "wall_s": wall, "processor_s": cpu, "times": wall / two[0]}
            for name, wall, cpu in rows
        ])  # fmt: skip
    if not same or two[0] > 0.5:
        sys.exit("too slow, or not the same bits")


if __name__ == "__main__":
    main()
