"""Every regime of a scenario side by side, stored: from no control to the joint optimum.

Plans are stored as in the study and shared with it. Tables go to ``coordination/`` in the store:

``regimes``
    One row per scenario, side and regime: what aggregators expect and what is really paid, energy,
    wear, and what the network makes of the days (`regime_row`).
``allocation``
    One row per scenario, side, rule and aggregator: what a rule costs it, and whether its cars can
    live with the cap.
``loop``, ``equilibrium``
    How the re-allocation and the answers of the aggregators ended.
``totals``
    Day-ahead power of all aggregators by period.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from evcm.aggregator import methods, of_fleet
from evcm.aggregator.plan import AggregatorPlan, plan_arrays, plan_of_arrays
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import allocation
from evcm.coordination import joint as joint_optimum
from evcm.coordination.account import (
    Trade,
    account,
    operate,
    trade_of_plans,
    trade_of_uncontrolled,
)
from evcm.coordination.capped import fits, peak_use_mw
from evcm.coordination.equilibrium import Ending, against, find_equilibrium
from evcm.coordination.reallocation import Reallocation, no_cap_mw, reallocate
from evcm.coordination.regimes import REGIMES, RULES, Case, Regime, Rule
from evcm.errors import InfeasibleError
from evcm.inputs.study import Inputs
from evcm.network.case import Day
from evcm.store import fingerprint
from evcm.store.each import Progress, each, required
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study.flow import Settings, build_fleets, quiet, simulate_all, study_caps
from evcm.study.tasks import PlanTask, run_key, solve_plans, stored_plan
from evcm.trips import uncontrolled
from evcm.trips.fleet import Fleet
from evcm.trips.montecarlo import Side
from evcm.trips.uncontrolled import UncontrolledDay

TABLES = ("regimes", "allocation", "loop", "equilibrium", "totals")

WHOLE_GAP = 1e-2
"""Gap of the joint optimum and of every answer, as a share of turnover."""

FREE_GAP = 5e-3
"""Gap of plans without caps, under fair rules and in the loop: a cap's cost shows above it."""


@dataclass(frozen=True, eq=False)
class CaseRun:
    """One scenario and side with its fleet and the problems of its aggregators."""

    number: int
    side: Side
    fleet: Fleet = field(repr=False)
    problems: tuple[AggregatorProblem, ...] = field(repr=False)

    @property
    def every(self) -> range:
        """Positions of the aggregators."""
        return range(len(self.problems))

    @cached_property
    def site(self) -> Day:
        """The network and its load, with the aggregators that have cars."""
        return of_fleet.site(self.fleet)

    @property
    def cars_met(self) -> FloatArray:
        """Cars that each aggregator meets (K,)."""
        return np.array([p.cars for p in self.problems], float)

    @cached_property
    def caps(self) -> dict[Rule, FloatArray]:
        """Caps (T, K) of every rule, MW."""
        return {rule: allocation.allocate(rule, self.cars_met, self.site) for rule in RULES}

    @property
    def label(self) -> dict[str, object]:
        """First columns of every row."""
        return {"scenario": self.number, "side": self.side}

    def task(self, k: int, regime: str, gap: float, cap_mw: FloatArray | None = None) -> PlanTask:
        """Plan of aggregator k as a stored task."""
        return PlanTask(Case(self.number, self.side, regime), self.problems[k], gap, cap_mw)

    def free(self, k: int) -> PlanTask:
        """Plan of aggregator k without any cap."""
        return self.task(k, "free", FREE_GAP, no_cap_mw(self.problems[k]))


@dataclass(frozen=True, eq=False)
class Planned:
    """A regime as it was planned: the trade, and what the aggregators expect it to cost.

    `bound_usd` bounds the sum of what they expect from below; `joint_bound_usd` any bill of plans.
    """

    trade: Trade = field(repr=False)
    expected_usd: float = float("nan")
    bound_usd: float = float("nan")


