"""Figures of the charging station: the station as a picture, and days side by side."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm.errors import Checks
from evcm.plots import SERIES, describe
from evcm.v2x.arrivals import ARRIVAL, CAPACITY, DEPARTURE, FIELDS, TARGET
from evcm.v2x.battery import charge_kwh
from evcm.v2x.solve import Optimum
from evcm.v2x.station import Run

IDLE, CHARGING, GIVING = "#7f8794", "#1a8a7d", "#d98e04"
LIMIT, LINE = "#c2410c", "#4c8fd6"
FADED = "rgba(127,135,148,0.28)"
PER_ROW = 10


def _clock(hour: float) -> str:
    minutes = round(60 * hour)
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def _hours(run: Run) -> np.ndarray:
    s = run.case.series
    return s.start_hour % 24 + s.step_h * np.arange(len(s))


def _presence(run: Run) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """SoC after each step, wish, and session number (-1: empty), all (T, P)."""
    steps, ports = run.command_kw.shape
    soc, wish = np.full((steps, ports), np.nan), np.full((steps, ports), np.nan)
    number = np.full((steps, ports), -1)
    s = run.case.sessions
    for n, (port, row) in enumerate(zip(s.port, s.values, strict=True)):
        span = slice(int(row[ARRIVAL]), int(np.ceil(row[DEPARTURE])))
        soc[span, port] = run.content_kwh[span, port] / row[CAPACITY]
        wish[span, port] = row[TARGET] / row[CAPACITY]
        number[span, port] = n
    return soc, wish, number


class _Scene:
    """Positions of the ports, and the traces of one moment."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.soc, self.wish, self.number = _presence(run)
        ports = run.case.world.ports
        self.x = np.arange(ports) % PER_ROW
        self.rows = -(-ports // PER_ROW)
        self.y = (self.rows - 1 - np.arange(ports) // PER_ROW) * 1.55
        self.hours = _hours(run)
        s = run.case.series
        self.limit = s.import_limit_kw[:, 0]
        self.top = float(np.nanmax(np.where(np.isfinite(self.limit), self.limit, np.nan)))
        self.top = max(self.top if np.isfinite(self.top) else 0.0, run.transformer_kw.max(), 1.0)

    def moment(self, t: int) -> list[go.Bar | go.Scatter]:
        """Levels, outlines, wishes, comings and goings, transformer and cursors at step t."""
        run, here = self.run, self.number[t] >= 0
        moved = run.grid_kwh[t] / run.case.series.step_h
        colour = np.where(moved > 0.05, CHARGING, np.where(moved < -0.05, GIVING, IDLE))
        before = self.number[t - 1] if t else np.full(here.size, -1)
        after = self.number[t + 1] if t + 1 < len(self.number) else np.full(here.size, -1)
        comes, goes = here & (before != self.number[t]), here & (after != self.number[t])
        kw = float(run.transformer_kw[t, 0])
        over = kw > self.limit[t] + 1e-6
        price = float(run.case.series.buy_usd_per_kwh[t])
        level = np.where(here, np.nan_to_num(self.soc[t]), 0.0)
        text = [
            f"port {p}<br>SoC {100 * self.soc[t, p]:.0f} %, wish {100 * self.wish[t, p]:.0f} %"
            f"<br>{moved[p]:+.1f} kW" if here[p] else f"port {p}, empty"
            for p in range(here.size)
        ]  # fmt: skip
        arrows = np.where(comes, "▼", np.where(goes, "▲", ""))
        wish_x = np.column_stack([self.x - 0.3, self.x + 0.3, np.full(here.size, np.nan)])[here]
        wish_y = (self.y + np.nan_to_num(self.wish[t]))[here]
        wish_y = np.column_stack([wish_y, wish_y, np.full(wish_y.size, np.nan)])
        return [
            go.Bar(y=_round(level), marker={"color": colour.tolist()}, hovertext=text),
            go.Bar(marker={"line": {"color": np.where(here, IDLE, FADED).tolist()}}),
            go.Scatter(x=_round(wish_x.ravel()), y=_round(wish_y.ravel())),
            go.Scatter(
                text=arrows.tolist(),
                textfont={"color": np.where(comes, CHARGING, LIMIT).tolist()},
            ),
            go.Bar(
                x=[round(kw, 2)],
                marker={"color": [LIMIT if over else GIVING if kw < 0 else LINE]},
                text=[f"{kw:.0f} kW" + (" — overload" if over else "")],
            ),
            go.Scatter(x=[float(self.hours[t])], y=[round(kw, 2)]),
            go.Scatter(x=[float(self.hours[t])], y=[round(price, 5)]),
        ]


def _round(values: np.ndarray) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 3) for v in values]


