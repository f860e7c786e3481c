"""From transmission results to feeder cases: head voltage, load and cars of one feeder of a bus."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm import data
from evcm.arrays import FloatArray, freeze
from evcm.errors import Checks
from evcm.feeder.ieee13 import FeederModel, circuit

COLUMNS = ("period", "bus", "v_pu", "load_mw", "ev_mw")
LABELS = ("scenario", "side", "regime", "bus")
HEAD_RANGE_PU = (0.5, 1.5)

NO_LOAD_MW = 1e-9
"""A bus that never has more load than this, cars apart, has none."""


@dataclass(frozen=True)
class FeederCases:
    """What is asked of the feeder, one entry per solve; arrays are (case,).

    `period` counts from 1, `head_v_pu` is the voltage at the head, `load_scale` the load as a
    multiple of the nominal one, kW and kvar alike, `ev_kw` the power of the cars on one feeder,
    below zero where they feed in. `labels` say where a case comes from, a row each.
    """

    period: NDArray[np.int64]
    head_v_pu: FloatArray
    load_scale: FloatArray
    ev_kw: FloatArray
    labels: pd.DataFrame = field(default_factory=pd.DataFrame)
    period_h: float = 0.5

    def __post_init__(self) -> None:
        freeze(self, {"period": int, "head_v_pu": float, "load_scale": float, "ev_kw": float})
        if not len(self.labels.columns):
            object.__setattr__(self, "labels", pd.DataFrame(index=range(len(self.period))))
        c = Checks("feeder cases")
        size = self.period.shape
        c.require(self.period.ndim == 1, "period, shape", size, "(case,)")
        c.require(len(self.period) > 0, "period", size, "at least one case")
        c.require(len(self.labels) == len(self.period), "labels", len(self.labels), f"{size} rows")
        low, high = HEAD_RANGE_PU
        for name in ("head_v_pu", "load_scale", "ev_kw"):
            values = getattr(self, name)
            if c.require(values.shape == size, f"{name}, shape", values.shape, str(size)):
                bad = ~np.isfinite(values)
                if name == "head_v_pu":
                    bad |= (values < low) | (values > high)
                allowed = f"{low}..{high}" if name == "head_v_pu" else "a finite number"
                where = int(np.argmax(bad)) if bad.any() else 0
                c.require(
                    not bad.any(), f"{name}, case {where}", values[where : where + 1], allowed
                )
        bad = self.period < 1
        c.require(not bad.any(), "period", self.period[bad][:1], ">= 1")
        c.require(self.period_h > 0, "period_h", self.period_h, "> 0")
        c.done()

    def __len__(self) -> int:
        return len(self.period)

    def take(self, rows: NDArray[np.int64] | slice) -> FeederCases:
        """The cases at `rows`."""
        labels = self.labels.iloc[rows].reset_index(drop=True)
        return FeederCases(
            self.period[rows], self.head_v_pu[rows], self.load_scale[rows], self.ev_kw[rows],
            labels, self.period_h,
        )  # fmt: skip


def check_transmission(table: pd.DataFrame) -> pd.DataFrame:
    """Check a table of transmission results; return its rows at load buses, columns filled in.

    Columns: period (from 1 on), bus, v_pu, load_mw (cars included), ev_mw (signed power of the
    aggregator, part of load_mw), and optionally nsp_mw (power not supplied, 0), scenario, side,
    regime, period_h (0.5). Buses without load feed no distribution network and are left out. Added
    are base_mw (load without cars) and served_mw (that, less what is not supplied).
    """
    c = Checks("transmission results")
    for name in COLUMNS:
        found = ", ".join(map(str, table.columns))
        c.require(name in table.columns, f"column {name}", "missing", f"found: {found}")
    c.require(len(table) > 0, "rows", len(table), ">= 1")
    c.done()
    filled = table.reset_index(drop=True).copy()
    if "nsp_mw" not in filled.columns:
        filled["nsp_mw"] = 0.0
    if "period_h" not in filled.columns:
        filled["period_h"] = 0.5
    for name in LABELS:
        if name not in filled.columns:
            filled[name] = "all"
    for name in (*COLUMNS, "nsp_mw"):
        bad = ~np.isfinite(filled[name].to_numpy(dtype=float))
        row = int(np.argmax(bad))
        c.require(
            not bad.any(),
            f"column {name}, row {row + 1}",
            filled[name].iloc[row],
            "a finite number",
        )
    c.done()
    filled["base_mw"] = filled["load_mw"] - filled["ev_mw"]
    loaded = filled.loc[filled["base_mw"].abs() > NO_LOAD_MW, "bus"].unique()
    filled = filled[filled["bus"].isin(loaded)].reset_index(drop=True)
    c.require(len(filled) > 0, "bus", table["bus"].unique().tolist(), "some bus with load")
    outside = filled["period"] < 1
    c.require(not outside.any(), "period", filled["period"][outside].tolist()[:1], ">= 1")
    c.done()
    filled["served_mw"] = filled["base_mw"] - filled["nsp_mw"]
    return filled


def feeders_at_bus(table: pd.DataFrame) -> pd.DataFrame:
    """How many identical feeders a bus needs: columns bus, for_load, for_fleet, feeders.

    ``for_load``: its peak load without cars over the feeder's nominal load, rounded up.
    ``for_fleet``: as many as keep the apparent power of load and cars on each within the rating of
    the feeder's substation transformer (5 MVA). The larger of the two holds, in all rows of the
    bus, so that regimes are compared on the same feeders.
    """
    table = check_transmission(table)
    feeder = circuit(FeederModel())
    rating_mva = data.read_toml("feeder/feeder.toml")["substation_transformer"]["kva"] / 1000
    served = table["served_mw"].to_numpy(float)
    reactive = served * feeder.nominal_kvar / feeder.nominal_kw
    apparent = np.hypot(served + table["ev_mw"].to_numpy(float), reactive)
    frame = pd.DataFrame({"bus": table["bus"], "load": table["base_mw"].abs(), "mva": apparent})
    peak = frame.groupby("bus", as_index=False).max()
    for_load = np.maximum(np.ceil(peak["load"] / (feeder.nominal_kw / 1000) - 1e-9), 1).astype(int)
    for_fleet = np.maximum(np.ceil(peak["mva"] / rating_mva - 1e-9), 1).astype(int)
    return pd.DataFrame(
        {
            "bus": peak["bus"],
            "for_load": for_load,
            "for_fleet": for_fleet,
            "feeders": np.maximum(for_load, for_fleet),
        }
    )


def feeder_cases(table: pd.DataFrame, feeders: pd.DataFrame | None = None) -> FeederCases:
    """One feeder of each row's bus: its head takes the bus voltage, load and cars are split evenly.

    Parameters
    ----------
    table : DataFrame
        Transmission results, see `check_transmission`.
    feeders : DataFrame, optional
        Columns bus and feeders; `feeders_at_bus` of `table` by default.

    Returns
    -------
    FeederCases
        In the order of the rows at load buses; labels scenario, side, regime, bus and feeders.
    """
    table = check_transmission(table)
    counts = feeders_at_bus(table) if feeders is None else feeders
    number = table["bus"].map(counts.set_index("bus")["feeders"])
    c = Checks("feeders")
    c.require(
        bool(number.notna().all()) and bool((number >= 1).all()),
        "feeders", table["bus"][number.isna()].tolist()[:3], "at least one feeder at every bus",
    )  # fmt: skip
    c.done()
    n = number.to_numpy(float)
    served = table["served_mw"].to_numpy(float)
    return FeederCases(
        period=table["period"].to_numpy(np.int64),
        head_v_pu=table["v_pu"].to_numpy(float),
        load_scale=served / n / (circuit(FeederModel()).nominal_kw / 1000),
        ev_kw=table["ev_mw"].to_numpy(float) / n * 1000,
        labels=table[list(LABELS)].assign(feeders=n.astype(int)),
        period_h=float(table["period_h"].iloc[0]),
    )
