"""The interior-point method against the readable model, on problems of every kind."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from instances import random_problem
from odd_problems import odd_problem

from evcm import inputs
from evcm.aggregator import load_problem, methods
from evcm.aggregator.certificate import certify_plan
from evcm.aggregator.interior import search as searching
from evcm.aggregator.interior.search import Search
from evcm.aggregator.interior.solve import solve_interior
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem, RealTimeLimit
from evcm.blas import one_thread
from evcm.errors import InfeasibleError, SolverError
from evcm.inputs import Charger, PriceSteps
from evcm.study import hosting_points

ODD = Path(__file__).resolve().parents[2] / "shared" / "reference" / "eva-odd"


def granted_usd(problem: AggregatorProblem, plan: AggregatorPlan) -> float:
    """What a plan saves by what its certificate allows, which its bound and the model do not.

    For each load within 1e-6 MW of an edge, on the side where the better neighbour is the other
    step: the energy past it at the rise of the price. And trade beyond (10), at the highest price.
    """
    edge, rise = problem.step_edge_mw, np.diff(problem.step_price_usd_per_kwh, axis=1)[0]
    day = problem.system_load_mw + plan.day_ahead_mw
    trade = plan.deficit_mw - plan.surplus_mw
    saved = 0.0
    for load, power, weight in (
        (day[:, None], plan.day_ahead_mw[:, None], np.ones(1)),
        (day[:, None] + trade, trade, problem.probability),
    ):
        past = (load[..., None] - edge) * np.where(power >= 0, 1.0, -1.0)[..., None]
        past = np.where((past > 0) & (past <= 1e-6), past, 0.0)
        saved += float(np.sum(weight @ (past @ rise).T))
    if problem.real_time_limit == "v2g":
        fed = problem.group_size / 1000.0 * problem.figures.discharge_efficiency
        allowed = np.einsum("v,tvn->tn", fed, plan.discharge_kw)
        highest = float(np.abs(problem.step_price_usd_per_kwh).max())
        saved += highest * float(np.maximum(np.abs(trade) - allowed, 0.0).sum())
    return 1000.0 * problem.period_h * saved


def agree(problem: AggregatorProblem, method: methods.Method = "auto") -> None:
    """`solve` and the model find plans that do not contradict one another, or neither does."""
    try:
        expected = solve_model(problem, 1e-3, 60.0)
    except InfeasibleError:
        with pytest.raises(InfeasibleError):
            methods.solve(problem, method, time_limit_s=60.0)
        return
    plan = methods.solve(problem, method, time_limit_s=60.0)
    slack = 1e-6 * plan.cost.turnover_usd
    certify_plan(problem, plan)
    assert plan.gap <= 1e-3
    assert plan.bound_usd <= expected.cost_usd + granted_usd(problem, expected) + slack
    assert expected.bound_usd <= plan.cost_usd + granted_usd(problem, plan) + slack


@pytest.mark.parametrize("seed", [1, 5, 8, 22, 25, 29, 43, 50])
def test_odd_problems_agree_with_the_model(seed: int) -> None:
    agree(odd_problem(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_many_odd_problems_agree_with_the_model(seed: int) -> None:
    agree(odd_problem(seed))


@pytest.mark.parametrize("at", [(33, 2211, 3, 12), (44, 2200, 3, 13)])
def test_coarse_groups_keep_their_digits(at: tuple[int, int, int, int]) -> None:
    """The rows' inverse loses digits on few large groups; refined once, it closes these."""
    groups, cars, seed, bus = at
    point = hosting_points.Point("apart", cars, seed, 150.0, 1.0, groups, 3, 1e-4)
    problem = next(
        p for p in hosting_points.grouped_problems(inputs.paper(), point) if p.bus == bus
    )
    plan = solve_interior(problem, 1e-4)
    certify_plan(problem, plan)
    assert plan.gap <= 1e-4


