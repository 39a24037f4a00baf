"""Exported policies act as the policies do, without this package; no other file is written."""

import copy
import importlib.util
import json
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import qss_offline
from qss_offline.algorithms.networks import Network
from qss_offline.errors import UserError
from qss_offline.evaluation import export
from qss_offline.evaluation.export import TOLERANCE, Exported, export_policy
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    DiscretePolicy,
    ObservationScale,
    SavedPolicy,
)
from qss_offline.evaluation.policy_module import PolicyModule
from tests.evaluation.some_policies import LOPSIDED, POLICIES, box, network, observations, scale
from tests.patience import PATIENCE_S

needs_onnx = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")),
    reason="the extra `onnx` or onnxruntime isn't installed",
)
FORMATS = [pytest.param(".onnx", marks=needs_onnx), ".pt"]
BATCHES = (1, 2, 33)

ELSEWHERE = """
import sys
sys.modules["qss_offline"] = None  # importing it fails
import json, pathlib
import numpy as np
for place in sys.argv[1:]:
    path = pathlib.Path(place)
    if path.suffix == ".onnx":
        import onnxruntime
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        act = lambda obs: session.run(["action"], {"observation": obs})[0]
        told = session.get_modelmeta().custom_metadata_map
    else:
        import torch
        held = {"policy.json": ""}
        loaded = torch.jit.load(path, _extra_files=held)
        act = lambda obs: loaded(torch.from_numpy(obs)).numpy()
        told = json.loads(held["policy.json"])
    with np.load(path.with_suffix(".obs.npz")) as batches:
        np.savez(path.with_suffix(".actions.npz"), **{name: act(batches[name]) for name in batches})
    path.with_suffix(".json").write_text(json.dumps(told))
"""


def exported(policies: dict[str, SavedPolicy], suffix: str, folder: Path) -> dict[str, Exported]:
    """Export policies, and let the files act in a process of their own."""
    written = {}
    for number, (name, policy) in enumerate(policies.items()):
        written[name] = export_policy(policy, folder / f"{number}{suffix}")
        batches = {str(count): observations(policy, count, seed=1) for count in BATCHES}
        np.savez(written[name].path.with_suffix(".obs.npz"), **batches)  # type: ignore[arg-type]
    paths = [str(one.path) for one in written.values()]
    subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *paths], check=True, timeout=PATIENCE_S, cwd=folder
    )
    return written


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_act_as_their_policies_where_this_package_is_not(suffix: str, tmp_path: Path) -> None:
    for name, written in exported(POLICIES, suffix, tmp_path).items():
        policy, path = POLICIES[name], written.path
        assert written.difference <= TOLERANCE
        with np.load(path.with_suffix(".actions.npz")) as acted:
            for count in BATCHES:
                own, actions = policy(observations(policy, count, seed=1)), acted[str(count)]
                assert (actions.dtype, actions.shape) == (own.dtype, own.shape), name
                if isinstance(policy, DiscretePolicy):
                    assert count < 33 or len(set(own.tolist())) > 1
                    np.testing.assert_array_equal(actions, own)
                else:
                    width = policy.action_box.high - policy.action_box.low
                    assert (np.abs(actions - own) <= TOLERANCE * width).all(), name
                    assert (actions >= policy.action_box.low).all()
                    assert (actions <= policy.action_box.high).all()
        told = json.loads(path.with_suffix(".json").read_text())
        assert told["env_id"] == (policy.env_id or "").rpartition(":")[2]
        assert told["obs_dim"] == str(policy.obs_dim)
        assert told["action_dim"] == (
            "1" if name == "discrete" else str(len(policy.action_box.low))
        )
        assert told["qss_offline_version"] == qss_offline.__version__
        for held in contents(path):
            for place in (Path(qss_offline.__file__).parents[1], sys.prefix, torch.__path__[0]):
                assert str(place).encode() not in held, name


def contents(path: Path) -> list[bytes]:
    if not zipfile.is_zipfile(path):
        return [path.read_bytes()]
    with zipfile.ZipFile(path) as archive:
        return [archive.read(name) for name in archive.namelist()]


