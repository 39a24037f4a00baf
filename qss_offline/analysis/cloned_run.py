"""A finished run of BCO, read back: its settings, its results, and the networks of each seed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ClonedPolicy, load_policy
from qss_offline.runs.finished_run import FinishedRun, InverseModel
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.settings_json import settings_of
from qss_offline.training.bco_run import BCOSettings, bco_trainer

METHOD = "BCO"


@dataclass(frozen=True)
class ClonedRun(FinishedRun):
    """A run of BCO."""

    @property
    def label(self) -> str:
        """BCO, and how it repeats its labels where that isn't what the recording asks for."""
        power = self.error_power
        as_measured = power == self.facts.error_power
        return METHOD if as_measured else f"{METHOD} with error_power={power:g}"

    @property
    def error_power(self) -> float:
        """The power by which labels are repeated."""
        power = self.settings.cloning.error_power
        assert power is not None, "a run's config holds a number"
        return power

    @property
    def updates(self) -> int:
        """Updates of the policy, over all rounds."""
        return self.settings.cloning_updates * self.inverse_settings.rounds

    @property
    def inverse_settings(self) -> InverseFitConfig:
        """Settings of the inverse fit."""
        return self.settings.inverse

    @cached_property
    def settings(self) -> BCOSettings:
        """What it was asked to do.

        Raises:
            UserError: by another version of this package.
        """
        return settings_of(BCOSettings, self.config, str(self.folder.config))

    def policy(self, seed: int) -> ClonedPolicy:
        """Return a seed's policy.

        Raises:
            UserError: its file can't be read, or it isn't a cloned one.
        """
        path = self.seed_folder(seed).policy
        policy, _ = load_policy(path)
        if not isinstance(policy, ClonedPolicy):
            raise UserError(f"{path} holds no cloned policy")
        return policy

    def inverse_model(self, seed: int) -> InverseModel:
        """Return the I that labels the recording for a seed's policy.

        Raises:
            UserError: its checkpoint, the recording or the settings can't be read.
        """
        settings = self.settings
        if settings.inverse.model.form == "network":
            # It is in the checkpoint: what it learned from first needn't be there any longer.
            settings = replace(settings, actions_from=None)
        trainer = bco_trainer(settings, [seed])
        trainer.restore([load_checkpoint(self.seed_folder(seed).online)])
        return InverseModel(
            trainer.average(0), trainer.scales[0], settings.inverse.model.step_inputs
        )
