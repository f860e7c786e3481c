"""Figures of the trips: Figures 4 and 5 of the paper, the energy requirement and the baseline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, pi, sqrt

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm import data
from evcm.arrays import FloatArray
from evcm.inputs.study import Inputs
from evcm.inputs.values import TripLaw
from evcm.plots import (
    REGIME_COLOURS,
    SCENARIO_COLOURS,
    SERIES,
    SIDE_DASH,
    bus_colour,
    clock_axis,
    describe,
    hours,
)
from evcm.plots.network import layout
from evcm.trips import cars
from evcm.trips.cars import Cars
from evcm.trips.legs import Trips
from evcm.trips.montecarlo import GroupedDraw, MonteCarlo
from evcm.trips.uncontrolled import UncontrolledDay

ROAD_PLACES: dict[int, tuple[float, float]] = {
    2: (0, 0), 3: (2, 0), 4: (2, 1), 5: (0, 1), 6: (0, 2.4), 11: (1, 2.9), 10: (2, 2.9),
    9: (3, 2.4), 12: (0, 3.6), 13: (1, 3.8), 14: (2.6, 3.6),
}  # fmt: skip
"""Where `roads` draws each bus of the 14-bus system: a drawing, not a map."""


def roads(inputs: Inputs, law: TripLaw) -> go.Figure:
    """The roads that trips take, with the one-way distance of each (km)."""
    net, buses, figure = cars.roads(inputs), inputs.buses, go.Figure()
    ends = np.column_stack([net.bus[net.from_index], net.bus[net.to_index]])
    one_way = ends[:, 0] < ends[:, 1]
    pairs = [(int(a), int(b)) for a, b in ends[one_way]]
    at = ROAD_PLACES if set(buses) <= set(ROAD_PLACES) else layout(pairs)
    for (a, b), km in zip(pairs, cars.edge_distance_km(inputs, law)[one_way], strict=True):
        (x0, y0), (x1, y1) = at[a], at[b]
        figure.add_scatter(
            x=[x0, x1], y=[y0, y1], mode="lines", showlegend=False, hoverinfo="skip",
            line={"color": REGIME_COLOURS["no cars"], "width": 2},
        )  # fmt: skip
        figure.add_annotation(
            x=(x0 + x1) / 2, y=(y0 + y1) / 2, text=f"{km:.1f}", showarrow=False, yshift=10,
        )  # fmt: skip
    place = [at[b] for b in buses]
    figure.add_scatter(
        x=[p[0] for p in place], y=[p[1] for p in place], mode="markers+text", showlegend=False,
        text=[str(b) for b in buses], textfont={"color": "white"}, hoverinfo="text",
        hovertext=[f"bus {b}" for b in buses],
        marker={"size": 28, "color": [bus_colour(b) for b in buses]},
    )  # fmt: skip
    figure.update_layout(
        title="One-way trips between buses, km", xaxis={"visible": False}, yaxis={"visible": False}
    )
    return describe(figure, f"{len(buses)} buses, {len(pairs)} roads between them.")


def cars_by_bus(ours: pd.DataFrame, published: pd.DataFrame, scenario: int, side: str) -> go.Figure:
    """Figure 4(a), Table 1: departures and arrivals by bus, ours as bars, published as marks."""
    figure = go.Figure()
    for i, column in enumerate(("departures", "arrivals")):
        for name, table in (("ours", ours), ("published", published)):
            mine = table[(table["scenario"] == scenario) & (table["side"] == side)]
            x, y = mine["bus"].astype(str), mine[column]
            if name == "ours":
                figure.add_bar(x=x, y=y, name=column, marker={"color": SERIES[i]})
            else:
                figure.add_scatter(
                    x=x, y=y, mode="markers", name=f"{column}, published",
                    marker={"symbol": "diamond" if i else "circle", "size": 9,
                            "color": REGIME_COLOURS["published"],
                            "line": {"width": 1.5, "color": "white"}},
                )  # fmt: skip
    figure.update_layout(
        title=f"Scenario {scenario}, s_{side}: cars by bus",
        xaxis={"title": {"text": "bus"}, "type": "category"}, yaxis={"title": {"text": "cars"}},
    )  # fmt: skip
    return figure


LAW_WORDS = {"published": "law of the results", "printed": "law as printed"}
"""The paper's two readings of the trip law, in words."""


