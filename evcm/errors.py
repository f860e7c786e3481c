"""Errors that a user can act on: what is wrong, where, and what is allowed.

The command line turns every `EvcmError` into one message on standard error and exit code 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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


def _short(value: object, limit: int = 80) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class InputError(EvcmError, ValueError):
    """The input does not fit the model. All faults found are reported together."""

    def __init__(self, subject: str, faults: list[Fault]) -> None:
        self.subject = subject
        self.faults = list(faults)
        super().__init__(subject + ": " + "; ".join(str(f) for f in self.faults))


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

    def done(self) -> None:
        """Raise `InputError` if anything was recorded."""
        if self.faults:
            raise InputError(self.subject, self.faults)
