"""What one aggregator is asked (2.3): its cars, its market, its caps and the planner's options."""

from __future__ import annotations

import re
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evcm.aggregator.visits import Plugged, Visits, find_visits, list_plugged
from evcm.arrays import BoolArray, FloatArray
from evcm.errors import Checks, Fault, InputError
from evcm.inputs.prices import PriceSeries
from evcm.inputs.values import Battery, Charger, PriceSteps
from evcm.paper import implements
from evcm.store import files, fingerprint

AXES = {
    "available": "TVN", "travelling": "TVN", "trip_energy_kwh": "TVN", "feeds_in": "V",
    "midnight_soc_kwh": "VN", "probability": "N", "group_size": "V",
    "storage_cost_usd_per_kwh": "V", "degradation_slope": "V", "system_load_mw": "T",
    "trading_cap_mw": "T", "export_cap_mw": "T",
}  # fmt: skip
"""Arrays of a problem, and along what each of them lies."""

BATTERY = {
    "battery_kwh": "capacity_kwh", "soc_min_kwh": "soc_min_kwh", "soc_max_kwh": "soc_max_kwh",
    "departure_soc_kwh": "departure_soc_kwh",
}  # fmt: skip
CHARGER = {
    "charger_kw": "power_kw", "charge_efficiency": "charge_efficiency",
    "discharge_efficiency": "discharge_efficiency",
}  # fmt: skip
"""Figures of the two, by the name that an instance gives them."""


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
    system = p.system_cap_mw
    given = (system is not None, p.trading_cap_mw is not None)
    c.require(
        sum(given) == 1, "system_cap_mw, trading_cap_mw", "both" if all(given) else "neither",
        "exactly one of the two",
    )  # fmt: skip
    for name, good, allowed in (
        ("period_h", 0 < p.period_h <= 24, "0..24"),
        ("system_cap_mw", system is None or np.isfinite(system), "a finite number"),
        ("real_time_limit", p.real_time_limit in ("v2g", "plug"), "v2g or plug"),
        ("risk_alpha", 0 <= p.risk_alpha < 1, "0 <= value < 1"),
        ("risk_weight", 0 <= p.risk_weight <= 1, "0..1"),
    ):
        c.require(bool(good), name, getattr(p, name), allowed)


def check_shapes(p: AggregatorProblem, c: Checks) -> None:
    """Make an array of every array field; report shapes that do not fit one another."""
    sizes: dict[str, int] = {}
    before = len(c.faults)
    for name, axes in AXES.items():
        value = getattr(p, name)
        if value is None:
            continue
        array = np.asarray(value)
        if not c.require(
            array.ndim == len(axes) and array.size > 0 and array.dtype.kind in "biuf",
            name, f"shape {array.shape}, type {array.dtype}",
            f"numbers of shape ({', '.join(axes)})",
        ):  # fmt: skip
            continue
        for axis, size in zip(axes, array.shape, strict=True):
            known = sizes.setdefault(axis, size)
            allowed = f"{axis} = {known} as in other arrays"
            c.require(size == known, name, f"shape {array.shape}", allowed)
        object.__setattr__(p, name, array)
    if len(c.faults) > before:
        return
    V = sizes["V"]
    for part, names in ((p.battery, BATTERY), (p.charger, CHARGER)):
        for name, own in names.items():
            shape = np.shape(getattr(part, own))
            allowed = f"one number, or V = {V} numbers"
            c.require(shape in ((), (V,)), name, f"shape {shape}", allowed)
    if isinstance(p.price, PriceSeries):
        T, N, samples = sizes["T"], sizes["N"], p.price.samples
        periods = f"{p.price.periods} periods"
        c.require(p.price.periods == T, "price", periods, f"T = {T} as in other arrays")
        c.require(samples in (1, N), "price", f"{samples} samples", f"N = {N} as in other arrays")


