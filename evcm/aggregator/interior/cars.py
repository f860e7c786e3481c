"""All visits of a problem: as chains for the linear programs, and priced exactly for the bound.

Powers are counted in a unit of MW and money in a unit of USD (`Units`), so that a single car and a
fleet of thousands give numbers of the same size.
"""

from __future__ import annotations

from typing import NamedTuple

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


class Units(NamedTuple):
    """MW of one unit of power, USD of one unit of money."""

    mw: float
    usd: float


def choose_units(problem: AggregatorProblem) -> Units:
    """Units in which the fleet has about 50 of power, and a unit costs about 10 a period."""
    mw = max(float(problem.plugged_mw.max()), 1e-6) / 50.0
    price = float(np.abs(problem.step_price_usd_per_kwh).mean()) * 1000.0 * problem.period_h
    return Units(mw, max(price, 1e-3) * mw / 10.0)


class Families(NamedTuple):
    """Cars that share efficiencies, of those that feed back; all that only charge are one more.

    Where none feeds back, all are the first. `of` (V,) is each car's family, `charge` and
    `discharge` (K,) are efficiencies of those that feed back, and `adds` (families, 2, D) is what
    a unit of a family's A and B adds to each total (`program`).
    """

    of: IntArray
    charge: FloatArray
    discharge: FloatArray
    adds: FloatArray


def find_families(problem: AggregatorProblem) -> Families:
    """The families of a problem's cars."""
    k = problem.figures
    pairs = np.stack([k.charge_efficiency, k.discharge_efficiency], axis=1)
    pairs[~k.feeds_in] = pairs[np.argmax(k.feeds_in)]
    several, of = np.unique(pairs, axis=0, return_inverse=True)
    of, K = of.ravel(), len(several)
    if k.feeds_in.any():
        of[~k.feeds_in] = K
    # Under the limit of the plugs rows know A - B alone, and U where families have it.
    trade = np.eye(2) if problem.real_time_limit == "v2g" else np.array([[1.0], [-1.0]])
    plugs = np.zeros((int(of.max()) + 1, 2, K))
    plugs[np.arange(K), :, np.arange(K)] = np.stack([np.ones(K), 1.0 / several[:, 1]], axis=1)
    adds = np.stack([np.hstack([trade, u]) for u in plugs]) if len(plugs) > 1 else np.eye(2)[None]
    return Families(of, several[:, 0], several[:, 1], adds)


