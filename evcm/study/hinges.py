"""What the results hinge on: one assumption changed at a time, all else as the inputs have it.

Every hinge is a fleet of a few hundred groups whose aggregators plan apart. Four figures are told
of it: the bill that is really paid, energy not supplied, energy that cars feed in, and the first
count of cars at which half of the real-time days run short.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd

from evcm.aggregator import methods, of_fleet
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import IntArray
from evcm.coordination.account import Operation, Trade, account, operate, trade_of_plans
from evcm.coordination.equilibrium import find_equilibrium
from evcm.errors import Checks, InfeasibleError
from evcm.inputs.prices import PriceSeries
from evcm.inputs.study import Inputs
from evcm.inputs.values import PriceSteps, Scenario
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study import hosting
from evcm.study.flow import quiet
from evcm.study.hosting_points import DRAW, NO_FEED_IN_USD_PER_KWH, with_charger
from evcm.study.tasks import run_key
from evcm.trips import cars, fleet
from evcm.trips.cars import Cars

SAMPLES, GAP = 4, 0.05
"""Real-time days of a fleet, and the gap of plans as a share of turnover: settings are told apart
from afar, so a wider gap than the study's will do."""

TABLE = "hinges/hinges.parquet"


@dataclass(frozen=True)
class Crowd:
    """Groups of a fleet, and how many cars they stand for; the defaults are right for the paper.

    Bill, energy not supplied and feeding-in are told at `cars`. `counts` are those of which the
    first with a shortage is bisected; `cars` is one of them.
    """

    groups: int = 200
    cars: int = 4000
    counts: tuple[int, ...] = (2000, 4000, 6000, 8000, 10_000, 14_000, 20_000, 30_000)

    def __post_init__(self) -> None:
        c, groups = Checks("cars of hinges"), self.groups
        c.require(groups >= 1, "groups", groups, ">= 1")
        good = all(n > 0 and n % max(groups, 1) == 0 for n in self.counts)
        c.require(good, "counts", self.counts, f"positive multiples of {groups} cars")
        c.require(self.cars in self.counts, "cars", self.cars, "one of the counts")
        c.done()


def crowd_for(inputs: Inputs) -> Crowd:
    """As many cars as tell the settings of inputs apart; raises as `hosting.size_for`."""
    few, (scale, groups) = Crowd(), hosting.size_for(inputs)
    (count,) = hosting.scaled((few.cars,), scale, groups)
    return Crowd(groups, count, hosting.scaled(few.counts, scale, groups))


@dataclass(frozen=True)
class Hinge:
    """One assumption and its setting; by default all is as the inputs have it.

    `charger_kw`, `latest_h` and `law` stand in for those of the inputs. `wear` multiplies the wear
    of batteries, `feeding` is the share of cars that may feed in, `price_spread` stretches prices
    about their mean, `weights` are the sizes of a group of little and of much daily energy against
    the mean, `true_forecast` lets aggregators plan with the operator's own load.
    """

    what: str
    setting: str
    regime: str = "apart"
    wear: float = 1.0
    feeding: float = 1.0
    charger_kw: float | None = None
    latest_h: float | None = None
    law: str | None = None
    price_spread: float = 1.0
    weights: tuple[float, float] = (1.0, 1.0)
    true_forecast: bool = False
    seed: int = 1


BASE = Hinge("as told", "")

HINGES: tuple[Hinge, ...] = (
    BASE,
    Hinge("wear of batteries", "3 times", wear=3.0),
    Hinge("wear of batteries", "10 times", wear=10.0),
    Hinge("cars that feed in", "50 %", feeding=0.5),
    Hinge("cars that feed in", "25 %", feeding=0.25),
    Hinge("cars that feed in", "5 %", feeding=0.05),
    Hinge("charger", "3.7 kW", charger_kw=3.7),
    Hinge("charger", "7.4 kW", charger_kw=7.4),
    Hinge("charger", "22 kW", charger_kw=22.0),
    Hinge("charger", "50 kW", charger_kw=50.0),
    Hinge("latest departure", "13:00", latest_h=13.0),
    Hinge("forecast", "equal to the load", true_forecast=True),
    Hinge("spread of prices", "half", price_spread=0.5),
    Hinge("spread of prices", "double", price_spread=2.0),
    Hinge("groups", "of 0.7 and 1.3", weights=(0.7, 1.3)),
    Hinge("groups", "of 1.3 and 0.7", weights=(1.3, 0.7)),
    Hinge("law of trips", "printed", law="printed"),
    Hinge("seed", "2", seed=2),
    Hinge("seed", "3", seed=3),
    Hinge("seed", "4", seed=4),
    Hinge("others' plans", "known", regime="equilibrium"),
)


