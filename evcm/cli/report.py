"""`evcm report`: one study as one page that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    folder: Annotated[Path, typer.Argument(help="Folder of results.")] = Path("results"),
    out: Annotated[
        Path | None, typer.Option("--out", help="Page to write.  [default: FOLDER/report.html]")
    ] = None,
) -> None:
    """Write what a study found as one HTML page: answer, figures, tables, provenance.

    Reads the tables of `evcm study` in FOLDER, and those of `evcm compare` and `evcm hosting` where
    they are there and of the same inputs. The page loads nothing from elsewhere.

    Example: evcm report results-mine
    """
    from evcm.errors import Checks
    from evcm.store import files

    checks = Checks("evcm report")
    checks.require(folder.is_dir(), "folder", str(folder), "an existing folder of results")
    checks.done()
    target = out or folder / "report.html"
    files.check_target(target)
    from evcm.plots.report import write

    size = write(folder, target)
    typer.echo(f"{target}: {size / 1e6:.1f} MB; open it in a browser")


commands = (report,)
