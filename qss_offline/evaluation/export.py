"""A policy as a file that other programs run without this package: ONNX or TorchScript.

A file holds the whole policy as one graph, from observations in the environment's units, float32
`(N, obs_dim)`, to actions in the environment's units, float32 `(N, action_dim)`, or int64 `(N,)`
where actions are discrete; N is what is given. Nothing is written that doesn't act as the policy.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline import __version__
from qss_offline.algorithms.networks import Network
from qss_offline.errors import UserError, by_name, printable, shown
from qss_offline.evaluation.policies import DiscretePolicy, SavedPolicy
from qss_offline.evaluation.policy_module import PolicyModule
from qss_offline.files import path_of, write_bytes

TOLERANCE = 1e-6
"""How far actions of a file may lie from the policy's, in ranges of the actions."""
_ROUNDING = 4.0
"""Nor is a file refused for a few times what the last bits of its weights matter: where a policy
is steep, no two programs that add float32 in another order are closer."""
_MOST_ROUNDING = 1e-2
"""More than this is not taken for rounding, however steep the policy."""
_BATCHES = (1, 2, 7, 64, 256)
_OPSET = 18

Act = Callable[[NDArray[np.float32]], NDArray[Any]]


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file.
        checked_with: the program that ran it.
        difference: the most that an action lay from the policy's, in ranges of the actions; where
            they are discrete, the most that spoke for the policy's action against the file's, in
            ranges of the logits.
    """

    path: Path
    checked_with: str
    difference: float


def export_policy(policy: SavedPolicy, path: str | Path) -> Exported:
    """Write a policy for other programs, once it is checked that it acts alike.

    Args:
        policy: what is written.
        path: `.onnx` for ONNX; `.pt` for TorchScript, which `torch.jit.load` reads.

    Raises:
        UserError: the file's name ends otherwise, a package is missing (`.onnx` needs the extra
            `onnx`), the policy diverged, the graph acts otherwise than the policy, or the file
            can't be written.
    """
    if not isinstance(policy, SavedPolicy):
        raise UserError(
            f"expected a policy, such as qss.load(…) or run.policy(), got {shown(policy)}"
        )
    path = path_of(path, "file of a policy")
    export = by_name("format of exported policies", path.suffix.lower(), _FORMATS)
    policy.check_finite()
    module = PolicyModule(policy).eval()
    content, checked_with, act = export(module, policy.obs_dim, _described(policy))
    difference = _checked(policy, act, path)
    write_bytes(path, content)
    return Exported(path, checked_with, difference)


def _described(policy: SavedPolicy) -> dict[str, str]:
    """Return what a file says of its policy."""
    box, size = policy.action_box, "1"
    if isinstance(policy, DiscretePolicy):
        actions = f"discrete, {policy.first_action} to {policy.first_action + policy.count - 1}"
    else:
        size = str(len(box.low))
        actions = f"low {[*map(float, box.low)]}, high {[*map(float, box.high)]}"
    # A module or a file before the name is a matter of the machine that it was trained on.
    name = "" if policy.env_id is None else policy.env_id.rpartition(":")[2]
    return {
        "env_id": printable(name),
        "obs_dim": str(policy.obs_dim),
        "action_dim": size,
        "actions": actions,
        "qss_offline_version": __version__,
    }


def _torchscript(
    module: PolicyModule, obs_dim: int, described: dict[str, str]
) -> tuple[bytes, str, Act]:
    written = io.BytesIO()
    with _silent():
        # It is deprecated, and there is nothing else that C++ and `torch.jit.load` read.
        traced = torch.jit.trace(module, torch.zeros(2, obs_dim))
        torch.jit.save(traced, written, _extra_files={"policy.json": json.dumps(described)})
        content = _without_source(written)
        loaded = torch.jit.load(io.BytesIO(content))
    return content, "PyTorch", lambda obs: np.asarray(loaded(torch.from_numpy(obs)).numpy())


def _without_source(written: io.BytesIO) -> bytes:
    """Leave out where each operation stands in whose files: paths of this machine."""
    kept = io.BytesIO()
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(kept, "w") as target:
        for member in source.infolist():
            if not member.filename.endswith(".debug_pkl"):
                target.writestr(member, source.read(member))
    return kept.getvalue()


def _onnx(module: PolicyModule, obs_dim: int, described: dict[str, str]) -> tuple[bytes, str, Act]:
    missing = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]
    if missing:
        raise UserError(
            f"ONNX needs {' and '.join(missing)}, which isn't installed: "
            "pip install 'qss-offline[onnx]'"
        )
    with _silent():
        program = torch.onnx.export(
            module,
            (torch.zeros(2, obs_dim),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("N")},),
            input_names=["observation"],
            output_names=["action"],
            opset_version=_OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    for key, value in described.items():
        model.metadata_props.add(key=key, value=value)
    content = model.SerializeToString()
    if find_spec("onnxruntime") is None:
        from onnx.reference import ReferenceEvaluator

        evaluator = ReferenceEvaluator(model)
        return content, "onnx", lambda obs: evaluator.run(None, {"observation": obs})[0]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
    return content, "ONNX Runtime", lambda obs: session.run(None, {"observation": obs})[0]


def _strip(message: Any) -> None:
    """Leave out remarks at any depth: the exporter's hold paths of this machine."""
    for field, value in message.ListFields():
        if field.name in ("metadata_props", "doc_string"):
            message.ClearField(field.name)
        elif field.message_type is not None:
            for part in (value,) if hasattr(value, "ListFields") else value:
                _strip(part)


