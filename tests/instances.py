"""Small random aggregator problems that always have a plan, for property tests of every method."""

from __future__ import annotations

import numpy as np

from evcm.aggregator.problem import AggregatorProblem
from evcm.inputs import Battery, Charger, PriceSteps


def random_problem(
    seed: int,
    *,
    periods: int = 12,
    vehicles: int = 4,
    samples: int = 2,
    steps: int = 4,
    charger_kw: float = 20.0,
    cap: str = "system",
    always_plugged: bool = False,
    group_size: int | None = None,
    forced_v2g: bool = False,
) -> AggregatorProblem:
    """A problem with one round trip per car and sample, visits long enough, and price steps that
    the fleet itself can cross. The cap leaves at least the power of every charger
    (`forced_v2g`: but for one period, in which some V2G is needed)."""
    rng = np.random.default_rng(seed)
    T, V, N = periods, vehicles, samples
    period_h = 24.0 / T
    available = np.ones((T, V, N), bool)
    travelling = np.zeros((T, V, N), bool)
    energy = np.zeros((T, V, N))
    for v in range(V):
        if always_plugged and v == 0:
            continue
        for n in range(N):
            leave = int(rng.integers(1, T // 2))
            back = int(rng.integers(leave + 3, T))
            legs = [leave, back]
            available[legs[0] : back + 1, v, n] = False
            travelling[legs, v, n] = True
            energy[legs, v, n] = rng.uniform(2.0, 9.0, 2)
    size = rng.integers(1, 14, V) if group_size is None else np.full(V, group_size)
    fleet_mw = float(size.sum() * charger_kw / 1000.0)
    load = 100.0 + fleet_mw * rng.uniform(-0.6, 0.6, T)
    edge = 100.0 + fleet_mw * np.linspace(-0.5, 1.0, steps)
    price = np.sort(rng.uniform(0.003, 0.010, steps))
    storage_cost = rng.uniform(100, 140, V)
    caps: dict[str, object] = {"system_cap_mw": float(load.max() + fleet_mw)}
    if cap == "trading":
        caps = {"trading_cap_mw": np.full(T, fleet_mw)}
    if forced_v2g:
        trading = np.full(T, fleet_mw)
        trading[0] = -0.05 * fleet_mw
        caps = {"trading_cap_mw": trading}
    return AggregatorProblem(
        period_h=period_h,
        probability=np.full(N, 1.0 / N),
        available=available,
        travelling=travelling,
        trip_energy_kwh=energy,
        group_size=size,
        storage_cost_usd_per_kwh=storage_cost,
        degradation_slope=0.0006 + 0.0011 * (storage_cost - 100) / 40,
        system_load_mw=load,
        price=PriceSteps(edge, price),
        battery=Battery(80.0, 12.0, 76.0, 60.0),
        charger=Charger(charger_kw, 0.9, 0.9),
        name=f"random-{seed}",
        **caps,
    )
