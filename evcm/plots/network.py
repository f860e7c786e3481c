"""Figures of the operator: loads, losses, voltages and caps over the day."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm.network.caps import Caps
from evcm.network.opf import OpfDay
from evcm.plots import BUS_COLOURS, REGIME_COLOURS, SERIES, clock_axis, describe, hours

BRANCH_COLOURS = {"line": "#7f8794", "transformer": "#d98e04"}
"""Colour of a branch in `one_line`."""

PLACES: dict[int, tuple[float, float]] = {
    1: (0, 1), 2: (1, 0), 3: (3, 0), 4: (3, 1), 5: (1.2, 1), 6: (1.2, 2.2), 7: (3.4, 1.7),
    8: (4.2, 1.7), 9: (3, 2.2), 10: (2.6, 2.9), 11: (1.9, 2.9), 12: (0.2, 3), 13: (1, 3.6),
    14: (2.6, 3.6),
}  # fmt: skip
"""Where `one_line` draws each bus of the 14-bus system: a drawing, not a map."""


def clock(period: int) -> str:
    """Start of a period (from 0) on the clock."""
    return f"{period // 2:02d}:{30 * (period % 2):02d}"


def one_line(day: OpfDay, period: int) -> go.Figure:
    """The 14-bus system in one period (from 0): voltages as colour, branch loading as width."""
    from evcm.network.certificate import active_flow_pu, reactive_flow_pu

    net, angle = day.network, np.deg2rad(day.angle_deg)
    p, q = active_flow_pu(net, day.v_pu, angle), reactive_flow_pu(net, day.v_pu, angle)
    flow = np.hypot(p, q)[period].max(axis=1) * net.base_mva
    figure = go.Figure()
    for e, (f, t) in enumerate(zip(net.branch_from, net.branch_to, strict=True)):
        (x0, y0), (x1, y1) = PLACES[int(net.bus_number[f])], PLACES[int(net.bus_number[t])]
        share = flow[e] / net.limit_mva[e]
        kind = "line" if net.resistance_pu[e] > 0 else "transformer"
        label = (
            f"{net.bus_number[f]} to {net.bus_number[t]}: {flow[e]:.1f} MVA, {share:.0%} of limit"
        )
        figure.add_scatter(
            x=[x0, (x0 + x1) / 2, x1], y=[y0, (y0 + y1) / 2, y1], mode="lines", showlegend=False,
            line={"color": BRANCH_COLOURS[kind], "width": 1 + 8 * share}, hoverinfo="text",
            hovertext=label,
        )  # fmt: skip
    text = [f"bus {b}: {v:.4f} pu" for b, v in zip(net.bus_number, day.v_pu[period], strict=True)]
    places = [PLACES[int(b)] for b in net.bus_number]
    figure.add_scatter(
        x=[x for x, _ in places], y=[y for _, y in places], mode="markers+text", showlegend=False,
        text=[str(b) for b in net.bus_number], textfont={"color": "white"}, hoverinfo="text",
        hovertext=text,
        marker={"size": 30, "color": day.v_pu[period], "cmin": 0.95, "cmax": 1.05,
                "colorscale": "RdYlBu", "colorbar": {"title": "pu", "thickness": 12}},
    )  # fmt: skip
    figure.update_layout(
        title=f"Voltages and branch loading at {clock(period)}", hovermode="closest", height=440,
        xaxis={"visible": False}, yaxis={"visible": False},
    )  # fmt: skip
    return describe(figure, f"One-line drawing of the 14-bus system at {clock(period)}")


def day_curves(days: Mapping[str, OpfDay]) -> go.Figure:
    """Load and generation over the clock, losses below; one colour per named day."""
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.65, 0.35], vertical_spacing=0.08
    )
    for k, (name, day) in enumerate(days.items()):
        line = {"color": REGIME_COLOURS.get(name, SERIES[k]), "shape": "hv"}
        for values, what, dash in (
            (day.load_mw, "load", "dot"),
            (day.generation_mw, "generation", "solid"),
        ):
            figure.add_scatter(
                x=hours(), y=values, name=f"{what}, {name}", line={**line, "dash": dash},
                hovertemplate="%{y:.2f} MW", row=1, col=1,
            )  # fmt: skip
        figure.add_scatter(
            x=hours(), y=day.losses_mw, name=f"losses, {name}", line=line,
            hovertemplate="%{y:.3f} MW", row=2, col=1,
        )  # fmt: skip
    figure.update_xaxes(**{**clock_axis(), "title": None}, row=1, col=1)
    figure.update_xaxes(**clock_axis(), row=2, col=1)
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
    figure.update_layout(
        title=f"Voltages at {clock(period)}", xaxis={"title": "bus", "type": "category"},
        yaxis={"title": "pu", "range": [0.94, 1.06]},
    )  # fmt: skip
    return describe(figure, f"Voltage at each bus at {clock(period)}, with limits 0.95 and 1.05 pu")


def price_map(day: OpfDay) -> go.Figure:
    """Marginal price by bus and clock: what one MW more would add to (44), MW at the slack."""
    figure = go.Figure(
        go.Heatmap(
            x=np.arange(day.day.n_periods) * day.day.period_h, z=day.price.T,
            y=[str(b) for b in day.network.bus_number], colorscale="Viridis",
            colorbar={"title": "MW per MW"},
            hovertemplate="%{x:.1f} h, bus %{y}: %{z:.4f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        title="What one MW more costs", xaxis=clock_axis(),
        yaxis={"title": "bus", "type": "category"},
    )  # fmt: skip
    return describe(figure, "Marginal price of power by bus and clock, MW at the slack per MW")


def not_supplied(day: OpfDay) -> go.Figure:
    """Power not supplied at each bus over the clock."""
    figure = go.Figure()
    for k in np.flatnonzero(day.nsp_mw.max(axis=0) > 0):
        bus = int(day.network.bus_number[k])
        figure.add_bar(
            x=hours() + 0.25, y=day.nsp_mw[:, k], name=f"bus {bus}",
            marker={"color": BUS_COLOURS.get(bus, SERIES[0])}, hovertemplate="%{y:.3f} MW",
        )  # fmt: skip
    figure.update_layout(
        title="Power not supplied", barmode="stack", xaxis=clock_axis(), yaxis={"title": "MW"}
    )
    return describe(figure, "Power not supplied by bus and clock, MW")


def cap_areas(caps: Caps) -> go.Figure:
    """Caps of all aggregators over the clock, stacked: Figure 7 (b)."""
    figure = go.Figure()
    for k, bus in enumerate(caps.network.ev_bus_number):
        figure.add_scatter(
            x=hours(), y=caps.cap_mw[:, k], name=f"bus {bus}", stackgroup="caps",
            line={"width": 0.5, "shape": "hv", "color": BUS_COLOURS.get(bus, SERIES[k % 11])},
            hovertemplate="%{y:.2f} MW",
        )  # fmt: skip
    figure.update_layout(
        title="Caps on what aggregators may buy", xaxis=clock_axis(), yaxis={"title": "MW"}
    )
    return describe(figure, "Cap of each aggregator by clock, stacked, MW")


def cap_splits(named: Mapping[str, Caps], period: int) -> go.Figure:
    """Caps by bus in one period (from 0), for several ways to reach nearly the same total."""
    figure = go.Figure()
    for k, (name, caps) in enumerate(named.items()):
        figure.add_bar(
            x=[str(b) for b in caps.network.ev_bus_number], y=caps.cap_mw[period],
            name=f"{name}: {caps.total_mw[period]:.2f} MW in all", marker={"color": SERIES[k]},
            hovertemplate="%{y:.3f} MW",
        )  # fmt: skip
    figure.update_layout(
        title=f"Caps by bus at {clock(period)}", barmode="group", yaxis={"title": "MW"},
        xaxis={"title": "bus", "type": "category"},
    )  # fmt: skip
    return describe(figure, f"Caps by bus at {clock(period)}: " + ", ".join(named))
