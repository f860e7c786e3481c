"""A case in MATPOWER's tables as the fields of a network; every offending row is named."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import Checks
from evcm.network.mfile import COLUMNS

PQ, PV, SLACK = 1, 2, 3
"""Bus types: load bus, generator bus, slack."""

ISOLATED = 4
"""Bus type of a bus that takes no part."""

NO_ANGLE_DEG = 360.0
"""Angle limits this wide are none."""

_TABLES = {
    "bus": (COLUMNS["idx_bus"][2].split(), 13),
    "gen": (COLUMNS["idx_gen"][2].split(), 10),
    "branch": (COLUMNS["idx_brch"][2].split(), 11),
    "dcline": (["F_BUS", "T_BUS", "BR_STATUS", "PF", "PT", "QF", "QT", "VF", "VT", "PMIN", "PMAX",
                "QMINF", "QMAXF", "QMINT", "QMAXT", "LOSS0", "LOSS1"], 17),
}  # fmt: skip
_REFUSED = {
    "storage": "no storage; a period of the OPF knows nothing of the one before",
    "switch": "no switches; join or cut the buses they stand between",
    "A": "no constraints of the user's own",
    "N": "no costs of the user's own",
}
"""Tables that change the answer and are not modelled."""


class _Table:
    """A table of a case by MATPOWER's column names, with the row of the file of every row kept."""

    def __init__(self, checks: Checks, key: str, rows: Any) -> None:
        self.checks, self.key = checks, key
        self.names, need = _TABLES[key]
        if isinstance(rows, np.ndarray) and rows.ndim == 2:
            rows = list(rows)
        good = checks.require(isinstance(rows, list) and len(rows) > 0, f"table {key}",
                              "missing" if rows is None else "no rows",
                              f"{need} columns or more")  # fmt: skip
        values = []
        for i, row in enumerate(rows if good else []):
            cells = row.tolist() if isinstance(row, np.ndarray) else row
            while isinstance(cells, list) and cells and cells[-1] != cells[-1]:  # nan: left out
                cells.pop()
            ok = isinstance(cells, list | tuple) and len(cells) >= need
            found = f"{len(cells)} columns" if isinstance(cells, list | tuple) else cells
            if not checks.require(ok, f"table {key}, row {i + 1}", found, f"{need} or more"):
                continue
            kept = list(cells[: len(self.names)])
            for j, cell in enumerate(kept):
                number = isinstance(cell, int | float) and not isinstance(cell, bool)
                where = f"table {key}, row {i + 1}, {self.names[j]}"
                if not checks.require(number, where, cell, "a number"):
                    kept[j] = 0.0
            values.append(kept + [0.0] * (len(self.names) - len(kept)))
        checks.done()
        self.values = np.array(values, float)
        self.row = np.arange(1, len(values) + 1)

    def __getitem__(self, name: str) -> FloatArray:
        return np.asarray(self.values[:, self.names.index(name)])

    def put(self, name: str, which: BoolArray, values: FloatArray) -> None:
        """Set a column in some rows."""
        self.values[which, self.names.index(name)] = values[which]

    def append(self, **columns: FloatArray) -> None:
        """Add rows of these columns, the others 0."""
        rows = np.zeros((len(next(iter(columns.values()))), len(self.names)))
        for name, values in columns.items():
            rows[:, self.names.index(name)] = values
        self.row = np.concatenate([self.row, self.row.size + 1 + np.arange(len(rows))])
        self.values = np.concatenate([self.values, rows])

    def keep(self, which: BoolArray) -> None:
        """Leave out the other rows."""
        self.values, self.row = self.values[which], self.row[which]

    def each(self, name: str, good: BoolArray, allowed: str) -> None:
        """Record every row whose value is not good."""
        for i in np.flatnonzero(~good):
            value = self[name][i].item()
            value = int(value) if np.isfinite(value) and value == round(value) else value
            where = f"table {self.key}, row {self.row[i]}, {name}"
            self.checks.require(False, where, value, allowed)


def _whole(values: FloatArray) -> BoolArray:
    return np.asarray(np.isfinite(values) & (values == np.round(values)))


