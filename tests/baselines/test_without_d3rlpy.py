"""Where d3rlpy isn't installed everything can be imported, and its use is refused in one line."""

import subprocess
import sys

PROGRAM = """
import sys
sys.modules["d3rlpy"] = None  # as good as not installed
import numpy as np
from qss_offline.baselines import bridge
from qss_offline.baselines import evaluator
from qss_offline.baselines import offline
from qss_offline.data import DatasetSpec
from qss_offline.data import collect
from qss_offline.errors import UserError

rows = collect(DatasetSpec("InvertedPendulum", transitions=50, shards=1), workers=1)
config = offline.OfflineBaselineConfig("bc", updates=1)
for call in (
    lambda: bridge.to_replay_buffer(rows),
    lambda: bridge.to_column_buffer(rows, np.random.default_rng(0)),
    lambda: offline.train_offline(rows, "InvertedPendulum-v5", config, 0),
):
    try:
        call()
    except UserError as error:
        assert "pip install 'qss-offline[baselines]'" in str(error), error
    else:
        raise AssertionError("not refused")
algo = evaluator.PolicyAlgo(lambda obs: obs[:, :1], 1)
assert algo.predict(np.ones((2, 4))).tolist() == [[1.0], [1.0]]
print("all refused")
"""


def test_use_is_refused_and_importing_is_not() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "all refused\n"
