"""Datasets to others and back: through the Hugging Face Hub as Minari does it, or a folder.

A remote is `hf://USER_OR_ORGANISATION`, where `minari download` finds what was pushed, or a folder
that is laid out like a Minari root.

What is pulled is downloaded into a hidden folder, checked there in full, digests first of all,
and renamed into place: a damaged download is never visible, and replaces nothing. A folder is
looked at before anything of it is read: regular files only, no more bytes than are allowed, and of
these no more than there turn out to be.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from minari.namespace import namespace_hierarchy
from minari.storage import remotes
from minari.storage.remotes.cloud_storage import CloudStorage

from qss_offline.data import sandbox, verify
from qss_offline.data import sidecar as columns
from qss_offline.data.card import CARD_FILE, write_card
from qss_offline.data.load import expected_digest
from qss_offline.data.local import (
    METADATA_FILE,
    check_place,
    minari_root,
    plain_files,
    read_metadata,
)
from qss_offline.data.metadata import check_metadata
from qss_offline.data.publish import hold_stage, publish
from qss_offline.errors import UserError, one_line
from qss_offline.files import atomic_directory, open_regular_file, size_text
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice

MAX_PULLED_BYTES = 20 * 10**9
_CHUNK_BYTES = 1 << 20


class FolderStorage:
    """A folder as a remote.

    Args:
        root: the folder.
        limit: bytes that are allowed of a dataset.
    """

    def __init__(self, root: Path, limit: int = MAX_PULLED_BYTES) -> None:
        self._root = root
        self._limit = limit

    def upload_dataset(self, dataset_id: str) -> None:
        """Copy a local dataset here; it becomes visible when it is whole."""
        source = minari_root() / dataset_id
        with atomic_directory(self._root / dataset_id) as temporary:
            _copy_files(source, temporary, f"dataset {dataset_id!r}", sys.maxsize)

    def list_datasets(self, prefix: str) -> list[str]:
        """Return the dataset of that id, if it is here."""
        return [prefix] if (self._root / prefix / "data" / METADATA_FILE).exists() else []

    def get_dataset_metadata(self, dataset_id: str) -> dict[str, Any]:
        """Return a dataset's metadata."""
        return read_metadata(dataset_id, self._root)

    def download_dataset(self, dataset_id: str, path: Path) -> None:
        """Copy a dataset from here into `path`."""
        source = self._root / dataset_id
        if not source.resolve().is_relative_to(self._root.resolve()):
            raise UserError(f"dataset {dataset_id!r} is a link to elsewhere: refused")
        _copy_files(source, path / dataset_id, f"dataset {dataset_id!r}", self._limit)


def _copy_files(source: Path, target: Path, what: str, limit: int) -> None:
    """Copy a folder of plain files of `limit` bytes at most, and only what there is room for.

    Raises:
        UserError: something in it is no plain file, it holds more, or a file can't be copied.
    """
    files = list(plain_files(source, what))
    declared = sum(file.lstat().st_size for file in files)
    _check_size(declared, limit, what)
    target.mkdir(parents=True, exist_ok=True)
    sandbox.check_disk(declared, target, what)
    left = declared
    for file in files:
        copy = target / file.relative_to(source)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
            with open_regular_file(file, left) as opened, copy.open("xb") as written:
                # A file may go on beyond the size that it declares.
                while chunk := opened.read(_CHUNK_BYTES):
                    left -= len(chunk)
                    if left < 0:
                        raise UserError(f"{what}: {file} grows while it is read: refused")
                    written.write(chunk)
        except OSError as error:
            raise UserError(f"{what}: cannot copy {file}: {error.strerror or error}") from error


def _check_size(size: float, limit: int, what: str) -> None:
    if size > limit:
        raise UserError(
            f"{what} holds {size_text(size)}, more than the {size_text(limit)} that are allowed; "
            "if you trust it, allow more: --max-gb, or max_bytes"
        )


def _open(remote: str, token: str | None, limit: int = MAX_PULLED_BYTES) -> Any:
    """Open a remote.

    Raises:
        UserError: it is none, or the Hub's library is missing or fails.
    """
    if "://" not in remote:
        return FolderStorage(Path(remote), limit)
    scheme, _, name = remote.partition("://")
    if scheme != "hf" or not name.strip("/"):
        raise UserError(f"remote {remote!r}: expected hf://USER or a folder")
    try:
        return remotes.get_cloud_storage(f"hf://{name.rstrip('/')}", token)
    except ImportError as error:
        raise UserError(f"remote {remote!r}: {one_line(error)}") from error
    except Exception as error:
        raise _failed(remote, error) from error


def _failed(remote: str, error: Exception) -> UserError:
    if isinstance(error, OSError) and error.strerror and error.filename:
        return UserError(f"remote {remote!r}: {error.filename}: {error.strerror}")
    return UserError(f"remote {remote!r}: {type(error).__name__}: {one_line(error)}")


@contextmanager
def _remote_errors(remote: str) -> Iterator[None]:
    """Turn whatever a remote's library raises into one line, and keep it from printing."""
    try:
        with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing):
            yield
    except UserError:
        raise
    except Exception as error:
        raise _failed(remote, error) from error


