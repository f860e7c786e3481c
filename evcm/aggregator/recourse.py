"""One known day under a given day-ahead schedule: a small linear program, for HiGHS directly.

The cars are the rows of `evcm.aggregator.plugged.car_rows`. Trade d above and below the
day-ahead power is split along the steps of the price curve, each part at its step's price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from evcm.aggregator.plugged import car_rows, diagonal, list_plugged
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.errors import SolverError
from evcm.highs import LP
from evcm.inputs.prices import PriceSeries


@dataclass(frozen=True, slots=True)
class Day:
    """Cost of one day besides its day-ahead energy, USD."""

    real_time_usd: float
    wear_usd: float
    penalty_usd: float
    penalized_kwh: float
    bound_usd: float


def _staircase(
    problem: AggregatorProblem, sample: int, load_mw: FloatArray, reach_mw: float
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Parts of a trade along the price curve: period, sign, width (MW) and price of each."""
    if isinstance(problem.price, PriceSeries):
        T = problem.periods
        buy, sell = problem.price.real_time_usd_per_kwh(problem.samples)
        return (
            np.tile(np.arange(T), 2), np.repeat([1.0, -1.0], T), np.full(2 * T, reach_mw),
            np.concatenate([buy[:, sample], sell[:, sample]]),
        )  # fmt: skip
    edge = np.concatenate([[-np.inf], problem.price.edge_mw[:-1], [np.inf]])
    price = problem.price.price_usd_per_kwh
    low, high, load = edge[:-1], edge[1:], load_mw[:, None]
    up = np.minimum(high, load + reach_mw) - np.maximum(low, load)
    down = np.minimum(high, load) - np.maximum(low, load - reach_mw)
    (tu, bu), (td, bd) = np.nonzero(up > 1e-9), np.nonzero(down > 1e-9)
    return (
        np.concatenate([tu, td]),
        np.concatenate([np.ones(tu.size), -np.ones(td.size)]),
        np.concatenate([up[tu, bu], down[td, bd]]),
        np.concatenate([price[bu], price[bd]]),
    )


def operate_day(
    problem: AggregatorProblem, sample: int, day_ahead_mw: FloatArray, penalty_usd_per_kwh: float
) -> Day:
    """Operate one sample of a problem as a known day; see `stochastic.operate_fresh_days`."""
    T, dt = problem.periods, problem.period_h
    cars = list_plugged(problem, sample)
    k, kwh = car_rows(problem, cars), 1000.0 * dt
    total = cars.total[np.arange(T) * problem.samples + sample]
    plugged = problem.plugged_mw[:, sample]
    load = problem.system_load_mw + day_ahead_mw
    reach = float(plugged.max() + np.abs(day_ahead_mw).max()) + 1.0
    part, sign, width, price = _staircase(problem, sample, load, reach)
    J, K = part.size, cars.size
    # Columns: the cars' x (3 K), parts (J), trade beyond (10) (T), power beyond the cap (T).
    feeding = diagonal(problem.figures.discharge_efficiency[cars.vehicle])
    fed = total @ feeding @ k.discharge_kw
    parts = sp.csr_array((np.ones(J), (part, np.arange(J))), shape=(T, J))
    signed = sp.csr_array((sign, (part, np.arange(J))), shape=(T, J))
    given, eye = total @ k.offset_kw, sp.eye_array(T)
    plug = problem.real_time_limit == "plug"
    matrix = sp.block_array([
        [k.rows, None, None, None],
        [total @ k.charge_kw - fed, -signed, None, None],  # power of the cars less trade
        [0 * fed if plug else -fed, parts, -eye, None],  # trade within (10), or beyond
        [None, signed, None, -eye],  # caps (30), (57)
        [None, signed, None, eye],  # caps on feeding in
    ])  # fmt: skip
    none = np.full(T, -np.inf)
    limit = plugged if plug else np.zeros(T)
    wear = np.concatenate([np.zeros(K), problem.wear_usd_per_kwh[cars.vehicle], np.zeros(K)])
    penalty = kwh * penalty_usd_per_kwh
    answer = LP(
        sp.csc_matrix(matrix),
        np.concatenate([wear, kwh * sign * price, np.full(2 * T, penalty)]),
        np.concatenate([k.low, np.zeros(J + 2 * T)]),
        np.concatenate([k.high, width, np.full(2 * T, np.inf)]),
        np.concatenate(
            [k.row_low, day_ahead_mw + given, none, none, problem.floor_mw - day_ahead_mw]
        ),
        np.concatenate(
            [k.row_high, day_ahead_mw + given, limit, problem.cap_mw - day_ahead_mw, -none]
        ),
    ).solve(time_limit_s=600.0)
    if answer.status != "optimal":
        raise SolverError(f"{problem.label}, day {sample + 1}: HiGHS ended {answer.status}")
    x = answer.column
    trade = np.zeros((T, problem.samples))
    trade[:, sample] = np.asarray(signed @ x[3 * K : 3 * K + J])
    beyond = float(x[3 * K + J :].sum())
    return Day(
        real_time_usd=float(problem.real_time_payment_usd(day_ahead_mw, trade)[:, sample].sum()),
        wear_usd=float(wear @ x[: 3 * K]),
        penalty_usd=penalty * beyond,
        penalized_kwh=kwh * beyond,
        bound_usd=answer.value,
    )
