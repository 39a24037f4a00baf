"""An untrusted dataset: every time a correct load or one clear error."""

from __future__ import annotations

import json
import os
import random
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest

from qss_offline.data import (
    LoadedDataset,
    list_datasets,
    load_transitions,
    verify_dataset,
)
from qss_offline.data.environments import env_id_of_file
from qss_offline.errors import UserError
from tests.cli.test_program import qss_offline
from tests.data.conftest import same
from tests.data.test_load import FOREIGN, buffers, create, quiet
from tests.hostile.conftest import OURS, refused
from tests.hostile.test_files import ODD_FILES, missing

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def refusal(dataset_id: str = FOREIGN) -> str:
    with pytest.raises(UserError) as caught:
        load_transitions(dataset_id, notice=quiet)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def loaded(dataset_id: str) -> LoadedDataset | None:
    """Return what was loaded, None where it was refused in one line."""
    found: list[LoadedDataset] = []
    refused(lambda: found.append(load_transitions(dataset_id, notice=quiet)))
    return found[0] if found else None


@pytest.fixture
def foreign(minari_root: Path) -> Path:
    create(buffers())
    return minari_root / FOREIGN / "data"


# --- ways out of the folder -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["metadata.json", "main_data.hdf5", "columns.arrow", "extra/x"])
def test_symbolic_links(foreign: Path, tmp_path: Path, name: str, in_process: None) -> None:
    load_transitions(FOREIGN, notice=quiet)
    (foreign / "extra").mkdir()
    path, secret = foreign / name, tmp_path / "secret"
    if path.exists():
        path.rename(secret)
    else:
        secret.write_text("mine")
    path.symlink_to(secret)
    assert "is a link to elsewhere: refused" in refusal()
    assert not verify_dataset(FOREIGN).ok
    path.unlink()
    path.symlink_to("../../../../../../etc/passwd")
    assert "is a link to elsewhere: refused" in refusal()


def test_a_linked_data_folder(foreign: Path, tmp_path: Path) -> None:
    foreign.rename(tmp_path / "moved")
    foreign.symlink_to(tmp_path / "moved")
    assert "is a link to elsewhere: refused" in refusal()


def test_pipes_do_not_hang(foreign: Path) -> None:
    os.mkfifo(foreign / "columns.arrow")
    assert "neither a file nor a folder" in refusal()


def secret_file(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["secret"] = np.full((2, 3), 7.0)
        file["rewards"] = np.full(1, 7.0)


@pytest.mark.parametrize("way", ["external link", "soft link", "external storage", "virtual"])
def test_hdf5_that_points_elsewhere(foreign: Path, tmp_path: Path, way: str) -> None:
    secret_file(tmp_path / "secret.h5")
    with h5py.File(foreign / "main_data.hdf5", "r+") as file:
        group = file["episode_1"]
        del group["observations"]
        if way == "external link":
            group["observations"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "secret")
        elif way == "soft link":
            group["observations"] = h5py.SoftLink("/episode_0/observations")
        elif way == "external storage":
            (tmp_path / "secret.bin").write_bytes(np.full((2, 3), 7.0).tobytes())
            external = [(str(tmp_path / "secret.bin"), 0, 48)]
            group.create_dataset("observations", (2, 3), "f8", external=external)
        else:
            layout = h5py.VirtualLayout((2, 3), "f8")
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "secret", shape=(2, 3))
            group.create_virtual_dataset("observations", layout)
    assert "refused" in refusal()


