"""Many stations at once: a Gymnasium vector environment whose step is one compiled kernel."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from evcm.arrays import BoolArray, FloatArray
from evcm.errors import Checks
from evcm.v2x import kernel
from evcm.v2x.arrivals import arrival_tables
from evcm.v2x.environment import LEVELS, action_space
from evcm.v2x.rewards import BALANCED, Weights
from evcm.v2x.series import Series, series_arrays, week_series
from evcm.v2x.world import World, example_world

Float32Array = NDArray[np.float32]


class ChargingStations(VectorEnv[Any, Any, Any]):
    """`num_envs` copies of a station with their own sessions, stepped by one kernel.

    All runs have the same length, so they end together; the observation after the last step is
    then the first of the next episode, and ``infos["final_obs"]`` holds the last one. The same
    seed gives the same trajectory bit for bit on any number of threads
    (`numba.set_num_threads`).

    The arrays that `step` returns are the environment's own buffers, overwritten by the next step,
    unless ``copy=True``.

    Parameters
    ----------
    num_envs
        Number of stations.
    world, series, steps, step_h, discrete
        As in `evcm.v2x.environment.ChargingStation`. A series longer than `steps` is used with
        ``random_start``: each run then starts on its own day.
    weights
        The reward; the batched kernel computes `Weights` only. For another reward read
        ``infos["terms"]``.
    random_start
        Start each run on a weekday of its own (needs a series that is long enough; by default
        the data's week is taken long enough).
    copy
        Return copies instead of buffers.
    """

    def __init__(
        self,
        num_envs: int,
        world: World | None = None,
        series: Series | None = None,
        *,
        steps: int = 96,
        step_h: float = 0.25,
        weights: Weights = BALANCED,
        discrete: bool = False,
        random_start: bool = False,
        copy: bool = False,
    ) -> None:
        self.num_envs = num_envs
        self.world = example_world() if world is None else world
        self.steps = steps
        self.step_h = step_h if series is None else series.step_h
        per_day = round(24.0 / self.step_h)
        self._days = 7 if random_start else 1
        needed = steps + (self._days - 1) * per_day
        self.series = series or week_series(self.world, needed, self.step_h)
        checks = Checks("charging stations")
        checks.require(num_envs >= 1, "num_envs", num_envs, ">= 1")
        checks.require(len(self.series) >= needed, "series", len(self.series), f">= {needed} steps")
        checks.done()
        self._per_day, self.discrete, self._copy = per_day, discrete, copy
        self.metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
        size = kernel.observation_size(self.world)
        self.single_observation_space = gym.spaces.Box(-2.0, 2.0, (size,), np.float32)
        self.single_action_space = action_space(self.world, discrete)
        batch = gym.vector.utils.batch_space
        self.observation_space = batch(self.single_observation_space, num_envs)
        self.action_space = batch(self.single_action_space, num_envs)
        self.layout = self.world.layout
        self.arrays = series_arrays(self.series, self.world)
        self.state = kernel.new_state(self.world, num_envs, steps, self.step_h)
        self.flows = kernel.new_flows(self.world, num_envs)
        self._weights = weights.vector()
        self._obs: Float32Array = np.zeros((num_envs, size), dtype=np.float32)
        self._reward = np.zeros(num_envs)
        self._full = np.zeros(num_envs, dtype=np.int64)
        self._no = np.zeros(num_envs, dtype=bool)
        self._yes = np.ones(num_envs, dtype=bool)
        self._seed, self._episode, self._t = 0, 0, 0

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Float32Array, dict[str, Any]]:
        """Start all runs; run n of episode e always has the sessions of (seed, e, n)."""
        checks = Checks("reset")
        checks.require(
            seed is None or isinstance(seed, int | np.integer), "seed", seed, "one number or None"
        )
        checks.done()
        super().reset(seed=seed if seed is None else int(seed))  # type: ignore[arg-type]
        if seed is not None or self._t == 0:
            self._seed = int(self.np_random.integers(2**62))
            self._episode = 0
        else:
            self._episode += 1
        self._start()
        return self._out(self._obs), {}

    def _start(self) -> None:
        day = np.random.Generator(np.random.Philox(key=[self._seed, self._episode])).integers(
            self._days, size=self.num_envs
        )
        self.state.offset[:] = day * self._per_day
        kernel.start_all(
            self.layout, self.arrays, self.state, arrival_tables(), self._seed, self._episode,
            self.steps, self.flows, self._obs, self._full,
        )  # fmt: skip
        self._t = 0
        checks = Checks("sessions")
        checks.require(not self._full.any(), "sessions at one port", "too many", "fewer arrivals")
        checks.done()

    def step(
        self, actions: Any
    ) -> tuple[Float32Array, FloatArray, BoolArray, BoolArray, dict[str, Any]]:
        """Hold actions (num_envs, P) for one step in every run."""
        action = np.asarray(actions)
        self._check(action)
        if self.discrete:
            half = LEVELS // 2
            action = ((action - half) / half).astype(np.float32)
        elif action.dtype != np.float32:
            action = action.astype(np.float32)
        kernel.step_all(
            self.layout, self.arrays, self.state, np.ascontiguousarray(action, float), True,
            self.flows, self._weights, self.steps, self._obs, self._reward,
        )  # fmt: skip
        self._t += 1
        infos: dict[str, Any] = {"terms": self._out(self.flows.terms)}
        reward = self._out(self._reward)
        if self._t < self.steps:
            return self._out(self._obs), reward, self._no, self._no, infos
        infos["final_obs"] = self._obs.copy()
        infos["_final_obs"] = self._yes
        reward = self._reward.copy()
        infos["terms"] = self.flows.terms.copy()
        self._episode += 1
        self._start()
        return self._out(self._obs), reward, self._no, self._yes, infos

    def _check(self, action: NDArray[Any]) -> None:
        checks = Checks("charging stations step")
        shape = (self.num_envs, self.world.ports)
        if not checks.require(action.shape == shape, "actions", action.shape, str(shape)):
            checks.done()
        # One sum tells whether all are finite; only where it does not is each looked at.
        if self.discrete:
            good = (action >= 0) & (action < LEVELS) & (action == np.floor(action))
            allowed = f"a whole number in 0..{LEVELS - 1}"
        elif np.isfinite(action.sum()):
            return
        else:
            good, allowed = np.isfinite(action), "a finite number"
        for run, port in np.argwhere(~good)[:3]:
            checks.require(False, f"actions[{run}, {port}]", action[run, port], allowed)
        checks.done()

    def _out(self, array: NDArray[Any]) -> NDArray[Any]:
        return array.copy() if self._copy else array

    def action_masks(self) -> NDArray[np.int8]:
        """Ports with a car now, (num_envs, P)."""
        return kernel.present(self.state).astype(np.int8)
