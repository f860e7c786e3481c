"""Every regime of a scenario side by side, stored: from no control to the joint optimum.

Plans are stored as in the study and shared with it. Tables go to ``coordination/`` in the store:

``regimes``
    One row per scenario, side and regime: cost at the common price, energy, losses, NSE.
``allocation``
    One row per scenario, side, rule and aggregator: what a rule costs it, and whether its cars can
    live with the cap.
``loop``
    How the re-allocation ended.
``totals``
    Day-ahead power of all aggregators by period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from evcm import inputs
from evcm.aggregator import methods, of_fleet
from evcm.aggregator.plan import AggregatorPlan, plan_arrays, plan_of_arrays
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import allocation
from evcm.coordination import joint as joint_optimum
from evcm.coordination.joint import Account, Trade, account, trade_of_plans, trade_of_uncontrolled
from evcm.coordination.reallocation import Reallocation, fits, no_cap_mw, peak_use_mw, reallocate
from evcm.coordination.regimes import RULES, Case, Regime, Rule
from evcm.errors import InfeasibleError
from evcm.inputs import LOAD_BUSES, PERIOD_H
from evcm.network import opf
from evcm.network.caps import study_caps
from evcm.store import fingerprint
from evcm.store.each import Progress, each, required
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study.flow import Settings, quiet
from evcm.study.tasks import PlanTask, run_key, solve_plans, stored_plan
from evcm.trips import fleet, montecarlo, uncontrolled
from evcm.trips.fleet import Fleet
from evcm.trips.montecarlo import Side


def allocation_row(
    case: CaseRun, k: int, rule: str, cap_mw: FloatArray, plan: AggregatorPlan, raised: float,
    free: AggregatorPlan,
) -> dict[str, object]:  # fmt: skip
    """What a rule costs one aggregator: a row of ``allocation``."""
    use = peak_use_mw(plan)
    return {
        "scenario": case.number,
        "side": case.side,
        "rule": rule,
        "bus": LOAD_BUSES[k],
        "cars": int(case.cars_met[k]),
        "feasible": raised == 0.0,
        "least_raise_percent": raised,
        "cost_usd": plan.cost_usd,
        "bound_usd": plan.bound_usd,
        "free_cost_usd": free.cost_usd,
        "free_bound_usd": free.bound_usd,
        "cap_mwh": float(PERIOD_H * cap_mw.sum()),
        "unused_share": float(np.maximum(cap_mw - np.maximum(use, 0), 0).sum() / cap_mw.sum()),
        "periods_at_cap": int((use >= cap_mw - 1e-4).sum()),
    }


def regime_row(
    case: CaseRun, regime: str, trade: Trade, priced: Account, bound_usd: float
) -> dict[str, object]:
    """One regime's day: a row of ``regimes``."""
    day = opf.study_day(trade.day_ahead_mw)
    return {
        "scenario": case.number,
        "side": case.side,
        "cars": case.fleet.cars,
        "regime": regime,
        "cost_usd": priced.total_usd,
        "day_ahead_usd": priced.day_ahead_usd,
        "real_time_usd": priced.real_time_usd,
        "battery_usd": priced.battery_usd,
        "seen_usd": priced.seen_usd,
        "joint_bound_usd": bound_usd,
        "energy_mwh": float(PERIOD_H * trade.total_mw.sum()),
        "peak_ev_mw": float(trade.total_mw.max()),
        "peak_mw": day.peak_mw,
        "losses_mwh": day.losses_mwh,
        "nse_mwh": day.nse_mwh,
        "v_min_pu": float(day.v_min_pu.min()),
    }


def loop_row(case: CaseRun, loop: Reallocation) -> dict[str, object]:
    """How the loop ended: a row of ``loop``."""
    return {
        "scenario": case.number,
        "side": case.side,
        "rounds": len(loop.rounds),
        "residual_usd": float(loop.residual_usd.max()),
        "gain_usd": float(sum(r.gain_usd.sum() for r in loop.rounds)),
        "without_plan": sum(plan is None for plan in loop.start),
        "nse_mwh": loop.nse_mwh,
        "status": loop.status,
    }


def total_table(case: CaseRun, regime: str, trade: Trade) -> pd.DataFrame:
    """Day-ahead power of all aggregators: rows of ``totals``."""
    total = trade.total_mw
    return pd.DataFrame(
        {
            "scenario": case.number,
            "side": case.side,
            "regime": regime,
            "period": np.arange(1, total.size + 1),
            "power_mw": total,
        }
    )


TABLES = ("regimes", "allocation", "loop", "totals")
COMPARED: tuple[Regime, ...] = ("uncontrolled", "apart", *RULES, "re-allocated", "joint")
"""Regimes that the tables compare."""

RULE_GAP = 1e-2
"""Gap of the plans that only this comparison needs, as a share of turnover."""

LOOP_GAP = 2e-2
"""Gap of the plans without caps, and of the loop, which takes smaller gains for none."""


