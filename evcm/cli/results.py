"""Commands `evcm results`: fetch the tables behind the book, and write tables as CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(name="results", help="The tables that chapters read.", no_args_is_help=True)


@commands.command("get")
def get(
    source: Annotated[
        str,
        typer.Argument(help="Address of the book or of a page of it, or path of its archive."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder; else where chapters look for it.")
    ] = None,
) -> None:
    """Fetch the tables behind the book, so that a downloaded chapter runs at once."""
    from evcm.store import archive

    target = out or archive.home()
    names = archive.fetch(source, target)
    typer.echo(f"{len(names)} files in {target}")
    if archive.folder() != target:
        typer.echo(f"chapters read {archive.folder()}; to read these: EVCM_RESULTS={target}")


@commands.command("where")
def where() -> None:
    """Print the folder that chapters read."""
    from evcm.store import archive

    typer.echo(archive.folder())


@commands.command("csv")
def csv(
    folder: Annotated[Path, typer.Argument(help="Folder of results.")] = Path("results"),
    out: Annotated[Path, typer.Option("--out", help="A new folder.")] = Path("tables"),
) -> None:
    """Write every stored table as CSV, and columns.csv: unit and meaning of every column.

    Example: evcm results csv results-mine --out tables
    """
    from evcm.store.columns import write_csv

    names = write_csv(folder, out)
    typer.echo(f"{len(names)} tables in {out}; {out / 'columns.csv'} says what they hold")
