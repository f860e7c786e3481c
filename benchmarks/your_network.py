"""case118 with 20,000 cars from a bare case: the study end to end, as processor time and counts.

Run: python benchmarks/your_network.py [CASE] [CARS] [JOBS]. Prints what it did; certificates and
gaps are those of the study, which refuses a plan without them. Nothing is stored.
"""

import sys
import tempfile
import time
from pathlib import Path

from evcm import inputs
from evcm.study.flow import Settings, run


def main(case="case118", cars=20_000, jobs=2):
    """Write the folder, run the study on one side, print sizes, largest gap and seconds."""
    with tempfile.TemporaryDirectory() as work:
        given = inputs.write_example(Path(work) / "inputs", case, int(cars))
        start = time.perf_counter()
        settings = Settings(sides=("max",), gap=0.02, jobs=int(jobs))
        found = run(settings, Path(work) / "results", inputs=given)
        seconds = time.perf_counter() - start
    plans = found.aggregators
    print(f"{given.name}: {len(plans)} plans of {len(given.buses)} aggregators")
    print(f"largest gap {plans['gap'].max():.3%}, {plans['cost_usd'].sum():.2f} USD")
    print(f"{seconds:.0f} s on {jobs} processes, {plans['seconds'].sum():.0f} s in plans")


if __name__ == "__main__":
    main(*sys.argv[1:])
