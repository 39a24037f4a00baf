"""Where a run goes, and where its policies act."""

from __future__ import annotations

from pathlib import Path

from qss_offline.data.environments import env_id_of_file
from qss_offline.data.load import LoadedDataset
from qss_offline.errors import UserError
from qss_offline.files import path_of
from qss_offline.runs.folder import RunFolder, free_folder

IF_EXISTS = ("error", "resume", "new")


def recording_name(dataset_id: str) -> str:
    """Return a dataset's id as a part of a folder's name: without namespace and kind."""
    name = dataset_id.partition("/")[2] or dataset_id
    for kind in ("-obs", "-act"):
        before, found, version = name.rpartition(f"{kind}-v")
        if found and version.isdigit():
            name = before
    return name.replace("/", "-")


def run_folder(name: str, out: str | Path | None, if_exists: str) -> tuple[RunFolder, bool]:
    """Return the folder of a run, and whether there is a run to go on with.

    Args:
        name: of the folder in `runs/`, unless `out` names one.
        out: the folder.
        if_exists: one of `IF_EXISTS`, where there is a run: refuse it, go on with it, or take
            another folder beside it.

    Raises:
        UserError: there is a run and it is refused.
    """
    base = Path("runs") / name if out is None else path_of(out, "out")
    folder = RunFolder(free_folder(base) if if_exists == "new" else base)
    if if_exists == "error":
        folder.check(resume=False)
    return folder, folder.started


def environment_of(dataset: LoadedDataset, named: str | None, offline_only: bool) -> str | None:
    """Return where policies of a recording act: as named, else where it was recorded.

    Args:
        dataset: the recording.
        named: a resolved id.
        offline_only: whether no environment is needed.

    Raises:
        UserError: the recording names an environment that isn't registered here.
    """
    recorded = dataset.info.env_id
    if named is not None or recorded is None:
        return named
    try:
        return env_id_of_file(recorded, dataset.info.dataset_id)
    except UserError:
        if offline_only:
            return None
        raise