def regime_row(run: CaseRun, regime: Regime, planned: Planned) -> dict[str, object]:
    """One regime's day: a row of ``regimes``.

    `paid_usd` and its parts are at the operator's own load, `forecast_usd` at the load that the
    aggregators plan with. `nse_mwh`, `losses_mwh` and `peak_mw` are means over the real-time days,
    `v_min_pu` the lowest of all; `nse_day_ahead_mwh` is that of the day-ahead schedule.
    """
    market, trade = run.problems[0], planned.trade
    site, dt = run.site, run.problems[0].period_h
    paid = account(market, trade, site.load_p_mw.sum(axis=1))
    days = operate(site, trade.sample_mw, market.probability)
    day_ahead = operate(site, trade.day_ahead_mw[:, :, None], np.ones(1))
    return {
        **run.label,
        "cars": run.fleet.cars,
        "regime": regime,
        "expected_usd": planned.expected_usd,
        "expected_bound_usd": planned.bound_usd,
        "paid_usd": paid.total_usd,
        "day_ahead_usd": paid.day_ahead_usd,
        "real_time_usd": paid.real_time_usd,
        "battery_usd": paid.battery_usd,
        "forecast_usd": account(market, trade).total_usd,
        "energy_mwh": float(dt * trade.total_mw.sum()),
        "fed_in_mwh": trade.fed_in_mwh,
        "peak_ev_mw": float(trade.total_mw.max()),
        "peak_mw": days.peak_mw,
        "losses_mwh": days.losses_mwh,
        "nse_mwh": days.nse_mwh,
        "days_short": days.days_short,
        "v_min_pu": days.v_min_pu,
        "nse_day_ahead_mwh": day_ahead.nse_mwh,
    }


def allocation_row(
    run: CaseRun, k: int, rule: Regime, cap_mw: FloatArray, plan: AggregatorPlan, raised: float,
    free: AggregatorPlan,
) -> dict[str, object]:  # fmt: skip
    """What a rule costs one aggregator: a row of ``allocation``.

    The true extra cost lies in `extra_low_usd`..`extra_high_usd`, which both plans' bounds prove.
    """
    use = peak_use_mw(plan)
    return {
        **run.label,
        "rule": rule,
        "bus": run.problems[k].bus,
        "cars": int(run.cars_met[k]),
        "feasible": raised == 0.0,
        "least_raise_percent": raised,
        "cost_usd": plan.cost_usd,
        "bound_usd": plan.bound_usd,
        "free_cost_usd": free.cost_usd,
        "free_bound_usd": free.bound_usd,
        "extra_low_usd": max(0.0, plan.bound_usd - free.cost_usd),
        "extra_high_usd": max(0.0, plan.cost_usd - free.bound_usd),
        "cap_mwh": float(run.problems[k].period_h * cap_mw.sum()),
        "unused_share": float(np.maximum(cap_mw - np.maximum(use, 0), 0).sum() / cap_mw.sum()),
        "periods_at_cap": int((use >= cap_mw - 1e-4).sum()),
    }


def run(
    inputs: Inputs, settings: Settings, out: Path, progress: Progress = quiet
) -> dict[str, pd.DataFrame]:
    """Compare the regimes of all scenarios and sides; compute what is not stored yet.

    Parameters
    ----------
    inputs : Inputs
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
    settings = settings.of(inputs)
    key, names = comparison_key(inputs, settings), {n: f"coordination/{n}.parquet" for n in TABLES}
    with Store(out).locked("evcm compare") as store:
        if all(store.is_fresh(name, key) for name in names.values()):
            return {name: store.load_table(path, key) for name, path in names.items()}
        cases = build_cases(inputs, settings)
        _solve_own(cases, store, settings, progress)
        joints = [JointTask(c) for c in cases]
        each(joints, store, "joint", settings.jobs, progress, "Joint optimum")
        answers = [EquilibriumTask.of(c, store, settings.gap) for c in cases]
        each(answers, store, "equilibrium", settings.jobs, progress, "Equilibrium")
        parts: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
        for done, (joint, answer) in enumerate(zip(joints, answers, strict=True)):
            for name, table in _compare(joint, answer, store, settings.gap).items():
                parts[name].append(table)
            progress("Regimes compared", done + 1, len(cases))
        tables = {name: pd.concat(found, ignore_index=True) for name, found in parts.items()}
        for name, table in tables.items():
            store.save_table(names[name], key, table, {"data": inputs.fingerprint})
    return tables


def comparison_key(inputs: Inputs, settings: Settings) -> str:
    """Fingerprint of the code, the inputs and the settings."""
    return run_key(__name__, settings.of(inputs), inputs)


def load(
    inputs: Inputs, out: Path, settings: Settings | None = None
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The stored tables; refuses those of other code, inputs or settings.

    Raises
    ------
    StaleError
        A table is missing or stale.
    """
    store, key = Store(out), comparison_key(inputs, settings or Settings())
    return {name: store.load_table(f"coordination/{name}.parquet", key) for name in TABLES}