def hinges_for(inputs: Inputs) -> tuple[Hinge, ...]:
    """The hinges that change something of the inputs: all of `HINGES`, for the paper's."""
    law, power_kw = inputs.law(), inputs.vehicles[0].charger.power_kw
    exact = np.array_equal(inputs.forecast_mw, inputs.load_p_mw.sum(axis=1))
    return tuple(
        h
        for h in HINGES
        if h.charger_kw != power_kw
        and (h.latest_h is None or h.latest_h > law.departure_latest_h)
        and (h.law is None or h.law in set(inputs.laws) - {law.name})
        and not (h.true_forecast and exact)
    )


def stretched(price: PriceSteps | PriceSeries, spread: float) -> PriceSteps | PriceSeries:
    """The same prices `spread` times as far from their mean; steps never below 0."""
    if isinstance(price, PriceSeries):
        mean = price.day_ahead_usd_per_kwh.mean()
        every = {n: x for n, x in vars(price).items() if x is not None}
        return replace(price, **{n: mean + spread * (x - mean) for n, x in every.items()})
    values = price.price_usd_per_kwh
    return replace(
        price, price_usd_per_kwh=np.maximum(values.mean() + spread * (values - values.mean()), 0.0)
    )


def group_sizes(drawn: Cars, count: int, weights: tuple[float, float]) -> IntArray:
    """Cars of every group: the first weight for the half with less daily energy (V,)."""
    mean, groups = count // len(drawn), len(drawn)
    energy = drawn.distance_km * drawn.consumption_kwh_per_km
    much = np.argsort(np.argsort(energy, kind="stable"), kind="stable") >= groups // 2
    return np.where(much, round(weights[1] * mean), round(weights[0] * mean)).astype(np.int64)


def problems_of(
    inputs: Inputs, hinge: Hinge, count: int, groups: int = 200
) -> list[AggregatorProblem]:  # fmt: skip
    """The aggregators of a fleet of `count` cars with one assumption changed, bus by bus."""
    law = inputs.law(hinge.law)
    if hinge.latest_h is not None:
        law = replace(law, departure_latest_h=hinge.latest_h)
    one = Scenario(number=DRAW, cars=groups, samples=1)
    drawn = cars.draw_cars(inputs, one, law, hinge.seed, 0)
    size = group_sizes(drawn, count, hinge.weights)
    grouped = fleet.real_time_fleet(
        drawn, size, law, (hinge.seed, DRAW, 0), SAMPLES,
        name=f"{hinge.what} {hinge.setting}, {count} cars",
    )  # fmt: skip
    feeds = np.arange(groups) < round(hinge.feeding * groups)
    cost = np.where(feeds, hinge.wear * grouped.storage_cost_usd_per_kwh, NO_FEED_IN_USD_PER_KWH)
    options: dict[str, Any] = {"price": stretched(inputs.market.price, hinge.price_spread)}
    if hinge.true_forecast:
        options["system_load_mw"] = inputs.load_p_mw.sum(axis=1)
    found = of_fleet.aggregator_problems(replace(grouped, storage_cost_usd_per_kwh=cost))
    return with_charger(inputs, [p.with_options(**options) for p in found], hinge.charger_kw)


