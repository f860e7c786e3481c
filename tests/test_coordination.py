import numpy as np
import pytest
from coordination_fleets import problems

from evcm import aggregator
from evcm.coordination import allocation
from evcm.coordination.capped import solve_under_cap, under_cap
from evcm.errors import InfeasibleError
from evcm.network import case, opf

GAP = 1e-5


def test_a_cap_takes_the_place_of_the_systems_cap():
    problem = problems(2200)[3]
    cap = np.full(48, 2.0)
    capped = under_cap(problem, cap)
    assert capped.system_cap_mw is None
    np.testing.assert_array_equal(capped.cap_mw, cap)


@pytest.mark.parametrize("k", [0, 4, 7])
def test_tighter_caps_never_reduce_cost(k):
    problem = problems(2200)[k]
    wide = np.asarray(problem.plugged_mw.max(axis=1) + 1.0)
    free = aggregator.solve(under_cap(problem, wide), gap=GAP)
    use = np.maximum(
        free.day_ahead_mw, (free.day_ahead_mw[:, None] + free.real_time_mw).max(axis=1)
    )
    cost, bound = [], []
    for share in (1.0, 0.6, 0.35):
        cap = np.maximum(share * use.max(), 0.05) * np.ones(48)
        found = solve_under_cap(problem, cap, gap=GAP)
        if found.raised_percent > 0:
            break
        cost.append(found.plan.cost_usd)
        bound.append(found.plan.bound_usd)
    assert len(cost) >= 2
    assert cost[0] >= free.bound_usd - 1e-6
    for looser, tighter in zip(bound, cost[1:], strict=False):
        assert tighter >= looser - 1e-6


def test_the_least_uniform_raise_is_found_and_is_the_least():
    problem = problems(2200)[5]
    cap = np.full(48, 0.004)
    found = solve_under_cap(problem, cap, gap=1e-2)
    assert found.raised_percent > 0
    np.testing.assert_allclose(found.cap_mw, cap * (1 + found.raised_percent / 100), rtol=1e-5)
    assert (found.plan.day_ahead_mw <= found.cap_mw + 1e-6).all()
    below = cap * (1 + 0.97 * found.raised_percent / 100)
    with pytest.raises(InfeasibleError, match="cap is too low"):
        aggregator.solve(under_cap(problem, below), gap=1e-2)


def test_a_cap_that_no_raise_helps_is_an_error():
    problem = problems(2200)[5]
    with pytest.raises(InfeasibleError, match="trading cap"):
        solve_under_cap(problem, np.full(48, -0.01), gap=1e-2)


def test_nse_under_caps_is_never_more_than_without():
    fleet = problems(13_200)
    site = case.reference_day()
    own = np.column_stack([aggregator.solve(p, gap=0.03).day_ahead_mw for p in fleet])
    cars = np.array([p.cars for p in fleet], float)
    cap = allocation.allocate("proportional", cars)
    capped = np.column_stack(
        [aggregator.solve(under_cap(p, cap[:, k]), gap=0.03).day_ahead_mw
         for k, p in enumerate(fleet)]
    )  # fmt: skip
    alone, together = (opf.assess(site, p).short_mw.sum() for p in (own, capped))
    assert alone > 0  # the network cannot serve what everyone wants at once
    assert together == 0  # and serves the same cars under caps
