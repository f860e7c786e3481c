from dataclasses import replace

import numpy as np
import pytest
from coordination_fleets import problems

from evcm import aggregator
from evcm.coordination import allocation
from evcm.coordination.account import (
    account,
    fed_in_mwh,
    operate,
    trade_of_plans,
    trade_of_uncontrolled,
)
from evcm.coordination.capped import under_cap
from evcm.coordination.joint import joint_problem, solve_joint, trade_of_joint
from evcm.errors import InfeasibleError, InputError
from evcm.inputs.folder import paper
from evcm.inputs.prices import PriceSeries
from evcm.network import caps, opf
from evcm.network.caps import network_room_mw
from evcm.trips import uncontrolled

GAP = 0.01
SITE = paper().day


@pytest.fixture(scope="module")
def fleet():
    return problems(2200)


@pytest.fixture(scope="module")
def joint(fleet):
    return solve_joint(fleet, paper().day, gap=GAP)


@pytest.fixture(scope="module")
def own(fleet):
    return [aggregator.solve(p, gap=GAP) for p in fleet]


def test_all_cars_stand_in_the_joint_problem_once_per_bus(fleet):
    both = joint_problem(fleet)
    assert both.vehicles == sum(p.vehicles for p in fleet)
    assert both.cars == 2 * 2200
    assert both.system_cap_mw is None
    assert (both.cap_mw > both.plugged_mw.max(axis=1)).all()
    first = slice(0, fleet[0].vehicles)
    np.testing.assert_array_equal(both.available[:, first], fleet[0].available)


def test_the_split_adds_up_and_the_opf_agrees(fleet, joint):
    np.testing.assert_allclose(joint.power_mw.sum(axis=1), joint.plan.day_ahead_mw, atol=1e-6)
    assert opf.solve_day(paper().day.with_cars(joint.power_mw)).nse_mwh == 0.0
    assert joint.rounds == 0
    assert joint.bound_usd <= joint.plan.cost_usd


def test_the_common_price_of_the_joint_plan_is_its_cost(fleet, joint):
    for trade in (trade_of_plans([joint.problem], [joint.plan]), trade_of_joint(fleet, joint.plan)):
        paid = account(joint.problem, trade).total_usd
        assert paid == pytest.approx(joint.plan.cost_usd, abs=1e-6)


def test_the_split_of_a_joint_plan_keeps_every_day(fleet, joint):
    trade = trade_of_joint(fleet, joint.plan)
    np.testing.assert_allclose(trade.real_time_mw, joint.plan.real_time_mw, atol=1e-9)
    np.testing.assert_allclose(trade.day_ahead_mw, joint.power_mw, atol=1e-12)
    whole = fed_in_mwh(joint.problem, joint.plan)
    assert trade.fed_in_mwh == pytest.approx(whole)
    assert whole > 0


def test_a_lower_load_makes_a_lower_bill(fleet, joint):
    """The operator's own load is below the forecast in every half-hour, and so is the price."""
    load = paper().day.load_p_mw.sum(axis=1)
    forecast = fleet[0].system_load_mw
    assert (load < forecast).all()
    trade = trade_of_joint(fleet, joint.plan)
    assert account(fleet[0], trade, load).total_usd < account(fleet[0], trade).total_usd


def test_operation_is_the_mean_over_days():
    site = paper().day
    rng = np.random.default_rng(3)
    power = rng.uniform(0.0, 4.0, (48, 11, 3))
    weight = np.array([0.5, 0.25, 0.25])
    days = [opf.solve_day(paper().day.with_cars(power[:, :, n])) for n in range(3)]
    found = operate(site, power, weight)
    assert found.nse_mwh == pytest.approx(weight @ [d.nse_mwh for d in days], abs=1e-3)
    assert found.losses_mwh == pytest.approx(weight @ [d.losses_mwh for d in days], rel=1e-6)
    assert found.peak_mw == pytest.approx(weight @ [d.peak_mw for d in days], rel=1e-9)
    short = [d.nse_mwh > 1e-3 for d in days]
    assert found.days_short == pytest.approx(weight @ short)


def test_the_joint_bound_is_below_every_regime(fleet, joint, own):
    cap = allocation.allocate("proportional", np.array([p.cars for p in fleet], float), SITE)
    capped = [aggregator.solve(under_cap(p, cap[:, k]), gap=GAP) for k, p in enumerate(fleet)]
    for plans in (own, capped):
        paid = account(fleet[0], trade_of_plans(fleet, plans)).total_usd
        assert joint.bound_usd <= paid
        assert joint.plan.cost_usd <= paid
        assert sum(p.bound_usd for p in plans) <= paid  # each ignores what the others do


