"""One aggregator by every method, side by side: size, seconds, proven gap.

    python benchmarks/aggregator_methods.py [INSTANCE.npz ...] [--big-m-limit S] [--model-limit S]

Methods: the interior-point method; the readable CVXPY model and the paper's own big-M form
(corrected), both on HiGHS; on the same instance and machine. Without instances, the script draws
the smallest bus of scenario 1. The last column is the time relative to the interior-point method.
Both wall and processor seconds are printed: the ratio is of processor seconds, which other load on
the machine does not change much. With --store the rows go to
benchmarks/results/aggregator_methods.json, which the book shows.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from evcm import data, inputs
from evcm.aggregator import AggregatorProblem, load_problem, of_fleet, solve
from evcm.aggregator.bigm import solve_big_m
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.model import build_model
from evcm.aggregator.steps import reachable_steps
from evcm.store import measured
from evcm.trips import fleet, montecarlo


def drawn() -> AggregatorProblem:
    """Bus 14 of scenario 1, sample with the least energy, in weighted groups."""
    draw = montecarlo.grouped_draw(
        inputs.paper(), inputs.paper().scenario(1), inputs.paper().law(), seed=1
    )
    return of_fleet.aggregator_problem(fleet.weighted_fleet(draw, "min"), bus=14)


def timed(run: Callable[[], dict[str, object]]) -> dict[str, object]:
    wall, processor = time.perf_counter(), time.process_time()
    found = run()
    return found | {
        "wall_s": time.perf_counter() - wall,
        "processor_s": time.process_time() - processor,
    }


def by_method(problem: AggregatorProblem, method: str, limit_s: float | None) -> dict[str, object]:
    plan = solve(problem, method, time_limit_s=limit_s)  # type: ignore[arg-type]
    certify_plan(problem, plan)
    return {"cost_usd": plan.cost_usd, "bound_usd": plan.bound_usd, "gap_%": 100 * plan.gap}


def by_big_m(problem: AggregatorProblem, limit_s: float) -> dict[str, object]:
    answer = solve_big_m(problem, time_limit_s=limit_s)
    found: dict[str, object] = {
        "rows": answer.rows, "columns": answer.columns, "binaries": answer.binaries,
        "bound_usd": answer.bound_usd,
    }  # fmt: skip
    if answer.plan is not None:
        certify_plan(problem, answer.plan)
        found |= {"cost_usd": answer.plan.cost_usd, "gap_%": 100 * answer.plan.gap}
    return found


def model_size(problem: AggregatorProblem) -> dict[str, object]:
    """Size of the readable model with exact real-time prices in every period."""
    model = build_model(problem, reachable_steps(problem))
    metrics = model.cvxpy.size_metrics
    binaries = sum(v.size for v in model.cvxpy.variables() if v.attributes["boolean"])
    rows = metrics.num_scalar_eq_constr + metrics.num_scalar_leq_constr
    return {"rows": rows, "columns": metrics.num_scalar_variables, "binaries": binaries}


def compare(problem: AggregatorProblem, model_s: float, big_m_s: float) -> pd.DataFrame:
    rows = {
        "interior point": timed(lambda: by_method(problem, "interior", None)),
        "CVXPY model": model_size(problem) | timed(lambda: by_method(problem, "model", model_s)),
    }
    if big_m_s > 0:
        rows["big M, corrected"] = timed(lambda: by_big_m(problem, big_m_s))
    table = pd.DataFrame(rows).T
    table["times the interior point"] = (
        table["processor_s"] / table.loc["interior point", "processor_s"]
    )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("instances", nargs="*", type=Path)
    parser.add_argument("--model-limit", type=float, default=120.0)
    parser.add_argument("--big-m-limit", type=float, default=600.0, help="0 leaves it out")
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    arguments = parser.parse_args()
    problems = [load_problem(path) for path in arguments.instances] or [drawn()]
    solve(problems[0])  # compiles the kernels
    pd.set_option("display.width", 180)
    rows: list[dict[str, object]] = []
    for problem in problems:
        print(f"\n{problem.label}: {problem.cars} cars in {problem.vehicles} groups, "
              f"{int(problem.available.sum())} plugged-in triples")  # fmt: skip
        table = compare(problem, arguments.model_limit, arguments.big_m_limit)
        print(table.to_string(float_format=lambda x: f"{x:.4g}", na_rep="-"), flush=True)
        rows += [
            {"instance": problem.label, "cars": problem.cars, "groups": problem.vehicles,
             "method": method, **{k: None if pd.isna(v) else v for k, v in row.items()}}
            for method, row in table.iterrows()
        ]  # fmt: skip
    if arguments.store:
        measured.store("aggregator_methods", "methods", rows)
    record = data.read_toml("published/solver_record.toml")
    print(
        f"\npublished: {record['solver']}, {record['threads']} threads, {record['time_limit_s']} s "
        f"a run, {record['stopped_at_time_limit']} of {record['recorded']} runs stopped there, "
        f"median gap {100 * record['median_gap']:.0f} %, {record['smallest_rows']} to "
        f"{record['largest_rows']} rows, {record['binaries']} binaries"
    )


if __name__ == "__main__":
    main()
