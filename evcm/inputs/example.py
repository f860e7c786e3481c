"""Write the inputs of a study as a folder to edit: the paper's, or those of any network."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd

from evcm import data
from evcm.errors import Checks
from evcm.inputs.folder import paper, read
from evcm.inputs.study import Inputs
from evcm.inputs.values import PriceSteps
from evcm.network.case import Network, tables_of
from evcm.network.readers import from_case

FILES = (
    "study.toml", "network/network.toml", "network/bus.csv", "network/branch.csv",
    "network/generator.csv", "load/profile.csv", "market/market.toml", "market/price_steps.csv",
    "vehicle/vehicle.toml", "scenarios/scenarios.toml", "trips/law.toml", "trips/roads.csv",
)  # fmt: skip
"""Files of a study, below its folder; the paper's lie under the same names in ``data/``."""

ROAD_KM = (10.0, 150.0)
"""Range of the road lengths that are guessed from a network's branches."""


SCHEDULES = 500
"""Groups of cars in an example; with more, cars share one: plans then take minutes, not hours."""

NEIGHBOURS = 4
"""Roads that are guessed from each bus, to the nearest others."""


def write_example(
    folder: str | Path, case: str | None = None, cars: int | None = None
) -> Inputs:  # fmt: skip
    """Write a complete, runnable folder of inputs and return what it reads back as.

    Parameters
    ----------
    folder
        A new folder, or an empty one.
    case : str, optional
        A case file, or a built-in case by name; the paper's inputs if left out. Aggregators sit at
        its load buses, cars are spread by load, roads follow the branches, and the paper's load
        shape, forecast and price curve are scaled to its load.
    cars : int, optional
        Cars of the one scenario that is then written; 2000 by default with a case. Above 5,000,
        groups that share a schedule grow with their number.

    Raises
    ------
    InputError
        The folder is not empty or cannot be made, the case cannot be read, or it has fewer than two
        buses with load. Nothing is written then.
    """
    folder = Path(folder)
    c = Checks("evcm inputs example")
    empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    c.require(empty, "folder", str(folder), "a new folder, or an empty one")
    c.require(folder.parent.is_dir(), "folder", str(folder.parent), "an existing parent folder")
    c.require(cars is None or 1 <= cars <= 10**8, "cars", cars, "1..100,000,000")
    c.done()
    network = None if case is None else from_case(case)
    try:
        work = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    except OSError as error:
        c.require(False, "folder", str(folder), f"a folder that can be made ({error.strerror})")
        c.done()
    try:
        for name in FILES:
            (work / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(data.path(name), work / name)
        (work / "README.md").write_text(README, "utf-8")
        if network is not None:
            _for_network(work, network, 2000 if cars is None else cars)
        elif cars is not None:
            _one_scenario(work, cars)
        for path in (work, *work.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        found = read(work)
        with suppress(OSError):
            folder.rmdir()
        os.replace(work, folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return found


def _one_scenario(work: Path, cars: int) -> None:
    """Scenario 1 with this number of cars in the place of the paper's three."""
    path = work / "scenarios/scenarios.toml"
    head = path.read_text("utf-8").split("[[scenario]]")[0]
    group = max(10, round(cars / SCHEDULES))
    head = head.replace("cars_per_group = 10\n", f"cars_per_group = {group}\n")
    path.write_text(
        f"{head}[[scenario]]\n# Number of the scenario, its cars, and its Monte Carlo samples.\n"
        f"number = 1\ncars = {cars}\nsamples = 100\n",
        "utf-8",
    )


def _for_network(work: Path, network: Network, cars: int) -> None:
    """Replace what belongs to the paper's network by what a bare case can tell."""
    c = Checks(f"network {network.name}")
    buses = network.ev_bus_number
    c.require(
        len(buses) >= 2, "buses with load", list(buses), "at least two, so that cars can drive"
    )
    c.done()
    total, ours = float(network.load_p_mw.sum()), paper()
    scale = total / float(ours.network.load_p_mw.sum())
    _one_scenario(work, cars)
    _edit(work / "study.toml", lambda s: s.replace(ours.name, f"{network.name}, {cars} cars"))
    _edit(work / "network/network.toml", lambda s: s
          .replace('name = "IEEE 14-bus"', f'name = "{network.name}"')
          .replace("base_mva = 100.0", f"base_mva = {network.base_mva!r}"))  # fmt: skip
    comment = {
        "bus": "Buses: nominal load, shunts at 1 pu, voltage limits. type: 3 slack, 2 PV, 1 PQ.",
        "branch": "Branches: pi model, tap ratio on the from side, limits in MVA (inf: none).",
        "generator": "Generators: limits of active and reactive power.",
    }
    for name, table in tables_of(network).items():
        _table(work / f"network/{name}.csv", table, comment[name])
    forecast = ours.forecast_mw * scale
    _table(
        work / "load/profile.csv",
        pd.DataFrame({"period": np.arange(1, ours.periods + 1), "load_factor": ours.load_factor,
                      "aggregator_forecast_mw": forecast.round(3)}),
        "Load by period: factor on every bus's nominal load, and the system's load that the "
        "aggregators\n# are told, MW. Shape and forecast are the paper's, scaled.",
    )  # fmt: skip
    price = ours.market.price
    assert isinstance(price, PriceSteps)
    _table(
        work / "market/price_steps.csv",
        pd.DataFrame({"upper_edge_mw": (price.edge_mw * scale).round(4),
                      "price_per_kwh": (price.price_usd_per_kwh * ours.market.per_usd).round(7)}),
        "Price of energy by the system's load, the paper's curve with its loads scaled.",
    )  # fmt: skip
    cap = max(total, 1.02 * float(forecast.max()))
    _edit(work / "market/market.toml", lambda s: s
          .replace("system_cap_mw = 259.0", f"system_cap_mw = {cap:.3f}")
          .replace("Here: the sum of the nominal bus\n# loads.",
                   "Here: 2 % above the\n# largest forecast."))  # fmt: skip
    roads = roads_along_branches(network)
    _table(
        work / "trips/roads.csv",
        pd.DataFrame(roads, columns=["from_bus", "to_bus", "length_km"]),
        "Roads between buses with an aggregator, km, guessed from the branches: lengths grow with "
        "the\n# reactance; half the roads are shorter than the paper's median. Put in your own.",
    )
    _table(
        work / "trips/homes.csv",
        pd.DataFrame({"bus": buses, "weight": network.load_p_mw[network.ev_bus]}),
        "How many cars live at each bus, up to a factor: here by load, MW.",
    )


def roads_along_branches(network: Network) -> list[tuple[int, int, float]]:
    """Roads between the buses with an aggregator, along branches and over buses without one.

    Each bus gets roads to its nearest few. Lengths are proportional to the reactance on the way;
    their median is that of the paper's roads.
    """
    there = set(network.ev_bus.tolist())
    near: dict[int, list[tuple[int, float]]] = {}
    ends = zip(network.branch_from, network.branch_to, network.reactance_pu, strict=True)
    for a, b, x in ends:
        near.setdefault(int(a), []).append((int(b), abs(float(x))))
        near.setdefault(int(b), []).append((int(a), abs(float(x))))
    found: dict[tuple[int, int], float] = {}
    for start in sorted(there):
        best, todo = {start: 0.0}, [start]
        while todo:
            at = todo.pop(0)
            for other, x in near.get(at, ()):
                way = best[at] + x
                if other in best and best[other] <= way:
                    continue
                best[other] = way
                if other not in there:
                    todo.append(other)
        reached = sorted((x, k) for k, x in best.items() if k in there and k != start)
        for way, other in reached[:NEIGHBOURS]:
            found[min(start, other), max(start, other)] = way
    ours = paper().cars.length_km  # type: ignore[union-attr]
    scale = float(np.median(ours)) / max(float(np.median(list(found.values()))), 1e-9)
    return [
        (int(network.bus_number[a]), int(network.bus_number[b]),
         round(float(np.clip(x * scale, *ROAD_KM)), 1))
        for (a, b), x in sorted(found.items())
    ]  # fmt: skip


def _edit(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text("utf-8")), "utf-8")


def _table(path: Path, table: pd.DataFrame, comment: str) -> None:
    path.write_text(f"# {comment}\n" + table.to_csv(index=False), "utf-8")


README = """# Inputs of a study

Everything that the study is told, one folder. Edit what you like; every file says what its fields
mean. Then

    evcm inputs check FOLDER            is it right, and how long will it take?
    evcm study --inputs FOLDER --out RESULTS
    evcm compare --inputs FOLDER --out RESULTS
    evcm hosting --inputs FOLDER --out RESULTS --seeds 2 --days 10
    evcm report RESULTS

| file | content |
| --- | --- |
| `study.toml` | name, length of a period, days, trip law of each day |
| `network/` | buses, branches, generators; penalty and range of the caps; or a case file |
| `load/profile.csv` | load factor by period, and the load that the aggregators are told |
| `load/bus_mw.csv` | optional: `period, bus02_mw, ...`, load of a bus in MW instead of its factor |
| `load/added_mw.csv` | optional, likewise: added to the load; PV or wind is negative |
| `market/` | currency, system cap; `price_steps.csv` by load, or `prices.csv` by period |
| `vehicle/vehicle.toml` | classes of vehicles: battery, charger, wear, feeding in |
| `scenarios/scenarios.toml` | how many cars, how many samples |
| `trips/law.toml` | hours, speeds, consumption |
| `trips/roads.csv` | roads, with `homes.csv`: cars drive by the law |
| `trips/cars.csv` | instead: cars one by one |
| `trips/sessions.csv` | instead: recorded charging sessions, with `sessions.toml` |

Columns of the optional files:

- `market/prices.csv`: `period, price_per_kwh`, and `real_time_buy_per_kwh`,
  `real_time_sell_per_kwh` where real time has prices of its own. Prices may be negative.
- `trips/cars.csv`: `home_bus, work_bus, distance_km, departure, arrival` (07:30, or 7.5), and
  `departure_sd_h, arrival_sd_h, consumption_kwh_per_km, vehicle_class, count, car`.
- `trips/sessions.csv`: `arrival, departure, energy_kwh`, and `bus, station, vehicle_class,
  battery_kwh, charger_kw`. Times as 2019-03-01T07:30:00Z, 2019-03-01 07:30 or
  Fri, 01 Mar 2019 07:30:00 GMT.
- `trips/sessions.toml`: `time_zone`, `bus` of all sessions, `first_day`.
- A connection with a limit is a bus of its own for its load and cars, behind a branch with
  `limit_mva`: it holds for cars of every kind.

Tables may use commas, semicolons or tabs; with semicolons, decimal commas. Lines that start with #
are comments. A key that is not known, and a row that is not used, are errors.
"""
