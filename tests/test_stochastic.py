from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import random_problem

from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.value import (
    cvar_frontier,
    mean_day,
    nearest_to_mean,
    operate_fresh_days,
    resample_days,
    stochastic_value,
    take_samples,
)
from evcm.errors import InputError
from evcm.inputs import PriceSteps
from evcm.inputs.prices import PriceSeries


def identical(problem: AggregatorProblem) -> AggregatorProblem:
    """The problem with its first sample in place of all."""
    arrays = {
        name: np.repeat(getattr(problem, name)[:, :, :1], problem.samples, axis=2)
        for name in ("available", "travelling", "trip_energy_kwh")
    }
    return problem.with_options(**arrays)


@settings(max_examples=3, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_the_order_of_the_three_costs(seed: int) -> None:
    problem = random_problem(seed, samples=3, periods=8, vehicles=3, steps=3)
    value = stochastic_value(problem, 1e-3, time_limit_s=20)
    ws, rp, eev = value.wait_and_see, value.recourse, value.mean_value
    slack = 1e-9 + 2e-3 * value.recourse_plan.cost.turnover_usd
    for bracket in (ws, rp, eev):
        assert bracket.bound_usd <= bracket.cost_usd + 1e-9
    assert ws.bound_usd <= rp.cost_usd + 1e-9
    assert rp.bound_usd <= eev.cost_usd + 1e-9
    assert ws.cost_usd <= rp.cost_usd + slack
    assert rp.cost_usd <= eev.cost_usd + slack
    assert value.table()["plan"].tolist() == ["wait and see", "recourse problem", "mean-value plan"]


def test_without_uncertainty_the_mean_value_plan_is_the_recourse_plan() -> None:
    problem = identical(random_problem(8, samples=3, periods=8, vehicles=3, steps=3))
    value = stochastic_value(problem, 1e-4, time_limit_s=20)
    scale = value.recourse_plan.cost.turnover_usd
    assert abs(value.value_of_stochastic_solution_usd) < 5e-4 * scale
    assert value.mean_plan.cost_usd == pytest.approx(value.recourse.cost_usd, abs=2e-4 * scale)


def test_a_repair_for_nothing_costs_nothing() -> None:
    problem = random_problem(8, samples=3, periods=8, vehicles=3, steps=3)
    value = stochastic_value(problem, 1e-4, repair_usd_per_kwh=0.0, time_limit_s=20)
    scale = value.recourse_plan.cost.turnover_usd
    assert abs(value.value_of_stochastic_solution_usd) < 5e-4 * scale


def test_the_mean_day_is_a_day_of_each_car() -> None:
    problem = random_problem(5, samples=5)
    at, mean = nearest_to_mean(problem), mean_day(problem)
    assert mean.samples == 1
    for v, n in enumerate(at):
        np.testing.assert_array_equal(mean.available[:, v, 0], problem.available[:, v, n])
        np.testing.assert_array_equal(
            mean.trip_energy_kwh[:, v, 0], problem.trip_energy_kwh[:, v, n]
        )


def test_taking_samples() -> None:
    problem = random_problem(5, samples=3).with_options(probability=np.array([0.2, 0.3, 0.5]))
    part = take_samples(problem, [0, 1])
    np.testing.assert_allclose(part.probability, [0.4, 0.6])
    with pytest.raises(InputError, match="samples"):
        take_samples(problem, [3])


def test_samples_keep_their_own_prices() -> None:
    buy = np.random.default_rng(1).uniform(0.005, 0.02, (12, 3))
    price = PriceSeries(buy.mean(axis=1), buy, 0.9 * buy)
    problem = random_problem(5, samples=3).with_options(price=price)
    last_first = take_samples(problem, [2, 0])
    assert isinstance(last_first.price, PriceSeries)
    for found, of_all in zip(
        last_first.price.real_time_usd_per_kwh(2), (buy, 0.9 * buy), strict=True
    ):
        np.testing.assert_array_equal(found, of_all[:, [2, 0]])
    whole = operate_fresh_days(np.zeros(12), problem)
    part = operate_fresh_days(np.zeros(12), last_first)
    np.testing.assert_allclose(part.cost_usd, whole.cost_usd[[2, 0]], rtol=1e-12)


def test_a_fresh_day_without_cars_costs_its_energy_alone() -> None:
    problem = random_problem(5, samples=2)
    available = problem.available.copy()
    available[:, :, 0] = False
    days = operate_fresh_days(np.zeros(12), problem.with_options(available=available))
    assert days.cost_usd[0] == days.penalized_kwh[0] == 0
    parts = days.real_time_usd + days.wear_usd + days.penalty_usd
    np.testing.assert_allclose(days.cost_usd, parts)


def test_known_days_cost_no_more_than_the_plan_for_them() -> None:
    problem = random_problem(4, samples=3)
    plan = solve_model(problem, 1e-4)
    days = operate_fresh_days(plan.day_ahead_mw, problem)
    # The plan's own samples: its real-time schedule is one way to operate them.
    assert (days.bound_usd <= plan.cost.by_sample_usd + 1e-6).all()
    assert (days.bound_usd <= days.cost_usd + 1e-9).all()
    assert days.cost_usd.mean() >= days.bound_usd.mean()


def test_a_fresh_day_by_hand() -> None:
    # One flat price: the day costs its energy, and what the plan lacks is bought in real time at
    # the same price as far as (10) allows, or with the penalty.
    problem = random_problem(6, vehicles=1, samples=1, group_size=1)
    flat = PriceSteps(np.array([1e6]), np.array([0.01]))
    problem = problem.with_options(price=flat, degradation_slope=np.zeros(1))
    lacking = 60.0 - problem.visits.arrival_soc_kwh[0]
    right = solve_model(problem, 1e-6)
    cost = operate_fresh_days(right.day_ahead_mw, problem).cost_usd[0]
    assert cost == pytest.approx(0.01 * lacking / 0.9, abs=1e-6)
    nothing = operate_fresh_days(
        np.zeros(problem.periods), problem.with_options(allow_v2g=False), penalty_usd_per_kwh=1.0
    )
    assert nothing.penalized_kwh[0] == pytest.approx(lacking / 0.9, abs=1e-5)
    assert nothing.cost_usd[0] == pytest.approx(1.01 * lacking / 0.9, abs=1e-5)


def test_resampled_days_are_days_of_the_cars_and_depend_on_the_seed_alone() -> None:
    problem = random_problem(5, samples=4)
    one, same, other = (resample_days(problem, 50, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.available, same.available)
    assert (one.available != other.available).any()
    assert one.samples == 50
    own = {problem.available[:, 2, n].tobytes() for n in range(4)}
    assert {one.available[:, 2, s].tobytes() for s in range(50)} <= own


def test_the_interval_covers_the_mean_and_shrinks() -> None:
    problem = random_problem(5, samples=4)
    plan = solve_model(problem, 1e-2)
    days = operate_fresh_days(plan.day_ahead_mw, resample_days(problem, 80, 3))
    low, high = days.confidence_interval()
    assert low <= days.profit_usd.mean() <= high
    wide_low, wide_high = days.confidence_interval(z=3.0)
    assert wide_low < low
    assert wide_high > high
    with pytest.raises(InputError, match="day_ahead_mw"):
        operate_fresh_days(np.zeros(3), problem)


def test_the_frontier_is_monotone() -> None:
    problem = random_problem(3, samples=4, periods=8, vehicles=3, steps=3)
    frontier = cvar_frontier(problem, (0.0, 0.5, 1.0), alpha=0.5, gap=1e-3, time_limit_s=20)
    assert (frontier["expected_usd"].diff().dropna() >= -1e-9).all()
    assert (frontier["cvar_usd"].diff().dropna() <= 1e-9).all()
    assert (frontier["cvar_usd"] >= frontier["expected_usd"] - 1e-9).all()
    assert (frontier["gap"] < 0.02).all()
    assert (frontier["bound_usd"] <= frontier["objective_usd"] + 1e-9).all()
