"""The charging station for Gymnasium: ``gymnasium.make("evcm/ChargingStation-v0")``."""

from __future__ import annotations

from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from evcm.arrays import FloatArray
from evcm.errors import Checks
from evcm.v2x import kernel
from evcm.v2x.arrivals import arrival_tables
from evcm.v2x.kernel import TERMS
from evcm.v2x.rewards import BALANCED, Reward, StepResult, Weights
from evcm.v2x.series import Series, week_series
from evcm.v2x.station import Case, Station
from evcm.v2x.world import World, example_world

LEVELS = 21
"""Discrete levels of a port: -100, -90, ..., 100 % of its power."""


def action_space(world: World, discrete: bool) -> gym.spaces.Space[Any]:
    """Shares of each port's power, or `LEVELS`."""
    if discrete:
        return gym.spaces.MultiDiscrete([LEVELS] * world.ports)
    return gym.spaces.Box(-1.0, 1.0, (world.ports,), np.float32)


class Observation(Protocol):
    """A pluggable observation: its space, and its value."""

    def space(self, world: World) -> gym.spaces.Space[Any]:
        """Space of the observation."""
        ...

    def __call__(self, station: Station) -> Any:
        """Observation of the station now."""
        ...


class DefaultObservation:
    """Clock, prices ahead, each transformer and each port, float32 in [-2, 2]."""

    def space(self, world: World) -> gym.spaces.Box:
        """A box of `evcm.v2x.kernel.observation_size` numbers."""
        return gym.spaces.Box(-2.0, 2.0, (kernel.observation_size(world),), np.float32)

    def __call__(self, station: Station) -> NDArray[np.float32]:
        """Observation of the station now."""
        out = np.zeros(kernel.observation_size(station.world), dtype=np.float32)
        kernel.observe(
            station.layout, station.arrays, station.state, 0, station.steps, station.flows, out
        )
        return out


