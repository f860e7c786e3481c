"""Master problem over the cars' totals, solved by column generation (Dantzig-Wolfe).

The cars meet the market only in their totals per period and sample. Given prices of the totals,
every visit is a small storage problem that `_storage_dp` solves exactly. Each answer of a cluster
of visits is a column (its totals and its wear); the master mixes the columns of each cluster so
that the totals fit the market, and its row duals are the next prices. Since a cluster's cars have
convex sets of schedules, every mixture is a schedule.

Three things make it quick:

* prices are taken on the way between the best known multipliers and the master's own (Wentges
  smoothing), and the master is solved by an interior-point method without crossover, whose central
  duals jump less than vertices (Gondzio's primal-dual column generation);
* columns that cannot enter are dropped;
* a run starts with few coarse clusters and splits them: the columns of the fine clusters are the
  answers to the same prices.

Every pricing at admissible multipliers is also a lower bound: the market's Lagrangian plus the
cars' least costs. It holds whatever the tolerance of the linear programs.

References
----------
J. Gondzio, P. Gonzalez-Brevis, P. Munari, "New developments in the primal-dual column generation
technique", EJOR 224 (2013) 41-51. P. Wentges, "Weighted Dantzig-Wolfe decomposition for linear
mixed-integer programming", ITOR 4 (1997) 151-162.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from evcm.aggregator.single_cars.clusters import PricedVisits
from evcm.aggregator.single_cars.market import Duals, Market, MarketRows
from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import InfeasibleError, SolverError
from evcm.highs import Answer as LPAnswer
from evcm.highs import solve_barrier

COLUMNS_PER_CLUSTER = 14
"""Columns kept per cluster before the worst are dropped."""


@dataclass(frozen=True, eq=False)
class Answer:
    """One pricing: bound and every cluster's best response."""

    bound: float
    duals: Duals
    cost: FloatArray
    charged: FloatArray
    discharged: FloatArray
    worn: FloatArray


@dataclass(frozen=True, eq=False)
class MasterSolution:
    """Solution of a restricted master problem."""

    value: float
    share: FloatArray
    column_cost: FloatArray
    convexity: FloatArray
    duals: Duals
    day_ahead: FloatArray
    own_power: FloatArray
    slack: float
    unmet: FloatArray
    burnt: FloatArray


@dataclass(eq=False)
class Columns:
    """Columns so far: cluster, the prices that made it, totals (T) and wear."""

    cluster: IntArray
    origin: IntArray
    charged: FloatArray
    discharged: FloatArray
    worn: FloatArray

    @classmethod
    def empty(cls, periods: int) -> Columns:
        """No columns."""
        none = np.empty(0, np.int64)
        return cls(none, none, np.empty((0, periods)), np.empty((0, periods)), np.empty(0))

    def __len__(self) -> int:
        return int(self.cluster.size)

    def keep(self, mask: FloatArray) -> None:
        """Keep the columns in `mask` (bool or indices)."""
        for name in ("cluster", "origin", "charged", "discharged", "worn"):
            setattr(self, name, getattr(self, name)[mask])

    def taken(self, mask: BoolArray) -> Columns:
        """A copy of the columns in `mask`."""
        return Columns(
            self.cluster[mask], self.origin[mask], self.charged[mask], self.discharged[mask],
            self.worn[mask],
        )  # fmt: skip

    def append(self, origin: int, clusters: IntArray, answer: Answer) -> None:
        """Add the answers of some clusters to prices number `origin`."""
        self.cluster = np.concatenate([self.cluster, clusters])
        self.origin = np.concatenate([self.origin, np.full(clusters.size, origin)])
        for name in ("charged", "discharged", "worn"):
            setattr(
                self, name, np.concatenate([getattr(self, name), getattr(answer, name)[clusters]])
            )


