"""The transmission network (2.4.2): buses, branches, generators, and the load at each bus (43)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from evcm.arrays import BoolArray, ComplexArray, FloatArray, IntArray, freeze, read_only
from evcm.errors import Checks
from evcm.network.mfile import COLUMNS
from evcm.network.ppc import PQ, PV, SLACK, network_fields
from evcm.paper import implements

PPC_COLUMNS = {"idx_bus": 13, "idx_gen": 21, "idx_brch": 13}
"""Columns of a PYPOWER case's tables, by the module that names them."""

_TYPES = dict.fromkeys(
    ("bus_number", "bus_type", "branch_from", "branch_to", "generator_bus", "ev_bus"), np.int64
)


@dataclass(frozen=True, eq=False)
class Network:
    """A network in the figures an engineer writes down; indices count from 0, in file order.

    Per bus (nb,): `bus_number`, `bus_type` (1 PQ, 2 PV, 3 slack), `load_p_mw`, `load_q_mvar`,
    `shunt_g_mw` and `shunt_b_mvar` at 1 pu, `v_min_pu`, `v_max_pu`.
    Per branch (nl,): `branch_from`, `branch_to`, `resistance_pu`, `reactance_pu`, `charging_pu`,
    `tap_ratio` (from side, 1 for a line), `shift_deg`, `limit_mva` (inf: none); `angle_min_deg`
    and `angle_max_deg` bound the angle of the from bus less that of the to bus (left out: none).
    Per generator (ng,): `generator_bus`, `p_min_mw`, `p_max_mw`, `q_min_mvar`, `q_max_mvar`.
    `ev_bus` lists the buses that have an aggregator, in the order of the columns of EV tables.
    The operator's rules: `nsp_penalty_per_mw` against 1 per MW at the slack (44), and the range of
    a cap as a share of its bus's load, `cap_share_min`..`cap_share_max` (54), (55).

    Raises
    ------
    InputError
        Shapes differ, a figure is not finite, a bus is there twice, limits are crossed, a branch
        has no impedance or ends where it starts, there is not exactly one slack with a generator,
        or the network falls apart into islands. Every offending row is named.

    See Also
    --------
    evcm.network.readers.from_case : a network from a case file, or a case by name.
    Day : a network with its load.
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
    angle_min_deg: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    angle_max_deg: FloatArray = field(default_factory=lambda: np.zeros(0), repr=False)
    nsp_penalty_per_mw: float = 6000.0
    cap_share_min: float = 0.025
    cap_share_max: float = 1.0

    def __post_init__(self) -> None:
        for name, none in (("angle_min_deg", -np.inf), ("angle_max_deg", np.inf)):
            if not np.size(getattr(self, name)):
                object.__setattr__(self, name, np.full(np.shape(self.branch_from), none))
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

    @classmethod
    def from_case(cls, case: Mapping[str, Any], name: str = "case") -> Network:
        """A network from a PYPOWER dictionary, such as PYPOWER's own or pandapower's ``to_ppc``.

        Buses of type 1 may leave load unsupplied; buses with active load have an aggregator.

        Raises
        ------
        InputError
            Tables are missing, malformed or contradict each other. Every offending row is named
            with its table, row and value.

        See Also
        --------
        evcm.network.ppc.network_fields : what is read of it, left out and refused.
        evcm.network.readers.from_case : a case file, or a case by name.
        to_ppc : the way back.
        """
        return cls(**network_fields(name, case))

    def to_ppc(self) -> dict[str, Any]:
        """The network as a PYPOWER case without costs: ``baseMVA``, ``bus``, ``gen``, ``branch``.

        See Also
        --------
        evcm.network.pypower.period_case : a period as a case that PYPOWER solves.
        """
        n, base_kv = self, 100.0  # per unit figures do not depend on it
        bus = _rows("idx_bus", n.n_bus, BUS_I=n.bus_number, BUS_TYPE=n.bus_type, PD=n.load_p_mw,
                    QD=n.load_q_mvar, GS=n.shunt_g_mw, BS=n.shunt_b_mvar, BUS_AREA=1.0, VM=1.0,
                    BASE_KV=base_kv, ZONE=1.0, VMAX=n.v_max_pu, VMIN=n.v_min_pu)  # fmt: skip
        gen = _rows("idx_gen", n.generator_bus.size, GEN_BUS=n.bus_number[n.generator_bus],
                    QMAX=n.q_max_mvar, QMIN=n.q_min_mvar, VG=1.0, MBASE=n.base_mva, GEN_STATUS=1.0,
                    PMAX=n.p_max_mw, PMIN=n.p_min_mw)  # fmt: skip
        low, high = (np.clip(a, -360, 360) for a in (n.angle_min_deg, n.angle_max_deg))
        branch = _rows("idx_brch", n.branch_from.size, F_BUS=n.bus_number[n.branch_from],
                       T_BUS=n.bus_number[n.branch_to], BR_R=n.resistance_pu, BR_X=n.reactance_pu,
                       BR_B=n.charging_pu, TAP=n.tap_ratio, SHIFT=n.shift_deg, BR_STATUS=1.0,
                       RATE_A=np.where(np.isfinite(n.limit_mva), n.limit_mva, 0.0),
                       ANGMIN=low, ANGMAX=high)  # fmt: skip
        return {"version": "2", "baseMVA": n.base_mva, "bus": bus, "gen": gen, "branch": branch}

    def admittance_pu(self) -> ComplexArray:
        """Two-port admittances of the branches: columns ff, ft, tf, tt. (nl, 4)"""
        y = 1.0 / (self.resistance_pu + 1j * self.reactance_pu)
        tap = self.tap_ratio * np.exp(1j * np.deg2rad(self.shift_deg))
        tt = y + 0.5j * self.charging_pu
        return np.stack([tt / self.tap_ratio**2, -y / np.conj(tap), -y / tap, tt], axis=1)


def _rows(table: str, n: int, **columns: FloatArray | IntArray | float) -> FloatArray:
    """A table of a PYPOWER case by MATPOWER's column names; the columns left out are 0."""
    names = COLUMNS[table][2].split()[: PPC_COLUMNS[table]]
    values = np.zeros((n, len(names)))
    for name, column in columns.items():
        values[:, names.index(name)] = column
    return values


