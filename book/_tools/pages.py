"""Pages of the book as text: their code cells, what a reader sees at once, what has a caption."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

CELL = re.compile(r"^```\{code-cell\}[^\n]*\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
SOLUTION = re.compile(r"^```\{solution-start\}.*?^```\{solution-end\}", re.MULTILINE | re.DOTALL)
FOLDED = frozenset({"hide-input", "hide-cell", "remove-input", "remove-cell"})
SHOWN = re.compile(
    r"pages\.frame\(|plots\.explore\(|\w+\.page\(\)"
    r"|(?s:pages\.show\(.*pages\.(table|folded)\()|(?!pages\.)(?s:.*)\.show\(\)$"
)
"""A statement that shows a figure or a table."""
MOST_LINES, MOST_COLUMNS = 12, 76


@dataclass(frozen=True)
class Cell:
    """A code cell: its line in the page, tags, code, whether it is in a solution, its caption."""

    line: int
    tags: frozenset[str]
    code: str
    in_solution: bool
    caption: str = ""

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
        if not self.parameters:
            found.append("no parameters first")
        return found

    @property
    def parameters(self) -> str:
        """What a reader changes: the first statement, where it gives names to literals."""
        first = next(iter(ast.parse(self.code).body), None)
        if not isinstance(first, ast.Assign):
            return ""
        try:
            ast.literal_eval(first.value)
        except ValueError:
            return ""
        return ast.unparse(first)

    def displays(self) -> list[str]:
        """Statements of the cell, in loops and branches, too, that show a figure or a table."""
        todo, words = list(ast.parse(self.code).body), []
        for node in todo:
            if isinstance(node, ast.Expr):
                words.append(ast.unparse(node))
            elif not isinstance(node, ast.FunctionDef):  # its caption stands where it is called
                todo += [n for n in ast.iter_child_nodes(node) if isinstance(n, ast.stmt)]
        return [w for w in words if SHOWN.match(w)]


def split_options(inner: str) -> tuple[list[str], list[str]]:
    """Options and lines of code of a cell; options are ``:name:`` lines or a block of YAML."""
    lines = inner.split("\n")
    if lines[0] == "---":
        end = lines.index("---", 1)
        return lines[1:end], lines[end + 1 :]
    end = next((i for i, line in enumerate(lines) if not line.startswith(":")), len(lines))
    return lines[:end], lines[end:]


def cells(text: str) -> Iterator[Cell]:
    """Code cells of a page, in order."""
    solutions = [m.span() for m in SOLUTION.finditer(text)]
    for match in CELL.finditer(text):
        options, lines = split_options(match.group(1))
        tags: set[str] = set()
        for option in options:
            if re.match(r":?tags:", option):
                tags |= set(re.findall(r"[\w-]+", option.split("tags:")[1]))
        said = re.search(r"^\s+caption: (.*)$", "\n".join(options), re.MULTILINE)
        line = text.count("\n", 0, match.start()) + 1
        inside = any(start <= match.start() < end for start, end in solutions)
        yield Cell(line, frozenset(tags), "\n".join(lines), inside, said[1] if said else "")


TABLE = re.compile(r"^(?:\|[^\n]*\n)+", re.MULTILINE)


def without_caption(text: str) -> list[str]:
    """Figures and tables of a page that no caption says what to see in, by their first words."""
    found = []
    for cell in cells(text):
        shown = cell.displays()
        says = re.search(r"\b(See|see|Move|Vea|vea)\b", cell.caption)
        if shown and not cell.in_solution and not (says and len(shown) == 1):
            found.append(f"line {cell.line}: {shown[0][:40]}")
    prose = CELL.sub("", text)
    for table in TABLE.finditer(prose):
        before = prose[: table.start()].rstrip().split("\n\n")[-1]
        if not re.match(r"\s*`{3,}\{table\} [^`\s][^`\n]*(\n|$)", before):
            found.append(table[0][:40])
    return found
