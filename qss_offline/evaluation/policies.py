"""The policy π(s) = I(s, s + τ(s)) (Eq. 9), as a plain callable on NumPy arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
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
from qss_offline.data.environments import without_folder
from qss_offline.data.facts import RecordingFacts
from qss_offline.engine.checkpoint import Checkpoint, save_checkpoint
from qss_offline.errors import UserError, shown
from qss_offline.evaluation.actions import ActionBox


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

    @staticmethod
    def of_stack(scales: Sequence[ObservationScale]) -> ObservationScale:
        """Return one for columns `(…, S, B, obs_dim)`: each seed's go through its own."""
        steps = [scale.step_std for scale in scales if scale.step_std is not None]
        return ObservationScale(
            torch.stack([scale.mean for scale in scales]).unsqueeze(1),
            torch.stack([scale.std for scale in scales]).unsqueeze(1),
            torch.stack(steps).unsqueeze(1) if len(steps) == len(scales) else None,
        )

    def on(self, device: torch.device) -> ObservationScale:
        """Return the same on a device."""
        if self.mean.device == device:
            return self
        step = None if self.step_std is None else self.step_std.to(device)
        return ObservationScale(self.mean.to(device), self.std.to(device), step)

    def apply(self, obs: Tensor) -> Tensor:
        """Scale observations `(…, obs_dim)`."""
        return (obs - self.mean) / self.std

    def batch(self, obs: NDArray[Any]) -> Tensor:
        """Scale one observation or n for a network: `(…, obs_dim)` to `(1, n, obs_dim)`."""
        return self.apply(torch.tensor(np.atleast_2d(obs), dtype=torch.float32)).unsqueeze(0)

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


class _Acting(ABC):
    """What every policy does, whatever networks it is made of.

    Attributes:
        scale: what observations go through before they reach a network.
        action_box: the environment's bounds; 0 and 1 of every action where actions are discrete.
        env_id: where it acts; None where it was made without an environment.
    """

    scale: ObservationScale
    action_box: ActionBox
    env_id: str | None

    @property
    def obs_dim(self) -> int:
        """Size of an observation."""
        return len(self.scale.mean)

    @property
    @abstractmethod
    def networks(self) -> Mapping[str, Network]:
        """Its networks by name, one seed, `(1, P)` each."""

    @abstractmethod
    def _choose(self, scaled: Tensor) -> NDArray[Any]:
        """Choose actions: scaled observations `(1, n, obs_dim)` to `(n, …)`."""

    @abstractmethod
    def _described_actions(self) -> str:
        """Return what its actions are, as a line says it."""

    @torch.no_grad()
    def __call__(self, obs: ArrayLike) -> NDArray[Any]:
        """Choose actions: `(…, obs_dim)` to `(…, action_dim)`, for one observation or n.

        Discrete actions are int64 `(…)`.

        Raises:
            UserError: these are no observations of this policy.
        """
        rows = self._rows(obs)
        actions = self._choose(self.scale.batch(rows))
        return actions if rows.ndim > 1 else np.asarray(actions[0])

    def predict(
        self,
        observation: ArrayLike,
        state: tuple[NDArray[Any], ...] | None = None,
        episode_start: NDArray[Any] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[Any], tuple[NDArray[Any], ...] | None]:
        """Choose actions as stable-baselines3's policies do.

        Args:
            observation: `(obs_dim,)`, or `(n, obs_dim)` of n environments.
            state: of a recurrent policy, which this is not: it is returned as it came.
            episode_start: not looked at, since no action depends on what came before.
            deterministic: makes no difference: there is no other way for this policy to act.

        Returns:
            The actions, as calling the policy gives them, and `state`.

        Raises:
            UserError: these are no observations of this policy.
        """
        return self(observation), state

    def _rows(self, obs: ArrayLike) -> NDArray[np.float32]:
        """Return observations as numbers, one or n of them.

        Raises:
            UserError: they are something else.
        """
        wanted = f"the policy takes observations ({self.obs_dim},) or (n, {self.obs_dim})"
        try:
            rows = np.asarray(obs)
        except (TypeError, ValueError):
            # Rows of unequal length, or a tensor on a GPU.
            rows = np.asarray(None)
        if rows.dtype.kind not in "fiub":
            found = f"a {type(obs).__name__}"
            if isinstance(obs, np.ndarray):
                found = f"an array of {obs.dtype}"
            elif isinstance(obs, tuple) and len(obs) == 2 and isinstance(obs[1], dict):
                found += ": reset() returns an observation and a dict, give the first"
            raise UserError(f"{wanted} of numbers, not {found}")
        if rows.ndim not in (1, 2) or rows.shape[-1] != self.obs_dim:
            raise UserError(f"{wanted}, not {rows.shape}")
        with np.errstate(over="ignore"):
            numbers = rows.astype(np.float32, copy=False)
        # A policy that diverged leads to such observations, and its run goes on to say so.
        if not np.isfinite(numbers).all() and self.diverged is None:
            place = tuple(int(i) for i in np.argwhere(~np.isfinite(numbers))[0])
            at = ", ".join(map(str, place))
            raise UserError(f"{wanted} of finite numbers, but number [{at}] is {rows[place]}")
        return numbers

    def save(self, path: str | Path, env_id: str | None = None) -> None:
        """Write it to a safetensors file, atomically; `load_policy` reads it back.

        Args:
            path: of the file.
            env_id: where it acts; None takes what the policy says.

        Raises:
            UserError: it diverged: its networks aren't finite; or it can't be written.
        """
        self.check_finite(f"the policy of {Path(path).parent}")
        tensors = {name: network.flat for name, network in self.networks.items()}
        tensors |= self.scale.named_tensors()
        tensors["action.low"] = torch.from_numpy(self.action_box.low)
        tensors["action.high"] = torch.from_numpy(self.action_box.high)
        acts_in = self.env_id if env_id is None else env_id
        named = None if acts_in is None else without_folder(acts_in)
        metadata = {"env_id": named, **self._metadata()}
        save_checkpoint(Path(path), Checkpoint(tensors, metadata))

    def _metadata(self) -> dict[str, Any]:
        """Return what a file says beside the tensors; see `policy_schema`."""
        return {
            "step_inputs": False,
            "dims": {name: network.shape.dims for name, network in self.networks.items()},
        }

    def check_finite(self, called: str = "the policy") -> None:
        """Refuse a policy that diverged.

        Args:
            called: what the message calls it.

        Raises:
            UserError: a network holds NaN or infinite numbers.
        """
        name = self.diverged
        if name is not None:
            raise UserError(
                f"{called} diverged: its {name} is not finite; take a smaller learning rate, and "
                "another --out"
            )

    @property
    def diverged(self) -> str | None:
        """The name of a network that isn't finite, None if all are."""
        named = self.networks.items()
        return next((name for name, one in named if not one.flat.isfinite().all()), None)

    def __repr__(self) -> str:
        parts = [f"env_id={shown(self.env_id)}", f"obs_dim={self.obs_dim}"]
        parts.append(self._described_actions())
        for name, network in self.networks.items():
            hidden = network.shape.dims[1:-1]
            parts.append(f"{name}={list(hidden) if hidden else 'bilinear'}")
        return f"{type(self).__name__}({', '.join(parts)})"


