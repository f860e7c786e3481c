"""Figures of the transmission results, from the study's tables: Figures 6, 7(a), 7(c) and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evcm import plots
from evcm.arrays import FloatArray
from evcm.coordination.regimes import STUDY


def adoption(growth: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Growth of EV sales, ``percent`` a year by ``region`` (the paper's Figure 1)."""
    regions, percent = [g["region"] for g in growth], [g["percent"] for g in growth]
    bars = go.Bar(
        x=percent, y=regions, orientation="h", text=[f"+{p} %" for p in percent],
        textposition="auto", marker_color=plots.REGIME_COLOURS["maximum total"],
        hovertemplate="%{y}: +%{x} %<extra></extra>",
    )  # fmt: skip
    figure = go.Figure(bars)
    figure.update_layout(
        title_text="Electric vehicles: growth in a year",
        xaxis_title_text="growth, %", yaxis={"autorange": "reversed"}, height=260,
        hovermode="closest",
    )  # fmt: skip
    said = ", ".join(f"{r} {p} %" for r, p in zip(regions, percent, strict=True))
    return plots.describe(figure, f"Bars of the growth of EV adoption in a year: {said}.")


FLOW: tuple[tuple[str, float, float], ...] = (
    ("Monte Carlo<br>days of cars", 0, 5),
    ("samples of least<br>and of most energy", 0, 4),
    ("one plan per<br>aggregator", 0, 3),
    ("a day of AC<br>optimal power flow", 1, 3),
    ("caps for the<br>aggregators", 1, 2),
    ("plans under<br>the caps", 0, 2),
    ("the day<br>again", 1, 1),
    ("voltages of a<br>distribution feeder", 1, 0),
)
"""Boxes of the paper's Figure 2 in the order of its arrows: text, column, row."""


def flow_chart() -> go.Figure:
    """The study as the paper's Figure 2 has it: each box follows from the one before."""
    figure = go.Figure()
    for (_, x0, y0), (_, x1, y1) in pairwise(FLOW):
        dx, dy = 0.42 * np.sign(x1 - x0), 0.34 * np.sign(y1 - y0)
        figure.add_annotation(
            x=x1 - dx, y=y1 - dy, ax=x0 + dx, ay=y0 + dy, xref="x", yref="y", axref="x", ayref="y",
            showarrow=True, arrowhead=2, arrowwidth=1.5, text="",
        )  # fmt: skip
    for column, name, colour in ((0, "aggregators", "apart"), (1, "network", "maximum total")):
        boxes = [(x, y) for _, x, y in FLOW if x == column]
        figure.add_scatter(
            x=[x + dx for x, _ in boxes for dx in (-0.42, 0.42, 0.42, -0.42, -0.42, np.nan)],
            y=[y + dy for _, y in boxes for dy in (-0.34, -0.34, 0.34, 0.34, -0.34, np.nan)],
            name=name, mode="lines", line={"color": plots.REGIME_COLOURS[colour], "width": 2},
            hoverinfo="skip",
        )  # fmt: skip
    for text, x, y in FLOW:
        figure.add_annotation(x=x, y=y, text=text, showarrow=False, font_size=12)
    figure.update_xaxes(visible=False, range=[-0.5, 1.5])
    figure.update_yaxes(visible=False, range=[-0.5, 5.5])
    figure.update_layout(height=460, legend_y=-0.02)
    steps = " to ".join(text.replace("<br>", " ") for text, _, _ in FLOW)
    return plots.describe(figure, f"Flow chart of the study: {steps}.")


def beside(
    published: pd.DataFrame, ours: pd.DataFrame, key: str, value: str, title: str, unit: str
) -> go.Figure:
    """Published values and ours as pairs of bars: column `value`, in `unit`, along `key`."""
    figure = go.Figure()
    for name, table, colour in (
        ("published", published, "published"),
        ("ours, proven", ours, "apart"),
    ):
        figure.add_bar(
            x=table[key].astype(str), y=table[value], name=name,
            marker_color=plots.REGIME_COLOURS[colour], hovertemplate="%{y:.3f} " + unit,
        )  # fmt: skip
    figure.update_layout(
        title_text=title, xaxis={"title": {"text": key}, "type": "category"},
        yaxis_title_text=unit, barmode="group", height=380,
    )  # fmt: skip
    return plots.describe(figure, f"{title}: pairs of bars, published and ours, in {unit}.")


