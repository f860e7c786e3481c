"""From an interior solution to a plan that holds exactly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from evcm import compiled as nb
from evcm.aggregator.interior.cars import Units, find_families
from evcm.aggregator.interior.chains import JIT, Chains
from evcm.aggregator.interior.likes import Likes
from evcm.aggregator.interior.newton import Rows
from evcm.aggregator.interior.program import Answer
from evcm.aggregator.plan import AggregatorPlan, plan_from_cars
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.storage import CYCLIC
from evcm.arrays import FloatArray, IntArray

SHORT_MW = 8e-7
"""How far a plan may miss a limit (the certificate allows 1e-6 MW)."""

WRITTEN_AT_ONCE = 2_000
"""Visits whose schedules are written at once: what a plan takes besides its own memory."""


class Candidate(NamedTuple):
    """A plan in units: levels (M,), W (T, N, K) of each family, E (T, N), P (T,) and wear.

    `short` is by how much a limit or cap is missed (units of power).
    """

    X: FloatArray
    W: FloatArray
    E: FloatArray
    P: FloatArray
    wear: float
    short: float


@nb.njit(**JIT)
def _walk(
    n: int, C: Chains, levels: FloatArray, power: FloatArray, per_h: float,
    x: FloatArray, A: FloatArray, B: FloatArray, both: FloatArray, spare: FloatArray,
    worn: FloatArray,
) -> None:  # fmt: skip
    """Levels kept to their bounds; totals of net changes, of what is done at once, plug room."""
    total, T, (X, charge, discharge) = 0.0, A.shape[1], (levels[0], levels[1], levels[2])
    for q in range(C.of_sample[n], C.of_sample[n + 1]):
        a, b = C.offset[q], C.offset[q + 1]
        before = min(max(X[b - 1], C.low[b - 1]), C.high[b - 1]) if C.ring[q] else C.arrival[q]
        for i in range(a, b):
            y = min(max(X[i], C.low[i]), C.high[i])
            if C.limited:
                y = min(max(y, before - C.discharge_max[i]), before + C.charge_max[i])
            net = y - before
            t = C.at[i] // 2 % T
            twice = max(min(charge[i] - max(net, 0.0), discharge[i] - max(-net, 0.0)), 0.0)
            used, family = 0.0, C.family[q]
            if net > 0:
                used = C.up[q] * net
                A[n, t] += used
            else:
                B[n, t] -= C.down[q] * net
                used = -net * per_h
                total -= C.wear[q] * net
            if family < both.shape[2]:
                both[n, t, family] += C.up[q] * twice
                spare[n, t, family] += max(power[q] - used, 0.0)
            x[i] = y
            before = y
    worn[n] = total


def recover(
    problem: AggregatorProblem, likes: Likes, chains: Chains, rows: Rows, units: Units,
    answer: Answer,
) -> Candidate:  # fmt: skip
    """Net changes become charging or discharging, the rest W; P and trade follow by definition."""
    T, N = answer.E.shape
    k, levels, g = problem.figures, answer.levels, likes.segments
    power = g.cars / 1000.0 / units.mw * k.power_kw[g.vehicle] * g.feeds
    x = np.zeros(levels.shape[1])
    (A, B), (both, spare) = np.zeros((2, N, T)), np.zeros((2, N, T, answer.W.shape[2]))
    worn = np.zeros(N)
    for n in range(N):
        _walk(n, chains, levels, power, 1.0 / problem.period_h, x, A, B, both, spare, worn)
    wear = float(worn.sum())
    if likes.tilt.any():
        more = likes.worn_by_levelling(changes(likes, units, x)[1])
        wear += float(more @ problem.probability[g.sample]) / units.usd
    # Of a plug and of power, for a unit of W.
    used, lost = rows.at_once[2:-1].diagonal(), rows.at_once[-1]
    room = spare.swapaxes(0, 1) / used
    W = np.clip(answer.W + both.swapaxes(0, 1), 0.0, room)
    v2g = problem.real_time_limit == "v2g"

    def powers(W: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        E = A.T - B.T + W @ lost
        P = E @ problem.probability
        limit = B.T + W @ (1 - lost) if v2g else rows.limit[..., 0]
        return E, P, np.maximum(np.abs(E - P[:, None]) - limit, 0.0)

    E, P, short = powers(W)
    for _ in range(6):
        if short.max(initial=0.0) <= 1e-13 or not v2g:
            break
        need = np.where(short > 0, 2 * short + 1e-13, 0.0)[..., None]
        before = np.cumsum(room - W, axis=2) - (room - W)  # families take what is left in turn
        W = W + np.clip(need - before, 0.0, room - W)
        E, P, short = powers(W)
    over = float((E - problem.cap_mw[:, None] / units.mw).max(initial=0.0))
    over = max(over, float((problem.floor_mw[:, None] / units.mw - E).max()))
    return Candidate(x, W, E, P, wear, max(float(short.max(initial=0.0)), over))


def changes(likes: Likes, units: Units, X: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Level of one car of each representative, and its change in each period (M,), kWh."""
    r = likes.segments
    first = r.first
    level = X / np.repeat(r.cars / 1000.0 / units.mw, r.length)
    before = np.concatenate([[0.0], level[:-1]])
    before[first] = np.where(r.kind == CYCLIC, level[first + r.length - 1], r.arrival_kwh)
    return level, level - before


