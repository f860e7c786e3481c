"""The market side of the master problem: prices, caps and real-time trade, given the cars' totals.

Rows for every period t and sample n, with the cars' side left open:

    balance   Y - (power of the cars) - burnt = 0                                             (12)
    limit     d+ + d- - (power fed back) <= 0, or <= plugged power under the limit "plug"      (10)
    reach     Y within the cap (30), (57), and within one step once steps are fixed
    plug      power of charging and discharging <= plugged power (only where it would be broken)
    mean      sum_n pi_n (d+ - d-) = 0, once per period                                        (11)

and Y = P + d+ - d-. `burnt` is charging and discharging at once, the state of charge standing
still: legal, free of wear, and the only way to feed back without moving energy in time.

The day-ahead cost of a period is the convex hull of its price steps: weights on the end points of
the steps that sum to one. A *block* adds the real-time cost of a period: given the day-ahead end
point s of step a, the power Y of each sample is a mixture of end points y of steps b that cost
pi (lambda_b - lambda_a) (y - x_s). Charging the difference to the day-ahead price is legal since
trade has mean zero, and it makes every such cost >= 0.

`Market.bound` is the Lagrangian of all this for any multipliers: with the cars' least costs it is a
lower bound on the plan's cost, whatever the linear programs did.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.steps import StepChoices, clipped
from evcm.arrays import BoolArray, FloatArray, IntArray


def system_prices(market: Market) -> FloatArray:
    """Price of each period at the system load without the aggregator, USD per MW (T)."""
    p = market.problem
    step = np.searchsorted(p.price_steps.edge_mw, p.system_load_mw)
    return np.asarray(market.usd_per_mwh[np.minimum(step, len(p.price_steps) - 1)])


def spread(market: Market, price: FloatArray) -> Duals:
    """Multipliers with one price per period, the real-time limit without value."""
    T, N = market.shape
    wide = price[:, None] * market.problem.probability
    none = np.zeros((T, N))
    return Duals(wide, none, none, price, wide, none)


NEAR_STEPS = 3
"""Real-time steps of a block that the linear program knows on either side of the day-ahead step."""


@dataclass(frozen=True, eq=False)
class Duals:
    """Multipliers of the coupling rows, USD per unit of power over a period.

    `energy` (T, N) of the balance, `reach` and `plug` (T, N), >= 0, of the two limits of those
    names, `mean` (T) of (11), `trade` (T, N) of the deviation Y - P (in a period without a block
    it equals ``energy - reach``). `limit` (T, N) of the real-time limit is only used once steps are
    fixed; elsewhere the least value that the others admit takes its place.
    """

    energy: FloatArray
    reach: FloatArray
    plug: FloatArray
    mean: FloatArray
    trade: FloatArray
    limit: FloatArray

    def towards(self, other: Duals, share: float) -> Duals:
        """The point a `share` of the way to `other`."""
        return Duals(*(a + share * (getattr(other, k) - a) for k, a in vars(self).items()))


@dataclass(frozen=True, eq=False)
class Corners:
    """End points of the open steps of one period: power, step, and day-ahead cost (S)."""

    power: FloatArray
    step: IntArray
    cost: FloatArray


@dataclass(frozen=True, eq=False)
class Block:
    """Real-time end points of one period: for each day-ahead corner, sample, the candidates."""

    corner: IntArray
    sample: IntArray
    step: IntArray
    power: FloatArray
    cost: FloatArray


@dataclass(frozen=True, eq=False)
class MarketRows:
    """The market's part of the linear program: columns, costs, bounds, rows and their places."""

    matrix: sp.csc_matrix
    cost: FloatArray
    lower: FloatArray
    upper: FloatArray
    row_lower: FloatArray
    row_upper: FloatArray
    day_ahead: sp.csr_matrix
    own_power: sp.csr_matrix
    dev_row: IntArray


