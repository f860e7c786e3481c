"""The distribution analysis: totals, supply quality, profiles, the stored curve, the figures."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evcm import plots
from evcm.errors import InputError
from evcm.feeder import states, synthesis
from evcm.feeder.draws import METHODS
from evcm.plots import feeder as plots_feeder
from evcm.study import feeder_days
from tests.feeder_case import REGIMES, transmission


@pytest.fixture(scope="module")
def table():
    cars = transmission(sides=("max",), regimes=REGIMES[1:], buses=(3, 11))
    base = transmission(sides=("max",), regimes=REGIMES[:1], buses=(3, 11))
    return pd.concat([base.assign(scenario=0, side="none"), cars], ignore_index=True)


@pytest.fixture(scope="module")
def day(table):
    return states.run_day(table)


def test_totals_balance(day):
    totals = feeder_days.day_totals(day)
    assert list(totals["regime"]) == list(REGIMES)
    flows = day.flows()
    n = flows["feeders"]
    for _, row in totals.iterrows():
        mine = flows[flows["regime"] == row["regime"]]
        w = n[mine.index]
        taken = ((mine["load_kw"] + mine["charge_kw"]) * w).sum() / 2000
        assert row["head_mwh"] == pytest.approx(
            taken + row["losses_mwh"] - row["v2g_mwh"], rel=1e-6
        )
        assert row["losses_percent"] == pytest.approx(100 * row["losses_mwh"] / taken)
    assert totals.set_index("regime").loc["no cars", "v2g_mwh"] == 0


def test_hours_outside_the_band_by_hand(day):
    quality = feeder_days.supply_quality(day)
    row = quality[(quality["regime"] == "uncontrolled") & (quality["node"] == "611")].iloc[0]
    labels = day.cases.labels
    mine = (labels["regime"] == "uncontrolled").to_numpy()
    under = day.at("611", "c")[mine] < 0.95
    n = labels["feeders"].to_numpy()[mine]
    assert row["hours_under"] == pytest.approx((under * n).sum() * 0.5 / (n.sum() / 48))
    assert 0 < row["hours_under"] <= 24
    wide = feeder_days.supply_quality(day, rural=True)
    assert (wide["hours_under"] <= quality["hours_under"] + 1e-12).all()


def test_profile_of_one_bus_is_the_solved_voltage(day):
    profile = feeder_days.day_profile(day, 1, "max", "maximum total", bus=11)
    labels = day.cases.labels
    mine = ((labels["regime"] == "maximum total") & (labels["bus"] == 11)).to_numpy()
    at = profile[(profile["node"] == "675") & (profile["phase"] == "b")]
    assert np.allclose(at["v_pu"], day.at("675", "b")[mine])


def test_the_day_without_cars_stands_for_every_scenario(day):
    a = feeder_days.day_profile(day, 1, "max", "no cars")
    b = feeder_days.day_profile(day, 0, "none", "no cars")
    assert a.equals(b)
    with pytest.raises(InputError, match="a case that was solved"):
        feeder_days.day_profile(day, 2, "max", "maximum total")


def test_curve_is_stored_and_made_again_when_the_input_changes(table, tmp_path, monkeypatch):
    calls = []

    def fake(known, **_):
        calls.append(len(known))
        return pd.DataFrame({"method": ["subset"], "fraction": [0.1], "wasserstein_pu": [1e-3]})

    monkeypatch.setattr(synthesis, "error_curve", fake)
    first = feeder_days.synthesis_curve(table, tmp_path, repeats=1)
    again = feeder_days.synthesis_curve(table, tmp_path, repeats=1)
    assert len(calls) == 1
    assert first.equals(again)
    feeder_days.synthesis_curve(table.assign(v_pu=table["v_pu"] + 0.001), tmp_path, repeats=1)
    assert len(calls) == 2


def test_figures_show_what_was_solved(day):
    regimes = list(REGIMES)
    profiles = {r: feeder_days.day_profile(day, 1, "max", r) for r in regimes}
    now = profiles["no cars"][profiles["no cars"]["period"] == 39]
    figure = plots_feeder.one_line(now)
    markers = figure.data[1]
    assert len(markers.x) == len(now)
    assert np.allclose(markers.marker.color, now["v_pu"])
    low = now.loc[now["v_pu"].idxmin()]
    assert f"node {low['node']} phase {low['phase']}" in figure.layout.meta["alt"]
    panels = plots_feeder.node_day(profiles, "671")
    assert [a.text for a in panels.layout.annotations] == [
        "(a) phase a", "(b) phase b", "(c) phase c",
    ]  # fmt: skip
    assert len(panels.data) == 3 * (len(regimes) - 1)
    node = {r: p[(p["node"] == "671") & (p["phase"] == "a")] for r, p in profiles.items()}
    first = regimes[1]
    fall = node[first]["v_pu"].to_numpy() - node["no cars"]["v_pu"].to_numpy()
    assert panels.data[0].name == first
    assert np.allclose(panels.data[0].y, 1000 * fall)
    quality = feeder_days.supply_quality(day)
    bars = plots_feeder.far_hours(quality, states.far_nodes(), 1, "max").data
    assert [bar.name for bar in bars] == regimes
    assert all(np.isfinite(bar.y).all() for bar in bars)
    assert len(plots_feeder.unbalance_day(day, "671", 1, "max").data) == 4
    assert plots.clock(0, 0.5) == "00:00"
    assert plots.clock(47, 0.5) == "23:30"


def test_synthesis_figures(table):
    known = synthesis.characterise(table)
    curve = synthesis.error_curve(known, (0.05, 0.5), ("subset", "kmedoids"), repeats=2)
    figure = plots_feeder.synthesis(synthesis.summarise(curve), (0.05, 0.14))
    assert {t.name for t in figure.data} == {"random subset", "k-medoids"}
    assert len(figure.layout.shapes) == 2
    assert len(plots_feeder.drawn(known, 20, 0.5).data) == 1 + len(METHODS)
