"""Feeder states re-checked without OpenDSS: Kirchhoff's current law and the energy balance.

Starts from the same tables as the power flow and builds its own admittance matrix in numpy. A
state is certified when, at every solve, (1) the head has the voltage asked for, (2) the current
of every terminal is the one its loads, cars and capacitors draw at the voltage found, and (3)
head power = loads + losses - V2G.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from evcm.arrays import ComplexArray, FloatArray
from evcm.errors import Certificate
from evcm.feeder.ieee13 import Circuit, Terminal

TOLERANCE = 1e-6


def network_admittance(circuit: Circuit) -> ComplexArray:
    """Admittance matrix (S) of lines and transformers, (terminal, terminal).

    Lines are pi sections with coupled phases; transformers are ideal windings behind a series
    impedance. Capacitors and loads are not in it.
    """
    n = len(circuit.terminals)
    y = np.zeros((n, n), complex)
    for line in circuit.lines:
        start = [circuit.index(Terminal(line.start, p)) for p in line.phases]
        end = [circuit.index(Terminal(line.end, p)) for p in line.phases]
        series = np.linalg.inv(line.z_ohm)
        shunt = 0.5j * line.b_s
        y[np.ix_(start, start)] += series + shunt
        y[np.ix_(end, end)] += series + shunt
        y[np.ix_(start, end)] -= series
        y[np.ix_(end, start)] -= series
    for transformer in circuit.transformers:
        for w in transformer.windings:
            # row vector that maps terminal volts to the volts across the series impedance
            across = np.zeros(n)
            for sign, terminal in zip((1.0, -1.0), w.high, strict=False):
                across[circuit.index(terminal)] += sign / w.ratio
            for sign, terminal in zip((1.0, -1.0), w.low, strict=False):
                across[circuit.index(terminal)] -= sign
            y += np.outer(across, across) / w.z_ohm
    return y


def load_power_kva(circuit: Circuit, volts: ComplexArray, load_scale: FloatArray) -> ComplexArray:
    """Power each load draws at the voltages found, kVA, (case, load)."""
    across = _across(circuit, volts)
    base = np.array([load.base_kv * 1000 for load in circuit.loads])
    nominal = np.array([complex(load.kw, load.kvar) for load in circuit.loads])
    power = {"pq": 0, "i": 1, "z": 2}
    exponent = np.array([power[load.kind] for load in circuit.loads])
    scaled: ComplexArray = nominal * load_scale[:, None] * (np.abs(across) / base) ** exponent
    return scaled


def _across(circuit: Circuit, volts: ComplexArray) -> ComplexArray:
    """Voltage across each load, (case, load)."""
    first = [circuit.index(load.terminals[0]) for load in circuit.loads]
    across: ComplexArray = volts[:, first].copy()
    for i, load in enumerate(circuit.loads):
        if len(load.terminals) == 2:
            across[:, i] -= volts[:, circuit.index(load.terminals[1])]
    return across


@dataclass(frozen=True)
class FeederCertificate(Certificate):
    """Figures of the check, one per solve unless stated; powers in kVA (complex).

    ``current_error``: largest violation of Kirchhoff's current law, relative to the head current.
    ``energy_error``: |head - (loads + losses - V2G)| over the power that flows.
    ``solver_error``: the solver's own head power and losses against the ones computed here.
    ``head_error_pu``: largest deviation of a head voltage from the one asked for.
    """

    head_kva: ComplexArray
    load_kva: ComplexArray
    charge_kva: ComplexArray
    v2g_kva: ComplexArray
    losses_kva: ComplexArray
    capacitor_kvar: FloatArray
    current_error: FloatArray
    energy_error: FloatArray
    solver_error: FloatArray
    head_error_pu: FloatArray

    subject = "feeder certificate"

    @property
    def worst(self) -> float:
        """Largest of all relative errors of all solves."""
        errors = (self.current_error, self.energy_error, self.solver_error, self.head_error_pu)
        return float(max(e.max(initial=0.0) for e in errors))

    def violations(self) -> tuple[str, ...]:
        """Errors above `TOLERANCE`, and the solve (from 0) where each is largest."""
        found = []
        for name in ("head_error_pu", "current_error", "energy_error", "solver_error"):
            errors = getattr(self, name)
            if errors.size and not errors.max() <= TOLERANCE:
                case = int(np.argmax(np.where(np.isfinite(errors), errors, np.inf)))
                said = f"{name} {errors[case]:.3g} in solve {case}"
                found.append(f"{said}; allowed: at most {TOLERANCE:g}")
        return tuple(found)


def joined(parts: Sequence[FeederCertificate]) -> FeederCertificate:
    """Certificates of consecutive blocks of solves as one."""
    names = [f.name for f in fields(FeederCertificate)]
    return FeederCertificate(*(np.concatenate([getattr(p, n) for p in parts]) for n in names))


def certify(
    circuit: Circuit,
    volts: ComplexArray,
    head_v_pu: FloatArray,
    load_scale: FloatArray,
    ev_kva: ComplexArray,
    solver_head_kva: ComplexArray,
    solver_losses_kva: ComplexArray,
) -> FeederCertificate:
    """Check solved states: `volts` (case, terminal) where the head and the load (case,) were asked.

    `ev_kva` (case, terminal) is the power of the cars, below zero feeding in; the solver's own sums
    (case,) are to be confirmed.
    """
    into = volts @ network_admittance(circuit).T  # A into the network at every terminal
    network = volts * np.conj(into) / 1000
    loads = load_power_kva(circuit, volts, load_scale)
    shunt_s = np.zeros(len(circuit.terminals))
    for cap in circuit.capacitors:
        shunt_s[circuit.index(cap.terminal)] += cap.kvar * 1000 / (cap.base_kv * 1000) ** 2
    drawn = _drawn(circuit, volts, loads, ev_kva) + 1j * volts * shunt_s
    capacitor_kvar = (np.abs(volts) ** 2 * shunt_s).sum(axis=1) / 1000

    is_head = np.array([t.node == circuit.head for t in circuit.terminals])
    throughput = np.abs(loads).sum(axis=1) + np.abs(ev_kva).sum(axis=1) + capacitor_kvar
    throughput = np.maximum(throughput, 1.0)
    head_base = circuit.base_v[is_head]
    # amperes on the head's side, so that the 0.48 kV node counts alike
    mismatch = np.abs((into + drawn) * circuit.base_v / head_base[0])[:, ~is_head].max(axis=1)

    head = network[:, is_head].sum(axis=1)
    losses = network.sum(axis=1)
    feeding = ev_kva.real < 0
    charge = np.where(feeding, 0, ev_kva).sum(axis=1)
    v2g = -np.where(feeding, ev_kva, 0).sum(axis=1)
    balance = loads.sum(axis=1) + charge + losses - v2g - 1j * capacitor_kvar
    said = np.maximum(np.abs(solver_head_kva - head), np.abs(solver_losses_kva - losses))
    found_pu = np.abs(volts[:, is_head]) / head_base
    return FeederCertificate(
        head_kva=head,
        load_kva=loads.sum(axis=1),
        charge_kva=charge,
        v2g_kva=v2g,
        losses_kva=losses,
        capacitor_kvar=capacitor_kvar,
        current_error=mismatch / (throughput * 1000 / head_base.sum()),
        energy_error=np.abs(head - balance) / throughput,
        solver_error=said / throughput,
        head_error_pu=np.abs(found_pu - head_v_pu[:, None]).max(axis=1),
    )


def _drawn(
    circuit: Circuit, volts: ComplexArray, loads: ComplexArray, ev_kva: ComplexArray
) -> ComplexArray:
    """Current (A) that loads and cars draw at every terminal, (case, terminal)."""
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not a number fails the check
        drawn: ComplexArray = np.conj(ev_kva * 1000 / volts)
        currents = np.conj(loads * 1000 / _across(circuit, volts))
    for i, load in enumerate(circuit.loads):
        for sign, terminal in zip((1.0, -1.0), load.terminals, strict=False):
            drawn[:, circuit.index(terminal)] += sign * currents[:, i]
    return drawn
