"""The transmission network (2.4.2): buses, branches, generators, and the load at each bus (43)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from evcm import data
from evcm.arrays import BoolArray, FloatArray, IntArray, freeze, read_only
from evcm.errors import Checks
from evcm.paper import implements

PQ, PV, SLACK = 1, 2, 3
"""Bus types: load bus, generator bus, slack."""

_TYPES = dict.fromkeys(
    ("bus_number", "bus_type", "branch_from", "branch_to", "generator_bus", "ev_bus"), np.int64
)


@dataclass(frozen=True, eq=False)
class Network:
    """A network in the figures an engineer writes down; indices count from 0, in file order.

    Per bus (nb,): `bus_number`, `bus_type` (1 PQ, 2 PV, 3 slack), `load_p_mw`, `load_q_mvar`,
    `shunt_g_mw` and `shunt_b_mvar` at 1 pu, `v_min_pu`, `v_max_pu`.
    Per branch (nl,): `branch_from`, `branch_to`, `resistance_pu`, `reactance_pu`, `charging_pu`,
    `tap_ratio` (from side, 1 for a line), `shift_deg`, `limit_mva` (inf: none).
    Per generator (ng,): `generator_bus`, `p_min_mw`, `p_max_mw`, `q_min_mvar`, `q_max_mvar`.
    `ev_bus` lists the buses that have an aggregator, in the order of the columns of EV tables.

    Raises
    ------
    InputError
        Shapes differ, a figure is not finite, limits are crossed, there is not exactly one slack
        with a generator, or the network falls apart into islands.
    """

    name: str
    base_mva: float
    bus_number: IntArray = field(repr=False)
    bus_type: IntArray = field(repr=False)
    load_p_mw: FloatArray = field(repr=False)
    load_q_mvar: FloatArray = field(repr=False)
    shunt_g_mw: FloatArray = field(repr=False)
    shunt_b_mvar: FloatArray = field(repr=False)
    v_min_pu: FloatArray = field(repr=False)
    v_max_pu: FloatArray = field(repr=False)
    branch_from: IntArray = field(repr=False)
    branch_to: IntArray = field(repr=False)
    resistance_pu: FloatArray = field(repr=False)
    reactance_pu: FloatArray = field(repr=False)
    charging_pu: FloatArray = field(repr=False)
    tap_ratio: FloatArray = field(repr=False)
    shift_deg: FloatArray = field(repr=False)
    limit_mva: FloatArray = field(repr=False)
    generator_bus: IntArray = field(repr=False)
    p_min_mw: FloatArray = field(repr=False)
    p_max_mw: FloatArray = field(repr=False)
    q_min_mvar: FloatArray = field(repr=False)
    q_max_mvar: FloatArray = field(repr=False)
    ev_bus: IntArray = field(repr=False)

    def __post_init__(self) -> None:
        freeze(self, _TYPES)
        _check(self)

    @property
    def n_bus(self) -> int:
        """Number of buses."""
        return int(self.bus_number.size)

    @cached_property
    def slack(self) -> int:
        """Index of the slack bus."""
        return int(np.flatnonzero(self.bus_type == SLACK)[0])

    @cached_property
    def sheddable(self) -> BoolArray:
        """Buses where power may be left unsupplied (NSP): every PQ bus. (nb,)"""
        return np.asarray(self.bus_type == PQ)

    @property
    def ev_bus_number(self) -> tuple[int, ...]:
        """Numbers of the buses that have an aggregator."""
        return tuple(int(b) for b in self.bus_number[self.ev_bus])

    def admittance_pu(self) -> NDArray[np.complex128]:
        """Two-port admittances of the branches: columns ff, ft, tf, tt. (nl, 4)"""
        y = 1.0 / (self.resistance_pu + 1j * self.reactance_pu)
        tap = self.tap_ratio * np.exp(1j * np.deg2rad(self.shift_deg))
        tt = y + 0.5j * self.charging_pu
        return np.stack([tt / self.tap_ratio**2, -y / np.conj(tap), -y / tap, tt], axis=1)


def _check(net: Network) -> None:
    c = Checks(f"network {net.name}")
    groups = {
        "bus_number": ("bus_type", "load_p_mw", "load_q_mvar", "shunt_g_mw", "shunt_b_mvar",
                       "v_min_pu", "v_max_pu"),
        "branch_from": ("branch_to", "resistance_pu", "reactance_pu", "charging_pu", "tap_ratio",
                        "shift_deg", "limit_mva"),
        "generator_bus": ("p_min_mw", "p_max_mw", "q_min_mvar", "q_max_mvar"),
    }  # fmt: skip
    for first, others in groups.items():
        shape = getattr(net, first).shape
        for name in others:
            c.require(getattr(net, name).shape == shape, name, getattr(net, name).shape, str(shape))
    c.done()
    finite = [n for g in groups.values() for n in g if n not in ("limit_mva", *_TYPES)]
    for name in finite:
        values = getattr(net, name)
        unbounded = name in ("p_min_mw", "p_max_mw", "q_min_mvar", "q_max_mvar")
        bad = np.flatnonzero(np.isnan(values) if unbounded else ~np.isfinite(values))
        c.require(not bad.size, name, values[bad[:1]].tolist(), "finite numbers")
    for low, high in (
        ("v_min_pu", "v_max_pu"),
        ("p_min_mw", "p_max_mw"),
        ("q_min_mvar", "q_max_mvar"),
    ):
        a, b = getattr(net, low), getattr(net, high)
        bad = np.flatnonzero(a > b)
        where = int(bad[0]) if bad.size else 0
        c.require(
            not bad.size, f"{low}, {high} of row {where + 1}",
            (float(a[where]), float(b[where])) if a.size else (), "low <= high",
        )  # fmt: skip
    c.require(net.base_mva > 0, "base_mva", net.base_mva, "> 0")
    c.require(bool((net.v_min_pu > 0).all()), "v_min_pu", float(net.v_min_pu.min()), "> 0")
    c.require(bool((net.limit_mva > 0).all()), "limit_mva", net.limit_mva.min().item(), "> 0")
    c.require(bool((net.tap_ratio > 0).all()), "tap_ratio", net.tap_ratio.min().item(), "> 0")
    z = np.abs(net.resistance_pu + 1j * net.reactance_pu)
    c.require(bool((z > 0).all()), "resistance_pu, reactance_pu", 0.0, "not both zero")
    slacks = net.bus_number[net.bus_type == SLACK]
    c.require(slacks.size == 1, "slack buses", slacks.tolist(), "exactly one")
    if slacks.size == 1:
        at_slack = bool((net.bus_type[net.generator_bus] == SLACK).any())
        c.require(at_slack, f"generators at slack bus {slacks[0]}", 0, "at least one")
    apart = _apart(net)
    c.require(not apart, "islands", f"buses {apart} are not connected to the slack", "one island")
    c.done()


def _apart(net: Network) -> list[int]:
    """Numbers of the buses that no branch path joins to the first bus."""
    joined = np.zeros(net.bus_number.size, bool)
    joined[0] = True
    while True:
        new = joined.copy()
        new[net.branch_to[joined[net.branch_from]]] = True
        new[net.branch_from[joined[net.branch_to]]] = True
        if (new == joined).all():
            return [int(b) for b in net.bus_number[~joined]]
        joined = new


@cache
def ieee14(as_published: bool = False) -> Network:
    """The study's IEEE 14-bus system.

    Parameters
    ----------
    as_published
        The network of the paper's own program, see `published_variant`.
    """
    bus, branch = data.read_table("network/bus.csv"), data.read_table("network/branch.csv")
    generator = data.read_table("network/generator.csv")
    facts = data.read_toml("network/network.toml")
    number = bus["bus"].to_numpy()
    index = {int(b): i for i, b in enumerate(number)}
    place = np.vectorize(index.__getitem__, otypes=[np.int64])
    net = Network(
        name=facts["name"],
        base_mva=facts["base_mva"],
        bus_number=number,
        bus_type=bus["type"].to_numpy(),
        load_p_mw=bus["load_mw"].to_numpy(),
        load_q_mvar=bus["load_mvar"].to_numpy(),
        shunt_g_mw=bus["shunt_mw"].to_numpy(),
        shunt_b_mvar=bus["shunt_mvar"].to_numpy(),
        v_min_pu=bus["v_min_pu"].to_numpy(),
        v_max_pu=bus["v_max_pu"].to_numpy(),
        branch_from=place(branch["from_bus"]),
        branch_to=place(branch["to_bus"]),
        resistance_pu=branch["resistance_pu"].to_numpy(),
        reactance_pu=branch["reactance_pu"].to_numpy(),
        charging_pu=branch["charging_pu"].to_numpy(),
        tap_ratio=branch["tap_ratio"].to_numpy(),
        shift_deg=np.zeros(len(branch)),
        limit_mva=branch["limit_mva"].to_numpy(),
        generator_bus=place(generator["bus"]),
        p_min_mw=generator["p_min_mw"].to_numpy(),
        p_max_mw=generator["p_max_mw"].to_numpy(),
        q_min_mvar=generator["q_min_mvar"].to_numpy(),
        q_max_mvar=generator["q_max_mvar"].to_numpy(),
        ev_bus=np.flatnonzero(bus["load_mw"].to_numpy() > 0),
    )
    return published_variant(net) if as_published else net


def published_variant(net: Network) -> Network:
    """The network that the paper's own program solves.

    Branches are their series admittance y/a alone, the paper's form of (47) and (48): no line
    charging, no shunts, no tap terms of the pi branch. Reactive power at a generator bus has an
    upper limit only: the published voltages make bus 1 absorb about 6 to 10 Mvar while its
    output is given as 0, and the outputs given for the other generators exceed what their
    voltages need. The published states are reproduced with this reading and not without it.
    """
    return replace(
        net,
        name=f"{net.name}, as published",
        shunt_g_mw=np.zeros_like(net.shunt_g_mw),
        shunt_b_mvar=np.zeros_like(net.shunt_b_mvar),
        resistance_pu=net.resistance_pu * net.tap_ratio,
        reactance_pu=net.reactance_pu * net.tap_ratio,
        charging_pu=np.zeros_like(net.charging_pu),
        tap_ratio=np.ones_like(net.tap_ratio),
        shift_deg=np.zeros_like(net.shift_deg),
        q_min_mvar=np.full_like(net.q_min_mvar, -np.inf),
    )


@implements("43")
def bus_load_mw(
    load_factor: FloatArray, ev_mw: FloatArray | None = None, network: Network | None = None
) -> FloatArray:
    """Active load at each bus: the reference day plus what each aggregator buys (43).

    Parameters
    ----------
    load_factor : (T,)
    ev_mw : (T, n_ev), optional
        Day-ahead power of each aggregator, negative when it feeds in; columns as `network.ev_bus`.
    network
        The study's IEEE 14-bus system unless given.

    Returns
    -------
    (T, n_bus) array in MW.
    """
    net = ieee14() if network is None else network
    factor = np.asarray(load_factor, float)
    load = factor[:, None] * net.load_p_mw[None, :]
    if ev_mw is not None:
        ev = np.asarray(ev_mw, float)
        c = Checks("EV power")
        wanted = (factor.size, net.ev_bus.size)
        c.require(ev.shape == wanted, "shape", ev.shape, str(wanted))
        c.require(bool(np.isfinite(ev).all()), "ev_mw", "not finite", "finite numbers")
        c.done()
        load[:, net.ev_bus] += ev
    return load


def bus_load_mvar(load_factor: FloatArray, network: Network | None = None) -> FloatArray:
    """Reactive load at each bus, Mvar: the reference day alone, cars draw none. (T, n_bus)"""
    net = ieee14() if network is None else network
    return np.asarray(np.asarray(load_factor, float)[:, None] * net.load_q_mvar[None, :])


@dataclass(frozen=True, eq=False)
class Day:
    """The network and its load without cars: what caps are for. Loads are (T, n_bus)."""

    network: Network
    load_p_mw: FloatArray = field(repr=False)
    load_q_mvar: FloatArray = field(repr=False)

    @property
    def aggregator_load_mw(self) -> FloatArray:
        """(T, K) load without cars at the buses that have an aggregator."""
        return np.asarray(np.maximum(self.load_p_mw[:, self.network.ev_bus], 0.0))

    def with_cars(self, ev_mw: FloatArray) -> FloatArray:
        """(T, n_bus) load with the aggregators' power (T, K) on top of it."""
        load = self.load_p_mw.copy()
        load[:, self.network.ev_bus] += ev_mw
        return load


@cache
def reference_load_factor() -> FloatArray:
    """Load factor of the reference day by period, read-only. (T,)"""
    return read_only(data.read_table("load/profile.csv")["load_factor"].to_numpy(float))


def reference_day(as_published: bool = False) -> Day:
    """The reference day of the study on the IEEE 14-bus system."""
    net, factor = ieee14(as_published), reference_load_factor()
    return Day(net, bus_load_mw(factor, None, net), bus_load_mvar(factor, net))
