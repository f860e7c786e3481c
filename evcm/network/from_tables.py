"""A network from three tables, as ``data/network/`` keeps them, and the tables of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from evcm.arrays import IntArray
from evcm.errors import Checks
from evcm.network.case import Network

BUS = (
    "bus", "type", "load_mw", "load_mvar", "shunt_mw", "shunt_mvar", "v_min_pu", "v_max_pu",
)  # fmt: skip
BRANCH = (
    "from_bus", "to_bus", "resistance_pu", "reactance_pu", "charging_pu", "tap_ratio", "limit_mva",
)  # fmt: skip
BRANCH_OPTIONAL = ("shift_deg",)
GENERATOR = ("bus", "p_min_mw", "p_max_mw", "q_min_mvar", "q_max_mvar")


def of_tables(
    name: str,
    base_mva: float,
    bus: Mapping[str, NDArray[Any]],
    branch: Mapping[str, NDArray[Any]],
    generator: Mapping[str, NDArray[Any]],
    aggregator_buses: Sequence[int] | None = None,
) -> Network:
    """A network from the columns of its three tables, as ``data/network/`` names them.

    Aggregators sit at `aggregator_buses`, at every bus with active load if left out. Branches may
    have ``shift_deg``; 0 if left out.

    Raises
    ------
    InputError
        A bus is unknown or comes twice, or `Network` refuses the figures.
    """
    number = np.asarray(bus["bus"]).astype(np.int64)
    index = {int(b): i for i, b in enumerate(number)}
    c = Checks(f"network {name}")
    c.require(len(index) == number.size, "bus", "a number twice", "each bus once")
    chosen = number[bus["load_mw"] > 0] if aggregator_buses is None else np.array(aggregator_buses)
    ends = {
        "branch, from_bus": branch["from_bus"], "branch, to_bus": branch["to_bus"],
        "generator, bus": generator["bus"], "aggregator_buses": chosen,
    }  # fmt: skip
    for table, buses in ends.items():
        strange = [int(b) for b in buses if int(b) not in index]
        c.require(not strange, table, f"unknown bus {strange[:5]}", "a bus of the table of buses")
    c.done()

    def place(buses: NDArray[Any]) -> IntArray:
        return np.array([index[int(b)] for b in buses], dtype=np.int64)

    return Network(
        name=name, base_mva=base_mva, bus_number=number, bus_type=bus["type"],
        load_p_mw=bus["load_mw"], load_q_mvar=bus["load_mvar"],
        shunt_g_mw=bus["shunt_mw"], shunt_b_mvar=bus["shunt_mvar"],
        v_min_pu=bus["v_min_pu"], v_max_pu=bus["v_max_pu"],
        branch_from=place(branch["from_bus"]), branch_to=place(branch["to_bus"]),
        resistance_pu=branch["resistance_pu"], reactance_pu=branch["reactance_pu"],
        charging_pu=branch["charging_pu"], tap_ratio=branch["tap_ratio"],
        shift_deg=branch.get("shift_deg", np.zeros(len(branch["from_bus"]))),
        limit_mva=branch["limit_mva"], generator_bus=place(generator["bus"]),
        p_min_mw=generator["p_min_mw"], p_max_mw=generator["p_max_mw"],
        q_min_mvar=generator["q_min_mvar"], q_max_mvar=generator["q_max_mvar"],
        ev_bus=place(chosen),
    )  # fmt: skip


def tables_of(network: Network) -> dict[str, pd.DataFrame]:
    """Tables ``bus``, ``branch`` and ``generator`` of a network; `of_tables` reads them back."""
    n = network
    number = n.bus_number
    bus = (number, n.bus_type, n.load_p_mw, n.load_q_mvar, n.shunt_g_mw, n.shunt_b_mvar,
           n.v_min_pu, n.v_max_pu)  # fmt: skip
    branch = (number[n.branch_from], number[n.branch_to], n.resistance_pu, n.reactance_pu,
              n.charging_pu, n.tap_ratio, n.limit_mva)  # fmt: skip
    generator = (number[n.generator_bus], n.p_min_mw, n.p_max_mw, n.q_min_mvar, n.q_max_mvar)
    found = {
        name: pd.DataFrame(dict(zip(columns, values, strict=True)))
        for name, columns, values in (
            ("bus", BUS, bus), ("branch", BRANCH, branch), ("generator", GENERATOR, generator),
        )
    }  # fmt: skip
    found["branch"].insert(0, "branch", np.arange(1, len(n.branch_from) + 1))
    if n.shift_deg.any():
        found["branch"]["shift_deg"] = n.shift_deg
    return found


def with_aggregators(network: Network, at: Sequence[int]) -> Network:
    """The network with aggregators at the buses of these indices."""
    return replace(network, ev_bus=np.array(sorted(at), dtype=np.int64))
