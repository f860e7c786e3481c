"""Tables and times as people really write them: separators, decimal commas, clocks, dates.

A time is a clock hour (``13.5``, ``13:30``, ``13:30:15``, ``25:15`` for a quarter past one of the
next day) or a date with a clock (ISO 8601, or RFC 1123 as in mail and HTTP). A table may start with
a byte-order mark and may be separated by semicolons, tabs or commas; with semicolons or tabs its
numbers may have decimal commas.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray
from evcm.errors import Checks, Fault, InputError

Moment = float | datetime
"""A time as it was written: hours since midnight, or a date with a clock."""

TIMES = "13.5, 13:30, 13:30:15, 2024-03-01T13:30 or Fri, 01 Mar 2024 13:30:00 GMT"
"""What `moment` reads, for messages."""

_CLOCK = re.compile(r"(\d{1,3}):([0-5]\d)(?::([0-5]\d(?:[.,]\d+)?))?")
_HOURS = re.compile(r"\d{1,3}(?:[.,]\d+)?")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?")


def moment(text: str) -> Moment | None:
    """Read a time; None where it is none. See the module for what is read."""
    text = text.strip()
    if found := _CLOCK.fullmatch(text):
        seconds = float((found[3] or "0").replace(",", "."))
        return int(found[1]) + int(found[2]) / 60 + seconds / 3600
    if _HOURS.fullmatch(text):
        return float(text.replace(",", "."))
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        pass
    try:
        # Needs a month by name: the reader of mail dates is lenient about all else.
        return parsedate_to_datetime(text) if re.search(r"\b[A-Z][a-z]{2}\b", text) else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def moments(table: pd.DataFrame, column: str, checks: Checks) -> list[Moment]:
    """Times of a column; every cell that is none, or of another kind, is a fault by row."""
    found = [moment(text) for text in table[column]]
    dated = [isinstance(m, datetime) for m in found]
    zoned = [isinstance(m, datetime) and m.tzinfo is not None for m in found]
    for row, text, m, *kind in zip(table.index, table[column], found, dated, zoned, strict=True):
        if checks.require(m is not None, f"row {row}, {column}", text, TIMES):
            same = kind == [dated[0], zoned[0]]
            checks.require(same, f"row {row}, {column}", text, "the form of the first row")
    return [m for m in found if m is not None]


def midnight(times: Iterable[Moment]) -> datetime | None:
    """Midnight before the earliest date; None where there are clocks only."""
    dates = [m for m in times if isinstance(m, datetime)]
    if not dates:
        return None
    return min(dates).replace(hour=0, minute=0, second=0, microsecond=0)


def hours(times: Sequence[Moment], start: datetime | None) -> FloatArray:
    """Hours since `start` of dates, or of clocks as they stand, (n,)."""
    values = [
        (m - start) / timedelta(hours=1) if isinstance(m, datetime) and start is not None else m
        for m in times
    ]
    return np.array(values, dtype=float)


def numbers(
    table: pd.DataFrame, column: str, checks: Checks, least: float = -math.inf
) -> FloatArray:
    """Numbers of a column, (n,); every cell that is none, or below `least`, is a fault by row."""
    comma = table.attrs.get("separator", ",") != ","
    allowed = "a number" if least == -math.inf else f"a number >= {least:g}"
    values = np.full(len(table), np.nan)
    for n, (row, text) in enumerate(zip(table.index, table[column], strict=True)):
        plain = text.strip()
        if comma and "." not in plain:
            plain = plain.replace(",", ".")
        value = float(plain) if _NUMBER.fullmatch(plain) else math.nan
        good = math.isfinite(value) and value >= least
        if checks.require(good, f"row {row}, {column}", text, allowed):
            values[n] = value
    return values


def read_table(
    path: str | Path, required: Sequence[str], optional: Sequence[str] = ()
) -> pd.DataFrame:
    """Read a table of texts; its index counts rows from 1, ``attrs["separator"]`` is its separator.

    The first line names the columns: those that must and may be there; another one is a fault.

    Raises
    ------
    InputError
        The file is missing or is no table; every column that lacks or is not known, and every row
        with another number of cells.

    See Also
    --------
    moments, numbers : read a column.
    """
    path = Path(path)
    rows, separator = _rows(path)
    names = [name.strip() for name in rows[0][1]]
    checks = Checks(str(path))
    for name in required:
        checks.require(name in names, f"column {name}", "missing", f"found: {', '.join(names)}")
    known = [*required, *optional]
    for name in dict.fromkeys(names):
        if name not in known:
            checks.require(False, f"column {name}", "not used", "one of: " + ", ".join(known))
        checks.require(names.count(name) == 1, f"column {name}", "twice", "once")
    for number, cells in rows[1:]:
        checks.require(len(cells) == len(names), f"row {number}", f"{len(cells)} cells",
                       f"{len(names)}, as the header")  # fmt: skip
    checks.require(len(rows) > 1, "rows", "none", "at least one")
    checks.done()
    table = pd.DataFrame([c for _, c in rows[1:]], columns=names, index=[n for n, _ in rows[1:]])
    table.attrs["separator"] = separator
    return table


def columns(path: str | Path) -> list[str]:
    """Names of a table's columns."""
    return [name.strip() for name in _rows(Path(path))[0][0][1]]


def _rows(path: Path) -> tuple[list[tuple[int, list[str]]], str]:
    """Rows that are not blank, numbered (the header 0), and their separator."""
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing CSV file")])
    try:
        text = decoded(path.read_bytes())
        head = text.lstrip().partition("\n")[0]
        separator = max(";\t,", key=head.count)
        found = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        rows = [cells for cells in found if any(cell.strip() for cell in cells)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(str(path), [Fault("content", str(error), "a CSV table")]) from error
    if not rows:
        raise InputError(str(path), [Fault("content", "empty", "a CSV table")])
    return list(enumerate(rows)), separator


def decoded(content: bytes) -> str:
    """Text in UTF-8 or UTF-16, with or without a byte-order mark."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16")
    return content.decode("utf-8-sig")
