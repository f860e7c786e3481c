"""What one aggregator is asked (2.3): its cars, its market, its caps and the planner's options."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evcm.aggregator.visits import Visits, find_visits
from evcm.arrays import BoolArray, FloatArray
from evcm.errors import Checks, Fault, InputError
from evcm.inputs import Battery, Charger, PriceSteps
from evcm.store import files

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


RealTimeLimit = Literal["v2g", "plug"]


@dataclass(frozen=True, eq=False)
class AggregatorProblem:
    """One aggregator's day-ahead problem. T periods, V groups of cars, N real-time samples.

    Attributes
    ----------
    period_h : float
        Length of a period Δt (h).
    probability : (N,)
        Probability π_n of each real-time sample.
    available, travelling : (T, V, N) bool
        Plugged in at this bus; driving.
    trip_energy_kwh : (T, V, N) float32 or float64
        Energy driven in each period by one car, at the battery.
    group_size : (V,)
        Cars n_v that share one schedule; 1 for single cars.
    storage_cost_usd_per_kwh, degradation_slope : (V,)
        C_v and m_v.
    system_load_mw : (T,)
        Load Psys of the rest of the system.
    price : PriceSteps
        Price as a step function of the whole system's load.
    battery, charger
        Of every car; `battery.departure_soc_kwh` is the hand-over contract S_dep.
    system_cap_mw : float, optional
        P^SYScap of (29), (30).
    trading_cap_mw : (T,), optional
        Pcap of (56), (57). Exactly one of the two caps must be given.
    real_time_limit : {"v2g", "plug"}
        What bounds real-time trade P+ + P-: the energy fed back, (10), or the power of the plugs
        in use, Σ_v n_v P_max over the cars plugged in, which is what the published runs did.
    allow_v2g : bool
        Without V2G no car discharges, B2G = 0; under the limit "v2g" nothing is then traded in
        real time.
    midnight_soc_kwh : (V, N), optional
        State of charge after period 1 of cars that are then plugged in, (20).
    risk_alpha, risk_weight : float
        The objective is (1 - w) E[C] + w CVaR_α[C] of the cost of a day; w = 0 is the paper's.
    bus : int, optional
        Bus of the network.
    name : str
        For messages.
    """

    period_h: float
    probability: FloatArray = field(repr=False)
    available: BoolArray = field(repr=False)
    travelling: BoolArray = field(repr=False)
    trip_energy_kwh: FloatArray = field(repr=False)
    group_size: FloatArray = field(repr=False)
    storage_cost_usd_per_kwh: FloatArray = field(repr=False)
    degradation_slope: FloatArray = field(repr=False)
    system_load_mw: FloatArray = field(repr=False)
    price: PriceSteps = field(repr=False)
    battery: Battery
    charger: Charger
    system_cap_mw: float | None = None
    trading_cap_mw: FloatArray | None = field(default=None, repr=False)
    real_time_limit: RealTimeLimit = "v2g"
    allow_v2g: bool = True
    midnight_soc_kwh: FloatArray | None = field(default=None, repr=False)
    risk_alpha: float = 0.9
    risk_weight: float = 0.0
    bus: int | None = None
    name: str = ""

    def __post_init__(self) -> None:
        c = Checks(self.label)
        check_scalars(self, c)
        shape = check_shapes(self, c)
        if shape is not None:
            check_values(self, c)
        c.done()
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, np.ndarray):
                view = value.view()
                view.setflags(write=False)
                object.__setattr__(self, f.name, view)

    @property
    def label(self) -> str:
        """How messages name the problem, with its bus where known."""
        name = self.name or "aggregator problem"
        return name if self.bus is None else f"{name} (bus {self.bus})"

    @property
    def periods(self) -> int:
        """T."""
        return int(self.available.shape[0])

    @property
    def vehicles(self) -> int:
        """V, groups of cars."""
        return int(self.available.shape[1])

    @property
    def samples(self) -> int:
        """N."""
        return int(self.available.shape[2])

    @property
    def cars(self) -> int:
        """Cars in all groups."""
        return int(self.group_size.sum())

    @cached_property
    def wear_usd_per_kwh(self) -> FloatArray:
        """Cost of a kWh drawn from the batteries of a whole group, n_v m_v/100 C_v (V,), (9)."""
        return np.asarray(
            self.group_size * self.degradation_slope / 100.0 * self.storage_cost_usd_per_kwh
        )

    @property
    def charge_step_kwh(self) -> float:
        """Most that a battery gains in a period, Δt η_chg P_max."""
        return self.period_h * self.charger.charge_efficiency * self.charger.power_kw

    @property
    def discharge_step_kwh(self) -> float:
        """Most that a battery gives in a period, Δt P_max; 0 without V2G."""
        return self.period_h * self.charger.power_kw if self.allow_v2g else 0.0

    @cached_property
    def cap_mw(self) -> FloatArray:
        """Upper limit of the aggregator's own power (T,): (29)-(30) or (56)-(57). May be < 0."""
        if self.trading_cap_mw is not None:
            return self.trading_cap_mw
        assert self.system_cap_mw is not None
        return np.asarray(self.system_cap_mw - self.system_load_mw)

    @cached_property
    def plugged_mw(self) -> FloatArray:
        """Charger power of the cars plugged in (T, N), Σ_v n_v P_max / 1000."""
        size = self.group_size.astype(float)
        total = np.empty((self.periods, self.samples))
        for t in range(self.periods):
            total[t] = size @ self.available[t]
        return total * (self.charger.power_kw / 1000.0)

    @cached_property
    def visits(self) -> Visits:
        """Visits of every car in every sample."""
        return find_visits(
            self.available, self.travelling, self.trip_energy_kwh, self.battery.departure_soc_kwh
        )

    def with_options(self, **changes: Any) -> AggregatorProblem:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)


