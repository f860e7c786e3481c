"""Checks of an aggregator problem at the door; every fault is reported, all together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from evcm.errors import Checks

if TYPE_CHECKING:
    from evcm.aggregator.problem import AggregatorProblem

VECTORS = (
    ("probability", ("N",)),
    ("available", ("T", "V", "N")),
    ("travelling", ("T", "V", "N")),
    ("trip_energy_kwh", ("T", "V", "N")),
    ("group_size", ("V",)),
    ("storage_cost_usd_per_kwh", ("V",)),
    ("degradation_slope", ("V",)),
    ("system_load_mw", ("T",)),
    ("trading_cap_mw", ("T",)),
    ("midnight_soc_kwh", ("V", "N")),
)


def check_scalars(p: AggregatorProblem, c: Checks) -> None:
    """Report scalars out of range, and neither or both caps."""
    c.require(
        bool(np.isfinite(p.period_h)) and 0 < p.period_h <= 24, "period_h", p.period_h, "0..24"
    )
    both = (p.system_cap_mw is None, p.trading_cap_mw is None)
    c.require(
        sum(both) == 1, "system_cap_mw, trading_cap_mw",
        "neither" if all(both) else "both" if not any(both) else "one", "exactly one of the two",
    )  # fmt: skip
    if p.system_cap_mw is not None:
        c.require(
            bool(np.isfinite(p.system_cap_mw)), "system_cap_mw", p.system_cap_mw, "a finite number"
        )
    c.require(
        p.real_time_limit in ("v2g", "plug"), "real_time_limit", p.real_time_limit, "v2g or plug"
    )
    c.require(0 <= p.risk_alpha < 1, "risk_alpha", p.risk_alpha, "0 <= value < 1")
    c.require(0 <= p.risk_weight <= 1, "risk_weight", p.risk_weight, "0..1")


def check_shapes(p: AggregatorProblem, c: Checks) -> tuple[int, int, int] | None:
    """Turn every array field into its dtype; report shapes that do not fit one another."""
    sizes: dict[str, int] = {}
    before = len(c.faults)
    for name, dims in sorted(VECTORS, key=lambda item: -len(item[1])):
        value = getattr(p, name)
        if value is None:
            continue
        array = np.asarray(value)
        if not c.require(
            array.ndim == len(dims) and array.size > 0 and array.dtype.kind in "biuf",
            name, f"shape {array.shape}, type {array.dtype}",
            f"numbers of shape ({', '.join(dims)})",
        ):  # fmt: skip
            continue
        for dim, size in zip(dims, array.shape, strict=True):
            known = sizes.setdefault(dim, size)
            c.require(
                size == known, name, f"shape {array.shape}", f"{dim} = {known} as in other arrays"
            )
        object.__setattr__(p, name, array)
    if len(c.faults) > before:
        return None
    return sizes["T"], sizes["V"], sizes["N"]


def check_values(p: AggregatorProblem, c: Checks) -> None:
    """Report the first bad entry of every array; bring arrays to their types."""
    for name in ("available", "travelling"):
        array = getattr(p, name)
        if array.dtype != bool:
            bad = ~np.isin(array, (0, 1)) if array.dtype.kind == "f" else (array > 1) | (array < 0)
            _first(c, name, array, bad, "0 or 1")
            object.__setattr__(p, name, array.astype(bool))
    if p.trip_energy_kwh.dtype not in (np.float32, np.float64):
        object.__setattr__(p, "trip_energy_kwh", p.trip_energy_kwh.astype(float))
    energy = p.trip_energy_kwh
    _first(c, "trip_energy_kwh", energy, ~(np.isfinite(energy) & (energy >= 0)), "a number >= 0")
    _first(
        c,
        "trip_energy_kwh",
        energy,
        (energy > 0) & ~p.travelling,
        "0 where the car does not travel",
    )
    for name, _ in VECTORS:
        array = getattr(p, name)
        if array is None or array.ndim == 3:
            continue
        array = array.astype(float)
        object.__setattr__(p, name, array)
        if name == "trading_cap_mw":
            _first(c, name, array, ~np.isfinite(array), "a finite number")
        elif name == "group_size":
            bad = ~(np.isfinite(array) & (array >= 1) & (array == np.floor(array)))
            _first(c, name, array, bad, "a whole number >= 1")
        elif name == "midnight_soc_kwh":
            low, high = p.battery.soc_min_kwh - 1e-6, p.battery.soc_max_kwh + 1e-6
            bad = ~((array >= low) & (array <= high))
            _first(c, name, array, bad, f"{p.battery.soc_min_kwh:g}..{p.battery.soc_max_kwh:g}")
        else:
            _first(c, name, array, ~(np.isfinite(array) & (array >= 0)), "a number >= 0")
    total = float(p.probability.sum())
    c.require(abs(total - 1) < 1e-6, "probability", f"sum {total:g}", "probabilities that sum to 1")


def _first(c: Checks, name: str, array: NDArray[Any], bad: NDArray[np.bool_], allowed: str) -> None:
    """Report the first bad entry, by its 1-based indices."""
    if bad.any():
        index = np.unravel_index(int(np.argmax(bad)), bad.shape)
        where = ", ".join(str(i + 1) for i in index)
        c.require(False, f"{name}[{where}]", array[index].item(), allowed)
