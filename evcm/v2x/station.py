"""One run of one station: state, step, and what a controller may know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from evcm.arrays import BoolArray, FloatArray, IntArray
from evcm.errors import Checks
from evcm.v2x import kernel
from evcm.v2x.arrivals import FIELDS, Sessions, draw_sessions
from evcm.v2x.kernel import TERMS
from evcm.v2x.rewards import BALANCED, StepResult, Weights
from evcm.v2x.series import Series, series_arrays, week_series
from evcm.v2x.world import World, example_world


@dataclass(frozen=True, eq=False)
class Case:
    """A run before any decision: world, series, sessions and the reward it is judged by."""

    world: World
    series: Series = field(repr=False)
    sessions: Sessions = field(repr=False)
    weights: Weights = BALANCED
    seed: int | None = None

    def __post_init__(self) -> None:
        c = Checks("case")
        transformers = len(self.world.transformers)
        c.require(
            self.series.base_kw.shape[1] == transformers,
            "series", f"{self.series.base_kw.shape[1]} transformers", f"{transformers}",
        )  # fmt: skip
        if len(self.sessions):
            top = int(self.sessions.port.max())
            c.require(top < self.world.ports, "port", top, f"0..{self.world.ports - 1}")
            end = float(self.sessions.column("departure_step").max())
            c.require(end <= len(self.series), "departure_step", end, f"<= {len(self.series)}")
        c.done()


@dataclass(frozen=True, eq=False)
class Steps:
    """Every step of every session, (K,): which session, which step, connected hours, port."""

    session: IntArray
    step: IntArray
    hours: FloatArray
    port: IntArray
    first: BoolArray
    last: BoolArray
    values: FloatArray
    """(K, len(FIELDS)) the session's columns."""

    def column(self, name: str) -> FloatArray:
        """One column of the sessions' FIELDS, (K,)."""
        return self.values[:, FIELDS.index(name)]


def session_steps(case: Case) -> Steps:
    """Expand the sessions of a case into their steps."""
    arrival = case.sessions.column("arrival_step").astype(np.int64)
    departure = case.sessions.column("departure_step")
    count = np.ceil(departure).astype(np.int64) - arrival
    session = np.repeat(np.arange(len(case.sessions)), count)
    within = np.arange(session.size) - np.repeat(np.cumsum(count) - count, count)
    step = arrival[session] + within
    hours = np.minimum(departure[session] - step, 1.0) * case.series.step_h
    return Steps(
        session=session,
        step=step,
        hours=hours,
        port=case.sessions.port[session],
        first=within == 0,
        last=within == count[session] - 1,
        values=case.sessions.values[session],
    )


def make_case(
    world: World | None = None,
    *,
    seed: int = 0,
    steps: int = 96,
    step_h: float = 0.25,
    start_hour: float = 0.0,
    weights: Weights = BALANCED,
) -> Case:
    """A case with the data's week and drawn sessions; `start_hour` counts from Monday 00:00."""
    world = example_world() if world is None else world
    series = week_series(world, steps, step_h, start_hour)
    sessions = draw_sessions(world, steps, step_h, seed, start_hour)
    return Case(world, series, sessions, weights, seed)


@dataclass(frozen=True, eq=False)
class Ports:
    """What stands at each port now, arrays (P,); zeros where `occupied` is False.

    `charge_kw` and `discharge_kw` are the greatest mean powers of the coming step at the grid side,
    taper and floor included; `needed_kwh` is what is missing to the wish, at the battery.
    """

    occupied: BoolArray
    content_kwh: FloatArray
    sessions: FloatArray
    """(P, len(FIELDS))"""
    hours_left: FloatArray
    charge_kw: FloatArray
    discharge_kw: FloatArray

    def column(self, name: str) -> FloatArray:
        """One column of the sessions' FIELDS."""
        return self.sessions[:, FIELDS.index(name)]

    @property
    def needed_kwh(self) -> FloatArray:
        """Energy missing to the wish, kWh at the battery."""
        return np.where(
            self.occupied, np.maximum(self.column("target_kwh") - self.content_kwh, 0.0), 0.0
        )


