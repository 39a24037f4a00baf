"""Is a dataset what it says? Everything is read, nothing is changed or repaired."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from qss_offline.data import sidecar as columns
from qss_offline.data.episodes import read_episodes
from qss_offline.data.load import expected_digest
from qss_offline.data.local import data_folder, minari_root, read_metadata
from qss_offline.data.minari_format import EPISODES_FILE
from qss_offline.data.spaces import is_placeholder, is_vector, read_space, vector_size
from qss_offline.data.transitions import Float32Array, Transitions, row_chunks
from qss_offline.errors import UserError
from qss_offline.parallel.reporting import ProgressFactory, no_progress

# float32 values of float64 bounds may lie outside by their rounding.
_ROUNDING = 1e-6
# Stretches of the twin's actions that are looked for in an observation-only dataset.
_PROBES = 64
_PROBE_BYTES = 16
_SEARCHED_BYTES = 1 << 22
_COMPARED_ROWS = 4096
# Share of the rows in which an observation equals an action that it tells.
_EQUAL = 0.99


@dataclass(frozen=True)
class Check:
    """One question about a dataset.

    Attributes:
        name: what was asked.
        ok: the answer; None where it doesn't apply.
        detail: what was found.
    """

    name: str
    ok: bool | None
    detail: str


@dataclass(frozen=True)
class Verification:
    """All questions about a dataset, in their order.

    Attributes:
        dataset_id: Minari id.
        checks: the answers.
    """

    dataset_id: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(check.ok is not False for check in self.checks)

    @property
    def faults(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.ok is False)


def verify_dataset(
    dataset_id: str, *, root: Path | None = None, progress: ProgressFactory = no_progress
) -> Verification:
    """Check a dataset's folder, metadata, spaces, columns, episodes, digests and secrecy.

    Every episode is read, whatever the sidecar says. Nothing is written.

    Args:
        dataset_id: Minari id.
        root: the folder of all datasets; by default Minari's.
        progress: makes a reporter of transitions.

    Raises:
        UserError: there is no such dataset. Whatever is wrong inside it is an answer.
    """
    checks: list[Check] = []
    try:
        metadata = read_metadata(dataset_id, root)
        data = data_folder(dataset_id, root)
    except UserError as error:
        folder = (minari_root() if root is None else root) / dataset_id
        if not folder.is_dir():
            raise
        return Verification(dataset_id, (Check("folder and metadata", False, str(error)),))
    checks.append(Check("folder and metadata", True, f"{metadata['total_steps']:,} steps"))
    try:
        action_space = read_space(metadata, "action_space")
        observation_space = read_space(metadata, "observation_space")
        checks.append(_spaces(metadata, observation_space, action_space))
    except UserError as error:
        return Verification(dataset_id, (*checks, Check("spaces", False, str(error))))
    sidecar = _sidecar(metadata, data, checks)
    with_actions = is_vector(action_space)
    try:
        stored = read_episodes(
            dataset_id, metadata, data, with_actions=with_actions, progress=progress
        )
    except UserError as error:
        checks.append(Check("episodes: lengths, T+1 alignment, finite values", False, str(error)))
        return Verification(dataset_id, tuple(checks))
    found = f"{metadata['total_episodes']:,} episodes"
    if stored.unfinished:
        found += f", {stored.unfinished:,} without an end of their own (they count as truncated)"
    checks.append(Check("episodes: lengths, T+1 alignment, finite values", True, found))
    transitions = stored.sidecar.transitions
    checks.append(_digest(metadata, stored.sidecar.info.digest))
    if sidecar is not None:
        agree = sidecar.info.digest == stored.sidecar.info.digest
        checks.append(
            Check(
                "sidecar and episodes agree",
                agree,
                "equal" if agree else f"{columns.FILE_NAME} holds other numbers than the episodes",
            )
        )
    flat = spaces.flatten_space(observation_space)
    assert isinstance(flat, spaces.Box)
    checks.append(_inside("observations within their space", transitions.observations, flat))
    if transitions.actions is not None and isinstance(action_space, spaces.Box):
        checks.append(_inside("actions within their space", transitions.actions, action_space))
    checks.append(_secrecy(action_space, stored.extras))
    if is_placeholder(action_space):
        checks.append(_twin(metadata, data, transitions, root))
    else:
        checks.append(_same_rollouts(metadata, transitions, root))
    return Verification(dataset_id, tuple(checks))


def require(
    dataset_id: str, *, root: Path | None = None, progress: ProgressFactory = no_progress
) -> Verification:
    """Verify a dataset and return the answers if all is well.

    Raises:
        UserError: something is wrong; the first fault is named.
    """
    verification = verify_dataset(dataset_id, root=root, progress=progress)
    if not verification.ok:
        first = verification.faults[0]
        raise UserError(
            f"dataset {dataset_id!r}: {len(verification.faults)} of {len(verification.checks)} "
            f"checks failed; {first.name}: {first.detail}"
        )
    return verification


def _spaces(
    metadata: dict[str, Any],
    observation_space: spaces.Space[Any],
    action_space: spaces.Space[Any],
) -> Check:
    placeholder = is_placeholder(action_space)
    claimed = metadata.get("observation_only")
    try:
        size = vector_size(observation_space)
    except UserError as error:
        return Check("spaces", False, str(error))
    if claimed is not None and claimed is not placeholder:
        return Check(
            "spaces",
            False,
            f"observation_only is {claimed}, but the action space is {action_space}",
        )
    kind = "no actions" if placeholder else f"actions {action_space}"
    return Check("spaces", True, f"{size} numbers in an observation, {kind}")


def _sidecar(metadata: dict[str, Any], data: Path, checks: list[Check]) -> columns.Sidecar | None:
    path = data / columns.FILE_NAME
    if not path.exists():
        checks.append(Check("sidecar", None, f"no {columns.FILE_NAME}"))
        return None
    try:
        sidecar = columns.read_sidecar(
            path, metadata["total_steps"], metadata["total_episodes"], expected_digest(metadata)
        )
    except columns.StaleSidecarError:
        detail = f"{columns.FILE_NAME} was made before episodes were added"
        checks.append(Check("sidecar", None, detail))
    except UserError as error:
        checks.append(Check("sidecar", False, str(error)))
    else:
        checks.append(Check("sidecar", True, sidecar.info.digest))
        return sidecar
    return None


def _digest(metadata: dict[str, Any], digest: str) -> Check:
    expected = expected_digest(metadata)
    if expected is None:
        return Check("digest", None, "the metadata name none that applies")
    if expected != digest:
        return Check("digest", False, "the episodes do not match the digest in the metadata")
    return Check("digest", True, digest)


def _inside(name: str, values: Float32Array, space: spaces.Box) -> Check:
    found = first_outside(values, space)
    if found is None:
        return Check(name, True, "yes")
    return Check(name, False, f"row {found[0]} is {values[found[0]].tolist()}")


def first_outside(values: Float32Array, space: spaces.Box) -> tuple[int, int] | None:
    """Return the row and the place of the first number outside a space by more than rounding.

    Args:
        values: (rows, numbers).
        space: of (numbers,).
    """
    low, high = (bound.astype(np.float64).reshape(-1) for bound in (space.low, space.high))
    slack = _ROUNDING * np.maximum(1.0, np.abs(np.where(np.isfinite(low), low, 0.0)))
    slack = np.maximum(slack, _ROUNDING * np.abs(np.where(np.isfinite(high), high, 0.0)))
    for chunk in row_chunks(len(values)):
        outside = (values[chunk] < low - slack) | (values[chunk] > high + slack)
        if outside.any():
            row, place = divmod(int(outside.argmax()), outside.shape[1])
            return chunk.start + row, place
    return None


def _secrecy(action_space: spaces.Space[Any], extras: tuple[str, ...]) -> Check:
    name = "nothing besides the five arrays"
    if not is_placeholder(action_space):
        return Check(name, None, ", ".join(extras) or "yes")
    if extras:
        return Check(
            name, False, f"{', '.join(extras)} may give actions away in an observation-only dataset"
        )
    return Check(name, True, "no infos, no actions")


def _twin(
    metadata: dict[str, Any], data: Path, transitions: Transitions, root: Path | None
) -> Check:
    """Look for the twin's actions in every file of an observation-only dataset."""
    name = "no byte of the twin's actions"
    twin_id = metadata.get("twin")
    try:
        if not isinstance(twin_id, str):
            return Check(name, None, "it names no twin")
        twin = read_metadata(twin_id, root)
        path = data_folder(twin_id, root) / columns.FILE_NAME
        sidecar = columns.read_sidecar(
            path, twin["total_steps"], twin["total_episodes"], expected_digest(twin)
        )
    except (UserError, columns.StaleSidecarError):
        return Check(name, None, f"its twin {twin_id} is not here or can't be read")
    other = sidecar.transitions
    if columns.digest(other.without_actions()) != columns.digest(transitions):
        return Check(name, False, f"its twin {twin_id} holds other rollouts")
    told = _told_actions(other)
    # An action that an observation equals is in the columns; nowhere else may it be.
    own_files = {columns.FILE_NAME, EPISODES_FILE} if told else set()
    needles = _probes(other)
    for file in sorted(data.parent.rglob("*")):
        if not file.is_file() or file.stat().st_size == 0 or file.name in own_files:
            continue
        with (
            file.open("rb") as opened,
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            if _holds(content, needles):
                return Check(name, False, f"{file.name} holds actions of {twin_id}")
    if told:
        listed = ", ".join(map(str, told))
        return Check(name, None, f"the observations themselves tell action {listed} of {twin_id}")
    return Check(name, True, f"{len(needles)} stretches looked for")


def _same_rollouts(metadata: dict[str, Any], transitions: Transitions, root: Path | None) -> Check:
    """Compare a dataset with what its twin without actions says of its own rows."""
    name = "the same rollouts as its twin's"
    twin_id = metadata.get("twin")
    if not isinstance(twin_id, str):
        return Check(name, None, "it names no twin")
    try:
        digest = expected_digest(read_metadata(twin_id, root))
    except UserError:
        digest = None
    if digest is None:
        return Check(name, None, f"its twin {twin_id} is not here or can't be read")
    if columns.digest(transitions.without_actions()) != digest:
        return Check(name, False, f"its twin {twin_id} holds other rollouts")
    return Check(name, True, twin_id)


def _told_actions(transitions: Transitions) -> list[int]:
    """Return the actions that a number of the observations, or the next ones, equals."""
    actions = transitions.actions
    if actions is None:
        return []
    rows = np.unique(np.linspace(0, len(transitions) - 1, _COMPARED_ROWS).astype(np.int64))
    told = []
    for index in range(actions.shape[1]):
        column = actions[rows, index, None]
        if (column == column[0]).all():
            continue
        for side in (transitions.observations, transitions.next_observations):
            if ((side[rows] == column).mean(axis=0) >= _EQUAL).any() and index not in told:
                told.append(index)
    return told


def _holds(content: mmap.mmap, needles: list[bytes]) -> bool:
    """Look for all needles in one piece after the other: a large file is read once."""
    overlap = max(map(len, needles), default=0)
    return any(
        content.find(needle, start, start + _SEARCHED_BYTES + overlap) >= 0
        for start in range(0, len(content), _SEARCHED_BYTES)
        for needle in needles
    )


def _probes(transitions: Transitions) -> list[bytes]:
    """Return bytes that only a copy of the actions would hold."""
    actions = transitions.actions
    if actions is None:
        return []
    starts = transitions.episode_starts()
    lengths = transitions.episode_lengths()
    # Long enough that no other bytes equal it by accident, and not the same number again and again.
    enough = np.flatnonzero(lengths * actions.shape[1] * 4 >= _PROBE_BYTES)
    chosen = enough[:: max(1, len(enough) // _PROBES)][:_PROBES]
    needles = []
    for episode in chosen:
        rows = actions[starts[episode] : starts[episode] + min(lengths[episode], 16)]
        if len(np.unique(rows)) > 2:
            needles += [rows.tobytes(), rows.astype(np.float64).tobytes()]
    return needles
