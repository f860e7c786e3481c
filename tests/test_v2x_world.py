"""World, series and arrivals."""

import math

import numpy as np
import pytest

from evcm.errors import InputError
from evcm.v2x import arrivals
from evcm.v2x.arrivals import FIELDS, Sessions, arrival_tables, draw_sessions
from evcm.v2x.series import Series, week, week_series
from evcm.v2x.station import Case, make_case
from evcm.v2x.world import (
    PLACES,
    CarModel,
    ChargerType,
    Lot,
    Transformer,
    World,
    charger_types,
    example_world,
)


def test_three_phases_of_230_v_and_32_a_are_22_08_kw():
    charger = charger_types()["AC post, three phases"]
    assert charger.power_kw() == pytest.approx(22.08)
    assert charger.power_kw(car_phases=1) == pytest.approx(7.36)
    assert charger_types()["DC 150 kW"].power_kw(1) == pytest.approx(150.0)


def test_one_phase_car_draws_one_phase_of_a_three_phase_post():
    car = CarModel("one phase", 60.0, 22.0, 0.0, ac_phases=1)
    post = ChargerType("post", "ac", 3, 230.0, 32.0)
    world = World((Transformer("t", (Lot("lot", "public", (post,) * 5),)),), cars=(car,))
    sessions = draw_sessions(world, 96, 0.25, 1)
    assert sessions.column("charge_kw").max() == pytest.approx(7.36)


def test_every_fault_of_a_charger_is_named_at_once():
    with pytest.raises(InputError) as caught:
        ChargerType("bad", "xx", 4, -1.0, 32.0, ports=0, charge_efficiency=1.2)  # type: ignore[arg-type]
    text = str(caught.value)
    for field in ("kind", "phases", "voltage_v", "ports", "charge_efficiency"):
        assert field in text


def test_a_dc_charger_needs_a_car_that_can_use_it():
    dc = charger_types()["DC 150 kW"]
    hybrid = CarModel("hybrid", 12.0, 3.6, 0.0)
    with pytest.raises(InputError, match="no car with dc_kw"):
        World((Transformer("t", (Lot("l", "public", (dc,)),)),), cars=(hybrid,))


def test_series_refuses_negative_export_limits():
    one, two = np.ones(4), np.ones((4, 1))
    Series(0.25, 0.1 * one, 0.2 * one, 0 * two, -two, two, one, one)
    with pytest.raises(InputError, match="export_limit_kw: got negative"):
        Series(0.25, 0.1 * one, 0.2 * one, 0 * two, two, -two, one, one)


@pytest.mark.parametrize("step_h", [1 / 12, 0.25, 0.5, 1.0, 1.5])
def test_series_has_the_same_mean_at_every_step_length(step_h):
    world = example_world(3)
    series = week_series(world, round(168 / step_h), step_h)
    assert series.buy_usd_per_kwh.mean() == pytest.approx(week()["buy_usd_per_kwh"].mean())
    shifted = week_series(world, round(24 / step_h), step_h, start_hour=150.5)
    assert shifted.buy_usd_per_kwh.min() >= week()["buy_usd_per_kwh"].min() - 1e-12


def test_philox_matches_its_published_answers():
    # Known answers of Philox 4x32-10 (Random123): all zeros, all ones, digits of pi.
    ones = 0xFFFFFFFF
    cases = {
        ((0, 0, 0, 0), 0): (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ((ones,) * 4, -1): (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    }
    for (counter, seed), expected in cases.items():
        assert tuple(int(x) for x in arrivals.philox(*counter, seed)) == expected


@pytest.mark.parametrize("place", PLACES)
def test_sessions_are_the_same_at_every_step_length(place):
    world = example_world(12, place)
    drawn = {h: draw_sessions(world, round(24 / h), h, seed=5) for h in (1 / 12, 0.25, 1.0)}
    fine = drawn[1 / 12].table()
    for step_h, sessions in drawn.items():
        table = sessions.table()
        assert abs(len(table) - len(fine)) <= 1
        stay = (table["departure_step"] - table["arrival_step"]).sum() * step_h
        assert stay == pytest.approx(
            (fine["departure_step"] - fine["arrival_step"]).sum() / 12, rel=0.05
        )


def test_arrivals_follow_their_rate_by_hour_and_weekday():
    # One port for many days: arrivals while it is free against rate x free time.
    world = World(
        (Transformer("t", (Lot("l", "public", (charger_types()["AC post, three phases"],)),)),)
    )
    steps, rate = 24 * 12, arrival_tables()[PLACES.index("public"), :, 0]
    seen, expected = np.zeros(24), np.zeros(24)
    for seed in range(1500):
        table = draw_sessions(world, steps, 1 / 12, seed).table()
        busy = np.zeros(steps)
        for row in table.itertuples():
            busy[int(row.arrival_step) : math.ceil(row.departure_step)] = 1
            if row.arrival_step > 0:
                seen[int(row.arrival_step) // 12] += 1
        expected += (rate[:24, None] / 12 * (1 - busy).reshape(24, 12)).sum(axis=1)
    assert seen.sum() == pytest.approx(expected.sum(), abs=4 * math.sqrt(expected.sum()))
    z = (seen - expected) / np.sqrt(expected)
    assert np.abs(z).max() < 4.5
    assert seen[11] > 4 * seen[3]


def test_drawing_in_plain_python_gives_the_same_sessions():
    world = example_world(2)
    rows = np.zeros((12, len(FIELDS)))
    arguments = (world.layout, arrival_tables(), 7, 0, 0, 0, 0.0, 0.5, 48)
    compiled, plain = rows.copy(), rows.copy()
    count = arrivals.draw_port(*arguments, compiled)
    assert arrivals.draw_port.py_func(*arguments, plain) == count > 0
    np.testing.assert_allclose(plain, compiled, rtol=1e-12)


def test_a_car_that_stays_on_wants_no_more_than_it_could_get():
    sessions = draw_sessions(example_world(25, "home"), 96, 0.25, 2)
    table = sessions.table()
    cut = table[table["departure_step"] == 96]
    assert len(cut) > 5
    assert (cut["target_kwh"] <= cut["arrival_kwh"] + cut["charge_kw"] * 24).all()
    assert (table["departure_step"] <= 96).all()


def test_faulty_sessions_are_refused_with_row_and_reason():
    good = make_case(example_world(4), seed=1).sessions.table()
    with pytest.raises(InputError, match="charge_kw of session"):
        Sessions.from_table(good.assign(charge_kw=1e4))
    with pytest.raises(InputError, match=r"departure_step.*after arrival_step"):
        Sessions.from_table(good.assign(departure_step=0.0, arrival_step=3.0))
    with pytest.raises(InputError, match="columns"):
        Sessions.from_table(good.drop(columns="floor_kwh"))
    twice = good.iloc[[0, 0]].assign(port=0)
    with pytest.raises(InputError, match="last step"):
        Sessions.from_table(twice)


def test_case_checks_that_its_parts_fit():
    case = make_case(example_world(4), seed=1)
    with pytest.raises(InputError, match="port"):
        Case(example_world(1), case.series, case.sessions)
