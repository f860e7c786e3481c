"""Fleets of single cars, solved to proof at a cost that grows about linearly with the cars.

The linear programs of `interior` hold every group of cars in every period and sample. With
single cars that is millions of rows. But cars meet the market only in their totals: the power of
all, and the power fed back, per period and sample. So the problem is split (Dantzig and Wolfe):

1. *Price the totals.* A multiplier per (period, sample) values energy, another the power fed back.
2. *Cars answer.* Under prices each visit of each car is a storage problem of its own. Chargers of
   150 kW never bind within half an hour, and then two slopes per period describe the cost-to-go
   exactly (`_storage_dp`): about 10 ns per car, sample and period. Small chargers take a general
   piecewise-linear recursion, exact as well.
3. *The master mixes answers* of clusters of like visits (`master`) so that the totals meet the
   market (`_sc_market`), and its duals are the next prices.

Each pricing yields a lower bound (the Lagrangian), valid whatever the tolerances: the market's part
is minimised over the price steps themselves, exactly. Schedules are convex car by car, so the
master's mixture is a schedule for every car, and it is worked out by pricing once more.

Prices are steps, which makes the market non-convex: a dive fixes the few periods that hang between
steps, blocks add the real-time cost where it is understated, and branching closes what gap is left
(`search`). The size of the master depends on the number of clusters, not of cars: only pricing
and the last pass grow with the fleet.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NoReturn

import numba
import numpy as np

from evcm.aggregator.infeasible import raise_infeasible, require_reachable
from evcm.aggregator.plan import AggregatorPlan, make_plan
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.single_cars import master, recover
from evcm.aggregator.single_cars.clusters import priced_visits
from evcm.aggregator.single_cars.market import Market, spread, system_prices
from evcm.aggregator.single_cars.search import Search
from evcm.aggregator.steps import reachable_steps
from evcm.errors import Checks, InfeasibleError, SolverError

METHOD = "single cars"
UNIT_CARS = 700
"""Cars whose power is one unit of the master problem, which keeps its numbers near one."""

CLUSTERS_PER_SAMPLE = 64
"""Clusters of visits; 50 and 150 took as long or longer on 682 single cars."""

LEAST_CAP_VISITS = 5_000
"""Up to this many visits the least caps of an infeasible problem are computed car by car."""


@dataclass(frozen=True)
class Round:
    """State of a solution after one event.

    Attributes
    ----------
    seconds : float
        Since the start.
    kind : {"prices", "plan"}
        A round of pricing, or a plan found.
    value_usd : float
        Cost of the restricted master ("prices"), or of the plan.
    bound_usd : float
        Best bound at that node ("prices"), or of all.
    columns : int
        Columns of the master.
    """

    seconds: float
    kind: str
    value_usd: float
    bound_usd: float
    columns: int

    def __str__(self) -> str:
        return (
            f"{self.seconds:7.1f} s  {self.kind:6s} {self.value_usd:12.4f}  "
            f"bound {self.bound_usd:12.4f} USD, {self.columns} columns"
        )


def solve_single_cars(
    problem: AggregatorProblem,
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    threads: int = 2,
    progress: Callable[[Round], None] | None = None,
    clusters_per_sample: int = CLUSTERS_PER_SAMPLE,
) -> AggregatorPlan:
    """Plan of one aggregator with many single cars, with a proven gap.

    Parameters
    ----------
    problem : AggregatorProblem
        Groups of any size; made for many groups of one car.
    gap : float
        Distance between cost and bound at which to stop, as a share of turnover.
    time_limit_s : float, optional
        After this time the best plan so far is returned with its gap, and its status says so.
    threads : int
        Threads that price the cars. The plan does not depend on it.
    progress : callable, optional
        Takes a `Round` after every round of pricing and every plan found.
    clusters_per_sample : int
        Clusters of visits in each sample: more of them need fewer rounds of larger programs.

    Raises
    ------
    InputError
        `risk_weight` is set: a risk measure ties the samples together: use the model.
    InfeasibleError
        A visit is too short, or the caps cannot be met.
    SolverError
        No plan was found within the time limit.
    """
    begin = time.perf_counter()
    _check(problem, gap, time_limit_s, threads, clusters_per_sample)
    require_reachable(problem)
    market = _market(problem)
    visits = priced_visits(problem, clusters_per_sample, market.unit_mw)
    start = spread(market, system_prices(market))
    mixer = master.new_master(visits, problem.periods, 5.0 * float(market.usd_per_mwh.max()))
    deadline = np.inf if time_limit_s is None else begin + time_limit_s

    def report(kind: str, value: float, bound: float, columns: int) -> None:
        if progress is not None:
            unit = market.unit_mw
            seconds = time.perf_counter() - begin
            progress(Round(seconds, kind, value * unit, bound * unit, columns))

    search = Search(mixer, gap, deadline, report)
    with _threads(threads):
        try:
            search.run(market, start)
            plan = _plan(search, market, begin)
        except InfeasibleError as error:
            _confirm_infeasible(problem, error)
    if plan.gap > gap and not search.late():
        raise SolverError(f"{problem.label}: {plan.status}")
    return plan


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = numba.get_num_threads()
    numba.set_num_threads(min(count, numba.config.NUMBA_NUM_THREADS))
    try:
        yield
    finally:
        numba.set_num_threads(before)


def _check(
    problem: AggregatorProblem, gap: float, time_limit_s: float | None, threads: int, clusters: int
) -> None:
    c = Checks(f"{problem.label}, method {METHOD}")
    c.require(
        problem.risk_weight == 0, "risk_weight", problem.risk_weight,
        "0 (a risk measure ties the samples together: use the model)",
    )  # fmt: skip
    c.require(0 < gap < 1, "gap", gap, "0 < gap < 1")
    c.require(time_limit_s is None or time_limit_s > 0, "time_limit_s", time_limit_s, "> 0")
    c.require(threads >= 1, "threads", threads, ">= 1")
    c.require(clusters >= 1, "clusters_per_sample", clusters, ">= 1")
    c.done()


def _market(problem: AggregatorProblem) -> Market:
    T, N = problem.periods, problem.samples
    choices = reachable_steps(problem)
    none = np.zeros((T, N), bool)
    capped = choices.range.real_time_high < problem.plugged_mw
    own_cap = problem.trading_cap_mw is not None
    return Market(
        problem, choices, problem.cars / UNIT_CARS, np.zeros(T, bool), capped if own_cap else none,
        none, np.zeros_like(choices.day_ahead),
    )  # fmt: skip


def _confirm_infeasible(problem: AggregatorProblem, error: InfeasibleError) -> NoReturn:
    """Only a proof counts: the least caps of a small problem, or another method's for a large."""
    if len(problem.visits) <= LEAST_CAP_VISITS:
        raise_infeasible(problem)
    raise SolverError(f"{problem.label}: column generation finds no plan: {error}")