@dataclass(frozen=True, eq=False)
class CaseRun:
    """One scenario and side with the problems of its aggregators and their plans by regime."""

    number: int
    side: Side
    fleet: Fleet = field(repr=False)
    problems: tuple[AggregatorProblem, ...] = field(repr=False)

    @property
    def cars_met(self) -> FloatArray:
        """Cars that each aggregator meets (K,)."""
        return np.array([p.cars for p in self.problems], float)

    def task(self, k: int, regime: str, gap: float, cap_mw: FloatArray | None = None) -> PlanTask:
        """Plan of aggregator k as a stored task."""
        return PlanTask(Case(self.number, self.side, regime), self.problems[k], gap, cap_mw)


def run(settings: Settings, out: Path, progress: Progress = quiet) -> dict[str, pd.DataFrame]:
    """Compare the regimes of all scenarios and sides; compute what is not stored yet.

    Parameters
    ----------
    settings : Settings
        Of the study; its plans are used where they are stored in `out`.
    out : Path
        Folder of the results.
    progress : callable
        Told (step, done, total).

    Returns
    -------
    Tables by name, as stored.
    """
    key, names = comparison_key(settings), {n: f"coordination/{n}.parquet" for n in TABLES}
    with Store(out).locked("evcm compare") as store:
        if all(store.is_fresh(name, key) for name in names.values()):
            return {name: store.load_table(path, key) for name, path in names.items()}
        cases = build_cases(settings)
        _solve_own(cases, store, settings, progress)
        joints = _solve_joints(cases, store, settings, progress)
        parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        for done, (case, joint) in enumerate(zip(cases, joints, strict=True)):
            for name, table in _compare(case, joint, store, settings).items():
                parts[name].append(table)
            progress("Regimes compared", done + 1, len(cases))
        tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
        for name, table in tables.items():
            store.save_table(names[name], key, table)
    return tables


def comparison_key(settings: Settings) -> str:
    """Fingerprint of the code, the data and the settings."""
    return run_key(__name__, settings)


def load(out: Path, settings: Settings | None = None) -> dict[str, pd.DataFrame]:
    """The stored tables; refuses those of other code, data or settings.

    Raises
    ------
    StaleError
        A table is missing or stale.
    """
    store, key = Store(out), comparison_key(settings or Settings())
    return {name: store.load_table(f"coordination/{name}.parquet", key) for name in TABLES}


def build_cases(settings: Settings) -> list[CaseRun]:
    """Fleets and problems of every scenario and side, the very ones of the study."""
    cases = []
    law = inputs.trip_law(settings.law)
    for number in settings.scenarios:
        simulation = montecarlo.simulate(inputs.scenario(number), law, settings.seed)
        for side in settings.sides:
            cars = fleet.build_fleet(simulation, side, settings.cars_per_group)
            problems = tuple(of_fleet.aggregator_problem(cars, bus) for bus in LOAD_BUSES)
            cases.append(CaseRun(number, side, cars, problems))
    return cases


def _solve_own(cases: list[CaseRun], store: Store, settings: Settings, progress: Progress) -> None:
    """Plans that do not depend on other plans: the study's two regimes, then without any cap."""
    every = range(len(LOAD_BUSES))
    own = [c.task(k, "apart", settings.gap) for c in cases for k in every]
    solve_plans(own, store, settings.jobs, progress, "Aggregators")
    cap = study_caps().cap_mw
    one_shot = [c.task(k, "maximum total", settings.gap, cap[:, k]) for c in cases for k in every]
    solve_plans(one_shot, store, settings.jobs, progress, "Aggregators under caps")
    free = [_free_task(c, k) for c in cases for k in every]
    solve_plans(free, store, settings.jobs, progress, "Aggregators without caps")
    tasks = []
    for c in cases:
        for rule in RULES[1:]:
            caps = allocation.allocate(rule, c.cars_met)
            tasks += [
                c.task(k, rule, RULE_GAP, caps[:, k])
                for k in every
                if not fits(stored_plan(store, _free_task(c, k)), caps[:, k])
            ]
    solve_plans(tasks, store, settings.jobs, progress, "Aggregators by rule")


def _free_task(case: CaseRun, k: int) -> PlanTask:
    return case.task(k, "free", LOOP_GAP, no_cap_mw(case.problems[k]))


@dataclass(frozen=True, eq=False)
class JointTask:
    """A joint problem to solve; only what the comparison needs of its answer is kept."""

    problems: Sequence[AggregatorProblem]
    name: str
    gap: float

    def key(self) -> str:
        """Fingerprint of the problems, the gap and the solving code."""
        code = fingerprint.of_code(JointTask), methods.code(*methods.AUTO)
        return fingerprint.of_content(code, self.problems, self.gap)

    def run(self) -> Result:
        """Solve; the arrays are the plan of all cars."""
        found = joint_optimum.solve_joint(self.problems, gap=self.gap)
        facts = {
            "power_mw": found.power_mw.tolist(), "bound_usd": found.bound_usd,
            "cuts": found.rounds, "cost_usd": found.plan.cost_usd, "gap": found.plan.gap,
            "seconds": found.seconds, "status": found.status, "method": found.plan.method,
            "trading_cap_mw": found.problem.cap_mw.tolist(),
        }  # fmt: skip
        return Result(facts, plan_arrays(found.plan))