class Policy(_Acting):
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

    @property
    def networks(self) -> Mapping[str, Network]:
        """τ and the IDM."""
        return {"proposal": self.proposal, "inverse_dynamics": self.inverse_dynamics}

    @torch.no_grad()
    def propose(self, obs: ArrayLike) -> NDArray[np.float32]:
        """Propose next observations s + τ(s), for a controller of one's own to reach.

        Args:
            obs: `(…, obs_dim)`, one or n, in the environment's units.

        Returns:
            `(…, obs_dim)`, in the environment's units.

        Raises:
            UserError: these are no observations of this policy.
        """
        rows = self._rows(obs)
        proposed = propose_next_obs(self.proposal, self.scale.batch(rows)).squeeze(0)
        units = np.asarray(self.scale.invert(proposed).numpy(), np.float32)
        return units if rows.ndim > 1 else units[0]

    def _choose(self, scaled: Tensor) -> NDArray[Any]:
        return self.action_box.from_unit(self._infer(inverse_action, scaled).numpy())

    def _infer(self, inverse: Callable[..., Tensor], scaled: Tensor) -> Tensor:
        """I(s, s + τ(s)): `(1, n, obs_dim)` to `(n, action_dim)`."""
        return inverse(
            self.inverse_dynamics,
            scaled,
            propose_next_obs(self.proposal, scaled),
            self.scale.step_std if self.step_inputs else None,
        ).squeeze(0)

    def _described_actions(self) -> str:
        return _described_box(self.action_box)

    def _metadata(self) -> dict[str, Any]:
        return {**super()._metadata(), "step_inputs": self.step_inputs}


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
    def logits(self, obs: ArrayLike) -> NDArray[np.float32]:
        """Return how much speaks for each action: `(…, obs_dim)` to `(…, count)`.

        Raises:
            UserError: these are no observations of this policy.
        """
        rows = self._rows(obs)
        logits: NDArray[np.float32] = self._infer(inverse_logits, self.scale.batch(rows)).numpy()
        return logits if rows.ndim > 1 else logits[0]

    def _choose(self, scaled: Tensor) -> NDArray[Any]:
        logits = self._infer(inverse_logits, scaled)
        return np.asarray(logits.argmax(dim=-1).numpy() + self.first_action)

    def _described_actions(self) -> str:
        return f"actions={self.first_action} to {self.first_action + self.count - 1}"

    def _metadata(self) -> dict[str, Any]:
        return {**super()._metadata(), "first_action": self.first_action}


class ClonedPolicy(_Acting):
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

    @property
    def networks(self) -> Mapping[str, Network]:
        """The one network."""
        return {"policy": self.policy}

    def _choose(self, scaled: Tensor) -> NDArray[Any]:
        return self.action_box.from_unit(cloned_action(self.policy, scaled).squeeze(0).numpy())

    def _described_actions(self) -> str:
        return _described_box(self.action_box)


SavedPolicy = Policy | ClonedPolicy


def _described_box(box: ActionBox) -> str:
    """Return the size and bounds of actions, each bound once where all are alike."""
    low, high = ([*map(float, end)] for end in (box.low, box.high))
    if len(set(low)) == len(set(high)) == 1:
        return f"action_dim={len(low)}, low={low[0]:g}, high={high[0]:g}"
    return f"action_dim={len(low)}, low={low}, high={high}"


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
