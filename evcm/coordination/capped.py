"""Coordination of aggregators by the operator's caps (2.4.1, equations 54-57).

The operator finds what the network leaves for each aggregator (`evcm.network.caps`); each
aggregator is solved again with its cap in place of the system's. Where no plan can live with a cap,
the aggregator asks for the least that would do, and the operator's AC OPF decides whether the
network can give it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from evcm.aggregator import methods
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.errors import InfeasibleError
from evcm.paper import implements

USED_MW = 1e-6
"""Margin on a cap above what its aggregator uses, so that rounding does not make it infeasible."""

CERTAIN_MW = 0.5 * USED_MW
"""What a plan may miss a cap by and still pass its certificate there."""


@dataclass(frozen=True, eq=False)
class CappedPlan:
    """A plan under a cap. `raised_percent` is 0 where the operator's cap sufficed.

    `cap_mw` (T,) is the cap in force, the operator's or the raised one.
    """

    plan: AggregatorPlan
    cap_mw: FloatArray = field(repr=False)
    raised_percent: float


def peak_use_mw(plan: AggregatorPlan) -> FloatArray:
    """Most that a plan draws in each period (T,), day-ahead or in any real-time sample."""
    real_time = plan.day_ahead_mw[:, None] + plan.real_time_mw
    return np.asarray(np.maximum(plan.day_ahead_mw, real_time.max(axis=1)))


def fits(plan: AggregatorPlan, cap_mw: FloatArray, margin_mw: float = USED_MW) -> bool:
    """Whether a plan keeps within a cap (T,) and a margin, by default all that rounding may do."""
    return bool((peak_use_mw(plan) <= np.asarray(cap_mw) + margin_mw).all())


@implements("56", "57")
def under_cap(
    problem: AggregatorProblem, cap_mw: FloatArray, export_mw: FloatArray | None = None
) -> AggregatorProblem:
    """The same aggregator with the operator's cap (56)-(57) in place of the system's (29)-(30).

    `cap_mw` (T,) limits its power; `export_mw` (T,) what it may feed in, such as
    `evcm.network.caps.solve_exports` gives. The paper has none; with both, the network serves any
    plan.
    """
    most = None if export_mw is None else np.array(export_mw, dtype=float)
    cap = np.array(cap_mw, dtype=float)
    return problem.with_options(system_cap_mw=None, trading_cap_mw=cap, export_cap_mw=most)


def solve_under_cap(
    problem: AggregatorProblem, cap_mw: FloatArray, gap: float = 1e-3, slack: float = 1e-6,
    export_mw: FloatArray | None = None, start: AggregatorPlan | None = None,
) -> CappedPlan:  # fmt: skip
    """Solve an aggregator under a cap; where that is infeasible, under the least uniform increase.

    `gap` is to be proven, as a share of turnover; `slack` is a relative margin on a raised cap, so
    that rounding does not make it infeasible again. `export_mw` (T,) is never raised. `start`, a
    plan made without the cap or the export limit, is kept where it fits and nothing is better.

    Raises
    ------
    InfeasibleError
        No uniform increase helps: the reason lies elsewhere than in the cap.
    """
    capped = under_cap(problem, cap_mw, export_mw)
    if start is not None and not (export_mw is None and fits(start, cap_mw, CERTAIN_MW)):
        start = None
    try:
        plan = methods.solve(capped, gap=gap, start=start)
        return CappedPlan(plan, np.asarray(cap_mw), 0.0)
    except InfeasibleError as error:
        share = error.details.get("uniform_increase")
        if share is None or not np.isfinite(share):
            raise
        percent = 100.0 * share
        raised = np.asarray(cap_mw) * (1.0 + share) * (1.0 + slack)
        plan = methods.solve(under_cap(problem, raised, export_mw), gap=gap)
        return CappedPlan(plan, raised, float(percent))
