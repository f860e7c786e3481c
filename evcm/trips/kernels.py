# mypy: disable-error-code="no-untyped-def, arg-type"
"""Numba kernels of the trip simulation. They fill arrays; `evcm.trips.legs` and others wrap them.

Randomness is counter-based: a 64-bit key is folded from (seed, scenario, sample, purpose, ...) with
the finaliser of splitmix64, and draw j of a key is the finaliser of key + (j + 1) times the golden
ratio constant (Steele, Lea, Flood 2014, doi 10.1145/2714064.2660195). A draw depends on its key and
counter alone, so that any part of a simulation can be drawn again by itself, in any order and on
any number of threads, with the same bits.

Every kernel also runs as plain Python through ``.py_func``; wrap such calls in
``numpy.errstate(over="ignore")``, because 64-bit overflow is meant here.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from evcm.arrays import FloatArray, IntArray
from evcm.compiled import njit

# Purposes: the streams of one sample. A new purpose gets a new number; none is ever reused.
SPEED = 1
CAR = 2
WEAR = 3
REAL_TIME_SPEED = 4
REAL_TIME_DAY = 5
BUS_FLEET = 6
CLASS = 7
STAYS_HOME = 8
DAY = 9
CAR_LIST = 10

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(0xD1B54A32D192ED03)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_S11, _S32 = np.uint64(11), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_TO_UNIT = 1.0 / 9007199254740992.0  # 2 ** -53
_TO_LOW_UNIT = 1.0 / 4294967296.0  # 2 ** -32
_TWO_PI = 2.0 * math.pi

MAX_REDRAWS = 10_000


class LawNumbers(NamedTuple):
    """The figures of the laws of all days (D), in periods of the horizon, as Numba sees them.

    `periods` is T, `separation` in periods. Speeds are by period, (T).
    """

    departure_mean: FloatArray
    departure_sd: FloatArray
    departure_first: IntArray
    departure_latest: IntArray
    arrival_mean: FloatArray
    arrival_sd: FloatArray
    arrival_low: IntArray
    arrival_high: IntArray
    separation: IntArray
    driving_share: FloatArray
    consumption_low: float
    consumption_high: float
    speed_mean: FloatArray
    speed_sd: FloatArray
    speed_low: FloatArray
    speed_high: FloatArray
    periods: int


class FleetNumbers(NamedTuple):
    """Where cars live and drive, and their classes, as Numba sees them.

    `home_below` (K) is the cumulated share of cars by bus, `first` (K + 1) delimits each bus's
    edges, `edge_km` (E) are trip lengths; `class_below`, `efficiency` and the clamped normal law of
    the storage cost are by class (C).
    """

    home_below: FloatArray
    first: IntArray
    edge_km: FloatArray
    class_below: FloatArray
    efficiency: FloatArray
    cost_mean: FloatArray
    cost_sd: FloatArray
    cost_low: FloatArray
    cost_high: FloatArray


@njit(cache=True, nogil=True)
def mix(z):
    """Finaliser of splitmix64: a bijection of 64-bit words that spreads every bit."""
    z = (z ^ (z >> _S30)) * _M1
    z = (z ^ (z >> _S27)) * _M2
    return z ^ (z >> _S31)


@njit(cache=True, nogil=True)
def fold(key, word):
    """Key of a sub-stream: `word` (any integer) folded into `key`.

    Key and word enter differently (one mixed, one multiplied), so that equal numbers, such as a
    seed and a scenario of 1, do not cancel.
    """
    return mix(mix(np.uint64(key) + _FOLD) ^ (np.uint64(word) * _FOLD + _GOLDEN))


@njit(cache=True, nogil=True)
def stream(seed, scenario, sample, purpose):
    """Key of one purpose of one sample."""
    return fold(fold(fold(mix(np.uint64(seed) + _GOLDEN), scenario), sample), purpose)


@njit(cache=True, nogil=True)
def word(key, counter):
    """Random 64-bit word number `counter` of a stream."""
    return mix(np.uint64(key) + (np.uint64(counter) + _ONE) * _GOLDEN)


@njit(cache=True, nogil=True)
def uniform(key, counter):
    """Uniform number in (0, 1): never 0, so that its logarithm exists."""
    return (np.float64(word(key, counter) >> _S11) + 0.5) * _TO_UNIT


@njit(cache=True, nogil=True)
def below(key, counter, n):
    """Uniform integer in 0..n-1 (n far below 2**32: the bias of the multiply-shift is < 1e-8)."""
    return np.int64(((word(key, counter) & _LOW32) * np.uint64(n)) >> _S32)


@njit(cache=True, nogil=True)
def choose(key, counter, cumulated):
    """Index drawn with the given cumulated shares, the last of which is 1."""
    if cumulated.shape[0] == 1:
        return np.int64(0)
    u = np.float64(word(key, counter) & _LOW32) * _TO_LOW_UNIT
    return np.int64(min(np.searchsorted(cumulated, u, side="right"), cumulated.shape[0] - 1))


@njit(cache=True, nogil=True)
def normal_pair(key, counter):
    """Two independent standard normal numbers (Box and Muller 1958), from two uniforms."""
    radius = math.sqrt(-2.0 * math.log(uniform(key, counter)))
    angle = _TWO_PI * uniform(key, counter + 1)
    return radius * math.cos(angle), radius * math.sin(angle)


@njit(cache=True, nogil=True)
def draw_speeds(key, law, speed_kmh):
    """Fill `speed_kmh` (T): one normal draw per period, clamped."""
    for t in range(speed_kmh.shape[0]):
        z, _ = normal_pair(key, 2 * t)
        speed = law.speed_mean[t] + law.speed_sd[t] * z
        speed_kmh[t] = min(max(speed, law.speed_low[t]), law.speed_high[t])


@njit(cache=True, nogil=True)
def draw_days(key, counter, law, departure, arrival):
    """Fill departure and arrival (D), the periods of each day's trip; 0 where a car stays at home.

    Both are normal, rounded to the nearest period, clamped, and drawn again together while they
    are fewer than the law's separation apart, or too close to the trip before, or to the first one
    through the end of the horizon. Returns whether such periods were found.
    """
    begun, back = np.int64(0), np.int64(0)
    for d in range(departure.shape[0]):
        departure[d], arrival[d] = 0, 0
        if law.driving_share[d] < uniform(fold(fold(key, STAYS_HOME), d), 0):
            continue
        own = key if d == 0 else fold(fold(key, DAY), d)
        at = counter if d == 0 else 0
        apart = law.separation[d]
        for _ in range(MAX_REDRAWS):
            a, b = normal_pair(own, at)
            at += 2
            go = np.int64(math.floor(law.departure_mean[d] + law.departure_sd[d] * a + 0.5))
            go = min(max(go, law.departure_first[d]), law.departure_latest[d])
            end = np.int64(math.floor(law.arrival_mean[d] + law.arrival_sd[d] * b + 0.5))
            end = min(max(end, law.arrival_low[d]), law.arrival_high[d])
            first = go if begun == 0 else begun
            if (
                end - go >= apart
                and (back == 0 or go - back >= apart)
                and first + law.periods - end >= apart
            ):
                departure[d], arrival[d], begun, back = go, end, first, end
                break
        if departure[d] == 0:
            return False
    return True


@njit(cache=True, nogil=True)
def draw_place(key, law, fleet):
    """From (array index), directed edge and specific consumption of a car."""
    origin = choose(key, 0, fleet.home_below)
    edges = fleet.first[origin + 1] - fleet.first[origin]
    edge = fleet.first[origin] + below(key, 1, edges)
    low, high = law.consumption_low, law.consumption_high
    return origin, edge, low + (high - low) * uniform(key, 2)


@njit(cache=True, nogil=True)
def add_leg(start, step, distance_km, kwh_per_km, speed_kmh, period_h, energy_kwh, travelling):
    """Add one leg to `energy_kwh` (T) and `travelling` (T); return the periods it fills.

    A full period needs speed x hours x kWh/km; the last one needs the remainder.
    """
    T = speed_kmh.shape[0]
    left = distance_km
    t = start
    n = 0
    while True:
        i = (t - 1) % T
        n += 1
        reach = speed_kmh[i] * period_h
        travelling[i] += 1
        if left <= reach or n == T:
            energy_kwh[i] += left * kwh_per_km
            return n
        energy_kwh[i] += reach * kwh_per_km
        left -= reach
        t += step


@njit(cache=True, nogil=True)
def simulate_samples(
    seed, scenario, sample_from, sample_to, cars, law, fleet, period_h, total_kwh, energy_kwh,
    driving,
):  # fmt: skip
    """Draw samples `sample_from`..`sample_to`-1 and book every car's legs by period.

    Fills total_kwh (S), energy_kwh (S, T) and driving (S, T): car-legs on the road. Returns the
    number of cars for which no departure and arrival could be drawn.
    """
    speed = np.empty(law.periods)
    days = law.departure_mean.shape[0]
    departure, arrival = np.empty(days, np.int64), np.empty(days, np.int64)
    failed = 0
    for s in range(sample_from, sample_to):
        draw_speeds(stream(seed, scenario, s, SPEED), law, speed)
        key = stream(seed, scenario, s, CAR)
        kinds = stream(seed, scenario, s, CLASS)
        total = 0.0
        for v in range(cars):
            car = fold(key, v)
            _, edge, consumption = draw_place(car, law, fleet)
            if not draw_days(car, 3, law, departure, arrival):
                failed += 1
                continue
            km = fleet.edge_km[edge]
            kwh_per_km = (
                consumption / fleet.efficiency[choose(fold(kinds, v), 0, fleet.class_below)]
            )
            for d in range(days):
                if departure[d] == 0:
                    continue
                add_leg(departure[d], 1, km, kwh_per_km, speed, period_h, energy_kwh[s], driving[s])
                add_leg(arrival[d], -1, km, kwh_per_km, speed, period_h, energy_kwh[s], driving[s])
                total += 2.0 * km * kwh_per_km
        total_kwh[s] = total
    return failed


@njit(cache=True, nogil=True)
def draw_cars(
    seed, scenario, sample, law, fleet, origin, edge, consumption, departure, arrival, cost, kind
):
    """Draw the cars of one sample again, in full: vectors (V), departure and arrival (V, D)."""
    car_key = stream(seed, scenario, sample, CAR)
    wear_key = stream(seed, scenario, sample, WEAR)
    kinds = stream(seed, scenario, sample, CLASS)
    failed = 0
    for v in range(origin.shape[0]):
        car = fold(car_key, v)
        origin[v], edge[v], consumption[v] = draw_place(car, law, fleet)
        if not draw_days(car, 3, law, departure[v], arrival[v]):
            failed += 1
        c = choose(fold(kinds, v), 0, fleet.class_below)
        z, _ = normal_pair(fold(wear_key, v), 0)
        price = fleet.cost_mean[c] + fleet.cost_sd[c] * z
        cost[v], kind[v] = min(max(price, fleet.cost_low[c]), fleet.cost_high[c]), c
    return failed


@njit(cache=True, nogil=True)
def draw_real_time(seed, scenario, sample, v_from, v_to, law, departure, arrival, speed):
    """Fill departure and arrival (V, N, D) for vehicles v_from..v_to-1, and speed (N, T)."""
    failed = 0
    speed_key = stream(seed, scenario, sample, REAL_TIME_SPEED)
    day_key = stream(seed, scenario, sample, REAL_TIME_DAY)
    for n in range(speed.shape[0]):
        draw_speeds(fold(speed_key, n), law, speed[n])
        sample_key = fold(day_key, n)
        for v in range(v_from, v_to):
            if not draw_days(fold(sample_key, v), 0, law, departure[v, n], arrival[v, n]):
                failed += 1
    return failed


@njit(cache=True, nogil=True)
def fill_trips(
    v_from, v_to, departure, arrival, distance_km, kwh_per_km, speed_kmh, period_h,
    energy_kwh, travelling, work_first, work_last,
):  # fmt: skip
    """Book both legs of vehicles v_from..v_to-1 on every day of every sample.

    departure, arrival (V, N, D); speed_kmh (N, T); energy_kwh and travelling (T, V, N) are filled,
    and the first and last period at the destination, work_first and work_last (V, N, D), in the
    departure's count (they may exceed T; work_last < work_first: the legs leave no visit).
    """
    for v in range(v_from, v_to):
        km, need = distance_km[v], kwh_per_km[v]
        for n in range(departure.shape[1]):
            for d in range(departure.shape[2]):
                begin, end = departure[v, n, d], arrival[v, n, d]
                if begin == 0:
                    work_first[v, n, d], work_last[v, n, d] = 0, -1
                    continue
                out = add_leg(
                    begin, 1, km, need, speed_kmh[n], period_h, energy_kwh[:, v, n],
                    travelling[:, v, n],
                )  # fmt: skip
                back = add_leg(
                    end, -1, km, need, speed_kmh[n], period_h, energy_kwh[:, v, n],
                    travelling[:, v, n],
                )  # fmt: skip
                work_first[v, n, d] = begin + out
                work_last[v, n, d] = end - back


@njit(cache=True, nogil=True)
def recharge(start, stop, energy_kwh, limit_kw, period_h, efficiency, grid_kw):
    """Recharge `energy_kwh` at once from period `start` on, at most up to period `stop`.

    Adds the mean grid power of each period to grid_kw (T, cyclic); returns the energy (kWh at the
    battery) that the stay was too short for.
    """
    T = grid_kw.shape[0]
    left = energy_kwh
    for t in range(start, stop + 1):
        if left <= 0.0:
            break
        kwh = min(left, limit_kw * period_h * efficiency)
        grid_kw[(t - 1) % T] += kwh / (period_h * efficiency)
        left -= kwh
    return max(left, 0.0)


@njit(cache=True, nogil=True)
def uncontrolled(
    departure, arrival, work_first, work_last, origin, destination, leg_kwh, weight, home_shift,
    limit_kw, period_h, efficiency, grid_kw, unserved_kwh,
):  # fmt: skip
    """Fill grid_kw (K, T) for one sample of cars that recharge each leg at once.

    Vehicle arrays are (V), those of trips (V, D); a negative destination is none: the whole
    `leg_kwh` is then recharged at From. Adds unserved energy to unserved_kwh (K) by From.
    """
    T = grid_kw.shape[1]
    days = departure.shape[1]
    own = np.zeros(T)
    for v in range(departure.shape[0]):
        for d in range(days):
            if departure[v, d] == 0:
                continue
            at_home = leg_kwh[v]
            if destination[v] >= 0 and work_last[v, d] >= work_first[v, d]:
                own[:] = 0.0
                unserved_kwh[origin[v]] += weight[v] * recharge(
                    work_first[v, d], work_last[v, d], leg_kwh[v], limit_kw[v], period_h,
                    efficiency[v], own,
                )  # fmt: skip
                for t in range(T):
                    grid_kw[destination[v], t] += weight[v] * own[t]
            elif destination[v] >= 0:
                at_home += leg_kwh[v]  # no visit between the legs: both are recharged at home
            ahead = d + 1
            while departure[v, ahead % days] == 0:
                ahead += 1
            until = departure[v, ahead % days] + (T if ahead >= days else 0)
            own[:] = 0.0
            unserved_kwh[origin[v]] += weight[v] * recharge(
                arrival[v, d] + home_shift, until - 1, at_home, limit_kw[v], period_h,
                efficiency[v], own,
            )  # fmt: skip
            for t in range(T):
                grid_kw[origin[v], t] += weight[v] * own[t]
