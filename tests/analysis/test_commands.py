"""`qss render`, `report` and `doctor`, and the recipe's flags."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from qss_offline import presets
from qss_offline.analysis import video as rendering
from qss_offline.analysis.painting import DrawingError
from qss_offline.analysis.plots import style
from qss_offline.analysis.video import Rendered
from qss_offline.cli import doctor
from qss_offline.cli.doctor import examine
from qss_offline.cli.training import random_obs
from qss_offline.runs.reader import FinishedRun
from tests.analysis.conftest import PRESET
from tests.program import Qss


def test_commands_name_what_they_made(
    trained: FinishedRun, monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    run = trained.folder.path
    asked = {}

    def rendered(found: FinishedRun, out: Path | None, **options: object) -> Rendered:
        asked.update(options, out=out, run=found.name)
        return Rendered(Path("d.json"), Path("d.png"))

    monkeypatch.setattr(rendering, "render_run", rendered)
    monkeypatch.setattr(style, "to_png", lambda figure: b"")
    monkeypatch.setattr(style, "to_svg", lambda figure: b"")
    assert qss("render --seed 1 --steps 7 --out o", run).out == "made d.png\nmade d.json\n"
    assert (asked["seed"], asked["steps"], asked["out"]) == (1, 7, Path("o"))
    page = run / "report" / "report.html"
    assert qss("report --no-video", run).out == f"made {page}\n" and page.is_file()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("render none", "none does not exist; give a run folder"),
        ("render RUN --seed 9", "has no seed 9; its seeds are 0, 1"),
        ("render RUN --steps 0", "--steps must be a whole number of at least 1"),
        ("report none", "none does not exist"),
        ("report RUN none.csv", "none.csv does not exist"),
        ("report", "RUN"),
    ],
)
def test_bad_input_is_one_line_and_code_2(
    trained: FinishedRun, qss: Qss, line: str, words: str
) -> None:
    assert words in qss.refused(line.replace("RUN", str(trained.folder.path)))


def test_the_doctor_sees_what_is_missing(
    minari_root: Path, monkeypatch: pytest.MonkeyPatch, qss: Qss
) -> None:
    def broken() -> None:
        raise DrawingError("no EGL: apt-get install libegl1")

    checks = {check.name: check for check in examine(broken)}
    assert checks["drawing (EGL)"].ok is False
    assert "libegl1" in checks["drawing (EGL)"].found
    assert checks["Minari root"].ok and str(minari_root) in checks["Minari root"].found
    assert checks["MuJoCo"].ok and checks["disk"].found.count("GB free") >= 1
    assert "torch" in checks["versions"].found and "cores" in checks["threads"].found
    monkeypatch.setattr(doctor, "find_spec", lambda package: None)
    checks = {check.name: check for check in examine(lambda: None)}
    assert checks["drawing (EGL)"].ok
    assert "qss-offline[video]" in checks["imageio_ffmpeg"].found

    monkeypatch.setattr(doctor, "examine", lambda: examine(broken))
    assert "libegl1" in qss("doctor").out
    # A folder that can't be made leaves nothing to work with.
    monkeypatch.setenv("MINARI_DATASETS_PATH", "/proc/none/minari")
    said = qss("doctor", code=2)
    assert "versions" in said.out and said.err.startswith("error: Minari root: ")


@pytest.mark.parametrize(
    ("cuda", "warning", "words"),
    [
        (None, None, ["built for CPUs"]),
        ("13.0", None, ["CUDA 13.0", "torch==9.9.1+cpu --index-url"]),
        ("13.0", "The NVIDIA driver\n is too old", ["driver is too old", "torch==9.9.1+cpu"]),
    ],
)
def test_the_doctor_says_which_torch_it_is(
    cuda: str | None,
    warning: str | None,
    words: list[str],
    minari_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def available() -> bool:
        if warning is not None:
            warnings.warn(warning, stacklevel=1)
        return False

    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch, "__version__", "9.9.1+cu130")
    monkeypatch.setattr(torch.cuda, "is_available", available)
    device = {check.name: check for check in examine(lambda: None)}["device"]
    assert all(text in device.found for text in words)
    assert ("--index-url" in device.found) == (cuda is not None)
    assert device.ok is (None if warning is None else False)


def test_the_recipe_writes_tensorboard_and_says_why_a_run_failed(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("tensorboard")
    monkeypatch.setitem(presets.PRESETS, "default", {"d3g": PRESET})
    out = tmp_path / "run"
    options: dict[str, Any] = {"transitions": 1000, "out": out, "tensorboard": True}
    random_obs(**options, online_steps=60, online_rounds=1, episodes=2)
    printed = capsys.readouterr().out
    assert "The seed did not learn: last returns below " in printed
    assert "give more --updates" in printed
    assert f"qss report {out}" in printed
    assert len(list((out / "tensorboard" / "seed-0").iterdir())) == 1
    rows = (out / "seeds" / "0" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["update"] for row in rows] == [1000]


def test_a_video_that_cannot_be_made_is_refused_before_anything_is_done(
    minari_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise DrawingError("no EGL")

    monkeypatch.setattr("qss_offline.analysis.painting.require_drawing", broken)
    with pytest.raises(DrawingError):
        random_obs(video=True, out=tmp_path / "run")
    assert not any(minari_root.iterdir()) and not (tmp_path / "run").exists()
