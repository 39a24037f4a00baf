"""Videos, sheets and their captions; drawing itself is skipped, visibly, where EGL is missing."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qss_offline.analysis import painting
from qss_offline.analysis.painting import DrawingError, paint
from qss_offline.analysis.video import (
    Strip,
    _beside,
    _recorded,
    acting_strip,
    gif_bytes,
    mp4_bytes,
    render_run,
    sheet_bytes,
)
from qss_offline.data.environments import make_env
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.runs.reader import FinishedRun


def recording(lengths: list[int], terminated: list[bool]) -> Transitions:
    """Episodes whose observations count up: 100 · episode + step."""
    rows = [(e, s) for e, length in enumerate(lengths) for s in range(length)]
    values = np.array([[100.0 * e + s] for e, s in rows], np.float32)
    ends = np.array([s == lengths[e] - 1 for e, s in rows])
    falls = np.array([s == lengths[e] - 1 and terminated[e] for e, s in rows])
    return Transitions(
        values, values + 1, np.zeros(len(rows), np.float32), falls, ends & ~falls,
        np.array([e for e, _ in rows]),
    )  # fmt: skip


def test_recorded_episodes_follow_each_other_with_their_last_states() -> None:
    observations, captions = _recorded(recording([2, 3], [True, False]), 10)
    assert observations[:, 0].tolist() == [0, 1, 2, 100, 101, 102, 103, 103, 103, 103, 103]
    assert captions[:7] == (
        "episode 1, step 0",
        "episode 1, step 1",
        "episode 1, step 2: over",
        "episode 2, step 0",
        "episode 2, step 1",
        "episode 2, step 2",
        "episode 2, step 3: cut",
    )
    assert len(captions) == 11
    assert _recorded(recording([2, 3], [True, False]), 3)[0][:, 0].tolist() == [0, 1, 2, 100]


def test_acting_starts_in_the_recorded_state_and_stays_where_it_ended() -> None:
    env = make_env("InvertedPendulum")
    from qss_offline.analysis.poses import pose_map

    poses = pose_map("InvertedPendulum", env)
    first = np.array([0.3, 0.05, 0.1, -0.2], np.float32)
    strip = acting_strip(env, lambda obs: np.full((len(obs), 1), 3.0), poses, first, 30)
    np.testing.assert_allclose(strip.observations[0], first, atol=1e-6)
    end = next(i for i, caption in enumerate(strip.captions) if "over" in caption)
    assert abs(strip.observations[end, 1]) > 0.2 > abs(strip.observations[end - 1, 1])
    assert (strip.observations[end:] == strip.observations[end]).all()


@pytest.fixture
def images() -> list[Image.Image]:
    """Eleven pictures of two strips whose frames brighten step by step."""
    frames = [np.full((96, 128, 3), 10 + 20 * step, np.uint8) for step in range(11)]
    captions = tuple(f"step {step}" for step in range(11))
    strips = [Strip(title, np.zeros((11, 1)), captions) for title in ("one", "two → τ")]
    return [_beside(strips, [frame, 255 - frame], step) for step, frame in enumerate(frames)]


def test_a_gif_holds_every_step_and_loops(images: list[Image.Image]) -> None:
    read = Image.open(io.BytesIO(gif_bytes(images)))
    assert read.n_frames == 11 and read.info["loop"] == 0 and read.width == 480
    read.seek(9)
    panel = np.asarray(read.convert("L"), np.int64)
    middle = panel.shape[0] // 2 + 20
    assert panel[middle, 60] == pytest.approx(190, abs=12)
    assert panel[middle, -60] == pytest.approx(65, abs=12)


def test_a_sheet_shows_every_fifth_step(images: list[Image.Image]) -> None:
    sheet = np.asarray(Image.open(io.BytesIO(sheet_bytes(images, 2))).convert("L"), np.int64)
    tops = (22 + 48, 2 * 22 + 96 + 48)
    for column, step in enumerate((0, 5, 10)):
        for top, value in zip(tops, (10 + 20 * step, 245 - 20 * step), strict=True):
            assert sheet[top, column * 132 + 64] == pytest.approx(value, abs=6)
    assert sheet.shape[1] == 3 * 132 - 4


def test_an_mp4_is_what_browsers_play(images: list[Image.Image], tmp_path: Path) -> None:
    pytest.importorskip("imageio_ffmpeg")
    import imageio.v2 as imageio

    path = tmp_path / "a.mp4"
    path.write_bytes(mp4_bytes(images))
    with imageio.get_reader(path) as reader:
        about = reader.get_meta_data()
        assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p")
        assert about["duration"] == pytest.approx(11 / 12.5, abs=0.1)
        assert sum(1 for _ in reader) == 11


@pytest.mark.usefixtures("drawing")
def test_frames_differ_with_the_pose_and_with_nothing_else() -> None:
    upright, leaning = np.array([0.0, 0.0]), np.array([0.0, 0.8])
    frames = paint("InvertedPendulum-v5", np.array([upright, leaning, upright]))
    assert frames.shape == (3, 192, 256, 3) and frames.dtype == np.uint8
    assert (frames[0] == frames[2]).all()
    # The pole ends in the right half when it leans to the right.
    dark = [np.argwhere(frame[:70].min(axis=-1) < 120)[:, 1] for frame in frames[:2]]
    assert abs(dark[0].mean() - 127.5) < 4
    assert dark[1].mean() > 140


@pytest.mark.usefixtures("drawing")
def test_a_run_is_rendered(trained: FinishedRun) -> None:
    pytest.importorskip("imageio_ffmpeg")
    made = render_run(trained, steps=6, episodes=5)
    assert [path.name for path in made.files] == [
        "plan.mp4", "plan.gif", "plan.png", "dimensions.png", "distances.json",
    ]  # fmt: skip
    assert all(path.parent == trained.folder.path / "render" for path in made.files)
    gif = Image.open(trained.folder.path / "render" / "plan.gif")
    assert gif.n_frames == 7
    numbers = json.loads(made.numbers.read_text())
    assert numbers["seeds"] == 2 and numbers["episodes"] == 5 and len(numbers["mean"]) == 7
    assert numbers["mean"][0] == 0 < numbers["low"][6] <= numbers["mean"][6] <= numbers["high"][6]


def test_what_is_missing_is_named(
    trained: FinishedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(painting.sys, "platform", "linux")
    monkeypatch.setattr(painting.ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with pytest.raises(DrawingError, match="apt-get install libegl1"):
        render_run(trained, tmp_path / "out", steps=2, episodes=2)
    # The numbers need no picture.
    assert (tmp_path / "out" / "distances.json").exists()
    assert not (tmp_path / "out" / "plan.gif").exists()
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    with pytest.raises(DrawingError, match=r"MUJOCO_GL is nonsense.*libegl1"):
        paint("InvertedPendulum-v5", np.zeros((1, 2)))
    with pytest.raises(UserError, match="has no seed 7; its seeds are 0, 1"):
        render_run(trained, tmp_path / "out", seed=7)
