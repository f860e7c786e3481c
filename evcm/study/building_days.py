"""Many random days of the commercial building, stored a few days at a time.

A day is small, but a distribution takes a thousand of them and every variant of each. Days are kept
in parts under a fingerprint: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
from joblib import Parallel, delayed

from evcm.building import solve
from evcm.errors import Checks
from evcm.store import fingerprint
from evcm.store.results import Store

PART = 50
"""Days in a stored part."""

Progress = Callable[[str, int, int], None]


def _quiet(step: str, done: int, total: int) -> None:
    """No progress shown."""


def days_key(seed: int) -> str:
    """Fingerprint of the code, the data and the seed that the days depend on."""
    code = fingerprint.of_modules("evcm.building.solve", "evcm.building.certificate")
    return fingerprint.of_content(code, fingerprint.of_data("building"), seed)


def _part(first: int) -> str:
    return f"building/days/{first:05d}.parquet"


def _solve_part(folder: Path, first: int, seed: int, key: str) -> None:
    days = range(first, first + PART)
    own, law = solve.default_building(), solve.default_law()
    Store(folder).save_table(_part(first), key, solve.distribution(own, law, days, seed))


def random_days(
    folder: Path, days: int = 1000, seed: int = 0, jobs: int = 1, progress: Progress = _quiet
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
    jobs : int
        Worker processes. The days do not depend on it.
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
    c.require(jobs >= 1, "jobs", jobs, ">= 1")
    c.done()
    store, key = Store(folder), days_key(seed)
    parts = range(0, days, PART)
    todo = [first for first in parts if not store.is_fresh(_part(first), key)]
    done = days - PART * len(todo)
    progress("Building, random days", done, days)
    parallel = Parallel(n_jobs=jobs, return_as="generator_unordered")
    for _ in parallel(delayed(_solve_part)(folder, first, seed, key) for first in todo):
        done += PART
        progress("Building, random days", done, days)
    tables = [store.load_table(_part(first), key) for first in parts]
    return pd.concat(tables, ignore_index=True)