def _plan(search: Search, market: Market, begin: float) -> AggregatorPlan:
    problem = market.problem
    if search.incumbent is None:
        if search.unmet is not None:
            raise InfeasibleError("power is left unmet")
        raise SolverError(
            f"{problem.label}: no plan within the time limit; the bound so far is "
            f"{search.bound * market.unit_mw:.4f} USD"
        )
    columns, solution = recover.mixture(search.master, search.incumbent)
    charge, discharge, soc = recover.schedules(search.master, market, columns, solution.share)
    recover.burn(market, solution.burnt * market.unit_mw, charge, discharge)
    power, trade = recover.market_quantities(market, charge, discharge)
    plan = make_plan(
        problem,
        day_ahead_mw=power,
        surplus_mw=np.maximum(-trade, 0.0),
        deficit_mw=np.maximum(trade, 0.0),
        charge_kw=charge,
        discharge_kw=discharge,
        soc_kwh=soc,
        bound_usd=search.bound * market.unit_mw,
        seconds=0.0,
        method=METHOD,
        status="",
    )
    ended = "the time limit ended the search" if search.late() else "solved to the gap asked for"
    if plan.gap > search.gap and not search.late():
        ended = "the search ended with the gap open"
    status = (
        f"{ended}: proven gap {100 * plan.gap:.4f} % of turnover after {search.master.rounds} "
        f"rounds of pricing and {search.nodes} nodes"
    )
    return plan.finished(plan.bound_usd, time.perf_counter() - begin, status)
