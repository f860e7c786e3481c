"""Figures of the operator: they draw what the results hold."""

import numpy as np
import pytest

from evcm import inputs
from evcm.inputs import paper
from evcm.network import caps, opf
from evcm.plots import network as plots_network


@pytest.fixture(scope="module")
def day():
    ev = np.zeros((48, 11))
    ev[29, inputs.paper().buses.index(14)] = 15.0
    return opf.solve_day(paper().day.with_cars(ev))


def test_one_line_shows_every_bus_and_branch(day):
    figure = plots_network.one_line(day, 29)
    lines = [t for t in figure.data if t.mode == "lines"]
    assert sum(t.x.count(None) for t in lines) == len(figure.data[-2].x) == 20
    assert "14 buses and 20 branches" in figure.layout.meta["alt"]
    assert np.allclose(figure.data[-1].marker.color, day.v_pu[29])
    assert "14:30" in figure.layout.title.text


def test_curves_hold_load_generation_and_losses(day):
    figure = plots_network.day_curves({"maximum total": day})
    assert [t.name.split(",")[0] for t in figure.data] == ["load", "generation", "losses"]
    assert np.allclose(figure.data[2].y, day.losses_mw)


def test_voltages_are_those_of_the_period(day):
    assert np.allclose(plots_network.voltages({"a": day}, 3).data[0].y, day.v_pu[3])


def test_caps_are_drawn_by_bus():
    found = caps.solve_caps(paper().day)
    figure = plots_network.cap_areas(found)
    assert sum(np.asarray(t.y) for t in figure.data) == pytest.approx(found.total_mw)
    assert np.allclose(plots_network.cap_splits({"a": found}, 7).data[0].y, found.cap_mw[7])
