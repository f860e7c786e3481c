"""A run saved to disk and read back: versioned JSON or Parquet, no pickle, replayed exactly.

``name.json`` holds everything in one file. Any other name is a folder with ``trace.json`` (version,
world, weights) and Parquet tables: ``series``, ``transformers``, ``sessions``, ``steps`` and
``ports``. Numbers survive both forms bit for bit, so a replay gives the same energies.
"""

from __future__ import annotations

import math
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evcm.arrays import FloatArray
from evcm.errors import Checks, Fault, InputError
from evcm.store.files import read_json, require_own, write_json, write_parquet
from evcm.v2x.ageing import Ageing
from evcm.v2x.arrivals import Sessions
from evcm.v2x.kernel import TERMS
from evcm.v2x.rewards import Weights
from evcm.v2x.series import ARRAYS, Series
from evcm.v2x.station import Case, Run, replay
from evcm.v2x.world import CarModel, ChargerType, Lot, Transformer, World

FORMAT = "evcm-v2x-trace"
VERSION = 1


@dataclass(frozen=True, eq=False)
class Trace:
    """A case, the commands (T, P) kW that were given, and the reward that came of them."""

    case: Case
    name: str
    command_kw: FloatArray
    reward: float

    def __post_init__(self) -> None:
        c = Checks("trace")
        c.name(self.name)
        c.require(math.isfinite(self.reward), "reward", self.reward, "a finite number")
        c.done()

    def replay(self, tolerance: float = 0.0) -> Run:
        """Run the commands again.

        Raises
        ------
        InputError
            The reward differs from the saved one by more than `tolerance` (USD).
        """
        again = replay(self.case, self.command_kw, self.name)
        checks = Checks(f"trace {self.name}")
        off = abs(again.reward - self.reward)
        checks.require(off <= tolerance, "reward", self.reward, f"{again.reward!r}, as replayed")
        checks.done()
        return again


def save(run: Run, path: str | Path, force: bool = False) -> Path:
    """Save a run; see the module for the forms. Whole or not at all.

    `path` is ``name.json``, or a folder that is made if it is not there. A trace that stands there
    is replaced, file by file; other files in its folder stay, and only with `force` are files
    written over that are no trace.

    Raises
    ------
    InputError
        The parent folder does not exist, or a file that is no trace would be lost.
    """
    path = Path(path)
    checks = Checks(str(path))
    checks.require(path.parent.is_dir(), "folder", str(path.parent), "an existing folder")
    single = path.suffix == ".json"
    good = not path.is_dir() if single else path.is_dir() or not path.exists()
    checks.require(good, "name", str(path), "a file for name.json, else a folder")
    checks.done()
    header = path if single else path / "trace.json"
    own = [header] if single else [header, *(path / f"{name}.parquet" for name in _TABLES)]
    require_own(own, header.is_file() and _is_trace(header), str(path), force)
    if single:
        write_json(path, _jsonable({**_header(run), **_tables(run)}))
        return path
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        for name, table in _tables(run).items():
            write_parquet(Path(folder) / f"{name}.parquet", table)
        write_json(Path(folder) / "trace.json", _jsonable(_header(run)))
        path.mkdir(exist_ok=True)
        # Without its header a folder is no trace: what is interrupted here is not taken for one.
        header.unlink(missing_ok=True)
        for file in [*own[1:], header]:
            os.replace(Path(folder) / file.name, file)
    return path


def _is_trace(header: Path) -> bool:
    try:
        content = read_json(header)
    except InputError:
        return False
    return isinstance(content, dict) and content.get("format") == FORMAT


def load(path: str | Path) -> Trace:
    """Read a trace that `save` wrote.

    Raises
    ------
    InputError
        The file is missing, is not a trace, or has a version that this code does not know.
    """
    path = Path(path)
    header_path = path / "trace.json" if path.is_dir() else path
    header = read_json(header_path)
    checks = Checks(str(path))
    form = header.get("format") if isinstance(header, dict) else None
    if checks.require(form == FORMAT, "format", form, FORMAT):
        checks.require(header.get("version") == VERSION, "version", header.get("version"), "1")
    checks.done()
    try:
        if header_path == path:
            tables = {name: pd.DataFrame(header[name]) for name in _TABLES}
        else:
            tables = {name: pd.read_parquet(path / f"{name}.parquet") for name in _TABLES}
        return _trace(header, tables)
    except InputError:
        raise
    except (KeyError, TypeError, ValueError, OSError, AttributeError, OverflowError) as error:
        raise InputError(str(path), [Fault("content", str(error), "a whole trace")]) from error


