"""Generated reference pages: the paper map, the errata, the notation and the state of a build.

Each function returns MyST text; a page shows it with ``{evcm-registry} function arguments``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from book._tools import build as book
from evcm import data, paper
from evcm.paper import MAIN, Equation, Implementation
from evcm.plots.pages import display_math, table
from evcm.store import measured, results
from evcm.study import stored

WORDS = {"model": "Model", "bound": "Bound", "certificate": "Certificate", "print": "As printed"}
"""How the roles of functions are headed on a page."""

KINDS = {
    "correction": "what is printed does not hold",
    "reading": "the paper leaves units, indices or groups open",
    "reformulation": "another form with the same optimum",
}


def captioned(says: str, head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A numbered table; its caption says what it holds and what to see."""
    return f"```{{table}} {says}\n\n{table(head, rows)}\n```"


def chapter_of(equation: Equation) -> str:
    """Label of the chapter that explains an equation, empty where there is none."""
    return paper.chapters(equation.paper).get(equation.number, "")


def function_link(name: str) -> str:
    """Link to a function in the reference; private ones have no page and are named only."""
    private = any(word.startswith("_") for word in name.split("."))
    return f"`{name}`" if private else f"{{py:obj}}`{name}`"


def paper_map(section: str, key: str = MAIN) -> str:
    """Every equation of a section: as computed, the functions that are it, and the chapter."""
    functions = paper.implementations(key)
    blocks = []
    for equation in paper.equations(key):
        if equation.section != section:
            continue
        blocks.append(_map_entry(equation, functions.get(equation.number, ())))
    return "\n\n".join(blocks)


def _map_entry(equation: Equation, functions: Sequence[Implementation]) -> str:
    label = f"eq-{equation.number}" if equation.paper == MAIN else ""
    lines = [f"({label})=\n" if label else ""]
    lines.append(f"**({equation.number}) {equation.title}**")
    if equation.corrected:
        lines.append(f" · {equation.kind}, see {{ref}}`errata`")
    lines.append("\n\n" + display_math(equation.adopted or equation.printed, equation.number))
    parts = []
    for role in paper.ROLES:
        names = [function_link(f.name) for f in functions if f.role == role]
        if names:
            parts.append(f"{WORDS[role]}: " + ", ".join(names))
    if chapter_of(equation):
        parts.append(f"Chapter: {{ref}}`{chapter_of(equation)}`")
    lines.append("\n\n" + ". ".join(parts) + ".")
    return "".join(lines)


def exhibits(kind: str, key: str = MAIN) -> str:
    """Table of the paper's figures or tables: where each is reproduced, and by what."""
    rows = []
    for e in paper.exhibits(key):
        if e.kind == kind:
            made = ", ".join(map(function_link, e.made_by.split()))
            rows.append([e.number, e.title, f"{{ref}}`{e.chapter}`", made, e.note])
    head = [kind, "shows", "chapter", "made by", "note"]
    says = f"{kind}s of the paper. See where each is made again, and by what."
    return captioned(says, head, rows)


def coverage(key: str = MAIN) -> str:
    """Table of the sections: equations, how many are computed as printed, functions."""
    functions = paper.implementations(key)
    rows = []
    for section in sections(key):
        entries = [e for e in paper.equations(key) if e.section == section]
        kinds = [sum(e.kind == kind for e in entries) for kind in KINDS]
        made = sum(bool(functions.get(e.number)) for e in entries)
        rows.append([section, len(entries), len(entries) - sum(kinds), *kinds, made])
    head = ["section", "equations", "as printed", *KINDS, "with a function"]
    says = f"Equations of {named(key)} by section. See how many are computed as printed."
    return captioned(says, head, rows)


def named(key: str) -> str:
    """A paper in the middle of a sentence."""
    return "the paper" if key == MAIN else f"the companion paper on the {key}"


