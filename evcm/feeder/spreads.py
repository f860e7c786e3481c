"""How the power of the cars is spread over the nodes and phases of the feeder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, freeze
from evcm.errors import Checks
from evcm.feeder.ieee13 import Circuit, FeederModel, Terminal, circuit


@dataclass(frozen=True)
class Spread:
    """Shares of the cars' power by terminal, phase to neutral, by a rule with a name.

    `shares` sum to 1, (terminal,) for every case alike or (case, terminal).
    """

    name: str
    terminals: tuple[Terminal, ...]
    shares: FloatArray

    def __post_init__(self) -> None:
        freeze(self, {"shares": float})
        c = Checks(f"spread {self.name}")
        c.require(len(self.terminals) > 0, "terminals", self.terminals, "at least one")
        c.require(
            len(set(self.terminals)) == len(self.terminals),
            "terminals", [str(t) for t in self.terminals], "each once",
        )  # fmt: skip
        c.require(
            self.shares.ndim in (1, 2) and self.shares.shape[-1] == len(self.terminals),
            "shares, shape", self.shares.shape, f"(case, {len(self.terminals)}), or one row of it",
        )  # fmt: skip
        off = np.abs(self.shares.sum(axis=-1) - 1).max(initial=0.0)
        c.require(bool((self.shares >= 0).all()), "shares", self.shares.tolist(), ">= 0")
        c.require(bool(off <= 1e-9), "shares, sum", f"off by {off:g}", "1")
        c.done()

    def on(self, feeder: Circuit) -> FloatArray:
        """Shares by terminal of the circuit; an absent node or phase is refused by name."""
        found = np.zeros((*self.shares.shape[:-1], len(feeder.terminals)))
        for j, terminal in enumerate(self.terminals):
            found[..., feeder.index(terminal)] += self.shares[..., j]
        return found

    def take(self, rows: slice) -> Spread:
        """The spread of some cases."""
        return self if self.shares.ndim == 1 else replace(self, shares=self.shares[rows])


def spread_names() -> tuple[str, ...]:
    """Names of the rules in data/feeder/spread.csv."""
    return tuple(data.read_table("feeder/spread.csv")["rule"].drop_duplicates())


def spread(name: str = "by_load") -> Spread:
    """A rule of data/feeder/spread.csv: ``by_load``, ``by_node`` or ``one_phase``."""
    table = data.read_table("feeder/spread.csv")
    c = Checks("spread")
    c.require(name in spread_names(), "rule", name, ", ".join(spread_names()))
    c.done()
    rows = table[table["rule"] == name]
    weights = {f"{r.node}.{r.phase}": float(r.weight) for r in rows.itertuples()}  # type: ignore[arg-type]
    return spread_of(weights, name)


def spread_of(weights: Mapping[str, float], name: str = "custom") -> Spread:
    """A rule from weights by terminal, for example ``{"671.a": 2, "675.c": 1}``.

    Raises
    ------
    InputError
        A node or phase that the feeder does not have (by its name), or weights that are negative
        or all zero.
    """
    feeder = circuit(FeederModel())
    terminals = []
    for key in weights:
        node, _, phase = key.rpartition(".")
        terminals.append(Terminal(node, phase))
        feeder.index(terminals[-1])
    values = np.array(list(weights.values()), dtype=float)
    c = Checks(f"spread {name}")
    positive = bool(np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0)
    c.require(positive, "weights", dict(weights), "finite, none below 0, not all 0")
    c.done()
    return Spread(name, tuple(terminals), values / values.sum())


def single_phase_cars(cars: int, seed: int = 0) -> Spread:
    """`cars` single-phase cars: each picks a node as its load weighs, then a phase of it at random.

    Few cars leave the phases unequal, many even out.
    """
    c = Checks("spread single_phase_cars")
    c.require(cars >= 1, "cars", cars, ">= 1")
    c.done()
    feeder = circuit(FeederModel())
    by_load = spread("by_load")
    nodes = sorted({t.node for t in by_load.terminals})
    weight = np.array(
        [
            sum(s for t, s in zip(by_load.terminals, by_load.shares, strict=True) if t.node == n)
            for n in nodes
        ]
    )
    rng = np.random.default_rng([seed, cars, 13])
    counts: dict[str, float] = {}
    for node in rng.choice(nodes, size=cars, p=weight / weight.sum()):
        key = f"{node}.{rng.choice(feeder.phases(str(node)))}"
        counts[key] = counts.get(key, 0.0) + 1.0
    return spread_of(counts, f"{cars} single-phase cars")
