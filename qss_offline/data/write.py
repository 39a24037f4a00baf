"""Recordings become datasets: columns, episodes and metadata are written, then published."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qss_offline.data import sidecar as columns
from qss_offline.data import verify
from qss_offline.data.local import (
    METADATA_FILE,
    check_place,
    minari_root,
    pair_id,
    read_metadata,
    twin_id,
)
from qss_offline.data.minari_format import (
    EPISODES_FILE,
    BehaviourReturns,
    Description,
    kind_metadata,
    shared_metadata,
    write_episodes,
)
from qss_offline.data.publish import Stage, hold_stage, publish
from qss_offline.data.transitions import Transitions, row_chunks
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.parallel.processes import Tick, available_cores, run_jobs
from qss_offline.parallel.reporting import ProgressFactory, no_progress, print_notice

# Starting a second process takes about as long as writing this many episodes.
_WORTH_A_WORKER = 8_000


@dataclass(frozen=True)
class StoredDatasets:
    """What was written: a pair, or an observation-only dataset alone.

    Attributes:
        obs_id: the dataset without actions.
        act_id: its twin with actions, None where there is none.
        obs_digest: of the observation-only columns.
        act_digest: of the columns with actions, None likewise.
        transitions: steps in each.
        episodes: episodes in each.
        behaviour_return: of the behaviour that was recorded.
    """

    obs_id: str
    act_id: str | None
    obs_digest: str
    act_digest: str | None
    transitions: int
    episodes: int
    behaviour_return: BehaviourReturns

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of what was written."""
        return (self.obs_id,) if self.act_id is None else (self.obs_id, self.act_id)


def write_datasets(
    transitions: Transitions,
    description: Description,
    *,
    overwrite: bool = False,
    progress: ProgressFactory = no_progress,
) -> StoredDatasets:
    """Write a recording as a pair of Minari datasets, or the observation-only one alone.

    They are read again and verified before they are visible.

    Args:
        transitions: the recording; actions are left out where the description has no space
            for them.
        description: what is said about it, ids and spaces included.
        overwrite: replace datasets that exist.
        progress: makes reporters of episodes written, of both datasets together, and of verifying.

    Raises:
        UserError: the rows don't follow each other or don't fit the spaces, actions are
            missing, a dataset of that id exists, the root can't be written to, or the disk is
            full.
    """
    with hold_stage(description.base_id) as held:
        draft = Draft(transitions, description, held)
        (stored,) = write_drafts([draft], overwrite=overwrite, verified=True, progress=progress)
    return stored


@dataclass(frozen=True, eq=False)
class Draft:
    """A recording that is to become datasets.

    Attributes:
        transitions: the recording; actions are left out where the description has no space
            for them.
        description: what is said about it, ids and spaces included.
        stage: where its files are made, held by whoever calls.
    """

    transitions: Transitions
    description: Description
    stage: Stage

    @property
    def ids(self) -> dict[str, str]:
        """From a kind of dataset, "obs" or "act", to its id."""
        base_id = self.description.base_id
        return {kind: pair_id(base_id, kind) for kind in self.description.kinds}

    def data(self, kind: str) -> Path:
        """The `data` folder of the dataset of a kind while it is made."""
        return self.stage.root / self.ids[kind] / "data"


def write_drafts(
    drafts: Sequence[Draft],
    *,
    overwrite: bool = False,
    workers: int | None = None,
    verified: bool = False,
    progress: ProgressFactory = no_progress,
) -> list[StoredDatasets]:
    """Write several recordings side by side; see `write_datasets`.

    Each becomes visible as soon as its own datasets are whole.

    Args:
        drafts: the recordings, each with a stage that the caller holds.
        overwrite: replace datasets that exist.
        workers: processes, one for each file of episodes that is being written.
        verified: read the datasets again and verify them before they are visible.
        progress: makes a reporter of episodes written, of all datasets together.
    """
    for draft in drafts:
        _check_draft(draft, overwrite)
    stored, jobs, owners = [], [], []
    for index, draft in enumerate(drafts):
        stored.append(_write_sidecars(draft))
        dtype = draft.description.observation_space.dtype
        assert dtype is not None
        for kind in draft.ids:
            jobs.append(
                (str(draft.data(kind)), dtype.str, stored[-1].transitions, stored[-1].episodes)
            )
            owners.append(index)
    episodes = sum(job[3] for job in jobs)
    if workers is None:
        worth_it = episodes > 2 * _WORTH_A_WORKER
        workers = min(len(jobs), available_cores()) if worth_it else 1
    missing = [owners.count(index) for index in range(len(drafts))]
    with progress("writing", episodes, "episodes") as report:
        for job, _ in run_jobs(_write_job, jobs, workers, report):
            missing[owners[job]] -= 1
            if missing[owners[job]] == 0:
                draft = drafts[owners[job]]
                _describe_draft(draft, stored[owners[job]])
                for dataset_id in draft.ids.values() if verified else ():
                    verify.require(dataset_id, root=draft.stage.root, progress=progress)
                # With actions first: who finds the observation-only dataset finds its twin too.
                publish(draft.stage, sorted(draft.ids.values()))
                if "act" not in draft.ids:
                    _remove_old_twin(draft)
    return stored


