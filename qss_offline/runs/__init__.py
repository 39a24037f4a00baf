"""The folder of a run: what it was asked to do, how far it is, and what came of it."""
