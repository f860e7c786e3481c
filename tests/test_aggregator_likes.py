"""Many single cars: exact storage paths, and the few representatives of like visits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from evcm.aggregator import methods
from evcm.aggregator import storage as dp
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.interior import likes
from evcm.aggregator.interior import search as search_module
from evcm.aggregator.interior.cars import cut_visits
from evcm.aggregator.interior.plans import changes, make_plan
from evcm.aggregator.interior.search import Search
from evcm.aggregator.interior.solve import solve_interior
from evcm.errors import InfeasibleError
from evcm.inputs import Charger
from tests.instances import random_problem


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
        soc = np.empty(L)
        walk = dp.walk if compiled or kind == dp.CYCLIC else dp.walk_from
        call = walk if compiled else walk.py_func
        cost = call(buy, sell, wear, 0, L, start, end, kind, low, high, up, down, soc)
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


@pytest.fixture
def always(monkeypatch):
    """Representatives wherever there are like visits, however few they save."""
    monkeypatch.setattr(likes, "WORTH", 0.0)


def many(seed=21, groups=6, cars=15, **options):
    """Groups taken apart: single cars that come and go together but need and wear differently."""
    whole = random_problem(seed, vehicles=groups, group_size=cars, **options)
    rng = np.random.default_rng(seed)
    V = groups * cars
    return replace(
        whole,
        available=np.repeat(whole.available, cars, axis=1),
        travelling=np.repeat(whole.travelling, cars, axis=1),
        trip_energy_kwh=np.repeat(whole.trip_energy_kwh, cars, axis=1)
        * rng.uniform(0.7, 1.0, (V, whole.samples)),
        group_size=np.ones(V),
        storage_cost_usd_per_kwh=rng.uniform(100, 140, V),
        degradation_slope=rng.uniform(0.0006, 0.0017, V),
    )


@pytest.mark.parametrize("charger_kw", [150.0, 7.4])
def test_representatives_stand_for_all_cars(charger_kw):
    problem = many(charger_kw=charger_kw)
    g = cut_visits(problem)
    classes = likes.Classes(problem, g)
    rng = np.random.default_rng(3)
    for _ in range(3):
        few = classes.likes()
        r, second = few.segments, np.minimum(few.node + 1, few.segments.size - 1)
        assert (few.share >= 0).all()
        assert (few.share <= 1).all()
        assert (np.diff(r.sample) >= 0).all()
        for name in ("sample", "start", "length", "end_kwh", "kind"):
            mine, theirs = getattr(g, name), getattr(r, name)
            assert np.array_equal(mine, theirs[few.node])
            assert np.array_equal(mine[few.share > 0], theirs[second][few.share > 0])
        mixed = (1 - few.share) * r.arrival_kwh[few.node] + few.share * r.arrival_kwh[second]
        assert mixed + few.apart == pytest.approx(g.arrival_kwh, abs=1e-9)
        assert (few.apart <= few.above[few.node] + 1e-12).all()
        assert (few.apart >= -few.below[few.node] - 1e-12).all()
        assert (few.apart != 0).any() == (charger_kw == 150.0)
        assert r.cars.sum() == pytest.approx(g.cars.sum())
        assert r.cars @ r.wear == pytest.approx(g.cars @ g.wear)
        assert r.cars @ r.arrival_kwh == pytest.approx(g.cars @ g.arrival_kwh)
        assert r.size < g.size
        before = classes.starts.sum()
        assert classes.cut(np.where(g.wear < rng.uniform(0.8, 2.2), 40.0, 0.0))
        assert classes.starts.sum() > before


def test_two_cars_level_while_they_fall():
    """By hand: 50 and 58 kWh, wear 1 and 2 USD a MWh; the mean falls by 10 from 54 kWh."""
    problem = many(groups=1, cars=2, charger_kw=150.0)
    g = cut_visits(problem)
    two = g.sample == 0
    g = type(g)(*(np.array(v)[two] for v in g))
    g.arrival_kwh[:], g.wear[:] = [50.0, 58.0], [1.0, 2.0]
    few = likes.Classes(problem, g).likes()
    assert few.segments.size == 1
    assert few.segments.arrival_kwh[0] == 54.0
    net = np.zeros(few.segments.length[0])
    net[1] = -10.0
    left, lost = few.levelling(net)
    assert left.tolist() == [1.0] + [0.0] * (net.size - 1)
    assert lost.sum() == 1.0
    fed = 10.0 - few.apart * -1.0  # 6 kWh of the lower car, 14 of the higher
    assert fed.tolist() == [6.0, 14.0]
    more = fed @ g.wear - 20.0 * g.wear.mean()
    assert few.worn_by_levelling(net)[0] == pytest.approx(more / 1000.0)


def test_classes_are_cut_until_every_visit_is_alone():
    problem = many(cars=5)
    g = cut_visits(problem)
    classes = likes.Classes(problem, g)
    for _ in range(40):
        if not classes.cut(np.zeros(g.size)):
            break
    assert classes.starts.all()
    few = classes.likes()
    assert few.segments.size == g.size
    assert (few.share == 0).all()
    assert (few.apart == 0).all()


OPTIONS = {
    "plain": {},
    "wide charger": {"charger_kw": 150.0},
    "small charger": {"charger_kw": 11.0},
    "trading cap": {"cap": "trading"},
    "forced V2G": {"forced_v2g": True, "charger_kw": 60.0},
    "always plugged": {"always_plugged": True},
    "always plugged, wide charger": {"always_plugged": True, "charger_kw": 150.0},
}


def agree(problem, monkeypatch, gap=1e-4, least=0.5):
    """With and without representatives: certified plans whose intervals of cost overlap."""
    monkeypatch.setattr(likes, "WORTH", 0.0)
    search = Search(problem, gap, np.inf, 1, None)
    assert search.classes is not None
    assert search.likes.segments.size < least * search.segments.size
    one = solve_interior(problem, gap=gap)
    monkeypatch.setattr(likes, "WORTH", np.inf)
    other = solve_interior(problem, gap=gap)
    certify_plan(problem, one)
    assert max(one.gap, other.gap) <= gap
    room = 1e-6 * one.cost.turnover_usd
    assert one.bound_usd <= other.objective_usd + room
    assert other.bound_usd <= one.objective_usd + room
    return one


@pytest.mark.parametrize("name", OPTIONS)
def test_agrees_with_every_car_its_own_chain(name, monkeypatch):
    agree(many(**OPTIONS[name]), monkeypatch)


@pytest.mark.parametrize(
    "options", [{"real_time_limit": "plug"}, {"allow_v2g": False}], ids=["plug", "no V2G"]
)
def test_agrees_under_options(options, monkeypatch):
    agree(many(5).with_options(**options), monkeypatch)


def test_given_charge_at_midnight(monkeypatch):
    problem = many(8)
    free = agree(problem, monkeypatch)
    given = problem.with_options(midnight_soc_kwh=np.full((problem.vehicles, 2), 62.0))
    assert agree(given, monkeypatch, least=1.0).objective_usd >= free.bound_usd


def test_vehicles_of_different_kinds(monkeypatch):
    problem = many(9, charger_kw=150.0)
    rng = np.random.default_rng(1)
    power = rng.choice([11.0, 150.0], problem.vehicles)
    mixed = problem.with_options(
        charger=Charger(power, 0.9, 0.9), feeds_in=rng.random(problem.vehicles) < 0.7
    )
    agree(mixed, monkeypatch, least=0.6)


def test_same_bits_on_any_number_of_threads(always):
    problem = many(4)
    one, two = (solve_interior(problem, threads=n) for n in (1, 2))
    assert np.array_equal(one.soc_kwh, two.soc_kwh)
    assert one.objective_usd == two.objective_usd


def test_caps_that_cannot_be_met(always):
    problem = many(1, cap="trading")
    tight = problem.with_options(trading_cap_mw=np.full(problem.periods, 1e-4))
    with pytest.raises(InfeasibleError, match="least"):
        methods.solve(tight)


def test_what_a_plan_costs_is_known_before_it_is_made(always):
    """Wear while cars level their charge is no estimate: the plan's cost is the one offered."""
    problem = many(11, charger_kw=150.0)
    search = Search(problem, 1e-4, np.inf, 1, None)
    search.run()
    candidate, few = search.best
    net = changes(few, search.units, candidate.X)[1]
    assert abs(few.worn_by_levelling(net).sum()) > 1e-4
    plan = make_plan(
        problem, search.segments[:4], few, search.units, candidate, "interior",
        search.lower * search.units.usd, 0.0,
    )  # fmt: skip
    assert plan.cost_usd == pytest.approx(search.upper * search.units.usd, abs=1e-7)


