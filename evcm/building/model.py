"""The dispatch as one mixed-integer program: (7)-(14), bank, cars, tariff, equation by equation.

Units are the PV groups and, last, the grid connection. Every number of a day is a CVXPY parameter:
a program is built once and solved for many days and variants.
"""

from __future__ import annotations

import time

import cvxpy as cp
import numpy as np

from evcm import highs
from evcm.arrays import FloatArray
from evcm.building.inputs import BayDay, Building, Sessions, available_kw, lay_out
from evcm.building.plan import Plan, Variant
from evcm.errors import InfeasibleError, SolverError
from evcm.paper import implements

GAP = 5e-5
"""Relative gap to which programs are solved, half of what is promised (0.01 %)."""

TIME_LIMIT_S = 600.0
"""Most seconds for one program."""

PLAIN = {
    "mip_heuristic_effort": 0.0, "mip_allow_restart": False, "mip_detect_symmetry": False,
} | {
    f"mip_heuristic_run_{name}": False
    for name in ("feasibility_jump", "rins", "rens", "root_reduced_cost")
}  # fmt: skip
"""Options of HiGHS: what large programs gain from costs these small ones half their time."""


class Quantities:
    """Variables of one day: T periods, U units (the last is the grid), B bays."""

    def __init__(self, periods: int, units: int, bays: int, exclusive: bool, one_way: bool) -> None:
        self.power = cp.Variable((periods, units), nonneg=True)
        self.on = cp.Variable((periods, units), boolean=True)
        # Whole where `on` is: (11) and costs >= 0 leave them no other value.
        self.start = cp.Variable((periods, units), nonneg=True)
        self.stop = cp.Variable((periods, units), nonneg=True)
        self.peak = cp.Variable(nonneg=True)
        self.bank_in = cp.Variable(periods, nonneg=True)
        self.bank_out = cp.Variable(periods, nonneg=True)
        self.stored = cp.Variable(periods, nonneg=True)
        self.charge = cp.Variable((periods, bays), nonneg=True)
        self.give = cp.Variable((periods, bays), nonneg=True)
        self.received = cp.Variable((periods, bays))
        self.moved = cp.Variable((periods, bays), nonneg=True)
        self.short = cp.Variable(periods, nonneg=True)
        self.export = cp.Variable(periods, nonneg=True)
        self.ready = cp.Variable(periods, nonneg=True)
        self.buys = cp.Variable(periods, boolean=True) if one_way else None
        self.bank_gives = cp.Variable(periods, boolean=True) if exclusive else None
        self.car_gives = cp.Variable((periods, bays), boolean=True) if exclusive else None


