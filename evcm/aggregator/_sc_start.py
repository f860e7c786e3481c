"""Starting prices: the same problem with real-time trade for free.

If the samples could trade freely, only the mean power of each period would count, and one price per
period would do: T multipliers instead of T N. Column generation on that small problem takes a second
or less. Spread over the samples by probability, its prices are close to those sought.
"""

from __future__ import annotations

import highspy
import numpy as np
import scipy.sparse as sp

from evcm.aggregator._sc_market import Duals, Market
from evcm.aggregator._sc_visits import PricedVisits
from evcm.inputs import FloatArray


def system_prices(market: Market) -> FloatArray:
    """Price of each period at the system load without the aggregator, USD per MW (T)."""
    p = market.problem
    step = np.searchsorted(p.price.edge_mw, p.system_load_mw)
    return np.asarray(market.usd_per_mwh[np.minimum(step, len(p.price) - 1)])


def spread(market: Market, price: FloatArray) -> Duals:
    """Multipliers with one price per period, the real-time limit without value."""
    T, N = market.shape
    wide = price[:, None] * market.problem.probability
    return Duals(wide, np.zeros((T, N)), np.zeros((T, N)), price, wide, np.zeros((T, N)))


def start_prices(
    market: Market, visits: PricedVisits, rounds: int = 60, gap: float = 0.01
) -> Duals:
    """Multipliers of the problem with free real-time trade, within `gap` of its turnover."""
    T, _ = market.shape
    c = market.problem.charger
    corners = [market.corners(t) for t in range(T)]
    power = np.concatenate([k.power for k in corners])
    cost = np.concatenate([k.cost for k in corners])
    period = np.repeat(np.arange(T), [k.power.size for k in corners])
    hull = sp.csc_matrix((power, (period, np.arange(period.size))), shape=(T, period.size))
    one = sp.csc_matrix((np.ones(period.size), (period, np.arange(period.size))))
    owner = visits.sample
    groups = int(owner.max()) + 1
    totals = np.empty((0, T))
    worn = np.empty(0)
    group = np.empty(0, np.int64)
    price = best = system_prices(market)
    best_bound = -np.inf
    for _ in range(rounds):
        duals = spread(market, np.maximum(price, 0.0))
        buy, sell = market.car_prices(duals)
        least, charged, discharged, wear = visits.price(buy, sell)
        value = cost - power * price[period]
        bound = float(least.sum() + np.minimum.reduceat(value, np.searchsorted(period, np.arange(T))).sum())
        if bound > best_bound:
            best, best_bound = price, bound
        net = charged / c.charge_efficiency - c.discharge_efficiency * discharged
        new, new_wear = np.zeros((groups, T)), np.zeros(groups)
        np.add.at(new, owner, net)
        np.add.at(new_wear, owner, wear)
        totals = np.concatenate([totals, new])
        worn = np.concatenate([worn, new_wear])
        group = np.concatenate([group, np.arange(groups)])
        master, dual = _master(hull, one, cost, totals, worn, group, groups, market)
        turnover = 1.0 + np.abs(cost).max() + float(new_wear.sum())
        if master - best_bound < gap * turnover:
            break
        price = best + 0.5 * (dual - best)
    return spread(market, np.maximum(best, 0.0))


def _master(
    hull: sp.csc_matrix, one: sp.csc_matrix, cost: FloatArray, totals: FloatArray, worn: FloatArray,
    group: FloatArray, groups: int, market: Market,
) -> tuple[float, FloatArray]:  # fmt: skip
    """Value and prices of the restricted master."""
    T, C = totals.shape[1], totals.shape[0]
    slack = sp.identity(T)
    penalty = 5.0 * market.usd_per_mwh.max()
    choice = sp.csc_matrix((np.ones(C), (group, np.arange(C))), shape=(groups, C))
    matrix = sp.bmat(
        [[hull, slack, -slack, -totals.T], [one, None, None, None], [None, None, None, choice]]
    ).tocsc()
    lp = highspy.HighsLp()
    lp.num_row_, lp.num_col_ = matrix.shape
    lp.col_cost_ = np.concatenate([cost, np.full(2 * T, penalty), worn])
    lp.col_lower_ = np.zeros(lp.num_col_)
    lp.col_upper_ = np.full(lp.num_col_, highspy.kHighsInf)
    lp.row_lower_ = lp.row_upper_ = np.concatenate([np.zeros(T), np.ones(T + groups)])
    lp.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    lp.a_matrix_.start_, lp.a_matrix_.index_ = matrix.indptr, matrix.indices
    lp.a_matrix_.value_ = matrix.data
    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("solver", "ipx")
    solver.setOptionValue("presolve", "off")
    solver.setOptionValue("run_crossover", "off")
    solver.setOptionValue("ipm_optimality_tolerance", 1e-3)
    solver.passModel(lp)
    solver.run()
    dual = np.array(solver.getSolution().row_dual)[:T]
    return solver.getInfo().objective_function_value, dual