def _solve_joints(
    cases: list[CaseRun], store: Store, settings: Settings, progress: Progress
) -> list[tuple[AggregatorPlan, dict[str, object]]]:
    """Joint optimum of every case: its plan and record."""
    tasks = [JointTask(c.problems, f"scenario{c.number}-{c.side}", RULE_GAP) for c in cases]
    results = each(tasks, store, "joint", settings.jobs, progress, "Joint optimum")
    found = []
    for task, result in zip(tasks, results, strict=True):
        cap_mw = np.array(result.record["trading_cap_mw"])
        problem = joint_optimum.joint_problem(task.problems).with_options(trading_cap_mw=cap_mw)
        plan = plan_of_arrays(result.arrays, problem, task.name)
        found.append((plan, dict(result.record)))
    return found


def _compare(
    case: CaseRun, joint: tuple[AggregatorPlan, dict[str, object]], store: Store, settings: Settings
) -> dict[str, pd.DataFrame]:
    """Tables of one case."""
    every = range(len(LOAD_BUSES))
    free = [stored_plan(store, _free_task(case, k)) for k in every]
    plans = {"apart": [stored_plan(store, case.task(k, "apart", settings.gap)) for k in every]}
    by_bus = []
    for rule in RULES:
        caps = allocation.allocate(rule, case.cars_met)
        plans[rule] = []
        for k in every:
            plan, raised = _rule_plan(case, k, rule, caps[:, k], free[k], store, settings)
            plans[rule].append(plan)
            by_bus.append(allocation_row(case, k, rule, caps[:, k], plan, raised, free[k]))
    loop = _loop(case, plans["maximum total"], free, store, settings)
    plans["re-allocated"] = list(loop.plans)
    for k in every:
        by_bus.append(
            allocation_row(case, k, "re-allocated", loop.cap_mw[:, k], loop.plans[k], 0.0, free[k])
        )
    trades = {"uncontrolled": trade_of_uncontrolled(uncontrolled.charge_at_once(case.fleet))}
    trades |= {regime: trade_of_plans(found) for regime, found in plans.items()}
    plan, record = joint
    trades["joint"] = Trade(np.array(record["power_mw"]), plan.real_time_mw, plan.cost.battery_usd)
    seen = {regime: sum(p.cost_usd for p in found) for regime, found in plans.items()}
    regimes, totals = [], []
    for regime in COMPARED:
        priced = account(case.problems[0], trades[regime], seen.get(regime, np.nan))
        bound = float(record["bound_usd"])  # type: ignore[arg-type]
        regimes.append(regime_row(case, regime, trades[regime], priced, bound))
        totals.append(total_table(case, regime, trades[regime]))
    return {
        "regimes": pd.DataFrame(regimes),
        "allocation": pd.DataFrame(by_bus),
        "loop": pd.DataFrame([loop_row(case, loop)]),
        "totals": pd.concat(totals, ignore_index=True),
    }


def _rule_plan(
    case: CaseRun, k: int, rule: Rule, cap_mw: FloatArray, free: AggregatorPlan, store: Store,
    settings: Settings,
) -> tuple[AggregatorPlan, float]:  # fmt: skip
    """The plan under a rule's cap and by how many percent the cap had to rise for one to exist."""
    if rule == "maximum total":
        task = case.task(k, "maximum total", settings.gap, cap_mw)
    elif fits(free, cap_mw):
        return free, 0.0
    else:
        task = case.task(k, rule, RULE_GAP, cap_mw)
    plan = stored_plan(store, task)
    return plan, float(required(store, "plans", task).record["cap_raised_percent"])


def _loop(
    case: CaseRun, one_shot: list[AggregatorPlan], free: list[AggregatorPlan], store: Store,
    settings: Settings,
) -> Reallocation:  # fmt: skip
    """Re-allocate from the paper's caps; plans at hand are not solved again."""
    caps = study_caps().cap_mw

    def solve(k: int, cap_mw: FloatArray) -> AggregatorPlan:
        if np.array_equal(cap_mw, no_cap_mw(case.problems[k])):
            return free[k]
        cap_id = fingerprint.of_content(cap_mw)
        task = case.task(k, f"re-allocated/{cap_id}", RULE_GAP, cap_mw)
        raised = solve_plans([task], store, 1, quiet, "")["cap_raised_percent"].iloc[0]
        if raised > 0:
            methods.solve(
                task.problem.with_options(system_cap_mw=None, trading_cap_mw=cap_mw), gap=RULE_GAP
            )
            raise InfeasibleError(f"bus {task.problem.bus}: the cap had to rise by {raised:.3g} %")
        return stored_plan(store, task)

    return reallocate(case.problems, caps, gap=LOOP_GAP, solve=solve, start_plans=one_shot)
