"""QSS Offline: policies from recordings that hold no actions.

The package follows *Estimating Q(s,s') with Deep Deterministic Dynamics Gradients*
(Edwards et al., ICML 2020). Importing it does no work and picks no device.
"""

__version__ = "0.1.0"
