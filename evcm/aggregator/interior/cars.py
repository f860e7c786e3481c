"""All visits of a problem: as chains for the linear programs, and priced exactly for the bound.

Powers are counted in a unit of MW and money in a unit of USD (`Units`), so that a single car and a
fleet of thousands give numbers of the same size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evcm import compiled as nb
from evcm.aggregator import storage
from evcm.aggregator.interior.chains import JIT, Chains
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.storage import CYCLIC, EXACT, OPEN
from evcm.arrays import BoolArray, FloatArray, IntArray

SLACK_KWH = 1e-8
"""Width for what has none, a fixed charge or a charger at full power (the certificate allows 1e-3).

Ten times as much let plans of tiny problems cost less than the optimum by a millionth of turnover.
"""


@dataclass(frozen=True)
class Units:
    """MW of one unit of power, USD of one unit of money."""

    mw: float
    usd: float


def choose_units(problem: AggregatorProblem) -> Units:
    """Units in which the fleet has about 50 of power, and a unit costs about 10 a period."""
    mw = max(float(problem.plugged_mw.max()), 1e-6) / 50.0
    price = float(np.abs(problem.step_price_usd_per_kwh).mean()) * 1000.0 * problem.period_h
    return Units(mw, max(price, 1e-3) * mw / 10.0)


@dataclass(frozen=True, eq=False)
class Segments:
    """Visits, cut where (20) gives the charge; sorted by sample.

    `kind` tells how a segment ends: at `end_kwh` or above, exactly there, or where it started.
    `arrival_kwh` is the charge before the first period (of a ring: the departure charge). `cars`
    share it; `wear` is that of one of them (USD per MWh fed back).
    """

    vehicle: IntArray
    sample: IntArray
    start: IntArray
    length: IntArray
    arrival_kwh: FloatArray
    end_kwh: FloatArray
    kind: IntArray
    cars: FloatArray
    wear: FloatArray

    @property
    def size(self) -> int:
        """Number of segments."""
        return int(self.vehicle.size)


def cut_visits(problem: AggregatorProblem) -> Segments:
    """The segments of a problem."""
    v, T = problem.visits, problem.periods
    vehicle, sample = v.vehicle.astype(np.int64), v.sample.astype(np.int64)
    start, length = v.start.astype(np.int64), v.length.astype(np.int64)
    departure = problem.figures.departure_soc_kwh[vehicle]
    always = v.always_plugged
    arrival = np.where(always, departure, np.nan_to_num(v.arrival_soc_kwh))
    columns = [vehicle, sample, start, length, arrival, departure, np.where(always, CYCLIC, OPEN)]
    if problem.midnight_soc_kwh is not None:
        given = problem.midnight_soc_kwh[vehicle, sample]
        before = (-start) % T + 1  # periods up to and with the first of the day
        cut = before <= length
        rest = np.where(always, T, length - before)
        more = cut & (rest > 0) & ~always
        first = [
            vehicle, sample, np.where(cut & always, 1, start),
            np.where(cut, np.where(always, T, before), length),
            np.where(cut & always, given, arrival), np.where(cut, given, departure),
            np.where(cut, EXACT, columns[6]),
        ]  # fmt: skip
        second = [
            vehicle[more], sample[more], np.full(int(more.sum()), 1 % T), rest[more],
            given[more], departure[more], np.full(int(more.sum()), OPEN),
        ]  # fmt: skip
        columns = [np.concatenate([a, b]) for a, b in zip(first, second, strict=True)]
    order = np.lexsort((columns[2], columns[0], columns[1]))
    wear = 1000.0 * problem.wear_usd_per_kwh / problem.group_size
    columns += [problem.group_size[columns[0]], wear[columns[0]]]
    return Segments(*(c[order] for c in columns))


def make_chains(problem: AggregatorProblem, segments: Segments, units: Units) -> Chains:
    """One chain for each segment, in units."""
    g, k, dt = segments, problem.figures, problem.period_h
    size = g.cars / 1000.0 / units.mw
    offset = np.concatenate([[0], np.cumsum(g.length)]).astype(np.int64)
    of = np.repeat(np.arange(g.size), g.length)
    car, weight = g.vehicle[of], size[of]
    low, high = k.soc_min_kwh[car], k.soc_max_kwh[car]
    last = offset[1:] - 1
    open_end, exact = g.kind == OPEN, g.kind == EXACT
    low[last[open_end]] = np.maximum(low[last[open_end]], g.end_kwh[open_end])
    low[last[exact]] = g.end_kwh[exact] - SLACK_KWH
    high[last[exact]] = g.end_kwh[exact] + SLACK_KWH
    flat = high - low < 2 * SLACK_KWH  # no room for an interior
    low, high = low - SLACK_KWH * flat, high + SLACK_KWH * flat
    up, down = problem.charge_step_kwh, problem.discharge_step_kwh
    least = float(g.arrival_kwh.min(initial=np.inf))
    most = k.soc_max_kwh - np.minimum(k.soc_min_kwh, least)  # a period's change, at the most
    limited = bool((up < most).any() or (down < most).any())
    # Just wide enough for an interior where a charger must run at full power all the time.
    charge_max = up[car] * (1 + SLACK_KWH) + SLACK_KWH
    discharge_max = down[car] * (1 + SLACK_KWH) + SLACK_KWH
    none = np.zeros(1)
    return Chains(
        offset=offset,
        of_sample=np.searchsorted(g.sample, np.arange(problem.samples + 1)).astype(np.int64),
        first=np.ascontiguousarray(g.start),
        ring=g.kind == CYCLIC,
        low=low * weight,
        high=high * weight,
        charge_max=charge_max * weight if limited else none,
        discharge_max=discharge_max * weight if limited else none,
        arrival=g.arrival_kwh * size,
        wear=g.wear * problem.probability[g.sample] * units.mw / units.usd,
        up=1.0 / (dt * k.charge_efficiency[g.vehicle]),
        down=k.discharge_efficiency[g.vehicle] / dt,
        limited=limited,
    )


@nb.njit(**JIT)
def _price(  # pragma: no cover
    n: int, sample: IntArray, vehicle: IntArray, first: IntArray, length: IntArray,
    arrival: FloatArray, end: FloatArray, kind: IntArray, weight: FloatArray, wear: FloatArray,
    up: FloatArray, down: FloatArray, low: FloatArray, high: FloatArray, step_up: FloatArray,
    step_down: FloatArray, feeds: BoolArray, buy: FloatArray, sell: FloatArray, out: FloatArray,
    fed: FloatArray,
) -> None:  # fmt: skip
    """Least cost of a sample's segments at prices of A and B into out[n], kWh fed back into fed."""
    T = buy.shape[1]
    soc, p, q, b, s = np.empty(T), np.empty(T), np.empty(T), np.empty(T), np.empty(T)
    total = 0.0
    for i in range(sample[n], sample[n + 1]):
        v = vehicle[i]
        for j in range(length[i]):
            t = (first[i] + j) % T
            b[t] = up[v] * buy[n, t]
            # A car that only charges earns nothing by discharging.
            s[t] = down[v] * sell[n, t] if feeds[v] else min(b[t], 0.0) - 1e3 * abs(b[t]) - 1e3
        total += weight[i] * storage.walk(
            b, s, wear[i], first[i], length[i], arrival[i], end[i], kind[i],
            low[v], high[v], step_up[v], step_down[v], soc, p, q,
        )  # fmt: skip
        if fed.size:
            x = soc[length[i] - 1] if kind[i] == CYCLIC else arrival[i]
            fed[i] = 0.0
            for j in range(length[i]):
                fed[i] += max(x - soc[j], 0.0)
                x = soc[j]
    out[n] = total


