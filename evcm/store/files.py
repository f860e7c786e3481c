"""Files are written whole or not at all: to a temporary file beside the target, then renamed.

Links are followed, modes kept, devices and pipes written through. What cannot be read or written
is one `InputError` that names the file.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import stat
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd

from evcm.errors import Fault, InputError

UNPACKED_BYTES = 2**30
"""An archive may unpack to this much, or to `UNPACKED_TIMES` its own size if that is more."""

UNPACKED_TIMES = 200

ROWS_NAMED = 5
"""Offending rows that a message names one by one; it counts the rest."""


def refuse(
    path: str | Path, error: BaseException | str, allowed: str = "a writable file"
) -> NoReturn:
    """Raise the one `InputError` for a file that cannot be read or written."""
    why = getattr(error, "strerror", None) or str(error)
    cause = error if isinstance(error, BaseException) else None
    raise InputError(str(path), [Fault("file", why, allowed)]) from cause


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` on success.

    On any error, Ctrl-C included, the temporary file is removed and `path` is untouched. A link's
    target is written, its mode kept; a device or a pipe is written through.

    Raises
    ------
    InputError
        The file cannot be written: no such folder, no permission, no space left.
    """
    target = Path(os.path.realpath(path))
    try:
        mode: int | None = target.stat().st_mode
    except OSError:
        mode = None
    if mode is not None and stat.S_ISDIR(mode):
        refuse(path, "a folder", "a file name")
    regular = mode is None or stat.S_ISREG(mode)
    if not target.parent.is_dir():
        raise InputError(str(path), [Fault("folder", str(target.parent), "an existing folder")])
    if mode is not None and not os.access(target, os.W_OK):
        refuse(path, "not writable")
    folder = target.parent if regular else Path(tempfile.gettempdir())
    temporary = folder / f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}{target.suffix}"
    try:
        if regular:
            clean(folder, target.name)
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            yield temporary
            _flush(temporary)
            if not regular:
                with temporary.open("rb") as source, target.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
            else:
                if mode is not None:
                    os.chmod(temporary, stat.S_IMODE(mode))
                os.replace(temporary, target)
                _flush(target.parent)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    except OSError as error:
        refuse(path, error)


def clean(folder: Path, name: str = "*") -> None:
    """Remove temporary files that killed processes left for the file `name`, or for any."""
    for left in folder.glob(f".{name if name == '*' else _escape(name)}.*-*"):
        found = re.fullmatch(r"\..+\.(\d+)-[0-9a-f]{8}(\.\w+)?", left.name)
        if found and not running(int(found[1])):
            left.unlink(missing_ok=True)


def _escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def running(pid: int) -> bool:
    """Whether a process with this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _flush(path: Path) -> None:
    """Bring a file or a folder to the disk; a file system without that is no error."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno in (28, 122, 5):  # no space, quota, input/output
            raise
    finally:
        os.close(handle)