class Numbers:
    """Parameters of one day, filled by `fill`."""

    def __init__(self, periods: int, units: int, bays: int) -> None:
        def p(*shape: int) -> cp.Parameter:
            return cp.Parameter(shape, nonneg=True)

        self.available = p(periods, units)
        self.linear, self.feed_in = cp.Parameter((periods, units)), cp.Parameter(periods)
        self.most_export, self.grid_on = p(), p()
        self.most_ready, self.from_grid = p(), p()
        self.least, self.fixed, self.starting, self.stopping = (p(units) for _ in range(4))
        self.up, self.down = p(units), p(units)
        self.above_up, self.above_down = p(periods, units), p(periods, units)
        self.load, self.reserve, self.demand = p(periods), p(), p()
        self.reserve_of_load, self.grid_held = p(periods), p(periods)
        self.bank_kwh, self.bank_start, self.bank_in, self.bank_out = (p() for _ in range(4))
        self.stores, self.draws, self.wear = p(), p(), p()
        self.most_charge, self.most_give, self.plain = (p(periods, bays) for _ in range(3))
        self.least_charge, self.kept = p(periods, bays), p(periods, bays)
        self.low = cp.Parameter((periods, bays))
        self.high = p(periods, bays)
        self.lost, self.comfort, self.v2g = p(), p(), p()
        self.most_short, self.short_cost = p(), p()

    def fill(self, building: Building, day: BayDay, variant: Variant) -> None:
        """Set every parameter for a building, its cars and a variant."""
        b, step, groups = building, building.horizon.step_h, building.groups
        grid = np.full((b.horizon.periods, 1), b.connection_kw)
        sun = available_kw(b) * variant.pv
        self.available.value = np.hstack([sun, grid])
        own = np.tile([g.cost_usd_per_kwh for g in groups], (b.horizon.periods, 1))
        self.linear.value = step * np.hstack([own, b.price_usd_per_kwh[:, None]])
        self.least.value = np.array([*(g.min_kw for g in groups), 0.0])
        connected = b.connection_usd_per_h
        self.fixed.value = step * np.array([*(g.cost_usd_per_h for g in groups), connected])
        # A grid that costs nothing to be connected to stays so.
        self.grid_on.value = float(connected == 0)
        feed_in = b.feed_in_usd_per_kwh
        self.feed_in.value = np.zeros(b.horizon.periods) if feed_in is None else step * feed_in
        self.most_export.value = 0.0 if feed_in is None else b.connection_kw
        self.from_grid.value = float(b.reserve_from_grid)
        self.grid_held.value = b.reserve_from_grid * grid[:, 0]
        self.starting.value = np.array([*(g.start_usd for g in groups), 0.0])
        self.stopping.value = np.array([*(g.stop_usd for g in groups), 0.0])
        size = [g.rated_kw for g in groups]
        up = [min(step * g.ramp_up_kw_per_h, s) for g, s in zip(groups, size, strict=True)]
        down = [min(step * g.ramp_down_kw_per_h, s) for g, s in zip(groups, size, strict=True)]
        self.up.value, self.down.value = np.array([*up, 1e9]), np.array([*down, 1e9])
        self.above_up.value = np.maximum(self.available.value - self.up.value, 0.0)
        self.above_down.value = np.maximum(self.available.value - self.down.value, 0.0)
        self.load.value, self.reserve.value = b.load_kw, b.reserve_share
        self.reserve_of_load.value = b.reserve_share * b.load_kw
        self.demand.value = b.demand_usd_per_kw
        use = float(variant.bank)
        self.bank_kwh.value = use * b.bank.capacity_kwh
        self.bank_start.value = use * b.bank.capacity_kwh * b.bank.start_share
        self.bank_in.value, self.bank_out.value = use * b.bank.charge_kw, use * b.bank.discharge_kw
        self.stores.value = step * b.bank.charge_efficiency
        self.draws.value = step / b.bank.discharge_efficiency
        self.most_ready.value = use * b.bank.discharge_kw * (not b.reserve_from_grid)
        self.wear.value = step * b.bank.wear_usd_per_kwh
        moves = variant.shifting or variant.v2g
        self.most_charge.value = np.array(day.power_kw if moves else day.plain_kw)
        self.least_charge.value = np.array(np.zeros_like(day.plain_kw) if moves else day.plain_kw)
        self.most_give.value = np.array(day.power_kw * variant.v2g)
        self.plain.value, self.kept.value = np.array(day.plain_kw), np.array(day.kept)
        self.low.value, self.high.value = np.array(day.low_kwh), np.array(day.high_kwh)
        self.lost.value = step / b.response.v2g_round_trip
        self.comfort.value = step * b.response.comfort_usd_per_kwh
        self.v2g.value = step * b.response.v2g_usd_per_kwh
        self.most_short.value, self.short_cost.value = 0.0, 0.0


@implements("7", paper="building")
def cost(q: Quantities, n: Numbers) -> cp.Expression:
    """Linear, fixed, start and stop costs (7), with the tariff's demand charge, wear, comfort.

    The grid's linear cost is its price, its fixed cost that of the pseudocode (``cfijo``); what is
    fed in is paid for.
    """
    return (
        cp.sum(cp.multiply(n.linear, q.power))
        - n.feed_in @ q.export
        + cp.sum(q.on @ n.fixed + q.start @ n.starting + q.stop @ n.stopping)
        + n.demand * q.peak
        + n.wear * cp.sum(q.bank_out)
        + n.comfort * cp.sum(q.moved)
        + n.v2g * cp.sum(q.give)
        + n.short_cost * cp.sum(q.short)
    )


