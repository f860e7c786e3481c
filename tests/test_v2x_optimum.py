"""The exact optimum, predictive control, traces, and the outside check with real sessions."""

import json
import math
from dataclasses import replace
from pathlib import Path

import cvxpy as cp
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from evcm.cli import app
from evcm.errors import InfeasibleError, InputError, SolverError
from evcm.v2x import trace
from evcm.v2x.arrivals import Sessions
from evcm.v2x.certificate import certify
from evcm.v2x.mpc import ModelPredictive
from evcm.v2x.rewards import PROFIT, SERVICE, TRACKING_ONLY, Weights
from evcm.v2x.rules import (
    as_fast_as_possible,
    baselines,
    earliest_deadline,
    first_come,
    least_laxity,
    round_robin,
)
from evcm.v2x.series import Series, week_series
from evcm.v2x.solve import optimum
from evcm.v2x.station import Case, make_case, run
from evcm.v2x.world import (
    PLACES,
    ChargerType,
    Lot,
    Transformer,
    World,
    charger_types,
    example_world,
)

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "sessions"


def wild(seed):
    rng = np.random.default_rng(seed)
    return lambda station: station.layout.port_kw * rng.uniform(-1, 1, station.world.ports)


@pytest.mark.parametrize("place", PLACES)
def test_optimum_replays_to_its_own_bound_and_no_rule_beats_it(place):
    for seed in (3, 4):
        case = make_case(example_world(25, place), seed=seed, start_hour=24.0)
        best = optimum(case)
        assert abs(best.gap_usd) <= 1e-6 * max(1.0, abs(best.bound_usd))
        certify(best.run).require()
        for rule in [*baselines().values(), wild(seed)]:
            assert run(case, rule).reward <= best.bound_usd + 1e-7
        assert run(case, least_laxity).reward < best.reward - 0.1


def test_one_car_by_hand():
    # 10 kWh to buy in four hours at prices 4, 1, 3, 2 and at most 6 kW: 6 at 1, 4 at 2.
    charger = ChargerType("c", "ac", 1, 200.0, 30.0)
    world = World((Transformer("t", (Lot("l", "public", (charger,)),)),), tariff_usd_per_kwh=0.0)
    price, node = np.array([4.0, 1, 3, 2]), np.full((4, 1), np.inf)
    series = Series(
        1.0, price, 0 * price, 0 * node.astype(bool), node, node, 25 + 0 * price, 0 * price
    )
    sessions = Sessions(np.array([0]), np.array([[0, 4, 100.0, 20, 30, 20, 11, 0.8, 6.0, 0.0, 0]]))
    case = Case(world, series, sessions, Weights(ageing=0.0, unserved_usd_per_kwh=100.0))
    best = optimum(case)
    assert best.run.grid_kwh[:, 0] == pytest.approx([0, 6, 0, 4], abs=1e-7)
    assert best.reward == pytest.approx(-14.0, abs=1e-6)
    # The other way: full battery, selling at 90 % of the price, wish 20.
    selling = replace(series, sell_usd_per_kwh=0.9 * price)
    sessions = Sessions(np.array([0]), np.array([[0, 4, 100.0, 30, 20, 15, 11, 0.8, 6.0, 6.0, 0]]))
    best = optimum(replace(case, series=selling, sessions=sessions))
    # Sell 6 at 4, buy 6 back at 1, sell 6 at 3 and the last 4 above the wish at 2.
    assert best.run.grid_kwh[:, 0] == pytest.approx([-6, 6, -6, -4], abs=1e-7)
    assert best.reward == pytest.approx(0.9 * (24 + 18 + 8) - 6.0, abs=1e-6)


@pytest.mark.parametrize(
    "weights",
    [PROFIT, SERVICE, TRACKING_ONLY, Weights(tracking_usd_per_kwh=0.3, overload_usd_per_kwh=0.02)],
)
def test_optimum_of_every_reward(weights):
    case = make_case(example_world(12, "public"), seed=2, start_hour=24.0, weights=weights)
    setpoint = 40 + 30 * np.sin(np.arange(96) / 9)
    case = replace(case, series=replace(case.series, setpoint_kw=setpoint))
    best = optimum(case)
    assert abs(best.gap_usd) <= 1e-6 * max(1.0, abs(best.bound_usd))
    certify(best.run).require()
    for rule in baselines().values():
        assert run(case, rule).reward <= best.bound_usd + 1e-7


