"""What an online run is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from qss_offline.algorithms.d3g import D3GConfig
from qss_offline.algorithms.validation import check_flag, check_positive
from qss_offline.errors import UserError


@dataclass(frozen=True)
class OnlineConfig:
    """Settings of online D3G; the defaults are the authors'.

    Attributes:
        algorithm: the losses.
        steps: environment steps of a seed.
        warm_up: environment steps taken at random, before the first update.
        exploration_noise: standard deviation of the noise on actions in a Box, in units of half
            the box.
        epsilon: probability of a random action where actions are discrete.
        updates_per_step: updates after each environment step.
        replay_capacity: transitions kept; the oldest make way.
        normalize_observations: departure 1: observations are shifted and scaled by their mean and
            standard deviation over the warm-up, which stay as they are from then on.
        model_updates: departure 2: updates of the IDM and f alone at the end of the warm-up, so
            that the first targets don't go through untrained models.
    """

    algorithm: D3GConfig = field(default_factory=D3GConfig)
    steps: int = 1_000_000
    warm_up: int = 10_000
    exploration_noise: float = 0.1
    epsilon: float = 0.1
    updates_per_step: int = 1
    replay_capacity: int = 1_000_000
    normalize_observations: bool = False
    model_updates: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that can't be trained with."""
        check_positive(self, "steps", "warm_up", "updates_per_step", "replay_capacity")
        if self.replay_capacity < min(self.warm_up, self.steps):
            raise UserError(
                f"replay_capacity {self.replay_capacity} can't hold the warm-up of {self.warm_up}"
            )
        if self.exploration_noise < 0 or self.model_updates < 0:
            raise UserError("exploration_noise and model_updates must be at least 0")
        if not 0 <= self.epsilon <= 1:
            raise UserError(f"epsilon must be a probability, not {self.epsilon}")


@dataclass(frozen=True)
class EvaluationPlan:
    """When and how policies are evaluated.

    Attributes:
        interval: environment steps between evaluations; there is one before the first step and one
            after the last too. Checkpoints are written with them.
        episodes: episodes of each.
        keep_policies: keep the policy of each, `policies/<step>.safetensors`.
    """

    interval: int = 5_000
    episodes: int = 10
    keep_policies: bool = False

    def __post_init__(self) -> None:
        """Refuse a plan without evaluations."""
        check_positive(self, "interval", "episodes")


@dataclass(frozen=True)
class OnlineSettings:
    """What an online run is asked to do.

    Attributes:
        env_id: where to act.
        algorithm: one of `presets.ALGORITHMS`.
        seeds: everything random depends on these.
        preset_name: where `config` came from.
        config: settings of acting and training.
        plan: when to evaluate.
        start_run: folder of an offline run that every seed starts from; None starts from nothing.
        device: "cpu" or "cuda".
        tf32: matrix products on a GPU in TF32.
    """

    env_id: str
    algorithm: str
    seeds: tuple[int, ...]
    preset_name: str
    config: OnlineConfig
    plan: EvaluationPlan = field(default_factory=EvaluationPlan)
    start_run: str | None = None
    device: str = "cpu"
    tf32: bool = False

    def __post_init__(self) -> None:
        """Refuse what is neither true nor false."""
        check_flag(self, "tf32")
