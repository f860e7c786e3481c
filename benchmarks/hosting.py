"""What hosting capacity costs to compute: bisection against a scan, the fast OPF against a loop.

    python benchmarks/hosting.py [--days 10] [--cars 12000]

Prints processor seconds of each way to the same number, side by side, in one run.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from evcm import inputs
from evcm.inputs import paper
from evcm.network import case, opf
from evcm.study import growing
from evcm.study import hosting_points as points


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Result and processor seconds of a piece of work."""
    started = time.process_time()
    return work(), time.process_time() - started


def scan(site: case.Day, power: np.ndarray) -> np.ndarray:
    """First short block of each day, by solving every block of every day."""
    days, blocks = power.shape[:2]
    wide = site.repeated(days * blocks)
    good = opf.served(wide, power.reshape(days * blocks * 48, -1)).reshape(days, blocks, 48)
    short = ~good.all(axis=2)
    return np.where(short.any(axis=1), short.argmax(axis=1), blocks)


def main() -> None:
    """Measure and print."""
    ask = argparse.ArgumentParser(description=__doc__)
    ask.add_argument("--days", type=int, default=10)
    ask.add_argument("--cars", type=int, default=12_000)
    given = ask.parse_args()
    site, charger = paper().day, inputs.paper().vehicles[0].charger
    opf.solve_day(paper().day)  # compile

    drawn, draw_s = timed(lambda: np.stack([
        growing.growing_fleet_mw(growing.drawn_day(inputs.paper(), given.cars, d), 1000, charger)[0]
        for d in range(given.days)
    ]))  # fmt: skip
    by_bisection, bisection_s = timed(lambda: growing.first_shortage(site, drawn))
    by_scan, scan_s = timed(lambda: scan(site, drawn))
    assert (by_bisection == by_scan).all()
    print(f"{given.days} days of {given.cars} cars, drawn and driven: {draw_s:.2f} s")
    print(f"first count with NSE: bisection {bisection_s:.2f} s, scan {scan_s:.2f} s "
          f"({scan_s / bisection_s:.1f}x), same counts")  # fmt: skip

    crowded = drawn[0, -1]
    fast, fast_s = timed(lambda: opf.solve_day(paper().day.with_cars(crowded)))
    loop, loop_s = timed(lambda: opf.solve_day(paper().day.with_cars(crowded), method="pypower"))
    ratio = loop_s / fast_s
    print(f"OPF of a short day: fast {fast_s:.3f} s, PYPOWER loop {loop_s:.2f} s, "
          f"ratio {ratio:.0f}; NSE {fast.nse_mwh:.4f}, {loop.nse_mwh:.4f} MWh")  # fmt: skip

    point = points.Point("apart", 8000, 1, charger.power_kw, 1.0, 200, 4, 0.03)
    row, point_s = timed(lambda: points.solve_point(inputs.paper(), point))
    print(f"one fleet of 200 groups, eleven aggregators to 3 %: {point_s:.1f} s, "
          f"NSE {row['nse_mwh']:.2f} MWh")  # fmt: skip


if __name__ == "__main__":
    main()
