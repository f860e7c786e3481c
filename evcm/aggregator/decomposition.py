"""The fast exact method for one aggregator."""

from __future__ import annotations

import time

import numpy as np

from evcm.aggregator._recover import recover_schedules
from evcm.aggregator._search import Progress, Search
from evcm.aggregator._vehicle_lp import build_vehicle_lp
from evcm.aggregator.plan import AggregatorPlan, make_plan
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.visits import require_reachable


def solve_decomposition(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    _search: list | None = None,
) -> AggregatorPlan:
    started = time.perf_counter()
    require_reachable(problem)
    lp = build_vehicle_lp(problem, problem.cap_mw)
    deadline = started + (np.inf if time_limit_s is None else time_limit_s)
    search = Search(lp, gap, deadline, progress)
    if _search is not None:
        _search.append(search)
    end = search.run()
    if end == "infeasible":
        raise RuntimeError("infeasible")
    s = recover_schedules(lp, search.best)
    return make_plan(
        problem, day_ahead_mw=s.day_ahead_mw, surplus_mw=s.surplus_mw, deficit_mw=s.deficit_mw,
        charge_kw=s.charge_kw, discharge_kw=s.discharge_kw, soc_kwh=s.soc_kwh,
        bound_usd=search.lower, seconds=time.perf_counter() - started, method="decomposition",
        status=end,
    )  # fmt: skip
