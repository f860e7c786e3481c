"""``evcm aggregator``: solve one aggregator's day, and check a plan."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from evcm.aggregator.plan import AggregatorPlan
    from evcm.aggregator.problem import AggregatorProblem


class MethodName(StrEnum):
    """Methods by their names on the command line."""

    auto = "auto"
    interior = "interior"
    model = "model"


class RealTimeLimitName(StrEnum):
    """Limits on real-time trade."""

    v2g = "v2g"
    plug = "plug"


commands = typer.Typer(
    name="aggregator",
    no_args_is_help=True,
    help="Solve one aggregator's day to a proven gap, or check a plan.",
)


Instance = Annotated[Path, typer.Argument(help="The problem, an .npz instance.")]
_LIMIT_HELP = (
    "What limits real-time trade: the energy fed back, equation (10), or the plugs in use."
)


@commands.command("solve")
def solve_command(
    instance: Instance,
    out: Annotated[Path, typer.Option("--out", help="Where the plan goes (.npz).")],
    gap: Annotated[
        float, typer.Option(min=1e-9, max=1.0, help="Proven gap to stop at, share of turnover.")
    ] = 1e-3,
    time_limit: Annotated[
        float | None,
        typer.Option(
            "--time-limit", min=1e-3, metavar="S", help="Stop after S seconds with the best plan."
        ),
    ] = None,
    method: Annotated[MethodName, typer.Option(help="How to solve it.")] = MethodName.auto,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads; no bit of the plan depends on it.")
    ] = 1,
    real_time_limit: Annotated[
        RealTimeLimitName, typer.Option(help=_LIMIT_HELP)
    ] = RealTimeLimitName.v2g,
    no_v2g: Annotated[bool, typer.Option("--no-v2g", help="No car discharges.")] = False,
    midnight_soc: Annotated[
        bool, typer.Option("--midnight-soc", help="Keep the given charge at midnight, (20).")
    ] = False,
    cvar_weight: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Weight of CVaR in the objective.")
    ] = 0.0,
    cvar_alpha: Annotated[float, typer.Option(min=0.0, max=0.999, help="Level α of CVaR.")] = 0.9,
) -> None:
    """Solve INSTANCE and write its certified plan.

    The plan holds the schedules of every car, the cost at the true prices and a proven lower
    bound. A time limit leaves the best plan found, with its gap. Where no plan exists, the message
    names the bus, the periods and the least cap that would do; nothing is then written.
    """
    from evcm.aggregator.methods import solve
    from evcm.aggregator.plan import save_plan
    from evcm.aggregator.problem import load_problem
    from evcm.store import files

    files.check_target(out)
    problem = load_problem(
        instance,
        midnight_soc=midnight_soc,
        real_time_limit=real_time_limit.value,
        allow_v2g=not no_v2g,
        risk_weight=cvar_weight,
        risk_alpha=cvar_alpha,
    )
    plan = solve(problem, method.value, gap=gap, time_limit_s=time_limit, threads=threads)
    save_plan(out, plan, problem)
    _print_plan(problem, plan)
    typer.echo(f"plan       {out}")


@commands.command("check")
def check_command(
    instance: Instance,
    plan_file: Annotated[Path, typer.Argument(metavar="PLAN", help="The plan, .npz.")],
    gap: Annotated[
        float, typer.Option(min=1e-9, max=1.0, help="Largest gap to accept, share of turnover.")
    ] = 1e-3,
) -> None:
    """Re-check PLAN against INSTANCE: every constraint, the true cost and the gap.

    The plan tells the options it was made with, and is refused if it was made for another problem.
    Schedules and cost are worked out again with numpy alone; the bound is the word of the method
    that the plan names. Exit code 0 when all hold, 1 when something does not.
    """
    from evcm.aggregator.certificate import check_plan
    from evcm.aggregator.plan import load_plan, plan_options
    from evcm.aggregator.problem import load_problem

    problem = load_problem(instance, **plan_options(plan_file))
    plan = load_plan(plan_file, problem)
    certificate = check_plan(problem, plan)
    for name, size in certificate.residuals.items():
        typer.echo(f"{name:24s} {size:10.3g} kW or kWh")
    _print_plan(problem, plan)
    faults = list(certificate.faults)
    if not certificate.gap <= gap:
        faults.append(f"the gap {100 * certificate.gap:.4f} % exceeds {100 * gap:g} %")
    typer.echo(f"proof      the bound is the word of the method {plan.method}; not proven here")
    for fault in faults:
        typer.echo(f"FAULT      {fault}")
    typer.echo("certified" if not faults else "not certified")
    raise typer.Exit(1 if faults else 0)


def _print_plan(problem: AggregatorProblem, plan: AggregatorPlan) -> None:
    cost = plan.cost
    typer.echo(
        f"problem    {problem.label}: {problem.cars} cars in {problem.vehicles} groups, "
        f"{problem.samples} samples"
    )
    typer.echo(
        f"cost       {plan.cost_usd:.6f} USD (day-ahead {cost.day_ahead_usd:.6f}, real time "
        f"{cost.real_time_usd:.6f}, battery {cost.battery_usd:.6f})"
    )
    if problem.risk_weight > 0:
        typer.echo(f"objective  {plan.objective_usd:.6f} USD with CVaR")
    typer.echo(f"bound      {plan.bound_usd:.6f} USD, gap {100 * plan.gap:.4f} % of turnover")
    typer.echo(f"method     {plan.method}, {plan.seconds:.2f} s")
    typer.echo(f"status     {plan.status}")
