"""Speed of the charging station: ``python benchmarks/v2x.py [--ev2gym PYTHON]``.

Prints steps per second of the single environment and charger-steps per second of the batched one,
by wall clock and by processor time (other programs on the machine slow the first, not the second),
and the time of the exact optimum. Whole episodes, resets included, random actions, 25 chargers (29
ports). With ``--ev2gym`` EV2Gym is measured in the same run: PYTHON is the interpreter of an
environment of its own that has the packages ev2gym, pandapower, numba, torch-geometric,
matplotlib and multicopula.
"""

from __future__ import annotations

import argparse
import subprocess
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

EV2GYM = """
import os, sys, tempfile, time, yaml
from importlib.resources import files
from ev2gym.models.ev2gym_env import EV2Gym

folder = files("ev2gym") / "example_config_files"
config = yaml.safe_load((folder / "V2GProfitMax.yaml").read_text())
config |= {"number_of_charging_stations": int(sys.argv[1]), "simulation_length": 96}
with tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False) as file:
    yaml.safe_dump(config, file)
os.chdir(files("ev2gym").parent)  # it reads its data from there
env = EV2Gym(config_file=file.name, save_replay=False, save_plots=False, verbose=False)
os.unlink(file.name)
env.reset(seed=0)
actions = [env.action_space.sample() for _ in range(96)]
wall, cpu, steps = time.perf_counter(), time.process_time(), 0
for _ in range(int(sys.argv[2])):
    env.reset()
    for action in actions:
        done = env.step(action)
        steps += 1
        if done[2] or done[3]:
            break
print(steps / (time.perf_counter() - wall), steps / (time.process_time() - cpu))
"""
"""A day of EV2Gym with its own configuration for V2G, of as many chargers and steps."""


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


def ev2gym(python: str, episodes: int) -> tuple[float, float]:
    """Steps per second of EV2Gym, run by another interpreter: by wall clock, by processor time."""
    command = [python, "-c", EV2GYM, str(CHARGERS), str(episodes)]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    wall, cpu = map(float, found.stdout.split()[-2:])
    return wall, cpu


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
    parser.add_argument("--threads", type=int, default=1, help="measure the batch on 1 to so many")
    parser.add_argument("--ev2gym", metavar="PYTHON", help="interpreter that has ev2gym")
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    options = parser.parse_args()
    wall, cpu = single(options.episodes)
    print(f"single environment, {CHARGERS} chargers: {wall:,.0f} steps/s ({cpu:,.0f} by CPU time)")
    rows = [{"what": f"one environment, {CHARGERS} chargers", "steps_per_s": cpu,
             "charger_steps_per_s": cpu * CHARGERS}]  # fmt: skip
    if options.ev2gym:
        other_wall, other = ev2gym(options.ev2gym, max(1, options.episodes // 4))
        print(f"EV2Gym, {CHARGERS} chargers: {other_wall:,.0f} steps/s ({other:,.0f} by CPU time); "
              f"one environment here {cpu / other:.1f} times that by CPU time")  # fmt: skip
        rows.append({"what": f"EV2Gym, {CHARGERS} chargers", "steps_per_s": other,
                     "charger_steps_per_s": other * CHARGERS})  # fmt: skip
    for threads in range(1, options.threads + 1):
        wall, cpu = batched(options.envs, threads, options.episodes)
        print(
            f"{options.envs} environments, {threads} thread(s), best of {options.episodes} days: "
            f"{wall:,.0f} charger-steps/s ({cpu:,.0f} for each core by CPU time)"
        )
        rows.append({"what": f"{options.envs} environments, {threads} thread(s), for each core",
                     "steps_per_s": cpu / CHARGERS, "charger_steps_per_s": cpu})  # fmt: skip
    if options.store:
        measured.store("speed", "charging stations", rows)
    for place in ("workplace", "public", "home"):
        best = optimum(make_case(example_world(CHARGERS, place), seed=3, start_hour=24.0))
        print(f"optimum of a {place} day, {CHARGERS} chargers x 96 steps: {best.seconds:.2f} s")


if __name__ == "__main__":
    main()
