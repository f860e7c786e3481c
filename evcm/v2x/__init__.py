"""Charging station with V2X: simulator, Gymnasium environment and exact optimum.

Importing this package registers ``evcm/ChargingStation-v0`` with Gymnasium. Names to use, by the
module that holds them:

- `world`: `World`, `charger_types`, `example_world`
- `series`: `Series`, `week_series`
- `arrivals`: `Sessions`, `draw_sessions`
- `station`: `Case`, `Run`, `make_case`, `replay`, `run`
- `files`: `read_case`
- `rewards`: `Weights`
- `rules`: `baselines`
- `mpc`: `ModelPredictive`
- `solve`: `optimum`
- `projection`: `ProjectLimits`
- `environment`: `ChargingStation`
- `vector`: `ChargingStations`
- `trace`: `load`, `save`
- `grid`: `Stations`, `operate`, `under_cap`
- `certificate`: `certify`
"""

import gymnasium as _gym
import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)

ENVIRONMENT = "evcm/ChargingStation-v0"

if ENVIRONMENT not in _gym.registry:
    _gym.register(
        id=ENVIRONMENT,
        entry_point="evcm.v2x.environment:ChargingStation",
        vector_entry_point="evcm.v2x.vector:ChargingStations",
    )
