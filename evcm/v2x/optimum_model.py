"""The optimum of a case as a linear program: columns, rows and the cuts of the taper.

Columns for each session and step: energy charged x and given y at the battery (kWh) and content e
after the step. The energy that a battery can take, x <= φ(e before), is concave, so its tangents
describe it from outside as closely as wanted. Where the ports of a charger share its power, the
command c is a column too and the tangents are those of φ(e, c), jointly concave. Everything else of
the simulator is linear already.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from evcm.arrays import FloatArray, IntArray
from evcm.v2x.battery import charge_kwh, charge_slopes
from evcm.v2x.series import series_arrays
from evcm.v2x.station import Case, Steps, session_steps

INF = np.inf


@dataclass
class Program:
    """Columns and rows of a minimisation, grown block by block."""

    cost: list[FloatArray] = field(default_factory=list)
    lower: list[FloatArray] = field(default_factory=list)
    upper: list[FloatArray] = field(default_factory=list)
    size: int = 0
    constant: float = 0.0
    rows: int = 0
    row_lower: list[FloatArray] = field(default_factory=list)
    row_upper: list[FloatArray] = field(default_factory=list)
    entries: list[tuple[IntArray, IntArray, FloatArray]] = field(default_factory=list)
    integers: list[IntArray] = field(default_factory=list)
    """Columns that take whole values only."""

    def columns(
        self, count: int, cost: FloatArray | float, low: FloatArray | float, up: FloatArray | float
    ) -> IntArray:
        """Add columns; return their numbers."""
        for store, value in ((self.cost, cost), (self.lower, low), (self.upper, up)):
            store.append(np.broadcast_to(np.asarray(value, dtype=float), (count,)))
        self.size += count
        return np.arange(self.size - count, self.size)

    def add_rows(
        self,
        low: FloatArray | float,
        up: FloatArray | float,
        count: int,
        *terms: tuple[IntArray, FloatArray | float, IntArray],
    ) -> None:
        """Add rows low <= Σ coefficient · column <= up; a term is (row, coefficient, column)."""
        self.row_lower.append(np.broadcast_to(np.asarray(low, dtype=float), (count,)))
        self.row_upper.append(np.broadcast_to(np.asarray(up, dtype=float), (count,)))
        for row, coefficient, column in terms:
            value = np.broadcast_to(np.asarray(coefficient, dtype=float), np.shape(row))
            self.entries.append((np.asarray(row) + self.rows, np.asarray(column), value))
        self.rows += count

    def matrix(self) -> sparse.csr_matrix:
        """All rows as a sparse matrix."""
        row, column, value = (np.concatenate(part) for part in zip(*self.entries, strict=True))
        return sparse.csr_matrix((value, (row, column)), shape=(self.rows, self.size))


@dataclass(frozen=True, eq=False)
class Model:
    """The linear program of a case and the numbers of its columns."""

    case: Case
    steps: Steps
    program: Program
    charge: IntArray
    give: IntArray
    content: IntArray
    command: IntArray
    """(K,) column of the command, -1 where the port's own limit holds alone."""

    def before(self, solution: FloatArray) -> FloatArray:
        """Content before each session step, (K,) kWh."""
        content = solution[self.content]
        start = self.steps.column("arrival_kwh")
        return np.where(self.steps.first, start, np.concatenate([[0.0], content[:-1]]))

    def commands(self, solution: FloatArray) -> FloatArray:
        """Greatest command of each session step, (K,) kW at the battery."""
        own = self.steps.column("charge_kw")
        return np.where(self.command >= 0, solution[np.maximum(self.command, 0)], own)

    def cuts(
        self, which: IntArray, content: FloatArray, command: FloatArray
    ) -> tuple[FloatArray, sparse.csr_matrix]:
        """Tangents of φ for session steps `which` at points (content, command): upper, rows.

        Each row reads x − φ_e · e_before − φ_c · c <= φ − φ_e · ê − φ_c · ĉ.
        """
        value, by_content, by_command = uptake(self.steps, which, content, command)
        shared = self.command[which] >= 0
        upper = value - by_content * content - np.where(shared, by_command * command, 0.0)
        first = self.steps.first[which]
        upper = upper + np.where(first, by_content * self.steps.column("arrival_kwh")[which], 0.0)
        number = np.arange(which.size)
        row = [number, number[~first], number[shared]]
        column = [self.charge[which], self.content[which[~first] - 1], self.command[which[shared]]]
        entry = [np.ones(which.size), -by_content[~first], -by_command[shared]]
        matrix = sparse.csr_matrix(
            (np.concatenate(entry), (np.concatenate(row), np.concatenate(column))),
            shape=(which.size, self.program.size),
        )
        return upper, matrix


