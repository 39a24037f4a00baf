from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import minari
import pytest

from qss_offline.data import (
    DatasetPair,
    DatasetSpec,
    Transitions,
    build_dataset,
    load_transitions,
)
from qss_offline.errors import UserError
from qss_offline.progress import Reporter

from .conftest import same
from .test_minari_store import cli

BUILD = """
import sys
from qss_offline.data import DatasetSpec, build_dataset
from qss_offline.errors import UserError
if __name__ == "__main__":
    transitions, workers = int(sys.argv[1]), int(sys.argv[2])
    try:
        pair = build_dataset(DatasetSpec("InvertedPendulum", transitions=transitions), workers)
    except UserError as error:
        sys.exit(f"UserError {error}")
    print(pair.built)
"""


def start(script: Path, transitions: int, workers: int) -> subprocess.Popen[str]:
    script.write_text(BUILD)
    return subprocess.Popen(
        [sys.executable, str(script), str(transitions), str(workers)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def quiet(message: str) -> None:
    pass


def build(spec: DatasetSpec, **more: Any) -> DatasetPair:
    return build_dataset(spec, workers=1, notice=quiet, **more)


def refusal(spec: DatasetSpec, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        build(spec, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".qss-offline" not in path.parts
    }


def test_kept_when_there(pair: DatasetPair, small_spec: DatasetSpec, minari_root: Path) -> None:
    before = contents(minari_root)
    notices: list[str] = []
    again = build_dataset(small_spec, notice=notices.append)
    assert pair.built and not again.built
    assert again == DatasetPair(**{**vars(pair), "built": False})
    assert "kept" in notices[0]
    assert contents(minari_root) == before


def test_building_twice_gives_the_same_files(
    pair: DatasetPair, small_spec: DatasetSpec, minari_root: Path
) -> None:
    before = contents(minari_root)
    assert build(small_spec, overwrite=True) == pair
    assert contents(minari_root) == before
    shutil.rmtree(minari_root)
    assert build(small_spec) == pair
    assert contents(minari_root) == before


def test_nothing_is_left_in_the_workplace(pair: DatasetPair, minari_root: Path) -> None:
    assert [path.suffix for path in (minari_root / ".qss-offline").iterdir()] == [".lock"]


def test_progress_is_told(minari_root: Path, small_spec: DatasetSpec) -> None:
    seen: dict[str, list[int]] = {}

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Reporter]:
        seen[title] = [total]

        def report(completed: int, note: str = "") -> None:
            seen[title].append(completed)

        yield report

    pair = build(small_spec, progress=progress)
    assert list(seen) == ["collecting", "writing"]
    assert seen["collecting"][0] == seen["collecting"][-1] == 1500
    assert seen["writing"][0] == seen["writing"][-1] == 2 * pair.episodes
    assert seen["collecting"][1:] == sorted(seen["collecting"][1:])


def test_the_same_name_for_another_spec(minari_root: Path) -> None:
    build(DatasetSpec("InvertedPendulum", transitions=50, name="mine"))
    before = contents(minari_root)
    other = DatasetSpec("InvertedPendulum", transitions=60, name="mine")
    assert "its transitions is 50, not 60" in refusal(other)
    assert contents(minari_root) == before
    assert build(other, overwrite=True).transitions == 60
    assert len(minari.list_local_datasets()) == 2


def test_half_a_pair_and_damage(
    pair: DatasetPair, small_spec: DatasetSpec, minari_root: Path
) -> None:
    sidecar = minari_root / pair.obs_id / "data" / "columns.arrow"
    good = sidecar.read_bytes()
    sidecar.write_bytes(good[:-100])
    assert "delete it to rebuild" in refusal(small_spec)
    sidecar.unlink()
    assert "was changed since it was built" in refusal(small_spec)
    metadata = minari_root / pair.obs_id / "data" / "metadata.json"
    metadata.unlink()
    assert "half-built" in refusal(small_spec)
    shutil.rmtree(minari_root / pair.obs_id)
    assert "without its twin" in refusal(small_spec)
    assert build(small_spec, overwrite=True) == pair


def test_a_foreign_dataset_of_that_name(minari_root: Path, small_spec: DatasetSpec) -> None:
    folder = minari_root / small_spec.obs_id / "data"
    folder.mkdir(parents=True)
    assert "half-built" in refusal(small_spec)
    good = {"total_steps": 1, "total_episodes": 1, "dataset_id": small_spec.obs_id}
    good |= {"data_format": "hdf5", "observation_space": "", "action_space": ""}
    (folder / "metadata.json").write_text(json.dumps(good))
    assert "it was not built from a spec" in refusal(small_spec)


@pytest.mark.parametrize("where", ["under a file", "/proc/nowhere"])
def test_unwritable_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_spec: DatasetSpec, where: str
) -> None:
    if where == "under a file":
        (tmp_path / "file").write_text("")
        where = str(tmp_path / "file" / "root")
    monkeypatch.setenv("MINARI_DATASETS_PATH", where)
    message = refusal(small_spec)
    assert "cannot use the Minari root" in message and "MINARI_DATASETS_PATH" in message
    with pytest.raises(UserError, match="cannot use the Minari root"):
        load_transitions(small_spec.obs_id)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_root(minari_root: Path, small_spec: DatasetSpec) -> None:
    minari_root.mkdir()
    minari_root.chmod(0o500)
    assert "cannot write datasets" in refusal(small_spec)


def test_failure_while_collecting_leaves_nothing(
    minari_root: Path, small_spec: DatasetSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build(DatasetSpec("InvertedPendulum", transitions=40))
    before = contents(minari_root)

    def broken(*_: Any) -> Transitions:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("qss_offline.data.build.collect", broken)
        with pytest.raises(KeyboardInterrupt):
            build(small_spec)
    assert contents(minari_root) == before
    assert other.obs_id in minari.list_local_datasets()
    assert build(small_spec).built


@contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[None]:
    folder.mkdir(parents=True)
    if shutil.which("mount") is None or os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("this machine doesn't allow mounting a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_full_disk(minari_root: Path) -> None:
    """At every size: from no room for a sidecar to room for all but the last metadata."""
    first = DatasetSpec("InvertedPendulum", transitions=40)
    second = DatasetSpec("InvertedPendulum", transitions=1_200, shards=1)
    messages = []
    for kilobytes in (130, 160, 200, 240, 320, 400, 480, 2_000):
        root = minari_root / f"disk-{kilobytes}"
        with small_disk(root, kilobytes), pytest.MonkeyPatch.context() as patch:
            patch.setenv("MINARI_DATASETS_PATH", str(root))
            kept = build(first)
            before = contents(root)
            try:
                build(second)
            except UserError as error:
                messages.append(str(error))
                assert "\n" not in str(error)
                after = contents(root)
                assert {name: after[name] for name in before} == before
                assert all("namespace_metadata" in name for name in after.keys() - before.keys())
                assert sorted(minari.list_local_datasets()) == [kept.act_id, kept.obs_id]
            else:
                assert kilobytes == 2_000 or len(minari.list_local_datasets()) == 4
    assert len(messages) >= 5
    assert all("No space left" in message or "no space left" in message for message in messages)


def test_two_builders_of_the_same(tmp_path: Path, minari_root: Path) -> None:
    builders = [start(tmp_path / f"{index}.py", 3_000, 1) for index in range(3)]
    outputs = [builder.communicate(timeout=100) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0], outputs
    assert sorted(out.strip() for out, _ in outputs) == ["False", "False", "True"]
    assert sum("waiting for another builder" in err for _, err in outputs) >= 1
    assert len(minari.list_local_datasets()) == 2


@pytest.mark.parametrize(
    ("attempts", "least"), [(4, 2), pytest.param(65, 50, marks=pytest.mark.slow)]
)
@pytest.mark.timeout(1_200)
def test_killed_builders(tmp_path: Path, minari_root: Path, attempts: int, least: int) -> None:
    """`kill -9` at random moments: nothing half-visible, nothing lost, and the next succeeds."""
    kept = build(DatasetSpec("Reacher", transitions=100))
    kept_contents = contents(minari_root)
    spec = DatasetSpec("InvertedPendulum", transitions=8_000)
    random_numbers = random.Random(0)
    killed = 0
    whole_s = 2.5
    for attempt in range(attempts):
        builder = start(tmp_path / "build.py", 8_000, 1 + attempt % 2)
        wait_s = random_numbers.uniform(0.7, whole_s)
        try:
            builder.wait(wait_s)
        except subprocess.TimeoutExpired:
            builder.send_signal(signal.SIGKILL)
            builder.wait()
            killed += 1
        else:
            assert builder.returncode == 0, builder.communicate()
            whole_s = max(1.0, wait_s)
        builder.communicate()
        visible = minari.list_local_datasets()
        assert {kept.obs_id, kept.act_id} <= set(visible)
        for dataset_id in visible:
            dataset = minari.load_dataset(dataset_id)
            assert sum(len(episode) for episode in dataset.iterate_episodes([0, 1, 2])) > 0
            assert len(load_transitions(dataset_id, notice=quiet).transitions) in (100, 8_000)
        if spec.obs_id in visible:
            assert spec.act_id in visible
            for dataset_id in (spec.obs_id, spec.act_id):
                shutil.rmtree(minari_root / dataset_id)
    assert killed >= least
    assert kept.obs_id in cli("list", "local")
    # The orphans of a killed builder are gone when its lock is free; the next builder cleans.
    pair = build(spec)
    assert pair.transitions == 8_000
    assert {name: contents(minari_root)[name] for name in kept_contents} == kept_contents
    assert all(path.suffix == ".lock" for path in (minari_root / ".qss-offline").iterdir())
    assert same(
        load_transitions(pair.obs_id).transitions,
        load_transitions(pair.act_id).transitions.without_actions(),
    )


def test_waiting_ends_when_the_other_builder_is_killed(tmp_path: Path, minari_root: Path) -> None:
    first = start(tmp_path / "first.py", 1_000_000, 1)
    workplace = minari_root / ".qss-offline"
    deadline = time.monotonic() + 60
    while not any(path.is_dir() for path in workplace.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stale = workplace / "qss__InvertedPendulum__v5-random-100-n1000000-s0"
    assert stale.is_dir()
    # A builder of another pair leaves a living one's folder alone, and removes a dead one's.
    build(DatasetSpec("InvertedPendulum", transitions=20))
    assert stale.is_dir()
    first.kill()
    first.communicate()
    build(DatasetSpec("InvertedPendulum", transitions=21))
    assert not stale.exists()