class Station:
    """A run of a `Case`, step by step."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.world, self.series = case.world, case.series
        self.layout = case.world.layout
        self.arrays = series_arrays(case.series, case.world)
        self.flows = kernel.new_flows(case.world, 1)
        rows, count = case.sessions.packed(case.world.ports)
        self.state = kernel.new_state(
            case.world, 1, len(case.series), case.series.step_h, rows.shape[1]
        )
        self.state.rows[0, :, : rows.shape[1]] = rows
        self.state.visits[0] = count
        self.reset()

    def reset(self) -> None:
        """Back to the start of the run."""
        self.state.t[:] = 0
        self.state.pointer[:] = 0
        self.state.content[:] = 0.0
        self.flows.transformer_kw[:] = 0.0
        kernel.admit(self.state, 0)

    @property
    def t(self) -> int:
        """Step."""
        return int(self.state.t[0])

    @property
    def steps(self) -> int:
        """Number of steps of the run."""
        return len(self.series)

    @property
    def done(self) -> bool:
        """Whether the run is over."""
        return self.t >= self.steps

    def occupied(self) -> BoolArray:
        """Ports with a car now, (P,)."""
        return np.asarray(kernel.present(self.state)[0])

    def ports(self) -> Ports:
        """What stands at each port now."""
        count = self.world.ports
        here = self.occupied()
        rows = np.zeros((count, len(FIELDS)))
        at = np.flatnonzero(here)
        rows[at] = self.state.rows[0, at, self.state.pointer[0, at]]
        charge, give = np.zeros(count), np.zeros(count)
        kernel.bounds(self.layout, self.arrays, self.state, 0, charge, give)
        left = (rows[:, FIELDS.index("departure_step")] - self.t) * self.series.step_h
        return Ports(
            occupied=here,
            content_kwh=np.where(here, self.state.content[0], 0.0),
            sessions=rows,
            hours_left=np.where(here, left, 0.0),
            charge_kw=charge,
            discharge_kw=give,
        )

    def commands_for(self, mean_kw: FloatArray) -> FloatArray:
        """Commands (P,) kW whose mean powers over the coming step are `mean_kw` (P,)."""
        command = np.zeros(self.world.ports)
        kernel.commands_for(
            self.layout, self.arrays, self.state, 0, np.asarray(mean_kw, dtype=float), command
        )
        return command

    def step(self, command_kw: FloatArray) -> StepResult:
        """Hold a command (P,) kW, grid side, charging positive, for one step."""
        command = np.ascontiguousarray(command_kw, dtype=float).reshape(1, -1)
        checks = Checks("station step")
        checks.require(not self.done, "step", self.t, f"< {self.steps}: the run is over")
        good = command.shape[1] == self.world.ports and bool(np.isfinite(command).all())
        checks.require(good, "command_kw", command_kw, f"{self.world.ports} finite numbers")
        checks.done()
        step = self.t
        kernel.advance(self.layout, self.arrays, self.state, 0, command, False, self.flows)
        f = self.flows
        return StepResult(
            step,
            f.terms[0].copy(),
            f.grid_kwh[0].copy(),
            f.battery_kwh[0].copy(),
            f.lot_kw[0].copy(),
            f.transformer_kw[0].copy(),
        )


@dataclass(frozen=True, eq=False)
class Limits:
    """Bounds of ports (P,) and nodes: ``node_low <= member @ p <= node_up`` (kW)."""

    low: FloatArray
    up: FloatArray
    member: FloatArray
    node_low: FloatArray
    node_up: FloatArray


def limits(station: Station) -> Limits:
    """The limits of the coming step, building load and PV taken off.

    Where building load or PV alone overload a node, `evcm.v2x.projection.project` leaves it as
    little overloaded as the ports can make it.
    """
    layout, series, t = station.layout, station.series, station.t
    ports = station.ports()
    charger = layout.port_charger
    lot = layout.charger_lot[charger]
    transformer = layout.lot_transformer[lot]
    base = series.base_kw[t]
    sizes = (layout.charger_kw.size, layout.lot_transformer.size, base.size, 1)
    index = (charger, lot, transformer, np.zeros_like(charger))
    member = [np.arange(size)[:, None] == of for size, of in zip(sizes, index, strict=True)]
    low = [-layout.charger_kw, -layout.lot_limit_kw[:, 1], -series.export_limit_kw[t] - base]
    up = [layout.charger_kw, layout.lot_limit_kw[:, 0], series.import_limit_kw[t] - base]
    low.append(np.array([-layout.bus_limit_kw[1] - base.sum()]))
    up.append(np.array([layout.bus_limit_kw[0] - base.sum()]))
    return Limits(
        low=-ports.discharge_kw,
        up=ports.charge_kw,
        member=np.concatenate(member).astype(float),
        node_low=np.concatenate(low),
        node_up=np.concatenate(up),
    )


Policy = Callable[[Station], FloatArray]
"""From a station to commands (P,) in kW."""


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run, arrays by step.

    `command_kw`, `grid_kwh`, `battery_kwh`, `content_kwh` (after the step) are (T, P); `terms` is
    (T, len(TERMS)); `transformer_kw` (T, M), `lot_kw` (T, L).
    """

    case: Case
    name: str
    command_kw: FloatArray = field(repr=False)
    grid_kwh: FloatArray = field(repr=False)
    battery_kwh: FloatArray = field(repr=False)
    content_kwh: FloatArray = field(repr=False)
    lot_kw: FloatArray = field(repr=False)
    transformer_kw: FloatArray = field(repr=False)
    terms: FloatArray = field(repr=False)

    @property
    def total(self) -> dict[str, float]:
        """Sum of each term over the run."""
        return dict(zip(TERMS, self.terms.sum(axis=0).tolist(), strict=True))

    @property
    def reward(self) -> float:
        """Sum of the case's reward."""
        return float(self.terms.sum(axis=0) @ self.case.weights.vector())

    def summary(self) -> pd.Series:
        """Reward, totals and mean satisfaction as one row."""
        total = self.total
        row = {"reward_usd": self.reward, **total}
        row["satisfaction"] = total["satisfaction"] / max(total["departures"], 1.0)
        row["peak_kw"] = float(self.transformer_kw.sum(axis=1).max())
        return pd.Series(row, name=self.name)


