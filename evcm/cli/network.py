"""Commands of the network operator: `evcm opf` and `evcm caps`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from evcm.cli.common import InputsFolder, which_inputs

if TYPE_CHECKING:
    from evcm.network.case import Day

AsPublished = Annotated[
    bool,
    typer.Option(
        "--as-published",
        help="Use the network of the paper's own program: series admittances alone.",
    ),
]
Case = Annotated[
    str | None,
    typer.Option(
        "--case",
        metavar="FILE",
        help="Another network: a MATPOWER .m, PYPOWER .py or .json file, or a name such as case30. "
        "Its loads follow the reference day; aggregators sit at its load buses.",
    ),
]
LoadFactor = Annotated[
    Path | None,
    typer.Option(
        "--load-factor",
        metavar="CSV",
        help="Another day: columns period (1..T) and load_factor (>= 0).",
    ),
]
Method = Annotated[
    str, typer.Option("--method", help="fast, or pypower (one period at a time, slow).")
]


def _day(
    case: str | None, as_published: bool, load_factor: Path | None, inputs: Path | None
) -> Day:  # fmt: skip
    """The day that the options name."""
    from evcm.errors import Fault, InputError
    from evcm.network.case import Day
    from evcm.network.readers import from_case
    from evcm.network.tables import read_load_factor_csv

    if case is not None and as_published:
        fault = Fault("--as-published", f"with --case {case}", "only the study's own network")
        raise InputError("command line", [fault])
    if inputs is not None and (case is not None or as_published):
        fault = Fault("--inputs", str(inputs), "alone, without --case and --as-published")
        raise InputError("command line", [fault])
    told = which_inputs(inputs)
    day = told.day if case is None else told.day_on(from_case(case))
    if as_published:
        day = day.as_published
    if load_factor is None:
        return day
    factor = read_load_factor_csv(load_factor, day.n_periods)
    return Day.scaled(day.network, factor, day.period_h)


def opf(
    out: Annotated[Path, typer.Option("--out", metavar="OUT.csv", help="Table to write.")],
    ev: Annotated[
        Path | None,
        typer.Option(
            "--ev",
            metavar="EV.csv",
            help="Power of each aggregator, MW: columns period (1..T), bus02_mw, bus03_mw, ... "
            "Negative where cars feed in. Without it: no cars.",
        ),
    ] = None,
    inputs: InputsFolder = None,
    as_published: AsPublished = False,
    case: Case = None,
    load_factor: LoadFactor = None,
    method: Method = "fast",
) -> None:
    """Solve a day of AC OPFs, one a period, with not-supplied power, equations (43) to (53).

    OUT.csv holds per period: load_mw (cars included), generation_mw, nsp_mw (power not supplied),
    losses_mw, v_min_pu, nsp_busNN_mw for each PQ bus, and status. Every state is re-checked by a
    certificate before anything is written. A day without a solution is an error: the message names
    the period and the limits that bind, the exit code is 2 and no file is written.

    Example: evcm opf --ev EV.csv --out day.csv
    """
    from evcm.network import opf as operator
    from evcm.network import tables
    from evcm.network.certificate import certify_day
    from evcm.store import files

    files.check_target(out)
    asked = _day(case, as_published, load_factor, inputs)
    if ev is not None:
        few = case is not None or inputs is not None
        asked = asked.with_cars(
            tables.read_ev_csv(ev, asked.network, asked.n_periods, complete=not few)
        )
    day = operator.solve_day(asked, method=operator.as_method(method))
    certificate = certify_day(day).require()
    files.write_csv(out, tables.opf_table(day))
    typer.echo(
        f"{day.network.name}: load {day.load_mwh:.2f} MWh, peak {day.peak_mw:.2f} MW, generation "
        f"{day.generation_mwh:.2f} MWh, losses {day.losses_mwh:.2f} MWh, not supplied "
        f"{day.nse_mwh:.3f} MWh, lowest voltage {day.v_min_pu.min():.4f} pu; {asked.n_periods} "
        f"periods solved and certified (largest residual {certificate.largest_pu:.1e} pu) in "
        f"{day.seconds:.2f} s"
    )
    for kind, rows in day.shortages().groupby("kind", sort=False):
        worst = rows.sort_values("nsp_mw").iloc[-1]
        typer.echo(
            f"short in {len(rows)} periods for want of {kind}, most in period "
            f"{worst['period']}: {worst['nsp_mw']:.3f} MW, {worst['limit']}"
        )


def caps(
    out: Annotated[Path, typer.Option("--out", metavar="CAPS.csv", help="Table to write.")],
    inputs: InputsFolder = None,
    as_published: AsPublished = False,
    case: Case = None,
    load_factor: LoadFactor = None,
    method: Method = "fast",
) -> None:
    """Find the most that each aggregator may buy, equations (54) and (55).

    The sum of the caps is as large as the network can serve beside the load, with no power left
    unsupplied; each cap is 2.5 % to 100 % of its bus's own load. CAPS.csv holds period and a column
    per aggregator, bus02_mw, bus03_mw, ... in MW.

    Example: evcm caps --out caps.csv
    """
    from evcm.network import caps as operator
    from evcm.network import tables
    from evcm.network.certificate import certify_caps
    from evcm.network.opf import as_method
    from evcm.store import files

    files.check_target(out)
    day = _day(case, as_published, load_factor, inputs)
    result = operator.solve_caps(day, method=as_method(method))
    certificate = certify_caps(result).require()
    files.write_csv(out, tables.caps_table(result))
    total = result.total_mw
    low, high = int(total.argmin()), int(total.argmax())
    typer.echo(
        f"{day.network.name}: caps of {result.total_mwh:.1f} MWh in all, {total[low]:.2f} MW in "
        f"period {low + 1} to {total[high]:.2f} MW in period {high + 1}; certified (largest "
        f"residual {certificate.largest_pu:.1e} pu) in {result.seconds:.2f} s"
    )


commands = (opf, caps)
