"""Stations on the grid: their power at the IEEE 14-bus system and on the 13-node feeder, and caps.

An aggregator of many stations is a list of `Stations`: runs of charging stations, each standing
for a number of identical ones, at a load bus. Their ports' power is the aggregator's power in the
AC OPF (43); building load and PV belong to the bus's own load. Caps from coordination come back as
limits of the transformers, and the stations plan again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.feeder.ieee13 import FeederModel
from evcm.feeder.spreads import spread_of
from evcm.feeder.states import FeederStates, run_day
from evcm.inputs.study import Inputs
from evcm.network.opf import OpfDay, solve_day
from evcm.network.tables import bus_table
from evcm.v2x.series import Series
from evcm.v2x.station import Case, Run


@dataclass(frozen=True, eq=False)
class Stations:
    """`count` stations that run alike, at a bus with an aggregator."""

    run: Run
    bus: int
    count: float = 1.0

    def __post_init__(self) -> None:
        c = Checks("stations")
        c.require(self.count >= 0, "count", self.count, ">= 0")
        c.done()


def _start(inputs: Inputs, series: Series) -> float:
    """Periods from the first midnight of the horizon to the start of a series."""
    day, clock_h = divmod(series.start_hour % (24.0 * inputs.clock.days), 24.0)
    return inputs.clock.period(int(day), clock_h) - 1.0


def period_kw(inputs: Inputs, run: Run) -> FloatArray:
    """Mean power of a run's ports in each period of the inputs, first midnight first, (T,) kW.

    Raises
    ------
    InputError
        The run is not as long as the horizon, or does not start with a period.
    """
    series, length = run.case.series, inputs.periods * inputs.period_h
    hours, first = len(series) * series.step_h, _start(inputs, series)
    checks = Checks("stations on the grid")
    checks.require(abs(hours - length) < 1e-9, "length of the run, h", hours, f"{length:g}")
    whole = abs(first - round(first)) < 1e-9
    minutes = f"a whole period of {60 * inputs.period_h:g} minutes"
    checks.require(whole, "start_hour", series.start_hour, minutes)
    checks.done()
    energy = np.concatenate([[0.0], np.cumsum(run.grid_kwh.sum(axis=1))])
    edges = np.arange(len(series) + 1) * series.step_h
    ends = np.arange(inputs.periods + 1) * inputs.period_h
    return np.roll(np.diff(np.interp(ends, edges, energy)) / inputs.period_h, round(first))


def bus_power_mw(inputs: Inputs, stations: Sequence[Stations]) -> FloatArray:
    """Power of all stations by period and bus with an aggregator, (T, K) MW.

    Raises
    ------
    InputError
        Stations are at a bus without an aggregator; or as `period_kw`.
    """
    checks, allowed = Checks("stations"), ", ".join(map(str, inputs.buses))
    for group in stations:
        checks.require(group.bus in inputs.buses, "bus", group.bus, allowed)
    checks.done()
    total = np.zeros((inputs.periods, len(inputs.buses)))
    for group in stations:
        power_mw = group.count * period_kw(inputs, group.run) / 1000.0
        total[:, inputs.buses.index(group.bus)] += power_mw
    return total


def operate(inputs: Inputs, stations: Sequence[Stations]) -> OpfDay:
    """AC OPFs of the inputs' day with the stations' power on top of it."""
    return solve_day(inputs.day.with_cars(bus_power_mw(inputs, stations)))


def feeder_table(inputs: Inputs, stations: Sequence[Stations], day: OpfDay) -> pd.DataFrame:
    """Transmission results at the stations' buses, as `evcm.feeder.states.run_day` reads them."""
    table = bus_table(day, bus_power_mw(inputs, stations))
    return table[table["bus"].isin([group.bus for group in stations])].reset_index(drop=True)


def on_feeder(
    inputs: Inputs,
    stations: Sequence[Stations],
    day: OpfDay,
    at: Mapping[str, float],
    model: FeederModel | None = None,
) -> FeederStates:
    """Three-phase states of the 13-node feeders below the stations' buses, which share them alike.

    `day` is the AC OPF with the stations, for the voltage at each head; `at` says where they stand,
    by weights of terminals, ``{"675.a": 1, ...}``. Errors are those of `evcm.feeder.states.solve`.
    """
    return run_day(feeder_table(inputs, stations, day), model, spread_of(at, "stations"))


def under_cap(
    inputs: Inputs, case: Case, cap_mw: FloatArray, stations: float = 1.0, transformer: int = 0
) -> Case:
    """The case of one of `stations` at a bus, with a transformer limited by its share of a cap.

    `cap_mw` (T,) is the cap of the cars' power by period, from `evcm.network.caps`. The answer
    has ``import limit <= building − PV + cap / stations`` in every step: the cap is for the cars,
    the building is part of the bus's own load. Where PV exceeds building and cap, that limit is
    negative: so much must be left to flow out. A step over several periods takes the least cap
    of them.
    """
    cap, T = np.asarray(cap_mw, dtype=float), inputs.periods
    checks = Checks("cap of a station")
    if checks.require(cap.shape == (T,), "cap_mw, shape", cap.shape, f"({T},)"):
        good = bool((np.isfinite(cap) & (cap >= 0)).all())
        checks.require(good, "cap_mw", cap[~(cap >= 0)][:1], "numbers >= 0")
    checks.require(stations > 0, "stations", stations, "> 0")
    count = len(case.world.transformers)
    checks.require(0 <= transformer < count, "transformer", transformer, f"0..{count - 1}")
    checks.done()
    series = case.series
    step = series.step_h / inputs.period_h
    start = _start(inputs, series) + step * np.arange(len(series))
    first = np.floor(start + 1e-9).astype(int)
    last = np.ceil(start + step - 1e-9).astype(int)
    least = np.array([cap[np.arange(a, b) % T].min() for a, b in zip(first, last, strict=True)])
    limit = series.base_kw[:, transformer] + 1000.0 * least / stations
    return replace(case, series=series.with_import_cap(limit, transformer))