def check_values(p: AggregatorProblem, c: Checks) -> None:
    """Report the first bad entry of every array, by its 1-based indices; bring it to its type."""

    def require(name: str, good: NDArray[np.bool_], allowed: str) -> None:
        if not good.all():
            index = np.unravel_index(int(np.argmin(good)), good.shape)
            where = ", ".join(str(i + 1) for i in index)
            c.require(False, f"{name}[{where}]", getattr(p, name)[index].item(), allowed)

    for name in AXES:
        array = getattr(p, name)
        if array is None:
            continue
        if name in ("available", "travelling", "feeds_in"):
            if array.dtype != bool:
                flags = array.astype(bool)
                require(name, array == flags, "0 or 1")
                object.__setattr__(p, name, flags)
            continue
        if name != "trip_energy_kwh" or array.dtype not in (np.float32, np.float64):
            array = array.astype(float)
            object.__setattr__(p, name, array)
        finite = np.isfinite(array)
        if name in ("trading_cap_mw", "system_load_mw"):  # others may feed in more than loads take
            require(name, finite, "a finite number")
        elif name == "group_size":
            require(name, finite & (array >= 1) & (array == np.floor(array)), "a whole number >= 1")
        elif name == "midnight_soc_kwh":
            low, high = p.figures.soc_min_kwh[:, None], p.figures.soc_max_kwh[:, None]
            allowed = f"{low.min():g}..{high.max():g}, the car's soc_min_kwh..soc_max_kwh"
            require(name, (array >= low - 1e-6) & (array <= high + 1e-6), allowed)
        else:
            require(name, finite & (array >= 0), "a number >= 0")
    still = (p.trip_energy_kwh > 0) <= p.travelling
    require("trip_energy_kwh", still, "0 where the car does not travel")
    total = float(p.probability.sum())
    c.require(abs(total - 1) < 1e-6, "probability", f"sum {total:g}", "probabilities that sum to 1")


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
        A step function of the whole system's load; or prices that the aggregator does not move.
    battery, charger
        Of every car; `battery.departure_soc_kwh` is the hand-over contract S_dep.
    system_cap_mw, trading_cap_mw : float, (T,)
        P^SYScap of (29), (30), or Pcap of (56), (57). Exactly one of the two must be given.
    export_cap_mw : (T,), optional
        Most that may be fed in, day-ahead and in every sample, as a positive number.
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
    bus, name
        Bus of the network, and a name for messages.
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
        scalars = len(c.faults)
        check_shapes(self, c)
        if len(c.faults) == scalars:
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
        parts = vars(self.battery) | vars(self.charger)
        names = [f.name for f in fields(VehicleFigures) if f.name != "feeds_in"]
        whole = {name: np.array(np.broadcast_to(parts[name], self.vehicles)) for name in names}
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
        if isinstance(self.price, PriceSeries):
            return np.zeros(0)
        return self.price.edge_mw[:-1][np.diff(self.price.price_usd_per_kwh) > 0]

    @cached_property
    def step_price_usd_per_kwh(self) -> FloatArray:
        """Price of each step in each period (T, B); one step under given prices."""
        if isinstance(self.price, PriceSeries):
            return self.price.day_ahead_usd_per_kwh[:, None]
        price = np.unique(self.price.price_usd_per_kwh)
        return np.broadcast_to(price, (self.periods, price.size))

    @implements("6", "22")
    def day_ahead_payment_usd(self, day_ahead_mw: FloatArray) -> FloatArray:
        """What P^EM (T,) pays in each period (T,), USD, at the load that it makes itself.

        At an edge of the price curve the better neighbour counts (both are admissible).
        """
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
        return np.stack([weight @ plugged for plugged in self.available])

    @cached_property
    def visits(self) -> Visits:
        """Visits of every car in every sample."""
        return find_visits(
            self.available, self.travelling, self.trip_energy_kwh, self.figures.departure_soc_kwh
        )

    @cached_property
    def plugged(self) -> Plugged:
        """Every period of every visit, as a flat table."""
        return list_plugged(self.available, self.visits, self.group_size)

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


_REQUIRED = ["period_h", *BATTERY, *CHARGER] + [
    f.name for f in fields(AggregatorProblem) if f.name in AXES and f.default is MISSING
]
_STEPS = ("price_edge_mw", "price_usd_per_kwh")
_SERIES = ("day_ahead_usd_per_kwh", "buy_usd_per_kwh", "sell_usd_per_kwh")
"""Arrays of prices in an instance: steps, or series per period."""


def load_problem(path: str | Path, midnight_soc: bool = False, **options: Any) -> AggregatorProblem:
    """Read an instance (.npz); a name that ends in ``busNN`` tells its bus.

    With `midnight_soc` its ``midnight_soc_kwh`` holds, (20). Off by default: with (18) it splits
    the night in two. `options` are fields of the problem to set besides.

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

    def make(kind: Any, *values: Any, **named: Any) -> Any:
        try:
            return kind(*values, **named)
        except InputError as error:
            faults.extend(error.faults)
            return None

    battery = make(Battery, *map(figure, BATTERY))
    charger = make(Charger, *map(figure, CHARGER))
    price = (
        make(PriceSteps, *(a[name] for name in _STEPS))
        if kind is _STEPS
        else make(PriceSeries, *(a.get(name) for name in _SERIES))
    )
    content: dict[str, Any] = {
        "period_h": scalar("period_h"),
        **{name: a[name] for name in AXES if name in a and name != "midnight_soc_kwh"},
        "midnight_soc_kwh": a["midnight_soc_kwh"] if midnight_soc else None,
        "system_cap_mw": scalar("system_cap_mw") if "system_cap_mw" in a else None,
        "bus": int(number[1]) if number else None,
        "name": path.stem,
    } | options
    problem: AggregatorProblem = make(
        AggregatorProblem,
        **content,
        price=price or PriceSteps(np.ones(1), np.zeros(1)),
        battery=battery or Battery(2.0, 0.0, 1.0, 1.0),
        charger=charger or Charger(1.0, 1.0, 1.0),
    )
    if faults:
        raise InputError(str(path), faults)
    return problem


def save_problem(path: str | Path, problem: AggregatorProblem) -> None:
    """Write an instance (.npz), whole or not at all. Options other than (20) are not stored."""
    p = problem
    told = {name: getattr(p, name) for name in ("period_h", "system_cap_mw", *AXES)}
    told |= {name: getattr(p.battery, own) for name, own in BATTERY.items()}
    told |= {name: getattr(p.charger, own) for name, own in CHARGER.items()}
    if isinstance(p.price, PriceSeries):
        told |= {name: getattr(p.price, name) for name in _SERIES}
    else:
        told |= dict(zip(_STEPS, (p.price.edge_mw, p.price.price_usd_per_kwh), strict=True))
    told |= {name: told[name].astype(np.uint8) for name in ("available", "travelling")}
    told["group_size"] = p.group_size.astype(np.int32)
    files.write_npz(path, **{name: value for name, value in told.items() if value is not None})
