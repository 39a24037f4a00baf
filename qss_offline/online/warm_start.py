"""From offline to online: Q and τ of an offline run, the IDM of its inverse fit."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.qss import qss_shapes
from qss_offline.data.environments import same_environment
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint
from qss_offline.engine.state import TrainState
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ObservationScale, Policy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.online.config import OnlineConfig
from qss_offline.runs.config import Preset
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.portfolio_config import D3G
from qss_offline.settings_json import from_plain

_FROM_TRAINING = (
    "critic",
    "critic_target",
    "proposal",
    "proposal_target",
    "proposal_average",
)
_FROM_INVERSE_FIT = ("inverse_dynamics", "inverse_average")
_NO_PROPOSAL = "was not trained by D3G: there is no proposal to carry over"


@dataclass(frozen=True)
class Start:
    """What a seed brings with it from an offline run.

    Attributes:
        tensors: networks and moments by their names in a checkpoint.
        scale: what its observations go through.
    """

    tensors: Mapping[str, Tensor]
    scale: ObservationScale

    def write_into(self, state: TrainState, index: int) -> None:
        """Give it to the seed at `index` of a fresh state.

        Raises:
            UserError: it doesn't fit.
        """
        for key, tensor in self.tensors.items():
            kind, _, name = key.partition(".")
            if kind == "network":
                target = state.networks[name].flat[index]
            elif kind == "steps":
                target = state.moments[name].steps
            else:
                target = getattr(state.moments[name], kind)[index]
            if target.shape != tensor.shape or target.dtype != tensor.dtype:
                raise UserError(f"{key} of the offline run is of other sizes than its settings say")
            target.copy_(tensor)


def load_start(run: Path, seed: int) -> Start:
    """Read what a seed of an offline run can bring into the online mode.

    Critic and proposal come with their targets, averages and Adam's moments, the inverse dynamics
    model likewise. Of an ensemble all trainings go on, as one network each that begins as their
    mean (`algorithms/ensemble.py`) and has no moments yet. Of a race it is D3G's that go on,
    whoever won. The forward model f(s, q) stays behind: online f takes actions.

    Raises:
        UserError: the run doesn't exist, isn't finished, or lacks the seed.
    """
    folder = RunFolder(run).seed(seed)
    if not folder.path.exists():
        there = sorted(path.name for path in (run / "seeds").glob("*"))
        raise UserError(
            f"{run} holds no seed {seed}; it holds {', '.join(there) if there else 'no seeds'}"
        )
    preset = _offline_preset(run)
    trainings = [load_checkpoint(folder.member(n).training) for n in range(preset.ensemble)]
    fitted = load_checkpoint(folder.online)
    raced = folder.member(D3G).policy
    policy = load_policy(raced if raced.exists() else folder.policy)
    if not isinstance(policy, Policy):
        raise UserError(f"{run} {_NO_PROPOSAL}")
    if len(trainings) == 1:
        parts = ((trainings[0], _FROM_TRAINING), (fitted, _FROM_INVERSE_FIT))
        tensors = {
            key: tensor
            for saved, names in parts
            for key, tensor in saved.tensors.items()
            if key.partition(".")[2] in names
        }
        return Start(tensors, policy.scale)
    shapes = qss_shapes(preset.algorithm, policy.obs_dim)
    # The form that acts may be the bilinear one.
    actions = policy.networks["inverse_dynamics"].shape.dims[-1]
    inverse = MLPShape((2 * policy.obs_dim, *preset.inverse.model.hidden_dims, actions))
    tensors = {
        f"network.{name}": _mean(shapes[name.partition("_")[0]], name, trainings)
        for name in _FROM_TRAINING
    } | {
        # Copies of one model, so that it is as wide as the others.
        f"network.{name}": _mean(inverse, name, [fitted] * len(trainings))
        for name in _FROM_INVERSE_FIT
    }
    return Start(tensors, policy.scale)


def _mean(shape: MLPShape, name: str, saved: Sequence[Checkpoint]) -> Tensor:
    """Return the parameters of one network that gives the mean of several, as checkpoints do."""
    single = replace(shape, members=None)
    # `(members, P)` of each.
    several = [torch.atleast_2d(one.tensors[f"network.{name}"]) for one in saved]
    members = [
        mean_network([Network(single, row.unsqueeze(0)) for row in rows]).flat[0]
        for rows in zip(*several, strict=True)
    ]
    return members[0] if shape.members is None else torch.stack(members)


def check_environment_of(run: Path, env_id: str) -> None:
    """Refuse networks of another environment.

    Raises:
        UserError: the offline run was of another.
    """
    then = str(read_json(run / "config.json").get("env_id", env_id))
    if not same_environment(then, env_id):
        raise UserError(f"{run} is of another environment: {then}, not {env_id}")


def steps_before(run: Path | str) -> int:
    """Return the online steps that each seed of an offline run takes, for its inverse fit.

    Raises:
        UserError: the folder holds no offline run.
    """
    return _offline_preset(Path(run)).inverse.online_steps


def start_config(config: OnlineConfig, run: Path) -> OnlineConfig:
    """Return the settings with those of the offline run where carried networks depend on them.

    Sizes (of an ensemble as wide as all its trainings together), γ, β, the pessimism of targets,
    what observations go through, and what the inverse model sees must be those that the networks
    were trained with; everything else stays.

    Raises:
        UserError: the folder holds no offline run, one of another version of this package, or its
            models don't fit each other.
    """
    offline = _offline_preset(run)
    algorithm, model = offline.algorithm, offline.inverse.model
    if model.form == "bilinear":
        raise UserError(
            f"{run} has an inverse model in bilinear form, but online D3G trains a network; "
            "fit one, with --set form=network or form=either"
        )
    if algorithm.hidden_dims != model.hidden_dims:
        raise UserError(
            f"{run} has networks of {algorithm.hidden_dims}, but an inverse model of "
            f"{model.hidden_dims}; online all are of one size"
        )
    return replace(
        config,
        normalize_observations=algorithm.normalize_observations,
        algorithm=replace(
            config.algorithm,
            hidden_dims=tuple(offline.ensemble * dim for dim in algorithm.hidden_dims),
            gamma=algorithm.gamma,
            step_inputs=model.step_inputs,
            twin_pessimism=algorithm.twin_pessimism,
            cycle_coef=algorithm.cycle_coef,
        ),
    )


def _offline_preset(run: Path) -> Preset:
    """Read the settings that an offline run was started with.

    Raises:
        UserError: it can't be read, wasn't trained by D3G, or has no inverse model yet.
    """
    config = read_json(run / "config.json")
    if config.get("method") == "bco":
        raise UserError(f"{run} {_NO_PROPOSAL}")
    if config.get("offline_only"):
        raise UserError(
            f"{run} learned offline only: qss fit-inverse {shlex.quote(str(run))} fits the inverse "
            "model that acts, into a run to start from"
        )
    if not isinstance(config.get("preset"), dict):
        raise UserError(f"{run} holds no offline run: its config.json names no preset")
    return from_plain(Preset, config["preset"], str(run))
