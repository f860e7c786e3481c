"""Independent checks: every constraint and cost re-evaluated in numpy, without a solver."""
