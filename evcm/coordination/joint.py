"""The joint optimum: all aggregators and the network as one problem.

Each aggregator of the paper sees the price that its own power makes and ignores the others. All of
them at once move the price together. Here one owner plans all cars for the common price
λ(Psys + Σ_k P_k). Without the network that is one `AggregatorProblem` whose cars are all (car, bus)
pairs: the hand-over contract makes visits separable, and limits that hold for each aggregator hold
for their sum. It drops constraints, so its proven bound is a bound for every regime of plans; it is
none for uncontrolled charging, which breaks (10). The AC OPF then checks the plan. Where the
network is short, the total is cut to the most that the network can serve, losses included, and the
problem is solved again until the OPF agrees.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from evcm.aggregator import methods
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import FloatArray
from evcm.coordination.account import Trade, fed_in_mwh
from evcm.errors import Checks, SolverError
from evcm.network import opf
from evcm.network.caps import network_room_mw
from evcm.network.case import Day


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
        The problems differ in what they must share: market and samples.
    """
    first = problems[0]
    c = Checks("joint problem")
    c.require(len(problems) >= 1, "problems", len(problems), ">= 1")
    for p in problems[1:]:
        same = (
            p.period_h == first.period_h
            and np.array_equal(p.probability, first.probability)
            and np.array_equal(p.system_load_mw, first.system_load_mw)
            and p.real_time_limit == first.real_time_limit
            and type(p.price) is type(first.price)
            and all(map(np.array_equal, vars(p.price).values(), vars(first.price).values()))
        )
        c.require(same, p.label, "another market or samples", "all alike")
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
        battery=_of_all(problems, "battery"),
        charger=_of_all(problems, "charger"),
        feeds_in=None
        if all(p.feeds_in is None for p in problems)
        else np.concatenate([p.figures.feeds_in for p in problems]),
    )
    return joint.with_options(trading_cap_mw=joint.plugged_mw.max(axis=1) + 1.0)


def _of_all(problems: Sequence[AggregatorProblem], part: str) -> Any:
    """Batteries or chargers of all cars: a figure on which they agree, else one for each car."""
    parts = [getattr(p, part) for p in problems]
    figures: dict[str, Any] = {}
    for name in vars(parts[0]):
        values = [getattr(one, name) for one in parts]
        if any(map(np.ndim, values)) or len(set(values)) > 1:
            each = zip(values, problems, strict=True)
            figures[name] = np.concatenate([np.broadcast_to(x, p.vehicles) for x, p in each])
    return replace(parts[0], **figures)


def split_mw(problems: Sequence[AggregatorProblem], plan: AggregatorPlan) -> FloatArray:
    """Power by aggregator and real-time sample (T, K, N) of a joint plan."""
    start = np.cumsum([0, *(p.vehicles for p in problems)])
    power = np.empty((problems[0].periods, len(problems), problems[0].samples))
    for k, p in enumerate(problems):
        mine = slice(start[k], start[k + 1])
        back = p.figures.discharge_efficiency[:, None] * plan.discharge_kw[:, mine]
        net = plan.charge_kw[:, mine] - back
        power[:, k] = np.einsum("tvn,v->tn", net, p.group_size / 1000.0, optimize=True)
    return power


def trade_of_joint(problems: Sequence[AggregatorProblem], plan: AggregatorPlan) -> Trade:
    """The trade of a joint plan: each aggregator buys day-ahead what its cars take on average."""
    power = split_mw(problems, plan)
    mean = power @ problems[0].probability
    fed_in = fed_in_mwh(joint_problem(problems), plan)
    return Trade(mean, power - mean[:, :, None], plan.cost.battery_usd, fed_in)


def solve_joint(
    problems: Sequence[AggregatorProblem],
    site: Day,
    *,
    gap: float = 1e-2,
    max_rounds: int = 6,
) -> JointPlan:
    """The joint optimum of all aggregators with the network.

    Problems stand in the order of `network.ev_bus` of the `site`; the `gap` of each solution is a
    share of turnover. The bound comes from the room of
    the network as a whole, which no plan exceeds; tighter cuts for the plan's own losses, at most
    `max_rounds`, are used for the plan only.

    Raises
    ------
    SolverError
        The AC OPF still disagrees after `max_rounds`.
    InfeasibleError
        No plan lives within the network's room.
    """
    started = time.perf_counter()
    joint = joint_problem(problems)
    bound, status = -np.inf, ""
    for done in range(max_rounds + 1):
        plan = methods.solve(joint, gap=gap)
        power = split_mw(problems, plan) @ joint.probability
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
