"""``evcm v2x``: run a charging station, compare rules, and prove the optimum of a saved run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evcm.v2x.station import Case, Run

commands = typer.Typer(
    name="v2x",
    no_args_is_help=True,
    help="Run a V2X charging station, compare rules, and prove the optimum of a saved run.",
)


def register(app: typer.Typer) -> None:
    """Add ``evcm v2x``."""
    app.add_typer(commands)


Chargers = Annotated[int, typer.Option(min=1, help="Chargers of the station.")]
PlaceName = Annotated[str, typer.Option(help="workplace, public or home.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the sessions.")]
Steps = Annotated[int, typer.Option(min=1, help="Steps of the run.")]
Minutes = Annotated[float, typer.Option(min=0.1, max=1440, help="Minutes of a step.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that are no trace.")]
Day = Annotated[int, typer.Option(min=0, max=6, help="Day of the week, 0 is Monday.")]


def _case(chargers: int, place: str, seed: int, steps: int, minutes: float, day: int) -> Case:
    from evcm.v2x.station import make_case
    from evcm.v2x.world import example_world

    world = example_world(chargers, place)  # type: ignore[arg-type]
    return make_case(world, seed=seed, steps=steps, step_h=minutes / 60, start_hour=24.0 * day)


@commands.command("run")
def run_command(
    out: Annotated[Path, typer.Argument(help="Where the trace goes: name.json, or a folder.")],
    rule: Annotated[
        str, typer.Option(help="A rule by name, model_predictive or optimum.")
    ] = "least_laxity",
    chargers: Chargers = 25,
    place: PlaceName = "workplace",
    seed: Seed = 0,
    steps: Steps = 96,
    minutes: Minutes = 15.0,
    day: Day = 0,
    force: Force = False,
) -> None:
    """Run one day of a station under RULE, certify it and save its trace."""
    from evcm.v2x import trace
    from evcm.v2x.certificate import certify

    case = _case(chargers, place, seed, steps, minutes, day)
    finished = _run(case, rule)
    certify(finished).require()
    trace.save(finished, out, force)
    _print(finished)
    typer.echo(f"trace      {out}")


@commands.command("optimum")
def optimum_command(
    trace_file: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace of evcm v2x run.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Save the optimal run as a trace.")
    ] = None,
    hard_limits: Annotated[
        bool, typer.Option("--hard-limits", help="Forbid overload instead of pricing it.")
    ] = False,
    time_limit: Annotated[
        float, typer.Option("--time-limit", min=1e-3, metavar="S", help="Seconds at most.")
    ] = 600.0,
    force: Force = False,
) -> None:
    """Prove the best run of TRACE's sessions, prices and loads, and replay it."""
    from evcm.v2x import trace
    from evcm.v2x.optimum import optimum

    saved = trace.load(trace_file)
    best = optimum(saved.case, hard_limits=hard_limits, time_limit_s=time_limit)
    typer.echo(f"status     {best.status}")
    typer.echo(f"saved run  {saved.name}: reward {saved.reward:.6f} USD")
    typer.echo(f"bound      {best.bound_usd:.6f} USD")
    _print(best.run)
    typer.echo(f"solved in  {best.seconds:.2f} s ({best.columns} columns, {best.rows} rows)")
    if out is not None:
        trace.save(best.run, out, force)
        typer.echo(f"trace      {out}")


@commands.command("replay")
def replay_command(
    trace_file: Annotated[Path, typer.Argument(metavar="TRACE", help="A trace of evcm v2x run.")],
) -> None:
    """Replay TRACE and certify it; fails when the saved reward does not come out again."""
    from evcm.v2x import trace
    from evcm.v2x.certificate import certify

    again = trace.load(trace_file).replay()
    certify(again).require()
    _print(again)
    typer.echo("replayed exactly, and certified")


@commands.command("compare")
def compare_command(
    chargers: Chargers = 25,
    place: PlaceName = "workplace",
    seed: Seed = 0,
    steps: Steps = 96,
    minutes: Minutes = 15.0,
    day: Day = 0,
    predictive: Annotated[
        bool, typer.Option("--predictive", help="Include model predictive control (slower).")
    ] = False,
) -> None:
    """Run every rule and the optimum on the same day, side by side."""
    from evcm.v2x.baselines import baselines

    case = _case(chargers, place, seed, steps, minutes, day)
    names = [*baselines(), *(["model_predictive"] if predictive else []), "optimum"]
    columns = ("reward_usd", "energy_cost_usd", "unserved_kwh", "overload_kwh", "peak_kw")
    typer.echo(f"{'rule':22s}" + "".join(f"{c:>17s}" for c in columns))
    for name in names:
        row = _run(case, name).summary()
        typer.echo(f"{name:22s}" + "".join(f"{row[c]:17.3f}" for c in columns))


def _run(case: Case, rule: str) -> Run:
    from evcm.errors import Checks
    from evcm.v2x.baselines import baselines
    from evcm.v2x.station import run

    rules = baselines()
    known = [*rules, "model_predictive", "optimum"]
    checks = Checks("evcm v2x")
    checks.require(rule in known, "--rule", rule, ", ".join(known))
    checks.done()
    if rule == "optimum":
        from evcm.v2x.optimum import optimum

        return optimum(case).run
    if rule == "model_predictive":
        from evcm.v2x.mpc import ModelPredictive

        return run(case, ModelPredictive(), rule)
    return run(case, rules[rule], rule)


def _print(finished: Run) -> None:
    row = finished.summary()
    typer.echo(f"station    {finished.case.world.name}, {finished.case.world.ports} ports")
    typer.echo(f"sessions   {len(finished.case.sessions)}, satisfaction {row['satisfaction']:.4f}")
    typer.echo(
        f"energy     {row['charged_kwh']:.3f} kWh in, {row['discharged_kwh']:.3f} kWh out, "
        f"{row['losses_kwh']:.3f} kWh lost; peak {row['peak_kw']:.2f} kW"
    )
    typer.echo(
        f"money      energy {row['energy_cost_usd']:.4f}, tariff {row['tariff_usd']:.4f}, "
        f"ageing {row['ageing_usd']:.4f} USD; overload {row['overload_kwh']:.4f} kWh"
    )
    typer.echo(f"reward     {row['reward_usd']:.6f} USD under {finished.name}")
