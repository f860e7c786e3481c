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

from evcm import _opf_problem, aggregator, allocation, opf
from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.allocation import Site
from evcm.errors import Checks, SolverError
from evcm.inputs import FloatArray, IntArray

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
            and np.array_equal(p.price.edge_mw, first.price.edge_mw)
            and np.array_equal(p.price.price_usd_per_kwh, first.price.price_usd_per_kwh)
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


def network_room_mw(site: Site, reach_mw: FloatArray) -> FloatArray:
    """Most that all aggregators together can draw in each period (T,), losses included.

    An AC OPF of its own: it maximises Σ_k P_k with -reach_k <= P_k <= reach_k (T, K) and no power
    unsupplied. It spreads the total where it costs the least, so no plan can draw more.
    """
    net, periods = site.network, len(reach_mw)
    inj = _opf_problem.generation(net, periods).free_of_cost()
    n = net.ev_bus.size
    inj += _opf_problem.Injections(
        bus=net.ev_bus.copy(), kind=np.full(n, _opf_problem.ACTIVE), sign=-np.ones(n),
        cost_per_mw=-np.ones(n), low=-reach_mw, high=reach_mw,
    )  # fmt: skip
    loads = site.load_p_mw, site.load_q_mvar
    _, _, u, _ = opf.solve_injections(net, *loads, inj, "fast", "network room")
    return np.asarray(u[:, 2 * net.generator_bus.size :].sum(axis=1))


def solve_joint(
    problems: Sequence[AggregatorProblem],
    site: Site | None = None,
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
    site : Site, optional
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
    site = allocation.study_site() if site is None else site
    solve = solve or (lambda problem: aggregator.solve(problem, gap=gap))
    started = time.perf_counter()
    joint = joint_problem(problems)
    bound, status = -np.inf, ""
    for done in range(max_rounds + 1):
        plan = solve(joint)
        power = split_mw(problems, plan)
        short = allocation.shortage_mw(site, power)
        if done < 2:
            # the first cut is the room of the whole network: a relaxation still, so a bound
            bound = max(bound, plan.bound_usd)
        bad = short >= allocation.SERVED_MW
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
    site: Site, problems: Sequence[AggregatorProblem], joint: AggregatorProblem,
    plan: AggregatorPlan, short_mw: FloatArray, done: int,
) -> FloatArray:  # fmt: skip
    """The total's cap (T,): the network's room first, then less what the OPF could not serve."""
    cap = joint.cap_mw
    if done == 0:
        reach = np.column_stack([p.plugged_mw.max(axis=1) for p in problems])
        return np.minimum(cap, network_room_mw(site, reach))
    missing = np.where(np.isfinite(short_mw), short_mw, 0.05 * np.abs(plan.day_ahead_mw) + 0.1)
    served = np.minimum(cap, plan.day_ahead_mw - 1.05 * missing)
    return np.where(short_mw >= allocation.SERVED_MW, served, cap)
