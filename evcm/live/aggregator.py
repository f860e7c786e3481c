"""One aggregator in the reader's browser: the readable model (2.3) with its figures on sliders."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any, cast

import cvxpy as cp
import numpy as np
import plotly.graph_objects as go
import scipy.sparse as sp

from evcm import plots
from evcm.aggregator import model as m
from evcm.aggregator.of_fleet import aggregator_problem
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import StepChoices, reachable_steps
from evcm.arrays import FloatArray
from evcm.inputs.folder import paper
from evcm.inputs.values import PriceSteps, Scenario
from evcm.live.page import Page
from evcm.live.program import Answer, Part, Payment, Program, Setting, Slider, check_setting
from evcm.trips import cars as drawn_cars
from evcm.trips import fleet as fleets

GROUPS, SAMPLES, BUS, SEED = 12, 3, 14, 1
"""Groups of cars, real-time samples, bus and seed of the fleet that the page plans."""

SLIDERS = (
    Slider("cars", "cars", 12, 144, 12, 72, more=False),
    Slider("charger_kw", "charger", 3.7, 30.0, 0.1, 22.0, "kW", more=True),
    Slider("departure_kwh", "contract: charge at departure", 40.0, 76.0, 0.5, 60.0, "kWh",
           more=False),
    Slider("level", "price level", 0.2, 5.0, 0.1, 1.0, "times"),
    Slider("wear", "wear", 0.0, 20.0, 0.1, 1.0, "times"),
    Slider("efficiency", "discharge efficiency", 0.7, 1.0, 0.01, 0.9),
    Slider("cap_mw", "cap", 0.0, 5.0, 0.01, 5.0, "MW", more=True),
    Slider("v2g", "V2G", 0, 1, 1, 1),
)  # fmt: skip
"""What the reader sets; wear and price multiply the paper's."""


class Parametrised:
    """A problem, or its vehicles' figures, some of whose attributes are expressions."""

    def __init__(self, base: object, **changed: Any) -> None:
        self._base = base
        self.__dict__.update(changed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)


@cache
def reference(bus: int = BUS, groups: int = GROUPS, samples: int = SAMPLES) -> AggregatorProblem:
    """An aggregator of a page: the first groups of a drawn fleet that meet a bus, one car each."""
    told = paper()
    law, count = told.law(), 300
    drawn = drawn_cars.draw_cars(told, Scenario(number=101, cars=count, samples=1), law, SEED, 0)
    every = fleets.real_time_fleet(
        drawn, np.ones(count, int), law, (SEED, 101, 0), samples, name="live"
    )
    whole = aggregator_problem(every, bus, np.full(told.periods, 1e3))
    first = slice(0, groups)
    arrays = ("available", "travelling", "trip_energy_kwh")
    vectors = ("group_size", "storage_cost_usd_per_kwh", "degradation_slope")
    return whole.with_options(
        **{name: getattr(whole, name)[:, first] for name in arrays},
        **{name: getattr(whole, name)[first] for name in vectors},
        name=f"bus {bus}",
    )


def problem(setting: Setting) -> AggregatorProblem:
    """The page's problem at a setting, for the solvers of `evcm.aggregator`.

    Raises
    ------
    InputError
        A name or a value that no slider has; a number of cars that is no multiple of the groups.
    """
    s, base = check_setting(SLIDERS, setting, "aggregator setting"), reference()
    price = PriceSteps(base.price_steps.edge_mw, base.price_steps.price_usd_per_kwh * s["level"])
    return base.with_options(
        group_size=base.group_size * (s["cars"] / GROUPS),
        charger=replace(base.charger, power_kw=s["charger_kw"],
                        discharge_efficiency=s["efficiency"]),
        battery=replace(base.battery, departure_soc_kwh=s["departure_kwh"]),
        price=price,
        storage_cost_usd_per_kwh=base.storage_cost_usd_per_kwh * s["wear"],
        trading_cap_mw=np.full(base.periods, s["cap_mw"]),
        allow_v2g=bool(s["v2g"]),
    )  # fmt: skip


