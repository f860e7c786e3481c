"""One known day under a given day-ahead schedule: a small linear program, for HiGHS directly.

Columns for each plugged-in (t, v) are the charge e at the end of the period and the energy s
discharged; charging is c = (e - e_prev + s) / η_chg. Fed-back power without effect on the battery
(charging and discharging at once) is one column W per period. Trade d above and below the
day-ahead power is split along the steps of the price curve, each part at its step's price.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.errors import SolverError
from evcm.highs import LP


@dataclass(frozen=True, slots=True)
class Day:
    """Cost of one day besides its day-ahead energy, USD."""

    real_time_usd: float
    wear_usd: float
    penalty_usd: float
    penalized_kwh: float
    bound_usd: float


@dataclass(frozen=True, eq=False)
class _Cars:
    """Plugged-in (t, v) of one sample: K of them, and rows of the storage balance."""

    period: IntArray
    vehicle: IntArray
    change: sp.csr_array
    arrival_kwh: FloatArray
    low_kwh: FloatArray


def _cars(problem: AggregatorProblem, sample: int) -> _Cars:
    plugged = problem.available[:, :, sample]
    period, vehicle = np.nonzero(plugged)
    size = period.size
    position = np.full(plugged.shape, -1)
    position[period, vehicle] = np.arange(size)
    v = problem.visits
    mine = (v.sample == sample) & ~v.always_plugged
    first = position[v.start[mine], v.vehicle[mine]]
    arrival = np.zeros(size)
    arrival[first] = v.arrival_soc_kwh[mine]
    inside = np.ones(size, bool)
    inside[first] = False
    rows = np.flatnonzero(inside)
    before = position[period[rows] - 1, vehicle[rows]]
    change = sp.csr_array(sp.eye_array(size)) - sp.csr_array(
        (np.ones(rows.size), (rows, before)), shape=(size, size)
    )
    ends = ~plugged[(period + 1) % problem.periods, vehicle]
    low = np.where(ends, problem.battery.departure_soc_kwh, problem.battery.soc_min_kwh)
    return _Cars(period, vehicle, change, arrival, low)


def _staircase(
    problem: AggregatorProblem, load_mw: FloatArray, reach_mw: float
) -> tuple[IntArray, FloatArray, FloatArray, FloatArray]:
    """Parts of a trade along the price curve: period, sign, width (MW) and price of each."""
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
    T, dt, charger = problem.periods, problem.period_h, problem.charger
    cars = _cars(problem, sample)
    K, kwh = cars.period.size, 1000.0 * dt
    weight = problem.group_size[cars.vehicle] / 1000.0
    plugged = problem.plugged_mw[:, sample]
    load = problem.system_load_mw + day_ahead_mw
    reach = float(plugged.max() + np.abs(day_ahead_mw).max()) + 1.0
    part, sign, width, price = _staircase(problem, load, reach)
    J = part.size
    eta_c, eta_d = charger.charge_efficiency, charger.discharge_efficiency
    # Columns: e (K), s (K), W (T), parts (J), trade beyond (10) (T), power beyond the cap (T).
    per_period = sp.csr_array((weight, (cars.period, np.arange(K))), shape=(T, K))
    charged = per_period @ cars.change * (1 / (dt * eta_c))
    parts = sp.csr_array((np.ones(J), (part, np.arange(J))), shape=(T, J))
    signed = sp.csr_array((sign, (part, np.arange(J))), shape=(T, J))
    given = np.zeros(T)
    np.add.at(given, cars.period, weight * cars.arrival_kwh / (dt * eta_c))
    eye, none = sp.csr_array(sp.eye_array(T)), sp.csr_array((T, T))
    limit = plugged if problem.real_time_limit == "plug" else np.zeros(T)
    fed = 0.0 if problem.real_time_limit == "plug" else 1.0
    rows = [
        [cars.change, sp.eye_array(K), sp.csr_array((K, T)), sp.csr_array((K, J)),
         sp.csr_array((K, T)), sp.csr_array((K, T))],
        # Power of the cars less trade = day-ahead power.
        [charged, per_period * ((1 / eta_c - eta_d) / dt), eye * (1 / eta_c - eta_d), -signed,
         none, none],
        # Trade <= energy fed back + what is beyond.
        [sp.csr_array((T, K)), per_period * (-fed * eta_d / dt), eye * (-fed * eta_d), parts,
         -eye, none],
        # Charging and discharging fit the plugs of the fleet.
        [charged, per_period * ((1 / eta_c + 1) / dt), eye * (1 / eta_c + 1),
         sp.csr_array((T, J)), none, none],
        # Caps (30), (57).
        [sp.csr_array((T, K)), sp.csr_array((T, K)), none, signed, none, -eye],
    ]  # fmt: skip
    matrix = sp.csc_matrix(sp.block_array(rows))
    most = problem.charge_step_kwh
    row_low = np.concatenate([cars.arrival_kwh, day_ahead_mw + given, np.full(3 * T, -np.inf)])
    row_high = np.concatenate(
        [cars.arrival_kwh + most, day_ahead_mw + given, limit, plugged + given,
         problem.cap_mw - day_ahead_mw]
    )  # fmt: skip
    wear = problem.wear_usd_per_kwh[cars.vehicle]
    penalty = kwh * penalty_usd_per_kwh
    cost = np.concatenate(
        [np.zeros(K), wear, np.zeros(T), kwh * sign * price, np.full(2 * T, penalty)]
    )
    low = np.concatenate([cars.low_kwh, np.zeros(K + T + J + 2 * T)])
    high = np.concatenate(
        [np.full(K, problem.battery.soc_max_kwh), np.full(K, problem.discharge_step_kwh),
         np.full(T, np.inf if problem.allow_v2g else 0.0), width, np.full(2 * T, np.inf)]
    )  # fmt: skip
    answer = LP(matrix, cost, low, high, row_low, row_high).solve()
    if answer.status != "optimal":
        raise SolverError(f"{problem.label}, day {sample + 1}: HiGHS ended {answer.status}")
    x = answer.column
    trade = np.asarray(signed @ x[2 * K + T : 2 * K + T + J])
    beyond = float(x[2 * K + T + J :].sum())
    return Day(
        real_time_usd=dt * float(problem.price.payment(load + trade, trade).sum()),
        wear_usd=float(wear @ x[K : 2 * K]),
        penalty_usd=penalty * beyond,
        penalized_kwh=kwh * beyond,
        bound_usd=answer.value,
    )
