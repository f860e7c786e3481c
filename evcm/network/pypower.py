"""The only importer of PYPOWER: the same OPF by its interior-point solver, one period at a time."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from pypower import api

from evcm.arrays import FloatArray
from evcm.errors import Checks, SolverError
from evcm.network.case import Network
from evcm.network.injections import Injections

BUILT_IN = (
    "case4gs", "case6ww", "case9", "case14", "case24_ieee_rts", "case30", "case39", "case57",
    "case118", "case300",
)  # fmt: skip
"""Cases that PYPOWER ships and that can be asked for by name."""

UNLIMITED_MVA = 9.9e5
"""Stands for no branch limit: PYPOWER fails when every limit is 0."""

UNBOUNDED = 1e10
"""PYPOWER's own infinity of a bound."""


def built_in_case(name: str) -> dict[str, Any]:
    """A case that PYPOWER ships, as its dict of arrays."""
    checks = Checks("case")
    checks.require(name in BUILT_IN, "name", name, ", ".join(BUILT_IN))
    checks.done()
    return deepcopy(getattr(api, name)())


def case_of(
    network: Network, p_mw: FloatArray, q_mvar: FloatArray, inj: Injections
) -> dict[str, Any]:
    """One period as a PYPOWER case; generators first, then power not supplied or caps."""
    nb, nl, ng = network.n_bus, network.branch_from.size, network.generator_bus.size
    bus = np.zeros((nb, 13))
    bus[:, 0] = np.arange(1, nb + 1)
    bus[:, 1], bus[:, 2], bus[:, 3] = network.bus_type, p_mw, q_mvar
    bus[:, 4], bus[:, 5] = network.shunt_g_mw, network.shunt_b_mvar
    bus[:, 6] = bus[:, 7] = bus[:, 10] = 1.0
    bus[:, 9] = 100.0  # kV; per unit figures do not depend on it
    bus[:, 11], bus[:, 12] = network.v_max_pu, network.v_min_pu
    branch = np.zeros((nl, 13))
    branch[:, 0], branch[:, 1] = network.branch_from + 1, network.branch_to + 1
    branch[:, 2], branch[:, 3] = network.resistance_pu, network.reactance_pu
    branch[:, 4], branch[:, 8], branch[:, 9] = (
        network.charging_pu, network.tap_ratio, network.shift_deg,
    )  # fmt: skip
    branch[:, 5] = np.where(np.isfinite(network.limit_mva), network.limit_mva, UNLIMITED_MVA)
    branch[:, 10], branch[:, 11], branch[:, 12] = 1.0, -360.0, 360.0
    extra = inj.bus.size - 2 * ng  # active power alone: not supplied, or a cap
    low, high = np.clip(inj.low[0], -UNBOUNDED, None), np.clip(inj.high[0], None, UNBOUNDED)
    down = np.where(inj.sign > 0, low, -high)
    up = np.where(inj.sign > 0, high, -low)
    gen = np.zeros((ng + extra, 21))
    gen[:, 0] = np.concatenate([inj.bus[:ng], inj.bus[2 * ng :]]) + 1
    gen[:, 5], gen[:, 6], gen[:, 7] = 1.0, network.base_mva, 1.0
    gen[:, 9] = np.concatenate([down[:ng], down[2 * ng :]])
    gen[:, 8] = np.concatenate([up[:ng], up[2 * ng :]])
    gen[:ng, 4], gen[:ng, 3] = down[ng : 2 * ng], up[ng : 2 * ng]
    cost = inj.cost_per_mw * inj.sign
    gencost = np.zeros((ng + extra, 6))
    gencost[:, 0], gencost[:, 3] = 2, 2
    gencost[:, 4] = np.concatenate([cost[:ng], cost[2 * ng :]])
    return {
        "version": "2",
        "baseMVA": network.base_mva,
        "bus": bus,
        "branch": branch,
        "gen": gen,
        "gencost": gencost,
    }


def solve_period(
    network: Network,
    load_p_mw: FloatArray,
    load_q_mvar: FloatArray,
    inj: Injections,
    period: int,
    what: str,
    tolerance: float | None = None,
) -> tuple[FloatArray, FloatArray, FloatArray, int]:
    """One period. Returns angle (rad), voltage (pu), injections (MW, Mvar) and the iterations.

    `tolerance` tightens PYPOWER's own termination tolerances (None keeps its defaults).

    Raises
    ------
    SolverError
        PYPOWER did not converge; its figures are not looked at.
    """
    options: dict[str, Any] = {"VERBOSE": 0, "OUT_ALL": 0}
    if tolerance is not None:
        names = ("PDIPM_FEASTOL", "PDIPM_GRADTOL", "PDIPM_COMPTOL", "PDIPM_COSTTOL")
        options |= dict.fromkeys(names, tolerance)
    case = case_of(network, load_p_mw, load_q_mvar, inj)
    with np.errstate(all="ignore"):
        result = api.runopf(case, api.ppoption(**options))
    if not result["success"]:
        raise SolverError(f"{what}, period {period}: PYPOWER did not converge", period=period)
    ng = network.generator_bus.size
    power = result["gen"]
    injection = np.concatenate([power[:ng, 1], power[:ng, 2], power[ng:, 1]]) * inj.sign
    angle = np.deg2rad(result["bus"][:, 8])
    iterations = int(result.get("raw", {}).get("output", {}).get("iterations", 0))
    return angle - angle[network.slack], result["bus"][:, 7].copy(), injection, iterations
