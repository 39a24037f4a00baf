"""How much work the parts of a run are, in updates of offline D3G: what progress counts.

Rounded from measurements on a CPU at the sizes of the presets. Time left is told by the speed of
late, which makes up for the rest.
"""

from __future__ import annotations

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig

CLONING_UPDATE, VALUED_UPDATE = 0.2, 0.7
STEP = 0.05
"""An environment step of one policy, with the choice of its action."""
EPISODE = 20.0
"""An episode of an evaluation, of some hundred steps."""
GPU_SPEEDUP = 10.0
"""How many updates of offline D3G a GPU does in the time of one on a CPU, where the rest runs."""


def inverse_update(model: InverseDynamicsConfig) -> float:
    """Return the work of an update of the inverse dynamics model."""
    if model.form == "bilinear":
        return 0.0
    return 0.2 if model.recorded_coef == 0 else 0.8
