"""Many random days of the commercial building, stored a few days at a time.

A day is small, but a distribution takes a thousand of them and every variant of each. Days are kept
in parts under a fingerprint: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from evcm.building import solve
from evcm.errors import Checks
from evcm.store import fingerprint
from evcm.store.each import Jobs, Progress, check_jobs, each
from evcm.store.result import Result
from evcm.store.results import Store

PART = 50
"""Days in a stored part."""


@dataclass(frozen=True)
class DaysTask:
    """Days of the default building from the `first` on, drawn with a seed."""

    first: int
    count: int
    seed: int

    @property
    def name(self) -> str:
        """Name of the part in the store's step ``building``."""
        return f"seed{self.seed}-days{self.first:05d}"

    def key(self) -> str:
        """Fingerprint of the code, the data and the seed that the days depend on."""
        code, data = fingerprint.of_code(DaysTask), fingerprint.of_data("building")
        return fingerprint.of_content(code, data, self)

    def run(self) -> Result:
        """Draw and dispatch the days."""
        days = range(self.first, self.first + self.count)
        own, law = solve.default_building(), solve.default_law()
        return Result.of_tables(days=solve.distribution(own, law, days, self.seed))


def random_days(
    folder: Path,
    days: int = 1000,
    seed: int = 0,
    jobs: Jobs = 1,
    progress: Progress = lambda *_: None,
) -> pd.DataFrame:
    """Cost of the default building on random days, with and without PV and shifting.

    Parameters
    ----------
    folder : Path
        Folder of the results; days that it holds already are read.
    days : int
        Number of days, a multiple of `PART`.
    seed : int
        Of the days' cars and clouds.
    jobs : int or str
        Processes, or the address of a Dask scheduler. The days do not depend on it.
    progress : callable
        Told (step, done, total) in days.

    Returns
    -------
    Rows of `evcm.building.solve.distribution`: one per day and variant, every plan certified.

    Raises
    ------
    InputError
        `days` is not a positive multiple of `PART`, or `jobs` is below 1.
    """
    c = Checks("random days of the building")
    c.require(days > 0 and days % PART == 0, "days", days, f"a positive multiple of {PART}")
    check_jobs(c, jobs)
    c.done()
    tasks = [DaysTask(first, PART, seed) for first in range(0, days, PART)]
    with Store(folder).locked("evcm building days") as store:
        found = each(
            tasks, store, "building", jobs,
            lambda step, done, _: progress(step, PART * done, days), "Building, random days",
        )  # fmt: skip
    return pd.concat([result.table("days") for result in found], ignore_index=True)
