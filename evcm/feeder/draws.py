"""Ways to draw k rows that stand for the rows of one period, each (row, variable)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import norm, rankdata

from evcm.arrays import FloatArray, IntArray

Drawn = tuple[FloatArray, FloatArray, IntArray | None]
"""Values (k, variable), weights (k,) that sum to 1, and the rows picked if any were."""


def _even(k: int) -> FloatArray:
    return np.full(k, 1 / k)


def _within(values: FloatArray, found: FloatArray) -> FloatArray:
    return np.clip(values, found.min(axis=0), found.max(axis=0))


def monte_carlo(found: FloatArray, k: int, rng: np.random.Generator) -> Drawn:
    """Normal with the means and covariances found."""
    spread = np.cov(found, rowvar=False) if len(found) > 1 else np.zeros((found.shape[1],) * 2)
    scale = np.sqrt(np.diag(spread))
    scale[scale == 0] = 1.0
    factor = _root(spread / np.outer(scale, scale)) * scale[:, None]
    values = found.mean(axis=0) + rng.standard_normal((k, found.shape[1])) @ factor.T
    return _within(values, found), _even(k), None


def copula(found: FloatArray, k: int, rng: np.random.Generator) -> Drawn:
    """Gaussian copula: normal scores correlated as found, marginals as found."""
    n = len(found)
    scores = norm.ppf((rankdata(found, axis=0) - 0.5) / n)
    spread = np.cov(scores, rowvar=False) if n > 1 else np.zeros((found.shape[1],) * 2)
    scale = np.sqrt(np.diag(spread))
    scale[scale == 0] = 1.0
    normal = rng.standard_normal((k, found.shape[1])) @ _root(spread / np.outer(scale, scale)).T
    return _quantiles(found, norm.cdf(normal)), _even(k), None


def marginals(found: FloatArray, k: int, rng: np.random.Generator) -> Drawn:
    """Marginals as found, each variable by itself."""
    return _quantiles(found, rng.random((k, found.shape[1]))), _even(k), None


def subset(found: FloatArray, k: int, rng: np.random.Generator) -> Drawn:
    """Rows picked at random, none twice."""
    rows = np.sort(rng.choice(len(found), size=min(k, len(found)), replace=False))
    return found[rows], _even(len(rows)), rows


def kmedoids(found: FloatArray, k: int, rng: np.random.Generator) -> Drawn:
    """Rows that stand for clusters (k-medoids on standardised values), weighted by cluster size.

    Starts are spread out as in k-means++; then rows are given to the nearest medoid and medoids
    moved in turn, until nothing changes.
    """
    k = min(k, len(found))
    scale = found.std(axis=0)
    scaled = found / np.where(scale == 0, 1.0, scale)
    distance = cdist(scaled, scaled)
    medoids = _spread_out(distance, k, rng)
    for _ in range(100):
        moved = _centres(distance, _nearest(distance, medoids))
        if np.array_equal(moved, medoids):
            break
        medoids = moved
    size = np.bincount(_nearest(distance, medoids), minlength=k)
    return found[medoids], size / size.sum(), medoids


def _nearest(distance: FloatArray, medoids: IntArray) -> IntArray:
    """Cluster of every row; a medoid is in its own, even where rows are doubles of each other."""
    nearest: IntArray = np.argmin(distance[:, medoids], axis=1).astype(np.int64)
    nearest[medoids] = np.arange(len(medoids))
    return nearest


def _centres(distance: FloatArray, nearest: IntArray) -> IntArray:
    """The row of each cluster with the least distance to all others in it."""
    order = np.argsort(nearest, kind="stable")
    start = np.unique(nearest[order], return_index=True)[1]
    to_clusters = np.add.reduceat(distance[:, order], start, axis=1)
    own: FloatArray = to_clusters[np.arange(len(nearest)), nearest]
    centres: IntArray = np.lexsort((own, nearest))[start]
    return centres


def _spread_out(distance: FloatArray, k: int, rng: np.random.Generator) -> IntArray:
    """k different rows; each is drawn with the squared distance to those before it."""
    chosen = [int(rng.integers(len(distance)))]
    near = distance[chosen[0]].copy()
    while len(chosen) < k:
        weight = near**2
        weight[chosen] = 0.0
        if weight.sum() == 0:  # all rows left are doubles of chosen ones
            weight = np.ones(len(near))
            weight[chosen] = 0.0
        chosen.append(int(rng.choice(len(near), p=weight / weight.sum())))
        near = np.minimum(near, distance[chosen[-1]])
    return np.array(chosen, dtype=np.int64)


def _root(matrix: FloatArray) -> FloatArray:
    """A root of a covariance matrix, singular ones included."""
    values, vectors = np.linalg.eigh(matrix)
    root: FloatArray = vectors * np.sqrt(np.maximum(values, 0.0))
    return root


def _quantiles(found: FloatArray, u: FloatArray) -> FloatArray:
    """Empirical quantiles at u, column by column; only values that were found occur."""
    ordered = np.sort(found, axis=0)
    rank = np.minimum((u * len(found)).astype(np.int64), len(found) - 1)
    return np.take_along_axis(ordered, rank, axis=0)


DRAWS: dict[str, Callable[[FloatArray, int, np.random.Generator], Drawn]] = {
    "monte_carlo": monte_carlo,
    "copula": copula,
    "marginals": marginals,
    "subset": subset,
    "kmedoids": kmedoids,
}
METHODS = tuple(DRAWS)
