"""Steps a second of the online loop: D3G with 1 and 10 seeds beside d3rlpy's TD3, in one run.

    python -m benchmarks.online

An environment step, its exploration, and one update, at the paper's sizes (width 256, batch 256),
one thread each, in turns: D3G alone, ten seeds of D3G in one stack, TD3 in d3rlpy's own
`fit_online`, and TD3 in our loop (`baselines/online.py`). Each is timed after its warm-up; every
round is kept. Seed-steps a second count the steps of all seeds. D3G updates more networks a
step than TD3: its two dynamics models besides critic and proposal.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from qss_offline.baselines import require_d3rlpy
from qss_offline.files import write_json
from qss_offline.online.config import EvaluationPlan, OnlineConfig
from qss_offline.online.env_loop import OnlineTask
from qss_offline.online.presets import online_preset
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.runs.folder import SeedFolder
from qss_offline.runs.provenance import machine

ENV_ID = "InvertedPendulum-v5"
WARM_UP = 1_000
# Steps that aren't timed: before, as updates are recorded in the first of them; and after, as the
# last evaluation comes before the last report.
_BEFORE, _AFTER = 100, 100
RESULTS = Path("benchmarks/results/online.json")


class Clock:
    """Seconds from the end of the warm-up, as seen by what is called at each step.

    Args:
        steps: of one seed, after which time is taken.
        seeds: how many steps are counted together.
    """

    def __init__(self, steps: int, seeds: int) -> None:
        self._first = (WARM_UP + _BEFORE) * seeds
        self._last = self._first + steps * seeds
        self._begun = self.seconds = 0.0

    def tick(self, done: float, phase: str = "", note: str = "") -> None:
        """Take note of the steps done, over all seeds."""
        if done <= self._first:
            self._begun = time.perf_counter()
        elif done <= self._last:
            self.seconds = time.perf_counter() - self._begun


def config(steps: int) -> OnlineConfig:
    """Return the authors' settings with a short warm-up."""
    return replace(online_preset("paper"), steps=_total(steps), warm_up=WARM_UP)


def _total(steps: int) -> int:
    return WARM_UP + _BEFORE + steps + _AFTER


# One evaluation at the end, outside the time taken.
_PLAN = EvaluationPlan(10**9, 1)


def d3g(seeds: int, steps: int) -> float:
    """Seed-steps a second of S seeds of D3G in one stack."""
    clock = Clock(steps, seeds)
    with tempfile.TemporaryDirectory() as folder:
        tasks = [OnlineTask(seed, SeedFolder(Path(folder) / str(seed))) for seed in range(seeds)]
        OnlineTrainer(tasks, ENV_ID, config(steps), _PLAN).run(clock.tick)
    return steps * seeds / clock.seconds


def td3_fit_online(steps: int) -> float:
    """Steps a second of `fit_online` as d3rlpy's own examples call it."""
    import gymnasium as gym
    from d3rlpy.algos import NormalNoise, TD3Config
    from d3rlpy.dataset import create_fifo_replay_buffer
    from d3rlpy.logging import NoopAdapterFactory
    from d3rlpy.preprocessing import MinMaxActionScaler

    env, clock, total = gym.make(ENV_ID), Clock(steps, 1), _total(steps)
    TD3Config(batch_size=256, action_scaler=MinMaxActionScaler()).create(device="cpu:0").fit_online(
        env,
        create_fifo_replay_buffer(limit=total, env=env),
        NormalNoise(std=0.3),
        n_steps=total,
        n_steps_per_epoch=total,
        update_start_step=WARM_UP,
        random_steps=WARM_UP,
        save_interval=2,
        logger_adapter=NoopAdapterFactory(),
        show_progress=False,
        callback=lambda algo, epoch, step: clock.tick(step),
    )
    return steps / clock.seconds


def td3_ours(steps: int) -> float:
    """Steps a second of d3rlpy's TD3 in our loop."""
    from qss_offline.baselines.online import train_online

    clock = Clock(steps, 1)
    with tempfile.TemporaryDirectory() as folder:
        task = OnlineTask(0, SeedFolder(Path(folder)))
        train_online("td3", ENV_ID, config(steps), _PLAN, task, clock.tick)
    return steps / clock.seconds


def main() -> None:
    """Measure in turns, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    require_d3rlpy()
    torch.set_num_threads(1)
    ways: dict[str, Callable[[int], float]] = {
        "D3G, 1 seed": lambda steps: d3g(1, steps),
        "D3G, 10 seeds in a stack": lambda steps: d3g(10, max(steps // 10, 100)),
        "TD3, d3rlpy's fit_online": td3_fit_online,
        "TD3, d3rlpy in our loop": td3_ours,
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.rounds):
        for name, way in ways.items():
            measured[name].append(way(arguments.steps))
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "seed_steps_per_second": round(statistics.median(rates), 1),
            "rounds": [round(rate, 1) for rate in rates],
        }
        for name, rates in measured.items()
    ]
    write_json(arguments.out, {"machine": machine(), "environment": ENV_ID, "rows": rows})
    for row in rows:
        print(f"{row['name']}: {row['seed_steps_per_second']} seed-steps/s, rounds {row['rounds']}")


if __name__ == "__main__":
    main()
