r"""The fast exact method for one aggregator: convex hulls of price steps, and branching.

The problem of `evcm.aggregator.problem` is a linear program in the cars' schedules, made hard by
the price: the aggregator pays the step of the price curve that its own power reaches. The method
separates the two. What the market sees of the cars is only their total power E_{t,n} in period t
and sample n; P_t = Σ_n π_n E_{t,n} is the day-ahead power, and d_{t,n} = E_{t,n} - P_t the
real-time trade.

1. **Cars** (`_vehicle_lp`). Two columns and one ranged row for every car plugged in: its charge at
   the end of the period and the energy it discharges. Charging follows from the row. Wear is the
   cost of the discharge. Charging and discharging at once, which (10) can make worth while, changes
   no battery, so one column W for each period and sample stands for all cars.
2. **Relaxation** (`_market`, `_relaxation`). With P in step a and E_n in step b_n, and because
   Σ_n π_n d_n = 0, a period costs λ_a P + Σ_n π_n (λ_{b_n} - λ_a) d_n: the price difference may
   stand in place of the price. Prices do not decrease and d_n > 0 cannot lower the step, so every
   term of the sum is >= 0. Without it, only the day-ahead cost λ(Psys + P) P remains, a function of
   one variable, whose convex envelope needs no integer. That first LP has no binaries and no big M.
   Where a solution's true real-time cost exceeds the relaxed one, the envelope of that period
   gives way to the convex hull of all its choices of steps (a multiple choice).
3. **Safe bound** (`_relaxation.safe_bound`). Any row duals give a Lagrangian bound: the cars'
   columns go to the better end of their range, and the market of each period is minimised exactly
   over steps and powers. It is computed in numpy and does not depend on how well the LP was
   solved. The same numbers tell which steps no better plan can use: those are dropped.
4. **Plans** (`_fixed_steps`). With all steps fixed the cost is linear; the LP's optimum is a plan
   and its cost an upper bound. Steps are read from solutions of the relaxation.
5. **Branching** (`_search`). Best bound first; the period with the largest gap between true and
   relaxed cost is split in two by its day-ahead step, or the real-time step of one sample. All
   nodes share one HiGHS object, so the dual simplex starts from the last basis.

Beyond the paper's objective (a risk weight), use the readable model.
"""

from __future__ import annotations

import time

import numpy as np

from evcm.aggregator.decomposition.search import Progress, Search, Trace
from evcm.aggregator.infeasible import require_reachable
from evcm.aggregator.plan import AggregatorPlan, make_plan
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.vehicle_lp import Schedules, build_vehicle_lp, recover_schedules
from evcm.errors import Checks, Fault, InputError

METHOD = "decomposition"


def solve_decomposition(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    trace: list[Trace] | None = None,
) -> AggregatorPlan:
    """Solve an aggregator problem to a proven gap.

    Parameters
    ----------
    problem : AggregatorProblem
        Every option but a risk weight.
    gap : float
        Proven distance to the optimum to stop at, as a share of turnover.
    time_limit_s : float, optional
        Wall-clock seconds after which the best plan so far is returned; its status says so, and
        its bound is as valid as any. The first plan is waited for (one linear program).
    progress : callable, optional
        Told the best cost, the bound (USD) and the seconds after every node.
    trace : list, optional
        Receives one `Trace` for each thing that happened at a node.

    Raises
    ------
    InfeasibleError
        No plan exists: names the car and its visit, or the periods and the least caps.
    InputError
        The problem has a risk weight.
    SolverError
        HiGHS failed.

    References
    ----------
    The problem is (4)-(42), (56)-(57) of the paper, as adopted.
    """
    started = time.perf_counter()
    _check(problem, gap, time_limit_s)
    require_reachable(problem)
    deadline = np.inf if time_limit_s is None else started + time_limit_s
    search, schedules = _search(problem, gap, deadline, progress, None)
    if schedules.excess_mw > 1e-6:
        # Charging and discharging at once exceeds the plugs: price that in.
        search, schedules = _search(problem, gap, deadline, progress, True)
    if trace is not None:
        trace.extend(search.trace)
    plan = make_plan(
        problem,
        day_ahead_mw=schedules.day_ahead_mw,
        surplus_mw=schedules.surplus_mw,
        deficit_mw=schedules.deficit_mw,
        charge_kw=schedules.charge_kw,
        discharge_kw=schedules.discharge_kw,
        soc_kwh=schedules.soc_kwh,
        bound_usd=search.lower,
        seconds=time.perf_counter() - started,
        method=METHOD,
        status="",
    )
    return plan.finished(plan.bound_usd, plan.seconds, _status(plan, gap, search))


def _search(
    problem: AggregatorProblem,
    gap: float,
    deadline: float,
    progress: Progress | None,
    power_rows: bool | None,
) -> tuple[Search, Schedules]:
    """Search; raise `InfeasibleError` where there is no plan."""
    lp = build_vehicle_lp(problem, problem.cap_mw, power_rows)
    search = None if lp is None else Search(lp, gap, deadline, progress)
    if lp is None or search is None or search.run() == "infeasible":
        from evcm.aggregator.infeasible import raise_infeasible

        raise_infeasible(problem)
    assert search.best is not None
    return search, recover_schedules(lp, search.best.z)


def _check(problem: AggregatorProblem, gap: float, time_limit_s: float | None) -> None:
    checks = Checks(problem.label)
    checks.require(gap > 0, "gap", gap, "> 0")
    checks.require(
        time_limit_s is None or time_limit_s > 0, "time_limit_s", time_limit_s, "> 0 seconds"
    )
    checks.done()
    if problem.risk_weight > 0:
        fault = Fault("risk_weight", problem.risk_weight, "0 by this method; use method 'model'")
        raise InputError(problem.label, [fault])


def _status(plan: AggregatorPlan, gap: float, search: Search) -> str:
    found = f"gap {100 * plan.gap:.4f} % of turnover, {search.nodes} nodes"
    if plan.gap <= gap:
        return f"optimal within the gap asked for: {found}"
    if search.time_left_s <= 0:
        return f"stopped at the time limit with the best plan so far: {found}"
    return f"stopped above the gap asked for ({100 * gap:g} %): {found}"
