"""A commercial building with PV, charging bays and a generator bank: the companion study.

Names to use, by the module that holds them:

- `inputs`: `Bank`, `Building`, `Horizon`, `PvGroup`, `Response`, `Sessions`
- `arrivals`: `ArrivalLaw`, `RandomDay`, `hourly_day`, `random_day`
- `plan`: `AS_PRINTED`, `Plan`, `Variant`
- `solve`: `VARIANTS`, `compare`, `costs`, `default_building`, `default_law`, `dispatch`,
  `distribution`, `summary`, `with_pv`, `write_example`
- `files`: `read_building`
- `certificate`: `certify`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