def scaled(base: AggregatorProblem, groups: int = GROUPS) -> AggregatorProblem:
    """A problem whose figures are expressions of the sliders.

    The slider ``cars`` counts those of `groups` groups.
    Cars of a group share one schedule, so that n of them are one car with n times the battery and
    n times the charger. The number of cars then stands on the right-hand side alone, and the
    program is affine in every product of sliders.
    """

    def p(name: str) -> cp.Parameter:
        return cp.Parameter(nonneg=True, name=name)

    k, cars, share = base.figures, base.plugged, np.full(base.vehicles, 1.0 / groups)
    number, contract, charger = p("cars"), p("cars*departure_kwh"), p("cars*charger_kw")
    figures = Parametrised(
        k,
        soc_min_kwh=share * k.soc_min_kwh * number,
        soc_max_kwh=share * k.soc_max_kwh * number,
        departure_soc_kwh=share * contract,
        power_kw=share * charger,
        discharge_efficiency=p("efficiency") * np.ones(base.vehicles),
    )
    at_first = (cars.arrival_soc_kwh != 0).astype(float)
    driven = at_first * (k.departure_soc_kwh[cars.vehicle] - cars.arrival_soc_kwh)
    arrival = (contract * at_first - number * driven) / groups
    cap = p("cap_mw") * np.ones(base.periods)
    plugged = replace(cars, arrival_soc_kwh=cast(Any, arrival))
    made = Parametrised(base, figures=figures, trading_cap_mw=cap, plugged=plugged)
    return cast(AggregatorProblem, made)


def vehicle_rules(
    changed: AggregatorProblem, x: m.Variables, groups: int = GROUPS
) -> m.Constraints:
    """Everything that the cars must keep, with V2G on a switch, and the balance of power."""
    feed = cp.Parameter(nonneg=True, name="cars*charger_kw*v2g")
    return [
        *m.charger_limit(changed, x),
        x.discharge_kw <= feed / groups,
        *m.soc_balance(changed, x),
        *m.soc_limits(changed, x),
        *m.departure_contract(changed, x),
        *m.degradation(changed, x),
        *m.power_balance(changed, x),
    ]


def program() -> Program:
    """The readable model with day-ahead price steps, every figure of `SLIDERS` a parameter.

    Real-time trade is priced when a plan is read, not in the program: its cost is never negative,
    so that the program's optimum stays a proven bound (see `evcm.aggregator.model`).
    """
    base = reference()
    top = {s.name: s.high for s in SLIDERS}
    widest = problem({**top, "departure_kwh": 60.0, "wear": 1.0, "level": 1.0})
    choices = reachable_steps(widest)
    cars, changed, x = base.plugged, scaled(base), m.variables(base)
    day = m.day_ahead_steps(base, choices, x, relaxed=False)
    level = cp.Parameter(nonneg=True, name="level")
    wear = cp.Parameter(nonneg=True, name="wear")
    free = base.with_options(storage_cost_usd_per_kwh=np.zeros(base.vehicles))
    worn = (base.wear_usd_per_kwh[cars.vehicle] * base.probability[cars.sample]) @ x.worn_kwh
    energy = m.expected_cost_usd(free, x, day)
    constraints = [
        *vehicle_rules(changed, x),
        *m.real_time_limit(changed, x),
        *m.real_time_mean(base, x),
        *m.trading_cap(changed, x),
        *day.constraints,
        *_within_step(base, choices, x, day),
    ]  # fmt: skip
    outputs = _outputs(base, x, day) | {"wear_usd": wear * worn}
    hours = np.full(base.periods, base.period_h)
    per_sample = base.period_h * np.tile(base.probability, base.periods)
    parts: dict[str, Part] = {
        "day ahead": Payment("load_mw", "power_mw", hours, base.price_steps, "level"),
        "real time": Payment("cars_load_mw", "trade_mw", per_sample, base.price_steps, "level"),
        "wear": "wear_usd",
    }
    objective = cp.Minimize(level * energy + wear * worn)
    attempts = ({"across": 1.0}, {"across": 0.0})
    return Program(cp.Problem(objective, constraints), outputs, parts, attempts)


def _within_step(
    base: AggregatorProblem, choices: StepChoices, x: m.Variables, day: m.DayAheadSteps
) -> m.Constraints:
    """With ``across`` at 0, no sample leaves the day-ahead price step: trade then costs nothing."""
    across = cp.Parameter(nonneg=True, name="across")
    low, high = choices.day_ahead_low_mw, choices.day_ahead_high_mw
    pairs = (day.period, np.arange(day.period.size))
    every = np.ones((1, base.samples))

    def limit(edge: FloatArray) -> cp.Expression:
        each = sp.csr_array((edge[day.period, day.step], pairs), (base.periods, day.period.size))
        return cp.reshape(each @ day.chosen, (base.periods, 1), order="C") @ every

    wide = 2.0 * float(np.abs([low, high])[:, choices.day_ahead].max())
    traded = m.traded_mw(base, x)
    return [traded >= limit(low) - wide * across, traded <= limit(high) + wide * across]


