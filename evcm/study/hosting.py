"""Hosting capacity: how many cars the network carries under each regime of charging.

*Uncontrolled*: days of 30,000 cars are drawn one after another and their first n cars counted in,
so that every day has a first n at which power goes unsupplied; the spread over days is the Monte
Carlo interval. *Planned regimes*: 200 groups with growing weights stand for the fleet, and each
aggregator is solved. All are on one footing: every real-time day goes through the OPF, and a count
is too many where half of the days run short. A fleet's first such count is searched for. The
count at which caps become too small for the cars' trips needs no grid: everything but the caps
scales with the fleet, so a linear program gives it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import bdtr

from evcm.arrays import FloatArray
from evcm.coordination.regimes import RULES
from evcm.errors import Checks
from evcm.inputs.study import Inputs
from evcm.inputs.values import Roads
from evcm.network import opf
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study import growing
from evcm.study import hosting_points as points
from evcm.study.feeder_limits import FeederTask
from evcm.study.flow import quiet
from evcm.study.limits import LATE_H, LimitsTask, OutageTask
from evcm.study.tasks import run_key

TABLES = (
    "uncontrolled", "uncontrolled_first", "points", "first", "caps", "limits", "clamp", "added",
    "outages", "feeder",
)  # fmt: skip


GRID_ROOM, GRID_LOAD_MW = 7750.0, 259.0
"""Mean car's first shortage, and nominal load, of the inputs for which the counts of `Grid` are."""

MANY_BUSES = 40
"""Aggregators above which `grid_for` plans at three counts."""


@dataclass(frozen=True)
class Grid:
    """What to compute.

    Every regime of `regimes` is solved at `counts` for the first seed, the slower ones up to
    `most_slow` cars. `seeds` fleets planned apart are searched for their first shortage from
    `threshold_start` on, to `groups` cars; limits of caps take `capped_seeds`. `days` are drawn for
    uncontrolled charging in blocks of `block` cars up to `most` cars, of which one drawn stands for
    `weight`; `curve_days` of them for curves, `outage_days` for the loss of each branch.
    `feeder_draws` fleets are drawn for the distribution feeder, bus by bus in turn. Charger powers
    and V2G shares are swept with the first seed at `sweep_counts`.
    """

    counts: tuple[int, ...] = (
        2000, 4000, 5000, 6000, 7000, 8000, 10_000, 15_000, 20_000, 30_000,
    )  # fmt: skip
    regimes: tuple[str, ...] = ("apart", "equilibrium", "proportional", "joint")
    most_slow: int = 15_000
    seeds: tuple[int, ...] = tuple(range(1, 41))
    threshold_start: int = 6400
    capped_seeds: tuple[int, ...] = tuple(range(1, 7))
    sweep_counts: tuple[int, ...] = (8000, 15_000, 30_000)
    sweep_charger_kw: tuple[float, ...] = (22.0,)
    sweep_v2g_share: tuple[float, ...] = (0.25, 0.5)
    groups: int = 200
    samples: int = 4
    gap: float = 0.03
    days: int = 100
    curve_days: int = 20
    outage_days: int = 20
    feeder_draws: int = 22
    block: int = 250
    most: int = 30_000
    weight: int = 1
    uncontrolled_charger_kw: tuple[float, ...] = (3.7, 7.4, 22.0, 150.0)

    def __post_init__(self) -> None:
        c = Checks("hosting grid")
        for name in ("counts", "sweep_counts", "threshold_start"):
            values = np.atleast_1d(getattr(self, name)).tolist()
            good = all(v > 0 and v % self.groups == 0 for v in values)
            c.require(good, name, values, f"positive multiples of {self.groups} cars")
        c.require(len(self.seeds) > 0, "seeds", self.seeds, "at least one")
        c.require(self.groups >= 11, "groups", self.groups, ">= 11")
        c.require(self.samples >= 1, "samples", self.samples, ">= 1")
        c.require(0 < self.gap <= 0.5, "gap", self.gap, "0 < gap <= 0.5")
        c.require(1 <= self.curve_days <= self.days, "curve_days", self.curve_days, "1..days")
        c.require(
            0 < self.block <= self.most and self.most % self.block == 0,
            "block", self.block, f"a divisor of most ({self.most})",
        )  # fmt: skip
        c.require(self.weight >= 1 and self.block % self.weight == 0, "weight", self.weight,
                  f"a divisor of block ({self.block})")  # fmt: skip
        shares = self.sweep_v2g_share
        # with no car that feeds in, (10) forbids all trade in real time and (12) asks the same
        # power of every sample: there is next to no plan
        c.require(all(0 < s <= 1 for s in shares), "sweep_v2g_share", shares, "0 < share <= 1")
        kw = (*self.sweep_charger_kw, *self.uncontrolled_charger_kw)
        c.require(all(0 < k <= 1000 for k in kw), "charger_kw", kw, "0 < power <= 1000 kW")
        c.done()

    def fleet(self, days: int, inputs: Inputs) -> growing.GrowingDays:
        """Days of uncontrolled charging that grow as the grid says."""
        return growing.GrowingDays(days, self.block, self.most, self.weight, inputs)


