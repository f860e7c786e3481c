"""How far lines and transformers of the feeder are loaded, from its voltages and nothing else."""

from __future__ import annotations

import numpy as np

from evcm.arrays import ComplexArray, FloatArray
from evcm.feeder.ieee13 import Circuit, Terminal


def line_loading(feeder: Circuit, volts: ComplexArray) -> FloatArray:
    """Current of the most loaded phase of each line as a share of its rating (case, line).

    The larger of the currents at both ends of the pi section; 0 for a switch.
    """
    found = np.zeros((len(volts), len(feeder.lines)))
    for i, line in enumerate(feeder.lines):
        start, end = (
            volts[:, [feeder.index(Terminal(node, p)) for p in line.phases]]
            for node in (line.start, line.end)
        )
        through = (start - end) @ np.linalg.inv(line.z_ohm).T
        shunt = 0.5j * line.b_s.T
        amps = np.maximum(np.abs(through + start @ shunt), np.abs(through - end @ shunt))
        found[:, i] = amps.max(axis=1) / line.rated_a
    return found


def transformer_loading(feeder: Circuit, volts: ComplexArray) -> FloatArray:
    """Apparent power of all phases of each transformer over its rating (case, transformer).

    At the low side. The published case loads phase a of the service transformer beyond a third of
    its rating, so phases are not told apart here.
    """
    found = np.zeros((len(volts), len(feeder.transformers)))
    for i, unit in enumerate(feeder.transformers):
        kva = np.zeros(len(volts), complex)
        for w in unit.windings:
            low = volts[:, feeder.index(w.low[0])]
            high = volts[:, feeder.index(w.high[0])]
            if len(w.high) == 2:
                high = high - volts[:, feeder.index(w.high[1])]
            kva += low * np.conj((high / w.ratio - low) / w.z_ohm) / 1000.0
        found[:, i] = np.abs(kva) / unit.kva
    return found
