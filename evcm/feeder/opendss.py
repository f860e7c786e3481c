"""The only importer of OpenDSS: one circuit in memory, solved again and again, no files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from dss import DSS
from numpy.typing import NDArray

from evcm.arrays import ComplexArray, FloatArray
from evcm.errors import SolverError
from evcm.feeder.ieee13 import Capacitor, Circuit, Line, Load, Terminal, Transformer

TOLERANCE = 1e-10
"""Largest change of a voltage between the last two iterations, per unit."""

MAX_ITERATIONS = 200
HERTZ = 60.0
_NUMBER = {"a": 1, "b": 2, "c": 3}
_MODEL = {"pq": 1, "z": 2, "i": 5}
_SOURCE_OHM = 1e-6
_idle: list[Any] = []
"""Contexts of OpenDSS that nobody uses: to make one takes as long as a hundred power flows."""


@dataclass(frozen=True)
class RawState:
    """What OpenDSS says of one solve: volts by terminal, power in at the head, losses."""

    converged: bool
    iterations: int
    volts: ComplexArray
    head_kva: complex
    losses_kva: complex


class Engine:
    """An OpenDSS circuit in a context of its own, with cars on the given terminals.

    The circuit is made from text commands. `solve` then sets the head's voltage, the load
    multiplier (cars are fixed) and the power of cars in memory, and warm starts from the solution
    before. For a cold start use `restart`: `calcvoltagebases` would leave the capacitors out of
    later solves.
    """

    def __init__(
        self, circuit: Circuit, ev_terminals: tuple[Terminal, ...], generators: bool
    ) -> None:
        self.circuit = circuit
        try:
            self._dss = _idle.pop()
        except IndexError:
            self._dss = DSS.NewContext()
        self._dss.AllowForms = False
        self._dss.AllowChangeDir = False
        self._evs = ev_terminals
        self._generators = generators

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        _idle.append(self._dss)

    def restart(self, loaded: bool = False) -> None:
        """Make the circuit anew, its matrix with the loads of the first solve or without.

        Without, power flows take fewer iterations, but do not converge at voltages far too low.
        """
        for command in self._commands() + ["set loadmult=0 genmult=0", "solve"] * (not loaded):
            self._dss.Text.Command = command
        made = self._dss.ActiveCircuit
        self._made, self._solution, self._source = made, made.Solution, made.Vsources
        self._cars = made.Generators if self._generators else made.Loads
        self._set = (0.0, 0.0, b"")
        self._order = self._node_order()

    def solve(
        self, head_v_pu: float, load_scale: float, ev_kw: float, kvar_per_kw: float,
        shares: FloatArray,
    ) -> RawState:  # fmt: skip
        """Solve one power flow. Cars: kW in all (below zero feeds in), shares by car terminal."""
        self._source.First  # noqa: B018 (an attribute with an effect: it activates the source)
        self._source.pu = head_v_pu
        self._set_evs(ev_kw, kvar_per_kw, shares)
        self._solution.LoadMult = load_scale
        try:
            self._solution.Solve()
        except Exception as error:  # dss raises its own type for any fault of the engine
            raise SolverError(f"OpenDSS: {error}") from error
        head, losses = self._made.TotalPower, self._made.Losses
        return RawState(
            converged=bool(self._solution.Converged),
            iterations=int(self._solution.Iterations),
            volts=np.asarray(self._made.AllBusVolts, dtype=float).view(complex)[self._order],
            head_kva=-complex(head[0], head[1]),
            losses_kva=complex(losses[0], losses[1]) / 1000,
        )

    def _set_evs(self, ev_kw: float, kvar_per_kw: float, shares: FloatArray) -> None:
        """Generators are scaled by one number as long as the shares stay; loads are set anew."""
        first = len(self.circuit.loads) + 1
        if self._generators:
            self._solution.GenMult = -ev_kw
            first, ev_kw = 1, 1.0
        asked = ev_kw, kvar_per_kw, shares.tobytes()
        if asked == self._set:
            return
        for i, kw in enumerate((ev_kw * shares).tolist(), first):
            self._cars.idx = i
            self._cars.kW, self._cars.kvar = kw, kw * kvar_per_kw
        self._set = asked

    def _node_order(self) -> NDArray[np.int64]:
        """Place of each of our terminals among OpenDSS's nodes."""
        names = [str(n).lower() for n in self._dss.ActiveCircuit.AllNodeNames]
        place = {name: i for i, name in enumerate(names)}
        own = [f"{t.node}.{_NUMBER[t.phase]}".lower() for t in self.circuit.terminals]
        return np.array([place[name] for name in own], dtype=np.int64)

    def _commands(self) -> list[str]:
        c = self.circuit
        makers: list[str] = [
            "clear",
            f"new circuit.feeder basekv={c.head_kv!r} pu=1 phases=3 bus1={c.head} r1=0 r0=0 "
            f"x1={_SOURCE_OHM} x0={_SOURCE_OHM} basefreq={HERTZ}",
        ]
        makers += [_transformer(t) for t in c.transformers]
        makers += [_line(i, line) for i, line in enumerate(c.lines)]
        makers += [_capacitor(i, cap) for i, cap in enumerate(c.capacitors)]
        limits = f"vminpu={c.load_range_pu[0]} vmaxpu={c.load_range_pu[1]}"
        makers += [_load(f"spot{i}", load, limits) for i, load in enumerate(c.loads)]
        cars = [Load((t,), "pq", 0.0, 0.0, c.base_v[c.index(t)] / 1000) for t in self._evs]
        for i, car in enumerate(cars):
            load = _load(f"ev{i}", car, f"{limits} status=fixed")
            makers.append(_generator(i, car, limits) if self._generators else load)
        bases = sorted({float(np.round(v * np.sqrt(3) / 1000, 6)) for v in c.base_v})
        return [
            *makers,
            f"set voltagebases=[{' '.join(map(repr, bases))}]",
            "calcvoltagebases",
            f"set tolerance={TOLERANCE} maxiterations={MAX_ITERATIONS} controlmode=off",
        ]


