from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instances import random_problem

from evcm.aggregator import choose_method, solve
from evcm.aggregator.bigm import build_big_m, least_big_m, solve_big_m
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.infeasible import least_cap
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import power_range, reachable_steps
from evcm.aggregator.value import operate_fresh_days
from evcm.errors import InfeasibleError, InputError
from evcm.inputs import Battery, Charger, PriceSteps
from evcm.inputs.prices import PriceSeries

EFFICIENCY = 0.9


def one_car(
    *,
    periods: int = 4,
    samples: int = 1,
    driven_kwh: float = 9.0,
    load_mw: float = 100.0,
    edge_mw: tuple[float, ...] = (1000.0,),
    price: tuple[float, ...] = (0.01,),
    wear: float = 0.001,
    cars: int = 1,
    **changes: object,
) -> AggregatorProblem:
    """A car that drives in period 0 and is plugged in for the rest of the day."""
    shape = (periods, 1, samples)
    available, travelling, energy = np.ones(shape, bool), np.zeros(shape, bool), np.zeros(shape)
    available[0], travelling[0], energy[0] = False, True, driven_kwh
    fields: dict[str, object] = {
        "period_h": 1.0,
        "probability": np.full(samples, 1 / samples),
        "available": available,
        "travelling": travelling,
        "trip_energy_kwh": energy,
        "group_size": np.array([cars]),
        "storage_cost_usd_per_kwh": np.array([100.0]),
        "degradation_slope": np.array([wear]),
        "system_load_mw": np.full(periods, load_mw),
        "price": PriceSteps(np.array(edge_mw), np.array(price)),
        "battery": Battery(80.0, 12.0, 76.0, 60.0),
        "charger": Charger(10.0, EFFICIENCY, EFFICIENCY),
        "system_cap_mw": 2000.0,
    } | changes
    return AggregatorProblem(**fields)  # type: ignore[arg-type]


def lacking_kwh(p: AggregatorProblem) -> np.ndarray:
    """Energy (V, N) that cars lack when they arrive, over all their visits."""
    v = p.visits
    lacking = np.where(v.always_plugged, 0.0, p.battery.departure_soc_kwh - v.arrival_soc_kwh)
    total = np.zeros((p.vehicles, p.samples))
    np.add.at(total, (v.vehicle, v.sample), lacking)
    return total


def certified(problem: AggregatorProblem, gap: float = 1e-6) -> AggregatorPlan:
    plan = solve_model(problem, gap)
    certify_plan(problem, plan)
    assert plan.gap <= gap
    return plan


def test_one_car_and_a_flat_price() -> None:
    plan = certified(one_car())
    # 9 kWh at the battery are 10 kWh from the grid, at 1 cent, without wear.
    assert plan.cost_usd == pytest.approx(0.10, abs=1e-9)
    assert plan.cost.battery_usd == pytest.approx(0.0, abs=1e-9)


def test_two_prices_over_the_day() -> None:
    # The edge lies at 150 MW; the load is above it in all periods but the third.
    load = np.array([200.0, 200.0, 100.0, 200.0])
    plan = certified(one_car(edge_mw=(150.0, 1000.0), price=(0.01, 0.03), system_load_mw=load))
    assert plan.cost_usd == pytest.approx(0.10, abs=1e-9)
    assert plan.day_ahead_mw[2] == pytest.approx(0.010)


def test_arbitrage_pays_when_the_prices_differ_by_more_than_losses_and_wear() -> None:
    load = np.array([200.0, 100.0, 200.0, 100.0])
    dear, wear = 0.05, 1e-4
    plan = certified(
        one_car(edge_mw=(150.0, 1000.0), price=(0.01, dear), system_load_mw=load, wear=wear)
    )
    # Period 1: charge 10 kW (9 kWh, 60 kWh). Period 2: sell 9 kWh = 8.1 kWh at 5 cents, worn at
    # 1e-4 USD. Period 3: buy the 9 kWh back as 10 kWh.
    expected = 0.10 - 8.1 * dear + 9.0 * wear + 0.10
    assert plan.cost_usd == pytest.approx(expected, abs=1e-7)


