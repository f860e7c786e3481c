"""Commands of the network operator: `evcm opf` and `evcm caps`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evcm.network.case import Network

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
        help="Another day: columns period (1..48) and load_factor (>= 0).",
    ),
]
Method = Annotated[
    str, typer.Option("--method", help="fast, or pypower (one period at a time, slow).")
]


def _network(case: str | None, as_published: bool) -> Network:
    from evcm.errors import Fault, InputError
    from evcm.network.case import ieee14
    from evcm.network.readers import from_case

    if case is None:
        return ieee14(as_published)
    if as_published:
        fault = Fault("--as-published", f"with --case {case}", "only the study's own network")
        raise InputError("command line", [fault])
    return from_case(case)


def _check_out(out: Path) -> None:
    """Refuse an impossible target before any work is done."""
    from evcm.errors import Checks

    checks = Checks(str(out))
    checks.require(out.parent.is_dir(), "folder", str(out.parent), "an existing folder")
    checks.require(not out.is_dir(), "--out", "a folder", "a file name")
    checks.done()


def opf(
    out: Annotated[Path, typer.Option("--out", metavar="OUT.csv", help="Table to write.")],
    ev: Annotated[
        Path | None,
        typer.Option(
            "--ev",
            metavar="EV.csv",
            help="Power of each aggregator, MW: columns period (1..48), bus02_mw, bus03_mw, ... "
            "Negative where cars feed in. Without it: no cars.",
        ),
    ] = None,
    as_published: AsPublished = False,
    case: Case = None,
    load_factor: LoadFactor = None,
    method: Method = "fast",
) -> None:
    """Solve a day of 48 AC OPFs with not-supplied power, equations (43) to (53).

    OUT.csv holds per period: load_mw (cars included), generation_mw, nsp_mw (power not supplied),
    losses_mw, v_min_pu, nsp_busNN_mw for each PQ bus, and status. Every state is re-checked by a
    certificate before anything is written. A day without a solution is an error: the message names
    the period and the limits that bind, the exit code is 2 and no file is written.

    Example: evcm opf --ev EV.csv --out day.csv
    """
    from evcm.inputs import load_profile
    from evcm.network import opf as operator
    from evcm.network import tables
    from evcm.network.case import bus_load_mvar, bus_load_mw
    from evcm.network.certificate import certify_day
    from evcm.store import files

    _check_out(out)
    network = _network(case, as_published)
    power = None if ev is None else tables.read_ev_csv(ev, network, complete=case is None)
    factor = (
        load_profile().load_factor
        if load_factor is None
        else tables.read_load_factor_csv(load_factor)
    )
    load_p = bus_load_mw(factor, power, network)
    load_q = bus_load_mvar(factor, network)
    day = operator.solve_day(network, load_p, load_q, method=operator.as_method(method))
    certificate = certify_day(day).require()
    files.write_csv(out, tables.opf_table(day))
    typer.echo(
        f"{network.name}: load {day.load_mwh:.2f} MWh, peak {day.peak_mw:.2f} MW, generation "
        f"{day.generation_mwh:.2f} MWh, losses {day.losses_mwh:.2f} MWh, not supplied "
        f"{day.nse_mwh:.3f} MWh, lowest voltage {day.v_min_pu.min():.4f} pu; 48 periods solved and "
        f"certified (largest residual {certificate.largest_pu:.1e} pu) in {day.seconds:.2f} s"
    )


def caps(
    out: Annotated[Path, typer.Option("--out", metavar="CAPS.csv", help="Table to write.")],
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
    from evcm.inputs import load_profile
    from evcm.network import caps as operator
    from evcm.network import tables
    from evcm.network.case import bus_load_mvar, bus_load_mw
    from evcm.network.certificate import certify_caps
    from evcm.network.opf import as_method
    from evcm.store import files

    _check_out(out)
    network = _network(case, as_published)
    factor = (
        load_profile().load_factor
        if load_factor is None
        else tables.read_load_factor_csv(load_factor)
    )
    load_p = bus_load_mw(factor, None, network)
    load_q = bus_load_mvar(factor, network)
    result = operator.solve_caps(network, load_p, load_q, method=as_method(method))
    certificate = certify_caps(result).require()
    files.write_csv(out, tables.caps_table(result))
    total = result.total_mw
    typer.echo(
        f"{network.name}: caps of {total.sum() / 2:.1f} MWh in all, {total.min():.2f} MW in period "
        f"{int(total.argmin()) + 1} to {total.max():.2f} MW in period {int(total.argmax()) + 1}; "
        f"certified (largest residual {certificate.largest_pu:.1e} pu) in {result.seconds:.2f} s"
    )


def register(app: typer.Typer) -> None:
    """Add the operator's commands."""
    app.command()(opf)
    app.command()(caps)
