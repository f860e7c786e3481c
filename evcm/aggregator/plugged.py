"""The plugged-in (period, vehicle, sample) of a problem as flat indices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class Plugged:
    """The K triples (period, vehicle, sample) in which a car is plugged in, as flat indices.

    Attributes
    ----------
    period, vehicle, sample : (K,)
        Indices of each triple.
    previous : (K, K) sparse
        Takes a vector over triples to the value one period before in the same visit.
    arrival_soc_kwh : (K,)
        Charge before the first period of a visit, 0 elsewhere.
    ends : (K,) bool
        Last period of a visit.
    total : (T N, K) sparse
        Sum over the cars of each (period, sample), kW per car to MW.
    """

    period: IntArray
    vehicle: IntArray
    sample: IntArray
    previous: sp.csr_array
    arrival_soc_kwh: FloatArray
    ends: BoolArray
    total: sp.csr_array

    @property
    def size(self) -> int:
        """K."""
        return int(self.period.size)


def list_plugged(problem: AggregatorProblem) -> Plugged:
    """Index the plugged-in triples of a problem, by period, vehicle and sample."""
    period, vehicle, sample = np.nonzero(problem.available)
    size, T, N, visits = period.size, problem.periods, problem.samples, problem.visits
    position = np.empty(problem.available.shape, int)
    position[period, vehicle, sample] = np.arange(size)
    begins = ~visits.always_plugged
    first = position[visits.start[begins], visits.vehicle[begins], visits.sample[begins]]
    arrival, inside = np.zeros(size), np.ones(size, bool)
    arrival[first], inside[first] = visits.arrival_soc_kwh[begins], False
    rows = np.flatnonzero(inside)
    before = position[period[rows] - 1, vehicle[rows], sample[rows]]
    return Plugged(
        period=period,
        vehicle=vehicle,
        sample=sample,
        previous=sp.csr_array((np.ones(rows.size), (rows, before)), shape=(size, size)),
        arrival_soc_kwh=arrival,
        ends=~problem.available[(period + 1) % T, vehicle, sample],
        total=sp.csr_array(
            (problem.group_size[vehicle] / 1000.0, (period * N + sample, np.arange(size))),
            shape=(T * N, size),
        ),
    )