def _outputs(
    base: AggregatorProblem, x: m.Variables, day: m.DayAheadSteps
) -> dict[str, cp.Expression]:
    """Power, loads that prices hang on, trade, price, and the charge of one car's battery."""
    load, cars, T, N = base.system_load_mw, base.plugged, base.periods, base.samples
    price = sp.csr_array(
        (
            base.step_price_usd_per_kwh[day.period, day.step],
            (day.period, np.arange(day.period.size)),
        ),
        shape=(T, day.period.size),
    )
    mine = (cars.vehicle == 0) & (cars.sample == 0)
    at = np.flatnonzero(mine)
    one = sp.csr_array((np.ones(at.size), (cars.period[at], at)), shape=(T, cars.size))
    return {
        "power_mw": x.day_ahead_mw,
        "load_mw": x.day_ahead_mw + load,
        "trade_mw": x.deficit_mw - x.surplus_mw,
        "cars_load_mw": m.traded_mw(base, x) + np.repeat(load[:, None], N, axis=1),
        "price_usd_per_mwh": 1000.0 * (price @ day.chosen),
        "group_kwh": one @ x.soc_kwh,
    }


def figure(answer: Answer) -> go.Figure:
    """Power, price, and the charge of one car over the day."""
    base = reference()
    hours = plots.hours(base.periods, base.period_h)
    shown = base.available[:, 0, 0]
    one = np.where(shown, answer.outputs["group_kwh"] * GROUPS / answer.setting["cars"], np.nan)
    price = answer.setting["level"] * answer.outputs["price_usd_per_mwh"]
    made = go.Figure()
    made.add_bar(x=hours, y=answer.outputs["power_mw"], name="power bought day-ahead, MW",
                 marker_color=plots.SERIES[0], meta={"output": "power_mw"})  # fmt: skip
    made.add_scatter(x=hours, y=price, name="price, USD/MWh", yaxis="y2",
                     line={"shape": "hv", "color": plots.SERIES[1]},
                     meta={"output": "price_usd_per_mwh", "times": ["level"]})  # fmt: skip
    made.add_scatter(x=hours, y=one, name="charge of one car, kWh", yaxis="y3",
                     line={"color": plots.SERIES[2]},
                     meta={"output": "group_kwh", "over": ["cars"], "factor": GROUPS,
                           "shown": shown.tolist()})  # fmt: skip
    axis = plots.clock_axis(base.periods * base.period_h)
    made.update_layout(
        title_text="One aggregator's day", height=560, xaxis=axis | {"anchor": "y3"},
        yaxis={"title": {"text": "MW"}, "domain": [0.7, 1]},
        yaxis2={"title": {"text": "USD/MWh"}, "domain": [0.36, 0.64]},
        yaxis3={"title": {"text": "kWh"}, "domain": [0, 0.3], "range": [0, 80]},
        legend={"y": -0.12},
    )  # fmt: skip
    return plots.describe(
        made, "Three panels over the day: power bought, its price, and the charge of one car."
    )


SAID = (
    "{cars:.0f} cars cost {cost_usd:.2f} USD a day: day-ahead energy {day_ahead_usd:.2f}, "
    "real-time trade {real_time_usd:z.2f}, wear {wear_usd:.2f}. Proven: no plan costs less than "
    "{bound_usd:.2f} USD (gap {gap:.2%} of turnover)."
)

NOTEBOOK = (
    "from evcm.aggregator import solve\nfrom evcm.live import aggregator\n\nsetting = {setting}",
    "plan = solve(aggregator.problem(setting), gap=1e-4)\n"
    "print(plan.cost_usd, plan.bound_usd, plan.status)\nplan.cost",
    "answer = aggregator.page().solve(**setting)  # the program of the page, solved in Python\n"
    "print(answer.cost_usd, answer.bound_usd)\naggregator.figure(answer)",
)


def page() -> Page:
    """The live page of one aggregator."""
    return Page("aggregator", SLIDERS, [program()], figure, SAID, NOTEBOOK)
