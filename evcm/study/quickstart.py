"""A first answer in a minute: scenario 1 under two regimes, or the day of a bare case file.

The same functions as the study's, with larger groups of cars and a wider gap, so that a fresh
installation answers while it still compiles. What it writes are inputs for the other commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from evcm.aggregator import of_fleet
from evcm.aggregator.plan import plan_of_arrays
from evcm.aggregator.problem import save_problem
from evcm.coordination.account import account, trade_of_plans, trade_of_uncontrolled
from evcm.coordination.regimes import Case
from evcm.inputs.study import Inputs
from evcm.network import caps as operator_caps
from evcm.network import opf, tables
from evcm.network.opf import OpfDay
from evcm.network.readers import from_case
from evcm.store import files
from evcm.store.each import Jobs, Progress, Task, each
from evcm.store.results import Store
from evcm.study.tasks import DayTask, PlanTask
from evcm.trips import fleet, montecarlo, uncontrolled
from evcm.trips.montecarlo import Side

SIDE: Side = "max"
CARS_PER_GROUP = 20
GAP = 0.05
"""Gap of a first answer, as a share of turnover; the study proves 0.1 %."""


@dataclass(frozen=True, eq=False)
class FirstAnswer:
    """Five numbers by what they mean, days of OPFs to draw, files written."""

    numbers: dict[str, float]
    days: dict[str, OpfDay]
    written: list[Path]


def of_scenario(
    inputs: Inputs, number: int, out: Path, jobs: Jobs, progress: Progress
) -> FirstAnswer:  # fmt: skip
    """Uncontrolled charging beside aggregators that plan apart, on the sample of most energy.

    Writes ``instance-bus14.npz`` (the problem of the last bus's aggregator), ``ev.csv`` (power of
    uncontrolled cars by bus), ``day.csv`` (its OPF day, with the power not supplied) and
    ``numbers.json``.
    """
    with Store(out).locked("evcm quickstart") as store:
        progress("Trips", 0, 1)
        drawn = montecarlo.simulate(inputs, inputs.scenario(number))
        at_once_mw = uncontrolled.charge_at_once(drawn.cars(SIDE)).mean_mw
        cars = fleet.build_fleet(drawn, SIDE, CARS_PER_GROUP)
        problems = of_fleet.aggregator_problems(cars)
        progress("Trips", 1, 1)
        # the operator's day is first of the tasks: it compiles beside the aggregators
        day = DayTask(Case(number, SIDE, "uncontrolled"), inputs.day, at_once_mw)
        plans = [PlanTask(Case(number, SIDE, "apart"), p, GAP) for p in problems]
        tasks: list[Task] = [day, *plans]
        found = each(tasks, store, "quickstart", jobs, progress, "Aggregators, network")
        answers = [
            plan_of_arrays(result.arrays, task.problem, task.name)
            for task, result in zip(plans, found[1:], strict=True)
        ]
        trades = {
            "uncontrolled": trade_of_uncontrolled(uncontrolled.charge_at_once(cars)),
            "apart": trade_of_plans(problems, answers),
        }
        bills = {n: account(problems[0], t).total_usd for n, t in trades.items()}
        powers = {"no cars": np.zeros_like(at_once_mw), "uncontrolled": at_once_mw}
        powers["apart"] = trades["apart"].day_ahead_mw
        days = {
            regime: opf.solve_day(inputs.day.with_cars(ev_mw)) for regime, ev_mw in powers.items()
        }
        highest = {regime: float(ev_mw.sum(axis=1).max()) for regime, ev_mw in powers.items()}
        numbers = {
            "energy that the cars need, MWh a day": float(drawn.gchr_mwh.max()),
            "highest power of cars that charge at once, MW": highest["uncontrolled"],
            "highest power where aggregators plan apart, MW": highest["apart"],
            "cost of charging at once, USD a day": bills["uncontrolled"],
            "cost where aggregators plan apart, USD a day": bills["apart"],
        }
        power = pd.DataFrame(at_once_mw, columns=[tables.bus_column(b) for b in inputs.buses])
        power.insert(0, "period", np.arange(1, len(power) + 1))
        files.write_csv(out / "ev.csv", power)
        instance = f"instance-bus{problems[-1].bus}.npz"
        save_problem(out / instance, problems[-1])
        return _written(out, numbers, days, "uncontrolled", ["ev.csv", instance])


def of_case(inputs: Inputs, name: str, out: Path, progress: Progress) -> FirstAnswer:
    """The inputs' day on another network without cars, and the most that cars may buy there."""
    network = from_case(name)
    with Store(out).locked("evcm quickstart"):
        asked = inputs.day_on(network)
        progress("Operator's days", 0, 2)
        day = opf.solve_day(asked)
        progress("Operator's days", 1, 2)
        most = operator_caps.solve_caps(asked)
        progress("Operator's days", 2, 2)
        files.write_csv(out / "caps.csv", tables.caps_table(most))
        numbers = {
            "load, MWh a day": day.load_mwh,
            "peak, MW": day.peak_mw,
            "losses, MWh a day": day.losses_mwh,
            "lowest voltage, pu": float(day.v_min_pu.min()),
            "most that cars may buy, MWh a day": float(asked.period_h * most.total_mw.sum()),
        }
        return _written(out, numbers, {"no cars": day}, "no cars", ["caps.csv"])


def _written(
    out: Path, numbers: dict[str, float], days: dict[str, OpfDay], shown: str, names: list[str]
) -> FirstAnswer:
    files.write_csv(out / "day.csv", tables.opf_table(days[shown]))
    files.write_json(out / "numbers.json", numbers)
    return FirstAnswer(numbers, days, [out / n for n in (*names, "day.csv", "numbers.json")])