def station(run: Run, every: int = 1) -> go.Figure:
    """The station as a picture that moves: batteries at the ports, transformer, price.

    Each battery shows its level and, as a line, the wish; green takes energy, orange gives, grey
    rests. ▼ a car has come, ▲ it leaves at the end of the step. `every` shows every n-th step.

    Raises
    ------
    InputError
        More than 60 ports, or `every` below 1.
    """
    checks = Checks("picture of a station")
    checks.require(run.case.world.ports <= 60, "ports", run.case.world.ports, "<= 60")
    checks.require(every >= 1, "every", every, ">= 1")
    checks.done()
    scene = _Scene(run)
    figure = _canvas(scene)
    for trace, now in zip(figure.data, scene.moment(0), strict=False):
        trace.update(now.to_plotly_json() | {"type": trace.type})
    shown = list(range(0, len(run.command_kw), every))
    figure.frames = [
        go.Frame(name=str(t), data=scene.moment(t), traces=list(range(7))) for t in shown
    ]
    _controls(figure, scene, shown)
    total = run.summary()
    return describe(
        figure,
        f"Animation of {run.case.world.name} under {run.name}: {run.case.world.ports} batteries "
        f"with their levels over {len(run.command_kw)} steps, the transformer's load up to "
        f"{total['peak_kw']:.0f} kW, and the price. {len(run.case.sessions)} cars come and go.",
    )


def _canvas(scene: _Scene) -> go.Figure:
    run, s = scene.run, scene.run.case.series
    figure = make_subplots(
        rows=3, cols=2, column_widths=[0.5, 0.5], row_heights=[0.57, 0.09, 0.34],
        specs=[[{"colspan": 2}, None], [{"colspan": 2}, None], [{}, {}]],
        vertical_spacing=0.09, horizontal_spacing=0.12,
        subplot_titles=("", "transformer now, kW", "transformer, kW", "price, USD/kWh"),
    )  # fmt: skip
    place: dict[str, Any] = {"row": 1, "col": 1}
    bars: dict[str, Any] = {"x": scene.x, "base": scene.y, "showlegend": False}
    figure.add_bar(**bars, y=0 * scene.y, width=0.5, hoverinfo="text", **place)
    figure.add_bar(
        **bars, y=np.ones(scene.x.size), width=0.56, hoverinfo="skip",
        marker={"color": "rgba(0,0,0,0)", "line": {"width": 2}}, **place,
    )  # fmt: skip
    plain: dict[str, Any] = {"showlegend": False, "hoverinfo": "skip"}
    figure.add_scatter(mode="lines", line={"color": LIMIT, "width": 2}, **plain, **place)
    figure.add_scatter(
        x=scene.x + 0.42, y=scene.y + 0.85, mode="text", text=[""] * scene.x.size, **plain, **place
    )
    figure.add_bar(
        x=[0.0], y=[""], orientation="h", textposition="outside", **plain, cliponaxis=False,
        row=2, col=1,
    )  # fmt: skip
    for col in (1, 2):
        figure.add_scatter(
            mode="markers", marker={"color": LIMIT, "size": 10}, **plain, row=3, col=col
        )
    # What stays: terminals of the batteries, the bus bars, the day's curves
    figure.add_bar(
        x=scene.x, base=scene.y + 1.0, y=np.full(scene.x.size, 0.07), width=0.2, **plain,
        marker={"color": IDLE}, **place,
    )  # fmt: skip
    wires_x: list[float | None] = []
    wires_y: list[float | None] = []
    for row in range(scene.rows):
        at = np.flatnonzero(np.arange(scene.x.size) // PER_ROW == row)
        y = float(scene.y[at[0]]) - 0.17
        wires_x += [-1.0, float(scene.x[at].max()), None]
        wires_y += [y, y, None]
        for p in at:
            wires_x += [float(scene.x[p]), float(scene.x[p]), None]
            wires_y += [y, float(scene.y[p]), None]
    low, high = float(scene.y.min()) - 0.17, float(scene.y.max()) - 0.17
    wires_x += [-1.0, -1.0]
    wires_y += [low - 0.35, high]
    figure.add_scatter(
        x=wires_x, y=wires_y, mode="lines", line={"color": IDLE, "width": 1.5}, **plain, **place
    )
    figure.add_scatter(
        x=[-1.0, -1.0], y=[low - 0.35, low - 0.58], mode="markers", **plain, **place,
        marker={"symbol": "circle-open", "size": 18, "line": {"width": 3}, "color": LINE},
    )  # fmt: skip
    day: dict[str, Any] = {"row": 3, "col": 1}
    curves: dict[str, Any] = {"mode": "lines", "showlegend": False}
    figure.add_scatter(
        x=scene.hours, y=run.transformer_kw[:, 0], name="transformer",
        line={"shape": "hv", "color": LINE}, **curves, **day,
    )  # fmt: skip
    figure.add_scatter(
        x=scene.hours, y=s.base_kw[:, 0], name="building − PV",
        line={"shape": "hv", "color": IDLE, "dash": "dot"}, **curves, **day,
    )  # fmt: skip
    finite = np.where(np.isfinite(scene.limit), scene.limit, np.nan)
    figure.add_scatter(
        x=scene.hours, y=finite, name="limit", line={"shape": "hv", "color": LIMIT, "dash": "dash"},
        **curves, **day,
    )  # fmt: skip
    figure.add_scatter(
        x=scene.hours, y=s.buy_usd_per_kwh, name="price", line={"shape": "hv", "color": SERIES[4]},
        **curves, row=3, col=2,
    )  # fmt: skip
    return figure


def _controls(figure: go.Figure, scene: _Scene, shown: Sequence[int]) -> None:
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}}
    still["transition"] = {"duration": 0}
    play = {**still, "frame": {"duration": 160, "redraw": True}, "fromcurrent": True}
    low = min(float(scene.run.transformer_kw.min()), 0.0)
    figure.update_layout(
        title={"text": html.escape(f"{scene.run.case.world.name}: {scene.run.name}")},
        height=760,
        barmode="overlay",
        hovermode="closest",
        margin={"t": 48, "b": 150},
        updatemenus=[
            {
                "type": "buttons", "direction": "right", "x": 0, "y": -0.1, "xanchor": "left",
                "yanchor": "top", "showactive": False,
                "buttons": [
                    {"label": "Play", "method": "animate", "args": [None, play]},
                    {"label": "Pause", "method": "animate", "args": [[None], still]},
                ],
            }
        ],
        sliders=[
            {
                "x": 0, "y": -0.14, "len": 1.0, "yanchor": "top", "pad": {"t": 0},
                "currentvalue": {"prefix": "clock ", "xanchor": "right"}, "ticklen": 0,
                "font": {"size": 1, "color": "rgba(0,0,0,0)"},
                "steps": [
                    {
                        "label": _clock(float(scene.hours[t])), "method": "animate",
                        "args": [[str(t)], still],
                    }
                    for t in shown
                ],
            }
        ],
    )  # fmt: skip
    figure.layout.sliders[0].currentvalue.font = {"size": 14, "color": IDLE}
    hidden = {"visible": False, "fixedrange": True}
    figure.update_xaxes(**hidden, range=[-1.5, PER_ROW - 0.3], row=1, col=1)
    figure.update_yaxes(**hidden, range=[-0.95, 1.55 * scene.rows], row=1, col=1)
    figure.update_xaxes(range=[min(1.15 * low, 0.0), 1.25 * scene.top], row=2, col=1)
    figure.update_yaxes(visible=False, row=2, col=1)
    for col in (1, 2):
        figure.update_xaxes(title={"text": "clock, h"}, row=3, col=col)


