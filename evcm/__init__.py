"""Electric-vehicle charging management: aggregators, network operator, and their coordination."""

__version__ = "0.1.0"
