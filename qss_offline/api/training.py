"""Training from Python, and from the commands, which call these functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from qss_offline.analysis.tracking import tensorboard_progress
from qss_offline.api.options import (
    IF_EXISTS,
    environment_of,
    recording_name,
    run_folder,
)
from qss_offline.api.recording import Environment, Recording, make_known, recording_of
from qss_offline.api.runs import OnlineRun, Run, run_path
from qss_offline.comparison.online_runs import online_run
from qss_offline.data.environments import (
    check_acting,
    env_id_of,
    env_id_of_file,
    named_env,
    plain_name,
)
from qss_offline.data.load import load_transitions
from qss_offline.engine.device import choose_device
from qss_offline.errors import UserError, by_name, shown
from qss_offline.files import path_of, read_regular_file, write_bytes
from qss_offline.launch.cell import Launcher
from qss_offline.launch.choice import launcher_of
from qss_offline.launch.local import LocalLauncher
from qss_offline.online.config import EvaluationPlan, OnlineConfig, OnlineSettings
from qss_offline.online.presets import BASELINES, BASELINES_TAKE, online_preset
from qss_offline.online.warm_start import start_config
from qss_offline.overrides import changed, differences, with_changes
from qss_offline.parallel.progress import progress as show_progress
from qss_offline.parallel.reporting import ProgressFactory, no_progress, print_notice
from qss_offline.presets import preset_of
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import MOST_METRICS_BYTES, RunFolder, beside, free_folder, read_json
from qss_offline.runs.reader import LABELS, read_run_config
from qss_offline.settings_json import settings_of
from qss_offline.training.interaction import known_steps
from qss_offline.training.options import TrainOptions, change_list, has_race, in_a_box, seed_numbers
from qss_offline.training.runner import run

_MOST_CHECKPOINT_BYTES = 1 << 34


def progress_of(progress: bool | ProgressFactory) -> ProgressFactory:
    """Return what makes a progress display, or none.

    Raises:
        UserError: it is neither true, false, nor makes one.
    """
    if isinstance(progress, bool):
        return show_progress if progress else no_progress
    if not callable(progress):
        raise UserError(f"progress: expected true, false or a function, got {shown(progress)}")
    return progress


def train(
    recording: str | Recording,
    *,
    env: Environment | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    method: str | None = None,
    preset: str = "default",
    seeds: int | str | Sequence[int] = 1,
    updates: int | None = None,
    online_steps: int | None = None,
    online_rounds: int | None = None,
    offline_only: bool = False,
    actions: str | Path | Recording | Run | None = None,
    error_power: float | None = None,
    changes: Sequence[str] | Mapping[str, Any] = (),
    check_ranges: bool = True,
    episodes: int = 10,
    device: str = "auto",
    tf32: bool = False,
    workers: int | None = None,
    launcher: str | Launcher = "local",
    out: str | Path | None = None,
    if_exists: str = "error",
    tensorboard: bool = False,
    progress: bool | ProgressFactory = True,
    begun: float | None = None,
) -> Run:
    """Learn a policy from a recording, whose actions, if it has any, are not looked at.

    Args:
        recording: a `Recording`, or the Minari id of one.
        env: where policies act and are evaluated: an id or short name, `module:Id`,
            `file.py:Class`, or a callable that makes the environment. None takes the recording's
            own.
        env_kwargs: keyword arguments of the environment, of plain JSON types.
        method: "d3g" learns which next states to aim for, "bco" repeats what was recorded, "auto"
            trains both and more, races them on the online steps and keeps the best. None is the
            preset's own, which of the default is "auto"; of no online steps "d3g".
        preset: name of the settings; `qss presets` prints them all.
        seeds: 5 for seeds 0 to 4, "100-104", or a list of seeds. All of them train at once.
        updates: of offline D3G, or of BCO's policy.
        online_steps: environment steps of the inverse fit; 0 takes none, and needs `actions`.
        online_rounds: rounds that these are spread over.
        offline_only: learn Q, τ and f, and nothing else; needs no environment. `fit_inverse` makes
            policies of it.
        actions: another recording in the environment, with actions, or an earlier run or its
            folder, whose online steps have them: the inverse dynamics model learns from it first.
        error_power: of BCO's cloning: 2 is the labels' mean, 0.5 near their mode; None takes what
            suits the recording.
        changes: other settings, by name: `{"gamma": 0.99}` or `["gamma=0.99"]`.
        check_ranges: refuse a recording whose numbers don't fit the environment.
        episodes: of each evaluation.
        device: "auto", "cpu" or "cuda".
        tf32: faster, coarser matrix products on a GPU.
        workers: processes; None takes one a core.
        launcher: "local" runs seeds in processes here, "ray" or "ray:ADDRESS" on a Ray cluster.
        out: folder of the run; None names one in `runs/` after recording and method.
        if_exists: "error" refuses a folder that holds a run, "resume" goes on with it, "new" takes
            another name beside it.
        tensorboard: write what TensorBoard shows, too.
        progress: whether to show it, or what makes a progress display.
        begun: reading of `time.monotonic()` that the run's seconds count from.

    Raises:
        UserError: the recording, the environment, an option or the folder can't be used.
    """
    launched = launcher_of(launcher, workers)
    progress_of(progress)
    config, folder, there = asked_run(
        recording, env=env, env_kwargs=env_kwargs, out=out, if_exists=if_exists,
        method=method, preset=preset, seeds=seeds, updates=updates, online_steps=online_steps,
        online_rounds=online_rounds, offline_only=offline_only, actions=actions,
        error_power=error_power, changes=changes, episodes=episodes, device=device, tf32=tf32,
    )  # fmt: skip
    return _run(
        config, folder, there, progress, launched,
        check_ranges=check_ranges, tensorboard=tensorboard, begun=begun,
    )  # fmt: skip


def asked_run(
    recording: str | Recording,
    *,
    env: Environment | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    out: str | Path | None = None,
    if_exists: str = "error",
    offline_only: bool = False,
    actions: str | Path | Recording | Run | None = None,
    **options: Any,
) -> tuple[RunConfig, RunFolder, bool]:
    """Return the settings of a run, its folder, and whether there is a run to go on with.

    Arguments and errors are those of `train`.
    """
    by_name("choice of if_exists", if_exists, dict.fromkeys(IF_EXISTS))
    dataset = load_transitions(recording_of(recording).dataset_id)
    named = named_env(env, env_kwargs)
    source = None if actions is None else source_of_actions(actions)
    asked = TrainOptions(actions=source, offline_only=offline_only, **options)
    env_id = environment_of(dataset, named, offline_only)
    if env_id is not None and not offline_only:
        check_acting(env_id, in_a_box(asked.method))
    config = asked.config(dataset.info.dataset_id, env_id)
    # Refused before a folder is made.
    known_steps(config.actions_from, config.env_id)
    name = f"{recording_name(config.dataset_id)}-{config.method}"
    return config, *run_folder(name, out, if_exists)


def _run(
    config: RunConfig,
    folder: RunFolder,
    resume: bool,
    progress: bool | ProgressFactory,
    launcher: Launcher,
    *,
    check_ranges: bool = True,
    tensorboard: bool = False,
    begun: float | None = None,
    fill: Callable[[], None] = lambda: None,
) -> Run:
    show = progress_of(progress)
    if tensorboard:
        show = tensorboard_progress(show, folder, config.seeds)
    if progress is not False:
        print_notice(f"{'resuming' if resume else 'run folder'} {folder.path}: {described(config)}")
    notice = None if progress is False else print_notice
    run(
        config, folder, resume, show, launcher, begun,
        check_ranges=check_ranges, fill=fill, notice=notice,
    )  # fmt: skip
    return Run(folder.path)


def described(config: RunConfig) -> str:
    """Return what a run learns from, by what, and where actions come from, in a line."""
    method = LABELS[config.method]
    line = f"{method} with preset {config.preset_name} from {config.dataset_id} (no actions)"
    if config.offline_only:
        return f"{line}, offline only"
    acting = "" if config.env_id is None else f", acting in {config.env_id}"
    known = "" if config.actions_from is None else f", actions from {config.actions_from}"
    return line + acting + known


def source_of_actions(actions: str | Path | Recording | Run) -> str:
    """Return the id of a recording, or the folder of a run, as settings keep it.

    A run's is absolute: it may be looked for from elsewhere.

    Raises:
        UserError: it is neither.
    """
    if isinstance(actions, Recording):
        return actions.dataset_id
    if isinstance(actions, Run):
        actions = actions.path
    if not isinstance(actions, str | Path):
        raise UserError(f"actions: expected a recording or an earlier run, got {shown(actions)}")
    return str(Path(actions).resolve() if RunFolder(Path(actions)).started else actions)


def fit_inverse(
    run: str | Path | Run,
    *,
    env: Environment | None = None,
    env_kwargs: Mapping[str, Any] | None = None,
    actions: str | Path | Recording | Run | None = None,
    online_steps: int | None = None,
    online_rounds: int | None = None,
    changes: Sequence[str] | Mapping[str, Any] = (),
    episodes: int | None = None,
    device: str = "auto",
    tf32: bool = False,
    workers: int | None = None,
    out: str | Path | None = None,
    progress: bool | ProgressFactory = True,
    check_ranges: bool = True,
) -> Run:
    """Fit the inverse dynamics models of a run of offline D3G, anew, into a run of its own.

    What the run learned offline is copied into the new folder, which then holds everything of its
    policies; it can be done as often as wanted, in other environments and with other budgets.

    Args:
        run: a run of method "d3g", or of "auto", whose members then race anew on the online steps;
            without such steps D3G is taken.
        env: where policies act; None takes the run's own, else the recording's.
        env_kwargs: keyword arguments of the environment.
        actions: a recording with actions, or an earlier run, to learn from. With it no online
            steps are taken unless `online_steps` says so, and no environment is needed; where there
            is one the policies are evaluated in it.
        online_steps: environment steps in all; None takes the run's settings, or none with
            `actions`.
        online_rounds: rounds that these are spread over.
        changes: other settings of the inverse fit, by name.
        episodes: of each evaluation; None takes the run's.
        device: "auto", "cpu" or "cuda"; it need not be where the run was trained.
        tf32: faster, coarser matrix products on a GPU.
        workers: processes; None takes one a core.
        out: folder of the new run; None names one after the run.
        progress: whether to show it, or what makes a progress display.
        check_ranges: refuse recordings whose numbers don't fit the environment.

    Raises:
        UserError: the run isn't one of offline D3G or isn't finished, or an option can't be used.
    """
    progress_of(progress)
    source = RunFolder(run_path(run, "run"))
    # First: it may be the run's own, which its file names.
    named = named_env(env, env_kwargs)
    config = _offline_run(source, elsewhere=named is not None)
    dataset = load_transitions(config.dataset_id)
    source.check_recording(config.dataset_id, dataset.info.digest)
    named = config.env_id if named is None else named
    if actions is not None and online_steps is None:
        online_steps = 0
    if online_steps != 0 or config.env_id is not None or env is not None:
        named = environment_of(dataset, named, offline_only=online_steps == 0)
    if config.method == "auto" and not has_race(named, online_steps):
        config = _without_race(config)
    fitted = changed(config.preset.inverse, change_list(changes))
    preset = replace(config.preset, inverse=fitted).spend(None, online_steps, online_rounds)
    config = replace(
        config,
        env_id=named,
        offline_only=False,
        preset_name=with_changes(config.preset_name, change_list(changes)),
        preset=preset,
        actions_from=None if actions is None else source_of_actions(actions),
        evaluation_episodes=config.evaluation_episodes if episodes is None else episodes,
        device=choose_device(device),
        tf32=tf32,
    )
    known_steps(config.actions_from, config.env_id)
    base = beside(source.path, "-inverse") if out is None else path_of(out, "out")
    folder = RunFolder(free_folder(base) if out is None else base)
    folder.check(resume=False)
    fill = partial(_copy_training, source, folder, config)
    return _run(
        config, folder, False, progress, LocalLauncher(workers),
        check_ranges=check_ranges, fill=fill,
    )  # fmt: skip


def _offline_run(source: RunFolder, elsewhere: bool) -> RunConfig:
    """Read the settings of a run whose inverse models can be fitted.

    Args:
        source: its folder.
        elsewhere: whether they are fitted in another environment: its own needn't be here.

    Raises:
        UserError: there is no such run, it isn't finished, or is one of BCO; or its environment is
            needed and isn't registered here.
    """
    found = None
    if elsewhere and source.results.exists() and source.started and not source.is_online:
        found = settings_of(RunConfig, read_json(source.config), str(source.config))
    # All else is opened, or refused, as any run is.
    if found is None or found.recording is None:
        found = Run(source.path).config
    if found.method == "bco":
        raise UserError(
            f"{source.path} is a run of BCO, which learns from actions all along; train it anew "
            "with qss train --method bco, and --actions"
        )
    return found


def _without_race(config: RunConfig) -> RunConfig:
    """Return the settings of a run of auto as those of its D3G alone."""
    raced, own = (preset_of(config.preset_name, method) for method in ("auto", "d3g"))
    inverse = config.preset.inverse
    if raced is not None and own is not None:
        asked = differences(raced.with_recording(config.facts).inverse, inverse)
        inverse = changed(own.inverse, asked)
    preset = replace(config.preset, inverse=inverse)
    return replace(config, method="d3g", portfolio=None, preset=preset)


def _copy_training(source: RunFolder, target: RunFolder, config: RunConfig) -> None:
    """Copy what was learned offline; the run's settings are written after it."""
    for seed, number in product(config.seeds, range(config.preset.ensemble)):
        before, after = (one.seed(seed).member(number) for one in (source, target))
        write_bytes(after.training, read_regular_file(before.training, _MOST_CHECKPOINT_BYTES))
        if before.metrics.exists():
            write_bytes(after.metrics, read_regular_file(before.metrics, MOST_METRICS_BYTES))
    target.set_elapsed(source.elapsed_s)


