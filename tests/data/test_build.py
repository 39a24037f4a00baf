from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium
import minari
import pytest
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv

from qss_offline.data import (
    DatasetSpec,
    StoredDatasets,
    Transitions,
    build_dataset,
    build_datasets,
    build_family,
    load_transitions,
    read_family,
    save_expert,
)
from qss_offline.data.collect import complete_episodes
from qss_offline.data.publish import exchange
from qss_offline.errors import UserError
from qss_offline.parallel.progress import Reporter
from tests.patience import PATIENCE_S
from tests.program import Qss

from .conftest import same
from .test_collect import make_expert
from .test_minari_format import cli

BUILD = """
import sys
from qss_offline.data import DatasetSpec
from qss_offline.data import build_dataset
from qss_offline.errors import UserError
if __name__ == "__main__":
    transitions, workers = int(sys.argv[1]), int(sys.argv[2])
    try:
        spec = DatasetSpec("InvertedPendulum", transitions=transitions)
        build_dataset(spec, workers, notice=lambda line: print(line, file=sys.stderr))
    except UserError as error:
        sys.exit(f"UserError {error}")
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


def build(spec: DatasetSpec, **more: Any) -> StoredDatasets:
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


def test_kept_when_there(pair: StoredDatasets, small_spec: DatasetSpec, minari_root: Path) -> None:
    before = contents(minari_root)
    notices: list[str] = []
    again = build_dataset(small_spec, notice=notices.append)
    assert again == pair and "kept" in notices[0]
    assert contents(minari_root) == before


def test_building_twice_gives_the_same_files(
    pair: StoredDatasets, small_spec: DatasetSpec, minari_root: Path
) -> None:
    before = contents(minari_root)
    assert build(small_spec, overwrite=True) == pair
    assert contents(minari_root) == before
    shutil.rmtree(minari_root)
    assert build(small_spec) == pair
    assert contents(minari_root) == before


def test_nothing_is_left_in_the_workplace(pair: StoredDatasets, minari_root: Path) -> None:
    assert [path.suffix for path in (minari_root / ".qss-offline").iterdir()] == [".lock"]


def test_progress_is_told(minari_root: Path, small_spec: DatasetSpec) -> None:
    reported: dict[str, list[int]] = {}

    @contextmanager
    def progress(title: str, total: int, unit: str) -> Iterator[Reporter]:
        reported[title] = [total]

        def report(completed: int, note: str = "") -> None:
            reported[title].append(completed)

        yield report

    pair = build(small_spec, progress=progress)
    assert list(reported) == ["collecting", "writing"]
    assert reported["collecting"][0] == reported["collecting"][-1] == 1500
    assert reported["writing"][0] == reported["writing"][-1] == 2 * pair.episodes
    assert reported["collecting"][1:] == sorted(reported["collecting"][1:])


def test_the_same_name_for_another_spec(minari_root: Path) -> None:
    build(DatasetSpec("InvertedPendulum", transitions=50, name="mine"))
    before = contents(minari_root)
    other = DatasetSpec("InvertedPendulum", transitions=60, name="mine")
    assert "its transitions is 50, not 60" in refusal(other)
    assert contents(minari_root) == before
    assert build(other, overwrite=True).transitions == 60
    assert len(minari.list_local_datasets()) == 2


def test_half_a_pair_and_damage(
    pair: StoredDatasets, small_spec: DatasetSpec, minari_root: Path
) -> None:
    sidecar = minari_root / pair.obs_id / "data" / "columns.arrow"
    good = sidecar.read_bytes()
    sidecar.write_bytes(good[:-100])
    assert "delete it to rebuild" in refusal(small_spec)
    sidecar.unlink()
    assert build(small_spec) == pair and sidecar.read_bytes() == good
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
        patch.setattr("qss_offline.data.build.collect_all", broken)
        with pytest.raises(KeyboardInterrupt):
            build(small_spec)
    assert contents(minari_root) == before
    assert other.obs_id in minari.list_local_datasets()
    assert build(small_spec).obs_id in minari.list_local_datasets()


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
            existing = build(first)
            before = contents(root)
            try:
                build(second)
            except UserError as error:
                messages.append(str(error))
                assert "\n" not in str(error)
                after = contents(root)
                assert {name: after[name] for name in before} == before
                assert all("namespace_metadata" in name for name in after.keys() - before.keys())
                assert sorted(minari.list_local_datasets()) == [existing.act_id, existing.obs_id]
            else:
                assert kilobytes == 2_000 or len(minari.list_local_datasets()) == 4
    assert len(messages) >= 5
    assert all("No space left" in message or "no space left" in message for message in messages)


def test_two_builders_of_the_same(tmp_path: Path, minari_root: Path) -> None:
    builders = [start(tmp_path / f"{index}.py", 3_000, 1) for index in range(3)]
    outputs = [builder.communicate(timeout=PATIENCE_S) for builder in builders]
    assert [builder.returncode for builder in builders] == [0, 0, 0], outputs
    assert sum("there already: kept" in err for _, err in outputs) == 2
    assert sum("waiting for another builder" in err for _, err in outputs) >= 1
    assert len(minari.list_local_datasets()) == 2


@pytest.mark.parametrize(
    ("attempts", "least"), [(4, 2), pytest.param(65, 50, marks=pytest.mark.slow)]
)
@pytest.mark.timeout(1_200)
def test_killed_builders(tmp_path: Path, minari_root: Path, attempts: int, least: int) -> None:
    """`kill -9` at random moments: nothing half-visible, nothing lost, and the next succeeds."""
    existing = build(DatasetSpec("Reacher", transitions=100))
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
        assert {existing.obs_id, existing.act_id} <= set(visible)
        for dataset_id in visible:
            dataset = minari.load_dataset(dataset_id)
            assert sum(len(episode) for episode in dataset.iterate_episodes([0, 1, 2])) > 0
            assert len(load_transitions(dataset_id, notice=quiet).transitions) in (100, 8_000)
        if spec.obs_id in visible:
            assert spec.act_id in visible
            for dataset_id in (spec.obs_id, spec.act_id):
                shutil.rmtree(minari_root / dataset_id)
    assert killed >= least
    assert existing.obs_id in cli("list", "local")
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
    deadline = time.monotonic() + PATIENCE_S
    while not any(path.is_dir() for path in workplace.glob("*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    stale = workplace / "qss.InvertedPendulum.v5-random-100-n1000000-s0"
    assert stale.is_dir()
    # A builder of another pair leaves a living one's folder alone, and removes a dead one's.
    build(DatasetSpec("InvertedPendulum", transitions=20))
    assert stale.is_dir()
    first.kill()
    first.communicate()
    build(DatasetSpec("InvertedPendulum", transitions=21))
    assert not stale.exists()


# --- several at once ------------------------------------------------------------------------


@pytest.fixture
def family(tmp_path: Path) -> Path:
    """A family with a small made-up expert, as one file with its expert beside it."""
    save_expert(
        tmp_path / "made_up.safetensors", make_expert(), command="by hand", seed=0, returns=[1.0]
    )
    path = tmp_path / "family.toml"
    path.write_text(
        'env_id = "InvertedPendulum"\ntransitions = 400\nshards = 2\n'
        'expert = "made_up.safetensors"\nrandom_action_probs = [0.0, 0.5, 1.0]\n'
        'paper_returns = { "0" = 1000, "0.5" = 18, "0.75" = 11 }\n'
    )
    return path


def test_a_family_built_side_by_side_is_what_each_is_alone(
    family: Path, minari_root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    specs = read_family(family).specs
    alone = [build(spec) for spec in specs]
    first = contents(minari_root)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "other"))
    assert build_datasets(specs, workers=3, notice=quiet) == alone
    assert contents(tmp_path / "other") == first
    assert len({pair.act_digest for pair in alone}) == 3


@pytest.mark.usefixtures("in_process")
def test_a_family_keeps_what_is_there_and_verifies_all(family: Path, minari_root: Path) -> None:
    specs = read_family(family).specs
    build(specs[1])
    notices: list[str] = []
    members = build_family(specs, workers=1, notice=notices.append)
    assert len(notices) == 1 and specs[1].obs_id in notices[0]
    for one in members:
        transitions = load_transitions(one.pair.act_id).transitions
        returns = transitions.episode_returns()[complete_episodes(transitions, one.spec)]
        assert one.pair.behaviour_return.mean == pytest.approx(returns.mean())
        half = 1.96 * returns.std() / len(returns) ** 0.5
        expected = (returns.mean() - half, returns.mean() + half)
        assert one.return_interval == pytest.approx(expected, abs=0.3 * half + 1e-9)
    episodes_file = minari_root / specs[2].act_id / "data" / "main_data.hdf5"
    content = bytearray(episodes_file.read_bytes())
    row = transitions.observations[7].astype("f8").tobytes()
    content[content.index(row) + 6] ^= 1
    episodes_file.write_bytes(content)
    with pytest.raises(UserError, match=specs[2].act_id):
        build_family(specs, workers=1, notice=quiet)


def test_ids_that_are_alike_are_built_side_by_side(minari_root: Path) -> None:
    ids = ["two/parts-v0", "two__parts-v0", "two_/parts-v0", "two/_parts-v0"]
    for env_id in ids:
        gymnasium.register(env_id, InvertedPendulumEnv, max_episode_steps=20)
    try:
        specs = [DatasetSpec(env_id, transitions=20, shards=1) for env_id in ids]
        assert len({pair.obs_id for pair in build_datasets(specs, 4, notice=quiet)}) == 4
    finally:
        for env_id in ids:
            del gymnasium.registry[env_id]


def test_two_specs_of_one_id(minari_root: Path) -> None:
    spec = DatasetSpec("Reacher", transitions=50)
    with pytest.raises(UserError, match="two specs have this id"):
        build_datasets([spec, spec], notice=quiet)
    assert minari.list_local_datasets() == {}


@pytest.mark.usefixtures("in_process")
def test_the_command_builds_a_family(family: Path, minari_root: Path, qss: Qss) -> None:
    for _ in range(2):
        printed = qss("data build --workers 1", family)
        lines = [line for line in printed.out.splitlines() if "-obs-v0" in line]
        assert [("1000" in line, line.endswith("\t18")) for line in lines] == [
            (True, False),
            (False, True),
            (False, False),
        ]
        assert "random-50-made_up-n400-s0-k2-obs-v0" in lines[1] and "\t50%\t" in lines[1]
        assert "verified 6 datasets" in printed.out
    assert printed.err.count("kept") == 3
    assert len(minari.list_local_datasets()) == 6


# --- replacing ------------------------------------------------------------------------------


def test_exchange(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "is").write_text(name)
    if not exchange(tmp_path / "a", tmp_path / "b"):
        pytest.skip("this system doesn't swap names")
    assert (tmp_path / "a" / "is").read_text() == "b"
    assert (tmp_path / "b" / "is").read_text() == "a"
    with pytest.raises(FileNotFoundError):
        exchange(tmp_path / "a", tmp_path / "none")
    assert (tmp_path / "a" / "is").read_text() == "b"


def test_without_exchange_datasets_are_replaced_too(
    pair: StoredDatasets, minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qss_offline.data.publish.exchange", lambda a, b: False)
    spec = DatasetSpec("InvertedPendulum", transitions=60, name="mine")
    old = build(spec)
    new = build(DatasetSpec("InvertedPendulum", transitions=70, name="mine"), overwrite=True)
    assert (old.transitions, new.transitions) == (60, 70)
    assert len(load_transitions(new.act_id).transitions) == 70


REPLACE = """
import os, signal, sys
from pathlib import Path
from qss_offline.data import DatasetSpec
from qss_offline.data import build_dataset
from qss_offline.data import publish

