"""The IEEE 13-node feeder as tables: what is connected where. No solver here.

`circuit` turns data/feeder/ and the options of a `FeederModel` into a `Circuit`: lines,
transformers, loads and capacitors between named terminals. The power flow engine and the
certificate both start from it, and from nothing else of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evcm import data
from evcm.arrays import ComplexArray, read_only
from evcm.errors import Checks

PHASES = "abc"
FEET_PER_MILE = 5280.0
SWITCH_CODE = "0"


@dataclass(frozen=True, order=True)
class Terminal:
    """One phase of one node, written ``632.a``."""

    node: str
    phase: str

    def __str__(self) -> str:
        return f"{self.node}.{self.phase}"


@dataclass(frozen=True)
class Line:
    """A line section with its whole series impedance (ohm) and shunt susceptance (S).

    ``rated_a`` is what each of its phase conductors carries; inf for a switch.
    """

    start: str
    end: str
    phases: str
    z_ohm: ComplexArray
    b_s: NDArray[np.float64]
    rated_a: float = np.inf


@dataclass(frozen=True)
class Winding:
    """A single-phase transformer: voltage between two terminals (or to ground) on either side.

    ``ratio`` is high-side volts per low-side volt at no load; ``z_ohm`` is seen from the low side.
    """

    high: tuple[Terminal, ...]
    low: tuple[Terminal, ...]
    ratio: float
    z_ohm: complex


@dataclass(frozen=True)
class Transformer:
    """A transformer as its makers state it, and as single-phase windings."""

    name: str
    start: str
    end: str
    phases: str
    kva: float
    high_kv: float
    low_kv: float
    r_percent: float
    x_percent: float
    delta: bool
    tap: float
    windings: tuple[Winding, ...]


@dataclass(frozen=True)
class Load:
    """One single-phase load: between a terminal and ground, or between two terminals (delta).

    ``kind``: pq constant power, i constant current, z constant impedance; kW and kvar hold at
    ``base_kv``.
    """

    terminals: tuple[Terminal, ...]
    kind: str
    kw: float
    kvar: float
    base_kv: float


@dataclass(frozen=True)
class Capacitor:
    """A capacitor between a terminal and ground; kvar at ``base_kv``."""

    terminal: Terminal
    kvar: float
    base_kv: float


@dataclass(frozen=True)
class FeederModel:
    """What of the feeder is modelled.

    Parameters
    ----------
    regulator_taps : tuple of int or None
        Fixed taps of phases a, b, c of the head regulator; None leaves the regulator out, as the
        paper does with all equipment that regulates voltage (2.4.3).
    substation_transformer : bool
        Model the 115 / 4.16 kV transformer; the head voltage is then that of its high side.
    v2g_as_generators : bool
        Power fed in by cars comes from generators on the nodes, as in the paper's Figure 3, which
        run below zero while cars charge; otherwise cars are loads, below zero while they feed in.
        Both are constant power, so voltages do not differ.
    charger_power_factor : float
        Lagging power factor while charging; V2G runs at unity.
    """

    regulator_taps: tuple[int, int, int] | None = None
    substation_transformer: bool = False
    v2g_as_generators: bool = True
    charger_power_factor: float = 1.0

    def __post_init__(self) -> None:
        c = Checks("feeder model")
        low, high = _facts()["regulator"]["tap_range"]
        taps = self.regulator_taps
        if taps is not None:
            c.require(
                len(taps) == 3 and all(isinstance(t, int) and low <= t <= high for t in taps),
                "regulator_taps", taps, f"three whole numbers in {low}..{high}",
            )  # fmt: skip
        c.require(
            0 < self.charger_power_factor <= 1,
            "charger_power_factor", self.charger_power_factor, "above 0, at most 1",
        )  # fmt: skip
        c.done()


@dataclass(frozen=True)
class Circuit:
    """A feeder ready to be solved: elements, and its terminals in array order."""

    head: str
    head_kv: float
    lines: tuple[Line, ...]
    transformers: tuple[Transformer, ...]
    loads: tuple[Load, ...]
    capacitors: tuple[Capacitor, ...]
    terminals: tuple[Terminal, ...]
    base_v: NDArray[np.float64]
    load_range_pu: tuple[float, float]

    def index(self, terminal: Terminal) -> int:
        """Place of a terminal in the arrays; a phase that the node lacks is refused by name.

        Raises
        ------
        InputError
            No such node, or the node has no such phase.
        """
        if terminal not in self._places:
            c = Checks("feeder")
            phases = self.phases(terminal.node)
            nodes = ", ".join(dict.fromkeys(t.node for t in self.terminals))
            if c.require(bool(phases), "node", terminal.node, nodes):
                allowed = f"node {terminal.node} has phase {', '.join(phases)}"
                c.require(False, f"node {terminal.node}, phase", terminal.phase, allowed)
            c.done()
        return self._places[terminal]

    @cached_property
    def _places(self) -> dict[Terminal, int]:
        return {terminal: i for i, terminal in enumerate(self.terminals)}

    def phases(self, node: str) -> tuple[str, ...]:
        """Phases that a node has; empty where there is no such node."""
        return tuple(t.phase for t in self.terminals if t.node == node)

    @property
    def nominal_kw(self) -> float:
        """Sum of all loads at nominal voltage, kW."""
        return sum(load.kw for load in self.loads)

    @property
    def nominal_kvar(self) -> float:
        """Sum of all loads at nominal voltage, kvar."""
        return sum(load.kvar for load in self.loads)


def _facts() -> dict[str, Any]:
    return data.read_toml("feeder/feeder.toml")


def _rows(name: str) -> list[Any]:
    """Rows of a data table as named tuples."""
    return list(data.read_table(name).itertuples())


def published_model() -> FeederModel:
    """The feeder of the published solution: regulator at its published taps, no transformer."""
    a, b, c = _facts()["regulator"]["published_taps"]
    return FeederModel(regulator_taps=(a, b, c))


@cache
def circuit(model: FeederModel) -> Circuit:
    """The feeder of data/feeder/ with the options of `model`."""
    facts = _facts()
    phase_kv = facts["base_kv"] / np.sqrt(3)
    capacitors = tuple(
        Capacitor(Terminal(str(r.node), r.phase), float(r.kvar), phase_kv)
        for r in _rows("feeder/capacitors.csv")
    )
    lines = _lines(facts, model)
    transformers = _transformers(facts, model)
    base: dict[Terminal, float] = {}
    for t in transformers:
        for end, kv in ((t.start, t.high_kv), (t.end, t.low_kv)):
            base.update({Terminal(end, p): kv * 1000 / np.sqrt(3) for p in t.phases})
    if not model.substation_transformer:
        base.update({Terminal(facts["head_node"], p): phase_kv * 1000 for p in PHASES})
    for line in lines:
        for end in (line.start, line.end):
            base.update(
                {Terminal(end, p): base.get(Terminal(end, p), phase_kv * 1000) for p in line.phases}
            )
    substation = facts["substation_transformer"]
    head = substation["node"] if model.substation_transformer else facts["head_node"]
    order = list(data.read_table("feeder/layout.csv")["node"].astype(str))
    terminals = tuple(
        sorted(base, key=lambda t: (order.index(t.node) if t.node in order else -1, t.phase))
    )
    values = read_only([base[t] for t in terminals])
    low, high = facts["load_model"]["range_pu"]
    return Circuit(
        head=head,
        head_kv=substation["high_kv"] if model.substation_transformer else facts["base_kv"],
        lines=lines,
        transformers=transformers,
        loads=_loads(facts, base),
        capacitors=capacitors,
        terminals=terminals,
        base_v=values,
        load_range_pu=(low, high),
    )  # fmt: skip


def _lines(facts: dict[str, Any], model: FeederModel) -> tuple[Line, ...]:
    codes = _rows("feeder/line_codes.csv")
    rated = {str(r.code): float(r.rated_a) for r in _rows("feeder/ratings.csv")}
    spread = facts["distributed_load"]
    shared = data.read_table("feeder/distributed_loads.csv").iloc[0]
    head = facts["head_node"]
    first = facts["regulator"]["node"] if model.regulator_taps is not None else head
    found: list[Line] = []
    for row in _rows("feeder/lines.csv"):
        start, end = (str(row[1]), str(row[2]))
        start = first if start == head else start
        miles = float(row.length_ft) / FEET_PER_MILE
        if str(row.code) == SWITCH_CODE:
            size = len(str(row.phases))
            z = np.eye(size, dtype=complex) * facts["switch_ohm"]
            found.append(Line(start, end, str(row.phases), z, np.zeros((size, size))))
            continue
        z, b = _matrices(codes, str(row.code), str(row.phases))
        parts = [(start, end, 1.0)]
        if (start, end) == (str(shared["from"]), str(shared["to"])):
            at = float(spread["position"])
            parts = [(start, spread["node"], at), (spread["node"], end, 1 - at)]
        for s, e, f in parts:
            most_a = rated[str(row.code)]
            found.append(Line(s, e, str(row.phases), z * miles * f, b * miles * f, most_a))
    return tuple(found)


def _matrices(codes: list[Any], code: str, phases: str) -> tuple[ComplexArray, NDArray[np.float64]]:
    """Symmetric impedance (ohm/mile) and susceptance (S/mile) matrices of a line code."""
    n = len(phases)
    z, b = np.zeros((n, n), complex), np.zeros((n, n))
    for row in (r for r in codes if str(r.code) == code):
        i, j = phases.index(row.phase_i), phases.index(row.phase_j)
        z[i, j] = z[j, i] = complex(row.r_ohm_per_mile, row.x_ohm_per_mile)
        b[i, j] = b[j, i] = row.b_us_per_mile * 1e-6
    return z, b


def _transformers(facts: dict[str, Any], model: FeederModel) -> tuple[Transformer, ...]:
    head, found = facts["head_node"], []
    if model.substation_transformer:
        s = facts["substation_transformer"]
        found.append(_transformer("substation", s["node"], head, PHASES, s, delta=True))
    if model.regulator_taps is not None:
        r = facts["regulator"]
        kv = facts["base_kv"]
        unit = {
            "kva": r["kva"],
            "high_kv": kv,
            "low_kv": kv,
            "r_percent": 0.0,
            "x_percent": r["x_percent"],
        }
        for phase, tap in zip(PHASES, model.regulator_taps, strict=True):
            ratio = 1 + tap * r["step"]
            name = f"regulator_{phase}"
            found.append(_transformer(name, head, r["node"], phase, unit, tap=ratio))
    s = facts["service_transformer"]
    found.append(_transformer("service", s["from"], s["to"], PHASES, s))
    return tuple(found)


def _transformer(
    name: str, start: str, end: str, phases: str, facts: dict[str, Any],
    delta: bool = False, tap: float = 1.0,
) -> Transformer:  # fmt: skip
    """Three (or one) single-phase windings. A delta winding stands between a phase and the one
    before it, so that the low side lags by 30 degrees, as North American practice has it.
    """
    kva_phase = facts["kva"] / (3 if len(phases) == 3 else 1)
    low_v = facts["low_kv"] * 1000 / np.sqrt(3)
    high_v = facts["high_kv"] * 1000 / (1 if delta else np.sqrt(3))
    z_pu = complex(facts["r_percent"], facts["x_percent"]) / 100
    z_ohm = z_pu * (low_v * tap) ** 2 / (kva_phase * 1000)
    before = {p: PHASES[i - 1] for i, p in enumerate(PHASES)}
    windings = tuple(
        Winding(
            high=tuple(Terminal(start, q) for q in ((p, before[p]) if delta else (p,))),
            low=(Terminal(end, p),),
            ratio=high_v / (low_v * tap),
            z_ohm=z_ohm,
        )
        for p in phases
    )  # fmt: skip
    names = ("kva", "high_kv", "low_kv", "r_percent", "x_percent")
    values = {n: float(facts[n]) for n in names}
    return Transformer(name, start, end, phases, **values, delta=delta, tap=tap, windings=windings)


def _loads(facts: dict[str, Any], base: dict[Terminal, float]) -> tuple[Load, ...]:
    found = []
    for row in _rows("feeder/loads.csv"):
        found.append(_load(str(row.node), row, 1.0, base))
    spread = facts["distributed_load"]
    for row in _rows("feeder/distributed_loads.csv"):
        found.append(_load(spread["node"], row, spread["share"], base))
        found.append(_load(str(row.to), row, 1 - spread["share"], base))
    return tuple(found)


def _load(node: str, row: Any, share: float, base: dict[Terminal, float]) -> Load:
    terminals = tuple(Terminal(node, p) for p in row.terminals)
    kv = base[terminals[0]] / 1000 * (np.sqrt(3) if row.connection == "d" else 1)
    return Load(terminals, row.kind, row.kw * share, row.kvar * share, kv)
