"""Figures of the chapter on large fleets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm.arrays import BoolArray, FloatArray
from evcm.plots import SERIES, describe
from evcm.store.measured import Benchmark


def scaling(benchmark: Benchmark) -> go.Figure:
    """Time (beside the former method's), peak memory and gap against the number of cars."""
    rows = benchmark.table.sort_values("cars")
    cars = rows["cars"].to_numpy(float)
    panels = (
        ("processor, s", rows["processor_s"].to_numpy(float), SERIES[0]),
        ("memory, GiB", rows["peak_memory_gib"].to_numpy(float), SERIES[2]),
        ("gap, %", 100 * rows["gap"].to_numpy(float), SERIES[3]),
    )
    figure = make_subplots(rows=3, shared_xaxes=True, vertical_spacing=0.06)
    for row, (name, values, colour) in enumerate(panels, 1):
        figure.add_scatter(
            x=cars, y=values, mode="lines+markers", name=name, line_color=colour,
            hovertemplate="%{x:,} cars: %{y:.3g}<extra></extra>", row=row, col=1,
        )  # fmt: skip
        if row < 3:
            figure.add_scatter(
                x=cars, y=values[-1] * cars / cars[-1], mode="lines", name="linear",
                line={"dash": "dot", "color": SERIES[5]}, row=row, col=1,
            )  # fmt: skip
        scale = {"type": "log", "dtick": 1} if row < 3 else {"rangemode": "tozero"}
        figure.update_yaxes(**scale, title_text=name, row=row, col=1)
    if "before_processor_s" in rows:
        figure.add_scatter(
            x=cars, y=rows["before_processor_s"], mode="lines+markers", name="former method",
            line={"color": SERIES[0], "dash": "dash"}, connectgaps=True,
            hovertemplate="%{x:,} cars, former method: %{y:.3g}<extra></extra>", row=1, col=1,
        )  # fmt: skip
    figure.update_xaxes(type="log", dtick=1, tickformat="~s")
    figure.update_xaxes(title_text="cars", row=3, col=1)
    figure.update_layout(showlegend=False, height=560)
    describe(
        figure,
        "Time, memory and gap against cars; the dotted line grows with the cars, the dashed one is "
        "the former method's time.",
    )
    return figure


def storage_path(
    price: FloatArray, soc_kwh: FloatArray, arrival_kwh: float, levels: Mapping[str, float]
) -> go.Figure:
    """Price and the best charge path of one visit, with the levels it stays on."""
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    t = np.arange(soc_kwh.size + 1)
    figure.add_bar(
        x=t[1:], y=price, name="price", marker_color=SERIES[5], opacity=0.45, secondary_y=True
    )
    figure.add_scatter(
        x=t, y=np.concatenate([[arrival_kwh], soc_kwh]), mode="lines+markers",
        name="state of charge", line_color=SERIES[0],
    )  # fmt: skip
    for name, level in levels.items():
        figure.add_hline(y=level, line_dash="dot", annotation_text=name, opacity=0.5,
                         annotation_position="top left")  # fmt: skip
    figure.update_xaxes(title_text="period of the visit")
    figure.update_yaxes(title_text="kWh", secondary_y=False)
    figure.update_yaxes(title_text="USD per kWh", secondary_y=True, showgrid=False, tickmode="auto")
    describe(figure, "Best charge path of one visit: it only ever moves between four levels.")
    return figure


def classes(wear: FloatArray, fed_back_kwh: FloatArray, starts: BoolArray) -> go.Figure:
    """Energy that each car of a window feeds back against its wear (USD per MWh), and the cuts.

    Arrays are sorted by wear; `starts` tells where a class begins.
    """
    figure = go.Figure()
    figure.add_scatter(
        x=wear, y=fed_back_kwh, mode="markers", name="a car's visit", marker_color=SERIES[0],
        hovertemplate="wear %{x:.2f} USD/MWh: %{y:.1f} kWh<extra></extra>",
    )  # fmt: skip
    for i in np.flatnonzero(starts)[1:] if starts.size else ():
        figure.add_vline(x=(wear[i - 1] + wear[i]) / 2, line_dash="dot", opacity=0.6)
    figure.update_xaxes(title_text="wear, USD per MWh")
    figure.update_yaxes(title_text="fed back, kWh", rangemode="tozero")
    figure.update_layout(showlegend=False, height=340)
    describe(figure, "Energy fed back falls with wear in jumps; classes end at the jumps.")
    return figure
