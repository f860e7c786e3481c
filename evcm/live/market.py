"""Two or three aggregators on one price in the reader's browser: apart, equilibrium, joint.

Each aggregator's program has the ends of its price steps as parameters, so that the page can set
them against whatever the others buy. One sample a day: nothing is traded in real time, and what a
program chooses is what is paid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import cvxpy as cp
import numpy as np
import plotly.graph_objects as go

from evcm import plots
from evcm.aggregator import methods
from evcm.aggregator import model as m
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.coordination.equilibrium import find_equilibrium
from evcm.coordination.joint import joint_problem, split_mw
from evcm.inputs.values import PriceSteps
from evcm.live.aggregator import reference, scaled, vehicle_rules
from evcm.live.page import Page
from evcm.live.program import Answer, Part, Program, Setting, Slider, check_setting

BUSES, GROUPS = (4, 9, 14), 8
"""Buses of the aggregators, and groups of cars of each."""

GAP, TOLERANCE, ROUNDS = 1e-3, 5e-3, 8
"""Gap of an answer, least gain for a move (shares of turnover), and most rounds of answers."""

SLIDERS = (
    Slider("aggregators", "aggregators", 2, 3, 1, 3),
    Slider("cars", "cars of each", 80, 480, 80, 320),
    Slider("charger_kw", "charger", 3.7, 11.0, 0.1, 11.0, "kW", more=True),
    Slider("level", "price level", 0.2, 5.0, 0.1, 1.0, "times"),
    Slider("wear", "wear", 0.0, 20.0, 0.1, 1.0, "times"),
    Slider("v2g", "V2G", 0, 1, 1, 0),
)  # fmt: skip
"""What the reader sets; every aggregator is alike but for its cars."""

FIXED: Setting = {"departure_kwh": 60.0, "efficiency": 0.9, "cap_mw": 1e3}
"""Figures of the model that are no sliders here: the paper's, and no cap."""

REGIMES = ("apart", "equilibrium", "joint")


@cache
def references() -> tuple[AggregatorProblem, ...]:
    """The aggregators of the page, one car in each group."""
    return tuple(reference(bus, GROUPS, 1) for bus in BUSES)


def problems(setting: Setting) -> list[AggregatorProblem]:
    """The aggregators at a setting, for `evcm.aggregator` and `evcm.coordination`.

    Raises
    ------
    InputError
        A name or a value that no slider has.
    """
    s = check_setting(SLIDERS, setting, "market setting")
    made = []
    for base in references()[: round(s["aggregators"])]:
        steps = base.price_steps
        made.append(
            base.with_options(
                group_size=base.group_size * (s["cars"] / GROUPS),
                charger=replace(base.charger, power_kw=s["charger_kw"],
                                discharge_efficiency=FIXED["efficiency"]),
                price=PriceSteps(steps.edge_mw, steps.price_usd_per_kwh * s["level"]),
                storage_cost_usd_per_kwh=base.storage_cost_usd_per_kwh * s["wear"],
                allow_v2g=bool(s["v2g"]),
            )
        )  # fmt: skip
    return made


def pairs(base: AggregatorProblem, number: int) -> tuple[IntArray, IntArray]:
    """Periods and price steps that a program offers with `number` aggregators at their largest."""
    top = {s.name: s.high for s in SLIDERS}
    most_mw = number * top["cars"] * top["charger_kw"] / 1000.0
    edge, load = base.step_edge_mw, base.system_load_mw[:, None]
    below = np.c_[np.full(len(load), -np.inf), edge[None] - load]
    above = np.c_[edge[None] - load, np.full(len(load), np.inf)]
    period, step = np.nonzero((below <= most_mw) & (above >= -most_mw))
    return period, step


def ends(base: AggregatorProblem, setting: Setting, load_mw: FloatArray) -> dict[str, FloatArray]:
    """Ends of each of the `pairs`, MW, where the rest of the system takes `load_mw` (T,)."""
    period, step = pairs(base, len(BUSES))
    most = base.available[:, :, 0].sum(axis=1) / GROUPS
    most = most * setting["cars"] * setting["charger_kw"] / 1000.0
    least = -FIXED["efficiency"] * setting["v2g"] * most
    edge = np.r_[-np.inf, base.step_edge_mw, np.inf]
    low, high = edge[step] - load_mw[period], edge[step + 1] - load_mw[period]
    low, high = np.maximum(low, least[period]), np.minimum(high, most[period])
    shut = low > high  # buys nothing there, which every step allows at no cost
    return {"low": np.where(shut, 0.0, low), "high": np.where(shut, 0.0, high)}


