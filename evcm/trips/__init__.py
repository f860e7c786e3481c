"""Trips (2.2): cars, their legs and hours, the Monte Carlo draw, fleets, uncontrolled charging.

Names to use, by the module that holds them:

- `cars`: `Cars`, `draw_cars`, `edge_distance_km`, `roads`
- `legs`: `Trips`, `at_home`, `at_work`, `drive`, `leg_as_printed`
- `montecarlo`: `SIDES`, `MonteCarlo`, `gchr_kwh`, `gchr_table`, `simulate`, `table_1`
- `fleet`: `Fleet`, `build_fleet`
- `uncontrolled`: `UncontrolledDay`, `charge_at_once`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
