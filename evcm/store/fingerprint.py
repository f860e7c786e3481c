"""Fingerprints of code and content: what a stored result depends on, as one short hash.

A result is stored with the fingerprint of the modules that made it. The modules are found by
reading import statements, transitively and inside evcm only, so that an edit makes exactly those
results stale that can depend on it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evcm import data

PACKAGE = "evcm"

STUDY_DATA = ("scenarios", "trips", "vehicle", "market", "load", "network")
"""Folders of data/ that the study's numbers depend on; texts and companion studies stay out."""


def _module_file(name: str) -> Path | None:
    spec = importlib.util.find_spec(name) if name.split(".")[0] == PACKAGE else None
    return Path(spec.origin) if spec and spec.origin else None


@cache
def imported_modules(source: str, module: str = "") -> set[str]:
    """Names of the evcm modules that a piece of source code imports, functions included."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == PACKAGE and _exists(name)}


@cache
def _exists(name: str) -> bool:
    try:
        return _module_file(name) is not None
    except ModuleNotFoundError:
        return False


def closure(modules: Iterable[str]) -> tuple[str, ...]:
    """The given modules and every evcm module that they import, sorted by name.

    The face of a folder stands for every module whose names it offers.
    """
    todo, seen = list(modules), set[str]()
    while todo:
        name = todo.pop()
        file = _module_file(name)
        if name in seen or file is None:
            continue
        seen.add(name)
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        stub = file.with_suffix(".pyi")
        source = (stub if stub.is_file() else file).read_text("utf-8")
        todo += imported_modules(source, f"{package}.x")
    return tuple(sorted(seen))


def of_modules(*modules: str) -> str:
    """Fingerprint of the source of the given modules and of all that they import."""
    digest = hashlib.sha256()
    for name in closure(modules):
        file = _module_file(name)
        digest.update(name.encode())
        digest.update(file.read_bytes() if file else b"")
    return digest.hexdigest()[:16]


def of_source(module: str) -> str:
    """Fingerprint of one module's own source, without what it imports."""
    file = _module_file(module)
    return hashlib.sha256(file.read_bytes() if file else b"").hexdigest()[:16]


@cache
def of_data(*folders: str) -> str:
    """Fingerprint of the data files below the given folders of data/ (default: all of them)."""
    digest = hashlib.sha256()
    root = data.root()
    for file in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "SOURCE.md"):
        name = file.relative_to(root).as_posix()
        if not folders or name.split("/")[0] in folders:
            digest.update(name.encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def of_content(*parts: Any) -> str:
    """Fingerprint of values: arrays by shape, type and bytes, mappings by key, the rest by repr."""
    digest = hashlib.sha256()
    _feed(digest, parts)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    if isinstance(value, np.ndarray):
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        for key in sorted(value):
            digest.update(str(key).encode())
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        digest.update(f"{len(value)}".encode())
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "__dataclass_fields__"):
        digest.update(type(value).__name__.encode())
        _feed(digest, {name: getattr(value, name) for name in value.__dataclass_fields__})
    else:
        digest.update(repr(value).encode())