@pytest.mark.parametrize("above_mw", [4.9e-6, 3e-7, -4.9e-6])
def test_an_edge_beside_a_load_that_no_car_can_change(above_mw: float) -> None:
    """Where a sample has no car, nothing is bought; a cheaper step a few watts away is no choice.

    The others' plans put loads there: each of them stops at an edge.
    """
    point = hosting_points.Point("apart", 2200, 1, 150.0, 1.0, 44, 2, 1e-2)
    problem = next(p for p in hosting_points.grouped_problems(inputs.paper(), point) if p.bus == 10)
    plugged = problem.available.any(axis=1)
    (at,) = np.nonzero(plugged.any(axis=1) & ~plugged.all(axis=1))
    assert at.size
    load, edge = problem.system_load_mw.copy(), problem.step_edge_mw
    for t in at:
        load[t] = edge[np.argmin(np.abs(edge - load[t]))] + above_mw
    problem = problem.with_options(system_load_mw=load)
    trace: list[searching.Event] = []
    plan = solve_interior(problem, 1e-2, trace=trace)
    certify_plan(problem, plan)
    assert plan.gap <= 1e-2
    assert trace[-1].node <= 20


@pytest.mark.parametrize("options", [{}, {"real_time_limit": "plug"}, {"trading_cap_mw": 1.0}])
def test_cars_that_never_leave_and_only_charge(options: dict[str, Any]) -> None:
    """Nothing moves such a battery: all its levels are as good, and no digit tells them apart."""
    problem = random_problem(5, vehicles=6, samples=3, always_plugged=True, charger_kw=4.0)
    if "trading_cap_mw" in options:
        cap = np.full(problem.periods, options["trading_cap_mw"])
        options = {"trading_cap_mw": cap, "system_cap_mw": None}
    only = problem.with_options(feeds_in=np.array([False, True] * 3), **options)
    for asked in (only, only.with_options(feeds_in=None, allow_v2g=False)):
        agree(asked, "interior")
        assert methods.solve(asked, "interior").method == "interior"


def test_what_is_burnt_finds_room_beside_cars_that_only_charge() -> None:
    """Power charged and fed back at once needs room in chargers of cars that feed back."""
    problem = odd_problem(249)
    assert problem.figures.feeds_in.any()
    assert not problem.figures.feeds_in.all()
    agree(problem, "interior")
    assert methods.solve(problem, "interior").method == "interior"


@pytest.mark.parametrize("seed", [143, 370])
def test_a_plan_is_read_though_its_program_lost_digits(seed: int) -> None:
    """Two rows that bind at once cost digits near the end; the plan holds all the same."""
    problem = odd_problem(seed)
    agree(problem, "interior")
    assert methods.solve(problem, "interior").method == "interior"


def test_most_odd_problems_need_no_other_method() -> None:
    done = 0
    for seed in range(10):
        try:
            done += methods.solve(odd_problem(seed), "interior").method == "interior"
        except InfeasibleError:
            done += 1
    assert done >= 8


def test_few_odd_problems_need_the_model_for_want_of_a_proof() -> None:
    given_up = []
    for seed in range(100, 150):
        try:
            status = methods.solve(odd_problem(seed), "interior", time_limit_s=60.0).status
        except InfeasibleError:
            continue
        if "(interior: " in status:
            given_up.append((seed, status))
    assert len(given_up) <= 1, given_up


def of_kinds(seed: int) -> AggregatorProblem:
    """An odd problem whose cars have two to four pairs of efficiencies; some may only charge."""
    problem, rng = odd_problem(seed), np.random.default_rng(10_000 + seed)
    shape = int(rng.integers(2, 5)), 2
    pairs = rng.choice([0.5, 0.8, 0.9, 0.95, 0.99, 1.0], shape)
    charge, discharge = pairs[rng.integers(0, len(pairs), problem.vehicles)].T
    more: dict[str, Any] = {"charger": Charger(problem.charger.power_kw, charge, discharge)}
    if rng.random() < 0.5:
        more |= {"feeds_in": rng.random(problem.vehicles) < 0.6, "allow_v2g": True}
    return problem.with_options(**more)


@pytest.mark.parametrize("seed", [104, 107, 122, 139, 160, 181])
def test_cars_of_several_kinds_agree_with_the_model(seed: int) -> None:
    agree(of_kinds(seed))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 200))
def test_many_fleets_of_several_kinds_agree_with_the_model(seed: int) -> None:
    agree(of_kinds(seed))


