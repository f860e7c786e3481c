"""Figures of one aggregator: its plan, a car's day, the price curve, the value of samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm.aggregator.interior.search import Search
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.value import FreshDays
from evcm.inputs.values import PriceSteps
from evcm.plots import REGIME_COLOURS, SERIES, clock, clock_axis, describe, hours


def period_cost(search: Search, t: int) -> go.Figure:
    """Cost of day-ahead power in period `t` (0-based), and its convex envelope."""
    steps, mw, usd = search.steps, search.units.mw, search.units.usd
    power, cost = search.envelope(t)
    figure = go.Figure()
    for a in np.flatnonzero(steps.day[t]):
        ends = np.array([steps.day_low[t, a], steps.day_high[t, a]])
        figure.add_scatter(
            x=mw * ends, y=usd * steps.price[t, a] * ends, mode="lines+markers",
            name=f"step {a + 1}", line={"color": SERIES[a % len(SERIES)], "width": 3},
        )  # fmt: skip
    figure.add_scatter(
        x=power, y=cost, mode="lines", name="convex envelope",
        line={"color": REGIME_COLOURS["limit"], "dash": "dash"},
    )  # fmt: skip
    figure.update_layout(xaxis_title="day-ahead power, MW", yaxis_title="cost of the period, USD")
    return describe(
        figure,
        "Cost of a period against day-ahead power: one line per price step that jumps up at each "
        "edge, and the convex envelope below them",
    )


def _clock(problem: AggregatorProblem) -> np.ndarray:
    return hours(problem.periods, problem.period_h)


def _axis(problem: AggregatorProblem) -> dict[str, Any]:
    return clock_axis(problem.periods * problem.period_h)


def plan_power(problem: AggregatorProblem, plan: AggregatorPlan) -> go.Figure:
    """Day-ahead power, the range of the samples' power, and the cap (MW)."""
    at = _clock(problem)
    cars = plan.day_ahead_mw[:, None] + plan.real_time_mw
    line = {"shape": "hv"}
    figure = go.Figure()
    figure.add_scatter(x=at, y=cars.max(axis=1), line={**line, "width": 0}, showlegend=False,
                       hoverinfo="skip")  # fmt: skip
    figure.add_scatter(x=at, y=cars.min(axis=1), line={**line, "width": 0}, fill="tonexty",
                       name="samples, least to most", opacity=0.4)  # fmt: skip
    figure.add_scatter(x=at, y=plan.day_ahead_mw, line={**line, "color": SERIES[0]},
                       name="day-ahead")  # fmt: skip
    cap = problem.cap_mw
    if cap.min() < 2 * max(cars.max(), 1e-3):
        limit = {**line, "color": REGIME_COLOURS["limit"], "dash": "dash"}
        figure.add_scatter(x=at, y=cap, name="cap", line=limit)
        figure.update_yaxes(range=[1.1 * min(cars.min(), cap.min()), 1.3 * cars.max()])
    figure.update_layout(title="Power of the aggregator", xaxis=_axis(problem), yaxis_title="MW")
    return describe(
        figure, "Day-ahead power of the aggregator over the day, with the range over the samples."
    )


def car_day(
    problem: AggregatorProblem, plan: AggregatorPlan, car: int = 0, sample: int = 0
) -> go.Figure:
    """One car's day in one sample: charge in the battery, and power both ways."""
    at = _clock(problem)
    plugged = problem.available[:, car, sample]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    soc = np.where(plugged, plan.soc_kwh[:, car, sample], np.nan)
    figure.add_scatter(x=at + problem.period_h, y=soc, mode="lines+markers", name="charge, kWh",
                       row=1, col=1)  # fmt: skip
    battery = problem.battery
    for level, name in ((battery.soc_min_kwh, "least"), (battery.departure_soc_kwh, "departure"),
                        (battery.soc_max_kwh, "most")):  # fmt: skip
        figure.add_hline(y=level, line={"dash": "dot", "width": 1}, annotation_text=name,
                         row=1, col=1)  # fmt: skip
    width = {"width": problem.period_h, "offset": 0}
    figure.add_bar(
        x=at, y=plan.charge_kw[:, car, sample], name="charging, kW", row=2, col=1, **width
    )
    figure.add_bar(x=at, y=-plan.discharge_kw[:, car, sample], name="feeding back, kW", row=2,
                   col=1, **width)  # fmt: skip
    away = np.flatnonzero(np.diff(plugged, prepend=True, append=True)).reshape(-1, 2)
    for first, end in away:
        figure.add_vrect(x0=at[first], x1=at[end - 1] + problem.period_h, fillcolor="#7f8794",
                         opacity=0.15, line_width=0)  # fmt: skip
    figure.update_layout(title=f"Group {car + 1}, sample {sample + 1}", barmode="relative")
    figure.update_xaxes(_axis(problem), row=2, col=1)
    return describe(figure, "Charge in a car's battery and its power over the day; away in grey.")


