"""Coordination (2.4.1): plans under caps, rules that share them, re-allocation, the joint optimum.

Names to use, by the module that holds them:

- `capped`: `CappedPlan`, `solve_under_cap`, `under_cap`
- `regimes`: `Case`, `MEANING`, `REGIMES`, `RULES`
- `allocation`: `allocate`
- `reallocation`: `Reallocation`, `reallocate`
- `joint`: `JointPlan`, `joint_problem`, `solve_joint`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
