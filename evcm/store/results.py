"""Results on disk: a folder of tidy Parquet tables, and one data set of results for every step.

A table is a file with a JSON record beside it: its key (fingerprint of the code and of the inputs),
a checksum, the time and the versions. Results of single tasks are rows of a `Step`. What is
damaged, or was made under another key, counts as absent and is made again. One run at a time
writes into a folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pandas as pd

from evcm.errors import EvcmError
from evcm.store import files
from evcm.store.steps import Step

if sys.platform != "win32":
    import fcntl

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

STEPS = "steps"
"""Folder of the steps' data sets in a folder of results."""

LOCK = ".lock"


CURE = (
    "The book's own tables: `evcm results get ADDRESS-OF-THE-BOOK`, 2 MB. Made here: `evcm study`, "
    "`evcm compare`, `evcm hosting`, each with --out; a small study, one scenario and one side, "
    "takes a minute: `evcm study --scenario 1 --side max --out small`, and EVCM_RESULTS=small."
)
"""What a reader does about a table that is not there."""


class StaleError(EvcmError):
    """A stored result is missing, or was made by other code or other inputs."""


class LockedError(EvcmError):
    """Another run writes into the folder."""


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
    """A folder of results. A table's `name` is a relative path such as ``hosting/caps.parquet``."""

    folder: Path
    _steps: dict[str, Step] = field(default_factory=dict, repr=False, compare=False)

    def step(self, name: str) -> Step:
        """The data set of a step, such as ``plans``."""
        if name not in self._steps:
            self._steps[name] = Step(self.folder / STEPS / name)
        return self._steps[name]

    @contextmanager
    def locked(self, what: str = "evcm") -> Iterator[Store]:
        """Make the folder, prove that it can be written, and keep other runs out of it.

        The lock ends with the process, however that ends.

        Raises
        ------
        LockedError
            Another run holds the folder; the message names its process.
        InputError
            The folder cannot be made or written.
        """
        files.make_folder(self.folder)
        with (self.folder / LOCK).open("a+", encoding="utf-8") as stream:
            if sys.platform != "win32":
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    stream.seek(0)
                    holder = stream.read(200).strip() or "another process"
                    raise LockedError(
                        f"{self.folder}: in use by {holder}; wait for it to end, or give this run "
                        "a folder of its own with --out"
                    ) from error
            stream.truncate(0)
            since = datetime.now(UTC).isoformat(timespec="seconds")
            stream.write(f"process {os.getpid()} ({what}, since {since})\n")
            stream.flush()
            self._steps.clear()
            for folder in {self.folder, *(self.folder / STEPS).glob("*/")}:
                files.clean(folder)
            yield self
            stream.truncate(0)

    def holder(self) -> str:
        """Who writes into the folder now; empty where nobody does."""
        path = self.folder / LOCK
        if sys.platform == "win32" or not path.is_file():
            return ""
        with path.open(encoding="utf-8") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return stream.read(200).strip() or "another process"
        return ""

    def record(self, name: str) -> dict[str, Any]:
        """The record beside a table; empty where there is none or it cannot be read."""
        try:
            content = json.loads(self._record_path(name).read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def is_fresh(self, name: str, key: str) -> bool:
        """Whether the table is there, is whole, and was made under this key."""
        record = self.record(name)
        return record.get("key") == key and record.get("checksum") == self._checksum(name)

    def note(self, name: str, key: str, facts: Mapping[str, Any] | None = None) -> None:
        """Write a record, last: without it a table counts as absent."""
        record = {
            "key": key,
            "checksum": self._checksum(name),
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            **(facts or {}),
        }
        files.write_json(self._record_path(name), record)

    def save_table(
        self, name: str, key: str, table: pd.DataFrame, facts: Mapping[str, Any] | None = None
    ) -> pd.DataFrame:
        """Store a table under a key and return it."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._record_path(name).unlink(missing_ok=True)
        files.write_parquet(path, table)
        self.note(name, key, facts)
        return table

    def load_table(self, name: str, key: str | None = None) -> pd.DataFrame:
        """Read a table; with a key, refuse one that was made under another.

        Raises
        ------
        StaleError
            The table is missing, damaged or stale.
        """
        path = self.folder / name
        if not path.is_file():
            raise StaleError(f"{path}: missing. {CURE}")
        found = self.record(name)
        if not found or found.get("checksum") != self._checksum(name):
            raise StaleError(f"{path}: damaged or half-written; run `evcm study` to make it again")
        if key is not None and found.get("key") != key:
            raise StaleError(f"{path}: made by other code; run `evcm study`")
        return pd.read_parquet(path)

    def _record_path(self, name: str) -> Path:
        path = self.folder / name
        return path.with_name(path.name + ".json")

    def _checksum(self, name: str) -> str:
        path = self.folder / name
        return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
