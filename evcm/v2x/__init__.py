"""Charging station with V2X: simulator, Gymnasium environment and exact optimum.

Importing this package registers ``evcm/ChargingStation-v0`` with Gymnasium.
"""

from __future__ import annotations

import gymnasium as gym

ENVIRONMENT = "evcm/ChargingStation-v0"

if ENVIRONMENT not in gym.registry:
    gym.register(
        id=ENVIRONMENT,
        entry_point="evcm.v2x.environment:ChargingStation",
        vector_entry_point="evcm.v2x.vector:ChargingStations",
    )