@dataclass(frozen=True)
class HingeTask:
    """One hinge to turn."""

    hinge: Hinge
    crowd: Crowd
    inputs: Inputs = field(repr=False)

    @property
    def name(self) -> str:
        """Name in the step ``hinges``."""
        return f"{self.hinge.what} {self.hinge.setting}".strip()

    def key(self) -> str:
        """Fingerprint of the hinge, the data and the solving code."""
        code = fingerprint.of_code(HingeTask), methods.code(*methods.AUTO)
        return fingerprint.of_content(code, self.inputs.fingerprint, self.hinge, self.crowd)

    def run(self) -> Result:
        """A row of the table; nan, and the reason in ``note``, where an aggregator has no plan."""
        words = {"what": self.hinge.what, "setting": self.hinge.setting, "note": ""}
        try:
            problems, trade = self._planned(self.crowd.cars)
        except InfeasibleError as error:
            nothing = dict.fromkeys(
                ("bill_usd", "fed_in_mwh", "nse_mwh", "first_cars"), float("nan")
            )
            return Result(words | nothing | {"note": str(error)[:200]})
        load, day = self.inputs.load_p_mw.sum(axis=1), self._operated(problems, trade)
        return Result(
            words
            | {
                "bill_usd": account(problems[0], trade, load).total_usd,
                "fed_in_mwh": trade.fed_in_mwh,
                "nse_mwh": day.nse_mwh,
                "first_cars": self._first(day.days_short),
            }
        )

    def _planned(self, count: int) -> tuple[list[AggregatorProblem], Trade]:
        problems = problems_of(self.inputs, self.hinge, count, self.crowd.groups)
        plans = [methods.solve(p, gap=GAP) for p in problems]
        if self.hinge.regime == "equilibrium":
            plans = list(find_equilibrium(problems, plans, gap=GAP, tolerance=GAP).plans)
        return problems, trade_of_plans(problems, plans)

    def _operated(self, problems: list[AggregatorProblem], trade: Trade) -> Operation:
        site = of_fleet.site_of(problems, self.inputs)
        return operate(site, trade.sample_mw, problems[0].probability)

    def _first(self, days_short: float) -> float:
        """First count at which half of the days run short, by bisection; inf if none.

        `days_short` is the share at the crowd's own count, which is known already. A count at which
        an aggregator has no plan, for want of room beside the others, is too many as well.
        """
        counts = self.crowd.counts
        known = counts.index(self.crowd.cars)
        low, high = (-1, known) if days_short >= 0.5 else (known, len(counts))
        while high - low > 1:
            middle = (low + high) // 2
            try:
                short = self._operated(*self._planned(counts[middle])).days_short
            except InfeasibleError:
                short = 1.0
            if short >= 0.5:
                high = middle
            else:
                low = middle
        return float(counts[high]) if high < len(counts) else float("inf")


def run(
    inputs: Inputs, out: Path, jobs: Jobs = 2, progress: Progress = quiet,
    hinges: tuple[Hinge, ...] | None = None, crowd: Crowd | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Turn every hinge (by default `hinges_for` the inputs); compute what is not stored yet.

    Returns
    -------
    One row per hinge: what, setting, note, bill_usd, fed_in_mwh, nse_mwh (over the horizon, with
    the cars of `crowd`, by default `crowd_for` the inputs), first_cars (inf: none of its counts).

    Raises
    ------
    InputError
        Cars are not drawn by a law.
    """
    key, size = hinges_key(inputs, hinges, crowd), crowd or crowd_for(inputs)
    turned = hinges_for(inputs) if hinges is None else hinges
    with Store(out).locked("evcm hinges") as store:
        tasks = [HingeTask(h, size, inputs) for h in turned]
        found = each(tasks, store, "hinges", jobs, progress, "Hinges")
        return store.save_table(TABLE, key, pd.DataFrame([r.record for r in found]))


def hinges_key(
    inputs: Inputs, hinges: tuple[Hinge, ...] | None = None, crowd: Crowd | None = None
) -> str:
    """Fingerprint of the code, the inputs and what is asked."""
    return run_key(__name__, SimpleNamespace(hinges=hinges, crowd=crowd), inputs)


def load(inputs: Inputs, out: Path) -> pd.DataFrame:
    """The stored table; raises `StaleError` where it is missing or made by other code."""
    return Store(out).load_table(TABLE, hinges_key(inputs))
