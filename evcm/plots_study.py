"""Figures of the transmission results, from the study's tables: Figures 6, 7(a), 7(c) and 8."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from evcm import plots
from evcm.inputs import PERIOD_H


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
        ``uncontrolled``, ``decentralised`` or ``coordinated``; ``min`` or ``max``.
    """
    figure = go.Figure()
    base = _day(system, 0, "none", "no cars")
    figure.add_scatter(
        x=plots.hours(), y=base["load_mw"], name="no cars", line_color=plots.REGIME_COLOURS["base"],
        line_shape="hv", hovertemplate="%{y:.2f} MW",
    )  # fmt: skip
    for scenario in sorted(set(system["scenario"]) - {0}):
        rows = _day(system, scenario, side, regime)
        figure.add_scatter(
            x=plots.hours(), y=rows["load_mw"], name=f"scenario {scenario}", line_shape="hv",
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
        Which case; regime ``decentralised`` or ``coordinated``.
    """
    rows = _day(schedules, scenario, side, regime)
    figure = go.Figure()
    for bus in sorted(set(rows["bus"])):
        mine = rows[rows["bus"] == bus]
        figure.add_bar(
            x=plots.hours() + PERIOD_H / 2, y=mine["day_ahead_mw"], name=f"bus {bus}",
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
    capped = _day(mine, scenario, side, "coordinated")
    figure.add_scatter(
        x=plots.hours(), y=capped["cap_mw"], name="cap", line_shape="hv",
        line={"color": plots.REGIME_COLOURS["limit"], "dash": "dash"}, hovertemplate="%{y:.3f} MW",
    )  # fmt: skip
    for regime in ("decentralised", "coordinated"):
        rows = _day(mine, scenario, side, regime)
        figure.add_scatter(
            x=plots.hours(), y=rows["day_ahead_mw"], name=regime, line_shape="hv",
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
    for regime in ("no cars", "uncontrolled", "decentralised", "coordinated"):
        rows = _day(system, scenario, side, regime)
        colour = plots.REGIME_COLOURS[regime]
        figure.add_scatter(
            x=plots.hours(), y=rows["generation_mw"], name=regime, line_shape="hv",
            line_color=colour, hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
        if rows["nsp_mw"].max() > 1e-4:
            figure.add_scatter(
                x=plots.hours(), y=rows["nsp_mw"], name=f"not supplied, {regime}",
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
