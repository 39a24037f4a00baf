"""Several proposals as one: the mean network, and runs that train each seed more than once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qss_offline.algorithms.ensemble import mean_network
from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.analysis.models import planner_of, policy_of
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import Policy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.launch.local import LocalLauncher
from qss_offline.presets import Preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json
from qss_offline.runs.reader import load_run
from qss_offline.training.offline import SeedTask, member_tasks
from qss_offline.training.runner import run
from tests.small_run import PRESET

ALONE = replace(PRESET, updates=200, inverse=replace(PRESET.inverse, rounds=1))
PAIR = replace(ALONE, ensemble=2)


@pytest.mark.parametrize("dims", [(3, 5), (3, 8, 2), (4, 8, 16, 1)])
def test_the_mean_network_gives_the_mean(dims: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = MLPShape(dims)
    networks = [
        Network(shape, torch.stack([shape.init(generator) for _ in range(2)])) for _ in range(3)
    ]
    inputs = torch.randn(2, 7, dims[0], generator=generator)
    expected = torch.stack([mlp(network, inputs) for network in networks]).mean(0)
    torch.testing.assert_close(mlp(mean_network(networks), inputs), expected)
    assert mean_network(networks[:1]) is networks[0]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    root = tmp_path_factory.mktemp("ensemble")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=500, shards=1)).obs_id
        folders = {}
        for name, preset, seeds in (
            ("alone", ALONE, (0, 1_000_000)),
            ("pair", PAIR, (0, 3)),
            ("again", PAIR, (0, 3)),
        ):
            folders[name] = RunFolder(root / name)
            run(_settings(dataset, preset, seeds), folders[name], launcher=LocalLauncher(1))
        # A run that was interrupted in the training of one of an ensemble, and resumed.
        again = folders["again"]
        again.results.unlink()
        for path in (again.seed(3).member(1).training, again.seed(3).online):
            path.unlink()
        again.seed(3).policy.unlink()
        again.seed(3).result.unlink()
        run(_settings(dataset, PAIR, (0, 3)), again, resume=True, launcher=LocalLauncher(1))
    return folders


def _settings(dataset: str, preset: Preset, seeds: tuple[int, ...]) -> RunConfig:
    return RunConfig(
        "d3g", "InvertedPendulum-v5", dataset, seeds, "small", preset, evaluation_episodes=2
    )


def test_each_of_an_ensemble_is_what_it_would_be_alone(runs: dict[str, RunFolder]) -> None:
    pair, alone = runs["pair"].seed(0), runs["alone"]
    for number, seed in ((0, 0), (1, 1_000_000)):
        assert pair.member(number).training.read_bytes() == alone.seed(seed).training.read_bytes()
    assert pair.training == pair.member(0).training


def test_the_policy_heads_for_the_mean_of_the_proposals(runs: dict[str, RunFolder]) -> None:
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)

    def proposed(folder: SeedFolder) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        policy = load_policy(folder.policy)
        assert isinstance(policy, Policy)
        return policy.propose(observations)

    both = [proposed(runs["alone"].seed(seed)) for seed in (0, 1_000_000)]
    mean = np.mean(both, axis=0)
    np.testing.assert_allclose(proposed(runs["pair"].seed(0)), mean, rtol=1e-4, atol=1e-5)
    assert not np.allclose(both[0], mean, rtol=1e-4, atol=1e-5)


def test_resumed_in_the_middle_of_an_ensemble_gives_the_same_policy(
    runs: dict[str, RunFolder],
) -> None:
    for seed in (0, 3):
        left, right = runs["pair"].seed(seed), runs["again"].seed(seed)
        assert left.policy.read_bytes() == right.policy.read_bytes()
        assert left.member(1).training.read_bytes() == right.member(1).training.read_bytes()


def test_what_reads_runs_knows_ensembles(runs: dict[str, RunFolder]) -> None:
    trained = load_run(runs["pair"].path)
    assert trained.config.preset.ensemble == 2
    observations = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    planner, policy = planner_of(trained, 3), policy_of(trained, 3)
    np.testing.assert_array_equal(planner.propose(observations), policy.propose(observations))
    results = read_json(runs["pair"].results)
    assert (results["updates"], results["ensemble"]) == (200, 2)


def test_an_ensemble_costs_what_it_says() -> None:
    assert PAIR.offline_updates == 400
    alone = replace(PAIR, ensemble=1)
    assert _settings("", PAIR, (0,)).units - _settings("", alone, (0,)).units == 200
    with pytest.raises(UserError, match="ensemble"):
        replace(PAIR, ensemble=0)


def test_seeds_that_would_meet_are_refused(tmp_path: Path) -> None:
    task = SeedTask(1_000_000, SeedFolder(tmp_path))
    assert member_tasks(task, 1) == [task]
    with pytest.raises(UserError, match="below 1,000,000"):
        member_tasks(task, 2)