@implements("8", paper="building")
def balance(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """Units and bank meet load and cars in every period (8)."""
    cars = cp.sum(q.charge, axis=1) - cp.sum(q.give, axis=1)
    return [cp.sum(q.power, axis=1) + q.bank_out == n.load + cars + q.bank_in + q.export]


@implements("9", paper="building")
def reserve(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """Units that are on could give at least the share R of the demand more (9).

    While the grid counts, (9) binds only where the connection is nearly full. Where it does not
    count, PV groups and the bank must hold the reserve, the bank for a period at least.
    """
    spare = (cp.multiply(n.available, q.on) - q.power)[:, :-1]
    grid = cp.multiply(n.grid_held, q.on[:, -1]) - n.from_grid * q.power[:, -1]
    held = cp.sum(spare, axis=1) + grid + q.ready + q.short
    return [
        held >= n.reserve_of_load + n.reserve * cp.sum(q.charge, axis=1),
        q.ready <= n.most_ready,
        q.ready + q.bank_out <= n.bank_out,
        n.draws * q.ready <= q.stored,
    ]


@implements("10", paper="building")
def power_limits(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """A unit gives between its least and its available power while it is on (10).

    In the period of a start it gives at most its upward ramp, before a stop at most its downward
    ramp: (12) and (13) say so too, but only for whole numbers of `on`.
    """
    most = cp.multiply(n.available, q.on)
    return [
        cp.multiply(cp.reshape(n.least, (1, q.on.shape[1]), order="C"), q.on) <= q.power,
        q.power[:, :-1] <= (most - cp.multiply(n.above_up, q.start))[:, :-1],
        q.power[:-1, :-1] <= (most[:-1] - cp.multiply(n.above_down[:-1], q.stop[1:]))[:, :-1],
        q.power[:, -1] <= most[:, -1] + q.short,
    ]


@implements("11", paper="building")
def commitment(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """Starts and stops follow from being on, from off before the day (11); never both at once."""
    return [
        q.on[0] == q.start[0] - q.stop[0],
        q.on[1:] - q.on[:-1] == q.start[1:] - q.stop[1:],
        q.start <= q.on,
        q.stop[1:] <= q.on[:-1],
        q.start + q.stop <= 1,
        q.on[:, -1] >= n.grid_on,
    ]


@implements("12", paper="building")
def ramp_up(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """PV groups rise no faster than their ramp, from zero before the day (12).

    Written with `on` and `start`, so that it is the hull of two periods of one group
    (Damci-Kurt, Kucukyavuz, Rajan and Atamturk, Math. Program. 158 (2016) 175-205).
    """
    least, rise = _rows(n.least, q), _rows(n.up, q)
    on, before, start = q.on[1:, :-1], q.on[:-1, :-1], q.start[1:, :-1]
    allowed = cp.multiply(rise + least, on) - cp.multiply(least, before + start)
    return [q.power[0, :-1] <= n.up[:-1], q.power[1:, :-1] - q.power[:-1, :-1] <= allowed]


@implements("13", paper="building")
def ramp_down(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """PV groups fall no faster than their ramp (13), as the hull of two periods."""
    least, fall = _rows(n.least, q), _rows(n.down, q)
    on, before, stop = q.on[1:, :-1], q.on[:-1, :-1], q.stop[1:, :-1]
    allowed = cp.multiply(fall + least, before) - cp.multiply(least, on + stop)
    return [q.power[:-1, :-1] - q.power[1:, :-1] <= allowed]


def _rows(value: cp.Parameter, q: Quantities) -> cp.Expression:
    periods, units = q.power.shape
    row = cp.reshape(value[:-1], (1, units - 1), order="C")
    return np.ones((periods - 1, 1)) @ row


@implements("14", paper="building")
def shortfall(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """Domains are those of the variables (14); power beyond the connection only in diagnosis."""
    return [q.short <= n.most_short]


def feed_in(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """What is fed in passes the connection, and no period both buys and feeds in.

    Where feeding in pays more than buying costs, only a binary keeps the two apart.
    """
    if q.buys is None:
        return [q.export <= cp.multiply(n.most_export, q.on[:, -1])]
    return [
        q.export <= n.most_export * (q.on[:, -1] - q.buys),
        q.power[:, -1] <= cp.multiply(n.available[:, -1], q.buys) + q.short,
    ]


def highest_import(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """The day's highest import, which the demand charge is paid for."""
    return [q.power[:, -1] <= q.peak]


def bank(q: Quantities, n: Numbers) -> list[cp.Constraint]:
    """The bank takes PV power only, keeps its limits and ends the day as it began."""
    rules = [
        q.stored[0] == n.bank_start + n.stores * q.bank_in[0] - n.draws * q.bank_out[0],
        q.stored[1:] == q.stored[:-1] + n.stores * q.bank_in[1:] - n.draws * q.bank_out[1:],
        q.stored <= n.bank_kwh,
        q.stored[-1] == n.bank_start,
        q.bank_in <= cp.sum(q.power[:, :-1], axis=1),
    ]
    if q.bank_gives is None:
        return [*rules, q.bank_in <= n.bank_in, q.bank_out <= n.bank_out]
    return [*rules, q.bank_in <= n.bank_in * (1 - q.bank_gives),
            q.bank_out <= n.bank_out * q.bank_gives]  # fmt: skip


def cars(q: Quantities, n: Numbers, step_h: float) -> list[cp.Constraint]:
    """Cars receive their energy within their stay; what is moved from plain charging is counted."""
    net = step_h * q.charge - n.lost * q.give
    rules = [
        # A stay over midnight goes on in the first period of a day that is a whole day long.
        q.received[0] == cp.multiply(n.kept[0], q.received[-1]) + net[0],
        q.received[1:] == cp.multiply(n.kept[1:], q.received[:-1]) + net[1:],
        n.low <= q.received,
        q.received <= n.high,
        n.least_charge <= q.charge,
        q.moved >= n.plain - q.charge,
    ]
    if q.car_gives is None:
        return [*rules, q.charge <= n.most_charge, q.give <= n.most_give]
    return [*rules, q.charge <= cp.multiply(n.most_charge, 1 - q.car_gives),
            q.give <= cp.multiply(n.most_give, q.car_gives)]  # fmt: skip


class Program:
    """The program for a shape of day, built once; `solve` fills in the numbers.

    Parameters
    ----------
    building : Building
        Any building of the shape: horizon, number of PV groups and bays, and whether feeding in
        pays more than buying costs.
    exclusive : bool
        Forbid charging and giving at once by binaries.
    """

    def __init__(self, building: Building, exclusive: bool = False) -> None:
        h, self.shape = building.horizon, _shape(building)
        units = len(building.groups) + 1
        self.q = Quantities(h.periods, units, building.bays, exclusive, self.shape[-1])
        self.n = Numbers(h.periods, units, building.bays)
        q, n = self.q, self.n
        parts = (balance, reserve, power_limits, commitment, ramp_up, ramp_down, shortfall,
                 feed_in, highest_import, bank)  # fmt: skip
        rules = [rule for part in parts for rule in part(q, n)]
        self.problem = cp.Problem(cp.Minimize(cost(q, n)), [*rules, *cars(q, n, h.step_h)])

    def fits(self, building: Building) -> bool:
        """Whether a building has the shape of this program."""
        return self.shape == _shape(building)

    def solve(self, building: Building, sessions: Sessions, variant: Variant) -> Plan:
        """The least-cost plan of a day."""
        begin = time.perf_counter()
        day = lay_out(sessions, building.horizon, building.bays)
        self.n.fill(building, day, variant)
        outcome = self._run()
        if outcome.infeasible:
            self._explain(building)
        if not outcome.optimal:
            raise SolverError(f"building: {outcome.status}")
        return self._plan(building, sessions, variant, time.perf_counter() - begin)

    def _run(self) -> highs.Outcome:
        return highs.run(
            self.problem, TIME_LIMIT_S, False, parallel="off", mip_rel_gap=GAP, mip_abs_gap=GAP,
            **PLAIN,
        )  # fmt: skip

    def _explain(self, building: Building) -> None:
        """Say how much connection power is missing and when."""
        self.n.most_short.value, self.n.short_cost.value = 1e7, 1e4
        if not self._run().optimal:
            raise InfeasibleError("building: no dispatch exists, whatever the connection")
        short = np.asarray(self.q.short.value)
        worst = int(short.argmax())
        raise InfeasibleError(
            f"building: a connection of {building.connection_kw:g} kW is too small by "
            f"{short[worst]:.3f} kW at {building.horizon.clock(worst)} (reserve included); "
            f"{int((short > 1e-6).sum())} periods are short",
            short_kw=short,
        )

    def _plan(
        self, building: Building, sessions: Sessions, variant: Variant, seconds: float
    ) -> Plan:
        q, n, info = self.q, self.n, self.problem.solver_stats.extra_stats
        power, export, on = _array(q.power), _array(q.export), np.round(_array(q.on))
        change = np.diff(on, axis=0, prepend=0.0)
        # Buying and feeding in at once at one price is left to chance: only the net passes.
        both = np.minimum(power[:, -1], export)
        power[:, -1] -= both
        peak_kw = float(power[:, -1].max())
        saved = float((n.linear.value[:, -1] - n.feed_in.value) @ both)
        saved += float(n.demand.value) * (float(q.power.value[:, -1].max()) - peak_kw)
        cost_usd = float(self.problem.value) - saved
        return Plan(
            building=building, sessions=sessions, variant=variant, power_kw=power, on=on,
            start=np.maximum(change, 0.0), stop=np.maximum(-change, 0.0),
            bank_in_kw=_array(q.bank_in), bank_out_kw=_array(q.bank_out),
            stored_kwh=_array(q.stored), export_kw=export - both, ready_kw=_array(q.ready),
            charge_kw=_array(q.charge), give_kw=_array(q.give), peak_kw=peak_kw, cost_usd=cost_usd,
            # Bounded by the cost: HiGHS may report its bound a rounding error above it.
            bound_usd=min(float(info.mip_dual_bound), cost_usd),
            status="optimal: cost and proven bound differ by less than 0.01 %", seconds=seconds,
        )  # fmt: skip


def _shape(building: Building) -> tuple[int, float, int, int, bool]:
    h, price = building.horizon, building.price_usd_per_kwh
    sold = building.feed_in_usd_per_kwh
    one_way = sold is not None and bool((sold > price).any())
    return h.periods, h.step_h, len(building.groups), building.bays, one_way


def _array(variable: cp.Variable) -> FloatArray:
    """A solution, with rounding errors below zero removed."""
    value: FloatArray = np.maximum(np.asarray(variable.value, dtype=float), 0.0)
    return value
