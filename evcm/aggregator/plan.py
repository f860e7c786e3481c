"""An aggregator's answer: schedules, cost, proven bound, and how it was obtained."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from evcm import compiled as nb
from evcm.aggregator.problem import AggregatorProblem
from evcm.aggregator.visits import Visits
from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.paper import implements
from evcm.store import files


@dataclass(frozen=True, eq=False)
class PlanCost:
    """Cost of a plan in USD a day: the parts of (5), and the whole cost in each sample."""

    day_ahead_usd: float
    real_time_usd: float
    battery_usd: float
    by_sample_usd: FloatArray = field(repr=False)

    @property
    def total_usd(self) -> float:
        """Expected cost C of (5)."""
        return self.day_ahead_usd + self.real_time_usd + self.battery_usd

    @property
    def turnover_usd(self) -> float:
        """Money that changes hands, what a gap is measured against (at least 1 USD)."""
        return max(1.0, abs(self.day_ahead_usd) + abs(self.real_time_usd) + self.battery_usd)


@dataclass(frozen=True, eq=False)
class AggregatorPlan:
    """A plan for one aggregator's day. Powers of cars are per car of a group.

    Attributes
    ----------
    day_ahead_mw : (T,)
        P^EM, positive when buying.
    surplus_mw, deficit_mw : (T, N)
        Real-time sales P+ and purchases P-.
    charge_kw, discharge_kw, soc_kwh : (T, V, N)
        G2B, B2G, and the state of charge at the end of each period; 0 where not plugged in.
    cost : PlanCost
        At the true prices.
    objective_usd, bound_usd : float
        What was minimised (the expected cost, unless a risk weight is set) and a proven lower
        bound on it. A bound that exceeds the objective by no more than rounding (1e-7 of turnover)
        is set to the objective; the certificate refuses one that exceeds it by more.
    seconds, method, status
        Wall-clock time of the solution, by which method, and in a sentence how it ended.
    """

    day_ahead_mw: FloatArray = field(repr=False)
    surplus_mw: FloatArray = field(repr=False)
    deficit_mw: FloatArray = field(repr=False)
    charge_kw: FloatArray = field(repr=False)
    discharge_kw: FloatArray = field(repr=False)
    soc_kwh: FloatArray = field(repr=False)
    cost: PlanCost
    objective_usd: float
    bound_usd: float
    seconds: float
    method: str
    status: str

    def __post_init__(self) -> None:
        if 0 < self.bound_usd - self.objective_usd <= 1e-7 * self.cost.turnover_usd:
            object.__setattr__(self, "bound_usd", self.objective_usd)

    @property
    def cost_usd(self) -> float:
        """Expected cost of the day."""
        return self.cost.total_usd

    @property
    def gap(self) -> float:
        """Proven distance from the optimum, as a share of turnover."""
        return (self.objective_usd - self.bound_usd) / self.cost.turnover_usd

    @property
    def real_time_mw(self) -> FloatArray:
        """Net real-time purchase d = P- - P+ (T, N)."""
        return np.asarray(self.deficit_mw - self.surplus_mw)

    def finished(self, bound_usd: float, seconds: float, status: str) -> AggregatorPlan:
        """A copy with the final bound, time and status sentence."""
        return replace(self, bound_usd=bound_usd, seconds=seconds, status=status)


PRICED_AT_ONCE = 20_000
"""Visits that are priced at once: a large fleet's plan leaves little memory."""


@nb.njit(cache=True)
def _soc_kernel(
    charge: FloatArray, discharge: FloatArray, soc: FloatArray, visits: Visits, dt: float,
    efficiency: FloatArray,
) -> None:  # fmt: skip
    periods = soc.shape[0]
    for i in range(visits.vehicle.size):
        v, n, arrival = visits.vehicle[i], visits.sample[i], visits.arrival_soc_kwh[i]
        now = soc[periods - 1, v, n] if np.isnan(arrival) else arrival
        for j in range(visits.length[i]):
            t = visits.start[i] + j - periods
            now += dt * (efficiency[v] * charge[t, v, n] - discharge[t, v, n])
            soc[t, v, n] = now


@implements("7", "8", "23", "24")
def real_time_cost_by_sample_usd(
    problem: AggregatorProblem, day_ahead_mw: FloatArray, real_time_mw: FloatArray
) -> FloatArray:
    """Cost of real-time energy in each sample (N,); negative where sales earn more."""
    return np.asarray(problem.real_time_payment_usd(day_ahead_mw, real_time_mw).sum(axis=0))


