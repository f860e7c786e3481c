"""Figures of the distribution analysis: one-line diagram, voltages through the day, synthesis."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm import data, plots
from evcm.feeder.draws import METHODS
from evcm.feeder.ieee13 import FeederModel, circuit
from evcm.feeder.states import FeederStates, supply_band
from evcm.feeder.synthesis import Characterisation, draw
from evcm.study.feeder_days import CASE

PHASE_SHIFT = {"a": -0.2, "b": 0.0, "c": 0.2}
METHOD_NAMES: dict[str, str] = {
    "monte_carlo": "Monte Carlo, normal",
    "copula": "Gaussian copula",
    "marginals": "marginals alone",
    "subset": "random subset",
    "kmedoids": "k-medoids",
}
VOLTAGE_COLOURS = [
    [0.0, "#8c1d40"], [0.25, "#d1495b"], [0.4, "#e9b44c"], [0.6, "#7fb7a5"], [0.8, "#4c8fd6"],
    [1.0, "#1b3a6b"],
]  # fmt: skip
VOLTAGE_RANGE = (0.90, 1.06)


def one_line(voltages: pd.DataFrame, title: str = "IEEE 13-node feeder") -> go.Figure:
    """One-line diagram: a marker for each phase of each node, coloured by its voltage.

    Voltages below Peru's band have a thick outline. `voltages` has the columns node, phase, v_pu.
    """
    layout = data.read_table("feeder/layout.csv")
    place = {str(r.node): (float(r.x), float(r.y)) for r in layout.itertuples()}  # type: ignore[arg-type]
    shown = voltages[voltages["node"].isin(place)]
    figure = go.Figure()
    feeder = circuit(FeederModel())
    pairs = [(line.start, line.end) for line in feeder.lines]
    pairs += [(t.start, t.end) for t in feeder.transformers]
    xs: list[float | None] = []
    ys: list[float | None] = []
    for start, end in pairs:
        xs += [place[start][0], place[end][0], None]
        ys += [place[start][1], place[end][1], None]
    figure.add_scatter(
        x=xs, y=ys, mode="lines", line={"color": "#7f8794", "width": 2}, hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    low, _ = supply_band()
    v = shown["v_pu"].to_numpy(float)
    at = list(zip(shown["node"], shown["phase"], strict=True))
    figure.add_scatter(
        x=[place[n][0] + PHASE_SHIFT[p] for n, p in at], y=[place[n][1] for n, _ in at],
        mode="markers+text", text=list(shown["phase"]), textfont={"size": 11, "color": "white"},
        marker={
            "size": 18, "color": v, "colorscale": VOLTAGE_COLOURS, "cmin": VOLTAGE_RANGE[0],
            "cmax": VOLTAGE_RANGE[1],
            "colorbar": {"title": {"text": "pu"}, "thickness": 12, "orientation": "h", "y": -0.25},
            "line": {"width": np.where(v < low, 2.5, 0.5), "color": "#7f8794"},
        },
        customdata=[f"{n}.{p}" for n, p in at],
        hovertemplate="%{customdata}: %{marker.color:.4f} pu<extra></extra>", showlegend=False,
    )  # fmt: skip
    named = list(dict.fromkeys(shown["node"]))
    figure.add_scatter(
        x=[place[n][0] for n in named], y=[place[n][1] + 0.23 for n in named], mode="text",
        text=[f"<b>{n}</b>" for n in named], textposition="middle center", hoverinfo="skip",
        showlegend=False,
    )  # fmt: skip
    hidden = {"visible": False, "fixedrange": True}
    figure.update_layout(
        title_text=title, height=470, hovermode="closest",
        xaxis=hidden | {"range": [0.6, 5.4]}, yaxis=hidden | {"range": [0.7, 4.4]},
    )  # fmt: skip
    node, phase = at[int(np.argmin(v))]
    return plots.describe(
        figure,
        f"{title}. One-line diagram coloured by voltage, {v.min():.4f} to {v.max():.4f} pu, "
        f"lowest at node {node} phase {phase}.",
    )


def node_day(profiles: Mapping[str, pd.DataFrame], node: str) -> go.Figure:
    """What each regime changes in a node's voltage through the day, a panel per phase (Figure 9).

    `profiles` are tables by regime with the columns period, node, phase, v_pu; the day without
    cars, which the others are compared with, is among them.
    """
    by_regime = {}
    for regime, profile in profiles.items():
        rows = profile[profile["node"] == node]
        by_regime[regime] = rows.pivot_table(index="period", columns="phase", values="v_pu")
    base = by_regime["no cars"]
    phases = list(base.columns)
    panels = [f"({'abc'[k]}) phase {phase}" for k, phase in enumerate(phases)]
    figure = make_subplots(
        rows=len(phases), cols=1, shared_xaxes=True, subplot_titles=panels,
        vertical_spacing=0.3 / max(len(phases), 2),
    )  # fmt: skip
    lowest, ends = {}, [0.0, 0.0]
    for regime, volts in by_regime.items():
        if regime == "no cars":
            continue
        change = 1000.0 * (volts - base)
        lowest[regime] = float(change.min().min())
        ends = [min(ends[0], lowest[regime]), max(ends[1], float(change.max().max()))]
        for k, phase in enumerate(phases):
            figure.add_scatter(
                x=plots.hours(len(change), 24.0 / len(change)), y=change[phase], name=regime,
                legendgroup=regime, showlegend=k == 0,
                line={"color": plots.REGIME_COLOURS[regime], "shape": "hv"},
                hovertemplate="%{y:+.1f} thousandths of pu", row=k + 1, col=1,
            )  # fmt: skip
    figure.update_xaxes(plots.clock_axis(24.0, title=""))
    figure.update_xaxes(title_text="clock", row=len(phases), col=1)
    room = 0.05 * (ends[1] - ends[0])
    figure.update_yaxes(title_text="0.001 pu", range=[ends[0] - room, ends[1] + room])
    figure.update_layout(
        title_text=f"Node {node}: voltage less that of the day without cars",
        height=200 + 150 * len(phases), legend={"y": -0.18}, margin={"t": 80},
    )  # fmt: skip
    said = ", ".join(f"{regime} {value:.1f}" for regime, value in lowest.items())
    return plots.describe(
        figure,
        f"Change of the voltage of node {node} against the day without cars, by period, a panel "
        f"for each phase. Deepest fall in thousandths of pu: {said}.",
    )


def far_hours(quality: pd.DataFrame, nodes: tuple[str, ...], scenario: int, side: str) -> go.Figure:
    """Hours a day below Peru's band at the worst phase of each node, by regime.

    `quality` as from `evcm.study.feeder_days.supply_quality`.
    """
    figure = go.Figure()
    for regime in quality["regime"].drop_duplicates():
        rows = quality[quality["regime"] == regime]
        exact = rows[(rows["scenario"] == scenario) & (rows["side"] == side)]
        rows = exact if len(exact) or regime != "no cars" else rows
        worst = rows[rows["node"].isin(nodes)].groupby("node")["hours_under"].max()
        figure.add_bar(
            x=[f"node {n}" for n in nodes], y=[worst.get(n, np.nan) for n in nodes], name=regime,
            marker_color=plots.REGIME_COLOURS.get(regime), hovertemplate="%{y:.2f} h",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Hours below the band, scenario {scenario}, {side}", barmode="group",
        yaxis_title_text="hours a day, worst phase", xaxis_type="category",
    )  # fmt: skip
    return plots.describe(figure, "Hours a day below 0.95 pu at the far nodes, by regime.")


def unbalance_day(states: FeederStates, node: str, scenario: int, side: str) -> go.Figure:
    """Voltage unbalance factor at a three-phase node through the day, average over feeders."""
    frame = states.cases.labels.assign(
        period=states.cases.period, vuf=states.unbalance_percent(node)
    )
    frame["weighted"] = frame["vuf"] * frame["feeders"]
    figure = go.Figure()
    for case, rows in frame.groupby(CASE, sort=False):
        if case[1:] != (side, case[2]) and case[2] != "no cars":
            continue
        if case[2] != "no cars" and case[0] != scenario:
            continue
        sums = rows.groupby("period")[["weighted", "feeders"]].sum()
        figure.add_scatter(
            x=plots.hours(len(sums), 24.0 / len(sums)), name=case[2],
            y=sums["weighted"] / sums["feeders"],
            line_color=plots.REGIME_COLOURS.get(str(case[2])), hovertemplate="%{y:.3f} %",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"Voltage unbalance at node {node}", xaxis=plots.clock_axis(24.0),
        yaxis_title_text="VUF, %",
    )  # fmt: skip
    return plots.describe(figure, f"Voltage unbalance factor at node {node} by period and regime.")


def synthesis(
    summary: pd.DataFrame, marked: tuple[float, ...], metric: str = "wasserstein_pu"
) -> go.Figure:
    """Error of the synthetic sets against their size, by method, with the paper's sizes marked.

    `summary` as from `evcm.feeder.synthesis.summarise`; bars are standard errors over repeats.
    """
    rows = summary[summary["metric"] == metric]
    figure = go.Figure()
    for colour, method in zip(plots.SERIES, rows["method"].drop_duplicates(), strict=False):
        mine = rows[rows["method"] == method].sort_values("fraction")
        figure.add_scatter(
            x=100 * mine["fraction"], y=mine["error_pu"], mode="lines+markers",
            name=METHOD_NAMES.get(method, method), line_color=colour, marker_size=5,
            error_y={"array": mine["standard_error_pu"].fillna(0), "thickness": 1, "width": 2},
            hovertemplate="%{y:.2e} pu",
        )  # fmt: skip
    for fraction in marked:
        figure.add_vline(
            100 * fraction, line={"color": plots.REGIME_COLOURS["published"], "dash": "dot"},
            annotation_text=f"{100 * fraction:g} %",
        )  # fmt: skip
    names = {
        "wasserstein_pu": "Wasserstein distance", "mean_error_pu": "error of the mean",
        "p5_error_pu": "error of the 5th percentile",
    }  # fmt: skip
    figure.update_layout(
        title_text="Synthetic sets against the full set", height=460,
        xaxis_title_text="size, % of the full set",
        yaxis={"title": {"text": f"{names[metric]}, pu"}, "type": "log", "exponentformat": "power"},
    )  # fmt: skip
    return plots.describe(
        figure,
        f"{names[metric]} between synthetic and full voltage distributions against the size of the "
        "synthetic set, by method; the paper's sizes are marked.",
    )


def drawn(known: Characterisation, period: int, fraction: float, seed: int = 0) -> go.Figure:
    """Head voltage and load of one period: the full set, and what each method draws from it."""
    rows = known.cases.period == period
    clock = plots.clock(period - 1, 24.0 / int(known.cases.period.max()))
    figure = go.Figure()
    figure.add_scatter(
        x=known.cases.load_scale[rows], y=known.cases.head_v_pu[rows], mode="markers",
        name="full set",
        marker={"color": plots.REGIME_COLOURS["no cars"], "size": 9, "opacity": 0.6},
    )  # fmt: skip
    for colour, method in zip(plots.SERIES, METHODS, strict=False):
        cases = draw(known, fraction, method, seed).cases
        at = cases.period == period
        figure.add_scatter(
            x=cases.load_scale[at], y=cases.head_v_pu[at], mode="markers",
            name=METHOD_NAMES[method], marker={"color": colour, "size": 5},
            visible=True if method in ("monte_carlo", "kmedoids") else "legendonly",
        )  # fmt: skip
    figure.update_layout(
        title_text=f"What a feeder sees at {clock}", hovermode="closest",
        xaxis_title_text="load, multiple of nominal", yaxis_title_text="head voltage, pu",
    )  # fmt: skip
    return plots.describe(
        figure,
        f"Head voltage against load of a feeder at {clock}: full set and draws.",
    )
