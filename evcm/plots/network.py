"""Figures of the operator: loads, losses, voltages and caps over the day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm.network.caps import Caps
from evcm.network.opf import OpfDay
from evcm.network.tables import flow_table
from evcm.plots import (
    REGIME_COLOURS,
    SERIES,
    bus_colour,
    clock,
    clock_axis,
    describe,
    hours,
    period_h,
)

PLACES: dict[int, tuple[float, float]] = {
    1: (0, 1), 2: (1, 0), 3: (3, 0), 4: (3, 1), 5: (1.2, 1), 6: (1.2, 2.2), 7: (3.4, 1.7),
    8: (4.2, 1.7), 9: (3, 2.2), 10: (2.6, 2.9), 11: (1.9, 2.9), 12: (0.2, 3), 13: (1, 3.6),
    14: (2.6, 3.6),
}  # fmt: skip
"""Where `one_line` draws each bus of the 14-bus system: a drawing, not a map."""


LOADING = ((0.25, 1.0), (0.5, 2.5), (0.75, 4.0), (0.95, 6.0), (np.inf, 8.0))
"""Largest share of a branch's limit that a line stands for in `network_map`, and its width."""


def one_line(day: OpfDay, period: int) -> go.Figure:
    """The 14-bus system in one period (from 0): `network_map` with its buses in their places."""
    state = day.to_frame().assign(ev_mw=0.0)
    return network_map(state, flow_table(day), period + 1, places=PLACES)


def layout(branches: Iterable[tuple[int, int]]) -> dict[int, tuple[float, float]]:
    """Places of buses in a plane, by the branches between them: near where few lie between.

    Notes
    -----
    Kamada and Kawai's springs up to 400 buses; beyond, Fruchterman and Reingold's with a fixed
    seed.
    """
    import networkx as nx

    graph = nx.Graph(list(branches))
    large = graph.number_of_nodes() > 400
    found = nx.spring_layout(graph, seed=1) if large else nx.kamada_kawai_layout(graph)
    return {int(bus): (float(x), float(y)) for bus, (x, y) in found.items()}


def network_map(
    buses: pd.DataFrame, flows: pd.DataFrame, period: int,
    places: Mapping[int, tuple[float, float]] | None = None,
) -> go.Figure:  # fmt: skip
    """Any network in one period (from 1): voltages as colour, cars as size, loading as width.

    `buses` and `flows` are one case of the study's tables ``transmission`` and ``flows``. Buses
    stand at `places`, those of `layout` by default.
    """
    state, lines = buses[buses["period"] == period], flows[flows["period"] == period]
    ends = list(zip(lines["from_bus"], lines["to_bus"], strict=True))
    at = places or layout(ends)
    figure, low = go.Figure(), -np.inf
    share = lines["loading"].to_numpy()
    for k, (high, width) in enumerate(LOADING):
        mine = [ends[e] for e in np.flatnonzero((share > low) & (share <= high))]
        low = high
        if mine:
            name = f"up to {high:.0%} of the limit" if np.isfinite(high) else "at the limit"
            figure.add_scatter(
                x=[x for a, b in mine for x in (at[a][0], at[b][0], None)],
                y=[y for a, b in mine for y in (at[a][1], at[b][1], None)],
                mode="lines", name=name, hoverinfo="skip",
                line={"color": "#d1495b" if k == len(LOADING) - 1 else "#7f8794", "width": width},
            )  # fmt: skip
    figure.add_scatter(
        x=[(at[a][0] + at[b][0]) / 2 for a, b in ends], hoverinfo="text", showlegend=False,
        y=[(at[a][1] + at[b][1]) / 2 for a, b in ends], mode="markers", marker={"opacity": 0},
        hovertext=[
            f"{r['from_bus']} to {r['to_bus']}: {r['flow_mw']:.1f} MW, {r['flow_mva']:.1f} MVA"
            + (f", {r['loading']:.0%} of the limit" if r["loading"] > 0 else "")
            for r in lines.to_dict("records")
        ],
    )  # fmt: skip
    most, few = max(float(state["ev_mw"].abs().max()), 1e-9), len(state) <= 40
    size = 22 if few else 8
    cars = np.sqrt(state["ev_mw"].abs() / most) * (state["ev_mw"].abs() > 1e-6)
    figure.add_scatter(
        x=[at[b][0] for b in state["bus"]], y=[at[b][1] for b in state["bus"]],
        mode="markers+text" if few else "markers", showlegend=False, hoverinfo="text",
        text=state["bus"].astype(str),
        # Dark on the pale middle of the scale, white at its ends.
        textfont={"size": 11, "color": np.where(
            state["v_pu"].between(0.96, 1.04), "#1f2933", "#ffffff").tolist()},
        hovertext=[
            f"bus {r['bus']}: {r['v_pu']:.4f} pu, load {r['load_mw']:.2f} MW, of it cars "
            f"{r['ev_mw']:.3f} MW, not supplied {max(r['nsp_mw'], 0):.3f} MW"
            for r in state.to_dict("records")
        ],
        marker={"size": size * (1 + cars), "color": state["v_pu"], "cmin": 0.94, "cmax": 1.06,
                "colorscale": "RdYlBu", "line": {"color": "#7f8794", "width": 1},
                "colorbar": {"title": "pu", "thickness": 12}},
    )  # fmt: skip
    when = clock(period - 1, period_h(buses[buses["bus"] == buses["bus"].iloc[0]]))
    figure.update_layout(
        title=f"Voltages, branch loading and cars at {when}", hovermode="closest", height=560,
        xaxis={"visible": False}, yaxis={"visible": False}, legend_y=-0.02,
    )  # fmt: skip
    return describe(
        figure,
        f"Map of {len(state)} buses and {len(lines)} branches at {when}: voltages "
        f"{state['v_pu'].min():.3f} to {state['v_pu'].max():.3f} pu, largest loading "
        f"{share.max():.0%} of a limit, cars {state['ev_mw'].sum():.2f} MW in all",
    )


