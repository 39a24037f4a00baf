"""Whatever draws itself is filmed acting; what doesn't has its dimensions plotted."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
from PIL import Image

import qss_offline as qss
from qss_offline.analysis import video as rendering
from qss_offline.analysis.camera import FILM_HEIGHT, FILM_WIDTH, Camera, framed
from qss_offline.analysis.poses import NoPoseError
from qss_offline.analysis.video import Rendered, render_run
from qss_offline.data import DatasetSpec, build_dataset
from qss_offline.data.environments import resolve_env_id
from qss_offline.launch.local import LocalLauncher
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.reader import FinishedRun, load_run
from qss_offline.training.runner import run
from tests.own_env import write_own

from .conftest import PRESET


def filmed(env_id: str, tmp_path: Path, told: list[str]) -> Rendered:
    spec = DatasetSpec(resolve_env_id(env_id), transitions=200, shards=1)
    dataset = build_dataset(spec, workers=1).obs_id
    small = PRESET.spend(20, 50, 1)
    asked = RunConfig("d3g", spec.env_id, dataset, (0,), "small", small, evaluation_episodes=1)
    run(asked, RunFolder(tmp_path / "run"), launcher=LocalLauncher(1))
    return render_run(load_run(tmp_path / "run"), steps=6, episodes=2, notice=told.append)


def test_an_environment_of_ones_own_is_filmed_acting(tmp_path: Path, minari_root: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    path = write_own(tmp_path)
    told: list[str] = []
    made = filmed(f"{path}:Cart?gain=3&max_episode_steps=5", tmp_path, told)
    assert [file.suffix for file in made.files] == [".mp4", ".gif", ".png", ".png", ".json"]
    assert len(told) == 1 and "the policy acting alone" in told[0]
    assert json.loads(made.numbers.read_text())["acting_alone"] is True
    assert made.gif is not None
    gif = Image.open(made.gif)
    assert gif.n_frames == 7
    # A black line on white, between margins.
    middle = np.asarray(gif.convert("L"))[gif.height // 2]
    assert middle.min() < 60 and np.median(middle) > 200


POLE = """
from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv


class Pole(InvertedPendulumEnv):
    def __init__(self):
        super().__init__()
"""


@pytest.mark.parametrize(
    ("name", "why"), [("Blind", "is no MuJoCo environment"), ("Pole", "no map from observations")]
)
def test_without_a_picture_the_dimensions_are_plotted(
    tmp_path: Path, minari_root: Path, name: str, why: str
) -> None:
    path = write_own(tmp_path)
    if name == "Pole":
        path.write_text(POLE)
    told: list[str] = []
    made = filmed(f"{path}:{name}?max_episode_steps=5", tmp_path, told)
    assert [file.suffix for file in made.files] == [".png", ".json"]
    (said,) = told
    said, _, place = said.partition("; the state's dimensions are in ")
    assert said.startswith("no video: ") and f"own.py:{name}" in said and why in said
    assert said.endswith(", and it can't be drawn, since it takes no render_mode")
    assert place == str(made.dimensions) and str(tmp_path) not in said


@pytest.mark.usefixtures("drawing")
def test_mujoco_without_a_pose_acts_again_in_a_child(
    trained: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")

    def none(env_id: str, env: object) -> None:
        raise NoPoseError(f"{env_id} is unheard of")

    monkeypatch.setattr(rendering, "pose_map", none)
    told: list[str] = []
    made = render_run(trained, tmp_path / "out", steps=4, episodes=2, notice=told.append)
    assert told == ["the video shows the policy acting alone: InvertedPendulum-v5 is unheard of"]
    assert made.gif is not None and Image.open(made.gif).n_frames == 5
    assert made.sheet is not None and made.mp4 is not None


@pytest.mark.usefixtures("drawing")
def test_an_online_run_is_drawn_acting_and_its_report_shows_it(tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    run = qss.train_online(
        "InvertedPendulum", steps=40, warm_up=20, evaluate_every=20, episodes=1,
        changes={"model_updates": 5}, out=tmp_path / "online", progress=False,
    )  # fmt: skip
    made = run.render(steps=4)
    assert made.gif is not None and Image.open(made.gif).n_frames == 5
    assert made.sheet is not None and made.mp4 is not None and made.dimensions.exists()
    assert "<video" in run.report().read_text()
    with pytest.raises(qss.UserError, match="no seed 3; its seeds are 0"):
        run.render(seed=3)


class Drawn(gymnasium.Env[np.ndarray, np.ndarray]):
    def __init__(self, *pictures: object) -> None:
        self.pictures = list(pictures)

    def render(self) -> object:  # type: ignore[override]
        picture = self.pictures.pop(0)
        if isinstance(picture, Exception):
            raise picture
        return picture


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (None, "returns nothing"),
        ("ansi", "returns an array of shape ()"),
        (np.zeros((4, 4)), r"of shape (4, 4)"),
        (np.zeros((0, 4, 3)), "of shape (0, 4, 3)"),
        (ImportError("pygame\nis missing"), "can't be drawn: pygame is missing"),
    ],
)
def test_what_is_no_picture_ends_the_film(picture: object, words: str) -> None:
    good = np.zeros((4, 6, 3), np.uint8)
    camera = Camera(Drawn(good, picture, good))
    for _ in range(3):
        camera.shoot()
    assert camera.why_not is not None and words in camera.why_not
    assert len(camera.frames) == 1


def test_pictures_of_any_shape_fit_a_frame() -> None:
    for shape in ((100, 400, 3), (400, 100, 4), (1, 1, 3), (384, 512, 3)):
        frame = framed(np.zeros(shape)[:, :, :3])
        assert frame.shape == (FILM_HEIGHT, FILM_WIDTH, 3) and frame.dtype == np.uint8
        assert frame[FILM_HEIGHT // 2, FILM_WIDTH // 2].max() == 0
    assert framed(np.full((4, 4, 3), 300.0)).max() == 255


def test_without_the_encoder_there_is_still_a_film(
    tmp_path: Path, minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MP4 needs an extra; GIF and contact sheet don't."""
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    path = write_own(tmp_path)
    told: list[str] = []
    made = filmed(f"{path}:Cart?gain=3&max_episode_steps=5", tmp_path, told)
    assert [file.suffix for file in made.files] == [".gif", ".png", ".png", ".json"]
    assert all(file.exists() for file in made.files)
    assert any("no MP4" in line and "qss-offline[video]" in line for line in told)
