"""Compiled functions with a cache on disk that is never in the way.

`njit` is numba's, with three differences where ``cache=True``: a cache that is cut or foreign is
compiled again instead of raising; where neither the package nor the home can be written, a folder
of the user below the system's temporary folder holds the cache; and an edit of any file in a
kernel's folder compiles it again (numba itself looks at the kernel's own file alone, and would
go on with the old code of a function that it calls).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numba
from numba import prange
from numba.core.caching import FunctionCache

__all__ = ["njit", "prange"]


class _Kept(FunctionCache):
    """Numba's cache of one function; what cannot be read or written is compiled again."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # unpickling what is cut or foreign raises anything
            with suppress(OSError):
                self.flush()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):  # no space left, or a folder that has gone: compiled next time
            super().save_overload(sig, data)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        folder = Path(self._py_func.__code__.co_filename).parent
        return (*super()._index_key(sig, codegen), _stamp(folder))


@cache
def _stamp(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, time and size of every source file of a folder."""
    found = sorted(folder.glob("*.py"))
    return tuple((f.name, f.stat().st_mtime_ns, f.stat().st_size) for f in found)


def njit(*, cache: bool = False, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with the cache described above."""

    def compiled(function: Callable[..., Any]) -> Any:
        kernel = numba.njit(**options)(function)
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
