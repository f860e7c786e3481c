"""The cars and their totals as one sparse LP, two columns and one row per car plugged in.

For a car plugged in during period t, x is its charge at the end of the period and g the energy
that it discharges (kWh). What it charges is then c = x - x_prev + g, one ranged row
0 <= c <= Δt η P_max, and since a car never gains from charging and discharging at once, g is its
wear: a cost, no extra variable. Charging and discharging at once does help to satisfy (10). It
changes no battery, so one column W for each period and sample stands for all cars.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evcm.aggregator.market import Steps, find_steps, lower_envelope
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Schedules:
    """Schedules of a plan, and by how much the power of the plugs is exceeded (MW, <= 0: fits)."""

    day_ahead_mw: FloatArray
    surplus_mw: FloatArray
    deficit_mw: FloatArray
    charge_kw: FloatArray
    discharge_kw: FloatArray
    soc_kwh: FloatArray
    excess_mw: float


def recover_schedules(lp: VehicleLP, z: FloatArray) -> Schedules:
    """Schedules that balance exactly.

    Each car's net change of charge becomes charging or discharging. What the LP charges and
    discharges at once, in W or in one car, is spread over the plugged-in cars in proportion to the
    charger power that they have left. Totals, day-ahead power and real-time trade follow by
    definition, so rounding in the LP's rows does not reach them.
    """
    problem, k, m = lp.problem, lp.plugged, lp.entries
    T, V, N = problem.available.shape
    charger, dt = problem.charger, problem.period_h
    eta_c, eta_d = charger.charge_efficiency, charger.discharge_efficiency
    soc = np.clip(z[:m], k.soc_low, k.soc_high)
    before = np.where(k.previous < 0, k.arrival_kwh, soc[k.previous])
    net = soc - before
    charge, discharge = np.maximum(net, 0) / (dt * eta_c), np.maximum(-net, 0) / dt
    cell = k.period * N + k.sample
    size = problem.group_size[k.vehicle]
    # Energy that the LP charges into and takes from one battery within the period.
    both = np.minimum(z[m : 2 * m], np.maximum(net + z[m : 2 * m], 0.0))
    both = np.where(both > 1e-7, both, 0.0)
    w_kw = 1000.0 * np.maximum(z[lp.first_w : lp.first_e], 0.0)
    w_kw = w_kw + np.bincount(cell, size * both / (dt * eta_c), T * N)
    left = np.maximum(charger.power_kw - charge - discharge, 0.0)
    spare = np.bincount(cell, size * left, T * N)
    need = (1 + eta_c) * w_kw
    excess = float((need - spare).max(initial=0.0)) / 1000.0
    share = np.minimum(1.0, need / np.maximum(spare, 1e-12))[cell] * left / (1 + eta_c)
    charge, discharge = charge + share, discharge + eta_c * share

    def spread(values: FloatArray) -> FloatArray:
        out = np.zeros((T, V, N))
        out[k.period, k.vehicle, k.sample] = values
        return out

    traded = np.bincount(cell, size * (charge - eta_d * discharge), T * N).reshape(T, N) / 1000.0
    power = traded @ problem.probability
    trade = traded - power[:, None]
    return Schedules(
        power, np.maximum(-trade, 0.0), np.maximum(trade, 0.0),
        spread(charge), spread(discharge), spread(soc), excess,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Plugged:
    """Every (period, car, sample) in which a car is plugged in, visit by visit (m entries).

    `previous` is the entry of the period before, or -1 in the first period of a visit, where
    `arrival_kwh` stands instead (0 elsewhere). Bounds of the charge x, and of the discharge g.
    """

    period: IntArray
    vehicle: IntArray
    sample: IntArray
    previous: IntArray
    arrival_kwh: FloatArray
    soc_low: FloatArray
    soc_high: FloatArray
    discharge_high: FloatArray

    def __len__(self) -> int:
        return int(self.period.size)


def list_plugged(problem: AggregatorProblem) -> Plugged:
    """Entries of all visits, with the tightest simple bounds."""
    v, battery = problem.visits, problem.battery
    length = v.length.astype(np.int64)
    visit = np.repeat(np.arange(len(v)), length)
    first = np.r_[0, np.cumsum(length)[:-1]].astype(np.int64)
    at = np.arange(visit.size) - first[visit]
    period = (v.start[visit] + at) % problem.periods
    always = v.always_plugged[visit]
    begins, ends = (at == 0) & ~always, (at == length[visit] - 1) & ~always
    previous = np.where(at == 0, np.where(always, first[visit] + length[visit] - 1, -1), 0)
    previous = np.where(at > 0, np.arange(visit.size) - 1, previous)
    arrival = np.where(begins, np.nan_to_num(v.arrival_soc_kwh)[visit], 0.0)
    low = np.asarray(np.where(ends, battery.departure_soc_kwh, battery.soc_min_kwh), float)
    high = np.full(visit.size, battery.soc_max_kwh)
    if problem.midnight_soc_kwh is not None:
        given = problem.midnight_soc_kwh[v.vehicle[visit], v.sample[visit]]
        low = np.where(period == 0, np.maximum(low, given), low)
        high = np.where(period == 0, given, high)
    before: FloatArray = np.where(begins, arrival, battery.soc_max_kwh)
    most: FloatArray = np.clip(before - low, 0.0, problem.discharge_step_kwh[0])
    return Plugged(
        period, v.vehicle[visit].astype(np.int64), v.sample[visit].astype(np.int64),
        previous, arrival, low, high, most,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class VehicleLP:
    """min c'z, row_low <= A z <= row_high, low <= z <= high, over cars and totals.

    Columns: x (m), g (m), W (TN), E (TN), P (T), then the pieces of the envelope of the day-ahead
    cost. Rows: cars (m), totals (TN), real-time limit above and below (TN each), mean (T), power of
    the plugs (TN, only where it can bind), envelope (T).
    """

    problem: AggregatorProblem
    plugged: Plugged
    steps: Steps
    matrix: sparse.csc_matrix
    cost: FloatArray
    low: FloatArray
    high: FloatArray
    row_low: FloatArray
    row_high: FloatArray
    start_cost: FloatArray
    piece_period: IntArray
    market_rows: int

    @property
    def entries(self) -> int:
        """m, cars plugged in, over periods and samples."""
        return len(self.plugged)

    @property
    def first_w(self) -> int:
        """First column of W."""
        return 2 * self.entries

    @property
    def first_e(self) -> int:
        """First column of E."""
        return 2 * self.entries + self.problem.periods * self.problem.samples

    @property
    def first_p(self) -> int:
        """First column of P."""
        return self.first_e + self.problem.periods * self.problem.samples

    @property
    def first_piece(self) -> int:
        """First column of the envelope's pieces."""
        return self.first_p + self.problem.periods

    def power(self, z: FloatArray) -> FloatArray:
        """P (T,) of a solution."""
        return z[self.first_p : self.first_piece]

    def traded(self, z: FloatArray) -> FloatArray:
        """E (T, N) of a solution."""
        return z[self.first_e : self.first_p].reshape(self.problem.periods, self.problem.samples)

    @cached_property
    def transposed(self) -> sparse.csr_matrix:
        """A' without the envelope's rows and columns, for the safe bound."""
        return sparse.csr_matrix(self.matrix[: self.market_rows, : self.first_piece].T)