def make_plan(
    problem: AggregatorProblem, segments: Sequence[IntArray], likes: Likes, units: Units,
    candidate: Candidate, method: str, bound_usd: float, seconds: float,
) -> AggregatorPlan:  # fmt: skip
    """Schedules of every car: what it takes of its representatives, and of W.

    `segments` are vehicle, sample, start and length of each. W is shared in proportion to the power
    that chargers have left.
    """
    T, V, N = problem.available.shape
    k, dt, r = problem.figures, problem.period_h, likes.segments
    vehicle, sample, start, lengths = segments
    level, net = changes(likes, units, candidate.X)
    charge, discharge, soc = (np.zeros((T, V, N)) for _ in range(3))
    left, lost = likes.levelling(net)
    paths = (
        (soc, level, left),
        (charge, np.maximum(net, 0.0), np.where(net > 0, -lost, 0.0)),
        (discharge, np.maximum(-net, 0.0), np.where(net > 0, 0.0, lost)),
    )
    for begin in range(0, vehicle.size, WRITTEN_AT_ONCE):
        mine = slice(begin, begin + WRITTEN_AT_ONCE)
        length = lengths[mine]
        of = np.repeat(np.arange(length.size), length)
        j = np.arange(of.size) - np.repeat(np.cumsum(length) - length, length)
        entry = (start[mine][of] + j) % T, vehicle[mine][of], sample[mine][of]
        share = likes.share[mine][of]
        first = r.first[likes.node[mine]][of] + j
        second = np.where(share > 0, first + length[of], first)  # the next node is as long
        apart = likes.apart[mine][of]
        for array, path, distance in paths:
            mixed = (1 - share) * path[first] + share * path[second]
            array[entry] = mixed + apart * distance[first]
    charge /= dt * k.charge_efficiency[:, None]
    discharge *= k.feeds_in[:, None] / dt
    size, eta = problem.group_size, k.charge_efficiency[:, None]
    family, feeding = find_families(problem).of, np.flatnonzero(k.feeds_in)
    own = family[:, None] == np.arange(candidate.W.shape[2])
    for at in range(T if feeding.size else 0):
        left = k.power_kw[:, None] - charge[at] - discharge[at]
        usable = problem.available[at] & k.feeds_in[:, None]
        left = np.where(usable, np.maximum(left, 0.0), 0.0) / (1 + eta)
        whole = (own * size[:, None]).T @ left
        share = 1000.0 * units.mw * candidate.W[at].T / np.maximum(whole, 1e-12)
        left[feeding] *= np.minimum(share, 1.0)[family[feeding]]
        charge[at] += left
        discharge[at] += eta * left
    return plan_from_cars(
        problem, charge_kw=charge, discharge_kw=discharge, soc_kwh=soc, bound_usd=bound_usd,
        seconds=seconds, method=method, status="",
    )  # fmt: skip
