"""What cloning makes of recordings whose actions are known, observations scaled or not.

    python -m benchmarks.regression datasets/inverted_double_pendulum.toml datasets/hopper.toml

BCO's policy is taught the recorded actions themselves, so that nothing here is an inverse model's
doing: what returns are lost are lost by the regression. Policies see observations in units of their
spread in the recording, as all presets but `paper` have it, or unscaled.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from qss_offline.acting import ActionBox, ClonedPolicy
from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.networks import Network
from qss_offline.data.collect import collect, complete_returns
from qss_offline.data.environments import make_env
from qss_offline.data.specs import read_family
from qss_offline.data.transitions import Transitions
from qss_offline.engine.fit import fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.state import initial_state
from qss_offline.evaluation import evaluate
from qss_offline.files import write_json
from qss_offline.machine import machine
from qss_offline.recording_facts import observation_scale
from qss_offline.runs import parse_seeds

CLONING = CloningConfig(hidden_dims=(128, 128), batch_size=128, learning_rate=1e-3)


def clone(
    recording: Transitions, env_id: str, seeds: tuple[int, ...], updates: int, scaled: bool
) -> list[ClonedPolicy]:
    """Return a policy of each seed that was taught the recorded actions.

    Args:
        recording: with actions.
        env_id: where they act.
        seeds: of the policies.
        updates: gradient steps of each.
        scaled: whether they see observations in units of their spread.
    """
    assert recording.actions is not None
    env = make_env(env_id)
    box = ActionBox.of(env.action_space)
    env.close()
    scale = observation_scale(recording, scaled)
    obs = scale.apply(torch.from_numpy(np.array(recording.observations)))
    actions = torch.from_numpy(np.clip(box.to_unit(np.array(recording.actions)), -1, 1))
    algorithm = BehaviouralCloning(CLONING, obs.shape[1], actions.shape[1])
    state = initial_state(algorithm, seeds)
    tables = [(obs, actions)] * len(seeds)
    sampler = UniformSampler(tables, CLONING.batch_size, LabelledBatch)
    fit(algorithm, state, sampler, updates, CLONING.learning_rate, mode="compiled")
    network = state.networks["policy"]
    return [
        ClonedPolicy(Network(network.shape, network.flat[row : row + 1].clone()), scale, box)
        for row in range(len(seeds))
    ]


def main() -> None:
    """Record every family without chance, clone it both ways, and evaluate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("families", type=Path, nargs="+", help="TOML files (datasets/*.toml)")
    parser.add_argument("--level", type=float, default=0.0, help="share of random actions")
    parser.add_argument("--transitions", type=int, default=100_000)
    parser.add_argument("--data-seed", type=int, default=0)
    parser.add_argument("--seeds", default="100,101,102")
    parser.add_argument("--updates", type=int, default=15_000)
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/regression.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = parse_seeds(arguments.seeds)
    rows: list[dict[str, Any]] = []
    table = Table("family", "recorded", "scaled", "as they are")
    for family in arguments.families:
        any_spec = next(spec for spec in read_family(family).specs if spec.expert is not None)
        spec = replace(
            any_spec,
            random_action_prob=arguments.level,
            transitions=arguments.transitions,
            seed=arguments.data_seed,
        )
        recording = collect(spec)
        means: dict[bool, list[float]] = {}
        for scaled in (True, False):
            policies = clone(recording, spec.env_id, seeds, arguments.updates, scaled)
            results = [
                evaluate(policy, spec.env_id, arguments.episodes, seed, make_env)
                for policy, seed in zip(policies, seeds, strict=True)
            ]
            means[scaled] = [result.mean for result in results]
            rows.append(
                {
                    "family": family.stem,
                    "random_action_prob": arguments.level,
                    "transitions": arguments.transitions,
                    "data_seed": arguments.data_seed,
                    "updates": arguments.updates,
                    "scaled": scaled,
                    "seeds": list(seeds),
                    "returns": [list(result.returns) for result in results],
                    "means": means[scaled],
                }
            )
            write_json(arguments.out, {"machine": machine(), "rows": rows})
        recorded = float(np.mean(complete_returns(recording, spec)))
        shown = (", ".join(f"{mean:.0f}" for mean in means[scaled]) for scaled in (True, False))
        table.add_row(family.stem, f"{recorded:.0f}", *shown)
    Console().print(table)
    print(f"written to {arguments.out}")


if __name__ == "__main__":
    main()
