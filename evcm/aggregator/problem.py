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
from evcm.inputs.prices import PriceSeries
from evcm.inputs.values import Battery, Charger, PriceSteps
from evcm.store import files, fingerprint

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
    ("export_cap_mw", ("T",)),
    ("midnight_soc_kwh", ("V", "N")),
    ("feeds_in", ("V",)),
)

FIGURES = (
    "soc_min_kwh", "soc_max_kwh", "departure_soc_kwh",
    "power_kw", "charge_efficiency", "discharge_efficiency",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class VehicleFigures:
    """Battery and charger of every vehicle group, (V,) each, in kWh, kW and shares.

    `feeds_in` tells which may discharge.
    """

    soc_min_kwh: FloatArray
    soc_max_kwh: FloatArray
    departure_soc_kwh: FloatArray
    power_kw: FloatArray
    charge_efficiency: FloatArray
    discharge_efficiency: FloatArray
    feeds_in: BoolArray


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
    names = {"power_kw": "charger_kw", "capacity_kwh": "battery_kwh"}
    for part in (p.battery, p.charger):
        for f in fields(part):
            shape = np.shape(getattr(part, f.name))
            c.require(
                shape in ((), (sizes["V"],)), names.get(f.name, f.name), f"shape {shape}",
                f"one number, or V = {sizes['V']} numbers",
            )  # fmt: skip
    if isinstance(p.price, PriceSeries):
        series = p.price
        c.require(
            series.periods == sizes["T"], "price", f"{series.periods} periods",
            f"T = {sizes['T']} as in other arrays",
        )  # fmt: skip
        c.require(
            series.samples in (1, sizes["N"]), "price", f"{series.samples} samples",
            f"N = {sizes['N']} as in other arrays",
        )  # fmt: skip
    if len(c.faults) > before:
        return None
    return sizes["T"], sizes["V"], sizes["N"]


def check_values(p: AggregatorProblem, c: Checks) -> None:
    """Report the first bad entry of every array; bring arrays to their types."""
    for name in ("available", "travelling", "feeds_in"):
        array = getattr(p, name)
        if array is not None and array.dtype != bool:
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
        if array is None or array.ndim == 3 or name == "feeds_in":
            continue
        array = array.astype(float)
        object.__setattr__(p, name, array)
        if name in ("trading_cap_mw", "system_load_mw"):  # others may feed in more than loads take
            _first(c, name, array, ~np.isfinite(array), "a finite number")
        elif name == "group_size":
            bad = ~(np.isfinite(array) & (array >= 1) & (array == np.floor(array)))
            _first(c, name, array, bad, "a whole number >= 1")
        elif name == "midnight_soc_kwh":
            k = p.figures
            bad = ~(
                (array >= k.soc_min_kwh[:, None] - 1e-6) & (array <= k.soc_max_kwh[:, None] + 1e-6)
            )
            _first(
                c, name, array, bad, f"{k.soc_min_kwh.min():g}..{k.soc_max_kwh.max():g}, the "
                "car's soc_min_kwh..soc_max_kwh",
            )  # fmt: skip
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
        Load Psys of the rest of the system; below 0 where more is fed in.
    price : PriceSteps or PriceSeries
        Price as a step function of the whole system's load; or given prices of each period, which
        the aggregator does not move.
    battery, charger
        Of every car, each figure one number or (V,); `battery.departure_soc_kwh` is the hand-over
        contract S_dep.
    system_cap_mw : float, optional
        P^SYScap of (29), (30).
    trading_cap_mw : (T,), optional
        Pcap of (56), (57). Exactly one of the two caps must be given.
    export_cap_mw : (T,), optional
        Most that may be fed in, day-ahead and in every sample, as a positive number; no limit if
        left out.
    real_time_limit : {"v2g", "plug"}
        What bounds real-time trade P+ + P-: the energy fed back, (10), or the power of the plugs
        in use, Σ_v n_v P_max over the cars plugged in, which is what the published runs did.
    allow_v2g : bool
        Without V2G no car discharges, B2G = 0; under the limit "v2g" nothing is then traded in
        real time.
    feeds_in : (V,) bool, optional
        Which groups may discharge, B2G > 0, beside others that only charge; all by default.
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
    price: PriceSteps | PriceSeries = field(repr=False)
    battery: Battery
    charger: Charger
    system_cap_mw: float | None = None
    trading_cap_mw: FloatArray | None = field(default=None, repr=False)
    export_cap_mw: FloatArray | None = field(default=None, repr=False)
    real_time_limit: RealTimeLimit = "v2g"
    allow_v2g: bool = True
    feeds_in: BoolArray | None = field(default=None, repr=False)
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

    @cached_property
    def figures(self) -> VehicleFigures:
        """Battery and charger of every group, (V,) each."""
        parts = {f.name: getattr(part, f.name) for part in (self.battery, self.charger)
                 for f in fields(part)}  # fmt: skip
        whole = {name: np.array(np.broadcast_to(parts[name], self.vehicles)) for name in FIGURES}
        feeds = np.ones(self.vehicles, bool) if self.feeds_in is None else self.feeds_in
        return VehicleFigures(**whole, feeds_in=feeds & self.allow_v2g)

    @cached_property
    def charge_step_kwh(self) -> FloatArray:
        """Most that each battery gains in a period (V,), Δt η_chg P_max."""
        return self.period_h * self.figures.charge_efficiency * self.figures.power_kw

    @cached_property
    def discharge_step_kwh(self) -> FloatArray:
        """Most that each battery gives in a period (V,), Δt P_max; 0 for cars that only charge."""
        return np.where(self.figures.feeds_in, self.period_h * self.figures.power_kw, 0.0)

    @property
    def price_steps(self) -> PriceSteps:
        """Price as steps by load, for what knows no other; an `InputError` under given prices."""
        if isinstance(self.price, PriceSeries):
            fault = Fault("price", "given prices per period", "steps by the system's load here")
            raise InputError(self.label, [fault])
        return self.price

    @cached_property
    def step_edge_mw(self) -> FloatArray:
        """Loads (B - 1,) at which the price changes; none under given prices."""
        return np.zeros(0) if isinstance(self.price, PriceSeries) else self.price.edge_mw[:-1]

    @cached_property
    def step_price_usd_per_kwh(self) -> FloatArray:
        """Price of each step in each period (T, B); one step under given prices."""
        if isinstance(self.price, PriceSeries):
            return self.price.day_ahead_usd_per_kwh[:, None]
        price = self.price.price_usd_per_kwh
        return np.broadcast_to(price, (self.periods, price.size))

    def day_ahead_payment_usd(self, day_ahead_mw: FloatArray) -> FloatArray:
        """What P^EM (T,) pays in each period (T,), USD; negative where it earns, (22)."""
        if isinstance(self.price, PriceSeries):
            mwh = 1000.0 * self.period_h
            return np.asarray(mwh * self.price.day_ahead_usd_per_kwh * day_ahead_mw)
        load = self.system_load_mw + day_ahead_mw
        return self.period_h * self.price.payment(load, day_ahead_mw)

    def real_time_payment_usd(
        self, day_ahead_mw: FloatArray, real_time_mw: FloatArray
    ) -> FloatArray:
        """What trade d = P- - P+ (T, N) pays in each period and sample, USD, (7), (8), (23)."""
        if isinstance(self.price, PriceSeries):
            buy, sell = self.price.real_time_usd_per_kwh(self.samples)
            price = np.where(real_time_mw >= 0, buy, sell)
            return np.asarray(1000.0 * self.period_h * price * real_time_mw)
        load = (self.system_load_mw + day_ahead_mw)[:, None] + real_time_mw
        return self.period_h * self.price.payment(load, real_time_mw)

    @cached_property
    def cap_mw(self) -> FloatArray:
        """Upper limit of the aggregator's own power (T,): (29)-(30) or (56)-(57). May be < 0."""
        if self.trading_cap_mw is not None:
            return self.trading_cap_mw
        assert self.system_cap_mw is not None
        return np.asarray(self.system_cap_mw - self.system_load_mw)

    @cached_property
    def floor_mw(self) -> FloatArray:
        """Lower limit of the aggregator's own power (T,): -`export_cap_mw`, or -inf."""
        if self.export_cap_mw is None:
            return np.full(self.periods, -np.inf)
        return -self.export_cap_mw

    @cached_property
    def plugged_mw(self) -> FloatArray:
        """Charger power of the cars plugged in (T, N), Σ_v n_v P_max / 1000."""
        return self.sum_plugged(self.group_size * self.figures.power_kw / 1000.0)

    def sum_plugged(self, weight: FloatArray) -> FloatArray:
        """Sum of a weight (V,) over the cars plugged in (T, N)."""
        total = np.empty((self.periods, self.samples))
        for t in range(self.periods):
            total[t] = weight @ self.available[t]
        return total

    @cached_property
    def visits(self) -> Visits:
        """Visits of every car in every sample."""
        return find_visits(
            self.available, self.travelling, self.trip_energy_kwh, self.figures.departure_soc_kwh
        )

    @cached_property
    def fingerprint(self) -> str:
        """Hash of everything that is asked, but for the name and the bus: options included."""
        parts: dict[str, Any] = {}
        for f in fields(self):
            if f.name in ("name", "bus"):
                continue
            value = getattr(self, f.name)
            if f.name in ("battery", "charger", "price"):
                inner = {g.name: getattr(value, g.name) for g in fields(value)}
                value = {k: None if v is None else np.asarray(v, float) for k, v in inner.items()}
            parts[f.name] = value
        return fingerprint.of_content(parts)

    def with_options(self, **changes: Any) -> AggregatorProblem:
        """A copy with some fields changed, checked again."""
        return replace(self, **changes)


_REQUIRED = [
    "period_h", "probability", "available", "travelling", "trip_energy_kwh", "group_size",
    "storage_cost_usd_per_kwh", "degradation_slope", "system_load_mw", "departure_soc_kwh",
    "battery_kwh", "soc_min_kwh", "soc_max_kwh", "charger_kw", "charge_efficiency",
    "discharge_efficiency",
]  # fmt: skip


_STEPS = ("price_edge_mw", "price_usd_per_kwh")
_SERIES = ("day_ahead_usd_per_kwh", "buy_usd_per_kwh", "sell_usd_per_kwh")
"""Arrays of prices in an instance: steps, or series per period."""


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
    kind = _SERIES[:1] if _SERIES[0] in a else _STEPS
    a = a | files.read_npz(path, list(kind))
    number = re.search(r"bus(\d+)$", path.stem)
    faults: list[Fault] = []

    def scalar(name: str) -> float:
        if a[name].size != 1 or a[name].dtype.kind not in "iuf":
            faults.append(Fault(name, f"shape {a[name].shape}, type {a[name].dtype}", "one number"))
            return float("nan")
        return float(a[name].reshape(()))

    def figure(name: str) -> Any:
        return a[name] if a[name].ndim == 1 and a[name].size > 1 else scalar(name)

    def make(kind: Any, *values: Any) -> Any:
        try:
            return kind(*values)
        except InputError as error:
            faults.extend(error.faults)
            return None

    battery = make(
        Battery, *map(figure, ("battery_kwh", "soc_min_kwh", "soc_max_kwh", "departure_soc_kwh"))
    )
    charger = make(
        Charger, *map(figure, ("charger_kw", "charge_efficiency", "discharge_efficiency"))
    )
    price = (
        make(PriceSteps, *(a[name] for name in _STEPS))
        if kind is _STEPS
        else make(PriceSeries, *(a.get(name) for name in _SERIES))
    )
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
        for name in (
            "system_cap_mw",
            "trading_cap_mw",
            "export_cap_mw",
            "midnight_soc_kwh",
            "feeds_in",
        )
        if getattr(p, name) is not None
    }
    if isinstance(p.price, PriceSeries):
        optional |= {
            name: value for name in _SERIES if (value := getattr(p.price, name)) is not None
        }
    else:
        optional |= dict(zip(_STEPS, (p.price.edge_mw, p.price.price_usd_per_kwh), strict=True))
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
        battery_kwh=p.battery.capacity_kwh,
        soc_min_kwh=p.battery.soc_min_kwh,
        soc_max_kwh=p.battery.soc_max_kwh,
        departure_soc_kwh=p.battery.departure_soc_kwh,
        charger_kw=p.charger.power_kw,
        charge_efficiency=p.charger.charge_efficiency,
        discharge_efficiency=p.charger.discharge_efficiency,
        **optional,
    )
