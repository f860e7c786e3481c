"""A step's results as one Parquet data set: thousands of rows in a folder of a few files.

A row is a result: its name, the key it was made under, its record, its arrays, and a checksum over
all of them. Results are added as small files, which are merged into larger ones as they grow in
number; of two rows with one name the later counts. A file or a row that is damaged counts as
absent, and the result is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from evcm.store import files
from evcm.store.result import Result

SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("name", "key", "made", "record", "kinds")]
    + [("body", pa.large_binary()), ("seconds", pa.float64()), ("checksum", pa.string())]
)

LOOSE = 128
"""Small files of a step before they are merged into one."""

FULL_BYTES = 64 * 2**20
"""A file of this size is merged no more."""


class Step:
    """Results of one step in a folder, by name. One process writes at a time (`Store.locked`)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._rows: dict[str, dict[str, Any]] = {}
        self._where: dict[str, Path] = {}
        self._size: dict[Path, int] = {}
        self._next = 0
        for file in sorted(folder.glob("part-*.parquet")):
            self._next = max(self._next, _number(file) + 1)
            self._size[file] = file.stat().st_size
            for row in _read(file):
                self._rows[row["name"]], self._where[row["name"]] = row, file

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: str, key: str) -> Result | None:
        """The sound result of this name made under this key; None where there is none."""
        row = self._rows.get(name)
        if row is None or row["key"] != key or row["checksum"] != _checksum(row):
            return None
        try:
            return Result.unpack(row["record"], row["kinds"], row["body"])
        except (ValueError, TypeError, AttributeError):
            return None

    def seconds(self) -> list[float]:
        """Measured seconds of all results held, whatever their key."""
        return [row["seconds"] for row in self._rows.values()]

    def facts(self) -> Iterator[dict[str, Any]]:
        """Name, key, time, seconds and soundness of every row, for `evcm status`."""
        for row in self._rows.values():
            keep = {k: row[k] for k in ("name", "key", "made", "seconds")}
            yield keep | {"sound": row["checksum"] == _checksum(row)}

    def add(self, found: Mapping[str, tuple[str, Result, float]]) -> None:
        """Keep results: (key, result, seconds) by name. They are on the disk on return."""
        rows = []
        made = datetime.now(UTC).isoformat(timespec="seconds")
        for name, (key, result, seconds) in found.items():
            record, kinds, body = result.pack()
            row = {"name": name, "key": key, "made": made, "record": record, "kinds": kinds,
                   "body": body, "seconds": seconds}  # fmt: skip
            rows.append(row | {"checksum": _checksum(row)})
        self._write(rows)
        if len(self._loose()) > LOOSE:
            self.merge()

    def merge(self) -> None:
        """Bring all small files into one; rows that later ones replaced are dropped."""
        loose = self._loose()
        if len(loose) < 2:
            return
        gone = set(loose)
        self._write([self._rows[name] for name, file in self._where.items() if file in gone])
        for file in loose:
            file.unlink(missing_ok=True)
            del self._size[file]

    def _loose(self) -> list[Path]:
        return [file for file in sorted(self._size) if self._size[file] < FULL_BYTES]

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if not rows:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"part-{self._next:08d}.parquet"
        table = pa.Table.from_pylist(rows, SCHEMA)
        with files.atomic(file) as temporary:
            pq.write_table(table, temporary, compression="zstd")
        self._next += 1
        self._rows |= {row["name"]: row for row in rows}
        self._where |= {row["name"]: file for row in rows}
        self._size[file] = file.stat().st_size


def _number(file: Path) -> int:
    digits = file.stem.partition("-")[2]
    return int(digits) if digits.isdecimal() else 0


def _read(file: Path) -> list[dict[str, Any]]:
    """Rows of a file; none where it cannot be read."""
    try:
        table = pq.read_table(file, partitioning=None)
        rows: list[dict[str, Any]] = table.to_pylist() if table.schema.equals(SCHEMA) else []
    except (OSError, ValueError, pa.ArrowException):
        return []
    return rows


def _checksum(row: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in ("name", "key", "made", "record", "kinds", "body", "seconds"):
        value = row[name]
        content = value if isinstance(value, bytes) else repr(value).encode()
        digest.update(f"{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()
