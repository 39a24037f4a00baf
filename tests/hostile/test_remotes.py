"""Remotes that want to hang, fill the disk or lead elsewhere: looked at before they are read."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import minari
import pytest

from qss_offline.data import hub as sharing
from qss_offline.data import load_transitions, pull_dataset, push_dataset
from tests.data.conftest import same
from tests.data.test_load import quiet
from tests.hostile.conftest import OURS, TRUTH, refused
from tests.hostile.test_datasets import damaged
from tests.hostile.test_files import ODD_FILES, missing
from tests.hostile.test_metadata import NUMBERS, VALUES, put
from tests.hostile.test_text import ESCAPES
from tests.program import Qss

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def pull(remote: Path, **more: Any) -> str | None:
    """Pull ours; whole and right, or refused in one line with nothing left behind."""
    message = refused(pull_dataset, OURS, str(remote), overwrite=True, notice=quiet, **more)
    root = Path(os.environ["MINARI_DATASETS_PATH"])
    workplace = root / ".qss-offline"
    assert not workplace.exists() or all(one.suffix == ".lock" for one in workplace.iterdir())
    if message is None:
        assert same(load_transitions(OURS, notice=quiet).transitions, TRUTH)
        shutil.rmtree(root / OURS)
    assert minari.list_local_datasets() == {}
    return message


# --- files that aren't ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metadata.json", "columns.arrow", "main_data.hdf5", "more"])
@pytest.mark.parametrize("make", ODD_FILES, ids=lambda make: make.__name__)
def test_odd_files(remote: Path, name: str, make: Callable[[Path], None], in_process: None) -> None:
    path = remote / OURS / "data" / name
    path.unlink(missing_ok=True)
    make(path)
    # Folders without files aren't copied, and a sidecar can be made again.
    empty = path.is_dir() and not path.is_symlink()
    harmless = (make is missing or empty) and name in ("columns.arrow", "more")
    assert (pull(remote) is None) == harmless


@pytest.mark.parametrize("what", ["the dataset", "a namespace", "deep", "a file of the kernel"])
def test_ways_out_and_ways_without_end(remote: Path, what: str, in_process: None) -> None:
    folder = remote / OURS
    if what == "the dataset":
        folder.rename(remote.parent / "away")
        folder.symlink_to(remote.parent / "away")
    elif what == "a namespace":
        (remote / "mine").rename(remote.parent / "away")
        (remote / "mine").symlink_to(remote.parent / "away")
    elif what == "deep":
        (folder / "data" / "/".join("d" * 500)).mkdir(parents=True)
    else:
        (folder / "data" / "kernel").symlink_to("/proc/sys/kernel")
    assert pull(remote)


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/uuid").is_file(), reason="only Linux has it")
def test_a_file_that_goes_on_beyond_its_size(tmp_path: Path) -> None:
    source = Path("/proc/sys/kernel/random")
    assert (source / "uuid").stat().st_size == 0 and (source / "uuid").read_bytes()
    message = refused(sharing._copy_files, source, tmp_path / "copy", "it", 10**9)
    assert message and "grows while it is read" in message


# --- sizes ----------------------------------------------------------------------------------


def test_more_than_is_allowed(remote: Path, in_process: None, qss: Qss) -> None:
    held = sum(path.stat().st_size for path in (remote / OURS).rglob("*") if path.is_file())
    message = pull(remote, max_bytes=held - 1)
    assert message and "--max-gb" in message and "kB" in message
    assert pull(remote, max_bytes=held) is None
    asked = f"data pull {OURS} --from {remote} --max-gb"
    assert "--max-gb" in qss.refused(asked, "1e-6")
    for wrong in ("nan", "inf", "-1", "x"):
        qss.refused(asked, wrong)
    assert "pulled" in qss(asked, "0.1").out


def test_a_sparse_file_that_may_be_as_large_as_it_says(remote: Path, in_process: None) -> None:
    """Allowed by the user, it still has to fit onto the disk."""
    with (remote / OURS / "data" / "more").open("wb") as file:
        file.truncate(3 << 40)
    message = pull(remote, max_bytes=1 << 60)
    assert message and "3.3 TB of disk" in message


# --- metadata -------------------------------------------------------------------------------


class Anywhere(sharing.FolderStorage):
    """Stands for a remote whose library reads metadata without a look, as Minari's do."""

    def get_dataset_metadata(self, dataset_id: str) -> dict[str, Any]:
        metadata: dict[str, Any] = json.loads(
            (self._root / dataset_id / "data" / "metadata.json").read_text()
        )
        return metadata