def network_fields(name: str, content: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of the network in MATPOWER's tables; column meanings are those of its manual.

    Read: baseMVA and the tables bus, gen and branch in MATPOWER's column order, of versions 1 and
    2. Rows out of service and buses of type 4, with what stands at them, are left out, and nothing
    else. A branch limit (rateA) of 0 means none; so do angle limits that are both 0 or beyond 360
    degrees. A dispatchable load (a generator with Pmin below and Pmax of 0) is served in full, with
    its power factor, whatever the load factor. A DC line of fixed power is a fixed generator at
    each of its ends; one whose power is free is refused. Costs are not read: the objective is (44).

    Raises
    ------
    InputError
        Tables are missing, malformed or contradict each other.
    """
    c = Checks(f"network {name}")
    base = content.get("baseMVA")
    if isinstance(base, np.ndarray | np.generic) and base.size == 1:
        base = base.item()
    number = isinstance(base, int | float) and not isinstance(base, bool)
    base_mva = float(base) if number and base is not None else np.nan
    right = bool(np.isfinite(base_mva) and base_mva > 0)
    c.require(right, "baseMVA", "missing" if base is None else base, "a finite number > 0")
    bus, gen, branch = (_Table(c, key, content.get(key)) for key in ("bus", "gen", "branch"))
    for key, allowed in _REFUSED.items():
        c.require(not np.size(content.get(key, ())), f"table {key}", "rows", allowed)
    _add_dc_lines(c, gen, content.get("dcline"))
    bus.each("BUS_I", _whole(bus["BUS_I"]) & (bus["BUS_I"] >= 0), "a whole number, the bus")
    bus.each("BUS_TYPE", np.isin(bus["BUS_TYPE"], (1, 2, 3, ISOLATED)), "1, 2, 3 or 4")
    first = np.unique(bus["BUS_I"], return_index=True)[1]
    bus.each("BUS_I", np.isin(np.arange(len(bus.row)), first), "each bus once")
    gen.each("GEN_STATUS", np.isfinite(gen["GEN_STATUS"]), "1 in service, 0 out")
    branch.each("BR_STATUS", np.isin(branch["BR_STATUS"], (0, 1)), "1 in service, 0 out")
    gen.keep(gen["GEN_STATUS"] > 0)
    branch.keep(branch["BR_STATUS"] == 1)
    for table, ends in ((gen, ("GEN_BUS",)), (branch, ("F_BUS", "T_BUS"))):
        for end in ends:
            table.each(end, np.isin(table[end], bus["BUS_I"]), "a bus of the table bus")
    c.done()
    away = bus["BUS_I"][bus["BUS_TYPE"] == ISOLATED]
    bus.keep(bus["BUS_TYPE"] != ISOLATED)
    gen.keep(~np.isin(gen["GEN_BUS"], away))
    branch.keep(~np.isin(branch["F_BUS"], away) & ~np.isin(branch["T_BUS"], away))
    branch.each("T_BUS", branch["F_BUS"] != branch["T_BUS"], "another bus than the branch's first")
    zero = (branch["BR_R"] == 0) & (branch["BR_X"] == 0)
    branch.each("BR_X", ~zero, "resistance and reactance not both zero")
    branch.each("RATE_A", branch["RATE_A"] >= 0, "a limit, or 0 for none")
    c.require(len(bus.row) > 0, "table bus", "no bus in service", "at least one")
    c.require(len(branch.row) > 0, "table branch", "no branch in service", "at least one")
    order = np.argsort(bus["BUS_I"])

    def place(numbers: FloatArray) -> IntArray:
        return np.asarray(order[np.searchsorted(bus["BUS_I"], numbers, sorter=order)])

    _serve_dispatchable(gen)
    c.require(len(gen.row) > 0, "table gen", "no generator in service", "at least one")
    c.done()
    at = place(gen["GEN_BUS"])
    kind = bus["BUS_TYPE"].astype(np.int64)
    kind[(kind == PV) & ~np.isin(np.arange(len(kind)), at)] = PQ
    low, high = _angles(branch)
    return dict(  # noqa: C408 (field names as the network has them)
        name=name, base_mva=base_mva, bus_number=bus["BUS_I"].astype(np.int64), bus_type=kind,
        load_p_mw=bus["PD"], load_q_mvar=bus["QD"], shunt_g_mw=bus["GS"], shunt_b_mvar=bus["BS"],
        v_min_pu=bus["VMIN"], v_max_pu=bus["VMAX"],
        branch_from=place(branch["F_BUS"]), branch_to=place(branch["T_BUS"]),
        resistance_pu=branch["BR_R"], reactance_pu=branch["BR_X"], charging_pu=branch["BR_B"],
        tap_ratio=np.where(branch["TAP"] == 0, 1.0, branch["TAP"]), shift_deg=branch["SHIFT"],
        limit_mva=np.where(branch["RATE_A"] == 0, np.inf, branch["RATE_A"]),
        generator_bus=at, p_min_mw=gen["PMIN"], p_max_mw=gen["PMAX"], q_min_mvar=gen["QMIN"],
        q_max_mvar=gen["QMAX"], ev_bus=np.flatnonzero(bus["PD"] > 0), angle_min_deg=low,
        angle_max_deg=high,
    )  # fmt: skip


def _add_dc_lines(c: Checks, gen: _Table, rows: Any) -> None:
    """Add two fixed generators for every DC line in service: what it draws, and what it brings."""
    if rows is None or not np.size(rows):
        return
    line = _Table(c, "dcline", rows)
    line.each("BR_STATUS", np.isin(line["BR_STATUS"], (0, 1)), "1 in service, 0 out")
    line.keep(line["BR_STATUS"] == 1)
    line.each("PMAX", line["PMIN"] == line["PMAX"], "PMIN: only a line of fixed power is modelled")
    brought = line["PMIN"] * (1.0 - line["LOSS1"]) - line["LOSS0"]
    for bus, power, low, high in (
        ("F_BUS", -line["PMIN"], "QMINF", "QMAXF"), ("T_BUS", brought, "QMINT", "QMAXT"),
    ):  # fmt: skip
        gen.append(GEN_BUS=line[bus], GEN_STATUS=line["BR_STATUS"], PMIN=power, PMAX=power,
                   QMIN=line[low], QMAX=line[high])  # fmt: skip


def _angles(branch: _Table) -> tuple[FloatArray, FloatArray]:
    """Angle limits of the branches, infinite where there is none."""
    low, high = branch["ANGMIN"].copy(), branch["ANGMAX"].copy()
    none = (low == 0) & (high == 0)
    low[none | (low <= -NO_ANGLE_DEG)] = -np.inf
    high[none | (high >= NO_ANGLE_DEG)] = np.inf
    return low, high


def _serve_dispatchable(gen: _Table) -> None:
    """Fix dispatchable loads at all they may draw, with the reactive power that goes along."""
    flexible = (gen["PMIN"] < 0) & (gen["PMAX"] == 0)
    q_min, q_max = gen["QMIN"], gen["QMAX"]
    gen.each("QMIN", ~flexible | (q_min == 0) | (q_max == 0),
             "0 for it or for QMAX: a dispatchable load has one power factor")  # fmt: skip
    gen.put("PMAX", flexible, gen["PMIN"])
    for name in ("QMIN", "QMAX"):
        gen.put(name, flexible, q_min + q_max)