class PricedVisits:
    """The cars' part of the Lagrangian: every visit solved exactly."""

    def __init__(self, problem: AggregatorProblem, segments: Segments, units: Units) -> None:
        g, k = segments, problem.figures
        self.samples = problem.samples
        self.args = (
            np.searchsorted(g.sample, np.arange(problem.samples + 1)).astype(np.int64),
            g.vehicle, g.start, g.length, g.arrival_kwh, g.end_kwh, g.kind,
            g.cars / 1000.0 / units.mw,
            g.wear * problem.probability[g.sample] * units.mw / units.usd,
            1.0 / (problem.period_h * k.charge_efficiency),
            k.discharge_efficiency / problem.period_h,
            k.soc_min_kwh, k.soc_max_kwh, problem.charge_step_kwh,
            problem.period_h * k.power_kw, k.feeds_in,
        )  # fmt: skip

    def least_cost(self, buy: FloatArray, sell: FloatArray) -> float:
        """Least cost of all cars at prices of A and of power fed back, (N, T) each."""
        return float(self._run(buy, sell, np.zeros(0)).sum())

    def fed_back(self, buy: FloatArray, sell: FloatArray) -> FloatArray:
        """Energy (kWh) that a car of each segment feeds back at these prices."""
        fed = np.zeros(self.args[1].size)
        self._run(buy, sell, fed)
        return fed

    def _run(self, buy: FloatArray, sell: FloatArray, fed: FloatArray) -> FloatArray:
        out = np.zeros(self.samples)
        for n in range(self.samples):
            _price(n, *self.args, buy, sell, out, fed)
        return out
