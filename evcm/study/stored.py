"""Stored results as the chapters of the book read them."""

from __future__ import annotations

from functools import cache

import pandas as pd

from evcm.store import archive, results
from evcm.study import tables

FOLDER = archive.folder()
"""Where chapters read results: EVCM_RESULTS, else the checkout's, else what was fetched."""


@cache
def table(name: str) -> pd.DataFrame:
    """A table of the study: ``system``, ``transmission``, ``aggregators``, ``caps``, ``gchr``.

    Raises
    ------
    StaleError
        The study has not run; ``evcm study`` makes the table.
    """
    return results.Store(FOLDER).load_table(f"{name}.parquet")


@cache
def summary() -> pd.DataFrame:
    """The day's totals of every case, one row per scenario, side and regime (Tables 3 and 5)."""
    return tables.system_summary(table("system"), table("transmission"))
