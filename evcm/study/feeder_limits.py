"""How many cars one distribution feeder carries: voltage, lines and transformers, draw by draw.

Cars are drawn one after another and counted in, so that a fleet grows car by car. Each has its own
times, and a node and a phase of its own at home and at work: as many work at a feeder as live
there. They recharge at once, on one phase. The feeder's head has the voltage that the operator's
day without cars leaves at its bus.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray
from evcm.errors import SolverError
from evcm.feeder import loading, states
from evcm.feeder.coupling import FeederCases, feeder_cases, feeders_at_bus
from evcm.feeder.ieee13 import FeederModel, circuit, published_model
from evcm.feeder.spreads import Spread, spread, spread_of
from evcm.inputs.study import Inputs
from evcm.network import opf
from evcm.network.case import Day
from evcm.store import fingerprint
from evcm.store.result import Result
from evcm.study import growing
from evcm.trips import uncontrolled

LEVELS = (0, 10, 20, 30, 50, 75, 100, 150, 200, 300, 400, 500, 750, 1000, 1500, 2000)
"""Cars that live at a feeder at which it is solved."""

CHARGER_KW = 7.4
"""A single-phase charger of 32 A."""

MODELS = {"without regulator": FeederModel(), "regulator at its published taps": published_model()}
"""The paper leaves the regulator out; with it, the feeder is in the band without cars."""

LIMITS = ("voltage", "line", "service transformer", "substation")
"""What can be exceeded first."""


def days_without_cars(site: Day) -> pd.DataFrame:
    """The operator's day without cars as transmission results: period, bus, v_pu, load_mw, ev_mw.

    Buses without load feed no feeder and are left out.
    """
    day = opf.solve_day(site)
    net, (periods, _) = site.network, site.load_p_mw.shape
    parts = [
        pd.DataFrame(
            {
                "period": np.arange(1, periods + 1), "bus": int(net.bus_number[k]),
                "v_pu": day.v_pu[:, k], "load_mw": site.load_p_mw[:, k], "ev_mw": 0.0,
                "period_h": site.period_h,
            }
        )
        for k in np.flatnonzero(site.load_p_mw.any(axis=0))
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def car_power_kw(
    cars: int, draw: int, places: Spread, inputs: Inputs, charger_kw: float = CHARGER_KW
) -> FloatArray:
    """Power of the first 0, 1, .. cars of a draw at the terminals of a feeder, at `LEVELS` only.

    Returns
    -------
    (level, terminal, T) kW, up to the largest level that the inputs have cars for. A car's
    terminals at home and at work are drawn by the shares of `places`.
    """
    day = growing.drawn_day(inputs, cars, draw)
    rng = np.random.default_rng([draw, cars, 13])
    count = len(places.terminals)
    home, work = (rng.choice(count, len(day), p=places.shares) for _ in range(2))
    charger = replace(inputs.vehicles[0].charger, power_kw=charger_kw)
    found = [np.zeros((count, inputs.periods))]
    for low, high in pairwise(n for n in LEVELS if n <= len(day)):
        part, mine = growing.first_cars(day, low, high), slice(low, high)
        power, _ = uncontrolled.power_by_place(part, home[mine], work[mine], count, charger)
        found.append(found[-1] + power[0])
    return np.stack(found)


def phases_alike() -> Spread:
    """Where cars may plug in: nodes as they are loaded, the phases of a node alike."""
    by_load, feeder = spread("by_load"), circuit(FeederModel())
    share: dict[str, float] = {}
    for terminal, part in zip(by_load.terminals, by_load.shares, strict=True):
        share[terminal.node] = share.get(terminal.node, 0.0) + float(part)
    return spread_of(
        {
            f"{node}.{phase}": part / len(feeder.phases(node))
            for node, part in share.items()
            for phase in feeder.phases(node)
        },
        "phases alike",
    )


@dataclass(frozen=True)
class FeederTask:
    """One draw of cars on a feeder of one bus, at every level and in both models."""

    draw: int
    bus: int
    inputs: Inputs = field(repr=False)

    @property
    def name(self) -> str:
        """Name in the step ``feeder-limits``."""
        return f"draw{self.draw}-bus{self.bus}"

    def key(self) -> str:
        """Fingerprint of the code, the feeder's data, the inputs and what is asked."""
        code, facts = fingerprint.of_code(FeederTask), fingerprint.of_data("feeder")
        return fingerprint.of_content(code, facts, self.inputs.fingerprint, self.draw, self.bus)

    def run(self) -> Result:
        """Table ``levels``: a row per model and level (`level_row`)."""
        table = days_without_cars(self.inputs.day)
        mine = table[table["bus"] == self.bus]
        base, places = feeder_cases(mine, feeders_at_bus(mine)), phases_alike()
        power = car_power_kw(LEVELS[-1], self.draw, places, self.inputs)
        feeders = int(base.labels["feeders"].iloc[0])
        rows = [
            {"draw": self.draw, "bus": self.bus, "feeders": feeders, "model": name, "cars": cars}
            | level_row(base, model, replace(places, shares=places.shares), kw.T)
            for name, model in MODELS.items()
            for cars, kw in zip(LEVELS, power, strict=False)
        ]
        return Result.of_tables(levels=pd.DataFrame(rows))


