"""Points of the hosting study: one fleet, one regime, all aggregators solved, one OPF day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd

from evcm import highs
from evcm.aggregator import methods, of_fleet
from evcm.aggregator import model as m
from evcm.aggregator.infeasible import needed_mwh
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import allocation
from evcm.coordination.account import Trade, operate, trade_of_plans
from evcm.coordination.capped import under_cap
from evcm.coordination.equilibrium import find_equilibrium
from evcm.coordination.joint import solve_joint, trade_of_joint
from evcm.errors import InfeasibleError, SolverError
from evcm.inputs.study import Inputs
from evcm.inputs.values import Scenario
from evcm.network.case import Day
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study import limits
from evcm.trips import cars, fleet

DRAW = 101
"""Scenario number that keys the draws of grouped fleets."""

NO_FEED_IN_USD_PER_KWH = 1e4
"""Storage cost at which no price of the market makes feeding in worth while."""

ANY_PLAN = 0.5
"""Gap, as a share of turnover, at which a plan only tells that there is one."""

TIME_LIMIT_S = 600.0
"""Most seconds for the largest fleet under a cap, or a plan; a second is usual."""


@dataclass(frozen=True)
class Point:
    """One fleet under one regime (or, for the limits of caps, one rule).

    `cars` in `groups` equal groups; the first `v2g_share` of the groups may feed in.
    """

    regime: str
    cars: int
    seed: int
    charger_kw: float
    v2g_share: float
    groups: int
    samples: int
    gap: float


def grouped_problems(inputs: Inputs, point: Point) -> list[AggregatorProblem]:
    """The aggregators' problems of a fleet whose groups all stand for equally many cars.

    Buses without cars have none.
    """
    law = inputs.law()
    one = Scenario(number=DRAW, cars=point.groups, samples=1)
    drawn = cars.draw_cars(inputs, one, law, point.seed, 0)
    size = np.full(point.groups, point.cars // point.groups)
    keys = (point.seed, DRAW, 0)
    grouped = fleet.real_time_fleet(
        drawn, size, law, keys, point.samples, name=f"{point.cars} cars, seed {point.seed}"
    )
    feeds = np.arange(point.groups) < round(point.v2g_share * point.groups)
    cost = np.where(feeds, grouped.storage_cost_usd_per_kwh, NO_FEED_IN_USD_PER_KWH)
    grouped = replace(grouped, storage_cost_usd_per_kwh=cost)
    problems = of_fleet.aggregator_problems(grouped)
    return with_charger(inputs, problems, point.charger_kw)


def with_charger(
    inputs: Inputs, problems: Sequence[AggregatorProblem], power_kw: float | None
) -> list[AggregatorProblem]:
    """Problems with one power for all chargers; None or that of the first class leaves them."""
    if power_kw in (None, inputs.vehicles[0].charger.power_kw):
        return list(problems)
    return [p.with_options(charger=replace(p.charger, power_kw=power_kw)) for p in problems]


def plan_point(
    inputs: Inputs, point: Point
) -> tuple[list[AggregatorProblem], Day, Trade, dict[str, float]]:
    """Problems and day of a point, what its regime trades, and what was proven of the plans.

    Raises
    ------
    InfeasibleError
        An aggregator has no plan, under its cap for example.
    """
    problems = grouped_problems(inputs, point)
    site = of_fleet.site_of(problems, inputs)
    if point.regime == "joint":
        joint = solve_joint(problems, site, gap=point.gap)
        found = {"cost_usd": joint.plan.cost_usd, "gap_found": joint.plan.gap}
        return problems, site, trade_of_joint(problems, joint.plan), found
    asked = problems
    if point.regime == "proportional":
        caps = allocation.allocate(
            "proportional", np.array([p.cars for p in problems], float), site
        )
        asked = [under_cap(p, caps[:, k]) for k, p in enumerate(problems)]
    plans = [methods.solve(p, gap=point.gap) for p in asked]
    if point.regime == "equilibrium":
        plans = list(find_equilibrium(problems, plans, gap=point.gap, tolerance=point.gap).plans)
    found = {
        "cost_usd": float(sum(plan.cost_usd for plan in plans)),
        "gap_found": max(plan.gap for plan in plans),
    }
    return problems, site, trade_of_plans(problems, plans), found


def solve_point(inputs: Inputs, point: Point) -> dict[str, Any]:
    """Solve all aggregators of a point and put their real-time days through the OPF; one row.

    `nse_mwh`, `days_short`, `losses_mwh` and `peak_mw` are means over the days, `v_min_pu` the
    lowest of all; `nse_day_ahead_mwh` is that of the schedule. Where no plan exists, `feasible` is
    false and the rest is nan: the reason is kept in `note`.
    """
    row: dict[str, Any] = asdict(point) | {"feasible": True, "note": "", "power_mw": []}
    try:
        problems, site, trade, found = plan_point(inputs, point)
    except (InfeasibleError, SolverError) as error:
        nothing = dict.fromkeys(
            ("cost_usd", "gap_found", "energy_mwh", "peak_ev_mw", "nse_day_ahead_mwh", "nse_mwh",
             "days_short", "losses_mwh", "peak_mw", "v_min_pu"), np.nan,
        )  # fmt: skip
        return row | nothing | {"feasible": False, "note": str(error)[:300]}
    total = trade.total_mw
    schedule = operate(site, trade.day_ahead_mw[:, :, None], np.ones(1))
    return row | found | {
        "energy_mwh": float(site.period_h * total.sum()),
        "peak_ev_mw": float(total.max()),
        "power_mw": total.tolist(),
        "nse_day_ahead_mwh": schedule.nse_mwh,
        **asdict(operate(site, trade.sample_mw, problems[0].probability)),
    }  # fmt: skip


def largest_fleet(problem: AggregatorProblem, cap_mw: FloatArray) -> float:
    """Most cars, in the proportions of the problem's groups, that can live with a cap (T,).

    All powers scale with the number of cars, the cap does not. The least u for which a plan keeps
    below u times the cap is a linear program, and cars / u the most that the cap carries.

    Raises
    ------
    InfeasibleError
        No multiple of the cap is enough.
    SolverError
        HiGHS did not reach the optimum.
    """
    p, x = problem, m.variables(problem)
    scale = cp.Variable(nonneg=True)
    cap = np.asarray(cap_mw, float) * scale
    wide = cp.reshape(cap, (p.periods, 1), order="C") @ np.ones((1, p.samples))
    program = cp.Problem(
        cp.Minimize(scale),
        [
            *m.charger_limit(p, x), *m.soc_balance(p, x), *m.soc_limits(p, x),
            *m.departure_contract(p, x), *m.real_time_limit(p, x),
            *m.real_time_mean(p, x), *m.power_balance(p, x),
            x.day_ahead_mw <= cap, m.traded_mw(p, x) <= wide,
        ],
    )  # fmt: skip
    outcome = highs.run(program, TIME_LIMIT_S, solver="simplex")
    if outcome.infeasible:
        raise InfeasibleError(f"{p.label}: no multiple of the cap is enough", bus=p.bus)
    if not outcome.optimal:
        raise SolverError(f"{p.label}: largest fleet: {outcome.status}", bus=p.bus)
    return problem.cars / max(float(program.value), 1e-9)


@dataclass(frozen=True)
class PointTask:
    """A point to solve."""

    point: Point
    inputs: Inputs = field(repr=False)

    @property
    def name(self) -> str:
        """Name of the point in its step."""
        p = self.point
        rest = f"{p.groups}x{p.samples}"
        return f"{p.regime}-{p.cars}cars-seed{p.seed}-{p.charger_kw:g}kw-v2g{p.v2g_share:g}-{rest}"

    def key(self) -> str:
        """Fingerprint of the point, the inputs and the solving code."""
        code = fingerprint.of_code(type(self)), methods.code(*methods.AUTO)
        return fingerprint.of_content(code, self.inputs.fingerprint, self.point)

    def run(self) -> Result:
        """Solve the point; all that is found is in the record."""
        return Result(solve_point(self.inputs, self.point))


class LimitTask(PointTask):
    """The fleet at which a rule's caps become too small for an aggregator, and whose they are."""

    def run(self) -> Result:
        """The point's regime is the rule.

        A linear program tells how many cars the caps of an aggregator carry. It begins with who has
        the least energy for its cars' needs; of the others, only who has no plan at the least count
        known has fewer.
        """
        point = self.point
        problems = grouped_problems(self.inputs, point)
        site = of_fleet.site_of(problems, self.inputs)
        met = np.array([p.cars for p in problems], float)
        caps = allocation.allocate(point.regime, met, site)  # type: ignore[arg-type]
        room = [caps[:, k].sum() / max(needed_mwh(p).max(), 1e-9) for k, p in enumerate(problems)]
        most, bus = np.inf, None
        for k in np.argsort(room):
            p, cap = problems[k], caps[:, k]
            if np.isfinite(most):
                asked = under_cap(p, cap * (point.cars / most))
                try:  # any plan will do
                    methods.solve(asked, gap=ANY_PLAN, time_limit_s=TIME_LIMIT_S)
                    continue
                except (InfeasibleError, SolverError):
                    pass  # the linear program tells
            found = largest_fleet(p, cap) / p.cars * point.cars
            if found < most:
                most, bus = found, p.bus
        return Result({"bus": [bus], "most_cars": [most]})


