"""Saved policies act where their files say, or where the user names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qss_offline.data.environments import env_id_for, make_env, resolve_env_id
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import check_fits
from qss_offline.evaluation.policy_files import load_policy


def let_act(path: Path, episodes: int, seed: int, env: str | None = None) -> dict[str, Any]:
    """Let the policy of a file act in whole episodes.

    Args:
        path: of the file.
        episodes: how many.
        seed: of the episodes.
        env: where it acts; None takes what the file says, and imports nothing for it.

    Returns:
        `env_id`, and `returns` and `lengths` of the episodes.

    Raises:
        UserError: the file holds no policy, it doesn't fit the environment, or it diverged.
    """
    policy = load_policy(path)
    if policy.env_id is not None:
        env_id = env_id_for(policy.env_id, env, path)
    elif env is not None:
        env_id = resolve_env_id(env)
    else:
        raise UserError(f"{path} names no environment; say where it acts with --env")
    first = make_env(env_id)
    try:
        check_fits(policy, first)
    finally:
        first.close()

    acted = evaluate(policy, env_id, episodes, seed)
    if not np.isfinite(acted.returns).all():
        raise UserError(f"{path} diverged: its actions in {env_id} are not finite")
    return {"env_id": env_id, "returns": list(acted.returns), "lengths": list(acted.lengths)}
