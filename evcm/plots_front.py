"""Figures of the front pages: adoption, the answer in one figure, published beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from evcm import plots

REGIMES = ("no cars", "uncontrolled", "decentralised", "coordinated")
"""Regimes in the order in which they are compared."""


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
        textposition="auto", marker_color=plots.REGIME_COLOURS["coordinated"],
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


def day(system: pd.DataFrame, scenario: int, side: str, capacity_mw: float) -> go.Figure:
    """Load of the system through the day without cars and under each regime of charging.

    Parameters
    ----------
    system : DataFrame
        The study's table ``system``: scenario, side, regime, period, load_mw (of the buses).
    scenario, side
        Which case; the day without cars is the same in all.
    capacity_mw : float
        Capacity of the system, MW, drawn as a limit.
    """
    figure = go.Figure()
    for regime in REGIMES:
        rows = system[system["regime"] == regime]
        if regime != REGIMES[0]:
            rows = rows[(rows["scenario"] == scenario) & (rows["side"] == side)]
        rows = rows.sort_values("period")
        figure.add_scatter(
            x=(rows["period"] - 1) * 0.5, y=rows["load_mw"], name=regime, mode="lines",
            line={"color": plots.REGIME_COLOURS[regime], "width": 2.2, "shape": "hv",
                  "dash": "dot" if regime == REGIMES[0] else "solid"},
            hovertemplate="%{y:.1f} MW",
        )  # fmt: skip
    figure.add_hline(
        y=capacity_mw, line={"color": plots.REGIME_COLOURS["limit"], "dash": "dash", "width": 1},
        annotation_text=f"capacity {capacity_mw:.0f} MW", annotation_position="top left",
    )  # fmt: skip
    figure.update_layout(
        title_text=f"Load of the system, scenario {scenario}, {side} sample",
        xaxis=plots.clock_axis(), yaxis_title_text="MW", height=430,
    )  # fmt: skip
    return plots.describe(
        figure,
        f"Load of the system over a day in scenario {scenario}, {side} sample: without cars, and "
        "with uncontrolled, decentralised and coordinated charging, against the capacity of "
        f"{capacity_mw:.0f} MW.",
    )


def sentence(summary: pd.DataFrame, scenario: int, side: str) -> str:
    """Peak and energy not supplied of each regime, in words.

    Parameters
    ----------
    summary : DataFrame
        `evcm.tables.system_summary`.
    """
    parts = []
    for regime in REGIMES[1:]:
        rows = summary[
            (summary["regime"] == regime)
            & (summary["scenario"] == scenario)
            & (summary["side"] == side)
        ]
        if len(rows):
            row = rows.iloc[0]
            parts.append(
                f"{regime}: peak {row['peak_load_mw']:.1f} MW, "
                f"not supplied {row['nse_mwh']:.2f} MWh a day"
            )
    return "; ".join(parts) + "."


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
        ("ours, proven", ours, "coordinated"),
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
