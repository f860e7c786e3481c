"""The command line `evcm`. Each module of this package registers its own commands.

A command module defines ``register(app)``. Heavy imports stay inside the commands, so that
``evcm --help`` answers at once.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer
from rich.console import Console

from evcm import __version__
from evcm.errors import EvcmError

console = Console(stderr=True, highlight=False)

app = typer.Typer(
    name="evcm",
    help="What do thousands of EVs do to a network, and what does coordinating them buy?",
    no_args_is_help=True,
    rich_markup_mode=None,  # plain help: a third of the time to the first line
    pretty_exceptions_enable=False,
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"evcm {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Collect the commands; nothing runs here."""


def _register_all() -> None:
    for module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}").register(app)


_register_all()


def main() -> None:
    """Run the command line; an `EvcmError` becomes one message and exit code 2."""
    try:
        app()
    except EvcmError as error:
        console.print(f"evcm: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("evcm: interrupted; no partial file was left", markup=False)
        sys.exit(130)
