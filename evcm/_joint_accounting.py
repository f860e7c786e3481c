"""Common accounting: every regime's day at the price that all aggregators together make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evcm.aggregator.plan import (
    AggregatorPlan,
    day_ahead_cost_usd,
    real_time_cost_by_sample_usd,
)
from evcm.aggregator.problem import AggregatorProblem
from evcm.inputs import FloatArray
from evcm.uncontrolled import UncontrolledDay


@dataclass(frozen=True, eq=False)
class Trade:
    """What all aggregators of a regime do, whatever made them do it.

    `day_ahead_mw` (T, K) by aggregator; `real_time_mw` (T, N) net real-time purchase of all of
    them; `battery_usd` expected wear of all batteries in a day.
    """

    day_ahead_mw: FloatArray = field(repr=False)
    real_time_mw: FloatArray = field(repr=False)
    battery_usd: float

    @property
    def total_mw(self) -> FloatArray:
        """Day-ahead power of all aggregators (T,)."""
        return np.asarray(self.day_ahead_mw.sum(axis=1))


@dataclass(frozen=True)
class Account:
    """Cost of a day in USD when everyone pays the price of the true total load.

    `seen_usd` is what the aggregators believed: each paid the price of its own load alone; nan
    where there was no such belief.
    """

    day_ahead_usd: float
    real_time_usd: float
    battery_usd: float
    seen_usd: float = float("nan")

    @property
    def total_usd(self) -> float:
        """Day-ahead and real-time energy and battery wear."""
        return self.day_ahead_usd + self.real_time_usd + self.battery_usd


def trade_of_plans(plans: Sequence[AggregatorPlan]) -> Trade:
    """The trade of one plan per aggregator."""
    return Trade(
        np.column_stack([plan.day_ahead_mw for plan in plans]),
        np.asarray(sum(plan.real_time_mw for plan in plans)),
        float(sum(plan.cost.battery_usd for plan in plans)),
    )


def trade_of_uncontrolled(day: UncontrolledDay) -> Trade:
    """Uncontrolled charging: the mean bought day-ahead, each day's deviation in real time."""
    mean = day.mean_mw
    deviation = (day.power_mw - mean[:, :, None]).sum(axis=1)
    return Trade(mean, np.asarray(deviation), 0.0)


def account(problem: AggregatorProblem, trade: Trade, seen_usd: float = float("nan")) -> Account:
    """Price a regime's trade at λ(Psys + all aggregators), as the joint problem does.

    Parameters
    ----------
    problem : AggregatorProblem
        Any of the regime's problems: its market (Psys, λ, π) is the common one.
    trade : Trade
    seen_usd : float
        Sum of the costs that the aggregators believed in.
    """
    total = trade.total_mw
    real_time = real_time_cost_by_sample_usd(problem, total, trade.real_time_mw)
    return Account(
        day_ahead_cost_usd(problem, total),
        float(real_time @ problem.probability),
        trade.battery_usd,
        seen_usd,
    )
