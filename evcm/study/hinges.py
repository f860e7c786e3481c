"""What the results hinge on: one assumption changed at a time, all else as in the paper.

Every hinge is a fleet of 200 groups whose aggregators plan apart. Four figures are told of it: the
bill that is really paid, energy not supplied, energy that cars feed in, and the first count of cars
at which half of the real-time days run short.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evcm.aggregator import methods, of_fleet
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import IntArray
from evcm.coordination.account import Operation, Trade, account, operate, trade_of_plans
from evcm.coordination.equilibrium import find_equilibrium
from evcm.errors import InfeasibleError
from evcm.inputs.folder import paper
from evcm.inputs.values import PriceSteps, Scenario
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study.flow import quiet
from evcm.study.hosting_points import DRAW, NO_FEED_IN_USD_PER_KWH
from evcm.study.tasks import run_key
from evcm.trips import cars, fleet
from evcm.trips.cars import Cars

GROUPS, SAMPLES, GAP = 200, 4, 0.05
"""Groups of a fleet, its real-time days, and the gap of plans as a share of turnover: settings are
told apart from afar, so a wider gap than the study's will do."""

CARS = 4000
"""Cars at which bill, energy not supplied and feeding-in are told: about the paper's scenario 3."""

COUNTS = (2000, 4000, 6000, 8000, 10_000, 14_000, 20_000, 30_000)
"""Counts of which the first with a shortage is bisected; `CARS` is one of them."""

TABLE = "hinges/hinges.parquet"


@dataclass(frozen=True)
class Hinge:
    """One assumption and its setting; the defaults are the paper's.

    `wear` multiplies the wear of batteries, `feeding` is the share of cars that may feed in,
    `price_spread` stretches the price steps about their mean, `weights` are the sizes of a group of
    little and of much daily energy against the mean, `true_forecast` lets aggregators plan with the
    operator's own load.
    """

    what: str
    setting: str
    regime: str = "apart"
    wear: float = 1.0
    feeding: float = 1.0
    charger_kw: float = 150.0
    latest_h: float = 9.5
    law: str = "published"
    price_spread: float = 1.0
    weights: tuple[float, float] = (1.0, 1.0)
    true_forecast: bool = False
    seed: int = 1


BASE = Hinge("as in the paper", "")

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


def stretched(price: PriceSteps, spread: float) -> PriceSteps:
    """The same steps with prices `spread` times as far from their mean, never below 0."""
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


def problems_of(hinge: Hinge, count: int) -> list[AggregatorProblem]:
    """The eleven aggregators of a fleet of `count` cars with one assumption changed."""
    law = replace(paper().law(hinge.law), departure_latest_h=hinge.latest_h)
    drawn = cars.draw_cars(Scenario(number=DRAW, cars=GROUPS, samples=1), law, hinge.seed, 0)
    size = group_sizes(drawn, count, hinge.weights)
    grouped = fleet.real_time_fleet(
        drawn, size, law, (hinge.seed, DRAW, 0), SAMPLES,
        name=f"{hinge.what} {hinge.setting}, {count} cars",
    )  # fmt: skip
    feeds = np.arange(GROUPS) < round(hinge.feeding * GROUPS)
    cost = np.where(feeds, hinge.wear * grouped.storage_cost_usd_per_kwh, NO_FEED_IN_USD_PER_KWH)
    grouped = replace(grouped, storage_cost_usd_per_kwh=cost)
    price = paper().market.price
    assert isinstance(price, PriceSteps)
    options: dict[str, Any] = {
        "charger": replace(paper().vehicles[0].charger, power_kw=hinge.charger_kw),
        "price": stretched(price, hinge.price_spread),
    }
    if hinge.true_forecast:
        options["system_load_mw"] = paper().day.load_p_mw.sum(axis=1)
    return [of_fleet.aggregator_problem(grouped, bus, **options) for bus in paper().buses]


@dataclass(frozen=True)
class HingeTask:
    """One hinge to turn."""

    hinge: Hinge

    @property
    def name(self) -> str:
        """Name in the step ``hinges``."""
        return f"{self.hinge.what} {self.hinge.setting}".strip()

    def key(self) -> str:
        """Fingerprint of the hinge, the data and the solving code."""
        code = fingerprint.of_code(HingeTask), methods.code(*methods.AUTO)
        return fingerprint.of_content(code, paper().fingerprint, self.hinge)

    def run(self) -> Result:
        """A row of the table; nan, and the reason in ``note``, where an aggregator has no plan."""
        words = {"what": self.hinge.what, "setting": self.hinge.setting, "note": ""}
        try:
            problems, trade = self._planned(CARS)
        except InfeasibleError as error:
            nothing = dict.fromkeys(
                ("bill_usd", "fed_in_mwh", "nse_mwh", "first_cars"), float("nan")
            )
            return Result(words | nothing | {"note": str(error)[:200]})
        load, day = paper().day.load_p_mw.sum(axis=1), self._operated(problems, trade)
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
        problems = problems_of(self.hinge, count)
        plans = [methods.solve(p, gap=GAP) for p in problems]
        if self.hinge.regime == "equilibrium":
            plans = list(find_equilibrium(problems, plans, gap=GAP, tolerance=GAP).plans)
        return problems, trade_of_plans(problems, plans)

    def _operated(self, problems: list[AggregatorProblem], trade: Trade) -> Operation:
        return operate(paper().day, trade.sample_mw, problems[0].probability)

    def _first(self, days_short: float) -> float:
        """First of `COUNTS` at which half of the days run short, by bisection; inf if none.

        `days_short` is the share at `CARS`, which is known already. A count at which an
        aggregator has no plan, for want of room beside the others, is too many as well.
        """
        known = COUNTS.index(CARS)
        low, high = (-1, known) if days_short >= 0.5 else (known, len(COUNTS))
        while high - low > 1:
            middle = (low + high) // 2
            try:
                short = self._operated(*self._planned(COUNTS[middle])).days_short
            except InfeasibleError:
                short = 1.0
            if short >= 0.5:
                high = middle
            else:
                low = middle
        return float(COUNTS[high]) if high < len(COUNTS) else float("inf")


def run(
    out: Path, jobs: Jobs = 2, progress: Progress = quiet, hinges: tuple[Hinge, ...] = HINGES
) -> pd.DataFrame:
    """Turn every hinge; compute what is not stored yet.

    Returns
    -------
    One row per hinge: what, setting, note, bill_usd, fed_in_mwh, nse_mwh (a day of `CARS` cars),
    first_cars (inf: none up to the largest of `COUNTS`).
    """
    with Store(out).locked("evcm hinges") as store:
        found = each([HingeTask(h) for h in hinges], store, "hinges", jobs, progress, "Hinges")
        table = pd.DataFrame([r.record for r in found])
        return store.save_table(TABLE, hinges_key(), table)


def hinges_key() -> str:
    """Fingerprint of the code and the data."""
    return run_key(__name__, BASE, paper())


def load(out: Path) -> pd.DataFrame:
    """The stored table; raises `StaleError` where it is missing or made by other code."""
    return Store(out).load_table(TABLE, hinges_key())