def _hours(rows: pd.DataFrame) -> np.ndarray:
    """Hours since the first midnight at which the periods of some rows start."""
    return plots.hours(len(rows), plots.period_h(rows))


def _axis(rows: pd.DataFrame) -> dict[str, Any]:
    """Time axis through all periods of some rows."""
    return plots.clock_axis(len(rows) * plots.period_h(rows))


def _curve(
    figure: go.Figure, rows: pd.DataFrame, values: str | FloatArray, name: str, colour: str,
    dash: str | None = None, decimals: int = 2,
) -> None:  # fmt: skip
    """Draw a power by period as a step, MW: a column of some rows, or as many values."""
    figure.add_scatter(
        x=_hours(rows), y=rows[values] if isinstance(values, str) else values, name=name,
        line={"shape": "hv", "color": colour, "dash": dash},
        hovertemplate=f"%{{y:.{decimals}f}} MW",
    )  # fmt: skip


def _day(table: pd.DataFrame, scenario: int, side: str, regime: str) -> pd.DataFrame:
    """One case's rows in order of period; the day without cars is the same in every case."""
    rows = table[table["regime"] == regime]
    if regime != "no cars":
        rows = rows[(rows["scenario"] == scenario) & (rows["side"] == side)]
    return rows.sort_values("period")


def system_load(
    system: pd.DataFrame, regime: str, side: str, published: pd.DataFrame | None = None,
    capacity_mw: FloatArray | None = None,
) -> go.Figure:  # fmt: skip
    """Load of the system through the day in every scenario (Figure 6), of the table ``system``.

    Beside it the load with the published plans, ``published/load_scenario3.csv``, and the most that
    the network can serve in each period, `capacity_mw` (T,).
    """
    figure = go.Figure()
    base = _day(system, 0, "none", "no cars")
    if published is not None:
        theirs = published[published["side"] == side]
        colour = plots.REGIME_COLOURS["published"]
        _curve(figure, theirs, "load_mw", "scenario 3, published", colour, "dash")
    if capacity_mw is not None:
        _curve(figure, base, capacity_mw, "capacity", plots.REGIME_COLOURS["limit"], "dot")
    _curve(figure, base, "load_mw", "no cars", plots.REGIME_COLOURS["no cars"])
    for scenario in sorted(set(system["scenario"]) - {0}):
        rows = _day(system, scenario, side, regime)
        colour = plots.SCENARIO_COLOURS.get(scenario, plots.SERIES[scenario % 11])
        _curve(figure, rows, "load_mw", f"scenario {scenario}", colour)
    figure.update_layout(
        title_text=f"System load, {regime}, sample with the {_least(side)} energy",
        xaxis=_axis(base), yaxis_title_text="load, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"System load by period in every scenario, {regime} charging, {side} side."
    )


def ev_power(schedules: pd.DataFrame, scenario: int, side: str, regime: str) -> go.Figure:
    """Day-ahead power of the aggregators, stacked by bus (Figures 7(c) and 8).

    `schedules` is the study's table; the regime is ``apart`` or ``maximum total``.
    """
    rows = _day(schedules, scenario, side, regime)
    figure = go.Figure()
    for bus in sorted(set(rows["bus"])):
        mine = rows[rows["bus"] == bus]
        figure.add_bar(
            x=_hours(mine) + plots.period_h(mine) / 2, y=mine["day_ahead_mw"], name=f"bus {bus}",
            marker_color=plots.bus_colour(bus), hovertemplate="%{y:.3f} MW",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Aggregators' day-ahead power, scenario {scenario} {side}, {regime}",
        barmode="relative", bargap=0, xaxis=_axis(mine), yaxis_title_text="power, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"Stacked day-ahead power of all aggregators by period, {regime}."
    )


