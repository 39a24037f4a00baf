from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import minari
import pytest
from huggingface_hub.errors import EntryNotFoundError

from qss_offline.data import (
    StoredDatasets,
    Transitions,
    load_transitions,
    pull_dataset,
    push_dataset,
    verify_dataset,
)
from qss_offline.errors import UserError

from .conftest import same
from .test_load import FOREIGN, buffers, create, quiet

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Switch to another, empty Minari root: somebody else's machine."""

    def switch() -> Path:
        root = tmp_path / "elsewhere"
        monkeypatch.setenv("MINARI_DATASETS_PATH", str(root))
        return root

    return switch


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refusal(function: Any, *arguments: Any, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments, notice=quiet, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip_through_a_folder(
    pair: StoredDatasets, recording: Transitions, tmp_path: Path, minari_root: Path, elsewhere: Any
) -> None:
    remote = str(tmp_path / "remote")
    assert push_dataset(pair.obs_id, remote, twin=True, notice=quiet) == [pair.obs_id, pair.act_id]
    assert "is in" in refusal(push_dataset, pair.obs_id, remote)
    assert (tmp_path / "remote" / pair.obs_id / "README.md").is_file()
    there = elsewhere()
    notices: list[str] = []
    assert pull_dataset(pair.obs_id, remote, notice=notices.append) == pair.obs_digest
    assert pull_dataset(pair.act_id, remote, notice=notices.append) == pair.act_digest
    assert not notices
    assert same(load_transitions(pair.act_id).transitions, recording)
    assert contents(there / pair.obs_id) == contents(minari_root / pair.obs_id)
    assert sorted(minari.list_local_datasets()) == sorted((pair.obs_id, pair.act_id))
    assert "is here already" in refusal(pull_dataset, pair.obs_id, remote)
    pull_dataset(pair.obs_id, remote, overwrite=True, notice=quiet)
    assert verify_dataset(pair.obs_id).ok
    assert all(path.suffix == ".lock" for path in (there / ".qss-offline").iterdir())


@pytest.mark.parametrize("damage", ["episodes", "sidecar", "metadata", "cut", "link", "pipe"])
def test_what_came_damaged_never_becomes_visible(
    pair: StoredDatasets, tmp_path: Path, elsewhere: Any, damage: str
) -> None:
    remote = tmp_path / "remote"
    push_dataset(pair.obs_id, str(remote), notice=quiet)
    data = remote / pair.obs_id / "data"
    row = load_transitions(pair.obs_id).transitions.observations[2]
    if damage == "episodes":
        content = (data / "main_data.hdf5").read_bytes()
        needle = row.astype("<f8").tobytes()
        assert needle in content
        (data / "main_data.hdf5").write_bytes(content.replace(needle, needle[::-1]))
    elif damage == "sidecar":
        content = (data / "columns.arrow").read_bytes()
        (data / "columns.arrow").write_bytes(content.replace(row.tobytes(), row.tobytes()[::-1]))
    elif damage == "metadata":
        text = (data / "metadata.json").read_text()
        (data / "metadata.json").write_text(text.replace(pair.obs_digest[-9:], "0" * 9))
    elif damage == "cut":
        os.truncate(data / "main_data.hdf5", 4096)
    elif damage == "link":
        (data / "columns.arrow").unlink()
        (data / "columns.arrow").symlink_to("/etc/hostname")
    else:
        (data / "columns.arrow").unlink()
        os.mkfifo(data / "columns.arrow")
    there = elsewhere()
    assert pair.obs_id in refusal(pull_dataset, pair.obs_id, str(remote))
    assert not minari.list_local_datasets()
    assert not (there / pair.obs_id).exists()


def test_a_foreign_dataset_without_digest(
    minari_root: Path, tmp_path: Path, elsewhere: Any
) -> None:
    create(buffers())
    push_dataset(FOREIGN, str(tmp_path / "remote"), notice=quiet)
    elsewhere()
    notices: list[str] = []
    assert pull_dataset(FOREIGN, str(tmp_path / "remote"), notice=notices.append) is None
    assert notices == [f"{FOREIGN} carries no digest: only its own consistency was checked"]


def test_refusals(pair: StoredDatasets, tmp_path: Path, minari_root: Path) -> None:
    for remote in ("ftp://x", "hf://", "s3:///", "gcp://x"):
        assert "expected hf://USER or a folder" in refusal(push_dataset, pair.obs_id, remote)
    assert "is not in" in refusal(pull_dataset, "qss/none-v0", str(tmp_path))
    assert "malformed" in refusal(pull_dataset, "../../x-v0", str(tmp_path))
    assert "no dataset" in refusal(push_dataset, "qss/none-v0", str(tmp_path))
    os.truncate(minari_root / pair.obs_id / "data" / "main_data.hdf5", 999)
    assert "checks failed" in refusal(push_dataset, pair.obs_id, str(tmp_path / "remote"))
    assert not (tmp_path / "remote").exists()


class FakeHub:
    """Hugging Face's API as far as Minari and this package use it, in a folder."""

    root: Path

    def __init__(self, token: str | None = None) -> None:
        self.token = token

    def create_repo(self, repo_id: str, repo_type: str, exist_ok: bool) -> None:
        assert repo_type == "dataset" and exist_ok
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(
        self, repo_id: str, folder_path: Path, path_in_repo: str, repo_type: str
    ) -> None:
        shutil.copytree(folder_path, self.root / repo_id / path_in_repo, dirs_exist_ok=True)

    def upload_file(
        self, path_or_fileobj: Path, path_in_repo: str, repo_id: str, repo_type: str
    ) -> None:
        target = self.root / repo_id / path_in_repo
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path_or_fileobj, target)

    def file_exists(self, repo_id: str, filename: str, repo_type: str) -> bool:
        return (self.root / repo_id / filename).is_file()

    def hf_hub_download(
        self,
        repo_id: str,
        filename: str,
        repo_type: str,
        local_dir: Path | None = None,
        force_download: bool = False,
    ) -> str:
        source = self.root / repo_id / filename
        if not source.is_file():
            raise EntryNotFoundError(f"{filename} is not there")
        cache = self.root.parent / "cache" if local_dir is None else local_dir
        target = cache / filename
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return str(target)

    def list_datasets(self, author: str, dataset_name: str | None = None) -> list[Any]:
        repositories = sorted((self.root / author).iterdir())
        return [
            SimpleNamespace(id=f"{author}/{one.name}")
            for one in repositories
            if dataset_name in (None, one.name)
        ]

    def snapshot_download(
        self, repo_id: str, allow_patterns: str, repo_type: str, local_dir: Path
    ) -> None:
        prefix = allow_patterns.removesuffix("/*")
        shutil.copytree(self.root / repo_id / prefix, local_dir / prefix)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    FakeHub.root = tmp_path / "hub"
    (FakeHub.root / "someone").mkdir(parents=True)
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    from minari.storage.remotes import huggingface as remote

    monkeypatch.setattr(remote, "HfApi", FakeHub)
    return FakeHub.root


