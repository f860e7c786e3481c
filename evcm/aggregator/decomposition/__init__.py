"""Exact method for groups of cars: convex hulls of the price steps on HiGHS, and branching."""
