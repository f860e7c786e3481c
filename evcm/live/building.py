"""The building's day in the reader's browser: its dispatch (7)-(14) with the numbers on sliders."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import cvxpy as cp
import numpy as np
import plotly.graph_objects as go

from evcm import plots
from evcm.building import model as m
from evcm.building.arrivals import RandomDay, random_day
from evcm.building.inputs import Building, lay_out
from evcm.building.plan import Variant
from evcm.building.solve import default_building, default_law, with_pv
from evcm.errors import SolverError
from evcm.live.page import Page
from evcm.live.program import Answer, Program, Setting, Slider, check_setting

SEED = 1
"""Of the drivers that come to the building."""

SLIDERS = (
    Slider("pv_kw", "PV", 0.0, 200.0, 5.0, 100.0, "kW", more=True),
    Slider("bays", "bays", 2, 8, 2, 4),
    Slider("shifting", "charging may move", 0, 1, 1, 1),
    Slider("level", "price level", 0.2, 5.0, 0.1, 1.0, "times"),
    Slider("demand_usd_per_kw", "demand charge", 0.0, 1.0, 0.05, 0.15, "USD/kW"),
    Slider("connection_kw", "connection", 5.0, 250.0, 5.0, 250.0, "kW", more=True),
)
"""What the reader sets; the price level multiplies the tariff's energy price."""

PROBES = {
    "pv_kw": 50.0, "shifting": 0.0, "level": 2.0, "demand_usd_per_kw": 1.0, "connection_kw": 50.0
}  # fmt: skip
"""A second place on every slider that a program's numbers are affine in."""


def day(setting: Setting) -> tuple[Building, RandomDay, Variant]:
    """The building, its drivers and what may be decided at a setting, for `evcm.building`.

    Raises
    ------
    InputError
        A name or a value that no slider has.
    """
    s = check_setting(SLIDERS, setting, "building setting")
    own = with_pv(default_building(), s["pv_kw"])
    here = replace(
        own, bays=round(s["bays"]), price_usd_per_kwh=s["level"] * own.price_usd_per_kwh,
        demand_usd_per_kw=s["demand_usd_per_kw"], connection_kw=s["connection_kw"],
    )  # fmt: skip
    drawn = random_day(default_law(), here.horizon, here.bays, SEED)
    return here, drawn, Variant(shifting=bool(s["shifting"]))


def numbers_at(setting: Setting) -> dict[str, Any]:
    """Every number of the program at a setting, as `evcm.building.model` fills them in."""
    here, drawn, variant = day(setting)
    filled = m.Numbers(here.horizon.periods, len(here.groups) + 1, here.bays)
    filled.fill(here, lay_out(drawn.sessions, here.horizon, here.bays), variant)
    return {name: np.asarray(p.value, float) for name, p in vars(filled).items()}


def numbers(bays: int) -> m.Numbers:
    """The program's numbers as affine expressions of the sliders, from the places in `PROBES`.

    Raises
    ------
    SolverError
        The numbers are not affine in the sliders: checked at a third place.
    """
    start = check_setting(SLIDERS, {"bays": bays}, "building setting")
    base = numbers_at(start)
    slope = {
        name: {k: (v - base[k]) / (at - start[name])
               for k, v in numbers_at({**start, name: at}).items()}
        for name, at in PROBES.items()
    }  # fmt: skip
    third = {**start, "pv_kw": 170.0, "shifting": 0.0, "level": 0.7, "demand_usd_per_kw": 0.4,
             "connection_kw": 90.0}  # fmt: skip
    made: dict[str, Any] = {}
    parameters = {name: cp.Parameter(nonneg=True, name=name) for name in PROBES}
    known = numbers_at(third)
    for key, value in base.items():
        moving = {name: s[key] for name, s in slope.items() if np.abs(s[key]).max(initial=0) > 0}
        still = value - sum(start[name] * s for name, s in moving.items())
        found = still + sum(third[name] * s for name, s in moving.items())
        if not np.allclose(found, known[key], rtol=1e-9, atol=1e-9):
            raise SolverError(f"building page: {key} is not affine in the sliders")
        made[key] = still if still.ndim else float(still)
        for name, s in moving.items():
            made[key] = made[key] + parameters[name] * s
    return cast(m.Numbers, SimpleNamespace(**made))


COSTS = ("linear", "feed_in", "fixed", "starting", "stopping", "demand", "wear", "comfort", "v2g",
         "short_cost")  # fmt: skip


