"""Read tables, TOML files and times as people write them; every fault names its file and line.

One reader for all files of a study: tables with commas, semicolons or tabs between the columns,
decimal commas where semicolons separate, a byte-order mark or none, comments after ``#``; times as
HH:MM or HH:MM:SS, ISO with or without a zone, or RFC 1123. What is not asked for is a fault.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evcm.errors import Checks, Fault, InputError
from evcm.store.times import decoded, moment

Kind = Literal["number", "whole", "text", "clock", "time"]
"""What a column holds: a finite number, a whole number, text, hours of the day, a date and time."""

LARGEST_BYTES = 200_000_000
"""A file larger than this is refused unread."""


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of a text table by name, each (rows,), and the line of every row in its file."""

    path: Path
    columns: Mapping[str, NDArray[Any]] = field(repr=False)
    line: NDArray[np.int64] = field(repr=False)

    def __len__(self) -> int:
        return int(self.line.size)

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def where(self, row: int, column: str = "") -> str:
        """File, line and column of a row (counted from 0), for messages."""
        place = f"{self.path}, line {self.line[row]}"
        return f"{place}, column {column}" if column else place


def read_text(path: str | Path) -> str:
    """Text of a file in UTF-8, with or without a byte-order mark.

    Raises
    ------
    InputError
        The file is missing, is no file, is too large, cannot be read, or is not UTF-8 text.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing file")])
    try:
        size = path.stat().st_size
        text = decoded(path.read_bytes()) if size <= LARGEST_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), [Fault("content", str(error), "UTF-8 text")]) from error
    if size > LARGEST_BYTES:
        raise InputError(str(path), [Fault("size", size, "at most 200 MB")])
    if "\0" in text:
        raise InputError(str(path), [Fault("content", "a zero byte", "text")])
    return text


def read_table(
    path: str | Path,
    required: Mapping[str, Kind],
    optional: Mapping[str, Kind] | None = None,
    others: Kind | None = None,
    at_least: int = 1,
) -> Table:
    """Read a table of text; the first line that is no comment names the columns.

    `required` and `optional` are the kinds of columns by name, `others` that of columns under any
    other name; None: such a column is a fault. There must be `at_least` so many rows.

    Raises
    ------
    InputError
        All faults found, each with its line: columns that lack, are unknown or come twice, rows
        that are too long or too short, values of another kind.
    """
    path = Path(path)
    kinds = dict(required) | dict(optional or {})
    numbered = [
        (number, line)
        for number, line in enumerate(read_text(path).splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    c = Checks(str(path))
    c.require(bool(numbered), "content", "nothing", "a line of column names, then rows")
    c.done()
    separator = max(";\t,", key=numbered[0][1].count)
    cells = [(n, [cell.strip() for cell in _split(line, separator)]) for n, line in numbered]
    number, names = cells[0]
    for name in dict.fromkeys(names):
        c.require(names.count(name) == 1, f"line {number}, column {name}", "twice", "once")
        known = name in kinds or others is not None
        c.require(known, f"line {number}, column {name}", "unknown", ", ".join(kinds))
    for name in required:
        c.require(name in names, f"line {number}, column {name}", "missing", ", ".join(names))
    c.done()
    rows = cells[1:]
    for line, row in rows:
        c.require(len(row) == len(names), f"line {line}", f"{len(row)} cells", f"{len(names)}")
    c.require(len(rows) >= at_least, "rows", len(rows), f">= {at_least}")
    c.done()
    columns: dict[str, NDArray[Any]] = {}
    for k, name in enumerate(names):
        kind = kinds.get(name, others)
        assert kind is not None
        found = []
        for line, row in rows:
            value = convert(row[k], kind, decimal_comma=separator != ",")
            c.require(value is not None, f"line {line}, column {name}", row[k], ALLOWED[kind])
            found.append(value)
        if not any(value is None for value in found):
            columns[name] = np.array(found, dtype=_DTYPE[kind])
    c.done()
    return Table(path, columns, np.array([line for line, _ in rows], dtype=np.int64))


def _split(line: str, separator: str) -> list[str]:
    if '"' not in line:
        return line.split("#", 1)[0].split(separator)
    return next(csv.reader([line], delimiter=separator))


ALLOWED: dict[Kind, str] = {
    "number": "a finite number",
    "whole": "a whole number",
    "text": "text",
    "clock": "a time such as 07:30, or hours such as 7.5",
    "time": "a time such as 2019-03-01T07:30:00Z, 2019-03-01 07:30, Fri, 01 Mar 2019 07:30:00 GMT",
}
"""What a message says is allowed, by kind."""

_DTYPE: dict[Kind, Any] = {
    "number": np.float64, "whole": np.int64, "text": object, "clock": np.float64, "time": object,
}  # fmt: skip


def convert(text: str, kind: Kind, decimal_comma: bool = False) -> Any:
    """The value of a cell, or None where it is none of its kind."""
    if kind == "text":
        return text
    if kind in ("time", "clock"):
        found = moment(text)
        return found if isinstance(found, datetime) == (kind == "time") else None
    if decimal_comma:
        text = text.replace(",", ".")
    if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?|[+-]?inf", text):
        return None
    value = float(text)
    if kind == "whole":
        return int(value) if abs(value) < 2**53 and value == math.floor(value) else None
    return value


class Toml:
    """A TOML file whose values are taken key by key; what is left at the end is a fault.

    Faults go into `checks`, each with file and line. A value at fault is replaced by None, so that
    all faults of a file are found in one pass: use what was taken after ``checks.done()`` only.
    """

    def __init__(self, path: str | Path, checks: Checks, label: str = "") -> None:
        self.path, self.checks = Path(path), checks
        self.label = label or str(path)
        self.text = read_text(path)
        try:
            self.content: dict[str, Any] = tomllib.loads(self.text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(self.label, [Fault("content", str(error), "TOML")]) from error
        self._taken: set[tuple[str | int, ...]] = set()

    def line(self, *keys: str | int) -> str:
        """``, line 7`` of a key where it can be found in the text, else nothing."""
        name = next((k for k in reversed(keys) if isinstance(k, str)), "")
        return self._line(keys, [k for k in keys[:-1] if isinstance(k, str)], [name])

    def line_below(self, keys: Sequence[str | int], field: str) -> str:
        """The same of a key that a field's words name: in a table or below it, else at the top."""
        tables = [k for k in keys if isinstance(k, str)]
        names = re.findall(r"\w+", field)
        return self._line(keys, tables, names, below=True) or self._line((), [], names)

    def _line(
        self, keys: Sequence[str | int], tables: list[str], names: list[str], below: bool = False
    ) -> str:
        table, section, seen = ".".join(tables), "", -1
        at = next((i for i, k in enumerate(keys) if isinstance(k, int)), None)
        array = None if at is None else ".".join(map(str, keys[:at]))  # [[class]], of one index
        key = re.compile(rf"\s*[\"']?({'|'.join(map(re.escape, names))})[\"']?\s*=")
        for number, line in enumerate(self.text.splitlines(), 1):
            head = re.match(r"\s*\[+\s*([\w.\-\"' ]+?)\s*\]+", line)
            if head:
                section = head[1].replace('"', "").replace(" ", "")
                seen += section == array and line.lstrip().startswith("[[")
            here = at is None or seen == keys[at]
            inside = section == table or (below and section.startswith(f"{table}."))
            is_head = bool(head) and not below and section == ".".join([*tables, *names])
            if here and (is_head or (inside and key.match(line))):
                return f", line {number}"
        return ""

    def fault(self, keys: Sequence[str | int], value: object, allowed: str) -> None:
        """Record a fault of a key."""
        name = ".".join(str(k + 1) if isinstance(k, int) else k for k in keys)
        self.checks.require(False, f"{self.label}{self.line(*keys)}: {name}", value, allowed)

    def get(self, *keys: str | int) -> Any:
        """The raw value of a key, None where it is absent."""
        self._taken.add(keys)
        value: Any = self.content
        for key in keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def number(
        self, *keys: str | int, low: float = -math.inf, high: float = math.inf,
        above: float | None = None, default: float | None = None, whole: bool = False,
    ) -> Any:  # fmt: skip
        """A finite number of ``low..high`` (and > `above`)."""
        value = self.get(*keys)
        if value is None and default is not None:
            return default
        allowed = "a whole number" if whole else "a number"
        if above is not None:
            allowed += f" > {above:g}"
        elif low > -math.inf:
            allowed += f" >= {low:g}"
        if high < math.inf:
            allowed += f", at most {high:g}"
        good = isinstance(value, int) or (isinstance(value, float) and not whole)
        good = good and not isinstance(value, bool) and abs(value) < 1e300
        good = good and low <= value <= high and (above is None or value > above)
        if good:
            return value if whole else float(value)
        self.fault(keys, "missing" if value is None else value, allowed)
        return None

    def flag(self, *keys: str | int, default: bool | None = None) -> Any:
        """``true`` or ``false``."""
        value = self.get(*keys)
        if value is None and default is not None:
            return default
        if isinstance(value, bool):
            return value
        self.fault(keys, "missing" if value is None else value, "true or false")
        return None

    def text_of(
        self, *keys: str | int, among: Iterable[str] | None = None, default: str | None = None
    ) -> Any:
        """A text, one of `among` where that is given."""
        value = self.get(*keys)
        if value is None and default is not None:
            return default
        choices = None if among is None else list(among)
        if isinstance(value, str) and (choices is None or value in choices):
            return value
        allowed = "a text in quotes" if choices is None else ", ".join(choices)
        self.fault(keys, "missing" if value is None else value, allowed)
        return None

    def numbers(self, *keys: str | int, size: int | None = None, default: Any = None) -> Any:
        """A tuple of finite numbers, `size` of them where that is given."""
        value = self.get(*keys)
        if value is None and default is not None:
            return default
        good = isinstance(value, list) and all(
            isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) < 1e300
            for v in value
        )
        if good and (size is None or len(value) == size):
            return tuple(value)
        count = "" if size is None else f"{size} "
        self.fault(keys, "missing" if value is None else value, f"a list of {count}numbers")
        return None

    def tables(self, *keys: str | int, at_least: int = 1) -> int:
        """How many ``[[key]]`` tables there are."""
        value = self.get(*keys)
        self._taken.discard(keys)
        if value is None and at_least == 0:
            return 0
        good = isinstance(value, list) and all(isinstance(v, dict) for v in value)
        if good and len(value) >= at_least:
            return len(value)
        self.fault(keys, "missing" if value is None else "other", f"[[{keys[-1]}]] tables")
        return 0

    def names(self, *keys: str | int) -> list[str]:
        """Keys of a table of tables such as ``[presets.published]``."""
        value = self.get(*keys)
        self._taken.discard(keys)
        if isinstance(value, dict) and value:
            return list(value)
        self.fault(keys, "missing" if value is None else "other", "one table or more")
        return []

    def finish(self) -> None:
        """Record every key that nobody took: a misspelt key is a fault."""
        allowed = sorted({".".join(k for k in t if isinstance(k, str)) for t in self._taken})
        for keys in self._leaves((), self.content):
            if not any(keys[: len(t)] == t for t in self._taken):
                self.fault(keys, "unknown key", ", ".join(allowed))

    def _leaves(
        self, keys: tuple[str | int, ...], value: Any
    ) -> Iterable[tuple[str | int, ...]]:  # fmt: skip
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                yield from self._leaves((*keys, key), inner)
        elif isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            for k, inner in enumerate(value):
                yield from self._leaves((*keys, k), inner)
        else:
            yield keys
