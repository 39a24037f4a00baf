"""The policy π(s) = I(s, s + τ(s)) (Eq. 9), as a plain callable on NumPy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from qss_offline.algorithms.bco import cloned_action
from qss_offline.algorithms.inverse_dynamics import inverse_action, inverse_logits
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.qss import propose_next_obs
from qss_offline.data.environments import without_folder, without_source
from qss_offline.data.facts import RecordingFacts
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.policy_schema import policy_file


def _float32(values: ArrayLike) -> Tensor:
    return torch.tensor(np.asarray(values, np.float32))


@dataclass(frozen=True)
class ObservationScale:
    """Shift and scale that a network's observations went through.

    Attributes:
        mean: `(obs_dim,)`.
        std: `(obs_dim,)`, all above 0.
        step_std: `(obs_dim,)` spread of s' − s in scaled units, or None where no model needs it.
    """

    mean: Tensor
    std: Tensor
    step_std: Tensor | None = None

    @staticmethod
    def of(mean: ArrayLike, std: ArrayLike, step_std: ArrayLike | None = None) -> ObservationScale:
        """Build one of numbers, such as those that were measured of a recording."""
        step = None if step_std is None else _float32(step_std)
        return ObservationScale(_float32(mean), _float32(std), step)

    @staticmethod
    def of_recording(facts: RecordingFacts) -> ObservationScale:
        """Return what the networks of a recording see its observations through."""
        return ObservationScale.of(facts.observation_mean, facts.observation_std, facts.step_std)

    def apply(self, obs: Tensor) -> Tensor:
        """Scale observations `(…, obs_dim)`."""
        return (obs - self.mean) / self.std

    def batch(self, obs: NDArray[Any]) -> Tensor:
        """Scale one observation or n for a network: `(…, obs_dim)` to `(1, n, obs_dim)`."""
        return self.apply(torch.as_tensor(np.atleast_2d(obs), dtype=torch.float32)).unsqueeze(0)

    def invert(self, obs: Tensor) -> Tensor:
        """Undo `apply`."""
        return obs * self.std + self.mean

    def named_tensors(self) -> dict[str, Tensor]:
        """Return it as checkpoints and policies hold it."""
        named = {"scale.mean": self.mean, "scale.std": self.std}
        return named if self.step_std is None else {**named, "scale.step_std": self.step_std}

    @staticmethod
    def from_named(tensors: Mapping[str, Tensor]) -> ObservationScale:
        """Undo `named_tensors`; other tensors may be among them.

        Raises:
            KeyError: the mean or the standard deviation is missing.
        """
        return ObservationScale(
            tensors["scale.mean"], tensors["scale.std"], tensors.get("scale.step_std")
        )


@dataclass(frozen=True)
class ActionBox:
    """Bounds of the actions.

    Attributes:
        low: `(action_dim,)`.
        high: `(action_dim,)`.
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @staticmethod
    def of(space: gym.spaces.Space[Any]) -> ActionBox:
        """Take the bounds of an environment's actions, a Box."""
        assert isinstance(space, gym.spaces.Box)
        return ActionBox(space.low.astype(np.float32), space.high.astype(np.float32))

    def from_unit(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Map actions in units of the box, [−1, 1], to the environment's."""
        half = (self.high - self.low) / 2
        clipped = np.clip(self.low + (action + 1.0) * half, self.low, self.high)
        return np.asarray(clipped, np.float32)

    def to_unit(self, action: NDArray[Any]) -> NDArray[np.float32]:
        """Map the environment's actions to [−1, 1]."""
        return np.asarray(2.0 * (action - self.low) / (self.high - self.low) - 1.0, np.float32)


class Policy:
    """π(s) = I(s, s + τ(s)) for one seed (Eq. 9).

    Args:
        proposal: τ, one seed, `(1, P)`.
        inverse_dynamics: IDM, one seed, `(1, P)`.
        scale: what observations go through before they enter τ and the IDM.
        step_inputs: whether the IDM was trained on steps; needs `scale.step_std`.
        action_box: the environment's bounds.
        env_id: where it acts; None where it was made without an environment.
    """

    def __init__(
        self,
        proposal: Network,
        inverse_dynamics: Network,
        scale: ObservationScale,
        step_inputs: bool,
        action_box: ActionBox,
        env_id: str | None = None,
    ) -> None:
        self.env_id = env_id
        self.proposal, self.inverse_dynamics = proposal, inverse_dynamics
        self.scale, self.step_inputs, self.action_box = scale, step_inputs, action_box

    @torch.no_grad()
    def propose(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """s'_τ = s + τ(s) in the environment's units: `(n, obs_dim)` to `(n, obs_dim)`."""
        proposed = propose_next_obs(self.proposal, self.scale.batch(obs)).squeeze(0)
        return np.asarray(self.scale.invert(proposed).numpy(), np.float32)

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Choose actions: `(…, obs_dim)` to `(…, action_dim)`, for one observation or n."""
        unit = self._infer(inverse_action, obs).numpy()
        return self.action_box.from_unit(unit if np.ndim(obs) > 1 else unit[0])

    def _infer(self, inverse: Callable[..., Tensor], obs: NDArray[Any]) -> Tensor:
        """I(s, s + τ(s)): `(…, obs_dim)` to `(n, action_dim)`."""
        scaled = self.scale.batch(obs)
        return inverse(
            self.inverse_dynamics,
            scaled,
            propose_next_obs(self.proposal, scaled),
            self.scale.step_std if self.step_inputs else None,
        ).squeeze(0)


class DiscretePolicy(Policy):
    """π(s) = argmax_a I(s, s + τ(s))_a over discrete actions, for one seed.

    Args:
        proposal: τ, one seed, `(1, P)`.
        inverse_dynamics: IDM, one seed, `(1, P)`, with one logit an action.
        scale: what observations go through before they enter τ and the IDM.
        step_inputs: whether the IDM was trained on steps; needs `scale.step_std`.
        first_action: number of the first action.
        env_id: where it acts.
    """

    def __init__(
        self,
        proposal: Network,
        inverse_dynamics: Network,
        scale: ObservationScale,
        step_inputs: bool,
        first_action: int,
        env_id: str | None = None,
    ) -> None:
        count = inverse_dynamics.shape.dims[-1]
        one_hot_box = ActionBox(np.zeros(count, np.float32), np.ones(count, np.float32))
        super().__init__(proposal, inverse_dynamics, scale, step_inputs, one_hot_box, env_id)
        self.first_action, self.count = first_action, count

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any]) -> NDArray[Any]:
        """Choose actions: `(…, obs_dim)` to int64 `(…)`, for one observation or n."""
        logits = self._infer(inverse_logits, obs)
        actions = logits.argmax(dim=-1).numpy() + self.first_action
        return np.asarray(actions if np.ndim(obs) > 1 else actions[0])


class ClonedPolicy:
    """π(s), one network that was taught actions: BCO's policy, one seed.

    Args:
        policy: one seed, `(1, P)`.
        scale: what observations go through before they reach it.
        action_box: the environment's bounds.
        env_id: where it acts; None where it was made without an environment.
    """

    def __init__(
        self,
        policy: Network,
        scale: ObservationScale,
        action_box: ActionBox,
        env_id: str | None = None,
    ) -> None:
        self.policy, self.scale, self.action_box = policy, scale, action_box
        self.env_id = env_id

    @torch.no_grad()
    def __call__(self, obs: NDArray[Any]) -> NDArray[np.float32]:
        """Choose actions: `(…, obs_dim)` to `(…, action_dim)`, for one observation or n."""
        unit = cloned_action(self.policy, self.scale.batch(obs)).squeeze(0).numpy()
        return self.action_box.from_unit(unit if np.ndim(obs) > 1 else unit[0])


SavedPolicy = Policy | ClonedPolicy


def save_policy(path: Path, policy: SavedPolicy, env_id: str | None = None) -> None:
    """Write a policy to a safetensors file, atomically.

    Args:
        path: of the file.
        policy: what is written.
        env_id: where it acts; None takes what the policy says.

    Raises:
        UserError: it diverged: its networks aren't finite; or it can't be written.
    """
    if isinstance(policy, Policy):
        networks = {"proposal": policy.proposal, "inverse_dynamics": policy.inverse_dynamics}
    else:
        networks = {"policy": policy.policy}
    tensors = {name: network.flat for name, network in networks.items()}
    for name, flat in tensors.items():
        if not flat.isfinite().all():
            raise UserError(
                f"the policy of {path.parent} diverged: its {name} is not finite; take a smaller "
                "learning rate, and another --out"
            )
    tensors |= policy.scale.named_tensors()
    tensors["action.low"] = torch.from_numpy(policy.action_box.low)
    tensors["action.high"] = torch.from_numpy(policy.action_box.high)
    acts_in = policy.env_id if env_id is None else env_id
    metadata: dict[str, Any] = {
        "env_id": None if acts_in is None else without_folder(acts_in),
        "step_inputs": isinstance(policy, Policy) and policy.step_inputs,
        "dims": {name: network.shape.dims for name, network in networks.items()},
    }
    if isinstance(policy, DiscretePolicy):
        metadata["first_action"] = policy.first_action
    save_checkpoint(path, Checkpoint(tensors, metadata))


def load_policy(path: Path) -> SavedPolicy:
    """Read a policy from a file that anybody may have made.

    The id of the environment that it acts in comes without a module or file, so that nothing is
    loaded for what a file says; see `env_id_of_file`.

    Raises:
        UserError: the file is missing or damaged, or holds no policy that can act.
    """
    held = policy_file(path, load_checkpoint(path))
    env_id = None if held.env_id is None else without_source(held.env_id)
    scale = ObservationScale(held.mean, held.std, held.step_std)
    box = ActionBox(held.action_low.numpy(), held.action_high.numpy())
    if "policy" in held.networks:
        return ClonedPolicy(held.networks["policy"], scale, box, env_id)
    parts = held.networks["proposal"], held.networks["inverse_dynamics"], scale, held.step_inputs
    if held.first_action is not None:
        return DiscretePolicy(*parts, held.first_action, env_id)
    return Policy(*parts, box, env_id)


def check_fits(policy: SavedPolicy, env: gym.Env[Any, Any]) -> None:
    """Refuse a policy whose observations or actions aren't an environment's.

    Raises:
        UserError: they aren't.
    """
    shape, space = env.observation_space.shape, env.action_space
    if shape != tuple(policy.scale.mean.shape):
        raise UserError(
            f"the policy sees {len(policy.scale.mean)} numbers, but the environment's observations "
            f"are {shape}"
        )
    if isinstance(policy, DiscretePolicy):
        own = f"actions {policy.first_action} to {policy.first_action + policy.count - 1}"
        fits = (
            isinstance(space, gym.spaces.Discrete)
            and int(space.start) == policy.first_action
            and int(space.n) == policy.count
        )
    else:
        box = policy.action_box
        own = f"actions from {box.low} to {box.high}"
        fits = (
            isinstance(space, gym.spaces.Box)
            and space.shape == box.low.shape
            and np.array_equal(ActionBox.of(space).low, box.low)
            and np.array_equal(ActionBox.of(space).high, box.high)
        )
    if not fits:
        raise UserError(f"the policy takes {own}, but the environment's are {space}")
