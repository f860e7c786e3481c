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

from evcm.compiled import njit

T = 48

# Purposes: the streams of one sample. A new purpose gets a new number; none is ever reused.
SPEED = 1
CAR = 2
WEAR = 3
REAL_TIME_SPEED = 4
REAL_TIME_DAY = 5
BUS_FLEET = 6

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FOLD = np.uint64(0xD1B54A32D192ED03)
_M1 = np.uint64(0xBF58476D1CE4E5B9)
_M2 = np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31 = np.uint64(27), np.uint64(30), np.uint64(31)
_S11, _S32 = np.uint64(11), np.uint64(32)
_LOW32 = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
_TO_UNIT = 1.0 / 9007199254740992.0  # 2 ** -53
_TWO_PI = 2.0 * math.pi

MAX_REDRAWS = 10_000


class LawNumbers(NamedTuple):
    """The scalars of a trip law, in the order in which Numba sees them."""

    departure_mean: float
    departure_sd: float
    departure_latest: int
    arrival_mean: float
    arrival_sd: float
    arrival_low: int
    arrival_high: int
    separation: int
    consumption_low: float
    consumption_high: float
    speed_low: float
    speed_high: float


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
def normal_pair(key, counter):
    """Two independent standard normal numbers (Box and Muller 1958), from two uniforms."""
    radius = math.sqrt(-2.0 * math.log(uniform(key, counter)))
    angle = _TWO_PI * uniform(key, counter + 1)
    return radius * math.cos(angle), radius * math.sin(angle)


@njit(cache=True, nogil=True)
def draw_speeds(key, mean_kmh, sd_kmh, low_kmh, high_kmh, speed_kmh):
    """Fill `speed_kmh` (T): one normal draw per period, clamped."""
    for t in range(speed_kmh.shape[0]):
        z, _ = normal_pair(key, 2 * t)
        speed_kmh[t] = min(max(mean_kmh[t] + sd_kmh[t] * z, low_kmh), high_kmh)


@njit(cache=True, nogil=True)
def draw_day(key, counter, law):
    """Departure and arrival period: normal, rounded to the nearest, clamped.

    They are drawn again together while fewer than ``law.separation`` periods apart, over the day
    or over the night. Returns (0, 0) if no admissible pair turns up in `MAX_REDRAWS` attempts.
    """
    for _ in range(MAX_REDRAWS):
        a, b = normal_pair(key, counter)
        counter += 2
        departure = np.int64(math.floor(law.departure_mean + law.departure_sd * a + 0.5))
        departure = min(max(departure, 1), law.departure_latest)
        arrival = np.int64(math.floor(law.arrival_mean + law.arrival_sd * b + 0.5))
        arrival = min(max(arrival, law.arrival_low), law.arrival_high)
        day = arrival - departure
        if law.separation <= day <= T - law.separation:
            return departure, arrival
    return np.int64(0), np.int64(0)


@njit(cache=True, nogil=True)
def draw_place(key, law, first):
    """From (array index), directed edge and specific consumption of a car.

    `first` (K+1) delimits each bus's run in the list of directed edges.
    """
    origin = below(key, 0, first.shape[0] - 1)
    edge = first[origin] + below(key, 1, first[origin + 1] - first[origin])
    low, high = law.consumption_low, law.consumption_high
    return origin, edge, low + (high - low) * uniform(key, 2)


@njit(cache=True, nogil=True)
def add_leg(start, step, distance_km, kwh_per_km, speed_kmh, period_h, energy_kwh, travelling):
    """Add one leg to `energy_kwh` (T) and `travelling` (T); return the periods it fills.

    A full period needs speed x hours x kWh/km; the last one needs the remainder.
    """
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
    seed, scenario, sample_from, sample_to, cars, law, first, edge_km, speed_mean, speed_sd,
    period_h, efficiency, total_kwh, energy_kwh, driving,
):  # fmt: skip
    """Draw samples `sample_from`..`sample_to`-1 and book every car's legs by period.

    Fills total_kwh (S), energy_kwh (S, T) and driving (S, T): car-legs on the road. Returns the
    number of cars for which no departure and arrival could be drawn.
    """
    speed = np.empty(T)
    failed = 0
    for s in range(sample_from, sample_to):
        draw_speeds(
            stream(seed, scenario, s, SPEED), speed_mean, speed_sd, law.speed_low, law.speed_high,
            speed,
        )  # fmt: skip
        key = stream(seed, scenario, s, CAR)
        total = 0.0
        for v in range(cars):
            car = fold(key, v)
            _, edge, consumption = draw_place(car, law, first)
            departure, arrival = draw_day(car, 3, law)
            if departure == 0:
                failed += 1
                continue
            km = edge_km[edge]
            kwh_per_km = consumption / efficiency
            add_leg(departure, 1, km, kwh_per_km, speed, period_h, energy_kwh[s], driving[s])
            add_leg(arrival, -1, km, kwh_per_km, speed, period_h, energy_kwh[s], driving[s])
            total += 2.0 * km * kwh_per_km
        total_kwh[s] = total
    return failed


