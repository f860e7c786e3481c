"""Figures of the transmission results, from the study's tables: Figures 6, 7(a), 7(c) and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evcm import plots
from evcm.coordination.regimes import STUDY


def adoption(growth: Sequence[Mapping[str, Any]]) -> go.Figure:
    """Growth of EV sales by region, percent a year (the paper's Figure 1).

    Parameters
    ----------
    growth : sequence of mappings
        ``region`` and ``percent`` of each bar.
    """
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


def beside(
    published: pd.DataFrame, ours: pd.DataFrame, key: str, value: str, title: str, unit: str
) -> go.Figure:
    """Published values and ours as pairs of bars.

    Parameters
    ----------
    published, ours : DataFrame
        Both with the columns `key` and `value`.
    key, value : str
        Column along the axis, and column of the heights.
    title, unit : str
        Title of the figure and unit of `value`.
    """
    figure = go.Figure()
    for name, table, colour in (
        ("published", published, "published"),
        ("ours, proven", ours, "maximum total"),
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


def _period_h(rows: pd.DataFrame) -> float:
    """Length of a period; rows of results say it, others fill one day."""
    return float(rows["period_h"].iloc[0]) if "period_h" in rows else 24.0 / len(rows)


def _hours(rows: pd.DataFrame) -> np.ndarray:
    """Hours since the first midnight at which the periods of some rows start."""
    return plots.hours(len(rows), _period_h(rows))


def _day(table: pd.DataFrame, scenario: int, side: str, regime: str) -> pd.DataFrame:
    """One case's rows in order of period; the day without cars is the same in every case."""
    rows = table[table["regime"] == regime]
    if regime != "no cars":
        rows = rows[(rows["scenario"] == scenario) & (rows["side"] == side)]
    return rows.sort_values("period")


def system_load(system: pd.DataFrame, regime: str, side: str) -> go.Figure:
    """Load of the system through the day in every scenario (Figure 6).

    Parameters
    ----------
    system : DataFrame
        The study's table ``system``: scenario, side, regime, period, load_mw.
    regime, side : str
        ``uncontrolled``, ``apart`` or ``maximum total``; ``min`` or ``max``.
    """
    figure = go.Figure()
    base = _day(system, 0, "none", "no cars")
    figure.add_scatter(
        x=_hours(base), y=base["load_mw"], name="no cars", line_color=plots.REGIME_COLOURS["base"],
        line_shape="hv", hovertemplate="%{y:.2f} MW",
    )  # fmt: skip
    for scenario in sorted(set(system["scenario"]) - {0}):
        rows = _day(system, scenario, side, regime)
        figure.add_scatter(
            x=_hours(rows), y=rows["load_mw"], name=f"scenario {scenario}", line_shape="hv",
            line_color=plots.SCENARIO_COLOURS[scenario], hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"System load, {regime}, sample with the {_least(side)} energy",
        xaxis=plots.clock_axis(), yaxis_title_text="load, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"System load by half-hour in the three scenarios, {regime} charging, {side} side."
    )


def ev_power(schedules: pd.DataFrame, scenario: int, side: str, regime: str) -> go.Figure:
    """Day-ahead power of the eleven aggregators, stacked by bus (Figures 7(c) and 8).

    Parameters
    ----------
    schedules : DataFrame
        The study's table ``schedules``: scenario, side, regime, bus, period, day_ahead_mw.
    scenario, side, regime
        Which case; regime ``apart`` or ``maximum total``.
    """
    rows = _day(schedules, scenario, side, regime)
    figure = go.Figure()
    for bus in sorted(set(rows["bus"])):
        mine = rows[rows["bus"] == bus]
        figure.add_bar(
            x=_hours(mine) + _period_h(mine) / 2, y=mine["day_ahead_mw"], name=f"bus {bus}",
            marker_color=plots.BUS_COLOURS[bus], hovertemplate="%{y:.3f} MW",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Aggregators' day-ahead power, scenario {scenario} {side}, {regime}",
        barmode="relative", bargap=0, xaxis=plots.clock_axis(), yaxis_title_text="power, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"Stacked day-ahead power of eleven aggregators by half-hour, {regime}."
    )


def use_of_cap(schedules: pd.DataFrame, scenario: int, side: str, bus: int) -> go.Figure:
    """One aggregator's power with and without the operator's cap, and the cap (Figure 7(b), (c)).

    Parameters
    ----------
    schedules : DataFrame
        The study's table ``schedules``, with ``cap_mw``.
    scenario, side, bus
        Which aggregator.
    """
    mine = schedules[schedules["bus"] == bus]
    figure = go.Figure()
    capped = _day(mine, scenario, side, "maximum total")
    figure.add_scatter(
        x=_hours(capped), y=capped["cap_mw"], name="cap", line_shape="hv",
        line={"color": plots.REGIME_COLOURS["limit"], "dash": "dash"}, hovertemplate="%{y:.3f} MW",
    )  # fmt: skip
    for regime in ("apart", "maximum total"):
        rows = _day(mine, scenario, side, regime)
        figure.add_scatter(
            x=_hours(rows), y=rows["day_ahead_mw"], name=regime, line_shape="hv",
            line_color=plots.REGIME_COLOURS[regime], hovertemplate="%{y:.3f} MW",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Bus {bus}, scenario {scenario} {side}: power and cap",
        xaxis=plots.clock_axis(), yaxis_title_text="day-ahead power, MW",
    )  # fmt: skip
    return plots.describe(
        figure, f"Day-ahead power at bus {bus} with and without the operator's cap, by half-hour."
    )


def operation(system: pd.DataFrame, scenario: int, side: str) -> go.Figure:
    """Generation and power not supplied through the day in every regime (Figure 7(a)).

    Parameters
    ----------
    system : DataFrame
        The study's table ``system``: generation_mw, nsp_mw by period.
    scenario, side
        Which case.
    """
    figure = go.Figure()
    for regime in STUDY:
        rows = _day(system, scenario, side, regime)
        colour = plots.REGIME_COLOURS[regime]
        figure.add_scatter(
            x=_hours(rows), y=rows["generation_mw"], name=regime, line_shape="hv",
            line_color=colour, hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
        if rows["nsp_mw"].max() > 1e-4:
            figure.add_scatter(
                x=_hours(rows), y=rows["nsp_mw"], name=f"not supplied, {regime}",
                line={"color": colour, "dash": "dot"}, line_shape="hv",
                hovertemplate="%{y:.3f} MW",
            )  # fmt: skip
    figure.update_layout(
        title_text=f"Generation, scenario {scenario} {side}", xaxis=plots.clock_axis(),
        yaxis_title_text="power, MW",
    )  # fmt: skip
    return plots.describe(
        figure, "Generation by half-hour without cars and under three regimes of charging."
    )


def _least(side: str) -> str:
    return "least" if side == "min" else "most"
