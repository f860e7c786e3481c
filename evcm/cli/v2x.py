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


Chargers = Annotated[
    int | None, typer.Option(min=1, max=10_000, help="Chargers of the example.  [default: 25]")
]
PlaceName = Annotated[
    str | None, typer.Option(help="workplace, public or home.  [default: workplace]")
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**62, help="Seed of drawn sessions.  [default: 0]")
]
Steps = Annotated[int, typer.Option(min=1, max=100_000, help="Steps of the run.")]
Minutes = Annotated[float, typer.Option(min=0.1, max=1440, help="Minutes of a step.")]
Force = Annotated[bool, typer.Option("--force", help="Write over files that are no trace.")]
Day = Annotated[int, typer.Option(min=0, max=6, help="Day of the week, 0 is Monday.")]


Own = Annotated[Path | None, typer.Option("--station", help="Your station: TOML of chargers.")]
Cars = Annotated[
    Path | None,
    typer.Option("--sessions", help="Your cars: CSV of arrival, departure, energy_kwh."),
]
Prices = Annotated[
    Path | None, typer.Option("--prices", help="Your prices: CSV of hour, buy_usd_per_kwh.")
]


def _case(
    chargers: int | None, place: str | None, seed: int | None, steps: int, minutes: float,
    day: int, station: Path | None, sessions: Path | None, prices: Path | None,
) -> Case:  # fmt: skip
    from evcm.building.inputs import Horizon
    from evcm.errors import Checks
    from evcm.v2x.files import read_case
    from evcm.v2x.station import make_case
    from evcm.v2x.world import example_world

    checks = Checks("evcm v2x")
    for name, value in (("--chargers", chargers), ("--place", place)):
        free = station is None or value is None
        checks.require(free, name, value, "not together with --station")
    checks.require(sessions is None or seed is None, "--seed", seed, "not together with --sessions")
    checks.done()
    world = example_world(chargers or 25, place or "workplace")  # type: ignore[arg-type]
    if station is None and sessions is None and prices is None:
        start_hour = 24.0 * day
        return make_case(
            world, seed=seed or 0, steps=steps, step_h=minutes / 60, start_hour=start_hour
        )
    horizon = Horizon(0.0, steps, minutes / 60)
    return read_case(
        world if station is None else station, sessions, prices,
        horizon=horizon, day=day, seed=seed or 0,
    )  # fmt: skip


@commands.command("run")
def run_command(
    out: Annotated[Path, typer.Argument(help="Where the trace goes: name.json, or a folder.")],
    rule: Annotated[
        str, typer.Option(help="A rule by name, model_predictive or optimum.")
    ] = "least_laxity",
    chargers: Chargers = None,
    place: PlaceName = None,
    seed: Seed = None,
    steps: Steps = 96,
    minutes: Minutes = 15.0,
    day: Day = 0,
    station: Own = None,
    sessions: Cars = None,
    prices: Prices = None,
    force: Force = False,
) -> None:
    """Run one day of a station under RULE, certify it and save its trace."""
    from evcm.v2x import trace
    from evcm.v2x.certificate import certify

    case = _case(chargers, place, seed, steps, minutes, day, station, sessions, prices)
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
    from evcm.v2x.solve import optimum

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
    chargers: Chargers = None,
    place: PlaceName = None,
    seed: Seed = None,
    steps: Steps = 96,
    minutes: Minutes = 15.0,
    day: Day = 0,
    station: Own = None,
    sessions: Cars = None,
    prices: Prices = None,
    predictive: Annotated[
        bool, typer.Option("--predictive", help="Include model predictive control (slower).")
    ] = False,
) -> None:
    """Run every rule and the optimum on the same day, side by side."""
    from evcm.v2x.rules import baselines

    case = _case(chargers, place, seed, steps, minutes, day, station, sessions, prices)
    names = [*baselines(), *(["model_predictive"] if predictive else []), "optimum"]
    columns = ("reward_usd", "energy_cost_usd", "unserved_kwh", "overload_kwh", "peak_kw")
    typer.echo(f"{'rule':22s}" + "".join(f"{c:>17s}" for c in columns))
    for name in names:
        row = _run(case, name).summary()
        typer.echo(f"{name:22s}" + "".join(f"{row[c]:17.3f}" for c in columns))


def _run(case: Case, rule: str) -> Run:
    from evcm.errors import Checks
    from evcm.v2x.rules import baselines
    from evcm.v2x.station import run

    rules = baselines()
    known = [*rules, "model_predictive", "optimum"]
    checks = Checks("evcm v2x")
    checks.require(rule in known, "--rule", rule, ", ".join(known))
    checks.done()
    if rule == "optimum":
        from evcm.v2x.solve import optimum

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
