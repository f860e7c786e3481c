"""The only importer of PYPOWER: the same OPF by its interior-point solver, one period at a time."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import pandas as pd
from pypower import api, idx_brch, idx_bus, idx_cost, idx_gen

from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.network.case import Day, Network
from evcm.network.injections import Injections, Part
from evcm.network.interior.solve import State
from evcm.network.limits import Multipliers
from evcm.network.status import Status

BUILT_IN = (
    "case4gs", "case6ww", "case9", "case14", "case24_ieee_rts", "case30", "case39", "case57",
    "case118", "case300",
)  # fmt: skip
"""Cases that PYPOWER ships and that can be asked for by name."""

UNBOUNDED = 1e15
"""No bound, in MW: per unit it must exceed the 1e10 that PYPOWER takes for none."""

TOLERANCE = 1e-8
"""What PYPOWER must reach in feasibility and optimality; its own 1e-6 leaves 3e-6 pu in (45)."""

LOOSE = 2.0
"""Limits of branches beyond this many times the load are left out, and checked in the answer."""

PLAIN, STEP_CONTROLLED = 560, 565
"""PYPOWER's two variants of its interior point."""

ATTEMPTS = (
    (1.0, 0.0, PLAIN, True), (0.01, 0.0, PLAIN, True), (0.01, 0.0, STEP_CONTROLLED, True),
    (0.01, 1e-4, PLAIN, True), (0.01, 1e-4, PLAIN, False), (0.01, 1e-4, STEP_CONTROLLED, False),
)  # fmt: skip
"""Scale of the costs, cost per MW squared, variant, and whether feasibility is weighted, in turn.

A little curvature lets PYPOWER end where generators without cost leave the optimum flat; it comes
only after all else. PYPOWER divides what the balances lack by the largest room left at any limit;
weighted attempts undo that, which not every case can reach."""


def built_in_case(name: str) -> dict[str, Any]:
    """A case that PYPOWER ships, as its dict of arrays."""
    checks = Checks("case")
    checks.require(name in BUILT_IN, "name", name, ", ".join(BUILT_IN))
    checks.done()
    return deepcopy(getattr(api, name)())


def period_case(day: Day, inj: Injections, period: int) -> dict[str, Any]:
    """One period (from 0) as a PYPOWER case, each injection a row of ``gen`` and ``gencost``.

    The network's generators come first. Every other injection, such as the power not supplied at a
    bus (45) or a cap (54), is a generator of its own: active power within its bounds, no reactive
    power, and its own cost (44). A demand is a generator of negative power. Returned are
    ``baseMVA``, ``bus``, ``gen``, ``branch`` and ``gencost``, as `pypower.api.runopf` takes them.
    """
    case, net = day.network.to_ppc(), day.network
    case["bus"][:, idx_bus.PD] = day.load_p_mw[period]
    case["bus"][:, idx_bus.QD] = day.load_q_mvar[period]
    low, high = inj.low[period], inj.high[period]
    down = np.clip(np.where(inj.sign > 0, low, -high), -UNBOUNDED, UNBOUNDED)
    up = np.clip(np.where(inj.sign > 0, high, -low), -UNBOUNDED, UNBOUNDED)
    bounds = {
        part: (b, d, u, c)
        for (part, b), d, u, c in zip(
            inj.unpack(inj.bus).items(), inj.unpack(down).values(), inj.unpack(up).values(),
            inj.unpack(inj.cost_per_mw * inj.sign).values(), strict=True,
        )
    }  # fmt: skip
    _, q_down, q_up, _ = bounds.pop(Part.REACTIVE_GENERATION)
    own = bounds.pop(Part.ACTIVE_GENERATION)
    bus, p_down, p_up, cost = (
        np.concatenate(columns) for columns in zip(own, *bounds.values(), strict=True)
    )
    for column in (idx_brch.ANGMIN, idx_brch.ANGMAX):  # to PYPOWER an angle of 0 is no limit
        case["branch"][case["branch"][:, column] == 0.0, column] = 1e-9
    gen = np.zeros((bus.size, 21))
    gen[:, idx_gen.GEN_BUS] = net.bus_number[bus]
    gen[:, idx_gen.VG] = gen[:, idx_gen.GEN_STATUS] = 1.0
    gen[:, idx_gen.MBASE] = net.base_mva
    gen[:, idx_gen.PMIN], gen[:, idx_gen.PMAX] = p_down, p_up
    gen[: q_up.size, idx_gen.QMIN], gen[: q_up.size, idx_gen.QMAX] = q_down, q_up
    gencost = np.zeros((bus.size, 6))
    gencost[:, idx_cost.MODEL], gencost[:, idx_cost.NCOST] = idx_cost.POLYNOMIAL, 2
    gencost[:, idx_cost.COST] = cost
    return case | {"gen": gen, "gencost": gencost}


def gen_table(case: Mapping[str, Any], network: Network) -> pd.DataFrame:
    """The rows of ``gen`` and ``gencost`` of a `period_case`, with limits and cost by name."""
    gen, first = case["gen"], network.generator_bus.size
    columns = {
        "bus": idx_gen.GEN_BUS, "Pmin, MW": idx_gen.PMIN, "Pmax, MW": idx_gen.PMAX,
        "Qmin, Mvar": idx_gen.QMIN, "Qmax, Mvar": idx_gen.QMAX,
    }  # fmt: skip
    table = pd.DataFrame({name: gen[:, column] for name, column in columns.items()})
    table["cost per MW"] = case["gencost"][:, idx_cost.COST]
    table.index = pd.Index(["generator" if i < first else "NSE" for i in range(len(gen))])
    return table


