"""Certificate of an aggregator plan: every constraint and the cost, in numpy, without a solver.

Nothing here is shared with the solvers: visits, prices and costs are worked out again from the
problem's arrays, period by period, so that memory stays at a few (V, N) arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields

import numpy as np

from evcm.aggregator.plan import AggregatorPlan
from evcm.aggregator.problem import AggregatorProblem
from evcm.arrays import BoolArray, FloatArray
from evcm.errors import Certificate
from evcm.inputs.prices import PriceSeries
from evcm.inputs.values import Figure
from evcm.paper import implements

TOLERANCE = 1e-3
"""Largest residual allowed, in kW or kWh."""


@dataclass(frozen=True)
class PlanCertificate(Certificate):
    """What the re-evaluation of a plan found.

    `residuals` are the largest violations of each constraint, kW or kWh; names end in the paper's
    equation. Costs (USD) are the schedules' at the true prices, the objective with CVaR where
    asked; the bound is the plan's word, and `gap` their distance as a share of turnover. `faults`
    say why the plan is refused.
    """

    residuals: Mapping[str, float]
    day_ahead_usd: float
    real_time_usd: float
    battery_usd: float
    objective_usd: float
    bound_usd: float
    gap: float
    faults: tuple[str, ...]
    subject: str = "plan"

    def violations(self) -> tuple[str, ...]:
        """The faults."""
        return self.faults

    @property
    def worst(self) -> tuple[str, float]:
        """Name and size of the largest residual."""
        return max(self.residuals.items(), key=lambda item: item[1])

    @property
    def cost_usd(self) -> float:
        """Expected cost of the day."""
        return self.day_ahead_usd + self.real_time_usd + self.battery_usd


@implements("5", role="certificate")
def check_plan(problem: AggregatorProblem, plan: AggregatorPlan) -> PlanCertificate:
    """Re-evaluate a plan and say what is wrong with it, if anything."""
    residuals, fed_mw, net_mw, drawn_usd = _car_residuals(problem, plan)
    residuals |= _market_residuals(problem, plan, fed_mw, net_mw)
    day_ahead, real_time = _trade_costs(problem, plan)
    probability = problem.probability
    parts = (day_ahead, float(real_time @ probability), float(drawn_usd @ probability))
    cost = sum(parts)
    objective = cost
    if problem.risk_weight > 0:
        tail = _tail_mean(day_ahead + real_time + drawn_usd, probability, problem.risk_alpha)
        objective = (1 - problem.risk_weight) * cost + problem.risk_weight * tail
    turnover = max(1.0, abs(parts[0]) + abs(parts[1]) + parts[2])
    faults = [
        f"{name} is violated by {size:.3g} kW or kWh"
        for name, size in residuals.items()
        if not size < TOLERANCE
    ]
    told = {"cost": (plan.cost_usd, cost), "objective": (plan.objective_usd, objective)}
    faults += [
        f"the plan states a {name} of {stated:.6f} USD, its schedules {true:.6f}"
        for name, (stated, true) in told.items()
        if not abs(stated - true) < 1e-3 * max(1.0, abs(true))
    ]
    if not plan.bound_usd <= objective + 1e-6:
        faults.append(f"the bound {plan.bound_usd:.6f} exceeds the objective {objective:.6f} USD")
    return PlanCertificate(
        residuals, *parts, objective, plan.bound_usd, (objective - plan.bound_usd) / turnover,
        tuple(faults), f"{problem.label}: the plan by {plan.method} fails its certificate",
    )  # fmt: skip


def certify_plan(problem: AggregatorProblem, plan: AggregatorPlan) -> PlanCertificate:
    """Certificate of a plan that holds.

    Raises
    ------
    SolverError
        A residual reaches 1e-3 kW or kWh, the stated cost is not the schedules', or the bound
        exceeds it.
    """
    return check_plan(problem, plan).require()


def _each(problem: AggregatorProblem, figure: Figure) -> FloatArray:
    """A figure of battery or charger for every vehicle, (V, 1)."""
    return np.broadcast_to(np.asarray(figure, float), problem.vehicles)[:, None]


@implements("13", "15", role="certificate")
def _arrivals(problem: AggregatorProblem) -> Iterator[tuple[int, BoolArray, FloatArray]]:
    """Period, which cars begin a visit in it, and with how much energy (NaN elsewhere)."""
    T = problem.periods
    driven = np.zeros(problem.available.shape[1:])
    departure = _each(problem, problem.battery.departure_soc_kwh)
    every = problem.travelling.all(axis=0)
    whole = problem.trip_energy_kwh.sum(axis=0, dtype=float) if every.any() else None
    for lap in range(2):  # the first lap only finds the leg that is under way at midnight
        for t in range(T):
            if lap:
                start = problem.available[t] & ~problem.available[t - 1]
                used = driven if whole is None else np.where(every, whole, driven)
                yield t, start, np.where(start, departure - used, np.nan)
            driven = np.where(problem.travelling[t], driven + problem.trip_energy_kwh[t], 0.0)


@implements("9", "14", "16", "17", "18", "19", "20", "21", role="certificate")
def _car_residuals(
    problem: AggregatorProblem, plan: AggregatorPlan
) -> tuple[dict[str, float], FloatArray, FloatArray, FloatArray]:
    """Residuals of (14)-(21); power fed back and net demand (T, N) MW; wear (N,) USD."""
    T, N = problem.periods, problem.samples
    dt, kinds = problem.period_h, (problem.charger, problem.battery)
    k = {f.name: _each(problem, getattr(kind, f.name)) for kind in kinds for f in fields(kind)}
    weight = problem.group_size / 1000.0
    wear = problem.group_size * problem.degradation_slope / 100 * problem.storage_cost_usd_per_kwh
    worst: dict[str, float] = {}
    fed, net, drawn = np.empty((T, N)), np.empty((T, N)), np.zeros(N)

    def note(name: str, excess: FloatArray) -> None:
        worst[name] = max(worst.get(name, 0.0), float(excess.max(initial=0.0)))

    for t, start, arrival in _arrivals(problem):
        plugged = problem.available[t]
        end = plugged & ~problem.available[(t + 1) % T]
        charge, discharge, soc = plan.charge_kw[t], plan.discharge_kw[t], plan.soc_kwh[t]
        before = np.where(start, arrival, plan.soc_kwh[t - 1])
        gained = dt * (k["charge_efficiency"] * charge - discharge)
        note("sign (16)", np.maximum(-charge, -discharge))
        note("unplugged (14)", np.where(plugged, 0.0, np.abs(charge) + np.abs(discharge)))
        note("charger (14)", charge + discharge - k["power_kw"])
        note("balance (17)(18)", np.where(plugged, np.abs(soc - before - gained), 0.0))
        note("soc_min (19)", np.where(plugged, k["soc_min_kwh"] - soc, 0.0))
        note("soc_max (19)", np.where(plugged, soc - k["soc_max_kwh"], 0.0))
        note("departure", np.where(end, k["departure_soc_kwh"] - soc, 0.0))
        if not problem.allow_v2g:
            note("no V2G", discharge)
        elif problem.feeds_in is not None:
            note("charging only", np.where(problem.feeds_in[:, None], 0.0, discharge))
        if t == 0 and problem.midnight_soc_kwh is not None:
            note("midnight (20)", np.where(plugged, np.abs(soc - problem.midnight_soc_kwh), 0.0))
        drawn += wear @ np.where(plugged, np.maximum(before - soc, 0.0), 0.0)
        fed[t] = weight @ (k["discharge_efficiency"] * discharge)
        net[t] = weight @ charge - fed[t]
    return worst, fed, net, drawn


@implements("10", "11", "12", "29", "30", "56", "57", role="certificate")
def _market_residuals(
    problem: AggregatorProblem, plan: AggregatorPlan, fed_mw: FloatArray, net_mw: FloatArray
) -> dict[str, float]:
    """Residuals of (10)-(12) and of the caps, kW."""
    power, sold, bought = plan.day_ahead_mw, plan.surplus_mw, plan.deficit_mw
    traded = power[:, None] + bought - sold
    if problem.real_time_limit == "v2g":
        name, limit = "real-time limit (10)", fed_mw
    else:
        name = "real-time limit (plugs)"
        power_kw = problem.group_size * _each(problem, problem.charger.power_kw)[:, 0]
        limit = np.stack([power_kw @ plugged for plugged in problem.available]) / 1000.0
    found = {
        "trade sign (10)": np.maximum(-sold, -bought),
        name: sold + bought - limit,
        "mean (11)": np.abs((bought - sold) @ problem.probability),
        "power (12)": np.abs(traded - net_mw),
    }
    if problem.system_cap_mw is not None:
        load = problem.system_load_mw
        found["cap (29)"] = power + load - problem.system_cap_mw
        found["cap (30)"] = traded + load[:, None] - problem.system_cap_mw
    if problem.trading_cap_mw is not None:
        found["cap (56)"] = power - problem.trading_cap_mw
        found["cap (57)"] = traded - problem.trading_cap_mw[:, None]
    if problem.export_cap_mw is not None:
        low = np.minimum(power, traded.min(axis=1))
        found["cap on feeding in"] = -problem.export_cap_mw - low
    return {key: 1000.0 * float(value.max(initial=0.0)) for key, value in found.items()}


@implements("6", "7", "8", "22", "23", "24", "25", "26", role="certificate")
def _trade_costs(problem: AggregatorProblem, plan: AggregatorPlan) -> tuple[float, FloatArray]:
    """Day-ahead cost, and real-time cost in each sample (N,), USD."""
    real_time = plan.deficit_mw - plan.surplus_mw
    if isinstance(problem.price, PriceSeries):
        mwh = 1000.0 * problem.period_h
        buy, sell = problem.price.real_time_usd_per_kwh(problem.samples)
        return (
            float(mwh * (problem.price.day_ahead_usd_per_kwh @ plan.day_ahead_mw)),
            mwh * (buy * plan.deficit_mw - sell * plan.surplus_mw).sum(axis=0),
        )
    edge, price = problem.price.edge_mw, problem.price.price_usd_per_kwh

    def paid(load: FloatArray, power: FloatArray) -> FloatArray:
        # The buyer takes the lower neighbour of an edge, the seller the higher one.
        shifted = np.where(power >= 0, load - 1e-6, load + 1e-6)
        step = np.minimum(np.searchsorted(edge, shifted, side="left"), len(price) - 1)
        return np.asarray(price[step] * power * 1000.0 * problem.period_h)

    load = problem.system_load_mw + plan.day_ahead_mw
    return (
        float(paid(load, plan.day_ahead_mw).sum()),
        paid(load[:, None] + real_time, real_time).sum(axis=0),
    )


def _tail_mean(cost: FloatArray, probability: FloatArray, alpha: float) -> float:
    """CVaR as the least value of η + E[(C - η)+] / (1 - α), reached at one of the costs."""
    return min(float(eta + probability @ np.maximum(cost - eta, 0.0) / (1 - alpha)) for eta in cost)
