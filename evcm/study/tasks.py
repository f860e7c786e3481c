"""The study's heavy steps as stored, resumable tasks: aggregator plans and OPF days."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed

from evcm.aggregator import methods
from evcm.aggregator.plan import AggregatorPlan, load_plan, save_plan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import capped as coordination
from evcm.coordination.regimes import Case
from evcm.inputs import LOAD_BUSES
from evcm.network import opf
from evcm.network.tables import bus_table, system_table
from evcm.store import fingerprint
from evcm.store.results import Store

Progress = Callable[[str, int, int], None]
"""Called as (step, done, total) whenever something is done."""


@dataclass(frozen=True, eq=False)
class PlanTask:
    """One aggregator to solve. `cap_mw` is the operator's cap, None for the system's."""

    case: Case
    problem: AggregatorProblem
    gap: float
    cap_mw: FloatArray | None = None

    @property
    def name(self) -> str:
        """Name of the plan in the store."""
        case = self.case
        return (
            f"plans/{case.regime}/scenario{case.scenario}-{case.side}-bus{self.problem.bus:02d}.npz"
        )

    def key(self) -> str:
        """Fingerprint of the problem, the cap, the gap and the code of its method."""
        method, _ = methods.choose_method(self.problem)
        code = [methods.code(method)]
        if self.cap_mw is not None:
            code.append(fingerprint.of_source("evcm.coordination.capped"))
        return fingerprint.of_content(code, self.problem, self.gap, self.cap_mw)


def _solve(task: PlanTask, store: Store, key: str) -> PlanTask:
    """Solve one task, store the plan, then its record. Runs in a worker process."""
    if task.cap_mw is None:
        plan, cap, raised = methods.solve(task.problem, gap=task.gap), task.problem.cap_mw, 0.0
    else:
        capped = coordination.solve_under_cap(task.problem, task.cap_mw, gap=task.gap)
        plan, cap, raised = capped.plan, capped.cap_mw, capped.raised_percent
    save_plan(store.path(task.name), plan)
    store.note(task.name, key, _facts(task, plan, cap, raised))
    return task


def _facts(
    task: PlanTask, plan: AggregatorPlan, cap_mw: FloatArray, raised_percent: float
) -> dict[str, Any]:
    problem, dt = task.problem, task.problem.period_h
    traded = (plan.surplus_mw + plan.deficit_mw).sum(axis=0) @ problem.probability
    return {
        "groups": problem.vehicles,
        "cars": problem.cars,
        "energy_mwh": float(dt * plan.day_ahead_mw.sum()),
        "real_time_mwh": float(dt * traded),
        "day_ahead_usd": plan.cost.day_ahead_usd,
        "real_time_usd": plan.cost.real_time_usd,
        "battery_usd": plan.cost.battery_usd,
        "cost_usd": plan.cost_usd,
        "bound_usd": plan.bound_usd,
        "gap": plan.gap,
        "seconds": plan.seconds,
        "method": plan.method,
        "status": plan.status,
        "cap_raised_percent": raised_percent,
        "day_ahead_mw": plan.day_ahead_mw.tolist(),
        "cap_mw": np.asarray(cap_mw).tolist(),
    }


def solve_plans(
    tasks: list[PlanTask], store: Store, jobs: int, progress: Progress, step: str
) -> pd.DataFrame:
    """Solve what is not stored yet; return one row per task, in order.

    A task that is interrupted leaves nothing; those that are done are not repeated.
    """
    keys = {task.name: task.key() for task in tasks}
    todo = [task for task in tasks if not store.is_fresh(task.name, keys[task.name])]
    done = len(tasks) - len(todo)
    progress(step, done, len(tasks))
    run = Parallel(n_jobs=jobs, return_as="generator_unordered", pre_dispatch=2 * jobs)
    for _ in run(delayed(_solve)(task, store, keys[task.name]) for task in todo):
        done += 1
        progress(step, done, len(tasks))
    rows = []
    for task in tasks:
        record = store.record(task.name)
        facts = {k: v for k, v in record.items() if k not in ("versions", "made")}
        rows.append({**task.case._asdict(), "bus": task.problem.bus} | facts)
    return pd.DataFrame(rows)


def stored_plan(store: Store, task: PlanTask) -> AggregatorPlan:
    """The stored plan of a task, its cost evaluated again."""
    problem = task.problem
    if task.cap_mw is not None:
        cap = np.array(store.record(task.name)["cap_mw"])
        problem = coordination.under_cap(problem, cap)
    return load_plan(store.path(task.name), problem)


def schedules_mw(rows: pd.DataFrame) -> dict[Case, FloatArray]:
    """Day-ahead power by period and load bus (T, 11) of every case."""
    powers: dict[Case, dict[int, list[float]]] = {}
    for row in rows.to_dict("records"):
        found = powers.setdefault(Case(row["scenario"], row["side"], row["regime"]), {})
        found[row["bus"]] = row["day_ahead_mw"]
    return {
        case: np.column_stack([by_bus[bus] for bus in LOAD_BUSES])
        for case, by_bus in powers.items()
    }


def solve_days(
    powers_mw: Mapping[Case, FloatArray], store: Store, progress: Progress, step: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """AC OPF days for every case: system totals by period, and state by period and bus."""
    code = fingerprint.of_modules("evcm.network.opf")
    systems, buses = [], []
    for done, (case, ev_mw) in enumerate(powers_mw.items()):
        stem = f"opf/{case.regime}/scenario{case.scenario}-{case.side}"
        key = fingerprint.of_content(code, fingerprint.of_data("network", "load"), ev_mw)
        names = [f"{stem}-system.parquet", f"{stem}-buses.parquet"]
        if not all(store.is_fresh(name, key) for name in names):
            day = opf.study_day(ev_mw)
            for name, table in zip(names, (system_table(day), bus_table(day, ev_mw)), strict=True):
                labelled = table.assign(**case._asdict())
                store.save_table(name, key, labelled, {"seconds": day.seconds})
        systems.append(store.load_table(names[0], key))
        buses.append(store.load_table(names[1], key))
        progress(step, done + 1, len(powers_mw))
    return pd.concat(systems, ignore_index=True), pd.concat(buses, ignore_index=True)


def output_folder(out: Path) -> Store:
    """The store at a folder, made on demand."""
    out.mkdir(parents=True, exist_ok=True)
    return Store(out)