def test_an_edge_is_hit_exactly_and_both_prices_are_admissible_there() -> None:
    # 100 cars could take 1 MW in each period; 0.4 MW reach the edge in each of three periods,
    # and the 1 MWh needed fits below it.
    problem = one_car(cars=100, edge_mw=(100.4, 1000.0), price=(0.01, 0.02), driven_kwh=9.0)
    plan = certified(problem)
    assert plan.cost_usd == pytest.approx(100 * 0.10, abs=1e-6)
    # 1.2 MWh are needed below: all three periods stop at the edge exactly.
    full = problem.with_options(
        trip_energy_kwh=problem.trip_energy_kwh * 1.2, real_time_limit="v2g"
    )
    plan = certified(full)
    np.testing.assert_allclose(plan.day_ahead_mw[1:], 0.4, atol=1e-6)
    assert plan.cost_usd == pytest.approx(12.0, abs=1e-6)


def test_two_samples_share_the_day_ahead_power() -> None:
    # Without V2G nothing is traded in real time (10), so both samples take the same power.
    problem = one_car(samples=2, allow_v2g=False)
    energy = problem.trip_energy_kwh.copy()
    energy[0, 0] = 9.0, 4.5
    plan = certified(problem.with_options(trip_energy_kwh=energy))
    assert np.abs(plan.real_time_mw).max() < 1e-9
    assert plan.cost_usd == pytest.approx(0.10, abs=1e-9)
    # With plugs as the limit each sample takes what it needs: 7.5 kWh are bought on average.
    free = problem.with_options(trip_energy_kwh=energy, real_time_limit="plug")
    plan = certified(free)
    assert plan.cost_usd == pytest.approx(0.075, abs=1e-9)


def test_charging_and_discharging_at_once_makes_room_for_real_time_trade() -> None:
    # Trade up to the energy fed back (10): the two samples differ by 5 kWh from the grid, 2.5 on
    # each side of the mean. Feeding back without moving the battery costs charging losses only.
    problem = one_car(samples=2)
    energy = problem.trip_energy_kwh.copy()
    energy[0, 0] = 9.0, 4.5
    plan = certified(problem.with_options(trip_energy_kwh=energy))
    assert 0.075 < plan.cost_usd < 0.10


def test_load_above_the_last_edge_forces_v2g() -> None:
    load = np.array([100.0, 100.0, 100.03, 100.0])
    problem = one_car(
        cars=10, system_load_mw=load, edge_mw=(99.0, 100.0), price=(0.01, 0.02),
        system_cap_mw=100.02, driven_kwh=1.0,
    )  # fmt: skip
    plan = certified(problem)
    assert plan.day_ahead_mw[2] <= -0.01 + 1e-9
    assert plan.discharge_kw[2].sum() * EFFICIENCY * 10 >= 10 - 1e-6


def test_a_car_that_is_always_plugged_in_is_free_to_do_nothing() -> None:
    shape = (4, 1, 1)
    problem = one_car(
        available=np.ones(shape, bool), travelling=np.zeros(shape, bool),
        trip_energy_kwh=np.zeros(shape),
    )  # fmt: skip
    assert certified(problem).cost_usd == pytest.approx(0.0, abs=1e-9)


def test_a_visit_of_one_period() -> None:
    problem = one_car()
    available, travelling = problem.available.copy(), problem.travelling.copy()
    available[1], travelling[1] = False, True
    available[3], travelling[3] = False, True
    energy = np.zeros_like(problem.trip_energy_kwh)
    energy[1] = 4.5
    only = problem.with_options(available=available, travelling=travelling, trip_energy_kwh=energy)
    plan = certified(only)
    assert plan.charge_kw[2, 0, 0] == pytest.approx(5.0)
    short = only.with_options(trip_energy_kwh=energy * 3)
    with pytest.raises(InfeasibleError) as caught:
        solve_model(short)
    assert caught.value.details["lacking_kwh"] == pytest.approx(13.5 - 9.0)


