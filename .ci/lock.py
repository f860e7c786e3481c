"""Write requirements.txt, requirements-dev.txt and requirements-lab.txt: exact versions.

The roots are the dependencies in pyproject.toml (run and book), the build backend and the tools
below; everything that they require, for any Python from 3.11 to 3.13 on Linux, is pinned with
``name==version`` and nothing else.
"""

from __future__ import annotations

import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import default_environment
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
BUILD = ["hatchling", "editables"]
DEV = ["ruff", "mypy", "pandas-stubs", "scipy-stubs", "pytest", "pytest-xdist", "hypothesis",
       "playwright", "psutil", "nbclient", "packaging", "axe-playwright-python",
       "distributed"]  # fmt: skip
LAB = ["jupyterlab", "jupytext"]
PYTHONS = ("3.11", "3.12", "3.13")


def closure(roots: list[str]) -> dict[str, str]:
    """Name and version of the roots and of everything they require, by normalized name."""
    found: dict[str, str] = {}
    todo = [Requirement(r) for r in roots]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        wanted = todo.pop()
        key = (normal(wanted.name), frozenset(wanted.extras))
        if key in seen:
            continue
        seen.add(key)
        try:
            installed = distribution(wanted.name)
        except PackageNotFoundError:
            print(f"not installed, not pinned: {wanted}", file=sys.stderr)
            continue
        found[key[0]] = f"{installed.metadata['Name']}=={installed.version}"
        for text in installed.requires or []:
            requirement = Requirement(text)
            if any(applies(requirement, python, wanted.extras) for python in PYTHONS):
                todo.append(requirement)
    return found


def applies(requirement: Requirement, python: str, extras: set[str]) -> bool:
    """Whether a requirement holds on Linux under this Python, with any of the extras."""
    if requirement.marker is None:
        return True
    environment = {**default_environment(), "python_version": python,
                   "python_full_version": f"{python}.0"}  # fmt: skip
    return any(requirement.marker.evaluate({**environment, "extra": e}) for e in {"", *extras})


def normal(name: str) -> str:
    """Name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    """Write the three files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    run = closure(project["dependencies"] + project["optional-dependencies"]["book"] + BUILD)
    dev = {name: pin for name, pin in closure(DEV).items() if name not in run}
    lab = {name: pin for name, pin in closure(LAB).items() if name not in run}
    for name, pins in (
        ("requirements.txt", run), ("requirements-dev.txt", dev), ("requirements-lab.txt", lab),
    ):  # fmt: skip
        lines = [pins[key] for key in sorted(pins)]
        (ROOT / name).write_text("\n".join(lines) + "\n", "utf-8")
        print(f"{name}: {len(lines)} packages")


if __name__ == "__main__":
    main()
