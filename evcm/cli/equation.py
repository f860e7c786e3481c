"""Command `evcm equation`: a printed equation, and where the package computes and checks it."""

from __future__ import annotations

from typing import Annotated

import typer

from evcm import paper

Number = Annotated[str, typer.Argument(metavar="[NUMBER]", help="Printed number; none lists all.")]
Paper = Annotated[
    str, typer.Option("--paper", help="Key of the paper: the study's, or a companion's.")
]


def equation(number: Number = "", key: Paper = paper.MAIN) -> None:
    """Show an equation: as printed, as adopted, its functions, its chapter."""
    shown = one(number, key) if number else every(key)
    typer.echo("\n".join(shown))


commands = (equation,)


def one(number: str, key: str = paper.MAIN) -> list[str]:
    """Lines about one equation; raises `InputError` for a number or paper that does not exist."""
    e = paper.equation(number, key)
    rows = [("printed", e.printed), ("adopted", e.adopted or "as printed")]
    rows += [(e.kind, e.reason)] if e.corrected else []
    rows += [("shown by", e.test)] if e.test else []
    functions = paper.implementations(key).get(number, ())
    rows += [(f.role, f"{f.place}  {f.name}") for f in functions]
    rows += [("chapter", paper.chapters(key)[number])]
    width = max(len(head) for head, _ in rows)
    return [
        f"({number}) {e.title}, section {e.section}",
        *(f"  {h:<{width}}  {t}" for h, t in rows),
    ]


def every(key: str = paper.MAIN) -> list[str]:
    """A line per equation: number, title, what was changed, where the model stands."""
    functions = paper.implementations(key)
    equations = paper.equations(key)
    width = max(len(e.title) for e in equations)
    return [
        f"{e.number:>3}  {e.title:<{width}}  {e.kind or 'as printed':<13}  "
        + (functions[e.number][0].place if e.number in functions else "")
        for e in equations
    ]
