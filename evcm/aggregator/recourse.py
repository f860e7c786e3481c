"""Known days under a given day-ahead schedule: a small linear program each, for HiGHS directly.

There is one program for all days, over every car and period: a day changes its bounds and starts
from the basis of the day before. Columns of a car in a period are its charge e, the energies x
charged and s discharged, and the power w charged and fed back at once, which moves no battery and
wears none. Away from the plug all but e are zero, and e is what the car arrives with. Trade above
and below the day-ahead power is split along the steps of the price curve, each part at its step's
price.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.errors import SolverError
from evcm.highs import LP
from evcm.inputs.prices import PriceSeries


def _staircase(
    problem: AggregatorProblem, load_mw: FloatArray, reach_mw: FloatArray
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Parts of a trade along the price curve: period, sign, width (MW), price (part, day or 1)."""
    if isinstance(problem.price, PriceSeries):
        price = np.stack(problem.price.real_time_usd_per_kwh(problem.samples))[:, :, None]
        width = np.stack([reach_mw, reach_mw])[:, :, None]
    else:
        edge, load = np.concatenate([[-np.inf], problem.step_edge_mw, [np.inf]]), load_mw[:, None]
        reach = reach_mw[:, None]
        up = np.minimum(edge[1:], load + reach) - np.maximum(edge[:-1], load)
        down = np.minimum(edge[1:], load) - np.maximum(edge[:-1], load - reach)
        width = np.stack([up, down])
        price = np.broadcast_to(problem.step_price_usd_per_kwh, width.shape)[..., None]
    side, period, step = np.nonzero(width > 1e-9)
    width, price = width[side, period, step], price[side, period, step]
    return period, np.where(side == 0, 1.0, -1.0), width, price


def operate_days(
    problem: AggregatorProblem, day_ahead_mw: FloatArray, penalty_usd_per_kwh: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Operate a problem's samples as known days; see `value.operate_fresh_days`.

    Bounds do not depend on the order of days. Of schedules that are equally good to the program,
    the one found may, and with it the true cost of a day.

    Returns
    -------
    real_time_usd, wear_usd, penalty_usd, penalized_kwh, bound_usd : (S,)
        Cost of the days besides their day-ahead energy.
    """
    T, dt, k, days = problem.periods, problem.period_h, problem.figures, problem.samples
    K, kwh, v = T * problem.vehicles, 1000.0 * dt, np.tile(np.arange(problem.vehicles), T)
    reach = problem.plugged_mw.max(axis=1) + np.abs(day_ahead_mw) + 0.01
    part, sign, width, price = _staircase(problem, problem.system_load_mw + day_ahead_mw, reach)
    J, at, efficiency = part.size, np.arange(K), k.charge_efficiency[v]
    # Columns: e, x, s, w (K each), parts (J), trade beyond (10) (T), power beyond the cap (T).
    eye, beyond, per_kwh = sp.eye_array(K), sp.eye_array(T), sp.diags_array(1 / (dt * efficiency))
    before = sp.csr_array((np.ones(K), (at, (at - problem.vehicles) % K)), shape=(K, K))
    total = sp.csr_array(
        (problem.group_size[v] / 1000.0, (at // problem.vehicles, at)), shape=(T, K)
    )
    fed = total @ sp.diags_array(k.discharge_efficiency[v])
    from_s, from_w = fed / dt, fed @ sp.diags_array(efficiency)
    parts = sp.csr_array((np.ones(J), (part, np.arange(J))), shape=(T, J))
    signed = sp.csr_array((sign, (part, np.arange(J))), shape=(T, J))
    plug = problem.real_time_limit == "plug"
    blocks: list[list[Any]] = [
        [eye - before, -eye, eye, None, None, None, None],  # energy charged
        [None, per_kwh, eye / dt, sp.diags_array(1 + efficiency), None, None, None],  # charger
        [None, total @ per_kwh, -from_s, total - from_w, -signed, None, None],  # power less trade
        # trade within (10), or beyond
        [None, None, None if plug else -from_s, None if plug else -from_w, parts, -beyond, None],
        [None, None, None, None, signed, None, -beyond],  # caps (30), (57)
        [None, None, None, None, signed, None, beyond],  # caps on feeding in
    ]
    free, none, wear = np.full(T, np.inf), np.zeros(K), problem.wear_usd_per_kwh[v]
    over = np.full(2 * T, kwh * penalty_usd_per_kwh)
    prices = np.broadcast_to(price, (J, days))
    most = [
        problem.charge_step_kwh[v],
        problem.discharge_step_kwh[v],
        k.power_kw[v] * k.feeds_in[v],
    ]
    trade, worn, beyond_kwh, bound = np.empty((T, days)), *np.empty((3, days))
    visits, program = problem.visits, None
    for n in range(days):
        plugged = problem.available[:, :, n]
        low = np.where(np.roll(plugged, -1, axis=0), k.soc_min_kwh, k.departure_soc_kwh) * plugged
        high = k.soc_max_kwh * plugged
        own = (visits.sample == n) & ~visits.always_plugged
        arrival = visits.start[own] - 1, visits.vehicle[own]
        low[arrival] = high[arrival] = visits.arrival_soc_kwh[own]
        on = plugged.ravel()
        away = np.where(on, 0.0, np.inf)
        limits = (
            np.concatenate([none, none, wear, none, kwh * sign * prices[:, n], over]),
            np.concatenate([low.ravel(), np.zeros(3 * K + J + 2 * T)]),
            np.concatenate([high.ravel(), *(on * m for m in most), width, free, free]),
            np.concatenate([
                -away, np.full(K, -np.inf), day_ahead_mw, -free, -free,
                problem.floor_mw - day_ahead_mw,
            ]),
            np.concatenate([
                away, k.power_kw[v], day_ahead_mw,
                problem.plugged_mw[:, n] if plug else np.zeros(T),
                problem.cap_mw - day_ahead_mw, free,
            ]),
        )  # fmt: skip
        if program is None:
            program = LP(sp.csc_matrix(sp.block_array(blocks)), *limits)
        else:
            program.change(*limits)
        answer = program.solve()
        if answer.status != "optimal":
            raise SolverError(f"{problem.label}, day {n + 1}: HiGHS ended {answer.status}")
        x = answer.column
        trade[:, n] = np.asarray(signed @ x[4 * K : 4 * K + J])
        worn[n], beyond_kwh[n] = wear @ x[2 * K : 3 * K], kwh * x[4 * K + J :].sum()
        bound[n] = answer.value
    real_time = problem.real_time_payment_usd(day_ahead_mw, trade).sum(axis=0)
    return real_time, worn, penalty_usd_per_kwh * beyond_kwh, beyond_kwh, bound
