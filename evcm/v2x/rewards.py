"""Rewards: weights on what a step reports, so that the same reward has an exact optimum.

A reward is any callable from a `StepResult` to a number. `Weights` is the family that the batched
kernel computes and that `evcm.v2x.solve` maximises exactly: every weight is at least 0 and
each term is concave in the schedule.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Protocol

import numpy as np

from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.v2x.kernel import AGEING, COST, OVERLOAD, TARIFF, TERMS, TRACKING, UNSERVED


@dataclass(frozen=True, eq=False)
class StepResult:
    """What one step did.

    `terms` (len(TERMS),) are the station's totals; `grid_kwh`, `battery_kwh` (P,) the energy of
    each port; `lot_kw` (L,) and `transformer_kw` (M,) mean powers.
    """

    step: int
    terms: FloatArray
    grid_kwh: FloatArray
    battery_kwh: FloatArray
    lot_kw: FloatArray
    transformer_kw: FloatArray

    def __getitem__(self, term: str) -> float:
        return float(self.terms[TERMS.index(term)])


class Reward(Protocol):
    """A reward: from the result of a step to a number."""

    def __call__(self, result: StepResult) -> float:
        """Value of a step."""
        ...


@dataclass(frozen=True)
class Weights:
    """Reward = − energy cost + tariff − unserved − ageing − overload − tracking, each weighted."""

    energy_cost: float = 1.0
    tariff: float = 1.0
    unserved_usd_per_kwh: float = 0.5
    ageing: float = 1.0
    overload_usd_per_kwh: float = 2.0
    tracking_usd_per_kwh: float = 0.0

    def __post_init__(self) -> None:
        c = Checks("reward weights")
        c.each(self, [f.name for f in fields(self)], lambda v: 0 <= v < np.inf, "a number >= 0")
        c.done()

    def vector(self) -> FloatArray:
        """Factors of TERMS, (len(TERMS),)."""
        out = np.zeros(len(TERMS))
        out[COST], out[TARIFF] = -self.energy_cost, self.tariff
        out[UNSERVED], out[AGEING] = -self.unserved_usd_per_kwh, -self.ageing
        out[OVERLOAD], out[TRACKING] = -self.overload_usd_per_kwh, -self.tracking_usd_per_kwh
        return out

    def __call__(self, result: StepResult) -> float:
        """Value of a step."""
        return float(result.terms @ self.vector())


PROFIT = Weights(unserved_usd_per_kwh=0.0, ageing=0.0, overload_usd_per_kwh=0.0)
"""Money of the station alone."""

SERVICE = Weights(0.0, 0.0, 1.0, 0.0, 0.0)
"""User satisfaction: one USD for each kWh that is missing at departure, nothing else."""

TRACKING_ONLY = Weights(0.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""Follow the set-point."""

BALANCED = Weights()
"""Money, service, ageing and overload together: the default."""
