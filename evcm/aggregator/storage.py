"""Numba kernels: the storage problem of one visit, exact, for given energy values.

During a visit a car moves its state of charge between `low` and `high`, from its arrival
level to at least its departure level. Charging one battery kWh in period t costs `buy[t]`,
discharging one earns `sell[t]` less wear, and ``buy >= sell`` (or charging and discharging at once
would be free money; the search keeps prices where this holds).

The cost-to-go is convex and piecewise linear. Going one period back merges two segments,
``(-buy, charge limit)`` and ``(-sell, discharge limit)``, into the list of segments sorted by
slope, and cuts the list to the range. Where the charger never binds (one period can move the car
across its whole range; the paper's 150 kW and half-hours do) all other segments are cut off, and
the path stays on four levels: arrival, minimum, departure, maximum. With a small charger kinks
multiply, and the cost grows with the square of the visit's length.

*Car that never leaves* (a visit without arrival or departure): the day is cyclic. Its cost is a
convex function of the level at midnight, and a golden-section search finds that to 1e-9 kWh.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from evcm.compiled import njit

OPEN, EXACT, CYCLIC = 0, 1, 2
"""How a visit ends: at `end` or above, exactly there, or where it started (no arrival)."""

_GOLDEN = 0.6180339887498949


@njit(cache=True, nogil=True)
def walk_from(
    buy: Any, sell: Any, wear: float, first: int, length: int, start: float, end: float,
    kind: int, low: float, high: float, up: float, down: float, soc: Any,
) -> float:  # fmt: skip
    """Best path of one visit from a level `start`; fills `soc`, returns its cost.

    `buy`, `sell` are indexed by period of the day (cyclic); `soc[i]` is the level at the end of the
    i-th period of the visit. At most `up` kWh are charged and `down` kWh discharged in a period.
    Infinite when the visit cannot end as it must.
    """
    T = buy.shape[0]
    room = 2 * length + 2
    size, slope = np.empty((length, room)), np.empty((length, room))
    count = np.zeros(length, np.int64)
    left = np.empty(length)
    last = length - 1
    left[last] = end
    if kind == OPEN and high > end:
        count[last] = 1
        size[last, 0], slope[last, 0] = high - end, 0.0
    for i in range(last, 0, -1):
        t = (first + i) % T
        b, s = -buy[t], -(sell[t] - wear)
        lo, m, k = left[i] - up, 0, 0
        bought = sold = False
        n = count[i]
        while k < n or not bought or not sold:
            if not bought and (k >= n or b <= slope[i, k]):
                size[i - 1, m], slope[i - 1, m] = up, b
                bought = True
            elif bought and not sold and (k >= n or s <= slope[i, k]):
                size[i - 1, m], slope[i - 1, m] = down, s
                sold = True
            else:
                size[i - 1, m], slope[i - 1, m] = size[i, k], slope[i, k]
                k += 1
            m += 1
        left[i - 1], j = max(lo, low), 0
        for k in range(m):
            begins, lo = lo, lo + size[i - 1, k]
            piece = min(lo, high) - max(begins, low)
            if piece > 0:
                size[i - 1, j], slope[i - 1, j] = piece, slope[i - 1, k]
                j += 1
        count[i - 1] = j
    x = start
    cost = 0.0
    for i in range(length):
        t = (first + i) % T
        b, s = -buy[t], -(sell[t] - wear)
        right = left[i]
        for k in range(count[i]):
            right += size[i, k]
        y = min(max(x, left[i]), right)
        if y - x > up + 1e-9 or x - y > down + 1e-9:
            return np.inf
        if y >= x:
            edge = left[i]
            for k in range(count[i]):
                edge += size[i, k]
                if edge > y and slope[i, k] < b:
                    y = min(edge, max(x + up, y))
        if y <= x:
            edge = right
            for k in range(count[i] - 1, -1, -1):
                edge -= size[i, k]
                if edge < y and slope[i, k] > s:
                    y = max(edge, min(x - down, y))
        cost += (x - y) * (b if y > x else s)
        soc[i] = y
        x = y
    return cost


@njit(cache=True, nogil=True)
def walk(
    buy: Any, sell: Any, wear: float, first: int, length: int, start: float, end: float, kind: int,
    low: float, high: float, up: float, down: float, soc: Any,
) -> float:  # fmt: skip
    """Best path of one visit of any kind; fills `soc`, returns its cost."""

    def path(x: float, y: float) -> float:
        return walk_from(buy, sell, wear, first, length, x, y, kind, low, high, up, down, soc)

    if kind != CYCLIC:
        return path(start, end)
    best, least, at_high = low, path(low, low), path(high, high)
    if at_high < least:
        best, least = high, at_high
    a, d = low, high
    b, c = d - _GOLDEN * (d - a), a + _GOLDEN * (d - a)
    at_b, at_c = path(b, b), path(c, c)
    while d - a > 1e-9:
        if at_b <= at_c:
            d, c, at_c = c, b, at_b
            b = d - _GOLDEN * (d - a)
            at_b = path(b, b)
        else:
            a, b, at_b = b, c, at_c
            c = a + _GOLDEN * (d - a)
            at_c = path(c, c)
    if min(at_b, at_c) < least:
        best = 0.5 * (a + d)
    return path(best, best)
