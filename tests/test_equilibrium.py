"""Best responses in turn: the end is an equilibrium to its epsilon, and nobody's bound lies."""

import numpy as np
import pytest
from coordination_fleets import problems

from evcm import aggregator
from evcm.aggregator.interior.search import Search
from evcm.coordination import equilibrium
from evcm.coordination.account import account, trade_of_plans
from evcm.coordination.equilibrium import Ending, against, find_equilibrium
from evcm.coordination.joint import solve_joint
from evcm.errors import InputError
from evcm.inputs import paper

GAP = 0.01


@pytest.fixture(scope="module")
def fleet():
    return problems(2200)


@pytest.fixture(scope="module")
def apart(fleet):
    return [aggregator.solve(p, gap=GAP) for p in fleet]


@pytest.fixture(scope="module")
def found(fleet, apart):
    return find_equilibrium(fleet, apart, gap=GAP, tolerance=GAP)


def test_nobody_gains_more_than_epsilon(fleet, found):
    """Solved afresh, to a smaller gap, against the others' final plans."""
    assert found.ending is Ending.SETTLED
    assert found.moves[-1] < len(fleet)
    total = found.power_mw.sum(axis=1)
    for k in (0, 5, 10):
        market = against(fleet[k], total - found.power_mw[:, k])
        best = aggregator.solve(market, gap=1e-3)
        gain = found.plans[k].cost_usd - best.cost_usd
        assert gain <= found.epsilon_usd[k] + 1e-6
        assert found.plans[k].bound_usd <= best.cost_usd + 1e-6
        aggregator.certify_plan(market, found.plans[k])


def test_knowing_the_others_is_worth_more_than_one_owner(fleet, apart, found):
    """Most of what planning apart costs is ignorance: the others' plans unknown."""
    joint = solve_joint(fleet, paper().day, gap=GAP)
    paid = {
        name: account(fleet[0], trade_of_plans(fleet, plans)).total_usd
        for name, plans in (("apart", apart), ("equilibrium", found.plans))
    }
    assert joint.bound_usd <= paid["equilibrium"] < paid["apart"]
    assert paid["apart"] - paid["equilibrium"] > paid["equilibrium"] - joint.plan.cost_usd


def test_expected_is_what_is_paid_but_for_edges_and_deviations_of_others(fleet, found):
    """At an edge of the price curve each may take the better side; all together take one."""
    paid = account(fleet[0], trade_of_plans(fleet, found.plans))
    day_ahead = sum(p.cost.day_ahead_usd + p.cost.battery_usd for p in found.plans)
    assert paid.day_ahead_usd + paid.battery_usd == pytest.approx(day_ahead, rel=1e-2)


def test_one_aggregator_is_its_own_equilibrium(fleet, apart):
    alone = find_equilibrium(fleet[:1], apart[:1], gap=GAP, tolerance=GAP)
    assert alone.moves == (0,)
    assert alone.epsilon_usd[0] <= 2 * GAP * apart[0].cost.turnover_usd


def test_a_stop_without_a_settled_round_claims_nothing(fleet, apart):
    stopped = find_equilibrium(fleet, apart, gap=GAP, tolerance=0.0, max_rounds=1)
    assert stopped.ending is Ending.STOPPED
    assert np.isinf(stopped.epsilon_usd).all()


def test_who_stays_put_is_not_searched_to_the_end(fleet, found, monkeypatch):
    """From a settled equilibrium nobody moves; bounds alone tell it, no plan is looked for."""
    fixed, looked = Search.fixed, []

    def counted(self, *where):
        looked.append(self.problem.bus)
        return fixed(self, *where)

    monkeypatch.setattr(Search, "fixed", counted)
    wide = 10 * GAP
    again = find_equilibrium(fleet, found.plans, gap=wide, tolerance=wide)
    assert again.moves == (0,)
    assert len(looked) < len(fleet) / 2
    np.testing.assert_array_equal(again.power_mw, found.power_mw)
    turnover = np.array([plan.cost.turnover_usd for plan in again.plans])
    assert (again.epsilon_usd >= 0).all()
    # Who looked for a plan may have found a better one, by less than the tolerance.
    searched = np.array([p.bus in looked for p in fleet])
    assert (again.epsilon_usd <= wide * turnover * (1 + searched) + 1e-9).all()


def test_many_aggregators_settle_at_a_tolerance_that_grows(fleet, apart, monkeypatch):
    few = fleet[:3], apart[:3]
    options = {"gap": GAP, "tolerance": GAP / 2, "max_rounds": 5}
    monkeypatch.setattr(equilibrium, "MANY", 2)
    monkeypatch.setattr(equilibrium, "PATIENCE_WITH_MANY", 1)
    grown = find_equilibrium(*few, **options)
    assert grown.ending is Ending.SETTLED
    assert np.isfinite(grown.epsilon_usd).all()
    total = grown.power_mw.sum(axis=1)
    market = against(fleet[1], total - grown.power_mw[:, 1])
    best = aggregator.solve(market, gap=1e-3)
    assert grown.plans[1].cost_usd - best.cost_usd <= grown.epsilon_usd[1] + 1e-6
    for k, held in enumerate(grown.plans):  # proven to the gap asked, not to that of the last round
        market = against(few[0][k], total - grown.power_mw[:, k])
        again = aggregator.solve(market, gap=GAP, start=held)
        assert held.bound_usd >= again.bound_usd - 1e-9


def test_bad_input_is_named(fleet, apart):
    with pytest.raises(InputError, match=r"start[\s\S]*max_rounds"):
        find_equilibrium(fleet, apart[:3], max_rounds=0)


def test_endings_say_what_to_do():
    assert all(len(ending.value) > 20 for ending in equilibrium.Ending)
