"""Measurements; each script writes a file under `benchmarks/results/`."""