@pytest.mark.parametrize("limit", ["v2g", "plug"])
def test_each_family_burns_in_chargers_of_its_own(limit: RealTimeLimit) -> None:
    """Below a price of 0 cars that feed back are paid to burn; others have no room for that."""
    problem = random_problem(4, vehicles=8, samples=3, periods=12, charger_kw=11.0)
    k, price = problem.figures, problem.price_steps
    mixed = problem.with_options(
        feeds_in=np.arange(8) % 3 > 0, real_time_limit=limit,
        charger=Charger(11.0, np.where(np.arange(8) < 4, 0.8, 0.95), k.discharge_efficiency),
        price=PriceSteps(price.edge_mw, price.price_usd_per_kwh - price.price_usd_per_kwh.max()),
    )  # fmt: skip
    assert methods.choose_method(mixed) == ("interior", "")
    plan, expected = solve_interior(mixed, 1e-4), solve_model(mixed, 1e-4)
    certify_plan(mixed, plan)
    assert min(plan.cost_usd, expected.cost_usd) < 0
    assert plan.gap <= 1e-4
    assert abs(plan.cost_usd - expected.cost_usd) <= 2e-4 * plan.cost.turnover_usd
    at_once = (plan.charge_kw > 1e-3) & (plan.discharge_kw > 1e-3)
    assert at_once.any()
    assert not at_once[:, ~mixed.figures.feeds_in].any()


def test_more_kinds_than_the_fast_method_takes_go_to_the_model() -> None:
    problem = random_problem(3, vehicles=6, samples=2, periods=8)
    several = Charger(150.0, np.linspace(0.8, 0.95, 6), 0.9)
    chosen, reason = methods.choose_method(problem.with_options(charger=several))
    assert chosen == "model"
    assert "more than 4 pairs of efficiencies" in reason
    only = problem.with_options(charger=several, feeds_in=np.arange(6) < 4)
    assert methods.choose_method(only)[0] == "interior"


def test_threads_change_no_bit() -> None:
    problem = random_problem(7, vehicles=8, samples=5, periods=24)
    traces: list[list[searching.Event]] = [[], []]
    one, three = (
        solve_interior(problem, 1e-4, threads=n, trace=trace)
        for n, trace in zip((1, 3), traces, strict=True)
    )
    # The way before the plan, so that a difference shows where it begins.
    ways = [[repr(replace(event, seconds=0.0)) for event in trace] for trace in traces]
    assert ways[0] == ways[1]
    np.testing.assert_array_equal(one.charge_kw, three.charge_kw)
    assert one.bound_usd == three.bound_usd


def test_searches_beside_each_other_leave_linear_algebra_on_one_thread() -> None:
    """The first of two ends while the second runs, and gives back nothing that it still needs."""
    problem = random_problem(7, vehicles=8, samples=5, periods=24)
    second_runs, first_ended = Event(), Event()
    seen: list[int] = []

    def second_is_there(*_: float) -> None:
        assert second_runs.wait(120)

    def look_when_alone(*_: float) -> None:
        second_runs.set()
        assert first_ended.wait(120)
        seen.extend(one_thread.threads())

    before = one_thread.threads()
    one_thread.set_threads([2] * len(before))
    try:
        outside = one_thread.threads()
        assert 2 in outside  # a library built for one thread keeps to one
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(solve_interior, problem, 1e-4, progress=second_is_there)
            first.add_done_callback(lambda _: first_ended.set())
            while not one_thread.users:
                assert not first.done()
            second = pool.submit(solve_interior, problem, 1e-4, progress=look_when_alone)
            plans = first.result(), second.result()
        assert set(seen) == {1}
        assert one_thread.threads() == outside
        np.testing.assert_array_equal(plans[0].charge_kw, plans[1].charge_kw)
    finally:
        one_thread.set_threads(before)


def test_progress_closes_in_and_a_time_limit_is_told() -> None:
    problem = random_problem(9, vehicles=8, samples=4, periods=24)
    seen: list[tuple[float, float]] = []
    plan = solve_interior(problem, 1e-4, progress=lambda cost, bound, _: seen.append((cost, bound)))
    assert seen[-1][0] == pytest.approx(plan.cost_usd, abs=1e-6 * plan.cost.turnover_usd)
    assert all(later[0] <= former[0] for former, later in pairwise(seen))
    short = solve_interior(problem, 1e-9, time_limit_s=1e-3)
    assert "time limit" in short.status
    certify_plan(problem, short)


