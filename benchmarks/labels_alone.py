"""TD3+BC on labels alone: what this member of the race returns where it takes all online steps.

    python -m benchmarks.labels_alone

BCO and D3G alone are methods of `qss reproduce table1`; the third member is one only here. It
learns from the recordings of published runs of auto, with their seeds and settings, and its last
policy acts in the episodes of their last evaluation. A repeat adds what is missing.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.comparison.entry import Entry
from qss_offline.comparison.rows import Row, read_rows
from qss_offline.comparison.study import ComparisonOptions, Study
from qss_offline.data.build import build_datasets
from qss_offline.data.load import load_transitions
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.files import write_json
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import read_json
from qss_offline.runs.portfolio_config import VALUES
from qss_offline.runs.provenance import machine
from qss_offline.runs.race import Race
from qss_offline.training.portfolio.trainer import PortfolioTrainer
from qss_offline.training.rounds import env_maker, episode_seed

RESULTS, RUNS = Path("benchmarks/results/labels_alone.json"), Path("runs/labels-alone")


class Alone(Race):
    """A race of one: TD3+BC on labels acts in every round but the first, as BCO alone does."""

    @property
    def leader(self) -> str:
        """Who won."""
        return VALUES

    def turn(self, rounds: int) -> str:
        """Return who acts in the next round."""
        return VALUES

    def noisy(self, rounds: int) -> bool:
        """Return whether the next round takes noise."""
        return True


def trainer_of(config: RunConfig, seed: int) -> PortfolioTrainer:
    """Return what spends the budget of a run of method auto on TD3+BC on labels alone."""
    recording, make_env = load_transitions(config.dataset_id).transitions, env_maker(config.env_id)
    assert config.portfolio is not None
    whole = ObservationScale.of_recording(config.facts)
    # D3G never acts: any proposal will do.
    shape = MLPShape((recording.obs_dim, recording.obs_dim))
    proposal = Network(shape, torch.zeros(1, sum(shape.sizes)))
    trainer = PortfolioTrainer(
        seed,
        recording,
        whole,
        ObservationScale.of_recording(config.facts.eased()),
        proposal,
        make_env,
        config.inverse,
        config.portfolio,
        config.facts.deterministic,
    )
    trainer.race = Alone(config.facts.deterministic)
    return trainer


def wanted(published: Path, seeds: int) -> list[tuple[Entry, float]]:
    """Return the first published runs of auto on each recording, with what they returned."""
    last = {
        row.key: row.mean_return
        for row in read_rows(published / "returns.csv", Row)
        if row.metric == "last"
    }
    entries = Study(ComparisonOptions("table1", methods="auto"), RUNS).entries
    counted: Counter[tuple[str, float]] = Counter()
    found = []
    for entry in (entry for entry in entries if entry.key in last):
        counted[entry.key[:2]] += 1
        if counted[entry.key[:2]] <= seeds:
            found.append((entry, last[entry.key]))
    return found


def measure(entry: Entry) -> dict[str, Any]:
    """Train on the recording of a run of method auto; return the last policy's returns."""
    build_datasets([entry.spec], 1, notice=lambda _: None)
    config = entry.begun().config
    assert isinstance(config, RunConfig) and config.env_id is not None
    trainer = trainer_of(config, entry.seed)
    for _ in range(config.inverse.rounds):
        trainer.run_round()
    episodes = config.evaluation_episodes, episode_seed(entry.seed, config.inverse.rounds)
    returns = evaluate(trainer.policy(0), config.env_id, *episodes).returns
    return {"key": entry.key, "dataset_id": config.dataset_id, "returns": returns}


def main() -> None:
    """Measure the first seeds of every recording, and print mean returns beside those of auto."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1, help="of each recording")
    parser.add_argument("--published", type=Path, default=Path("results/table1"))
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    rows = read_json(arguments.out)["rows"] if arguments.out.exists() else []
    done = {tuple(row["key"]) for row in rows}
    for entry, published in wanted(arguments.published, arguments.seeds):
        if entry.key not in done:
            rows.append(measure(entry))
            write_json(arguments.out, {"machine": machine(), "rows": rows})
            print(entry.name, f"{fmean(rows[-1]['returns']):.1f}, auto {published:.1f}", flush=True)


if __name__ == "__main__":
    main()
