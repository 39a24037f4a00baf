"""`qss data record` and `train-expert`: behaviour that becomes recordings."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from qss_offline.cli import options
from qss_offline.errors import UserError

FINAL_EPISODES = 100
"""That say how good an expert is."""


def record(
    env: Annotated[str, Argument(metavar="ENV", help=options.ENVIRONMENT_HELP)],
    randomness: options.Randomness = 1.0,
    expert: options.Expert = None,
    transitions: options.Transitions = 100_000,
    seed: options.DatasetSeed = 0,
) -> None:
    """Record behaviour, with actions and without. What is there already is kept."""
    from qss_offline.api.recording import Recording

    made = Recording.from_env(
        env, steps=transitions, randomness=randomness, expert=expert, seed=seed
    )
    print(f"{made.dataset_id}: {len(made):,} transitions of {made.env_id}, no actions")
    print(f"Next: qss data stats {made.dataset_id} looks at it, qss train {made.dataset_id} learns")


def train_expert(
    env: Annotated[str, Argument(metavar="ENV", help=options.ENVIRONMENT_HELP)],
    algorithm: Annotated[str, Option(help="td3 or sac")] = "td3",
    steps: Annotated[int, Option(help="environment steps at most")] = 100_000,
    target: Annotated[float | None, Option(help="stop at this mean return")] = None,
    half_trained: Annotated[
        float | None, Option(help="keep the first policy of this mean return, too (…_medium)")
    ] = None,
    evaluate_every: options.EvaluateEvery = 5_000,
    seed: Annotated[int, Option(help="seed of everything random")] = 0,
    width: Annotated[int, Option(help="size of both hidden layers")] = 128,
    batch_size: Annotated[int, Option(help="transitions per update")] = 128,
    learning_rate: Annotated[float, Option(help="Adam's step size")] = 3e-4,
    out: Annotated[Path | None, Option(help="weights (experts/<env>.safetensors)")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an expert")] = False,
) -> None:
    """Train an expert, whose behaviour can be recorded. By trial and error (d3rlpy)."""
    import numpy as np

    from qss_offline.baselines import require_d3rlpy
    from qss_offline.data.environments import check_acting, resolve_env_id
    from qss_offline.data.families import expert_path
    from qss_offline.data.policies import MLPExpert, save_expert
    from qss_offline.parallel.progress import progress

    require_d3rlpy()
    from qss_offline.baselines.experts import ExpertSettings, evaluate_expert
    from qss_offline.baselines.experts import train_expert as train

    env_id = resolve_env_id(env)
    check_acting(env_id, "an expert")
    path = out or Path("experts") / expert_path(env_id).name
    medium_path = path.with_stem(f"{path.stem}_medium")
    for made in (path, medium_path) if half_trained is not None else (path,):
        if made.exists() and not overwrite:
            raise UserError(
                f"{made} exists; add --overwrite to replace it, or choose another --out"
            )
    settings = ExpertSettings(
        env_id, algorithm, seed, steps, target, half_trained, hidden_dims=(width, width),
        batch_size=batch_size, learning_rate=learning_rate, evaluate_every=evaluate_every,
    )  # fmt: skip
    with progress(f"training {algorithm} in {env_id}", steps, "steps") as report:
        trained = train(settings, report)
    command = shlex.join(["qss", *sys.argv[1:]])

    def store(expert: MLPExpert, steps_taken: int, path: Path) -> None:
        # The evaluations that chose this policy flatter it; these episodes didn't choose.
        returns = evaluate_expert(expert, FINAL_EPISODES, seed + 1).returns
        path.parent.mkdir(parents=True, exist_ok=True)
        save_expert(path, expert, command=command, seed=seed, returns=returns)
        print(
            f"{env_id}: {np.mean(returns):.1f} ± {np.std(returns):.1f} over {FINAL_EPISODES} "
            f"fresh episodes, found after {steps_taken:,} steps.\n"
            f"Made: {path} and {path.with_suffix('.json')}."
        )

    store(trained.expert, trained.steps, path)
    if trained.half_trained is not None:
        store(*trained.half_trained, medium_path)
    elif half_trained is not None:
        print(f"No evaluation reached {half_trained:g}: no half-trained policy was kept.")
    record = shlex.join(
        ["qss", "data", "record", env_id, "--randomness", "0.5", "--expert", str(path)]
    )
    print(f"Next: record it, half of its steps at random:\n  {record}")
