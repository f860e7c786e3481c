"""The fast exact method for one aggregator: interior point, convex hulls of price steps, branching.

1. **Cars** (`chains`, `cars`). Every visit is a chain of charge levels, eliminated by recursion.
   Like visits of many single cars share a few chains (`likes`).
2. **Market** (`market`). Convex hulls of all choices of price steps: of the day-ahead cost alone,
   and of day-ahead and real-time steps together where real-time cost matters.
3. **Programs** (`program`). A primal-dual interior-point method that never forms a large matrix.
4. **Bound** (`market.Lagrangian`). Any multipliers give a valid lower bound: every real visit is
   solved exactly by dynamic programming, and every price step is tried. No tolerance enters.
5. **Plans** (`plans`) and **branching** (`search`).
6. **Risk** (`risk`). CVaR by weights of samples: the worst of them bound it, mixed plans attain it.
"""

from __future__ import annotations

import ctypes
import sys
import time

import numpy as np

from evcm import blas
from evcm.aggregator.infeasible import raise_infeasible, require_reachable
from evcm.aggregator.interior.plans import make_plan
from evcm.aggregator.interior.risk import RiskSearch
from evcm.aggregator.interior.search import Event, NoPlanError, Progress, Search
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.errors import SolverError

METHOD = "interior"
SMALL = 2000
"""Periods times groups times samples up to which the model is worth a try under a risk weight."""

LARGE = 5_000_000
"""Periods times groups times samples above which freed memory is given back before a plan is made.
"""


def _give_memory_back() -> None:
    """Give what was freed back to the system, where the C library can (glibc keeps it else)."""
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)


def solve_interior(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    progress: Progress | None = None,
    threads: int = 1,
    start: AggregatorPlan | None = None,
    trace: list[Event] | None = None,
) -> AggregatorPlan:
    """Solve an aggregator problem to a proven gap.

    Parameters
    ----------
    problem : AggregatorProblem
        Without real-time prices of their own. Feeding cars have few different efficiencies: every
        matrix grows with their number.
    gap : float
        Proven distance to the optimum to stop at, as a share of turnover.
    time_limit_s : float, optional
        Wall-clock seconds after which the best plan so far is returned; its status says so. The
        first plan is waited for.
    progress : callable, optional
        Told the best cost, the bound (USD) and the seconds at every improvement.
    threads : int
        Samples are spread over so many threads; the result has the same bits for any number.
    start : AggregatorPlan, optional
        A plan of the problem, returned where none better is found; its bound is not used.
    trace : list, optional
        Receives one `Event` for each thing that happened.

    Raises
    ------
    InfeasibleError
        No plan exists: names the car and its visit, or the periods and the least caps.
    SolverError
        The method did not reach a plan, or not the gap: then ``details["plan"]`` is what it has.
    """
    began = time.perf_counter()
    require_reachable(problem)
    deadline = np.inf if time_limit_s is None else began + time_limit_s
    kind = Search if problem.risk_weight == 0 else RiskSearch
    search = kind(problem, gap, deadline, threads, progress)
    try:
        with blas.one_thread:
            try:
                search.run(start)
            except SolverError:
                if not search.may_be_finer:
                    raise
            if search.may_be_finer and not search.done:  # representatives were too few for it
                search = Search(problem, gap, deadline, threads, progress, alike=False)
                search.run(start)
    except NoPlanError:
        raise_infeasible(problem)
    if trace is not None:
        trace.extend(search.trace)
    seconds, late, nodes = time.perf_counter() - began, search.late, search.nodes
    best, units, segments = search.best, search.units, search.segments[:4]
    bound_usd = search.lower * units.usd
    del search  # a large one needs as much memory as the plan
    if problem.available.size > LARGE:
        _give_memory_back()
    if best is not None:
        plan = make_plan(problem, segments, best[1], units, best[0], METHOD, bound_usd, seconds)
    elif start is not None:
        plan = start.finished(bound_usd, seconds, "")
    else:
        raise_infeasible(problem)  # or that the problem is on the edge of rounding
    small = problem.available.size <= SMALL  # the model may close what is left of a small one
    if plan.gap > gap and not late and (problem.risk_weight == 0 or small):
        raise SolverError(
            f"{problem.label}: the interior-point method left a gap of "
            f"{100 * plan.gap:.3g} % of turnover",
            plan=plan,
        )
    status = "stopped at the time limit with the best plan so far"
    if plan.gap <= gap:
        status = "optimal within the gap asked for"
    elif not late:
        status = "not proven to the gap asked for, no better weights of samples known"
    status += f": gap {100 * plan.gap:.4f} % of turnover, {nodes} nodes"
    return plan.finished(plan.bound_usd, seconds, status)
