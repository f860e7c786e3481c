"""CSV tables with one row per period and one column per bus: EV power in, caps and OPF days out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm.arrays import FloatArray
from evcm.errors import Checks, Fault, InputError
from evcm.network import opf
from evcm.network.caps import Caps
from evcm.network.case import Network
from evcm.network.opf import OpfDay
from evcm.store.files import read_csv

PERIODS = 48

_BUS_COLUMN = re.compile(r"(?:bus)?_?0*(\d+)(?:_mw)?", re.IGNORECASE)


def bus_column(bus: int) -> str:
    """Name of a bus's column, ``bus04_mw``."""
    return f"bus{bus:02d}_mw"


def read_ev_csv(path: str | Path, network: Network, complete: bool = True) -> FloatArray:
    """Power of each aggregator from a CSV file: ``period`` 1..48 and one column per bus, MW.

    Parameters
    ----------
    path
        Columns are named ``bus04_mw``; ``bus4``, ``bus4_mw`` and ``4`` are understood too.
    network
        Columns must name its aggregator buses.
    complete
        Whether every aggregator needs its column; otherwise a missing one means no cars.

    Returns
    -------
    (48, n_ev) array, columns as `network.ev_bus`.

    Raises
    ------
    InputError
        An unknown bus, a missing or repeated column, periods other than 1..48 once each, a value
        that is not a finite number.
    """
    table = read_csv(path, ["period"])
    c = Checks(str(path))
    known, column = network.ev_bus_number, {}
    for name in table.columns:
        if name == "period":
            continue
        match = _BUS_COLUMN.fullmatch(str(name).strip())
        bus = int(match.group(1)) if match else -1
        allowed = "a column per aggregator bus: " + ", ".join(map(str, known))
        if c.require(bus in known, f"column {name}", "unknown bus", allowed):
            c.require(bus not in column, f"column {name}", "repeated bus", "one column per bus")
            column[bus] = str(name)
    for bus in known if complete else ():
        c.require(bus in column, f"column {bus_column(bus)}", "missing", "one column per bus")
    row_of = check_periods(c, table["period"].to_numpy(float))
    c.done()
    table = read_csv(path, ["period", *column.values()])
    power = np.zeros((PERIODS, len(known)))
    for k, bus in enumerate(known):
        if bus in column:
            power[:, k] = table[column[bus]].to_numpy(float)[row_of]
    return power


def read_load_factor_csv(path: str | Path) -> FloatArray:
    """Load factors of a day from a CSV file: ``period`` 1..48 and ``load_factor`` >= 0. (48,)"""
    table = read_csv(path, ["period", "load_factor"])
    c = Checks(str(path))
    row_of = check_periods(c, table["period"].to_numpy(float))
    values = table["load_factor"].to_numpy(float)
    bad = np.flatnonzero(values < 0)
    if bad.size:
        where = f"column load_factor, row {int(bad[0]) + 1}"
        c.require(False, where, float(values[bad[0]]), "a load factor >= 0")
    c.done()
    return np.asarray(values[row_of])


def check_periods(c: Checks, period: FloatArray) -> NDArray[np.int64]:
    """Row of each period 1..48; records a fault unless every period is there once."""
    wanted = np.arange(1, PERIODS + 1)
    lacking = sorted(set(wanted.tolist()) - set(period.tolist()))
    strange = sorted(set(period.tolist()) - set(wanted.tolist()))
    repeated = sorted({float(p) for p in period if (period == p).sum() > 1})
    once = f"each of 1..{PERIODS} once"
    c.require(not lacking, "column period", f"missing {lacking[:5]}", once)
    c.require(not strange, "column period", f"unknown {strange[:5]}", once)
    c.require(not repeated, "column period", f"repeated {repeated[:5]}", once)
    return np.argsort(period, kind="stable")


