"""From a recording of random behaviour, without actions, to a policy.

    python -m recipes.random_obs --env InvertedPendulum

records random behaviour, drops the actions, learns Q(s,s') and a proposal τ(s) offline (D3G),
fits an inverse dynamics model I(s,s') on a few online steps, and evaluates π(s) = I(s, s + τ(s)).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from typer import Option

from qss_offline.analysis.diagnostics import hints
from qss_offline.analysis.tracking import tensorboard_progress
from qss_offline.analysis.video import render_run, require_drawing
from qss_offline.cli.command import main
from qss_offline.cli.resume import plain_options, run_to_resume
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.facts import MEAN_POWER, MODE_POWER, RecordingFacts
from qss_offline.data.policies import expert_path
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.device import choose_device
from qss_offline.overrides import changed, with_changes
from qss_offline.parallel.progress import progress
from qss_offline.presets import preset as find_preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, free_folder, parse_seeds
from qss_offline.runs.reader import load_run
from qss_offline.training.interaction import known_steps
from qss_offline.training.runner import run


def random_obs(
    env: Annotated[str, Option(help="Gymnasium id or short name")] = "InvertedPendulum",
    randomness: Annotated[float, Option(help="probability of a random action at a step")] = 1.0,
    expert: Annotated[
        Path | None,
        Option(help="weights that act where chance doesn't (datasets/experts/<env>)"),
    ] = None,
    transitions: Annotated[int, Option(help="size of the recording")] = 100_000,
    dataset_seed: Annotated[int, Option(help="seed of the recording")] = 0,
    dataset: Annotated[str | None, Option(help="learn from this Minari dataset instead")] = None,
    seeds: Annotated[str, Option(help="number of seeds, or a list such as 0,3,7")] = "1",
    updates: Annotated[int | None, Option(help="updates of offline D3G")] = None,
    preset: Annotated[
        str, Option(help="default, bodies, runners, short-horizon or paper")
    ] = "default",
    change: Annotated[
        list[str] | None, Option("--set", help="name=value, a setting of the preset; repeatable")
    ] = None,
    online_steps: Annotated[int | None, Option(help="environment steps of the inverse fit")] = None,
    online_rounds: Annotated[int | None, Option(help="rounds that these are spread over")] = None,
    actions_from: Annotated[
        str | None,
        Option(help="recording of the body with actions, or earlier run; I learns from it first"),
    ] = None,
    device: Annotated[str, Option(help="auto, cpu or cuda")] = "auto",
    tf32: Annotated[
        bool, Option("--tf32", help="faster, coarser matrix products on a GPU")
    ] = False,
    episodes: Annotated[int, Option(help="episodes of each evaluation")] = 10,
    out: Annotated[Path | None, Option(help="folder of the run (runs/<name>)")] = None,
    resume: Annotated[bool, Option("--resume", help="continue a run")] = False,
    video: Annotated[bool, Option("--video", help="then draw what it imagines and does")] = False,
    tensorboard: Annotated[
        bool, Option("--tensorboard", help="write what TensorBoard shows, too")
    ] = False,
) -> None:
    """Learn a policy from a recording without actions."""
    options = plain_options(locals(), "out", "resume", "video", "tensorboard")
    begun = time.monotonic()
    if video:
        require_drawing()
    if resume:
        folder, settings = run_to_resume(RunConfig, "d3g", out, options, random_obs)
        print(f"resuming {folder.path}: {settings.dataset_id} with preset {settings.preset_name}")
    else:
        asked = changed(find_preset(preset), change or ())
        asked = asked.spend(updates, online_steps, online_rounds)
        seed_list, chosen = parse_seeds(seeds), choose_device(device)
        env_id = resolve_env_id(env)
        make_env(env_id).close()
        # Told before anything is recorded.
        known_steps(actions_from, env_id)
        base = Path("runs") / f"{env_id}-random-{100 * randomness:g}".replace("/", "-")
        folder = RunFolder(out or free_folder(base))
        folder.check(resume)
        if dataset is None:
            dataset = recorded(env_id, randomness, expert, transitions, dataset_seed)
        preset = with_changes(preset, change or ())
        print(
            f"learning from {dataset} (no actions) with preset {preset}; run folder {folder.path}"
        )
        settings = RunConfig(
            "d3g",
            env_id,
            dataset,
            seed_list,
            preset,
            asked,
            evaluation_episodes=episodes,
            device=chosen,
            tf32=tf32,
            actions_from=actions_from,
        )
    if settings.actions_from is not None:
        source = settings.actions_from
        print(f"actions of I(s, s') come from {source}, and from the online steps")
    show = tensorboard_progress(progress, folder, settings.seeds) if tensorboard else progress
    results = run(settings, folder, resume, show, begun=begun, options=options)
    Console().print(returns_table(results, settings.evaluation_episodes))
    print(
        f"{results['wall_seconds']:.0f} s in all. Made: {folder.results} (all returns), "
        f"{folder.seed(settings.seeds[0]).policy} (the policy).\n"
        f"Next: look at it with qss-offline report {folder.path}, or more seeds with --seeds 5, "
        f"or another environment with --env Reacher."
    )
    done = load_run(folder.path)
    if done.config.preset.algorithm.behaviour_coef > 0:
        print(stochasticity_line(done.facts, done.config.error_power, "proposals"))
    if settings.actions_from is not None:
        known = f"{results['known_steps']:,} steps of {settings.actions_from}"
        print(f"I learned first from the actions of {known}: online steps above don't count them.")
    for hint in hints(done):
        print(hint)
    for made in render_run(done, progress=progress).files if video else ():
        print(f"made {made}")


def recorded(
    env_id: str, randomness: float, expert: Path | None, transitions: int, seed: int
) -> str:
    """Record behaviour, or find it recorded, and return the id of what holds no actions.

    Args:
        env_id: where it acts.
        randomness: probability of a random action at a step.
        expert: weights that act where chance doesn't; None takes the environment's own.
        transitions: size of the recording.
        seed: of the recording.

    Raises:
        UserError: it can't be recorded.
    """
    if expert is None and randomness < 1 and expert_path(env_id).exists():
        expert = expert_path(env_id)
        print(f"where chance doesn't, {expert} acts")
    spec = DatasetSpec(env_id, randomness, transitions, seed, expert=expert)
    return build_dataset(spec, progress=progress).obs_id


def stochasticity_line(facts: RecordingFacts, power: float, repeats: str) -> str:
    """Return what a recording was found to hold, and what is made of it, for a line.

    Args:
        facts: what was measured of it.
        power: of errors against what it holds.
        repeats: who is held to recorded steps.
    """
    share = facts.behaviour_stochasticity
    told = "can't be measured" if share is None else f"{share:.1%} of the variance of its steps"
    which = {MEAN_POWER: "the mean", MODE_POWER: "the mode"}.get(power, f"the power {power:g}")
    return f"chance in the recording: {told}; {repeats} held to {which} of what was done"


def returns_table(results: Mapping[str, Any], episodes: int) -> Table:
    """Return the seeds of a run, a line each.

    Args:
        results: what `results.json` holds.
        episodes: of each evaluation.
    """
    table = Table(title=f"{results['env_id']}: mean return of {episodes} episodes")
    for column in ("seed", "recorded behaviour", "last", "best of evaluations", "online steps"):
        table.add_column(column, justify="right")
    for seed in results["seeds"]:
        table.add_row(
            str(seed["seed"]),
            f"{results['behaviour_return']:.1f} ± {results['behaviour_return_std']:.1f}",
            f"{seed['last']['mean']:.1f}",
            f"{seed['best']['mean']:.1f} ({seed['best']['evaluation']} of "
            f"{len(seed['evaluations'])})",
            f"{seed['online_steps']:,}",
        )
    return table


if __name__ == "__main__":
    main(random_obs, "the same command with --resume continues the run")
