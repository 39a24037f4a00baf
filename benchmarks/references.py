"""What random actions and the shipped expert return: the two ends of normalised returns.

    python -m benchmarks.references

`evaluation/normalization.py` holds these figures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.families import expert_path
from qss_offline.data.policies import load_expert
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.normalization import REFERENCES
from qss_offline.files import write_json
from qss_offline.runs.provenance import machine

EPISODES, SEED = 200, 0


def main() -> None:
    """Let random actions and each expert act, and write what they returned."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/references.json"))
    arguments = parser.parse_args()
    described, rows = machine(), dict[str, Any]()
    for name in REFERENCES:
        env_id = resolve_env_id(name)
        rows[name] = {"env_id": env_id, "episodes": EPISODES, "seed": SEED}
        for kind, policy in (("random", _at_random(env_id)), ("expert", _expert(env_id))):
            returns = evaluate(policy, env_id, EPISODES, SEED).returns
            error = float(np.std(returns)) / EPISODES**0.5
            rows[name][kind] = {"mean": float(np.mean(returns)), "standard_error": error}
        print(name, *(rows[name][kind]["mean"] for kind in ("random", "expert")), flush=True)
        write_json(arguments.out, {"machine": described, "rows": rows})
    print(f"written to {arguments.out}")


def _at_random(env_id: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    env = make_env(env_id)
    box, rng = env.action_space, np.random.default_rng(SEED)
    env.close()
    assert isinstance(box, gym.spaces.Box)
    return lambda obs: rng.uniform(box.low, box.high, (len(obs), *box.shape)).astype(box.dtype)


def _expert(env_id: str) -> Callable[[NDArray[Any]], NDArray[Any]]:
    expert = load_expert(expert_path(env_id))
    return lambda obs: np.stack([expert(row) for row in obs])


if __name__ == "__main__":
    main()
