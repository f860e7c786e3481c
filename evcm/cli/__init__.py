"""The command line `evcm`. Each module of this package holds its own ``commands``.

They are a group, or functions that are commands by their names. Heavy imports stay inside the
commands, so that ``evcm --help`` answers at once.
"""

from __future__ import annotations

import importlib
import pkgutil
import signal
import sys
from typing import Any

import typer
from rich.console import Console

from evcm import __version__
from evcm.errors import EvcmError, printable

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
        commands = getattr(importlib.import_module(f"{__name__}.{module}"), "commands", ())
        if isinstance(commands, typer.Typer):
            app.add_typer(commands)
        else:
            for command in commands:
                app.command()(command)


_register_all()


INTERRUPTED, TERMINATED = 130, 143
"""Exit codes after Ctrl-C and after SIGTERM, as shells have them."""


def main() -> None:
    """Run the command line: what a user can mend becomes one message and exit code 2."""
    asked: list[int] = []

    def terminate(number: int, _: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough: now workers are ended
        asked.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, terminate)
    try:
        app(prog_name="evcm")
    except EvcmError as error:
        _stop(str(error), 2)
    except SystemExit as ended:
        if ended.code == INTERRUPTED:
            _stop("interrupted; no partial file was left", TERMINATED if asked else INTERRUPTED)
        raise
    except OSError as error:
        _stop(f"{error.filename or 'system'}: {error.strerror or error}", 2)
    except MemoryError:
        _stop("not enough memory for what was asked", 2)
    except RecursionError:
        _stop("an input is nested too deeply", 2)


def _stop(message: str, code: int) -> None:
    console.print(f"evcm: {printable(message)}", style="red", markup=False, soft_wrap=True)
    sys.exit(code)
