"""CSV tables with one row per period and one column per bus: EV power in, caps and OPF days out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks
from evcm.network.caps import Caps
from evcm.network.case import Network
from evcm.network.certificate import active_flow_pu, reactive_flow_pu
from evcm.network.opf import OpfDay
from evcm.store.files import read_csv

_BUS_COLUMN = re.compile(r"(?:bus)?_?0*(\d+)(?:_mw)?", re.IGNORECASE)


def bus_column(bus: int) -> str:
    """Name of a bus's column, ``bus04_mw``."""
    return f"bus{bus:02d}_mw"


def read_bus_table(
    path: str | Path,
    periods: int,
    buses: tuple[int, ...] | None = None,
    *,
    complete: bool = False,
) -> dict[int, FloatArray]:
    """Power by period and bus from a CSV file: ``period, bus02_mw, bus03_mw, ...``, MW.

    Parameters
    ----------
    path
        Columns are named ``bus04_mw``; ``bus4``, ``bus4_mw`` and ``4`` are understood too.
    periods
        How many periods there must be; they count from 1.
    buses
        Buses that may have a column; any unless given.
    complete
        Whether each of `buses` needs its column.

    Returns
    -------
    dict of (periods,) arrays by bus, in the order of the periods.

    Raises
    ------
    InputError
        An unknown bus, a missing or repeated column, a period that is absent or there twice, a
        value that is not a finite number.
    """
    table = read_csv(path, ["period"])
    c, column = Checks(str(path)), dict[int, str]()
    allowed = "a column per bus, such as bus02_mw"
    if buses is not None:
        allowed = "a column per aggregator bus: " + ", ".join(map(str, buses))
    for name in map(str, table.columns.drop("period")):
        match = _BUS_COLUMN.fullmatch(name.strip())
        bus = int(match[1]) if match else -1
        known = match is not None and (buses is None or bus in buses)
        if c.require(known, f"column {name}", "unknown bus", allowed):
            c.require(bus not in column, f"column {name}", "repeated bus", "one column per bus")
            column[bus] = name
    for bus in (buses or ()) if complete else ():
        c.require(bus in column, f"column {bus_column(bus)}", "missing", "one column per bus")
    c.require(bool(column) or bool(c.faults), "columns", "no bus", allowed)
    order = _order(c, table["period"].to_numpy(float), periods)
    c.done()
    table = read_csv(path, ["period", *column.values()])
    return {bus: table[name].to_numpy(float)[order] for bus, name in sorted(column.items())}


def read_ev_csv(
    path: str | Path, network: Network, periods: int, complete: bool = True
) -> FloatArray:
    """Power of each aggregator from a CSV file as `read_bus_table` reads it.

    MW, (periods, K), columns as `network.ev_bus`; negative where cars feed in. Unless `complete`, a
    missing column means no cars. Errors are those of `read_bus_table`.
    """
    buses = network.ev_bus_number
    found = read_bus_table(path, periods, buses, complete=complete)
    return np.column_stack([found.get(bus, np.zeros(periods)) for bus in buses])


def read_load_factor_csv(path: str | Path, periods: int) -> FloatArray:
    """Load factors of a day from a CSV file: ``period`` and ``load_factor`` >= 0. (periods,)

    Raises
    ------
    InputError
        A missing column, a period that is absent or there twice, a factor below 0 (each is named).
    """
    table = read_csv(path, ["period", "load_factor"])
    c = Checks(str(path))
    order = _order(c, table["period"].to_numpy(float), periods)
    values = table["load_factor"].to_numpy(float)
    for row in np.flatnonzero(values < 0).tolist():
        where = f"column load_factor, row {row + 1}"
        c.require(False, where, float(values[row]), "a load factor >= 0")
    c.done()
    return np.asarray(values[order])


def _order(c: Checks, period: FloatArray, periods: int) -> IntArray:
    """Row of each period from 1; records a fault unless every period is there once."""
    wanted = np.arange(1, periods + 1)
    lacking = sorted(set(wanted.tolist()) - set(period.tolist()))
    strange = sorted(set(period.tolist()) - set(wanted.tolist()))
    repeated = sorted({float(p) for p in period if (period == p).sum() > 1})
    once = f"each of 1..{periods} once"
    c.require(not lacking, "column period", f"missing {lacking[:5]}", once)
    c.require(not strange, "column period", f"unknown {strange[:5]}", once)
    c.require(not repeated, "column period", f"repeated {repeated[:5]}", once)
    return np.argsort(period, kind="stable")


def opf_table(day: OpfDay) -> pd.DataFrame:
    """An OPF day as a table: totals per period, NSP per PQ bus (MW), and the status."""
    table = system_table(day)
    for k in np.flatnonzero(day.network.sheddable):
        table["nsp_" + bus_column(int(day.network.bus_number[k]))] = day.nsp_mw[:, k]
    table["status"] = [
        f"{status.words} after {n} iterations ({day.method})"
        for status, n in zip(day.status, day.iterations, strict=True)
    ]
    return table


def caps_table(caps: Caps) -> pd.DataFrame:
    """Caps as a table: ``period`` and one column per aggregator bus, MW."""
    columns: dict[str, object] = {"period": np.arange(1, caps.total_mw.size + 1)}
    for k, bus in enumerate(caps.network.ev_bus_number):
        columns[bus_column(bus)] = caps.cap_mw[:, k]
    return pd.DataFrame(columns)


def system_table(day: OpfDay) -> pd.DataFrame:
    """System totals by period: load, generation, power not supplied, losses, lowest voltage."""
    return pd.DataFrame(
        {
            "period": np.arange(1, day.load_mw.size + 1),
            "load_mw": day.load_mw,
            "generation_mw": day.generation_mw,
            "nsp_mw": day.nsp_mw.sum(axis=1),
            "losses_mw": day.losses_mw,
            "v_min_pu": day.v_min_pu,
        }
    )


def bus_table(day: OpfDay, ev_mw: FloatArray) -> pd.DataFrame:
    """State by period and bus: voltage, load, EV power in it, power not supplied.

    See Also
    --------
    OpfDay.to_frame : the same with generation and prices, and without the share of the cars.
    """
    table = day.to_frame()[["period", "bus", "v_pu", "angle_deg", "load_mw", "nsp_mw"]]
    ev = np.zeros(day.v_pu.shape)
    ev[:, day.network.ev_bus] = ev_mw
    table.insert(5, "ev_mw", ev.ravel())
    return table


def flow_table(day: OpfDay) -> pd.DataFrame:
    """Power through every branch by period, MW and MVA, and its share of the branch's limit.

    `flow_mw` enters at the from bus; `flow_mva` is the larger of both ends; `loading` is 0 where
    there is no limit. Equations (47), (48).
    """
    net, angle = day.network, np.deg2rad(day.angle_deg)
    p = active_flow_pu(net, day.v_pu, angle) * net.base_mva
    q = reactive_flow_pu(net, day.v_pu, angle) * net.base_mva
    mva, (periods, branches) = np.hypot(p, q).max(axis=2), p.shape[:2]
    return pd.DataFrame(
        {
            "period": np.repeat(np.arange(1, periods + 1), branches),
            "branch": np.tile(np.arange(1, branches + 1), periods),
            "from_bus": np.tile(net.bus_number[net.branch_from], periods),
            "to_bus": np.tile(net.bus_number[net.branch_to], periods),
            "flow_mw": p[..., 0].ravel(),
            "flow_mva": mva.ravel(),
            "loading": (mva / net.limit_mva).ravel(),
        }
    )