def make_folder(folder: str | Path, option: str = "--out") -> Path:
    """Make a folder where there is none, and prove that files can be written in it.

    Long computations call this first, so that no result is lost to a folder that cannot be.

    Raises
    ------
    InputError
        It is a file, cannot be made, or cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"evcm")
            probe.flush()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        fault = Fault(option, str(folder), f"a folder that can be written ({why})")
        raise InputError("output", [fault]) from error
    return folder


def check_target(out: str | Path, option: str = "--out") -> None:
    """Refuse a file that could not be written, before any work is done; nothing is changed."""
    out = Path(out)
    faults = []
    try:
        if not out.parent.is_dir():
            faults.append(Fault(option, str(out.parent), "a file in an existing folder"))
        elif out.is_dir():
            faults.append(Fault(option, str(out), "a file name; this is a folder"))
        elif out.exists() and not os.access(out, os.W_OK):
            faults.append(Fault(option, str(out), "a file that may be written"))
        elif not out.exists() and not os.access(out.parent, os.W_OK):
            faults.append(Fault(option, str(out.parent), "a folder that may be written"))
        elif len(out.name.encode()) > 200:
            faults.append(Fault(option, out.name, "a file name of at most 200 bytes"))
    except (OSError, ValueError) as error:
        faults.append(Fault(option, str(out), f"a file name ({error})"))
    if faults:
        raise InputError("output", faults)


def require_own(targets: Iterable[Path], ours: bool, subject: str, force: bool = False) -> None:
    """Refuse to write `targets` over files that are not the project's own, unless `force`.

    `ours` says whether those that are there were written by the same command, `subject` who wants
    to write.

    Raises
    ------
    InputError
        Names every file that would be lost.
    """
    lost = [path for path in targets if path.exists() or path.is_symlink()]
    if lost and not ours and not force:
        allowed = "a new name, or --force to write over it"
        raise InputError(subject, [Fault("file", str(path), allowed) for path in lost])


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


def read_bytes(path: str | Path, kind: str) -> bytes:
    """Content of a file; `kind` says in words what it should be, such as "a JSON file".

    Raises
    ------
    InputError
        The file is missing, is no file or cannot be read.
    """
    content = b""
    try:
        if not Path(path).is_file():
            raise InputError(str(path), [Fault("file", "missing", f"an existing file, {kind}")])
        content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        refuse(path, error, kind)
    return content


def read_json(path: str | Path) -> Any:
    """Content of a JSON file; what is not JSON, or is nested too deeply, is an `InputError`."""
    try:
        return json.loads(read_bytes(path, "a JSON file").decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        refuse(path, error, "a JSON file")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Content of a TOML file; what is not TOML, or is nested too deeply, is an `InputError`."""
    try:
        return tomllib.loads(read_bytes(path, "a TOML file").decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        refuse(path, error, "a TOML file")


def read_csv(path: str | Path, required: list[str], numeric: bool = True) -> pd.DataFrame:
    """Read a CSV file, and check that the `required` columns are there and hold finite numbers.

    Raises
    ------
    InputError
        The file is missing, is not CSV, lacks a column, or has values that are no numbers.
    """
    path = Path(path)
    read_bytes(path, "a CSV file")
    try:
        table = pd.read_csv(path, skipinitialspace=True)
    except (ValueError, OverflowError, MemoryError, OSError) as error:
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
            rows = np.flatnonzero(~np.isfinite(values.to_numpy(dtype=float)))
            faults += [
                Fault(f"column {name}, row {row + 1}", table[name].iloc[row], "a finite number")
                for row in rows[:ROWS_NAMED]
            ]
            if rows.size > ROWS_NAMED:
                more = f"{rows.size - ROWS_NAMED} more rows"
                faults.append(Fault(f"column {name}", more, "finite numbers"))
            table[name] = values
        if faults:
            raise InputError(str(path), faults)
    return table


def read_npz(path: str | Path, required: list[str]) -> dict[str, np.ndarray]:
    """Read a .npz file into a dict of arrays; pickled content is refused.

    Raises
    ------
    InputError
        The file is missing, is not .npz, unpacks to far more than it is, lacks an array, or has
        one of another kind than real numbers, booleans or text.
    """
    path = Path(path)
    kind = "a .npz file of plain arrays"
    packed = len(read_bytes(path, kind))
    most = max(UNPACKED_BYTES, UNPACKED_TIMES * packed)
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(item.file_size for item in archive.infolist())
        if unpacked > most:
            allowed = f"an archive that unpacks to at most {most:,} bytes"
            raise InputError(str(path), [Fault("content", f"{unpacked:,} bytes", allowed)])
        with np.load(path, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except InputError:
        raise
    except Exception as error:  # np.load raises anything from zipfile to pickle errors
        raise InputError(str(path), [Fault("content", str(error), kind)]) from error
    faults = [
        Fault(f"array {name}", "missing", "an array by this name")
        for name in required
        if name not in arrays
    ]
    faults += [
        Fault(f"array {name}", str(a.dtype), "numbers, booleans or text")
        for name, a in arrays.items()
        if a.dtype.kind not in "biufU"
    ]
    if faults:
        raise InputError(str(path), faults)
    return arrays
