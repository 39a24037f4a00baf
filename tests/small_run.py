"""A whole run with small networks.

python -m tests.small_run DATASET OUT [--resume] [--workers]
"""

import sys
from dataclasses import replace
from pathlib import Path

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import Preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.portfolio_config import LEAST_ROUNDS
from qss_offline.training.runner import run

PRESET = Preset(
    ObservationalD3GConfig((16, 16), 32, normalize_observations=True, clamp_targets=True),
    InverseFitConfig(2, 100, 200, model=InverseDynamicsConfig((16, 16), 32, step_inputs=True)),
    updates=5000,
)
RACED = replace(PRESET, inverse=replace(PRESET.inverse, rounds=LEAST_ROUNDS))


def settings(dataset: str) -> RunConfig:
    return RunConfig(
        "d3g", "InvertedPendulum-v5", dataset, (0, 1), "small", PRESET, evaluation_episodes=2
    )


if __name__ == "__main__":
    run(
        settings(sys.argv[1]),
        RunFolder(Path(sys.argv[2])),
        resume="--resume" in sys.argv,
        launcher=LocalLauncher(2 if "--workers" in sys.argv else 1),
    )
