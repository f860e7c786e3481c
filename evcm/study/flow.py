"""The whole study, in the order of the paper's flow chart (Figure 2).

Trips are drawn, the extremes found, every aggregator solved, its bus loaded, a day of AC OPFs run;
the operator then gives caps, the aggregators are solved again, and the OPF run once more. All
results are stored as tidy Parquet tables with a manifest; what is stored and still valid is not
computed again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evcm import inputs
from evcm.aggregator import of_fleet
from evcm.arrays import FloatArray
from evcm.coordination.regimes import NO_CARS, Case, Regime
from evcm.errors import Checks
from evcm.inputs import LOAD_BUSES, PERIODS
from evcm.network import caps
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, check_jobs
from evcm.store.results import Store
from evcm.study.tasks import (
    PlanTask,
    run_key,
    schedules_mw,
    solve_days,
    solve_plans,
)
from evcm.trips import fleet, montecarlo, uncontrolled
from evcm.trips.fleet import Fleet
from evcm.trips.montecarlo import SIDES, MonteCarlo, Side

STUDY_GAP = 2e-3
"""Gap of the study's plans, as a share of turnover; half of it takes 40 % longer."""


@dataclass(frozen=True)
class Settings:
    """What to run: scenarios, sides, seed, gap to prove, worker processes."""

    scenarios: tuple[int, ...] = (1, 2, 3)
    sides: tuple[Side, ...] = SIDES
    seed: int = 1
    law: str = "published"
    gap: float = STUDY_GAP
    cars_per_group: int = 10
    jobs: Jobs = 2

    def __post_init__(self) -> None:
        c = Checks("study")
        numbers = [s.number for s in inputs.scenarios()]
        known = all(s in numbers for s in self.scenarios) and len(self.scenarios) > 0
        c.require(known, "scenarios", self.scenarios, ", ".join(map(str, numbers)))
        c.require(
            all(s in SIDES for s in self.sides) and len(self.sides) > 0,
            "sides", self.sides, "min, max",
        )  # fmt: skip
        c.require(0 <= self.seed < 2**63, "seed", self.seed, "0..2^63-1")
        c.require(self.law in ("published", "printed"), "law", self.law, "published, printed")
        c.require(0 < self.gap <= 0.5, "gap", self.gap, "0 < gap <= 0.5")
        c.require(self.cars_per_group >= 1, "cars_per_group", self.cars_per_group, ">= 1")
        check_jobs(c, self.jobs)
        c.done()


@dataclass(frozen=True, eq=False)
class StudyResult:
    """Tables of a study, as stored. See `evcm.study.tables` for the paper's Tables 1 to 5."""

    folder: Path
    seconds: float
    table_1: pd.DataFrame
    gchr: pd.DataFrame
    aggregators: pd.DataFrame
    system: pd.DataFrame
    transmission: pd.DataFrame
    caps: pd.DataFrame


def quiet(step: str, done: int, total: int) -> None:
    """Report nothing."""


def run(settings: Settings, out: Path, progress: Progress = quiet) -> StudyResult:
    """Run the study, or the part of it that is not stored yet, and store every result in `out`."""
    with Store(out).locked("evcm study") as store:
        return _run(settings, store, progress)


def _run(settings: Settings, store: Store, progress: Progress) -> StudyResult:
    clock = time.perf_counter()
    simulations = [_simulate(settings, number) for number in settings.scenarios]
    progress("Monte Carlo", len(simulations), len(simulations))
    fleets = {
        (simulation.scenario.number, side): fleet.build_fleet(
            simulation, side, settings.cars_per_group
        )
        for simulation in simulations
        for side in settings.sides
    }

    own = solve_plans(
        _tasks(fleets, settings, "apart"), store, settings.jobs, progress, "Aggregators"
    )
    cap_mw = caps.study_caps().cap_mw
    progress("Caps", PERIODS, PERIODS)
    capped = solve_plans(
        _tasks(fleets, settings, "maximum total", cap_mw),
        store, settings.jobs, progress, "Aggregators under caps",
    )  # fmt: skip
    aggregators = pd.concat([own, capped], ignore_index=True)

    powers: dict[Case, FloatArray] = {NO_CARS: np.zeros((PERIODS, len(LOAD_BUSES)))}
    powers |= _uncontrolled_mw(fleets)
    powers |= schedules_mw(aggregators)
    system, transmission = solve_days(powers, store, progress, "Operator's OPF days", settings.jobs)

    tables = {
        "table_1": montecarlo.table_1(simulations),
        "gchr": montecarlo.gchr_table(simulations),
        "aggregators": aggregators.drop(columns=["day_ahead_mw", "cap_mw"]),
        "schedules": _schedule_table(aggregators),
        "system": system,
        "transmission": transmission,
        "caps": _caps_table(cap_mw),
    }
    key = study_key(settings)
    for name, table in tables.items():
        store.save_table(f"{name}.parquet", key, table)
    seconds = time.perf_counter() - clock
    _write_manifest(store, settings, key, seconds)
    del tables["schedules"]
    return StudyResult(store.folder, seconds, **tables)


def study_key(settings: Settings) -> str:
    """Fingerprint of the code, the data and the settings."""
    return run_key(__name__, settings)


def _simulate(settings: Settings, number: int) -> MonteCarlo:
    law = inputs.trip_law(settings.law)
    return montecarlo.simulate(inputs.scenario(number), law, settings.seed)


def _tasks(
    fleets: dict[tuple[int, Side], Fleet],
    settings: Settings,
    regime: Regime,
    cap_mw: FloatArray | None = None,
) -> list[PlanTask]:
    tasks = []
    for (number, side), cars in fleets.items():
        for k, bus in enumerate(LOAD_BUSES):
            problem = of_fleet.aggregator_problem(cars, bus)
            cap = None if cap_mw is None else cap_mw[:, k]
            tasks.append(PlanTask(Case(number, side, regime), problem, settings.gap, cap))
    return tasks


def _uncontrolled_mw(fleets: dict[tuple[int, Side], Fleet]) -> dict[Case, FloatArray]:
    """Mean over the real-time days of each fleet: the very days that aggregators plan for."""
    return {
        Case(number, side, "uncontrolled"): uncontrolled.charge_at_once(cars).mean_mw
        for (number, side), cars in fleets.items()
    }


def _schedule_table(aggregators: pd.DataFrame) -> pd.DataFrame:
    """Day-ahead power and cap, tidy: one row per scenario, side, regime, bus and period."""
    columns = ["scenario", "side", "regime", "bus", "day_ahead_mw", "cap_mw"]
    long = aggregators[columns].explode(["day_ahead_mw", "cap_mw"], ignore_index=True)
    long["period"] = long.groupby(["scenario", "side", "regime", "bus"]).cumcount() + 1
    return long.astype({"day_ahead_mw": float, "cap_mw": float})


def _caps_table(cap_mw: FloatArray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "period": np.repeat(np.arange(1, PERIODS + 1), len(LOAD_BUSES)),
            "bus": np.tile(LOAD_BUSES, PERIODS),
            "cap_mw": cap_mw.ravel(),
        }
    )


def _write_manifest(store: Store, settings: Settings, key: str, seconds: float) -> None:
    store.note(
        "manifest",
        key,
        {
            "settings": settings.__dict__,
            "code": fingerprint.of_modules(__name__),
            "data": fingerprint.of_data(*fingerprint.STUDY_DATA),
            "seconds": seconds,
            "processors": os.cpu_count(),
        },
    )
