"""One account for all regimes: what is really paid, and what the network makes of every day.

Whatever made the aggregators do it, a regime is a trade: power bought day-ahead, and a deviation in
every real-time sample. It is priced at λ of one stated load of the system plus all cars, day-ahead
and in every sample, and each of its days goes through the AC OPF.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from evcm.aggregator.plan import (
    AggregatorPlan,
    real_time_cost_by_sample_usd,
)
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.network import opf
from evcm.network.case import Day
from evcm.trips.uncontrolled import UncontrolledDay


@dataclass(frozen=True, eq=False)
class Trade:
    """What all aggregators of a regime do, whatever made them do it.

    `day_ahead_mw` (T, K) by aggregator; `deviation_mw` (T, K, N) net real-time purchase of each;
    `battery_usd` expected wear of all batteries in a day; `fed_in_mwh` energy that cars give to the
    grid in an expected day.
    """

    day_ahead_mw: FloatArray = field(repr=False)
    deviation_mw: FloatArray = field(repr=False)
    battery_usd: float = 0.0
    fed_in_mwh: float = 0.0

    @property
    def total_mw(self) -> FloatArray:
        """Day-ahead power of all aggregators (T,)."""
        return np.asarray(self.day_ahead_mw.sum(axis=1))

    @property
    def real_time_mw(self) -> FloatArray:
        """Net real-time purchase of all aggregators together (T, N)."""
        return np.asarray(self.deviation_mw.sum(axis=1))

    @property
    def sample_mw(self) -> FloatArray:
        """Power of each aggregator in every real-time sample (T, K, N)."""
        return np.asarray(self.day_ahead_mw[:, :, None] + self.deviation_mw)


@dataclass(frozen=True, eq=False)
class Planned:
    """A plan of every aggregator, in the order of `network.ev_bus`."""

    plans: tuple[AggregatorPlan, ...] = field(repr=False)

    @property
    def power_mw(self) -> FloatArray:
        """Day-ahead power (T, K)."""
        return np.column_stack([plan.day_ahead_mw for plan in self.plans])

    @property
    def cost_usd(self) -> FloatArray:
        """What each aggregator expects to pay (K,)."""
        return np.array([plan.cost_usd for plan in self.plans])


@dataclass(frozen=True)
class Account:
    """Cost of a day in USD when everyone pays the price of the true total load."""

    day_ahead_usd: float
    real_time_usd: float
    battery_usd: float

    @property
    def total_usd(self) -> float:
        """Day-ahead and real-time energy and battery wear."""
        return self.day_ahead_usd + self.real_time_usd + self.battery_usd


@dataclass(frozen=True)
class Operation:
    """What the network makes of a regime, mean over its days; `v_min_pu` is the lowest of all.

    `days_short` is the share of days with power not supplied. A period without an operating point
    makes `nse_mwh` inf.
    """

    nse_mwh: float
    days_short: float
    losses_mwh: float
    peak_mw: float
    v_min_pu: float


def fed_in_mwh(problem: AggregatorProblem, plan: AggregatorPlan) -> float:
    """Energy that the cars of a plan give to the grid in an expected day, after η_dsg, MWh."""
    factor = problem.group_size * problem.figures.discharge_efficiency / 1000.0
    by_sample = np.einsum("tvn,v->n", plan.discharge_kw, factor, optimize=True)
    return float(problem.period_h * by_sample @ problem.probability)


def trade_of_plans(problems: Sequence[AggregatorProblem], plans: Sequence[AggregatorPlan]) -> Trade:
    """The trade of one plan per aggregator."""
    return Trade(
        np.column_stack([plan.day_ahead_mw for plan in plans]),
        np.stack([plan.real_time_mw for plan in plans], axis=1),
        float(sum(plan.cost.battery_usd for plan in plans)),
        sum(fed_in_mwh(p, plan) for p, plan in zip(problems, plans, strict=True)),
    )


def trade_of_uncontrolled(day: UncontrolledDay) -> Trade:
    """Uncontrolled charging: the mean of its days bought day-ahead, each day's rest in real time.

    This breaks (10), which bounds real-time trade by the energy fed back: no bound on the plans of
    aggregators holds for it.
    """
    mean = day.mean_mw
    return Trade(mean, day.power_mw - mean[:, :, None])


def account(
    problem: AggregatorProblem, trade: Trade, system_load_mw: FloatArray | None = None
) -> Account:
    """Price a regime's trade at λ(load of the system + all aggregators), day-ahead and in samples.

    `problem` is any of the regime's: its market (λ, π) is the common one. `system_load_mw` (T,) is
    the load without cars, the problem's forecast if left out.
    """
    market = problem
    if system_load_mw is not None:
        market = problem.with_options(system_load_mw=system_load_mw)
    total = trade.total_mw
    real_time = real_time_cost_by_sample_usd(market, total, trade.real_time_mw)
    return Account(
        float(market.day_ahead_payment_usd(total).sum()),
        float(real_time @ market.probability),
        trade.battery_usd,
    )


def operate(site: Day, sample_mw: FloatArray, probability: FloatArray) -> Operation:
    """Put every day of a regime through the AC OPF.

    `site` is network and load without cars, `sample_mw` (T, K, N) as `Trade.sample_mw`, with the
    `probability` (N,) of each day.
    """
    T, K, N = sample_mw.shape
    wide, power = site.repeated(N), sample_mw.transpose(2, 0, 1).reshape(N * T, K)
    state = opf.assess(wide, power)
    by_day = state.short_mw.reshape(N, T)
    load = wide.with_cars(power).load_p_mw.sum(axis=1).reshape(N, T)
    return Operation(
        nse_mwh=float(site.period_h * by_day.sum(axis=1) @ probability),
        days_short=float((by_day > 0).any(axis=1) @ probability),
        losses_mwh=float(site.period_h * state.losses_mw.reshape(N, T).sum(axis=1) @ probability),
        peak_mw=float(load.max(axis=1) @ probability),
        v_min_pu=float(state.v_min_pu.min()),
    )
