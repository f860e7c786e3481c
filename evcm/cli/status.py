"""`evcm status FOLDER`: what a folder of results holds, and whether something runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from evcm.cli.common import AsJson, print_json


def status(
    folder: Annotated[Path, typer.Argument(help="Folder of results.")] = Path("results"),
    as_json: AsJson = False,
) -> None:
    """Show what FOLDER holds: results of each step with their measured time, tables, who writes.

    Example: evcm status results --json
    """
    from evcm.errors import Checks
    from evcm.store.results import Store

    checks = Checks("evcm status")
    checks.require(folder.is_dir(), "folder", str(folder), "an existing folder of results")
    checks.done()
    store = Store(folder)
    writing, steps, tables = store.holder(), _steps(store), _tables(store)
    if as_json:
        print_json({"folder": folder, "writing": writing, "steps": steps, "tables": tables})
        return
    typer.echo(f"writing now  {writing or 'nobody'}")
    typer.echo(f"{'step':16s}{'results':>9s}{'damaged':>9s}{'seconds':>10s}  newest")
    for row in steps:
        typer.echo(f"{row['step']:16s}{row['results']:9d}{row['damaged']:9d}"
                   f"{row['seconds']:10.1f}  {row['newest']}")  # fmt: skip
    typer.echo(f"\n{'table':44s}{'state':12s}made")
    for row in tables:
        typer.echo(f"{row['table']:44s}{row['state']:12s}{row['made']}")


def _steps(store: Any) -> list[dict[str, Any]]:
    from evcm.store.results import STEPS

    rows = []
    for folder in sorted((store.folder / STEPS).glob("*/")):
        facts = list(store.step(folder.name).facts())
        rows.append({
            "step": folder.name, "results": len(facts),
            "damaged": sum(not fact["sound"] for fact in facts),
            "seconds": sum(fact["seconds"] for fact in facts),
            "newest": max((fact["made"] for fact in facts), default="-"),
        })  # fmt: skip
    return rows


def _tables(store: Any) -> list[dict[str, Any]]:
    rows = []
    for file in sorted(store.folder.rglob("*.parquet")):
        name = file.relative_to(store.folder).as_posix()
        if not name.startswith("steps/"):
            record = store.record(name)
            whole = bool(record) and store.is_fresh(name, record.get("key", ""))
            rows.append({"table": name, "state": "whole" if whole else "damaged",
                         "made": record.get("made", "-")})  # fmt: skip
    return rows


commands = (status,)