def uptake(
    steps: Steps, which: IntArray, content: FloatArray, command: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """φ and its slopes in content and command, for session steps `which` at given points."""
    accept, transition = steps.column("accept_kw")[which], steps.column("transition_soc")[which]
    capacity, hours = steps.column("capacity_kwh")[which], steps.hours[which]
    columns = (content, command, accept, transition, capacity, hours)
    points = zip(*(c.tolist() for c in columns), strict=True)
    triple = np.array([(charge_kwh(*point), *charge_slopes(*point)) for point in points])
    value, by_content, by_command = triple.reshape(-1, 3).T
    return value, by_content, by_command


def build(case: Case, hard_limits: bool = False) -> Model:
    """The linear program of a case; with `hard_limits` overload is forbidden, not priced."""
    steps, p, w = session_steps(case), Program(), case.weights
    series, money = series_arrays(case.series, case.world), case.world.layout.money
    t, k = steps.step, steps.step.size
    # Money that depends on x, y and e alone
    wear = w.ageing * money[1] * series.cycle_factor[t]
    rest = w.ageing * money[2] * series.calendar_factor[t] * steps.hours
    pay = w.tariff * money[0]
    charge = p.columns(k, wear - pay, 0.0, steps.column("charge_kw") * steps.hours)
    give = p.columns(k, wear + pay, 0.0, steps.column("discharge_kw") * steps.hours)
    stand = 0.5 * money[3] * rest  # for the content before and after
    after = stand + np.where(steps.last, 0.0, np.concatenate([stand[1:], [0.0]])[:k])
    content = p.columns(k, after, steps.column("floor_kwh"), steps.column("capacity_kwh"))
    start = steps.column("arrival_kwh")
    p.constant += float((rest * (1.0 - 0.5 * money[3]) * steps.column("capacity_kwh")).sum())
    p.constant += float((stand * start)[steps.first].sum())
    # e − e_before − x + y = 0
    n = np.arange(k)
    held = np.where(steps.first, start, 0.0)
    inner = n[~steps.first]
    p.add_rows(
        held, held, k, (n, 1.0, content), (n, -1.0, charge), (n, 1.0, give),
        (inner, -1.0, content[inner - 1]),
    )  # fmt: skip
    _departures(case, steps, p, content)
    command = _commands(case, steps, p, charge, give)
    _powers(case, steps, p, charge, give, hard_limits)
    return Model(case, steps, p, charge, give, content, command)


def _departures(case: Case, steps: Steps, p: Program, content: IntArray) -> None:
    count = len(case.sessions)
    missing = p.columns(count, case.weights.unserved_usd_per_kwh, 0.0, INF)
    n = np.arange(count)
    final = content[steps.last]
    # The tariff ends at the wish: what stands above it is paid back.
    tariff = case.weights.tariff * case.world.layout.money[0]
    wish = np.maximum(case.sessions.column("target_kwh"), case.sessions.column("arrival_kwh"))
    surplus = p.columns(count, tariff, 0.0, INF)
    p.add_rows(-INF, wish, count, (n, -1.0, surplus), (n, 1.0, final))
    p.add_rows(case.sessions.column("target_kwh"), INF, count, (n, 1.0, missing), (n, 1.0, final))


def _commands(case: Case, steps: Steps, p: Program, charge: IntArray, give: IntArray) -> IntArray:
    """Columns for the commands where a charger shares its power, and the rows that share it."""
    layout = case.world.layout
    charger = layout.port_charger[steps.port]
    most = steps.column("charge_kw") / layout.charge_efficiency[charger]
    out = steps.column("discharge_kw") * layout.discharge_efficiency[charger]
    cell = charger * len(case.series) + steps.step
    cells, number = np.unique(cell, return_inverse=True)
    limit = layout.charger_kw[cells // len(case.series)]
    tight = np.bincount(number, weights=most) > limit * (1 + 1e-12)
    shared = np.flatnonzero(tight[number])
    command = np.full(steps.step.size, -1, dtype=np.int64)
    command[shared] = p.columns(shared.size, 0.0, 0.0, steps.column("charge_kw")[shared])
    c = command[shared]
    # x <= c · hours: the straight part of φ
    n = np.arange(shared.size)
    p.add_rows(-INF, 0.0, shared.size, (n, 1.0, charge[shared]), (n, -steps.hours[shared], c))
    row = np.cumsum(tight) - 1
    eta = layout.charge_efficiency[charger[shared]]
    p.add_rows(-INF, limit[tight], int(tight.sum()), (row[number[shared]], 1.0 / eta, c))
    # The same for giving; the least command for y is y / hours.
    tight = np.bincount(number, weights=out) > limit * (1 + 1e-12)
    both = np.flatnonzero(tight[number])
    row = np.cumsum(tight) - 1
    share = layout.discharge_efficiency[charger[both]] / steps.hours[both]
    p.add_rows(-INF, limit[tight], int(tight.sum()), (row[number[both]], share, give[both]))
    return command


def _powers(
    case: Case, steps: Steps, p: Program, charge: IntArray, give: IntArray, hard: bool
) -> None:
    """Mean powers of lots, transformers and the bus; cost, overload and tracking."""
    layout, s, w = case.world.layout, case.series, case.weights
    length, step_h = len(s), s.step_h
    charger = layout.port_charger[steps.port]
    lot = layout.charger_lot[charger]
    lots, transformers = layout.lot_transformer.size, s.base_kw.shape[1]
    # lot power − (x / η − y η) / step_h = 0
    lot_kw = p.columns(lots * length, 0.0, -INF, INF).reshape(lots, length)
    row = lot * length + steps.step
    p.add_rows(
        0.0, 0.0, lots * length,
        (np.arange(lots * length), 1.0, lot_kw.ravel()),
        (row, -1.0 / layout.charge_efficiency[charger] / step_h, charge),
        (row, layout.discharge_efficiency[charger] / step_h, give),
    )  # fmt: skip
    # transformer power − its lots = building − PV; its cost is buy · kW + (buy − sell) · export
    price = w.energy_cost * step_h * s.buy_usd_per_kwh
    spread = w.energy_cost * step_h * (s.buy_usd_per_kwh - s.sell_usd_per_kwh)
    node = np.arange(transformers * length)
    net = p.columns(node.size, np.tile(price, transformers), -INF, INF)
    base = s.base_kw.T.ravel()
    lot_row = layout.lot_transformer[:, None] * length + np.arange(length)
    p.add_rows(base, base, node.size, (node, 1.0, net), (lot_row.ravel(), -1.0, lot_kw.ravel()))
    export = p.columns(node.size, np.tile(spread, transformers), 0.0, INF)
    p.add_rows(0.0, INF, node.size, (node, 1.0, export), (node, 1.0, net))
    _one_way(case, p, node[spread_at(case)], net, export)
    alone = base * np.where(base > 0, np.tile(s.buy_usd_per_kwh, transformers),
                            np.tile(s.sell_usd_per_kwh, transformers))  # fmt: skip
    p.constant -= float(w.energy_cost * step_h * alone.sum())
    # bus power − transformers = 0
    t = np.arange(length)
    bus = p.columns(length, 0.0, -INF, INF)
    p.add_rows(0.0, 0.0, length, (t, 1.0, bus), (np.tile(t, transformers), -1.0, net))
    weight = w.overload_usd_per_kwh * step_h
    limits = np.repeat(layout.lot_limit_kw, length, axis=0)
    _overload(p, lot_kw.ravel(), limits[:, 0], limits[:, 1], weight, hard)
    _overload(p, net, s.import_limit_kw.T.ravel(), s.export_limit_kw.T.ravel(), weight, hard)
    _overload(
        p, bus, np.full(length, layout.bus_limit_kw[0]), np.full(length, layout.bus_limit_kw[1]),
        weight, hard,
    )  # fmt: skip
    if w.tracking_usd_per_kwh > 0:
        off = p.columns(length, w.tracking_usd_per_kwh * step_h, 0.0, INF)
        every = (np.tile(t, lots), 1.0, lot_kw.ravel())
        p.add_rows(-INF, s.setpoint_kw, length, (t, -1.0, off), every)
        p.add_rows(s.setpoint_kw, INF, length, (t, 1.0, off), every)


def spread_at(case: Case) -> NDArray[np.bool_]:
    """Where selling pays more than buying costs, (M * T,): a binary keeps the two apart there."""
    sells_above = case.series.sell_usd_per_kwh > case.series.buy_usd_per_kwh
    paid = case.weights.energy_cost > 0
    return np.tile(sells_above & paid, case.series.base_kw.shape[1])


def _one_way(case: Case, p: Program, at: IntArray, net: IntArray, export: IntArray) -> None:
    """export <= M z and net + export <= M (1 − z), z binary: a meter runs one way."""
    layout, length = case.world.layout, len(case.series)
    of = layout.lot_transformer[layout.charger_lot[layout.port_charger]]
    most = np.bincount(of, weights=layout.port_kw, minlength=case.series.base_kw.shape[1])
    base, ports = case.series.base_kw.T.ravel()[at], most[at // length]
    n, sells = np.arange(at.size), p.columns(at.size, 0.0, 0.0, 1.0)
    out, into = np.maximum(ports - base, 0.0), np.maximum(ports + base, 0.0)
    p.integers.append(sells)
    p.add_rows(-INF, 0.0, at.size, (n, 1.0, export[at]), (n, -out, sells))
    p.add_rows(
        -INF, into, at.size, (n, 1.0, net[at]), (n, 1.0, export[at]), (n, into, sells)
    )  # fmt: skip


def _overload(
    p: Program, power: IntArray, import_kw: FloatArray, export_kw: FloatArray,
    weight: float, hard: bool,
) -> None:  # fmt: skip
    for sign, limit in ((1.0, import_kw), (-1.0, export_kw)):
        at = np.flatnonzero(np.isfinite(limit))
        n = np.arange(at.size)
        excess = p.columns(at.size, weight, 0.0, 0.0 if hard else INF)
        p.add_rows(-INF, limit[at], at.size, (n, sign, power[at]), (n, -1.0, excess))


def first_cuts(model: Model, points: int = 6) -> tuple[FloatArray, sparse.csr_matrix]:
    """Tangents to start with: the pure taper and a few points of the bend."""
    steps = model.steps
    own, accept = steps.column("charge_kw"), steps.column("accept_kw")
    capacity = steps.column("capacity_kwh")
    knee = (1.0 - steps.column("transition_soc")) * capacity * own / accept
    which, content, command = [], [], []
    for share in np.linspace(0.0, 0.9, points):
        room = np.minimum(knee * (1.0 - 1e-9) + share * own * steps.hours, capacity)
        use = np.flatnonzero((own > 0) & (knee > 0))
        which.append(use)
        content.append((capacity - room)[use])
        command.append(own[use])
    return model.cuts(*(np.concatenate(x) for x in (which, content, command)))
