"""What one AC OPF asks: the injections at buses, their bounds and costs, by equation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, IntArray
from evcm.network.case import Network
from evcm.paper import implements

ACTIVE, REACTIVE = 0, 1


@dataclass(frozen=True, eq=False)
class Injections:
    """Powers at buses that the OPF chooses; MW or Mvar.

    `bus`, `kind` (0 active, 1 reactive), `sign` (+1 supply, -1 demand) and `cost_per_mw` are per
    injection (nj,); `low` and `high` are (T, nj). The network's generators come first, active
    then reactive.
    """

    bus: IntArray
    kind: IntArray
    sign: FloatArray
    cost_per_mw: FloatArray
    low: FloatArray
    high: FloatArray

    def __add__(self, other: Injections) -> Injections:
        return Injections(
            np.concatenate([self.bus, other.bus]),
            np.concatenate([self.kind, other.kind]),
            np.concatenate([self.sign, other.sign]),
            np.concatenate([self.cost_per_mw, other.cost_per_mw]),
            np.concatenate([self.low, other.low], axis=1),
            np.concatenate([self.high, other.high], axis=1),
        )

    def free_of_cost(self) -> Injections:
        """The same injections with no cost."""
        zero = np.zeros_like(self.cost_per_mw)
        return Injections(self.bus, self.kind, self.sign, zero, self.low, self.high)

    def period(self, t: int) -> Injections:
        """Only period t."""
        low, high = self.low[t : t + 1], self.high[t : t + 1]
        return Injections(self.bus, self.kind, self.sign, self.cost_per_mw, low, high)


def nsp_penalty_per_mw() -> float:
    """C_pen of (44), against 1 per MW at the slack."""
    return float(data.read_toml("network/network.toml")["nsp_penalty_per_mw"])


@implements("44")
def cost_per_mw(network: Network) -> tuple[FloatArray, float]:
    """Coefficients of (44): 1 for power at the slack, 0 for other generators, C_pen for NSP."""
    at_slack = network.generator_bus == network.slack
    return at_slack.astype(float), nsp_penalty_per_mw()


@implements("52", "53")
def generation(network: Network, periods: int) -> Injections:
    """Active (52) and reactive (53) power of every generator, within its limits."""
    n = network.generator_bus.size
    cost, _ = cost_per_mw(network)
    return Injections(
        bus=np.tile(network.generator_bus, 2),
        kind=np.repeat([ACTIVE, REACTIVE], n),
        sign=np.ones(2 * n),
        cost_per_mw=np.concatenate([cost, np.zeros(n)]),
        low=np.tile(np.concatenate([network.p_min_mw, network.q_min_mvar]), (periods, 1)),
        high=np.tile(np.concatenate([network.p_max_mw, network.q_max_mvar]), (periods, 1)),
    )


@implements("44", "45", role="bound")
def not_supplied(network: Network, load_p_mw: FloatArray) -> Injections:
    """NSP of (45): at a PQ bus part of a load may go unsupplied, never its reactive part."""
    bus = np.flatnonzero(network.sheddable)
    _, penalty = cost_per_mw(network)
    high = np.maximum(load_p_mw[:, bus], 0.0)
    return Injections(
        bus=bus,
        kind=np.full(bus.size, ACTIVE),
        sign=np.ones(bus.size),
        cost_per_mw=np.full(bus.size, penalty),
        low=np.zeros_like(high),
        high=high,
    )


@implements("54", "55")
def caps(network: Network, load_p_mw: FloatArray, share_min: float, share_max: float) -> Injections:
    """Caps as demand in the balance (54), each a share of its bus's load (55)."""
    load = np.maximum(load_p_mw[:, network.ev_bus], 0.0)
    n = network.ev_bus.size
    return Injections(
        bus=network.ev_bus.copy(),
        kind=np.full(n, ACTIVE),
        sign=-np.ones(n),
        cost_per_mw=-np.ones(n),
        low=share_min * load,
        high=share_max * load,
    )


def elastic(network: Network, periods: int) -> Injections:
    """Power from or to nowhere at every bus, at cost 1: finds the nearest operating point."""
    n = network.n_bus
    return Injections(
        bus=np.tile(np.arange(n), 4),
        kind=np.repeat([ACTIVE, ACTIVE, REACTIVE, REACTIVE], n),
        sign=np.repeat([1.0, -1.0, 1.0, -1.0], n),
        cost_per_mw=np.ones(4 * n),
        low=np.zeros((periods, 4 * n)),
        high=np.full((periods, 4 * n), np.inf),
    )
