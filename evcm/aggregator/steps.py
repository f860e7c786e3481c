"""Which price steps an aggregator's own power can reach, period by period.

The system load of a period is known but for the aggregator's own power. So each price step is an
interval of that power, and only those that meet the range of power its chargers and caps allow
matter. A choice of steps turns the bilinear cost price x power into a linear one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import InfeasibleError

EDGE_TOLERANCE_MW = 1e-7


@dataclass(frozen=True, eq=False)
class PowerRange:
    """Range of the aggregator's own power in MW, from plugs and caps alone.

    Attributes
    ----------
    day_ahead_low, day_ahead_high : (T,)
        Range of P^EM.
    real_time_low, real_time_high : (T, N)
        Range of the power of the cars, P^EM + P- - P+.
    """

    day_ahead_low: FloatArray
    day_ahead_high: FloatArray
    real_time_low: FloatArray
    real_time_high: FloatArray


def power_range(problem: AggregatorProblem) -> PowerRange:
    """Range of power in each period and sample.

    Under the limit (10) trade moves power by no more than the cars feed back: with charging power
    G and feeding power F the cars take D = G - F and P^EM lies in G - 2F..G.
    """
    plugged = problem.plugged_mw
    k = problem.figures
    fed = problem.sum_plugged(
        problem.group_size * k.power_kw / 1000.0 * k.discharge_efficiency * k.feeds_in
    )
    low = np.maximum(-fed, problem.floor_mw[:, None])
    high = np.minimum(plugged, problem.cap_mw[:, None])
    if problem.real_time_limit == "v2g":
        day_low, day_high = low - fed, plugged
    else:
        day_low, day_high = low - plugged, high + plugged
    return PowerRange(
        day_ahead_low=day_low.max(axis=1),
        day_ahead_high=np.minimum(day_high.min(axis=1), problem.cap_mw),
        real_time_low=low,
        real_time_high=high,
    )


@dataclass(frozen=True, eq=False)
class StepChoices:
    """Price steps that a model may choose among.

    Attributes
    ----------
    day_ahead : (T, B) bool
        Steps b of the price curve open to P^EM in period t.
    real_time : (T, N, B) bool
        Steps open to the power of the cars in sample n.
    low_mw, high_mw : (T, B)
        Own power that lies in step b, before it is cut to the power range.
    range : PowerRange
    lift_usd : (T, B)
        How far forcing a day-ahead step lifts a known bound.
    slack_usd : float
        A lift above this makes no better plan than one that is known.
    """

    day_ahead: BoolArray
    real_time: BoolArray
    low_mw: FloatArray
    high_mw: FloatArray
    range: PowerRange
    lift_usd: FloatArray
    slack_usd: float = np.inf

    @property
    def count(self) -> int:
        """Day-ahead steps open in all periods."""
        return int(self.day_ahead.sum())


def reachable_steps(problem: AggregatorProblem) -> StepChoices:
    """All steps that the power range meets.

    Raises
    ------
    InfeasibleError
        A cap lies below what the cars can feed back at most.
    """
    reach = power_range(problem)
    _require_room(problem, reach)
    edge = problem.step_edge_mw
    load = problem.system_load_mw[:, None]
    low = np.concatenate([np.full((len(load), 1), -np.inf), edge[None] - load], axis=1)
    high = np.concatenate([edge[None] - load, np.full((len(load), 1), np.inf)], axis=1)
    tol = EDGE_TOLERANCE_MW
    day_ahead = (low <= reach.day_ahead_high[:, None] + tol) & (
        high >= reach.day_ahead_low[:, None] - tol
    )
    real_time = (low[:, None] <= reach.real_time_high[:, :, None] + tol) & (
        high[:, None] >= reach.real_time_low[:, :, None] - tol
    )
    return StepChoices(day_ahead, real_time, low, high, reach, np.zeros_like(low))


def _require_room(problem: AggregatorProblem, reach: PowerRange) -> None:
    room = np.minimum(
        reach.day_ahead_high - reach.day_ahead_low,
        (reach.real_time_high - reach.real_time_low).min(axis=1),
    )
    short = np.flatnonzero(room < -1e-9)
    if short.size:
        named = ", ".join(f"{t + 1} ({-1000 * room[t]:.1f} kW)" for t in short)
        raise InfeasibleError(
            f"{problem.label}: the cap lies below the most that plugged-in cars can feed in, "
            f"in periods {named}",
            bus=problem.bus,
            periods=[int(t) + 1 for t in short],
            shortfall_mw=(-room[short]).tolist(),
        )


def read_steps(
    problem: AggregatorProblem,
    choices: StepChoices,
    day_ahead_mw: FloatArray,
    cars_mw: FloatArray,
    prefer: IntArray | None = None,
) -> StepChoices:
    """Choices narrowed to the one step in which a solution lies, in each period and sample.

    At an edge the buyer's neighbour is the lower step and the seller's the higher; `prefer` (T,)
    overrides it day-ahead where that step holds the power too.
    """
    day = np.zeros_like(choices.day_ahead)
    real = np.zeros_like(choices.real_time)
    T, N = cars_mw.shape
    for t in range(T):
        b = _step_of(choices, t, day_ahead_mw[t], day_ahead_mw[t] >= 0)
        if prefer is not None:
            low, high = choices.low_mw[t, prefer[t]], choices.high_mw[t, prefer[t]]
            if low - 1e-6 <= day_ahead_mw[t] <= high + 1e-6:
                b = int(prefer[t])
        day[t, b] = True
        for n in range(N):
            buys = cars_mw[t, n] >= day_ahead_mw[t] - 1e-9
            real[t, n, _step_of(choices, t, cars_mw[t, n], buys)] = True
    return replace(choices, day_ahead=day, real_time=real, slack_usd=np.inf)


def _step_of(choices: StepChoices, t: int, power_mw: float, buys: bool) -> int:
    high = choices.high_mw[t]
    shifted = power_mw - 1e-6 if buys else power_mw + 1e-6
    return min(int(np.searchsorted(high, shifted, side="left")), len(high) - 1)


def drop_steps(
    problem: AggregatorProblem,
    choices: StepChoices,
    value_usd_per_mw: FloatArray,
    bound_usd: float,
    objective_usd: float,
) -> StepChoices:
    """Day-ahead steps that a plan better than `objective_usd` may still use.

    With the multiplier μ_t of Σ_b p_{t,b} = P^EM_t the relaxation splits into one choice per
    period. Forcing step b in period t raises its bound by the difference of two one-period
    minima; a step that lifts the bound above a known plan's cost can be left out.
    """
    low, high = clipped(choices, choices.range.day_ahead_low, choices.range.day_ahead_high)
    slope = 1000.0 * problem.period_h * problem.step_price_usd_per_kwh - value_usd_per_mw[:, None]
    least = np.where(choices.day_ahead, np.minimum(slope * low, slope * high), np.inf)
    lift = least - least.min(axis=1, keepdims=True)
    slack = objective_usd - bound_usd + 1e-9
    keep = choices.day_ahead & (lift <= slack)
    lift = np.where(choices.day_ahead, lift, np.inf)
    return replace(choices, day_ahead=keep, lift_usd=lift, slack_usd=slack)


def drop_by_reduced_cost(
    choices: StepChoices,
    period: IntArray,
    step: IntArray,
    reduced_cost_usd: FloatArray,
    slack_usd: float,
) -> StepChoices:
    """Day-ahead steps whose reduced cost in a relaxation is within the slack to a known plan.

    The argument for any objective, where `drop_steps` needs real-time costs that are not negative.
    """
    keep = np.zeros_like(choices.day_ahead)
    keep[period, step] = reduced_cost_usd <= slack_usd + 1e-9
    return replace(choices, day_ahead=choices.day_ahead & keep)


def clipped(
    choices: StepChoices, low_mw: FloatArray, high_mw: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Steps as intervals cut to a range (T,), each (T, B); empty ones shrink to a point."""
    low = np.clip(choices.low_mw, low_mw[:, None], high_mw[:, None])
    high = np.clip(choices.high_mw, low_mw[:, None], high_mw[:, None])
    return low, high


