"""What it costs that Q(s,s') can't see what an action costs: Reacher's rewards with and without.

    python -m benchmarks.action_costs

Reacher's reward is less by the squared action. Random behaviour is recorded twice, with the same
seeds: with that cost in the recorded rewards, where it looks like noise of the transition, and
without. One training of D3G (preset quick) for each seed and recording; all last policies act in
the same episodes of the environment that charges for actions.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

import qss_offline as qss
from qss_offline.evaluation.acting import let_act
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

RESULTS = Path("benchmarks/results/action_costs.json")
CHARGED, FREE = "Reacher-v5", "Reacher-v5?reward_control_weight=0"
ACTED_IN = "Reacher-v5?reward_control_weight=1"
"""Said, since a policy's environment keeps the arguments that it was trained with."""

TRANSITIONS, EPISODES, EPISODE_SEED = 100_000, 100, 12_345


def measure(env_id: str, seeds: range, recording_seed: int, runs: Path) -> dict[str, Any]:
    """Learn from rewards of one kind, and act where actions are charged for."""
    recording = qss.Recording.from_env(env_id, steps=TRANSITIONS, seed=recording_seed)
    out = runs / ("charged" if env_id == CHARGED else "free")
    run = qss.train(recording, preset="quick", seeds=list(seeds), out=out, if_exists="resume")
    acted = {
        str(seed): let_act(run.folder.seed(seed).policy, EPISODES, EPISODE_SEED, ACTED_IN)[
            "returns"
        ]
        for seed in seeds
    }
    return {"recorded_in": env_id, "recording_seed": recording_seed, "returns": acted}


def main() -> None:
    """Measure both, and print the mean of each seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=400)
    parser.add_argument("--recording-seed", type=int, default=41)
    parser.add_argument("--runs", type=Path, default=Path("runs/action-costs"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    rows = [
        measure(env_id, seeds, arguments.recording_seed, arguments.runs)
        for env_id in (CHARGED, FREE)
    ]
    write_json(arguments.out, {"acted_in": ACTED_IN, "machine": machine(), "rows": rows})
    for row in rows:
        means = [fmean(returns) for returns in row["returns"].values()]
        listed = ", ".join(f"{mean:.2f}" for mean in means)
        print(f"recorded in {row['recorded_in']}: {fmean(means):.2f} ({listed})")


if __name__ == "__main__":
    main()
