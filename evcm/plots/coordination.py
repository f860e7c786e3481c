"""Figures of coordination: who gets which cap, what it costs, and the price of deciding alone."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from evcm import plots
from evcm.arrays import FloatArray
from evcm.network.case import Day
from evcm.plots import REGIME_COLOURS as COLOURS


def caps(site: Day, caps_mw: Mapping[str, FloatArray], period: int) -> tuple[go.Figure, str]:
    """Caps of one period (from 1) by bus and rule, (T, K) MW, with a sentence on their sum.

    `site` has the aggregators of the caps: it names the buses and tells the time.
    """
    names, clock = site.network.ev_bus_number, plots.clock(period - 1, site.period_h)
    figure = go.Figure()
    sums = []
    for rule, cap in caps_mw.items():
        now = cap[period - 1]
        figure.add_bar(
            x=[f"bus {bus}" for bus in names], y=now, name=rule, marker_color=COLOURS[rule],
            hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
        sums.append(f"{rule} {now.sum():.1f} MW")
    figure.update_layout(
        title_text=f"Caps at {clock}", yaxis_title_text="cap, MW", height=360,
        barmode="group",
    )  # fmt: skip
    plots.describe(figure, f"Bars of every bus's cap at {clock} under each rule.")
    return figure, "In all: " + ", ".join(sums) + "."


def cost_of_rules(allocation: pd.DataFrame, scenario: int, side: str) -> go.Figure:
    """What each rule costs each aggregator above a plan without caps, USD a day.

    `allocation` is the table of `evcm.study.comparison`.
    """
    mine = allocation[(allocation["scenario"] == scenario) & (allocation["side"] == side)]
    figure = go.Figure()
    for rule, rows in mine.groupby("rule", sort=False):
        rows = rows.sort_values("bus")
        figure.add_bar(
            x=[f"bus {b}" for b in rows["bus"]], y=rows["cost_usd"] - rows["free_cost_usd"],
            name=str(rule), marker_color=COLOURS[str(rule)], hovertemplate="%{y:.2f} USD",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"What a cap costs, scenario {scenario} {side}", height=360, barmode="group",
        yaxis_title_text="extra cost, USD a day",
    )  # fmt: skip
    return plots.describe(
        figure, "Bars of the extra cost of every aggregator under each rule against no cap at all."
    )


def totals(
    table: pd.DataFrame, scenario: int, side: str, period_h: float
) -> go.Figure:  # fmt: skip
    """Power of all aggregators by regime: the table ``totals`` of `evcm.study.comparison`."""
    mine = table[(table["scenario"] == scenario) & (table["side"] == side)]
    figure = go.Figure()
    for regime in ("uncontrolled", "apart", "equilibrium", "maximum total", "joint"):
        rows = mine[mine["regime"] == regime].sort_values("period")
        figure.add_scatter(
            x=plots.hours(len(rows), period_h), y=rows["power_mw"], name=regime,
            line_color=COLOURS[regime], line_shape="hv", hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Power of all cars, scenario {scenario} {side}", height=380,
        xaxis=plots.clock_axis(len(rows) * period_h),
        yaxis_title_text="MW, negative: fed in",
    )  # fmt: skip
    return plots.describe(
        figure,
        "Lines of the power of all cars through the day: uncontrolled, each aggregator alone, under"
        " caps, and the joint optimum.",
    )


def bills(regimes: pd.DataFrame, scenario: int, side: str) -> go.Figure:
    """What a day really costs by regime, and what the aggregators expect it to cost.

    `regimes` is the table of `evcm.study.comparison`.
    """
    rows = regimes[(regimes["scenario"] == scenario) & (regimes["side"] == side)]
    rows = rows[rows["regime"] != "no cars"]
    names = rows["regime"]
    figure = go.Figure()
    figure.add_bar(
        x=names, y=rows["paid_usd"], name="paid, at the operator's load",
        marker_color=[COLOURS[r] for r in names], hovertemplate="%{y:.0f} USD",
    )  # fmt: skip
    for column, name, symbol in (
        ("forecast_usd", "were the forecast true", "diamond-open"),
        ("expected_usd", "expected by the aggregators", "line-ew-open"),
    ):
        figure.add_scatter(
            x=names, y=rows[column], name=name, mode="markers", hovertemplate="%{y:.0f} USD",
            marker={"symbol": symbol, "size": 14, "line_width": 2, "color": COLOURS["limit"]},
        )  # fmt: skip
    figure.add_scatter(
        x=names, y=rows["joint_bound_usd"], name="no plans cost less, were the forecast true",
        mode="lines", line={"dash": "dot", "color": "#7f8794"}, hovertemplate="%{y:.0f} USD",
    )  # fmt: skip
    figure.update_layout(
        title_text=f"Cost of a day, scenario {scenario} {side}", yaxis_title_text="USD a day",
        height=460, xaxis_tickangle=-30, legend_y=-0.38,
    )  # fmt: skip
    paid = ", ".join(f"{n} {v:.0f}" for n, v in zip(names, rows["paid_usd"], strict=True))
    said = "Bars of what a day really costs by regime, with what was expected of it, USD"
    return plots.describe(figure, f"{said}: {paid}.")
