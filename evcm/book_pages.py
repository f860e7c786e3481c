"""Text of pages: MyST from a cell, tables, displayed formulas."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def show(text: str) -> Any:
    """Display MyST text from a cell."""
    from IPython.display import Markdown, display

    return display(Markdown(text))  # type: ignore[no-untyped-call]


def display_math(tex: str, tag: str = "") -> str:
    """A displayed formula, with the paper's number as its tag."""
    return f"$$\n{tex}" + (f" \\tag{{{tag}}}" if tag else "") + "\n$$"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table."""
    head = list(head)
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines)