@dataclass(frozen=True)
class ThresholdTask(PointTask):
    """A count at which half of a fleet's real-time days run short, and not one step below it.

    In steps of two cars per group: from the point's own count by growing strides until one count is
    served and one is short, then by bisection; `most` is the largest count. A small fleet of few
    samples may have several such counts, and which is found then depends on where it starts.
    """

    most: int

    @property
    def name(self) -> str:
        """Name in its step."""
        return f"{super().name}-to{self.most}"

    def key(self) -> str:
        """Fingerprint of the point, the largest count, the inputs and the solving code."""
        return fingerprint.of_content(super().key(), self.most)

    def run(self) -> Result:
        """Search; the limit is the kind that alone leaves most unsupplied at that count.

        A fleet in which an aggregator has no plan, for want of a car at noon when (29) makes it
        feed in, has no count: nan.
        """
        try:
            return self._search()
        except InfeasibleError:
            return Result({"first_cars": float("nan"), "limit": "no plan"})

    def _search(self) -> Result:
        step = 2 * self.point.groups
        most = max(self.most // step, 1)
        at, stride = min(max(round(self.point.cars / step), 1), most), 1
        served, short, days = 0, most + 1, None
        while short - served > 1:
            point = replace(self.point, cars=at * step)
            problems, site, trade, _ = plan_point(self.inputs, point)
            asked = site, trade.sample_mw, problems[0].probability
            if operate(*asked).days_short >= 0.5:
                short, days = at, asked
            else:
                served = at
            if short > most:
                at = min(served + stride, most)
            else:
                at = (served + short) // 2 if served else max(short - stride, 1)
            stride *= 2
        if days is None:
            return Result({"first_cars": float("inf"), "limit": "none"})
        nse = limits.nse_by_limit(*days)
        worst = max(limits.LIMITS[1:], key=lambda limit: nse[limit])
        return Result({"first_cars": float(short * step), "limit": worst})


def first_shortages(
    tasks: list[ThresholdTask], store: Store, jobs: Jobs, progress: Progress
) -> pd.DataFrame:
    """First counts of all fleets, one row each."""
    found = each(tasks, store, "hosting-first", jobs, progress, "Hosting, first shortages")
    return pd.DataFrame(
        [
            {"regime": task.point.regime, "seed": task.point.seed, **result.record}
            for task, result in zip(tasks, found, strict=True)
        ]
    )


def solve_points(
    todo: list[Point], store: Store, jobs: Jobs, progress: Progress, inputs: Inputs
) -> pd.DataFrame:
    """Every point of the optimised regimes, one row each."""
    tasks = [PointTask(point, inputs) for point in todo]
    found = each(tasks, store, "hosting", jobs, progress, "Hosting, optimised fleets")
    return pd.DataFrame([result.record for result in found])


def largest_fleets(
    todo: list[Point], store: Store, jobs: Jobs, progress: Progress, inputs: Inputs
) -> pd.DataFrame:
    """Where each rule's caps become too small; `regime` of a point is the rule."""
    tasks = [LimitTask(point, inputs) for point in todo]
    found = each(tasks, store, "hosting-limits", jobs, progress, "Hosting, limits of caps")
    rows = [
        pd.DataFrame({"rule": point.regime, "seed": point.seed, **result.record})
        for point, result in zip(todo, found, strict=True)
    ]
    return pd.concat(rows, ignore_index=True)