def taper(steps_min: Sequence[float] = (1, 15, 60)) -> go.Figure:
    """SoC and power of the known case, 50 kWh and 11 kW from 0.2, stepped at several lengths."""
    figure = make_subplots(rows=1, cols=2, subplot_titles=("state of charge", "power, kW"))
    symbols = ("line", "circle", "diamond", "square")
    for n, minutes in enumerate(steps_min):
        content, path = 10.0, [10.0]
        for _ in range(round(300 / minutes)):
            content += charge_kwh(content, 11.0, 11.0, 0.8, 50.0, minutes / 60)
            path.append(content)
        hours = np.arange(len(path)) * minutes / 60
        line = n == 0
        style: dict[str, Any] = {
            "name": f"{minutes:g} min steps", "legendgroup": str(n),
            "mode": "lines" if line else "markers", "line": {"color": SERIES[n]},
            "marker": {"symbol": None if line else symbols[n], "color": SERIES[n], "size": 8 + n},
        }  # fmt: skip
        soc = np.array(path) / 50
        figure.add_scatter(x=hours, y=soc, **style, row=1, col=1)
        power = 11.0 * np.minimum(1.0, (1 - soc) / 0.2)
        figure.add_scatter(x=hours, y=power, **style, showlegend=False, row=1, col=2)
    figure.add_hline(y=0.8, line={"dash": "dot", "color": IDLE}, row=1, col=1)
    figure.update_xaxes(title={"text": "hours"})
    return describe(
        figure,
        "State of charge and power against time for steps of "
        + ", ".join(f"{m:g}" for m in steps_min)
        + " minutes: the points of all step lengths lie on one curve.",
    )


