"""Caps on what each aggregator may buy (2.4.1): the largest total the network serves (54), (55)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np

from evcm import data
from evcm.arrays import FloatArray, freeze
from evcm.errors import Checks
from evcm.network import injections, opf
from evcm.network.case import (
    Day,
    Network,
    bus_load_mvar,
    bus_load_mw,
    ieee14,
    reference_load_factor,
)
from evcm.network.opf import METHODS, Method, check_loads, solve_injections

GAP = 2e-9
"""Relative gap of the caps: the optimum is flat, so a looser one shows at single buses."""


@dataclass(frozen=True, eq=False)
class Caps:
    """Caps of T periods, with the operating point that serves the load and all caps at once.

    `cap_mw` is (period, aggregator), columns as `network.ev_bus`; the state is as in `OpfDay`.
    """

    network: Network
    load_p_mw: FloatArray = field(repr=False)
    load_q_mvar: FloatArray = field(repr=False)
    cap_mw: FloatArray = field(repr=False)
    generation_p_mw: FloatArray = field(repr=False)
    generation_q_mvar: FloatArray = field(repr=False)
    v_pu: FloatArray = field(repr=False)
    angle_deg: FloatArray = field(repr=False)
    share_min: float
    share_max: float
    status: tuple[str, ...] = field(repr=False)
    method: str
    seconds: float

    def __post_init__(self) -> None:
        freeze(self)

    @property
    def total_mw(self) -> FloatArray:
        """Sum of the caps in each period. (T,)"""
        return np.asarray(self.cap_mw.sum(axis=1))


def cap_shares() -> tuple[float, float]:
    """Least and largest cap as a share of the bus's own load (55)."""
    facts = data.read_toml("network/network.toml")
    return float(facts["cap_share_min"]), float(facts["cap_share_max"])


def solve_caps(
    network: Network,
    load_p_mw: FloatArray,
    load_q_mvar: FloatArray,
    *,
    share_min: float | None = None,
    share_max: float | None = None,
    method: Method = "fast",
) -> Caps:
    """Maximise the sum of the caps subject to the OPF's constraints, with no power unsupplied.

    Parameters
    ----------
    network
    load_p_mw, load_q_mvar : (T, n_bus)
        Load without the cars that the caps are for.
    share_min, share_max
        Range of a cap as a share of its bus's load; the study's 0.025 and 1 unless given.
    method
        ``fast`` or ``pypower``.

    Raises
    ------
    InputError
        Wrong shapes, numbers that are not finite, shares out of order.
    InfeasibleError
        The network cannot serve the load and the least caps: names period and limits.
    """
    low, high = cap_shares()
    low = low if share_min is None else share_min
    high = high if share_max is None else share_max
    c = Checks("caps")
    c.require(method in METHODS, "method", method, ", ".join(METHODS))
    c.require(0 <= low <= high, "share_min, share_max", (low, high), "0 <= share_min <= share_max")
    c.done()
    p, q = check_loads(network, load_p_mw, load_q_mvar)
    started = time.perf_counter()
    inj = injections.generation(network, len(p)).free_of_cost()
    inj += injections.caps(network, p, low, high)
    angle, v, u, iterations = solve_injections(network, p, q, inj, method, "caps", gap=GAP)
    ng = network.generator_bus.size
    return Caps(
        network=network,
        load_p_mw=p,
        load_q_mvar=q,
        cap_mw=u[:, 2 * ng :],
        generation_p_mw=u[:, :ng],
        generation_q_mvar=u[:, ng : 2 * ng],
        v_pu=v,
        angle_deg=np.rad2deg(angle),
        share_min=low,
        share_max=high,
        status=tuple(f"optimal after {n} iterations ({method})" for n in iterations),
        method=method,
        seconds=time.perf_counter() - started,
    )


def study_caps(
    as_published: bool = False, *, method: Method = "fast", network: Network | None = None
) -> Caps:
    """Caps on the reference day of the study, 48 periods and 11 aggregators."""
    net = ieee14(as_published) if network is None else network
    factor = reference_load_factor()
    load_p, load_q = bus_load_mw(factor, None, net), bus_load_mvar(factor, net)
    return solve_caps(net, load_p, load_q, method=method)


def network_room_mw(site: Day, reach_mw: FloatArray) -> FloatArray:
    """Most that all aggregators together can draw in each period (T,), losses included.

    An AC OPF of its own: it maximises Σ_k P_k with -reach_k <= P_k <= reach_k (T, K) and no power
    unsupplied. It spreads the total where it costs the least, so no plan can draw more.
    """
    net, periods = site.network, len(reach_mw)
    inj = injections.generation(net, periods).free_of_cost()
    n = net.ev_bus.size
    inj += injections.Injections(
        bus=net.ev_bus.copy(), kind=np.full(n, injections.ACTIVE), sign=-np.ones(n),
        cost_per_mw=-np.ones(n), low=-reach_mw, high=reach_mw,
    )  # fmt: skip
    loads = site.load_p_mw, site.load_q_mvar
    _, _, u, _ = opf.solve_injections(net, *loads, inj, "fast", "network room")
    return np.asarray(u[:, 2 * net.generator_bus.size :].sum(axis=1))