_PER = {
    "bus_number": ("bus_type", "load_p_mw", "load_q_mvar", "shunt_g_mw", "shunt_b_mvar",
                   "v_min_pu", "v_max_pu"),
    "branch_from": ("branch_to", "resistance_pu", "reactance_pu", "charging_pu", "tap_ratio",
                    "shift_deg", "limit_mva", "angle_min_deg", "angle_max_deg"),
    "generator_bus": ("p_min_mw", "p_max_mw", "q_min_mvar", "q_max_mvar"),
}  # fmt: skip
_MAY_BE_INFINITE = {
    "limit_mva", "angle_min_deg", "angle_max_deg", "p_min_mw", "p_max_mw", "q_min_mvar",
    "q_max_mvar",
}  # fmt: skip
_RANGES = (
    ("v_min_pu", "v_max_pu"), ("p_min_mw", "p_max_mw"), ("q_min_mvar", "q_max_mvar"),
    ("angle_min_deg", "angle_max_deg"),
)  # fmt: skip


def _check(net: Network) -> None:
    """Every fault of a network at once; each offending row is named by its bus or branch."""
    c = Checks(f"network {net.name}")
    for first, others in _PER.items():
        shape = getattr(net, first).shape
        c.require(len(shape) == 1 and shape[0] > 0, first, shape, "at least one row")
        for name in others:
            c.require(getattr(net, name).shape == shape, name, getattr(net, name).shape, str(shape))
    c.done()

    for ends in ("branch_from", "branch_to", "generator_bus", "ev_bus"):
        index = getattr(net, ends)
        known = bool(((index >= 0) & (index < net.n_bus)).all())
        c.require(known, ends, index.tolist(), f"indices of buses, 0..{net.n_bus - 1}")
    c.done()

    def name_rows(name: str, bad: BoolArray, allowed: str, value: Any = None) -> None:
        values = getattr(net, name) if value is None else value
        for row in np.flatnonzero(bad):
            c.require(False, f"{name} of {label(net, name, int(row))}", values[row].item(), allowed)

    for first, others in _PER.items():
        for name in others:
            values = getattr(net, name)
            bad = np.isnan(values) if name in _MAY_BE_INFINITE else ~np.isfinite(values)
            name_rows(name, bad, "a finite number")
        if first == "bus_number":
            repeated = ~np.isin(np.arange(net.n_bus), np.unique(net.bus_number, True)[1])
            name_rows(first, repeated, "each bus once")
    name_rows("bus_type", ~np.isin(net.bus_type, (PQ, PV, SLACK)), "1 (PQ), 2 (PV) or 3 (slack)")
    for low, high in _RANGES:
        a, b = getattr(net, low), getattr(net, high)
        name_rows(low, a > b, f"low <= high; {high} is below it")
    c.require(0 < net.base_mva < np.inf, "base_mva", net.base_mva, "a finite number > 0")
    name_rows("v_min_pu", net.v_min_pu <= 0, "> 0")
    name_rows("limit_mva", net.limit_mva <= 0, "> 0")
    name_rows("tap_ratio", net.tap_ratio <= 0, "> 0")
    zero = (net.resistance_pu == 0) & (net.reactance_pu == 0)
    name_rows("reactance_pu", zero, "resistance and reactance not both zero")
    name_rows("branch_to", net.branch_from == net.branch_to, "another bus than the branch's first",
              net.bus_number[net.branch_to])  # fmt: skip
    slacks = net.bus_number[net.bus_type == SLACK]
    c.require(slacks.size == 1, "slack buses", slacks.tolist(), "exactly one")
    if slacks.size == 1:
        at_slack = bool((net.bus_type[net.generator_bus] == SLACK).any())
        c.require(at_slack, f"generators at slack bus {slacks[0]}", 0, "at least one")
        apart = net.bus_number[parts(net) != 0].tolist()
        c.require(not apart, "islands", f"buses {apart} are not connected to the slack", "one")
    c.done()


