"""The study (3): Figure 2 as code, every regime side by side, hosting capacity, tables.

Names to use, by the module that holds them:

- `flow`: `Settings`, `StudyResult`, `run`
- `stored`: `summary`, `table`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
