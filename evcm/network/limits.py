"""Which limits hold an operating point back, by name, from the interior point's multipliers."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from evcm.arrays import FloatArray
from evcm.network.case import Network
from evcm.network.injections import REACTIVE, Injections, Part

CAUSES = (
    "all generation", "flow", "angle", "voltage", "generation", "reactive generation",
)  # fmt: skip
"""Kinds of limits that can cause a shortage, in the order in which a planner asks for them."""

FELT = 1e-3
"""Worth below which a limit does not count as binding."""


class Multipliers(NamedTuple):
    """What the objective gains where a limit is one unit looser; periods first.

    `voltage_low`, `voltage_high` (T, n_bus) per hundredth pu; `low`, `high` (T, nj) of the
    injections per MW or Mvar; `flow` (T, n_branch) per MVA; `angle` (T, n_branch) per degree.
    """

    voltage_low: FloatArray
    voltage_high: FloatArray
    low: FloatArray
    high: FloatArray
    flow: FloatArray
    angle: FloatArray

    def at(self, periods: Any) -> Multipliers:
        """Only some periods."""
        return Multipliers(*(a[periods] for a in self))


class Limit(NamedTuple):
    """A limit that binds: of what kind, in words, and what one unit more of it is worth."""

    kind: str
    text: str
    worth: float


def binding(network: Network, inj: Injections, period: int, mult: Multipliers) -> list[Limit]:
    """The limits that bind in a period (from 0): generation first, in each kind strongest first.

    `inj` are the injections of the same periods as `mult`; elastic ones are no limits.
    """
    found = [
        *_injections(network, inj, period, mult),
        *_branches(network, mult, period),
        *_voltages(network, mult, period),
    ]
    return sorted((x for x in found if x.worth > FELT), key=lambda x: (_ORDER[x.kind], -x.worth))


_ORDER = {
    "all generation": 0, "generation": 1, "reactive generation": 1, "flow": 2, "angle": 2,
    "voltage": 3, "cap": 4, "export limit": 4, "power not supplied": 4,
}  # fmt: skip


def _injections(net: Network, inj: Injections, t: int, mult: Multipliers) -> list[Limit]:
    found = []
    each = zip(
        *(inj.unpack(a).items() for a in (inj.low[t], inj.high[t], mult.low[t], mult.high[t])),
        inj.unpack(inj.bus).values(), inj.unpack(inj.kind).values(), strict=True,
    )  # fmt: skip
    for (part, low), (_, high), (_, worth_low), (_, worth_high), bus, kind in each:
        if part in (Part.LACK, Part.EXCESS):
            continue
        free = np.flatnonzero(high - low > 1e-6)
        felt = part is Part.ACTIVE_GENERATION and bool((worth_high[free] > FELT).all())
        if felt and free.size:
            text = f"generation of all buses at most {high[free].sum():.6g} MW"
            found.append(Limit("all generation", text, float(worth_high[free].min())))
        for j in free:
            unit = "Mvar" if kind[j] == REACTIVE else "MW"
            at = f"{part.value.removeprefix('reactive ')} at bus {net.bus_number[bus[j]]}"
            if part is not Part.NOT_SUPPLIED:  # that nothing need be shed holds nothing back
                text = f"{at} at least {low[j]:.6g} {unit}"
                found.append(Limit(part.value, text, float(worth_low[j])))
            if not felt:
                text = f"{at} at most {high[j]:.6g} {unit}"
                found.append(Limit(part.value, text, float(worth_high[j])))
    return found


def _branches(net: Network, mult: Multipliers, t: int) -> list[Limit]:
    ends = zip(net.bus_number[net.branch_from], net.bus_number[net.branch_to], strict=True)
    found = []
    for e, (f, to) in enumerate(ends):
        text = f"flow on branch {f}-{to} at most {net.limit_mva[e]:g} MVA"
        found.append(Limit("flow", text, float(mult.flow[t, e])))
        low, high = net.angle_min_deg[e], net.angle_max_deg[e]
        text = f"angle across branch {f}-{to} within {low:g} to {high:g} degrees"
        found.append(Limit("angle", text, float(mult.angle[t, e])))
    return found


def _voltages(net: Network, mult: Multipliers, t: int) -> list[Limit]:
    found = []
    for k, bus in enumerate(net.bus_number):
        text = f"voltage at bus {bus} at least {net.v_min_pu[k]:g} pu"
        found.append(Limit("voltage", text, float(mult.voltage_low[t, k])))
        text = f"voltage at bus {bus} at most {net.v_max_pu[k]:g} pu"
        found.append(Limit("voltage", text, float(mult.voltage_high[t, k])))
    return found