def size_for(inputs: Inputs) -> tuple[float, int]:
    """How many times the cars of `Grid()` are about right for inputs, and groups for every bus.

    The first is as the mean car's first shortage (`growing.mean_room`) stands to `GRID_ROOM`, or as
    the loads do where there is none.

    Raises
    ------
    InputError
        Cars are not drawn by a law: a fleet of listed cars or recorded sessions does not grow.
    """
    c = Checks(inputs.name)
    roads = isinstance(inputs.cars, Roads)
    c.require(roads, "cars", type(inputs.cars).__name__, "trips/roads.csv: fleets grow by its law")
    c.done()
    room = growing.mean_room(inputs)
    load_mw = float(inputs.network.load_p_mw.sum())
    scale = room / GRID_ROOM if 0 < room < np.inf else load_mw / GRID_LOAD_MW
    return scale, max(Grid().groups, -(-4 * len(inputs.buses) // 100) * 100)


def scaled(counts: tuple[int, ...], scale: float, groups: int) -> tuple[int, ...]:
    """Counts of cars times a scale, each once, as multiples of the groups."""
    return tuple(dict.fromkeys(max(1, round(n * scale / groups)) * groups for n in counts))


def grid_for(inputs: Inputs) -> Grid:
    """The default grid for inputs: counts about where they run short, groups for every bus.

    All counts of `Grid()` are scaled by `size_for`. Where that is more than one, a car drawn stands
    for several. Above `MANY_BUSES` aggregators, three counts do. For the paper's inputs it is
    `Grid()`.

    Raises
    ------
    InputError
        As `size_for`.
    """
    grid, (scale, groups) = Grid(), size_for(inputs)
    weight = max(1, round(scale))
    block = max(1, round(grid.block * scale / weight)) * weight
    many = len(inputs.buses) > MANY_BUSES
    kw = float(inputs.vehicles[0].charger.power_kw)
    return replace(
        grid, groups=groups, weight=weight, block=block, most=block * (grid.most // grid.block),
        counts=scaled(
            grid.counts[2:8:3] + grid.counts[-1:] if many else grid.counts, scale, groups
        ),
        sweep_counts=scaled(
            grid.sweep_counts[1:2] if many else grid.sweep_counts, scale, groups
        ),
        most_slow=max(1, round(grid.most_slow * scale)),
        threshold_start=max(1, round(grid.threshold_start * scale / groups)) * groups,
        uncontrolled_charger_kw=(*(k for k in grid.uncontrolled_charger_kw if k < kw), kw),
    )  # fmt: skip


def run(
    inputs: Inputs, grid: Grid, out: Path, jobs: Jobs = 2, progress: Progress = quiet
) -> dict[str, pd.DataFrame]:
    """Compute what is not stored yet; return the tables of ``hosting/`` by name.

    ``uncontrolled``
        Mean and range over days by charger and count: NSE, peak, losses, lowest voltage.
    ``uncontrolled_first``
        The first count with NSE, one row per charger and day (inf: none up to `grid.most`).
    ``points``
        One row per regime, charger, V2G share, seed and count.
    ``first``
        First count at which half of a fleet's days run short, by regime and seed, and the limit.
    ``caps``
        The count at which a rule's caps become too small, and for whom first, by rule and seed.
    ``limits``, ``clamp``, ``added``
        Uncontrolled, by latest departure: first counts by limit and day; NSE by count; power that
        1,000 cars add by period, and days that first run short in it.
    ``outages``
        Uncontrolled, first counts after the loss of each branch.
    ``feeder``
        Uncontrolled, one feeder's day by draw, model and level (`evcm.study.feeder_limits`).
    """
    key, names = hosting_key(inputs, grid), {name: f"hosting/{name}.parquet" for name in TABLES}
    with Store(out).locked("evcm hosting") as store:
        if all(store.is_fresh(name, key) for name in names.values()):
            return load(inputs, out, grid)
        curves, first = _uncontrolled_tables(grid, store, jobs, progress, inputs)
        tables = {
            "uncontrolled": curves,
            "uncontrolled_first": first,
            "points": points.solve_points(_points(inputs, grid), store, jobs, progress, inputs),
            "first": points.first_shortages(_thresholds(inputs, grid), store, jobs, progress),
            "caps": points.largest_fleets(_fleets(inputs, grid), store, jobs, progress, inputs),
            **_limit_tables(grid, store, jobs, progress, inputs),
        }
        for name, table in tables.items():
            store.save_table(names[name], key, table, {"data": inputs.fingerprint})
    return tables


def load(
    inputs: Inputs, out: Path, grid: Grid | None = None
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The stored tables; raises `StaleError` where one is missing or made by other code."""
    store, key = Store(out), hosting_key(inputs, grid or Grid())
    return {name: store.load_table(f"hosting/{name}.parquet", key) for name in TABLES}


def hosting_key(inputs: Inputs, grid: Grid) -> str:
    """Fingerprint of the code, the inputs and the grid."""
    return run_key(__name__, grid, inputs)


def _points(inputs: Inputs, grid: Grid) -> list[points.Point]:
    def make(regime: str, seed: int, count: int, kw: float, share: float) -> points.Point:
        return points.Point(regime, count, seed, kw, share, grid.groups, grid.samples, grid.gap)

    kw, found = float(inputs.vehicles[0].charger.power_kw), []
    for regime in grid.regimes:
        slow = regime in ("equilibrium", "joint")
        counts = [n for n in grid.counts if not slow or n <= grid.most_slow]
        found += [make(regime, grid.seeds[0], n, kw, 1.0) for n in counts]
    first = grid.seeds[0]
    for n in grid.sweep_counts:
        found += [make("apart", first, n, x, 1.0) for x in grid.sweep_charger_kw]
        found += [make("apart", first, n, kw, x) for x in grid.sweep_v2g_share]
    return found


def _thresholds(inputs: Inputs, grid: Grid) -> list[points.ThresholdTask]:
    kw = float(inputs.vehicles[0].charger.power_kw)
    return [
        points.ThresholdTask(
            points.Point(
                "apart", grid.threshold_start, s, kw, 1.0, grid.groups, grid.samples, grid.gap
            ),
            inputs,
            grid.most,
        )
        for s in grid.seeds
    ]


def _limit_tables(
    grid: Grid, store: Store, jobs: Jobs, progress: Progress, inputs: Inputs
) -> dict[str, pd.DataFrame]:
    clamps = [
        LimitsTask(latest, grid.counts, grid.fleet(grid.days, inputs))
        for latest in dict.fromkeys((inputs.law().departure_latest_h, LATE_H))
    ]
    found = each(clamps, store, "limits", jobs, progress, "Uncontrolled, limit by limit")
    tables = {
        name: pd.concat(
            [
                r.table(table).assign(latest_h=t.latest_h)
                for t, r in zip(clamps, found, strict=True)
            ],
            ignore_index=True,
        )
        for name, table in (("limits", "first"), ("clamp", "curve"), ("added", "added"))
    }
    losses = [
        OutageTask(branch, grid.fleet(grid.outage_days, inputs))
        for branch in range(inputs.network.branch_from.size)
    ]
    found = each(losses, store, "outages", jobs, progress, "Loss of a branch")
    most_mw = np.asarray(inputs.day.aggregator_load_mw.max(axis=0))
    buses = [bus for bus, mw in zip(inputs.buses, most_mw, strict=True) if mw > 0]
    feeders = [
        FeederTask(draw, buses[draw % len(buses)], inputs) for draw in range(grid.feeder_draws)
    ]
    levels = each(feeders, store, "feeder-limits", jobs, progress, "Feeder")
    return tables | {
        "outages": pd.DataFrame([r.record for r in found]),
        "feeder": pd.concat([r.table("levels") for r in levels], ignore_index=True),
    }


def _fleets(inputs: Inputs, grid: Grid) -> list[points.Point]:
    kw = float(inputs.vehicles[0].charger.power_kw)
    return [
        points.Point(rule, grid.groups, seed, kw, 1.0, grid.groups, grid.samples, grid.gap)
        for rule in RULES
        for seed in grid.capped_seeds
    ]


@dataclass(frozen=True)
class UncontrolledTask:
    """Uncontrolled charging at one power; `grid` says how many cars and days."""

    grid: Grid
    kw: float
    inputs: Inputs = field(repr=False)

    @property
    def name(self) -> str:
        """Name in the step ``uncontrolled``."""
        return f"{self.kw:g}kw"

    def key(self) -> str:
        """Fingerprint of the code, the inputs and the parts of the grid that count here."""
        g, told = self.grid, self.inputs.fingerprint
        asked = g.counts, g.days, g.curve_days, g.block, g.most, g.weight, self.kw
        return fingerprint.of_content(fingerprint.of_code(UncontrolledTask), told, asked)

    def run(self) -> Result:
        """The curve over counts, and the first count that lacks power on each day."""
        curve, first = _uncontrolled(self.grid, self.kw, self.inputs)
        return Result.of_tables(curve=curve, first=first)


def _uncontrolled_tables(
    grid: Grid, store: Store, jobs: Jobs, progress: Progress, inputs: Inputs
) -> tuple[pd.DataFrame, pd.DataFrame]:
    tasks = [UncontrolledTask(grid, kw, inputs) for kw in grid.uncontrolled_charger_kw]
    found = each(tasks, store, "uncontrolled", jobs, progress, "Uncontrolled")
    curves, firsts = ([result.table(name) for result in found] for name in ("curve", "first"))
    return pd.concat(curves, ignore_index=True), pd.concat(firsts, ignore_index=True)


def _uncontrolled(
    grid: Grid, kw: float, inputs: Inputs
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    site, periods, dt = inputs.day, inputs.periods, inputs.period_h
    own, fleet = inputs.vehicles[0].charger, grid.fleet(grid.days, inputs)
    power, unserved = fleet.drawn(None if kw == own.power_kw else replace(own, power_kw=kw))
    _, first = fleet.first_cars(site, power)
    rows = []
    few = grid.curve_days
    wide = site.repeated(few)
    for n in sorted({0, *grid.counts}):
        ev = power[:few, fleet.at(n)]
        state = opf.assess(wide, ev.reshape(few * periods, -1))
        total = wide.load_p_mw.sum(axis=1) + ev.reshape(few * periods, -1).sum(axis=1)
        by_day = total.reshape(few, periods)
        nse = dt * state.short_mw.reshape(few, periods).sum(axis=1)
        losses = dt * state.losses_mw.reshape(few, periods).sum(axis=1)
        lowest = state.v_min_pu.reshape(few, periods).min(axis=1)
        rows.append({
            "charger_kw": kw, "cars": n, "nse_mwh": nse.mean(),
            "nse_low_mwh": _quantile(nse, 0.05), "nse_high_mwh": _quantile(nse, 0.95),
            "short_share": float((nse > 0).mean()), "peak_mw": by_day.max(axis=1).mean(),
            "peak_ev_mw": ev.sum(axis=2).max(axis=1).mean(), "losses_mwh": losses.mean(),
            "v_min_pu": lowest.min(),
            "unserved_kwh_per_car": unserved[:few, fleet.at(n)].mean() / max(n, 1),
        })  # fmt: skip
    days = pd.DataFrame({"charger_kw": kw, "day": np.arange(grid.days), "first_cars": first})
    return pd.DataFrame(rows), days


def _quantile(values: FloatArray, share: float) -> float:
    """A quantile; the nearest of the values where some are infinite (no operating point)."""
    if np.isfinite(values).all():
        return float(np.quantile(values, share))
    return float(np.sort(values)[round(share * (values.size - 1))])


def first_count(first_cars: FloatArray) -> dict[str, float]:
    """The count at which NSE first appears: median over days, its 95 % interval, and the spread.

    `median`, `median_low`, `median_high`: the median day and its distribution-free interval, two
    order statistics that the median lies between with a chance of at least 95 %; NaN below six
    days, which have none. `p05`, `p95`: the range that 90 % of the days fall in.
    """
    x = np.sort(np.asarray(first_cars, float))
    outside = int((bdtr(np.arange(x.size), x.size, 0.5) <= 0.025).sum())  # at either end
    low, high = (x[outside - 1], x[-outside]) if outside else (np.nan, np.nan)

    def at(share: float) -> float:
        return float(x[min(x.size - 1, int(share * x.size))])

    return {
        "median": at(0.5), "median_low": float(low), "median_high": float(high),
        "p05": at(0.05), "p95": at(0.95),
    }  # fmt: skip


def own_charger_kw(tables: dict[str, pd.DataFrame]) -> float:
    """The inputs' own charger, with which the first of the points are made."""
    return float(tables["points"]["charger_kw"].iloc[0])


def first_counts(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """First count at which half of the days run short, by regime at the inputs' own charger.

    One row per regime: `draws` (days, or fleets), median with its interval, and spread. For
    ``proportional`` it is the count at which the first aggregator cannot live with its cap. `limit`
    names what runs out.
    """
    kw = own_charger_kw(tables)
    free, own, caps = tables["uncontrolled_first"], tables["first"], tables["caps"]
    least = caps.groupby(["rule", "seed"])["most_cars"].min()
    draws = {
        "uncontrolled": free.loc[free["charger_kw"] == kw, "first_cars"],
        **{str(r): mine["first_cars"].dropna() for r, mine in own.groupby("regime", sort=False)},
        **{str(rule): mine for rule, mine in least.groupby(level="rule", sort=False)},
    }
    limits = {"uncontrolled": _binding(tables["limits"])}
    limits |= {str(r): mine["limit"].mode()[0] for r, mine in own.groupby("regime", sort=False)}
    return pd.DataFrame(
        [
            {"regime": regime, "draws": len(x), "limit": limits.get(regime, "cap below the trips")}
            | first_count(x.to_numpy(float))
            for regime, x in draws.items()
        ]
    )


def _binding(limits: pd.DataFrame) -> str:
    """The limit that alone gives the least median count, at the law's own clamp."""
    own = limits["latest_h"] == limits["latest_h"].iloc[0]
    mine = limits[own & (limits["limit"] != "all limits")]
    return str(mine.groupby("limit")["first_cars"].median().idxmin())
