"""Single cars: exact storage kernels, valid bounds, and agreement with the other methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linprog

from evcm.aggregator import methods
from evcm.aggregator import storage as dp
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.interior.solve import solve_interior
from evcm.aggregator.problem import load_problem
from evcm.aggregator.single_cars import master
from evcm.aggregator.single_cars.clusters import priced_visits
from evcm.aggregator.single_cars.market import spread, system_prices
from evcm.aggregator.single_cars.solve import _market, solve_single_cars
from evcm.errors import InfeasibleError, InputError
from tests.instances import random_problem

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "eva"


def visit_lp(buy, sell, wear, start, end, kind, low, high, up, down):
    """Cost of one visit by a linear program: columns are charge, discharge and level."""
    L = buy.size
    eye, zero = np.eye(L), np.zeros((L, L))
    step = eye - np.eye(L, k=-1)
    right = np.zeros(L)
    if kind == dp.CYCLIC:
        step[0, -1] -= 1.0
    else:
        right[0] = start
    levels = [(low, high)] * L
    if kind == dp.OPEN:
        levels[-1] = (max(low, end), high)
    if kind == dp.EXACT:
        levels[-1] = (end, end)
    result = linprog(
        np.concatenate([buy, wear - sell, np.zeros(L)]),
        A_eq=np.hstack([-eye, eye, step]), b_eq=right,
        bounds=[(0, up)] * L + [(0, down)] * L + levels,
        A_ub=np.hstack([eye / up, eye / down, zero]), b_ub=np.ones(L),
        method="highs",
    )  # fmt: skip
    return result.fun if result.status == 0 else np.inf


def random_prices(rng, length):
    buy = rng.uniform(0.1, 1.0, length) * rng.choice([1.0, 1.0, 3.0], length)
    # At most the price of charging: charging and discharging at once then never pays.
    return buy, buy * rng.uniform(0.5, 1.0, length)


@pytest.mark.parametrize("kind", [dp.OPEN, dp.EXACT, dp.CYCLIC])
@pytest.mark.parametrize("step", [(67.5, 75.0), (9.0, 10.0), (17.0, 5.0), (3.0, 80.0)])
@pytest.mark.parametrize("compiled", [True, False])
def test_storage_path_is_as_cheap_as_the_linear_program(kind, step, compiled):
    up, down = step
    rng = np.random.default_rng(int(up) + kind)
    low, high, wear = 12.0, 76.0, 0.05
    for _ in range(25 if compiled else 6):
        L = int(rng.integers(1, 14))
        buy, sell = random_prices(rng, L)
        start, end = rng.uniform(8.0, 62.0), rng.uniform(20.0, 70.0)
        soc, p, q = np.empty(L), np.empty(L), np.empty(L)
        free = up >= high - low and down >= high - low
        walk = {
            (True, False): dp.walk_free, (False, False): dp.walk_limited,
            (True, True): dp.walk_cyclic_free, (False, True): dp.walk_cyclic_limited,
        }[free, kind == dp.CYCLIC]  # fmt: skip
        limits = (low, high) if free else (low, high, up, down)
        scratch = (soc, p, q) if free else (soc,)
        visit = (L,) if kind == dp.CYCLIC else (0, L, start, end, kind)
        call = walk if compiled else walk.py_func
        cost = call(buy, sell, wear, *visit, *limits, *scratch)
        best = visit_lp(buy, sell, wear, start, end, kind, low, high, up, down)
        if np.isinf(best):
            assert np.isinf(cost)
            continue
        assert cost == pytest.approx(best, abs=1e-6)
        before = np.concatenate([[soc[-1] if kind == dp.CYCLIC else start], soc[:-1]])
        moved = soc - before
        assert (soc >= low - 1e-9).all()
        assert (soc <= high + 1e-9).all()
        assert moved.max() <= up + 1e-6
        assert moved.min() >= -down - 1e-6
        paid = np.maximum(moved, 0) @ buy + np.minimum(moved, 0) @ (sell - wear)
        assert paid == pytest.approx(best, abs=1e-6)


def test_clusters_cover_every_visit_once():
    problem = random_problem(3, vehicles=9, samples=3)
    visits = priced_visits(problem, 4, 1.0)
    assert visits.offsets[-1] == len(problem.visits)
    pairs = {*zip(visits.vehicle.tolist(), visits.first.tolist(), strict=True)}
    v = problem.visits
    assert pairs == {*zip(v.vehicle.tolist(), v.start.tolist(), strict=True)}
    coarse, member = visits.merged(2)
    assert coarse.clusters == 6
    assert np.array_equal(np.unique(member), np.arange(6))
    rng = np.random.default_rng(0)
    buy = rng.uniform(1, 2, (3, problem.periods))
    fine, rough = visits.price(buy, 0.8 * buy), coarse.price(buy, 0.8 * buy)
    assert np.bincount(member, fine[0]) == pytest.approx(rough[0])


def test_every_price_gives_a_valid_bound():
    problem = random_problem(11, vehicles=5, samples=3)
    known = methods.solve(problem, gap=1e-6)
    market = _market(problem)
    visits = priced_visits(problem, 8, market.unit_mw)
    mixer = master.new_master(visits, problem.periods, 1.0)
    rng = np.random.default_rng(1)
    for scale in (0.0, 0.02, 0.3, 2.0):
        duals = spread(market, system_prices(market) * rng.uniform(0.5, 1.5, problem.periods))
        noise = rng.normal(1.0, scale, duals.energy.shape)
        duals = spread(market, duals.mean).towards(
            type(duals)(duals.energy * noise, *(getattr(duals, k) for k in list(vars(duals))[1:])),
            1.0,
        )
        bound = mixer.price(market, duals).bound * market.unit_mw
        assert bound <= known.objective_usd + 1e-9
        blocks = market.with_blocks(np.ones(problem.periods, bool), np.zeros(problem.periods))
        assert mixer.price(blocks, duals).bound * market.unit_mw <= known.objective_usd + 1e-9


def agree(problem, gap=1e-3):
    """Both methods certify, and their intervals of cost overlap."""
    one = solve_single_cars(problem, gap=gap, threads=1, time_limit_s=60)
    other = solve_interior(problem, gap=gap)
    certify_plan(problem, one)
    assert one.bound_usd <= other.objective_usd + 1e-7
    assert other.bound_usd <= one.objective_usd + 1e-7
    return one


OPTIONS = {
    "plain": {},
    "small charger": {"charger_kw": 11.0},
    "tiny visits wide charger": {"charger_kw": 150.0},
    "trading cap": {"cap": "trading"},
    "forced V2G": {"forced_v2g": True, "charger_kw": 60.0},
    "always plugged": {"always_plugged": True},
    "always plugged, wide charger": {"always_plugged": True, "charger_kw": 150.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_agrees_with_the_interior_point_method(name):
    plan = agree(random_problem(21, vehicles=6, group_size=1, **OPTIONS[name]))
    assert plan.gap <= 1e-3


@pytest.mark.parametrize(
    "options", [{"real_time_limit": "plug"}, {"allow_v2g": False}], ids=["plug", "no V2G"]
)
def test_agrees_under_options(options):
    problem = random_problem(5, vehicles=6, group_size=1).with_options(**options)
    assert agree(problem).gap <= 1e-3


def test_given_charge_at_midnight():
    problem = random_problem(8, vehicles=5, group_size=1)
    free = solve_single_cars(problem, threads=1)
    problem = problem.with_options(midnight_soc_kwh=np.full((5, 2), 62.0))
    assert agree(problem).objective_usd >= free.bound_usd


def test_number_of_threads_and_of_clusters():
    problem = random_problem(4, vehicles=12, group_size=1)
    one = solve_single_cars(problem, threads=1)
    two = solve_single_cars(problem, threads=2)
    assert np.array_equal(one.soc_kwh, two.soc_kwh)
    assert one.objective_usd == two.objective_usd
    few = solve_single_cars(problem, threads=1, clusters_per_sample=3)
    assert few.bound_usd <= one.objective_usd + 1e-9
    assert one.bound_usd <= few.objective_usd + 1e-9


def test_time_limit_returns_a_certified_plan():
    problem = random_problem(2, periods=24, vehicles=40, samples=4, group_size=1)
    plan = solve_single_cars(problem, gap=1e-9, time_limit_s=4.0, threads=1)
    certify_plan(problem, plan)
    assert plan.gap > 1e-9
    assert "time limit" in plan.status


def test_refuses_a_risk_measure():
    problem = random_problem(1).with_options(risk_weight=0.5)
    with pytest.raises(InputError, match="risk_weight"):
        solve_single_cars(problem)


def test_caps_that_cannot_be_met():
    problem = random_problem(1, group_size=1, cap="trading")
    tight = problem.with_options(trading_cap_mw=np.full(problem.periods, 1e-4))
    with pytest.raises(InfeasibleError, match="least"):
        solve_single_cars(tight)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sc1-min-bus10", "sc1-max-bus14"])
def test_agrees_on_a_reference_instance(name):
    path = REFERENCE / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"{path} is not here")
    agree(load_problem(path), gap=3e-3)
