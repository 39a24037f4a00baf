"""An expert whose behaviour can be recorded, at any mixture with chance.

    python -m recipes.train_expert --env InvertedPendulum

trains d3rlpy's online TD3 (or SAC), keeps the best policy of all evaluations, runs 100 fresh
episodes with it, and stores weights and returns under datasets/experts/. Half-trained behaviour is
a policy on the way there: `--half-trained 1500` keeps the first whose evaluation returns as much,
too, under `…_medium`; let `--evaluate-every` be few steps, for returns jump.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
from typer import Option

from qss_offline.baselines import require_d3rlpy
from qss_offline.cli.command import main
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.policies import MLPExpert, expert_path, save_expert
from qss_offline.errors import UserError
from qss_offline.parallel.progress import progress

FINAL_EPISODES = 100


def train_expert(
    env: Annotated[str, Option(help="Gymnasium id or short name")] = "InvertedPendulum",
    algorithm: Annotated[str, Option(help="td3 or sac")] = "td3",
    steps: Annotated[int, Option(help="environment steps at most")] = 100_000,
    target: Annotated[float | None, Option(help="stop at this mean return")] = None,
    half_trained: Annotated[
        float | None, Option(help="keep the first policy of this mean return, too (…_medium)")
    ] = None,
    evaluate_every: Annotated[int, Option(help="steps between evaluations")] = 5_000,
    seed: Annotated[int, Option(help="seed of everything random")] = 0,
    width: Annotated[int, Option(help="size of both hidden layers")] = 128,
    batch_size: Annotated[int, Option(help="transitions per update")] = 128,
    learning_rate: Annotated[float, Option(help="Adam's step size")] = 3e-4,
    out: Annotated[Path | None, Option(help="weights (datasets/experts/<env>.safetensors)")] = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace an expert")] = False,
) -> None:
    """Train an expert by trial and error and store it."""
    require_d3rlpy()
    from qss_offline.baselines.experts import ExpertSettings, evaluate_expert
    from qss_offline.baselines.experts import train_expert as train

    env_id = resolve_env_id(env)
    make_env(env_id).close()
    path = out or expert_path(env_id)
    medium_path = path.with_stem(f"{path.stem}_medium")
    for made in (path, medium_path) if half_trained is not None else (path,):
        if made.exists() and not overwrite:
            raise UserError(
                f"{made} exists; add --overwrite to replace it, or choose another --out"
            )
    settings = ExpertSettings(
        env_id,
        algorithm,
        seed,
        steps,
        target,
        half_trained,
        hidden_dims=(width, width),
        batch_size=batch_size,
        learning_rate=learning_rate,
        evaluate_every=evaluate_every,
    )
    with progress(f"training {algorithm} in {env_id}", steps, "steps") as report:
        trained = train(settings, report)
    command = shlex.join(["python", "-m", "recipes.train_expert", *sys.argv[1:]])

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
    print(
        "Next: record it, half of its steps at random:\n"
        f"  python -m recipes.random_obs --env {env_id} --randomness 0.5 --expert {path}"
    )


if __name__ == "__main__":
    main(train_expert, "nothing was stored")
