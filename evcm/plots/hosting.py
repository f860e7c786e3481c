"""Figures of hosting capacity: shortage against the number of cars, regime by regime."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evcm import plots
from evcm.plots.cover import number, regime_name

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "title": "Hosting capacity of the network", "cars": "cars",
        "nse": "energy not supplied, MWh a day",
        "alt": "Energy not supplied in a day against the number of cars, with bands over the days "
               "and fleets drawn. It begins at the median of {said} cars; under caps it stays 0.",
    },
    "es": {
        "title": "Capacidad de alojamiento de la red", "cars": "vehículos",
        "nse": "energía no suministrada, MWh al día",
        "alt": "Energía no suministrada en un día según el número de vehículos, con bandas sobre "
               "los días y las flotas. Empieza en la mediana de {said} vehículos; con límites "
               "sigue en 0.",
    },
}  # fmt: skip
"""Words of the planner's figure by language."""

QUANTITIES: dict[str, str] = {
    "nse_mwh": "energy not supplied, MWh a day",
    "peak_mw": "peak of the system, MW",
    "losses_mwh": "losses, MWh a day",
    "v_min_pu": "lowest voltage, pu",
}
"""Columns that can be drawn against the number of cars, and their axis titles."""

OPTIMISED = ("apart", "equilibrium", "proportional", "joint")


def _own(points: pd.DataFrame, regime: str, charger_kw: float, share: float) -> pd.DataFrame:
    at = (points["regime"] == regime) & (points["charger_kw"] == charger_kw)
    rows = points[at & (points["v2g_share"] == share) & points["feasible"]]
    return rows.sort_values("cars")


def _band(figure: go.Figure, x: np.ndarray, low: np.ndarray, high: np.ndarray, colour: str) -> None:
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself",
        fillcolor=colour, opacity=0.15, line_width=0, hoverinfo="skip", showlegend=False,
        mode="lines",
    )  # fmt: skip


def slide(
    tables: dict[str, pd.DataFrame], first: pd.DataFrame, charger_kw: float, language: str = "en"
) -> go.Figure:
    """The planner's figure: NSE against the number of cars, and where each regime starts to fail.

    `tables` are those of `evcm.study.hosting.run`, `first` is `evcm.study.hosting.first_counts` of
    them, `language` is ``en`` or ``es``.
    """
    words = WORDS[language]
    figure = go.Figure()
    free = tables["uncontrolled"]
    free = free[free["charger_kw"] == charger_kw].sort_values("cars")
    x = free["cars"].to_numpy(float)
    colour = plots.REGIME_COLOURS["uncontrolled"]
    _band(figure, x, free["nse_low_mwh"].to_numpy(), free["nse_high_mwh"].to_numpy(), colour)
    figure.add_scatter(
        x=x, y=free["nse_mwh"], name=regime_name("uncontrolled", language), line_color=colour,
        hovertemplate="%{y:.1f} MWh",
    )  # fmt: skip
    for regime in OPTIMISED:
        by_count = _own(tables["points"], regime, charger_kw, 1.0).groupby("cars")["nse_mwh"]
        mean, low, high = by_count.mean(), by_count.min(), by_count.max()
        xs = np.concatenate([[0.0], mean.index.to_numpy(float)])
        zero = np.zeros(1)
        colour = plots.REGIME_COLOURS[regime]
        _band(figure, xs, np.r_[zero, low.to_numpy()], np.r_[zero, high.to_numpy()], colour)
        figure.add_scatter(
            x=xs, y=np.r_[zero, mean.to_numpy()], name=regime_name(regime, language),
            mode="lines+markers",
            line_color=colour, hovertemplate="%{y:.1f} MWh",
        )  # fmt: skip
    _mark_first(figure, first, language)
    figure.update_layout(
        title_text=words["title"], height=480, yaxis_title_text=words["nse"],
        xaxis={"title": {"text": words["cars"]}, "range": [0, 1.02 * x.max()]},
    )  # fmt: skip
    starts = first.set_index("regime")["median"]
    said = "; ".join(
        f"{regime_name(str(regime), language)} {number(count, language)}"
        for regime, count in starts.items()
        if np.isfinite(count)
    )
    return plots.describe(figure, words["alt"].format(said=said))


