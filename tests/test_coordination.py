import numpy as np
import pytest
from coordination_fleets import problems
from instances import random_problem

from evcm import aggregator
from evcm.coordination import allocation
from evcm.coordination.capped import solve_under_cap, under_cap
from evcm.errors import InfeasibleError
from evcm.inputs import paper
from evcm.network import caps as total_caps
from evcm.network import opf

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
    site = paper().day
    own = np.column_stack([aggregator.solve(p, gap=0.03).day_ahead_mw for p in fleet])
    cars = np.array([p.cars for p in fleet], float)
    cap = allocation.allocate("proportional", cars, paper().day)
    capped = np.column_stack(
        [aggregator.solve(under_cap(p, cap[:, k]), gap=0.03).day_ahead_mw
         for k, p in enumerate(fleet)]
    )  # fmt: skip
    alone, together = (opf.assess(site, p).short_mw.sum() for p in (own, capped))
    assert alone > 0  # the network cannot serve what everyone wants at once
    assert together == 0  # and serves the same cars under caps


@pytest.mark.parametrize("seed", [0, 2, 4])
def test_a_cap_on_feeding_in_binds_alike_in_every_method(seed):
    wide = random_problem(seed)
    free = aggregator.solve(wide, "model", gap=1e-4)
    most = -least_power(free).min()
    assert most > 0
    tight = wide.with_options(export_cap_mw=np.full(wide.periods, 0.5 * most))
    plans = [aggregator.solve(tight, m, gap=1e-4) for m in ("model", "interior")]
    for plan in plans:
        assert least_power(plan).min() >= -0.5 * most - 1e-6
        assert plan.cost_usd >= free.bound_usd - 1e-9
        assert plan.cost_usd == pytest.approx(plans[0].cost_usd, abs=2e-4 * plan.cost.turnover_usd)
    assert max(plan.cost_usd for plan in plans) > free.cost_usd


def test_plans_within_caps_both_ways_are_served():
    site = paper().day.at(np.arange(20, 26))
    caps = total_caps.solve_caps(site).cap_mw
    exports = total_caps.solve_exports(site).cap_mw
    rng = np.random.default_rng(7)
    for corner in (True, False) * 4:
        share = rng.random(caps.shape)
        share = (share < 0.6) * 1.0 if corner else share
        plan = np.where(rng.random(caps.shape) < 0.5, share * caps, -share * exports)
        assert (opf.assess(site, plan).short_mw == 0).all()
    beyond = np.full(caps.shape, -25.0)
    assert np.isinf(opf.assess(site, beyond).nsp_mw).any()


def test_an_aggregator_keeps_both_caps():
    problem = problems(2200)[5]
    cap, most = np.full(48, 2.0), np.full(48, 0.01)
    free = solve_under_cap(problem, cap, gap=1e-2).plan
    assert least_power(free).min() < -0.01
    both = solve_under_cap(problem, cap, gap=1e-2, export_mw=most).plan
    assert least_power(both).min() >= -0.01 - 1e-6
    assert both.cost_usd >= free.bound_usd - 1e-9


def least_power(plan):
    """Least power of a plan in each period, day-ahead or in any sample, MW."""
    return np.minimum(
        plan.day_ahead_mw, (plan.day_ahead_mw[:, None] + plan.real_time_mw).min(axis=1)
    )