dies_after = int(sys.argv[1])
swaps = 0
real = publish.exchange

def dying(first, second):
    global swaps
    done = real(first, second)
    swaps += 1
    if swaps == dies_after:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

publish.exchange = dying
build_dataset(DatasetSpec("InvertedPendulum", transitions=70, name="mine"), 1, overwrite=True)
"""


@pytest.mark.parametrize("dies_after", [1, 2])
def test_killed_while_replacing(tmp_path: Path, minari_root: Path, dies_after: int) -> None:
    """`kill -9` right after a swap: both names hold a whole dataset, and the next one finishes."""
    spec = DatasetSpec("InvertedPendulum", transitions=60, name="mine")
    build(spec)
    (tmp_path / "replace.py").write_text(REPLACE)
    builder = subprocess.run(
        [sys.executable, str(tmp_path / "replace.py"), str(dies_after)], capture_output=True
    )
    assert builder.returncode == -signal.SIGKILL, builder.stderr
    sizes = [len(load_transitions(id_).transitions) for id_ in (spec.act_id, spec.obs_id)]
    assert sizes in ([70, 60], [70, 70])
    # Whoever builds anything next finishes what was begun, and never puts the old one back.
    build(DatasetSpec("Reacher", transitions=20))
    for dataset_id in (spec.act_id, spec.obs_id):
        assert len(load_transitions(dataset_id).transitions) == 70
    assert all(path.suffix == ".lock" for path in (minari_root / ".qss-offline").iterdir())


def test_replacing_leaves_no_gap(minari_root: Path, tmp_path: Path) -> None:
    """A reader that looks all the time always finds the dataset, the old one or the new."""
    folder = tmp_path / "probe"
    (folder / "x").mkdir(parents=True)
    (folder / "y").mkdir()
    if not exchange(folder / "x", folder / "y"):
        pytest.skip("this system doesn't swap names")
    spec = DatasetSpec("Reacher", transitions=20, shards=1)
    build(spec)
    looks, missing, ended = [0], [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            for dataset_id in (spec.obs_id, spec.act_id):
                missing[0] += not (minari_root / dataset_id / "data" / "metadata.json").is_file()
                looks[0] += 1

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            build(spec, overwrite=True)
    finally:
        ended.set()
        watcher.join()
    assert looks[0] > 0 and missing[0] == 0