def test_a_whole_episode_that_is_elsewhere(foreign: Path, tmp_path: Path) -> None:
    with h5py.File(foreign / "main_data.hdf5", "r+") as file:
        del file["episode_1"]
        file["episode_1"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/")
    assert "episode_1 is a link to elsewhere: refused" in refusal()


# --- sizes ----------------------------------------------------------------------------------


def edit(data: Path, **changes: Any) -> None:
    path = data / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_an_array_that_claims_the_world(foreign: Path) -> None:
    with h5py.File(foreign / "main_data.hdf5", "r+") as file:
        for name in ("rewards", "observations"):
            del file[f"episode_1/{name}"]
        # Never written: a few hundred bytes in the file, terabytes in memory.
        options: dict[str, Any] = {"chunks": (1 << 16,), "compression": "gzip"}
        file["episode_1"].create_dataset("rewards", (1 << 40,), "f8", **options)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    message = refusal()
    assert "of memory" in message or "can't be read" in message
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after < max(before, 1 << 20)


def test_a_small_file_that_unpacks_to_much(foreign: Path) -> None:
    """The metadata agree with it, so that only the limit on memory is left."""
    rows = 400_000_000
    with h5py.File(foreign / "main_data.hdf5", "r+") as file:
        del file["episode_1/rewards"]
        file["episode_1"].create_dataset("rewards", (rows,), "f8", chunks=(1 << 16,))
    assert (foreign / "main_data.hdf5").stat().st_size < 1 << 17
    assert "memory" in refusal() or "can't be read" in refusal()
    edit(foreign, total_steps=rows * 1000)
    assert "would take" in refusal()


@pytest.mark.parametrize(
    "space",
    [
        {"type": "Box", "dtype": "float64", "shape": [1 << 40], "low": 0.0, "high": 1.0},
        {"type": "Box", "dtype": "float64", "shape": [1 << 20, 1 << 20], "low": 0, "high": 1},
        {"type": "MultiBinary", "n": 1 << 50},
        {"type": "MultiBinary", "n": [1 << 10, 1 << 40]},
        {"type": "Discrete", "n": 1 << 60, "start": 0},
        {"type": "MultiDiscrete", "dtype": "int64", "nvec": [1 << 40], "start": [0]},
        {"type": "Box", "dtype": "float64", "shape": [-3], "low": [0], "high": [1]},
        {"type": "Tuple", "subspaces": [{"type": "Discrete", "n": 1 << 22, "start": 0}] * 3},
        {"type": "os.system", "n": 1},
        {"type": "Box", "dtype": "O", "shape": [1], "low": [0], "high": [1]},
        [],
    ],
)
def test_spaces_that_claim_the_world(foreign: Path, space: Any) -> None:
    edit(foreign, observation_space=json.dumps(space))
    refusal()
    assert not verify_dataset(FOREIGN).ok


def test_arrow_without_actions_does_not_end_the_process(minari_root: Path) -> None:
    create(buffers(), data_format="arrow")
    space = {"type": "Box", "dtype": "float32", "shape": [0], "low": [], "high": []}
    edit(minari_root / FOREIGN / "data", action_space=json.dumps(space))
    assert "observation-only dataset in Arrow's formats" in refusal()


def test_nothing_in_a_dataset_is_run(foreign: Path, tmp_path: Path, in_process: None) -> None:
    owned = tmp_path / "owned"
    kwargs = {"command": f"touch {owned}"}
    spec = {"id": "X-v0", "entry_point": "os:system", "kwargs": kwargs}
    edit(foreign, env_spec=json.dumps(spec), eval_env_spec=json.dumps(spec))
    loaded = load_transitions(FOREIGN, notice=quiet)
    assert loaded.info.env_id is not None and loaded.info.env_id.startswith("X-v0?command=")
    assert len(loaded.transitions) == 11
    with pytest.raises(UserError, match="X-v0"):
        env_id_of_file(loaded.info.env_id, "the dataset")
    assert verify_dataset(FOREIGN).ok
    assert not owned.exists()


# --- damage at random -----------------------------------------------------------------------


def damaged(good: bytes, rng: random.Random) -> bytes:
    """Flip a few bytes, overwrite a stretch, cut the end off, or cut a piece out."""
    content = bytearray(good)
    kind = rng.randrange(5)
    if kind <= 1:
        for _ in range(rng.randint(1, 4)):
            content[rng.randrange(len(content))] ^= rng.randint(1, 255)
    elif kind == 2:
        start = rng.randrange(len(content))
        length = min(rng.randint(1, 64), len(content) - start)
        content[start : start + length] = rng.randbytes(length)
    elif kind == 3:
        del content[rng.randrange(len(content)) :]
    else:
        start = rng.randrange(len(content))
        del content[start : start + rng.randint(1, 200)]
    return bytes(content)


TARGETS = {"episodes": "main_data.hdf5", "sidecar": "columns.arrow", "metadata": "metadata.json"}


@pytest.mark.parametrize("target", list(TARGETS))
@pytest.mark.timeout(3_000)
def test_damage_at_random(
    ours: Path, minari_root: Path, target: str, cases: int, rng: random.Random
) -> None:
    """Our dataset loads with its own numbers or not at all; a foreign one, with no digest, loads
    only if everything fits together. Episodes are read in children, which take longer to start than
    all the rest."""
    create(buffers())
    truth = {name: load_transitions(name, notice=quiet).transitions for name in (OURS, FOREIGN)}
    outcomes = {"loaded": 0, "refused": 0}
    for case in range(cases // 3 if target == "episodes" else cases):
        name = (OURS, FOREIGN)[case % 2]
        data = minari_root / name / "data"
        good = {path: path.read_bytes() for path in data.iterdir()}
        path = data / TARGETS[target]
        path.write_bytes(damaged(good[path], rng))
        if target == "episodes" or (target == "metadata" and case % 5 == 0):
            (data / "columns.arrow").unlink(missing_ok=True)
        found = loaded(name)
        if found is None:
            outcomes["refused"] += 1
        else:
            outcomes["loaded"] += 1
            transitions = found.transitions
            if name == OURS or target != "episodes":
                assert same(transitions.without_actions(), truth[name].without_actions())
            else:
                assert transitions.episodes.tolist() == truth[name].episodes.tolist()
                assert np.isfinite(transitions.observations).all()
        if case % 20 == 0:
            assert isinstance(verify_dataset(name).ok, bool)
        for one in set(data.iterdir()) - good.keys():
            one.unlink()
        for one, content in good.items():
            one.write_bytes(content)
    print(f"{target}: {outcomes}")
    assert outcomes["refused"] > 0
    assert len(minari.list_local_datasets()) == 3


# --- files that aren't ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metadata.json", "columns.arrow", "main_data.hdf5"])
@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_odd_files(
    foreign: Path, name: str, make: Callable[[Path], None], in_process: None
) -> None:
    """Right where the others suffice, else refused."""
    truth = load_transitions(FOREIGN, notice=quiet).transitions
    (foreign / name).unlink()
    make(foreign / name)
    found = loaded(FOREIGN)
    assert found is None or (same(found.transitions, truth) and name != "metadata.json")
    assert verify_dataset(FOREIGN).ok == (make is missing and name == "columns.arrow")
    assert FOREIGN in {one.dataset_id for one in list_datasets()}


@pytest.mark.parametrize("kind", ["a pipe", "half the episodes"])
def test_the_program_ends_in_one_line(foreign: Path, kind: str) -> None:
    """In real processes, each command: code 0, or 2 and one line."""
    if kind == "a pipe":
        (foreign / "metadata.json").unlink()
        os.mkfifo(foreign / "metadata.json")
    else:
        os.truncate(foreign / "main_data.hdf5", 3_000)
    for command in ("list", "verify"):
        done = qss_offline("data", command, *([FOREIGN] if command != "list" else []))
        assert done.returncode == (0 if command == "list" else 2), done.stderr
        assert "Traceback" not in done.stderr
        assert all(one.isprintable() or one in "\n\t" for one in done.stdout + done.stderr)
        if command != "list":
            assert done.stderr.strip().splitlines()[-1].startswith("error: ")