def test_equal_prices_and_zero_degradation() -> None:
    p = random_problem(4)
    flat = PriceSteps(p.price.edge_mw, np.full(4, 0.01))
    plan = certified(p.with_options(price=flat, degradation_slope=np.zeros(4)))
    assert plan.cost.battery_usd == 0.0
    needed = (lacking_kwh(p) * p.group_size[:, None]).sum(axis=0).mean() / EFFICIENCY
    # Sales and purchases at one price: only the losses of real-time trade come on top.
    assert plan.cost_usd >= 0.01 * needed - 1e-6


def test_given_charge_at_midnight_splits_the_night() -> None:
    p = random_problem(2)
    given_soc = np.full((4, 2), 50.0)
    plan = certified(p.with_options(midnight_soc_kwh=given_soc), 1e-4)
    at = p.available[0]
    np.testing.assert_allclose(plan.soc_kwh[0][at], 50.0, atol=1e-4)
    assert plan.objective_usd >= certified(p, 1e-4).bound_usd - 1e-9


def test_options_never_cost_less_than_the_freer_problem() -> None:
    p = random_problem(5)
    base = certified(p, 1e-5)
    assert certified(p.with_options(allow_v2g=False), 1e-5).cost_usd >= base.bound_usd
    assert certified(p.with_options(real_time_limit="plug"), 1e-5).bound_usd <= base.cost_usd
    strong = p.with_options(charger=Charger(40.0, 0.9, 0.9), system_cap_mw=p.system_cap_mw)
    assert certified(strong, 1e-5).bound_usd <= base.cost_usd


def test_caps_too_low_name_bus_periods_and_the_least_cap() -> None:
    p = random_problem(7, cap="trading").with_options(bus=13)
    needed = (lacking_kwh(p) * p.group_size[:, None]).sum(axis=0).max() / EFFICIENCY
    least_mw = needed / 1000 / 24  # spread over the whole day, this is too low for certain
    low = p.with_options(trading_cap_mw=np.full(12, 0.5 * least_mw))
    with pytest.raises(InfeasibleError) as caught:
        solve_model(low)
    found = caught.value.details
    assert found["bus"] == 13
    assert found["periods"]
    assert "bus 13" in str(caught.value)
    assert found["uniform_increase"] > 0.5
    # Raised as told, a plan exists; raised by a little less, none does.
    share = found["uniform_increase"]
    certified(low.with_options(trading_cap_mw=low.trading_cap_mw * (1 + share) * 1.0001), 1e-2)
    with pytest.raises(InfeasibleError):
        solve_model(low.with_options(trading_cap_mw=low.trading_cap_mw * (1 + share * 0.99)))
    least = least_cap(low)
    certified(low.with_options(trading_cap_mw=least.cap_mw + 1e-6), 1e-2)


def test_neighbours_of_equal_price_are_one_step() -> None:
    p = random_problem(3, steps=4)
    edge, price = p.price_steps.edge_mw, p.price_steps.price_usd_per_kwh
    cut = PriceSteps(np.insert(edge, 1, edge[:2].mean()), np.insert(price, 1, price[1]))
    q = p.with_options(price=cut)
    assert np.array_equal(q.step_edge_mw, p.step_edge_mw)
    assert reachable_steps(q).day_ahead.shape == reachable_steps(p).day_ahead.shape
    assert certified(q, 1e-4).cost_usd == pytest.approx(certified(p, 1e-4).cost_usd)
    days = [operate_fresh_days(np.zeros(p.periods), x).cost_usd for x in (p, q)]
    assert days[0] == pytest.approx(days[1])


def test_a_cap_below_any_v2g_is_named() -> None:
    p = random_problem(7, cap="trading")
    cap = np.array(p.trading_cap_mw)
    cap[4] = -100.0
    with pytest.raises(InfeasibleError, match="in periods 5, most in period 5: -100"):
        solve_model(p.with_options(trading_cap_mw=cap))


def test_a_time_limit_leaves_a_certified_plan_and_says_so() -> None:
    p = random_problem(11, periods=12, vehicles=6, samples=3, steps=8)
    plan = solve_model(p, 1e-12, time_limit_s=1e-3)
    certify_plan(p, plan)
    assert plan.gap > 1e-12
    assert "time limit of 0.001 s" in plan.status
    assert np.isfinite(plan.bound_usd)
    longer = solve_model(p, 1e-3, time_limit_s=5)
    assert plan.bound_usd <= longer.objective_usd
    assert longer.objective_usd <= plan.objective_usd


