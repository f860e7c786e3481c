"""The car battery: constant power, then an exponential taper, solved exactly within a step.

The battery accepts at most

    a(e) = A · min(1, (E − e) / ((1 − σ) E))     kW, at the battery terminals,

with capacity E, content e, full power A and transition SoC σ: constant power up to σ, then a
straight line to zero at full. A command c (battery side, constant over a step) draws min(c, a(e)):
the content rises at c until a(e) = c and then follows an exponential with rate k = A / ((1 − σ) E).
Both parts have closed forms, so the result does not depend on the length of the step.

The energy taken up in a step, φ(e, c), is jointly concave in content and command: it is the
largest energy over a convex set (power below c and below the concave a(e) at every instant). The
exact optimum in `evcm.v2x.solve` rests on this, with the slopes from `charge_slopes`.

Efficiencies are losses, not derates: charging draws battery / η from the grid, discharging gives
battery · η to the grid.
"""

from __future__ import annotations

import math

from evcm import compiled as nb
from evcm.errors import Checks


@nb.njit(cache=True)
def charge_kwh(
    content: float, command: float, accept: float, transition: float, capacity: float, hours: float
) -> float:
    """Energy taken up at the battery (kWh) in `hours` under a constant command (kW, battery side).

    ``content`` and ``capacity`` in kWh, ``accept`` is A in kW, ``transition`` is σ.
    """
    room = capacity - content
    if command <= 0.0 or room <= 0.0 or hours <= 0.0:
        return 0.0
    power = min(command, accept)
    taper_room = (1.0 - transition) * capacity
    if taper_room <= 0.0:
        return min(power * hours, room)
    rate = accept / taper_room
    knee = taper_room * power / accept  # room left at which the acceptance falls to the command
    if room <= knee:
        return -room * math.expm1(-rate * hours)
    constant_h = (room - knee) / power
    if hours <= constant_h:
        return power * hours
    return (room - knee) - knee * math.expm1(-rate * (hours - constant_h))


@nb.njit(cache=True)
def charge_command_kw(
    content: float, energy: float, accept: float, transition: float, capacity: float, hours: float
) -> float:
    """Least constant command (kW, battery side) that takes up `energy` kWh in `hours`.

    The inverse of `charge_kwh` in the command. Where the taper is touched, y = room / knee solves
    y − ln y = 1 + k·hours + ln(1 − energy / room), whose root above 1 is −W₋₁(·) of Lambert.
    Energies beyond reach give the acceptance at the start.
    """
    room = capacity - content
    if energy <= 0.0 or room <= 0.0 or hours <= 0.0:
        return 0.0
    mean = energy / hours
    taper_room = (1.0 - transition) * capacity
    if taper_room <= 0.0:
        return min(mean, accept)
    if mean <= accept and room - energy >= taper_room * mean / accept:
        return mean
    rate = accept / taper_room
    full = min(accept, rate * room)
    if energy >= room:
        return full
    excess = rate * hours + math.log1p(-energy / room)
    if excess <= 0.0:
        return full
    y = 1.0 + math.sqrt(2.0 * excess) + excess  # an upper bound of the root; Newton descends
    for _ in range(60):
        step = (y - math.log(y) - 1.0 - excess) / (1.0 - 1.0 / y)
        y -= step
        if step <= 1e-15 * y:
            break
    return min(rate * room / max(y, 1.0), full)


@nb.njit(cache=True)
def charge_slopes(
    content: float, command: float, accept: float, transition: float, capacity: float, hours: float
) -> tuple[float, float]:
    """Slopes of `charge_kwh` in content (kWh/kWh) and in command (kWh/kW)."""
    room = capacity - content
    power = min(command, accept)
    taper_room = (1.0 - transition) * capacity
    if taper_room <= 0.0:
        if power * hours <= room:
            return 0.0, hours
        return -1.0, 0.0
    rate = accept / taper_room
    knee = taper_room * power / accept
    if room <= knee:
        return math.expm1(-rate * hours), 0.0
    constant_h = (room - knee) / power
    if hours <= constant_h:
        return 0.0, hours
    left = math.exp(-rate * (hours - constant_h))
    # The room at the end is left · knee; its logarithm is ln knee + room / knee − 1 − k·hours.
    return left - 1.0, left * (room / knee - 1.0) * taper_room / accept


@nb.njit(cache=True)
def discharge_kwh(content: float, command: float, floor: float, hours: float) -> float:
    """Energy given by the battery (kWh) in `hours`: constant command (kW) until `floor` kWh."""
    if command <= 0.0 or content <= floor:
        return 0.0
    return min(command * hours, content - floor)


def soc_after_charging(
    capacity_kwh: float,
    soc: float,
    power_kw: float,
    hours: float,
    *,
    transition_soc: float = 0.8,
    accept_kw: float | None = None,
) -> float:
    """State of charge (0..1) after charging at a constant command from the state of charge `soc`.

    `power_kw` is at the battery terminals; a charger with efficiency η draws ``power_kw / η``. The
    full acceptance A, `accept_kw`, is the command itself when None, so that the taper starts at
    `transition_soc`; a stronger battery holds a weak command for longer.

    Raises
    ------
    InputError
        A value is out of range.

    Examples
    --------
    >>> round(soc_after_charging(50.0, 0.2, 11.0, 4.0), 4)
    0.9507
    """
    accept = power_kw if accept_kw is None else accept_kw
    checks = Checks("battery")
    checks.require(capacity_kwh > 0, "capacity_kwh", capacity_kwh, "> 0")
    checks.require(0 <= soc <= 1, "soc", soc, "0..1")
    checks.require(power_kw >= 0, "power_kw", power_kw, ">= 0")
    checks.require(hours >= 0, "hours", hours, ">= 0")
    checks.require(0 <= transition_soc <= 1, "transition_soc", transition_soc, "0..1")
    checks.require(accept > 0 or power_kw == 0, "accept_kw", accept, "> 0")
    checks.done()
    content = soc * capacity_kwh
    taken = charge_kwh(content, power_kw, accept, transition_soc, capacity_kwh, hours)
    return float((content + taken) / capacity_kwh)


@nb.njit(cache=True)
def hours_to_reach(
    content: float, target: float, command: float, accept: float, transition: float, capacity: float
) -> float:
    """Hours of charging at a constant command (kW, battery side) until `target` kWh; inf: never."""
    if target <= content:
        return 0.0
    power = min(command, accept)
    if power <= 0.0:
        return math.inf
    room, left = capacity - content, capacity - target
    taper_room = (1.0 - transition) * capacity
    knee = taper_room * power / accept
    constant = max(min(target - content, room - knee), 0.0) / power
    start = min(room, knee)
    if left >= start:
        return constant
    if left <= 0.0:
        return math.inf if taper_room > 0.0 else constant
    return constant + taper_room / accept * math.log(start / left)
