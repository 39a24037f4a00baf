"""Runnable experiments: `python -m recipes.<name>`."""
