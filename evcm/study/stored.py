"""Stored results as the chapters of the book read them."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pandas as pd

from evcm import data
from evcm.store import results
from evcm.study import tables

FOLDER = Path(os.environ.get("EVCM_RESULTS", (data.checkout() or Path()) / "results"))
"""Where chapters read results: the variable EVCM_RESULTS, else the checkout's ``results/``."""


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