def steep() -> ClonedPolicy:
    """Return a policy whose actions hang on the last bits of its sums."""
    cloned = ClonedPolicy(network(4, 64, 64, 3), scale(4), LOPSIDED)
    cloned.policy.weights[-1].mul_(300)
    return cloned


def test_a_steep_policy_is_exported_for_all_its_rounding(tmp_path: Path) -> None:
    policy = steep()
    obs = observations(policy, 300)
    rounded = copy.copy(policy)
    rounded.policy = Network(policy.policy.shape, policy.policy.flat * (1 + 2**-23))
    width = policy.action_box.high - policy.action_box.low
    assert (np.abs(rounded(obs) - policy(obs)) / width).max() > TOLERANCE
    assert export_policy(policy, tmp_path / "policy.pt").path.exists()


class Wrong(PolicyModule):
    """A graph that is off by 1e-5 of an action's range."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return super().forward(observation) + 1e-5 * (self.high - self.low)


class Broken(PolicyModule):
    """A graph that gives NaN."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return super().forward(observation) * float("nan")


class OtherShape(PolicyModule):
    """A graph that gives one number too few."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return super().forward(observation)[:, 1:]


class NextAction(PolicyModule):
    """A graph that takes the action after the policy's."""

    def forward(self, observation: torch.Tensor) -> torch.Tensor:
        return super().forward(observation) + 1


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("cloned", Wrong),
        ("cloned", Broken),
        ("cloned", OtherShape),
        ("discrete", NextAction),
    ],
)
def test_a_graph_that_acts_otherwise_is_not_written(
    kind: str, module: type[PolicyModule], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.pt"
    path.write_bytes(b"before")
    monkeypatch.setattr(export, "PolicyModule", module)
    with pytest.raises(UserError, match="would act otherwise than the policy"):
        export_policy(POLICIES[kind], path)
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["policy.pt"]


def test_a_policy_that_diverged_is_not_exported(tmp_path: Path) -> None:
    policy = ClonedPolicy(network(4, 8, 3), scale(4), LOPSIDED)
    policy.policy.flat[0, 0] = float("nan")
    with pytest.raises(UserError, match="the policy diverged"):
        export_policy(policy, tmp_path / "policy.pt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("extreme", ["bounds", "observations"])
@pytest.mark.filterwarnings("error:.*cast:RuntimeWarning")
def test_numbers_at_the_end_of_float32_end_in_a_file_or_in_one_line(
    extreme: str, tmp_path: Path
) -> None:
    policy = ClonedPolicy(network(4, 8, 2), scale(4), box([-3e38, -1.0], [3e38, 1.0]))
    if extreme == "observations":
        far = ObservationScale.of([3.4e38, 0, 0, 0], [3e37, 1, 1, 1])
        policy = ClonedPolicy(network(4, 8, 2), far, box([-1.0, -1.0], [1.0, 1.0]))
    path = tmp_path / "policy.pt"
    try:
        assert export_policy(policy, path).path.exists()
    except UserError as refused:
        assert "\n" not in str(refused) and not path.exists()


@pytest.mark.parametrize("name", ["policy.onx", "policy", "policy.safetensors"])
def test_another_ending_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there are \.onnx, \.pt"):
        export_policy(POLICIES["cloned"], tmp_path / name)


def hidden(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    def found(name: str, package: str | None = None) -> Any:
        return None if name in names else importlib.util.find_spec(name, package)

    monkeypatch.setattr(export, "find_spec", found)


def test_what_onnx_needs_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden(monkeypatch, "onnx", "onnxscript")
    with pytest.raises(UserError, match=r"pip install 'qss-offline\[onnx\]'"):
        export_policy(POLICIES["cloned"], tmp_path / "policy.onnx")


@needs_onnx
def test_without_its_runtime_onnx_is_checked_by_onnx_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden(monkeypatch, "onnxruntime")
    written = export_policy(POLICIES["cloned"], str(tmp_path / "policy.onnx"))
    assert written.checked_with == "onnx" and written.path.exists()