def _mark_first(figure: go.Figure, first: pd.DataFrame, language: str) -> None:
    """Shade the range in which a regime starts to fail, and name its median right of the lines."""
    drawn = first[np.isfinite(first["median"]) & np.isfinite(first["p95"])].sort_values("median")
    right = drawn["median"][drawn["median"] < 2 * drawn["median"].min()].max()
    for k, (regime, median, low, high) in enumerate(
        drawn[["regime", "median", "p05", "p95"]].itertuples(index=False)
    ):
        colour = plots.REGIME_COLOURS[regime]
        figure.add_vrect(x0=low, x1=high, fillcolor=colour, opacity=0.12, line_width=0)
        figure.add_vline(x=median, line_dash="dash", line_color=colour)
        figure.add_annotation(
            x=max(median, right), y=1, yref="paper", xanchor="left", yanchor="top", xshift=6,
            yshift=-20 * k, showarrow=False, font_color=colour,
            text=f"{regime_name(regime, language)}: {number(median, language)}",
        )  # fmt: skip


def quantity(
    tables: dict[str, pd.DataFrame], what: str, charger_kw: float, v2g_share: float = 1.0
) -> go.Figure:
    """One of `QUANTITIES` against the number of cars, at one charger power and V2G share.

    `tables` are those of `evcm.study.hosting.run`; regimes without points there are left out.
    """
    figure = go.Figure()
    free = tables["uncontrolled"]
    free = free[free["charger_kw"] == charger_kw].sort_values("cars")
    if len(free):
        figure.add_scatter(
            x=free["cars"], y=free[what], name="uncontrolled",
            line_color=plots.REGIME_COLOURS["uncontrolled"], hovertemplate="%{y:.4g}",
        )  # fmt: skip
    for regime in OPTIMISED:
        rows = _own(tables["points"], regime, charger_kw, v2g_share)
        mean = rows.groupby("cars")[what].mean()
        if len(mean):
            figure.add_scatter(
                x=mean.index, y=mean, name=regime, mode="lines+markers",
                line_color=plots.REGIME_COLOURS[regime], hovertemplate="%{y:.4g}",
            )  # fmt: skip
    figure.update_layout(
        title_text=f"Chargers of {charger_kw:g} kW, {100 * v2g_share:.0f} % of the cars feed in",
        xaxis={"title": {"text": "cars"}, "range": [0, 30_500]},
        yaxis_title_text=QUANTITIES[what], height=400,
    )  # fmt: skip
    return plots.describe(figure, f"{QUANTITIES[what]} against the number of cars by regime.")


def first_days(first: pd.DataFrame, charger_kw: float) -> go.Figure:
    """Share of days on which uncontrolled charging leaves power unsupplied, by number of cars.

    `first` is the table ``uncontrolled_first`` of `evcm.study.hosting.run`.
    """
    x = np.sort(first.loc[first["charger_kw"] == charger_kw, "first_cars"].to_numpy(float))
    share = 100.0 * np.arange(1, x.size + 1) / x.size
    figure = go.Figure()
    figure.add_scatter(
        x=x[np.isfinite(x)], y=share[np.isfinite(x)], name="days with NSE", line_shape="hv",
        line_color=plots.REGIME_COLOURS["uncontrolled"], hovertemplate="%{y:.0f} % of days",
    )  # fmt: skip
    figure.update_layout(
        title_text=f"Days on which uncontrolled charging falls short, {charger_kw:g} kW",
        xaxis_title_text="cars", yaxis_title_text="share of days, %", height=340,
    )  # fmt: skip
    return plots.describe(
        figure, "Share of days with energy not supplied against the number of cars, uncontrolled."
    )


def clamps(curves: pd.DataFrame) -> go.Figure:
    """Energy not supplied under uncontrolled charging, by the latest departure of the trip law.

    `curves` is the table ``clamp`` of `evcm.study.hosting.run`: latest_h, cars, nse_mwh.
    """
    figure = go.Figure()
    for k, (latest, rows) in enumerate(curves.groupby("latest_h")):
        hours, minutes = divmod(round(60 * float(str(latest))), 60)
        figure.add_scatter(
            x=rows["cars"], y=rows["nse_mwh"], name=f"cars leave by {hours:02d}:{minutes:02d}",
            mode="lines+markers", line_color=plots.SERIES[k], hovertemplate="%{y:.2f} MWh",
        )  # fmt: skip
    figure.update_layout(
        title_text="Uncontrolled charging and the clamp of departures", height=380,
        xaxis_title_text="cars", yaxis_title_text=QUANTITIES["nse_mwh"],
    )  # fmt: skip
    return plots.describe(
        figure, "Energy not supplied against the number of cars, for two latest departures."
    )
