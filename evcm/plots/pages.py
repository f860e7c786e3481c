"""Text of pages: MyST from a cell, tables, displayed formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from evcm.plots import clock
from evcm.plots.html import in_book

ROLE = re.compile(r"\{(ref|cite|py:obj|eq|numref|doc)\}`([^`]+)`")
LINKED = re.compile(r"(.*?)\s*<([^>]+)>", re.DOTALL)


def show(text: str) -> Any:
    """Display MyST text from a cell; outside of the book references become plain words."""
    from IPython.display import Markdown, display

    return display(Markdown(text if in_book() else plain(text)))  # type: ignore[no-untyped-call]


def plain(text: str, titles: Mapping[str, str] | None = None) -> str:
    """MyST text whose references stand as words, for a reader of notebooks.

    `titles` are those of pages by label, and author and year of references by key.
    """
    names = titles or {}

    def words(match: re.Match[str]) -> str:
        role, content = match.groups()
        linked = LINKED.fullmatch(content)
        if role == "py:obj":
            return f"`{linked[1] if linked else content}`"
        if role == "cite":
            return "(" + "; ".join(names.get(key, key) for key in content.split(",")) + ")"
        return linked[1] if linked else names.get(content, content.replace("_", " "))

    return ROLE.sub(words, text)


def display_math(tex: str, tag: str = "") -> str:
    """A displayed formula, with the paper's number as its tag."""
    return f"$$\n{tex}" + (f" \\tag{{{tag}}}" if tag else "") + "\n$$"


NUMBER = re.compile(r"[-+±−]?\d[\d,\u202f]*(\.\d+)?(e[-+]?\d+)?( ?%)?|inf|nan")
"""What counts as a number in a table or beside a slider."""


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; columns of numbers are set to the right."""
    head, cells = list(head), [[str(cell) for cell in row] for row in rows]

    def numeric(column: Iterable[str]) -> bool:
        filled = [cell for cell in column if cell]
        return bool(filled) and all(NUMBER.fullmatch(cell) for cell in filled)

    marks = ["---:" if numeric(c) else "---" for c in zip(*cells, strict=True)] if cells else []
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(marks or ["---"] * len(head)) + "|"]
    lines += ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join(lines)


UNITS = {
    "mwh": "MWh", "mw": "MW", "kwh": "kWh", "kw": "kW", "usd": "USD", "pu": "pu", "percent": "%",
    "h": "h", "km": "km", "mvar": "Mvar", "mva": "MVA", "seconds": "s",
}  # fmt: skip
"""How a table's head writes the unit that ends a column's name."""


def heading(name: Any) -> str:
    """A column's name as words with its unit: ``nse_mwh`` becomes ``NSE, MWh``."""
    if isinstance(name, tuple):
        return " ".join(filter(None, map(heading, name)))
    if not re.fullmatch(r"[a-z0-9_]+", str(name)):
        return str(name)  # words already
    words = str(name).split("_")
    unit = UNITS.get(words[-1], "") if len(words) > 1 else ""
    said = " ".join(words[:-1] if unit else words)
    said = {"v min": "lowest voltage", "v max": "highest voltage"}.get(said, said)
    said = re.sub(r"\b(nse|nsp|ev|pv|vuf|soc)\b", lambda match: match[0].upper(), said)
    return f"{said}, {unit}" if unit else said


def frame(content: Any, digits: int = 2, index: str | None = None, period_h: float = 0.5) -> Any:
    """Display a DataFrame for reading: units in heads, sensible decimals, no row numbers.

    Parameters
    ----------
    content : DataFrame or Series
    digits : int
        Decimals of numbers that are not whole.
    index : str, optional
        Head of the index, which is then shown as the first column; one with a name always is.
    period_h : float
        Length of the periods that a column ``period`` counts from 1: each shows its clock time.
    """
    shown = content.to_frame() if hasattr(content, "to_frame") else content
    if index is not None:
        shown = shown.rename_axis(index)
    if any(name is not None for name in shown.index.names):
        shown = shown.reset_index()

    def cell(value: Any) -> str:
        if isinstance(value, bool) or str(value) in ("True", "False"):
            return "yes" if value else "no"
        if isinstance(value, (float, int)) or hasattr(value, "dtype"):
            whole = float(value).is_integer() and not isinstance(value, float)
            text = f"{value:,.{0 if whole else digits}f}"
            return "" if value != value else re.sub(r"^-(0[.0]*)$", r"\1", text)
        return str(value)

    counted = [name for name in ("bus", "period", "cars") if name in shown]
    shown = shown.astype(dict.fromkeys(counted, int))
    if "period" in shown:
        shown["period"] = [f"{n} ({clock(n - 1, period_h)})" for n in shown["period"]]
    rows = [[cell(value) for value in row] for row in shown.itertuples(index=False)]
    return show(table(map(heading, shown.columns), rows))


def folded(title: str, text: str) -> str:
    """Text that opens on request."""
    return f"::::{{dropdown}} {title}\n{text}\n::::"
