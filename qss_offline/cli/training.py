"""`qss demo`, `train`, `train-online`, `fit-inverse`, `resume`: what trains, and what it says."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.cli.tables import print_json, print_table

if TYPE_CHECKING:
    from qss_offline.api.runs import OnlineRun, Run

DEMO_ENV, DEMO_STEPS = "InvertedPendulum", 50_000

Actions = Annotated[
    str | None,
    Option(
        help="another recording in the environment, with actions, or an earlier run: the inverse "
        "dynamics model learns from it first"
    ),
]
SomeEnvironment = Annotated[
    str | None, Option("--env", help=f"{options.ENVIRONMENT_HELP} (the recording's)")
]


def demo(
    updates: options.Updates = None,
    online_steps: options.OnlineSteps = None,
    out: options.Out = None,
) -> None:
    """Balance a pole, from random behaviour to the report. No action is learned from."""
    from qss_offline.api.recording import Recording
    from qss_offline.api.training import train as learn

    begun = time.monotonic()
    recording = Recording.from_env(DEMO_ENV, steps=DEMO_STEPS)
    run = learn(
        recording, preset="quick", updates=updates, online_steps=online_steps, out=out,
        if_exists="new" if out is None else "error", begun=begun,
    )  # fmt: skip
    say(run, next_line=None)
    print(f"The report, to open in a browser: {run.report()}")
    print(
        "Next: your own log, a row a step: qss data check log.csv, qss data import log.csv "
        "--into my/log, and qss train my/log-obs-v0 --env NAME"
    )


def train(
    recording: Annotated[
        str, Argument(metavar="RECORDING", help="a Minari id, such as one of `qss data list`")
    ],
    env: SomeEnvironment = None,
    method: options.Method = None,
    preset: options.RunPreset = "default",
    seeds: options.Seeds = "1",
    updates: options.Updates = None,
    online_steps: options.OnlineSteps = None,
    online_rounds: options.OnlineRounds = None,
    offline_only: Annotated[
        bool,
        Option("--offline-only", help="learn from the recording alone; `qss fit-inverse` follows"),
    ] = False,
    actions: Actions = None,
    error_power: options.ErrorPower = None,
    change: options.Change = None,
    any_ranges: options.AnyRanges = False,
    episodes: options.Episodes = 10,
    device: options.Device = "auto",
    tf32: options.Tf32 = False,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    dry_run: options.DryRun = False,
    print_commands: options.PrintCommands = False,
    out: options.Out = None,
    video: options.Video = False,
    tensorboard: options.TensorBoard = False,
    as_json: options.Json = False,
) -> None:
    """Learn a policy from a recording without actions."""
    from qss_offline.api.training import train as learn
    from qss_offline.cli.cells import chosen

    _require_drawing(video)
    run = learn(
        recording, env=env, method=method, preset=preset, seeds=seeds, updates=updates,
        online_steps=online_steps, online_rounds=online_rounds, offline_only=offline_only,
        actions=actions, error_power=error_power, changes=change or (), check_ranges=not any_ranges,
        episodes=episodes, device=device, tf32=tf32, out=out,
        launcher=chosen(launcher, workers, dry_run, print_commands, as_json),
        if_exists="new" if out is None else "error", tensorboard=tensorboard,
    )  # fmt: skip
    say(run, as_json, video)


def random_obs(
    env: options.Environment = DEMO_ENV,
    randomness: options.Randomness = 1.0,
    expert: options.Expert = None,
    transitions: options.Transitions = 100_000,
    dataset_seed: options.DatasetSeed = 0,
    method: options.Method = None,
    preset: options.RunPreset = "default",
    seeds: options.Seeds = "1",
    updates: options.Updates = None,
    online_steps: options.OnlineSteps = None,
    online_rounds: options.OnlineRounds = None,
    actions: Actions = None,
    change: options.Change = None,
    episodes: options.Episodes = 10,
    device: options.Device = "auto",
    out: options.Out = None,
    video: options.Video = False,
    tensorboard: options.TensorBoard = False,
) -> None:
    """Record behaviour, drop the actions, and learn a policy from what is left."""
    from qss_offline.api.recording import Recording
    from qss_offline.api.training import train as learn
    from qss_offline.data.environments import check_acting, resolve_env_id
    from qss_offline.training.options import TrainOptions, in_a_box

    begun = time.monotonic()
    _require_drawing(video)
    env = resolve_env_id(env)
    check_acting(env, in_a_box(method))
    asked: dict[str, Any] = {
        "method": method, "preset": preset, "seeds": seeds, "updates": updates,
        "online_steps": online_steps, "online_rounds": online_rounds, "episodes": episodes,
        "device": device, "changes": change or (),
    }  # fmt: skip
    # Refused before anything is recorded.
    TrainOptions(**asked, actions=actions).config("", env)
    recording = Recording.from_env(
        env, steps=transitions, randomness=randomness, expert=expert, seed=dataset_seed
    )
    run = learn(
        recording, env=env, **asked, actions=actions, out=out, tensorboard=tensorboard,
        if_exists="new" if out is None else "error", begun=begun,
    )  # fmt: skip
    say(run, video=video)


def fit_inverse(
    run: options.RunPath,
    env: SomeEnvironment = None,
    actions: Annotated[
        str | None,
        Option(help="a recording with actions, or an earlier run: no online steps are needed then"),
    ] = None,
    online_steps: options.OnlineSteps = None,
    online_rounds: options.OnlineRounds = None,
    change: Annotated[
        list[str] | None, Option("--set", help="name=value, a setting of the inverse fit")
    ] = None,
    episodes: Annotated[int | None, Option(help="episodes of each evaluation (the run's)")] = None,
    any_ranges: options.AnyRanges = False,
    device: options.Device = "auto",
    tf32: options.Tf32 = False,
    workers: options.Workers = None,
    out: Annotated[Path | None, Option(help="folder of the new run (RUN-inverse)")] = None,
    as_json: options.Json = False,
) -> None:
    """Make policies of a run's proposals by fitting I(s,s'). Online, or on steps with actions."""
    from qss_offline.api.training import fit_inverse as fit

    made = fit(
        run, env=env, actions=actions, online_steps=online_steps, online_rounds=online_rounds,
        changes=change or (), episodes=episodes, device=device, tf32=tf32, workers=workers,
        out=out, check_ranges=not any_ranges,
    )  # fmt: skip
    say(made, as_json)


def train_online(
    env: Annotated[str, Argument(metavar="ENV", help=options.ENVIRONMENT_HELP)],
    algo: options.OnlineAlgorithm = "d3g",
    preset: options.OnlinePreset = "default",
    seeds: options.Seeds = "1",
    change: options.Change = None,
    steps: Annotated[int | None, Option(help="environment steps of a seed")] = None,
    warm_up: Annotated[int | None, Option(help="of these at random, before training")] = None,
    updates_per_step: Annotated[int | None, Option(help="updates after each step")] = None,
    evaluate_every: options.EvaluateEvery = 5_000,
    episodes: options.Episodes = 10,
    start: Annotated[Path | None, Option(help="run of offline D3G to start from")] = None,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    device: options.Device = "cpu",
    tf32: options.Tf32 = False,
    out: Annotated[Path | None, Option(help="folder of the run (runs/online-ENV-ALGO)")] = None,
    as_json: options.Json = False,
) -> None:
    """Act and learn together: full D3G, or D3G⁻ without its cycle."""
    from qss_offline.api.training import train_online as learn

    run = learn(
        env, algorithm=algo, preset=preset, seeds=seeds, steps=steps, warm_up=warm_up,
        updates_per_step=updates_per_step, changes=change or (), evaluate_every=evaluate_every,
        episodes=episodes, start=start, device=device, tf32=tf32, workers=workers,
        launcher=launcher, out=out,
        if_exists="new" if out is None else "error",
    )  # fmt: skip
    say_online(run, as_json)


def resume(
    run: Annotated[
        Path | None, Argument(metavar="[RUN]", help="its folder (the newest that isn't finished)")
    ] = None,
    workers: options.Workers = None,
    launcher: options.Launcher = "local",
    video: options.Video = False,
    as_json: options.Json = False,
    env: options.RegisteredModules = None,
) -> None:
    """Go on with a run that was interrupted. To the same bits as if it hadn't been."""
    from qss_offline.api.runs import OnlineRun
    from qss_offline.api.training import resume as go_on
    from qss_offline.data.environments import register_environments

    register_environments(env or ())
    _require_drawing(video)
    made = go_on(run, workers=workers, launcher=launcher)
    if isinstance(made, OnlineRun):
        say_online(made, as_json)
    else:
        say(made, as_json, video)


