"""One video: recorded behaviour | imagined plan | the policy acting; and what goes with it.

All begin in the first state of the recording. Policies that propose no states, as BCO's, have no
plan. Where the observation doesn't determine what there is to draw, the video shows the policy
acting alone, as the environment's own camera sees it (`render_mode="rgb_array"`). Where it has
none, the dimensions of the state are plotted and nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qss_offline.analysis.camera import Camera, Frames
from qss_offline.analysis.models import observation_std, planner_of, policy_of
from qss_offline.analysis.painting import DrawingError, film_actions, paint
from qss_offline.analysis.planning import Planner, plan_distances
from qss_offline.analysis.poses import NoPoseError, PoseMap, pose_map
from qss_offline.data.environments import env_id_of_file, importable, make_env
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError, shown
from qss_offline.evaluation.episodes import BatchPolicy
from qss_offline.evaluation.policies import Policy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.files import write_bytes, write_json
from qss_offline.parallel.reporting import Notice, ProgressFactory, no_progress, print_notice
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.reader import FinishedRun, OnlineRun
from qss_offline.runs.results import best_seed

FOLDER = "render"
"""Where a run's pictures are, inside its folder."""

SHEET_INTERVAL = 5
_FRAMES_PER_S = 12.5
_TITLE_PX, _HEAD_PX, _GAP_PX = 24, 46, 6
_GIF_WIDTH, _GIF_COLOURS = 480, 128
_SHEET_WIDTH, _SHEET_ROW_PX = 128, 22
_INK, _PAPER, _GREY = (20, 20, 20), (255, 255, 255), (95, 95, 95)


@dataclass(frozen=True)
class Strip:
    """One of the trajectories beside each other, before it is drawn.

    Attributes:
        title: what it is.
        observations: `(T + 1, obs_dim)`.
        captions: a few words under each of its T + 1 frames.
    """

    title: str
    observations: NDArray[Any]
    captions: tuple[str, ...]


@dataclass(frozen=True)
class Rendered:
    """Files that were made; None where there was nothing to draw.

    Attributes:
        numbers: JSON of whose policy is shown and, where there are plans, how far these are from
            the simulator.
        dimensions: PNG of the state's dimensions over the steps.
        mp4: the video.
        gif: the same, small.
        sheet: PNG of every fifth step.
        why_not: why there is no video, or one of the policy acting alone.
    """

    numbers: Path
    dimensions: Path
    mp4: Path | None = None
    gif: Path | None = None
    sheet: Path | None = None
    why_not: str | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Everything that was made."""
        made = (self.mp4, self.gif, self.sheet, self.dimensions, self.numbers)
        return tuple(path for path in made if path is not None)


def picture_name(run: FinishedRun) -> str:
    """What the files of a run's video are called, without an ending: by what they show."""
    return "plan" if run.proposes else "acting"


def numbers_name(run: FinishedRun) -> str:
    """What the file of the numbers that go with the video is called."""
    return "distances.json" if run.proposes else "acting.json"