def branch_name(net: Network, row: int) -> str:
    """A branch by its buses and its row from 1: ``4-7 (row 8)``."""
    ends = net.bus_number[net.branch_from[row]], net.bus_number[net.branch_to[row]]
    return f"{ends[0]}-{ends[1]} (row {row + 1})"


def label(net: Network, name: str, row: int) -> str:
    """What a row of the field `name` is: ``bus 4``, ``branch 4-7 (row 8)``, ``generator ...``."""
    if name in ("bus_number", *_PER["bus_number"]):
        return f"bus {net.bus_number[row]} (row {row + 1})"
    if name in ("branch_from", *_PER["branch_from"]):
        return f"branch {branch_name(net, row)}"
    return f"generator at bus {net.bus_number[net.generator_bus[row]]} (row {row + 1})"


def parts(net: Network, without: int | None = None) -> IntArray:
    """Number of the island each bus is in (nb,), with or without one branch; 0 holds the slack."""
    keep = np.arange(net.branch_from.size) != (-1 if without is None else without)
    ends = net.branch_from[keep], net.branch_to[keep]
    graph = coo_array((np.ones(keep.sum()), ends), shape=(net.n_bus, net.n_bus))
    label = connected_components(graph, directed=False)[1].astype(np.int64)
    slack = label[np.flatnonzero(net.bus_type == SLACK)[:1]]
    return np.asarray(np.where(label == slack, 0, label + 1))


BUS = {
    "bus": "bus_number", "type": "bus_type", "load_mw": "load_p_mw", "load_mvar": "load_q_mvar",
    "shunt_mw": "shunt_g_mw", "shunt_mvar": "shunt_b_mvar", "v_min_pu": "v_min_pu",
    "v_max_pu": "v_max_pu",
}  # fmt: skip
BRANCH = {
    "from_bus": "branch_from", "to_bus": "branch_to", "resistance_pu": "resistance_pu",
    "reactance_pu": "reactance_pu", "charging_pu": "charging_pu", "tap_ratio": "tap_ratio",
    "limit_mva": "limit_mva",
}  # fmt: skip
BRANCH_OPTIONAL = ("shift_deg", "angle_min_deg", "angle_max_deg")
GENERATOR = {
    "bus": "generator_bus", "p_min_mw": "p_min_mw", "p_max_mw": "p_max_mw",
    "q_min_mvar": "q_min_mvar", "q_max_mvar": "q_max_mvar",
}  # fmt: skip
"""Fields of `Network` by the columns of its three tables, as ``data/network/`` names them."""

_ENDS = ("branch_from", "branch_to", "generator_bus")
"""Fields that hold places of buses, where tables name the buses."""

RULES = ("nsp_penalty_per_mw", "cap_share_min", "cap_share_max")


