"""How a period of the OPF ended, and what to do about it."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """How a solver left one period. `remedy` says what a user can do about it."""

    OPTIMAL = 0
    ITERATION_LIMIT = 1
    SINGULAR = 2
    DIVERGED = 3
    INFEASIBLE = 4
    ISLANDED = 5

    @property
    def remedy(self) -> str:
        """What a user can do about it."""
        return _REMEDY[self]

    @property
    def words(self) -> str:
        """The status in words."""
        return self.name.lower().replace("_", " ")


_REMEDY = {
    Status.OPTIMAL: "nothing to do",
    Status.ITERATION_LIMIT: "use the other method, or look for limits that nearly contradict",
    Status.SINGULAR: "look for a branch of nearly no impedance, or use the other method",
    Status.DIVERGED: "check impedances and the base in MVA, or use the other method",
    Status.INFEASIBLE: "loosen a limit that the message names, or ask for less power",
    Status.ISLANDED: "look at the buses that the outage cuts off: they have no supply",
}