def _bus(terminals: tuple[Terminal, ...]) -> str:
    return terminals[0].node + "".join(f".{_NUMBER[t.phase]}" for t in terminals)


def _on(node: str, phases: str) -> str:
    return _bus(tuple(Terminal(node, p) for p in phases))


def _transformer(t: Transformer) -> str:
    kind = "delta" if t.delta else "wye"
    n = len(t.phases)
    high, low = t.high_kv, t.low_kv
    if n == 1:
        high, low = high / np.sqrt(3), low / np.sqrt(3)
    return (
        f"new transformer.{t.name} phases={n} windings=2 ppm_antifloat=0 "
        f"buses=[{_on(t.start, t.phases)} {_on(t.end, t.phases)}] conns=[{kind} wye] "
        f"kvs=[{float(high)!r} {float(low)!r}] kvas=[{t.kva!r} {t.kva!r}] "
        f"%rs=[{t.r_percent / 2!r} {t.r_percent / 2!r}] xhl={t.x_percent!r} taps=[1 {t.tap!r}]"
    )


def _triangle(matrix: FloatArray) -> str:
    rows = (" ".join(repr(float(x)) for x in row[: i + 1]) for i, row in enumerate(matrix))
    return "[" + " | ".join(rows) + "]"


def _line(i: int, line: Line) -> str:
    nano = line.b_s / (2 * np.pi * HERTZ) * 1e9
    return (
        f"new line.l{i}_{line.start}_{line.end} phases={len(line.phases)} length=1 "
        f"bus1={_on(line.start, line.phases)} bus2={_on(line.end, line.phases)} "
        f"rmatrix={_triangle(line.z_ohm.real)} xmatrix={_triangle(line.z_ohm.imag)} "
        f"cmatrix={_triangle(nano)} basefreq={HERTZ}"
    )


def _capacitor(i: int, cap: Capacitor) -> str:
    bus = _bus((cap.terminal,))
    return f"new capacitor.c{i} bus1={bus} phases=1 kv={float(cap.base_kv)!r} kvar={cap.kvar!r}"


def _load(name: str, load: Load, limits: str) -> str:
    kind = "delta" if len(load.terminals) == 2 else "wye"
    return (
        f"new load.{name} bus1={_bus(load.terminals)} phases=1 conn={kind} "
        f"kv={float(load.base_kv)!r} kw={load.kw!r} kvar={load.kvar!r} "
        f"model={_MODEL[load.kind]} {limits}"
    )


def _generator(i: int, car: Load, limits: str) -> str:
    return (
        f"new generator.v2g{i} bus1={_bus(car.terminals)} phases=1 kv={float(car.base_kv)!r} "
        f"kw=0 kvar=0 model=1 {limits}"
    )


def version() -> str:
    """OpenDSS engine version, for records of how a result was obtained."""
    text: Any = DSS.Version
    return str(text).splitlines()[0]