def opf_table(day: OpfDay) -> pd.DataFrame:
    """An OPF day as a table: totals per period, NSP per PQ bus (MW), and the status."""
    columns: dict[str, object] = {
        "period": np.arange(1, day.load_mw.size + 1),
        "load_mw": day.load_mw,
        "generation_mw": day.generation_mw,
        "nsp_mw": day.nsp_mw.sum(axis=1),
        "losses_mw": day.losses_mw,
        "v_min_pu": day.v_min_pu,
    }
    for k in np.flatnonzero(day.network.sheddable):
        columns["nsp_" + bus_column(int(day.network.bus_number[k]))] = day.nsp_mw[:, k]
    columns["status"] = list(day.status)
    return pd.DataFrame(columns)


def caps_table(caps: Caps) -> pd.DataFrame:
    """Caps as a table: ``period`` and one column per aggregator bus, MW."""
    columns: dict[str, object] = {"period": np.arange(1, caps.total_mw.size + 1)}
    for k, bus in enumerate(caps.network.ev_bus_number):
        columns[bus_column(bus)] = caps.cap_mw[:, k]
    return pd.DataFrame(columns)


def system_table(day: opf.OpfDay) -> pd.DataFrame:
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


def bus_table(day: opf.OpfDay, ev_mw: FloatArray) -> pd.DataFrame:
    """State by period and bus: voltage, load, EV power in it, power not supplied."""
    numbers = day.network.bus_number
    periods = day.load_mw.size
    ev = np.zeros(day.v_pu.shape)
    ev[:, day.network.ev_bus] = ev_mw
    return pd.DataFrame(
        {
            "period": np.repeat(np.arange(1, periods + 1), len(numbers)),
            "bus": np.tile(np.asarray(numbers), periods),
            "v_pu": day.v_pu.ravel(),
            "angle_deg": day.angle_deg.ravel(),
            "load_mw": day.load_p_mw.ravel(),
            "ev_mw": ev.ravel(),
            "nsp_mw": day.nsp_mw.ravel(),
        }
    )


def read_bus_table(
    path: str | Path, periods: int = 48, buses: tuple[int, ...] | None = None
) -> dict[int, np.ndarray]:
    """Read a CSV of power by period and bus: ``period, bus02_mw, bus03_mw, ...``.

    Returns each bus's vector in the order of the periods 1..`periods`. With `buses`, any other
    bus is refused; a bus that the file leaves out is absent from the result.

    Raises
    ------
    InputError
        A missing column, an unknown bus, a period that is absent or there twice, or a value that is
        not a number.
    """
    table = read_csv(path, ["period"])
    faults = []
    columns: dict[int, str] = {}
    for name in table.columns.drop("period"):
        match = re.fullmatch(r"bus_?0*(\d+)(_mw)?", str(name).strip().lower())
        if match is None:
            faults.append(Fault(f"column {name}", "unknown", "period, or a bus such as bus02_mw"))
        elif buses is not None and int(match[1]) not in buses:
            allowed = "a bus of " + ", ".join(map(str, buses))
            faults.append(Fault(f"column {name}", f"bus {int(match[1])}", allowed))
        elif int(match[1]) in columns:
            faults.append(Fault(f"column {name}", f"bus {int(match[1])} twice", "each bus once"))
        else:
            columns[int(match[1])] = str(name)
    found = table["period"].to_numpy(dtype=float)
    if sorted(found.tolist()) != list(range(1, periods + 1)):
        odd = sorted(set(range(1, periods + 1)) ^ set(found.tolist()))
        what = f"missing or unknown: {odd[:5]}" if odd else "a period twice"
        faults.append(Fault("column period", what, f"each of 1..{periods} once"))
    if not faults and not columns:
        faults.append(Fault("columns", "no bus", "at least one column such as bus02_mw"))
    if faults:
        raise InputError(str(path), faults)
    table = read_csv(path, ["period", *columns.values()]).sort_values("period")
    return {bus: table[name].to_numpy(dtype=float) for bus, name in sorted(columns.items())}
