"""Training an expert from the command line."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np

from qss_offline.baselines import require_d3rlpy
from qss_offline.data.environments import check_acting, resolve_env_id
from qss_offline.data.families import expert_path
from qss_offline.data.policies import MLPExpert, save_expert
from qss_offline.errors import UserError
from qss_offline.parallel.progress import progress

FINAL_EPISODES = 100


def train_and_store(
    *,
    env: str,
    algorithm: str,
    steps: int,
    target: float | None,
    half_trained: float | None,
    evaluate_every: int,
    seed: int,
    width: int,
    batch_size: int,
    learning_rate: float,
    out: Path | None,
    overwrite: bool,
) -> None:
    """Train an expert and, if asked, a half-trained one, and store them with their returns.

    Raises:
        UserError: an option can't be used, d3rlpy is missing, or an expert would be replaced.
    """
    require_d3rlpy()
    from qss_offline.baselines.experts import ExpertSettings, evaluate_expert, train_expert

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
        trained = train_expert(settings, report)
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
    print(
        "Next: record it, half of its steps at random:\n"
        f"  qss data record {env_id} --randomness 0.5 --expert {path}"
    )