@njit(cache=True, nogil=True)
def draw_cars(
    seed, scenario, sample, law, first, cost_mean, cost_sd, cost_low, cost_high,
    origin, edge, consumption, departure, arrival, cost,
):  # fmt: skip
    """Draw the cars of one sample again, in full: the arrays (V) are filled."""
    car_key = stream(seed, scenario, sample, CAR)
    wear_key = stream(seed, scenario, sample, WEAR)
    failed = 0
    for v in range(origin.shape[0]):
        car = fold(car_key, v)
        origin[v], edge[v], consumption[v] = draw_place(car, law, first)
        departure[v], arrival[v] = draw_day(car, 3, law)
        if departure[v] == 0:
            failed += 1
        z, _ = normal_pair(fold(wear_key, v), 0)
        cost[v] = min(max(cost_mean + cost_sd * z, cost_low), cost_high)
    return failed


@njit(cache=True, nogil=True)
def draw_real_time(
    seed, scenario, sample, v_from, v_to, law, speed_mean, speed_sd, departure, arrival, speed
):
    """Fill departure and arrival (V, N) for vehicles v_from..v_to-1, and speed (N, T)."""
    failed = 0
    speed_key = stream(seed, scenario, sample, REAL_TIME_SPEED)
    day_key = stream(seed, scenario, sample, REAL_TIME_DAY)
    for n in range(speed.shape[0]):
        draw_speeds(
            fold(speed_key, n), speed_mean, speed_sd, law.speed_low, law.speed_high, speed[n]
        )
        sample_key = fold(day_key, n)
        for v in range(v_from, v_to):
            departure[v, n], arrival[v, n] = draw_day(fold(sample_key, v), 0, law)
            if departure[v, n] == 0:
                failed += 1
    return failed


@njit(cache=True, nogil=True)
def fill_trips(
    v_from, v_to, departure, arrival, distance_km, kwh_per_km, speed_kmh, period_h,
    energy_kwh, travelling, work_first, work_last,
):  # fmt: skip
    """Book both legs of vehicles v_from..v_to-1 on every day n.

    departure, arrival (V, N); speed_kmh (N, T); energy_kwh and travelling (T, V, N) are filled, and
    the first and last period at the destination, work_first and work_last (V, N), in the
    departure's day count (they may exceed 48; work_last < work_first: the legs leave no visit).
    """
    days = departure.shape[1]
    for v in range(v_from, v_to):
        km, need = distance_km[v], kwh_per_km[v]
        for n in range(days):
            begin, end = departure[v, n], arrival[v, n]
            out = add_leg(
                begin, 1, km, need, speed_kmh[n], period_h, energy_kwh[:, v, n], travelling[:, v, n]
            )
            back = add_leg(
                end, -1, km, need, speed_kmh[n], period_h, energy_kwh[:, v, n], travelling[:, v, n]
            )
            work_first[v, n] = begin + out
            work_last[v, n] = end - back


@njit(cache=True, nogil=True)
def recharge(start, stop, energy_kwh, limit_kw, period_h, efficiency, grid_kw):
    """Recharge `energy_kwh` at once from period `start` on, at most up to period `stop`.

    Adds the mean grid power of each period to grid_kw (T, cyclic); returns the energy (kWh at the
    battery) that the stay was too short for.
    """
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
    limit_kw, period_h, efficiency, grid_kw,
):  # fmt: skip
    """Fill grid_kw (K, T) for one day of cars that recharge each leg at once.

    All vehicle arrays are (V). Returns the unserved energy in kWh.
    """
    unserved = 0.0
    own = np.zeros(T)
    for v in range(departure.shape[0]):
        at_home = leg_kwh[v]
        if work_last[v] >= work_first[v]:
            own[:] = 0.0
            unserved += weight[v] * recharge(
                work_first[v], work_last[v], leg_kwh[v], limit_kw, period_h, efficiency, own
            )
            for t in range(T):
                grid_kw[destination[v], t] += weight[v] * own[t]
        else:
            at_home += leg_kwh[v]  # no visit between the legs: both are recharged at home
        own[:] = 0.0
        unserved += weight[v] * recharge(
            arrival[v] + home_shift, departure[v] + T - 1, at_home, limit_kw, period_h, efficiency,
            own,
        )  # fmt: skip
        for t in range(T):
            grid_kw[origin[v], t] += weight[v] * own[t]
    return unserved