class _Rows:
    """Collects matrix entries."""

    def __init__(self) -> None:
        self.row: list[NDArray[np.int64]] = []
        self.column: list[NDArray[np.int64]] = []
        self.value: list[FloatArray] = []

    def add(self, row: IntArray, column: IntArray, value: FloatArray | float) -> None:
        row, column, value = np.broadcast_arrays(row, column, value)
        self.row.append(row.ravel())
        self.column.append(column.ravel())
        self.value.append(value.ravel())

    def matrix(self, shape: tuple[int, int]) -> sparse.csc_matrix:
        where = (np.concatenate(self.row), np.concatenate(self.column))
        matrix = sparse.csc_matrix((np.concatenate(self.value), where), shape=shape)
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return matrix


def build_vehicle_lp(
    problem: AggregatorProblem, cap_mw: FloatArray, power_rows: bool | None = None
) -> VehicleLP | None:
    """The LP with caps `cap_mw` (T,) on E; None where no power keeps to a cap.

    `power_rows` adds one row per period and sample that keeps all charging and discharging within
    the power of the plugs; by default where a charger can bind within one period.
    """
    k = list_plugged(problem)
    T, N, m = problem.periods, problem.samples, len(k)
    TN, battery, dt = T * N, problem.battery, problem.period_h
    eta_c, eta_d = problem.charger.charge_efficiency, problem.charger.discharge_efficiency
    size = problem.group_size[k.vehicle] / 1000.0
    up, down = size / (dt * eta_c), size * eta_d / dt  # MW per kWh charged, discharged
    cell = k.period * N + k.sample
    plugged_mw = problem.plugged_mw.ravel()
    v2g = problem.allow_v2g
    w_high = plugged_mw / (1 + eta_c) if v2g else np.zeros(TN)

    def total(values: FloatArray) -> FloatArray:
        return np.asarray(np.bincount(cell, values, TN), float)

    least_before = np.where(k.previous < 0, k.arrival_kwh, battery.soc_min_kwh)
    most = np.clip(k.soc_high - least_before, 0.0, problem.charge_step_kwh[0])
    e_low = -total(down * k.discharge_high).reshape(T, N)
    e_low = np.maximum(e_low, problem.floor_mw[:, None])
    e_high = (total(up * most) + (1 - eta_c * eta_d) * w_high).reshape(T, N)
    e_high = np.minimum(e_high, cap_mw[:, None])
    p_range = e_low @ problem.probability, e_high @ problem.probability
    steps = find_steps(problem, p_range, (e_low, e_high))
    if not steps.open:
        return None

    e0, p0 = 2 * m + TN, 2 * m + 2 * TN
    rows, entry, cells, times = _Rows(), np.arange(m), np.arange(TN), np.arange(T)
    inside = k.previous >= 0
    rows.add(entry, entry, 1.0)
    rows.add(entry[inside], k.previous[inside], -1.0)
    rows.add(entry, m + entry, 1.0)
    # E - Σ n_v (c / (Δt η) - η g / Δt) / 1000 - (1 - η²) W = 0
    at = m
    rows.add(at + cells, e0 + cells, 1.0)
    rows.add(at + cell, entry, -up)
    rows.add((at + cell)[inside], k.previous[inside], up[inside])
    rows.add(at + cell, m + entry, down - up)
    rows.add(at + cells, 2 * m + cells, -(1 - eta_c * eta_d))
    totals = -total(up * k.arrival_kwh)
    low, high = [k.arrival_kwh, totals], [k.arrival_kwh + problem.charge_step_kwh[0], totals]
    at += TN
    # -limit <= E - P <= limit, the limit V2G (10) or the power of the plugs
    limit = np.zeros(TN) if problem.real_time_limit == "v2g" else plugged_mw
    for sign in (-1.0, 1.0):
        rows.add(at + cells, e0 + cells, 1.0)
        rows.add(at + cells, p0 + cells // N, -1.0)
        if problem.real_time_limit == "v2g":
            rows.add(at + cell, m + entry, sign * down)
            rows.add(at + cells, 2 * m + cells, sign * eta_c * eta_d)
        low.append(np.full(TN, -np.inf) if sign < 0 else -limit)
        high.append(limit if sign < 0 else np.full(TN, np.inf))
        at += TN
    rows.add(at + cells // N, e0 + cells, problem.probability[cells % N])
    rows.add(at + times, p0 + times, -1.0)
    low.append(np.zeros(T))
    high.append(np.zeros(T))
    at += T
    if power_rows is None:
        power_rows = bool(
            problem.charge_step_kwh[0] < battery.soc_max_kwh - battery.soc_min_kwh and v2g
        )
    if power_rows:
        rows.add(at + cell, entry, up)
        rows.add((at + cell)[inside], k.previous[inside], -up[inside])
        rows.add(at + cell, m + entry, up + size / dt)
        rows.add(at + cells, 2 * m + cells, 1 + eta_c)
        low.append(np.full(TN, -np.inf))
        high.append(plugged_mw + total(up * k.arrival_kwh))
        at += TN
    market_rows = at
    width, slope, owner, start, start_cost = _envelopes(steps)
    piece0 = p0 + T
    rows.add(at + times, p0 + times, 1.0)
    rows.add(at + owner, piece0 + np.arange(owner.size), -1.0)
    low.append(start)
    high.append(start)
    wear = problem.wear_usd_per_kwh[k.vehicle] * problem.probability[k.sample]
    return VehicleLP(
        problem, k, steps, rows.matrix((at + T, piece0 + owner.size)),
        np.concatenate([np.zeros(m), wear, np.zeros(2 * TN + T), slope]),
        np.concatenate([
            k.soc_low, np.zeros(m + TN), e_low.ravel(), p_range[0], np.zeros(owner.size)
        ]),
        np.concatenate([
            k.soc_high, k.discharge_high, w_high, e_high.ravel(), p_range[1], width
        ]),
        np.concatenate(low), np.concatenate(high), start_cost, owner, market_rows,
    )  # fmt: skip


def _envelopes(
    steps: Steps,
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray, FloatArray]:
    """Pieces of all envelopes: widths, slopes, periods; lowest P of each period; its cost."""
    width, slope, owner, start = [], [], [], []
    for t in range(steps.day_ahead.shape[0]):
        points = lower_envelope(steps, t)
        run = np.diff(points[:, 0])
        width.append(run)
        slope.append(np.diff(points[:, 1]) / run)
        owner.append(np.full(run.size, t))
        start.append(points[0])
    return (
        np.concatenate(width), np.concatenate(slope), np.concatenate(owner),
        np.array(start)[:, 0], np.array(start)[:, 1],
    )  # fmt: skip
