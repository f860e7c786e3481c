"""Building the book: which chapter depends on what, and one command that builds it.

A chapter is executed again when its own code changes, or its fingerprint: the source of the evcm
modules that its cells import (transitively), the data folders that those modules name, the pinned
versions, and the stored results if it reads them. Nothing else makes a chapter stale,
so an edit recomputes exactly what it can affect.

``python -m book._tools.build build`` builds into ``_build/html`` and fails on any warning.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from book._tools import pages
from evcm import data
from evcm.errors import EvcmError
from evcm.store import fingerprint

ROOT = Path(__file__).resolve().parents[2]
"""Root of the checkout. The book is built from a checkout, never from an installed wheel."""

START = "import gc, sys; gc.disable(); from jupyter_book.cli.main import main; sys.exit(main())"
"""Runs jupyter-book in this interpreter, wherever the environment lies; it ends before garbage
matters, and a tree of a page is many objects to go through."""

RESULT_READERS = frozenset({"evcm.store.results", "evcm.study.flow"})
"""Modules through which a chapter can read stored results."""


class BookError(EvcmError):
    """The book did not build; the message says which step failed."""


def chapters(root: Path = ROOT) -> tuple[Path, ...]:
    """All pages of the book, sorted by path."""
    return tuple(sorted((root / "book").rglob("*.md")))


def code(chapter: Path) -> str:
    """Source of all code cells of a chapter, without cell options and magics."""
    cells = (cell.code for cell in pages.cells(chapter.read_text("utf-8")))
    lines = "\n".join(cells).splitlines()
    return "\n".join(line for line in lines if not line.lstrip().startswith(("%", "!")))


def labels(root: Path = ROOT) -> frozenset[str]:
    """Labels of all pages of the book."""
    texts = (page.read_text("utf-8") for page in chapters(root))
    return frozenset(w for t in texts for w in re.findall(r"^\(([\w-]+)\)=$", t, re.MULTILINE))


def is_executed(chapter: Path) -> bool:
    """Whether a page is a notebook (it has code cells)."""
    return bool(pages.CELL.search(chapter.read_text("utf-8")))


def modules(chapter: Path) -> tuple[str, ...]:
    """evcm modules that a chapter imports, directly or not."""
    return fingerprint.closure(fingerprint.imported_modules(code(chapter)))


def all_modules(root: Path = ROOT) -> tuple[str, ...]:
    """Every module of the package."""
    files = (f.relative_to(root).with_suffix("") for f in (root / "evcm").rglob("*.py"))
    parts = (f.parent if f.name == "__init__" else f for f in files)
    return tuple(sorted({".".join(p.parts) for p in parts}))


def data_folders(names: Iterable[str], source: str = "") -> tuple[str, ...]:
    """Folders of data/ that are named in the given modules or in a piece of source."""
    folders = {p.name for p in data.root().iterdir() if p.is_dir()}
    heads = [_first_words(text) for text in (source, *(_module_source(name) for name in names))]
    return tuple(sorted(folders & frozenset().union(*heads)))


@cache
def _first_words(source: str) -> frozenset[str]:
    """Text constants of a piece of source, up to their first slash."""
    constants = (n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant))
    return frozenset(c.split("/")[0] for c in constants if isinstance(c, str))


def _module_source(name: str) -> str:
    import importlib.util

    spec = importlib.util.find_spec(name)
    return Path(spec.origin).read_text("utf-8") if spec and spec.origin else ""


def of_chapter(chapter: Path, root: Path = ROOT) -> str:
    """Fingerprint of everything outside a chapter that its output depends on."""
    names = modules(chapter)
    digest = hashlib.sha256()
    digest.update(fingerprint.of_modules(*names).encode())
    folders = data_folders(names, code(chapter))
    digest.update(fingerprint.of_data(*folders).encode() if folders else b"")
    digest.update(_versions(root).encode())
    if RESULT_READERS & set(names):
        digest.update(_results(root).encode())
    if "evcm.store.measured" in names:
        digest.update(_measured(root))
    return digest.hexdigest()[:16]


@cache
def _versions(root: Path) -> str:
    pins = root / "requirements.txt"
    return hashlib.sha256(pins.read_bytes()).hexdigest() if pins.is_file() else ""


@cache
def _results(root: Path) -> str:
    """Fingerprint of all stored results, by content: times and dates in a record do not count."""
    digest = hashlib.sha256()
    folder = Path(os.environ.get("EVCM_RESULTS", root / "results"))
    for file in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if file.suffix in (".parquet", ".npz", ".csv"):
            digest.update(file.relative_to(folder).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _measured(root: Path) -> bytes:
    """Fingerprint of the stored measurements of ``benchmarks/``."""
    digest = hashlib.sha256()
    for file in sorted((root / "benchmarks" / "results").glob("*.json")):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.digest()


def fingerprints(root: Path = ROOT) -> dict[str, str]:
    """Fingerprint of every executed chapter, by its path from the root without suffix."""
    return {
        c.relative_to(root).with_suffix("").as_posix(): of_chapter(c, root)
        for c in chapters(root)
        if is_executed(c)
    }


def stale(known: dict[str, str], root: Path = ROOT) -> dict[str, str]:
    """Chapters whose fingerprint differs from the one under which they were last executed."""
    return {name: now for name, now in fingerprints(root).items() if known.get(name) != now}


def record_file(root: Path = ROOT) -> Path:
    """Where the fingerprints of the executed chapters are kept."""
    return root / "_build" / ".jupyter_cache" / "fingerprints.json"


def read_record(root: Path = ROOT) -> dict[str, str]:
    """Fingerprints under which the cached chapters were executed."""
    try:
        known = json.loads(record_file(root).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return {str(k): str(v) for k, v in known.items()} if isinstance(known, dict) else {}


def write_record(known: dict[str, str], root: Path = ROOT) -> None:
    """Keep the fingerprints of the executed chapters."""
    file = record_file(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(known, indent=1, sort_keys=True), "utf-8")
    temporary.replace(file)


def of_book(root: Path = ROOT) -> str:
    """Fingerprint of everything that the built book depends on."""
    digest = hashlib.sha256()
    for name, value in fingerprints(root).items():
        digest.update(f"{name}={value}".encode())
    inputs = [*(root / "book").rglob("*"), *(root / "evcm").rglob("*"), *(root / "data").rglob("*")]
    inputs += [root / name for name in ("_config.yml", "_toc.yml", "requirements.txt")]
    skipped = ("__pycache__", ".ipynb_checkpoints")
    for file in sorted(p for p in inputs if p.is_file() and not set(skipped) & set(p.parts)):
        if file.suffix not in (".nbi", ".nbc", ".pyc"):
            digest.update(file.relative_to(root).as_posix().encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def build(root: Path = ROOT, force: bool = False) -> bool:
    """Build the book into ``_build/html``; return False where nothing had changed.

    Raises
    ------
    BookError
        A warning, a raising cell or a broken reference.
    """
    stamp, page = root / "_build" / ".book-stamp", root / "_build" / "html" / "index.html"
    wanted = of_book(root)
    if not force and page.is_file() and stamp.is_file() and stamp.read_text("utf-8") == wanted:
        return False
    stamp.unlink(missing_ok=True)
    trees = root / "_build" / ".doctrees"
    incremental, reports = trees.is_dir(), root / "_build" / "html" / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    if not _run_sphinx(root):
        raised = sorted(r.name.split(".")[0] for r in reports.rglob("*.err.log"))
        if raised:
            raise BookError("cells raise in: " + ", ".join(raised) + "; see the tracebacks above")
        if not (incremental and _run_sphinx(root)):
            raise BookError("the book did not build: see the warnings above")
    stamp.write_text(of_book(root), "utf-8")
    return True


def _run_sphinx(root: Path) -> bool:
    """Run the builder once; what it knows of the pages is dropped on failure.

    A later run reads only changed pages: it would not repeat the warnings of the others, and it may
    warn of names that moved between pages. A fresh reading is cheap: executed chapters are kept.
    """
    command = [sys.executable, "-c", START, "build", ".", "-W", "--keep-going", "-n"]
    environment = {**os.environ, "EVCM_BOOK": "1", "PYTHONHASHSEED": "0"}
    done = subprocess.run(command, cwd=root, env=environment, check=False)
    if done.returncode != 0:
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
    return done.returncode == 0


def main(arguments: list[str] | None = None) -> int:
    """Command line: ``build [--force]`` or ``fingerprints``."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        if words[:1] == ["build"]:
            made = build(force="--force" in words)
            print("_build/html/index.html" + ("" if made else " is up to date"))
            return 0
        if words == ["fingerprints"]:
            for name, value in fingerprints().items():
                print(f"{value}  {name}")
            return 0
    except BookError as error:
        print(f"evcm: {error}", file=sys.stderr)
        return 1
    print("usage: python -m book._tools.build build [--force] | fingerprints", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
