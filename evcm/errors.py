"""Errors that a user can act on: what is wrong, where, and what is allowed.

The command line turns every `EvcmError` into one message on standard error and exit code 2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self


class EvcmError(Exception):
    """Base of every error that evcm raises on purpose."""


@dataclass(frozen=True)
class Fault:
    """One fault of an input: the field, the value found and what is allowed."""

    field: str
    value: object
    allowed: str

    def __str__(self) -> str:
        return f"{self.field}: got {_short(self.value)}; allowed: {self.allowed}"


def printable(text: str) -> str:
    """The text with control characters escaped, fit for a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)


def _short(value: object, limit: int = 80) -> str:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        value = value.item()
    text = value if isinstance(value, str) else repr(value)
    half = limit // 2 - 2  # a long path says most at its end
    return text if len(text) <= limit else f"{text[:half]}...{text[-half:]}"


class InputError(EvcmError, ValueError):
    """The input does not fit the model. All faults found are reported together."""

    def __init__(self, subject: str, faults: list[Fault]) -> None:
        self.subject = subject
        self.faults = list(faults)
        super().__init__(printable(subject + ": " + "; ".join(str(f) for f in self.faults)))

    def __reduce__(self) -> tuple[type[InputError], tuple[str, list[Fault]]]:
        return type(self), (self.subject, self.faults)  # errors travel between processes


class InfeasibleError(EvcmError):
    """The problem is well posed and has no solution. `details` says where and how far off."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class SolverError(EvcmError):
    """A solver did not reach an answer. `details` carries its own status."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class Certificate(ABC):
    """What a re-check without the solver found; the base of every certificate.

    A subclass says in `subject` what it certifies, and in `violations` what is wrong.
    """

    subject = "certificate"

    @abstractmethod
    def violations(self) -> tuple[str, ...]:
        """Every rule that is broken, by how much, and what is allowed; empty when all hold."""

    @property
    def holds(self) -> bool:
        """Whether nothing is violated."""
        return not self.violations()

    def require(self) -> Self:
        """Return self, or raise `SolverError` with every violation."""
        found = self.violations()
        if found:
            raise SolverError(f"{self.subject}: {'; '.join(found)}", violations=found)
        return self

    def beyond(self, allowed: Mapping[str, float]) -> tuple[str, ...]:
        """Violations of the fields in `allowed`; what is no number is one."""
        return tuple(
            f"{name} is off by {getattr(self, name):.3g}; allowed: {most:g}"
            for name, most in allowed.items()
            if not getattr(self, name) <= most
        )


class Checks:
    """Collects faults of one input at the door and raises them together.

    Example
    -------
    >>> checks = Checks("charger")
    >>> checks.require(-3.0 > 0, "power_kw", -3.0, "> 0")
    >>> checks.done()
    Traceback (most recent call last):
    evcm.errors.InputError: charger: power_kw: got -3.0; allowed: > 0
    """

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.faults: list[Fault] = []

    def require(self, holds: bool, field: str, value: object, allowed: str) -> bool:
        """Record a fault unless `holds`; return `holds` as a bool."""
        if not holds:
            self.faults.append(Fault(field, value, allowed))
        return bool(holds)

    def each(
        self, thing: object, names: Iterable[str], good: Callable[[Any], bool], allowed: str
    ) -> None:
        """Record a fault for every attribute of `thing` that is not `good`."""
        for name in names:
            value = getattr(thing, name)
            self.require(good(value), name, value, allowed)

    def name(self, value: object, field: str = "name") -> bool:
        """Record a fault unless `value` is a text of 1 to 200 printable characters."""
        good = isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable()
        return self.require(good, field, value, "1 to 200 printable characters")

    def done(self) -> None:
        """Raise `InputError` if anything was recorded."""
        if self.faults:
            raise InputError(self.subject, self.faults)