_REQUIRED = [
    "period_h", "probability", "available", "travelling", "trip_energy_kwh", "group_size",
    "storage_cost_usd_per_kwh", "degradation_slope", "system_load_mw", "price_edge_mw",
    "price_usd_per_kwh", "departure_soc_kwh", "battery_kwh", "soc_min_kwh", "soc_max_kwh",
    "charger_kw", "charge_efficiency", "discharge_efficiency",
]  # fmt: skip


def load_problem(path: str | Path, midnight_soc: bool = False, **options: Any) -> AggregatorProblem:
    """Read an instance (.npz).

    Parameters
    ----------
    path : path
        The instance. A name that ends in ``busNN`` tells its bus.
    midnight_soc : bool
        Use the instance's ``midnight_soc_kwh``, (20). Off by default: with (18) it splits the
        night in two.
    **options
        Fields of `AggregatorProblem` to set, such as ``real_time_limit="plug"``.

    Raises
    ------
    InputError
        The file is not an instance, or its content is out of range; all faults are named.
    """
    path = Path(path)
    a = files.read_npz(path, _REQUIRED + (["midnight_soc_kwh"] if midnight_soc else []))
    number = re.search(r"bus(\d+)$", path.stem)
    faults: list[Fault] = []

    def scalar(name: str) -> float:
        if a[name].size != 1 or a[name].dtype.kind not in "iuf":
            faults.append(Fault(name, f"shape {a[name].shape}, type {a[name].dtype}", "one number"))
            return float("nan")
        return float(a[name].reshape(()))

    def make(kind: Any, *values: Any) -> Any:
        try:
            return kind(*values)
        except InputError as error:
            faults.extend(error.faults)
            return None

    battery = make(
        Battery, *map(scalar, ("battery_kwh", "soc_min_kwh", "soc_max_kwh", "departure_soc_kwh"))
    )
    charger = make(
        Charger, *map(scalar, ("charger_kw", "charge_efficiency", "discharge_efficiency"))
    )
    price = make(PriceSteps, a["price_edge_mw"], a["price_usd_per_kwh"])
    content: dict[str, Any] = {
        "period_h": scalar("period_h"),
        **{name: a[name] for name, _ in VECTORS if name in a and name != "midnight_soc_kwh"},
        "midnight_soc_kwh": a["midnight_soc_kwh"] if midnight_soc else None,
        "system_cap_mw": scalar("system_cap_mw") if "system_cap_mw" in a else None,
        "bus": int(number[1]) if number else None,
        "name": path.stem,
    } | options
    try:
        problem = AggregatorProblem(
            **content,
            price=price or PriceSteps(np.ones(1), np.zeros(1)),
            battery=battery or Battery(2.0, 0.0, 1.0, 1.0),
            charger=charger or Charger(1.0, 1.0, 1.0),
        )
    except InputError as error:
        faults.extend(error.faults)
    if faults:
        raise InputError(str(path), faults)
    return problem


def save_problem(path: str | Path, problem: AggregatorProblem) -> None:
    """Write an instance (.npz), whole or not at all. Options other than (20) are not stored."""
    p = problem
    optional = {
        name: getattr(p, name)
        for name in ("system_cap_mw", "trading_cap_mw", "midnight_soc_kwh")
        if getattr(p, name) is not None
    }
    files.write_npz(
        path,
        period_h=p.period_h,
        probability=p.probability,
        available=p.available.astype(np.uint8),
        travelling=p.travelling.astype(np.uint8),
        trip_energy_kwh=p.trip_energy_kwh,
        group_size=p.group_size.astype(np.int32),
        storage_cost_usd_per_kwh=p.storage_cost_usd_per_kwh,
        degradation_slope=p.degradation_slope,
        system_load_mw=p.system_load_mw,
        price_edge_mw=p.price.edge_mw,
        price_usd_per_kwh=p.price.price_usd_per_kwh,
        battery_kwh=p.battery.capacity_kwh,
        soc_min_kwh=p.battery.soc_min_kwh,
        soc_max_kwh=p.battery.soc_max_kwh,
        departure_soc_kwh=p.battery.departure_soc_kwh,
        charger_kw=p.charger.power_kw,
        charge_efficiency=p.charger.charge_efficiency,
        discharge_efficiency=p.charger.discharge_efficiency,
        **optional,
    )
