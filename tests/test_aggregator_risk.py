"""CVaR by the interior method: against the model, and what holds at any size."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import random_problem
from odd_problems import odd_problem

from evcm import inputs
from evcm.aggregator import of_fleet
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.interior.market import Lagrangian
from evcm.aggregator.interior.risk import RiskSearch
from evcm.aggregator.interior.search import Search
from evcm.aggregator.interior.solve import solve_interior
from evcm.aggregator.methods import choose_method, solve
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import AggregatorPlan, value_at_risk
from evcm.aggregator.problem import AggregatorProblem
from evcm.errors import SolverError
from evcm.trips import fleet, montecarlo

ODD = (
    {},
    {"cap": "trading"},
    {"forced_v2g": True},
    {"always_plugged": True},
    {"charger_kw": 60.0},
)


def search(problem: AggregatorProblem, gap: float = 1e-3) -> RiskSearch:
    return RiskSearch(problem, gap, np.inf, 1, None)


@pytest.mark.parametrize("weight", [0.3, 0.7, 1.0])
@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.8])
def test_the_model_finds_the_same_risk(weight: float, alpha: float) -> None:
    problem = random_problem(3, samples=4, periods=8, vehicles=3, steps=3)
    same_risk(problem.with_options(risk_weight=weight, risk_alpha=alpha))


@pytest.mark.parametrize("options", ODD)
def test_the_model_finds_the_same_risk_with_odd_options(options: dict[str, object]) -> None:
    problem = random_problem(12, samples=3, periods=8, vehicles=4, steps=4, **options)
    same_risk(problem.with_options(risk_weight=0.6, risk_alpha=0.6))
    some = np.array([True, False, True, False])
    same_risk(problem.with_options(risk_weight=0.6, risk_alpha=0.6, feeds_in=some))
    same_risk(problem.with_options(risk_weight=0.6, risk_alpha=0.6, real_time_limit="plug"))


def test_dropped_steps_prove_no_more_than_the_cutoff() -> None:
    """A part that is closed far above the cutoff once proved more than any plan costs."""
    problem = random_problem(13, samples=3, periods=8, vehicles=4, steps=4)
    same_risk(problem.with_options(risk_weight=0.6, risk_alpha=0.6), gap=0.1)


def same_risk(problem: AggregatorProblem, gap: float = 2e-3) -> None:
    """The search's bound and plan bracket what the model proves."""
    model = solve_model(problem, gap=1e-5, time_limit_s=60)
    slack = 1e-6 * model.cost.turnover_usd
    s = search(problem, gap)
    s.run()
    assert s.best is not None
    assert s.proven_usd <= model.objective_usd + slack
    assert s.risk_usd >= model.bound_usd - slack
    plan = solve(problem, "interior", gap)
    certify_plan(problem, plan)
    assert plan.gap <= gap
    assert abs(plan.objective_usd - model.objective_usd) <= 2 * gap * model.cost.turnover_usd


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_no_weights_of_samples_bound_more_than_a_plan_costs(seed: int) -> None:
    problem = random_problem(seed, samples=3, periods=8, vehicles=3)
    problem = problem.with_options(risk_weight=1.0, risk_alpha=0.5)
    plan = solve_model(problem.with_options(risk_weight=0.0), gap=1e-3, time_limit_s=20)
    rng, s = np.random.default_rng(seed), search(problem)
    q = rng.dirichlet(np.ones(3))
    s.weigh(q)
    weighted = float(q @ plan.cost.by_sample_usd) / s.units.usd
    T = problem.periods
    for toll in (0.0, 0.01, 1.0):
        s.steps = s.steps._replace(toll=np.full((T, 3), toll))
        r = s.relax(s.steps.day, s.steps.real, set(range(T)))
        assert r.bound.value <= weighted + 1e-9
    noise = rng.standard_normal((T, 3, 4)), rng.standard_normal(T)
    assert s.lagrangian.bound(*noise, s.steps).value <= weighted + 1e-9