def times(laws: Sequence[TripLaw], drawn: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> go.Figure:
    """Figure 4(b): departures and arrivals per 10,000 cars; published histogram, laws and draws.

    `drawn` holds (departure, arrival) periods by the name of the law.
    """
    figure = go.Figure()
    table = data.read_table("trips/histograms.csv")
    for event, rows in table.groupby("event", sort=False):
        figure.add_bar(
            x=rows["half_hour"] / 2, y=rows["cars_per_10000"], name=f"{event}, published",
            marker={"color": REGIME_COLOURS["published"]}, opacity=0.35,
            showlegend=event == "departure", legendgroup="published", width=0.5,
        )  # fmt: skip
    for i, law in enumerate(laws):
        for k, values in enumerate(drawn[law.name]):
            period = np.arange(1, 58)
            count = np.bincount(np.ravel(values), minlength=58)[1:58] / values.size * 1e4
            keep = count > 0
            figure.add_scatter(
                x=(period[keep] - 1) / 2, y=count[keep], mode="lines+markers",
                name=f"drawn, {LAW_WORDS.get(law.name, law.name)}", legendgroup=law.name,
                showlegend=k == 0,
                line={"color": SERIES[i], "shape": "hvh"}, marker={"size": 4},
            )  # fmt: skip
    ticks = list(range(0, 31, 3))
    figure.update_layout(
        title="Departure and arrival", barmode="overlay",
        yaxis={"title": {"text": "cars per 10,000 and half-hour"}},
        xaxis={"title": {"text": "clock"}, "tickvals": ticks,
               "ticktext": [f"{h % 24:02d}:00" for h in ticks], "range": [0, 29]},
    )  # fmt: skip
    return figure


def speeds(inputs: Inputs, law: TripLaw, drawn_kmh: FloatArray | None = None) -> go.Figure:
    """Figure 4(c), (d): mean speed with one standard deviation by clock, and draws over it.

    `drawn_kmh` (S, T) shows the range of many samples.
    """
    numbers = cars.law_numbers(inputs, law)
    mean, sd = numbers.speed_mean, numbers.speed_sd
    low, high = law.speed_range_kmh
    x = hours(inputs.periods, inputs.period_h)
    upper, lower = np.minimum(mean + sd, high), np.maximum(mean - sd, low)
    figure = go.Figure()
    figure.add_scatter(x=x, y=upper, line={"width": 0, "shape": "hv"}, showlegend=False)
    figure.add_scatter(
        x=x, y=lower, line={"width": 0, "shape": "hv"}, fill="tonexty",
        fillcolor="rgba(76,143,214,0.25)", name="one standard deviation",
    )  # fmt: skip
    figure.add_scatter(x=x, y=mean, name="mean", line={"color": SERIES[0], "shape": "hv"})
    for i, day in enumerate(() if drawn_kmh is None else np.atleast_2d(drawn_kmh)):
        figure.add_scatter(
            x=x, y=day, name=f"sample {i}", line={"color": SERIES[1 + i % 9], "shape": "hv"}
        )
    figure.update_layout(
        title="Speed on the road", xaxis=clock_axis(inputs.periods * inputs.period_h),
        yaxis={"title": {"text": "km/h"}},
    )  # fmt: skip
    return figure


def speed_density(law: TripLaw) -> go.Figure:
    """Figure 4(d): density of each speed band; the ends hold what clamping moves there."""
    figure = go.Figure()
    low, high = law.speed_range_kmh
    x = np.linspace(low, high, 181)
    for i, band in enumerate(law.speed_bands):
        scale = band.sd_kmh * sqrt(2 * pi)
        y = [exp(-0.5 * ((v - band.mean_kmh) / band.sd_kmh) ** 2) / scale for v in x]
        figure.add_scatter(x=x, y=y, name=band.name, line={"color": SERIES[i]})
    figure.update_layout(
        title="Density of speeds", xaxis={"title": {"text": "km/h"}},
        yaxis={"title": {"text": "density, h/km"}},
    )  # fmt: skip
    return figure


def gchr(result: MonteCarlo, draw: GroupedDraw, published: pd.DataFrame) -> go.Figure:
    """Energy requirement of every sample: single cars, and the published weighted groups."""
    number = result.scenario.number
    figure = go.Figure()
    series = (
        ("single cars", result.gchr_mwh, SCENARIO_COLOURS[number]),
        ("groups,<br>even weights", draw.even_mwh, SERIES[5]),
        ("groups, weights<br>of the min side", draw.light_mwh, SERIES[9]),
        ("groups, weights<br>of the max side", draw.heavy_mwh, SERIES[10]),
    )
    for name, values, colour in series:
        figure.add_box(
            x=values, name=name, boxpoints="all", jitter=0.6, pointpos=0, whiskerwidth=0.5,
            marker={"color": colour, "size": 3}, line={"width": 1}, showlegend=False,
        )  # fmt: skip
    for row in published[published["scenario"] == number].itertuples():
        figure.add_vline(
            x=row.gchr_mwh, annotation_text=f"published {row.side}",
            annotation_position="top left" if row.side == "min" else "top right",
            line={"color": REGIME_COLOURS["published"], "dash": SIDE_DASH[str(row.side)]},
        )  # fmt: skip
    figure.update_layout(
        title=f"Scenario {number}: energy for driving, {result.scenario.samples} samples",
        xaxis={"title": {"text": "GChR, MWh a day"}},
        yaxis={"automargin": True, "autorange": "reversed"},
    )  # fmt: skip
    return figure


def driving_energy(result: MonteCarlo) -> go.Figure:
    """Energy of all trips by clock: s_min, s_max and the range of all samples."""
    told = result.inputs
    figure, x = go.Figure(), hours(told.periods, told.period_h)
    low, high = result.energy_mwh.min(axis=0), result.energy_mwh.max(axis=0)
    figure.add_scatter(x=x, y=high, line={"width": 0, "shape": "hv"}, showlegend=False)
    figure.add_scatter(
        x=x, y=low, line={"width": 0, "shape": "hv"}, fill="tonexty", name="all samples",
        fillcolor="rgba(127,135,148,0.3)",
    )  # fmt: skip
    colour = SCENARIO_COLOURS[result.scenario.number]
    for name, sample in (("min", result.min_sample), ("max", result.max_sample)):
        figure.add_scatter(
            x=x, y=result.energy_mwh[sample], name=f"s_{name} (sample {sample})",
            line={"color": colour, "dash": SIDE_DASH[name], "shape": "hv"},
        )  # fmt: skip
    figure.update_layout(
        title=f"Scenario {result.scenario.number}: energy driven by period",
        xaxis=clock_axis(told.periods * told.period_h),
        yaxis={"title": {"text": f"MWh per {_minutes(told)}, at the batteries"}},
    )  # fmt: skip
    return figure


def _minutes(inputs: Inputs) -> str:
    return f"{60 * inputs.period_h:g} minutes"


def day(drawn: Cars, trips: Trips, names: Sequence[str] | None = None) -> go.Figure:
    """Figure 5: where each car is by clock, and the energy it takes on the road."""
    size, told = len(drawn), drawn.inputs
    names = names or [f"car {v + 1}" for v in range(size)]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    x = hours(told.periods, told.period_h)
    states = (
        ("at its From bus", trips.at_from, SERIES[0]), ("on the road", trips.travelling, SERIES[3]),
        ("at its To bus", trips.at_to, SERIES[2]),
    )  # fmt: skip
    for name, inside, colour in states:
        rows, t = np.nonzero(inside[:, :, 0].T)
        figure.add_bar(
            x=np.full(t.size, told.period_h), base=x[t], y=[names[int(i)] for i in rows],
            name=name, marker={"color": colour, "line": {"width": 0}}, row=1, col=1,
            orientation="h",
            hovertemplate="%{y}, %{base} h: " + name + "<extra></extra>",
        )  # fmt: skip
    for v in range(size):
        figure.add_bar(
            x=x + told.period_h / 2, y=trips.energy_kwh[:, v, 0], name=f"{names[v]}, kWh",
            marker={"color": SERIES[4 + v % 7]}, row=2, col=1,
        )  # fmt: skip
    axis = clock_axis(told.periods * told.period_h)
    figure.update_layout(
        barmode="stack", title="A day of each car", height=480, xaxis2=axis, hovermode="closest",
        legend_traceorder="normal",
        xaxis={k: v for k, v in axis.items() if k != "title"},
        yaxis={"autorange": "reversed"}, yaxis2={"title": {"text": f"kWh per {_minutes(told)}"}},
    )  # fmt: skip
    return describe(figure, "Place of each car by clock, and below it the energy of its trips.")


def uncontrolled(days: Mapping[str, UncontrolledDay], load_mw: FloatArray) -> go.Figure:
    """Power that cars draw when each recharges at once (sum over buses), and the system's load."""
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    length = 24.0
    for i, (name, result) in enumerate(days.items()):
        x = hours(len(result.mean_mw), result.period_h)
        length = len(x) * result.period_h
        figure.add_scatter(
            x=x, y=result.mean_mw.sum(axis=1), name=name,
            line={"color": SERIES[(3 + i) % len(SERIES)], "shape": "hv"},
        )  # fmt: skip
    figure.add_scatter(
        x=hours(len(load_mw), length / len(load_mw)), y=load_mw, secondary_y=True,
        name="load without cars (right)",
        line={"color": REGIME_COLOURS["no cars"], "shape": "hv", "dash": "dot"},
    )  # fmt: skip
    figure.update_layout(title="Uncontrolled charging", xaxis=clock_axis(length))
    figure.update_yaxes(title_text="cars, MW", secondary_y=False, rangemode="tozero")
    figure.update_yaxes(title_text="load, MW", secondary_y=True, showgrid=False, tickmode="auto")
    return figure
