"""The study under many seeds: how far every headline moves with the draw of the cars.

A seed draws the Monte Carlo days anew, so the extreme samples, the cars and their real-time days
change. Each seed and case is solved under the regimes that need no stored plan; groups may be
larger than the study's, which is cheaper: their spread is of use then, not their level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from evcm.aggregator import methods
from evcm.coordination import allocation
from evcm.coordination.account import trade_of_plans, trade_of_uncontrolled
from evcm.coordination.capped import solve_under_cap
from evcm.coordination.equilibrium import find_equilibrium
from evcm.coordination.joint import solve_joint, trade_of_joint
from evcm.coordination.regimes import Regime
from evcm.errors import Checks
from evcm.inputs.study import Inputs
from evcm.store import fingerprint
from evcm.store.each import Progress, each
from evcm.store.result import Result
from evcm.store.results import Store
from evcm.study.comparison import WHOLE_GAP, Planned, at_once, build_cases, regime_row
from evcm.study.flow import Settings, quiet, study_caps

TABLE = "seeds/regimes.parquet"


@dataclass(frozen=True)
class SeedTask:
    """One seed of one scenario and side; `settings` names exactly one of each."""

    settings: Settings
    inputs: Inputs = field(repr=False)

    @property
    def name(self) -> str:
        """Name in the step ``seeds``."""
        s = self.settings
        assert s.scenarios is not None
        return f"scenario{s.scenarios[0]}-{s.sides[0]}-seed{s.seed}-groups{s.cars_per_group}"

    def key(self) -> str:
        """Fingerprint of the settings, the inputs and the solving code."""
        code = fingerprint.of_code(SeedTask), methods.code(*methods.AUTO)
        asked = replace(self.settings, jobs=1)
        return fingerprint.of_content(code, self.inputs.fingerprint, asked)

    def run(self) -> Result:
        """Rows of `evcm.study.comparison.regime_row`, one per regime, with the seed."""
        (case,), gap = build_cases(self.inputs, self.settings), self.settings.gap
        whole = max(gap, WHOLE_GAP)
        apart = [methods.solve(p, gap=gap) for p in case.problems]
        answers = find_equilibrium(case.problems, apart, gap=whole, tolerance=whole)
        plans = {"apart": apart, "equilibrium": list(answers.plans)}
        for rule in ("maximum total", "proportional"):
            most = rule == "maximum total"
            cap = (
                study_caps(case.site)
                if most
                else allocation.allocate(rule, case.cars_met, case.site)
            )
            plans[rule] = [
                solve_under_cap(p, mine, gap=gap, start=plan).plan
                for p, mine, plan in zip(case.problems, cap.T, apart, strict=True)
            ]
        joint = solve_joint(case.problems, case.site, gap=whole)
        planned: dict[Regime, Planned] = {
            "uncontrolled": Planned(trade_of_uncontrolled(at_once(case))),
            "joint": Planned(
                trade_of_joint(case.problems, joint.plan), joint.plan.cost_usd, joint.bound_usd
            ),
        }
        for regime, found in plans.items():
            planned[regime] = Planned(  # type: ignore[index]
                trade_of_plans(case.problems, found),
                sum(p.cost_usd for p in found), sum(p.bound_usd for p in found),
            )  # fmt: skip
        rows = [regime_row(case, regime, p) for regime, p in planned.items()]
        return Result.of_tables(regimes=pd.DataFrame(rows).assign(seed=self.settings.seed))


def run(
    inputs: Inputs, settings: Settings, seeds: Sequence[int], out: Path, progress: Progress = quiet
) -> pd.DataFrame:
    """Every seed of every scenario and side of `settings`; compute what is not stored yet.

    Returns
    -------
    Rows of `evcm.study.comparison.regime_row` with the column seed.

    Raises
    ------
    InputError
        There is no seed, or one stands twice.
    """
    c = Checks("seeds")
    c.require(len(seeds) > 0, "seeds", list(seeds), "at least one")
    c.require(len(set(seeds)) == len(seeds), "seeds", list(seeds), "each once")
    c.done()
    settings = settings.of(inputs)
    tasks = [
        SeedTask(replace(settings, scenarios=(n,), sides=(side,), seed=seed), inputs)
        for n in settings.scenarios or ()
        for side in settings.sides
        for seed in seeds
    ]
    with Store(out).locked("evcm study --seeds") as store:
        found = each(tasks, store, "seeds", settings.jobs, progress, "Seeds")
        table = pd.concat([r.table("regimes") for r in found], ignore_index=True)
        key = fingerprint.of_content([task.key() for task in tasks])
        return store.save_table(TABLE, key, table)


def load(out: Path) -> pd.DataFrame:
    """The table of the last run; raises `StaleError` where there is none."""
    return Store(out).load_table(TABLE)


def intervals(
    table: pd.DataFrame, value: str, over: str | None = None, share: float = 0.9
) -> pd.DataFrame:
    """Median and central interval of a column over the seeds, by scenario, side and regime.

    Parameters
    ----------
    table : DataFrame
        Of `run`.
    value : str
        Column, such as ``paid_usd``.
    over : str, optional
        Regime that every value is divided by, seed by seed: the interval of a ratio.
    share : float
        Of the seeds that the interval holds.

    Returns
    -------
    Columns seeds, median, low, high.
    """
    wide = table.pivot_table(index=["scenario", "side", "seed"], columns="regime", values=value)
    if over is not None:
        wide = wide.div(wide[over], axis=0)
    tail = (1.0 - share) / 2.0
    long = wide.reset_index().melt(id_vars=["scenario", "side", "seed"])
    by = long.dropna().groupby(["scenario", "side", "regime"])["value"]
    return pd.DataFrame(
        {
            "seeds": by.size(), "median": by.median(),
            "low": by.quantile(tail), "high": by.quantile(1.0 - tail),
        }
    )  # fmt: skip


def around(value: float, row: pd.Series) -> tuple[float, float]:
    """The interval of the seeds about a value of the study itself.

    Groups of the seeds are larger than the study's, so their spread counts and their level does
    not: low and high of `row` (of `intervals`) are scaled from its median to `value`.
    """
    scale = value / float(row["median"]) if row["median"] else 1.0
    return float(row["low"]) * scale, float(row["high"]) * scale


def parse(text: str) -> tuple[int, ...]:
    """Seeds from text: ``1-20``, ``1,3,7`` or a mixture.

    Raises
    ------
    InputError
        A part is neither a whole number nor a range of such.
    """
    c = Checks("seeds")
    seeds: list[int] = []
    for part in text.split(","):
        low, _, high = part.strip().partition("-")
        good = low.isdigit() and (high or low).isdigit() and int(low) <= int(high or low)
        if c.require(good, "--seeds", part, "whole numbers and ranges, such as 1-20 or 1,3,7"):
            seeds += range(int(low), int(high or low) + 1)
    c.done()
    return tuple(seeds)