def check_free(dataset_ids: Iterable[str], overwrite: bool) -> None:
    """Check that datasets of these ids may be written.

    Raises:
        UserError: one would hide another or be hidden by it, or exists, or would get the twin of
            one that is gone, and isn't to be replaced.
    """
    ids = list(dataset_ids)
    for dataset_id in ids:
        check_place(dataset_id)
        if overwrite:
            continue
        if (minari_root() / dataset_id).exists():
            raise UserError(f"dataset {dataset_id!r} exists; overwrite it or choose a name")
        if (twin := _twin_here(dataset_id)) not in (None, *ids):
            raise UserError(
                f"dataset {twin!r} exists, and would be taken for the twin of {dataset_id!r}; "
                "overwrite it or choose a name"
            )


def _twin_here(dataset_id: str) -> str | None:
    """Return the dataset with actions that says that it is the twin of this one, if any does."""
    twin = twin_id(dataset_id)
    try:
        found = twin is not None and read_metadata(twin).get("twin") == dataset_id
    except UserError:
        return None
    return twin if found else None


def _check_draft(draft: Draft, overwrite: bool) -> None:
    check_free(draft.ids.values(), overwrite)
    if "act" in draft.ids and draft.transitions.actions is None:
        raise UserError("actions: a pair of datasets is written from a recording with actions")
    _check_alignment(draft.transitions)
    _check_spaces(draft.transitions, draft.description)


def _check_alignment(transitions: Transitions) -> None:
    """Check that within an episode each row begins where the one before ended."""
    rows = len(transitions)
    for chunk in row_chunks(rows - 1):
        after = slice(chunk.start + 1, chunk.stop + 1)
        follows = (transitions.next_observations[chunk] == transitions.observations[after]).all(
            axis=1
        )
        follows |= transitions.episodes[chunk] != transitions.episodes[after]
        if not follows.all():
            row = chunk.start + int(follows.argmin())
            raise UserError(
                f"next_observations: row {row} differs from the observations of row {row + 1} "
                "of the same episode"
            )


def _check_spaces(transitions: Transitions, description: Description) -> None:
    if description.observation_space.shape != (transitions.obs_dim,):
        raise UserError(
            f"observations: they hold {transitions.obs_dim} numbers, but their space is "
            f"{description.observation_space.shape}"
        )
    actions = transitions.actions
    if (
        description.action_space is not None
        and actions is not None
        and description.action_space.shape != actions.shape[1:]
    ):
        raise UserError(
            f"actions: they hold {actions.shape[1]} numbers, but their space is "
            f"{description.action_space.shape}"
        )


def _write_sidecars(draft: Draft) -> StoredDatasets:
    """Write the columns of a draft, from which its episodes are written."""
    parts = {"obs": draft.transitions.without_actions(), "act": draft.transitions}
    steps, episodes = len(draft.transitions), len(draft.transitions.episode_starts())
    digests = {}
    for kind, dataset_id in draft.ids.items():
        data = draft.data(kind)
        data.mkdir(parents=True)
        digests[kind] = columns.digest(parts[kind])
        info = columns.SidecarInfo(steps, episodes, dataset_id, digests[kind])
        columns.write_sidecar(data / columns.FILE_NAME, parts[kind], info)
    return StoredDatasets(
        obs_id=draft.ids["obs"],
        act_id=draft.ids.get("act"),
        obs_digest=digests["obs"],
        act_digest=digests.get("act"),
        transitions=steps,
        episodes=episodes,
        behaviour_return=draft.description.behaviour_return,
    )


def _write_job(job: tuple[str, str, int, int], tick: Tick) -> None:
    """Write the episodes of the sidecar in a data folder as Minari's HDF5 file."""
    folder, dtype, steps, episodes = Path(job[0]), np.dtype(job[1]), job[2], job[3]
    # From the file and not from memory: a second process gets its input without a copy.
    sidecar = columns.read_sidecar(folder / columns.FILE_NAME, steps, episodes)
    write_episodes(folder / EPISODES_FILE, sidecar.transitions, dtype, tick)


def _describe_draft(draft: Draft, stored: StoredDatasets) -> None:
    """Write the metadata of a draft whose episodes are written."""
    digests = {"obs": stored.obs_digest}
    if stored.act_digest is not None:
        digests["act"] = stored.act_digest
    shared = shared_metadata(draft.description, stored.transitions, stored.episodes)
    for kind in draft.ids:
        data = draft.data(kind)
        columns.mark_current(data)
        size = sum(file.stat().st_size for file in data.iterdir()) / 1e6
        own_metadata = kind_metadata(draft.description, kind, digests)
        write_json(data / METADATA_FILE, shared | own_metadata | {"dataset_size": round(size, 1)})


def _remove_old_twin(draft: Draft) -> None:
    """Remove the twin with actions of what was replaced by a recording without any."""
    if (twin := _twin_here(draft.ids["obs"])) is not None:
        (minari_root() / twin).rename(draft.stage.folder / "old-twin")
        print_notice(
            f"{twin} is removed: it was the twin of the {draft.ids['obs']} that was replaced"
        )
