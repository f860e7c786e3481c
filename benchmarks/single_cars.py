"""Single cars: gap, time and peak memory against the number of cars, and a whole scenario.

    python benchmarks/single_cars.py
    python benchmarks/single_cars.py scaling [CARS ...]
    python benchmarks/single_cars.py scenario
    python benchmarks/single_cars.py table

``scaling`` solves one aggregator (bus 5, 10 real-time samples) with 1,000 to 100,000 single cars,
each in a process of its own so that its peak memory is its own. The paper's system has room for
some 700 cars a bus: 100,000 would need three times its load. So the system is scaled with the
fleet: its load, the edges of its price steps and its cap are multiplied by cars / 682, the mean
number of cars that an aggregator of scenario 3 meets, and prices stay.

``scenario`` solves scenario 3 as 3,750 single cars, eleven aggregators, side min, on the paper's
own system, two at a time with one thread each.

Every plan passes the independent certificate, or the run fails. Wall-clock and processor time are
of the solution alone; memory is the process's peak, with the fleet's arrays. Results go to
benchmarks/results/single_cars.json with date, machine and commit; a part or size that is not run
again keeps its former numbers. Without a command one aggregator of 300 cars is solved and printed.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import subprocess
import sys
import time

from evcm.store import measured

RESULTS = measured.FOLDER / "single_cars.json"
CARS = (1_000, 3_000, 10_000, 30_000, 100_000)
SCENARIO_CARS_AT_A_BUS = 682
BUS = 5
LIMIT_S = 3000.0


def measure(problem, threads, progress=False):
    """Solve, certify, and say how long it took."""
    from evcm.aggregator.certificate import certify_plan
    from evcm.aggregator.single_cars.solve import solve_single_cars

    start = time.process_time()
    plan = solve_single_cars(
        problem, threads=threads, time_limit_s=LIMIT_S,
        progress=(lambda line: print(line, flush=True)) if progress else None,
    )  # fmt: skip
    cpu = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    certificate = certify_plan(problem, plan)
    return {
        "bus": problem.bus,
        "cars": problem.cars,
        "tuples": int(problem.available.sum()),
        "gap": certificate.gap,
        "cost_usd": plan.cost_usd,
        "bound_usd": plan.bound_usd,
        "turnover_usd": plan.cost.turnover_usd,
        "wall_s": plan.seconds,
        "processor_s": cpu,
        "peak_memory_gib": memory,
        "worst_residual": certificate.worst[1],
        "status": plan.status,
    }


def scaled_problem(cars, seed=1, samples=10):
    """One aggregator of `cars` single cars, the system scaled with the fleet."""
    from evcm import inputs
    from evcm.aggregator import of_fleet
    from evcm.trips import fleet

    share = cars / SCENARIO_CARS_AT_A_BUS
    steps = inputs.paper().market.price
    return of_fleet.aggregator_problem(
        fleet.single_bus_fleet(inputs.paper(), cars, BUS, seed, samples), BUS,
        system_load_mw=inputs.paper().forecast_mw * share,
        price=inputs.PriceSteps(steps.edge_mw * share, steps.price_usd_per_kwh),
        system_cap_mw=inputs.paper().market.system_cap_mw * share,
    )  # fmt: skip


def scaling(sizes):
    """Each size in a process of its own."""
    kept = {}
    if RESULTS.is_file():
        old = json.loads(RESULTS.read_text()).get("scaling", {"rows": []})
        kept = {row["cars"]: row for row in old["rows"]}
    for cars in sizes:
        done = subprocess.run(
            [sys.executable, __file__, "one", str(cars)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(done.stderr)
        row = json.loads(done.stdout.splitlines()[-1])
        kept[cars] = row
        print(line(row), flush=True)
        measured.store("single_cars", "scaling", [kept[k] for k in sorted(kept)])


def scenario_problem(bus):
    """One aggregator of scenario 3, side min, single cars."""
    from evcm import inputs
    from evcm.aggregator import of_fleet
    from evcm.trips import fleet, montecarlo

    result = montecarlo.simulate(inputs.paper(), inputs.paper().scenario(3), seed=1, threads=1)
    return of_fleet.aggregator_problem(fleet.build_fleet(result, "min", cars_per_group=1), bus)


def solve_bus(bus):
    """One aggregator of the scenario, on one thread."""
    return measure(scenario_problem(bus), threads=1)


def scenario():
    """Eleven aggregators, two at a time."""
    from evcm.inputs import paper

    begin = time.perf_counter()
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        rows = []
        for row in pool.imap_unordered(solve_bus, paper().buses):
            rows.append(row)
            print(line(row), flush=True)
    rows.sort(key=lambda row: row["bus"])
    total = time.perf_counter() - begin
    measured.store("single_cars", "scenario", rows)
    worst = max(row["gap"] for row in rows)
    print(
        f"{sum(r['cars'] for r in rows):,} visits' cars at {len(rows)} buses: worst gap "
        f"{100 * worst:.4f} %, {total:.0f} s in all, "
        f"{sum(r['processor_s'] for r in rows):.0f} s of processor time"
    )


def line(row):
    """One result in words."""
    return (
        f"bus {row['bus']:2d} {row['cars']:7,d} cars  gap {100 * row['gap']:.4f} %  "
        f"{row['wall_s']:7.1f} s wall {row['processor_s']:7.1f} s processor  "
        f"{row['peak_memory_gib']:.2f} GiB  worst residual {row['worst_residual']:.1e}"
    )


def table():
    """Print the stored results."""
    for part, content in json.loads(RESULTS.read_text()).items():
        print(part, content["machine"])
        for row in content["rows"]:
            per_car = 1000 * row["processor_s"] / row["cars"]
            print(f"{line(row)}  {per_car:.2f} ms/car")


if __name__ == "__main__":
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if not command:
        print(line(measure(scaled_problem(300), threads=2)))
    elif command == "one":
        print(json.dumps(measure(scaled_problem(int(sys.argv[2])), threads=2)))
    elif command == "scaling":
        scaling([int(x) for x in sys.argv[2:]] or CARS)
    elif command == "scenario":
        scenario()
    elif command == "table":
        table()
    else:
        sys.exit(__doc__)
