"""The inverse dynamics model of each seed, fitted on a few online steps."""