def brute_force_usd(problem: AggregatorProblem) -> float:
    """Least cost over every combination of steps, one linear program each."""
    import cvxpy as cp

    from evcm.aggregator.model import build_model

    choices = reachable_steps(problem)
    T, N = problem.periods, problem.samples
    day = [np.flatnonzero(row) for row in choices.day_ahead]
    real = [np.flatnonzero(choices.real_time[t, n]) for t in range(T) for n in range(N)]
    best = np.inf
    for pick in itertools.product(*day, *real):
        a = np.zeros_like(choices.day_ahead)
        a[np.arange(T), pick[:T]] = True
        b = np.zeros_like(choices.real_time).reshape(T * N, -1)
        b[np.arange(T * N), pick[T:]] = True
        fixed = replace(choices, day_ahead=a, real_time=b.reshape(choices.real_time.shape))
        model = build_model(problem, fixed, relaxed=True)
        value = model.cvxpy.solve(solver=cp.HIGHS)
        if np.isfinite(value):
            best = min(best, float(value))
    return best


def test_against_every_combination_of_steps() -> None:
    p = one_car(
        periods=3, samples=2, cars=10, edge_mw=(100.02, 1000.0), price=(0.01, 0.03), wear=1e-5,
        system_load_mw=np.array([100.0, 99.96, 100.05]),
    )  # fmt: skip
    energy = p.trip_energy_kwh.copy()
    energy[0, 0] = 9.0, 5.0
    p = p.with_options(trip_energy_kwh=energy)
    assert solve_model(p, 1e-7).cost_usd == pytest.approx(brute_force_usd(p), abs=1e-6)


@settings(max_examples=6, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), vary=st.sampled_from([0.25, 1.0]))
def test_big_m_and_multiple_choice_agree_and_m_big_does_not_matter(seed: int, vary: float) -> None:
    p = random_problem(seed, periods=8, vehicles=2, samples=2, steps=3)
    if vary < 1:
        p = p.with_options(degradation_slope=p.degradation_slope * vary)
    plan = certified(p, 1e-6)
    least = least_big_m(p)
    for m_big in (least, 10 * least):
        answer = solve_big_m(p, m_big, gap=1e-7)
        scale = plan.cost.turnover_usd
        assert abs(answer.objective_usd - plan.objective_usd) < 1e-5 * scale
        assert answer.plan is not None
        certify_plan(p, answer.plan)


def test_as_printed_energy_is_paid_for_with_m_big() -> None:
    p = random_problem(0, periods=6, vehicles=2, samples=2, steps=3)
    least = least_big_m(p)
    one, ten = (solve_big_m(p, k * least, as_printed=True, gap=1e-6) for k in (1, 10))
    assert ten.objective_usd < 8 * one.objective_usd < 0
    assert one.plan is not None
    # What those schedules cost at the true prices is above the true optimum.
    assert one.plan.cost_usd >= certified(p, 1e-5).bound_usd


def test_the_big_m_form_checks_its_input() -> None:
    p = random_problem(0)
    with pytest.raises(InputError, match="m_big"):
        build_big_m(p, -1.0)
    with pytest.raises(InputError, match="risk_weight"):
        build_big_m(p.with_options(risk_weight=0.5))


@settings(max_examples=8, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    cap=st.sampled_from(["system", "trading"]),
    always=st.booleans(),
    forced=st.booleans(),
)
def test_energy_balance_and_bound(seed: int, cap: str, always: bool, forced: bool) -> None:
    p = random_problem(seed, cap=cap, always_plugged=always, forced_v2g=forced)
    plan = certified(p, 1e-4)
    assert plan.bound_usd <= plan.cost_usd + 1e-9
    assert plan.cost.real_time_usd >= -1e-9
    # What the batteries gain over the day is what the legs to this bus took, or more where a
    # visit ends above the contract.
    gained = (EFFICIENCY * plan.charge_kw - plan.discharge_kw).sum(axis=0) * p.period_h
    assert (gained >= lacking_kwh(p) - 1e-6).all()
    low, high, _, _ = power_range(p)
    assert (plan.day_ahead_mw >= low - 1e-9).all()
    assert (plan.day_ahead_mw <= high + 1e-9).all()


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000), share=st.floats(0.3, 0.9))
def test_a_tighter_cap_never_costs_less(seed: int, share: float) -> None:
    p = random_problem(seed, cap="trading")
    free = certified(p, 1e-5)
    tight = p.with_options(trading_cap_mw=np.array(p.trading_cap_mw) * share)
    try:
        plan = certified(tight, 1e-5)
    except InfeasibleError:
        return
    assert plan.objective_usd >= free.bound_usd - 1e-9


