"""Who acts while a dataset is recorded: random actions, an expert, or a mixture of both.

An expert is a small network that NumPy runs, stored as two files side by side:

`<name>.safetensors`
    float32 tensors `layers.0.weight` (out, in), `layers.0.bias` (out,), `layers.1.weight`, ...;
    ReLU between the layers, tanh after the last, then scaled from [−1, 1] to the action box:
    `low + (tanh(x) + 1) / 2 · (high − low)`. Observations enter as they are.
`<name>.json`
    `env_id`, `obs_dim`, `action_low`, `action_high` (lists, one number for each action), and
    where it came from: `command`, `seed`, `returns` (list of undiscounted episode returns).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from numpy.random import Generator, SeedSequence
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors
from safetensors.numpy import save as save_safetensors

from qss_offline.data.spaces import check_bounds
from qss_offline.data.transitions import BoolArray, Float32Array, Int64Array
from qss_offline.errors import UserError, printable, shown
from qss_offline.files import parse_json, read_regular_file, write_bytes, write_json

# An expert is a network of a few layers of some hundred units. What is larger isn't one.
_MAX_EXPERT_BYTES = 64 << 20
# Steps that are drawn and recorded together: few enough to fit any memory, and many enough that
# drawing them costs nothing. No number depends on it.
PLAN_STEPS = 1 << 12


@dataclass(frozen=True, eq=False)
class Plan:
    """What is settled before some steps of a shard are collected.

    Attributes:
        actions: (steps, act_dim) float32, the random action for every step; of discrete ones
            their numbers, (steps,) int64.
        random: (steps,) bool, whether it is taken; elsewhere the expert is asked.
    """

    actions: Float32Array | Int64Array
    random: BoolArray


class Behaviour:
    """At each step, independently, a random action with `random_action_prob`, else the expert's.

    Args:
        action_space: of the random actions, drawn uniformly; the expert's are clipped to it.
        expert: maps an observation to an action; None: every action is random.
        random_action_prob: from 0 (always the expert) to 1.

    Raises:
        UserError: the box isn't finite.
    """

    def __init__(
        self,
        action_space: spaces.Box | spaces.Discrete,
        expert: MLPExpert | None = None,
        random_action_prob: float = 1.0,
    ) -> None:
        if isinstance(action_space, spaces.Box):
            check_bounds(action_space)
        self._space = action_space
        self._expert = expert
        self._probability = random_action_prob

    def plans(self, seed: SeedSequence, steps: int) -> Iterator[Plan]:
        """Draw which steps are random, and a random action for every step."""
        seeds = [seed] if self._expert is None else seed.spawn(2)
        action_rng, *choice_rng = map(np.random.default_rng, seeds)
        for start in range(0, steps, PLAN_STEPS):
            piece = min(PLAN_STEPS, steps - start)
            actions = self._uniform(action_rng, piece)
            random = np.ones(piece, np.bool_)
            for rng in choice_rng:
                random = rng.random(piece) < self._probability
            yield Plan(actions, random)

    def _uniform(self, rng: Generator, steps: int) -> Float32Array | Int64Array:
        """Draw (steps, act_dim) actions, or (steps,) of discrete ones."""
        space = self._space
        if isinstance(space, spaces.Discrete):
            return rng.integers(space.start, space.start + space.n, steps)
        return rng.uniform(space.low, space.high, (steps, *space.shape)).astype(np.float32)

    def act(self, observation: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Ask the expert."""
        assert self._expert is not None and isinstance(self._space, spaces.Box)
        low, high = self._space.low, self._space.high
        action: npt.NDArray[Any] = np.clip(self._expert(observation), low, high)
        return action