def test_negative_prices_need_binaries_and_stay_exact():
    # Paid to waste energy: a relaxation would charge and give at once.
    world = example_world(6, "home")
    case = make_case(world, seed=6, start_hour=24.0, weights=replace(PROFIT, ageing=0.0))
    prices = 0.1 - 0.35 * (np.arange(96) % 48 > 30)
    case = replace(case, series=week_series(world, 96, 0.25, 24.0, prices))
    best = optimum(case)
    assert best.binaries > 0
    assert abs(best.gap_usd) <= 1e-6 * max(1.0, abs(best.bound_usd))
    certify(best.run).require()


def test_selling_above_the_buying_price_needs_a_binary_and_stays_exact():
    world = example_world(3, "home")
    case = make_case(world, seed=6, steps=24, step_h=1.0, weights=replace(PROFIT, ageing=1.0))
    buy = np.full(24, 0.1)
    sell = np.where(np.arange(24) % 6 < 3, 0.4, 0.05)
    case = replace(case, series=replace(case.series, buy_usd_per_kwh=buy, sell_usd_per_kwh=sell))
    best = optimum(case)
    assert best.binaries >= 12
    assert abs(best.gap_usd) <= 1e-6 * max(1.0, abs(best.bound_usd))
    certify(best.run).require()
    for rule in [*baselines().values(), wild(1), ModelPredictive()]:
        assert run(case, rule).reward <= best.bound_usd + 1e-7
    assert run(case, ModelPredictive()).reward > run(case, least_laxity).reward


def test_predictive_control_wastes_no_energy_it_cannot_waste():
    # Paid to waste at a flat price: a plan that charges and gives at once would be a dream.
    world = example_world(3, "home")
    series = week_series(world, 24, 1.0, prices=np.full(24, -0.1))
    case = make_case(world, seed=1, steps=24, step_h=1.0, weights=Weights(tariff=0.0, ageing=0.0))
    case = replace(case, series=series)
    best = optimum(case)
    assert run(case, ModelPredictive()).reward >= 0.999 * best.reward > 0


def test_shared_chargers_are_exact():
    pair = replace(charger_types()["DC 50 kW, two ports"], current_a=60.0)
    lot = Lot("lot", "public", (pair,) * 6)
    world = World((Transformer("t", (lot,), import_limit_kw=120.0),))
    case = make_case(world, seed=1, steps=48, step_h=0.5, start_hour=24.0)
    best = optimum(case)
    certify(best.run).require()
    busy = (best.run.grid_kwh.reshape(48, 6, 2).sum(axis=2) > 29.9 / 2).any()
    assert busy
    assert abs(best.gap_usd) < 1e-6 * max(1.0, abs(best.bound_usd))
    for rule in baselines().values():
        assert run(case, rule).reward <= best.bound_usd + 1e-7


def test_two_transformers_and_a_bus_limit():
    one = example_world(6, "public").transformers[0]
    two = example_world(6, "workplace").transformers[0]
    world = World((one, two), import_limit_kw=30.0, export_limit_kw=10.0)
    case = make_case(world, seed=1, start_hour=24.0)
    best = optimum(case)
    certify(best.run).require()
    assert best.run.transformer_kw.sum(axis=1).max() > 29.9
    free = optimum(replace(case, world=replace(world, import_limit_kw=math.inf)))
    assert free.reward > best.reward


def test_a_tighter_cap_never_pays_and_limits_can_be_hard():
    case = make_case(example_world(10, "workplace"), seed=5, start_hour=24.0)
    rewards = []
    for cap in (60.0, 40.0, 25.0):
        capped = replace(case, series=case.series.with_import_cap(cap))
        best = optimum(capped, hard_limits=True)
        assert best.run.transformer_kw.max() <= cap + 1e-6
        rewards.append(best.reward)
    assert rewards == sorted(rewards, reverse=True)
    with pytest.raises(InfeasibleError, match="building load or PV alone"):
        optimum(replace(case, series=case.series.with_import_cap(1.0)), hard_limits=True)


def test_out_of_time_is_an_error_not_a_number():
    case = make_case(example_world(25, "home"), seed=5)
    with pytest.raises(SolverError, match="without an optimum"):
        optimum(case, time_limit_s=1e-4)


def test_optimum_does_not_depend_on_the_tangents_it_starts_with():
    # The same day at half the step length: more freedom, so never less reward.
    coarse = make_case(example_world(8, "home"), seed=2, steps=24, step_h=1.0, weights=PROFIT)
    world, values = coarse.world, coarse.sessions.values.copy()
    values[:, :2] *= 2
    s = coarse.series
    doubled = {
        n: np.repeat(getattr(s, n), 2, axis=0)
        for n in (
            "buy_usd_per_kwh", "sell_usd_per_kwh", "base_kw", "import_limit_kw",
            "export_limit_kw", "temperature_c", "setpoint_kw",
        )
    }  # fmt: skip
    fine = Case(world, Series(0.5, **doubled), Sessions(coarse.sessions.port, values), PROFIT)
    assert optimum(fine).reward >= optimum(coarse).reward - 1e-6


