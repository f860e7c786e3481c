"""Single cars: gap, time and peak memory against the number of cars, and a whole scenario.

    python benchmarks/single_cars.py
    python benchmarks/single_cars.py scaling [CARS ...] [--before CHECKOUT]
    python benchmarks/single_cars.py scenario [--before CHECKOUT]
    python benchmarks/single_cars.py table

``scaling`` solves one aggregator (bus 5, 10 real-time samples) with 1,000 to 100,000 single cars,
each in a process of its own so that its peak memory is its own. The paper's system has room for
some 700 cars a bus: 100,000 would need three times its load. So the system is scaled with the
fleet: its load, the edges of its price steps and its cap are multiplied by cars / 682, the mean
number of cars that an aggregator of scenario 3 meets, and prices stay.

``scenario`` solves scenario 3 as 3,750 single cars, eleven aggregators, side min, on the paper's
own system, one after another.

Every plan passes the independent certificate, or the run fails. Wall-clock and processor time are
of the solution alone, on one thread; memory is the process's peak, with the fleet's arrays. With
--before, CHECKOUT being one of commit 2775b7b, its column generation solves the same problem
afterwards, on one thread as well. Results go to
benchmarks/results/single_cars.json with date, machine and commit; a part or size that is not run
again keeps its former numbers. Without a command one aggregator of 300 cars is solved and printed.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

from aggregator_instances import Before

from evcm.store import measured

RESULTS = measured.FOLDER / "single_cars.json"
CARS = (1_000, 3_000, 10_000, 30_000, 100_000)
SCENARIO_CARS_AT_A_BUS = 682
BUS = 5
LIMIT_S = 3000.0


def measure(problem):
    """Solve, certify, and say how long it took."""
    from evcm.aggregator import solve
    from evcm.aggregator.certificate import certify_plan

    start = time.process_time()
    plan = solve(problem, time_limit_s=LIMIT_S)
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


def scenario_problem(bus):
    """One aggregator of scenario 3, side min, single cars."""
    from evcm import inputs
    from evcm.aggregator import of_fleet
    from evcm.trips import fleet, montecarlo

    result = montecarlo.simulate(inputs.paper(), inputs.paper().scenario(3), seed=1, threads=1)
    return of_fleet.aggregator_problem(fleet.build_fleet(result, "min", cars_per_group=1), bus)


def alone(what, number):
    """One problem in a process of its own."""
    told = [sys.executable, __file__, "one", what, str(number)]
    done = subprocess.run(told, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def beside(row, problem, checkout):
    """The former method's time and gap for the same problem."""
    if checkout is None:
        return row
    former = Before(
        checkout, "single_cars", "solve_single_cars", f"threads=1, time_limit_s={LIMIT_S}"
    )
    former.measure(scaled_problem(60, samples=2), 1e-3)  # compiled kernels are loaded now
    found = former.measure(problem, 1e-3)
    former.worker.stdin.close()
    return row | {
        "before_processor_s": found["before, cpu s"],
        "before_gap": found["before, gap %"] / 100,
        "before_code": found["before, code"],
    }


def scaling(sizes, checkout):
    """Each size in a process of its own; stored as they come."""
    for cars in sizes:
        row = beside(alone("cars", cars), scaled_problem(cars), checkout)
        print(line(row), flush=True)
        old = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        kept = {r["cars"]: r for r in old.get("scaling", {"rows": []})["rows"]} | {cars: row}
        measured.store("single_cars", "scaling", [kept[k] for k in sorted(kept)])


def scenario(checkout):
    """Eleven aggregators, one after another."""
    from evcm.inputs import paper

    rows = []
    for bus in paper().buses:
        rows.append(beside(alone("bus", bus), scenario_problem(bus), checkout))
        print(line(rows[-1]), flush=True)
    measured.store("single_cars", "scenario", rows)
    print(
        f"{sum(r['cars'] for r in rows):,} visits' cars at {len(rows)} buses: worst gap "
        f"{100 * max(row['gap'] for row in rows):.4f} %, "
        f"{sum(r['processor_s'] for r in rows):.0f} s of processor time, before "
        f"{sum(r.get('before_processor_s', 0.0) for r in rows):.0f} s"
    )


def line(row):
    """One result in words."""
    return (
        f"bus {row['bus']:2d} {row['cars']:7,d} cars  gap {100 * row['gap']:.4f} %  "
        f"{row['wall_s']:7.1f} s wall {row['processor_s']:7.1f} s processor  "
        f"{row['peak_memory_gib']:.2f} GiB  worst residual {row['worst_residual']:.1e}"
    ) + (
        f"  before {row['before_processor_s']:.0f} s, gap {100 * row['before_gap']:.4f} %"
        if "before_code" in row else ""
    )  # fmt: skip


def table():
    """Print the stored results."""
    for part, content in json.loads(RESULTS.read_text()).items():
        print(part, content["machine"])
        for row in content["rows"]:
            per_car = 1000 * row["processor_s"] / row["cars"]
            print(f"{line(row)}  {per_car:.2f} ms/car")


def main():
    """The command named first."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("command", nargs="?", default="")
    parser.add_argument("what", nargs="*")
    parser.add_argument("--before", type=Path, help="checkout of 2775b7b: its method beside this")
    told = parser.parse_args()
    if not told.command:
        print(line(measure(scaled_problem(300))))
    elif told.command == "one":
        what, number = told.what
        make = scaled_problem if what == "cars" else scenario_problem
        measure(scaled_problem(60, samples=2))  # compiled kernels are loaded now
        print(json.dumps(measure(make(int(number)))))
    elif told.command == "scaling":
        scaling([int(x) for x in told.what] or CARS, told.before)
    elif told.command == "scenario":
        scenario(told.before)
    elif told.command == "table":
        table()
    else:
        parser.error(f"no command {told.command}")


if __name__ == "__main__":
    main()
