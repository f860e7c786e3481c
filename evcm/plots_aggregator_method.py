"""Figures of the fast exact aggregator method: one period's cost, its envelope, the bounds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from evcm.aggregator._market import Steps, lower_envelope
from evcm.aggregator._search import Trace
from evcm.aggregator.problem import AggregatorProblem
from evcm.plots import REGIME_COLOURS, SERIES, describe


def period_cost(problem: AggregatorProblem, steps: Steps, t: int) -> go.Figure:
    """Cost of day-ahead power in period `t` (0-based), and its convex envelope."""
    points = lower_envelope(steps, t)
    figure = go.Figure()
    for a in np.flatnonzero(steps.day_ahead[t]):
        power = np.array([steps.day_ahead_low[t, a], steps.day_ahead_high[t, a]])
        figure.add_scatter(
            x=power, y=steps.price_usd_per_mw[a] * power, mode="lines+markers",
            name=f"step {a + 1}", line={"color": SERIES[a % len(SERIES)], "width": 3},
        )  # fmt: skip
    figure.add_scatter(
        x=points[:, 0], y=points[:, 1], mode="lines", name="convex envelope",
        line={"color": REGIME_COLOURS["limit"], "dash": "dash"},
    )  # fmt: skip
    figure.update_layout(
        title=f"Cost of day-ahead power in period {t + 1}",
        xaxis_title="day-ahead power, MW", yaxis_title="cost of the period, $",
    )  # fmt: skip
    return describe(
        figure,
        "Cost of a period against day-ahead power: one line per price step that jumps up at each "
        "edge, and the convex envelope below them",
    )


def bounds(trace: Sequence[Trace]) -> go.Figure:
    """Best plan and proven bound against time, one mark for each event of the search."""
    seconds = [event.seconds for event in trace]
    figure = go.Figure()
    figure.add_scatter(
        x=seconds, y=[event.best_usd for event in trace], mode="lines+markers", name="best plan",
        line={"shape": "hv", "color": REGIME_COLOURS["coordinated"]},
        text=[event.action for event in trace],
    )  # fmt: skip
    figure.add_scatter(
        x=seconds, y=[event.lower_usd for event in trace], mode="lines+markers",
        name="proven bound", line={"shape": "hv", "color": REGIME_COLOURS["limit"]},
        text=[f"node {event.node}: {event.action}" for event in trace],
    )  # fmt: skip
    figure.update_layout(
        title="The search closes the gap", xaxis_title="seconds", yaxis_title="cost of the day, $"
    )
    return describe(figure, "Best plan falling and proven bound rising over the search's seconds")
