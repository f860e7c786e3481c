"""Visits of single cars, sorted into clusters that are priced together.

A cluster holds visits of one real-time sample that begin and end at about the same time and wear
alike. Under any prices its cars do about the same, so one column of the master problem can speak
for all of them. Clusters come from halving a sample's visits along the widest of three features,
again and again; a coarse cluster is a run of fine ones, which lets a solution start coarse.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evcm.aggregator import storage as dp
from evcm.aggregator.interior.cars import cut_visits
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray

NEVER = -1e12
"""Value of a discharged kWh where cars may not discharge."""


@dataclass(frozen=True, eq=False)
class PricedVisits:
    """Visits in cluster order (one entry per visit) and the clusters' borders.

    Attributes
    ----------
    vehicle, first, length, start, end, kind
        Whose visit, first period (0-based), periods, level before it and (at least) after it, and
        how it ends (`evcm.aggregator.storage`).
    weight : FloatArray
        Cars of the group, in units of the master problem.
    wear : FloatArray
        USD per kWh drawn from one car, times the sample's probability.
    offsets : (K + 1)
        Visits of cluster k are ``offsets[k]`` to ``offsets[k + 1]``.
    sample : (K)
        Sample of each cluster.
    low, high, up, down : float
        Range of charge, and most kWh gained and given in a period.
    mw_per_kwh : float
        Power at the battery of one kWh a period.
    """

    vehicle: IntArray
    first: IntArray
    length: IntArray
    start: FloatArray
    end: FloatArray
    kind: IntArray
    weight: FloatArray
    wear: FloatArray
    offsets: IntArray
    sample: IntArray
    low: float
    high: float
    up: float
    down: float
    mw_per_kwh: float

    @property
    def clusters(self) -> int:
        """K."""
        return int(self.sample.size)

    def price(
        self, buy: FloatArray, sell: FloatArray
    ) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Best response of every cluster.

        Parameters
        ----------
        buy, sell : (N, T)
            USD per kWh into and out of the batteries, probability included.

        Returns
        -------
        (K,), (K, T), (K, T), (K,)
            Least cost, power charged and discharged at the batteries (MW), cost of wear (USD).
        """
        K, T = self.clusters, buy.shape[1]
        charged, discharged, worn = np.empty((K, T)), np.empty((K, T)), np.empty(K)
        dp.price_clusters(
            self.offsets, self.sample, buy, sell, self.wear, self.weight, self.first, self.length,
            self.start, self.end, self.kind, self.low, self.high, self.up, self.down,
            charged, discharged, worn,
        )  # fmt: skip
        cost = np.einsum("kt,kt->k", charged, buy[self.sample]) + worn
        if self.down > 0:
            cost -= np.einsum("kt,kt->k", discharged, sell[self.sample])
        return cost, charged * self.mw_per_kwh, discharged * self.mw_per_kwh, worn

    def mix(
        self, share: FloatArray, buy: FloatArray, sell: FloatArray, charge_efficiency: float,
        charge_kw: NDArray[Any], discharge_kw: NDArray[Any],
        soc_kwh: NDArray[Any],
    ) -> None:  # fmt: skip
        """Add ``share`` (K) of every cluster's best paths to schedules (T, V, N)."""
        per_kwh = 1000.0 * self.mw_per_kwh
        dp.mix_paths(
            self.offsets, self.sample, share, buy, sell, self.wear, self.vehicle, self.first,
            self.length, self.start, self.end, self.kind, self.low, self.high, self.up, self.down,
            per_kwh / charge_efficiency, per_kwh, charge_kw, discharge_kw, soc_kwh,
        )  # fmt: skip

    def merged(self, clusters_per_sample: int) -> tuple[PricedVisits, IntArray]:
        """Coarser clusters, and which of them each of the present clusters belongs to."""
        member = np.empty(self.clusters, np.int64)
        starts: list[int] = []
        for n in np.unique(self.sample):
            mine = np.flatnonzero(self.sample == n)
            pieces = min(clusters_per_sample, mine.size)
            part = (np.arange(mine.size) * pieces) // mine.size
            member[mine] = len(starts) + part
            starts += [int(mine[int(np.argmax(part == j))]) for j in range(pieces)]
        fields = {k: getattr(self, k) for k in self.__dataclass_fields__}
        fields["offsets"] = np.append(self.offsets[starts], self.offsets[-1])
        fields["sample"] = self.sample[starts]
        return PricedVisits(**fields), member


def priced_visits(
    problem: AggregatorProblem, clusters_per_sample: int, unit_mw: float
) -> PricedVisits:
    """Visits of a problem in clusters; power is counted in `unit_mw`."""
    g, battery = cut_visits(problem), problem.battery
    vehicle, sample = g.vehicle, g.sample
    wear = (problem.wear_usd_per_kwh / problem.group_size)[vehicle]
    order, offsets, of_sample = _clusters(sample, g.start, g.length, wear, clusters_per_sample)
    wide = battery.soc_max_kwh - battery.soc_min_kwh
    return PricedVisits(
        vehicle=vehicle[order],
        first=g.start[order],
        length=g.length[order],
        start=g.arrival_kwh[order],
        end=g.end_kwh[order],
        kind=g.kind[order],
        weight=problem.group_size[vehicle[order]] / unit_mw,
        wear=(wear * problem.probability[sample])[order],
        offsets=offsets,
        sample=of_sample,
        low=battery.soc_min_kwh,
        high=battery.soc_max_kwh,
        up=float(problem.charge_step_kwh[0]),
        # Without V2G no sale is worth its price, so that the quick path serves there too.
        down=float(problem.discharge_step_kwh[0]) if problem.allow_v2g else wide,
        mw_per_kwh=1.0 / (1000.0 * problem.period_h),
    )


def _clusters(
    sample: IntArray, first: IntArray, length: IntArray, wear: FloatArray, count: int
) -> tuple[IntArray, IntArray, IntArray]:
    """Order of the visits, borders of the clusters, and their samples."""
    spread = max(float(wear.std()), 1e-12)
    order: list[IntArray] = []
    sizes: list[int] = []
    owner: list[int] = []
    for n in np.unique(sample):
        mine = np.flatnonzero(sample == n)
        # Three periods or one standard deviation of wear make visits equally unlike.
        features = np.stack(
            [first[mine] / 3.0, (first[mine] + length[mine]) / 3.0, wear[mine] / spread], axis=1
        )
        for part in _halve(np.arange(mine.size), features, min(count, mine.size)):
            order.append(mine[part])
            sizes.append(part.size)
            owner.append(int(n))
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    return np.concatenate(order), offsets, np.array(owner, np.int64)


def _halve(members: IntArray, features: FloatArray, pieces: int) -> Iterator[IntArray]:
    if pieces <= 1 or members.size <= 1:
        yield members
        return
    mine = features[members]
    axis = int(np.argmax(mine.max(axis=0) - mine.min(axis=0)))
    ranked = members[np.argsort(mine[:, axis], kind="stable")]
    left = pieces // 2
    cut = min(max(round(members.size * left / pieces), 1), members.size - 1)
    yield from _halve(ranked[:cut], features, left)
    yield from _halve(ranked[cut:], features, pieces - left)
