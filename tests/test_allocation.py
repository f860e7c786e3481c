import numpy as np
import pytest

from evcm.coordination import allocation
from evcm.coordination.regimes import RULES
from evcm.errors import InfeasibleError, InputError
from evcm.inputs import paper
from evcm.network import opf

CARS = np.array([421, 273, 393, 321, 407, 367, 358, 344, 322, 432, 362.0])


@pytest.fixture(scope="module")
def site():
    whole = paper().day
    some = [0, 10, 22, 29, 40]
    return whole.at(some)


@pytest.fixture(scope="module")
def by_rule(site):
    return {rule: allocation.allocate(rule, CARS, site) for rule in RULES}


@pytest.mark.parametrize("rule", RULES)
def test_the_network_serves_all_caps_at_once(by_rule, site, rule):
    assert opf.served(site, by_rule[rule]).all()


@pytest.mark.parametrize("rule", RULES)
def test_caps_keep_the_range_of_55(by_rule, site, rule):
    low, high = paper().network.cap_share_min, paper().network.cap_share_max
    load = site.aggregator_load_mw
    assert (by_rule[rule] >= low * load - 1e-6).all()
    assert (by_rule[rule] <= high * load + 1e-6).all()


def test_no_rule_gives_more_in_all_than_the_maximum(by_rule):
    most = by_rule["maximum total"].sum(axis=1)
    for rule in RULES[1:]:
        assert (by_rule[rule].sum(axis=1) <= most + 1e-3).all()
        assert (by_rule[rule].sum(axis=1) >= 0.9 * most).all()


def test_proportional_caps_share_one_factor_that_cannot_grow(by_rule, site):
    cap = by_rule["proportional"]
    low, high = paper().network.cap_share_min, paper().network.cap_share_max
    load = site.aggregator_load_mw
    inside = (cap > low * load + 1e-6) & (cap < high * load - 1e-6)
    factor = cap / CARS
    for t in range(len(cap)):
        assert inside[t].sum() >= 2
        assert np.ptp(factor[t][inside[t]]) < 1e-9
    assert not opf.served(site, cap + np.where(inside, 0.02, 0.0)).any()


def test_max_min_caps_are_equal_where_nothing_holds_them_and_none_can_rise(by_rule, site):
    cap = by_rule["max-min fair"]
    low, high = paper().network.cap_share_min, paper().network.cap_share_max
    load = site.aggregator_load_mw
    inside = (cap > low * load + 1e-6) & (cap < high * load - 1e-6)
    for t in range(len(cap)):
        assert np.ptp(cap[t][inside[t]]) < 2 * allocation.STEP_MW
    for k in range(cap.shape[1]):
        more = cap.copy()
        more[:, k] += 0.02
        assert not opf.served(site, more)[inside[:, k]].any()


@pytest.mark.parametrize(("many", "further"), [(CARS.size, True), (CARS.size - 1, False)])
def test_of_many_aggregators_the_least_cap_alone_is_raised(site, monkeypatch, many, further):
    asked = []
    monkeypatch.setattr(allocation, "MANY", many)
    monkeypatch.setattr(
        allocation, "_can_rise", lambda *a: asked.append(True) or np.zeros_like(a[2])
    )
    allocation.allocate("max-min fair", CARS, site)
    assert bool(asked) == further


def test_a_rule_ranks_the_least_served_first(by_rule):
    """Max-min fair: its smallest cap is at least that of any other rule."""
    least = by_rule["max-min fair"].min(axis=1)
    for rule in RULES:
        assert (least >= by_rule[rule].min(axis=1) - 1e-3).all()


def test_weight_zero_keeps_its_start_and_ceilings_hold(site):
    start = np.full((5, 11), 0.1)
    weight = np.r_[0.0, np.ones(10)]
    cap = allocation.fill(site, start, np.full((5, 11), 0.3), weight)
    np.testing.assert_allclose(cap[:, 0], 0.1)
    np.testing.assert_allclose(cap[:, 1:], 0.3)


def test_a_floor_that_the_network_cannot_serve_is_named(site):
    with pytest.raises(InfeasibleError, match="cannot serve the least caps in period 1") as found:
        allocation.fill(site, np.full((5, 11), 20.0), np.full((5, 11), 30.0), np.ones(11))
    assert found.value.details["periods"] == [1, 2, 3, 4, 5]


def test_a_period_without_operating_point_is_not_served(site):
    # 300 MW at bus 3, where nothing may be left unsupplied
    ev = np.zeros((5, 11))
    ev[2, 1] = 300.0
    state = opf.assess(site, ev)
    assert np.isinf(state.nsp_mw[2])
    assert np.isnan(state.v_min_pu[2])
    np.testing.assert_array_equal(state.short_mw[[0, 1, 3, 4]], 0.0)
    assert opf.served(site, ev).tolist() == [True, True, False, True, True]


def test_bad_input_is_named(site):
    with pytest.raises(InputError, match="rule: got fair; allowed: maximum total"):
        allocation.allocate("fair", CARS, site)
    with pytest.raises(InputError, match="weight"):
        allocation.fill(site, np.zeros((5, 11)), np.ones((5, 11)), -np.ones(11))
    with pytest.raises(InputError, match="ceiling_mw"):
        allocation.fill(site, np.zeros((5, 11)), np.ones((4, 11)), np.ones(11))
