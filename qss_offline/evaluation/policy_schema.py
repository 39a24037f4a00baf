"""What a policy file must hold, checked in full before anything of it is used.

Policies are made to be shared, so that a file may say anything. It holds float32 tensors:

`proposal` and `inverse_dynamics`, or `policy`
    flat parameters of a network, `(1, P)`.
`scale.mean`, `scale.std`, and `scale.step_std` where the inverse model sees steps
    `(obs_dim,)`.
`action.low`, `action.high`
    `(action_dim,)`; 0 and 1 of every action where actions are discrete.

and metadata: `env_id` (null or missing where it was made without an environment), `dims` (sizes of
each network's layers), `step_inputs`, and `first_action` where actions are discrete.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, float32

from qss_offline.algorithms.bilinear_inverse import bilinear_shape
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.engine.checkpoint import Checkpoint
from qss_offline.errors import UserError, shown

_CLONED = {"policy"}
_PROPOSING = {"proposal", "inverse_dynamics"}
_MOST_UNITS = 1 << 20
_MOST_LAYERS = 64


@dataclass(frozen=True)
class PolicyFile:
    """What a policy file holds, once it is known to fit together.

    Attributes:
        networks: by name.
        mean: `(obs_dim,)`, finite.
        std: `(obs_dim,)`, above 0.
        step_std: `(obs_dim,)`, above 0, or None.
        action_low: `(action_dim,)`, finite.
        action_high: `(action_dim,)`, at least `action_low`.
        step_inputs: whether the inverse model sees steps.
        first_action: number of the first of discrete actions, None where they are vectors.
        env_id: where it acts, as the file says; nobody has looked it up. None where it was made
            without an environment.
    """

    networks: Mapping[str, Network]
    mean: Tensor
    std: Tensor
    step_std: Tensor | None
    action_low: Tensor
    action_high: Tensor
    step_inputs: bool
    first_action: int | None
    env_id: str | None


def policy_file(path: Path, checkpoint: Checkpoint) -> PolicyFile:
    """Return what a policy file holds.

    Raises:
        UserError: something is missing or wrong.
    """
    try:
        return _checked(checkpoint.tensors, checkpoint.metadata)
    except UserError as error:
        raise UserError(f"{path} holds no policy that can act: {error}") from error


def _checked(tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> PolicyFile:
    env_id, dims = metadata.get("env_id"), metadata.get("dims")
    if env_id is not None and (not isinstance(env_id, str) or not env_id):
        raise UserError(f"env_id is {shown(env_id)}, not the id of an environment")
    if not isinstance(dims, dict) or set(dims) not in (_CLONED, _PROPOSING):
        raise UserError(
            f"dims is {shown(dims)}, not the sizes of proposal and inverse_dynamics, or of policy"
        )
    networks = {name: _network(name, sizes, tensors) for name, sizes in dims.items()}
    cloned = set(dims) == _CLONED
    first, step_inputs = metadata.get("first_action"), metadata.get("step_inputs")
    if not isinstance(step_inputs, bool) or (cloned and step_inputs):
        raise UserError(f"step_inputs is {shown(step_inputs)}")
    if first is not None and (cloned or not isinstance(first, int) or isinstance(first, bool)):
        raise UserError(f"first_action is {shown(first)}")
    acting = networks["policy" if cloned else "inverse_dynamics"].shape.dims
    seeing = acting[0] if cloned else networks["proposal"].shape.dims[0]
    if not cloned:
        _check_pair(networks, step_inputs)
    step_std = None
    if step_inputs or "scale.step_std" in tensors:
        step_std = _row(tensors, "scale.step_std", seeing, above_0=True)
    low, high = (_row(tensors, f"action.{end}", acting[-1]) for end in ("low", "high"))
    if (low > high).any():
        raise UserError("action.low is above action.high")
    if first is not None and not ((low == 0).all() and (high == 1).all()):
        raise UserError("first_action is for discrete actions, whose bounds are 0 and 1")
    return PolicyFile(
        networks,
        _row(tensors, "scale.mean", seeing),
        _row(tensors, "scale.std", seeing, above_0=True),
        step_std,
        low,
        high,
        step_inputs,
        first,
        env_id,
    )


def _network(name: str, dims: object, tensors: Mapping[str, Tensor]) -> Network:
    fits = (
        isinstance(dims, list)
        and 2 <= len(dims) <= _MOST_LAYERS
        and all(type(dim) is int and 0 < dim <= _MOST_UNITS for dim in dims)
    )
    if not fits:
        raise UserError(f"the sizes of {name} are {shown(dims)}")
    assert isinstance(dims, list)
    shape = MLPShape(tuple(dims))
    return Network(shape, _tensor(tensors, name, (1, sum(shape.sizes))))


def _check_pair(networks: Mapping[str, Network], step_inputs: bool) -> None:
    """Refuse a proposal and an inverse model that don't fit each other."""
    proposal = networks["proposal"].shape.dims
    inverse = networks["inverse_dynamics"].shape.dims
    obs_dim = proposal[0]
    if proposal[-1] != obs_dim:
        raise UserError(f"proposal takes {obs_dim} numbers and gives {proposal[-1]}")
    bilinear = step_inputs and inverse == bilinear_shape(obs_dim, inverse[-1]).dims
    if not bilinear and (len(inverse) == 2 or inverse[0] != 2 * obs_dim):
        raise UserError(
            f"inverse_dynamics takes {inverse[0]} numbers, which are no two observations of "
            f"{obs_dim}"
        )


def _row(tensors: Mapping[str, Tensor], name: str, size: int, above_0: bool = False) -> Tensor:
    row = _tensor(tensors, name, (size,))
    if above_0 and not (row > 0).all():
        raise UserError(f"{name} must be above 0")
    return row


def _tensor(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in tensors:
        raise UserError(f"{name} is missing")
    tensor = tensors[name]
    if tensor.dtype != float32 or tensor.shape != shape:
        found = f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
        raise UserError(f"{name} is {found}, not {shape} float32")
    if not tensor.isfinite().all():
        raise UserError(f"its {name} is not finite: it diverged, or is damaged")
    return tensor
