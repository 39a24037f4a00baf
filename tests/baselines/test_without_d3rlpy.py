"""Where d3rlpy isn't installed everything can be imported, and its use is refused in one line."""

import sys

import numpy as np
import pytest

from qss_offline.baselines import bridge, evaluator, offline
from qss_offline.data import DatasetSpec, collect
from qss_offline.errors import UserError


def test_use_is_refused_and_importing_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "d3rlpy", None)  # as good as not installed
    rows = collect(DatasetSpec("InvertedPendulum", transitions=50, shards=1), workers=1)
    config = offline.OfflineBaselineConfig("bc", updates=1)
    for call in (
        lambda: bridge.to_replay_buffer(rows),
        lambda: bridge.to_column_buffer(rows, np.random.default_rng(0)),
        lambda: offline.train_offline(rows, "InvertedPendulum-v5", config, 0),
    ):
        with pytest.raises(UserError, match=r"pip install 'qss-offline\[baselines\]'"):
            call()
    algo = evaluator.PolicyAlgo(lambda obs: obs[:, :1], 1)
    assert algo.predict(np.ones((2, 4))).tolist() == [[1.0], [1.0]]
