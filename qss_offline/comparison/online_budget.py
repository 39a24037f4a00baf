"""How few online steps are enough: trained proposals, the inverse fit at several budgets.

Offline D3G is expensive and takes no online steps; the inverse fit is cheap. So the proposals of
one run are used again for every budget, each time with a fresh I(s, s').
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.observational_d3g import ObservationalD3G, ObservationalD3GConfig
from qss_offline.comparison.rows import read_rows
from qss_offline.data.environments import env_id_of_file, make_env
from qss_offline.data.facts import RecordingFacts, facts_of_config
from qss_offline.data.load import load_transitions
from qss_offline.engine.checkpoint import load_checkpoint, network_of
from qss_offline.engine.streams import seed_of
from qss_offline.errors import UserError
from qss_offline.evaluation.episodes import evaluate
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.overrides import changed
from qss_offline.parallel.processes import Tick
from qss_offline.parallel.reporting import ProgressFactory, no_progress, no_tick
from qss_offline.runs.config import Preset
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.tables import write_table
from qss_offline.settings_json import from_plain
from qss_offline.training.interaction import known_steps
from qss_offline.training.inverse.fitting import InverseFitter


@dataclass(frozen=True)
class BudgetRow:
    """What one seed's policy gets after so many online steps.

    Attributes:
        env_id: where it acts.
        dataset_id: what its proposals were learned from.
        variant: name of the inverse fit's settings.
        seed: of the proposals and of the inverse fit.
        online_steps: environment steps of its own that the IDM was fitted on, without those of
            `--actions-from`.
        mean_return: of the last policy, over the episodes of one evaluation.
    """

    env_id: str
    dataset_id: str
    variant: str
    seed: int
    online_steps: int
    mean_return: float


@dataclass(frozen=True)
class TrainedProposals:
    """The proposals of some seeds of a run, and what they were learned from.

    Attributes:
        folder: of the run.
        env_id: where they are made.
        dataset_id: the recording.
        seeds: of the run.
        proposals: τ of each seed as it was trained, of an ensemble the mean, `(1, P)`.
        config: settings of offline D3G.
        inverse: settings of the run's own inverse fit.
        recording: what was measured of the recording.
    """

    folder: RunFolder
    env_id: str
    dataset_id: str
    seeds: tuple[int, ...]
    proposals: tuple[Network, ...]
    config: ObservationalD3GConfig
    inverse: InverseFitConfig
    recording: RecordingFacts


def load_proposals(path: Path) -> TrainedProposals:
    """Read the proposals of a run of offline D3G.

    Raises:
        UserError: the folder holds no such run, or no seed of it is trained.
    """
    folder = RunFolder(path)
    if not folder.started:
        raise UserError(f"{path} holds no run (no config.json)")
    config = read_json(path / "config.json")
    try:
        preset = from_plain(Preset, config["preset"], str(path))
        env_id = env_id_of_file(config["env_id"], folder.config)
        dataset_id = str(config["dataset_id"])
    except KeyError as error:
        raise UserError(f"{path} holds no run of offline D3G: {error} is missing") from error
    found = sorted(
        int(p.parent.name)
        for p in path.glob("seeds/*/training.safetensors")
        if p.parent.name.isdigit()
    )
    if not found:
        raise UserError(f"{path} holds no trained seed")
    facts = facts_of_config(config, str(folder.config))
    shape = ObservationalD3G(preset.algorithm, len(facts.step_std)).shapes["proposal"]
    proposals = []
    for seed in found:
        trained = []
        for number in range(preset.ensemble):
            checkpoint = load_checkpoint(folder.seed(seed).member(number).training)
            done, updates = int(checkpoint.metadata["update"]), preset.updates
            if done < updates:
                raise UserError(
                    f"{path} isn't done: seed {seed} stands at update {done:,} of {updates:,}; "
                    "finish it first, with qss resume"
                )
            trained.append(network_of(checkpoint, "proposal_average", shape))
        proposals.append(mean_network(trained))
    return TrainedProposals(
        folder,
        env_id,
        dataset_id,
        tuple(found),
        tuple(proposals),
        preset.algorithm,
        preset.inverse,
        facts,
    )


def fit_budget(
    trained: TrainedProposals,
    inverse: InverseFitConfig,
    variant: str,
    episodes: int,
    tick: Tick = no_tick,
    actions_from: str | None = None,
) -> list[BudgetRow]:
    """Fit an IDM for every seed on one budget, and evaluate the last policies.

    Args:
        trained: the proposals.
        inverse: the budget.
        variant: its name.
        episodes: of each evaluation.
        tick: called with the work of one seed so far (`runs/work.py`).
        actions_from: another recording in the environment, with actions, or folder of an earlier
            run, that the IDM learns from first.

    Raises:
        UserError: these can't be used.
    """
    dataset = load_transitions(trained.dataset_id)
    trained.folder.check_recording(trained.dataset_id, dataset.info.digest)
    transitions = dataset.transitions
    scale = ObservationScale.of_recording(trained.recording)
    fitter = InverseFitter(
        trained.seeds,
        trained.proposals,
        [scale] * len(trained.seeds),
        lambda: make_env(trained.env_id),
        inverse,
        known_steps(actions_from, trained.env_id),
        [transitions] * len(trained.seeds),
    )
    for _ in range(inverse.rounds):
        fitter.run_round(tick)
    rows = []
    for index, seed in enumerate(trained.seeds):
        # The same episodes for every budget and variant: in Reacher the goal makes more difference.
        start = seed_of(seed, "budget")
        found = evaluate(fitter.policy(index), trained.env_id, episodes, start)
        rows.append(
            BudgetRow(
                trained.env_id,
                trained.dataset_id,
                variant,
                seed,
                inverse.online_steps,
                round(found.mean, 3),
            )
        )
    return rows


def spread(inverse: InverseFitConfig, online_steps: int) -> InverseFitConfig:
    """Return the fit with another budget, spread evenly over its rounds.

    Raises:
        UserError: it can't be.
    """
    if online_steps <= 0 or online_steps % inverse.rounds:
        raise UserError(
            f"{online_steps} online steps can't be spread evenly over {inverse.rounds} rounds"
        )
    return replace(inverse, steps_per_round=online_steps // inverse.rounds)


def fit_missing(
    runs: Sequence[TrainedProposals],
    budgets: Sequence[int],
    table: Path,
    *,
    rounds: int,
    updates: int | None,
    changes: Sequence[str],
    variant: str,
    episodes: int,
    actions_from: str | None = None,
    show_progress: ProgressFactory = no_progress,
) -> list[BudgetRow]:
    """Fit and evaluate what a table lacks, and add it, budget by budget.

    Args:
        runs: the proposals.
        budgets: online steps.
        table: the CSV file.
        rounds: of each budget.
        updates: of the IDM in all; None takes as many as the run's own.
        changes: `name=value` of other settings of the inverse fit.
        variant: name of these settings.
        episodes: of each evaluation.
        actions_from: as for `fit_budget`.
        show_progress: makes a progress display.

    Returns:
        All rows of the table.

    Raises:
        UserError: these can't be used.
    """
    rows = read_rows(table, BudgetRow)
    jobs = []
    for trained in runs:
        in_all = trained.inverse.updates(known=False) if updates is None else updates
        inverse = replace(trained.inverse, rounds=rounds, updates_per_round=in_all // rounds)
        for budget in budgets:
            config = spread(changed(inverse, changes), budget)
            key = trained.dataset_id, variant, budget
            there = {r.seed for r in rows if (r.dataset_id, r.variant, r.online_steps) == key}
            if not there >= set(trained.seeds):
                jobs.append((trained, config))
    sizes = [config.work(actions_from is not None) for _, config in jobs]
    with show_progress(f"{len(jobs)} fits", round(sum(sizes)), "updates") as report:
        for index, (trained, config) in enumerate(jobs):

            def tick(
                units: float, phase: str = "", note: str = "", done: float = sum(sizes[:index])
            ) -> None:
                report(round(done + units), phase)

            found = fit_budget(trained, config, variant, episodes, tick, actions_from)
            fresh = {_key(row) for row in found}
            rows = [row for row in rows if _key(row) not in fresh] + found
            write_table(table, BudgetRow, rows)
    return rows


def _key(row: BudgetRow) -> tuple[str, str, int, int]:
    return row.dataset_id, row.variant, row.online_steps, row.seed


def returns_by_budget(rows: Sequence[BudgetRow]) -> dict[tuple[str, str, int], list[float]]:
    """Return the mean return of each seed, by recording, variant and online steps."""
    found: dict[tuple[str, str, int], list[float]] = {}
    for row in rows:
        key = row.dataset_id, row.variant, row.online_steps
        found.setdefault(key, []).append(row.mean_return)
    return found