def of_tables(
    name: str,
    base_mva: float,
    bus: Mapping[str, NDArray[Any]],
    branch: Mapping[str, NDArray[Any]],
    generator: Mapping[str, NDArray[Any]],
    aggregator_buses: Sequence[int] | None = None,
    **rules: float,
) -> Network:
    """A network from the columns of its three tables, as ``data/network/`` names them.

    Aggregators sit at `aggregator_buses`, at every bus with active load if left out. Branches may
    have ``shift_deg`` (0 if left out), ``angle_min_deg`` and ``angle_max_deg`` (none if left out).
    `rules` are the operator's, fields of `Network`.

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

    given = ((BUS, bus), (BRANCH, branch), (GENERATOR, generator))
    fields: dict[str, Any] = {o: table[c] for names, table in given for c, o in names.items()}
    fields |= {end: place(fields[end]) for end in _ENDS} | {"bus_number": number}
    fields |= {c: branch[c] for c in BRANCH_OPTIONAL if c in branch} | rules
    fields.setdefault("shift_deg", np.zeros(len(branch["from_bus"])))
    return Network(name=name, base_mva=base_mva, ev_bus=place(chosen), **fields)


def tables_of(network: Network) -> dict[str, pd.DataFrame]:
    """Tables ``bus``, ``branch`` and ``generator`` of a network; `of_tables` reads them back."""
    n, found = network, dict[str, pd.DataFrame]()
    for table, names in (("bus", BUS), ("branch", BRANCH), ("generator", GENERATOR)):
        values = {c: getattr(n, own) for c, own in names.items()}
        ends = {c: n.bus_number[values[c]] for c, own in names.items() if own in _ENDS}
        found[table] = pd.DataFrame(values | ends)
    found["branch"].insert(0, "branch", np.arange(1, len(n.branch_from) + 1))
    if n.shift_deg.any():
        found["branch"]["shift_deg"] = n.shift_deg
    for name in ("angle_min_deg", "angle_max_deg"):
        if np.isfinite(getattr(n, name)).any():
            found["branch"][name] = getattr(n, name)
    return found


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


@dataclass(frozen=True, eq=False)
class Day:
    """A network and its load over T periods: what every question to the operator is about.

    Parameters
    ----------
    network : Network
    load_p_mw, load_q_mvar : (T, n_bus)
        Load at each bus, MW and Mvar; negative where more is fed in than drawn. T is free:
        periods do not depend on each other.
    period_h : float
        Length of a period, hours.

    Raises
    ------
    InputError
        A wrong shape, a number that is not finite (each is named), a period that is not positive.

    See Also
    --------
    evcm.inputs.study.Inputs.day : that of a study.
    evcm.network.opf.solve_day : the optimal power flow of a day.
    """

    network: Network
    load_p_mw: FloatArray = field(repr=False)
    load_q_mvar: FloatArray = field(repr=False)
    period_h: float

    def __post_init__(self) -> None:
        for name in ("load_p_mw", "load_q_mvar"):
            object.__setattr__(self, name, read_only(getattr(self, name)))
        c, p = Checks("bus loads"), self.load_p_mw
        good = p.ndim == 2 and p.shape[0] >= 1 and p.shape[1] == self.network.n_bus
        wanted = f"(periods, {self.network.n_bus} buses)"
        c.require(good, "load_p_mw", f"shape {p.shape}", wanted)
        same = self.load_q_mvar.shape == p.shape
        c.require(same, "load_q_mvar", f"shape {self.load_q_mvar.shape}", f"{p.shape}")
        for name in ("load_p_mw", "load_q_mvar") if good and same else ():
            values = getattr(self, name)
            for t, k in np.argwhere(~np.isfinite(values)).tolist():
                where = f"{name}, period {t + 1}, bus {self.network.bus_number[k]}"
                c.require(False, where, float(values[t, k]), "a finite number")
        length = np.isfinite(self.period_h) and self.period_h > 0
        c.require(bool(length), "period_h", self.period_h, "a number > 0")
        c.done()

    @classmethod
    def scaled(cls, network: Network, load_factor: FloatArray, period_h: float) -> Day:
        """The network's own loads times `load_factor` (T,)."""
        factor = np.asarray(load_factor, float).reshape(-1, 1)
        return cls(network, factor * network.load_p_mw, factor * network.load_q_mvar, period_h)

    @property
    def as_published(self) -> Day:
        """The same loads on the network of the paper's own program (`published_variant`)."""
        return replace(self, network=published_variant(self.network))

    @property
    def n_periods(self) -> int:
        """Number of periods T."""
        return len(self.load_p_mw)

    @property
    def aggregator_load_mw(self) -> FloatArray:
        """(T, K) load at the buses that have an aggregator, 0 where it is negative."""
        return np.asarray(np.maximum(self.load_p_mw[:, self.network.ev_bus], 0.0))

    @implements("43")
    def with_cars(self, ev_mw: FloatArray) -> Day:
        """The day with what each aggregator buys, `ev_mw` (T, K), on top of its load (43).

        It is negative where an aggregator feeds in; columns are as `network.ev_bus`. Cars draw no
        reactive power.

        Raises
        ------
        InputError
            A wrong shape, or a number that is not finite.
        """
        ev, c = np.asarray(ev_mw, float), Checks("EV power")
        wanted = (self.n_periods, self.network.ev_bus.size)
        c.require(ev.shape == wanted, "shape", ev.shape, str(wanted))
        c.require(bool(np.isfinite(ev).all()), "ev_mw", "not finite", "finite numbers")
        c.done()
        load = self.load_p_mw.copy()
        load[:, self.network.ev_bus] += ev
        return replace(self, load_p_mw=load)

    def at(self, periods: Any) -> Day:
        """The day of some periods alone: a slice, or an array of indices from 0."""
        return replace(
            self, load_p_mw=self.load_p_mw[periods], load_q_mvar=self.load_q_mvar[periods]
        )

    def repeated(self, days: int) -> Day:
        """The day `days` times over, one after the other."""
        load, reactive = (np.tile(a, (days, 1)) for a in (self.load_p_mw, self.load_q_mvar))
        return replace(self, load_p_mw=load, load_q_mvar=reactive)