class Segments(NamedTuple):
    """Visits, cut where (20) gives the charge; sorted by sample.

    `kind` tells how a segment ends: at `end_kwh` or above, exactly there, or where it started.
    `arrival_kwh` is the charge before the first period (of a ring: the departure charge). `cars`
    share it; `wear` is that of one of them (USD per MWh fed back). What follows are figures of the
    car: range of charge, most that it charges and discharges in a period, kW at the plug for a kWh
    more and kW back for a kWh less (1 / (Δt η_chg) and η_dsg / Δt), whether it feeds back, and its
    family.
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
    low_kwh: FloatArray
    high_kwh: FloatArray
    charge_kwh: FloatArray
    discharge_kwh: FloatArray
    up: FloatArray
    down: FloatArray
    feeds: BoolArray
    family: IntArray

    @property
    def size(self) -> int:
        """Number of segments."""
        return int(self.vehicle.size)

    @property
    def first(self) -> IntArray:
        """Where entries of each segment begin, all entries one after another."""
        return np.asarray(np.cumsum(self.length) - self.length)

    def of_sample(self, samples: int) -> IntArray:
        """Where segments of each sample begin (N + 1)."""
        return np.searchsorted(self.sample, np.arange(samples + 1)).astype(np.int64)


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
    k, dt = problem.figures, problem.period_h
    of_car = (
        problem.group_size, 1000.0 * problem.wear_usd_per_kwh / problem.group_size,
        k.soc_min_kwh, k.soc_max_kwh, problem.charge_step_kwh, problem.discharge_step_kwh,
        1.0 / (dt * k.charge_efficiency), k.discharge_efficiency / dt, k.feeds_in,
        find_families(problem).of,
    )  # fmt: skip
    return Segments(*(c[order] for c in columns), *(f[columns[0][order]] for f in of_car))


def make_chains(problem: AggregatorProblem, g: Segments, units: Units) -> Chains:
    """One chain for each segment, in units."""
    size = g.cars / 1000.0 / units.mw
    offset = np.append(g.first, g.length.sum())
    of = np.repeat(np.arange(g.size), g.length)
    period = (g.start[of] + np.arange(of.size) - g.first[of]) % problem.periods
    at = (2 * (g.family[of] * problem.periods + period)).astype(np.int32)
    weight, low, high = size[of], g.low_kwh[of], g.high_kwh[of]
    last = offset[1:] - 1
    open_end, exact = g.kind == OPEN, g.kind == EXACT
    low[last[open_end]] = np.maximum(g.low_kwh, g.end_kwh)[open_end]
    low[last[exact]], high[last[exact]] = g.end_kwh[exact] - SLACK_KWH, g.end_kwh[exact] + SLACK_KWH
    flat = high - low < 2 * SLACK_KWH  # no room for an interior
    low, high = low - SLACK_KWH * flat, high + SLACK_KWH * flat
    least = np.minimum(g.low_kwh, g.arrival_kwh.min(initial=np.inf))
    limited = bool((np.minimum(g.charge_kwh, g.discharge_kwh) < g.high_kwh - least).any())
    # Just wide enough for an interior where a charger must run at full power all the time.
    most = ((m[of] * (1 + SLACK_KWH) + SLACK_KWH) * weight for m in (g.charge_kwh, g.discharge_kwh))
    charge_max, discharge_max = most if limited else (np.zeros(1), np.zeros(1))
    return Chains(
        offset, g.of_sample(problem.samples), at, g.kind == CYCLIC, low * weight, high * weight,
        charge_max, discharge_max, g.arrival_kwh * size,
        g.wear * problem.probability[g.sample] * units.mw / units.usd, g.up, g.down, limited,
        g.family, find_families(problem).adds,
    )  # fmt: skip


@nb.njit(**JIT)
def least_cost(
    of_sample: IntArray, g: Segments, weight: FloatArray, wear: FloatArray, buy: FloatArray,
    sell: FloatArray, fed: FloatArray,
) -> float:  # fmt: skip
    """Least cost of all segments at prices of A and of power fed back (families, N, T).

    Every segment is solved exactly; it counts `weight` times, with `wear` of its own. Energy (kWh)
    that a car of each feeds back goes into `fed`, where that has room.
    """
    T, all_samples = buy.shape[2], 0.0
    soc, b, s = np.empty(T), np.empty(T), np.empty(T)
    for n in range(buy.shape[1]):
        total = 0.0
        for i in range(of_sample[n], of_sample[n + 1]):
            f = g.family[i]
            for j in range(g.length[i]):
                t = (g.start[i] + j) % T
                b[t] = g.up[i] * buy[f, n, t]
                # A car that only charges earns nothing by discharging.
                s[t] = g.down[i] * sell[f, n, t] if g.feeds[i] else (
                    min(b[t], 0.0) - 1e3 * abs(b[t]) - 1e3
                )  # fmt: skip
            total += weight[i] * storage.walk(
                b, s, wear[i], g.start[i], g.length[i], g.arrival_kwh[i], g.end_kwh[i], g.kind[i],
                g.low_kwh[i], g.high_kwh[i], g.charge_kwh[i], g.discharge_kwh[i], soc,
            )  # fmt: skip
            if fed.size:
                x = soc[g.length[i] - 1] if g.kind[i] == CYCLIC else g.arrival_kwh[i]
                fed[i] = 0.0
                for j in range(g.length[i]):
                    fed[i] += max(x - soc[j], 0.0)
                    x = soc[j]
        all_samples += total
    return all_samples
