"""The network operator (2.4): the network, its AC optimal power flow, the caps of aggregators.

Names to use, by the module that holds them:

- `case`: `Day`, `Network`, `published_variant`
- `readers`: `from_case`
- `opf`: `OpfDay`, `assess`, `solve_day`
- `caps`: `Caps`, `solve_caps`, `solve_exports`
- `outages`: `OutageDays`, `assess_outages`
- `relaxation`: `caps_bound`, `opf_bound`
- `certificate`: `certify_caps`, `certify_day`
"""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
