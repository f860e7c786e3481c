"""Speed and cost of the building: ``python benchmarks/building.py [--days 50]``.

Prints the time of a day of 14 hours and of 96 quarter-hours with 20 bays (wall clock and processor
time), then the cost of random days with and without PV and shifting (`evcm building days` stores a
thousand).
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from evcm import building
from evcm.building.certificate import certify
from evcm.building.model import Program


def quarter_hours(bays: int = 20) -> building.Building:
    own = building.default_building()
    hours = np.arange(96) / 4
    sun = np.clip(np.sin((hours - 6) / 12 * np.pi), 0, None)
    return replace(
        own, horizon=building.Horizon(0.0, 96, 0.25), bays=bays, load_kw=np.zeros(96),
        irradiance_kw_per_m2=sun, price_usd_per_kwh=np.where((hours >= 8) & (hours < 22), 0.095,
                                                             0.077),
        connection_kw=1100.0,
    )  # fmt: skip


def speed(own: building.Building, law: building.ArrivalLaw, days: int) -> None:
    program = Program(own)
    for name, variant in building.VARIANTS.items():
        walls, cpus, gaps = [], [], []
        for day in range(days):
            cars = building.random_day(law, own.horizon, own.bays, 0, day).sessions
            wall, cpu = time.perf_counter(), time.process_time()
            plan = building.dispatch(own, cars, variant, program)
            walls.append(time.perf_counter() - wall)
            cpus.append(time.process_time() - cpu)
            gaps.append(certify(plan).require().gap)
        print(f"  {name:24s} wall median {np.median(walls):7.3f} s, most {max(walls):7.3f} s; "
              f"processor median {np.median(cpus):6.3f} s, most {max(cpus):6.3f} s; "
              f"gap at most {max(gaps):.1e}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--days", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    law = building.default_law()
    print("14 hours, 4 bays (asked: < 0.5 s)")
    speed(building.default_building(), law, given.repeats)
    print("96 quarter-hours, 20 bays, about 200 cars (asked: < 10 s)")
    speed(quarter_hours(), replace(law, cars_per_day=200.0), given.repeats)
    begin = time.process_time()
    table = building.distribution(building.default_building(), law, range(given.days))
    print(f"{given.days} random days, every plan certified, "
          f"{time.process_time() - begin:.0f} s of processor time; USD/day")  # fmt: skip
    print(table.groupby("variant", sort=False)["cost_usd"].describe().round(3).to_string())


if __name__ == "__main__":
    main()
