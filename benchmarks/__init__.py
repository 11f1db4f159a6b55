"""Benchmarks: what `make bench` runs and the commands whose tables stand in the manual."""