def build_cases(inputs: Inputs, settings: Settings) -> list[CaseRun]:
    """Fleets and problems of every scenario and side, the very ones of the study."""
    fleets = build_fleets(simulate_all(inputs, settings), settings)
    return [
        CaseRun(number, side, cars, of_fleet.aggregator_problems(cars))
        for (number, side), cars in fleets.items()
    ]


def _solve_own(cases: list[CaseRun], store: Store, settings: Settings, progress: Progress) -> None:
    """Plans that do not depend on other plans: the study's two regimes, then without any cap."""
    gap = settings.gap
    own = [c.task(k, "apart", gap) for c in cases for k in c.every]
    solve_plans(own, store, settings.jobs, progress, "Aggregators")
    one_shot = []
    for c in cases:
        cap = study_caps(c.site)
        one_shot += [c.task(k, "maximum total", gap, cap[:, k]) for k in c.every]
    solve_plans(one_shot, store, settings.jobs, progress, "Aggregators under caps")
    free = [c.free(k) for c in cases for k in c.every]
    solve_plans(free, store, settings.jobs, progress, "Aggregators without caps")
    tasks = []
    for c in cases:
        for rule in RULES[1:]:
            caps = c.caps[rule]
            tasks += [
                c.task(k, rule, FREE_GAP, caps[:, k])
                for k in c.every
                if not fits(stored_plan(store, c.free(k)), caps[:, k])
            ]
    solve_plans(tasks, store, settings.jobs, progress, "Aggregators by rule")


@dataclass(frozen=True, eq=False)
class JointTask:
    """A joint problem to solve; only what the comparison needs of its answer is kept."""

    case: CaseRun

    @property
    def name(self) -> str:
        """Name in the store's step ``joint``."""
        return f"scenario{self.case.number}-{self.case.side}"

    def key(self) -> str:
        """Fingerprint of the problems, the gap and the solving code."""
        code = fingerprint.of_code(JointTask), methods.code(*methods.AUTO)
        return fingerprint.of_content(code, self.case.problems, self.case.site, WHOLE_GAP)

    def run(self) -> Result:
        """Solve; the arrays are the plan of all cars."""
        found = joint_optimum.solve_joint(self.case.problems, self.case.site, gap=WHOLE_GAP)
        facts = {
            "bound_usd": found.bound_usd, "cuts": found.rounds, "cost_usd": found.plan.cost_usd,
            "gap": found.plan.gap, "seconds": found.seconds, "status": found.status,
            "method": found.plan.method, "trading_cap_mw": found.problem.cap_mw.tolist(),
        }  # fmt: skip
        return Result(facts, plan_arrays(found.plan))

    def planned(self, store: Store) -> Planned:
        """The regime as it was planned."""
        result = required(store, "joint", self)
        cap_mw = np.array(result.record["trading_cap_mw"])
        problem = joint_optimum.joint_problem(self.case.problems)
        problem = problem.with_options(trading_cap_mw=cap_mw)
        plan = plan_of_arrays(result.arrays, problem, self.name)
        trade = joint_optimum.trade_of_joint(self.case.problems, plan)
        return Planned(trade, plan.cost_usd, float(result.record["bound_usd"]))


