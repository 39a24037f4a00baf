"""A finished run, read back: its settings, its results, and the networks of each seed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G, ObservationalD3GConfig
from qss_offline.analysis.planning import Planner
from qss_offline.data.load import observation_statistics
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import Policy, load_policy
from qss_offline.presets import Preset
from qss_offline.runs.finished_run import FinishedRun, InverseModel, check_complete, read_run_files
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.settings_json import from_plain

METHOD = "offline D3G"


@dataclass(frozen=True)
class TrainedRun(FinishedRun):
    """A run of offline D3G and the inverse fit."""

    @property
    def preset_name(self) -> str:
        """Where the settings came from."""
        return str(self.config["preset_name"])

    @property
    def label(self) -> str:
        """The preset's name."""
        return self.preset_name

    @property
    def updates(self) -> int:
        """Updates of offline D3G, of each of an ensemble."""
        return self.preset.updates

    @property
    def inverse_settings(self) -> InverseFitConfig:
        """Settings of the inverse fit."""
        return self.preset.inverse

    @property
    def algorithm(self) -> ObservationalD3GConfig:
        """Settings of offline D3G."""
        return self.preset.algorithm

    @cached_property
    def preset(self) -> Preset:
        """Settings of the whole run.

        Raises:
            UserError: they are of another version of this package.
        """
        where = f"{self.folder.config}: preset"
        return from_plain(Preset, self.config["preset"], where)

    @property
    def ensemble(self) -> int:
        """How many trainings a seed has."""
        return self.preset.ensemble

    def policy(self, seed: int) -> Policy:
        """Return a seed's policy.

        Raises:
            UserError: its file can't be read, or it isn't one of a proposal and an inverse model.
        """
        path = self.seed_folder(seed).policy
        policy, _ = load_policy(path)
        if not isinstance(policy, Policy):
            raise UserError(f"{path} holds a cloned policy, which proposes no states")
        return policy

    def inverse_model(self, seed: int) -> InverseModel:
        """Return a seed's I, which its policy holds."""
        policy = self.policy(seed)
        return InverseModel(policy.inverse_dynamics, policy.scale, policy.step_inputs)

    def planner(self, seed: int) -> Planner:
        """Return what offline D3G learned for a seed: of an ensemble, Q and f of its first.

        Raises:
            UserError: the policy or the checkpoint can't be read, or they don't fit.
        """
        scale = self.policy(seed).scale
        shapes = ObservationalD3G(self.algorithm, len(scale.mean)).shapes

        def network(number: int, name: str, kept: str) -> Network:
            path = self.seed_folder(seed).member(number).training
            flat = load_checkpoint(path).tensors.get(f"network.{kept}")
            if flat is None or flat.shape[-1] != sum(shapes[name].sizes):
                raise UserError(f"{path} holds no {kept} of the sizes that the run's settings say")
            return Network(shapes[name], flat.unsqueeze(0))

        proposals = [
            network(number, "proposal", "proposal_average") for number in range(self.ensemble)
        ]
        return Planner(
            mean_network(proposals),
            network(0, "critic", "critic"),
            network(0, "q_forward_model", "q_forward_model"),
            scale,
        )

    def metrics(self, seed: int) -> dict[str, NDArray[np.float64]]:
        """Return the losses and values of training, of an ensemble's first, each `(rows,)`.

        Raises:
            UserError: the file is damaged.
        """
        path = self.seed_folder(seed).metrics
        lines = path.read_text().splitlines() if path.exists() else []
        try:
            rows = [json.loads(line) for line in lines]
        except ValueError as error:
            raise UserError(f"{path} holds a line that isn't JSON: {error}") from error
        names = rows[0].keys() if rows else ()
        return {name: np.array([float(row[name]) for row in rows]) for name in names}

    @cached_property
    def observation_std(self) -> NDArray[np.float32]:
        """`(obs_dim,)` standard deviations of the dataset's observations.

        Raises:
            UserError: neither the run nor the dataset, which isn't here, knows them.
        """
        if self.algorithm.normalize_observations:
            return np.asarray(self.policy(self.seeds[0]).scale.std.numpy(), np.float32)
        return observation_statistics(self.dataset.transitions)[1]


def load_run(path: Path) -> TrainedRun:
    """Read the folder of a run of offline D3G.

    Raises:
        UserError: it doesn't exist, holds no run, one that isn't finished, or another method's.
    """
    run = TrainedRun(*read_run_files(path))
    check_complete(run, METHOD)
    return run
