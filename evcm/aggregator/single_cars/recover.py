"""From the master's mixture to every car's schedule, and to exact market quantities."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evcm.aggregator.single_cars.market import Market
from evcm.aggregator.single_cars.master import Columns, Master, MasterSolution
from evcm.aggregator.single_cars.search import Incumbent
from evcm.arrays import FloatArray
from evcm.errors import InfeasibleError, SolverError

SINGLE_PRECISION_FROM = 200_000_000
"""Entries of a schedule array from which on it is kept in single precision."""


def mixture(master: Master, incumbent: Incumbent) -> tuple[Columns, MasterSolution]:
    """The columns of a plan and an exact solution of their master, steps fixed."""
    final = Master(master.visits, master.penalty)
    final.columns = incumbent.columns
    market = incumbent.market
    try:
        return final.columns, final.solve(market, market.rows(), 1e-9, exact=True)
    except (InfeasibleError, SolverError):  # on the edge of rounding: the interior point will do
        return final.columns, final.solve(market, market.rows(), 1e-8)


def schedules(
    master: Master, market: Market, columns: Columns, share: FloatArray
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Charge and discharge (kW) and state of charge (kWh) of every car (T, V, N).

    The columns in use are worked out again at the prices that made them, each car's paths are
    mixed with the master's weights, and no column is ever stored car by car.
    """
    p = market.problem
    shape = p.available.shape
    dtype = np.float32 if np.prod(shape) >= SINGLE_PRECISION_FROM else np.float64
    charge, discharge, soc = (np.zeros(shape, dtype) for _ in range(3))
    K = master.visits.clusters
    share = np.where(share > 1e-9, share, 0.0)
    share = share / np.bincount(columns.cluster, share, K)[columns.cluster]
    for origin in np.unique(columns.origin[share > 0]):
        mine = columns.origin == origin
        weight = np.asarray(np.bincount(columns.cluster[mine], share[mine], K), dtype=float)
        buy, sell = master.prices[origin]
        master.visits.mix(weight, buy, sell, p.charger.charge_efficiency, charge, discharge, soc)
    for t in range(shape[0]):  # mixing may leave a level a rounding error outside
        np.clip(soc[t], 0.0, p.battery.soc_max_kwh, out=soc[t])
    return charge, discharge, soc


def totals(
    market: Market, charge: NDArray[Any], discharge: NDArray[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Net power, power fed back and charger power in use (T, N), MW, summed in double precision."""
    p = market.problem
    size = p.group_size / 1000.0
    T, N = market.shape
    net, fed, used = np.empty((T, N)), np.empty((T, N)), np.empty((T, N))
    for t in range(T):
        bought, given = size @ charge[t].astype(float), size @ discharge[t].astype(float)
        fed[t] = p.charger.discharge_efficiency * given
        net[t] = bought - fed[t]
        used[t] = bought + given
    return net, fed, used


def burn(
    market: Market, burnt_mw: FloatArray, charge: NDArray[Any],
    discharge: NDArray[Any],
) -> None:  # fmt: skip
    """Let plugged-in cars charge and discharge at once, `burnt_mw` (T, N) in all, in place.

    Every car takes a share of what its charger has left; its state of charge does not move.
    """
    p = market.problem
    eta, size = p.charger.charge_efficiency, p.group_size / 1000.0
    for t in np.flatnonzero((burnt_mw > 0).any(axis=1)):
        room = np.where(
            p.available[t],
            np.maximum(p.charger.power_kw - charge[t] - discharge[t], 0.0), 0.0,
        )  # fmt: skip
        whole = size @ room
        share = np.where(whole > 0, burnt_mw[t] / np.maximum(whole, 1e-300), 0.0)
        share = np.minimum(share, 1.0 / (1.0 + 1.0 / eta))
        discharge[t] += room * share
        charge[t] += room * share / eta


def market_quantities(
    market: Market, charge: NDArray[Any], discharge: NDArray[Any]
) -> tuple[FloatArray, FloatArray]:
    """Day-ahead power (T) and real-time trade (T, N), MW, exact for the schedules.

    (11) and (12) leave no choice: day-ahead power is the mean of the cars' power, trade the rest.
    What (10) still lacks after rounding is made up by charging and discharging at once.
    """
    p = market.problem
    slack = 1e-12
    for _ in range(6):
        net, fed, _ = totals(market, charge, discharge)
        power = net @ p.probability
        trade = net - power[:, None]
        if p.real_time_limit == "plug" or not p.allow_v2g:
            break
        short = np.abs(trade) - fed
        if (short <= slack).all():
            break
        # Burning x raises fed by eta x and power by burn_power x, most of it in one sample.
        gain = p.charger.discharge_efficiency - market.burn_power
        gain = gain if gain > 0.1 else 0.1
        margin = 1e-9 * market.unit_mw + (2e-6 if charge.dtype == np.float32 else 0.0)
        burn(market, np.where(short > slack, (short + margin) / gain, 0.0), charge, discharge)
    return power, trade
