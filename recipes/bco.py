"""BCO from a recording without actions: repeat what was done there, by labels of one's own.

    python -m recipes.bco --env Hopper --randomness 0.5

records behaviour, drops the actions, and in rounds takes a few online steps, fits an inverse
dynamics model I(s,s') to them, labels the recording with the actions that it believes made it, and
clones these: where the recording holds chance not their mean, but what most steps of a state do
(`--error-power`; 2 is BCO as published). On harder bodies, recorded with a controller at half or
three quarters of the steps and chance at the others, it often returns more than D3G; where all is
chance there is nothing to repeat, and D3G (`recipes.random_obs`) learns (see `docs/bodies.md`).
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from rich.console import Console
from typer import Option

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.analysis.diagnostics import hints
from qss_offline.analysis.video import render_run, require_drawing
from qss_offline.cli.command import main
from qss_offline.cli.resume import plain_options, run_to_resume
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.errors import UserError
from qss_offline.parallel.progress import progress
from qss_offline.presets import preset as find_preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, free_folder, parse_seeds
from qss_offline.runs.reader import load_run
from qss_offline.training.interaction import known_steps
from qss_offline.training.runner import run
from recipes.random_obs import recorded, returns_table, stochasticity_line


def bco(
    env: Annotated[str, Option(help="Gymnasium id or short name")] = "Hopper",
    randomness: Annotated[float, Option(help="probability of a random action at a step")] = 0.5,
    expert: Annotated[
        Path | None,
        Option(help="weights that act where chance doesn't (datasets/experts/<env>)"),
    ] = None,
    transitions: Annotated[int, Option(help="size of the recording")] = 100_000,
    dataset_seed: Annotated[int, Option(help="seed of the recording")] = 0,
    dataset: Annotated[str | None, Option(help="learn from this Minari dataset instead")] = None,
    seeds: Annotated[str, Option(help="number of seeds, or a list such as 0,3,7")] = "1",
    preset: Annotated[
        str, Option(help="whose inverse model and online budget: default, bodies, runners, …")
    ] = "bodies",
    error_power: Annotated[
        float | None,
        Option(
            help="of the error by which labels are repeated: 2 asks for their mean, 0.5 for "
            "what most of them are; measured if not given"
        ),
    ] = None,
    updates: Annotated[int, Option(help="of the policy, over all rounds")] = 15_000,
    online_steps: Annotated[int | None, Option(help="environment steps of the inverse fit")] = None,
    online_rounds: Annotated[int | None, Option(help="rounds that these are spread over")] = None,
    actions_from: Annotated[
        str | None,
        Option(help="recording of the body with actions, or earlier run; I learns from it first"),
    ] = None,
    episodes: Annotated[int, Option(help="episodes of each evaluation")] = 10,
    out: Annotated[Path | None, Option(help="folder of the run (runs/<name>)")] = None,
    resume: Annotated[bool, Option("--resume", help="continue a run")] = False,
    video: Annotated[bool, Option("--video", help="then draw what it does")] = False,
) -> None:
    """Repeat what a recording without actions shows."""
    options = plain_options(locals(), "out", "resume", "video")
    begun = time.monotonic()
    if video:
        require_drawing()
    if resume:
        folder, settings = run_to_resume(RunConfig, "bco", out, options, bco)
        print(f"resuming {folder.path}: {settings.dataset_id} with BCO")
    else:
        spent = find_preset(preset).spend(None, online_steps, online_rounds)
        rounds = spent.inverse.rounds
        if updates <= 0 or updates % rounds:
            raise UserError(
                f"{updates} updates can't be spread evenly over {rounds} rounds; choose a "
                "multiple above 0, or other --online-rounds"
            )
        # The sizes of D3G's networks, so that the two can be compared.
        sizes = spent.algorithm
        cloning = CloningConfig(
            sizes.hidden_dims, sizes.batch_size, sizes.learning_rate, error_power
        )
        seed_list = parse_seeds(seeds)
        env_id = resolve_env_id(env)
        make_env(env_id).close()
        # Told before anything is recorded.
        known_steps(actions_from, env_id)
        base = Path("runs") / f"{env_id}-random-{100 * randomness:g}-bco".replace("/", "-")
        folder = RunFolder(out or free_folder(base))
        folder.check(resume)
        if dataset is None:
            dataset = recorded(env_id, randomness, expert, transitions, dataset_seed)
        print(f"learning from {dataset} (no actions) with BCO; run folder {folder.path}")
        settings = RunConfig(
            "bco",
            env_id,
            dataset,
            seed_list,
            preset,
            spent,
            cloning,
            updates // rounds,
            episodes,
            actions_from=actions_from,
        )
    results = run(settings, folder, resume, progress, begun=begun, options=options)
    Console().print(returns_table(results, settings.evaluation_episodes))
    done = load_run(folder.path)
    print(stochasticity_line(done.facts, done.config.error_power, "the policy"))
    policy = folder.seed(settings.seeds[0]).policy
    print(
        f"{results['wall_seconds']:.0f} s in all. Made: {folder.results} (all returns), {policy} "
        f"(the policy).\nNext: look at it with qss-offline report {folder.path}, or see what D3G "
        f"makes of the recording: python -m recipes.random_obs --env {settings.env_id} --dataset "
        f"{settings.dataset_id}; qss-offline report with both folders puts them side by side."
    )
    for hint in hints(done):
        print(hint)
    for made in render_run(done, progress=progress).files if video else ():
        print(f"made {made}")


if __name__ == "__main__":
    main(bco, "the same command with --resume continues the run")
