from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from instances import random_problem

from evcm.aggregator.certificate import certify_plan, check_plan
from evcm.aggregator.model_solver import solve_model
from evcm.aggregator.plan import AggregatorPlan, load_plan, make_plan, save_plan, value_at_risk
from evcm.aggregator.problem import AggregatorProblem, save_problem
from evcm.errors import InputError, SolverError

TOOLS = Path(__file__).resolve().parents[2] / "shared" / "tools"


@pytest.fixture(scope="module")
def solved() -> tuple[AggregatorProblem, AggregatorPlan]:
    problem = random_problem(3, cap="trading", always_plugged=True)
    return problem, solve_model(problem, 1e-4)


def again(problem: AggregatorProblem, plan: AggregatorPlan, **changes: object) -> AggregatorPlan:
    """The plan with some arrays changed, priced again."""
    names = ("day_ahead_mw", "surplus_mw", "deficit_mw", "charge_kw", "discharge_kw", "soc_kwh")
    arrays = {name: getattr(plan, name) for name in names} | changes
    rest = {"bound_usd": -1e9, "seconds": 0.0, "method": "changed", "status": ""}
    return make_plan(problem, **arrays, **rest)  # type: ignore[arg-type]


def test_a_solved_plan_is_certified(solved: tuple[AggregatorProblem, AggregatorPlan]) -> None:
    problem, plan = solved
    certificate = certify_plan(problem, plan)
    assert certificate.holds
    assert certificate.worst[1] < 1e-6
    assert certificate.cost_usd == pytest.approx(plan.cost_usd, rel=1e-9)
    assert certificate.gap == pytest.approx(plan.gap, abs=1e-12)


@pytest.mark.parametrize(
    ("field", "size", "residual"),
    [
        ("charge_kw", 0.01, "balance (17)(18)"),
        ("charge_kw", -100.0, "sign (16)"),
        ("discharge_kw", 100.0, "charger (14)"),
        ("soc_kwh", 0.01, "balance (17)(18)"),
        ("soc_kwh", 70.0, "soc_max (19)"),
        ("soc_kwh", -70.0, "soc_min (19)"),
        ("soc_kwh", -70.0, "departure"),
        ("day_ahead_mw", 1e-5, "power (12)"),
        ("day_ahead_mw", 10.0, "cap (56)"),
        ("deficit_mw", 10.0, "cap (57)"),
        ("deficit_mw", 1e-5, "mean (11)"),
        ("surplus_mw", 10.0, "real-time limit (10)"),
        ("surplus_mw", -10.0, "trade sign (10)"),
    ],
)
def test_each_violation_is_found(
    solved: tuple[AggregatorProblem, AggregatorPlan], field: str, size: float, residual: str
) -> None:
    problem, plan = solved
    bad = again(problem, plan, **{field: getattr(plan, field) + size})
    found = check_plan(problem, bad)
    assert found.residuals[residual] >= 1e-3
    with pytest.raises(SolverError, match="fails its certificate"):
        certify_plan(problem, bad)


def test_power_without_a_plug_is_found(
    solved: tuple[AggregatorProblem, AggregatorPlan],
) -> None:
    problem, plan = solved
    charge = np.where(problem.available, plan.charge_kw, 1.0)
    found = check_plan(problem, again(problem, plan, charge_kw=charge))
    assert found.residuals["unplugged (14)"] == pytest.approx(1.0)


def test_options_are_certified_too() -> None:
    problem = random_problem(2)
    plan = solve_model(problem, 1e-3)
    given = problem.with_options(midnight_soc_kwh=np.full((4, 2), 13.0))
    assert check_plan(given, plan).residuals["midnight (20)"] > 1.0
    if plan.discharge_kw.max() > 0.01:
        still = problem.with_options(allow_v2g=False)
        assert check_plan(still, plan).residuals["no V2G"] > 1e-3
    plugs = problem.with_options(real_time_limit="plug")
    assert "real-time limit (plugs)" in check_plan(plugs, plan).residuals


def test_a_false_cost_or_bound_is_refused(
    solved: tuple[AggregatorProblem, AggregatorPlan],
) -> None:
    problem, plan = solved
    high = replace(plan, bound_usd=plan.objective_usd + 1e-3)
    assert "bound" in check_plan(problem, high).faults[0]
    cheap = replace(plan, cost=replace(plan.cost, day_ahead_usd=plan.cost.day_ahead_usd - 2.0))
    assert "cost" in check_plan(problem, cheap).faults[0]
    assert "objective" in check_plan(problem, replace(plan, objective_usd=-5.0)).faults[0]


