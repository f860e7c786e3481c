"""The plugged-in (period, vehicle, sample) of a problem as flat indices, and cars as rows."""

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

    def spread(self, problem: AggregatorProblem, values: FloatArray) -> FloatArray:
        """Values over triples as a (T, V, N) array, 0 where no car is plugged in."""
        full = np.zeros(problem.available.shape)
        full[self.period, self.vehicle, self.sample] = values
        return full


def diagonal(values: FloatArray) -> sp.csr_array:
    """Square matrix with `values` on its diagonal."""
    at = np.arange(values.size)
    return sp.csr_array((values, (at, at)), shape=(values.size, values.size))


def list_plugged(problem: AggregatorProblem, sample: int | None = None) -> Plugged:
    """Index the plugged-in triples of a problem, or of one of its samples."""
    period, vehicle, sample_of = np.nonzero(problem.available)
    visits = problem.visits
    begins = ~visits.always_plugged
    if sample is not None:
        mine = sample_of == sample
        period, vehicle, sample_of = period[mine], vehicle[mine], sample_of[mine]
        begins &= visits.sample == sample
    size, T, N = period.size, problem.periods, problem.samples
    position = np.full(problem.available.shape, -1)
    position[period, vehicle, sample_of] = np.arange(size)
    first = position[visits.start[begins], visits.vehicle[begins], visits.sample[begins]]
    arrival = np.zeros(size)
    arrival[first] = visits.arrival_soc_kwh[begins]
    inside = np.ones(size, bool)
    inside[first] = False
    rows = np.flatnonzero(inside)
    columns = position[period[rows] - 1, vehicle[rows], sample_of[rows]]
    return Plugged(
        period=period,
        vehicle=vehicle,
        sample=sample_of,
        previous=sp.csr_array((np.ones(rows.size), (rows, columns)), shape=(size, size)),
        arrival_soc_kwh=arrival,
        ends=~problem.available[(period + 1) % T, vehicle, sample_of],
        total=sp.csr_array(
            (problem.group_size[vehicle] / 1000.0, (period * N + sample_of, np.arange(size))),
            shape=(T * N, size),
        ),
    )


@dataclass(frozen=True, eq=False)
class CarRows:
    """Cars as rows of a linear program over x = (soc e, energy discharged s, power w), 3 K columns.

    `w` is power charged and fed back at once (kW), which moves no battery and wears none.

    Attributes
    ----------
    charge_kw, discharge_kw : (K, 3 K) sparse
        Powers as functions of x; what a car brings along is on the right side, `offset_kw` (K,):
        G2B = charge_kw x - offset_kw.
    low, high : (3 K,)
        Bounds of x.
    rows, row_low, row_high
        0 <= energy charged <= Δt η P_max, and G2B + B2G <= P_max.
    """

    charge_kw: sp.csr_array
    discharge_kw: sp.csr_array
    offset_kw: FloatArray
    low: FloatArray
    high: FloatArray
    rows: sp.csr_array
    row_low: FloatArray
    row_high: FloatArray


def car_rows(problem: AggregatorProblem, cars: Plugged) -> CarRows:
    """Equations (14)-(19), the contract and (20) for all plugged-in triples."""
    K, dt, k, v = cars.size, problem.period_h, problem.figures, cars.vehicle
    efficiency, feeds = k.charge_efficiency[v], k.feeds_in[v]
    per_kwh = diagonal(1 / (dt * efficiency))
    eye = sp.csr_array(sp.eye_array(K))
    change = eye - cars.previous
    charge = sp.csr_array(sp.hstack([per_kwh @ change, per_kwh, eye]))
    burnt = diagonal(efficiency)
    discharge = sp.csr_array(sp.hstack([sp.csr_array((K, K)), eye / dt, burnt]))
    offset = cars.arrival_soc_kwh / (dt * efficiency)
    low = np.where(cars.ends, k.departure_soc_kwh[v], k.soc_min_kwh[v])
    high = k.soc_max_kwh[v]
    if problem.midnight_soc_kwh is not None:
        at = cars.period == 0
        given = problem.midnight_soc_kwh[v, cars.sample]
        low, high = np.where(at, given, low), np.where(at, given, high)
    energy = sp.hstack([change, eye, sp.csr_array((K, K))])
    return CarRows(
        charge, discharge, offset,
        np.concatenate([low, np.zeros(2 * K)]),
        np.concatenate([high, problem.discharge_step_kwh[v], np.where(feeds, k.power_kw[v], 0.0)]),
        sp.csr_array(sp.vstack([energy, charge + discharge])),
        np.concatenate([cars.arrival_soc_kwh, np.full(K, -np.inf)]),
        np.concatenate(
            [cars.arrival_soc_kwh + problem.charge_step_kwh[v], k.power_kw[v] + offset]
        ),
    )  # fmt: skip