@pytest.mark.parametrize("storage", ["a folder", "another remote"])
@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "3", "null", "{}", '{"dataset_size": NaN}', '{"a": ' + "9" * 5_000 + "}"),
        *("[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, json.dumps(ESCAPES), "\x1b[31m{}"),
    ],
    ids=range(11),
)
def test_metadata_that_are_none(
    remote: Path, storage: str, text: str, in_process: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (remote / OURS / "data" / "metadata.json").write_text(text)
    if storage == "another remote":
        monkeypatch.setattr(sharing, "_open", lambda *_: Anywhere(remote))
    message = pull(remote)
    assert message and not any(
        word in message for word in ("Error", "recursion", "attribute", "set_int_max_str_digits")
    )


@pytest.mark.parametrize("steps", [1, 54, 56])
def test_steps_that_put_the_digest_out_of_force(remote: Path, steps: int, in_process: None) -> None:
    """As after episodes were added, which Minari does without a new digest."""
    path = remote / OURS / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"total_steps": steps}))
    message = pull(remote)
    assert message and "checks failed" in message


def test_damage_at_random(remote: Path, cases: int, rng: random.Random, in_process: None) -> None:
    data = remote / OURS / "data"
    good = {path: path.read_bytes() for path in data.iterdir()}
    metadata = json.loads(good[data / "metadata.json"])
    outcomes = {"pulled": 0, "refused": 0}
    for case in range(cases):
        # Damaged episodes can end the process that reads them: that is what children are for.
        if case % 3 == 0:
            path = data / "columns.arrow"
            path.write_bytes(damaged(good[path], rng))
        else:
            text = put(metadata, rng.choice(NUMBERS), rng.choice(VALUES))
            (data / "metadata.json").write_text(text)
        outcomes["refused" if pull(remote) else "pulled"] += 1
        for path, content in good.items():
            path.write_bytes(content)
    assert outcomes["refused"] > 0
    assert pull(remote) is None


# --- names ----------------------------------------------------------------------------------


def test_a_remote_with_a_folder_named_data(remote: Path, in_process: None) -> None:
    shutil.copytree(remote / "mine", remote / "data" / "mine")
    shutil.copytree(remote / "mine", remote / "mine" / "data" / "mine")
    assert pull(remote) is None
    for name in ("data/mine/thing/ours-act-v0", "mine/data/mine/thing/ours-act-v0"):
        message = refused(pull_dataset, name, str(remote), notice=quiet)
        assert message and "named data" in message


# --- pushing --------------------------------------------------------------------------------


def push(to: Path) -> str:
    message = refused(push_dataset, OURS, str(to), notice=quiet)
    assert message is not None
    return message


@pytest.mark.usefixtures("ours", "in_process")
def test_a_failed_push_names_the_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in push(tmp_path / "file")
    (tmp_path / "half" / OURS).mkdir(parents=True)
    assert "exists" in push(tmp_path / "half")
    full = SimpleNamespace(free=12)
    monkeypatch.setattr("qss_offline.data.sandbox.shutil.disk_usage", lambda _: full)
    assert "free" in push(tmp_path / "full")
    assert not (tmp_path / "full" / OURS).exists()