@dataclass(frozen=True, eq=False)
class Market:
    """Market of one aggregator, in units of `unit_mw`; immutable.

    Attributes
    ----------
    choices : StepChoices
        Steps open day-ahead and in real time. The Lagrangian minimises over all of them.
    blocks : (T) bool
        Periods with their real-time cost.
    reach_rows, plug_rows : (T, N) bool
        Where the cap on the cars' power and the limit of charger power have a row.
    shown : (T, B) bool
        Day-ahead steps that the linear program knows in periods with a block.
    fixed : bool
        One step is open everywhere; the linear program is then exact.
    """

    problem: AggregatorProblem
    choices: StepChoices
    unit_mw: float
    blocks: BoolArray
    reach_rows: BoolArray
    plug_rows: BoolArray
    shown: BoolArray
    fixed: bool = False
    _cache: dict[str, object] = field(default_factory=dict, repr=False)

    # ---- shapes and data -------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """T, N."""
        return self.problem.periods, self.problem.samples

    @property
    def usd_per_mwh(self) -> FloatArray:
        """Step prices times Δt, USD per MW over a period (B)."""
        return self.problem.price_steps.price_usd_per_kwh * 1000.0 * self.problem.period_h

    @property
    def trades(self) -> bool:
        """Whether there is any real-time trade: not without V2G under the limit (10)."""
        return self.problem.allow_v2g or self.problem.real_time_limit == "plug"

    @property
    def burn_power(self) -> float:
        """Net power of one MW discharged and charged at once."""
        c = self.problem.charger
        return float(1.0 / c.charge_efficiency - c.discharge_efficiency)

    def with_blocks(self, periods: BoolArray, day_ahead: FloatArray) -> Market:
        """Blocks in more periods; their programs start with the steps next to `day_ahead`."""
        shown = self.shown.copy()
        for t in np.flatnonzero(periods & ~self.blocks).tolist():
            low, high = self.step_ends(t)
            power = day_ahead[t]
            shown[t] = (low <= power + 1e-3) & (power <= high + 1e-3)
            shown[t, 1:] |= shown[t, :-1]
            shown[t, :-1] |= shown[t, 1:]
        return self.changed(blocks=self.blocks | periods, shown=shown)

    def showing(self, duals: Duals) -> Market:
        """The market with the steps shown that the Lagrangian prefers; itself if all are."""
        shown = self.shown.copy()
        for t in np.flatnonzero(self.blocks).tolist():
            shown[t, self.corners(t).step[int(np.argmin(self.step_values(duals, t)))]] = True
        return self if (shown == self.shown).all() else self.changed(shown=shown)

    def changed(self, **changes: object) -> Market:
        """A copy with some fields changed."""
        return replace(self, _cache={}, **changes)  # type: ignore[arg-type]

    def corners(self, t: int) -> Corners:
        """End points of the steps open day-ahead in period t."""
        known = self._cache.get(f"corners{t}")
        if isinstance(known, Corners):
            return known
        low, high = self._steps(self.choices.range.day_ahead_low, self.choices.range.day_ahead_high)
        open_ = np.flatnonzero(self.choices.day_ahead[t])
        step = np.repeat(open_, 2)
        power = np.stack([low[t, open_], high[t, open_]], axis=1).ravel()
        cost = self.usd_per_mwh[step] * power
        keep = np.ones(power.size, bool)
        if not self.blocks[t]:  # without a block only the cheapest price at a point matters
            order = np.lexsort((cost, power))
            same = np.zeros(power.size, bool)
            same[order[1:]] = np.diff(power[order]) <= 0
            keep = ~same
        else:
            keep[1::2] = power[1::2] > power[::2]
        made = Corners(power[keep], step[keep], cost[keep])
        self._cache[f"corners{t}"] = made
        return made

    def _steps(self, low: FloatArray, high: FloatArray) -> tuple[FloatArray, FloatArray]:
        a, b = clipped(self.choices, low, high)
        return a / self.unit_mw, b / self.unit_mw

    def step_ends(self, t: int) -> tuple[FloatArray, FloatArray]:
        """Ends of every price step in period t, cut to the power range (B)."""
        low, high = self._steps(self.choices.range.day_ahead_low, self.choices.range.day_ahead_high)
        return low[t], high[t]

    def block(self, t: int) -> Block:
        """Real-time end points of period t, for each day-ahead corner and sample."""
        known = self._cache.get(f"block{t}")
        if isinstance(known, Block):
            return known
        corners, reach = self.corners(t), self.choices.range
        parts: list[tuple[IntArray, IntArray, IntArray, FloatArray, FloatArray]] = []
        for n in range(self.shape[1]):
            low, high = self._steps(reach.real_time_low[:, n], reach.real_time_high[:, n])
            open_ = np.flatnonzero(self.choices.real_time[t, n])
            points = np.concatenate([low[t, open_], high[t, open_]])
            steps = np.concatenate([open_, open_])
            for s, (x, a) in enumerate(zip(corners.power, corners.step, strict=True)):
                extra = self.usd_per_mwh[steps] - self.usd_per_mwh[a]
                cost = self.problem.probability[n] * extra * (points - x)
                chosen = lower_hull(points, cost)
                parts.append((
                    np.full(chosen.size, s), np.full(chosen.size, n), steps[chosen],
                    points[chosen], cost[chosen],
                ))  # fmt: skip
        made = Block(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        self._cache[f"block{t}"] = made
        return made

    # ---- Lagrangian ------------------------------------------------------------------------
    def admissible(self, duals: Duals) -> Duals:
        """The multipliers moved to where the Lagrangian is finite and charging never pays twice."""
        if self.fixed:
            return duals
        p, pi = self.problem, self.problem.probability
        reach, plug = np.maximum(duals.reach, 0.0), np.maximum(duals.plug, 0.0)
        reach, plug = reach * self.reach_rows, plug * self.plug_rows
        mean = np.maximum(duals.mean, 0.0)
        energy, trade = duals.energy, duals.trade
        centre = mean[:, None] * pi
        if p.allow_v2g and p.real_time_limit == "v2g":
            share = self.burn_power / p.charger.discharge_efficiency
            extra = (
                plug * (1.0 / p.charger.charge_efficiency + 1.0) / p.charger.discharge_efficiency
            )
            low = (centre + reach - extra) / (1.0 + share)
            high = np.full_like(low, np.inf)
            if share < 1.0:
                high = (centre + reach + extra) / (1.0 - share)
            plain = ~self.blocks[:, None]
            energy = np.where(plain, np.clip(energy, low, high), np.maximum(energy, 0.0))
            width = share * energy + extra
            trade = np.where(plain, energy - reach, np.clip(trade, centre - width, centre + width))
        else:
            if p.allow_v2g:
                energy = np.maximum(energy, 0.0)
            trade = np.where(self.blocks[:, None], trade, energy - reach)
        return Duals(energy, reach, plug, mean, trade, duals.limit)

    def limit_price(self, duals: Duals) -> FloatArray:
        """Multiplier of the real-time limit (T, N), the least that the others admit."""
        if not self.trades:
            return np.zeros(self.shape)
        if self.fixed:
            return duals.limit
        return np.abs(duals.trade - duals.mean[:, None] * self.problem.probability)

    def car_prices(self, duals: Duals) -> tuple[FloatArray, FloatArray]:
        """Value of a kWh into and out of the batteries (N, T), for admissible multipliers."""
        c, p = self.problem.charger, self.problem
        per_kwh = 1.0 / (1000.0 * p.period_h)
        fed = duals.energy
        if p.real_time_limit == "v2g":
            fed = fed + self.limit_price(duals)
        buy = (duals.energy + duals.plug) / c.charge_efficiency * per_kwh
        if not p.allow_v2g:
            return np.ascontiguousarray(buy.T), np.full(buy.T.shape, -1e12)
        sell = np.minimum((fed * c.discharge_efficiency - duals.plug) * per_kwh, buy)
        return np.ascontiguousarray(buy.T), np.ascontiguousarray(sell.T)

    def step_values(self, duals: Duals, t: int) -> FloatArray:
        """Least Lagrangian cost of period t at each day-ahead corner (S)."""
        corners = self.corners(t)
        value = duals.energy[t] - duals.reach[t]
        least = np.asarray(corners.cost - corners.power * value.sum())
        if self.blocks[t]:
            b = self.block(t)
            rest = b.cost - (value - duals.trade[t])[b.sample] * (b.power - corners.power[b.corner])
            N = self.shape[1]
            each = np.full(corners.power.size * N, np.inf)
            np.minimum.at(each, b.corner * N + b.sample, rest)
            least = least + each.reshape(-1, N).sum(axis=1)
        return least

    def bound(self, duals: Duals) -> float:
        """The market's share of the Lagrangian bound, for admissible multipliers."""
        p = self.problem
        total = sum(float(self.step_values(duals, t).min()) for t in range(self.shape[0]))
        cap = np.where(self.reach_rows, self.choices.range.real_time_high, 0.0) / self.unit_mw
        total -= float((duals.reach * cap).sum())
        total -= float((duals.plug * p.plugged_mw).sum()) / self.unit_mw
        if p.real_time_limit == "plug":
            total -= float((self.limit_price(duals) * p.plugged_mw).sum()) / self.unit_mw
        return total

    # ---- linear program --------------------------------------------------------------------
    def rows(self) -> MarketRows:
        """The market's columns and rows: balance, limit, mean, reach, plug, then the rest."""
        return _Builder(self).build()


def off_edges(
    low: FloatArray, high: FloatArray, reach_low: FloatArray, reach_high: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Range of a power within a step and within reach, kept off the step's edges.

    A millionth of a unit is more than rounding moves, so that the price read back is the step's.
    Where reach, not the edge, is the limit, nothing is taken off.
    """
    room = np.minimum(
        1e-6, np.maximum(np.minimum(high, reach_high) - np.maximum(low, reach_low), 0) / 4
    )
    return np.maximum(low + room, reach_low), np.minimum(high - room, reach_high)


def lower_hull(x: FloatArray, y: FloatArray) -> IntArray:
    """Indices of the lower convex hull of points, by Andrew's monotone chain."""
    order = np.lexsort((y, x))
    chain: list[int] = []
    for i in order:
        if chain and x[i] <= x[chain[-1]]:
            continue
        while len(chain) > 1:
            a, b = chain[-2], chain[-1]
            if (y[b] - y[a]) * (x[i] - x[a]) < (y[i] - y[a]) * (x[b] - x[a]) - 1e-15:
                break
            chain.pop()
        chain.append(int(i))
    return np.array(chain, np.int64)


class _Builder:
    """Collects the market's columns in coordinate form."""

    def __init__(self, market: Market) -> None:
        self.m = market
        self.T, self.N = market.shape
        self.grid = np.arange(self.T * self.N).reshape(self.T, self.N)
        self.places: list[tuple[IntArray, IntArray, FloatArray]] = []
        self.columns: list[tuple[FloatArray, FloatArray, FloatArray]] = []
        self.power_of: list[tuple[IntArray, IntArray, FloatArray]] = []
        self.own_of: list[tuple[IntArray, IntArray, FloatArray]] = []
        self.count = 0
        TN = self.T * self.N
        self.n_rows = 4 * TN + self.T
        fixed_rows = market.fixed
        reach = market.choices.range
        unit = market.unit_mw
        high = np.where(market.reach_rows, reach.real_time_high / unit, np.inf)
        low = np.full((self.T, self.N), -np.inf)
        if fixed_rows:
            a = np.argmax(market.choices.real_time, axis=2)
            t = np.arange(self.T)[:, None]
            low, high = off_edges(
                market.choices.low_mw[t, a] / unit, market.choices.high_mw[t, a] / unit,
                reach.real_time_low / unit, reach.real_time_high / unit,
            )  # fmt: skip
        plugged = market.problem.plugged_mw / unit
        limit = plugged if market.problem.real_time_limit == "plug" else np.zeros_like(plugged)
        plug = np.where(market.plug_rows, plugged, np.inf)
        free = np.full(TN, -np.inf)
        self.row_lower = [np.zeros(TN), free, low.ravel(), free, np.zeros(self.T)]
        self.row_upper = [
            np.zeros(TN), limit.ravel(), high.ravel(), plug.ravel(), np.zeros(self.T),
        ]  # fmt: skip

    def add(
        self, cost: FloatArray, lower: FloatArray, upper: FloatArray,
        *entries: tuple[NDArray[np.int64], FloatArray],
    ) -> IntArray:  # fmt: skip
        """Add columns; each entry is (rows, values), one per column or (columns, k)."""
        own = self.count + np.arange(cost.size)
        self.count += cost.size
        self.columns.append((cost, lower, upper))
        for rows, values in entries:
            rows, values = np.broadcast_arrays(rows, values)
            column = own if rows.ndim == 1 else np.repeat(own, rows.shape[1])
            self.places.append((rows.ravel(), column, values.ravel().astype(float)))
        return own

    def new_rows(self, count: int, value: float) -> IntArray:
        first = self.n_rows
        self.n_rows += count
        self.row_lower.append(np.full(count, value))
        self.row_upper.append(np.full(count, value))
        return first + np.arange(count)

    def build(self) -> MarketRows:
        m, T, N = self.m, self.T, self.N
        TN = T * N
        self.dev_row = np.full(TN, -1, np.int64)
        for t in range(T):
            if m.fixed:
                self._fixed_period(t)
            else:
                self._hull_period(t)
        if m.trades:
            self._trade()
        if m.problem.allow_v2g:
            self._burn()
        rows, columns, values = (np.concatenate(c) for c in zip(*self.places, strict=True))
        cost, lower, upper = (np.concatenate(c) for c in zip(*self.columns, strict=True))
        matrix = sp.csc_matrix((values, (rows, columns)), shape=(self.n_rows, self.count))
        return MarketRows(
            matrix, cost, lower, upper, np.concatenate(self.row_lower),
            np.concatenate(self.row_upper), self._reader(self.power_of, T),
            self._reader(self.own_of, TN), self.dev_row,
        )  # fmt: skip

    def _reader(
        self, parts: list[tuple[IntArray, IntArray, FloatArray]], rows: int
    ) -> sp.csr_matrix:
        i, j, v = (np.concatenate(c) for c in zip(*parts, strict=True))
        return sp.csr_matrix((v, (i, j)), shape=(rows, self.count))

    def _hull_period(self, t: int) -> None:
        m, N, TN = self.m, self.N, self.T * self.N
        corners = m.corners(t)
        S = corners.power.size
        one = self.new_rows(1, 1.0)
        ones = np.ones(S)
        if not m.blocks[t]:
            wide = np.repeat(corners.power[:, None], N, axis=1)
            own = self.add(
                corners.cost, np.zeros(S), ones,
                (np.repeat(one, S), ones),
                (np.repeat(self.grid[t][None], S, axis=0), wide),
                (np.repeat(2 * TN + self.grid[t][None], S, axis=0), wide),
            )  # fmt: skip
            self.power_of.append((np.full(S, t), own, corners.power))
            self.own_of.append(
                (np.repeat(self.grid[t], S), np.tile(own, N), np.tile(corners.power, N))
            )
            return
        known = m.shown[t] & m.choices.day_ahead[t]
        keep = known[corners.step] if known.any() else np.ones(S, bool)
        place = np.cumsum(keep) - 1
        S = int(keep.sum())
        link = self.new_rows(S * N, 0.0)
        dev = self.new_rows(N, 0.0)
        self.dev_row[self.grid[t]] = dev
        own = self.add(
            corners.cost[keep], np.zeros(S), np.ones(S),
            (np.repeat(one, S), np.ones(S)),
            (link.reshape(S, N), -np.ones((S, N))),
        )  # fmt: skip
        self.power_of.append((np.full(S, t), own, corners.power[keep]))
        b = m.block(t)
        near = keep[b.corner] & (np.abs(b.step - corners.step[b.corner]) <= NEAR_STEPS)
        corner, sample, power = b.corner[near], b.sample[near], b.power[near]
        here, size = self.grid[t][sample], power.size
        own = self.add(
            b.cost[near], np.zeros(size), np.ones(size),
            (link[place[corner] * N + sample], np.ones(size)),
            (here, power),
            (2 * TN + here, power),
            (dev[sample], power - corners.power[corner]),
        )  # fmt: skip
        self.own_of.append((here, own, power))

    def _fixed_period(self, t: int) -> None:
        m, N, TN = self.m, self.N, self.T * self.N
        reach = m.choices.range
        a = int(np.argmax(m.choices.day_ahead[t]))
        low, high = off_edges(
            np.array([m.choices.low_mw[t, a] / m.unit_mw]),
            np.array([m.choices.high_mw[t, a] / m.unit_mw]),
            reach.day_ahead_low[[t]] / m.unit_mw, reach.day_ahead_high[[t]] / m.unit_mw,
        )  # fmt: skip
        own = self.add(
            np.array([m.usd_per_mwh[a]]), low, high,
            (self.grid[t][None], np.ones((1, N))),
            (2 * TN + self.grid[t][None], np.ones((1, N))),
        )  # fmt: skip
        self.power_of.append((np.array([t]), own, np.ones(1)))
        self.own_of.append((self.grid[t], np.repeat(own, N), np.ones(N)))

    def _trade(self) -> None:
        m, T, N = self.m, self.T, self.N
        TN = T * N
        flat = self.grid.ravel()
        t, n = np.divmod(flat, N)
        top = 2.0 * m.problem.plugged_mw.ravel() / m.unit_mw
        cost = np.zeros(TN)
        if m.fixed:
            a = np.argmax(m.choices.day_ahead, axis=1)
            b = np.argmax(m.choices.real_time, axis=2).ravel()
            cost = m.problem.probability[n] * (m.usd_per_mwh[b] - m.usd_per_mwh[a[t]])
        in_block = self.dev_row[flat] >= 0
        row = np.where(in_block, self.dev_row[flat], flat)
        for sign in (1.0, -1.0):
            own = self.add(
                sign * cost, np.zeros(TN), top,
                (row, np.where(in_block, -sign, sign)),
                (TN + flat, np.ones(TN)),
                (np.where(in_block, TN + flat, 2 * TN + flat), np.where(in_block, 0.0, sign)),
                (4 * TN + t, sign * m.problem.probability[n]),
            )  # fmt: skip
            self.own_of.append(
                (flat[~in_block], own[~in_block], np.full(int((~in_block).sum()), sign))
            )

    def _burn(self) -> None:
        m, TN = self.m, self.T * self.N
        c = m.problem.charger
        flat = self.grid.ravel()
        fed = 0.0 if m.problem.real_time_limit == "plug" else -c.discharge_efficiency
        self.add(
            np.zeros(TN), np.zeros(TN), m.problem.plugged_mw.ravel() / m.unit_mw,
            (flat, np.full(TN, -m.burn_power)),
            (TN + flat, np.full(TN, fed)),
            (3 * TN + flat, np.full(TN, 1.0 + 1.0 / c.charge_efficiency)),
        )  # fmt: skip
