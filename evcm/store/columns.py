"""What every column of every stored table means, and the tables as CSV files."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import pandas as pd

from evcm import data
from evcm.errors import Checks
from evcm.store import files
from evcm.store.results import STEPS, Store


@cache
def dictionary() -> pd.DataFrame:
    """All columns: table (``*``: any), column, unit, meaning."""
    return data.read_table("results/columns.csv")


def described(table: str, columns: Iterable[str]) -> pd.DataFrame:
    """Unit and meaning of some columns of a table, one row each, in their order.

    A table is its path below the folder of results without ending, ``coordination/regimes``.

    Raises
    ------
    InputError
        A column is not in the dictionary.
    """
    known = dictionary()
    own = known[known["table"].isin([table, "*"])].sort_values("table", ascending=False)
    own = own.drop_duplicates("column").set_index("column")[["unit", "meaning"]]
    asked, c = list(columns), Checks(f"columns of {table}")
    for name in asked:
        c.require(name in own.index, "column", name, "one of data/results/columns.csv")
    c.done()
    return own.loc[asked].reset_index()


def stored_tables(folder: Path) -> list[str]:
    """Tables in a folder of results, as `described` names them."""
    found = (path.relative_to(folder) for path in folder.rglob("*.parquet"))
    return sorted(p.with_suffix("").as_posix() for p in found if p.parts[0] != STEPS)


def write_csv(folder: Path, out: Path) -> list[str]:
    """Write every stored table as CSV below a new folder, and what their columns mean.

    The meanings are in ``columns.csv``: table, column, unit, meaning. Nothing is written on error.

    Raises
    ------
    InputError
        There is no table, `out` is not new or empty, or a column is unknown.
    StaleError
        A table is damaged.
    """
    c = Checks("evcm results csv")
    names = stored_tables(folder) if folder.is_dir() else []
    c.require(len(names) > 0, "folder", str(folder), "a folder with tables of `evcm study`")
    empty = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    c.require(empty, "--out", str(out), "a new folder, or an empty one")
    c.require(out.parent.is_dir(), "--out", str(out.parent), "an existing parent folder")
    c.done()
    store, means = Store(folder), []
    work = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        for name in names:
            table = store.load_table(f"{name}.parquet")
            means.append(described(name, table.columns).assign(table=name))
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            files.write_csv(work / f"{name}.csv", table)
        told = pd.concat(means, ignore_index=True)
        files.write_csv(work / "columns.csv", told[["table", "column", "unit", "meaning"]])
        work.chmod(0o755)
        os.replace(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return names