def push_dataset(
    dataset_id: str,
    to: str,
    *,
    token: str | None = None,
    twin: bool = False,
    license: str | None = None,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> list[str]:
    """Verify a dataset, write its card where it has none, and upload it.

    Args:
        dataset_id: Minari id.
        to: `hf://USER` or a folder.
        token: Hugging Face token; by default the one that the Hub's library finds.
        twin: upload the twin too.
        license: SPDX identifier for the card.
        notice: called with a line about what is done.
        progress: makes reporters of verifying.

    Returns:
        The ids that were uploaded.

    Raises:
        UserError: the dataset isn't sound, is there already, or the remote fails.
    """
    metadata = read_metadata(dataset_id)
    ids = [dataset_id]
    if twin:
        other = metadata.get("twin")
        if not isinstance(other, str):
            raise UserError(f"dataset {dataset_id!r} has no twin")
        ids.append(other)
    storage = _open(to, token)
    for one in ids:
        verify.require(one, progress=progress)
        with _remote_errors(to):
            if one in set(storage.list_datasets(prefix=one)):
                raise UserError(f"dataset {one!r} is in {to} already; raise its version")
    for one in ids:
        if license is not None or not (minari_root() / one / CARD_FILE).is_file():
            write_card(one, license=license, notice=notice)
        with _remote_errors(to):
            if isinstance(storage, CloudStorage):
                _upload_namespaces(storage, one)
            storage.upload_dataset(one)
            if isinstance(storage, CloudStorage):
                _upload_repository_card(storage, one)
        notice(f"{one} is in {to}")
    return ids


def _upload_namespaces(storage: CloudStorage, dataset_id: str) -> None:
    there = set(storage.list_namespaces())
    for part in namespace_hierarchy(dataset_id.rpartition("/")[0] or None):
        if part not in there:
            storage.upload_namespace(part)


def _upload_repository_card(storage: CloudStorage, dataset_id: str) -> None:
    """Give a new repository of the Hub the card as its README, where the Hub looks for tags."""
    api = storage._api
    repository = f"{storage.name}/{dataset_id.partition('/')[0]}"
    if not api.file_exists(repository, CARD_FILE, repo_type="dataset"):
        api.upload_file(
            path_or_fileobj=minari_root() / dataset_id / CARD_FILE,
            path_in_repo=CARD_FILE,
            repo_id=repository,
            repo_type="dataset",
        )


def pull_dataset(
    dataset_id: str,
    source: str,
    *,
    token: str | None = None,
    overwrite: bool = False,
    max_bytes: int = MAX_PULLED_BYTES,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> str | None:
    """Download a dataset, check it in full, and only then make it visible.

    Args:
        dataset_id: Minari id.
        source: `hf://USER` or a folder.
        token: as for `push_dataset`.
        overwrite: replace a local dataset of that id.
        max_bytes: refuse more. A folder is measured; the Hub is believed at first, and what came
            of it is measured.
        notice: called with a line if there was no digest to check.
        progress: makes reporters of verifying.

    Returns:
        The digest of what was pulled, None where it carries none.

    Raises:
        UserError: the remote has no such dataset or fails, what came doesn't agree with its
            digests or with itself, it is there already, or it can't be written.
    """
    check_place(dataset_id)
    root = minari_root()
    if (root / dataset_id).exists() and not overwrite:
        raise UserError(f"dataset {dataset_id!r} is here already; overwrite it or keep it")
    storage = _open(source, token, max_bytes)
    what = f"dataset {dataset_id!r}"
    with hold_stage(f"pull/{dataset_id}", notice) as stage:
        downloads = stage.root
        downloads.mkdir()
        with _remote_errors(source):
            there = set(storage.list_datasets(prefix=dataset_id))
            if dataset_id not in there:
                raise UserError(f"dataset {dataset_id!r} is not in {source}")
            declared = _declared_bytes(storage, dataset_id)
            _check_size(declared, max_bytes, what)
            sandbox.check_disk(declared, downloads, what)
            storage.download_dataset(dataset_id, downloads)
        folder = downloads / dataset_id
        if not folder.is_dir():
            raise UserError(f"remote {source!r}: {dataset_id!r} did not come")
        # Before anything is opened: a link inside would lead out of the folder.
        came = sum(file.lstat().st_size for file in plain_files(downloads, what))
        _check_size(came, max_bytes, what)
        metadata = read_metadata(dataset_id, downloads)
        digest = expected_digest(metadata)
        if digest is None:
            notice(f"{dataset_id} carries no digest: only its own consistency was checked")
        verify.require(dataset_id, root=downloads, progress=progress)
        columns.mark_current(folder / "data")
        publish(stage, [dataset_id])
    return digest


def _declared_bytes(storage: Any, dataset_id: str) -> float:
    """Return what a remote's metadata say of a dataset's size, 0 where they say nothing."""
    damaged = f"dataset {dataset_id!r}: its metadata are damaged"
    try:
        metadata = storage.get_dataset_metadata(dataset_id)
    except (ValueError, RecursionError) as error:
        # Minari reads them without a look, and Python speaks of its own limits here.
        raise UserError(f"{damaged} (they are no plain JSON)") from error
    try:
        metadata = check_metadata(metadata)
    except UserError as error:
        raise UserError(f"{damaged} ({error})") from error
    return 1e6 * float(metadata.get("dataset_size") or 0)
