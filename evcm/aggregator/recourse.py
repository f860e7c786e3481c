"""One known day under a given day-ahead schedule: a small linear program, for HiGHS directly.

A car's columns are its charge e, the energy s discharged in a period, and the power w charged and
fed back at once, which moves no battery and wears none. Trade above and below the day-ahead power
is split along the steps of the price curve, each part at its step's price.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.errors import SolverError
from evcm.highs import LP
from evcm.inputs.prices import PriceSeries


def _staircase(
    problem: AggregatorProblem, load_mw: FloatArray, reach_mw: float
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Parts of a trade along the price curve: period, sign, width (MW) and price of each."""
    if isinstance(problem.price, PriceSeries):
        price = np.stack(problem.price.real_time_usd_per_kwh(1))
        width = np.full(price.shape, reach_mw)
    else:
        edge, load = np.concatenate([[-np.inf], problem.step_edge_mw, [np.inf]]), load_mw[:, None]
        up = np.minimum(edge[1:], load + reach_mw) - np.maximum(edge[:-1], load)
        down = np.minimum(edge[1:], load) - np.maximum(edge[:-1], load - reach_mw)
        width = np.stack([up, down])
        price = np.broadcast_to(problem.price.price_usd_per_kwh, width.shape)
    side, period, step = np.nonzero(width > 1e-9)
    width, price = width[side, period, step], price[side, period, step]
    return period, np.where(side == 0, 1.0, -1.0), width, price


def operate_day(
    problem: AggregatorProblem, number: int, day_ahead_mw: FloatArray, penalty_usd_per_kwh: float
) -> tuple[float, float, float, float, float]:
    """Operate a problem's only sample as a known day; see `value.operate_fresh_days`.

    `number` names the day in messages.

    Returns
    -------
    real_time_usd, wear_usd, penalty_usd, penalized_kwh, bound_usd : float
        Cost of the day besides its day-ahead energy.
    """
    T, dt, k, cars = problem.periods, problem.period_h, problem.figures, problem.plugged
    K, v, kwh, plugged = cars.size, cars.vehicle, 1000.0 * dt, problem.plugged_mw[:, 0]
    reach = float(plugged.max() + np.abs(day_ahead_mw).max()) + 1.0
    part, sign, width, price = _staircase(problem, problem.system_load_mw + day_ahead_mw, reach)
    J, efficiency = part.size, k.charge_efficiency[v]
    # Columns: e, s, w (K each), parts (J), trade beyond (10) (T), power beyond the cap (T).
    eye, none, beyond = sp.eye_array(K), sp.coo_array((K, K)), sp.eye_array(T)
    change, per_kwh = eye - cars.previous, sp.diags_array(1 / (dt * efficiency))
    charge = sp.hstack([per_kwh @ change, per_kwh, eye])
    discharge = sp.hstack([none, eye / dt, sp.diags_array(efficiency)])
    offset = cars.arrival_soc_kwh / (dt * efficiency)  # G2B = charge x - offset
    fed = cars.total @ sp.diags_array(k.discharge_efficiency[v]) @ discharge
    parts = sp.csr_array((np.ones(J), (part, np.arange(J))), shape=(T, J))
    signed = sp.csr_array((sign, (part, np.arange(J))), shape=(T, J))
    plug = problem.real_time_limit == "plug"
    matrix = sp.block_array([
        [sp.hstack([change, eye, none]), None, None, None],  # energy charged
        [charge + discharge, None, None, None],  # charger
        [cars.total @ charge - fed, -signed, None, None],  # power of the cars less trade
        [None if plug else -fed, parts, -beyond, None],  # trade within (10), or beyond
        [None, signed, None, -beyond],  # caps (30), (57)
        [None, signed, None, beyond],  # caps on feeding in
    ])  # fmt: skip
    free, penalty = np.full(T, np.inf), kwh * penalty_usd_per_kwh
    given = day_ahead_mw + cars.total @ offset
    wear = np.concatenate([np.zeros(K), problem.wear_usd_per_kwh[v], np.zeros(K)])
    answer = LP(
        sp.csc_matrix(matrix),
        np.concatenate([wear, kwh * sign * price, np.full(2 * T, penalty)]),
        np.concatenate([
            np.where(cars.ends, k.departure_soc_kwh[v], k.soc_min_kwh[v]),
            np.zeros(2 * K + J + 2 * T),
        ]),
        np.concatenate([
            k.soc_max_kwh[v], problem.discharge_step_kwh[v],
            np.where(k.feeds_in[v], k.power_kw[v], 0.0), width, free, free,
        ]),
        np.concatenate([
            cars.arrival_soc_kwh, np.full(K, -np.inf), given, -free, -free,
            problem.floor_mw - day_ahead_mw,
        ]),
        np.concatenate([
            cars.arrival_soc_kwh + problem.charge_step_kwh[v], k.power_kw[v] + offset, given,
            plugged if plug else np.zeros(T), problem.cap_mw - day_ahead_mw, free,
        ]),
    ).solve(time_limit_s=600.0)  # fmt: skip
    if answer.status != "optimal":
        raise SolverError(f"{problem.label}, day {number}: HiGHS ended {answer.status}")
    x = answer.column
    trade = np.asarray(signed @ x[3 * K : 3 * K + J])
    over = float(x[3 * K + J :].sum())
    real_time = float(problem.real_time_payment_usd(day_ahead_mw, trade[:, None]).sum())
    return real_time, float(wear @ x[: 3 * K]), penalty * over, kwh * over, answer.value
