"""Online data becomes offline data: a seed's replay as Minari datasets with and without actions."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from qss_offline.data.environments import env_id_for, make_env
from qss_offline.data.importing.rules import ImportRules
from qss_offline.data.importing.sources import plan_arrays
from qss_offline.data.importing.store import About
from qss_offline.data.write import StoredDatasets
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.online.columns import Columns
from qss_offline.online.config import OnlineSettings
from qss_offline.online.exploration import BoxActions, actions_of
from qss_offline.online.files import replay_files
from qss_offline.parallel.reporting import ProgressFactory, no_progress, print_notice
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.settings_json import settings_of


def export_replay(
    folder: RunFolder,
    seed: int,
    dataset_id: str,
    env_id: str | None = None,
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Store everything of a seed's replay as a pair of Minari datasets.

    Rows come in the order in which they happened, those that the replay has dropped meanwhile
    too, unless it did so between two checkpoints. An episode counts as truncated where the run
    ended, or where the next row doesn't go on from it. Actions are in the environment's
    units; discrete ones are one-hot, in a Box from 0 to 1, and the dataset then doesn't name its
    environment, whose actions these aren't.

    Args:
        folder: an online run, finished or not.
        seed: one of its seeds.
        dataset_id: `namespace/.../name`; the datasets become `name-obs-v0` and `name-act-v0`.
        env_id: the environment, if it is one of one's own.
        overwrite: replace datasets that exist.
        progress: makes a reporter.

    Raises:
        UserError: there is no replay, or one of another environment, the run's files can't be
            read, or the datasets can't be written.
    """
    files = replay_files(folder.seed(seed))
    if not files:
        raise UserError(f"{folder.path} holds no replay of seed {seed} yet")
    asked = read_json(folder.config)
    env_id = asked["env_id"] = env_id_for(asked.get("env_id"), env_id, folder.config)
    settings = settings_of(OnlineSettings, asked, str(folder.config))
    env = make_env(env_id)
    actions, observation_space = actions_of(env.action_space, 0.0, 0.0), env.observation_space
    env.close()
    assert observation_space.shape is not None
    columns = Columns(observation_space.shape[0], actions.dim)
    parts = []
    for path in files:
        part = load_checkpoint(path).tensors.get("rows", torch.zeros(0))
        fits = part.ndim == 2 and part.shape[0] > 0 and part.shape[1] == columns.width
        if not fits or part.dtype != torch.float32:
            raise UserError(
                f"{path} holds no rows of {columns.width} numbers, as those of {env_id}"
            )
        parts.append(part.numpy())
    rows = np.concatenate(parts)
    replayed = columns.transitions(rows)
    assert replayed.actions is not None
    if isinstance(actions, BoxActions):
        stored, space = actions.box.from_unit(replayed.actions), None
    else:
        stored, space = replayed.actions, spaces.Box(0.0, 1.0, (actions.dim,), np.float32)
    name = "D3G" if settings.config.algorithm.cycle else "D3G without cycle"
    about = About(
        env_id=env_id if space is None else None,
        text=f"Everything that {name} saw while it learned {env_id} (seed {seed})",
        algorithm_name=name,
    )
    plan = plan_arrays(
        observations=replayed.observations,
        next_observations=replayed.next_observations,
        rewards=replayed.rewards,
        terminations=replayed.terminations,
        truncations=replayed.truncations,
        actions=stored,
        episodes=replayed.episodes,
        # These are the environment's own steps, and nobody else's guess at where they end.
        rules=ImportRules(resets="keep", rounding="keep"),
    )
    for line in plan.report.notices:
        print_notice(line)
    return plan.store(dataset_id, about, action_space=space, overwrite=overwrite, progress=progress)
