"""Speed of the charging station: ``python benchmarks/v2x.py``.

Prints steps per second of the single environment and charger-steps per second of the batched one,
by wall clock and by processor time (other programs on the machine slow the first, not the second),
beside figures of other simulators, and the time of the exact optimum. Whole episodes, resets
included, random actions, 25 chargers (29 ports).
"""

from __future__ import annotations

import argparse
import time

import gymnasium as gym
import numba
import numpy as np

import evcm.v2x
from evcm.store import measured
from evcm.v2x.solve import optimum
from evcm.v2x.station import make_case
from evcm.v2x.vector import ChargingStations
from evcm.v2x.world import example_world

CHARGERS = 25
OTHERS = {"EV2Gym, measured": 1e5, "Chargax (JAX), same kind of machine": 7e6}


def single(episodes: int) -> tuple[float, float]:
    """Steps per second of one environment: by wall clock, by processor time."""
    env = gym.make(evcm.v2x.ENVIRONMENT).unwrapped
    env.reset(seed=0)
    actions = [env.action_space.sample() for _ in range(96)]
    for action in actions:
        env.step(action)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(episodes):
        env.reset()
        for action in actions:
            env.step(action)
    steps = 96 * episodes
    return steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu)


def batched(envs: int, threads: int, episodes: int) -> tuple[float, float]:
    """Charger-steps per second of the batch: by wall clock, and per core of processor time."""
    numba.set_num_threads(threads)
    env = ChargingStations(envs, example_world(CHARGERS))
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    shape = (8, envs, env.world.ports)
    actions = rng.uniform(-1, 1, shape).astype(np.float32)
    env.step(actions[0])
    env.reset()
    best = (0.0, 0.0)
    for _ in range(episodes):
        wall, cpu = time.perf_counter(), time.process_time()
        for n in range(96):
            env.step(actions[n % 8])
        steps = 96 * envs * CHARGERS
        figure = (steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu))
        best = (max(best[0], figure[0]), max(best[1], figure[1]))
    return best


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--envs", type=int, default=1024)
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    options = parser.parse_args()
    wall, cpu = single(options.episodes)
    print(f"single environment, {CHARGERS} chargers: {wall:,.0f} steps/s ({cpu:,.0f} by CPU time)")
    rows = [{"what": f"one environment, {CHARGERS} chargers", "steps_per_s": wall,
             "charger_steps_per_s": wall * CHARGERS}]  # fmt: skip
    most = numba.config.NUMBA_NUM_THREADS
    for threads in sorted({1, most}):
        wall, cpu = batched(options.envs, threads, options.episodes)
        print(
            f"{options.envs} environments, {threads} thread(s), best of {options.episodes} days: "
            f"{wall:,.0f} charger-steps/s ({cpu:,.0f} for each core by CPU time)"
        )
        rows.append({"what": f"{options.envs} environments, {threads} thread(s)",
                     "steps_per_s": wall / CHARGERS, "charger_steps_per_s": wall})  # fmt: skip
    for name, figure in OTHERS.items():
        print(f"  {wall / figure:8.1f} times {name} ({figure:,.0f})")
        rows.append({"what": name, "charger_steps_per_s": figure})
    if options.store:
        measured.store("speed", "charging stations", rows)
    for place in ("workplace", "public", "home"):
        best = optimum(make_case(example_world(CHARGERS, place), seed=3, start_hour=24.0))
        print(f"optimum of a {place} day, {CHARGERS} chargers x 96 steps: {best.seconds:.2f} s")


if __name__ == "__main__":
    main()
