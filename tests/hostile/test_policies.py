"""Untrusted policies and experts: they act as they say, or end in one line."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.data.environments import env_id_of_file, make_env, resolve_env_id
from qss_offline.data.policies import MLPExpert, load_expert, save_expert
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    DiscretePolicy,
    ObservationScale,
    Policy,
    SavedPolicy,
    check_fits,
)
from qss_offline.evaluation.policy_files import load_policy
from tests.hostile.test_files import ODD_FILES
from tests.patience import PATIENCE_S
from tests.program import Qss

OBS = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)


def network(*dims: int) -> Network:
    shape = MLPShape(dims)
    return Network(shape, shape.init(torch.Generator().manual_seed(0)).unsqueeze(0))


SCALE = ObservationScale(torch.zeros(4), torch.ones(4), torch.full((4,), 0.1))
BOX = ActionBox(np.full(1, -3, np.float32), np.full(1, 3, np.float32))
HONEST: dict[str, tuple[SavedPolicy, str]] = {
    "proposing": (
        Policy(network(4, 8, 4), network(8, 8, 1), SCALE, True, BOX),
        "InvertedPendulum-v5",
    ),
    "bilinear": (
        Policy(network(4, 8, 4), network(24, 1), SCALE, True, BOX),
        "InvertedPendulum-v5",
    ),
    "discrete": (
        DiscretePolicy(network(4, 8, 4), network(8, 8, 2), SCALE, False, 0),
        "CartPole-v1",
    ),
    "cloned": (
        ClonedPolicy(network(4, 8, 1), replace(SCALE, step_std=None), BOX),
        "InvertedPendulum-v5",
    ),
}
KINDS = sorted(HONEST)


@dataclass
class Content:
    """What a file is to hold."""

    tensors: dict[str, torch.Tensor]
    metadata: Any


def content(kind: str, folder: Path) -> Content:
    policy, env_id = HONEST[kind]
    path = folder / "honest.safetensors"
    policy.save(path, env_id)
    checkpoint = load_checkpoint(path)
    return Content(dict(checkpoint.tensors), dict(checkpoint.metadata))


def write(path: Path, content: Content) -> None:
    text = content.metadata if isinstance(content.metadata, str) else json.dumps(content.metadata)
    path.write_bytes(save(content.tensors, metadata={"json": text}))


def acts(path: Path) -> str | None:
    """Let a file act as `qss evaluate` does; return its refusal, or None if it acts."""
    try:
        policy = load_policy(path)
        env = make_env(env_id_of_file(policy.env_id, path))
        try:
            check_fits(policy, env)
            actions = policy(OBS)
            if np.isfinite(actions).all():
                assert all(env.action_space.contains(action) for action in actions)
        finally:
            env.close()
    except UserError as error:
        assert "\n" not in str(error)
        return str(error)
    return None


@pytest.mark.parametrize("kind", KINDS)
def test_an_honest_policy_acts_as_it_was_saved(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "policy.safetensors"
    write(path, content(kind, tmp_path))
    assert acts(path) is None
    np.testing.assert_array_equal(load_policy(path)(OBS), HONEST[kind][0](OBS))


def tensor(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Content], None]:
    def damage(content: Content) -> None:
        content.tensors[name] = change(content.tensors[name]).contiguous()

    return damage


def metadata(**changes: Any) -> Callable[[Content], None]:
    return lambda content: content.metadata.update(changes)


def without(name: str) -> Callable[[Content], None]:
    def damage(content: Content) -> None:
        del (content.tensors if name in content.tensors else content.metadata)[name]

    return damage


def text(written: str) -> Callable[[Content], None]:
    def damage(content: Content) -> None:
        content.metadata = written

    return damage


DAMAGES: dict[str, tuple[str, Callable[[Content], None]]] = {
    "mean is NaN": ("proposing", tensor("scale.mean", lambda t: t * float("nan"))),
    "mean is infinite": ("cloned", tensor("scale.mean", lambda t: t + float("inf"))),
    "std is 0": ("proposing", tensor("scale.std", lambda t: t * 0)),
    "std is negative": ("cloned", tensor("scale.std", lambda t: -t)),
    "std is too long": ("proposing", tensor("scale.std", lambda t: t.repeat(2))),
    "std is one number": ("cloned", tensor("scale.std", lambda t: t[0])),
    "steps without their spread": ("proposing", without("scale.step_std")),
    "bilinear without steps": ("bilinear", metadata(step_inputs=False)),
    "spread is NaN": ("bilinear", tensor("scale.step_std", lambda t: t * float("nan"))),
    "low is too long": ("proposing", tensor("action.low", lambda t: t.repeat(2))),
    "low above high": ("cloned", tensor("action.low", lambda t: t + 100)),
    "other bounds than the environment's": ("cloned", tensor("action.high", lambda t: t * 2)),
    "bounds are infinite": ("proposing", tensor("action.high", lambda t: t * float("inf"))),
    "float64": ("proposing", tensor("proposal", lambda t: t.double())),
    "int64": ("cloned", tensor("policy", lambda t: t.long())),
    "float16": ("discrete", tensor("inverse_dynamics", lambda t: t.half())),
    "two seeds": ("cloned", tensor("policy", lambda t: t.repeat(2, 1))),
    "too short": ("proposing", tensor("proposal", lambda t: t[:, :-1])),
    "weights are NaN": ("discrete", tensor("proposal", lambda t: t * float("nan"))),
    "no proposal": ("proposing", without("proposal")),
    "no env_id": ("proposing", without("env_id")),
    "other observations": ("proposing", metadata(env_id="Reacher-v5")),
    "other actions": ("proposing", metadata(env_id="CartPole-v1")),
    "vectors where actions are discrete": ("discrete", metadata(env_id="InvertedPendulum-v5")),
    "no environment": ("proposing", metadata(env_id="")),
    "a number for an environment": ("proposing", metadata(env_id=5)),
    "a relative module": ("proposing", metadata(env_id="..:X")),
    "a module": ("proposing", metadata(env_id="antigravity:X-v0")),
    "colons": ("cloned", metadata(env_id=":::")),
    "first_action is infinite": ("discrete", metadata(first_action=float("inf"))),
    "first_action is half": ("discrete", metadata(first_action=0.5)),
    "first_action is true": ("discrete", metadata(first_action=True)),
    "first_action of another": ("discrete", metadata(first_action=1)),
    "first_action is great": ("discrete", metadata(first_action=2**62)),
    "first_action of vectors": ("proposing", metadata(first_action=0)),
    "first_action of a clone": ("cloned", metadata(first_action=0)),
    "step_inputs of a clone": ("cloned", metadata(step_inputs=True)),
    "step_inputs is 1": ("proposing", metadata(step_inputs=1)),
    "dims is a list": ("proposing", metadata(dims=[4, 8, 4])),
    "dims of both": ("cloned", metadata(dims={"policy": [4, 8, 1], "proposal": [4, 8, 4]})),
    "dims of nothing": ("cloned", metadata(dims={"policy": []})),
    "dims are negative": ("cloned", metadata(dims={"policy": [4, -8, 1]})),
    "dims are great": ("cloned", metadata(dims={"policy": [4, 2**60, 1]})),
    "dims are text": ("cloned", metadata(dims={"policy": ["4", "8", "1"]})),
    "dims are infinite": ("cloned", metadata(dims={"policy": [4, float("inf"), 1]})),
    "a number of 4,000 digits": ("cloned", metadata(dims={"policy": [4, 10**3999, 1]})),
    "nested 100,000 deep": ("proposing", text("[" * 100_000 + "]" * 100_000)),
    "objects nested deep": ("proposing", text('{"a":' * 100_000 + "1" + "}" * 100_000)),
    "a list": ("proposing", text("[]")),
    "no JSON": ("proposing", text("{")),
    "half a character": ("proposing", text('"\\ud800"')),
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(DAMAGES))
def test_a_damaged_policy_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    kind, damage = DAMAGES[name]
    path, held = tmp_path / "policy.safetensors", content(kind, tmp_path)
    damage(held)
    write(path, held)
    refusal = acts(path)
    assert refusal is not None
    assert "policy.safetensors" in refusal or "the policy" in refusal


def mutate(held: Content, rng: random.Random) -> None:
    """Change one thing of any kind."""
    # fmt: off
    values: tuple[Any, ...] = (None, True, 0, -1, 2**63, 10**400, 0.5, float("nan"), "",
                               "\x1b[2J", "os:X-v0", [], [[]], {}, {"policy": [4, 8, 1]})
    name = rng.choice(sorted(held.tensors))
    old = held.tensors[name]
    changes: tuple[Callable[[], None], ...] = (
        lambda: held.metadata.update({rng.choice(sorted(held.metadata)): rng.choice(values)}),
        lambda: held.metadata.update({"dims": {key: [rng.randrange(-2, 40) for _ in range(
            rng.randrange(5))] for key in ("policy", "proposal")}}),
        lambda: without(rng.choice(sorted(held.metadata)))(held),
        lambda: without(name)(held),
        lambda: tensor(name, lambda t: t.to(rng.choice(
            (torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64))))(held),
        lambda: tensor(name, lambda t: t.flatten()[: rng.randrange(t.numel() + 1)].clone())(held),
        lambda: tensor(name, lambda t: t.repeat(*[rng.randrange(1, 3)] * t.dim()))(held),
        lambda: tensor(name, lambda t: torch.full(t.shape, rng.choice(
            (float("nan"), float("inf"), 0.0, -1.0, 1e-45, 3e38))))(held),
        lambda: held.tensors.update({name: held.tensors[rng.choice(sorted(held.tensors))].clone()}),
        lambda: held.tensors.update({"another": old.clone()}),
    )
    # fmt: on
    rng.choice(changes)()


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_policy_holds_it_acts_or_ends_in_one_line(
    kind: str, tmp_path: Path, cases: int
) -> None:
    honest = content(kind, tmp_path)
    for case in range(cases):
        rng = random.Random(f"{kind} {case}")
        held = Content(dict(honest.tensors), dict(honest.metadata))
        for _ in range(rng.randrange(1, 4)):
            if isinstance(held.metadata, dict) and held.metadata and held.tensors:
                mutate(held, rng)
        path = tmp_path / "policy.safetensors"
        write(path, held)
        if rng.random() < 0.3:
            damaged = bytearray(path.read_bytes())
            for _ in range(rng.randrange(1, 20)):
                damaged[rng.randrange(min(len(damaged), 600))] = rng.randrange(256)
            path.write_bytes(damaged[: rng.randrange(1, len(damaged) + 1)])
        acts(path)


@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_odd_files_are_neither_policies_nor_experts(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("odd.safetensors"))
    with pytest.raises(UserError, match="odd"):
        load_policy(Path("odd.safetensors"))
    with pytest.raises(UserError, match="odd"):
        load_expert(Path("odd.safetensors"))


def expert(path: Path) -> dict[str, Any]:
    ones = np.ones((1, 4), np.float32)
    saved = MLPExpert("InvertedPendulum-v5", (ones,), (ones[0, :1],), BOX.low, BOX.high)
    save_expert(path, saved, command="by hand", seed=0, returns=[1.0])
    described: dict[str, Any] = json.loads(path.with_suffix(".json").read_text())
    return described


@pytest.mark.parametrize(
    "changes",
    [
        {"obs_dim": 10**400},
        {"obs_dim": float("nan")},
        {"action_low": [10**400]},
        {"action_low": [float("nan")]},
        {"action_low": "x"},
        {"action_low": [[1], [2, 3]]},
        {"action_low": [1e300]},
        {"action_low": None},
        {"action_high": [-100.0]},
        {"action_high": [1.0] * 7},
    ],
    ids=str,
)
def test_a_damaged_expert_is_refused_in_one_line(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "expert.safetensors"
    described = {**expert(path), **changes}
    assert load_expert(path).obs_dim == 4
    path.with_suffix(".json").write_text(json.dumps(described))
    with pytest.raises(UserError, match="expert"):
        load_expert(path)


@pytest.mark.parametrize(
    "described", ["[" * 100_000, "[]", "5", '"x"', "{}"], ids=lambda text: text[:5]
)
def test_an_expert_without_its_description_is_refused(described: str, tmp_path: Path) -> None:
    path = tmp_path / "expert.safetensors"
    expert(path)
    path.with_suffix(".json").write_text(described)
    with pytest.raises(UserError, match="expert"):
        load_expert(path)


OWN = """
from pathlib import Path
import gymnasium
Path("ran").touch()
gymnasium.register("Own-v0", "gymnasium.envs.mujoco.inverted_pendulum_v5:InvertedPendulumEnv",
                   max_episode_steps=5)
