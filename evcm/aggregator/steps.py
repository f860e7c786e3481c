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


def power_range(
    problem: AggregatorProblem,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Range of the aggregator's own power in MW, from plugs and caps alone.

    Under the limit (10) trade moves power by no more than the cars feed back: with charging power
    G and feeding power F the cars take D = G - F and P^EM lies in G - 2F..G.

    Returns
    -------
    day_ahead_low, day_ahead_high : (T,)
        Range of P^EM.
    real_time_low, real_time_high : (T, N)
        Range of the power of the cars, P^EM + P- - P+.

    Raises
    ------
    InfeasibleError
        A cap lies below what the cars can feed back at most.
    """
    k, plugged = problem.figures, problem.plugged_mw
    feeding = problem.group_size * k.power_kw / 1000.0 * k.discharge_efficiency * k.feeds_in
    fed = problem.sum_plugged(feeding)
    low = np.maximum(-fed, problem.floor_mw[:, None])
    high = np.minimum(plugged, problem.cap_mw[:, None])
    v2g = problem.real_time_limit == "v2g"
    least, most = (low - fed, plugged) if v2g else (low - plugged, high + plugged)
    day_low, day_high = least.max(axis=1), np.minimum(most.min(axis=1), problem.cap_mw)
    room = np.minimum(day_high - day_low, (high - low).min(axis=1))
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
    return day_low, day_high, low, high


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
        Own power that lies in step b, before it is cut to a range.
    day_ahead_low_mw, day_ahead_high_mw : (T, B)
        P^EM that lies in step b, cut to its range; an empty interval shrinks to a point.
    real_time_low_mw, real_time_high_mw : (T, N, B)
        The same of the power of the cars.
    lift_usd : (T, B)
        How far forcing a day-ahead step lifts a known bound.
    slack_usd : float
        A lift above this makes no better plan than one that is known.
    """

    day_ahead: BoolArray
    real_time: BoolArray
    low_mw: FloatArray
    high_mw: FloatArray
    day_ahead_low_mw: FloatArray
    day_ahead_high_mw: FloatArray
    real_time_low_mw: FloatArray
    real_time_high_mw: FloatArray
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
    ranges = power_range(problem)
    day_low, day_high, real_low, real_high = (limit[..., None] for limit in ranges)
    edge = np.concatenate([[-np.inf], problem.step_edge_mw, [np.inf]])
    own = edge - problem.system_load_mw[:, None]
    low, high, tol = own[:, :-1], own[:, 1:], EDGE_TOLERANCE_MW
    return StepChoices(
        day_ahead=(low <= day_high + tol) & (high >= day_low - tol),
        real_time=(low[:, None] <= real_high + tol) & (high[:, None] >= real_low - tol),
        low_mw=low,
        high_mw=high,
        day_ahead_low_mw=np.clip(low, day_low, day_high),
        day_ahead_high_mw=np.clip(high, day_low, day_high),
        real_time_low_mw=np.clip(low[:, None], real_low, real_high),
        real_time_high_mw=np.clip(high[:, None], real_low, real_high),
        lift_usd=np.zeros_like(low),
    )


def read_steps(choices: StepChoices, day_ahead_mw: FloatArray, cars_mw: FloatArray) -> StepChoices:
    """Choices narrowed to the one step in which a solution lies, in each period and sample.

    At an edge the buyer's neighbour is the lower step and the seller's the higher.
    """
    steps = choices.high_mw.shape[1]

    def of(power_mw: FloatArray, buys: BoolArray) -> BoolArray:
        shifted = np.where(buys, power_mw - 1e-6, power_mw + 1e-6)[..., None]
        step = (choices.high_mw[:, None, :-1] < shifted).sum(axis=2)
        return np.asarray(step[..., None] == np.arange(steps))

    day = day_ahead_mw[:, None]
    real_time = of(cars_mw, cars_mw >= day - 1e-9)
    return replace(
        choices, day_ahead=of(day, day >= 0)[:, 0], real_time=real_time, slack_usd=np.inf
    )


def lifts_usd(
    problem: AggregatorProblem, choices: StepChoices, value_usd_per_mw: FloatArray
) -> FloatArray:
    """How far forcing each day-ahead step (T, B) lifts the bound of a relaxation.

    With the multiplier μ_t of Σ_b p_{t,b} = P^EM_t the relaxation without real-time prices splits
    into one choice per period. Forcing step b raises its bound by the difference of two one-period
    minima.
    """
    slope = 1000.0 * problem.period_h * problem.step_price_usd_per_kwh - value_usd_per_mw[:, None]
    least = np.minimum(slope * choices.day_ahead_low_mw, slope * choices.day_ahead_high_mw)
    least = np.where(choices.day_ahead, least, np.inf)
    return np.asarray(least - least.min(axis=1, keepdims=True))


def drop_steps(choices: StepChoices, lift_usd: FloatArray, slack_usd: float) -> StepChoices:
    """Day-ahead steps that a plan may still use which lies `slack_usd` above a known bound."""
    keep = choices.day_ahead & (lift_usd <= slack_usd + 1e-9)
    return replace(choices, day_ahead=keep, lift_usd=lift_usd, slack_usd=slack_usd + 1e-9)


def real_time_pairs(
    problem: AggregatorProblem,
    choices: StepChoices,
    period: IntArray,
    step: IntArray,
    exact_periods: BoolArray,
) -> tuple[IntArray, IntArray, IntArray]:
    """Real-time steps b beside each open day-ahead pair (period, step a), as flat indices.

    Power in step b instead of a means a trade of at least the distance between the two, and so a
    least extra cost. Pairs whose extra cost lifts the bound above a known plan are left out. (With
    a risk weight the known bound holds real-time costs already, and nothing is left out.)

    Returns
    -------
    pair, sample, b : int arrays
        Index of the day-ahead pair, sample, and real-time step.
    """
    pair, sample, b = np.nonzero(choices.real_time[period] & exact_periods[period, None, None])
    if problem.risk_weight > 0:
        return pair, sample, b
    t, a = period[pair], step[pair]
    low, high = choices.low_mw, choices.high_mw
    distance = np.maximum(np.maximum(low[t, b] - high[t, a], low[t, a] - high[t, b]), 0.0)
    price = problem.step_price_usd_per_kwh
    extra = np.abs(price[t, b] - price[t, a]) * distance * problem.probability[sample]
    lift = choices.lift_usd[t, a] + 1000.0 * problem.period_h * extra
    keep = lift <= choices.slack_usd
    return pair[keep], sample[keep], b[keep]
