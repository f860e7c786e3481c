"""Files are written whole or not at all: to a temporary file beside the target, then renamed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evcm.errors import Fault, InputError


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` on success.

    On any error, Ctrl-C included, the temporary file is removed and `path` is untouched.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise InputError(str(path), [Fault("folder", str(path.parent), "an existing folder")])
    try:
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix
        )
    except OSError as error:
        why = error.strerror or "not writable"
        raise InputError(str(path), [Fault("folder", why, "a writable folder")]) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def require_own(targets: Iterable[Path], ours: bool, subject: str, force: bool = False) -> None:
    """Refuse to write over files that are not the project's own.

    Parameters
    ----------
    targets : iterable of Path
        Files that are about to be written.
    ours : bool
        Whether those that are there were written by the same command.
    subject : str
        Who wants to write, for the message.
    force : bool
        Write over them all the same.

    Raises
    ------
    InputError
        Names every file that would be lost.
    """
    lost = [path for path in targets if path.exists() or path.is_symlink()]
    if lost and not ours and not force:
        allowed = "a new name, or --force to write over it"
        raise InputError(subject, [Fault("file", str(path), allowed) for path in lost])


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_csv(path: str | Path, table: pd.DataFrame, decimals: int = 6) -> None:
    """Write a table as CSV with `decimals` decimals and no index."""
    with atomic(path) as temporary:
        table.to_csv(temporary, index=False, float_format=f"%.{decimals}f")


def write_parquet(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as Parquet without its index."""
    with atomic(path) as temporary:
        table.to_parquet(temporary, index=False)


def write_npz(path: str | Path, **arrays: Any) -> None:
    """Write arrays by name as a compressed .npz file."""
    with atomic(path) as temporary, temporary.open("wb") as stream:
        np.savez_compressed(stream, **arrays)


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")


def read_csv(path: str | Path, required: list[str], numeric: bool = True) -> pd.DataFrame:
    """Read a CSV file, and check that the `required` columns are there and hold finite numbers.

    Raises
    ------
    InputError
        The file is missing, is not CSV, lacks a column, or has a value that is not a number.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing CSV file")])
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(str(path), [Fault("content", str(error), "a CSV table")]) from error
    lacking = [name for name in required if name not in table.columns]
    if lacking:
        found = ", ".join(map(str, table.columns))
        raise InputError(
            str(path), [Fault(f"column {name}", "missing", f"found: {found}") for name in lacking]
        )
    if numeric:
        faults = []
        for name in required:
            values = pd.to_numeric(table[name], errors="coerce")
            bad = ~np.isfinite(values.to_numpy(dtype=float))
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                faults.append(
                    Fault(f"column {name}, row {row + 1}", table[name].iloc[row], "a finite number")
                )
            table[name] = values
        if faults:
            raise InputError(str(path), faults)
    return table


def read_npz(path: str | Path, required: list[str]) -> dict[str, np.ndarray]:
    """Read a .npz file into a dict of arrays; pickled content is refused.

    Raises
    ------
    InputError
        The file is missing, is not .npz, or lacks an array.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing .npz file")])
    try:
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except Exception as error:  # np.load raises anything from zipfile to pickle errors
        raise InputError(
            str(path), [Fault("content", str(error), "a .npz file of plain arrays")]
        ) from error
    lacking = [name for name in required if name not in arrays]
    if lacking:
        raise InputError(
            str(path),
            [Fault(f"array {name}", "missing", "an array by this name") for name in lacking],
        )
    return arrays
