"""Small fleets for the tests of coordination: few groups, any number of cars."""

from __future__ import annotations

from functools import cache

from evcm import inputs
from evcm.study import hosting_points as points


@cache
def problems(cars: int, seed: int = 1, groups: int = 44, samples: int = 2):
    """The eleven aggregators of a grouped fleet."""
    point = points.Point("apart", cars, seed, 150.0, 1.0, groups, samples, 0.03)
    return tuple(points.grouped_problems(inputs.paper(), point))
