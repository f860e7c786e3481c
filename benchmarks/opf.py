"""A day of 48 AC OPFs: the fast method beside a plain PYPOWER loop and, if installed, pandapower.

    python benchmarks/opf.py [--days 5] [--case case118] [--skip-pandapower]

Same day, same run, one process. Prints processor and wall-clock seconds per day, ratios to the fast
method, and how far the objectives are apart. pandapower is no dependency of the project; its row
appears only where it is importable.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from evcm.inputs import paper
from evcm.network import opf, readers
from evcm.network.certificate import certify_day
from evcm.store import measured


def stressed_day(net):
    """The reference day; on the study's network with power not supplied and net exporters in it."""
    ev = np.zeros((48, net.ev_bus.size))
    if net.ev_bus_number == paper().buses:
        ev[23:30, paper().buses.index(14)] = 13.0
        ev[40:44, paper().buses.index(13)] = -25.0
    return paper().day_on(net).with_cars(ev)


def timed(function, repeats=1):
    """Result, and the least processor and wall-clock seconds of `repeats` calls."""
    best_cpu = best_wall = np.inf
    for _ in range(repeats):
        cpu, wall = time.process_time(), time.perf_counter()
        result = function()
        best_cpu = min(best_cpu, time.process_time() - cpu)
        best_wall = min(best_wall, time.perf_counter() - wall)
    return result, best_cpu, best_wall


def pandapower_day(day):
    """The same OPF through pandapower's runopp, period by period; None where it is missing."""
    try:
        import pandapower as pp
        from pandapower.converter.pypower import from_ppc
    except ImportError:
        return None
    from evcm.network import pypower

    load_p, load_q = day.load_p_mw, day.load_q_mvar
    grid = from_ppc(pypower.period_case(day, opf.opf_injections(day), 0), f_hz=60)
    grid.ext_grid["controllable"] = True  # its voltage is free within the limits of its bus
    at, shed = grid.load["bus"].to_numpy() - 1, grid.sgen["bus"].to_numpy() - 1
    total = []
    for t in range(48):
        grid.load["p_mw"], grid.load["q_mvar"] = load_p[t, at], load_q[t, at]
        grid.sgen["max_p_mw"] = np.maximum(load_p[t, shed], 0.0)
        pp.runopp(grid)
        total.append(grid.res_cost)
    return np.array(total)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--days", type=int, default=5, help="repeats of the fast method")
    parser.add_argument("--case", default=None, help="another network, e.g. case118")
    parser.add_argument("--skip-pandapower", action="store_true")
    parser.add_argument("--store", action="store_true", help="keep the rows for the book")
    arguments = parser.parse_args()
    net = paper().network if arguments.case is None else readers.from_case(arguments.case)
    asked = stressed_day(net)
    opf.solve_day(asked)  # compile, or load from the cache
    fast, cpu, wall = timed(lambda: opf.solve_day(asked), arguments.days)
    print(f"{net.name}: {fast.load_mwh:.1f} MWh, not supplied {fast.nse_mwh:.3f} MWh")
    print(f"certified: largest residual {certify_day(fast).require().largest_pu:.1e} pu")
    print(
        f"{'method':34s} {'cpu s':>9s} {'wall s':>9s} {'ratio':>8s} {'objective differs by':>22s}"
    )
    print(f"{'fast':34s} {cpu:9.4f} {wall:9.4f} {1:8.1f}")
    rows = [{"what": "fast method", "wall_s": wall, "processor_s": cpu, "times": 1.0}]
    slow, cpu_slow, wall_slow = timed(lambda: opf.solve_day(asked, method="pypower"))
    apart = np.abs(slow.objective / fast.objective - 1).max()
    name = "PYPOWER loop, tolerance 1e-8"
    print(f"{name:34s} {cpu_slow:9.3f} {wall_slow:9.3f} {cpu_slow / cpu:8.1f} {apart:22.1e}")
    rows.append({"what": name, "wall_s": wall_slow, "processor_s": cpu_slow,
                 "times": cpu_slow / cpu})  # fmt: skip
    if not arguments.skip_pandapower:
        other, cpu_other, wall_other = timed(lambda: pandapower_day(asked))
        if other is None:
            print("pandapower is not installed: no row for it")
        else:
            apart = np.abs(other / fast.objective - 1).max()
            row = f"{cpu_other:9.3f} {wall_other:9.3f} {cpu_other / cpu:8.1f} {apart:22.1e}"
            print(f"{'pandapower runopp':34s} {row}")
            rows.append({"what": "pandapower runopp", "wall_s": wall_other,
                         "processor_s": cpu_other, "times": cpu_other / cpu})  # fmt: skip
    if arguments.store:
        measured.store("speed", "a day of 48 AC OPFs", rows)


if __name__ == "__main__":
    main()