def part(q: m.Quantities, n: m.Numbers, *names: str, units: slice | None = None) -> cp.Expression:
    """The cost (7) of some of its coefficients alone, of some units' energy."""
    kept: dict[str, Any] = dict(vars(n))
    for name in set(COSTS) - set(names):
        kept[name] = kept[name] * 0
    if units is not None:
        mask = np.zeros(q.power.shape)
        mask[:, units] = 1.0
        kept["linear"] = cp.multiply(mask, kept["linear"])
    return m.cost(q, cast(m.Numbers, SimpleNamespace(**kept)))


def program(bays: int) -> Program:
    """The dispatch with every number of `SLIDERS` a parameter, for a number of bays."""
    here, drawn, _ = day({"bays": bays})
    n = numbers(bays)
    q = m.Quantities(here.horizon.periods, len(here.groups) + 1, bays, False, False)
    parts = (m.balance, m.reserve, m.power_limits, m.commitment, m.ramp_up, m.ramp_down,
             m.shortfall, m.feed_in, m.highest_import, m.bank)  # fmt: skip
    rules = [rule for make in parts for rule in make(q, n)]
    rules += m.cars(q, n, here.horizon.step_h)
    charged = cp.sum(q.charge, axis=1)
    outputs = {
        "pv_kw_used": cp.sum(q.power[:, :-1], axis=1),
        "grid_kw": q.power[:, -1],
        "demand_kw": charged + here.load_kw,
        "peak_kw": q.peak,
        "charged_kwh": here.horizon.step_h * cp.sum(charged),
        "turned_away": 0.0 * q.peak + float(drawn.turned_away),
        "PV": part(q, n, "linear", "fixed", "starting", "stopping", units=slice(0, -1)),
        "energy": part(q, n, "linear", units=slice(-1, None)),
        "demand": part(q, n, "demand"),
        "comfort": part(q, n, "comfort"),
    }
    paid = {"PV maintenance": "PV", "grid energy": "energy", "grid demand": "demand",
            "comfort": "comfort"}  # fmt: skip
    return Program(cp.Problem(cp.Minimize(m.cost(q, n)), rules), outputs, paid, gap=m.GAP)


def figure(answer: Answer) -> go.Figure:
    """Power of PV and grid, and the demand of the bays."""
    horizon = default_building().horizon
    clock = [horizon.clock(t) for t in range(horizon.periods)]
    made = go.Figure()
    for key, name, colour in (("pv_kw_used", "PV", "#d98e04"), ("grid_kw", "grid", "#7f8794")):
        made.add_bar(x=clock, y=answer.outputs[key], name=name, marker_color=colour,
                     meta={"output": key})  # fmt: skip
    made.add_scatter(x=clock, y=answer.outputs["demand_kw"], name="demand", mode="lines+markers",
                     line={"color": "#d1495b"}, meta={"output": "demand_kw"})  # fmt: skip
    made.update_layout(title_text="The building's day", barmode="relative", height=380,
                       xaxis_title_text="clock", yaxis_title_text="kW")  # fmt: skip
    return plots.describe(made, "Bars of PV and grid under the line of the demand, by hour.")


SAID = (
    "{cost_usd:.2f} USD for {charged_kwh:.1f} kWh: PV maintenance {PV_maintenance_usd:.2f}, grid "
    "energy {grid_energy_usd:.2f}, demand charge {grid_demand_usd:.2f}, comfort {comfort_usd:.2f}. "
    "Highest import {peak_kw:.1f} kW; {turned_away:.0f} cars find no bay. Proven gap {gap:.3%}."
)

NOTEBOOK = (
    "from evcm.building import dispatch\nfrom evcm.live import building\n\nsetting = {setting}",
    "here, drawn, variant = building.day(setting)\nplan = dispatch(here, drawn.sessions, variant)\n"
    "print(plan.cost_usd, plan.bound_usd, plan.status)",
    "answer = building.page().solve(**setting)  # the program of the page, solved in Python\n"
    "print(answer.cost_usd, answer.bound_usd)\nbuilding.figure(answer)",
)


def page() -> Page:
    """The live page of the building."""
    bays = next(s for s in SLIDERS if s.name == "bays")
    counts = range(int(bays.low), int(bays.high) + 1, int(bays.step))
    programs = [program(count) for count in counts]
    return Page("building", SLIDERS, programs, figure, SAID, NOTEBOOK, by="bays")
