"""Recordings from arrays, files and environments."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import qss_offline as qss
from qss_offline import UserError
from qss_offline.api import recording
from qss_offline.data.local import local_dataset_ids

pytestmark = pytest.mark.usefixtures("in_process")


def arrays(rows: int = 30) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    states = rng.normal(size=(rows // 10, 11, 3)).astype(np.float32)
    ends = np.arange(rows) % 10 == 9
    return {
        "observations": states[:, :-1].reshape(-1, 3),
        "next_observations": states[:, 1:].reshape(-1, 3),
        "rewards": rng.normal(size=rows).astype(np.float32),
        "terminations": ends,
        "actions": rng.uniform(-1, 1, size=(rows, 2)).astype(np.float32),
    }


def test_arrays_come_back_as_they_were(minari_root: Path) -> None:
    given = arrays()
    made = qss.Recording.from_arrays(**given, progress=False)
    assert made.dataset_id.startswith("local/recording-")
    assert made.env_id is None and not made.has_actions and len(made) == 30
    for name in ("observations", "next_observations", "rewards", "terminations"):
        np.testing.assert_array_equal(getattr(made.transitions, name), given[name])
    twin = made.with_actions()
    assert twin.has_actions
    np.testing.assert_array_equal(twin.transitions.actions, given["actions"])
    summary = made.summary()
    assert (summary.transitions, summary.episodes, summary.terminated) == (30, 3, 1.0)
    assert len(made.plot().axes) == 3
    assert made.dataset_id in repr(made)


def test_the_same_arrays_are_the_same_recording_and_others_are_not(minari_root: Path) -> None:
    given = arrays()
    first = qss.Recording.from_arrays(**given, progress=False)
    assert qss.Recording.from_arrays(**given, progress=False).dataset_id == first.dataset_id
    changed = {**given, "rewards": given["rewards"] + 1}
    assert qss.Recording.from_arrays(**changed, progress=False).dataset_id != first.dataset_id
    named = qss.Recording.from_arrays(**given, name="mine/arm", progress=False)
    assert named.dataset_id == "mine/arm-obs-v0"
    with pytest.raises(UserError, match="mine/arm"):
        qss.Recording.from_arrays(**given, name="mine/arm", progress=False)
    qss.Recording.from_arrays(**changed, name="mine/arm", overwrite=True, progress=False)


def test_another_process_may_store_the_same_meanwhile(
    minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = qss.Recording.from_arrays(**arrays(), progress=False)
    known = iter([[], [first.dataset_id]])
    monkeypatch.setattr(recording, "local_dataset_ids", lambda: next(known))
    again = qss.Recording.from_arrays(**arrays(), progress=False)
    assert again.dataset_id == first.dataset_id


def test_a_namespace_may_lie_elsewhere(minari_root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk" / "round").mkdir(parents=True)
    (minari_root / "local").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "round" / "again").symlink_to(minari_root)
    first = qss.Recording.from_arrays(**arrays(), progress=False)
    assert local_dataset_ids() == sorted([first.dataset_id, first.with_actions().dataset_id])
    again = qss.Recording.from_arrays(**arrays(), progress=False)
    assert again.dataset_id == first.dataset_id


def test_only_the_end_of_an_id_tells_a_twin(minari_root: Path) -> None:
    name = "lab/full-obs-velocity-obs-v0-x"
    made = qss.Recording.from_arrays(**arrays(), name=name, progress=False)
    assert made.with_actions().dataset_id == f"{name}-act-v0"


def test_what_is_missing_tells_recordings_from_each_other(minari_root: Path) -> None:
    """Under a mask, or as a rule leaves it out: the arrays' bytes are the same."""
    given, drop = arrays(), qss.ImportRules(missing="drop-step")
    masks = [np.zeros((30, 3), np.bool_) for _ in range(2)]
    masks[0][2, 0] = masks[1][2, 0] = masks[1][5, 1] = True
    made = []
    for mask in masks:
        masked = given | {"observations": np.ma.masked_array(given["observations"], mask)}
        made.append(qss.Recording.from_arrays(**masked, rules=drop, progress=False))
    assert [len(one) for one in made] == [29, 28]
    assert made[0].dataset_id != made[1].dataset_id
    ignored = qss.ImportRules(ignore=("observations[1]",))
    assert (
        qss.Recording.from_arrays(**given, rules=ignored, progress=False).transitions.obs_dim == 2
    )
    assert qss.Recording.from_arrays(**given, progress=False).transitions.obs_dim == 3


@pytest.mark.parametrize("kind", ["list", "tensor", "bfloat16", "tuple", "dict", "series"])
def test_arrays_of_any_kind_are_recordings(kind: str, minari_root: Path) -> None:
    """Whatever the importer reads has a name, too, and the same one each time."""
    import torch

    held = {name: column for name, column in arrays().items() if name != "next_observations"}
    x = held["observations"]
    nested = {"tuple": (x, x[:, :2]), "dict": {"b": x, "a": {"c": x[:, :2]}}}
    tensor = torch.tensor(x, requires_grad=kind == "tensor")
    given = nested.get(kind, tensor.bfloat16() if kind == "bfloat16" else tensor)
    names = set()
    for _ in range(2):
        if kind in ("list", "series"):
            column = pa.array(x.tolist()) if kind == "list" else pa.array(x[:, 0])
            frame = pa.table({"obs": column, "reward": held["rewards"]}).append_column(
                "done", pa.array(held["terminations"])
            )
            made = qss.Recording.from_frame(frame, progress=False)
        else:
            made = qss.Recording.from_arrays(**held | {"observations": given}, progress=False)
        names.add(made.dataset_id)
        assert len(made) == 27
    assert len(names) == 1


@pytest.mark.parametrize("name", ["", "arm", "me/x-obs-v0", "../me/x"])
def test_a_bad_name_is_refused_before_anything_is_read(name: str, minari_root: Path) -> None:
    with pytest.raises(UserError, match=r"namespace/\.\.\./name"):
        qss.Recording.from_file("nothere.csv", name=name)


def test_arguments_of_no_environment_are_refused(minari_root: Path) -> None:
    with pytest.raises(UserError, match="name it with env"):
        qss.Recording.from_file("nothere.csv", env_kwargs={"max_episode_steps": 20})


def test_a_csv_file_is_a_recording(minari_root: Path, tmp_path: Path) -> None:
    given = arrays()
    path = tmp_path / "my log.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*(f"obs_{i}" for i in range(3)), "reward", "terminated"])
        for row in range(30):
            writer.writerow(
                [*given["observations"][row], given["rewards"][row], given["terminations"][row]]
            )
    for source in (path, str(path)):
        made = qss.Recording.from_csv(source, progress=False)
        assert made.dataset_id.startswith("local/my-log-")
        # Without next observations the last row of an episode leads nowhere.
        assert len(made) == 27
    with pytest.raises(UserError, match="does not exist"):
        qss.Recording.from_csv(tmp_path / "none.csv")


def test_a_recording_that_is_not_here_is_refused(minari_root: Path) -> None:
    with pytest.raises(UserError, match="nobody/nothing-v0"):
        qss.Recording.from_minari("nobody/nothing-v0")


def test_behaviour_is_recorded_once(minari_root: Path) -> None:
    first = qss.Recording.from_env("Reacher", steps=200, progress=False)
    stamp = {path: path.stat().st_mtime_ns for path in minari_root.rglob("*") if path.is_file()}
    again = qss.Recording.from_env("Reacher", steps=200, progress=False)
    assert again.dataset_id == first.dataset_id
    assert stamp == {p: p.stat().st_mtime_ns for p in minari_root.rglob("*") if p.is_file()}
