"""How good are the proposals while they are learned: measured against the simulator.

    python -m benchmarks.proposals --family inverted_pendulum --level 50 --seeds 10

Trains offline D3G as ever, stops every few thousand updates, and asks, without an inverse
dynamics model in between: what is the value of the best next state within reach, of the one that
the cycle reaches, and of an average one; how far are proposals from what is within reach; and
what return does a policy get that takes the action leading nearest to the proposal. Settings are
those of a preset but for `--set name=value`. A run that was stopped goes on where it stood.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from qss_offline.acting import ObservationScale
from qss_offline.algorithms.folding import gives_states, sees_states
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G, ObservationalD3GConfig
from qss_offline.changes import changed
from qss_offline.data.build import build_dataset
from qss_offline.data.environments import make_env
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import load_family
from qss_offline.engine.state import TrainState
from qss_offline.evaluation import evaluate
from qss_offline.files import write_bytes, write_json
from qss_offline.machine import machine
from qss_offline.offline_training import OfflineTrainer, SeedTask, step_scale
from qss_offline.planning import Planner
from qss_offline.presets import preset
from qss_offline.progress import progress
from qss_offline.reachable import Simulator
from qss_offline.recording_facts import recording_facts
from qss_offline.report.figures import png
from qss_offline.runs import RunFolder, parse_seeds, read_json

STATES = 200


def planner(
    config: ObservationalD3GConfig, state: TrainState, index: int, scale: ObservationScale
) -> Planner:
    """Return what one seed of a stack has learned."""
    shapes = ObservationalD3G(config, len(scale.mean)).shapes

    def network(shape: str, name: str) -> Network:
        return Network(shapes[shape], state.networks[name].flat[index : index + 1])

    spread = step_scale(config, [scale])
    return Planner(
        gives_states(network("proposal", "proposal_average"), spread),
        sees_states(network("critic", "critic"), spread),
        gives_states(network("q_forward_model", "q_forward_model"), spread),
        scale,
        network("state_value", "state_value") if "state_value" in shapes else None,
    )


class Judge:
    """Measures one seed's proposals.

    Args:
        env_id: where they are made.
        obs: `(n, obs_dim)` recorded states, in the environment's units.
        scale: of the recording.
        episodes: of each evaluation.
        step_units: whether the cycle error is weighed in units of a step.
    """

    def __init__(
        self,
        env_id: str,
        obs: np.ndarray[Any, Any],
        scale: ObservationScale,
        episodes: int,
        step_units: bool = False,
    ) -> None:
        self._env_id, self._obs, self._episodes = env_id, obs, episodes
        self._simulator = Simulator(env_id)
        self._next = self._simulator.next_observations(obs)
        assert scale.step_std is not None
        self._step_std = (scale.std * scale.step_std).numpy()
        self._unit = self._step_std if step_units else scale.std.numpy()

    def __call__(self, seed: Planner) -> dict[str, float]:
        """Return means over the states, and the mean return."""
        count = self._next.shape[1]
        values = seed.value(
            np.repeat(self._obs, count, 0), self._next.reshape(-1, len(seed.scale.mean))
        )
        values = values.reshape(-1, count)
        proposed, reached = seed.propose(self._obs), seed.reach(self._obs)
        misses = (self._next - proposed[:, None]) / self._step_std
        returns = evaluate(
            self._simulator.policy(seed.propose, self._step_std),
            self._env_id,
            self._episodes,
            make=make_env,
        ).returns
        return {
            "best_value": float(values.max(1).mean()),
            "average_value": float(values.mean()),
            "reached_value": float(seed.value(self._obs, reached).mean()),
            "cycle_error": float(np.square((proposed - reached) / self._unit).mean()),
            "distance": float(np.sqrt(np.square(misses).sum(-1)).min(1).mean()),
            "mean_return": float(np.mean(returns)),
        }


def picture(rows: list[dict[str, Any]], title: str) -> bytes:
    """Draw returns and values over updates, a line a seed."""
    figure = Figure(figsize=(9.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    seeds = sorted({row["seed"] for row in rows})
    for number, seed in enumerate(seeds):
        mine = [row for row in rows if row["seed"] == seed]
        updates = [row["update"] for row in mine]
        color = f"C{number % 10}"
        left.plot(updates, [row["mean_return"] for row in mine], color=color, label=str(seed))
        best = [row["best_value"] for row in mine]
        right.plot(updates, best, color=color, linestyle=":")
        right.plot(updates, [row["reached_value"] for row in mine], color=color)
    left.set(xlabel="updates", ylabel="return, true inverse dynamics", title=title)
    left.legend(title="seed", fontsize="small", ncols=2)
    right.set(xlabel="updates", ylabel="min Q", title="reached (solid), best within reach (dotted)")
    return png(figure)


def main() -> None:
    """Train, measure, write after each measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="inverted_pendulum")
    parser.add_argument("--level", type=float, default=50, help="random actions, percent")
    parser.add_argument("--data-seed", type=int, default=None, help="of the recording")
    parser.add_argument("--preset", default="default")
    parser.add_argument("--set", action="append", default=[], help="name=value of the algorithm")
    parser.add_argument("--seeds", default="3")
    parser.add_argument("--updates", type=int, default=80_000)
    parser.add_argument("--every", type=int, default=4_000)
    parser.add_argument("--episodes", type=int, default=5)
    parser.add_argument("--name", required=True, help="of the run and of its results")
    parser.add_argument("--runs", type=Path, default=Path("runs/proposals"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/proposals"))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    config = changed(preset(arguments.preset).algorithm, arguments.set)
    specs = {
        s.random_action_prob: s for s in load_family(Path("datasets") / f"{arguments.family}.toml")
    }
    spec = specs[arguments.level / 100]
    if arguments.data_seed is not None:
        spec = replace(spec, seed=arguments.data_seed)
    dataset = build_dataset(spec, progress=progress).obs_id
    transitions = load_transitions(dataset).transitions
    facts = recording_facts(transitions, config.normalize_observations)
    scale = facts.scale
    chosen = np.random.default_rng(0).choice(len(transitions), STATES, replace=False)
    judge = Judge(
        spec.env_id,
        np.asarray(transitions.observations[np.sort(chosen)]),
        scale,
        arguments.episodes,
        config.step_units,
    )
    folder = RunFolder(arguments.runs / arguments.name)
    folder.start(
        {"dataset": dataset, "algorithm": config, "every": arguments.every},
        resume=folder.started,
    )
    seeds = parse_seeds(arguments.seeds)
    tasks = [SeedTask(seed, dataset, folder.seed(seed)) for seed in seeds]
    trainer = OfflineTrainer(tasks, {dataset: transitions}, config, {dataset: facts})
    out = arguments.out / f"{arguments.name}.json"
    rows: list[dict[str, Any]] = read_json(out)["rows"] if out.exists() else []
    done = max((row["update"] for row in rows), default=0)
    with progress(f"{len(seeds)} seeds", arguments.updates * len(seeds), "updates") as report:
        for update in range(done + arguments.every, arguments.updates + 1, arguments.every):
            state = trainer.run(arguments.updates, report, stop_at=update)
            for index, seed in enumerate(seeds):
                measured = judge(planner(config, state, index, scale))
                rows.append({"seed": seed, "update": update, **measured})
            described = {
                "dataset": dataset,
                "algorithm": asdict(config),
                "episodes": arguments.episodes,
            }
            write_json(out, {"machine": machine(), **described, "rows": rows})
    title = f"{spec.env_id}, {arguments.level:g}% random"
    write_bytes(arguments.out / f"{arguments.name}.png", picture(rows, title))
    last = [row for row in rows if row["update"] == arguments.updates]
    for row in last:
        print(
            f"seed {row['seed']}: return {row['mean_return']:.1f}, "
            f"reached {row['reached_value']:.2f} of {row['best_value']:.2f} within reach"
        )
    print(f"written: {out}")


if __name__ == "__main__":
    main()