@settings(max_examples=5, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10_000))
def test_more_cars_never_need_less_energy(seed: int) -> None:
    p = random_problem(seed, group_size=1)
    more = p.with_options(group_size=np.array([1, 1, 1, 3]))
    flat = PriceSteps(np.array([1e6]), np.array([0.01]))
    few = certified(p.with_options(price=flat), 1e-5)
    many = certified(more.with_options(price=flat), 1e-5)
    assert many.day_ahead_mw.sum() >= few.day_ahead_mw.sum() - 1e-9


def test_methods_are_checked_and_options_choose_the_model() -> None:
    p = random_problem(0)
    with pytest.raises(InputError, match="method"):
        solve(p, "guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="gap"):
        solve(p, "model", gap=0.0)
    own = PriceSeries(np.full(p.periods, 0.02), np.full(p.periods, 0.03))
    method, reason = choose_method(p.with_options(price=own), "interior")
    assert method == "model"
    assert "prices of their own" in reason
    plan = solve(p.with_options(price=own), "auto", gap=1e-3)
    assert "prices of their own" in plan.status
    assert solve(p, "model").method == "model"


def test_charging_only_cars_beside_cars_that_feed() -> None:
    problem = random_problem(4, vehicles=4, periods=12)
    all_feed = certified(problem, 1e-5)
    mixed = problem.with_options(feeds_in=np.array([True, False, False, True]))
    plan = certified(mixed, 1e-5)
    assert not plan.discharge_kw[:, 1:3].any()
    assert plan.cost_usd >= all_feed.bound_usd - 1e-9
    none = certified(problem.with_options(feeds_in=np.zeros(4, bool)), 1e-5)
    assert none.cost_usd == pytest.approx(
        certified(problem.with_options(allow_v2g=False), 1e-5).cost_usd, rel=2e-5
    )


def test_kinds_that_are_equal_cost_what_one_kind_costs() -> None:
    problem = random_problem(5, vehicles=3)
    split = problem.with_options(
        battery=Battery(np.full(3, 80.0), np.full(3, 12.0), np.full(3, 76.0), np.full(3, 60.0)),
        charger=Charger(np.full(3, 20.0), np.full(3, 0.9), np.full(3, 0.9)),
    )
    assert certified(split, 1e-6).cost_usd == pytest.approx(certified(problem).cost_usd, rel=1e-5)


def test_given_prices_by_hand() -> None:
    # 10 kWh from the grid, in the period of three whose price is the least; below 0, buying earns.
    base = one_car()
    prices = np.array([0.02, 0.03, 0.01, 0.04])
    plan = certified(base.with_options(price=PriceSeries(prices), allow_v2g=False))
    plugged = base.available[:, 0, 0]
    assert plan.cost_usd == pytest.approx(10 * prices[plugged].min(), abs=1e-9)


def test_real_time_prices_of_their_own_cost_more_than_one_price() -> None:
    rng = np.random.default_rng(3)
    problem = random_problem(6, vehicles=3)
    day = rng.uniform(-0.02, 0.08, problem.periods)
    one = certified(problem.with_options(price=PriceSeries(day)), 1e-6)
    apart = PriceSeries(day, day + 0.02, day - 0.02)
    plan = certified(problem.with_options(price=apart), 1e-6)
    assert plan.cost_usd >= one.cost_usd - 1e-9
    risky = problem.with_options(price=apart, risk_weight=0.5, risk_alpha=0.6)
    certified(risky, 1e-6)
