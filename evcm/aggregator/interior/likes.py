"""Like visits of thousands of single cars, told by a few representatives.

Visits of one sample with the same periods, battery, charger and departure charge differ in what
they arrive with and in wear. At given prices the energy that a car feeds back falls with its wear
in a few jumps, and between two jumps all cars of a window want the same. So the visits of a window,
sorted by wear, are cut into *classes* where the best schedules jump.

*A charger that never binds* leaves one chain to a class, with the mean arrival s̄. Its path X
becomes that of every car by levelling: the car that arrived d above the mean runs at X + d f, where
f falls from 1 to 0 while the chain moves, by at most Δ/b in a rise of Δ and Δ/a in a fall (b and a:
the largest d above and below). So all cars move as the chain does, none leaves its range, and all
are level at the end, since no car arrives with more than it must leave with.

*A charger that binds* needs more: only a few arrivals, the least and the highest among them, get a
chain. A car that arrives between two of them mixes their schedules: with s = (1 - λ) s' + λ s'' and
paths x', x'', the path (1 - λ) x' + λ x'' keeps all limits of that car, since they are linear and
the same for all. Every chain counts for the λ of all its cars.

Either way the cars' powers add up to the chains' own, and wear is known exactly. A plan of the
representatives is a plan of the cars.

What the classes lose is the distance between a program's optimum and its exact bound, which prices
every car (`market.Lagrangian`). Where it is too large, classes are cut again at that program's own
prices (`search`). No bound rests on classes.
"""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from evcm.aggregator.interior.cars import Segments
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.storage import OPEN
from evcm.arrays import BoolArray, FloatArray, IntArray

SAME_KWH = 1e-9
"""Arrivals this near to each other are one."""

JUMP = 0.05
"""Difference of energy fed back between neighbours at which a class ends, as a share of the
battery and beyond the difference of their arrivals."""

WORTH = 3.0
"""Times fewer entries from which on representatives are worth while."""


class Likes(NamedTuple):
    """Representatives, and what every visit takes of them.

    1 - `share` of `node` and `share` of the next, at a level `apart` (kWh) from it at first.
    `above` and `below` are the largest distances of each representative, and `tilt` (USD a MWh
    times kWh) is Σ wear · apart of its cars: what they wear beyond the mean while they level.
    """

    segments: Segments
    node: IntArray
    share: FloatArray
    apart: FloatArray
    above: FloatArray
    below: FloatArray
    tilt: FloatArray

    def levelling(self, net: FloatArray) -> tuple[FloatArray, FloatArray]:
        """How much of their distance cars still have (f), and lose in each entry, while levels
        change by `net` (kWh of one car).
        """
        length = self.segments.length
        first = self.segments.first
        room = np.where(net > 0, np.repeat(self.above, length), np.repeat(self.below, length))
        step = np.where(room > SAME_KWH, np.abs(net) / np.maximum(room, SAME_KWH), 0.0)
        done = np.cumsum(step)
        done -= np.repeat(done[first] - step[first], length)
        left = np.maximum(1.0 - done, 0.0)
        before = np.concatenate([[1.0], left[:-1]])
        before[first] = 1.0
        return left, before - left

    def worn_by_levelling(self, net: FloatArray) -> FloatArray:
        """Wear (USD) of each representative's cars beyond their mean wear."""
        lost = np.where(net < 0, self.levelling(net)[1], 0.0)
        return 1e-3 * self.tilt * np.add.reduceat(lost, self.segments.first)