@pytest.mark.parametrize("charger_kw", [150.0, 11.0])
def test_plans_are_of_the_chains_they_were_solved_with(always, charger_kw, monkeypatch):
    """Classes that are cut after every program never part a plan from its chains."""
    monkeypatch.setattr(search_module, "COARSE", -np.inf)
    problem = many(charger_kw=charger_kw)
    plan = solve_interior(problem, gap=1e-3)
    assert certify_plan(problem, plan).gap <= 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("charger_kw", [150.0, 7.4])
def test_a_large_fleet_is_proven(charger_kw):
    from evcm.aggregator import of_fleet
    from evcm.inputs import paper
    from evcm.trips import fleet

    cars, bus = 2500, 5
    told = paper()
    steps, share = told.market.price, cars / 682
    problem = of_fleet.aggregator_problem(
        fleet.single_bus_fleet(told, cars, bus, seed=1, samples=5), bus,
        system_load_mw=told.forecast_mw * share,
        price=type(steps)(steps.edge_mw * share, steps.price_usd_per_kwh),
        system_cap_mw=told.market.system_cap_mw * share,
        charger=Charger(charger_kw, 0.9, 0.9),
    )  # fmt: skip
    plan = methods.solve(problem, threads=2)
    assert plan.method == "interior"
    assert certify_plan(problem, plan).gap <= 1e-3
