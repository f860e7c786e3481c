"""The figure of the cover: how many cars the network hosts, over the bills of a day."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from evcm import plots
from evcm.coordination.regimes import NO_CARS, REGIMES
from evcm.study import seeds

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "cars": "cars", "nse": "energy not supplied, MWh a day", "bill": "bill of the day, USD",
        "title": "{cars} cars, {share} of them feed in",
        "bills": "Bill of the day at {cars} cars, all feed in",
        "none": "At {cars} cars everybody is supplied in every regime. "
                "What differs is the bill: {least} USD {joint}, {apart} USD {alone}.",
        "short": "At {cars} cars, energy not supplied in a day: {list}.",
        "alt": "Energy not supplied against the number of cars by regime, marked at {cars} cars, "
               "over bars of the bill of a day by regime at {bill_cars} cars. {said}",
    },
    "es": {
        "cars": "vehículos", "nse": "energía no suministrada, MWh al día",
        "bill": "costo del día, USD",
        "title": "{cars} vehículos; inyecta el {share}",
        "bills": "Costo del día con {cars} vehículos, todos inyectan",
        "none": "Con {cars} vehículos no falta energía en ningún régimen. "
                "Lo que cambia es el costo: {least} USD {joint}, {apart} USD {alone}.",
        "short": "Con {cars} vehículos, energía no suministrada en un día: {list}.",
        "alt": "Energía no suministrada según el número de vehículos y el régimen, marcada en "
               "{cars} vehículos, sobre barras del costo de un día con {bill_cars} vehículos. "
               "{said}",
    },
}  # fmt: skip
"""Words of the figure by language."""

SPANISH: dict[str, str] = {
    "no cars": "sin vehículos",
    "uncontrolled": "sin control",
    "apart": "por separado",
    "equilibrium": "equilibrio",
    "maximum total": "límites de suma máxima",
    "proportional": "límites proporcionales",
    "max-min fair": "límites máx-mín",
    "re-allocated": "reasignados",
    "joint": "en conjunto",
}
"""Regimes in Spanish."""


LIMITS: dict[str, str] = {
    "generation": "la generación", "branch ratings": "la capacidad de las líneas",
    "voltages": "la tensión", "cap below the trips": "un límite menor que los viajes",
}  # fmt: skip
"""What runs out, in Spanish."""


def regime_name(regime: str, language: str = "en") -> str:
    """A regime in a language: ``en`` or ``es``."""
    return SPANISH.get(regime, regime) if language == "es" else regime


def number(value: float, language: str = "en", decimals: int = 0) -> str:
    """A number as a language writes it: 30,000.5 or 30 000,5."""
    text = f"{value:,.{decimals}f}"
    if language == "es":
        whole, _, rest = text.replace(",", "\u202f").partition(".")
        return f"{whole},{rest}" if rest else whole
    return text


def interval(
    value: float, low: float, high: float, language: str = "en", decimals: int = 0
) -> str:  # fmt: skip
    """A value with its interval: ``912 (834 to 960)``, or ``912 (de 834 a 960)``; alone if NaN."""
    first, least, most = (number(x, language, decimals) for x in (value, low, high))
    if low != low:
        return first
    return f"{first} (de {least} a {most})" if language == "es" else f"{first} ({least} to {most})"


def bills(
    regimes: pd.DataFrame, drawn: pd.DataFrame, language: str = "en", side: str = "max"
) -> dict[str, str]:
    """What the largest fleet's day costs by regime (USD), each with its interval of draws.

    `regimes` is the table of `evcm.study.comparison.load`, `drawn` that of `evcm.study.seeds.load`;
    a regime without draws is left out.
    """
    mine = regimes[(regimes["side"] == side) & (regimes["cars"] == regimes["cars"].max())]
    spread = seeds.intervals(drawn, "paid_usd").reset_index()
    mine = mine.merge(spread, on=["scenario", "side", "regime"])
    return {
        str(row["regime"]): interval(row["paid_usd"], *seeds.around(row["paid_usd"], row), language)
        for _, row in mine.iterrows()
    }


def cover(
    tables: Mapping[str, pd.DataFrame], regimes: pd.DataFrame, charger_kw: float,
    cars: int = 3750, share: float = 1.0, language: str = "en",
) -> tuple[go.Figure, str]:  # fmt: skip
    """Energy not supplied against the number of cars, over the bills, and a sentence about both.

    `tables` are those of `evcm.study.hosting.load`, `regimes` is the table of
    `evcm.study.comparison.load`. The curves, of `charger_kw` and the `share` of cars that feed in,
    are read at `cars`; `language` is ``en`` or ``es``.
    """
    words = WORDS[language]
    curves = _curves(tables, charger_kw, share)
    figure = make_subplots(rows=2, row_heights=[0.6, 0.4], vertical_spacing=0.3)
    for regime, curve in curves.items():
        colour = plots.REGIME_COLOURS[regime]
        figure.add_scatter(
            x=curve.index, y=curve, name=regime_name(regime, language), line_color=colour,
            mode="lines+markers", hovertemplate="%{y:.1f} MWh", row=1, col=1,
        )  # fmt: skip
    figure.add_vline(
        x=cars, line_dash="dot", line_color=plots.REGIME_COLOURS["limit"], row=1, col=1
    )
    studied = regimes["cars"].unique()
    at = int(max((n for n in studied if n <= cars), default=studied.min()))
    bills = _bills(regimes, at)
    names = [regime_name(r, language) for r in bills.index]
    figure.add_bar(
        x=names, y=bills, marker_color=[plots.REGIME_COLOURS[r] for r in bills.index],
        text=[number(v, language) for v in bills], textposition="auto", showlegend=False,
        hovertemplate="%{y:,.0f} USD<extra></extra>", row=2, col=1,
    )  # fmt: skip
    said = _sentence(curves, bills, cars, at, language)
    title = words["title"].format(cars=number(cars, language), share=_percent(share))
    figure.update_layout(
        title_text=title, height=680, hovermode="x unified",
        legend={"y": 0.5, "yanchor": "top"},
        annotations=[{
            "text": words["bills"].format(cars=number(at, language)), "showarrow": False,
            "xref": "paper", "yref": "paper", "x": 0, "y": 0.3, "xanchor": "left",
            "yanchor": "bottom",
        }],
    )  # fmt: skip
    top = max(30.0, max((c.max() for c in curves.values()), default=0.0))
    figure.update_xaxes(range=[0, 30_500], title_text=words["cars"], row=1, col=1)
    figure.update_yaxes(range=[-0.03 * top, 1.05 * top], title_text="MWh", row=1, col=1)
    figure.update_yaxes(title_text="USD", row=2, col=1)
    alt = words["alt"].format(
        cars=number(cars, language), bill_cars=number(at, language), said=said
    )
    return plots.describe(figure, alt), said


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _curves(
    tables: Mapping[str, pd.DataFrame], charger_kw: float, share: float
) -> dict[str, pd.Series]:
    free = tables["uncontrolled"]
    mine = free[free["charger_kw"] == charger_kw].sort_values("cars")
    points = tables["points"]
    own = points[(points["charger_kw"] == charger_kw) & points["feasible"]]
    found = {"uncontrolled": pd.Series(mine["nse_mwh"].to_numpy(), mine["cars"].to_numpy())}
    for regime in REGIMES:
        # Caps leave nothing unsupplied when all cars feed in, and less is at stake when fewer do.
        rows = own[(own["regime"] == regime) & (own["v2g_share"] == share)]
        if len(rows):
            mean = rows.groupby("cars")["nse_mwh"].mean()
            found[regime] = pd.Series([0.0, *mean], [0, *mean.index])
    return found


def _bills(regimes: pd.DataFrame, cars: int) -> pd.Series:
    rows = regimes[(regimes["cars"] == cars) & (regimes["side"] == "max")]
    named = [r for r in REGIMES if r in set(rows["regime"]) and r != NO_CARS.regime]
    return rows.set_index("regime")["paid_usd"].reindex(named)


def _sentence(
    curves: Mapping[str, pd.Series], bills: pd.Series, cars: int, at: int, language: str
) -> str:
    words = WORDS[language]
    short = {r: float(np.interp(cars, c.index, c.to_numpy())) for r, c in curves.items()}
    if max(short.values()) < 0.05:
        best = str(bills.idxmin())
        said = words["none"].format(
            cars=number(cars, language), least=number(bills.min(), language),
            joint=regime_name(best, language), apart=number(bills["apart"], language),
            alone=regime_name("apart", language),
        )  # fmt: skip
        return said if at == cars else said.split(".")[0] + "."
    parts = [f"{regime_name(r, language)} {number(v, language, 1)} MWh" for r, v in short.items()]
    return words["short"].format(cars=number(cars, language), list="; ".join(parts))
