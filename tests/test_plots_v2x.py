"""Figures of the charging station."""

import numpy as np
import pandas as pd
import pytest

from evcm import data
from evcm.errors import InputError
from evcm.plots import v2x as plots_v2x
from evcm.v2x.rules import as_fast_as_possible, least_laxity
from evcm.v2x.solve import optimum
from evcm.v2x.station import make_case, run
from evcm.v2x.world import example_world


@pytest.fixture(scope="module")
def finished():
    return run(make_case(example_world(12, "home"), seed=3, start_hour=24.0), least_laxity)


def test_picture_shows_every_step_as_it_was(finished):
    figure = plots_v2x.station(finished)
    assert len(figure.frames) == 96 == len(figure.layout.sliders[0].steps)
    ports = finished.case.world.ports
    sessions = finished.case.sessions.table()
    for t in (0, 40, 80):
        levels, _, wishes, arrows, gauge, *_ = figure.frames[t].data
        here = sessions[(sessions["arrival_step"] <= t) & (sessions["departure_step"] > t)]
        soc = np.zeros(ports)
        for row in here.itertuples():
            soc[row.port] = finished.content_kwh[t, row.port] / row.capacity_kwh
        np.testing.assert_allclose(levels.y, soc, atol=1e-3)
        assert len(wishes.x) == 3 * len(here)
        assert gauge.x[0] == pytest.approx(finished.transformer_kw[t, 0], abs=0.01)
        assert sum(a == "▼" for a in arrows.text) == (here["arrival_step"] == t).sum()
    assert "cars come and go" in figure.layout.meta["alt"]
    assert len(plots_v2x.station(finished, every=4).frames) == 24
    with pytest.raises(InputError, match="every"):
        plots_v2x.station(finished, every=0)


def test_other_figures_hold_their_data(finished):
    fast = run(finished.case, as_fast_as_possible)
    best = optimum(finished.case)
    days = plots_v2x.days({"least laxity": finished, "fast": fast})
    np.testing.assert_allclose(days.data[1].y, finished.transformer_kw[:, 0])
    rows = pd.DataFrame([r.summary() for r in (finished, fast, best.run)])
    bars = plots_v2x.rewards(rows, best)
    assert max(bars.data[0].x) == pytest.approx(best.bound_usd, abs=1e-5)
    assert len(plots_v2x.arrivals(data.read_table("v2x/arrivals.csv")).data) == 6
    car = plots_v2x.one_car(best.run, 0)
    assert car.data[1].y[0] * finished.case.sessions.column("capacity_kwh")[0] == pytest.approx(
        finished.case.sessions.column("arrival_kwh")[0]
    )
    taper = plots_v2x.taper((1, 60))
    np.testing.assert_allclose(taper.data[0].y[::60], taper.data[2].y, atol=1e-9)