def test_the_tail_mean_by_hand() -> None:
    cost = np.array([1.0, 2.0, 3.0, 10.0])
    even = np.full(4, 0.25)
    assert value_at_risk(cost, even, 0.75) == (3.0, 10.0)
    assert value_at_risk(cost, even, 0.5) == (2.0, 6.5)
    assert value_at_risk(cost, even, 0.0) == (1.0, 4.0)
    risky = random_problem(1).with_options(risk_weight=1.0, risk_alpha=0.5)
    plan = solve_model(risky, 1e-3)
    assert plan.objective_usd == pytest.approx(plan.cost.by_sample_usd.max(), abs=1e-9)
    assert check_plan(risky, plan).objective_usd == pytest.approx(plan.objective_usd, abs=1e-9)


def test_a_plan_survives_the_round_trip(
    solved: tuple[AggregatorProblem, AggregatorPlan], tmp_path: Path
) -> None:
    problem, plan = solved
    path = tmp_path / "plan.npz"
    save_plan(path, plan)
    back = load_plan(path, problem)
    np.testing.assert_array_equal(back.soc_kwh, plan.soc_kwh)
    assert back.cost_usd == pytest.approx(plan.cost_usd, rel=1e-12)
    assert (back.bound_usd, back.method, back.status) == (
        plan.bound_usd, plan.method, plan.status,
    )  # fmt: skip
    content = dict(np.load(path))
    np.savez(path, **{**content, "soc_kwh": content["soc_kwh"][:, :1], "surplus_mw": np.nan})
    with pytest.raises(InputError) as caught:
        load_plan(path, problem)
    assert "soc_kwh" in str(caught.value)
    assert "surplus_mw" in str(caught.value)
    np.savez(path, **{**content, "cost_usd": 1234.0})
    with pytest.raises(InputError, match=r"cost_usd: got 1234\.0"):
        load_plan(path, problem)


@pytest.mark.skipif(not TOOLS.is_dir(), reason="the independent checker is not there")
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_independent_checker(seed: int, tmp_path: Path) -> None:
    sys.path.insert(0, str(TOOLS))
    try:
        import check_plan as outside
    finally:
        sys.path.pop(0)
    problem = random_problem(seed, cap="trading" if seed % 2 else "system", always_plugged=True)
    plan = solve_model(problem, 1e-3)
    rng = np.random.default_rng(seed)
    noisy = again(
        problem,
        plan,
        soc_kwh=plan.soc_kwh + rng.normal(0, 5, plan.soc_kwh.shape),
        charge_kw=plan.charge_kw + rng.normal(0, 5, plan.charge_kw.shape),
        deficit_mw=plan.deficit_mw + rng.normal(0, 0.1, plan.deficit_mw.shape),
        day_ahead_mw=plan.day_ahead_mw + rng.normal(0, 0.5, problem.periods),
    )
    path = tmp_path / "instance.npz"
    save_problem(path, problem)
    instance = dict(np.load(path))
    for each in (plan, noisy):
        arrays = {
            name: getattr(each, name)
            for name in ("day_ahead_mw", "surplus_mw", "deficit_mw", "charge_kw", "discharge_kw",
                         "soc_kwh")
        }  # fmt: skip
        ours, theirs = check_plan(problem, each), outside.residuals(instance, arrays)
        pairs = {
            "soc_balance": "balance (17)(18)", "soc_low": "soc_min (19)",
            "soc_high": "soc_max (19)", "departure": "departure", "balance_12": "power (12)",
            "v2g_10": "real-time limit (10)", "mean_11": "mean (11)", "cap_29": "cap (29)",
            "cap_30": "cap (30)", "cap_56": "cap (56)", "cap_57": "cap (57)",
            "charger": "charger (14)",
        }  # fmt: skip
        for name, size in theirs.items():
            if name in pairs:
                assert ours.residuals[pairs[name]] == pytest.approx(size, abs=1e-9), name
        cost = outside.cost(instance, arrays)
        assert ours.cost_usd == pytest.approx(cost["total"], rel=1e-9, abs=1e-9)
        assert ours.battery_usd == pytest.approx(cost["battery"], rel=1e-9, abs=1e-9)
        gap = (cost["total"] - each.bound_usd) / outside.turnover(cost)
        assert ours.gap == pytest.approx(gap, rel=1e-9, abs=1e-12)
