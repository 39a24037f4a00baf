"""The examples of docs/policies.md run one after the other, and agree."""

import json
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qss_offline.evaluation.policies import Policy
from tests.evaluation.some_policies import box, network, scale

PAGE = Path(__file__).parents[2] / "docs" / "policies.md"


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated")
def test_its_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(find_spec(name) is None for name in ("onnxscript", "onnxruntime")):
        pytest.skip("the extra `onnx` or onnxruntime isn't installed")
    monkeypatch.chdir(tmp_path)
    inverse = network(8, 16, 1, seed=1)
    policy = Policy(
        network(4, 16, 4), inverse, scale(4), True, box([-3.0], [3.0]), "InvertedPendulum-v5"
    )
    policy.save("runs/pendulum/seeds/0/policy.safetensors")
    names: dict[str, Any] = {}
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    acted = []
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
        acted.append(np.asarray(names["action"]))
        # Whatever acted last, it acted on the same observation.
        np.testing.assert_allclose(np.asarray(names["actions"])[0], acted[0], atol=6e-6)
    assert len(acted) == 6
    assert names["set_point"].shape == (4,)
    assert names["about"]["env_id"] == "InvertedPendulum-v5"
    assert json.loads(names["held"]["policy.json"]) == names["about"]
    assert Path("mine/policy.safetensors").exists()
