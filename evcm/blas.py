"""Linear algebra on one thread, while something else spreads the work over threads."""

from __future__ import annotations

from functools import cached_property
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController


class _OneThread:
    """Linear algebra on one thread, for as long as any part of this process asks for it.

    Threads within threads wait for each other, and bits would depend on their number. That number
    belongs to the process: of those that ask beside each other the first takes it, and the last
    gives it back.
    """

    def __init__(self) -> None:
        self.lock, self.users = Lock(), 0
        self.before: list[int] = []

    @cached_property
    def libraries(self) -> list[Any]:
        found = ThreadpoolController().lib_controllers
        return [library for library in found if library.user_api == "blas"]

    def threads(self) -> list[int]:
        """Threads of each library."""
        return [library.num_threads for library in self.libraries]

    def set_threads(self, threads: list[int]) -> None:
        """Set them from any thread: threadpoolctl lets only the first that did."""
        for library, number in zip(self.libraries, threads, strict=True):
            release = getattr(library, "clear_controlling_thread", lambda **_: None)
            release(force=True)
            library.set_num_threads(number)
            release(force=True)

    def __enter__(self) -> None:
        with self.lock:
            if self.users == 0:
                self.before = self.threads()
                self.set_threads([1] * len(self.before))
            self.users += 1

    def __exit__(self, *_: object) -> None:
        with self.lock:
            self.users -= 1
            if self.users == 0:
                self.set_threads(self.before)


one_thread = _OneThread()
"""``with one_thread:`` holds all of the process's linear algebra to one thread."""
