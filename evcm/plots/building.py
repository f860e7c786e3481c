"""Figures of the building: demand and classes by bay, dispatch, cost by resource, many days."""

from __future__ import annotations

import html
from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evcm import plots
from evcm.building.inputs import Sessions, lay_out
from evcm.building.plan import Plan
from evcm.building.solve import costs

CLASS_COLOURS = {"slow": "#4c8fd6", "semi-fast": "#1a8a7d", "fast": "#d98e04", "car": "#8d5bb5"}
"""Colour of each class of charging."""

GRID, BANK, V2G, DEMAND = "#7f8794", "#8d5bb5", "#5a9e3a", "#d1495b"
CLOCK_AXIS = {"title": {"text": "clock"}, "dtick": 3, "tickangle": 0}
PV_COLOURS = ("#d98e04", "#e6b34d", "#b58900", "#f0cf8e", "#a0522d", "#c06fa8")


def _clock(plan: Plan) -> list[str]:
    return [plan.building.horizon.clock(t) for t in range(plan.building.horizon.periods)]


def demand(plan: Plan) -> go.Figure:
    """Power of all bays together in each period, the counterpart of Figure 2."""
    total = plan.charge_kw.sum(axis=1)
    figure = go.Figure(go.Bar(x=_clock(plan), y=total, marker_color=DEMAND, name="all bays"))
    figure.update_layout(title_text="Demand of the bays", xaxis=CLOCK_AXIS,
                         yaxis_title_text="kW", height=320)  # fmt: skip
    return plots.describe(figure, f"Demand of all bays by period, at most {total.max():.0f} kW.")


def classes(sessions: Sessions, plan: Plan) -> go.Figure:
    """Which class charges at which bay and when, the counterpart of Figure 3."""
    b = plan.building
    number = lay_out(sessions, b.horizon, b.bays).session
    figure = go.Figure()
    for kind in sorted(set(sessions.kind), key=[*CLASS_COLOURS, *sessions.kind].index):
        mine = np.array([n >= 0 and sessions.kind[n] == kind for n in number.ravel()])
        t, bay = np.nonzero(mine.reshape(number.shape) & (plan.charge_kw > 1e-6))
        figure.add_scatter(
            x=[b.horizon.clock(int(k)) for k in t], y=bay + 1, mode="markers",
            name=html.escape(kind),
            marker={"symbol": "square", "size": 15, "color": CLASS_COLOURS.get(kind, GRID)},
            text=[f"{plan.charge_kw[k, j]:.1f} kW" for k, j in zip(t, bay, strict=True)],
            hovertemplate="bay %{y}: %{text}",
        )  # fmt: skip
    figure.update_layout(title_text="Class of charging at each bay", height=320)
    figure.update_xaxes(CLOCK_AXIS, categoryorder="array", categoryarray=_clock(plan))
    figure.update_yaxes(title_text="bay", dtick=1, range=[0.5, b.bays + 0.5])
    return plots.describe(figure, "Squares: which class of charging each bay serves, by period.")


def dispatch(plan: Plan, title: str = "Dispatch") -> go.Figure:
    """Power of each resource and the demand, the counterpart of Figure 4."""
    clock, figure = _clock(plan), go.Figure()
    for k, group in enumerate(plan.building.groups):
        colour = PV_COLOURS[k % len(PV_COLOURS)]
        figure.add_bar(
            x=clock, y=plan.power_kw[:, k], name=html.escape(group.name), marker_color=colour
        )
    figure.add_bar(x=clock, y=plan.grid_kw, name="grid", marker_color=GRID)
    if plan.bank_out_kw.max() + plan.bank_in_kw.max() > 1e-6:
        net = plan.bank_out_kw - plan.bank_in_kw
        figure.add_bar(x=clock, y=net, name="bank", marker_color=BANK)
    if plan.give_kw.max(initial=0.0) > 1e-6:
        figure.add_bar(x=clock, y=plan.give_kw.sum(axis=1), name="V2G", marker_color=V2G)
    figure.add_scatter(x=clock, y=plan.demand_kw, name="demand", mode="lines+markers",
                       line={"color": DEMAND})  # fmt: skip
    figure.update_layout(title_text=title, barmode="relative", xaxis=CLOCK_AXIS,
                         yaxis_title_text="kW", height=380)  # fmt: skip
    return plots.describe(figure, f"{title}: bars of each resource under the line of the demand.")


def cost_by_resource(plans: Mapping[str, Plan]) -> go.Figure:
    """Cost of each resource under each variant, the counterpart of Figure 5."""
    table = pd.DataFrame([costs(p) for p in plans.values()], index=list(plans))
    own = [g.name for g in next(iter(plans.values())).building.groups]
    table.insert(0, "PV maintenance", table[own].sum(axis=1))
    figure = go.Figure()
    for k, name in enumerate(table.columns.drop(own)):
        if table[name].max() > 1e-6:
            figure.add_bar(x=list(plans), y=table[name], name=str(name),
                           marker_color=plots.SERIES[k % len(plots.SERIES)])  # fmt: skip
    figure.update_layout(title_text="Cost of each resource", barmode="stack", height=420,
                         yaxis_title_text="USD/day", legend={"y": -0.45})  # fmt: skip
    sums = table.drop(columns=own).sum(axis="columns")
    total = ", ".join(f"{name} {cost:.2f}" for name, cost in sums.items())
    return plots.describe(figure, f"Stacked bars: cost by resource, USD a day: {total}.")


def days(table: pd.DataFrame) -> go.Figure:
    """Cost of random days as cumulative shares, one line per variant.

    `table` has columns variant and cost_usd, as `evcm.building.solve.distribution` returns.
    """
    figure = go.Figure()
    for k, (name, rows) in enumerate(table.groupby("variant", sort=False)):
        cost = np.sort(rows["cost_usd"].to_numpy(dtype=float))
        share = (np.arange(cost.size) + 1) / cost.size
        figure.add_scatter(x=cost, y=share, mode="lines", name=str(name),
                           line={"shape": "hv", "color": plots.SERIES[k]})  # fmt: skip
    figure.update_layout(title_text="Cost of random days", xaxis_title_text="USD/day",
                         yaxis_title_text="share of days below", height=360)  # fmt: skip
    mean = ", ".join(f"{n} {c:.2f}" for n, c in table.groupby("variant")["cost_usd"].mean().items())
    said = "Cumulative share of random days below a cost, by variant. Means, USD a day"
    return plots.describe(figure, f"{said}: {mean}.")
