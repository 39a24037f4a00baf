"""The files of an online run's seeds: checkpoints, policies, and the rows of replays.

A checkpoint counts on the rows written before it. Rows are written once, in files named after the
number of their first; what a kill left behind the checkpoint is deleted, and comes again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from qss_offline.engine.checkpoint import (
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
    seed_checkpoint,
    stack_checkpoints,
)
from qss_offline.engine.replay import ReplayTable
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.errors import UserError
from qss_offline.evaluation.policy_files import keep_policy
from qss_offline.online.config import OnlineConfig
from qss_offline.online.env_loop import SeedLoop
from qss_offline.online.learner import Learner, make_algorithm
from qss_offline.runs.folder import SeedFolder


def policy_path(folder: SeedFolder, step: int) -> Path:
    """Where the policy of an evaluation is kept."""
    return folder.path / "policies" / f"{step:09d}.safetensors"


def replay_files(folder: SeedFolder) -> list[Path]:
    """Return the files of a seed's replay, oldest rows first."""
    return sorted((folder.path / "replay").glob("[0-9]*.safetensors"))


def saved_step(folder: SeedFolder) -> int:
    """Environment steps at a seed's checkpoint; 0 without one."""
    if not folder.training.exists():
        return 0
    return int(load_checkpoint(folder.training).metadata["step"])


def load_seeds(loops: Sequence[SeedLoop], config: OnlineConfig, device: torch.device) -> TrainState:
    """Bring seeds to where their checkpoints stand, and return their networks.

    Args:
        loops: seeds that have taken no step yet, and whose checkpoints stand at the same one.
        config: settings.
        device: where the networks go.

    Raises:
        UserError: rows of a replay are missing.
    """
    algorithm = make_algorithm(config, loops[0])
    if saved_step(loops[0].task.folder) == 0:
        state = initial_state(algorithm, [loop.task.seed for loop in loops], device)
        for index, loop in enumerate(loops):
            loop.task.folder.cut_metrics(-1)
            _drop_rows(loop.task.folder, 0)
            if loop.task.start is not None:
                loop.task.start.write_into(state, index)
        return state
    checkpoints = []
    for loop in loops:
        folder = loop.task.folder
        checkpoint = load_checkpoint(folder.training)
        folder.cut_metrics(int(checkpoint.metadata["update"]))
        step = int(checkpoint.metadata["step"])
        _drop_rows(folder, step)
        _read_rows(folder, loop.table, step)
        loop.restore(checkpoint)
        checkpoints.append(checkpoint)
    return stack_checkpoints(algorithm, checkpoints, device)


def save_seeds(learner: Learner, env_id: str) -> None:
    """Write each replay's new rows, then the checkpoint that counts on them, and the policy."""
    state = learner.state.on_cpu()
    for index, loop in enumerate(learner.loops):
        folder = loop.task.folder
        _write_rows(folder, loop)
        networks, rest = seed_checkpoint(state, index), loop.checkpoint()
        save_checkpoint(
            folder.training,
            Checkpoint(
                {**networks.tensors, **rest.tensors}, {**networks.metadata, **rest.metadata}
            ),
        )
        keep_policy(learner.policy(index), folder.policy, env_id)


def _write_rows(folder: SeedFolder, loop: SeedLoop) -> None:
    """Write the rows that no file holds yet."""
    begin = max(loop.rows_written, loop.table.oldest)
    if begin < loop.table.added:
        rows = torch.from_numpy(loop.table.read(begin, loop.table.added))
        path = folder.path / "replay" / f"{begin:09d}.safetensors"
        save_checkpoint(path, Checkpoint({"rows": rows}))
        loop.rows_written = loop.table.added


def _drop_rows(folder: SeedFolder, step: int) -> None:
    """Delete the files of rows from `step` on."""
    for path in replay_files(folder):
        if int(path.stem) >= step:
            path.unlink()


def _read_rows(folder: SeedFolder, table: ReplayTable, step: int) -> None:
    """Fill a table with the last rows before `step`, as many as it holds."""
    begin = max(0, step - table.capacity)
    table.added = begin
    for path in replay_files(folder):
        first = int(path.stem)
        rows = load_checkpoint(path).tensors["rows"].numpy()[max(0, begin - first) :]
        if len(rows) > 0:
            table.append(rows)
    if table.added != step:
        raise UserError(
            f"{folder.path / 'replay'} holds {table.added} of {step} steps; delete "
            f"{folder.path} to start that seed anew"
        )
