"""The unbalanced IEEE 13-node feeder (2.4.3): circuit, power flow, spread of cars, synthesis.

Names to use, by the module that holds them:

- `ieee13`: `PHASES`, `Circuit`, `FeederModel`, `Terminal`, `circuit`, `published_model`
- `coupling`: `FeederCases`, `feeder_cases`, `feeders_at_bus`
- `spreads`: `Spread`, `single_phase_cars`, `spread`, `spread_names`, `spread_of`
- `states`: `FeederStates`, `far_nodes`, `published_solution`, `run_day`, `solve`, `supply_band`
- `certificate`: `FeederCertificate`, `certify`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
