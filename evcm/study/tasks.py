"""The study's heavy steps as stored, resumable tasks: aggregator plans and OPF days."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from evcm.aggregator import methods
from evcm.aggregator.plan import AggregatorPlan, plan_arrays, plan_of_arrays
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import capped as coordination
from evcm.coordination.regimes import Case
from evcm.errors import InfeasibleError
from evcm.inputs.study import Inputs
from evcm.network import opf
from evcm.network.case import Day
from evcm.network.tables import bus_table, flow_table, system_table
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each, required
from evcm.store.result import Result
from evcm.store.results import Store


@dataclass(frozen=True, eq=False)
class PlanTask:
    """One aggregator to solve. `cap_mw` is the operator's cap, None for the system's."""

    case: Case
    problem: AggregatorProblem
    gap: float
    cap_mw: FloatArray | None = None

    @property
    def name(self) -> str:
        """Name of the plan in the store's step ``plans``."""
        case = self.case
        return f"{case.regime}/scenario{case.scenario}-{case.side}-bus{self.problem.bus:02d}"

    def key(self) -> str:
        """Fingerprint of the problem, the cap, the gap and the code of its method."""
        method, _ = methods.choose_method(self.problem)
        code = methods.code(method), fingerprint.of_code(PlanTask)
        return fingerprint.of_content(code, self.problem, self.gap, self.cap_mw)

    def run(self) -> Result:
        """Solve; the record holds what the study's tables show, the arrays are the plan."""
        if self.cap_mw is None:
            plan, cap, raised = methods.solve(self.problem, gap=self.gap), self.problem.cap_mw, 0.0
        else:
            capped = coordination.solve_under_cap(self.problem, self.cap_mw, gap=self.gap)
            plan, cap, raised = capped.plan, capped.cap_mw, capped.raised_percent
        return Result(_facts(self.problem, plan, cap, raised), plan_arrays(plan))


def _facts(
    problem: AggregatorProblem, plan: AggregatorPlan, cap_mw: FloatArray, raised_percent: float
) -> dict[str, Any]:
    dt = problem.period_h
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


NO_TRADE = (
    'Real time trades no more than is fed in, (10), or with real_time_limit = "plug" in '
    "market/market.toml than the plugs in use: where a sample has no such car in a period, all "
    "samples must take the same power. More cars at the bus or fewer samples help"
)
"""Why cars that could charge have no plan whatever the caps, and what to do."""


def solve_plans(
    tasks: list[PlanTask], store: Store, jobs: Jobs, progress: Progress, step: str
) -> pd.DataFrame:
    """Solve what is not stored yet; return one row per task, in order."""
    try:
        found = each(tasks, store, "plans", jobs, progress, step)
    except InfeasibleError as error:
        if set(error.details) != {"bus"}:
            raise
        raise InfeasibleError(f"{error}. {NO_TRADE}", **error.details) from error
    return pd.DataFrame(
        [
            {**task.case._asdict(), "bus": task.problem.bus, **result.record}
            for task, result in zip(tasks, found, strict=True)
        ]
    )


def stored_plan(store: Store, task: PlanTask) -> AggregatorPlan:
    """The stored plan of a task, its cost evaluated again."""
    result, problem = required(store, "plans", task), task.problem
    if task.cap_mw is not None:
        problem = coordination.under_cap(problem, np.array(result.record["cap_mw"]))
    return plan_of_arrays(result.arrays, problem, task.name)


def schedules_mw(rows: pd.DataFrame, buses: Sequence[int]) -> dict[Case, FloatArray]:
    """Day-ahead power by period and bus (T, K) of every case; 0 at a bus without cars."""
    powers: dict[Case, dict[int, list[float]]] = {}
    for row in rows.to_dict("records"):
        found = powers.setdefault(Case(row["scenario"], row["side"], row["regime"]), {})
        found[row["bus"]] = row["day_ahead_mw"]
    return {
        case: np.column_stack(
            [by_bus.get(bus, np.zeros(len(next(iter(by_bus.values()))))) for bus in buses]
        )
        for case, by_bus in powers.items()
    }


@dataclass(frozen=True, eq=False)
class DayTask:
    """A day of AC OPFs under the aggregators' power (T, K) of one case."""

    case: Case
    site: Day
    ev_mw: FloatArray

    @property
    def name(self) -> str:
        """Name of the day in the store's step ``days``."""
        return f"{self.case.regime}/scenario{self.case.scenario}-{self.case.side}"

    def key(self) -> str:
        """Fingerprint of the power, the network with its load, and the code."""
        return fingerprint.of_content(fingerprint.of_code(DayTask), self.site, self.ev_mw)

    def run(self) -> Result:
        """System totals by period, the state by bus, and the flow by branch, arrays by column."""
        day = opf.solve_day(self.site.with_cars(self.ev_mw))
        return Result.of_tables(
            {"seconds": day.seconds},
            system=system_table(day), buses=bus_table(day, self.ev_mw), flows=flow_table(day),
        )  # fmt: skip


def solve_days(
    powers_mw: Mapping[Case, FloatArray], site: Day, store: Store, progress: Progress, step: str,
    jobs: Jobs = 1,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """AC OPF days for every case: totals by period, state by bus, flow by branch."""
    tasks = [DayTask(case, site, ev_mw) for case, ev_mw in powers_mw.items()]
    found = each(tasks, store, "days", jobs, progress, step)

    def joined(name: str) -> pd.DataFrame:
        labelled = [
            result.table(name).assign(**task.case._asdict())
            for task, result in zip(tasks, found, strict=True)
        ]
        return pd.concat(labelled, ignore_index=True).assign(period_h=site.period_h)

    return joined("system"), joined("buses"), joined("flows")


def run_key(module: str, asked: object, inputs: Inputs) -> str:
    """Fingerprint of a whole run: its module, every method of the plans, inputs, what is asked.

    The number of jobs is no part of it.
    """
    values = {k: v for k, v in vars(asked).items() if k != "jobs"}
    code = fingerprint.of_modules(module), methods.code(*methods.AUTO)
    return fingerprint.of_content(code, inputs.fingerprint, values)