def real_time_interval(
    choices: StepChoices, period: IntArray, sample: IntArray, step: IntArray
) -> tuple[FloatArray, FloatArray]:
    """Power of the cars that lies in a step, for flat (period, sample, step), cut to its range."""
    least = choices.range.real_time_low[period, sample]
    most = choices.range.real_time_high[period, sample]
    return (
        np.clip(choices.low_mw[period, step], least, most),
        np.clip(choices.high_mw[period, step], least, most),
    )


def real_time_pairs(
    problem: AggregatorProblem,
    choices: StepChoices,
    period: IntArray,
    step: IntArray,
    exact_periods: BoolArray,
) -> tuple[IntArray, IntArray, IntArray]:
    """Real-time steps b beside each open day-ahead pair (period, step a), as flat indices.

    Power in step b instead of a means a trade of at least the distance between the two, and so a
    least extra cost. Pairs whose extra cost lifts the bound above a known plan are left out.

    Returns
    -------
    pair, sample, b : int arrays
        Index of the day-ahead pair, sample, and real-time step.
    """
    pair, sample, b = np.nonzero(choices.real_time[period] & exact_periods[period, None, None])
    if not np.isfinite(choices.slack_usd):
        return pair, sample, b
    t, a = period[pair], step[pair]
    low, high = choices.low_mw, choices.high_mw
    distance = np.maximum(np.maximum(low[t, b] - high[t, a], low[t, a] - high[t, b]), 0.0)
    price = problem.step_price_usd_per_kwh
    extra = np.abs(price[t, b] - price[t, a]) * distance * problem.probability[sample]
    lift = choices.lift_usd[t, a] + 1000.0 * problem.period_h * extra
    keep = lift <= choices.slack_usd
    return pair[keep], sample[keep], b[keep]