@dataclass(eq=False)
class Master:
    """Restricted master problem of one aggregator, with its columns and best bound."""

    visits: PricedVisits
    penalty: float
    threads: int = 1
    columns: Columns = field(init=False)
    prices: list[tuple[FloatArray, FloatArray]] = field(default_factory=list)
    lp_seconds: float = 0.0
    price_seconds: float = 0.0
    rounds: int = 0

    def price(self, market: Market, duals: Duals) -> Answer:
        """Bound and best responses at multipliers (moved to admissible ones)."""
        begin = time.perf_counter()
        duals = market.admissible(duals)
        buy, sell = market.car_prices(duals)
        cost, charged, discharged, worn = self.visits.price(buy, sell)
        bound = np.nan if market.fixed else market.bound(duals) + float(cost.sum())
        self.price_seconds += time.perf_counter() - begin
        return Answer(bound, duals, cost, charged, discharged, worn)

    def add(self, market: Market, answer: Answer, clusters: IntArray) -> None:
        """Make columns of an answer."""
        self.prices.append(market.car_prices(answer.duals))
        self.columns.append(len(self.prices) - 1, clusters, answer)

    def reduced_cost(self, market: Market, answer: Answer, solution: MasterSolution) -> FloatArray:
        """Reduced cost of every cluster's answer at the master's duals (K)."""
        buy, sell = market.car_prices(solution.duals)
        sample, per = self.visits.sample, self.visits.mw_per_kwh
        value = np.einsum("kt,kt->k", answer.charged, buy[sample]) / per + answer.worn
        if market.problem.allow_v2g:
            value -= np.einsum("kt,kt->k", answer.discharged, sell[sample]) / per
        return np.asarray(value - solution.convexity)

    def solve(
        self, market: Market, rows: MarketRows, tolerance: float, exact: bool = False
    ) -> MasterSolution:
        """Solve the restricted master with HiGHS."""
        begin = time.perf_counter()
        T, N = market.shape
        TN, K = T * N, self.visits.clusters
        n_rows, n_market = rows.matrix.shape
        slack = sp.csc_matrix(
            (np.r_[np.ones(TN), -np.ones(TN)], (np.r_[:TN, :TN], np.arange(2 * TN))),
            shape=(n_rows, 2 * TN),
        )
        top = sp.hstack([rows.matrix, slack, self._totals(market, n_rows)])
        C = len(self.columns)
        bottom = sp.csc_matrix(
            (np.ones(C), (self.columns.cluster, n_market + 2 * TN + np.arange(C))),
            shape=(K, n_market + 2 * TN + C),
        )
        row_lower = np.concatenate([rows.row_lower, np.ones(K)])
        row_upper = np.concatenate([rows.row_upper, np.ones(K)])
        bounded = np.flatnonzero(np.isfinite(row_lower) | np.isfinite(row_upper))
        matrix = sp.vstack([top, bottom]).tocsr()[bounded].tocsc()
        weight = np.tile(market.problem.probability, 2 * T) * self.penalty
        result = solve_barrier(
            matrix,
            np.concatenate([rows.cost, weight, self.columns.worn]),
            np.concatenate([rows.lower, np.zeros(2 * TN + C)]),
            np.concatenate([rows.upper, np.full(2 * TN + C, np.inf)]),
            row_lower[bounded], row_upper[bounded], tolerance, exact,
        )  # fmt: skip
        label = market.problem.label
        if result.status == "infeasible":
            raise InfeasibleError(f"{label}: no power fits these price steps")
        if result.status != "optimal":
            raise SolverError(f"{label}: master problem: HiGHS says {result.status}")
        self.lp_seconds += time.perf_counter() - begin
        dual = np.zeros(row_lower.size)
        dual[bounded] = result.row_dual
        return self._read(market, rows, result, dual, n_market)

    def _totals(self, market: Market, n_rows: int) -> sp.csc_matrix:
        """Entries of the columns in balance, limit and plug rows."""
        c, p = market.problem.charger, market.problem
        T, N = market.shape
        TN = T * N
        col = self.columns
        sample = self.visits.sample[col.cluster]
        net = col.charged / c.charge_efficiency - c.discharge_efficiency * col.discharged
        parts = [(0, -net)]
        if p.real_time_limit == "v2g":
            parts.append((TN, -c.discharge_efficiency * col.discharged))
        if market.plug_rows.any():
            used = col.charged / c.charge_efficiency + col.discharged
            parts.append((3 * TN, used * market.plug_rows.T[sample]))
        rows, columns, values = [], [], []
        for first, dense in parts:
            i, t = np.nonzero(dense)
            rows.append(first + t * N + sample[i])
            columns.append(i)
            values.append(dense[i, t])
        return sp.csc_matrix(
            (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))),
            shape=(n_rows, len(col)),
        )

    def _read(
        self, market: Market, rows: MarketRows, result: LPAnswer, y: FloatArray, n_market: int
    ) -> MasterSolution:
        T, N = market.shape
        TN = T * N
        x = result.column
        grid = y[: 4 * TN].reshape(4, T, N)
        trade = grid[0] + grid[2]
        where = rows.dev_row.reshape(T, N)
        trade = np.where(where >= 0, -y[where], trade)
        share = np.maximum(x[n_market + 2 * TN :], 0.0)
        burnt = np.zeros((T, N))
        if market.problem.allow_v2g:
            burnt = x[n_market - TN : n_market].reshape(T, N)
        K = self.visits.clusters
        return MasterSolution(
            value=result.value,
            share=share,
            column_cost=result.column_dual[n_market + 2 * TN :],
            convexity=y[y.size - K :],
            duals=Duals(
                grid[0],
                -grid[2],
                -grid[3],
                -y[4 * TN : 4 * TN + T],
                trade,
                np.maximum(-grid[1], 0.0),
            ),
            day_ahead=rows.day_ahead @ x[:n_market],
            own_power=(rows.own_power @ x[:n_market]).reshape(T, N),
            slack=float(x[n_market : n_market + 2 * TN].sum()),
            unmet=x[n_market : n_market + 2 * TN].reshape(2, T, N).sum(axis=(0, 2)),
            burnt=burnt,
        )

    def drop_columns(self, solution: MasterSolution, most: int = COLUMNS_PER_CLUSTER) -> None:
        """Drop the columns with the highest reduced costs when there are many."""
        K = self.visits.clusters
        if len(self.columns) <= most * K:
            return
        rank = np.lexsort((solution.column_cost, self.columns.cluster))
        cluster = self.columns.cluster[rank]
        place = np.arange(rank.size) - np.searchsorted(cluster, cluster)
        self.columns.keep(np.sort(rank[place < max(most // 2, 4)]))


def new_master(visits: PricedVisits, periods: int, penalty: float) -> Master:
    """A master without columns."""
    master = Master(visits, penalty)
    master.columns = Columns.empty(periods)
    return master


def settle(
    master: Master, market: Market, enough: float, most_rounds: int, deadline: float
) -> MasterSolution:  # fmt: skip
    """Columns for fixed price steps until no cluster can lower the cost by `enough` in all."""
    rows = market.rows()
    solution = master.solve(market, rows, 1e-5)
    for _ in range(most_rounds):
        answer = master.price(market, solution.duals)
        reduced = master.reduced_cost(market, answer, solution)
        if -np.minimum(reduced, 0.0).sum() < enough or time.perf_counter() > deadline:
            break
        master.rounds += 1
        master.add(market, answer, np.flatnonzero(reduced < -1e-9))
        solution = master.solve(market, rows, 1e-5)
    return solution


def generate(
    master: Master, market: Market, start: Duals, target: Callable[[float, float], bool],
    most_rounds: int, deadline: float, report: Callable[[float, float, int], None] | None = None,
    smoothing: float = 0.5, tolerance: float = 1e-3,
) -> tuple[MasterSolution, Answer]:  # fmt: skip
    """Column generation until ``target(value, bound)`` or a limit.

    Returns the last solution of the master and the answer with the best bound.
    """
    rows = market.rows()
    best = answer = master.price(market, start)
    every = np.arange(master.visits.clusters)
    master.add(market, answer, every)
    solution = master.solve(market, rows, tolerance)
    for _ in range(most_rounds):
        master.rounds += 1
        answer = master.price(market, best.duals.towards(solution.duals, 1.0 - smoothing))
        reduced = master.reduced_cost(market, answer, solution)
        if not (reduced < -1e-9).any():  # mispriced: the smoothed prices tell nothing new
            answer = master.price(market, solution.duals)
            reduced = master.reduced_cost(market, answer, solution)
        if answer.bound > best.bound:
            best = answer
        if report is not None:
            report(solution.value, best.bound, len(master.columns))
        if target(solution.value, best.bound) or time.perf_counter() > deadline:
            break
        new = np.flatnonzero(reduced < -1e-9)
        if not new.size:
            break
        master.drop_columns(solution)
        master.add(market, answer, new)
        solution = master.solve(market, rows, tolerance)
    return solution, best
