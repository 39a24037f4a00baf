"""Named settings of the online mode."""

from __future__ import annotations

from dataclasses import replace

from qss_offline.algorithms.d3g import D3GConfig
from qss_offline.data.environments import env_spec
from qss_offline.errors import by_name
from qss_offline.online.config import OnlineConfig

_DEFAULT = OnlineConfig(
    D3GConfig(
        hidden_dims=(128, 128),
        batch_size=128,
        learning_rate=1e-3,
        polyak_step_size=0.01,
        cycle_coef=30.0,
        clamp_targets=True,
        proposal_average_step_size=1e-3,
        step_inputs=True,
        inverse_average_step_size=1e-2,
        discrete_loss="cross_entropy",
    ),
    steps=100_000,
    warm_up=1_000,
    normalize_observations=True,
    model_updates=1_000,
)

ONLINE_PRESETS = {
    # The authors' settings; nothing is added.
    "paper": OnlineConfig(),
    # What a core does in an hour. Each departure is named in the two configurations.
    "default": _DEFAULT,
}

HORIZON_SHARE = 0.4
"""Of the time limit, what the horizon 1 / (1 − γ) of the default is at most.

A departure: where a time limit cuts an episode values go on beyond it, so that with a horizon
longer than the episode they are mostly of what no return counts, with the errors of all of it.
"""

DISCRETE = ("nfq", "dqn", "double-dqn")
"""What d3rlpy runs of methods for discrete actions."""

BASELINES = (*DISCRETE, "ddpg", "td3", "sac")
"""All that d3rlpy runs."""

BASELINES_TAKE = (
    "steps", "warm_up", "updates_per_step", "replay_capacity", "exploration_noise", "epsilon",
    "hidden_dims", "batch_size", "learning_rate", "gamma", "polyak_step_size",
)  # fmt: skip
"""Settings of the preset that they take."""

ALGORITHMS = ("d3g", "d3g-no-cycle", *BASELINES)
"""D3G, D3G⁻ (without the cycle), and what they are compared with."""


def online_preset(name: str, algorithm: str = "d3g", env_id: str | None = None) -> OnlineConfig:
    """Return a preset by name, for one of the algorithms.

    Args:
        name: of the preset.
        algorithm: one of `ALGORITHMS`.
        env_id: where it acts, for the default's γ (`HORIZON_SHARE`); None leaves γ as it is.

    Raises:
        UserError: there is no preset or no algorithm of that name.
    """
    found = by_name("preset", name, ONLINE_PRESETS)
    by_name("algorithm", algorithm, dict.fromkeys(ALGORITHMS))
    losses = replace(found.algorithm, cycle=algorithm != "d3g-no-cycle")
    limit = None if env_id is None else env_spec(env_id).max_episode_steps
    if name == "default" and limit is not None:
        losses = replace(losses, gamma=min(losses.gamma, 1 - 1 / max(1.0, HORIZON_SHARE * limit)))
    return replace(found, algorithm=losses)
