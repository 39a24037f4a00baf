"""Are the values of online D3G true: Q of what a trained policy does, beside what it then gets.

    python -m benchmarks.online_values runs/figure7/Reacher-v5-d3g

reads the seeds of a finished online run, lets each policy act past the time limit (which
bootstraps, so that Q counts on for ever), and compares min_i Q_i(s, s') along the way with the
discounted rewards that follow; and how far apart the twin critics are, whose lesser value is what
targets are made of.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qss_offline.acting import Policy, load_policy
from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.qss import transition_value
from qss_offline.data.environments import env_id_of_file
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.files import write_json
from qss_offline.machine import machine
from qss_offline.rollouts import roll_out
from qss_offline.runs import RunFolder, SeedFolder, read_json

EPISODES, STEPS = 20, 50
REST = 0.01
"""What is left of a reward after the steps that follow the last one compared."""


def measure(folder: SeedFolder, env_id: str, algorithm: dict[str, Any]) -> dict[str, float]:
    """Compare one seed's values with its policy's returns."""
    policy, _ = load_policy(folder.policy)
    if not isinstance(policy, Policy) or algorithm.get("step_units"):
        raise UserError(f"{folder.path} holds no critic that sees states")
    obs_dim = len(policy.scale.mean)
    normed = algorithm.get("critic_layer_norm", False)
    shape = MLPShape((2 * obs_dim, *algorithm["hidden_dims"], 1), 2, normed)
    flat = load_checkpoint(folder.training).tensors["network.critic"]
    critic = Network(shape, flat.unsqueeze(0))
    gamma = float(algorithm["gamma"])
    seen = roll_out(policy, env_id, EPISODES, STEPS + math.ceil(math.log(REST, gamma)), seed=0)
    running = np.arange(STEPS) < seen.lengths[:, None]
    obs, next_obs = (seen.observations[:, part][running] for part in _FIRST_STEPS)
    with torch.no_grad():
        values = transition_value(critic, policy.scale.batch(obs), policy.scale.batch(next_obs))
    twins = values[0].numpy()
    return {
        "discounted_return": float(seen.returns_to_go(gamma)[:, :STEPS][running].mean()),
        "value": float(twins.min(axis=0).mean()),
        "twin_gap": float(np.abs(twins[0] - twins[1]).mean()),
    }


_FIRST_STEPS = (slice(0, STEPS), slice(1, STEPS + 1))


def main() -> None:
    """Measure every seed of some runs, and write a row each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/online_values.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for path in arguments.runs:
        folder = RunFolder(path)
        config = read_json(path / "config.json")
        env_id = env_id_of_file(config["env_id"], folder.config)
        results = {seed["seed"]: seed for seed in read_json(folder.results)["seeds"]}
        for seed in config["seeds"]:
            found = measure(folder.seed(seed), env_id, config["config"]["algorithm"])
            row = {"env_id": env_id, "seed": seed, "last_3": results[seed]["last_3"]}
            rows.append({**row, **found})
            print(
                f"{env_id} seed {seed}, return {row['last_3']:.1f}: Q "
                f"{found['value']:.1f}, true {found['discounted_return']:.1f}, critics "
                f"{found['twin_gap']:.2f} apart",
                flush=True,
            )
    write_json(arguments.out, {"machine": machine(), "rows": rows})
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
