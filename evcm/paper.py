"""Registry: which function is which printed equation.

Equations stand in ``data/paper/<paper>.toml``: number, section, title, the printed form, the
adopted form where it differs, the reason, and the test that justifies the change; so do the
chapters that explain them, and the paper's figures and tables. Functions are tagged with
`implements`; `implementations` reads the tags in the package's source. The command
``evcm equation`` and the book's paper map, notation and errata pages are made from here.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from evcm import data
from evcm.errors import Checks

F = TypeVar("F", bound=Callable[..., Any])

MAIN = "ingenius34"
"""Key of the paper that the study implements."""

ROLES = {
    "model": "is the equation, in its adopted form",
    "bound": "sets the limits of a variable that the equation needs",
    "certificate": "re-checks the equation without a solver",
    "print": "is the equation as printed, kept to compare",
}
"""What a tagged function is to an equation, in the order in which it is shown."""


@dataclass(frozen=True)
class Equation:
    """One printed equation. `adopted` is empty where the printed form holds.

    `kind` says what `adopted` is: a ``correction`` (the printed form does not hold), a ``reading``
    (units, indices or groups that the paper leaves open) or a ``reformulation`` (another form with
    the same optimum).
    """

    paper: str
    number: str
    section: str
    title: str
    printed: str
    adopted: str = ""
    reason: str = ""
    test: str = ""
    kind: str = ""

    @property
    def corrected(self) -> bool:
        """Whether evcm computes something else than is printed."""
        return bool(self.adopted)


@dataclass(frozen=True)
class Erratum:
    """A slip outside the numbered equations: where, what is printed, what is adopted and why."""

    paper: str
    place: str
    title: str
    printed: str
    adopted: str
    reason: str
    test: str = ""


@dataclass(frozen=True)
class Symbol:
    """One symbol: its TeX, its name in the code, its unit and meaning."""

    tex: str
    name: str
    unit: str
    meaning: str
    paper: str = MAIN


class Implementation(NamedTuple):
    """A function that is an equation: its role (`ROLES`), its name, and where it stands."""

    role: str
    name: str
    path: str
    line: int

    @property
    def place(self) -> str:
        """``path:line``, from the folder that holds the package."""
        return f"{self.path}:{self.line}"


@dataclass(frozen=True)
class Exhibit:
    """A figure or table of the paper: where the book reproduces it, with what, and how far."""

    kind: str
    number: int
    title: str
    chapter: str
    made_by: str
    note: str = ""


def implements(*numbers: str, role: str = "model", paper: str = MAIN) -> Callable[[F], F]:
    """Tag a function or class: ``@implements("45", "46", role="certificate")``.

    Parameters
    ----------
    numbers
        Printed numbers, as literals: the registry reads them in the source.
    role
        One of `ROLES`.
    paper
        Key of the paper, the name of its file in ``data/paper``.

    See Also
    --------
    implementations : All tagged functions of a paper.
    """
    checks = Checks("implements")
    checks.require(role in ROLES, "role", role, ", ".join(ROLES))
    checks.done()
    return lambda function: function


@cache
def equations(paper: str = MAIN) -> tuple[Equation, ...]:
    """All equations of a paper, in order."""
    content = data.read_toml(f"paper/{paper}.toml")
    return tuple(Equation(paper=paper, **entry) for entry in content["equation"])


def equation(number: str, paper: str = MAIN) -> Equation:
    """One equation by its number."""
    found = {e.number: e for e in equations(paper)}
    checks = Checks("equation")
    checks.require(number in found, "number", number, ", ".join(found))
    checks.done()
    return found[number]


@cache
def symbols(paper: str = MAIN) -> tuple[Symbol, ...]:
    """All symbols of a paper."""
    content = data.read_toml(f"paper/{paper}.toml")
    return tuple(Symbol(paper=paper, **entry) for entry in content.get("symbol", []))


@cache
def errata(paper: str = MAIN) -> tuple[Erratum, ...]:
    """Slips of a paper outside its numbered equations."""
    content = data.read_toml(f"paper/{paper}.toml")
    return tuple(Erratum(paper=paper, **entry) for entry in content.get("erratum", []))


@cache
def exhibits(paper: str = MAIN) -> tuple[Exhibit, ...]:
    """Figures and tables of a paper, each in the order of its numbers."""
    content = data.read_toml(f"paper/{paper}.toml")
    return tuple(Exhibit(**entry) for entry in content.get("exhibit", []))


@cache
def chapters(paper: str = MAIN) -> dict[str, str]:
    """Label of the chapter of the book that explains each equation, by number."""
    content = data.read_toml(f"paper/{paper}.toml")
    return {n: c["label"] for c in content.get("chapter", []) for n in _numbers(c["equations"])}


def _numbers(spans: Iterable[str]) -> Iterator[str]:
    for span in spans:
        first, _, last = span.partition("-")
        yield from map(str, range(int(first), int(last or first) + 1))


@cache
def implementations(paper: str = MAIN) -> dict[str, tuple[Implementation, ...]]:
    """Functions by equation number, the model first; read in the source, nothing is imported."""
    found: dict[str, list[Implementation]] = {}
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        for key, number, implementation in _tagged(file):
            if key == paper:
                found.setdefault(number, []).append(implementation)
    rank = list(ROLES).index
    return {n: tuple(sorted(found[n], key=lambda i: rank(i.role))) for n in sorted(found, key=int)}


def _tagged(file: Path) -> Iterator[tuple[str, str, Implementation]]:
    """Paper, number and function of every tag in a file."""
    text = file.read_text("utf-8")
    if "@implements(" not in text:
        return
    path = file.relative_to(Path(__file__).parents[1])
    module = ".".join(path.with_suffix("").parts)
    for name, node in _definitions(ast.parse(text), f"{module}."):
        for tag in node.decorator_list:
            if isinstance(tag, ast.Call) and getattr(tag.func, "id", "") == "implements":
                words = {str(k.arg): ast.literal_eval(k.value) for k in tag.keywords}
                role = words.get("role", "model")
                made = Implementation(role, name, path.as_posix(), node.lineno)
                for number in map(ast.literal_eval, tag.args):
                    yield words.get("paper", MAIN), number, made


def _definitions(
    parent: ast.Module | ast.ClassDef, before: str
) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Functions, classes and methods with their dotted names."""
    for node in parent.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield before + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node, f"{before}{node.name}.")