_TABLES = ("series", "transformers", "sessions", "steps", "ports")


def _header(run: Run) -> dict[str, Any]:
    case = run.case
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": run.name,
        "reward": run.reward,
        "seed": case.seed,
        "step_h": case.series.step_h,
        "start_hour": case.series.start_hour,
        "weights": asdict(case.weights),
        "world": asdict(case.world),
    }


def _tables(run: Run) -> dict[str, pd.DataFrame]:
    series, steps = run.case.series, len(run.case.series)
    flat = {n: getattr(series, n) for n in ARRAYS if getattr(series, n).ndim == 1}
    wide = {n: getattr(series, n) for n in ARRAYS if getattr(series, n).ndim == 2}
    transformers, ports = series.base_kw.shape[1], run.command_kw.shape[1]
    by_step = pd.DataFrame(run.terms, columns=list(TERMS))
    by_step.insert(0, "step", np.arange(steps))
    return {
        "series": pd.DataFrame(flat),
        "transformers": pd.DataFrame(
            {
                "step": np.repeat(np.arange(steps), transformers),
                "transformer": np.tile(np.arange(transformers), steps),
                **{name: value.ravel() for name, value in wide.items()},
                "power_kw": run.transformer_kw.ravel(),
            }
        ),
        "sessions": run.case.sessions.table(),
        "steps": by_step,
        "ports": pd.DataFrame(
            {
                "step": np.repeat(np.arange(steps), ports),
                "port": np.tile(np.arange(ports), steps),
                "command_kw": run.command_kw.ravel(),
                "grid_kwh": run.grid_kwh.ravel(),
                "battery_kwh": run.battery_kwh.ravel(),
                "content_kwh": run.content_kwh.ravel(),
            }
        ),
    }


def _jsonable(value: Any) -> Any:
    """Plain JSON: tables as columns, infinite limits as null."""
    if isinstance(value, pd.DataFrame):
        return {str(name): _jsonable(value[name].tolist()) for name in value.columns}
    if isinstance(value, dict):
        return {key: _jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(item) for item in value]
    if isinstance(value, float) and math.isinf(value):
        return None
    return value


def _limits(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        key: math.inf if value is None and key.endswith("limit_kw") else value
        for key, value in entry.items()
    }


def _world(entry: dict[str, Any]) -> World:
    transformers = tuple(
        Transformer(
            **{
                **_limits(t),
                "lots": tuple(
                    Lot(
                        **{
                            **_limits(lot),
                            "chargers": tuple(ChargerType(**h) for h in lot["chargers"]),
                        }
                    )
                    for lot in t["lots"]
                ),
            }
        )
        for t in entry["transformers"]
    )
    return World(
        **{
            **_limits(entry),
            "transformers": transformers,
            "cars": tuple(CarModel(**car) for car in entry["cars"]),
            "ageing": Ageing(**entry["ageing"]),
            "target_soc": tuple(entry["target_soc"]),
        }
    )


def _trace(header: dict[str, Any], tables: dict[str, pd.DataFrame]) -> Trace:
    world = _world(header["world"])
    steps, transformers = len(tables["series"]), len(world.transformers)
    arrays: dict[str, FloatArray] = {}
    for name in ARRAYS:
        if name in tables["series"]:
            arrays[name] = tables["series"][name].to_numpy(dtype=float)
        else:
            column = tables["transformers"][name]
            if name.endswith("limit_kw"):
                column = column.astype(float).fillna(math.inf)
            arrays[name] = column.to_numpy(dtype=float).reshape(steps, transformers)
    series = Series(step_h=header["step_h"], start_hour=header["start_hour"], **arrays)
    case = Case(
        world,
        series,
        Sessions.from_table(tables["sessions"]),
        Weights(**header["weights"]),
        header["seed"],
    )
    commands = tables["ports"]["command_kw"].to_numpy(dtype=float).reshape(steps, world.ports)
    return Trace(case, header["name"], commands, float(header["reward"]))