@dataclass(frozen=True, eq=False)
class MLPExpert:
    """A deterministic policy: ReLU layers, tanh, scaled to the action box (see the module).

    Attributes:
        env_id: the environment that it was trained in.
        weights: of each layer, (out, in) float32.
        biases: of each layer, (out,) float32.
        action_low: (act_dim,) float32.
        action_high: (act_dim,) float32.

    Raises:
        UserError: shapes don't fit together, or values aren't finite.
    """

    env_id: str
    weights: tuple[Float32Array, ...]
    biases: tuple[Float32Array, ...]
    action_low: Float32Array
    action_high: Float32Array

    def __post_init__(self) -> None:
        if not self.weights or len(self.weights) != len(self.biases):
            raise UserError("expert: every layer needs a weight and a bias, at least one layer")
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if weight.dtype != np.float32 or bias.dtype != np.float32:
                raise UserError(f"expert: layer {index} must be float32")
            if weight.ndim != 2 or bias.shape != weight.shape[:1] or not weight.size:
                raise UserError(
                    f"expert: layer {index} has weight {weight.shape} and bias {bias.shape}, "
                    "expected (out, in) and (out,)"
                )
            if index and weight.shape[1] != self.weights[index - 1].shape[0]:
                raise UserError(
                    f"expert: layer {index} takes {weight.shape[1]} numbers, "
                    f"but layer {index - 1} gives {self.weights[index - 1].shape[0]}"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise UserError(f"expert: layer {index} holds NaN or infinity")
        bounds = self.action_low, self.action_high
        if any(bound.shape != self.biases[-1].shape for bound in bounds):
            raise UserError("expert: action_low and action_high need one number for each output")
        if not all(np.isfinite(bound).all() for bound in bounds) or (bounds[0] > bounds[1]).any():
            raise UserError("expert: action_low and action_high must be finite, low below high")

    @property
    def obs_dim(self) -> int:
        """Numbers in an observation."""
        return int(self.weights[0].shape[1])

    def __call__(self, observation: npt.NDArray[Any], /) -> Float32Array:
        """Return the action, (act_dim,) float32, for an observation, (obs_dim,)."""
        hidden: npt.NDArray[Any] = np.asarray(observation, dtype=np.float32)
        last = len(self.weights) - 1
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            # einsum and not `@`: BLAS may split the sum by its number of threads, and a
            # recording must not depend on how many there are.
            hidden = np.einsum("oi,i->o", weight, hidden) + bias
            if index < last:
                hidden = np.maximum(hidden, np.float32(0))
        half = np.float32(0.5) * (self.action_high - self.action_low)
        action: Float32Array = self.action_low + (np.tanh(hidden) + np.float32(1)) * half
        return action


def _read(path: Path) -> bytes:
    try:
        return read_regular_file(path, _MAX_EXPERT_BYTES)
    except UserError as error:
        raise UserError(f"expert: {error}") from error


def expert_fingerprint(path: Path) -> str:
    """Return the SHA-256 of an expert's weights and metadata, in hexadecimal.

    Raises:
        UserError: a file can't be read.
    """
    sha = hashlib.sha256(_read(path))
    sha.update(_read(path.with_suffix(".json")))
    return sha.hexdigest()


def load_expert(path: Path) -> MLPExpert:
    """Load an expert from `<name>.safetensors` and the `<name>.json` beside it.

    Raises:
        UserError: a file is missing, damaged, or isn't an expert in the format above.
    """
    try:
        described = path.with_suffix(".json")
        metadata = parse_json(_read(described), f"expert: {described} is damaged: it")
        tensors = load_safetensors(_read(path))
    except (ValueError, KeyError, TypeError, SafetensorError) as error:
        raise UserError(f"expert: {path} is damaged: {printable(error)}") from error
    depth = len(tensors) // 2
    names = [f"layers.{index}.{kind}" for index in range(depth) for kind in ("weight", "bias")]
    if sorted(names) != sorted(tensors):
        raise UserError(
            f"expert: {path} must hold layers.0.weight, layers.0.bias, layers.1.weight, ..., "
            f"but holds {', '.join(map(shown, sorted(tensors)[:4]))}"
        )
    try:
        env_id, obs_dim = metadata["env_id"], metadata["obs_dim"]
        # What is too great for a float32 becomes infinite, and is refused below.
        with np.errstate(over="ignore"):
            low, high = (np.array(metadata[f"action_{k}"], np.float32) for k in ("low", "high"))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"expert: {path.with_suffix('.json')} needs env_id, obs_dim, action_low, action_high"
        ) from error
    expert = MLPExpert(
        env_id=str(env_id),
        weights=tuple(tensors[f"layers.{index}.weight"] for index in range(depth)),
        biases=tuple(tensors[f"layers.{index}.bias"] for index in range(depth)),
        action_low=low,
        action_high=high,
    )
    if expert.obs_dim != obs_dim:
        raise UserError(
            f"expert: {path} takes {expert.obs_dim} numbers, its metadata says {shown(obs_dim)}"
        )
    return expert


def save_expert(
    path: Path, expert: MLPExpert, *, command: str, seed: int, returns: Sequence[float]
) -> None:
    """Write an expert to `path` (`….safetensors`) and its metadata beside it.

    Args:
        path: where the weights go.
        expert: the network.
        command: the command that trained it.
        seed: the seed of its training.
        returns: undiscounted returns of its evaluation, one for each episode.

    Raises:
        UserError: the suffix is wrong or the folder can't be written to.
    """
    if path.suffix != ".safetensors":
        raise UserError(f"expert: {path} must end in .safetensors")
    tensors = {f"layers.{index}.weight": weight for index, weight in enumerate(expert.weights)}
    tensors |= {f"layers.{index}.bias": bias for index, bias in enumerate(expert.biases)}
    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    metadata = {
        "env_id": expert.env_id,
        "obs_dim": expert.obs_dim,
        "action_low": expert.action_low.tolist(),
        "action_high": expert.action_high.tolist(),
        "command": command,
        "seed": seed,
        "returns": [float(value) for value in returns],
    }
    write_json(path.with_suffix(".json"), metadata)
    write_bytes(path, save_safetensors(contiguous))