class Classes:
    """Classes of like visits of a problem, finer with every `cut`."""

    def __init__(self, problem: AggregatorProblem, segments: Segments) -> None:
        g, k = segments, problem.figures
        self.segments = g
        figures = np.stack([getattr(k, f.name) for f in fields(k)], axis=1)
        kind = np.unique(figures, axis=0, return_inverse=True)[1].ravel()[g.vehicle]
        # A charge given at the end (20) and a car that never leaves stay alone.
        lone = np.where(g.kind == OPEN, 0, 1 + np.arange(g.size))
        key = np.stack([g.sample, g.start, g.length, kind, lone], axis=1)
        window = np.unique(key, axis=0, return_inverse=True)[1].ravel()
        self.order = np.lexsort((g.wear, window))
        self.starts: BoolArray = np.diff(window[self.order], prepend=-1) > 0
        self.room = np.minimum(g.charge_kwh, np.where(g.feeds, g.discharge_kwh, np.inf))
        wide = g.high_kwh - g.low_kwh
        self.levels = (self.room >= wide) & (g.arrival_kwh <= g.end_kwh)
        self.levels &= g.arrival_kwh >= g.low_kwh
        self.jump = JUMP * wide

    @property
    def fewest(self) -> int:
        """Entries with one chain to a class, or two where chargers bind."""
        edges = np.append(np.flatnonzero(self.starts), self.starts.size)
        count = np.diff(edges)
        length = self.segments.length[self.order[edges[:-1]]]
        level = np.logical_and.reduceat(self.levels[self.order], edges[:-1])
        return int((length * np.where(level, 1, np.minimum(count, 2))).sum())

    def cut(self, fed_back_kwh: FloatArray) -> bool:
        """Cut where the energy that a car of each visit feeds back jumps, or else every class in
        two, with more arrivals; whether any was cut.
        """
        a, b = self.order[:-1], self.order[1:]
        s = self.segments.arrival_kwh
        apart = np.abs(fed_back_kwh[b] - fed_back_kwh[a])
        new = (apart > np.abs(s[b] - s[a]) + self.jump[b]) & ~self.starts[1:]
        if not new.any():
            edges = np.append(np.flatnonzero(self.starts), self.starts.size)
            middle = (edges[:-1] + edges[1:]) // 2
            new[middle[np.diff(edges) > 1] - 1] = True
            self.room = self.room / 2
        self.starts[1:] |= new
        return bool(new.any())

    def likes(self) -> Likes:
        """The representatives of the classes as they are."""
        g = self.segments
        part = np.empty(g.size, np.int64)
        part[self.order] = np.cumsum(self.starts) - 1
        order = np.lexsort((g.arrival_kwh, part))
        cut = np.concatenate([[0], np.cumsum(np.bincount(part))]).tolist()
        node, share, apart = np.empty(g.size, np.int64), np.zeros(g.size), np.zeros(g.size)
        first: list[int] = []
        arrivals: list[float] = []
        above: list[float] = []
        below: list[float] = []
        for a, b in pairwise(cut):
            mine = order[a:b]
            s = g.arrival_kwh[mine]
            node[mine] = len(first)
            at = s[:1]
            level = bool(self.levels[mine].all()) and s[-1] - s[0] > SAME_KWH
            if level:
                at = np.array([(g.cars[mine] @ s) / g.cars[mine].sum()])
                apart[mine] = s - at[0]
            elif s[-1] - s[0] > SAME_KWH:
                # Within a period's energy a best path is nearly linear in its arrival.
                u = np.unique(s)
                count = min(2 + int((s[-1] - s[0]) / self.room[mine[0]]), u.size)
                at = u[np.linspace(0, u.size - 1, count).astype(int)]
                low = np.clip(np.searchsorted(at, s, "right") - 1, 0, count - 2)
                share[mine] = (s - at[low]) / (at[low + 1] - at[low])
                node[mine] += low
            first.extend([int(mine[0])] * at.size)
            arrivals.extend(at.tolist())
            above.extend([float(s[-1] - at[0]) if level else 0.0] * at.size)
            below.extend([float(at[0] - s[0]) if level else 0.0] * at.size)
        Q, f = len(first), np.array(first)
        after = np.minimum(node + 1, Q - 1)
        tilt = np.bincount(node, g.cars * g.wear * apart, Q).astype(float)
        cars, worn = (
            (np.bincount(node, x * (1 - share), Q) + np.bincount(after, x * share, Q)).astype(float)
            for x in (g.cars, g.cars * g.wear)
        )
        chains = Segments(*(column[f] for column in g))._replace(
            arrival_kwh=np.array(arrivals), cars=cars, wear=worn / cars
        )
        return Likes(chains, node, share, apart, np.array(above), np.array(below), tilt)


def alone(segments: Segments) -> Likes:
    """Every visit its own representative."""
    none = np.zeros(segments.size)
    return Likes(segments, np.arange(none.size), none, none, none, none, none)


def choose(problem: AggregatorProblem, segments: Segments) -> tuple[Likes, Classes | None]:
    """Representatives, and the classes behind them where these save enough."""
    classes = Classes(problem, segments)
    if WORTH * classes.fewest > segments.length.sum():
        return alone(segments), None
    return classes.likes(), classes
