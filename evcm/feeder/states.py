"""The unbalanced IEEE 13-node feeder, three-phase and node by node, on OpenDSS (2.4.3, 3.3).

`solve` runs many power flows of one `FeederModel` in memory and certifies every one of them;
`run_day` couples the feeder to the transmission results: the head takes the voltage of its bus,
and the aggregator's signed power is spread over nodes and phases.

References
----------
W. H. Kersting, "Radial distribution test feeders", IEEE PES Winter Meeting, 2001.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm import data
from evcm.arrays import ComplexArray, FloatArray
from evcm.errors import Checks, SolverError
from evcm.feeder import opendss
from evcm.feeder.certificate import FeederCertificate, certify, joined
from evcm.feeder.coupling import FeederCases, feeder_cases
from evcm.feeder.ieee13 import PHASES, Circuit, FeederModel, Terminal, circuit
from evcm.feeder.spreads import Spread, spread
from evcm.store.each import in_parts

BLOCK_SIZE = 2048
"""Solves that share a warm start; fixed, so that results do not depend on the number of jobs."""


@dataclass(frozen=True)
class FeederStates:
    """Solved and certified states of the feeder.

    `volts` (case, terminal) are voltages to ground, V; `iterations` (case,) those of the power
    flow. The certificate re-checks every solve without the solver and has the powers at the head
    and the losses. `solver` is OpenDSS's version, `seconds` the wall time of the solves.
    """

    model: FeederModel
    spread: Spread
    cases: FeederCases
    volts: ComplexArray
    iterations: NDArray[np.int64]
    certificate: FeederCertificate
    solver: str
    seconds: float

    @property
    def terminals(self) -> tuple[Terminal, ...]:
        """Terminals in array order."""
        return circuit(self.model).terminals

    @property
    def v_pu(self) -> FloatArray:
        """Voltage magnitudes, per unit, (case, terminal)."""
        magnitude: FloatArray = np.abs(self.volts) / circuit(self.model).base_v
        return magnitude

    def at(self, node: str, phase: str) -> FloatArray:
        """Voltage magnitude (pu) at one terminal, (case,); an absent phase is refused by name."""
        index = circuit(self.model).index(Terminal(node, phase))
        magnitude: FloatArray = np.abs(self.volts[:, index]) / circuit(self.model).base_v[index]
        return magnitude

    def unbalance_percent(self, node: str) -> FloatArray:
        """Voltage unbalance factor (VUF): negative over positive sequence, %, (case,)."""
        feeder = circuit(self.model)
        v = np.stack([self.volts[:, feeder.index(Terminal(node, p))] for p in PHASES], axis=1)
        a = np.exp(2j * np.pi / 3)
        positive = v @ np.array([1, a, a**2]) / 3
        negative = v @ np.array([1, a**2, a]) / 3
        factor: FloatArray = 100 * np.abs(negative) / np.abs(positive)
        return factor

    def three_phase_nodes(self) -> tuple[str, ...]:
        """Nodes with three phases, in array order."""
        nodes = dict.fromkeys(t.node for t in self.terminals)
        return tuple(n for n in nodes if len(circuit(self.model).phases(n)) == 3)

    def voltages(self) -> pd.DataFrame:
        """Tidy table: period and labels of the case, node, phase, v_pu, angle_deg."""
        s, n = self.volts.shape
        where = np.repeat(np.arange(s), n)
        frame = self.cases.labels.iloc[where].reset_index(drop=True)
        frame["period"] = self.cases.period[where]
        frame["node"] = np.tile([t.node for t in self.terminals], s)
        frame["phase"] = np.tile([t.phase for t in self.terminals], s)
        frame["v_pu"] = self.v_pu.ravel()
        frame["angle_deg"] = np.degrees(np.angle(self.volts)).ravel()
        return frame

    def flows(self) -> pd.DataFrame:
        """One row per case: labels, period, what was asked, and powers in kW and kvar."""
        proof = self.certificate
        frame = self.cases.labels.copy()
        frame["period"] = self.cases.period
        frame["head_v_pu"] = self.cases.head_v_pu
        frame["load_scale"] = self.cases.load_scale
        frame["head_kw"], frame["head_kvar"] = proof.head_kva.real, proof.head_kva.imag
        frame["load_kw"] = proof.load_kva.real
        frame["charge_kw"], frame["v2g_kw"] = proof.charge_kva.real, proof.v2g_kva.real
        frame["losses_kw"] = proof.losses_kva.real
        nodes = self.three_phase_nodes()
        frame["vuf_max_percent"] = np.max([self.unbalance_percent(n) for n in nodes], axis=0)
        frame["v_min_pu"], frame["v_max_pu"] = self.v_pu.min(axis=1), self.v_pu.max(axis=1)
        return frame


def solve(
    cases: FeederCases,
    model: FeederModel | None = None,
    cars: Spread | None = None,
    jobs: int = 1,
) -> FeederStates:
    """Solve and certify the power flow of every case.

    By default the model is the paper's choice, no regulator and no substation transformer, and the
    cars plug in by ``spread("by_load")``. Results are the same bits for any number of processes.

    Raises
    ------
    SolverError
        A power flow did not converge, or left the range of voltages in which loads keep to their
        kind (says period and node); or the certificate does not hold.
    InputError
        The spread names a node or phase that the feeder does not have.
    """
    model = model or FeederModel()
    cars = cars or spread("by_load")
    cars.on(circuit(model))  # an absent node or phase is refused before any solve
    c, rows = Checks("feeder"), cars.shares.shape[:-1]
    c.require(rows in ((), (len(cases),)), "shares, cases", rows, f"none or {len(cases)}")
    c.done()
    start = time.perf_counter()
    slices = [slice(i, i + BLOCK_SIZE) for i in range(0, len(cases), BLOCK_SIZE)]
    blocks = [(cases.take(rows), cars.take(rows)) for rows in slices]
    groups = [blocks[i::jobs] for i in range(min(jobs, len(blocks)))]
    found: list[list[_Solved]]
    found = in_parts(_solve_blocks, [(group, model) for group in groups], jobs)
    ordered = [found[i % jobs][i // jobs] for i in range(len(blocks))]
    seconds = time.perf_counter() - start
    return FeederStates(
        model=model,
        spread=cars,
        cases=cases,
        volts=np.concatenate([volts for volts, _, _ in ordered]),
        iterations=np.concatenate([iterations for _, iterations, _ in ordered]),
        certificate=joined([proof for _, _, proof in ordered]).require(),
        solver=opendss.version(),
        seconds=seconds,
    )


_Solved = tuple[ComplexArray, NDArray[np.int64], FeederCertificate]
"""Volts, iterations and certificate of a block of cases."""


def _solve_blocks(
    blocks: list[tuple[FeederCases, Spread]], model: FeederModel
) -> list[_Solved]:  # fmt: skip
    """Solve blocks of cases in this process."""
    feeder = circuit(model)
    with opendss.Engine(feeder, blocks[0][1].terminals, model.v2g_as_generators) as engine:
        return [_solve_block(engine, feeder, block, model, cars) for block, cars in blocks]


def _solve_block(
    engine: opendss.Engine, feeder: Circuit, block: FeederCases, model: FeederModel, cars: Spread
) -> _Solved:
    """One cold start, then each solve from the one before; certified here, block by block."""
    engine.restart()
    size = len(block)
    volts = np.empty((size, len(feeder.terminals)), complex)
    head, losses = np.empty(size, complex), np.empty(size, complex)
    iterations, converged = np.empty(size, np.int64), np.zeros(size, bool)
    # V2G runs at unity power factor.
    kvar = np.where(block.ev_kw > 0, np.tan(np.arccos(model.charger_power_factor)), 0.0)
    shares = np.broadcast_to(cars.shares, (size, len(cars.terminals)))
    asked = np.stack([block.head_v_pu, block.load_scale, block.ev_kw, kvar], axis=1).tolist()
    for i, (pu, load, kw, kvar_per_kw) in enumerate(asked):
        raw = engine.solve(pu, load, kw, kvar_per_kw, shares[i])
        if not raw.converged:
            engine.restart(loaded=True)
            raw = engine.solve(pu, load, kw, kvar_per_kw, shares[i])
        volts[i], head[i], losses[i] = raw.volts, raw.head_kva, raw.losses_kva
        iterations[i], converged[i] = raw.iterations, raw.converged
        if not raw.converged:
            break
    _check(block, feeder, volts, iterations, converged)
    ev_kva = np.asarray((block.ev_kw * (1 + 1j * kvar))[:, None] * cars.on(feeder), complex)
    proof = certify(feeder, volts, block.head_v_pu, block.load_scale, ev_kva, head, losses)
    return volts, iterations, proof


def _check(
    block: FeederCases, feeder: Circuit, volts: ComplexArray, iterations: NDArray[np.int64],
    converged: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Raise unless each solve converged to voltages in which the load model holds.

    Only the cases up to the first that did not converge are looked at.
    """
    low, high = feeder.load_range_pu
    all_pu = np.abs(volts) / feeder.base_v
    good = converged & ((all_pu >= low) & (all_pu <= high)).all(axis=1)
    if good.all():
        return
    i = int(np.argmin(good))
    v_pu = all_pu[i]
    away = np.where(np.isfinite(v_pu), np.maximum(low - v_pu, v_pu - high), np.inf)
    worst = feeder.terminals[int(np.argmax(away))]
    value = float(v_pu[int(np.argmax(away))])
    label = ", ".join(f"{k} {v}" for k, v in block.labels.iloc[i].items())
    what = (
        f"reached {value:.3f} pu; the load models hold in {low}..{high} pu"
        if converged[i]
        else f"did not converge in {iterations[i]} iterations; farthest off at {value:.3f} pu"
    )
    raise SolverError(
        f"feeder power flow, period {block.period[i]}, node {worst.node} phase {worst.phase}: "
        f"{what} (head {block.head_v_pu[i]:.4f} pu, load x {block.load_scale[i]:.3f}, "
        f"cars {block.ev_kw[i]:.1f} kW{'; ' + label if label else ''})",
        period=int(block.period[i]), node=worst.node, phase=worst.phase, v_pu=value,
    )  # fmt: skip


