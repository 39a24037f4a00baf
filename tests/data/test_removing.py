"""Datasets are removed by id, and nothing else is."""

import subprocess
import sys
from pathlib import Path

import pytest

from qss_offline.data import (
    StoredDatasets,
    build_dataset,
    list_datasets,
    plan_arrays,
    sample_dataset,
    split_dataset,
)
from qss_offline.data.removing import removable, remove
from qss_offline.errors import UserError
from qss_offline.files import write_json
from tests.data.conftest import make_transitions
from tests.patience import PATIENCE_S
from tests.program import Qss, Terminal

pytestmark = pytest.mark.usefixtures("in_process")


@pytest.fixture
def mine(minari_root: Path) -> tuple[str, str]:
    """A pair of two episodes."""
    stored = plan_arrays(**make_transitions([3, 4]).columns()).store("mine/thing/all")
    assert stored.act_id is not None
    return stored.obs_id, stored.act_id


def ids() -> list[str]:
    return [one.dataset_id for one in list_datasets()]


def content(folder: Path) -> list[str]:
    """What is in a folder, but for the locks of builders."""
    return sorted(str(p.relative_to(folder)) for p in folder.iterdir() if p.name[0] != ".")


def test_what_is_named_goes_and_its_twin_stays(
    mine: tuple[str, str], minari_root: Path, qss: Qss
) -> None:
    obs, act = mine
    size = sum(p.stat().st_size for p in (minari_root / obs).rglob("*") if p.is_file())
    (found,) = removable([obs, obs])
    assert found.size == size > 1000
    said = qss("data rm --yes", obs).out
    assert f"removed {obs}" in said and "freed" in said and act not in said
    assert ids() == [act] and not (minari_root / obs).exists()
    qss("data rm --yes", act)
    assert content(minari_root) == []
    plan_arrays(**make_transitions([3, 4]).columns()).store("mine/thing/all")
    assert ids() == sorted(mine)


def test_a_twin_whose_partner_is_gone_is_not_replaced_unasked(mine: tuple[str, str]) -> None:
    """Whatever writes a recording without actions in the partner's place."""
    obs, act = mine
    alone = {k: v for k, v in make_transitions([5, 6]).columns().items() if k != "actions"}
    stored = plan_arrays(**alone).store("mine/other")
    remove(*removable([obs]))
    base = obs.removesuffix("-obs-v0")
    plans = [
        lambda overwrite: plan_arrays(**alone).store(base, overwrite=overwrite),
        lambda overwrite: sample_dataset(stored.obs_id, base, episodes=1, overwrite=overwrite),
        lambda overwrite: split_dataset(
            stored.obs_id, {"mine/half": 0.5, base: 0.5}, overwrite=overwrite
        ),
    ]
    for make in plans:
        with pytest.raises(UserError, match=f"{act}' exists, and would be taken for the twin"):
            make(False)
        assert ids() == sorted([act, stored.obs_id])
    plans[0](True)
    assert ids() == sorted([obs, stored.obs_id])


def test_nothing_goes_unless_it_is_confirmed(
    mine: tuple[str, str], monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    assert "--yes" in qss.refused("data rm", mine[0])
    for answer, left in (("n", 2), ("", 2), ("y", 1)):
        monkeypatch.setattr(sys, "stdin", Terminal(f"{answer}\n"))
        out, err = qss("data rm", mine[0])
        assert mine[0] in out and ("nothing was removed" in out) == (left == 2)
        assert err == ""
        assert len(ids()) == left


def test_unknown_ids_and_ways_out_are_refused_before_anything_goes(
    mine: tuple[str, str], minari_root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (minari_root / "link").symlink_to(outside)
    (outside / "thing-v0" / "data").mkdir(parents=True)
    for wrong, words in (
        ("mine/thing/al-obs-v0", f"did you mean {mine[0]}"),
        ("../outside/thing-v0", "malformed"),
        (str(outside / "thing-v0"), "malformed"),
        ("link/thing-v0", "leads out of the Minari root"),
        ("mine/thing-v0", "no local dataset"),
        ("mine", "malformed"),
        (".", "malformed"),
    ):
        with pytest.raises(UserError, match=words):
            removable([mine[0], wrong])
    (minari_root / "mine" / "linked-v0").symlink_to(outside / "thing-v0")
    with pytest.raises(UserError):
        removable(["mine/linked-v0"])
    assert set(mine) <= set(ids()) and (outside / "thing-v0").is_dir()


def test_a_half_built_one_can_be_removed_and_links_inside_are_not_followed(
    minari_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    half = minari_root / "me" / "half-v0" / "data"
    half.mkdir(parents=True)
    (half / "away").symlink_to(tmp_path)
    (one,) = removable(["me/half-v0"])
    remove(one)
    assert content(minari_root) == [] and (tmp_path / "kept.txt").read_text() == "mine"
    with pytest.raises(UserError, match="cannot remove"):
        remove(one)


def test_a_namespace_with_anything_in_it_stays(mine: tuple[str, str], minari_root: Path) -> None:
    write_json(minari_root / "mine" / "namespace_metadata.json", {"description": "of the lab"})
    for one in removable(mine):
        remove(one)
    assert content(minari_root) == ["mine"]
    assert content(minari_root / "mine") == ["namespace_metadata.json"]


def test_what_a_killed_one_left_is_gone_with_the_next_and_its_name_is_free(
    mine: tuple[str, str], minari_root: Path
) -> None:
    code = (
        "import os\nfrom qss_offline.data import removing\n"
        "there = removing.shutil.rmtree\n"
        "def killed(path, **how):\n"
        "    os._exit(9) if path.name == 'removed' else there(path, **how)\n"
        f"removing.shutil.rmtree = killed\nremoving.remove(*removing.removable([{mine[0]!r}]))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S).returncode == 9
    assert ids() == [mine[1]]
    assert list((minari_root / ".qss-offline").glob("*/removed"))
    for one in removable(mine[1:]):
        remove(one)
    assert content(minari_root) == []
    left = [p for p in (minari_root / ".qss-offline").iterdir() if p.suffix != ".lock"]
    assert left == []


def test_a_recording_that_was_removed_is_built_again(
    pair: StoredDatasets, small_spec: object
) -> None:
    for one in removable([pair.obs_id, pair.act_id]):
        remove(one)
    again = build_dataset(small_spec, workers=1)  # type: ignore[arg-type]
    assert again.obs_digest == pair.obs_digest
