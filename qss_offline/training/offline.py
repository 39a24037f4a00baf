"""Offline D3G for several seeds: from datasets to proposals, resumable at any moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Tensor

from qss_offline.algorithms.ensemble import member_seeds
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.data.facts import RecordingFacts
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import (
    CheckpointWriter,
    load_checkpoint,
    merge_states,
    seed_checkpoint,
    stack_checkpoints,
)
from qss_offline.engine.loop import best_mode, fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.schedule import Schedule, linear_decay
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import CHUNK
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import counted_on, figure
from qss_offline.runs.folder import SeedFolder
from qss_offline.training.recorded import RecordedColumns, batch_transform

_COLUMNS = "observations", "next_observations", "rewards", "terminations"
FUSED_FROM = 100_000
"""Updates in all from which on it is worth the time to compile them where they are captured."""
LOG_INTERVAL = 1_000
CHECKPOINT_INTERVAL = 2_000
assert LOG_INTERVAL % CHUNK == 0
assert CHECKPOINT_INTERVAL % LOG_INTERVAL == 0, "a resumed run logs the same means"


@dataclass(frozen=True)
class SeedTask:
    """One seed to train.

    Attributes:
        seed: of everything random but the recording.
        folder: where its files go.
    """

    seed: int
    folder: SeedFolder


def member_tasks(task: SeedTask, ensemble: int) -> list[SeedTask]:
    """Return the trainings of a seed's ensemble; the first is that of the seed alone.

    Raises:
        UserError: as `member_seeds`.
    """
    return [
        SeedTask(seed, task.folder.member(number))
        for number, seed in enumerate(member_seeds(task.seed, ensemble))
    ]


class OfflineTrainer:
    """Trains the proposals of several seeds in one stack, in this process.

    Args:
        tasks: the seeds.
        transitions: what all learn from.
        config: settings of offline D3G.
        facts: what was measured of the transitions.
        device: where to train.
    """

    def __init__(
        self,
        tasks: Sequence[SeedTask],
        transitions: Transitions,
        config: ObservationalD3GConfig,
        facts: RecordingFacts,
        device: torch.device | str = "cpu",
    ) -> None:
        self.tasks, self.config, self.device = tuple(tasks), config, torch.device(device)
        self.scale = ObservationScale.of_recording(facts)
        seen_through = self.scale if config.normalize_observations else None
        self._recorded = RecordedColumns(transitions, seen_through, self.device)
        self._obs_dim, self._limits = transitions.obs_dim, facts.value_limits(config.gamma)

    def run(self, updates: int, tick: Tick) -> TrainState:
        """Train every seed to `updates`, from its checkpoint where it has one.

        Seeds that stand further back, as after a kill between two files, catch up first.

        Args:
            updates: of the whole training, which the learning rate goes by.
            tick: called with the number of updates done, over all seeds, and the values that the
                critics give to proposals and to recorded steps.
        """
        schedule = linear_decay(self.config.learning_rate, self.config.learning_rate_decay, updates)
        fused = updates >= FUSED_FROM
        stands = [self._stand(task) for task in self.tasks]

        def told(units: float, phase: str = "", note: str = "") -> None:
            tick(units, f"D3G update {phase} of {updates:,}", note)

        told(sum(stands), f"{min(stands):,}")
        tasks: list[SeedTask] = []
        state: TrainState | None = None
        for stand in sorted(set(stands)):
            joining = [t for t, s in zip(self.tasks, stands, strict=True) if s == stand]
            joined = self._load(joining, stand)
            waiting = sum(s for s in stands if s >= stand)
            if state is not None:
                self._fit(tasks, state, stand, schedule, fused, counted_on(told, waiting))
                joined = merge_states([state, joined])
            tasks, state = [*tasks, *joining], joined
        assert state is not None
        self._fit(tasks, state, updates, schedule, fused, told)
        return state

    def _stand(self, task: SeedTask) -> int:
        path = task.folder.training
        return int(load_checkpoint(path).metadata["update"]) if path.exists() else 0

    def _load(self, tasks: Sequence[SeedTask], update: int) -> TrainState:
        for task in tasks:
            task.folder.cut_metrics(update)
        algorithm = self._algorithm(tasks)
        if update == 0:
            return initial_state(algorithm, [task.seed for task in tasks], self.device)
        checkpoints = [load_checkpoint(task.folder.training) for task in tasks]
        state = stack_checkpoints(algorithm, checkpoints, self.device)
        for task, seed in zip(tasks, state.seeds, strict=True):
            if task.seed != seed:
                raise UserError(f"{task.folder.training} is of seed {seed}, not {task.seed}")
        return state

    def _algorithm(self, tasks: Sequence[SeedTask]) -> ObservationalD3G:
        limits: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.config.clamp_targets:
            rows = torch.tensor([self._limits] * len(tasks))
            low, high = rows.to(self.device).unsqueeze(-1).unbind(1)
            limits = (low, high)
        return ObservationalD3G(self.config, self._obs_dim, *limits)

    def _sampler(self, tasks: Sequence[SeedTask]) -> UniformSampler:
        recorded = [self._recorded] * len(tasks)
        return UniformSampler(
            [tuple(map(one.column, _COLUMNS)) for one in recorded],
            self.config.batch_size,
            ObservationBatch,
            batch_transform(recorded, _COLUMNS),
        )

    def _fit(
        self,
        tasks: Sequence[SeedTask],
        state: TrainState,
        updates: int,
        schedule: Schedule,
        fused: bool,
        tick: Tick,
    ) -> None:
        if state.update >= updates:
            return
        note = ""

        def on_chunk(state: TrainState, read: Callable[[], dict[str, list[float]]]) -> None:
            nonlocal note
            if state.update % LOG_INTERVAL == 0:
                means = read()
                note = _values_in_words(means)
                for index, task in enumerate(tasks):
                    row = {name: values[index] for name, values in means.items()}
                    task.folder.append_metrics({"update": state.update, **row})
            due = state.update % CHECKPOINT_INTERVAL == 0 and writer.due
            if due or state.update == updates:
                copy = state.on_cpu()
                writer.write(
                    {
                        task.folder.training: seed_checkpoint(copy, index)
                        for index, task in enumerate(tasks)
                    }
                )
            tick(state.update * len(tasks), f"{state.update:,}", note)

        with CheckpointWriter() as writer:
            fit(
                self._algorithm(tasks),
                state,
                self._sampler(tasks),
                updates,
                schedule,
                on_chunk,
                mode=best_mode(self.device),
                fused=fused,
            )


def _values_in_words(means: Mapping[str, Sequence[float]]) -> str:
    """Return what the critics say of proposals and of recorded steps, over all seeds."""
    if "proposal_value" not in means:
        return ""
    value, recorded = (fmean(means[name]) for name in ("proposal_value", "q"))
    return f"value {figure(value)} (recorded {figure(recorded)})"