_FORMATS = {".onnx": _onnx, ".pt": _torchscript}


@contextmanager
def _silent() -> Iterator[None]:
    """Silence what torch says while it exports: deprecations, and packages that aren't needed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _checked(policy: SavedPolicy, act: Act, path: Path) -> float:
    """Return the greatest difference between a graph's actions and the policy's.

    Raises:
        UserError: it is more than rounding.
    """
    generator, limit = np.random.default_rng(0), np.finfo(np.float32).max
    mean, std = policy.scale.mean.numpy(), policy.scale.std.numpy()
    changed, most, allowed = _in_last_bits(policy), 0.0, TOLERANCE
    for count in _BATCHES:
        drawn = generator.normal(mean, std, (count, len(mean)))
        obs = np.clip(drawn, -limit, limit).astype(np.float32)
        most = max(most, _difference(policy, obs, act(obs)))
        allowed = max(allowed, _ROUNDING * _difference(policy, obs, changed(obs)))
    if most > min(allowed, _MOST_ROUNDING):
        apart = f"by {most:.1e} of the actions' range"
        if np.isinf(most):
            apart = "its actions are not finite, or are of another shape"
        raise UserError(f"{path} would act otherwise than the policy, and isn't written: {apart}")
    return most


def _in_last_bits(policy: SavedPolicy) -> SavedPolicy:
    """Return the policy with the last bit of each weight changed."""
    generator = torch.Generator().manual_seed(0)
    changed = copy.copy(policy)
    for name, network in policy.networks.items():
        signs = 2.0 * torch.randint(2, network.flat.shape, generator=generator) - 1.0
        flat = network.flat * (1.0 + torch.finfo(torch.float32).eps * signs)
        setattr(changed, name, Network(network.shape, flat))
    return changed


def _difference(policy: SavedPolicy, obs: NDArray[np.float32], actions: NDArray[Any]) -> float:
    """Return how far actions lie from the policy's; see `Exported`."""
    own = policy(obs)
    alike = actions.shape == own.shape and actions.dtype == own.dtype
    if not (alike and np.isfinite(actions).all() and np.isfinite(own).all()):
        return float("inf")
    if isinstance(policy, DiscretePolicy):
        logits = policy.logits(obs).astype(np.float64)
        chosen = actions - policy.first_action
        if not ((chosen >= 0) & (chosen < policy.count)).all():
            return float("inf")
        against = logits.max(axis=-1) - logits[np.arange(len(obs)), chosen]
        spread = float(np.ptp(logits))
        return float(against.max()) / spread if spread else 0.0
    wide = policy.action_box.high.astype(np.float64) - policy.action_box.low
    return float((np.abs(actions.astype(np.float64) - own) / np.where(wide > 0, wide, 1.0)).max())
