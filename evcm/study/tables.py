"""The paper's Tables 2 to 5, made from a study's results (Table 1 is `montecarlo.table_1`)."""

from __future__ import annotations

import pandas as pd

from evcm.trips.montecarlo import SIDES

SYSTEM_ROWS = {
    "energy_demand_mwh": "Energy demand [MWh]",
    "peak_load_mw": "Peak load [MW]",
    "load_factor": "Load factor",
    "power_supplied_mwh": "Energy supplied [MWh]",
    "losses_mwh": "Losses [MWh]",
    "nse_mwh": "NSE [MWh]",
    "max_nsp_mw": "Maximum NSP [MW]",
    "nsp_buses": "Buses with NSP",
}
"""Quantities of Tables 3 and 5, and how they are headed."""


def energy_by_bus(aggregators: pd.DataFrame, regime: str) -> pd.DataFrame:
    """Tables 2 and 4: day-ahead energy (MWh a day) by bus, a column per scenario and side."""
    rows = aggregators[aggregators["regime"] == regime]
    table = rows.pivot_table(index="bus", columns=["scenario", "side"], values="energy_mwh")
    order = [(s, side) for s in sorted(rows["scenario"].unique()) for side in SIDES]
    return table[[column for column in order if column in table.columns]]


def system_summary(system: pd.DataFrame, transmission: pd.DataFrame) -> pd.DataFrame:
    """Tables 3 and 5 in tidy form: one row per scenario, side and regime, the day's totals.

    `system` has the length of its periods in the column ``period_h``.
    """
    keys = ["scenario", "side", "regime"]
    rows = []
    short = transmission[transmission["nsp_mw"] > NEGLIGIBLE_MW]
    for case, day in system.groupby(keys, sort=False):
        mine = short[(short[keys] == list(case)).all(axis=1)]
        dt = float(day["period_h"].iloc[0])
        rows.append(
            {
                **dict(zip(keys, case, strict=True)),
                "energy_demand_mwh": day["load_mw"].sum() * dt,
                "peak_load_mw": day["load_mw"].max(),
                "load_factor": day["load_mw"].mean() / day["load_mw"].max(),
                "power_supplied_mwh": day["generation_mw"].sum() * dt,
                "losses_mwh": day["losses_mw"].sum() * dt,
                "nse_mwh": mine["nsp_mw"].sum() * dt,
                "max_nsp_mw": mine.groupby("period")["nsp_mw"].sum().max() if len(mine) else 0.0,
                "nsp_buses": ", ".join(map(str, sorted(mine["bus"].unique()))),
                "v_min_pu": day["v_min_pu"].min(),
            }
        )
    return pd.DataFrame(rows)


NEGLIGIBLE_MW = 1e-4
"""Less than 100 W not supplied is rounding of an interior point, not a shortage."""
