"""A bare case from its folder to its hosting capacity: the work of every command, certified."""

from dataclasses import replace

import numpy as np
import pytest

from evcm import inputs
from evcm.study import comparison, flow, hosting

SETTINGS = flow.Settings(sides=("max",), cars_per_group=20, gap=0.05, jobs=1)


@pytest.mark.slow
def test_a_bare_case_goes_from_trips_to_its_hosting_capacity(tmp_path):
    told = inputs.write_example(tmp_path / "case30", case="case30", cars=100)
    out = tmp_path / "results"

    study = flow.run(told, SETTINGS, out)
    assert len(study.aggregators) > 0
    assert (study.aggregators["gap"] <= 0.05).all()

    table = comparison.run(told, SETTINGS, out)["regimes"].set_index("regime")
    assert len(table) == len(comparison.REGIMES)
    assert (table["nse_mwh"] == 0).all()
    planned = table.drop(["no cars", "uncontrolled"])
    assert (planned["forecast_usd"] >= planned["joint_bound_usd"] - 1e-6).all()

    room = hosting.GRID_ROOM * told.network.load_p_mw.sum() / hosting.GRID_LOAD_MW
    whole = hosting.grid_for(told)
    grid = replace(
        whole, counts=whole.counts[-1:], sweep_counts=(), regimes=("apart", "proportional"),
        most_slow=whole.counts[-1], seeds=(1,), capped_seeds=(1,), samples=2, gap=0.1, days=1,
        curve_days=1, outage_days=1, feeder_draws=1, uncontrolled_charger_kw=(150.0,),
    )  # fmt: skip
    assert whole.counts[-1] > 3 * room
    found = hosting.run(told, grid, out, jobs=1)
    points = found["points"].set_index("regime")
    assert points.loc["apart", "gap_found"] <= 0.1
    assert points.loc["apart", "nse_mwh"] > 0
    # so many cars cannot live with their shares of the room
    assert not points.loc["proportional", "feasible"]
    first = found["uncontrolled_first"]["first_cars"]
    assert np.isfinite(first).all()
    assert whole.counts[0] < first[0] < whole.counts[-1]
    assert len(found["outages"]) == told.network.branch_from.size