def program(base: AggregatorProblem, number: int, owners: int = 1) -> Program:
    """One owner's program: of one aggregator, or of `owners` of them together.

    ``low`` and ``high`` (MW) are the ends of each of the `pairs`.
    """
    cars, changed, x = base.plugged, scaled(base, GROUPS), m.variables(base)
    period, step = pairs(base, number)
    low, high = (cp.Parameter(period.size, name=name) for name in ("low", "high"))
    day = m.steps_between(base, period, step, low, high, x, relaxed=False)
    level, wear = (cp.Parameter(nonneg=True, name=name) for name in ("level", "wear"))
    free = base.with_options(storage_cost_usd_per_kwh=np.zeros(base.vehicles))
    worn = wear * (base.wear_usd_per_kwh[cars.vehicle] @ x.worn_kwh)
    energy = level * m.expected_cost_usd(free, x, day)
    none = [x.surplus_mw == 0, x.deficit_mw == 0]
    rules = [*vehicle_rules(changed, x, GROUPS), *none, *day.constraints]
    net = x.charge_kw - m.fed_kw(changed, x)
    outputs: dict[str, cp.Expression] = {"power_mw": x.day_ahead_mw, "energy_usd": energy}
    for k in range(owners):
        mine = (cars.vehicle // (base.vehicles // owners) == k).astype(float)
        wide = m.cars_power_mw(base, cp.multiply(mine, net))
        outputs[f"power_{k}_mw"] = wide[:, 0]
        outputs[f"wear_{k}_usd"] = wear * (
            (base.wear_usd_per_kwh[cars.vehicle] * mine) @ x.worn_kwh
        )
    outputs["wear_usd"] = worn
    paid: Mapping[str, Part] = {"energy": "energy_usd", "wear": "wear_usd"}
    return Program(cp.Problem(cp.Minimize(energy + worn), rules), outputs, paid, (FIXED,), GAP)


class MarketPage(Page):
    """The page of several aggregators; in Python the package's own regimes answer."""

    def solve(self, **values: float) -> Answer:
        """Plans apart, in equilibrium and jointly, by `evcm.aggregator` and `evcm.coordination`."""
        setting = self.setting(**values)
        each = problems(setting)
        apart = [methods.solve(p, gap=GAP) for p in each]
        settled = find_equilibrium(each, apart, gap=GAP, tolerance=TOLERANCE, max_rounds=ROUNDS)
        whole = joint_problem(each)
        joint = methods.solve(whole, gap=GAP)
        power = {
            "apart": np.column_stack([p.day_ahead_mw for p in apart]),
            "equilibrium": settled.power_mw,
            "joint": split_mw(each, joint)[:, :, 0],
        }
        wear = {
            "apart": np.array([p.cost.battery_usd for p in apart]),
            "equilibrium": np.array([p.cost.battery_usd for p in settled.plans]),
            "joint": joint_wear_usd(each, joint),
        }
        outputs: dict[str, FloatArray] = {}
        for regime in REGIMES:
            total = joint.day_ahead_mw if regime == "joint" else power[regime].sum(axis=1)
            outputs |= regime_outputs(each[0], regime, power[regime], total, wear[regime])
        outputs["rounds"] = np.array([float(len(settled.moves))])
        outputs["epsilon_usd"] = np.array([float(settled.epsilon_usd.max())])
        parts = {r: float(outputs[f"bill_{r}"].sum()) for r in REGIMES}
        return Answer(setting, outputs, parts, joint.bound_usd, "optimal")

    def content(self, **_: FloatArray) -> dict[str, Any]:
        """The programs at the forecast of the load."""
        base, start = references()[0], self.setting()
        return super().content(**ends(base, start, base.system_load_mw))

    def table(self, answer: Answer) -> str:
        """Who pays what in each regime."""
        count = round(answer.setting["aggregators"])
        head = "".join(f"<th>aggregator {k + 1}</th>" for k in range(len(BUSES)))
        rows = ""
        for regime in REGIMES:
            bill = answer.outputs[f"bill_{regime}"]
            texts = [f"{v:.2f}" for v in bill] + [""] * (len(BUSES) - count) + [f"{bill.sum():.2f}"]
            cells = "".join(f"<td>{t}</td>" for t in texts)
            rows += f'<tr data-row="{regime}"><th scope="row">{regime}</th>{cells}</tr>'
        return (
            '<div class="evcm-live-bill"><table><caption>What each pays, USD a day</caption>'
            f"<thead><tr><th></th>{head}<th>all</th></tr></thead><tbody>{rows}</tbody></table></div>"
        )


def joint_wear_usd(each: list[AggregatorProblem], plan: AggregatorPlan) -> FloatArray:
    """Wear of each aggregator's cars in a joint plan of one sample (K,), USD."""
    cars = joint_problem(each).plugged
    soc = plan.soc_kwh[cars.period, cars.vehicle, cars.sample]
    worn = np.maximum(cars.previous @ soc + cars.arrival_soc_kwh - soc, 0.0)
    rate = np.concatenate([p.wear_usd_per_kwh for p in each])
    owner = np.repeat(np.arange(len(each)), [p.vehicles for p in each])
    return np.asarray(np.bincount(owner[cars.vehicle], rate[cars.vehicle] * worn, len(each)), float)


def regime_outputs(
    problem: AggregatorProblem, regime: str, power_mw: FloatArray, total_mw: FloatArray,
    wear_usd: FloatArray,
) -> dict[str, FloatArray]:  # fmt: skip
    """Power, price and bills of a regime: everyone pays the one price of all power, and wear."""
    load, steps = problem.system_load_mw + total_mw, problem.price_steps
    low, high = steps.admissible(load)
    price = 1000.0 * np.where(total_mw >= 0, low, high)
    bills = problem.period_h * price @ power_mw + wear_usd
    return {f"total_{regime}": total_mw, f"price_{regime}": price, f"bill_{regime}": bills}


def figure(answer: Answer) -> go.Figure:
    """Power of all cars and price in each regime."""
    told = references()[0]
    hours, made = plots.hours(told.periods, told.period_h), go.Figure()
    for key, axis in (("total", "y"), ("price", "y2")):
        for n, regime in enumerate(REGIMES):
            colour = plots.REGIME_COLOURS.get(regime, plots.SERIES[n + 1])
            made.add_scatter(
                x=hours, y=answer.outputs[f"{key}_{regime}"], name=regime, yaxis=axis,
                legendgroup=regime, showlegend=key == "total",
                line={"shape": "hv", "color": colour}, meta={"output": f"{key}_{regime}"},
            )  # fmt: skip
    made.update_layout(
        title_text="Power of all cars, and the price it makes", height=520,
        xaxis=plots.clock_axis(told.periods * told.period_h) | {"anchor": "y2"},
        yaxis={"title": {"text": "MW"}, "domain": [0.46, 1]},
        yaxis2={"title": {"text": "USD/MWh"}, "domain": [0, 0.4]}, legend={"y": -0.14},
    )  # fmt: skip
    return plots.describe(made, "Power of all cars and price by half-hour, in each regime.")


SAID = (
    "All together pay {apart_usd:.2f} USD a day apart, {equilibrium_usd:.2f} in equilibrium (after "
    "{rounds:.0f} rounds; none could gain more than {epsilon_usd:.2f} alone) and {joint_usd:.2f} "
    "jointly, where nothing below {bound_usd:.2f} is possible."
)

NOTEBOOK = (
    "from evcm.live import market\n\nsetting = {setting}",
    "from evcm.aggregator import solve\n"
    "from evcm.coordination.equilibrium import find_equilibrium\n"
    "from evcm.coordination.joint import joint_problem\n\n"
    "each = market.problems(setting)\napart = [solve(p, gap=1e-3) for p in each]\n"
    "settled = find_equilibrium(each, apart, gap=1e-3, tolerance=5e-3)\n"
    "joint = solve(joint_problem(each), gap=1e-3)\n"
    "print(settled.ending.value, settled.epsilon_usd, joint.cost_usd, joint.bound_usd)",
    "answer = market.page().solve(**setting)\nprint(answer.parts_usd)\nmarket.figure(answer)",
)


def _joint_reference(count: int) -> AggregatorProblem:
    return joint_problem(list(references()[:count]))


def page() -> Page:
    """The live page of several aggregators on one price."""
    counts = range(2, len(BUSES) + 1)
    owners = [(base, 1) for base in references()] + [(_joint_reference(n), n) for n in counts]
    most = len(BUSES)
    models = [program(base, most, number) for base, number in owners]
    first = references()[0]
    period, step = pairs(first, most)
    extra: dict[str, Any] = {
        "load": first.system_load_mw.tolist(), "edge": first.price_steps.edge_mw.tolist(),
        "price": first.price_steps.price_usd_per_kwh.tolist(), "period_h": first.period_h,
        "pairs": {"period": period.tolist(), "step": step.tolist()},
        # Share of a group's cars that is plugged in, summed over the groups of each model (T,).
        "plugged": [(base.available[:, :, 0].sum(axis=1) / GROUPS).tolist() for base, _ in owners],
        "joint": {n: len(BUSES) + k for k, n in enumerate(counts)},
        "gap": GAP, "tolerance": TOLERANCE, "rounds": ROUNDS, "fixed": dict(FIXED),
    }  # fmt: skip
    return MarketPage("market", SLIDERS, models, figure, SAID, NOTEBOOK, kind="market", extra=extra)
