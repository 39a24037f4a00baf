"""Policies read back from their files; a policy writes itself with `save`."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
from qss_offline.parallel.reporting import print_notice


def keep_policy(policy: SavedPolicy, path: Path, env_id: str | None) -> None:
    """Write a policy, or, where it diverged, leave no file.

    Args:
        policy: as it is now.
        path: of the file; an earlier policy there goes.
        env_id: where it acts; None takes what the policy says.
    """
    if policy.diverged is None:
        policy.save(path, env_id)
    else:
        path.unlink(missing_ok=True)


def tell_if_diverged(seed: int, evaluations: Sequence[Sequence[float]]) -> None:
    """Say so once a policy's returns are no numbers any longer: the networks aren't finite.

    Args:
        seed: whose policy it is.
        evaluations: returns of each so far, the last one just made.
    """
    *before, last = (any(map(math.isnan, returns)) for returns in evaluations)
    if last and not any(before):
        print_notice(
            f"seed {seed} diverged, and has no policy: take a smaller learning rate, and another "
            "--out"
        )


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
