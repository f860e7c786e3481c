"""The whole study, in the order of the paper's flow chart (Figure 2).

Trips are drawn, the extremes found, every aggregator solved, its bus loaded, a day of AC OPFs run;
the operator then gives caps, the aggregators are solved again, and the OPF run once more. All
results are stored as tidy Parquet tables with a manifest; what is stored and still valid is not
computed again.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from evcm.aggregator import of_fleet
from evcm.arrays import FloatArray
from evcm.coordination.regimes import NO_CARS, Case
from evcm.errors import Checks, InfeasibleError
from evcm.inputs.study import Inputs
from evcm.inputs.values import Sessions
from evcm.network import caps
from evcm.network.case import Day
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

STUDY_GAP = 1e-3
"""Gap of the study's plans, as a share of turnover."""


@dataclass(frozen=True)
class Settings:
    """What to run: scenarios, sides, seed, gap to prove, worker processes.

    Without `scenarios`, all of the inputs are run; without `law` and `cars_per_group`, those of the
    inputs hold.
    """

    scenarios: tuple[int, ...] | None = None
    sides: tuple[Side, ...] = SIDES
    seed: int = 1
    law: str | None = None
    gap: float = STUDY_GAP
    cars_per_group: int | None = None
    jobs: Jobs = 2

    def __post_init__(self) -> None:
        c = Checks("study")
        c.require(self.scenarios is None or len(self.scenarios) > 0, "scenarios", (), ">= 1")
        c.require(
            all(s in SIDES for s in self.sides) and len(self.sides) > 0,
            "sides", self.sides, "min, max",
        )  # fmt: skip
        c.require(0 <= self.seed < 2**63, "seed", self.seed, "0..2^63-1")
        c.require(0 < self.gap <= 0.5, "gap", self.gap, "0 < gap <= 0.5")
        group = self.cars_per_group
        c.require(group is None or group >= 1, "cars_per_group", group, ">= 1")
        check_jobs(c, self.jobs)
        c.done()

    def of(self, inputs: Inputs) -> Settings:
        """The settings with what is left out taken from the inputs, checked against them.

        Recorded sessions have no extremes to tell apart: only the side ``max`` is run.
        """
        known = tuple(s.number for s in inputs.scenarios)
        chosen = known if self.scenarios is None else self.scenarios
        c = Checks("study")
        allowed = ", ".join(map(str, known))
        c.require(all(s in known for s in chosen), "scenarios", chosen, allowed)
        c.done()
        if isinstance(inputs.cars, Sessions):
            return replace(self, scenarios=chosen[:1], sides=SIDES[1:], law="")
        return replace(self, scenarios=chosen, law=inputs.law(self.law).name)


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


def run(
    inputs: Inputs, settings: Settings, out: Path, progress: Progress = quiet
) -> StudyResult:  # fmt: skip
    """Run the study, or the part of it that is not stored yet, and store every result in `out`.

    Parameters
    ----------
    inputs : Inputs
    settings : Settings
    out : Path
        Folder of the results.
    progress : callable
        Told (step, done, total).

    Raises
    ------
    InputError
        The settings ask for what the inputs do not have.
    InfeasibleError
        An aggregator has no plan, whatever its cap, or the network cannot serve the least caps.
    """
    settings = settings.of(inputs)
    with Store(out).locked("evcm study") as store:
        return _run(inputs, settings, store, progress)