def train_online(
    env: Environment,
    *,
    env_kwargs: Mapping[str, Any] | None = None,
    algorithm: str = "d3g",
    preset: str = "default",
    seeds: int | str | Sequence[int] = 1,
    steps: int | None = None,
    warm_up: int | None = None,
    updates_per_step: int | None = None,
    changes: Sequence[str] | Mapping[str, Any] = (),
    evaluate_every: int = 5_000,
    episodes: int = 10,
    start: str | Path | Run | None = None,
    device: str = "cpu",
    tf32: bool = False,
    workers: int | None = None,
    launcher: str | Launcher = "local",
    out: str | Path | None = None,
    if_exists: str = "error",
    progress: bool | ProgressFactory = True,
) -> OnlineRun:
    """Act and learn together: full D3G.

    Args:
        env: as for `train`.
        env_kwargs: keyword arguments of the environment.
        algorithm: "d3g", "d3g-no-cycle" (D3G⁻), or d3rlpy's "nfq", "dqn", "double-dqn" (discrete
            actions), "ddpg", "td3" and "sac".
        preset: name of the settings.
        seeds: as for `train`.
        steps: environment steps of a seed.
        warm_up: of these at random, before training.
        updates_per_step: updates after each step.
        changes: other settings, by name.
        evaluate_every: environment steps between evaluations.
        episodes: of each evaluation.
        start: run of offline D3G to start from.
        device: "auto", "cpu" or "cuda".
        tf32: as for `train`.
        workers: processes; None takes one a core.
        launcher: as for `train`.
        out: folder of the run; None names one in `runs/`.
        if_exists: as for `train`.
        progress: whether to show it, or what makes a progress display.

    Raises:
        UserError: the environment, an option or the folder can't be used.
    """
    launched = launcher_of(launcher, workers)
    by_name("choice of if_exists", if_exists, dict.fromkeys(IF_EXISTS))
    progress_of(progress)
    begin = None if start is None else run_path(start, "start")
    given = change_list(changes)
    env_id = env_id_of(env, env_kwargs)
    budget = steps, warm_up, updates_per_step
    config = _online_config(env_id, preset, algorithm, given, budget, begin)
    settings = OnlineSettings(
        env_id,
        algorithm,
        seed_numbers(seeds),
        with_changes(preset, given),
        config,
        EvaluationPlan(evaluate_every, episodes),
        None if begin is None else str(begin.resolve()),
        choose_device(device),
        tf32,
    )
    check_acting(settings.env_id)
    name = f"online-{plain_name(settings.env_id)}-{algorithm}".replace("/", "-")
    return _run_online(settings, *run_folder(name, out, if_exists), progress, launched)