def arrivals(table: pd.DataFrame) -> go.Figure:
    """Arrivals per free port and hour by place: a working day and a Saturday."""
    figure = make_subplots(
        rows=1, cols=2, shared_yaxes=True, subplot_titles=("Tuesday", "Saturday")
    )
    for col, day in ((1, 1), (2, 5)):
        for n, (place, rows) in enumerate(table[table["weekday"] == day].groupby("place")):
            figure.add_scatter(
                x=rows["hour"] + 0.5, y=rows["arrivals_per_free_port_h"], name=str(place),
                legendgroup=str(place), showlegend=col == 1, line={"color": SERIES[n]},
                row=1, col=col,
            )  # fmt: skip
    figure.update_xaxes(title={"text": "clock, h"}, dtick=6)
    figure.update_yaxes(title={"text": "arrivals per free port and hour"}, row=1, col=1)
    return describe(figure, "Rate of arrivals by hour for home, public and workplace ports.")


def days(runs: Mapping[str, Run]) -> go.Figure:
    """Transformer load of several runs of one case, with its limit and the price."""
    first = next(iter(runs.values()))
    s, hours = first.case.series, _hours(first)
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_scatter(
        x=hours, y=s.buy_usd_per_kwh, name="price", secondary_y=True,
        line={"color": IDLE, "dash": "dot", "shape": "hv"},
    )  # fmt: skip
    for n, (name, run) in enumerate(runs.items()):
        figure.add_scatter(
            x=hours, y=run.transformer_kw.sum(axis=1), name=html.escape(name.replace("_", " ")),
            line={"shape": "hv", "color": SERIES[n]},
        )  # fmt: skip
    limit = s.import_limit_kw.sum(axis=1)
    if np.isfinite(limit).all():
        figure.add_scatter(
            x=hours, y=limit, name="limit", line={"color": LIMIT, "dash": "dash", "shape": "hv"}
        )
    figure.update_xaxes(title={"text": "clock, h"}, dtick=6)
    figure.update_yaxes(title={"text": "transformer, kW"}, secondary_y=False)
    figure.update_yaxes(
        title={"text": "USD/kWh"}, secondary_y=True, showgrid=False, tickmode="auto"
    )
    return describe(figure, "Load of the transformer over the day under " + ", ".join(runs))


def rewards(table: pd.DataFrame, best: Optimum | None = None) -> go.Figure:
    """Reward of each rule as bars; the proven bound as a line that none crosses."""
    ordered = table.sort_values("reward_usd")
    figure = go.Figure(
        go.Bar(
            x=ordered["reward_usd"], y=[str(n).replace("_", " ") for n in ordered.index],
            orientation="h", marker={"color": LINE},
            text=ordered["reward_usd"].round(2), textposition="outside", cliponaxis=False,
        )
    )  # fmt: skip
    if best is not None:
        figure.add_vline(
            x=best.bound_usd, line={"color": LIMIT, "dash": "dash"}, annotation_text="proven bound",
            annotation={"y": 1.0, "yanchor": "bottom", "xanchor": "right"},
        )  # fmt: skip
    figure.update_layout(hovermode="closest", height=380)
    low, high = min(0.0, ordered["reward_usd"].min()), max(0.0, ordered["reward_usd"].max())
    figure.update_xaxes(
        title={"text": "reward, USD"},
        range=[low - 0.35 * (low < 0) * (high - low), high + 0.22 * (high - low)],
    )
    return describe(figure, "Reward of the day by rule; the optimum's bound is the largest.")


def one_car(run: Run, session: int) -> go.Figure:
    """One session: SoC with its wish above, power at the port below."""
    s, series = run.case.sessions, run.case.series
    port, row = int(s.port[session]), s.values[session]
    steps = np.arange(int(row[ARRIVAL]), int(np.ceil(row[DEPARTURE])))
    hours = series.start_hour % 24 + series.step_h * np.append(steps, steps[-1] + 1)
    content = np.append(row[FIELDS.index("arrival_kwh")], run.content_kwh[steps, port])
    figure = make_subplots(specs=[[{"secondary_y": True}]])
    figure.add_bar(
        x=hours[:-1] + series.step_h / 2, y=run.grid_kwh[steps, port] / series.step_h,
        name="power at the port, kW", marker={"color": FADED},
    )  # fmt: skip
    figure.add_scatter(
        x=hours, y=content / row[CAPACITY], name="state of charge", secondary_y=True,
        line={"color": CHARGING, "width": 3},
    )  # fmt: skip
    figure.add_scatter(
        x=hours[[0, -1]], y=[row[TARGET] / row[CAPACITY]] * 2, name="wish", mode="lines",
        line={"color": LIMIT, "dash": "dash"}, secondary_y=True,
    )  # fmt: skip
    figure.update_xaxes(title={"text": "clock, h"})
    figure.update_yaxes(title={"text": "kW"}, secondary_y=False)
    figure.update_yaxes(title_text="state of charge", range=[0, 1.02], secondary_y=True,
                        showgrid=False, tickmode="auto")  # fmt: skip
    return describe(figure, f"Power and state of charge of the car at port {port}.")