def use_of_cap(schedules: pd.DataFrame, scenario: int, side: str, bus: int) -> go.Figure:
    """One aggregator's power with and without the operator's cap, and the cap (Figure 7(b), (c)).

    `schedules` is the study's table, with ``cap_mw``.
    """
    mine = schedules[schedules["bus"] == bus]
    figure = go.Figure()
    capped = _day(mine, scenario, side, "maximum total")
    _curve(figure, capped, "cap_mw", "cap", plots.REGIME_COLOURS["limit"], "dash", 3)
    for regime in ("apart", "maximum total"):
        rows = _day(mine, scenario, side, regime)
        colour = plots.REGIME_COLOURS[regime]
        _curve(figure, rows, "day_ahead_mw", regime, colour, decimals=3)
    figure.update_layout(
        title_text=f"Bus {bus}, scenario {scenario} {side}: power and cap",
        xaxis=_axis(rows), yaxis_title_text="day-ahead power, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"Day-ahead power at bus {bus} with and without the operator's cap, by period."
    )


def operation(
    system: pd.DataFrame, scenario: int, side: str, what: str = "generation"
) -> go.Figure:  # fmt: skip
    """Generation or load, and power not supplied, in every regime (Figure 7(a)).

    `system` is the study's table, `what` is ``generation`` or ``load``.
    """
    figure = go.Figure()
    for regime in STUDY:
        rows = _day(system, scenario, side, regime)
        colour = plots.REGIME_COLOURS[regime]
        _curve(figure, rows, f"{what}_mw", regime, colour)
        if rows["nsp_mw"].max() > 1e-4:
            _curve(figure, rows, "nsp_mw", f"not supplied, {regime}", colour, "dot", 3)
    figure.update_layout(
        title_text=f"{what.capitalize()}, scenario {scenario} {side}", xaxis=_axis(rows),
        yaxis_title_text="power, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"{what.capitalize()} by period without cars and under three regimes of charging."
    )


def voltages_by_bus(transmission: pd.DataFrame, scenario: int, side: str) -> go.Figure:
    """Lowest voltage of every bus in every regime, of the study's table ``transmission``."""
    figure = go.Figure()
    for regime in STUDY:
        lowest = _day(transmission, scenario, side, regime).groupby("bus")["v_pu"].min()
        figure.add_scatter(
            x=lowest.index.astype(str), y=lowest, name=regime, mode="markers",
            marker={"color": plots.REGIME_COLOURS[regime], "size": 7}, hovertemplate="%{y:.4f} pu",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Lowest voltage by bus, scenario {scenario} {side}", yaxis_title_text="pu",
        xaxis={"title": {"text": "bus"}, "type": "category"}, height=380,
    )  # fmt: skip
    return plots.describe(figure, "Lowest voltage of every bus over the horizon in every regime.")


def caps_by_bus(caps: pd.DataFrame, period_h: float, shown: int = 10) -> go.Figure:
    """Caps over the horizon, stacked: the `shown` largest by bus, and the others together.

    `caps` is the study's table: period, bus, cap_mw.
    """
    wide = caps.pivot_table(index="period", columns="bus", values="cap_mw")
    large = wide.sum().sort_values(ascending=False).index[:shown]
    series = {f"bus {bus}": wide[bus] for bus in sorted(large)}
    if rest := wide.shape[1] - len(large):
        series[f"{rest} other buses"] = wide.drop(columns=large).sum(axis=1)
    figure = go.Figure()
    for k, (name, values) in enumerate(series.items()):
        figure.add_scatter(
            x=plots.hours(len(wide), period_h), y=values, name=name, stackgroup="caps",
            line={"width": 0.5, "shape": "hv", "color": plots.SERIES[k % 11]},
            hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
    figure.update_layout(
        title_text="Caps of the largest sum, with an aggregator at every bus",
        xaxis=plots.clock_axis(len(wide) * period_h), yaxis_title_text="MW",
    )  # fmt: skip
    return plots.describe(figure, "Cap of every aggregator over the horizon, stacked, MW.")


def _least(side: str) -> str:
    return "least" if side == "min" else "most"