def _require_drawing(video: bool) -> None:
    """Refuse a video that can't be drawn here before hours of training, not after."""
    if video:
        from qss_offline.analysis.painting import require_drawing

        require_drawing()


NEXT = "…"


def say(run: Run, as_json: bool = False, video: bool = False, next_line: str | None = NEXT) -> None:
    """Say what a run on a recording came to, what it made and what can be done next."""
    if as_json:
        print_json(run.results)
        return
    from qss_offline.data.facts import stochasticity_line
    from qss_offline.runs.race import RACE_HEADER, race_table

    results, config = run.results, run.config
    if run.evaluated:
        print_table(*returns_table(results), title=f"{run.env_id}: mean return of an evaluation")
    if raced := race_table(results["seeds"]):
        print_table(RACE_HEADER, raced, title="the race on online steps")
    made = [f"{run.folder.results} (all returns)"] if run.evaluated else [f"{run.path}"]
    if policy := _policy_line(run):
        made.append(policy)
    print(f"{results['wall_seconds']:,.0f} s in all. Made: {', '.join(made)}.")
    if run.method == "bco":
        print(stochasticity_line(config.facts, config.error_power))
    if config.actions_from is not None:
        known = f"{results['known_steps']:,} steps of {config.actions_from}"
        print(f"The IDM learned first from {known}: online steps don't count them.")
    for hint in run.diagnose():
        print(hint)
    for path in run.render().files if video else ():
        print(f"made {path}")
    if next_line is not None:
        print(f"Next: {_what_next(run) if next_line is NEXT else next_line}")


