"""One aggregator's day (2.3): the problem, the readable model, exact methods, certified plans.

Names to use, by the module that holds them:

- `problem`: `AggregatorProblem`, `load_problem`, `save_problem`
- `of_fleet`: `aggregator_problem`
- `methods`: `METHODS`, `choose_method`, `solve`
- `plan`: `AggregatorPlan`, `load_plan`, `save_plan`
- `certificate`: `PlanCertificate`, `certify_plan`, `check_plan`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
