"""What one AC OPF asks: the injections at buses, their bounds and costs, by equation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray, IntArray
from evcm.network.case import Day, Network
from evcm.paper import implements

ACTIVE, REACTIVE = 0, 1


class Part(Enum):
    """What a group of injections stands for; the value is its name in messages."""

    ACTIVE_GENERATION = "generation"
    REACTIVE_GENERATION = "reactive generation"
    NOT_SUPPLIED = "power not supplied"
    CAP = "cap"
    EXPORT = "export limit"
    LACK = "too little"
    EXCESS = "too much"


@dataclass(frozen=True, eq=False)
class Injections:
    """Powers at buses that the OPF chooses; MW or Mvar.

    `bus`, `kind` (0 active, 1 reactive), `sign` (+1 supply, -1 demand) and `cost_per_mw` are per
    injection (nj,); `low` and `high` are (T, nj). `parts` names the groups in order, with how many
    injections each has.
    """

    parts: tuple[tuple[Part, int], ...]
    bus: IntArray
    kind: IntArray
    sign: FloatArray
    cost_per_mw: FloatArray
    low: FloatArray
    high: FloatArray

    @classmethod
    def of(
        cls, part: Part, bus: IntArray, low: FloatArray, high: FloatArray, *,
        kind: IntArray | int = ACTIVE, sign: float = 1.0, cost_per_mw: FloatArray | float = 0.0,
    ) -> Injections:  # fmt: skip
        """One group: an injection at each of `bus` (n,), with bounds (T, n)."""
        n = len(bus)
        cost = np.full(n, cost_per_mw) if np.ndim(cost_per_mw) == 0 else np.asarray(cost_per_mw)
        return cls(
            ((part, n),), np.asarray(bus, np.int64).copy(), np.full(n, kind), np.full(n, sign),
            cost.astype(float), low, high,
        )  # fmt: skip

    def __add__(self, other: Injections) -> Injections:
        return Injections(
            self.parts + other.parts,
            np.concatenate([self.bus, other.bus]),
            np.concatenate([self.kind, other.kind]),
            np.concatenate([self.sign, other.sign]),
            np.concatenate([self.cost_per_mw, other.cost_per_mw]),
            np.concatenate([self.low, other.low], axis=1),
            np.concatenate([self.high, other.high], axis=1),
        )

    def unpack(self, values: NDArray[Any]) -> dict[Part, NDArray[Any]]:
        """Values per injection (..., nj) by group; the only place that knows their order."""
        cuts = np.cumsum([n for _, n in self.parts])[:-1]
        pieces = np.split(values, cuts, axis=-1)
        return {part: piece for (part, _), piece in zip(self.parts, pieces, strict=True)}

    def free_of_cost(self) -> Injections:
        """The same injections with no cost."""
        return replace(self, cost_per_mw=np.zeros_like(self.cost_per_mw))

    def at(self, periods: IntArray) -> Injections:
        """Only some periods, by index from 0."""
        return replace(self, low=self.low[periods], high=self.high[periods])


@implements("44")
def cost_per_mw(network: Network) -> tuple[FloatArray, float]:
    """Coefficients of (44): 1 for power at the slack, 0 for other generators, C_pen for NSP."""
    at_slack = network.generator_bus == network.slack
    return at_slack.astype(float), network.nsp_penalty_per_mw


@implements("52", "53")
def generation(network: Network, periods: int) -> Injections:
    """Active (52) and reactive (53) power of every generator, within its limits."""

    def limits(*mw: FloatArray) -> list[FloatArray]:
        return [np.tile(bound, (periods, 1)) for bound in mw]

    cost, _ = cost_per_mw(network)
    active = Injections.of(
        Part.ACTIVE_GENERATION, network.generator_bus,
        *limits(network.p_min_mw, network.p_max_mw), cost_per_mw=cost,
    )  # fmt: skip
    return active + Injections.of(
        Part.REACTIVE_GENERATION, network.generator_bus,
        *limits(network.q_min_mvar, network.q_max_mvar), kind=REACTIVE,
    )  # fmt: skip


@implements("44", "45", role="bound")
def not_supplied(day: Day) -> Injections:
    """NSP of (45): at a PQ bus part of a load may go unsupplied, never its reactive part."""
    bus = np.flatnonzero(day.network.sheddable)
    _, penalty = cost_per_mw(day.network)
    high = np.maximum(day.load_p_mw[:, bus], 0.0)
    return Injections.of(Part.NOT_SUPPLIED, bus, np.zeros_like(high), high, cost_per_mw=penalty)


@implements("54", "55")
def caps(day: Day, share_min: float, share_max: float) -> Injections:
    """Caps as demand in the balance (54), each a share of its bus's load (55)."""
    load = day.aggregator_load_mw
    return Injections.of(
        Part.CAP, day.network.ev_bus, share_min * load, share_max * load, sign=-1.0,
        cost_per_mw=-1.0,
    )  # fmt: skip


def exports(day: Day, share_max: float) -> Injections:
    """Limits on feeding in: supply in the balance, each at most a share of its bus's load."""
    load = day.aggregator_load_mw
    return Injections.of(
        Part.EXPORT, day.network.ev_bus, np.zeros_like(load), share_max * load, cost_per_mw=-1.0
    )


def elastic(network: Network, periods: int) -> Injections:
    """Power from or to nowhere at every bus, at cost 1: finds the nearest operating point."""
    n = network.n_bus
    bus, kind = np.tile(np.arange(n), 2), np.repeat([ACTIVE, REACTIVE], n)
    low, high = np.zeros((periods, 2 * n)), np.full((periods, 2 * n), np.inf)
    return Injections.of(Part.LACK, bus, low, high, kind=kind, cost_per_mw=1.0) + Injections.of(
        Part.EXCESS, bus, low, high, kind=kind, sign=-1.0, cost_per_mw=1.0
    )
