"""Random aggregator problems of every kind: sizes, efficiencies, chargers, caps, options."""

from __future__ import annotations

import numpy as np

from evcm.aggregator.problem import AggregatorProblem
from evcm.inputs import Battery, Charger, PriceSteps
from evcm.inputs.prices import PriceSeries


def odd_problem(seed: int) -> AggregatorProblem:
    """A random problem that may or may not have a plan; every seed is another kind."""
    rng = np.random.default_rng(seed)
    T = int(rng.choice([4, 6, 8, 12, 24]))
    V, N = int(rng.integers(1, 31 if T <= 8 else 9)), int(rng.integers(1, 6))
    period_h = 24.0 / T
    available, travelling = np.ones((T, V, N), bool), np.zeros((T, V, N), bool)
    energy = np.zeros((T, V, N))
    for v in range(V):
        if rng.random() < 0.15:  # never leaves
            continue
        for n in range(N):
            leave = int(rng.integers(0, T - 1))
            gone = int(rng.integers(1, max(2, T // 2)))
            away = (leave + np.arange(gone)) % T
            available[away, v, n] = False
            travelling[away[[0, -1]], v, n] = True
            energy[away[[0, -1]], v, n] = rng.uniform(0.5, 6.0)
    alike = rng.random() < 0.6
    kw = rng.choice([1.0, 2.0, 3.7, 7.4, 11.0, 22.0, 50.0, 150.0], None if alike else V)
    high = rng.uniform(30.0, 80.0, None if alike else V)
    low, departure = 0.1 * high, rng.uniform(0.4, 1.0) * high
    efficiency = (rng.choice([0.5, 0.8, 0.9, 0.95, 0.99, 1.0]) for _ in range(2))
    battery, charger = Battery(high, low, high, departure), Charger(kw, *efficiency)
    size = rng.integers(1, 12, V) if rng.random() < 0.5 else np.ones(V)
    fleet_mw = float((size * kw).sum() / 1000.0)
    load = 100.0 + fleet_mw * rng.uniform(-0.6, 0.6, T)
    steps = int(rng.integers(1, 6))
    lowest = rng.choice([0.003, 0.0, -0.02])
    price: PriceSteps | PriceSeries = PriceSteps(
        np.sort(100.0 + fleet_mw * rng.uniform(-0.6, 1.0, steps)),
        np.sort(rng.uniform(lowest, rng.choice([0.01, 0.2]), steps)),
    )
    if rng.random() < 0.2:
        day = rng.uniform(-0.05, 0.2, T)
        price = PriceSeries(day) if rng.random() < 0.6 else PriceSeries(day, day + 0.02, day - 0.01)
    kind = rng.random()
    caps: dict[str, object] = {"system_cap_mw": 1e6}
    if kind < 0.4:
        caps = {"trading_cap_mw": fleet_mw * rng.uniform(0.3, 1.0, T)}
    elif kind < 0.5:
        caps = {"trading_cap_mw": fleet_mw * rng.uniform(-0.05, 0.3, T)}
    options: dict[str, object] = {}
    if rng.random() < 0.2:
        options["real_time_limit"] = "plug"
    if rng.random() < 0.2:
        options["allow_v2g"] = False
    elif rng.random() < 0.2:
        options["feeds_in"] = rng.random(V) < 0.5
    storage_cost = rng.uniform(50, 140, V)
    problem = AggregatorProblem(
        period_h=period_h,
        probability=rng.dirichlet(np.full(N, 3.0)),
        available=available,
        travelling=travelling,
        trip_energy_kwh=energy,
        group_size=size,
        storage_cost_usd_per_kwh=storage_cost,
        degradation_slope=rng.choice([0.0, 0.001, 0.02]) * storage_cost / 100,
        system_load_mw=load,
        price=price,
        battery=battery,
        charger=charger,
        name=f"odd-{seed}",
        **caps,
        **options,
    )
    if rng.random() < 0.1:
        k = problem.figures
        given = np.repeat(k.departure_soc_kwh[:, None], N, axis=1)
        problem = problem.with_options(midnight_soc_kwh=given)
    return problem
