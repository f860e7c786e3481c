"""Fingerprints of code and content: what a stored result depends on, as one short hash.

A result is stored with the fingerprint of the modules that made it. The modules are found by
reading import statements, transitively and inside evcm only, so that an edit makes exactly those
results stale that can depend on it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from evcm import data

PACKAGE = "evcm"


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
            # a module out of a folder does not bring the folder's face, which stands for all of it
            inner = {alias.name: f"{base}.{alias.name}" for alias in node.names}
            found |= {name if _is_module(name) else base for name in inner.values()}
    return {name for name in found if _is_module(name)}


@cache
def _is_module(name: str) -> bool:
    """Whether this is a module of evcm."""
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
    return of_content([(name, _source(name)) for name in closure(modules)])


def of_code(thing: Callable[..., Any] | type) -> str:
    """Fingerprint of the code that a class or a function can reach.

    That is its source; the functions, classes and constants of its own module that it names, and
    what those name; and every evcm module behind a name that they import, with all that it
    imports. What else its module holds or imports stays out.
    """
    home = thing.__module__
    parts, modules = _reached(home, _source(home), thing.__qualname__.split(".")[0])
    return of_content(parts, [(name, _source(name)) for name in closure(modules)])


@cache
def _reached(module: str, source: str, start: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """Source of the definitions in a module that `start` reaches, and the modules they name."""
    tree = ast.parse(source)
    package = module if (_module_file(module) or Path()).name == "__init__.py" else ""
    here = f"{package or module.rpartition('.')[0]}.x"
    defined: dict[str, list[ast.stmt]] = {}
    imported: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                one = {**dict(ast.iter_fields(node)), "names": [alias]}
                line = ast.unparse(type(node)(**one))
                imported[alias.asname or alias.name.split(".")[0]] = line
            continue
        for name in {n.id for n in _targets(node)} | {getattr(node, "name", "")} - {""}:
            defined.setdefault(name, []).append(node)
    todo, seen, modules = [start], set[str](), set[str]()
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        modules |= imported_modules(imported.get(name, ""), here)
        for node in defined.get(name, []):
            todo += [n.id for n in ast.walk(node) if isinstance(n, ast.Name)]
            modules |= imported_modules(ast.unparse(node), here)
    lines = [ast.unparse(node) for name in sorted(seen) for node in defined.get(name, [])]
    return tuple(lines), frozenset(modules - {module})


def _targets(node: ast.stmt) -> list[ast.Name]:
    """Names that a statement at the top of a module binds."""
    if isinstance(node, ast.Assign):
        return [n for target in node.targets for n in ast.walk(target) if isinstance(n, ast.Name)]
    if isinstance(node, (ast.AnnAssign, ast.AugAssign)) and isinstance(node.target, ast.Name):
        return [node.target]
    return []


def _source(module: str) -> str:
    file = _module_file(module)
    return file.read_bytes().decode("utf-8") if file else ""


def of_package() -> str:
    """Fingerprint of all code of the package and of all its data: two machines hold the same."""
    folder = Path(__file__).parents[1]
    code = [
        (f.relative_to(folder).as_posix(), f.read_bytes()) for f in sorted(folder.rglob("*.py"))
    ]
    return of_content(code, of_data())


@cache
def of_data(*folders: str) -> str:
    """Fingerprint of the data files below the given folders of data/ (default: all of them)."""
    root, parts = data.root(), []
    for file in sorted(p for p in root.rglob("*") if p.is_file() and p.name != "SOURCE.md"):
        name = file.relative_to(root).as_posix()
        if not folders or name.split("/")[0] in folders:
            parts.append((name, file.read_bytes()))
    return of_content(parts)


def of_content(*parts: Any) -> str:
    """Fingerprint of values: arrays by shape, type and bytes, mappings by key, the rest by repr.

    Every value is fed with its kind and its length before it, so that no two lists of values give
    the same bytes.
    """
    digest = hashlib.sha256()
    _feed(digest, parts)
    return digest.hexdigest()[:16]


def _feed(digest: Any, value: Any) -> None:
    def put(kind: str, content: bytes) -> None:
        digest.update(f"{kind}:{len(content)}:".encode())
        digest.update(content)

    if isinstance(value, np.ndarray):
        put("array", f"{value.dtype}{value.shape}".encode())
        put("bytes", np.ascontiguousarray(value).tobytes())
    elif isinstance(value, bytes):
        put("bytes", value)
    elif isinstance(value, Mapping):
        put("mapping", str(len(value)).encode())
        for key in sorted(value, key=repr):
            _feed(digest, key)
            _feed(digest, value[key])
    elif isinstance(value, (list, tuple)):
        put("list", str(len(value)).encode())
        for item in value:
            _feed(digest, item)
    elif hasattr(value, "__dataclass_fields__"):
        put("record", type(value).__name__.encode())
        _feed(digest, {name: getattr(value, name) for name in value.__dataclass_fields__})
    else:
        put(type(value).__name__, repr(value).encode())
