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

EDGE_TOLERANCE_MW = 1e-7


def power_range(
    problem: AggregatorProblem,
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Range of the aggregator's own power in MW, from plugs and caps alone.

    Under the limit (10) trade moves power by no more than the cars feed back: with charging power
    G and feeding power F the cars take D = G - F and P^EM lies in G - 2F..G.

    By (11) P^EM is also the mean of the cars' power.

    Returns the least and the most of P^EM, (T,) each, and of the power of the cars,
    P^EM + P- - P+, (T, N) each. The least exceeds the most where caps leave no room.
    """
    k, plugged = problem.figures, problem.plugged_mw
    feeding = problem.group_size * k.power_kw / 1000.0 * k.discharge_efficiency * k.feeds_in
    fed = problem.sum_plugged(feeding)
    low = np.maximum(-fed, problem.floor_mw[:, None])
    high = np.minimum(plugged, problem.cap_mw[:, None])
    v2g = problem.real_time_limit == "v2g"
    least, most = (low - fed, plugged) if v2g else (low - plugged, high + plugged)
    day_low = np.maximum(least.max(axis=1), low @ problem.probability)
    day_high = np.minimum(most.min(axis=1), high @ problem.probability)
    return day_low, day_high, low, high


@dataclass(frozen=True, eq=False)
class StepChoices:
    """Price steps that a model may choose among.

    Attributes
    ----------
    day_ahead, real_time : (T, B) bool, (T, N, B) bool
        Steps open to P^EM, and to the power of the cars in each sample.
    edge_mw : (T, B + 1)
        Own power between which the steps of each period lie.
    day_ahead_low_mw, day_ahead_high_mw : (T, B)
        P^EM in each step, cut to its range; an empty interval shrinks to a point.
    real_time_low_mw, real_time_high_mw : (T, N, B)
        The same of the power of the cars.
    room_usd : (T, B)
        Most that real-time trade may cost beside each day-ahead step in a plan of use.
    exact : (T,) bool
        Periods with real-time prices; elsewhere real-time cost is bounded by 0 from below.
    """

    day_ahead: BoolArray
    real_time: BoolArray
    edge_mw: FloatArray
    day_ahead_low_mw: FloatArray
    day_ahead_high_mw: FloatArray
    real_time_low_mw: FloatArray
    real_time_high_mw: FloatArray
    room_usd: FloatArray
    exact: BoolArray

    @property
    def count(self) -> int:
        """Day-ahead steps open in all periods."""
        return int(self.day_ahead.sum())

    @property
    def open(self) -> bool:
        """Whether every period and sample has a step."""
        return bool(self.day_ahead.any(axis=1).all() and self.real_time.any(axis=2).all())


def reachable_steps(problem: AggregatorProblem) -> StepChoices:
    """All steps that the range of power meets; none where there is no room."""
    ranges = power_range(problem)
    day_low, day_high, real_low, real_high = (limit[..., None] for limit in ranges)
    none = day_low > day_high + 1e-9, real_low > real_high + 1e-9
    own = np.concatenate([[-np.inf], problem.step_edge_mw, [np.inf]])
    edge, tol = own - problem.system_load_mw[:, None], EDGE_TOLERANCE_MW
    low, high = edge[:, :-1], edge[:, 1:]
    each_low, each_high = low[:, None], high[:, None]
    return StepChoices(
        day_ahead=(low <= day_high + tol) & (high >= day_low - tol) & ~none[0],
        real_time=(each_low <= real_high + tol) & (each_high >= real_low - tol) & ~none[1],
        edge_mw=edge,
        day_ahead_low_mw=np.clip(low, day_low, day_high),
        day_ahead_high_mw=np.clip(high, day_low, day_high),
        real_time_low_mw=np.clip(each_low, real_low, real_high),
        real_time_high_mw=np.clip(each_high, real_low, real_high),
        room_usd=np.full(low.shape, np.inf),
        exact=np.ones(problem.periods, bool),
    )


def read_steps(choices: StepChoices, day_ahead_mw: FloatArray, cars_mw: FloatArray) -> StepChoices:
    """Choices narrowed to the one step in which a solution lies, in each period and sample.

    All are exact. At an edge the buyer's neighbour is the lower step and the seller's the higher.
    """

    def of(power_mw: FloatArray, buys: BoolArray) -> BoolArray:
        shifted = np.where(buys, power_mw - 1e-6, power_mw + 1e-6)[..., None]
        step = (choices.edge_mw[:, None, 1:-1] < shifted).sum(axis=2)
        return np.asarray(step[..., None] == np.arange(choices.day_ahead.shape[1]))

    day = day_ahead_mw[:, None]
    return replace(
        choices,
        day_ahead=of(day, day >= 0)[:, 0],
        real_time=of(cars_mw, cars_mw >= day - 1e-9),
        room_usd=np.full(choices.room_usd.shape, np.inf),
        exact=np.ones(day_ahead_mw.size, bool),
    )


def drop_steps(choices: StepChoices, lift_usd: FloatArray, slack_usd: float) -> StepChoices:
    """Day-ahead steps that a plan may still use which lies `slack_usd` above a known bound.

    `lift_usd` (T, B) is by how much the bound rises where a step is forced.
    """
    room = slack_usd + 1e-9 - lift_usd
    return replace(choices, day_ahead=choices.day_ahead & (room >= 0), room_usd=room)


def real_time_pairs(
    problem: AggregatorProblem, choices: StepChoices, period: IntArray, step: IntArray
) -> tuple[IntArray, IntArray, IntArray]:
    """Real-time steps b beside each day-ahead pair (period, step a) of exact periods.

    Power in step b instead of a means a trade of at least the distance between the two, and so a
    least extra cost. Pairs without room for it are left out. (With a risk weight the known bound
    holds real-time costs already, and nothing is left out.)

    Returns
    -------
    pair, sample, b : int arrays
        Index of the day-ahead pair, sample, and real-time step.
    """
    pair, sample, b = np.nonzero(choices.real_time[period] & choices.exact[period, None, None])
    if problem.risk_weight > 0:
        return pair, sample, b
    t, a, edge = period[pair], step[pair], choices.edge_mw
    distance = np.maximum(np.maximum(edge[t, b] - edge[t, a + 1], edge[t, a] - edge[t, b + 1]), 0.0)
    price = problem.step_price_usd_per_kwh
    extra = np.abs(price[t, b] - price[t, a]) * distance * problem.probability[sample]
    keep = 1000.0 * problem.period_h * extra <= choices.room_usd[t, a]
    return pair[keep], sample[keep], b[keep]