def _run_online(
    settings: OnlineSettings,
    folder: RunFolder,
    resume: bool,
    progress: bool | ProgressFactory,
    launcher: Launcher,
) -> OnlineRun:
    if progress is not False:
        print_notice(
            f"{'resuming' if resume else 'run folder'} {folder.path}: {settings.algorithm} in "
            f"{settings.env_id} with preset {settings.preset_name}"
        )
    notice = None if progress is False else print_notice
    online_run(settings, folder, resume, progress_of(progress), launcher, notice)
    return OnlineRun(folder.path)


def _online_config(
    env_id: str,
    preset: str,
    algorithm: str,
    changes: Sequence[str],
    budget: tuple[int | None, int | None, int | None],
    start: Path | None,
) -> OnlineConfig:
    """Return a preset's settings with what the options change.

    Raises:
        UserError: an option is unknown or out of range, nothing would be learned, or the offline
            run can't be started from.
    """
    named = online_preset(preset, algorithm, env_id)
    names = ("steps", "warm_up", "updates_per_step")
    given: dict[str, Any] = {
        name: value for name, value in zip(names, budget, strict=True) if value is not None
    }
    # First: whether other settings make sense may depend on it.
    config = changed(replace(named, **given), changes)
    if config.algorithm.cycle != named.algorithm.cycle:
        raise UserError("--set cycle: whether there is a cycle is --algo's, d3g or d3g-no-cycle")
    if algorithm in BASELINES:
        changes_made = (change.partition("=")[0] for change in differences(named, config))
        lost = [name for name in changes_made if name.rpartition(".")[2] not in BASELINES_TAKE]
        if lost:
            raise UserError(
                f"{algorithm} has no setting {lost[0]}; it takes {', '.join(BASELINES_TAKE)}"
            )
    if config.steps <= config.warm_up:
        raise UserError(
            f"{config.steps:,} steps end within the warm-up of {config.warm_up:,}, in which "
            "nothing is learned; take more --steps, or a smaller --warm-up"
        )
    if start is not None:
        config = start_config(config, start)
        lost = differences(config, changed(config, changes))
        if lost:
            raise UserError(f"--start brings its own settings; leave out --set {', '.join(lost)}")
    return config