@implements("9", "21")
def battery_cost_by_sample_usd(problem: AggregatorProblem, soc_kwh: FloatArray) -> FloatArray:
    """Wear of all batteries in each sample (N,): falls of the state of charge while plugged in."""
    v, wear, plugged = problem.visits, problem.wear_usd_per_kwh, problem.available
    cost = np.zeros(problem.samples)
    for begin in range(0, v.start.size, PRICED_AT_ONCE):  # in the first period of a visit
        at = slice(begin, begin + PRICED_AT_ONCE)
        fallen = v.arrival_soc_kwh[at] - soc_kwh[v.start[at], v.vehicle[at], v.sample[at]]
        first = wear[v.vehicle[at]] * np.maximum(np.where(v.always_plugged[at], 0.0, fallen), 0.0)
        cost += np.bincount(v.sample[at], first, problem.samples)
    for t in range(problem.periods):
        fallen = np.where(plugged[t] & plugged[t - 1], soc_kwh[t - 1] - soc_kwh[t], 0.0)
        cost += wear @ np.maximum(fallen, 0.0)
    return cost


@implements("5")
def plan_cost(
    problem: AggregatorProblem, day_ahead_mw: FloatArray, real_time_mw: FloatArray,
    soc_kwh: FloatArray,
) -> PlanCost:  # fmt: skip
    """Cost of a plan at the true prices; `real_time_mw` is d = P- - P+ (T, N)."""
    day_ahead = float(problem.day_ahead_payment_usd(day_ahead_mw).sum())
    real_time = real_time_cost_by_sample_usd(problem, day_ahead_mw, real_time_mw)
    battery = battery_cost_by_sample_usd(problem, soc_kwh)
    real_time_usd, battery_usd = (float(c @ problem.probability) for c in (real_time, battery))
    return PlanCost(day_ahead, real_time_usd, battery_usd, day_ahead + real_time + battery)


def value_at_risk(
    cost_usd: FloatArray, probability: FloatArray, alpha: float
) -> tuple[float, float]:
    """VaR and CVaR of a discrete cost: the α-quantile, and the mean of the worst 1 - α.

    References
    ----------
    R. T. Rockafellar and S. Uryasev, "Optimization of conditional value-at-risk", Journal of
    Risk 2(3), 2000.
    """
    order = np.argsort(cost_usd, kind="stable")
    cost, weight = np.asarray(cost_usd)[order], np.asarray(probability)[order]
    at = int(np.searchsorted(np.cumsum(weight), alpha - 1e-12, side="left"))
    var = float(cost[min(at, cost.size - 1)])
    return var, var + float(weight @ np.maximum(cost - var, 0.0)) / (1.0 - alpha)


def objective_usd(problem: AggregatorProblem, cost: PlanCost) -> float:
    """What a solver minimises: the expected cost, or its mix with CVaR."""
    if problem.risk_weight == 0:
        return cost.total_usd
    _, cvar = value_at_risk(cost.by_sample_usd, problem.probability, problem.risk_alpha)
    return (1 - problem.risk_weight) * cost.total_usd + problem.risk_weight * cvar


def make_plan(problem: AggregatorProblem, **parts: Any) -> AggregatorPlan:
    """Price a schedule at the true prices; `parts` are all of the plan but cost and objective."""
    trade = parts["deficit_mw"] - parts["surplus_mw"]
    cost = plan_cost(problem, parts["day_ahead_mw"], trade, parts["soc_kwh"])
    return AggregatorPlan(**parts, cost=cost, objective_usd=objective_usd(problem, cost))


def plan_from_cars(
    problem: AggregatorProblem, *, charge_kw: FloatArray, discharge_kw: FloatArray,
    soc_kwh: FloatArray, **told: Any,
) -> AggregatorPlan:  # fmt: skip
    """A plan from the cars' schedules alone: trade follows from them; `told` is for `make_plan`.

    Given the cars' power D (T, N), (12) and (11) leave one choice: P^EM = Σ_n π_n D_n and
    P- - P+ = D - P^EM. Rounding below zero is cut off and states of charge are added up again, so
    that the balances (11), (12), (17), (18) hold exactly. Arrays are changed in place.
    """
    np.maximum(charge_kw, 0.0, out=charge_kw)
    np.maximum(discharge_kw, 0.0, out=discharge_kw)
    k, dt = problem.figures, problem.period_h
    _soc_kernel(charge_kw, discharge_kw, soc_kwh, problem.visits, dt, k.charge_efficiency)
    weight, feeding = problem.group_size / 1000.0, k.discharge_efficiency[:, None]
    net_mw = [weight @ (charge_kw[t] - feeding * discharge_kw[t]) for t in range(problem.periods)]
    cars_mw = np.stack(net_mw)
    day_ahead = cars_mw @ problem.probability
    trade = cars_mw - day_ahead[:, None]
    told |= {"charge_kw": charge_kw, "discharge_kw": discharge_kw, "soc_kwh": soc_kwh}
    sold, bought = np.maximum(-trade, 0.0), np.maximum(trade, 0.0)
    return make_plan(problem, day_ahead_mw=day_ahead, surplus_mw=sold, deficit_mw=bought, **told)


