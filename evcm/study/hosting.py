"""Hosting capacity: how many cars the network carries under each regime of charging.

*Uncontrolled*: days of 30,000 cars are drawn one after another and their first n cars counted in,
so that every day has a first n at which power goes unsupplied; the spread over days is the Monte
Carlo interval. *Apart* and *proportional*: 200 groups with growing weights stand for the
fleet, each aggregator is solved to optimality, alone or under caps proportional to its cars. The
count at which caps become too small for the cars' trips needs no grid: everything but the caps
scales with the fleet, so one linear program per aggregator gives it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evcm import inputs
from evcm.arrays import FloatArray, IntArray
from evcm.coordination.regimes import RULES
from evcm.errors import Checks
from evcm.inputs import LOAD_BUSES, PERIOD_H, PERIODS
from evcm.inputs.values import Charger, Scenario
from evcm.network import case, opf
from evcm.network.case import Day
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study import hosting_points as points
from evcm.study.flow import quiet
from evcm.study.tasks import run_key
from evcm.trips import cars, uncontrolled
from evcm.trips.cars import Cars

DRAW = 100
"""Scenario number that keys the draws of hosting days, apart from those of the scenarios."""

TABLES = ("uncontrolled", "uncontrolled_first", "points", "caps")


@dataclass(frozen=True)
class Grid:
    """What to compute. Defaults cost about five minutes of processor time.

    `counts` cars, `seeds` fleets and `groups` per fleet for the optimised regimes; fleets after the
    first are solved at `repeated_counts` alone, where regimes start to fail. `days` are drawn for
    uncontrolled charging in blocks of `block` cars up to `most` cars, `curve_days` of them for the
    curves; charger powers and V2G shares are swept with the first seed at `sweep_counts`.
    """

    counts: tuple[int, ...] = (
        2000, 4000, 5000, 6000, 7000, 8000, 10_000, 15_000, 20_000, 30_000,
    )  # fmt: skip
    repeated_counts: tuple[int, ...] = (5000, 6000, 7000, 8000, 10_000)
    seeds: tuple[int, ...] = (1, 2, 3, 4)
    capped_seeds: tuple[int, ...] = (1, 2)
    sweep_counts: tuple[int, ...] = (8000, 15_000, 30_000)
    sweep_charger_kw: tuple[float, ...] = (22.0,)
    sweep_v2g_share: tuple[float, ...] = (0.25, 0.5)
    groups: int = 200
    samples: int = 4
    gap: float = 0.03
    days: int = 100
    curve_days: int = 20
    block: int = 250
    most: int = 30_000
    uncontrolled_charger_kw: tuple[float, ...] = (3.7, 7.4, 22.0, 150.0)

    def __post_init__(self) -> None:
        c = Checks("hosting grid")
        for name in ("counts", "repeated_counts", "sweep_counts"):
            values = getattr(self, name)
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
        shares = self.sweep_v2g_share
        # with no car that feeds in, (10) forbids all trade in real time and (12) asks the same
        # power of every sample: there is next to no plan
        c.require(all(0 < s <= 1 for s in shares), "sweep_v2g_share", shares, "0 < share <= 1")
        kw = (*self.sweep_charger_kw, *self.uncontrolled_charger_kw)
        c.require(all(0 < k <= 1000 for k in kw), "charger_kw", kw, "0 < power <= 1000 kW")
        c.done()


def run(
    grid: Grid, out: Path, jobs: Jobs = 2, progress: Progress = quiet
) -> dict[str, pd.DataFrame]:
    """Compute what is not stored yet; return the tables of ``hosting/`` by name.

    ``uncontrolled``
        Mean and range over days by charger and count: NSE, peak, losses, lowest voltage.
    ``uncontrolled_first``
        The first count with NSE, one row per charger and day (inf: none up to `grid.most`).
    ``points``
        One row per regime, charger, V2G share, seed and count.
    ``caps``
        The count at which a rule's caps become too small, by rule, seed and aggregator.
    """
    key, names = hosting_key(grid), {name: f"hosting/{name}.parquet" for name in TABLES}
    with Store(out).locked("evcm hosting") as store:
        if all(store.is_fresh(name, key) for name in names.values()):
            return load(out, grid)
        curves, first = _uncontrolled_tables(grid, store, jobs, progress)
        tables = {
            "uncontrolled": curves,
            "uncontrolled_first": first,
            "points": points.solve_points(_points(grid), store, jobs, progress),
            "caps": points.largest_fleets(_fleets(grid), store, jobs, progress),
        }
        for name, table in tables.items():
            store.save_table(names[name], key, table)
    return tables


def load(out: Path, grid: Grid | None = None) -> dict[str, pd.DataFrame]:
    """The stored tables; raises `StaleError` where one is missing or made by other code."""
    store, key = Store(out), hosting_key(grid or Grid())
    return {name: store.load_table(f"hosting/{name}.parquet", key) for name in TABLES}


def hosting_key(grid: Grid) -> str:
    """Fingerprint of the code, the data and the grid."""
    return run_key(__name__, grid)


def _points(grid: Grid) -> list[points.Point]:
    def make(regime: str, seed: int, count: int, kw: float, share: float) -> points.Point:
        return points.Point(regime, count, seed, kw, share, grid.groups, grid.samples, grid.gap)

    kw, found = inputs.charger().power_kw, []
    for regime, seeds in (
        ("apart", grid.seeds),
        ("proportional", grid.capped_seeds),
    ):
        for k, seed in enumerate(seeds):
            counts = grid.counts if k == 0 else grid.repeated_counts
            found += [make(regime, seed, n, kw, 1.0) for n in counts]
    first = grid.seeds[0]
    for n in grid.sweep_counts:
        found += [make("apart", first, n, x, 1.0) for x in grid.sweep_charger_kw]
        found += [make("apart", first, n, kw, x) for x in grid.sweep_v2g_share]
    return found


def _fleets(grid: Grid) -> list[points.Point]:
    kw = inputs.charger().power_kw
    return [
        points.Point(rule, grid.groups, seed, kw, 1.0, grid.groups, grid.samples, grid.gap)
        for rule in RULES
        for seed in grid.capped_seeds
    ]


def drawn_day(most: int, day: int, seed: int = 1) -> Cars:
    """One day of `most` cars under the published trip law."""
    scenario = Scenario(number=DRAW, cars=most, samples=day + 1)
    return cars.draw_cars(scenario, inputs.trip_law(), seed, day)


def first_cars(day: Cars, start: int, stop: int) -> Cars:
    """Cars start..stop-1 of a day."""
    vectors: dict[str, Any] = {
        name: value[start:stop]
        for name, value in vars(day).items()
        if isinstance(value, np.ndarray) and name != "speed_kmh"
    }
    return replace(day, **vectors)


def growing_fleet_mw(day: Cars, block: int, charger: Charger) -> tuple[FloatArray, FloatArray]:
    """Uncontrolled power (B + 1, T, K) of the first 0, block, 2 block .. cars, and unserved kWh."""
    blocks = len(day) // block
    power, unserved = np.zeros((blocks + 1, PERIODS, len(LOAD_BUSES))), np.zeros(blocks + 1)
    for b in range(blocks):
        part = uncontrolled.charge_at_once(first_cars(day, b * block, (b + 1) * block), charger)
        power[b + 1], unserved[b + 1] = part.power_mw[:, :, 0], part.unserved_kwh[0]
    return power.cumsum(axis=0), unserved.cumsum()


def first_shortage(site: Day, power_mw: FloatArray) -> IntArray:
    """First block at which each day lacks power (D,), by bisection; B + 1 where none does.

    `power_mw` is (D, B + 1, T, K). More cars never draw less, so bisection finds the first.
    """
    days, blocks = power_mw.shape[0], power_mw.shape[1] - 1
    wide = site.repeated(days)

    def short(block: IntArray) -> np.ndarray:
        flat = power_mw[np.arange(days), block].reshape(days * PERIODS, -1)
        every = opf.served(wide, flat).reshape(days, PERIODS).all(axis=1)
        return np.logical_not(every)

    low, high = np.zeros(days, np.int64), np.full(days, blocks + 1, np.int64)
    while (high - low > 1).any():
        middle = np.minimum((low + high) // 2, blocks)
        bad = short(middle)
        split = high - low > 1
        high = np.where(split & bad, middle, high)
        low = np.where(split & ~bad, middle, low)
    return high


@dataclass(frozen=True)
class UncontrolledTask:
    """Uncontrolled charging at one power; `grid` says how many cars and days."""

    grid: Grid
    kw: float

    @property
    def name(self) -> str:
        """Name in the step ``uncontrolled``."""
        return f"{self.kw:g}kw"

    def key(self) -> str:
        """Fingerprint of the code, the data and the parts of the grid that count here."""
        g, data = self.grid, fingerprint.of_data(*fingerprint.STUDY_DATA)
        asked = g.counts, g.days, g.curve_days, g.block, g.most, self.kw
        return fingerprint.of_content(fingerprint.of_code(UncontrolledTask), data, asked)

    def run(self) -> Result:
        """The curve over counts, and the first count that lacks power on each day."""
        curve, first = _uncontrolled(self.grid, self.kw)
        return Result.of_tables(curve=curve, first=first)


def _uncontrolled_tables(
    grid: Grid, store: Store, jobs: Jobs, progress: Progress
) -> tuple[pd.DataFrame, pd.DataFrame]:
    tasks = [UncontrolledTask(grid, kw) for kw in grid.uncontrolled_charger_kw]
    found = each(tasks, store, "uncontrolled", jobs, progress, "Uncontrolled")
    curves, firsts = ([result.table(name) for result in found] for name in ("curve", "first"))
    return pd.concat(curves, ignore_index=True), pd.concat(firsts, ignore_index=True)


def _uncontrolled(grid: Grid, kw: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    site = case.reference_day()
    charger = replace(inputs.charger(), power_kw=kw)
    fleets = [growing_fleet_mw(drawn_day(grid.most, d), grid.block, charger)
              for d in range(grid.days)]  # fmt: skip
    power = np.stack([p for p, _ in fleets])
    block = first_shortage(site, power)
    first = np.where(block * grid.block > grid.most, np.inf, block * float(grid.block))
    rows = []
    few = grid.curve_days
    wide = site.repeated(few)
    for n in sorted({0, *grid.counts}):
        ev = power[:few, min(n, grid.most) // grid.block]
        state = opf.assess(wide, ev.reshape(few * PERIODS, -1))
        total = wide.load_p_mw.sum(axis=1) + ev.reshape(few * PERIODS, -1).sum(axis=1)
        by_day = total.reshape(few, PERIODS)
        nse = PERIOD_H * state.short_mw.reshape(few, PERIODS).sum(axis=1)
        losses = PERIOD_H * state.losses_mw.reshape(few, PERIODS).sum(axis=1)
        lowest = state.v_min_pu.reshape(few, PERIODS).min(axis=1)
        rows.append({
            "charger_kw": kw, "cars": n, "nse_mwh": nse.mean(),
            "nse_low_mwh": np.quantile(nse, 0.05), "nse_high_mwh": np.quantile(nse, 0.95),
            "short_share": float((nse > 0).mean()), "peak_mw": by_day.max(axis=1).mean(),
            "peak_ev_mw": ev.sum(axis=2).max(axis=1).mean(), "losses_mwh": losses.mean(),
            "v_min_pu": lowest.min(),
            "unserved_kwh_per_car": np.mean([u[min(n, grid.most) // grid.block]
                                            for _, u in fleets[:few]]) / max(n, 1),
        })  # fmt: skip
    days = pd.DataFrame({"charger_kw": kw, "day": np.arange(grid.days), "first_cars": first})
    return pd.DataFrame(rows), days


def first_count(first_cars: FloatArray) -> dict[str, float]:
    """The count at which NSE first appears: median over days, its 95 % interval, and the spread.

    `median`, `median_low`, `median_high`: the median day and its distribution-free interval from
    order statistics; `p05`, `p95`: the range that 90 % of the days fall in.
    """
    x = np.sort(np.asarray(first_cars, float))
    half = 0.98 * np.sqrt(x.size)
    low = int(max(0, np.floor(x.size / 2 - half)))
    high = int(min(x.size - 1, np.ceil(x.size / 2 + half)))

    def at(share: float) -> float:
        return float(x[min(x.size - 1, int(share * x.size))])

    return {
        "median": at(0.5), "median_low": float(x[low]), "median_high": float(x[high]),
        "p05": at(0.05), "p95": at(0.95),
    }  # fmt: skip


def first_counts(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """First count with NSE by regime at the paper's charger: median, interval, spread.

    For the optimised regimes each seed is one draw of the fleet and the count is one of the grid;
    with a handful of seeds the interval and the spread are their range.
    """
    kw = inputs.charger().power_kw
    free = tables["uncontrolled_first"]
    rows = [{"regime": "uncontrolled"} | first_count(
        free.loc[free["charger_kw"] == kw, "first_cars"].to_numpy())]  # fmt: skip
    own = tables["points"]
    own = own[(own["charger_kw"] == kw) & (own["v2g_share"] == 1.0)]
    for regime, mine in own.groupby("regime", sort=False):
        bad = mine["nse_mwh"].where(mine["feasible"], np.inf) > 0
        first = mine["cars"].where(bad).groupby(mine["seed"]).min().fillna(np.inf)
        rows.append({"regime": str(regime)} | first_count(first.to_numpy(float)))
    return pd.DataFrame(rows)
