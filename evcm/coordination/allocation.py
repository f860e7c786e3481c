"""Rules that share the network's room among the aggregators: maximum total, by cars, max-min fair.

The paper's caps (54), (55) maximise their sum. Where generation binds, every way to share the same
sum is an optimum but for losses, so the solution sits at corners: some buses get all their load
again, others the least share. The other rules say who gets what. Each is decided by the AC OPF
itself: a cap counts as given where the OPF serves load and all caps with no power unsupplied.
"""

from __future__ import annotations

import numpy as np

from evcm.arrays import BoolArray, FloatArray
from evcm.coordination.regimes import RULES, Rule
from evcm.errors import Checks, InfeasibleError
from evcm.network import caps as total_caps
from evcm.network.case import Day
from evcm.network.opf import SERVED_MW, served, shortage_mw

MANY = 100
"""Aggregators above which sharing ends with the first level, unless asked to go on."""

STEP_MW = 0.01
"""Increase of a single cap that the network must refuse for the cap to count as final."""


def fill(
    site: Day,
    start_mw: FloatArray,
    ceiling_mw: FloatArray,
    weight: FloatArray,
    *,
    floor_mw: FloatArray | None = None,
    successive: bool | None = None,
    bisections: int = 22,
) -> FloatArray:
    """Raise caps together, in proportion to weights, until the network is full.

    In each period cap_k = clip(start_k + level * weight_k, floor_k, ceiling_k) with the largest
    level that the AC OPF serves. With `successive`, caps that some limit of the network holds are
    then frozen and the others go on: the weighted max-min fair sharing. Left out, that is so where
    at most `MANY` caps may rise.

    Caps, start, ceiling and floor (the start if left out) are (T, K), MW. A `weight` (K,) of 0
    keeps a cap at its start. 22 `bisections` of the level leave 1e-5 MW of 40.

    Raises
    ------
    InputError
        Shapes differ or a weight is negative.
    InfeasibleError
        The network cannot even serve the floor.
    """
    floor = np.asarray(start_mw if floor_mw is None else floor_mw, float)
    _check(start_mw, np.asarray(ceiling_mw), floor, weight)
    ceiling = np.maximum(np.asarray(ceiling_mw, float), floor)
    short = shortage_mw(site, floor)
    if (short >= SERVED_MW).any():
        bad = np.flatnonzero(short >= SERVED_MW)
        raise InfeasibleError(
            f"caps: the network cannot serve the least caps in period {bad[0] + 1}: "
            f"{short[bad[0]]:.4g} MW short; {bad.size} periods in all",
            periods=(bad + 1).tolist(),
        )
    active = np.broadcast_to(weight > 0, floor.shape) & (ceiling > floor)
    if successive is None:
        successive = bool(np.count_nonzero(weight) <= MANY)
    cap = floor.copy()
    while active.any():
        cap = _raise(site, cap, start_mw, floor, ceiling, weight, active, bisections)
        active &= cap < ceiling - STEP_MW
        if not successive:
            break
        active &= _can_rise(site, cap, active)
    return cap


def _raise(
    site: Day, cap: FloatArray, start: FloatArray, floor: FloatArray, ceiling: FloatArray,
    weight: FloatArray, active: BoolArray, bisections: int,
) -> FloatArray:  # fmt: skip
    """The largest common level of the active caps in each period; the others stay."""

    def at(level: FloatArray) -> FloatArray:
        raised = np.clip(start + level[:, None] * weight, floor, ceiling)
        return np.where(active, np.maximum(raised, cap), cap)

    rising = weight > 0
    reach = np.where(active[:, rising], (ceiling - start)[:, rising] / weight[rising], 0.0)
    low, high = np.zeros(len(cap)), np.maximum(reach.max(axis=1), 0.0)
    done = served(site, at(high))
    low, left = np.where(done, high, low), np.flatnonzero(~done)
    for _ in range(bisections if left.size else 0):
        middle = 0.5 * (low + high)
        good = served(site.at(left), at(middle)[left])
        low[left[good]], high[left[~good]] = middle[left[good]], middle[left[~good]]
    return at(low)


def _can_rise(site: Day, cap: FloatArray, active: BoolArray) -> BoolArray:
    """Which active caps the network would let rise by a step, all at once or in part. (T, K)

    Where all of a period cannot rise together, each half of them is asked on its own, and so on.
    """
    able = np.zeros_like(active)
    todo = [(t, np.flatnonzero(active[t])) for t in np.flatnonzero(active.any(axis=1))]
    while todo:
        rows = np.array([t for t, _ in todo])
        more = cap[rows]
        for row, (_, caps) in zip(more, todo, strict=True):
            row[caps] += STEP_MW
        split = []
        for (t, caps), good in zip(todo, served(site.at(rows), more), strict=True):
            able[t, caps] = good
            if not good and caps.size > 1:
                split += [(t, half) for half in np.array_split(caps, 2)]
        todo = split
    return able


def _check(start: FloatArray, ceiling: FloatArray, floor: FloatArray, weight: FloatArray) -> None:
    c = Checks("caps")
    shape = np.shape(start)
    for name, value in (("ceiling_mw", ceiling), ("floor_mw", floor)):
        c.require(np.shape(value) == shape, name, np.shape(value), str(shape))
    good = np.shape(weight) == shape[1:]
    if c.require(good, "weight", np.shape(weight), f"({shape[-1]},)"):
        c.require(bool((np.asarray(weight) >= 0).all()), "weight", weight, ">= 0")
    c.done()


def allocate(rule: Rule, cars: FloatArray, site: Day) -> FloatArray:
    """Caps (T, K) of a rule, MW. All keep the range (55): 2.5 % to 100 % of the bus's load.

    Maximum total is the paper's (54). Proportional to `cars` (K,), those an aggregator meets,
    maximises in each period one common factor of MW per car. Max-min fair raises the least cap as
    far as it goes, then the next; above `MANY` aggregators the least alone.

    Raises
    ------
    InputError
        There is no such rule.
    InfeasibleError
        The network cannot serve the load and the least caps.
    """
    c = Checks("allocation")
    c.require(rule in RULES, "rule", rule, ", ".join(RULES))
    c.done()
    if rule == "maximum total":
        found = total_caps.solve_caps(site)
        return np.array(found.cap_mw)
    low, high = site.network.cap_share_min, site.network.cap_share_max
    floor, ceiling = low * site.aggregator_load_mw, high * site.aggregator_load_mw
    by_cars = rule == "proportional"
    weight = np.asarray(cars, float) if by_cars else np.ones(floor.shape[1])
    nothing = np.zeros_like(floor)
    further = False if by_cars else None
    return fill(site, nothing, ceiling, weight, floor_mw=floor, successive=further)