def resume(
    run: str | Path | Run | OnlineRun | None = None,
    *,
    workers: int | None = None,
    launcher: str | Launcher = "local",
    env: Environment | None = None,
    progress: bool | ProgressFactory = True,
) -> Run | OnlineRun:
    """Go on with a run that was interrupted, to the same bits as if it hadn't been.

    Args:
        run: its folder, which says everything, or what was opened of it; None takes the newest in
            `runs/` that isn't finished.
        env: the environment of your own that it names, as `train` was given it: what files name is
            never imported.
        workers: processes; None takes one a core.
        launcher: as for `train`.
        progress: whether to show it, or what makes a progress display.

    Raises:
        UserError: there is no such run, or its settings can't be read.
    """
    make_known(env)
    launched = launcher_of(launcher, workers)
    progress_of(progress)
    folder = RunFolder(_newest_unfinished() if run is None else run_path(run, "run"))
    folder.check(resume=True)
    if not folder.is_online:
        return _run(read_run_config(folder), folder, True, progress, launched)
    stored = read_json(folder.config)
    stored["env_id"] = env_id_of_file(stored.get("env_id"), folder.config)
    settings = settings_of(OnlineSettings, stored, str(folder.config))
    return _run_online(settings, folder, True, progress, launched)


def _newest_unfinished() -> Path:
    """Return the folder of the run in `runs/` that was begun last and isn't finished.

    Raises:
        UserError: there is none.
    """
    begun = [
        path
        for path in Path("runs").glob("*/config.json")
        if not (path.parent / "results.json").exists()
    ]
    if not begun:
        raise UserError("runs/ holds no run that isn't finished; give the folder of another one")
    return max(begun, key=lambda path: path.stat().st_mtime).parent
