"""Optimisation in the reader's browser: a model of the package as a block of a page."""
