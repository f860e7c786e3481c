"""The fast AC OPF: an interior point method over all periods at once, compiled."""