def _what_next(run: Run) -> str:
    """Return the commands that make most sense after a run, for whoever ran it."""
    from qss_offline.evaluation.policies import DiscretePolicy

    path, config = shlex.quote(str(run.path)), run.config
    env = _own_env(config.env_id)
    if config.offline_only:
        return (
            f"make policies of it: qss fit-inverse {path} --env NAME takes online steps, "
            f"--actions RECORDING learns from steps with actions instead"
        )
    if not run.evaluated:
        return f"take the policy with you: qss export {path} --to policy.onnx"
    again = f"qss train {run.dataset_id}{env}"
    chosen = "" if run.method == "auto" else f" --method {run.method}"
    acting = [seed for seed in run.seeds if run.folder.seed(seed).policy.exists()]
    if not acting:
        rate = run.config.preset.algorithm.learning_rate / 10
        more = f"{again}{chosen} --set algorithm.learning_rate={rate:g} takes smaller steps"
    elif len(run.seeds) == 1:
        more = f"{again}{chosen} --seeds 5 shows how much seeds differ"
    elif isinstance(run.policy(acting[0]), DiscretePolicy):
        more = f"qss train-online {shlex.quote(str(config.env_id))} --start {path} goes on online"
    elif run.method == "auto":
        more = f"qss export {path} --to policy.onnx takes the policy with you"
    else:
        more = f"{again} tries other methods beside it, and keeps what returns most"
    return f"look at it with qss report {path}{env}; {more}"


def returns_table(results: dict[str, Any]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return the seeds of a run, a line each, under their headings.

    Args:
        results: what `results.json` holds.
    """
    header = ("seed", "recorded behaviour", "last", "best of evaluations", "online steps")
    recorded = f"{results['behaviour_return']:.1f} ± {results['behaviour_return_std']:.1f}"
    return header, [
        (
            str(seed["seed"]),
            recorded,
            f"{seed['last']['mean']:.1f}",
            f"{seed['best']['mean']:.1f} ({seed['best']['evaluation']} of "
            f"{len(seed['evaluations'])})",
            f"{seed['online_steps']:,}",
        )
        for seed in results["seeds"]
    ]


def say_online(run: OnlineRun, as_json: bool = False) -> None:
    """Say what an online run came to, what it made and what can be done next."""
    if as_json:
        print_json(run.results)
        return
    from qss_offline.online.files import replay_files
    from qss_offline.runs.results import FINAL_EVALUATIONS, final_mean

    results = run.results
    rows = [
        (
            str(seed["seed"]),
            f"{final_mean(seed):.1f}",
            f"{seed['last']['mean']:.1f}",
            f"{seed['best']['mean']:.1f} (step {seed['best']['online_steps']:,})",
        )
        for seed in results["seeds"]
    ]
    header = ("seed", f"mean of last {FINAL_EVALUATIONS} evaluations", "last", "best")
    print_table(header, rows, title=f"{run.algorithm}, {run.env_id}")
    made = f"{run.folder.results} (all returns)"
    if policy := _policy_line(run):
        made += f", {policy}"
    print(f"{results['wall_seconds']:,.0f} s in all. Made: {made}.")
    path, env = shlex.quote(str(run.path)), _own_env(run.env_id)
    more = f"Next: its learning curve with qss report {path}{env}"
    # d3rlpy's methods keep none.
    if replay_files(run.folder.seed(run.seeds[0])):
        more += f"; what it saw, as a recording: qss data import {path} --into my/replay{env}"
    print(more)


def _policy_line(run: Run | OnlineRun) -> str | None:
    """Return the file of the policy that returned most, and whose it is; None where it isn't."""
    policy = run.folder.seed(run.best_seed).policy
    if not policy.exists():
        return None
    of_seed = f" of seed {run.best_seed}, which returned most" if len(run.seeds) > 1 else ""
    return f"{policy} (the policy{of_seed})"


def _own_env(env_id: str | None) -> str:
    """Return how commands are told of an environment of one's own: what files name is no help."""
    return f" --env {shlex.quote(env_id)}" if env_id is not None and ":" in env_id else ""
