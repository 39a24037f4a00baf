"""Baselines by d3rlpy, imported only when they are used."""
