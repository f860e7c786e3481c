"""Say why an OPF has no operating point: what is missing at the nearest, which limits bind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from evcm._opf_problem import ACTIVE
from evcm.errors import InfeasibleError

if TYPE_CHECKING:
    from evcm._opf_fast import Run

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


def raise_infeasible(
    near: Run, hopeless: IntArray, which: IntArray, missing: FloatArray, n: int, what: str
) -> None:
    """Raise for the rows `hopeless` of `near`, periods `which`; `n` injections are real."""
    first = int(hopeless[0])
    period = int(which[first]) + 1
    lacking = _lacking(near, first, n)
    binding = _binding(near, first, n)
    others = [int(which[t]) + 1 for t in hopeless[1:]]
    text = f"{what}, period {period}: no operating point keeps every limit. Nearest one: "
    text += ", ".join(lacking) + ". Limits that bind there: " + "; ".join(binding)
    if others:
        text += f". Also infeasible: {len(others)} more, first period {others[0]}"
    raise InfeasibleError(
        text,
        period=period,
        periods=[period, *others],
        missing=float(missing[first]),
        lacking=lacking,
        binding=binding,
    )


def _lacking(near: Run, t: int, n: int) -> list[str]:
    """Power that the nearest point invents or throws away, largest first."""
    net, inj = near.network, near.inj
    amount = near.u[t, n:] * net.base_mva
    found = []
    for j in np.argsort(-amount)[:4]:
        if amount[j] > max(1e-4, 0.01 * amount.max()):
            unit = "MW" if inj.kind[n + j] == ACTIVE else "Mvar"
            word = "too little" if inj.sign[n + j] > 0 else "too much"
            found.append(f"{amount[j]:.4g} {unit} {word} at bus {net.bus_number[inj.bus[n + j]]}")
    return found


def _binding(near: Run, t: int, n: int) -> list[str]:
    """Limits whose multipliers hold the nearest point back, strongest first."""
    net, inj, mult = near.network, near.inj, near.mult[t]
    nb, nj, nl, base = net.n_bus, inj.bus.size, net.branch_from.size, net.base_mva
    names: list[tuple[float, str]] = []
    for k in range(nb):
        bus = net.bus_number[k]
        # a voltage's multiplier is per pu of voltage: a hundredth is a sensible step
        names.append((0.01 * mult[k], f"voltage at bus {bus} at least {net.v_min_pu[k]:g} pu"))
        names.append((0.01 * mult[nb + k], f"voltage at bus {bus} at most {net.v_max_pu[k]:g} pu"))
    for j in range(n):
        bus = net.bus_number[inj.bus[j]]
        unit = "MW" if inj.kind[j] == ACTIVE else "Mvar"
        kind = (
            "demand"
            if inj.sign[j] < 0
            else "power not supplied"
            if j >= 2 * net.generator_bus.size
            else "generation"
        )
        low, high = near.low[t, j] * base, near.high[t, j] * base
        held = high - low < 1e-6
        at = f"{kind} at bus {bus}"
        if held:
            continue
        if kind != "power not supplied":
            names.append((mult[2 * nb + j], f"{at} at least {low:.6g} {unit}"))
        names.append((mult[2 * nb + nj + j], f"{at} at most {high:.6g} {unit}"))
    for e in range(nl):
        f, to = net.bus_number[net.branch_from[e]], net.bus_number[net.branch_to[e]]
        strength = max(mult[2 * nb + 2 * nj + e], mult[2 * nb + 2 * nj + nl + e])
        names.append((strength, f"flow on branch {f}-{to} at most {net.limit_mva[e]:g} MVA"))
    strong = sorted((x for x in names if x[0] > 1e-3), key=lambda x: -x[0])
    return [text for _, text in strong[:6]] or ["the power balance itself"]
