"""The only reader of data/: small TOML and CSV files, each folder with a SOURCE.md.

A checkout reads ``data/`` at its root; an installed wheel carries the same files as
``evcm/_data``. Typed readers for the study's inputs are in `evcm.inputs`.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evcm.errors import Fault, InputError

if TYPE_CHECKING:
    import pandas as pd


@cache
def root() -> Path:
    """Folder of the data files, in a checkout or in an installed wheel."""
    here = Path(__file__).resolve().parent
    for folder in (here / "_data", here.parent / "data"):
        if (folder / "scenarios" / "scenarios.toml").is_file():
            return folder
    raise InputError("evcm data", [Fault("folder", str(here / "_data"), "the shipped data files")])


def checkout() -> Path | None:
    """Root of the checkout that the package is read from; None where a wheel is installed."""
    return root().parent if root().name == "data" else None


def path(name: str) -> Path:
    """Path of a data file such as ``market/price_steps.csv``."""
    file = root() / name
    if not file.is_file():
        raise InputError("evcm data", [Fault("file", name, f"a file below {root()}")])
    return file


def read_toml(name: str) -> dict[str, Any]:
    """Content of a TOML data file."""
    with path(name).open("rb") as stream:
        return tomllib.load(stream)


def read_table(name: str) -> pd.DataFrame:
    """Content of a CSV data file; lines that start with # are comments."""
    import pandas as pd  # half a second, which the command line's help does without

    return pd.read_csv(path(name), comment="#", skipinitialspace=True)


def source(folder: str) -> str:
    """Text of the SOURCE.md beside the files of a data folder."""
    return path(f"{folder}/SOURCE.md").read_text("utf-8")
