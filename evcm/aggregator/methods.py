"""The door to one aggregator's plan (2.3): `solve` chooses a method and certifies its plan.

``interior`` is exact and fast, a structured interior-point method inside branch and bound, for
groups of cars and for single cars. ``model`` is the readable CVXPY model, equation by equation; it
knows every option of the problem.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Literal

import numpy as np

from evcm.aggregator.certificate import TOLERANCE, certify_plan
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.errors import Checks, SolverError
from evcm.inputs.prices import PriceSeries
from evcm.store import fingerprint

Method = Literal["auto", "interior", "model"]
METHODS: tuple[Method, ...] = ("auto", "interior", "model")

SOLVERS = {
    "interior": "evcm.aggregator.interior.solve:solve_interior",
    "model": "evcm.aggregator.model_solver:solve_model",
}
"""Where each method is. It is loaded when it is asked for, so that an edit of one method leaves
stored plans of the others valid (see `code`)."""

AUTO: tuple[Method, ...] = ("interior",)
"""Methods that ``auto`` chooses from."""

NEXT_S = 1200.0
"""Most seconds of the model where it takes over from a method that gave up without a limit."""

FAMILIES = 4
"""Most pairs of efficiencies among feeding cars: each makes the fast method's matrices larger."""


def choose_method(problem: AggregatorProblem, method: Method = "auto") -> tuple[Method, str]:
    """The method that `solve` takes, and why in a sentence where it is not the one asked for."""
    checks = Checks("aggregator")
    checks.require(method in METHODS, "method", method, ", ".join(METHODS))
    checks.done()
    if method == "model":
        return method, ""
    k, price = problem.figures, problem.price
    pairs = np.stack([k.charge_efficiency, k.discharge_efficiency])[:, k.feeds_in]
    lacking = {
        f"more than {FAMILIES} pairs of efficiencies among feeding cars": (
            np.unique(pairs, axis=1).shape[1] > FAMILIES
        ),
        "real-time prices of their own": isinstance(price, PriceSeries) and not price.one_price,
    }
    missing = ", ".join(name for name, asked in lacking.items() if asked)
    return ("model", f"interior does not know: {missing}") if missing else ("interior", "")


def code(*methods: Method) -> str:
    """Fingerprint of methods and of the certificate: what a plan depends on but its problem."""
    modules = [SOLVERS[method].partition(":")[0] for method in methods]
    return fingerprint.of_modules(*modules, "evcm.aggregator.certificate")


def solve(
    problem: AggregatorProblem,
    method: Method = "auto",
    gap: float = 1e-3,
    time_limit_s: float | None = None,
    progress: Callable[[float, float, float], None] | None = None,
    threads: int = 1,
    start: AggregatorPlan | None = None,
) -> AggregatorPlan:
    """Solve an aggregator problem to a proven gap; every plan returned is certified.

    Parameters
    ----------
    problem : AggregatorProblem
    method : {"auto", "interior", "model"}
        An option that a fast method does not know sends the problem to the model; the plan's
        status says so.
    gap : float
        Proven distance to the optimum to stop at, as a share of turnover.
    time_limit_s : float, optional
        Then the best plan is returned with its gap, and its status says so. Where the model takes
        over from a fast method that gave up, it has `NEXT_S` if no limit is given.
    progress : callable, optional
        Told the best objective, the best bound (USD) and the seconds at every improvement.
    threads : int
        The plan has the same bits for any number of them.
    start : AggregatorPlan, optional
        A plan of this very problem, priced in it: where nothing better is found it is returned,
        with the bound that is proven here. The model does not use it.

    Raises
    ------
    InfeasibleError
        No plan exists: names the car and its visit, or the periods and the least caps.
    SolverError
        No plan was found in time, or a plan failed its certificate; `start` is none of the
        problem's.
    """
    checks, limit = Checks("aggregator"), time_limit_s
    checks.require(gap > 0, "gap", gap, "> 0")
    checks.require(limit is None or limit > 0, "time_limit_s", limit, "> 0 seconds")
    checks.require(threads >= 1, "threads", threads, ">= 1")
    checks.done()
    if start is not None:
        certify_plan(problem, start)
    chosen, reason = choose_method(problem, method)
    module, _, name = SOLVERS[chosen].partition(":")
    run = getattr(importlib.import_module(module), name)
    asked = {"gap": gap, "time_limit_s": limit, "progress": progress}
    more = {} if chosen == "model" else {"threads": threads, "start": start}
    try:
        plan: AggregatorPlan = run(problem, **asked, **more)
        certify_plan(problem, plan)
    except SolverError as error:
        if chosen == "model":
            raise
        reason, known = f"{chosen}: {error}", error.details.get("plan")
        plan = solve(problem, "model", gap, limit or NEXT_S, progress, threads, start)
        if known is not None:
            bound, seconds = max(plan.bound_usd, known.bound_usd), plan.seconds + known.seconds
            best = min(plan, known, key=lambda p: p.objective_usd)
            # Bounds and plans of both hold, but for limits missed by what a certificate allows.
            missed_kwh = TOLERANCE * problem.period_h * problem.periods
            saved = missed_kwh * float(np.abs(problem.step_price_usd_per_kwh).max())
            if 0 < plan.bound_usd - best.objective_usd <= saved:
                best = plan
            plan = best.finished(bound, seconds, plan.status)
            certify_plan(problem, plan)
            reason += f"; together {100 * plan.gap:.3g} %"
    if reason:
        plan = plan.finished(plan.bound_usd, plan.seconds, f"{plan.status} ({reason})")
    return plan