def test_the_bound_holds_for_any_multipliers() -> None:
    rng = np.random.default_rng(4)
    problem = random_problem(11, vehicles=5, samples=3)
    best = solve_model(problem, 1e-6)
    search = Search(problem, 1e-3, np.inf, 1, None)
    shape = (problem.periods, problem.samples)
    for scale in (0.1, 3.0, 30.0):
        y = rng.normal(0.0, scale, (*shape, 4))
        y4 = rng.normal(0.0, scale, problem.periods)
        bound = search.lagrangian.bound(y, y4, search.steps).value * search.units.usd
        assert bound <= best.cost_usd + 1e-9
    r = search.relax(search.steps.day, search.steps.real, set())
    assert r.bound.value * search.units.usd <= best.cost_usd + 1e-9
    assert r.bound.value >= r.answer.objective * (1 - 1e-4)


@pytest.mark.parametrize("name", ["agg-142", "agg-75"])
def test_odd_instances(name: str) -> None:
    if not ODD.is_dir():
        pytest.skip("without the reference folder")
    problem = load_problem(ODD / f"{name}.npz")
    for method in ("interior", "auto"):
        agree(problem, method)


def test_what_a_method_gives_up_the_next_one_solves(monkeypatch: pytest.MonkeyPatch) -> None:
    def gives_up(*_: object, **__: object) -> None:
        raise SolverError("no digits left")

    monkeypatch.setattr("evcm.aggregator.interior.solve.solve_interior", gives_up)
    plan = methods.solve(random_problem(2), "interior")
    assert plan.method == "model"
    assert "no digits left" in plan.status


@pytest.mark.parametrize("better", ["plan", "bound"])
def test_what_a_method_has_is_not_lost_on_the_next_one(
    better: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both prove the same problem: the cheaper plan and the higher bound are kept."""
    problem = random_problem(2)
    good = solve_model(problem, 1e-6)
    bad = solve_model(problem.with_options(feeds_in=np.zeros(problem.vehicles, bool)), 1e-6)
    low = good.bound_usd - 1.0
    assert bad.objective_usd > good.objective_usd
    has = good.finished(low, 0.0, "") if better == "plan" else bad.finished(good.bound_usd, 0.0, "")
    then = (
        bad.finished(good.bound_usd, 0.0, "") if better == "plan" else good.finished(low, 0.0, "")
    )

    def gives_up(*_: object, **__: object) -> None:
        raise SolverError("a gap is left", plan=has)

    monkeypatch.setattr("evcm.aggregator.interior.solve.solve_interior", gives_up)
    monkeypatch.setattr("evcm.aggregator.model_solver.solve_model", lambda *_, **__: then)
    plan = methods.solve(problem, "interior")
    assert plan.objective_usd == good.objective_usd
    assert plan.bound_usd == good.bound_usd
    assert "a gap is left" in plan.status


@pytest.mark.parametrize("seed", [3, 11])
def test_a_known_plan_is_kept_where_nothing_is_better(seed: int) -> None:
    """A plan told at the start needs only a bound; a worse one is replaced; bounds are of here."""
    problem = random_problem(seed)
    best, poor = methods.solve(problem, gap=1e-4), methods.solve(problem, gap=0.3)
    kept = methods.solve(problem, gap=5e-3, start=best.finished(-np.inf, 0.0, ""))
    assert kept.cost_usd == best.cost_usd
    assert np.array_equal(kept.charge_kw, best.charge_kw)
    assert kept.gap <= 5e-3
    assert kept.bound_usd <= best.cost_usd + 1e-9
    again = methods.solve(problem, gap=1e-3, start=poor)
    assert again.gap <= 1e-3
    assert again.cost_usd <= poor.cost_usd + 1e-9


def test_a_plan_of_another_problem_is_no_start() -> None:
    problem = random_problem(3)
    plan = methods.solve(problem, gap=1e-2)
    peak = (plan.day_ahead_mw[:, None] + plan.real_time_mw).max()
    tight = problem.with_options(
        system_cap_mw=None, trading_cap_mw=np.full(problem.periods, 0.9 * peak)
    )
    with pytest.raises(SolverError, match="cap"):
        methods.solve(tight, gap=1e-2, start=plan)