class ChargingStation(gym.Env[Any, Any]):
    """One station, one run per episode.

    Actions are shares of each port's power, -1 (full discharge) to 1, or with ``discrete=True``
    numbers 0..20 for -100..100 % in tenths. Ports without a car ignore theirs; `action_masks` says
    which actions do something. Every reset draws new sessions from the environment's seed;
    ``options={"start_day": 0..6}`` chooses the weekday, ``options={"case": Case}`` replays a case.

    Parameters
    ----------
    world
        The station; the example of 25 mixed chargers by default.
    series
        Given prices, loads and limits; the data's week by default.
    steps, step_h
        Length of an episode.
    reward
        A `Weights` or any callable from a `StepResult` to a number.
    observation
        A `DefaultObservation` or any object with ``space(world)`` and ``__call__(station)``.
    discrete
        Use tenths instead of real shares.
    """

    metadata = {"render_modes": ["ansi"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's own form

    def __init__(
        self,
        world: World | None = None,
        series: Series | None = None,
        *,
        steps: int = 96,
        step_h: float = 0.25,
        reward: Reward = BALANCED,
        observation: Observation | None = None,
        discrete: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.world = example_world() if world is None else world
        self.given_series = series
        self.steps = steps if series is None else len(series)
        self.step_h = step_h if series is None else series.step_h
        self.reward = reward
        self.weights = reward if isinstance(reward, Weights) else BALANCED
        self.observation = observation or DefaultObservation()
        self.discrete = discrete
        self.render_mode = render_mode
        self.observation_space = self.observation.space(self.world)
        self.action_space = action_space(self.world, discrete)
        self._port_kw = self.world.layout.port_kw
        self._drawn = self._new_station(0)
        self.station = self._drawn

    def _new_station(self, day: int) -> Station:
        from evcm.v2x.arrivals import FIELDS, Sessions

        series = self.given_series or week_series(self.world, self.steps, self.step_h, 24.0 * day)
        empty = Sessions(np.zeros(0, dtype=np.int64), np.zeros((0, len(FIELDS))))
        self._day = day
        return Station(Case(self.world, series, empty, self.weights))

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode; see the class for `options`."""
        super().reset(seed=seed)
        options = options or {}
        checks = Checks("reset options")
        known = {"start_day", "case"}
        checks.require(set(options) <= known, "options", sorted(options), ", ".join(sorted(known)))
        day = options.get("start_day", self._day)
        checks.require(day in range(7), "start_day", day, "0..6")
        case = options.get("case")
        checks.require(case is None or case.world == self.world, "case", "another world", "this")
        checks.done()
        drawn = int(self.np_random.integers(2**62))
        if case is not None:
            self.station = Station(case)
        else:
            if day != self._day:
                self._drawn = self._new_station(day)
            self.station = self._drawn
            self._draw(drawn)
        return self.observation(self.station), self._info()

    def _draw(self, seed: int) -> None:
        s = self.station
        full = kernel.start(
            s.layout, s.state, 0, arrival_tables(), seed, 0, 0,
            s.series.start_hour, s.series.step_h, s.steps,
        )  # fmt: skip
        checks = Checks("sessions")
        checks.require(full == 0, "sessions at one port", "too many", "fewer arrivals")
        checks.done()
        s.flows.transformer_kw[:] = 0.0

    def command_kw(self, action: Any) -> FloatArray:
        """Commands (P,) in kW that an action means."""
        share = np.asarray(action, dtype=float)
        checks, shape = Checks("charging station step"), (self.world.ports,)
        if checks.require(share.shape == shape, "action", share.shape, str(shape)):
            good, allowed = np.isfinite(share), "a finite number"
            if self.discrete:
                allowed = f"a whole number in 0..{LEVELS - 1}"
                good = (share >= 0) & (share < LEVELS) & (share == np.floor(share))
            for port in np.flatnonzero(~good):
                checks.require(False, f"action[{port}]", float(share[port]), allowed)
        checks.done()
        if self.discrete:
            share = (share - (LEVELS // 2)) / (LEVELS // 2)
        return np.asarray(np.clip(share, -1.0, 1.0) * self._port_kw)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold an action for one step."""
        return self.step_kw(self.command_kw(action))

    def step_kw(self, command_kw: FloatArray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Hold commands in kW for one step; everything else as `step`."""
        result = self.station.step(command_kw)
        reward = float(self.reward(result))
        info = self._info(result)
        return self.observation(self.station), reward, False, self.station.done, info

    def _info(self, result: StepResult | None = None) -> dict[str, Any]:
        info: dict[str, Any] = {"action_mask": self.action_masks()}
        if result is not None:
            info.update(zip(TERMS, result.terms.tolist(), strict=True))
            info["transformer_kw"] = result.transformer_kw
        return info

    def action_masks(self) -> NDArray[np.int8]:
        """Which actions do something: (P,) for shares, (P, 21) for tenths.

        An empty port has level 10 (rest) alone. Where a car cannot give energy, or a charger
        cannot take it, the levels below 10 are masked.
        """
        occupied = self.station.occupied()
        if not self.discrete:
            return occupied.astype(np.int8)
        gives = self.station.ports().discharge_kw > 0
        mask = np.zeros((self.world.ports, LEVELS), dtype=np.int8)
        mask[:, LEVELS // 2] = 1
        mask[occupied, LEVELS // 2 + 1 :] = 1
        mask[occupied & gives, : LEVELS // 2] = 1
        return mask

    def case(self) -> Case:
        """The running case, sessions to come included, for a trace or the optimum."""
        from evcm.v2x.arrivals import unpack

        s = self.station
        sessions = unpack(s.state.rows[0], s.state.visits[0])
        return Case(self.world, s.series, sessions, self.weights)

    def render(self) -> str | None:
        """One line of text for each charger: level of each car in tenths."""
        if self.render_mode != "ansi":
            return None
        ports = self.station.ports()
        soc = np.where(ports.occupied, ports.content_kwh, 0.0) / np.where(
            ports.occupied, ports.column("capacity_kwh"), 1.0
        )
        bars = [
            "[" + "#" * round(10 * x) + "." * (10 - round(10 * x)) + "]" if here else "[          ]"
            for x, here in zip(soc, ports.occupied, strict=True)
        ]
        lines = [f"step {self.station.t} of {self.station.steps}"]
        for h, charger in enumerate(self.world.chargers):
            first, last = self.station.layout.port_first[h : h + 2]
            lines.append(f"{charger.name:26s} " + " ".join(bars[first:last]))
        return "\n".join(lines)
