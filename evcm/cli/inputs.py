"""``evcm inputs``: write the inputs of a study as a folder to edit, and check such a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evcm.inputs.study import Inputs
    from evcm.inputs.values import Scenario

commands = typer.Typer(
    name="inputs",
    no_args_is_help=True,
    help="Inputs of a study: write a folder to edit, or check one.",
)


@commands.command("example")
def example_command(
    folder: Annotated[Path, typer.Argument(help="A new folder, or an empty one.")],
    case: Annotated[
        str | None,
        typer.Option(
            "--case",
            metavar="FILE",
            help="Another network: a MATPOWER .m, PYPOWER .py or .json file, or a built-in case "
            "such as case118. The paper's inputs without it.",
        ),
    ] = None,
    cars: Annotated[
        int | None, typer.Option("--cars", min=1, max=10**8, help="Cars of the one scenario.")
    ] = None,
) -> None:
    """Write a complete folder of inputs, with a comment on every field.

    With --case, aggregators sit at the buses with load, cars are spread by load, roads follow the
    branches, and the paper's load shape, forecast and prices are scaled to the network's load.

    Example: evcm inputs example mine --case case118 --cars 20000
    """
    from evcm.inputs.example import write_example

    found = write_example(folder, case, cars)
    typer.echo(f"{folder}: {found.name}; next: evcm inputs check {folder}")


@commands.command("check")
def check_command(
    folder: Annotated[Path, typer.Argument(help="A folder of inputs.")],
) -> None:
    """Read a folder, name every fault, and say what a study of it will do.

    Nothing is run or written. Exit code 2 when there is a fault.
    """
    from evcm.inputs.folder import read

    for line in report(read(folder)):
        typer.echo(line)


def report(inputs: Inputs) -> list[str]:
    """What a study of the inputs will do: sizes, and a rough time."""
    from evcm.inputs.prices import PriceSeries
    from evcm.inputs.values import CarList, Roads

    clock, net, cars = inputs.clock, inputs.network, inputs.cars
    minutes = 60 * inputs.period_h
    if isinstance(cars, Roads):
        how = f"by law on {len(cars) // 2} roads, laws {', '.join(dict.fromkeys(clock.laws))}"
    elif isinstance(cars, CarList):
        how = f"a list of {int(cars.count.sum())} cars"
    else:
        how = f"{len(cars)} recorded sessions in {cars.days} samples"
    price = inputs.market.price
    prices = "by period" if isinstance(price, PriceSeries) else f"by load, {len(price)} steps"
    lines = [
        f"name         {inputs.name}",
        f"horizon      {clock.days} days of {'/'.join(map(str, sorted(set(clock.day_hours))))} h, "
        f"{clock.periods} periods of {minutes:g} min",
        f"network      {net.name}: {net.n_bus} buses, {net.branch_from.size} branches, "
        f"{net.generator_bus.size} generators",
        f"load         {inputs.load_p_mw.sum(axis=1).min():.4g}"
        f"..{inputs.load_p_mw.sum(axis=1).max():.4g} MW, "
        f"{inputs.load_p_mw.sum() * inputs.period_h:.6g} MWh",
        f"aggregators  {len(inputs.buses)}, at {_short(inputs.buses)}",
        f"market       prices {prices}, {inputs.market.currency} at {inputs.market.per_usd:g} to "
        f"the USD; cap {inputs.market.system_cap_mw:g} MW",
        f"cars         {how}; classes "
        + ", ".join(f"{v.name} ({100 * v.share:g} %{'' if v.feeds_in else ', charging only'})"
                    for v in inputs.vehicles),
    ]  # fmt: skip
    for s in inputs.scenarios:
        size, groups, samples = _size(inputs, s)
        lines.append(
            f"scenario {s.number:<3d} {size} cars, {s.samples} Monte Carlo samples, about "
            f"{groups:.0f} schedules in {samples} real-time samples"
        )
    seconds = expected_seconds(inputs)
    lines.append(
        f"study        about {_duration(seconds)} of processor time "
        "(each aggregator alone and under its cap, one OPF a period); --side max halves it, "
        "compare takes up to four times as long"
    )
    lines.append(f"fingerprint  {inputs.fingerprint}")
    return lines


def _size(inputs: Inputs, scenario: Scenario) -> tuple[int, float, int]:
    """Cars, schedules and real-time samples of a scenario."""
    from evcm.inputs.values import CarList, Sessions

    cars, samples, group = inputs.cars, scenario.real_time_samples, scenario.cars_per_group
    if isinstance(cars, Sessions):
        return len(cars), len(cars) / max(cars.days, 1), cars.days
    if isinstance(cars, CarList):
        return int(cars.count.sum()), sum(max(1.0, n / group) for n in cars.count), samples
    return scenario.cars, scenario.cars / group, samples


def expected_seconds(inputs: Inputs) -> float:
    """Rough processor time of a study: aggregators by size, OPF days by periods and buses.

    A plan counts 0.5 s and 0.1 ms for each schedule, period and sample that it covers; a period of
    the AC OPF counts 25 us for each bus. Measured on one core: case30 with 400 cars 86 s of
    processor time (here 56 s), case118 with 20,000 cars 308 s (here 391 s). Fleets of few groups
    can take twice as long.
    """
    from evcm.inputs.values import Sessions

    total, sides = 0.0, 1 if isinstance(inputs.cars, Sessions) else 2
    for s in inputs.scenarios:
        _, groups, samples = _size(inputs, s)
        schedules = sides * groups  # a car stands at two buses, a session at one
        plans = min(float(len(inputs.buses)), schedules)
        total += sides * 2 * (0.5 * plans + 1e-4 * schedules * inputs.periods * samples)
        total += sides * 3 * 2.5e-5 * inputs.periods * inputs.network.n_bus
    return total


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _short(buses: tuple[int, ...]) -> str:
    found = [f"bus {b}" for b in buses[:6]]
    return ", ".join(found) + (f" and {len(buses) - 6} more" if len(buses) > 6 else "")