def test_one_aggregator_alone_is_its_own_joint_optimum(fleet):
    problem = fleet[4]
    alone = aggregator.solve(
        problem.with_options(system_cap_mw=None, trading_cap_mw=np.full(48, 1e3)), gap=1e-4
    )
    both = aggregator.solve(joint_problem([problem]), gap=1e-4)
    assert both.bound_usd <= alone.cost_usd + 1e-9
    assert alone.bound_usd <= both.cost_usd + 1e-9


def test_uncontrolled_trade_has_no_mean_deviation(fleet):
    rng = np.random.default_rng(1)
    day = uncontrolled.UncontrolledDay(
        rng.random((48, 11, 2)), np.zeros(2), paper().buses, paper().day.period_h
    )
    trade = trade_of_uncontrolled(day)
    np.testing.assert_allclose(trade.real_time_mw.mean(axis=1), 0.0, atol=1e-12)
    np.testing.assert_allclose(trade.total_mw, day.power_mw.sum(axis=1).mean(axis=1))
    assert account(fleet[0], trade).battery_usd == 0.0


def test_the_networks_room_is_at_least_the_sum_of_the_caps():
    site = paper().day
    reach = np.full((48, 11), 60.0)
    room = network_room_mw(site, reach)
    assert (room >= caps.solve_caps(paper().day).total_mw - 1e-3).all()
    assert (room <= 272.4 - site.load_p_mw.sum(axis=1)).all()


def test_a_short_network_cuts_the_total_until_the_opf_agrees(fleet, joint):
    whole = paper().day
    # nights so loaded that the cheap hours cannot take the plan without the network
    night = np.ones(48)
    night[:14] = 1.29
    site = replace(whole, load_p_mw=whole.load_p_mw * night[:, None])
    assert not opf.served(site, joint.power_mw).all()
    cut = solve_joint(fleet, site, gap=GAP)
    assert cut.rounds >= 1
    assert opf.served(site, cut.power_mw).all()
    assert joint.bound_usd - 1e-6 <= cut.plan.cost_usd
    assert cut.bound_usd <= cut.plan.cost_usd


def test_a_network_without_room_is_infeasible(fleet):
    whole = paper().day
    load = whole.load_p_mw * (271.0 - 13.0) / whole.load_p_mw.sum(axis=1, keepdims=True)
    site = replace(whole, load_p_mw=load * 1.004)
    with pytest.raises(InfeasibleError):
        solve_joint(problems(30_800), site, gap=0.05)


def test_problems_that_do_not_belong_together_are_refused(fleet):
    other = fleet[1].with_options(system_load_mw=fleet[1].system_load_mw + 1.0)
    with pytest.raises(InputError, match="another market"):
        joint_problem([fleet[0], other])


def test_cars_of_several_kinds_and_prices_by_period_share_a_joint_optimum(fleet):
    """Each keeps its own battery and charger; a price taker's joint bill is the sum of bills."""
    market = {"price": PriceSeries(np.linspace(0.2, 0.05, 48)), "system_cap_mw": 1000.0}
    plain, other = (p.with_options(**market) for p in problems(2200, samples=1)[:2])
    start, size = plain.vehicles, other.vehicles
    slow = other.with_options(
        charger=replace(other.charger, power_kw=np.linspace(50.0, 60.0, size)),
        battery=replace(other.battery, capacity_kwh=100.0, soc_max_kwh=95.0),
        feeds_in=np.arange(size) % 2 == 0,
    )
    both = joint_problem([plain, slow])
    assert both.figures.power_kw[:start].tolist() == plain.figures.power_kw.tolist()
    assert both.figures.power_kw[start:].tolist() == np.linspace(50.0, 60.0, size).tolist()
    assert both.figures.soc_max_kwh[[0, -1]].tolist() == [76.0, 95.0]
    assert both.figures.feeds_in.tolist() == [True] * start + slow.figures.feeds_in.tolist()
    apart = sum(aggregator.solve(p, gap=1e-6).cost_usd for p in (plain, slow))
    # one sample trades nothing in real time: no limit ties the two together
    assert aggregator.solve(both, gap=1e-6).cost_usd == pytest.approx(apart, rel=1e-5)
    with pytest.raises(InputError, match="another market"):
        joint_problem([fleet[0], slow])
