"""Names of datasets that would hide others or lead elsewhere."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from qss_offline.data import list_datasets, plan_arrays, pull_dataset
from tests.hostile.conftest import TRUTH, refused
from tests.program import Qss

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.mark.parametrize(
    "name",
    [
        *("data/data/data", "me/data/x", "data/x", "--x/y", "me/-x", "-me/x", "../x/y", "me/x/.."),
        *("/x/y", "me//x", "me/x y", "me/\x1b[1m", "me/x\n", "me/x-v0", "x", "", "me/é"),
    ],
)
@pytest.mark.usefixtures("in_process")
def test_names_that_are_refused(minari_root: Path, name: str, qss: Qss, tmp_path: Path) -> None:
    given = dict(TRUTH.columns())
    assert "dataset id" in (refused(plan_arrays(**given).store, name) or "")
    np.savez(tmp_path / "recording.npz", **given)
    qss.refused("data import", tmp_path / "recording.npz", f"--into={name}")
    if not name.startswith("-"):
        assert refused(pull_dataset, f"{name}-obs-v0", str(tmp_path))
    assert not any(path.is_dir() and path.name[0] != "." for path in minari_root.iterdir())


def test_a_folder_named_data_hides_nothing(ours: Path, minari_root: Path) -> None:
    shutil.copytree(minari_root / "mine", minari_root / "data" / "data" / "mine")
    shutil.copytree(minari_root / "mine" / "thing", minari_root / "mine" / "data")
    (minari_root / "half" / "built-v0" / "data").mkdir(parents=True)
    (minari_root / "data" / "metadata.json").write_text("{}")
    found = {one.dataset_id: one.problem for one in list_datasets()}
    assert {name for name, problem in found.items() if problem is None} == {
        f"mine/thing/ours-{kind}-v0" for kind in ("obs", "act")
    }
    assert set(found) >= {"mine/data/ours-obs-v0", "data/data/mine/thing/ours-act-v0"}
    assert "half-built" in (found["half/built-v0"] or "")


def test_a_dataset_inside_another_is_refused(ours: Path) -> None:
    message = refused(plan_arrays(**TRUTH.columns()).store, "mine/thing/ours-obs-v0/inner")
    assert message and "is a dataset" in message
