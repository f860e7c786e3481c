"""Inputs of a study: one frozen value, read from a folder of files; the paper's is one that ships.

Names to use, by the module that holds them:

- `study`: `Inputs`, `Market`
- `folder`: `paper`, `read`
- `example`: `write_example`
- `values`: `Battery`, `CarList`, `Charger`, `Clock`, `PriceSteps`, `Roads`, `Scenario`, `Sessions`,
  `SpeedBand`, `TripLaw`, `VehicleClass`, `WearLaw`
- `prices`: `PriceSeries`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
