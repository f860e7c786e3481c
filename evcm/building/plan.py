"""What may be decided about a building's day, and the plan that comes of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evcm.arrays import FloatArray
from evcm.building.inputs import Building, Sessions

EXCLUSIVE_KW = 1e-6
"""Power of charging and giving at once above which it is forbidden by binaries."""


@dataclass(frozen=True)
class Variant:
    """What may be decided: move charging within stays, give energy back, use PV, use the bank."""

    shifting: bool = False
    v2g: bool = False
    pv: bool = True
    bank: bool = False


AS_PRINTED = Variant()
"""The paper's dispatch: charging is fixed, PV groups and grid share it."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A dispatched day of T periods, with what proves it.

    `power_kw`, `on`, `start`, `stop` are (T, units): PV groups, then the grid's import.
    `export_kw`, `bank_in_kw`, `bank_out_kw`, `ready_kw` (the bank's reserve) are (T,), as is
    `stored_kwh` after each period; `charge_kw`, `give_kw` are (T, bays).
    """

    building: Building
    sessions: Sessions
    variant: Variant
    power_kw: FloatArray
    on: FloatArray
    start: FloatArray
    stop: FloatArray
    bank_in_kw: FloatArray
    bank_out_kw: FloatArray
    stored_kwh: FloatArray
    export_kw: FloatArray
    ready_kw: FloatArray
    charge_kw: FloatArray
    give_kw: FloatArray
    peak_kw: float
    cost_usd: float
    bound_usd: float
    status: str
    seconds: float

    @property
    def gap(self) -> float:
        """Gap between cost and proven bound, relative to the cost, of 1 USD at least."""
        return max(0.0, self.cost_usd - self.bound_usd) / max(abs(self.cost_usd), 1.0)

    @property
    def grid_kw(self) -> FloatArray:
        """Import, (T,)."""
        return self.power_kw[:, -1]

    @property
    def pv_kw(self) -> FloatArray:
        """Power of all PV groups, (T,)."""
        return np.asarray(self.power_kw[:, :-1].sum(axis=1))

    @property
    def demand_kw(self) -> FloatArray:
        """Load and charging, (T,)."""
        return np.asarray(self.building.load_kw + self.charge_kw.sum(axis=1))


def burns(plan: Plan) -> bool:
    """Whether the bank or a car charges and gives in the same period."""
    bank_both = np.minimum(plan.bank_in_kw, plan.bank_out_kw).max(initial=0.0)
    car_both = np.minimum(plan.charge_kw, plan.give_kw).max(initial=0.0)
    return bool(max(bank_both, car_both) > EXCLUSIVE_KW)