def run(case: Case, policy: Policy, name: str = "") -> Run:
    """Run a policy over a case from start to end."""
    station = Station(case)
    results: list[StepResult] = []
    commands: list[FloatArray] = []
    contents: list[FloatArray] = []
    while not station.done:
        command = np.array(policy(station), dtype=float)
        before = station.state.content[0].copy()
        results.append(station.step(command))
        commands.append(command)
        # Not the state after the step: the next car may stand at the port by then.
        contents.append(before + results[-1].battery_kwh)
    return Run(
        case=case,
        name=name or getattr(policy, "__name__", type(policy).__name__),
        command_kw=np.array(commands),
        grid_kwh=np.array([r.grid_kwh for r in results]),
        battery_kwh=np.array([r.battery_kwh for r in results]),
        content_kwh=np.array(contents),
        lot_kw=np.array([r.lot_kw for r in results]),
        transformer_kw=np.array([r.transformer_kw for r in results]),
        terms=np.array([r.terms for r in results]),
    )


def replay(case: Case, command_kw: FloatArray, name: str = "replay") -> Run:
    """Run recorded commands (T, P) over a case."""
    commands = np.asarray(command_kw, dtype=float)
    checks = Checks("replay")
    shape = (len(case.series), case.world.ports)
    checks.require(commands.shape == shape, "command_kw", commands.shape, str(shape))
    checks.done()
    return run(case, lambda station: commands[station.t], name)
