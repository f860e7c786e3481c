import numpy as np
import pytest
from coordination_fleets import problems

from evcm import aggregator
from evcm.coordination import allocation
from evcm.coordination.capped import fits, peak_use_mw, under_cap
from evcm.coordination.reallocation import direct, no_cap_mw, reallocate
from evcm.errors import InfeasibleError, InputError
from evcm.inputs import paper
from evcm.network import opf

GAP = 0.02
SITE = paper().day


@pytest.fixture(scope="module")
def crowded():
    """A fleet for which the network is too small to give everyone its wish."""
    fleet = problems(13_200)
    caps = allocation.allocate("max-min fair", np.ones(11), SITE)
    return fleet, caps, reallocate(fleet, caps, SITE, gap=GAP, max_rounds=2)


def test_the_network_serves_the_caps_and_the_plans(crowded):
    _, _, loop = crowded
    site = paper().day
    assert opf.served(site, loop.cap_mw).all()
    assert loop.nse_mwh == 0.0
    for k, plan in enumerate(loop.plans):
        assert fits(plan, loop.cap_mw[:, k])


def test_never_worse_than_one_shot(crowded):
    _, _, loop = crowded
    for plan, start in zip(loop.plans, loop.start, strict=True):
        assert start is None or plan.cost_usd <= start.cost_usd + 1e-9
    gained = sum(r.gain_usd.sum() for r in loop.rounds)
    assert gained > 0


def test_no_plan_beats_the_bound_without_caps(crowded):
    _, _, loop = crowded
    for plan, free in zip(loop.plans, loop.free, strict=True):
        assert plan.cost_usd >= free.bound_usd - 1e-6


def test_the_residual_is_what_another_offer_would_bring(crowded):
    _, _, loop = crowded
    could = loop.cost_usd - np.array([plan.cost_usd for plan in loop.free])
    assert (loop.residual_usd >= 0).all()
    assert (loop.residual_usd <= np.maximum(could, 0) + GAP * 50).all()


def test_where_the_network_can_give_all_wishes_it_does():
    fleet = problems(2200)
    tight = 0.5 * allocation.allocate("maximum total", np.ones(11), SITE)
    loop = reallocate(fleet, tight, SITE, gap=GAP)
    assert loop.nse_mwh == 0.0
    np.testing.assert_array_equal(loop.residual_usd, 0.0)
    for k, (plan, free) in enumerate(zip(loop.plans, loop.free, strict=True)):
        tolerance = GAP * free.cost.turnover_usd
        assert plan.cost_usd <= free.cost_usd + tolerance, k


def test_an_aggregator_without_a_plan_gets_one():
    fleet = problems(2200)
    caps = allocation.allocate("maximum total", np.ones(11), SITE)
    caps[:, 6] = 0.003  # less than the trips of its cars need
    with pytest.raises(InfeasibleError):
        aggregator.solve(under_cap(fleet[6], caps[:, 6]), gap=GAP)
    loop = reallocate(fleet, caps, SITE, gap=GAP)
    assert loop.start[6] is None
    assert fits(loop.plans[6], loop.cap_mw[:, 6])
    assert loop.nse_mwh == 0.0


def test_peak_use_counts_real_time():
    problem = problems(2200)[0]
    plan = direct([problem], GAP)(0, no_cap_mw(problem))
    use = peak_use_mw(plan)
    assert (use >= plan.day_ahead_mw).all()
    assert (use >= plan.day_ahead_mw + plan.real_time_mw[:, 1] - 1e-12).all()


def test_bad_shapes_are_named():
    with pytest.raises(InputError, match="start_cap_mw"):
        reallocate(problems(2200), np.ones((48, 3)), SITE)
