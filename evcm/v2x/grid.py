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
from evcm.inputs.folder import paper
from evcm.network.opf import OpfDay, study_day
from evcm.v2x.station import Case, Run


@dataclass(frozen=True, eq=False)
class Stations:
    """`count` stations that run alike, at a load bus."""

    run: Run
    bus: int
    count: float = 1.0

    def __post_init__(self) -> None:
        c, buses = Checks("stations"), paper().buses
        c.require(self.bus in buses, "bus", self.bus, ", ".join(map(str, buses)))
        c.require(self.count >= 0, "count", self.count, ">= 0")
        c.done()

    @property
    def power_mw(self) -> FloatArray:
        """Power of all ports in each half hour of the day, (48,) MW."""
        return self.count * half_hour_kw(self.run) / 1000.0


def half_hour_kw(run: Run) -> FloatArray:
    """Mean power of a run's ports in the 48 half hours of its day, midnight first, kW.

    Raises
    ------
    InputError
        The run is not one day, or does not start on a half hour.
    """
    series = run.case.series
    hours = len(series) * series.step_h
    first = series.start_hour % 24.0 / paper().period_h
    checks = Checks("stations on the grid")
    checks.require(abs(hours - 24.0) < 1e-9, "length of the run, h", hours, "24")
    whole = abs(first - round(first)) < 1e-9
    checks.require(whole, "start_hour", series.start_hour, "a whole half hour")
    checks.done()
    energy = np.concatenate([[0.0], np.cumsum(run.grid_kwh.sum(axis=1))])
    edges = np.arange(len(series) + 1) * series.step_h
    mean = (
        np.diff(np.interp(np.arange(paper().periods + 1) * paper().period_h, edges, energy))
        / paper().period_h
    )
    return np.roll(mean, round(first))


def bus_power_mw(stations: Sequence[Stations]) -> FloatArray:
    """Power of all stations by half hour and load bus, (48, 11) MW."""
    total = np.zeros((paper().periods, len(paper().buses)))
    for group in stations:
        total[:, paper().buses.index(group.bus)] += group.power_mw
    return total


def operate(stations: Sequence[Stations], as_published: bool = False) -> OpfDay:
    """AC OPF of the reference day with the stations' power on top of it."""
    return study_day(bus_power_mw(stations), as_published)


def feeder_table(stations: Sequence[Stations], day: OpfDay) -> pd.DataFrame:
    """Transmission results at the stations' buses, as `evcm.feeder.states.run_day` reads them."""
    power = bus_power_mw(stations)
    buses = sorted({group.bus for group in stations})
    rows = []
    for bus in buses:
        column = bus - 1  # buses of the 14-bus system are numbered from 1 in order
        rows.append(
            pd.DataFrame(
                {
                    "period": np.arange(1, paper().periods + 1),
                    "bus": bus,
                    "v_pu": day.v_pu[:, column],
                    "load_mw": day.load_p_mw[:, column],
                    "ev_mw": power[:, paper().buses.index(bus)],
                    "nsp_mw": day.nsp_mw[:, column],
                }
            )
        )
    return pd.concat(rows, ignore_index=True)


def on_feeder(
    stations: Sequence[Stations],
    day: OpfDay,
    at: Mapping[str, float],
    model: FeederModel | None = None,
) -> FeederStates:
    """Three-phase states of the 13-node feeders below the stations' buses, which share them alike.

    `day` is the AC OPF with the stations, for the voltage at each head; `at` says where they stand,
    by weights of terminals, ``{"675.a": 1, ...}``. Errors are those of `evcm.feeder.states.solve`.
    """
    return run_day(feeder_table(stations, day), model, spread_of(at, "stations"))


def under_cap(case: Case, cap_mw: FloatArray, stations: float = 1.0, transformer: int = 0) -> Case:
    """The case of one of `stations` at a bus, with a transformer limited by its share of a cap.

    `cap_mw` (48,) is the cap of the cars' power by half hour, from `evcm.network.caps`. The answer
    has ``import limit <= building − PV + cap / stations`` in every step: the cap is for the cars,
    the building is part of the bus's own load. Where PV exceeds building and cap, that limit is
    negative: so much must be left to flow out. A step over several half hours takes the least cap
    of them.
    """
    cap = np.asarray(cap_mw, dtype=float)
    checks = Checks("cap of a station")
    if checks.require(
        cap.shape == (paper().periods,), "cap_mw, shape", cap.shape, f"({paper().periods},)"
    ):
        good = bool((np.isfinite(cap) & (cap >= 0)).all())
        checks.require(good, "cap_mw", cap[~(cap >= 0)][:1], "numbers >= 0")
    checks.require(stations > 0, "stations", stations, "> 0")
    count = len(case.world.transformers)
    checks.require(0 <= transformer < count, "transformer", transformer, f"0..{count - 1}")
    checks.done()
    series = case.series
    start = series.start_hour % 24.0 + series.step_h * np.arange(len(series))
    first = np.floor(start / paper().period_h + 1e-9).astype(int)
    last = np.ceil((start + series.step_h) / paper().period_h - 1e-9).astype(int)
    least = np.array(
        [cap[np.arange(a, b) % paper().periods].min() for a, b in zip(first, last, strict=True)]
    )
    limit = series.base_kw[:, transformer] + 1000.0 * least / stations
    return replace(case, series=series.with_import_cap(limit, transformer))
