"""A building's plan re-checked in numpy: (7)-(14), bank, cars, demand charge, cost and gap."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from evcm.arrays import FloatArray
from evcm.building.inputs import available_kw, lay_out
from evcm.building.plan import Plan
from evcm.errors import Certificate
from evcm.paper import implements


@dataclass(frozen=True)
class BuildingCertificate(Certificate):
    """Largest violation of each rule, in kW, kWh or USD; numbers in brackets are the paper's.

    cost (7), balance (8), reserve (9), limits (10), commitment (11), ramps (12)-(13), binaries
    (14); bank: balance, limits, PV only, same charge at the end; cars: energy by departure, bounds,
    fixed charging where nothing may move; burning: charging and
    giving, or buying and feeding in, at once; gap.
    """

    cost_usd: float
    balance_kw: float
    reserve_kw: float
    limits_kw: float
    commitment: float
    ramps_kw: float
    binaries: float
    bank: float
    cars: float
    burning_kw: float
    gap: float

    subject = "building certificate"

    def violations(self) -> tuple[str, ...]:
        """Rules that are off by more than `TOLERANCE`, and a gap above 0.01 %."""
        return self.beyond({f.name: TOLERANCE for f in fields(self)} | {"gap": 1e-4})


TOLERANCE = 2e-5
"""Allowed violation; HiGHS keeps rows to 1e-7 and binaries to 1e-6 of up to a few hundred kW."""


@implements("7", "8", "9", "10", "11", "12", "13", "14", role="certificate", paper="building")
def certify(plan: Plan) -> BuildingCertificate:
    """Re-evaluate a plan without the solver's model; call ``require()`` on the answer."""
    b = plan.building
    sun = available_kw(b) * plan.variant.pv
    available = np.hstack([sun, np.full((b.horizon.periods, 1), b.connection_kw)])
    demand = b.load_kw + plan.charge_kw.sum(axis=1)
    supply = plan.power_kw.sum(axis=1) + plan.bank_out_kw + plan.give_kw.sum(axis=1)
    headroom = available * plan.on - plan.power_kw
    spare = headroom[:, :-1].sum(axis=1) + b.reserve_from_grid * headroom[:, -1] + plan.ready_kw
    meter = b.connection_kw * plan.on[:, -1] * (b.feed_in_usd_per_kwh is not None)
    least = np.array([*(g.min_kw for g in b.groups), 0.0])
    return BuildingCertificate(
        cost_usd=abs(_cost(plan) - plan.cost_usd),
        balance_kw=_most(np.abs(supply - demand - plan.bank_in_kw - plan.export_kw)),
        reserve_kw=_most(b.reserve_share * demand - spare),
        limits_kw=max(_most(least * plan.on - plan.power_kw),
                      _most(plan.power_kw - available * plan.on),
                      _most(-plan.export_kw), _most(plan.export_kw - meter)),
        commitment=_commitment(plan),
        ramps_kw=_ramps(plan),
        binaries=max(_most(np.minimum(np.abs(v), np.abs(v - 1)))
                     for v in (plan.on, plan.start, plan.stop)),
        bank=_bank(plan),
        cars=_cars(plan),
        burning_kw=max(_most(np.minimum(plan.bank_in_kw, plan.bank_out_kw)),
                       _most(np.minimum(plan.charge_kw, plan.give_kw)),
                       _most(np.minimum(plan.grid_kw, plan.export_kw))),
        gap=plan.gap,
    )  # fmt: skip


def _most(values: FloatArray) -> float:
    return max(0.0, float(np.max(values, initial=0.0)))


