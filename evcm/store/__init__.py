"""Files and stored results: whole or not at all, each with a record of how it was obtained.

Names to use, by the module that holds them:

- `results`: `StaleError`, `Store`
- `files`: `read_csv`, `write_csv`, `write_json`, `write_npz`, `write_parquet`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
