"""Results on disk: tidy Parquet tables and .npz plans, each with a record of how it was obtained.

A `Store` keeps one file and one JSON record per artifact. The record holds the key (fingerprint of
the code and of the inputs), the solver's word, seconds and versions. An artifact whose key differs
is refused; the study then makes it again. Readers of the book use `Study`, which refuses results
that were made by other code than the code at hand.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from evcm.errors import EvcmError
from evcm.store import files

PACKAGES = (
    "evcm",
    "numpy",
    "numba",
    "scipy",
    "pandas",
    "cvxpy",
    "highspy",
    "pypower",
    "dss-python",
)


class StaleError(EvcmError):
    """A stored result is missing, or was made by other code or other inputs."""


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


@dataclass(frozen=True)
class Store:
    """A folder of artifacts. `name` is a relative path such as ``plans/1-min-own-bus02.npz``."""

    folder: Path

    def path(self, name: str) -> Path:
        """Where an artifact lies; its folder is made on demand."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def record(self, name: str) -> dict[str, Any]:
        """The record beside an artifact; empty where there is none or it cannot be read."""
        path = self._record_path(name)
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return content

    def is_fresh(self, name: str, key: str) -> bool:
        """Whether the artifact is there and was made under this key."""
        return (self.folder / name).is_file() and self.record(name).get("key") == key

    def note(self, name: str, key: str, facts: Mapping[str, Any] | None = None) -> None:
        """Write the record of an artifact, last: without it the artifact counts as absent."""
        record = {
            "key": key,
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            **(facts or {}),
        }
        files.write_json(self._record_path(name), record)

    def save_table(
        self, name: str, key: str, table: pd.DataFrame, facts: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Store a table under a key and return it."""
        self._record_path(name).unlink(missing_ok=True)
        files.write_parquet(self.path(name), table)
        self.note(name, key, facts)
        return table

    def load_table(self, name: str, key: str | None = None) -> pd.DataFrame:
        """Read a table; with a key, refuse one that was made under another.

        Raises
        ------
        StaleError
            The table is missing or stale.
        """
        if not (self.folder / name).is_file():
            raise StaleError(f"{self.folder / name}: missing; run `evcm study` to make it")
        if key is not None and not self.is_fresh(name, key):
            raise StaleError(f"{self.folder / name}: made by other code; run `evcm study`")
        return pd.read_parquet(self.folder / name)

    def _record_path(self, name: str) -> Path:
        path = self.path(name)
        return path.with_name(path.name + ".json")