def sections(key: str = MAIN) -> tuple[str, ...]:
    """Sections of a paper that have equations, in order."""
    return tuple(dict.fromkeys(e.section for e in paper.equations(key)))


def errata_equations(kind: str, key: str = MAIN) -> str:
    """Equations of one kind of change: printed, adopted, the reason and the test."""
    blocks = []
    for e in paper.equations(key):
        if e.kind != kind:
            continue
        blocks.append(
            f"{{ref}}`({e.number}) {e.title} <eq-{e.number}>`, section {e.section}\n\n"
            f"Printed:\n\n{display_math(e.printed)}\n\nAdopted:\n\n{display_math(e.adopted)}\n\n"
            f"{e.reason}{_test(e.test)}"
        )
    return "\n\n---\n\n".join(blocks)


def errata_other(key: str = MAIN) -> str:
    """Slips outside the equations."""
    blocks = [
        f"**{e.title}** ({e.place})\n\n- Printed: {e.printed}\n- Adopted: {e.adopted}\n"
        f"- Why: {e.reason}{_test(e.test)}"
        for e in paper.errata(key)
    ]
    return "\n\n".join(blocks)


def _test(node: str) -> str:
    return f" Shown by `{node}`." if node else ""


def notation(key: str = MAIN) -> str:
    """Table of symbols: in formulas, in the code, unit, meaning."""
    rows = [[f"${s.tex}$", f"`{s.name}`", s.unit, s.meaning] for s in paper.symbols(key)]
    says = f"Symbols of {named(key)}. See the unit of each, and its name in the code."
    return captioned(says, ["symbol", "in the code", "unit", "meaning"], rows)


def companions(what: str) -> str:
    """Coverage or notation of every companion paper."""
    show = {"coverage": coverage, "notation": notation}[what]
    return "\n\n".join(show(key) for key in companion_papers())


def companion_papers() -> tuple[str, ...]:
    """Keys of the other papers whose equations are implemented."""
    keys = sorted(file.stem for file in (data.root() / "paper").glob("*.toml"))
    return tuple(key for key in keys if key != MAIN)


def machine() -> str:
    """The machine that built the book."""
    return f"Built on: {measured.described()}."


def study_time() -> str:
    """How long the study behind the book took."""
    plans = stored.table("aggregators")
    return (
        f"The study behind this book solved {len(plans)} aggregator problems, "
        f"{plans['seconds'].sum() / 60:.0f} minutes of one core in sum, on: {measured.described()}."
    )


def depends(chapter: str) -> str:
    """What one chapter depends on."""
    names = ", ".join(f"`{m}`" for m in book.modules(book.ROOT / "book" / f"{chapter}.md"))
    return f"For example, the {chapter} depends on: {names}."


def versions() -> str:
    """Table of the versions that made the book."""
    rows = [[name, value] for name, value in results.versions().items()]
    says = "Packages that made this book. See the versions, which requirements.txt pins."
    return captioned(says, ["package", "version"], rows)


def study_record() -> str:
    """Table of the study's manifest: settings, seed, fingerprints, time."""
    record = results.Store(stored.FOLDER).record("manifest")
    settings = record.get("settings", {})
    rows = [[name, f"`{value}`"] for name, value in sorted(settings.items())]
    for name in ("key", "code", "data", "made", "processors"):
        rows.append([name, f"`{record.get(name)}`"])
    says = "The study behind this book. See its settings, seed and fingerprints."
    return captioned(says, ["item", "value"], rows)


def chapter_fingerprints() -> str:
    """Table of the chapters with the fingerprint of what each depends on."""
    rows = []
    for name, value in book.fingerprints().items():
        names = book.modules(book.ROOT / f"{name}.md")
        rows.append([f"`{name}`", f"`{value}`", len(names)])
    says = "Executed chapters. See how many modules each rests on: an edit makes it stale."
    return captioned(says, ["chapter", "fingerprint", "modules behind it"], rows)
