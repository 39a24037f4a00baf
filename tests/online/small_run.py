"""An online run with small networks: `python -m tests.online.small_run ENV OUT [--resume]`."""

import sys
from dataclasses import replace
from pathlib import Path

from qss_offline.algorithms.d3g import D3GConfig
from qss_offline.comparison.online_runs import online_run
from qss_offline.launch.local import LocalLauncher
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.runs.folder import RunFolder

CONFIG = OnlineConfig(
    D3GConfig(hidden_dims=(16, 16), batch_size=32, clamp_targets=True, step_inputs=True),
    steps=700,
    warm_up=150,
    normalize_observations=True,
    model_updates=20,
)


def settings(env_id: str = "InvertedPendulum-v5", algorithm: str = "d3g") -> OnlineSettings:
    config = replace(CONFIG, algorithm=replace(CONFIG.algorithm, cycle=algorithm == "d3g"))
    return OnlineSettings(env_id, algorithm, (0, 1), "small", config, EvaluationPlan(100, 1))


if __name__ == "__main__":
    folder = RunFolder(Path(sys.argv[2]))
    online_run(
        settings(sys.argv[1]), folder, resume="--resume" in sys.argv, launcher=LocalLauncher(1)
    )
