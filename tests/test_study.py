import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from evcm import cli
from evcm.coordination import capped as coordination
from evcm.coordination import regimes
from evcm.errors import InfeasibleError, InputError
from evcm.inputs.folder import paper
from evcm.study import flow, tables, tasks


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scenarios", (4,)),
        ("scenarios", ()),
        ("sides", ("mid",)),
        ("seed", -1),
        ("gap", 0.0),
        ("jobs", 0),
        ("law", "invented"),
        ("cars_per_group", 0),
    ],
)
def test_settings_are_checked(field, value):
    with pytest.raises(InputError, match=field):
        flow.Settings(**{field: value}).of(paper())


def test_the_key_depends_on_what_is_asked_not_on_the_workers():
    assert flow.study_key(paper(), flow.Settings(jobs=1)) == flow.study_key(
        paper(), flow.Settings(jobs=2)
    )
    assert flow.study_key(paper(), flow.Settings(seed=1)) != flow.study_key(
        paper(), flow.Settings(seed=2)
    )


def test_system_summary():
    system = pd.DataFrame(
        {
            "scenario": 1, "side": "min", "regime": "apart", "period": [1, 2],
            "period_h": 0.5,
            "load_mw": [100.0, 200.0], "generation_mw": [104.0, 205.0], "nsp_mw": [0.0, 3.0],
            "losses_mw": [4.0, 8.0], "v_min_pu": [0.99, 0.95],
        }
    )  # fmt: skip
    transmission = pd.DataFrame(
        {
            "scenario": 1, "side": "min", "regime": "apart", "period": [1, 1, 2, 2],
            "bus": [13, 14, 13, 14], "nsp_mw": [0.0, 1e-7, 1.0, 2.0],
        }
    )  # fmt: skip
    row = tables.system_summary(system, transmission).iloc[0]
    assert row["energy_demand_mwh"] == 150.0
    assert row["peak_load_mw"] == 200.0
    assert row["load_factor"] == 0.75
    assert row["losses_mwh"] == 6.0
    assert row["nse_mwh"] == 1.5
    assert row["max_nsp_mw"] == 3.0
    assert row["nsp_buses"] == "13, 14"
    assert row["v_min_pu"] == 0.95


def test_solve_under_cap_raises_the_cap_only_where_it_must(monkeypatch):
    asked = []

    class Problem:
        def with_options(self, system_cap_mw, trading_cap_mw, export_cap_mw):
            assert system_cap_mw is None
            assert export_cap_mw is None
            return trading_cap_mw

    def solve(cap, gap, start=None):
        assert start is None
        asked.append(cap.copy())
        if cap.min() < 1.2:
            raise InfeasibleError("too small", uniform_increase=0.2)
        return "plan"

    monkeypatch.setattr(coordination.methods, "solve", solve)
    enough = coordination.solve_under_cap(Problem(), np.full(48, 2.0))
    assert (enough.raised_percent, len(asked)) == (0.0, 1)
    capped = coordination.solve_under_cap(Problem(), np.ones(48))
    assert capped.raised_percent == pytest.approx(20.0)
    np.testing.assert_allclose(capped.cap_mw, 1.2, rtol=1e-5)


def test_an_infeasibility_that_no_cap_cures_is_not_hidden(monkeypatch):
    class Problem:
        def with_options(self, **_):
            return self

    def solve(*_, **__):
        raise InfeasibleError("a visit is too short")

    monkeypatch.setattr(coordination.methods, "solve", solve)
    with pytest.raises(InfeasibleError, match="visit is too short"):
        coordination.solve_under_cap(Problem(), np.ones(48))


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, ["study", *arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        return 2, str(result.exception)
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scenario", "9"), "--scenario: got 9; allowed: 1, 2, 3, all"),
        (("--side", "left"), "--side: got left; allowed: min, max, both"),
        (("--seed", "-3"), "'--seed'"),
        (("--jobs", "0"), "'--jobs'"),
    ],
)
def test_bad_options_are_refused(arguments, message, tmp_path):
    code, output = run(*arguments, "--out", str(tmp_path / "r"))
    assert code == 2
    assert message in output
    assert not (tmp_path / "r").exists()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    settings = flow.Settings(scenarios=(1,), sides=("min",), cars_per_group=60, jobs=1)
    seen = []
    result = flow.run(paper(), settings, out, lambda *what: seen.append(what))
    return settings, result, seen


@pytest.mark.slow
def test_the_study_runs_whole(finished):
    settings, result, seen = finished
    assert set(result.system["regime"]) == set(regimes.STUDY)
    plans = result.aggregators
    assert len(plans) == 2 * len(paper().buses)
    assert (plans["gap"] <= settings.gap).all()
    assert (plans["bound_usd"] <= plans["cost_usd"] + 1e-9).all()
    summary = tables.system_summary(result.system, result.transmission)
    nse = summary.set_index("regime")["nse_mwh"]
    assert nse["maximum total"] <= nse["apart"] + 1e-6
    assert nse["no cars"] == 0
    base = summary.set_index("regime").loc["no cars"]
    assert base["energy_demand_mwh"] == pytest.approx(5486.08, abs=0.01)
    # power by bus and the aggregators' energy are the same thing, seen twice
    ev = result.transmission.groupby("regime")["ev_mw"].sum() * 0.5
    energy = plans.groupby("regime")["energy_mwh"].sum()
    for regime in ("apart", "maximum total"):
        assert ev[regime] == pytest.approx(energy[regime], abs=1e-9)
    assert ("Aggregators", 11, 11) in seen


@pytest.mark.slow
def test_plans_keep_within_their_caps(finished):
    _, result, _ = finished
    rows = pd.read_parquet(result.folder / "schedules.parquet")
    capped = rows[rows["regime"] == "maximum total"]
    assert (capped["day_ahead_mw"] <= capped["cap_mw"] + 1e-6).all()


@pytest.mark.slow
def test_a_second_run_computes_nothing_again(finished, monkeypatch):
    settings, result, _ = finished

    def refused(*_):
        raise AssertionError("a stored plan was solved again")

    monkeypatch.setattr(tasks.PlanTask, "run", refused)
    again = flow.run(paper(), settings, result.folder)
    pd.testing.assert_frame_equal(again.system, result.system)
    pd.testing.assert_frame_equal(again.aggregators, result.aggregators, check_like=True)


@pytest.mark.slow
def test_only_what_is_missing_is_solved(finished, monkeypatch):
    settings, result, _ = finished
    step, victim = result.folder / "steps/plans", "apart/scenario1-min-bus05"
    for file in step.iterdir():
        rows = pq.read_table(file)
        pq.write_table(rows.filter(pc.not_equal(rows["name"], victim)), file)
    solved, run = [], tasks.PlanTask.run
    monkeypatch.setattr(tasks.PlanTask, "run", lambda t: solved.append(t.name) or run(t))
    again = flow.run(paper(), settings, result.folder)
    assert solved == [victim]
    same = ["scenario", "side", "regime", "bus", "cost_usd", "bound_usd", "gap"]
    pd.testing.assert_frame_equal(again.aggregators[same], result.aggregators[same])


def test_the_command_line_asks_for_the_study_s_own_settings():
    import inspect

    from evcm.cli.hosting import compare
    from evcm.cli.study import study as command

    own = flow.Settings()
    for function in (command, compare):
        defaults = {n: p.default for n, p in inspect.signature(function).parameters.items()}
        for name in ("gap", "seed", "law", "cars_per_group"):
            assert defaults.get(name, getattr(own, name)) == getattr(own, name)
