"""The joint optimum: all aggregators and the network as one problem, the price of decentralisation.

Each aggregator of the paper sees the price that its own power makes and ignores the others. All of
them at once move the price together. Here one owner plans all cars for the common price
λ(Psys + Σ_k P_k). Without the network that is one `AggregatorProblem` whose cars are all (car, bus)
pairs: the hand-over contract makes visits separable, and limits that hold for each aggregator hold
for their sum. It drops constraints, so its proven bound is a bound for every regime. The AC OPF
then checks the plan. Where the network is short, the total is cut to the most that the network can
serve, losses included, and the problem is solved again until the OPF agrees.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from evcm.aggregator import methods
from evcm.aggregator.plan import (
    AggregatorPlan,
    day_ahead_cost_usd,
    real_time_cost_by_sample_usd,
)
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray, IntArray
from evcm.errors import Checks, SolverError
from evcm.network import case, opf
from evcm.network.caps import network_room_mw
from evcm.network.case import Day
from evcm.trips.uncontrolled import UncontrolledDay


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


Solve = Callable[[AggregatorProblem], AggregatorPlan]


@dataclass(frozen=True, eq=False)
class JointPlan:
    """One plan for all cars.

    `power_mw` (T, K) is the day-ahead power by aggregator, `bound_usd` a proven lower bound on the
    cost of any plan of all cars that the network can serve. `rounds` counts the network's cuts.
    """

    problem: AggregatorProblem = field(repr=False)
    plan: AggregatorPlan = field(repr=False)
    power_mw: FloatArray = field(repr=False)
    bound_usd: float
    rounds: int
    nse_mwh: float
    seconds: float
    status: str


def joint_problem(problems: Sequence[AggregatorProblem]) -> AggregatorProblem:
    """All aggregators as one, their cars side by side and no cap that binds.

    A car stands in it twice, at its From and at its To, each time with the visits to that bus.

    Raises
    ------
    InputError
        The problems differ in what they must share: market, battery, charger, samples.
    """
    first = problems[0]
    c = Checks("joint problem")
    c.require(len(problems) >= 1, "problems", len(problems), ">= 1")
    for p in problems[1:]:
        same = (
            p.period_h == first.period_h
            and np.array_equal(p.probability, first.probability)
            and np.array_equal(p.system_load_mw, first.system_load_mw)
            and np.array_equal(p.price_steps.edge_mw, first.price_steps.edge_mw)
            and np.array_equal(p.price_steps.price_usd_per_kwh, first.price_steps.price_usd_per_kwh)
            and p.battery == first.battery
            and p.charger == first.charger
        )
        c.require(same, p.label, "another market, battery, charger or samples", "all alike")
    c.done()

    def side_by_side(name: str, axis: int) -> np.ndarray:
        return np.concatenate([getattr(p, name) for p in problems], axis=axis)

    joint = first.with_options(
        bus=None,
        name="all aggregators",
        system_cap_mw=None,
        trading_cap_mw=np.full(first.periods, 1e6),
        **{n: side_by_side(n, 1) for n in ("available", "travelling", "trip_energy_kwh")},
        **{
            n: side_by_side(n, 0)
            for n in ("group_size", "storage_cost_usd_per_kwh", "degradation_slope")
        },
    )
    return joint.with_options(trading_cap_mw=joint.plugged_mw.max(axis=1) + 1.0)


def owner(problems: Sequence[AggregatorProblem]) -> IntArray:
    """Aggregator (position) of each car of the joint problem. (V,)"""
    return np.repeat(np.arange(len(problems)), [p.vehicles for p in problems])


def split_mw(problems: Sequence[AggregatorProblem], plan: AggregatorPlan) -> FloatArray:
    """Expected power by aggregator (T, K) of a joint plan: what each would buy day-ahead."""
    joint, of_car = problems[0], owner(problems)
    size = np.concatenate([p.group_size for p in problems]) / 1000.0
    net = plan.charge_kw - joint.charger.discharge_efficiency * plan.discharge_kw
    mean = net @ joint.probability  # (T, V)
    power = np.zeros((joint.periods, len(problems)))
    for k in range(len(problems)):
        mine = of_car == k
        power[:, k] = mean[:, mine] @ size[mine]
    return power


def solve_joint(
    problems: Sequence[AggregatorProblem],
    site: Day | None = None,
    *,
    gap: float = 1e-2,
    max_rounds: int = 6,
    solve: Solve | None = None,
) -> JointPlan:
    """The joint optimum of all aggregators with the network.

    Parameters
    ----------
    problems : sequence of AggregatorProblem
        One per aggregator, in the order of `network.ev_bus`.
    site : Day, optional
        The reference day of the study if left out.
    gap : float
        Gap to prove for each solution, as a share of turnover.
    max_rounds : int
        Cuts by the network after which to give up.
    solve : callable, optional
        How to obtain a plan; solved here if left out.

    Returns
    -------
    JointPlan
        Its bound comes from the room of the network as a whole, which no plan exceeds; tighter
        cuts for the plan's own losses are used for the plan only.

    Raises
    ------
    SolverError
        The AC OPF still disagrees after `max_rounds`.
    InfeasibleError
        No plan lives within the network's room.
    """
    site = case.reference_day() if site is None else site
    solve = solve or (lambda problem: methods.solve(problem, gap=gap))
    started = time.perf_counter()
    joint = joint_problem(problems)
    bound, status = -np.inf, ""
    for done in range(max_rounds + 1):
        plan = solve(joint)
        power = split_mw(problems, plan)
        short = opf.shortage_mw(site, power)
        if done < 2:
            # the first cut is the room of the whole network: a relaxation still, so a bound
            bound = max(bound, plan.bound_usd)
        bad = short >= opf.SERVED_MW
        if not bad.any():
            seconds = time.perf_counter() - started
            status = f"{plan.status}; the AC OPF serves it after {done} cuts"
            return JointPlan(joint, plan, power, bound, done, 0.0, seconds, status)
        joint = joint.with_options(trading_cap_mw=_cut(site, problems, joint, plan, short, done))
    raise SolverError(
        f"joint optimum: after {max_rounds} cuts the AC OPF is still short in "
        f"{int(bad.sum())} periods, first period {int(np.flatnonzero(bad)[0]) + 1}",
        periods=(np.flatnonzero(bad) + 1).tolist(),
    )


def _cut(
    site: Day, problems: Sequence[AggregatorProblem], joint: AggregatorProblem,
    plan: AggregatorPlan, short_mw: FloatArray, done: int,
) -> FloatArray:  # fmt: skip
    """The total's cap (T,): the network's room first, then less what the OPF could not serve."""
    cap = joint.cap_mw
    if done == 0:
        reach = np.column_stack([p.plugged_mw.max(axis=1) for p in problems])
        return np.minimum(cap, network_room_mw(site, reach))
    missing = np.where(np.isfinite(short_mw), short_mw, 0.05 * np.abs(plan.day_ahead_mw) + 0.1)
    served = np.minimum(cap, plan.day_ahead_mw - 1.05 * missing)
    return np.where(short_mw >= opf.SERVED_MW, served, cap)