@dataclass(frozen=True, eq=False)
class EquilibriumTask:
    """Answers of a case's aggregators, from the plans that they make apart."""

    case: CaseRun
    start: Sequence[AggregatorPlan]
    start_keys: Sequence[str]

    @classmethod
    def of(cls, case: CaseRun, store: Store, gap: float) -> EquilibriumTask:
        """The answers of a case whose plans apart are stored."""
        tasks = [case.task(k, "apart", gap) for k in range(len(case.problems))]
        start = [stored_plan(store, task) for task in tasks]
        return cls(case, start, [task.key() for task in tasks])

    @property
    def name(self) -> str:
        """Name in the store's step ``equilibrium``."""
        return f"scenario{self.case.number}-{self.case.side}"

    def key(self) -> str:
        """Fingerprint of the plans at the start and of the solving code."""
        code = fingerprint.of_code(EquilibriumTask), methods.code(*methods.AUTO)
        return fingerprint.of_content(code, list(self.start_keys), WHOLE_GAP)

    def run(self) -> Result:
        """Solve; the arrays are the plans, each name led by the aggregator's bus."""
        found = find_equilibrium(self.case.problems, self.start, gap=WHOLE_GAP, tolerance=WHOLE_GAP)
        facts = {
            "ending": found.ending.name, "moves": list(found.moves),
            "epsilon_usd": found.epsilon_usd.tolist(),
        }  # fmt: skip
        arrays = {
            f"{problem.bus}.{name}": value
            for problem, plan in zip(self.case.problems, found.plans, strict=True)
            for name, value in plan_arrays(plan).items()
        }
        return Result(facts, arrays)

    def plans(self, store: Store) -> list[AggregatorPlan]:
        """The plans, each priced in the market that the others leave it."""
        arrays, problems = required(store, "equilibrium", self).arrays, self.case.problems
        mine = [
            {
                name.partition(".")[2]: v
                for name, v in arrays.items()
                if name.startswith(f"{p.bus}.")
            }
            for p in problems
        ]
        total = sum(a["day_ahead_mw"] for a in mine)
        return [
            plan_of_arrays(a, against(p, total - a["day_ahead_mw"]), f"{self.name}, bus {p.bus}")
            for p, a in zip(problems, mine, strict=True)
        ]

    def row(self, store: Store) -> dict[str, object]:
        """How the answers ended: a row of ``equilibrium``."""
        record = required(store, "equilibrium", self).record
        epsilon = np.array(record["epsilon_usd"])
        return {
            **self.case.label, "rounds": len(record["moves"]),
            "moves": ", ".join(map(str, record["moves"])), "epsilon_max_usd": epsilon.max(),
            "epsilon_sum_usd": epsilon.sum(), "ending": Ending[record["ending"]].value,
        }  # fmt: skip


