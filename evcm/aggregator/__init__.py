"""One aggregator's day (2.3): what is asked, the readable model, fast exact methods, the answer."""