def test_round_trip_through_a_fake_hub(
    pair: StoredDatasets, recording: Transitions, hub: Path, elsewhere: Any
) -> None:
    push_dataset(pair.obs_id, "hf://someone", twin=True, token="secret", notice=quiet)
    repository = hub / "someone" / "qss"
    readme = (repository / "README.md").read_text()
    assert readme.startswith("---\nlicense: unknown")
    # Minari itself finds what was pushed: in the list that the namespace keeps.
    listed = json.loads((repository / "namespace_metadata.json").read_text())
    assert sorted(listed["datasets"]) == sorted((pair.obs_id, pair.act_id))
    assert listed["namespaces"] == ["qss/InvertedPendulum"]
    assert "is in hf://someone already" in refusal(push_dataset, pair.obs_id, "hf://someone")
    elsewhere()
    assert pull_dataset(pair.act_id, "hf://someone", notice=quiet) == pair.act_digest
    assert same(load_transitions(pair.act_id).transitions, recording)


def test_stock_minari_downloads_from_the_fake_hub(
    pair: StoredDatasets, hub: Path, elsewhere: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    push_dataset(pair.obs_id, "hf://someone", notice=quiet)
    elsewhere()
    monkeypatch.setenv("MINARI_REMOTE", "hf://someone")
    minari.download_dataset(pair.obs_id)
    assert load_transitions(pair.obs_id).info.digest == pair.obs_digest


def test_a_hub_that_fails(pair: StoredDatasets, hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(FakeHub, "list_datasets", offline)
    message = refusal(push_dataset, pair.obs_id, "hf://someone")
    assert message == "remote 'hf://someone': OSError: no route to host"
    assert "no route" in refusal(pull_dataset, "qss/x-v0", "hf://someone")


@pytest.mark.slow
def test_a_pushed_dataset_loads_where_only_minari_is(
    pair: StoredDatasets, tmp_path: Path, elsewhere: Any
) -> None:
    push_dataset(pair.obs_id, str(tmp_path / "remote"), notice=quiet)
    root = elsewhere()
    pull_dataset(pair.obs_id, str(tmp_path / "remote"), notice=quiet)
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    # Minari 0.5.4 imports Pillow for HDF5 without asking for it (docs/upstream).
    install = [str(python), "-m", "pip", "install", "-q", "minari[hdf5]", "pillow"]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no package index here: {done.stderr.splitlines()[-1:]}")
    code = f"""
import importlib.util, minari
assert all(importlib.util.find_spec(n) is None for n in ("torch", "qss_offline", "pyarrow"))
dataset = minari.load_dataset({pair.obs_id!r})
episodes = list(dataset.iterate_episodes())
assert sum(len(episode) for episode in episodes) == 1500
assert all(episode.actions.shape == (len(episode), 0) for episode in episodes)
assert dataset.sample_episodes(3) and minari.list_local_datasets()
print("loaded")
"""
    done = subprocess.run(
        [str(python), "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "MINARI_DATASETS_PATH": str(root)},
    )
    assert done.stdout.strip().endswith("loaded"), done.stderr