def _compare(
    joint_task: JointTask, answer: EquilibriumTask, store: Store, gap: float
) -> dict[str, pd.DataFrame]:
    """Tables of one case."""
    case, every = joint_task.case, joint_task.case.every
    free = [stored_plan(store, case.free(k)) for k in every]
    plans: dict[Regime, list[AggregatorPlan]] = {
        "apart": list(answer.start),
        "equilibrium": answer.plans(store),
    }
    by_bus = []
    for rule in RULES:
        caps = case.caps[rule]
        plans[rule] = []
        for k in every:
            plan, raised = _rule_plan(case, k, rule, caps[:, k], free[k], store, gap)
            plans[rule].append(plan)
            by_bus.append(allocation_row(case, k, rule, caps[:, k], plan, raised, free[k]))
    loop = _loop(case, plans["maximum total"], free, store)
    plans["re-allocated"] = list(loop.plans)
    for k in every:
        cap = loop.cap_mw[:, k]
        by_bus.append(allocation_row(case, k, "re-allocated", cap, loop.plans[k], 0.0, free[k]))
    joint = joint_task.planned(store)
    nothing = np.zeros((*joint.trade.day_ahead_mw.shape, 1))
    planned: dict[Regime, Planned] = {
        "no cars": Planned(Trade(nothing[:, :, 0], np.zeros_like(joint.trade.deviation_mw))),
        "uncontrolled": Planned(trade_of_uncontrolled(at_once(case))),
        "joint": joint,
    }
    for regime, found in plans.items():
        planned[regime] = Planned(
            trade_of_plans(case.problems, found),
            sum(p.cost_usd for p in found), sum(p.bound_usd for p in found),
        )  # fmt: skip
    rows = [regime_row(case, regime, planned[regime]) for regime in REGIMES]
    totals = [
        pd.DataFrame(
            {**case.label, "regime": regime, "period": np.arange(1, total.size + 1),
             "power_mw": total}
        )
        for regime in REGIMES
        for total in [planned[regime].trade.total_mw]
    ]  # fmt: skip
    return {
        "regimes": pd.DataFrame(rows).assign(joint_bound_usd=joint.bound_usd),
        "allocation": pd.DataFrame(by_bus),
        "loop": pd.DataFrame([loop_row(case, loop)]),
        "equilibrium": pd.DataFrame([answer.row(store)]),
        "totals": pd.concat(totals, ignore_index=True),
    }


def at_once(case: CaseRun) -> UncontrolledDay:
    """Uncontrolled charging at the buses that have cars."""
    day, buses = uncontrolled.charge_at_once(case.fleet), case.site.network.ev_bus_number
    keep = [day.buses.index(bus) for bus in buses]
    return replace(day, power_mw=day.power_mw[:, keep], buses=buses)


def loop_row(case: CaseRun, loop: Reallocation) -> dict[str, object]:
    """How the loop ended: a row of ``loop``."""
    return {
        **case.label,
        "rounds": len(loop.rounds),
        "residual_usd": float(loop.residual_usd.max()),
        "gain_usd": float(sum(r.gain_usd.sum() for r in loop.rounds)),
        "without_plan": sum(plan is None for plan in loop.start),
        "nse_mwh": loop.nse_mwh,
        "status": loop.status,
    }


def _rule_plan(
    case: CaseRun, k: int, rule: Rule, cap_mw: FloatArray, free: AggregatorPlan, store: Store,
    gap: float,
) -> tuple[AggregatorPlan, float]:  # fmt: skip
    """The plan under a rule's cap and by how many percent the cap had to rise for one to exist."""
    if rule != "maximum total" and fits(free, cap_mw):
        return free, 0.0
    task = case.task(k, rule, gap if rule == "maximum total" else FREE_GAP, cap_mw)
    return stored_plan(store, task), float(
        required(store, "plans", task).record["cap_raised_percent"]
    )


def _loop(
    case: CaseRun, one_shot: list[AggregatorPlan], free: list[AggregatorPlan], store: Store
) -> Reallocation:
    """Re-allocate from the paper's caps; plans at hand are not solved again."""
    caps = study_caps(case.site)

    def solve(k: int, cap_mw: FloatArray) -> AggregatorPlan:
        if np.array_equal(cap_mw, no_cap_mw(case.problems[k])):
            return free[k]
        task = case.task(k, f"re-allocated/{fingerprint.of_content(cap_mw)}", FREE_GAP, cap_mw)
        raised = solve_plans([task], store, 1, quiet, "")["cap_raised_percent"].iloc[0]
        if raised > 0:
            methods.solve(
                task.problem.with_options(system_cap_mw=None, trading_cap_mw=cap_mw), gap=FREE_GAP
            )
            raise InfeasibleError(f"bus {task.problem.bus}: the cap had to rise by {raised:.3g} %")
        return stored_plan(store, task)

    return reallocate(
        case.problems, caps, case.site, gap=FREE_GAP, solve=solve, start_plans=one_shot
    )
