"""Recordings without random actions: what an IDM learns of them, and what a policy should see.

    python -m benchmarks.deterministic runs/table1/hopper-0-auto-310 ...

takes runs of method auto, whose recordings have twins with the actions, and measures

- how far the labels of an IDM that learns from the run's online steps are from the true actions,
  where it learns from the recording, too, where it doesn't, and corrected by these steps;
- what a policy returns that clones the true actions, where it sees observations in units of their
  spread, in units of eased spreads (`data/facts.py`), and as they are;
- what the run's BCO returned, without noise on its actions and with that of the online rounds.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.networks import Network
from qss_offline.data.load import load_transitions
from qss_offline.engine.loop import fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.state import initial_state
from qss_offline.evaluation.actions import ActionBox
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import ClonedPolicy, ObservationScale
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.files import write_json
from qss_offline.runs.folder import RunFolder
from qss_offline.runs.portfolio_config import CLONING
from qss_offline.runs.provenance import machine
from qss_offline.runs.reader import read_run_config
from qss_offline.training.interaction import online_steps_of
from qss_offline.training.inverse.models import InverseModels
from qss_offline.training.recorded import RecordedColumns, batch_transform
from qss_offline.training.rounds import env_maker

RESULTS = Path("benchmarks/results/deterministic.json")
UPDATES, EPISODES, EPISODE_SEED = 10_000, 10, 12_345


def measure(run: Path, seeds: int) -> dict[str, Any]:
    """Measure both on the recording of a run."""
    folder = RunFolder(run)
    config = read_run_config(folder)
    (seed,) = config.seeds
    make_env = env_maker(config.env_id)
    assert make_env is not None and config.env_id is not None
    env = make_env()
    box = ActionBox.of(env.action_space)
    env.close()
    recording = load_transitions(config.dataset_id).transitions
    twin = load_transitions(config.dataset_id.replace("-obs-", "-act-")).transitions
    actions = torch.from_numpy(np.clip(box.to_unit(np.array(twin.actions)), -1, 1)).float()
    whole = ObservationScale.of_recording(config.facts)
    steps = replace(online_steps_of(folder.seed(seed)), units=box)
    half = UPDATES // 2

    def errors(coef: float, corrected: bool) -> float:
        """Mean squared error of the labels, over the variance of the true actions."""
        model = replace(config.inverse.model, recorded_coef=coef, corrected_labels=corrected)
        inverse = replace(
            config.inverse, rounds=1, steps_per_round=0, known_updates=half, updates_per_round=half,
            model=model,
        )  # fmt: skip
        models = InverseModels((seed,), (whole,), make_env, inverse, steps, (recording,))
        models.fit_round(lambda _: None)
        return float((models.labels(0) - actions).square().mean() / actions.var(0).mean())

    def cloned(scale: ObservationScale, number: int) -> float:
        """Mean return of a policy that repeats the true actions."""
        settings = CloningConfig((128, 128), 128, 1e-3, error_power=2.0)
        learner = BehaviouralCloning(settings, recording.obs_dim, actions.shape[1])
        state = initial_state(learner, [number])
        recorded = RecordedColumns(recording, scale, torch.device("cpu"))
        table = recorded.column("observations"), actions
        transform = batch_transform([recorded], ("observations", None))
        sampler = UniformSampler([table], settings.batch_size, LabelledBatch, transform)
        fit(learner, state, sampler, UPDATES, settings.learning_rate, mode="recorded")
        network = state.networks["policy"]
        policy = ClonedPolicy(Network(network.shape, network.flat.clone()), scale, box)
        return fmean(evaluate(policy, str(config.env_id), EPISODES, EPISODE_SEED).returns)

    cloner = load_policy(folder.seed(seed).member(CLONING).policy)
    rng, half_range = np.random.default_rng(EPISODE_SEED), (box.high - box.low) / 2

    def with_noise(obs: NDArray[Any]) -> NDArray[Any]:
        """Act as BCO, with the noise of online rounds: `(n, obs_dim)` to `(n, action_dim)`."""
        acted = cloner(obs)
        noise = rng.normal(0, config.inverse.exploration_noise, acted.shape) * half_range
        return np.clip(acted + noise, box.low, box.high).astype(acted.dtype)

    scales = {
        "whole": whole,
        "eased": ObservationScale.of_recording(config.facts.eased()),
        "none": ObservationScale(whole.mean, torch.ones_like(whole.std)),
    }
    return {
        "dataset_id": config.dataset_id,
        "behaviour_stochasticity": config.facts.behaviour_stochasticity,
        "label_error": {
            "with the recording": errors(1.0, False),
            "without": errors(0.0, False),
            "without, corrected": errors(0.0, True),
        },
        "cloned": {
            name: [cloned(scale, number) for number in range(seeds)]
            for name, scale in scales.items()
        },
        "bco": {
            name: fmean(evaluate(policy, str(config.env_id), EPISODES, EPISODE_SEED).returns)
            for name, policy in (("without noise", cloner), ("with noise", with_noise))
        },
    }


def main() -> None:
    """Measure each run, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path, help="runs of method auto")
    parser.add_argument("--seeds", type=int, default=3, help="cloned policies of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = []
    for run in arguments.runs:
        rows.append(measure(run, arguments.seeds))
        print(rows[-1], flush=True)
    write_json(arguments.out, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