def solve(day: Day, inj: Injections) -> State:
    """Every period by PYPOWER; where it ends without an answer, the status says so.

    Each of `ATTEMPTS` must reach `TOLERANCE`; the first that does counts.
    """
    rows = [_solve_period(day, inj, t) for t in range(day.n_periods)]
    status, iterations, angle, v, u, price, *mult = zip(*rows, strict=True)
    return State(
        status=np.array(status, np.int64), iterations=np.array(iterations, np.int64),
        angle_rad=np.stack(angle), v_pu=np.stack(v), injection=np.stack(u),
        price=np.stack(price), multipliers=Multipliers(*(np.stack(m) for m in mult)),
    )  # fmt: skip


def _run(
    case: dict[str, Any], scale: float, curvature: float, variant: int, weighted: bool
) -> dict[str, Any]:
    """PYPOWER's answer to one attempt; figures of a failed one are not to be looked at."""
    case, cost = deepcopy(case), case["gencost"]
    curved = np.zeros((len(cost), 7))
    curved[:, idx_cost.MODEL], curved[:, idx_cost.NCOST] = idx_cost.POLYNOMIAL, 3
    curved[:, idx_cost.COST], curved[:, idx_cost.COST + 1] = curvature, cost[:, idx_cost.COST]
    curved[:, idx_cost.COST :] *= scale
    if curvature:
        case["gencost"] = curved
    else:
        case["gencost"][:, idx_cost.COST :] *= scale
    asked = case["branch"][:, idx_brch.RATE_A].copy()
    given = np.where(asked > LOOSE * np.abs(case["bus"][:, idx_bus.PD]).sum(), 0.0, asked)
    if not given.any():  # PYPOWER fails without any limit at all
        most = _most_mva(case)
        given[most.argmin()] = most.min()
    case["branch"][:, idx_brch.RATE_A] = given
    names = ("PDIPM_GRADTOL", "PDIPM_COMPTOL", "PDIPM_COSTTOL")
    room = (given.max() / case["baseMVA"]) ** 2 if weighted else 0.0
    options = dict.fromkeys(names, TOLERANCE) | {
        "PDIPM_FEASTOL": max(TOLERANCE / (1.0 + room), 1e-13),
        "VERBOSE": 0, "OUT_ALL": 0, "OPF_ALG": variant, "PDIPM_MAX_IT": 200,
    }  # fmt: skip
    with np.errstate(all="ignore"):
        found: dict[str, Any] = api.runopf(case, api.ppoption(**options))
    flow = found["branch"]
    mva = np.hypot(flow[:, [idx_brch.PF, idx_brch.PT]], flow[:, [idx_brch.QF, idx_brch.QT]])
    limit = np.where(asked > 0, asked, np.inf)
    found["success"] &= bool((mva.max(axis=1) <= limit * (1.0 + 1e-6)).all())
    return found


def _most_mva(case: dict[str, Any]) -> FloatArray:
    """More than each branch can carry at any voltage within its limits."""
    row = case["branch"]
    y = 1.0 / np.hypot(row[:, idx_brch.BR_R], row[:, idx_brch.BR_X]) + row[:, idx_brch.BR_B]
    v = case["bus"][:, idx_bus.VMAX].max() / np.minimum(1.0, row[:, idx_brch.TAP])
    return np.asarray(2.0 * case["baseMVA"] * y * v**2)


def _solve_period(day: Day, inj: Injections, t: int) -> tuple[Any, ...]:
    """Status, iterations, angle, voltage, injections, prices and multipliers of one period."""
    case = period_case(day, inj, t)
    for scale, curvature, variant, weighted in ATTEMPTS:
        found = _run(case, scale, curvature, variant, weighted)
        if found["success"]:
            break
    net = day.network
    ng, gen, bus, branch = net.generator_bus.size, found["gen"], found["bus"], found["branch"]
    sign = inj.sign

    def packed(active: int, reactive: int) -> FloatArray:
        own, others = gen[:ng], gen[ng:]
        return np.concatenate([own[:, active], own[:, reactive], others[:, active]])

    up = packed(idx_gen.MU_PMAX, idx_gen.MU_QMAX) / scale
    down = packed(idx_gen.MU_PMIN, idx_gen.MU_QMIN) / scale
    angle = np.deg2rad(bus[:, idx_bus.VA])
    return (
        Status.OPTIMAL if found["success"] else Status.DIVERGED,
        int(found["raw"]["output"]["iterations"]),
        angle - angle[net.slack],
        bus[:, idx_bus.VM].copy(),
        packed(idx_gen.PG, idx_gen.QG) * sign,
        bus[:, [idx_bus.LAM_P, idx_bus.LAM_Q]] / scale,
        bus[:, idx_bus.MU_VMIN] / scale / 100.0,
        bus[:, idx_bus.MU_VMAX] / scale / 100.0,
        np.where(sign > 0, down, up),
        np.where(sign > 0, up, down),
        (branch[:, idx_brch.MU_SF] + branch[:, idx_brch.MU_ST]) / scale,
        (branch[:, idx_brch.MU_ANGMIN] + branch[:, idx_brch.MU_ANGMAX]) / scale,
    )