_ARRAYS = ("day_ahead_mw", "surplus_mw", "deficit_mw", "charge_kw", "discharge_kw", "soc_kwh")
_NUMBERS = ("cost_usd", "bound_usd", "seconds")


def plan_arrays(plan: AggregatorPlan) -> dict[str, np.ndarray]:
    """All that a stored plan consists of, by name; `plan_of_arrays` makes a plan of it again."""
    numbers = {n: np.array(getattr(plan, n)) for n in (*_NUMBERS, "objective_usd")}
    words = {"method": np.array(plan.method), "status": np.array(plan.status)}
    return {name: getattr(plan, name) for name in _ARRAYS} | numbers | words


_OPTIONS = ("real_time_limit", "allow_v2g", "risk_weight", "risk_alpha")
"""Options of a problem that its instance does not hold; (20) is one more."""


def save_plan(
    path: str | Path, plan: AggregatorPlan, problem: AggregatorProblem | None = None
) -> None:
    """Write a plan (.npz), whole or not at all; with its problem's fingerprint and options."""
    asked: dict[str, Any] = {}
    if problem is not None:
        asked = {name: np.array(getattr(problem, name)) for name in _OPTIONS}
        asked |= {
            "midnight_soc": np.array(problem.midnight_soc_kwh is not None),
            "problem_fingerprint": np.array(problem.fingerprint),
        }
    files.write_npz(path, **plan_arrays(plan), **asked)


def plan_options(path: str | Path) -> dict[str, Any]:
    """Options that a plan (.npz) was made with, for `load_problem`; none in a plan without them.

    Raises `InputError` where the file is not a plan or holds an option in part.
    """
    a = files.read_npz(path, list(_ARRAYS))
    if "problem_fingerprint" not in a:
        return {}
    c, found = Checks(str(path)), {}
    for name in (*_OPTIONS, "midnight_soc"):
        if c.require(name in a and a[name].size == 1, name, "missing or many", "one value"):
            found[name] = a[name].reshape(()).item()
    c.done()
    return found


def load_plan(path: str | Path, problem: AggregatorProblem) -> AggregatorPlan:
    """Read a plan (.npz) for a problem and price it again; its stated cost is not trusted.

    Raises
    ------
    InputError
        The file is not a plan, was made for another problem, does not fit this one, or states
        another cost than its schedules have.
    """
    a = files.read_npz(path, [*_ARRAYS, *_NUMBERS])
    made_for = str(a.get("problem_fingerprint", problem.fingerprint))
    c = Checks(str(path))
    c.require(
        made_for == problem.fingerprint, "problem_fingerprint", made_for,
        f"that of this problem and its options, {problem.fingerprint}: the plan was made for "
        "another one",
    )  # fmt: skip
    c.done()
    return plan_of_arrays(a, problem, str(path))


def plan_of_arrays(
    a: Mapping[str, np.ndarray], problem: AggregatorProblem, label: str
) -> AggregatorPlan:
    """A plan from its stored arrays, checked and priced again as in `load_plan`."""
    T, V, N = problem.available.shape
    shapes = [(T,), (T, N), (T, N), (T, V, N), (T, V, N), (T, V, N)]
    c = Checks(label)
    for name, shape in zip(_ARRAYS, shapes, strict=True):
        if c.require(
            a[name].shape == shape and a[name].dtype.kind in "iuf",
            name, f"shape {a[name].shape}, type {a[name].dtype}", f"numbers of shape {shape}",
        ):  # fmt: skip
            c.require(bool(np.isfinite(a[name]).all()), name, "not finite", "finite numbers")
    for name in _NUMBERS:
        c.require(a[name].size == 1 and a[name].dtype.kind in "iuf", name, a[name], "one number")
    c.done()
    stated, bound, seconds = (float(a[name].item()) for name in _NUMBERS)
    words = {name: str(a.get(name, "unknown")) for name in ("method", "status")}
    schedules = {name: np.asarray(a[name], float) for name in _ARRAYS}
    plan = make_plan(problem, **schedules, bound_usd=bound, seconds=seconds, **words)
    c.require(
        abs(stated - plan.cost_usd) < 1e-3 * max(1.0, abs(plan.cost_usd)),
        "cost_usd", stated, f"the cost of the schedules, {plan.cost_usd:.6f}",
    )  # fmt: skip
    c.done()
    return plan
