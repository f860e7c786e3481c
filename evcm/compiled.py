"""Compiled functions with a cache on disk that is never in the way.

`njit` is numba's, with four differences where ``cache=True``: a cache that is cut or foreign is
compiled again instead of raising; where neither the package nor the home can be written, a folder
of the user below the system's temporary folder holds the cache; an edit of any file in a
kernel's room compiles it again (numba itself looks at the kernel's own file alone, and would
go on with the old code of a function that it calls); and of processes that need a kernel at the
same time one compiles it, while the others wait for its cache.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import prange
from numba.core.caching import FunctionCache

try:
    import fcntl
except ImportError:  # where files have no such locks, every process compiles for itself
    fcntl = None  # type: ignore[assignment]

__all__ = ["njit", "prange"]

TURN_S = 120.0
"""Most seconds to wait for another process that compiles the same kernel."""


class _Turn:
    """The right to compile one kernel, among processes; it ends with the process at the latest."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: int | None = None

    def take(self) -> None:
        """Wait for the right; go on without it where there are no locks, or it takes too long."""
        if fcntl is None or self.file is not None:
            return
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600)
            until = time.monotonic() + TURN_S
            while time.monotonic() < until:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(0.02)
                else:
                    self.file = file
                    return
            os.close(file)

    def give(self) -> None:
        """Let others have it."""
        if self.file is not None:
            with suppress(OSError):
                self.path.unlink()
            os.close(self.file)
            self.file = None


class _Kept(FunctionCache):
    """Numba's cache of one function; what cannot be read or written is compiled again.

    Numba asks it before it compiles, and hands it what it has compiled: the turn lies between.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._turn = _Turn(Path(self.cache_path) / f"{self._impl.filename_base}.lock")

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = self._loaded(sig, target_context)
        if found is None:
            self._turn.take()
            found = self._loaded(sig, target_context)  # another may have compiled it by now
            if found is not None:
                self._turn.give()
        return found

    def _loaded(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling what is cut or foreign raises anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            with suppress(OSError):  # no space left, or a folder that has gone: compiled next time
                super().save_overload(sig, data)
        finally:
            self._turn.give()

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        file = Path(self._py_func.__code__.co_filename)
        return (*super()._index_key(sig, codegen), _stamp(_room(file.parent)))


def _room(folder: Path) -> Path:
    """The folder of a kernel, or that of its package one below the top."""
    while all((above / "__init__.py").is_file() for above in (folder.parent, folder.parent.parent)):
        folder = folder.parent
    return folder


@cache
def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of every source file of a folder and of those in it."""
    found = sorted(folder.rglob("*.py"))
    return tuple(
        (str(f.relative_to(folder)), f.stat().st_mtime_ns, f.stat().st_size) for f in found
    )


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with the cache described above."""

    def compiled(function: Callable[..., Any]) -> Any:
        # What C code could call is not compiled: no C code calls a kernel.
        kernel = numba.njit(no_cfunc_wrapper=True, **options)(function)
        if cache and hasattr(kernel, "enable_caching"):  # not so where compilation is switched off
            kernel._cache = _cache_of(function)
        return kernel

    return compiled


def _cache_of(function: Callable[..., Any]) -> _Kept:
    try:
        return _Kept(function)
    except (RuntimeError, OSError):  # nowhere to write
        numba.config.CACHE_DIR = _temporary()
        return _Kept(function)


@cache
def _temporary() -> str:
    """A folder of this user alone that later runs find again."""
    user = os.getuid() if hasattr(os, "getuid") else os.getlogin()
    folder = Path(tempfile.gettempdir()) / f"evcm-compiled-{user}"
    with suppress(OSError):
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
        if folder.is_dir() and not folder.is_symlink() and state.st_uid == os.getuid():
            return str(folder)
    return tempfile.mkdtemp(prefix="evcm-compiled-")
