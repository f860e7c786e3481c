"""A page as a plain notebook: sources, references and exercises stand as text and code.

JupyterLab knows nothing of the book's directives. What they show is written out: the source of a
function as a block of code, a reference as the title of its page, a citation as author and year.
"""

from __future__ import annotations

import ast
import re
import sys
import unicodedata
from functools import cache
from pathlib import Path
from typing import Any

from book._tools import build as book
from book._tools import registry
from evcm import __version__
from evcm.plots.pages import plain

LABEL = re.compile(r"^\([\w-]+\)=\n", re.MULTILINE)
SOLUTION_END = re.compile(r"^(`{3,}|:{3,})\{solution-end\}\n\1\n?", re.MULTILINE)
SOLUTION_START = re.compile(
    r"^(`{3,}|:{3,})\{solution-start\}[^\n]*\n(?::[^\n]*\n)*\1$", re.MULTILINE
)
FENCE = re.compile(
    r"^(?P<mark>`{3,}|:{3,})\{(?P<name>[\w:-]+)\}(?P<rest>[^\n]*)\n(?P<body>.*?)^(?P=mark)[ \t]*$",
    re.MULTILINE | re.DOTALL,
)
OPTION = re.compile(r"\A(?::[\w-]+:[^\n]*\n)+\n?")

TITLE = re.compile(r"^\(([\w-]+)\)=\n#+ (.*)$", re.MULTILINE)
FOLDER = book.ROOT / "_build" / "lab"


def plain_cells(notebook: Any) -> Any:
    """Rewrite the text cells of a notebook and drop all outputs; returns the notebook."""
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
        else:
            cell.source = plain_text(cell.source)
    notebook.cells = [c for c in notebook.cells if c.cell_type == "code" or c.source.strip()]
    return notebook


def plain_text(text: str) -> str:
    """One text cell without directives, roles and labels."""
    text = LABEL.sub("", text).replace("{{ version }}", __version__)
    text = re.sub(r" · \{\{ source\w* \}\}", "", text)  # a notebook lies beside it, or stands alone
    text = SOLUTION_START.sub("**Solution.**", text)
    text = SOLUTION_END.sub("", text)

    def written(match: re.Match[str]) -> str:
        name, rest = match["name"], match["rest"].strip()
        body = OPTION.sub("", match["body"])
        if name == "evcm-source":
            return f"`{rest}`:\n\n```python\n{find_source(rest)[1]}\n```\n"
        if name == "evcm-registry":
            function, *arguments = rest.split()
            return str(getattr(registry, function)(*arguments))
        head = {"exercise": "**Exercise.** ", "solution": "**Solution.** "}.get(name, "")
        if name in ("admonition", "grid-item-card", "dropdown", "note", "tip", "warning"):
            head = f"**{rest or name.capitalize()}.** "
        return f"{head}{body.strip()}\n"

    while FENCE.search(text):  # from the outside to the inside
        text = FENCE.sub(written, text)
    return plain(text, titles())


@cache
def titles() -> dict[str, str]:
    """Title of every page by its label, and author and year of every reference by its key."""
    from pybtex.database import parse_file

    pages = (page.read_text("utf-8") for page in book.chapters())
    found = {label: title for text in pages for label, title in TITLE.findall(text)}
    entries = parse_file(str(book.ROOT / "book" / "references.bib"), bib_format="bibtex").entries
    for key, entry in entries.items():
        people = [" ".join(p.last_names) for p in entry.persons.get("author", [])]
        names = f"{people[0]} et al." if len(people) > 2 else " and ".join(people)
        found[key] = re.sub(
            r"\{\\'(\w)\}|[{}]", _accent, f"{names}, {entry.fields.get('year', '')}"
        )
    return found


def _accent(match: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", f"{match[1]}\u0301") if match[1] else ""


def find_source(target: str) -> tuple[Path, str]:
    """File and source text of ``evcm.module.name`` (functions, classes and their methods)."""
    words = target.split(".")
    for cut in range(len(words) - 1, 0, -1):
        base = book.ROOT.joinpath(*words[:cut])
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if file.is_file():
                text = file.read_text("utf-8")
                body: list[Any] = ast.parse(text).body
                node: Any = None
                for word in words[cut:]:
                    node = next((n for n in body if getattr(n, "name", None) == word), None)
                    if node is None and file.name == "__init__.py":
                        # A face: the name stands in a module of the room.
                        stub = file.with_suffix(".pyi")
                        face = text + (stub.read_text("utf-8") if stub.is_file() else "")
                        room = ".".join(words[:cut])
                        inside = re.search(
                            rf"from (?:{re.escape(room)})?\.([\w.]+) import {word} as", face
                        )
                        if inside:
                            return find_source(".".join([room, inside[1], *words[cut:]]))
                    if node is None:
                        raise LookupError(f"{target}: no {word} in {file.name}")
                    body = getattr(node, "body", [])
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                return file, "\n".join(text.splitlines()[first - 1 : node.end_lineno])
    raise LookupError(f"{target}: no such module")


def write_all(folder: Path = FOLDER) -> list[Path]:
    """Every chapter as a plain notebook in a folder; a notebook that a reader changed stays."""
    import jupytext

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for page in book.chapters():
        if book.is_executed(page):
            target, record = folder / f"{page.stem}.ipynb", folder / f".{page.stem}.written"
            content = jupytext.read(page, fmt="md:myst")
            text = jupytext.writes(plain_cells(content), fmt="ipynb")
            known = record.read_text("utf-8") if record.is_file() else ""
            if target.is_file() and target.read_text("utf-8") not in (known, text):
                print(f"{target.name}: changed by you, kept; remove it to have it written again")
                continue
            target.write_text(text, "utf-8")
            record.write_text(text, "utf-8")
            written.append(target)
    return written


if __name__ == "__main__":
    made = write_all(*map(Path, sys.argv[1:2]))
    print(f"{len(made)} notebooks in {made[0].parent if made else FOLDER}")