def test_optimum_against_an_independent_model():
    # The same day written anew in CVXPY: constant-power batteries, one transformer.
    charger = charger_types()["AC post, three phases"]
    lot = Lot("lot", "workplace", (charger,) * 8)
    world = World((Transformer("t", (lot,), import_limit_kw=45.0),), target_soc=(0.9, 1.0))
    case = make_case(world, seed=3, steps=48, step_h=0.5, start_hour=24.0)
    values = case.sessions.values.copy()
    values[:, 7] = 1.0  # no taper
    case = replace(case, sessions=Sessions(case.sessions.port, values), weights=Weights(ageing=0.0))
    total, rules, cost = np.zeros(48), [], 0.0
    for v in case.sessions.values:
        steps = np.arange(int(v[0]), math.ceil(v[1]))
        hours = np.minimum(v[1] - steps, 1.0) * 0.5
        x = cp.Variable(steps.size, bounds=[0, v[8] * hours])
        y = cp.Variable(steps.size, bounds=[0, v[9] * hours])
        content = v[3] + cp.cumsum(x - y)
        rules += [content <= v[2], content >= v[5]]
        cost += 0.5 * cp.pos(v[4] - content[-1])
        cost -= 0.25 * (cp.sum(x - y) - cp.pos(content[-1] - max(v[4], v[3])))
        place = np.zeros((48, steps.size))
        place[steps, np.arange(steps.size)] = 2.0
        total = total + place @ (x / charger.charge_efficiency - y * charger.discharge_efficiency)
    s = case.series
    cost += 0.5 * (s.buy_usd_per_kwh @ total)
    cost += 0.5 * ((s.buy_usd_per_kwh - s.sell_usd_per_kwh) @ cp.neg(total))
    cost += 2.0 * 0.5 * cp.sum(cp.pos(total - 45.0))
    problem = cp.Problem(cp.Minimize(cost), rules)
    problem.solve(solver=cp.HIGHS)
    assert optimum(case).reward == pytest.approx(-problem.value, abs=1e-5)


def test_predictive_control_is_near_and_below_the_optimum():
    case = make_case(example_world(8, "home"), seed=3, steps=48, step_h=0.5, start_hour=24.0)
    finished = run(case, ModelPredictive(horizon_h=16.0))
    certify(finished).require()
    best = optimum(case)
    assert finished.reward <= best.bound_usd + 1e-7
    assert finished.reward > run(case, least_laxity).reward


@pytest.mark.parametrize("name", ["run.json", "run"])
def test_trace_is_replayed_bit_for_bit(tmp_path, name):
    case = make_case(example_world(8, "public"), seed=3)
    finished = run(case, wild(1), "wild")
    path = trace.save(finished, tmp_path / name)
    back = trace.load(path)
    again = back.replay()
    np.testing.assert_array_equal(again.grid_kwh, finished.grid_kwh)
    np.testing.assert_array_equal(again.terms, finished.terms)
    assert back.case.world == case.world
    assert back.case.weights == case.weights
    trace.save(finished, path)  # replaces itself
    assert optimum(back.case).bound_usd == pytest.approx(optimum(case).bound_usd, abs=1e-9)
    with pytest.raises(InputError, match="reward"):
        replace(back, reward=back.reward + 1.0).replay()