def render_run(
    run: FinishedRun,
    out: Path | None = None,
    *,
    seed: int | None = None,
    steps: int = 50,
    episodes: int = 20,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> Rendered:
    """Draw what a run recorded, imagined and does, and measure how far the plan holds.

    A policy that proposes no states, as BCO's, has no plan: it is drawn beside the recording.

    Args:
        run: a finished run.
        out: folder for the files; by default `render` in the run's folder.
        seed: whose plan and policy are shown; by default that whose last return is highest.
            Distances are of all seeds.
        steps: of each trajectory.
        episodes: first states of each seed that distances are measured from.
        notice: called with a line for whatever is left out.
        progress: makes a progress display.

    Raises:
        DrawingError: MuJoCo can't draw here; the numbers and the plot of dimensions are made.
        UserError: the run's files or its dataset can't be read.
    """
    _check_counts(steps, episodes)
    shown = best_seed(run.results) if seed is None else seed
    policy = policy_of(run, shown)
    folder = run.folder.path / FOLDER if out is None else out
    env = make_env(run.env_id, time_limit=False)
    try:
        try:
            poses: PoseMap | None = pose_map(run.env_id, env)
            why_not = None
        except NoPoseError as error:
            poses, why_not = None, str(error)
        settle = poses.settle if poses else None
        recorded = recorded_strip(run, steps)
        first = recorded.observations[0]
        if poses is None:
            acting, shots = _act_before_camera(run.env_id, env, policy, first, steps)
        else:
            acting, shots = acting_strip(env, policy, poses, first, steps), None
    finally:
        env.close()
    strips: tuple[Strip, ...] = (recorded, acting)
    numbers: dict[str, Any] = {
        "env_id": run.env_id, "dataset_id": run.dataset_id, "shown_seed": shown,
    }  # fmt: skip
    if run.proposes:
        # Without a map the simulator can't be put into the recording's first state.
        plan = planner_of(run, shown).imagine(acting.observations[:1], steps, settle)[0]
        captions = tuple(f"step {step}" for step in range(steps + 1))
        strips = (recorded, Strip("imagined plan: s → C(s, τ(s))", plan, captions), acting)
        numbers |= _distances(run, steps, episodes, settle)
    if poses is None:
        numbers["acting_alone"] = True
    result = Rendered(folder / numbers_name(run), folder / "dimensions.png", why_not=why_not)
    write_json(result.numbers, numbers)
    _plot_dimensions(strips[1:], result.dimensions)
    name = picture_name(run)
    if poses is not None:
        images = film(run.env_id, poses, strips, progress)
        return _with_pictures(result, name, images, len(strips), notice)
    assert shots is not None
    result = _film_acting(result, acting, shots, progress, notice)
    if result.gif is not None:
        notice(f"the video shows the policy acting alone: {why_not}")
    return result


def render_online(
    run: OnlineRun,
    out: Path | None = None,
    *,
    seed: int | None = None,
    steps: int = 50,
    notice: Notice = print_notice,
    progress: ProgressFactory = no_progress,
) -> Rendered:
    """Draw what the policy of an online run does, from a fresh first state.

    Args:
        run: a finished run, in its folder.
        out: folder for the files; by default `render` in the run's folder.
        seed: whose policy is shown; by default that whose last return is highest.
        steps: of the trajectory.
        notice: called with a line for whatever is left out.
        progress: makes a progress display.

    Raises:
        DrawingError: MuJoCo can't draw here; the numbers and the plot of dimensions are made.
        UserError: the run's files can't be read.
    """
    _check_counts(steps)
    shown = best_seed(run.results) if seed is None else seed
    if shown not in run.seeds:
        there = ", ".join(map(str, run.seeds))
        raise UserError(f"{run.path.parent} holds no seed {shown}; its seeds are {there}")
    policy = load_policy(RunFolder(run.path.parent).seed(shown).policy)
    folder = run.path.parent / FOLDER if out is None else out
    env_id = env_id_of_file(run.env_id, run.path)
    env = make_env(env_id, time_limit=False)
    try:
        acting, shots = _act_before_camera(env_id, env, policy, None, steps)
    finally:
        env.close()
    result = Rendered(folder / "acting.json", folder / "dimensions.png")
    write_json(result.numbers, {"env_id": env_id, "shown_seed": shown, "acting_alone": True})
    _plot_dimensions((acting,), result.dimensions)
    return _film_acting(result, acting, shots, progress, notice)


def _check_counts(steps: int, episodes: int = 2) -> None:
    """Refuse trajectories without a step, and intervals of one episode."""
    for option, count, least in (("--steps", steps, 1), ("--episodes", episodes, 2)):
        if not isinstance(count, int) or count < least:
            raise UserError(
                f"{option} must be a whole number of at least {least}, not {shown(count)}"
            )


def _film_acting(
    result: Rendered, acting: Strip, shots: _Shots, progress: ProgressFactory, notice: Notice
) -> Rendered:
    """Write the pictures of a policy acting alone, or say why there are none."""
    frames = shots(progress)
    if isinstance(frames, str):
        missing = ", and ".join(filter(None, (result.why_not, frames)))
        notice(f"no video: {missing}; the state's dimensions are in {result.dimensions}")
        return replace(result, why_not=missing)
    images = [_beside((acting,), [frame], step) for step, frame in enumerate(frames)]
    return _with_pictures(result, "acting", images, 1, notice)


def _with_pictures(
    result: Rendered, name: str, images: Sequence[Frames], strips: int, notice: Notice
) -> Rendered:
    """Write a film as MP4, GIF and a sheet."""
    folder = result.numbers.parent
    mp4, gif, sheet = (folder / f"{name}.{ending}" for ending in ("mp4", "gif", "png"))
    write_bytes(gif, gif_bytes(images))
    write_bytes(sheet, sheet_bytes(images, strips))
    result = replace(result, gif=gif, sheet=sheet)
    try:
        encoded = mp4_bytes(images)
    except DrawingError as error:
        notice(f"no MP4 beside {gif}: {error}")
        return result
    write_bytes(mp4, encoded)
    return replace(result, mp4=mp4)


_Shots = Callable[[ProgressFactory], Frames | str]
"""Makes frames of an episode, or says in a few words why there are none."""

_NO_MODE = "it can't be drawn, since it takes no render_mode"


def _act_before_camera(
    env_id: str, env: Any, policy: BatchPolicy, first: NDArray[Any] | None, steps: int
) -> tuple[Strip, _Shots]:
    """Let the policy act from a fresh first state; the film is made after the numbers.

    MuJoCo's pictures are made in a child process, where the same actions lead to the same states; a
    graphics driver that crashes takes nothing else with it.
    """
    try:
        own = make_env(env_id, render_mode="rgb_array", time_limit=False)
    except UserError as error:
        # `env` could be made: it is the mode that isn't taken.
        reason = _NO_MODE if "argument 'render_mode'" in str(error) else str(error)
        return acting_strip(env, policy, None, first, steps), lambda progress: reason
    if hasattr(env.unwrapped, "mujoco_renderer") and importable(env_id):
        own.close()
        watched: list[NDArray[Any] | None] = []
        strip = acting_strip(env, policy, None, first, steps, watched.append)
        actions = watched[1:]

        def film_again(progress: ProgressFactory) -> Frames:
            with progress("drawing", len(actions) + 1, "frames") as report:
                frames = film_actions(env_id, np.array(actions), report)
            held = np.repeat(frames[-1:], steps + 1 - len(frames), axis=0)
            return np.concatenate((frames, held))

        return strip, film_again
    camera = Camera(own)
    try:
        strip = acting_strip(own, policy, None, first, steps, lambda action: camera.shoot())
    finally:
        own.close()
    return strip, lambda progress: camera.why_not or camera.film(steps + 1)


def _plot_dimensions(strips: Sequence[Strip], path: Path) -> None:
    """Plot the dimensions of the strips."""
    from qss_offline.analysis.plots.report import dimensions_figure
    from qss_offline.analysis.plots.style import to_png

    shown = [(strip.title, strip.observations) for strip in strips]
    write_bytes(path, to_png(dimensions_figure(shown)))


def _distances(
    run: FinishedRun, steps: int, episodes: int, settle: Callable[..., Any] | None
) -> dict[str, Any]:
    """Measure how far the plans of all seeds are from the simulator."""
    pairs: list[tuple[Planner, BatchPolicy]] = [
        (planner_of(run, seed), policy_of(run, seed)) for seed in run.seeds
    ]
    measured = plan_distances(
        pairs,
        run.env_id,
        observation_std(run),
        steps=steps,
        episodes=episodes,
        settle=settle,
    )
    return {key: _plain(value) for key, value in asdict(measured).items()}


def _plain(value: Any) -> Any:
    """Return what JSON can hold; a bound of one episode is NaN."""
    if isinstance(value, tuple):
        return [None if np.isnan(one) else one for one in value]
    return value


def recorded_strip(run: FinishedRun, steps: int) -> Strip:
    """Return the first steps of the recording, episode after episode.

    Raises:
        UserError: the dataset isn't here.
    """
    probability = run.dataset.info.random_action_prob
    behaviour = {None: "behaviour", 1.0: "random behaviour", 0.0: "expert"}.get(
        probability, f"{100 * (probability or 0):g}% random behaviour"
    )
    observations, captions = _recorded(run.dataset.transitions, steps)
    return Strip(f"recorded: {behaviour}", observations, captions)


def _recorded(transitions: Transitions, steps: int) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Unroll episodes one behind the other, each with its last observation."""
    frames: list[NDArray[Any]] = []
    captions: list[str] = []
    starts = transitions.episode_starts()
    for number, start in enumerate(starts):
        end = int(starts[number + 1]) if number + 1 < len(starts) else len(transitions)
        for row in range(start, end):
            frames.append(transitions.observations[row])
            captions.append(f"episode {number + 1}, step {row - start}")
        word = "over" if transitions.terminations[end - 1] else "cut"
        frames.append(transitions.next_observations[end - 1])
        captions.append(f"episode {number + 1}, step {end - start}: {word}")
        if len(frames) > steps:
            break
    # A recording shorter than the video stays where it ended.
    frames += [frames[-1]] * (steps + 1 - len(frames))
    captions += [captions[-1]] * (steps + 1 - len(captions))
    return np.array(frames[: steps + 1]), tuple(captions[: steps + 1])


def acting_strip(
    env: Any,
    policy: BatchPolicy,
    poses: PoseMap | None,
    first: NDArray[Any] | None,
    steps: int,
    watch: Callable[[NDArray[Any] | None], None] = lambda action: None,
) -> Strip:
    """Let the policy act from a recorded first state, or from a fresh one without a map.

    Args:
        env: the environment, without its time limit.
        policy: acts.
        poses: puts the simulator into the first state.
        first: `(obs_dim,)` the first recorded observation, which `poses` need.
        steps: how many.
        watch: called in the first state with None, and after each step with its action.
    """
    obs, _ = env.reset(seed=0)
    if poses is not None and first is not None:
        start = poses.poses(first[None])
        env.unwrapped.set_state(start.qpos[0], start.qvel[0])
        obs = env.unwrapped._get_obs()
    watch(None)
    observations, captions, ended = [np.array(obs)], ["step 0"], False
    for step in range(1, steps + 1):
        if not ended:
            action = policy(np.asarray(obs)[None])[0]
            obs, _, terminated, truncated, _ = env.step(action)
            watch(action)
            ended = terminated or truncated
            caption = f"step {step}" + (": over" if ended else "")
        observations.append(np.array(obs))
        captions.append(caption)
    title = "acting: π(s) = I(s, s + τ(s))" if isinstance(policy, Policy) else "acting: π(s)"
    return Strip(title, np.array(observations), tuple(captions))


# --- pictures -------------------------------------------------------------------------------


def film(
    env_id: str,
    poses: PoseMap,
    strips: Sequence[Strip],
    progress: ProgressFactory = no_progress,
) -> list[Any]:
    """Draw strips side by side, one picture for each step.

    Raises:
        DrawingError: MuJoCo can't draw here.
    """
    qpos = [poses.poses(strip.observations).qpos for strip in strips]
    with progress("drawing", sum(map(len, qpos)), "frames") as report:
        frames = paint(env_id, np.concatenate(qpos), report)
    columns = np.split(frames, len(strips))
    return [
        _beside(strips, [column[step] for column in columns], step)
        for step in range(len(columns[0]))
    ]


def _beside(strips: Sequence[Strip], frames: Sequence[Frames], step: int) -> Any:
    """Put one frame of each strip on paper, with its title and caption above."""
    from PIL import Image, ImageDraw

    height, width = frames[0].shape[:2]
    page = Image.new(
        "RGB",
        (len(frames) * (width + _GAP_PX) - _GAP_PX, height + _HEAD_PX),
        _PAPER,
    )
    draw = ImageDraw.Draw(page)
    for index, (strip, frame) in enumerate(zip(strips, frames, strict=True)):
        left = index * (width + _GAP_PX)
        page.paste(Image.fromarray(frame), (left, _HEAD_PX))
        draw.text((left + 4, 3), strip.title, _INK, font=_font(15))
        draw.text((left + 4, _TITLE_PX), strip.captions[step], _GREY, font=_font(13))
    return page


def _font(size: int) -> Any:
    """Return DejaVu Sans, which has τ and → and comes with matplotlib."""
    from matplotlib import font_manager
    from PIL import ImageFont

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _video_writer() -> Any:
    try:
        import imageio.v2 as imageio
        import imageio_ffmpeg  # noqa: F401
    except ImportError as error:
        raise DrawingError(
            "MP4 needs the package imageio-ffmpeg: pip install 'qss-offline[video]'"
        ) from error
    return imageio.get_writer


def mp4_bytes(images: Sequence[Any]) -> bytes:
    """Return the pictures as an H.264 video that browsers play.

    Raises:
        DrawingError: the package that encodes it isn't installed.
    """
    content = io.BytesIO()
    with _video_writer()(
        content,
        format="mp4",
        fps=_FRAMES_PER_S,
        codec="libx264",
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=["-crf", "26", "-pix_fmt", "yuv420p", "-movflags", "+faststart"],
    ) as writer:
        for image in images:
            writer.append_data(np.asarray(image))
    return content.getvalue()


def gif_bytes(images: Sequence[Any]) -> bytes:
    """Return the pictures as a small GIF that loops."""
    from PIL import Image

    first = images[0]
    size = (_GIF_WIDTH, round(first.height * _GIF_WIDTH / first.width))
    small = [image.resize(size, Image.Resampling.LANCZOS) for image in images]
    # One palette for all frames: what doesn't move then costs nothing.
    wall = Image.new("RGB", (size[0], size[1] * 3))
    for row, image in enumerate((small[0], small[len(small) // 2], small[-1])):
        wall.paste(image, (0, row * size[1]))
    palette = wall.quantize(_GIF_COLOURS)
    frames = [image.quantize(palette=palette, dither=Image.Dither.NONE) for image in small]
    content = io.BytesIO()
    frames[0].save(
        content,
        format="GIF",
        save_all=True,
        append_images=frames[1:],
        duration=round(1000 / _FRAMES_PER_S),
        loop=0,
        optimize=False,
    )
    return content.getvalue()


def sheet_bytes(images: Sequence[Any], strips: int) -> bytes:
    """Return a PNG of every fifth step: a row for each strip, a column for each step shown.

    Every frame has its caption below, since a strip may run through several episodes.
    """
    from PIL import Image

    chosen = range(0, len(images), SHEET_INTERVAL)
    panel = (images[0].width + _GAP_PX) // strips
    body = images[0].height - _HEAD_PX
    height = round(body * _SHEET_WIDTH / (panel - _GAP_PX))
    row_height = height + 2 * _SHEET_ROW_PX
    page = Image.new("RGB", (len(chosen) * (_SHEET_WIDTH + 4) - 4, strips * row_height), _PAPER)
    for row in range(strips):
        begin, top = row * panel, row * row_height
        end = begin + panel - _GAP_PX
        page.paste(images[0].crop((begin, 0, end, _SHEET_ROW_PX)), (0, top))
        for column, step in enumerate(chosen):
            at = column * (_SHEET_WIDTH + 4), top + _SHEET_ROW_PX
            part = images[step].crop((begin, _HEAD_PX, end, _HEAD_PX + body))
            page.paste(part.resize((_SHEET_WIDTH, height)), at)
            caption = (begin, _TITLE_PX, min(end, begin + _SHEET_WIDTH), _HEAD_PX)
            page.paste(images[step].crop(caption), (at[0], at[1] + height))
    content = io.BytesIO()
    page.quantize(128).save(content, format="PNG", optimize=True)
    return content.getvalue()
