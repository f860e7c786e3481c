"""The tornado figure: what one assumption at a time does to the results."""

from __future__ import annotations

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from evcm import plots

QUANTITIES: dict[str, str] = {
    "bill_usd": "bill of a day, USD",
    "fed_in_mwh": "energy that cars feed in, MWh a day",
    "nse_mwh": "energy not supplied, MWh a day",
    "first_cars": "first count at which half of the days run short, cars",
}
"""Columns that can be drawn, and their axis titles."""


def tornado(table: pd.DataFrame, what: str) -> go.Figure:
    """Bars of one of `QUANTITIES`, from the value as told to that under each changed assumption.

    The widest stand on top. A setting without a plan, or without any shortage, has no bar. `table`
    is that of `evcm.study.hinges.load`; its first row has no assumption changed.
    """
    base = float(table[what].iloc[0])
    rest = table.iloc[1:]
    rest = rest[np.isfinite(rest[what])]
    rest = rest.iloc[np.argsort(np.abs(rest[what].to_numpy(float) - base), kind="stable")]
    names = rest["what"] + ": " + rest["setting"]
    figure = go.Figure(
        go.Bar(
            y=names, x=rest[what] - base, base=base, orientation="h",
            customdata=rest[what], hovertemplate="%{y}: %{customdata:,.2f}<extra></extra>",
            marker_color=np.where(
                rest["what"] == "others' plans",
                plots.REGIME_COLOURS["equilibrium"], plots.REGIME_COLOURS["apart"],
            ),
        )
    )  # fmt: skip
    figure.add_vline(
        x=base, line_color=plots.REGIME_COLOURS["limit"], line_width=1,
        annotation_text=f"{table['what'].iloc[0]}: {base:,.1f}", annotation_position="top",
    )  # fmt: skip
    figure.update_layout(
        title_text="One assumption at a time", xaxis_title_text=QUANTITIES[what],
        height=160 + 22 * len(rest), hovermode="closest", margin_l=210, yaxis_automargin=True,
    )  # fmt: skip
    return plots.describe(
        figure,
        f"Bars of {QUANTITIES[what]} with one assumption changed at a time, from "
        f"{base:,.1f} as told; widest: {names.iloc[-1] if len(names) else 'none'}.",
    )
