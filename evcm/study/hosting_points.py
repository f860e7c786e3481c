"""Points of the hosting study: one fleet, one regime, all aggregators solved, one OPF day."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import cvxpy as cp
import numpy as np
import pandas as pd

from evcm import inputs
from evcm.aggregator import methods, of_fleet
from evcm.aggregator import model as m
from evcm.aggregator.plugged import list_plugged
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination import allocation
from evcm.coordination.capped import under_cap
from evcm.errors import InfeasibleError, SolverError
from evcm.inputs import LOAD_BUSES, PERIOD_H
from evcm.inputs.values import Scenario
from evcm.network import case, opf
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.trips import cars, fleet

DRAW = 101
"""Scenario number that keys the draws of grouped fleets."""

NO_FEED_IN_USD_PER_KWH = 1e6
"""Storage cost at which no price of the market makes feeding in worth while."""


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


def grouped_problems(point: Point) -> list[AggregatorProblem]:
    """The aggregators' problems of a fleet whose groups all stand for equally many cars."""
    law = inputs.trip_law()
    drawn = cars.draw_cars(Scenario(number=DRAW, cars=point.groups, samples=1), law, point.seed, 0)
    size = np.full(point.groups, point.cars // point.groups)
    keys = (point.seed, DRAW, 0)
    grouped = fleet.real_time_fleet(
        drawn, size, law, keys, point.samples, name=f"{point.cars} cars, seed {point.seed}"
    )
    feeds = np.arange(point.groups) < round(point.v2g_share * point.groups)
    cost = np.where(feeds, grouped.storage_cost_usd_per_kwh, NO_FEED_IN_USD_PER_KWH)
    grouped = replace(grouped, storage_cost_usd_per_kwh=cost)
    charger = replace(inputs.charger(), power_kw=point.charger_kw)
    return [of_fleet.aggregator_problem(grouped, bus, charger=charger) for bus in LOAD_BUSES]


def solve_point(point: Point) -> dict[str, Any]:
    """Solve all aggregators of a point and the OPF day; one row, with the total power by period.

    Where no plan exists, `feasible` is false and the rest is nan: the reason is kept in `note`.
    """
    problems = grouped_problems(point)
    row: dict[str, Any] = asdict(point) | {"feasible": True, "note": ""}
    try:
        if point.regime == "proportional":
            caps = allocation.allocate("proportional", np.array([p.cars for p in problems], float))
            problems = [under_cap(p, caps[:, k]) for k, p in enumerate(problems)]
        plans = [methods.solve(p, gap=point.gap) for p in problems]
    except InfeasibleError as error:
        nothing = dict.fromkeys(
            ("cost_usd", "energy_mwh", "nse_mwh", "peak_mw", "peak_ev_mw", "losses_mwh",
             "v_min_pu", "gap_found"), np.nan,
        )  # fmt: skip
        return row | nothing | {"feasible": False, "note": str(error)[:300], "power_mw": []}
    power = np.column_stack([plan.day_ahead_mw for plan in plans])
    return (
        row
        | day_figures(power)
        | {
            "cost_usd": float(sum(plan.cost_usd for plan in plans)),
            "gap_found": max(plan.gap for plan in plans),
            "power_mw": power.sum(axis=1).tolist(),
        }
    )


def day_figures(power_mw: FloatArray) -> dict[str, float]:
    """NSE, peaks, losses and lowest voltage of a day with the aggregators' power (T, K)."""
    site = case.reference_day()
    state = opf.assess(site, power_mw)
    total = power_mw.sum(axis=1)
    return {
        "energy_mwh": float(PERIOD_H * total.sum()),
        "nse_mwh": float(PERIOD_H * state.short_mw.sum()),
        "peak_mw": float((site.load_p_mw.sum(axis=1) + total).max()),
        "peak_ev_mw": float(total.max()),
        "losses_mwh": float(PERIOD_H * state.losses_mw.sum()),
        "v_min_pu": float(state.v_min_pu.min()),
    }


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
    car, p = list_plugged(problem), problem
    x = m.variables(p, car)
    scale = cp.Variable(nonneg=True)
    cap = np.asarray(cap_mw, float) * scale
    wide = cp.reshape(cap, (p.periods, 1), order="C") @ np.ones((1, p.samples))
    program = cp.Problem(
        cp.Minimize(scale),
        [
            *m.charger_limit(p, car, x), *m.soc_balance(p, car, x), *m.soc_limits(p, car, x),
            *m.departure_contract(p, car, x), *m.real_time_limit(p, car, x),
            *m.real_time_mean(p, x), *m.power_balance(p, car, x),
            x.day_ahead_mw <= cap, m.traded_mw(p, x) <= wide,
        ],
    )  # fmt: skip
    program.solve(solver=cp.HIGHS, highs_options={"solver": "ipm", "threads": 1})
    if program.status in (cp.INFEASIBLE, "infeasible_or_unbounded"):
        raise InfeasibleError(f"{p.label}: no multiple of the cap is enough", bus=p.bus)
    if program.status != cp.OPTIMAL:
        raise SolverError(f"{p.label}: largest fleet: HiGHS says {program.status}", bus=p.bus)
    return problem.cars / max(float(program.value), 1e-9)


@dataclass(frozen=True)
class PointTask:
    """A point to solve."""

    point: Point

    @property
    def name(self) -> str:
        """Name of the point in its step."""
        p = self.point
        rest = f"{p.groups}x{p.samples}"
        return f"{p.regime}-{p.cars}cars-seed{p.seed}-{p.charger_kw:g}kw-v2g{p.v2g_share:g}-{rest}"

    def key(self) -> str:
        """Fingerprint of the point, the data and the solving code."""
        code = fingerprint.of_code(type(self)), methods.code(*methods.AUTO)
        data = fingerprint.of_data(*fingerprint.STUDY_DATA)
        return fingerprint.of_content(code, data, self.point)

    def run(self) -> Result:
        """Solve the point; all that is found is in the record."""
        return Result(solve_point(self.point))


class LimitTask(PointTask):
    """For each aggregator, the fleet at which a rule's caps become too small for its cars."""

    def run(self) -> Result:
        """One linear program per aggregator; the point's regime is the rule."""
        point, problems = self.point, grouped_problems(self.point)
        met = np.array([p.cars for p in problems], float)
        caps = allocation.allocate(point.regime, met)  # type: ignore[arg-type]
        most = [largest_fleet(p, caps[:, k]) / p.cars * point.cars for k, p in enumerate(problems)]
        return Result({"bus": list(LOAD_BUSES), "most_cars": most})


def solve_points(todo: list[Point], store: Store, jobs: Jobs, progress: Progress) -> pd.DataFrame:
    """Every point of the optimised regimes, one row each."""
    tasks = [PointTask(point) for point in todo]
    found = each(tasks, store, "hosting", jobs, progress, "Hosting, optimised fleets")
    return pd.DataFrame([result.record for result in found])


def largest_fleets(todo: list[Point], store: Store, jobs: Jobs, progress: Progress) -> pd.DataFrame:
    """Limits of every rule's caps; `regime` of a point is the rule."""
    tasks = [LimitTask(point) for point in todo]
    found = each(tasks, store, "hosting-limits", jobs, progress, "Hosting, limits of caps")
    rows = [
        pd.DataFrame({"rule": point.regime, "seed": point.seed, **result.record})
        for point, result in zip(todo, found, strict=True)
    ]
    return pd.concat(rows, ignore_index=True)
