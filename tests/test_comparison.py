from functools import cache

import numpy as np
import pandas as pd
import pytest

from evcm import inputs
from evcm.coordination.allocation import allocate
from evcm.coordination.equilibrium import Ending
from evcm.coordination.regimes import REGIMES, RULES
from evcm.plots import coordination as plots_coordination
from evcm.store import fingerprint
from evcm.store.results import StaleError
from evcm.study import comparison
from evcm.study.flow import Settings

SMALL = Settings(scenarios=(1,), sides=("max",), gap=0.05, cars_per_group=200, jobs=1)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("comparison")
    with pytest.MonkeyPatch.context() as patch:
        # an edit of the code while the tests run would make the stored tables stale
        patch.setattr(fingerprint, "of_modules", cache(fingerprint.of_modules))
        patch.setattr(comparison, "WHOLE_GAP", 0.05)
        patch.setattr(comparison, "FREE_GAP", 0.05)
        yield folder, comparison.run(inputs.paper(), SMALL, folder)


def test_the_joint_bound_is_below_every_regime(stored):
    regimes = stored[1]["regimes"]
    assert regimes["regime"].tolist() == list(REGIMES)
    planned = regimes[~regimes["regime"].isin(["no cars", "uncontrolled"])]
    assert (planned["joint_bound_usd"] <= planned["forecast_usd"]).all()
    cost = planned.set_index("regime")["forecast_usd"]
    assert cost["joint"] == cost.min()
    assert cost["joint"] <= cost["equilibrium"] < cost["apart"]


def test_an_equilibrium_states_its_epsilon(stored):
    row = stored[1]["equilibrium"].iloc[0]
    assert 0 <= row["epsilon_max_usd"] <= row["epsilon_sum_usd"] < np.inf
    assert row["ending"] == Ending.SETTLED.value
    known = stored[1]["regimes"].set_index("regime").loc["equilibrium"]
    gain = known["expected_usd"] - known["expected_bound_usd"]
    assert gain == pytest.approx(row["epsilon_sum_usd"])


def test_without_cars_nothing_is_paid(stored):
    row = stored[1]["regimes"].set_index("regime").loc["no cars"]
    assert row["paid_usd"] == row["energy_mwh"] == row["nse_mwh"] == 0.0


def test_coordination_never_adds_nse(stored):
    nse = stored[1]["regimes"].set_index("regime")["nse_mwh"]
    for regime in (*RULES, "re-allocated", "joint"):
        assert nse[regime] <= nse["apart"]


def test_everyone_pays_more_than_expected(stored):
    """Prices do not fall with load, and the others only add to it where everyone buys."""
    own = stored[1]["regimes"].set_index("regime").loc["apart"]
    assert own["forecast_usd"] > own["expected_usd"]


def test_rules_and_loop_are_told_by_aggregator(stored):
    rows = stored[1]["allocation"]
    assert set(rows["rule"]) == {*RULES, "re-allocated"}
    assert (rows.groupby("rule").size() == 11).all()
    feasible = rows[rows["feasible"]]
    assert (feasible["cost_usd"] >= feasible["free_bound_usd"] - 1e-6).all()
    loop = rows[rows["rule"] == "re-allocated"].set_index("bus")["cost_usd"]
    one_shot = rows[(rows["rule"] == "maximum total") & rows["feasible"]].set_index("bus")
    assert (loop.loc[one_shot.index] <= one_shot["cost_usd"] + 1e-9).all()
    state = stored[1]["loop"].iloc[0]
    assert state["nse_mwh"] == 0.0
    assert state["residual_usd"] >= 0.0


def test_totals_add_up_to_the_energy(stored):
    _, tables = stored
    energy = 0.5 * tables["totals"].groupby("regime")["power_mw"].sum()
    told = tables["regimes"].set_index("regime")["energy_mwh"]
    np.testing.assert_allclose(energy[told.index], told, atol=1e-9)


def test_a_second_run_reads_what_is_stored(stored, monkeypatch):
    folder, tables = stored
    monkeypatch.setattr(comparison, "build_cases", lambda *_: pytest.fail("computed again"))
    again = comparison.run(inputs.paper(), SMALL, folder)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(again[name], table)


def test_stale_tables_are_refused(stored):
    with pytest.raises(StaleError):
        comparison.load(inputs.paper(), stored[0], Settings())


def test_figures_are_drawn(stored):
    _, tables = stored
    caps = {rule: allocate(rule, np.ones(11), inputs.paper().day) for rule in RULES[1:]}
    figure, said = plots_coordination.caps(inputs.paper().day, caps, 8)
    assert len(figure.data) == 2
    assert "max-min fair" in said
    assert plots_coordination.cost_of_rules(tables["allocation"], 1, "max").data
    assert plots_coordination.totals(tables["totals"], 1, "max", 0.5).data
    assert plots_coordination.bills(tables["regimes"], 1, "max").data
