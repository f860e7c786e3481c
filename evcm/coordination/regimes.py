"""Regimes of charging, each named by its rule. There is no other list of them.

"Decentralised" and "maximum total" are groups, not regimes: apart, equilibrium and uncontrolled
charging need no operator; the rules of caps, the loop and the joint optimum do.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

Regime = Literal[
    "no cars",
    "uncontrolled",
    "apart",
    "equilibrium",
    "maximum total",
    "proportional",
    "max-min fair",
    "re-allocated",
    "joint",
]
REGIMES: tuple[Regime, ...] = get_args(Regime)
"""All regimes, in the order in which tables and figures list them."""

MEANING: dict[Regime, str] = {
    "no cars": "the load alone",
    "uncontrolled": "each car recharges at once, at full power",
    "apart": "each aggregator plans on the forecast of the load, as if it were alone",
    "equilibrium": "each aggregator answers the others' plans, until none can gain more",
    "maximum total": "caps of the largest sum, (54): the paper's",
    "proportional": "caps in proportion to the cars that an aggregator meets",
    "max-min fair": "the least cap as large as it can be, then the next",
    "re-allocated": "cap that is not used is offered to those whom a cap makes pay more",
    "joint": "one owner plans all cars",
}
"""The rule that names each regime."""

Rule = Literal["maximum total", "proportional", "max-min fair"]
RULES: tuple[Rule, ...] = get_args(Rule)
"""Rules that hand out caps once."""

STUDY: tuple[Regime, ...] = ("no cars", "uncontrolled", "apart", "maximum total")
"""Regimes of the paper's own study, Figure 2."""


class Case(NamedTuple):
    """One scenario, side (``min`` or ``max`` sample) and regime."""

    scenario: int
    side: str
    regime: str


NO_CARS = Case(0, "none", "no cars")
"""The day without cars, the same in every scenario."""