def _run(inputs: Inputs, settings: Settings, store: Store, progress: Progress) -> StudyResult:
    clock = time.perf_counter()
    simulations = simulate_all(inputs, settings)
    progress("Monte Carlo", len(simulations), len(simulations))
    fleets = build_fleets(simulations, settings)
    problems = {case: of_fleet.aggregator_problems(cars) for case, cars in fleets.items()}
    # before the plans that do not need them: a network without caps ends the study at once
    cap_mw = {case: study_caps(of_fleet.site(cars)) for case, cars in fleets.items()}
    progress("Caps", inputs.periods, inputs.periods)
    own = solve_plans(
        [
            PlanTask(Case(*case, "apart"), problem, settings.gap)
            for case, mine in problems.items()
            for problem in mine
        ],
        store, settings.jobs, progress, "Aggregators",
    )  # fmt: skip
    capped = solve_plans(
        [
            PlanTask(Case(*case, "maximum total"), problem, settings.gap, cap_mw[case][:, k])
            for case, mine in problems.items()
            for k, problem in enumerate(mine)
        ],
        store, settings.jobs, progress, "Aggregators under caps",
    )  # fmt: skip
    aggregators = pd.concat([own, capped], ignore_index=True)

    powers: dict[Case, FloatArray] = {NO_CARS: np.zeros((inputs.periods, len(inputs.buses)))}
    powers |= _uncontrolled_mw(fleets)
    powers |= schedules_mw(aggregators, inputs.buses)
    system, transmission, flows = solve_days(
        powers, inputs.day, store, progress, "Operator's OPF days", settings.jobs
    )

    tables = {
        "table_1": montecarlo.table_1(simulations),
        "gchr": montecarlo.gchr_table(simulations),
        "aggregators": aggregators.drop(columns=["day_ahead_mw", "cap_mw"]),
        "schedules": _schedule_table(aggregators),
        "system": system,
        "transmission": transmission,
        "flows": flows,
        "caps": _caps_table(inputs),
    }
    key = study_key(inputs, settings)
    for name, table in tables.items():
        store.save_table(f"{name}.parquet", key, table)
    seconds = time.perf_counter() - clock
    _write_manifest(store, settings, key, seconds, inputs)
    del tables["schedules"], tables["flows"]
    return StudyResult(store.folder, seconds, **tables)


def study_key(inputs: Inputs, settings: Settings) -> str:
    """Fingerprint of the code, the inputs and the settings."""
    return run_key(__name__, settings.of(inputs), inputs)


def simulate_all(inputs: Inputs, settings: Settings) -> list[MonteCarlo]:
    """The Monte Carlo simulation of every scenario asked for."""
    settings = settings.of(inputs)
    law = inputs.law(settings.law) if settings.law else None
    return [
        montecarlo.simulate(inputs, inputs.scenario(number), law, settings.seed)
        for number in settings.scenarios or ()
    ]


def build_fleets(
    simulations: list[MonteCarlo], settings: Settings
) -> dict[tuple[int, Side], Fleet]:  # fmt: skip
    """Fleets of the extreme samples, by scenario number and side."""
    return {
        (simulation.scenario.number, side): fleet.build_fleet(
            simulation, side, settings.cars_per_group
        )
        for simulation in simulations
        for side in settings.of(simulation.inputs).sides
    }


def study_caps(site: Day) -> FloatArray:
    """The paper's caps (54), (55) of a day (T, K).

    Raises
    ------
    InfeasibleError
        The network cannot serve its load and the least caps; the message says what is short.
    """
    try:
        return np.array(caps.solve_caps(site).cap_mw)
    except InfeasibleError as error:
        net = site.network
        raise InfeasibleError(
            f"{net.name}: the network cannot serve its load and the least caps, "
            f"{net.cap_share_min:.1%} of it, with nothing left unsupplied: lower the load, or "
            f"cap_share_min in network/network.toml. {error}", **error.details,
        ) from error  # fmt: skip


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


def _caps_table(inputs: Inputs) -> pd.DataFrame:
    periods, buses = inputs.periods, inputs.buses
    return pd.DataFrame(
        {
            "period": np.repeat(np.arange(1, periods + 1), len(buses)),
            "bus": np.tile(buses, periods),
            "cap_mw": study_caps(inputs.day).ravel(),
        }
    )


def _write_manifest(
    store: Store, settings: Settings, key: str, seconds: float, inputs: Inputs
) -> None:
    store.note(
        "manifest",
        key,
        {
            "settings": settings.__dict__,
            "code": fingerprint.of_modules(__name__),
            "inputs": inputs.name,
            "data": inputs.fingerprint,
            "period_h": inputs.period_h,
            "seconds": seconds,
            "processors": os.cpu_count(),
        },
    )
