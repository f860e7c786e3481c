"""Read networks from MATPOWER .m, PYPOWER .py and .json case files, as data: no code is run."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from evcm.arrays import FloatArray
from evcm.errors import Checks, Fault, InputError
from evcm.network.case import PQ, Network

_COLUMNS = {"bus": 13, "gen": 10, "branch": 11}
_ISOLATED = 4


def from_case(case: str | Path) -> Network:
    """A network from a MATPOWER .m, PYPOWER .py or .json file, or a PYPOWER case by name.

    Buses of type 1 may leave load unsupplied; buses with active load have an aggregator. No code
    of the file is run.

    Read: baseMVA and the tables bus, gen and branch in MATPOWER's column order. Rows out of
    service and isolated buses are left out. Costs are not read: the objective is (44). A branch
    limit (rateA) of 0 means no limit.

    Raises
    ------
    InputError
        There is no such file or case, it is of another kind, a table is missing or malformed, or
        the file computes its tables instead of listing them.
    """
    path = Path(case)
    if not path.suffix and not path.exists():
        from evcm.network.pypower import built_in_case

        return _network(str(case), built_in_case(str(case)))
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing case file")])
    readers = {".m": _read_m, ".py": _read_py, ".json": _read_json}
    checks = Checks(str(path))
    checks.require(
        path.suffix in readers, "file type", path.suffix, ".m (MATPOWER), .py or .json (PYPOWER)"
    )
    checks.done()
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(str(path), [Fault("content", str(error), "UTF-8 text")]) from error
    return _network(path.stem, readers[path.suffix](str(path), text))


def _read_m(name: str, text: str) -> dict[str, Any]:
    """Tables of a MATPOWER case: assignments of numbers and matrices of numbers only."""
    text = re.sub(r"%\{.*?%\}", "", text, flags=re.S)
    lines = [re.sub(r"%.*", "", line) for line in text.splitlines()]
    text = "\n".join(re.sub(r"\.\.\.\s*$", " ", line) for line in lines)
    found: dict[str, Any] = {}
    for match in re.finditer(r"\b\w+\.(\w+)\s*=\s*(\[.*?\]|[^;\n]*)", text, flags=re.S):
        key, value = match.group(1), match.group(2).strip()
        if key in _COLUMNS:
            found[key] = _matrix(name, key, value)
        elif key == "baseMVA":
            found[key] = _number(name, key, value)
    computed = re.search(r"\b\w+\.(bus|gen|branch)\s*\([^=\n]*\)\s*=", text)
    if computed:
        raise InputError(
            name,
            [
                Fault(
                    f"table {computed.group(1)}",
                    computed.group(0).strip(),
                    "numbers alone; save the case from MATPOWER with savecase",
                )
            ],
        )
    return found


def _matrix(name: str, key: str, text: str) -> list[list[float]]:
    rows: list[list[float]] = []
    for row in re.split(r"[;\n]", text.strip("[] \t\r\n")):
        cells = row.replace(",", " ").split()
        if cells:
            rows.append([_number(name, f"table {key}, row {len(rows) + 1}", c) for c in cells])
    return rows


def _number(name: str, field: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(name, [Fault(field, text, "a number")]) from None


def _read_json(name: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError as error:
        raise InputError(name, [Fault("content", str(error), "JSON")]) from error
    checks = Checks(name)
    checks.require(isinstance(content, dict), "content", type(content).__name__, "a JSON object")
    checks.done()
    return dict(content)


def _read_py(name: str, text: str) -> dict[str, Any]:
    """Tables of a PYPOWER case: literals assigned to the keys of its dict."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise InputError(name, [Fault("content", str(error), "Python")]) from error
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        pairs: list[tuple[ast.expr | None, ast.expr]] = []
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pairs = [(node.targets[0].slice, node.value)]
        elif isinstance(node, ast.Dict):
            pairs = list(zip(node.keys, node.values, strict=True))
        for key, value in pairs:
            if isinstance(key, ast.Constant) and key.value in (*_COLUMNS, "baseMVA"):
                inner = value.args[0] if isinstance(value, ast.Call) and value.args else value
                try:
                    found[str(key.value)] = ast.literal_eval(inner)
                except ValueError:
                    allowed = "a list of lists of numbers, not a computation"
                    raise InputError(
                        name, [Fault(f"table {key.value}", ast.unparse(inner), allowed)]
                    ) from None
    return found


def _table(name: str, content: dict[str, Any], key: str) -> FloatArray:
    need = _COLUMNS[key]
    rows = content.get(key)
    if rows is None or len(rows) == 0:
        raise InputError(name, [Fault(f"table {key}", "missing", f"{need} columns or more")])
    lengths = [len(row) for row in rows]
    if min(lengths) < need:
        row = lengths.index(min(lengths)) + 1
        raise InputError(
            name,
            [Fault(f"table {key}, row {row}", f"{min(lengths)} columns", f"{need} or more")],
        )
    try:
        return np.array([row[:need] for row in rows], float)
    except (TypeError, ValueError) as error:
        raise InputError(name, [Fault(f"table {key}", str(error), "numbers")]) from error


def _network(name: str, content: dict[str, Any]) -> Network:
    """Build the network from MATPOWER's tables; column meanings are those of its manual."""
    if "baseMVA" not in content:
        raise InputError(name, [Fault("baseMVA", "missing", "a number > 0")])
    bus, gen, branch = (_table(name, content, key) for key in ("bus", "gen", "branch"))
    bus = bus[bus[:, 1] != _ISOLATED]
    numbers = bus[:, 0].astype(np.int64)
    checks = Checks(f"network {name}")
    checks.require(np.unique(numbers).size == numbers.size, "bus numbers", "repeated", "unique")
    index = {int(b): i for i, b in enumerate(numbers)}
    gen = gen[(gen[:, 7] > 0) & np.isin(gen[:, 0], numbers)]
    ends_here = np.isin(branch[:, 0], numbers) & np.isin(branch[:, 1], numbers)
    branch = branch[(branch[:, 10] > 0) & ends_here]
    checks.require(len(gen) > 0, "table gen", "no generator in service", "at least one")
    checks.require(len(branch) > 0, "table branch", "no branch in service", "at least one")
    checks.done()
    place = np.vectorize(lambda b: index[int(b)], otypes=[np.int64])
    at = place(gen[:, 0])
    bus_type = bus[:, 1].astype(np.int64)
    idle = (bus_type == 2) & ~np.isin(np.arange(len(bus)), at)
    bus_type[idle] = PQ
    return Network(
        name=name,
        base_mva=float(content["baseMVA"]),
        bus_number=numbers,
        bus_type=bus_type,
        load_p_mw=bus[:, 2],
        load_q_mvar=bus[:, 3],
        shunt_g_mw=bus[:, 4],
        shunt_b_mvar=bus[:, 5],
        v_min_pu=bus[:, 12],
        v_max_pu=bus[:, 11],
        branch_from=place(branch[:, 0]),
        branch_to=place(branch[:, 1]),
        resistance_pu=branch[:, 2],
        reactance_pu=branch[:, 3],
        charging_pu=branch[:, 4],
        tap_ratio=np.where(branch[:, 8] == 0, 1.0, branch[:, 8]),
        shift_deg=branch[:, 9],
        limit_mva=np.where(branch[:, 5] == 0, np.inf, branch[:, 5]),
        generator_bus=at,
        p_min_mw=gen[:, 9],
        p_max_mw=gen[:, 8],
        q_min_mvar=gen[:, 4],
        q_max_mvar=gen[:, 3],
        ev_bus=np.flatnonzero(bus[:, 2] > 0),
    )
