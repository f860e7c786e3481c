"""Registry: which function is which printed equation.

Equations stand in ``data/paper/<paper>.toml``: number, section, title, the printed form, the
adopted form where it differs, the reason, and the test that justifies the change. Functions are
tagged with `implements`; `implementations` imports the package and lists them. The book's paper
map, notation and errata pages are made from here.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from evcm import data
from evcm.errors import Checks

F = TypeVar("F", bound=Callable[..., Any])

MAIN = "ingenius34"
"""Key of the paper that the study implements."""

_tags: dict[tuple[str, str], list[Callable[..., Any]]] = {}


@dataclass(frozen=True)
class Equation:
    """One printed equation. `adopted` is empty where the print holds.

    `kind` says what `adopted` is: a ``correction`` (the print does not hold), a ``reading`` (units,
    indices or groups that the print leaves open) or a ``reformulation`` (another form with the same
    optimum).
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
        """Whether evcm computes something else than the print."""
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


def implements(*numbers: str, paper: str = MAIN) -> Callable[[F], F]:
    """Tag a function or class as the implementation of equations: ``@implements("45", "46")``."""

    def tag(function: F) -> F:
        for number in numbers:
            _tags.setdefault((paper, number), []).append(function)
        return function

    return tag


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


def implementations(paper: str = MAIN) -> dict[str, tuple[Callable[..., Any], ...]]:
    """Functions by equation number, after every module of the package has been imported."""
    import evcm

    for module in pkgutil.walk_packages(evcm.__path__, "evcm."):
        importlib.import_module(module.name)
    return {n: tuple(fs) for (p, n), fs in _tags.items() if p == paper}


def reference(function: Callable[..., Any]) -> str:
    """``evcm.module.function`` of a tagged function."""
    return f"{inspect.getmodule(function).__name__}.{function.__qualname__}"  # type: ignore[union-attr]
