"""Battery ageing by cycles and by calendar; temperature, SoC and capacity are inputs.

Both laws are linear in what a controller decides (throughput and mean SoC), so an exact optimum
can price them: cycle fade is the full-cycle equivalent over the cycle life, calendar fade the time
over the calendar life with a straight SoC stress, each times an Arrhenius factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evcm import data
from evcm.arrays import FloatArray
from evcm.errors import Checks

GAS_CONSTANT = 8.314462618e-3
"""kJ/(mol·K)."""
REFERENCE_K = 298.15

Numbers = FloatArray | float


@dataclass(frozen=True)
class Ageing:
    """Life of a battery to its end (`end_fade` of the capacity lost) at 25 °C and SoC 0.5.

    `cycle_life` full cycles, `calendar_life_years` of rest; `soc_slope` is the relative rise of
    calendar fade per unit of SoC; `cycle_kj_per_mol`, `calendar_kj_per_mol` activation energies.
    """

    cycle_life: float
    calendar_life_years: float
    soc_slope: float
    cycle_kj_per_mol: float
    calendar_kj_per_mol: float
    end_fade: float
    replacement_usd_per_kwh: float

    def __post_init__(self) -> None:
        c = Checks("ageing")
        c.each(self, ("cycle_life", "calendar_life_years", "end_fade"), lambda v: v > 0, "> 0")
        c.require(0 <= self.soc_slope <= 2, "soc_slope", self.soc_slope, "0..2")
        names = ("cycle_kj_per_mol", "calendar_kj_per_mol", "replacement_usd_per_kwh")
        c.each(self, names, lambda v: v >= 0, ">= 0")
        c.done()

    def cycle_factor(self, temperature_c: FloatArray | float) -> FloatArray:
        """Arrhenius factor of cycle fade, 1 at 25 °C."""
        return _arrhenius(self.cycle_kj_per_mol, temperature_c)

    def calendar_factor(self, temperature_c: FloatArray | float) -> FloatArray:
        """Arrhenius factor of calendar fade, 1 at 25 °C."""
        return _arrhenius(self.calendar_kj_per_mol, temperature_c)

    def cycle_fade(
        self, throughput_kwh: Numbers, capacity_kwh: Numbers, temperature_c: Numbers = 25.0
    ) -> FloatArray:
        """Share of the capacity lost by moving `throughput_kwh` in or out of the battery."""
        cycles = np.asarray(throughput_kwh) / (2.0 * np.asarray(capacity_kwh))
        return np.asarray(
            self.end_fade * cycles / self.cycle_life * self.cycle_factor(temperature_c)
        )

    def calendar_fade(
        self, hours: Numbers, soc: Numbers, temperature_c: Numbers = 25.0
    ) -> FloatArray:
        """Share of the capacity lost by resting `hours` at the mean state of charge `soc`."""
        share = np.asarray(hours) / (8760.0 * self.calendar_life_years)
        stress = 1.0 + self.soc_slope * (np.asarray(soc) - 0.5)
        return np.asarray(self.end_fade * share * stress * self.calendar_factor(temperature_c))

    def cost_usd(self, fade: FloatArray | float, capacity_kwh: float) -> FloatArray:
        """Money for a fade: the battery's price, used up when `end_fade` is reached."""
        return np.asarray(fade) / self.end_fade * capacity_kwh * self.replacement_usd_per_kwh

    @property
    def cycle_usd_per_kwh(self) -> float:
        """Cost of one kWh of throughput at 25 °C."""
        return self.replacement_usd_per_kwh / (2.0 * self.cycle_life)

    @property
    def calendar_usd_per_kwh_h(self) -> float:
        """Cost of one hour at SoC 0.5 and 25 °C, per kWh of capacity."""
        return self.replacement_usd_per_kwh / (8760.0 * self.calendar_life_years)


def _arrhenius(kj_per_mol: float, temperature_c: FloatArray | float) -> FloatArray:
    kelvin = np.asarray(temperature_c, dtype=float) + 273.15
    return np.asarray(np.exp(kj_per_mol / GAS_CONSTANT * (1.0 / REFERENCE_K - 1.0 / kelvin)))


def default_ageing() -> Ageing:
    """The ageing law of ``data/v2x/cars.toml``."""
    return Ageing(**data.read_toml("v2x/cars.toml")["ageing"])
