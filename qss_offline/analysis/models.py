"""The networks of a finished run: policies, inverse dynamics models, and what D3G learned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G
from qss_offline.analysis.planning import Planner
from qss_offline.data.load import observation_statistics
from qss_offline.engine.checkpoint import load_checkpoint, network_of
from qss_offline.errors import UserError
from qss_offline.evaluation.actions import OneHotActions
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    DiscretePolicy,
    ObservationScale,
    Policy,
    SavedPolicy,
)
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.runs.reader import FinishedRun
from qss_offline.training.interaction import known_steps
from qss_offline.training.inverse.models import InverseModels
from qss_offline.training.rounds import env_maker


class InverseModel(NamedTuple):
    """A seed's I(s, s') as it is after its last round.

    Attributes:
        network: IDM, one seed, `(1, P)`.
        scale: what observations go through.
        step_inputs: whether the IDM was trained on steps; needs `scale.step_std`.
        discrete: whether it gives one logit an action.
    """

    network: Network
    scale: ObservationScale
    step_inputs: bool
    discrete: bool = False


def policy_of(run: FinishedRun, seed: int) -> SavedPolicy:
    """Return a seed's policy.

    Raises:
        UserError: its file can't be read, or holds another method's policy.
    """
    path = run.seed_folder(seed).policy
    policy = load_policy(path)
    cloned = isinstance(policy, ClonedPolicy)
    if run.method != "auto" and cloned != (run.method == "bco"):
        raise UserError(f"{path} holds the policy of another method than {run.method}")
    return policy


def proposing_policy_of(run: FinishedRun, seed: int) -> Policy:
    """Return the policy of a seed of D3G, which proposes states.

    Raises:
        UserError: as `policy_of`, or it proposes none.
    """
    policy = policy_of(run, seed)
    if not isinstance(policy, Policy):
        raise UserError(f"{run.folder.path} holds a cloned policy, which proposes no states")
    return policy


def inverse_model_of(run: FinishedRun, seed: int) -> InverseModel:
    """Return a seed's IDM: D3G's policy holds it, BCO's checkpoint does.

    Raises:
        UserError: it can't be read.
    """
    if run.method == "d3g":
        policy = proposing_policy_of(run, seed)
        discrete = isinstance(policy, DiscretePolicy)
        return InverseModel(policy.inverse_dynamics, policy.scale, policy.step_inputs, discrete)
    config = run.config
    # A network is in the checkpoint: what it learned from first needn't be there any longer.
    in_checkpoint = config.inverse.model.form == "network"
    known = None if in_checkpoint else known_steps(config.actions_from, config.env_id)
    trainer = InverseModels(
        [seed],
        [ObservationScale.of_recording(config.facts)],
        env_maker(config.env_id),
        config.inverse,
        known,
        [run.dataset.transitions],
    )
    trainer.restore([load_checkpoint(run.seed_folder(seed).online)])
    discrete = isinstance(trainer.actions, OneHotActions)
    step_inputs = config.inverse.model.step_inputs
    return InverseModel(trainer.average(0), trainer.scales[0], step_inputs, discrete)


def planner_of(run: FinishedRun, seed: int) -> Planner:
    """Return what offline D3G learned for a seed: of an ensemble, Q and f of its first.

    Raises:
        UserError: the policy or the checkpoint can't be read, or they don't fit.
    """
    # Whoever won a race may see observations otherwise.
    scale, preset = ObservationScale.of_recording(run.facts), run.config.preset
    shapes = ObservationalD3G(preset.algorithm, len(scale.mean)).shapes

    def network(number: int, name: str, stored: str) -> Network:
        path = run.seed_folder(seed).member(number).training
        return network_of(load_checkpoint(path), stored, shapes[name])

    proposals = [
        network(number, "proposal", "proposal_average") for number in range(preset.ensemble)
    ]
    return Planner(
        mean_network(proposals),
        network(0, "critic", "critic"),
        network(0, "q_forward_model", "q_forward_model"),
        scale,
    )


def observation_std(run: FinishedRun) -> NDArray[np.float32]:
    """Return the standard deviations of the recording's observations, `(obs_dim,)`.

    Raises:
        UserError: neither the run nor the dataset, which isn't here, knows them.
    """
    if run.config.preset.algorithm.normalize_observations:
        return np.asarray(run.facts.observation_std, np.float32)
    return observation_statistics(run.dataset.transitions)[1]
