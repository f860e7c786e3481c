"""Figures of the book: one visual language, one renderer, one description for every slider.

Importing this module registers the plotly templates ``evcm`` (light) and ``evcm_dark``. While the
book is built (environment variable ``EVCM_BOOK``), figures are written as plain data beside the
shared scripts of the book, so that a page works without a network and follows the theme; in a
live kernel they are ordinary plotly figures. Figures of one topic live in
``evcm.plots.<topic>``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go
import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

from evcm.plots.html import describe as describe
from evcm.plots.html import figure_html as figure_html
from evcm.plots.html import in_book as in_book
from evcm.plots.sliders import Explorer as Explorer
from evcm.plots.sliders import explore as explore

REGIME_COLOURS: dict[str, str] = {
    "no cars": "#7f8794",
    "uncontrolled": "#d1495b",
    "apart": "#d98e04",
    "equilibrium": "#8f5f3a",
    "maximum total": "#1a8a7d",
    "proportional": "#4c8fd6",
    "max-min fair": "#8d5bb5",
    "re-allocated": "#5a9e3a",
    "joint": "#c2388a",
    "published": "#3aa6b9",
    "limit": "#c2410c",
}
"""Colour of each regime, the same in every figure, readable on light and on dark ground."""

SIDE_DASH: dict[str, str] = {"min": "dot", "max": "solid"}
"""Line style of the samples with the least and the most energy."""

SCENARIO_COLOURS: dict[int, str] = {1: "#a9c1d9", 2: "#6f97bd", 3: "#3f6d9b"}
"""Shade of each scenario, where scenarios and not regimes are compared: more cars, darker."""

SERIES = ("#4c8fd6", "#d98e04", "#1a8a7d", "#d1495b", "#8d5bb5", "#7f8794", "#5a9e3a", "#c06fa8",
          "#b58900", "#3aa6b9", "#a0522d")  # fmt: skip
"""Colours of series without a meaning of their own (buses, cars, samples)."""

BUS_COLOURS: dict[int, str] = dict(zip((2, 3, 4, 5, 6, 9, 10, 11, 12, 13, 14), SERIES, strict=True))
"""Colour of each load bus of the 14-bus system."""


def bus_colour(bus: int) -> str:
    """Colour of a bus of any network."""
    return BUS_COLOURS.get(bus, SERIES[bus % len(SERIES)])


def hours(periods: int, period_h: float) -> np.ndarray:
    """Hour since the first midnight at which each period starts, shape (periods,)."""
    return np.arange(periods) * period_h


def period_h(rows: Any) -> float:
    """Length of the periods of a table's rows: results say it, other rows fill one day."""
    return float(rows["period_h"].iloc[0]) if "period_h" in rows else 24.0 / len(rows)


def clock(period: int, period_h: float) -> str:
    """Start of a period (from 0) on the clock, with the day where it is a later one."""
    days, minutes = divmod(round(60 * period_h * period), 24 * 60)
    day = f"day {days + 1}, " if days else ""
    return f"{day}{minutes // 60:02d}:{minutes % 60:02d}"


def clock_axis(hours: float, title: str = "clock") -> dict[str, Any]:
    """Layout of a time axis in clock hours, 0 to 24, or through `hours` of several days."""
    ticks = list(range(0, round(hours) + 1, 3 if hours <= 25 else 24))
    return {
        "title": {"text": title},
        "range": [0, hours],
        "tickvals": ticks,
        "ticktext": [f"{h:02d}:00" if hours <= 25 else f"day {h // 24 + 1}" for h in ticks],
    }


def templates() -> dict[str, dict[str, Any]]:
    """The light and the dark plotly template, as plain dicts."""
    return {"light": _template("#1f2933", "#d7dce3"), "dark": _template("#d5dbe3", "#3f4854")}


def _template(ink: str, grid: str) -> dict[str, Any]:
    clear = "rgba(0,0,0,0)"
    axis = {
        "gridcolor": grid, "zerolinecolor": grid, "linecolor": grid, "automargin": True,
        "title": {"standoff": 8},
    }  # fmt: skip
    return {
        "layout": {
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": ink},
            "title": {"x": 0, "xanchor": "left", "font": {"size": 15}},
            "paper_bgcolor": clear,
            "plot_bgcolor": clear,
            "colorway": list(SERIES),
            "xaxis": axis,
            "yaxis": axis,
            "hovermode": "x unified",
            "hoverlabel": {"font": {"size": 12}},
            "legend": {"orientation": "h", "yanchor": "top", "y": -0.22, "x": 0},
            "margin": {"l": 56, "r": 12, "t": 44, "b": 48},
            "colorscale": {"sequential": [[0, "#e8f1f2"], [0.5, "#4c8fd6"], [1, "#1b3a6b"]]},
        }
    }


def _register() -> None:
    for name, key in (("evcm", "light"), ("evcm_dark", "dark")):
        pio.templates[name] = go.layout.Template(templates()[key])
    pio.templates.default = "evcm"
    if in_book():
        pio.renderers["evcm"] = BookRenderer()
        pio.renderers.default = "evcm"


class BookRenderer(MimetypeRenderer):
    """Writes a figure as data for the scripts of the book; the template stays out of the page."""

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, str]:
        """The figure as HTML."""
        return {"text/html": figure_html(fig_dict)}


_register()
