"""How far the distribution of a weighted sample is from that of the full set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

LOW_PERCENTILE = 5.0


@dataclass(frozen=True, eq=False)
class Reference:
    """The full set: its columns sorted, their means and low percentiles."""

    ordered: FloatArray
    mean: FloatArray
    low: FloatArray


def prepare(full: FloatArray) -> Reference:
    """Prepare the full set (case, terminal) for many comparisons."""
    ordered = np.sort(full, axis=0)
    weights = np.full(len(full), 1 / len(full))
    low = weighted_percentile(ordered, weights, LOW_PERCENTILE)
    return Reference(ordered, full.mean(axis=0), low)


def distribution_errors(
    reference: Reference, sample: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Errors of a weighted sample (case, terminal) by terminal.

    Returns the absolute differences of the means and of the 5th percentiles, and the Wasserstein
    distances.
    """
    low = weighted_percentile(sample, weights, LOW_PERCENTILE)
    distance = wasserstein(reference.ordered, sample, weights)
    return np.abs(weights @ sample - reference.mean), np.abs(low - reference.low), distance


def weighted_percentile(values: FloatArray, weights: FloatArray, percent: float) -> FloatArray:
    """Smallest value at which the weighted distribution function reaches `percent`, by column."""
    order = np.argsort(values, axis=0, kind="stable")
    reached = np.cumsum(weights[order], axis=0)
    # the last sum is 1 but for rounding, and so is any other
    at = np.argmax(reached >= percent / 100 * reached[-1] * (1 - 1e-12), axis=0)
    found: FloatArray = np.take_along_axis(values, np.take_along_axis(order, at[None], 0), 0)[0]
    return found


def wasserstein(ordered: FloatArray, sample: FloatArray, weights: FloatArray) -> FloatArray:
    """First Wasserstein distance of an unweighted set and a weighted sample, by column.

    The area between the two distribution functions: both sets are merged in order, and the
    difference of the functions is the running sum of the weights, one set's counted negative.
    """
    merged = np.concatenate([ordered, sample])
    mass = np.concatenate([np.full(len(ordered), 1 / len(ordered)), -weights])
    order = np.argsort(merged, axis=0, kind="stable")
    between = np.abs(np.cumsum(mass[order], axis=0)[:-1])
    steps = np.diff(np.take_along_axis(merged, order, axis=0), axis=0)
    area: FloatArray = (between * steps).sum(axis=0)
    return area