"""


def qss_offline(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does who stands in a folder with untrusted modules."""
    start = "import sys; sys.path.insert(0, ''); from qss_offline.cli.program import main; main()"
    return subprocess.run(
        [sys.executable, "-c", start, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def test_evaluate_imports_what_the_user_names_and_nothing_that_a_file_names(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN)
    held = content("proposing", tmp_path)
    held.metadata["env_id"] = "own:Own-v0"
    write(tmp_path / "policy.safetensors", held)
    refused = qss_offline("evaluate", "policy.safetensors", folder=tmp_path)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "--env" in refused.stderr and "Own-v0" in refused.stderr
    assert not (tmp_path / "ran").exists()
    done = qss_offline("evaluate", "policy.safetensors", "--env", "own:Own-v0", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Own-v0" in done.stdout
    assert (tmp_path / "ran").exists()


def test_a_policy_acts_in_no_other_environment_than_its_own(tmp_path: Path, qss: Qss) -> None:
    held = content("proposing", tmp_path)
    write(tmp_path / "policy.safetensors", held)
    told = qss.refused("evaluate --env Reacher", tmp_path / "policy.safetensors")
    assert "InvertedPendulum" in told and "Reacher" in told


def test_what_is_no_module_is_refused_where_the_user_names_it() -> None:
    for name in ("..:X", ".:X-v0", ":X-v0", "a.b:", "os:Nothing-v0", "x\x00:X-v0"):
        with pytest.raises(UserError):
            resolve_env_id(name)
