"""Feeder loading from voltages alone, and the first car that breaks a limit."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from evcm import feeder, inputs
from evcm.errors import InputError
from evcm.feeder import FeederCases, loading
from evcm.feeder.ieee13 import FeederModel, circuit
from evcm.feeder.spreads import Spread
from evcm.study import feeder_limits as limits
from tests.feeder_case import one


def test_the_head_line_carries_what_enters_the_feeder():
    found = feeder.solve(one(), FeederModel())
    lines = circuit(found.model).lines
    at = next(i for i, line in enumerate(lines) if line.start == "650")
    share = loading.line_loading(circuit(found.model), found.volts)[0, at]
    # at 1 pu the three phase currents sum, weighted by the voltage, to the head's apparent power
    volt = circuit(found.model).head_kv * 1000 / np.sqrt(3)
    mean = abs(found.certificate.head_kva[0]) * 1000 / 3 / volt
    assert mean < share * lines[at].rated_a < 1.3 * mean


def test_the_service_transformer_carries_node_634():
    found = feeder.solve(one(), FeederModel())
    at = [t.name for t in circuit(found.model).transformers].index("service")
    share = loading.transformer_loading(circuit(found.model), found.volts)[0, at]
    assert share == pytest.approx(abs(400 + 290j) / 500, rel=1e-4)


def test_switches_have_no_rating():
    found = feeder.solve(one(), FeederModel())
    feed = circuit(found.model)
    share = loading.line_loading(feed, found.volts)[0]
    switch = [(line.start, line.end) for line in feed.lines].index(("671", "692"))
    assert share[switch] == 0
    assert (np.delete(share, switch) > 0).all()
    assert share.max() < 1


def test_each_case_may_have_a_spread_of_its_own():
    at = feeder.spread_of({"671.a": 1, "675.c": 1}).terminals
    cases = FeederCases(np.array([1, 2]), np.ones(2), np.ones(2), np.array([50.0, 80.0]))
    both = feeder.solve(cases, cars=Spread("own", at, np.array([[1.0, 0.0], [0.0, 1.0]])))
    for row, (place, kw) in enumerate((("671.a", 50.0), ("675.c", 80.0))):
        alone = feeder.solve(one(ev_kw=kw), cars=feeder.spread_of({place: 1}))
        np.testing.assert_allclose(both.v_pu[row], alone.v_pu[0], atol=1e-8)
    with pytest.raises(InputError, match="shares, cases"):
        feeder.solve(one(), cars=Spread("own", at, np.array([[1.0, 0.0], [0.0, 1.0]])))


def test_cars_of_a_feeder_draw_what_their_legs_take():
    places = limits.phases_alike()
    assert places.shares.sum() == pytest.approx(1)
    power = limits.car_power_kw(limits.LEVELS[-1], 0, places, inputs.paper())
    assert power.shape == (len(limits.LEVELS), len(places.terminals), 48)
    assert (power[0] == 0).all()
    assert (np.diff(power, axis=0) >= 0).all()
    kwh = 0.5 * power[-1].sum() / limits.LEVELS[-1]
    assert 5 < kwh < 12  # two legs a day


def test_a_feeder_breaks_a_limit_once_and_for_all():
    found = limits.FeederTask(0, 14, inputs.paper()).run().table("levels")
    bare = found[found["model"] == "without regulator"]
    for limit in limits.LIMITS[1:]:
        # a car on the right phase can relieve a line a little
        assert bare[limit].diff().min() > -1e-3
        assert bare[limit].iloc[-1] > bare[limit].iloc[0]
    assert bare["v_min_pu"].iloc[0] < 0.95
    first = limits.first_levels(found).set_index(["model", "limit"])["cars"]
    assert first["without regulator", "voltage"] == 0
    assert first["without regulator", "service transformer"] < first["without regulator", "line"]
    assert set(found["bus"]) == {14}


def test_a_feeder_without_an_operating_point_breaks_every_limit():
    places = limits.phases_alike()
    far = np.outer(np.ones(1), places.shares) * 5e4
    row = limits.level_row(one(), FeederModel(), places, far)
    assert row["v_min_pu"] == 0
    assert all(np.isinf(row[limit]) for limit in limits.LIMITS[1:])


def test_first_levels_read_from_a_table():
    rows = [
        {"model": "m", "bus": 4 + d, "feeders": 3, "draw": d, "cars": n, "v_min_pu": 1.0,
         "line": n / 40, "service transformer": 0.5, "substation": n / (90 - 50 * d)}
        for d in (0, 1) for n in (0, 50, 100)
    ]  # fmt: skip
    first = limits.first_levels(pd.DataFrame(rows)).set_index(["limit", "draw"])["cars"]
    assert first["line", 0] == 50
    assert first["substation", 0] == 100
    assert first["substation", 1] == 50
    assert np.isinf(first["voltage", 0])
    assert np.isinf(first["service transformer", 1])
    least = limits.by_bus(pd.DataFrame(rows)).set_index("bus")
    assert least.loc[4, "limit"] == "line"
    assert least.loc[4, "system_cars"] == 50 * 3 * 2