def level_row(
    base: FeederCases, model: FeederModel, places: Spread, kw: FloatArray
) -> dict[str, object]:
    """A feeder's day with cars of power `kw` (T, terminal of `places`).

    `v_min_pu`, `hours_under` (at the worst terminal, below Peru's band), and the largest loading of
    a line, of the service transformer and of the substation transformer, shares of their ratings. A
    feeder without an operating point breaks every limit.
    """
    total = kw.sum(axis=1)
    drawn = np.where(total[:, None] > 0, kw, places.shares)
    cars = replace(places, shares=drawn / drawn.sum(axis=1, keepdims=True))
    try:
        found = states.solve(replace(base, ev_kw=total), model, cars)
    except SolverError:
        day_h = float(np.unique(base.period).size * base.period_h)
        return {"v_min_pu": 0.0, "hours_under": day_h, "line_name": "", **dict.fromkeys(
            LIMITS[1:], np.inf
        )}  # fmt: skip
    feeder, low = circuit(model), states.supply_band()[0]
    lines = loading.line_loading(feeder, found.volts).max(axis=0)
    at = int(np.argmax(lines))
    units = loading.transformer_loading(feeder, found.volts).max(axis=0)
    service = [u.name for u in feeder.transformers].index("service")
    return {
        "v_min_pu": float(found.v_pu.min()),
        "hours_under": float((found.v_pu < low).sum(axis=0).max() * base.period_h),
        "line": float(lines[at]),
        "line_name": f"{feeder.lines[at].start}-{feeder.lines[at].end}",
        "service transformer": float(units[service]),
        "substation": float(np.abs(found.certificate.head_kva).max() / states.substation_kva()),
    }


def first_levels(table: pd.DataFrame) -> pd.DataFrame:
    """First of `LEVELS` at which each limit is exceeded: model, bus, feeders, draw, limit, cars.

    inf where none is; 0 where the feeder breaks the limit without any car.
    """
    low = states.supply_band()[0]
    broken = {"voltage": table["v_min_pu"] < low} | {x: table[x] > 1 for x in LIMITS[1:]}
    by = [table[name] for name in ("model", "bus", "feeders", "draw")]
    found = []
    for limit, bad in broken.items():
        first = table["cars"].where(bad, np.inf).groupby(by, sort=False).min()
        found.append(first.rename("cars").reset_index().assign(limit=limit))
    return pd.concat(found, ignore_index=True)


def by_bus(table: pd.DataFrame) -> pd.DataFrame:
    """The limit that ends hosting first at each bus, over its draws, by model.

    Returns
    -------
    Columns model, bus, feeders, limit, cars (at one feeder) and system_cars: as many cars in the
    whole system, an equal share of which lives at every bus, put `cars` on each of its feeders.
    """
    first, buses = first_levels(table), table["bus"].nunique()
    least = first.loc[first.groupby(["model", "bus"])["cars"].idxmin()]
    least = least.assign(system_cars=least["cars"] * least["feeders"] * buses)
    return least.drop(columns="draw").reset_index(drop=True)