def _cost(plan: Plan) -> float:
    b, step = plan.building, plan.building.horizon.step_h
    total = step * float(b.price_usd_per_kwh @ plan.grid_kw)
    total += step * b.connection_usd_per_h * float(plan.on[:, -1].sum())
    if b.feed_in_usd_per_kwh is not None:
        total -= step * float(b.feed_in_usd_per_kwh @ plan.export_kw)
    total += b.demand_usd_per_kw * float(plan.grid_kw.max())
    for k, g in enumerate(b.groups):
        total += step * g.cost_usd_per_kwh * float(plan.power_kw[:, k].sum())
        total += step * g.cost_usd_per_h * float(plan.on[:, k].sum())
        total += g.start_usd * float(plan.start[:, k].sum())
        total += g.stop_usd * float(plan.stop[:, k].sum())
    total += step * b.bank.wear_usd_per_kwh * float(plan.bank_out_kw.sum())
    total += step * b.response.v2g_usd_per_kwh * float(plan.give_kw.sum())
    plain = lay_out(plan.sessions, b.horizon, b.bays).plain_kw
    moved = float(np.maximum(plain - plan.charge_kw, 0.0).sum())
    return total + step * b.response.comfort_usd_per_kwh * moved


def _commitment(plan: Plan) -> float:
    before = np.vstack([np.zeros((1, plan.on.shape[1])), plan.on[:-1]])
    change = np.abs(plan.on - before - plan.start + plan.stop)
    return max(_most(change), _most(plan.start + plan.stop - 1.0))


def _ramps(plan: Plan) -> float:
    step, worst = plan.building.horizon.step_h, 0.0
    for k, g in enumerate(plan.building.groups):
        change = np.diff(plan.power_kw[:, k], prepend=0.0)
        worst = max(worst, _most(change - step * g.ramp_up_kw_per_h),
                    _most(-change - step * g.ramp_down_kw_per_h))  # fmt: skip
    return worst


def _bank(plan: Plan) -> float:
    bank, step = plan.building.bank, plan.building.horizon.step_h
    use = float(plan.variant.bank)
    start = use * bank.capacity_kwh * bank.start_share
    flow = bank.charge_efficiency * plan.bank_in_kw - plan.bank_out_kw / bank.discharge_efficiency
    stored = start + step * np.cumsum(flow)
    return max(
        _most(np.abs(stored - plan.stored_kwh)),
        _most(-stored), _most(stored - use * bank.capacity_kwh), abs(float(stored[-1]) - start),
        _most(plan.bank_in_kw - use * bank.charge_kw), _most(-plan.bank_in_kw),
        _most(plan.bank_out_kw - use * bank.discharge_kw), _most(-plan.bank_out_kw),
        _most(plan.bank_in_kw - plan.pv_kw),
        # What the bank holds ready: of its power, and for a period of what is stored.
        _most(plan.ready_kw + plan.bank_out_kw - use * bank.discharge_kw),
        _most(step * plan.ready_kw / bank.discharge_efficiency - stored), _most(-plan.ready_kw),
    )  # fmt: skip


def _cars(plan: Plan) -> float:
    """Each session walked on its own, from its row; power outside sessions counts as fault."""
    b, s, step = plan.building, plan.sessions, plan.building.horizon.step_h
    idle, worst = np.ones(plan.charge_kw.shape, dtype=bool), 0.0
    moves = plan.variant.shifting or plan.variant.v2g
    for n in range(len(s)):
        span, bay = np.arange(s.arrival[n], s.departure[n]) % b.horizon.periods, s.bay[n]
        idle[span, bay] = False
        charge, give = plan.charge_kw[span, bay], plan.give_kw[span, bay]
        got = step * np.cumsum(charge - give / b.response.v2g_round_trip)
        plain = np.clip(s.energy_kwh[n] - step * s.power_kw[n] * np.arange(len(charge)),
                        0.0, step * s.power_kw[n]) / step  # fmt: skip
        worst = max(
            worst, abs(float(got[-1]) - float(s.energy_kwh[n])),
            _most(got - s.energy_kwh[n]), _most(-s.give_kwh[n] - got),
            _most(charge - s.power_kw[n]), _most(give - plan.variant.v2g * s.power_kw[n]),
            _most(-charge), _most(-give), 0.0 if moves else _most(np.abs(charge - plain)),
        )  # fmt: skip
    return max(worst, _most(plan.charge_kw[idle]), _most(plan.give_kw[idle]))
