"""Exact method for single cars: prices of the totals, each car alone, clusters of columns."""
