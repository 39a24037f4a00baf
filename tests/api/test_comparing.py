"""Runs side by side, and what `load` opens."""

from pathlib import Path

import pytest

import qss_offline as qss
from qss_offline import UserError
from tests.api.conftest import SMALL


@pytest.mark.usefixtures("undrawn")
def test_runs_are_compared_by_the_names_that_they_are_given(
    run: qss.Run, recording: qss.Recording, tmp_path: Path
) -> None:
    asked = {**SMALL, "updates": 30, "method": "bco"}
    bco = qss.train(recording, out=tmp_path / "bco", **asked)
    compared = qss.compare({"ours": run, "BCO": str(bco.path)})
    rows = compared.rows()
    assert [(row["name"], row["seed"]) for row in rows] == [("ours", 0), ("ours", 1), ("BCO", 0)]
    assert [row["last"] for row in rows[:2]] == [one.last for one in run.summary().seeds]
    header, lines = compared.table()
    assert [line[0] for line in lines] == ["ours", "BCO"]
    assert len(header) == len(lines[0])
    assert "ours" in str(compared)
    assert compared.notes() == []
    assert len(compared.plot().axes) == 1
    page = compared.report(tmp_path / "page", video=False)
    assert "ours: " in page.read_text() and "BCO: " in page.read_text()


def test_runs_on_different_recordings_are_said_not_to_compare(run: qss.Run, tmp_path: Path) -> None:
    other = qss.Recording.from_env("InvertedPendulum", steps=400, progress=False)
    second = qss.train(other, out=tmp_path / "other", **SMALL)
    (note,) = qss.compare({"first": run, "second": second}).notes()
    assert "different recordings" in note


def test_what_is_no_run_is_refused(run: qss.Run) -> None:
    with pytest.raises(UserError, match="needs runs by name"):
        qss.compare({})
    with pytest.raises(UserError, match="needs runs by name"):
        qss.compare([run])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="is a policy, not the folder of a run"):
        qss.compare({"x": run.path / "seeds" / "0" / "policy.safetensors"})


def test_load_opens_runs_and_policies(run: qss.Run, tmp_path: Path) -> None:
    assert isinstance(qss.load(run.path), qss.Run)
    assert isinstance(qss.load(str(run.path)), qss.Run)
    policy = qss.load(run.path / "seeds" / "0" / "policy.safetensors")
    assert callable(policy)
    with pytest.raises(UserError, match="does not exist"):
        qss.load(tmp_path / "none")
    with pytest.raises(UserError, match="holds no run"):
        qss.load(tmp_path)
