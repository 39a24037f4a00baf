from __future__ import annotations

import numpy as np
import pytest

from qss_offline.data import DatasetSpec, MLPExpert, Transitions, collect, save_expert


@pytest.fixture(scope="session")
def recording() -> Transitions:
    """Random pendulums: most episodes terminate, the last of each shard is cut."""
    return collect(DatasetSpec("InvertedPendulum", transitions=900, seed=4, shards=3), workers=1)


@pytest.fixture(scope="session")
def expert_recording(tmp_path_factory: pytest.TempPathFactory) -> Transitions:
    """A linear controller that holds the pole, one action in twenty random."""
    path = tmp_path_factory.mktemp("expert") / "linear.safetensors"
    gains = np.array([[0.1, 10 / 3, 0.2, 2 / 3]], np.float32)
    bound = np.array([3.0], np.float32)
    expert = MLPExpert("InvertedPendulum-v5", (gains,), (np.zeros(1, np.float32),), -bound, bound)
    save_expert(path, expert, command="by hand", seed=0, returns=[1000.0])
    return collect(DatasetSpec("InvertedPendulum", 0.05, 10_000, expert=path), workers=1)
