"""Policies as callables and files, whole episodes, and the units that returns are given in."""