def run_day(
    table: pd.DataFrame,
    model: FeederModel | None = None,
    cars: Spread | None = None,
    feeders: pd.DataFrame | None = None,
    jobs: int = 1,
) -> FeederStates:
    """Feeder states of all rows of transmission results (all scenarios, sides, regimes, periods).

    `table`: columns scenario, side, regime, period, bus, v_pu, load_mw, ev_mw, nsp_mw.
    `feeders`: feeders by bus, `feeders_at_bus(table)` by default. Other parameters and errors as
    in `solve`.
    """
    return solve(feeder_cases(table, feeders), model, cars, jobs)


def published_solution() -> pd.DataFrame:
    """The published solution: node, phase, v_pu, angle_deg."""
    table = data.read_table("feeder/published.csv")
    return table.assign(node=table["node"].astype(str))


def far_nodes() -> tuple[str, ...]:
    """The nodes far from the head that the paper discusses (3.3)."""
    return tuple(data.read_toml("feeder/feeder.toml")["far_nodes"])


def substation_kva() -> float:
    """Rating of the substation transformer that a feeder hangs on, kVA."""
    return float(data.read_toml("feeder/feeder.toml")["substation_transformer"]["kva"])


def supply_band(rural: bool = False) -> tuple[float, float]:
    """Voltage (pu) that Peru's supply standard allows: +-5 % of nominal, +-7.5 % if rural."""
    norm = data.read_toml("feeder/feeder.toml")["supply_standard"]
    width = norm["rural_band" if rural else "band"]
    return 1 - width, 1 + width
