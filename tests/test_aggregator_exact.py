"""The door `solve`: hand-solved cases, traps, agreement with the model, safe bounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evcm.aggregator import methods
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.infeasible import least_cap
from evcm.aggregator.interior import market
from evcm.aggregator.interior.market import least_by_step
from evcm.aggregator.interior.search import Search
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import save_plan
from evcm.aggregator.problem import AggregatorProblem, load_problem
from evcm.errors import InfeasibleError, InputError
from evcm.inputs import Battery, Charger, PriceSteps
from tests.instances import random_problem

SHARED = Path(__file__).resolve().parents[2] / "shared"
INSTANCES = sorted((SHARED / "reference" / "eva").glob("*.npz"))
QUICK = ["sc1-min-bus14", "sc1-max-bus10"]
EFFICIENCY = 0.9


def small_problem(
    need_kwh: np.ndarray,
    first: int,
    last: int,
    *,
    periods: int = 6,
    edge=(1000.0,),
    price=(0.1,),
    load=100.0,
    wear: float = 0.001,
    size: int = 1,
    charger_kw: float = 50.0,
    **more,
) -> AggregatorProblem:
    """Cars that are plugged in from period `first` to `last` (0-based), and drive otherwise.

    Car v arrives in sample n with S_dep less `need_kwh[v, n]`.
    """
    need = np.atleast_2d(np.asarray(need_kwh, float))
    available = np.zeros((periods, *need.shape), bool)
    available[first : last + 1] = True
    energy = np.zeros(available.shape)
    energy[first - 1] = need
    caps = {} if "trading_cap_mw" in more else {"system_cap_mw": 1e4}
    return AggregatorProblem(
        period_h=1.0,
        probability=np.full(need.shape[1], 1 / need.shape[1]),
        available=available,
        travelling=~available,
        trip_energy_kwh=energy,
        group_size=np.full(need.shape[0], size),
        storage_cost_usd_per_kwh=np.full(need.shape[0], 100.0),
        degradation_slope=np.full(need.shape[0], wear),
        system_load_mw=np.full(periods, load),
        price=PriceSteps(np.asarray(edge), np.asarray(price)),
        battery=Battery(80.0, 12.0, 76.0, 60.0),
        charger=Charger(charger_kw, EFFICIENCY, EFFICIENCY),
        name="hand-made",
        **(caps | more),
    )


def solved(problem, gap=1e-6, **options):
    plan = methods.solve(problem, gap=gap, **options)
    certify_plan(problem, plan)
    assert plan.bound_usd <= plan.objective_usd
    return plan


def test_one_car_and_a_flat_price_pays_for_what_it_lacks():
    plan = solved(small_problem(18.0, 2, 4))
    assert plan.cost_usd == pytest.approx(0.1 * 18.0 / EFFICIENCY, rel=1e-6)
    assert plan.cost.battery_usd == pytest.approx(0.0, abs=1e-9)


def test_one_edge_is_filled_and_not_crossed():
    # 0.02 MW below the edge in each of two periods; 36 kWh are bought at the lower price only if
    # each period stays at or below 20 kWh.
    problem = small_problem(32.4, 2, 3, edge=(100.02, 200.0), price=(0.1, 0.5))
    plan = solved(problem)
    assert plan.cost_usd == pytest.approx(0.1 * 36.0, rel=1e-6)
    assert plan.day_ahead_mw[2:4].max() <= 0.02 + 1e-6


def test_an_edge_hit_exactly_pays_the_lower_price():
    plan = solved(small_problem(36.0, 2, 3, edge=(100.02, 200.0), price=(0.1, 0.5)))
    assert plan.day_ahead_mw[2:4] == pytest.approx([0.02, 0.02], abs=1e-7)
    assert plan.cost_usd == pytest.approx(0.1 * 40.0, rel=1e-6)


def test_beyond_the_edge_everything_in_the_period_costs_more():
    # 50 kWh at the grid, 20 below each edge: 20 at 0.1 in one period, 30 at 0.2 in the other.
    plan = solved(small_problem(45.0, 2, 3, edge=(100.02, 200.0), price=(0.1, 0.2)))
    assert plan.cost_usd == pytest.approx(0.1 * 20 + 0.2 * 30, rel=1e-6)


def test_two_samples_trade_their_difference_and_waste_what_rule_10_asks_for():
    # One period, 9 or 27 kWh missing: 10 or 30 kWh at the grid, so d = -10, +10. Rule (10) wants
    # as much V2G, which charging and discharging at once gives for (1 - η²)/η² of it.
    problem = small_problem([[9.0, 27.0]], 3, 3, charger_kw=150.0)
    plan = solved(problem)
    waste = 10.0 * (1 - EFFICIENCY**2) / EFFICIENCY**2
    assert plan.cost_usd == pytest.approx(0.1 * (20.0 + waste), rel=1e-6)
    assert np.abs(plan.real_time_mw[3]) == pytest.approx([0.01, 0.01], abs=1e-7)
    free = solved(problem.with_options(real_time_limit="plug"))
    assert free.cost_usd == pytest.approx(0.1 * 20.0, rel=1e-6)
    with pytest.raises(InfeasibleError):
        methods.solve(problem.with_options(allow_v2g=False))


def test_real_time_trade_across_an_edge_costs_the_price_difference():
    # 10 or 30 kWh; P = 20 with the waste; the edge lies just above P, so sample 2 must cross it.
    problem = small_problem(
        [[9.0, 27.0]], 3, 3, edge=(100.025, 200.0), price=(0.1, 0.2), real_time_limit="plug"
    )
    plan = solved(problem)
    assert plan.cost.real_time_usd == pytest.approx(0.5 * (0.2 * 10 - 0.1 * 10), rel=1e-5)
    assert plan.cost_usd == pytest.approx(0.1 * 20 + 0.5, rel=1e-5)


def test_system_load_above_the_last_edge_forces_v2g():
    load = np.full(6, 90.0)
    load[3] = 100.01
    problem = small_problem(
        np.full((2, 2), 10.0), 2, 4, edge=(95.0, 100.0), price=(0.1, 0.3), system_cap_mw=100.0
    ).with_options(system_load_mw=load)
    plan = solved(problem)
    assert plan.day_ahead_mw[3] <= -0.01 + 1e-9
    assert (plan.discharge_kw[3].sum(axis=0) * EFFICIENCY >= 10.0 - 1e-5).all()


@pytest.mark.parametrize("options", [{"always_plugged": True}, {"forced_v2g": True}])
def test_traps_on_random_problems(options):
    problem = random_problem(3, **options)
    plan, model = solved(problem), solve_model(problem, gap=1e-6)
    assert plan.cost_usd == pytest.approx(model.cost_usd, rel=1e-4)


def test_equal_prices_are_one_step_and_no_wear_is_no_cost():
    problem = small_problem(18.0, 2, 4, edge=(50.0, 100.01, 200.0), price=(0.1, 0.1, 0.1), wear=0.0)
    plan = solved(problem)
    assert plan.cost_usd == pytest.approx(0.1 * 20.0, rel=1e-6)
    assert Search(problem, 1e-3, np.inf, 1, None).steps.price.shape[1] == 1


def test_a_visit_too_short_names_the_car_and_what_it_lacks():
    with pytest.raises(InfeasibleError, match="car 1, sample 1, periods 4 to 4") as raised:
        methods.solve(small_problem(48.0, 3, 3, charger_kw=20.0))
    assert raised.value.details["lacking_kwh"] == pytest.approx(48.0 - 18.0)


def test_caps_that_cannot_be_met_name_periods_and_least_caps():
    # 20 kWh at the grid in two periods of at most 8 kWh: 25 % more does.
    problem = small_problem(18.0, 2, 3, trading_cap_mw=np.full(6, 0.008)).with_options(bus=7)
    with pytest.raises(InfeasibleError, match=r"25\.0 %") as raised:
        methods.solve(problem)
    assert raised.value.details["bus"] == 7
    assert raised.value.details["needed_mwh"] == pytest.approx([0.02])
    assert raised.value.details["extra_energy_mwh"] == pytest.approx(0.004, abs=1e-6)
    assert "most in period" in str(raised.value)
    assert set(raised.value.details["periods"]) <= {3, 4}
    least = problem.with_options(trading_cap_mw=np.full(6, 0.010001))
    solved(least)


def test_no_power_keeps_to_a_cap_far_below_zero():
    problem = small_problem(18.0, 2, 3, trading_cap_mw=np.full(6, -5.0))
    with pytest.raises(InfeasibleError):
        methods.solve(problem)


def test_input_is_checked():
    problem = small_problem(18.0, 2, 4)
    with pytest.raises(InputError, match="gap"):
        methods.solve(problem, gap=0.0)
    with pytest.raises(InputError, match="time_limit_s"):
        methods.solve(problem, time_limit_s=-1.0)


def test_a_time_limit_returns_a_certified_plan_and_says_so():
    problem = random_problem(11, periods=24, vehicles=12, samples=4, steps=8, charger_kw=30.0)
    seen = []
    plan = methods.solve(
        problem, gap=1e-9, time_limit_s=1e-6, progress=lambda *now: seen.append(now)
    )
    certify_plan(problem, plan)
    assert "time limit" in plan.status
    assert plan.gap > 1e-9
    assert seen
    assert seen[-1][1] <= plan.bound_usd + 1e-9


@st.composite
def options(draw):
    return {
        "charger_kw": draw(st.sampled_from([7.0, 20.0, 150.0])),
        "cap": draw(st.sampled_from(["system", "trading"])),
        "always_plugged": draw(st.booleans()),
        "forced_v2g": draw(st.booleans()),
        "samples": draw(st.integers(1, 3)),
        "steps": draw(st.integers(1, 5)),
    }


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10**6), options(), st.sampled_from(["v2g", "plug"]), st.booleans(), st.booleans()
)
def test_agrees_with_the_model_within_the_gaps(seed, kind, limit, midnight, v2g):
    problem = random_problem(seed, **kind).with_options(real_time_limit=limit)
    if midnight:
        given_kwh = np.full((problem.vehicles, problem.samples), 60.0)
        problem = problem.with_options(midnight_soc_kwh=given_kwh)
    if not v2g and limit == "plug" and not kind["forced_v2g"]:
        problem = problem.with_options(allow_v2g=False)
    try:
        plan = methods.solve(problem, gap=1e-4)
    except InfeasibleError as error:
        if "raised_mw" in error.details:
            raised = problem.cap_mw + least_cap(problem).raised_mw + 1e-6
            wider = problem.with_options(trading_cap_mw=raised, system_cap_mw=None)
            certify_plan(wider, methods.solve(wider, gap=1e-2))
        return
    certify_plan(problem, plan)
    model = solve_model(problem, gap=1e-4)
    assert plan.gap <= 1e-4
    assert plan.bound_usd <= model.objective_usd + 1e-6
    assert model.bound_usd <= plan.objective_usd + 1e-6


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_cheapest_market_is_never_above_a_sampled_one(seed):
    rng = np.random.default_rng(seed)
    problem = random_problem(seed % 11, steps=5)
    search = Search(problem, 1e-3, np.inf, 1, None)
    steps, T, N = search.steps, problem.periods, problem.samples
    q, r = rng.normal(0, 5, T), rng.normal(0, 2, (T, N))
    by_a, by_b = np.empty(steps.day.shape), np.empty(steps.real.shape)
    for limit in (np.zeros((T, 0)), np.zeros((T, N))):
        told = steps, problem.probability, q, r, limit
        least_by_step(*told, by_a, by_b)
        again_a, again_b = np.empty_like(by_a), np.empty_like(by_b)
        least_by_step.py_func(*told, again_a, again_b)
        np.testing.assert_allclose(again_a, by_a)
        np.testing.assert_allclose(again_b, by_b)
    low, high = (
        np.where(steps.day, a, b) for a, b in ((steps.day_low, np.inf), (steps.day_high, -np.inf))
    )
    e_low = np.where(steps.real, steps.real_low, np.inf).min(axis=2)
    e_high = np.where(steps.real, steps.real_high, -np.inf).max(axis=2)
    for _ in range(20):
        P = rng.uniform(low.min(axis=1), high.max(axis=1))
        E = rng.uniform(e_low, e_high)
        found = market.read(steps, problem.probability, P, E, 1e-9)
        value = found.day_cost + found.real_cost + q * P + (r * E).sum(axis=1)
        assert (by_a.min(axis=1) <= value + 1e-9).all()
        assert (by_a[np.arange(T), found.day] <= value + 1e-9).all()
        enforced = np.take_along_axis(by_b, found.real[..., None], 2)[..., 0]
        assert (enforced <= value[:, None] + 1e-9).all()


def test_the_envelope_is_convex_and_below_the_cost():
    problem = random_problem(5, steps=6)
    search = Search(problem, 1e-3, np.inf, 1, None)
    for t in range(problem.periods):
        x, cost = search.envelope(t)
        assert (np.diff(np.diff(cost) / np.diff(x)) >= -1e-9).all()
        power = np.linspace(x[0], x[-1], 101)
        true = problem.period_h * problem.price.payment(problem.system_load_mw[t] + power, power)
        assert (np.interp(power, x, cost) <= true + 1e-9).all()


def test_the_same_problem_gives_the_same_plan():
    problem = random_problem(8)
    first, second = solved(problem), solved(problem)
    assert first.soc_kwh.tobytes() == second.soc_kwh.tobytes()


def check_reference(path: Path, tmp_path: Path) -> None:
    plan = methods.solve(load_problem(path))
    save_plan(tmp_path / "plan.npz", plan)
    done = subprocess.run(
        [sys.executable, SHARED / "tools" / "check_plan.py", path, tmp_path / "plan.npz"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not INSTANCES, reason="../shared/reference is not there")
@pytest.mark.parametrize("name", QUICK)
def test_reference_instances(name, tmp_path):
    check_reference(SHARED / "reference" / "eva" / f"{name}.npz", tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not INSTANCES, reason="../shared/reference is not there")
@pytest.mark.parametrize("path", INSTANCES, ids=lambda p: p.stem)
def test_every_reference_instance(path, tmp_path):
    check_reference(path, tmp_path)