def test_broken_traces_are_named(tmp_path):
    finished = run(make_case(example_world(2), seed=3, steps=4), wild(1))
    path = trace.save(finished, tmp_path / "a.json")
    content = json.loads(path.read_text())
    with pytest.raises(InputError, match="missing"):
        trace.load(tmp_path / "none.json")
    for change, message in (
        ({"version": 99}, "version"),
        ({"format": "other"}, "format"),
        ({"ports": {}}, "whole trace"),
        ({"weights": {"colour": 1}}, "whole trace"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(InputError, match=message):
            trace.load(path)
    path.write_text("{")
    with pytest.raises(InputError, match="JSON"):
        trace.load(path)
    for name in ("an\x1b[31mgry", "", "x" * 201, 7):
        path.write_text(json.dumps({**content, "name": name}))
        with pytest.raises(InputError, match="name") as caught:
            trace.load(path)
        assert "\x1b" not in str(caught.value)


def test_a_trace_replaces_its_own_files_and_no_others(tmp_path):
    finished = run(make_case(example_world(2), seed=3, steps=4), wild(1))
    folder = trace.save(finished, tmp_path / "run")
    (folder / "notes.txt").write_text("mine")
    trace.save(finished, folder)
    assert (folder / "notes.txt").read_text() == "mine"
    trace.load(folder).replay()
    # A file of the same name that is no trace is somebody's.
    for own in (tmp_path / "package.json", folder / "trace.json"):
        own.write_text('{"name": "mine"}')
        target = folder if own.name == "trace.json" else own
        with pytest.raises(InputError, match="--force"):
            trace.save(finished, target)
        assert own.read_text() == '{"name": "mine"}'
        trace.save(finished, target, force=True)
        trace.load(target).replay()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["package.json", "run"]
    with pytest.raises(InputError, match=r"file for name\.json"):
        trace.save(finished, folder / "notes.txt")


def test_command_line(tmp_path):
    runner = CliRunner()
    out = tmp_path / "day.json"
    options = ["--chargers", "6", "--place", "public", "--seed", "2"]
    result = runner.invoke(app, ["v2x", "run", str(out), "--rule", "earliest_deadline", *options])
    assert result.exit_code == 0
    assert "under earliest_deadline" in result.output
    best = tmp_path / "best"
    result = runner.invoke(app, ["v2x", "optimum", str(out), "--out", str(best)])
    assert result.exit_code == 0
    assert "optimal" in result.output
    result = runner.invoke(app, ["v2x", "replay", str(best)])
    assert result.exit_code == 0
    assert "certified" in result.output
    result = runner.invoke(app, ["v2x", "compare", *options])
    assert result.exit_code == 0
    assert "price_threshold" in result.output
    for arguments in (
        ["run", str(out), "--rule", "magic"],
        ["run", str(out), "--place", "moon"],
        ["optimum", str(tmp_path / "none.json")],
    ):
        result = runner.invoke(app, ["v2x", *arguments])
        assert isinstance(result.exception, InputError)


def caltech(limit_kw):
    """The garage of the reference: constant power, 208 V x 32 A ports, one aggregate limit."""
    table = pd.read_csv(REFERENCE / "caltech-2019-03.csv")
    stations = sorted(table["station"].unique())
    port = table["station"].map({name: n for n, name in enumerate(stations)}).to_numpy()
    energy = table["energy_kwh"].to_numpy()
    nothing, full = np.zeros(len(table)), np.ones(len(table))
    power = table["max_power_kw"].to_numpy()
    sessions = Sessions(
        port,
        np.column_stack(
            [
                table["arrival_period"], table["departure_period"], energy, nothing, energy,
                nothing, power, full, power, nothing, nothing,
            ]
        ),
    )  # fmt: skip
    lot = Lot("garage", "workplace", (ChargerType("port", "ac", 1, 208.0, 32.0),) * len(stations))
    world = World((Transformer("t", (lot,), import_limit_kw=limit_kw),))
    steps = int(table["departure_period"].max())
    one, node = np.ones(steps), np.ones((steps, 1))
    series = Series(
        1 / 12, 0 * one, 0 * one, 0 * node, limit_kw * node, math.inf * node, 25 * one, 0 * one
    )
    return Case(world, series, sessions, Weights(0.0, 0.0, 1.0, 0.0, 1000.0)), energy.sum()


needs_sessions = pytest.mark.skipif(
    not (REFERENCE / "caltech-2019-03.csv").is_file(), reason="the reference sessions are not here"
)


@needs_sessions
def test_real_sessions_uncontrolled_as_published():
    case, asked = caltech(math.inf)
    finished = run(case, as_fast_as_possible)
    delivered = finished.total["charged_kwh"]
    assert 100 * delivered / asked == pytest.approx(99.8837, abs=0.05)
    assert delivered == pytest.approx(8890.17, abs=1.0)
    assert finished.transformer_kw.max() == pytest.approx(99.0, abs=1e-6)


@needs_sessions
@pytest.mark.slow
def test_real_sessions_under_10_kw():
    case, asked = caltech(10.0)
    best = optimum(case)
    share = 100 * best.run.total["charged_kwh"] / asked
    published = {
        first_come: 55.42, least_laxity: 58.81, earliest_deadline: 58.49, round_robin: 55.27
    }  # fmt: skip
    for rule, percent in published.items():
        finished = run(case, rule)
        ours = 100 * finished.total["charged_kwh"] / asked
        assert ours == pytest.approx(percent, abs=0.5)
        assert finished.transformer_kw.max() <= 10.0 + 1e-9
        assert share >= max(ours, percent) - 1e-6