def test_weights_that_are_the_probabilities_change_no_bit() -> None:
    problem = random_problem(5, samples=3, periods=12)
    plain = Search(problem, 1e-3, np.inf, 1, None, alike=False)
    s = search(problem.with_options(risk_weight=0.5))
    s.weigh(problem.probability)
    s.lagrangian, s.bounds = plain.lagrangian, plain.bounds
    for blocks in (set(), {1, 4, 7}):
        a = plain.relax(plain.steps.day, plain.steps.real, blocks)
        b = s.relax(s.steps.day, s.steps.real, blocks)
        assert a.bound.value == b.bound.value
        assert (a.answer.E == b.answer.E).all()
        assert (a.answer.levels == b.answer.levels).all()


def test_the_limit_of_trade_itself_bounds_no_less() -> None:
    problem = random_problem(6, samples=3, periods=12)
    s = Search(problem, 1e-3, np.inf, 1, None, alike=False)
    r = s.relax(s.steps.day, s.steps.real, set())
    own = Lagrangian(problem, s.segments, s.rows, s.units, of_trade=True)
    assert own.bound(*r.answer.multipliers, s.steps).value >= r.bound.value - 1e-12


@pytest.mark.parametrize(("seed", "weight"), [(5, 0.3), (9, 0.7), (13, 0.3), (29, 0.7)])
def test_a_bound_that_closes_every_step_proves_the_plan(seed: int, weight: float) -> None:
    problem = random_problem(seed, samples=3, periods=8, vehicles=3)
    plan = solve_interior(problem.with_options(risk_weight=weight, risk_alpha=0.5), 1e-2)
    assert plan.gap <= 1e-2


def test_a_program_that_lost_its_digits_gives_no_plan() -> None:
    """Its levels are no numbers; the plans that are known stay."""
    problem = odd_problem(59).with_options(risk_weight=0.9, risk_alpha=0.8)
    plan = solve_interior(problem, 0.05)
    certify_plan(problem, plan)
    assert plan.gap <= 0.05


def test_progress_and_time_limits() -> None:
    problem = random_problem(7, samples=4, periods=12, vehicles=6)
    problem = problem.with_options(risk_weight=0.5, risk_alpha=0.7)
    assert choose_method(problem) == ("interior", "")
    told: list[tuple[float, float]] = []
    plan = solve_interior(problem, 0.05, progress=lambda best, low, _: told.append((best, low)))
    assert told
    assert all(low <= best + 1e-9 for best, low in told)
    assert told[-1][0] == pytest.approx(plan.objective_usd, abs=1e-6)
    late = solve_interior(problem, 1e-9, time_limit_s=1e-3)
    certify_plan(problem, late)
    assert "time limit" in late.status
    with pytest.raises(SolverError, match="gap"):
        solve_interior(problem, 1e-9)


def bus(scenario: int, at: int) -> AggregatorProblem:
    """A problem of the study."""
    told = inputs.paper()
    draw = montecarlo.grouped_draw(told, told.scenario(scenario), told.law(), seed=1)
    return of_fleet.aggregator_problem(fleet.weighted_fleet(draw, "min"), bus=at)


@pytest.mark.slow
@pytest.mark.parametrize(("scenario", "at"), [(1, 14), (3, 14)])
def test_a_whole_bus_with_ten_samples(scenario: int, at: int) -> None:
    problem = bus(scenario, at)
    plain = solve(problem, gap=2e-3)
    risky = problem.with_options(risk_weight=0.5, risk_alpha=0.8)
    plan = solve(risky, gap=5e-3)
    assert plan.method == "interior"
    assert plan.gap <= 5e-3
    assert tail(risky, plan) < tail(risky, plain)
    assert plan.cost_usd > plain.bound_usd


@pytest.mark.slow
def test_a_large_bus_under_a_heavy_weight() -> None:
    """Weights nearer to the probabilities prove what the weights of the worst days do not."""
    plan = solve(bus(1, 5).with_options(risk_weight=0.9, risk_alpha=0.8), gap=1e-2)
    assert plan.method == "interior"
    assert plan.gap <= 1e-2


def tail(problem: AggregatorProblem, plan: AggregatorPlan) -> float:
    return value_at_risk(plan.cost.by_sample_usd, problem.probability, problem.risk_alpha)[1]