def price_curve(price: PriceSteps, load_mw: np.ndarray | None = None) -> go.Figure:
    """Step price against the load of the whole system, with the day's loads as marks."""
    last = float(price.edge_mw[-1]) + 12.0
    edge = np.concatenate([[price.edge_mw[0] - 8.0], price.edge_mw[:-1], [last]])
    cents = 100.0 * price.price_usd_per_kwh
    figure = go.Figure()
    figure.add_scatter(x=edge, y=np.append(cents, cents[-1]), line={"shape": "hv"}, name="price")
    if load_mw is not None:
        low, _ = price.admissible(load_mw)
        figure.add_scatter(x=load_mw, y=100.0 * low, mode="markers", name="periods of the day")
    figure.update_layout(title="Price of energy by system load", xaxis_title="system load, MW",
                         yaxis_title="US cents per kWh", hovermode="closest")  # fmt: skip
    return describe(figure, "A staircase: the price rises with the load of the whole system.")


def own_purchase(
    problem: AggregatorProblem, period: int, power_mw: float, reach_mw: float = 12.0
) -> tuple[go.Figure, str]:
    """Price and cost of a period against the aggregator's own power, with one choice marked.

    `period` counts from 1. Returns the figure and a sentence.
    """
    load = float(problem.system_load_mw[period - 1])
    power = np.linspace(-reach_mw, reach_mw, 481)
    low, _ = problem.price_steps.admissible(load + power)
    cost = problem.period_h * problem.price_steps.payment(load + power, power)
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    figure.add_scatter(x=power, y=100 * low, line={"shape": "hv"}, name="price, cents per kWh",
                       row=1, col=1)  # fmt: skip
    figure.add_scatter(x=power, y=cost, name="cost of the period, USD", row=2, col=1)
    here = np.array([power_mw])
    price_here, _ = problem.price_steps.admissible(load + here)
    cost_here = problem.period_h * problem.price_steps.payment(load + here, here)
    for row, y in ((1, 100 * price_here), (2, cost_here)):
        figure.add_scatter(x=here, y=y, mode="markers", marker={"size": 11, "color": "#d1495b"},
                           showlegend=False, row=row, col=1)  # fmt: skip
    figure.update_xaxes(title="own power, MW (negative: fed in)", row=2, col=1)
    when = clock(period - 1, problem.period_h)
    figure.update_layout(title=f"{when}, system load {load:.1f} MW", hovermode="closest")
    said = (
        f"At {power_mw:g} MW the price is {100 * price_here[0]:.3f} cents per kWh and the "
        f"period costs {cost_here[0]:.2f} USD."
    )
    return describe(figure, "Price and cost of a period against the aggregator's power."), said


def fresh_profit(days: FreshDays, planned_usd: float) -> go.Figure:
    """Histogram of the profit on fresh days, with its mean's interval and the planned profit."""
    low, high = days.confidence_interval()
    figure = go.Figure(go.Histogram(x=days.profit_usd, nbinsx=50, name="fresh days"))
    figure.add_vrect(x0=low, x1=high, fillcolor=SERIES[3], opacity=0.35, line_width=0)
    figure.add_vline(x=-planned_usd, line={"dash": "dash", "color": REGIME_COLOURS["limit"]},
                     annotation_text="as planned", annotation_position="top left")  # fmt: skip
    figure.update_layout(title="Profit on fresh days (band: 95 % interval of the mean)",
                         xaxis_title="USD a day", yaxis_title="days", showlegend=False)  # fmt: skip
    return describe(figure, "Histogram of the daily profit on days that the plan has not seen.")


def worst_days(days: FreshDays, share: float) -> tuple[go.Figure, str]:
    """Daily cost in falling order, the worst `share` of days apart, and their mean.

    The mean of the most expensive share is the empirical CVaR of the cost.
    """
    cost = np.sort(days.cost_usd)[::-1]
    count = max(1, round(share * cost.size))
    figure = go.Figure()
    rank = np.arange(1, cost.size + 1)
    for name, part, colour in (
        (f"most expensive {share:.0%}", slice(0, count), SERIES[3]),
        ("the other days", slice(count, None), SERIES[0]),
    ):
        figure.add_scatter(x=rank[part], y=cost[part], mode="lines", fill="tozeroy", name=name,
                           line_color=colour, hovertemplate="day %{x}: %{y:.3f} USD")  # fmt: skip
    figure.update_layout(title="Cost of fresh days, the most expensive first",
                         xaxis_title="rank of the day", yaxis_title="USD a day")  # fmt: skip
    describe(figure, f"Daily cost in falling order; the worst {share:.0%} of days stand apart.")
    tail, mean = float(cost[:count].mean()), float(cost.mean())
    return (
        figure,
        f"mean of the most expensive {count} of {cost.size} days {tail:.3f} USD, of all {mean:.3f}",
    )