def _hours(day: OpfDay | Caps) -> np.ndarray:
    return hours(day.day.n_periods, day.day.period_h)


def _axis(day: OpfDay | Caps) -> dict[str, Any]:
    return clock_axis(day.day.n_periods * day.day.period_h)


def day_curves(days: Mapping[str, OpfDay]) -> go.Figure:
    """Load and generation over the clock, losses below; one colour per named day."""
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.65, 0.35], vertical_spacing=0.08
    )
    for k, (name, day) in enumerate(days.items()):
        line = {"color": REGIME_COLOURS.get(name, SERIES[k]), "shape": "hv"}
        x, axis = _hours(day), _axis(day)
        for values, what, dash in (
            (day.load_mw, "load", "dot"),
            (day.generation_mw, "generation", "solid"),
        ):
            figure.add_scatter(
                x=x, y=values, name=f"{what}, {name}", line={**line, "dash": dash},
                hovertemplate="%{y:.2f} MW", row=1, col=1,
            )  # fmt: skip
        figure.add_scatter(
            x=x, y=day.losses_mw, name=f"losses, {name}", line=line,
            hovertemplate="%{y:.3f} MW", row=2, col=1,
        )  # fmt: skip
    figure.update_xaxes(**{**axis, "title": None}, row=1, col=1)
    figure.update_xaxes(**axis, row=2, col=1)
    figure.update_yaxes(title="MW", row=1, col=1)
    figure.update_yaxes(title="losses, MW", row=2, col=1)
    figure.update_layout(title="The operator's day", height=520)
    return describe(figure, "Load, generation and losses by clock: " + ", ".join(days))


def voltages(days: Mapping[str, OpfDay], period: int) -> go.Figure:
    """Voltage at every bus in one period (from 0), with the limits; one series per named day."""
    first = next(iter(days.values()))
    buses = [str(b) for b in first.network.bus_number]
    figure = go.Figure()
    for k, (name, day) in enumerate(days.items()):
        figure.add_scatter(
            x=buses, y=day.v_pu[period], name=name, mode="lines+markers",
            marker={"size": 9}, line={"color": REGIME_COLOURS.get(name, SERIES[k]), "width": 1},
            hovertemplate="%{y:.4f} pu",
        )  # fmt: skip
    for level, word in ((0.95, "lower limit"), (1.05, "upper limit")):
        figure.add_hline(
            y=level, line={"color": REGIME_COLOURS["limit"], "dash": "dash", "width": 1},
            annotation_text=word, annotation_position="bottom right" if level > 1 else "top right",
        )  # fmt: skip
    when = clock(period, first.day.period_h)
    figure.update_layout(
        title=f"Voltages at {when}", xaxis={"title": "bus", "type": "category"},
        yaxis={"title": "pu", "range": [0.94, 1.06]},
    )  # fmt: skip
    return describe(figure, f"Voltage at each bus at {when}, with limits 0.95 and 1.05 pu")


def price_map(day: OpfDay) -> go.Figure:
    """Marginal price by bus and clock: what one MW more would add to (44), MW at the slack."""
    figure = go.Figure(
        go.Heatmap(
            x=_hours(day), z=day.price.T,
            y=[str(b) for b in day.network.bus_number], colorscale="Viridis",
            colorbar={"title": "MW per MW"},
            hovertemplate="%{x:.1f} h, bus %{y}: %{z:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        title="What one MW more costs", xaxis=_axis(day),
        yaxis={"title": "bus", "type": "category"},
    )  # fmt: skip
    return describe(figure, "Marginal price of power by bus and clock, MW at the slack per MW")


def cap_areas(caps: Caps) -> go.Figure:
    """Caps of all aggregators over the clock, stacked: Figure 7 (b)."""
    figure = go.Figure()
    for k, bus in enumerate(caps.network.ev_bus_number):
        figure.add_scatter(
            x=_hours(caps), y=caps.cap_mw[:, k], name=f"bus {bus}", stackgroup="caps",
            line={"width": 0.5, "shape": "hv", "color": bus_colour(int(bus))},
            hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
    figure.update_layout(
        title="Caps on what aggregators may buy", xaxis=_axis(caps), yaxis={"title": "MW"}
    )
    return describe(figure, "Cap of each aggregator by clock, stacked, MW")


def cap_splits(named: Mapping[str, Caps], period: int) -> go.Figure:
    """Caps by bus in one period (from 0), for several ways to reach nearly the same total."""
    figure = go.Figure()
    for k, (name, caps) in enumerate(named.items()):
        figure.add_bar(
            x=[str(b) for b in caps.network.ev_bus_number], y=caps.cap_mw[period],
            name=f"{name}: {caps.total_mw[period]:.2f} MW", marker={"color": SERIES[k]},
            hovertemplate="%{y:.3f} MW",
        )  # fmt: skip
    when = clock(period, next(iter(named.values())).day.period_h)
    figure.update_layout(
        title=f"Caps by bus at {when}", barmode="group", yaxis={"title": "MW"},
        xaxis={"title": "bus", "type": "category"},
    )  # fmt: skip
    return describe(figure, f"Caps by bus at {when}: " + ", ".join(named))
