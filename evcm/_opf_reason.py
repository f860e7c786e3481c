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
    """Limits whose multipliers hold the nearest point back: generation first, strongest first."""
    found = []
    for names in (
        _generation(near, t, n),
        _flows(near, t),
        _voltages(near, t),
        _demand(near, t, n),
    ):
        strong = sorted((x for x in names if x[0] > 1e-3), key=lambda x: -x[0])
        found += [text for _, text in strong[:3]]
    return found or ["the power balance itself"]


_Names = list[tuple[float, str]]


def _injection(near: Run, t: int, j: int, kind: str) -> _Names:
    """Both limits of injection j with their multipliers; none where it is fixed."""
    net, inj, mult = near.network, near.inj, near.mult[t]
    low, high = near.low[t, j] * net.base_mva, near.high[t, j] * net.base_mva
    if high - low < 1e-6:
        return []
    unit = "MW" if inj.kind[j] == ACTIVE else "Mvar"
    at, first = f"{kind} at bus {net.bus_number[inj.bus[j]]}", 2 * net.n_bus
    return [
        (mult[first + j], f"{at} at least {low:.6g} {unit}"),
        (mult[first + inj.bus.size + j], f"{at} at most {high:.6g} {unit}"),
    ]


def _generation(near: Run, t: int, n: int) -> _Names:
    own = range(min(n, 2 * near.network.generator_bus.size))
    return [x for j in own for x in _injection(near, t, j, "generation")]


def _demand(near: Run, t: int, n: int) -> _Names:
    """Caps and power not supplied; that nothing need be shed holds nothing back."""
    names: _Names = []
    for j in range(2 * near.network.generator_bus.size, n):
        if near.inj.sign[j] < 0:
            names += _injection(near, t, j, "cap")
        else:
            names += _injection(near, t, j, "power not supplied")[1:]
    return names


def _voltages(near: Run, t: int) -> _Names:
    """Voltage limits; their multipliers are per pu, so a hundredth is the step to weigh."""
    net, mult = near.network, near.mult[t] / 100.0
    names: _Names = []
    for k, bus in enumerate(net.bus_number):
        names.append((mult[k], f"voltage at bus {bus} at least {net.v_min_pu[k]:g} pu"))
        names.append((mult[net.n_bus + k], f"voltage at bus {bus} at most {net.v_max_pu[k]:g} pu"))
    return names


def _flows(near: Run, t: int) -> _Names:
    net, nl = near.network, near.network.branch_from.size
    both_ends = near.mult[t, -2 * nl :].reshape(2, nl).max(axis=0)
    ends = zip(net.bus_number[net.branch_from], net.bus_number[net.branch_to], strict=True)
    return [
        (both_ends[e], f"flow on branch {f}-{to} at most {net.limit_mva[e]:g} MVA")
        for e, (f, to) in enumerate(ends)
    ]
