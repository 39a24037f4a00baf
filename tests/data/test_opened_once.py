"""A process maps and hashes a recording once, for as long as its file stays the same."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from qss_offline.data import DatasetSpec, StoredDatasets, build_dataset, load_transitions
from qss_offline.data import sidecar as columns
from qss_offline.errors import UserError
from qss_offline.launch.local import LocalLauncher
from qss_offline.runs.folder import RunFolder
from qss_offline.training.runner import run
from tests.small_run import PRESET, settings


def test_a_run_opens_and_hashes_each_recording_once(
    pair: StoredDatasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, hashed = [], []
    read, digest = columns._read_batch, columns.digest
    monkeypatch.setattr(
        columns, "_read_batch", lambda path, *sizes: (opened.append(path), read(path, *sizes))[1]
    )
    monkeypatch.setattr(
        columns, "digest", lambda rows: (hashed.append(rows.actions is None), digest(rows))[1]
    )
    few = replace(PRESET, updates=100, inverse=replace(PRESET.inverse, known_updates=100))
    config = replace(settings(pair.obs_id), preset=few, actions_from=pair.act_id)
    run(config, RunFolder(tmp_path / "run"), launcher=LocalLauncher(1))
    assert sorted(path.parent.parent.name[-6:] for path in opened) == ["act-v0", "obs-v0"]
    assert sorted(hashed) == [False, True]


def test_a_loaded_recording_is_the_same_read_only_arrays(pair: StoredDatasets) -> None:
    first, second = (load_transitions(pair.act_id) for _ in range(2))
    assert first.transitions is second.transitions
    assert first.info.digest == second.info.digest == pair.act_digest
    assert not any(column.flags.writeable for column in first.transitions.columns().values())


def test_a_replaced_dataset_is_seen(minari_root: Path) -> None:
    spec = DatasetSpec("InvertedPendulum", transitions=60, name="mine")
    build_dataset(spec, workers=1)
    before = load_transitions(spec.obs_id)
    old_rows = before.transitions.observations.copy()
    new = build_dataset(replace(spec, seed=1), workers=1, overwrite=True)
    after = load_transitions(spec.obs_id)
    assert after.info.digest == new.obs_digest != before.info.digest
    assert not np.array_equal(after.transitions.observations, old_rows)
    np.testing.assert_array_equal(before.transitions.observations, old_rows)


def test_a_file_that_is_written_to_is_checked_again(
    pair: StoredDatasets, minari_root: Path
) -> None:
    path = minari_root / pair.obs_id / "data" / columns.FILE_NAME
    load_transitions(pair.obs_id)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="does not match its digest"):
        load_transitions(pair.obs_id)


def test_recordings_out_of_use_are_unmapped(minari_root: Path) -> None:
    specs = [DatasetSpec("InvertedPendulum", transitions=20, seed=seed) for seed in range(3)]
    for spec in specs:
        build_dataset(spec, workers=1)
    first = weakref.ref(load_transitions(specs[0].obs_id).transitions)
    for spec in specs[1:]:
        load_transitions(spec.obs_id)
    gc.collect()
    assert first() is None
