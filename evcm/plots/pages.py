"""Text of pages: MyST from a cell, tables, displayed formulas."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from evcm.plots.html import in_book

ROLE = re.compile(r"\{(ref|cite|py:obj|eq|numref|doc)\}`([^`]+)`")
LINKED = re.compile(r"(.*?)\s*<([^>]+)>", re.DOTALL)


def show(text: str) -> Any:
    """Display MyST text from a cell; outside of the book references become plain words."""
    from IPython.display import Markdown, display

    return display(Markdown(text if in_book() else plain(text)))  # type: ignore[no-untyped-call]


def plain(text: str, titles: Mapping[str, str] | None = None) -> str:
    """MyST text whose references stand as words, for a reader of notebooks.

    Parameters
    ----------
    titles : mapping, optional
        Title of a page by its label, and author and year of a reference by its key.
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


def folded(title: str, text: str) -> str:
    """Text that opens on request."""
    return f"::::{{dropdown}} {title}\n{text}\n::::"
