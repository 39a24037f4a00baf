"""Policies read back from their files; a policy writes itself with `save`."""

from __future__ import annotations

from pathlib import Path

from qss_offline.data.environments import without_source
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.policies import (
    ClonedPolicy,
    DiscretePolicy,
    ObservationScale,
    Policy,
    SavedPolicy,
)
from qss_offline.evaluation.policy_schema import policy_file


def load_policy(path: str | Path) -> SavedPolicy:
    """Read a policy from a file that anybody may have made.

    The id of the environment that it acts in comes without a module or file, so that nothing is
    loaded for what a file says; see `env_id_of_file`.

    Raises:
        UserError: the file is missing or damaged, or holds no policy that can act.
    """
    held = policy_file(Path(path), load_checkpoint(Path(path)))
    env_id = None if held.env_id is None else without_source(held.env_id)
    scale = ObservationScale(held.mean, held.std, held.step_std)
    box = ActionBox(held.action_low.numpy(), held.action_high.numpy())
    if "policy" in held.networks:
        return ClonedPolicy(held.networks["policy"], scale, box, env_id)
    parts = held.networks["proposal"], held.networks["inverse_dynamics"], scale, held.step_inputs
    if held.first_action is not None:
        return DiscretePolicy(*parts, held.first_action, env_id)
    return Policy(*parts, box, env_id)
