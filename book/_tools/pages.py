"""Pages of the book as text: their code cells, and what of them a reader sees at once."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"^```\{solution-start\}.*?^```\{solution-end\}", re.MULTILINE | re.DOTALL)
FOLDED = frozenset({"hide-input", "hide-cell", "remove-input", "remove-cell"})
MOST_LINES, MOST_COLUMNS = 12, 76


@dataclass(frozen=True)
class Cell:
    """A code cell: its line in the page, its tags, its code, and whether it is in a solution."""

    line: int
    tags: frozenset[str]
    code: str
    in_solution: bool

    @property
    def in_view(self) -> bool:
        """Whether a reader sees the code without opening anything."""
        return not self.in_solution and not self.tags & FOLDED

    def faults(self) -> list[str]:
        """Why a cell in view is not one that a reader can take in and change."""
        lines = self.code.strip("\n").split("\n")
        found = []
        if len(lines) > MOST_LINES:
            found.append(f"{len(lines)} lines")
        if max(map(len, lines)) > MOST_COLUMNS:
            found.append(f"{max(map(len, lines))} columns")
        if any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(self.code))):
            found.append("an assert")
        return found


def cells(text: str) -> Iterator[Cell]:
    """Code cells of a page, in order."""
    solutions = [m.span() for m in SOLUTION.finditer(text)]
    for match in CELL.finditer(text):
        lines = match.group(1).split("\n")
        tags: set[str] = set()
        while lines and lines[0].startswith(":"):
            option = lines.pop(0)
            if option.startswith(":tags:"):
                tags |= set(re.findall(r"[\w-]+", option.removeprefix(":tags:")))
        line = text.count("\n", 0, match.start()) + 1
        inside = any(start <= match.start() < end for start, end in solutions)
        yield Cell(line, frozenset(tags), "\n".join(lines), inside)
