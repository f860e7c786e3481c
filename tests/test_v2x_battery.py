"""Battery: the taper solved exactly, its inverse and slopes, and ageing."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evcm.errors import InputError
from evcm.v2x import battery
from evcm.v2x.ageing import default_ageing

MINUTES = (1, 5, 15, 60)


@st.composite
def points(draw):
    capacity = draw(st.floats(5, 120))
    accept = draw(st.floats(1, 250))
    return {
        "content": capacity * draw(st.floats(0, 1)),
        "command": accept * draw(st.floats(0.01, 1.2)),
        "accept": accept,
        "transition": draw(st.floats(0.0, 1.0)),
        "capacity": capacity,
        "hours": draw(st.floats(0.005, 5)),
    }


@pytest.mark.parametrize("minutes", [*MINUTES, 240])
def test_known_taper_case_at_every_step_length(minutes):
    # 50 kWh, SoC 0.2, 11 kW at the battery, taper from 0.8, four hours:
    # 0.6 · 50 / 11 h at full power, then 1 - 0.2 exp(-1.1 · rest).
    soc = 0.2
    for _ in range(round(240 / minutes)):
        soc = battery.soc_after_charging(50.0, soc, 11.0, minutes / 60)
    assert soc == pytest.approx(0.9507, abs=1e-4)
    assert soc == pytest.approx(1 - 0.2 * math.exp(-1.1 * (4 - 30 / 11)), abs=1e-12)


@settings(max_examples=150, deadline=None)
@given(points(), st.integers(2, 40))
def test_any_number_of_steps_gives_the_same_energy(p, parts):
    whole = battery.charge_kwh(*p.values())
    content = p["content"]
    for _ in range(parts):
        step = {**p, "content": content, "hours": p["hours"] / parts}
        content += battery.charge_kwh(*step.values())
    assert content - p["content"] == pytest.approx(whole, abs=1e-10 * p["capacity"])


@settings(max_examples=200, deadline=None)
@given(points(), st.floats(0.001, 1))
def test_command_is_the_least_that_gives_an_energy(p, share):
    most = battery.charge_kwh(*p.values())
    command = min(p["command"], p["accept"])
    energy = share * most
    found = battery.charge_command_kw(
        p["content"], energy, p["accept"], p["transition"], p["capacity"], p["hours"]
    )
    again = battery.charge_kwh(*{**p, "command": found}.values())
    assert again == pytest.approx(energy, abs=1e-10 * p["capacity"])
    if share < 0.99 and most > 1e-6:
        assert found <= command * (1 + 1e-9)
        less = battery.charge_kwh(*{**p, "command": 0.999 * found}.values())
        assert less < energy


@settings(max_examples=200, deadline=None)
@given(points(), points(), st.floats(0, 1))
def test_uptake_is_jointly_concave_in_content_and_command(p, q, mix):
    # The exact optimum rests on this: tangents never cut off a schedule that the car can follow.
    shared = {k: p[k] for k in ("accept", "transition", "capacity", "hours")}
    a = (p["content"], min(p["command"], p["accept"]))
    b = (
        q["content"] / q["capacity"] * p["capacity"],
        p["accept"] * min(q["command"] / q["accept"], 1),
    )
    between = [mix * x + (1 - mix) * y for x, y in zip(a, b, strict=True)]
    value = battery.charge_kwh(*between, *shared.values())
    chord = mix * battery.charge_kwh(*a, *shared.values())
    chord += (1 - mix) * battery.charge_kwh(*b, *shared.values())
    assert value >= chord - 1e-9 * p["capacity"]
    by_content, by_command = battery.charge_slopes(*a, *shared.values())
    tangent = battery.charge_kwh(*a, *shared.values())
    tangent += by_content * (b[0] - a[0]) + by_command * (b[1] - a[1])
    assert tangent >= battery.charge_kwh(*b, *shared.values()) - 1e-9 * p["capacity"]


@settings(max_examples=100, deadline=None)
@given(points(), st.floats(0.01, 1))
@example(
    {"content": 0.0, "command": 181.0, "accept": 181.0, "transition": 0.875, "capacity": 18.0,
     "hours": 0.5}, 1.0,
)  # fmt: skip
def test_hours_to_reach_is_the_inverse_in_time(p, share):
    target = p["content"] + share * battery.charge_kwh(*p.values())
    hours = battery.hours_to_reach(
        p["content"], target, p["command"], p["accept"], p["transition"], p["capacity"]
    )
    if math.isfinite(hours):
        taken = battery.charge_kwh(*{**p, "hours": hours}.values())
        assert p["content"] + taken == pytest.approx(target, abs=1e-8 * p["capacity"])
        if target <= (1 - 1e-6) * p["capacity"]:  # rounding says nothing of when a taper is done
            assert hours <= p["hours"] * (1 + 1e-6)


def test_weak_command_is_held_beyond_the_transition():
    # A battery that accepts 22 kW takes 11 kW until its acceptance has fallen to 11: SoC 0.9.
    assert battery.soc_after_charging(50, 0.8, 11, 10 / 22, accept_kw=22) == pytest.approx(0.9)


def test_plain_python_gives_the_same_as_compiled():
    points_ = itertools.product(
        (2.0, 39.0, 44.0, 50.0), (3.0, 11.0), (11.0,), (0.8, 1.0), (50.0,), (0.25, 2.0)
    )
    for point in points_:
        for function in (battery.charge_kwh, battery.charge_slopes):
            assert function(*point) == pytest.approx(function.py_func(*point), rel=1e-13, abs=1e-13)
        content, command, accept, transition, capacity, hours = point
        energy = 0.7 * battery.charge_kwh(*point)
        inverse = battery.charge_command_kw
        arguments = (content, energy, accept, transition, capacity, hours)
        assert inverse(*arguments) == pytest.approx(inverse.py_func(*arguments), abs=1e-12)
        reach = battery.hours_to_reach
        arguments = (content, min(content + 5, 50.0), command, accept, transition, capacity)
        assert reach(*arguments) == pytest.approx(reach.py_func(*arguments), rel=1e-13)
    for command in (0.0, 5.0, 50.0):
        give = battery.discharge_kwh
        assert give(20.0, command, 7.5, 0.5) == give.py_func(20.0, command, 7.5, 0.5)


def test_bad_battery_input_is_named():
    with pytest.raises(InputError, match="soc: got 1"):
        battery.soc_after_charging(50.0, 1.2, 11.0, 1.0)
    with pytest.raises(InputError, match="capacity_kwh"):
        battery.soc_after_charging(-1.0, 0.2, 11.0, 1.0)


def test_ageing_depends_on_temperature_soc_and_capacity():
    law = default_ageing()
    assert law.cycle_fade(100.0, 50.0) == pytest.approx(law.end_fade / law.cycle_life)
    assert law.cycle_fade(100.0, 25.0) == pytest.approx(2 * law.cycle_fade(100.0, 50.0))
    assert law.cycle_fade(10.0, 50.0, 40.0) > law.cycle_fade(10.0, 50.0, 25.0)
    life_h = 8760 * law.calendar_life_years
    assert law.calendar_fade(life_h, 0.5) == pytest.approx(law.end_fade)
    assert law.calendar_fade(1.0, 0.9) > law.calendar_fade(1.0, 0.3) > 0
    assert law.calendar_fade(1.0, 0.5, 35.0) > 1.5 * law.calendar_fade(1.0, 0.5, 25.0)
    assert law.cost_usd(law.end_fade, 50.0) == pytest.approx(50 * law.replacement_usd_per_kwh)
    cost = law.cost_usd(law.cycle_fade(1.0, 64.0), 64.0)
    assert cost == pytest.approx(law.cycle_usd_per_kwh)
    assert np.all(np.diff(law.calendar_factor(np.array([0.0, 10, 20, 30]))) > 0)
