"""What TF32 does to learning: offline D3G with matrix products rounded as a GPU's would be.

    python -m benchmarks.tf32 --seeds 3

On a GPU, `--tf32` lets matrix products round their operands to 10 bits of mantissa and add up in
float32. Here the operands of every matrix product of training are rounded so on the CPU, in the
same places; nothing else differs. Each seed is trained both ways on the same recording of random
behaviour, the inverse fit (in float32) follows, and the last policies are evaluated. What it says
of learning doesn't depend on the device; of speed it says nothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env, resolve_env_id
from qss_offline.data.facts import recording_facts
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.loop import fit
from qss_offline.evaluation.episodes import evaluate
from qss_offline.files import write_json
from qss_offline.parallel.progress import Reporter, progress
from qss_offline.presets import preset
from qss_offline.runs.folder import RunFolder, parse_seeds
from qss_offline.runs.provenance import machine
from qss_offline.training import offline as offline_training
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.offline import OfflineTrainer, SeedTask

EPISODES = 10
_DROPPED_BITS = 13


def rounded(tensor: Tensor) -> Tensor:
    """Round float32 to the nearest number with 10 bits of mantissa, ties to even."""
    bits = tensor.view(torch.int32)
    half = (1 << (_DROPPED_BITS - 1)) - 1
    bits = bits + half + ((bits >> _DROPPED_BITS) & 1)
    return (bits & -(1 << _DROPPED_BITS)).view(torch.float32)


@contextmanager
def emulated() -> Iterator[None]:
    """Round the operands of batched matrix products."""
    bmm, baddbmm = torch.bmm, torch.baddbmm

    def rounding_bmm(left: Tensor, right: Tensor, **arguments: Any) -> Tensor:
        return bmm(rounded(left), rounded(right), **arguments)

    def rounding_baddbmm(bias: Tensor, left: Tensor, right: Tensor) -> Tensor:
        return baddbmm(bias, rounded(left), rounded(right))

    # Compiled updates are straight lines of known operations, which rounding isn't.
    def eager_fit(*arguments: Any, **keywords: Any) -> None:
        fit(*arguments, **{**keywords, "mode": "eager"})

    with (
        patch.object(torch, "bmm", rounding_bmm),
        patch.object(torch, "baddbmm", rounding_baddbmm),
        patch.object(offline_training, "fit", eager_fit),
    ):
        yield


def main() -> None:
    """Train both ways, fit, evaluate, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--env", default="InvertedPendulum")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--updates", type=int, default=None)
    parser.add_argument("--runs", type=Path, default=Path("runs/tf32"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/tf32.json"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    env_id, seeds = resolve_env_id(arguments.env), parse_seeds(arguments.seeds)
    settings = preset("default", "d3g").spend(arguments.updates, None, None)
    dataset = build_dataset(DatasetSpec(env_id), progress=progress).obs_id
    transitions = load_transitions(dataset).transitions
    facts = recording_facts(transitions, settings.algorithm.normalize_observations)
    rows: list[dict[str, Any]] = []
    for arithmetic in ("float32", "tf32"):
        folder = RunFolder(arguments.runs / f"{env_id}-{arithmetic}")
        tasks = [SeedTask(seed, folder.seed(seed)) for seed in seeds]
        trainer = OfflineTrainer(tasks, transitions, settings.algorithm, facts)
        title = f"{arithmetic}, {len(seeds)} seeds"
        with progress(title, settings.updates * len(seeds), "updates") as report:

            def tick(
                units: float, phase: str = "", note: str = "", show: Reporter = report
            ) -> None:
                show(round(units), note)

            if arithmetic == "tf32":
                with emulated():
                    state = trainer.run(settings.updates, tick)
            else:
                state = trainer.run(settings.updates, tick)
        average = state.networks["proposal_average"]
        by_seed = {seed: row for row, seed in enumerate(state.seeds)}
        fitter = InverseFitter(
            seeds,
            [
                Network(average.shape, average.flat[by_seed[s] : by_seed[s] + 1].clone())
                for s in seeds
            ],
            [trainer.scale] * len(seeds),
            lambda: make_env(env_id),
            settings.inverse,
            recordings=[transitions] * len(seeds),
        )
        for _ in range(settings.inverse.rounds):
            fitter.run_round()
        for index, seed in enumerate(seeds):
            found = evaluate(fitter.policy(index), env_id, EPISODES, seed)
            rows.append({"arithmetic": arithmetic, "seed": seed, "returns": list(found.returns)})
            print(f"{arithmetic}, seed {seed}: {found.mean:.1f}", flush=True)
        described = {"env_id": env_id, "dataset": dataset, "updates": settings.updates}
        write_json(arguments.out, {"machine": machine(), **described, "rows": rows})
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
