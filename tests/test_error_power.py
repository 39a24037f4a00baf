"""What a recording says of the power of errors: measured, and the same as told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qss_offline import error_power
from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.bco_training import BCOTrainer
from qss_offline.data.build import build_dataset
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import Transitions
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.engine.state import initial_state
from qss_offline.error_power import power_of, settled_power
from qss_offline.errors import UserError
from qss_offline.inverse_config import InverseFitConfig
from qss_offline.offline_run import run
from qss_offline.offline_training import OfflineTrainer, SeedTask
from qss_offline.presets import PRESETS
from qss_offline.runs import RunFolder, SeedFolder
from qss_offline.trained_run import load_run
from recipes.random_obs import chance_line
from tests.small_run import settings
from tests.test_bco import CLONING, MODEL, SCALE, PointMass, expert_recording

CONFIG = ObservationalD3GConfig(
    (8, 8), 32, normalize_observations=True, behaviour_coef=1000.0, behaviour_weights="plain"
)


def with_chance(recording: Transitions, share: float) -> Transitions:
    """The recording, but at a share of its steps the point moves at random."""
    rng = np.random.default_rng(0)
    chance = rng.uniform(size=len(recording)) < share
    moves = rng.uniform(-2, 2, (len(recording), 1)).astype(np.float32)
    columns = recording.columns() | {
        "next_observations": np.where(
            chance[:, None], recording.observations + moves, recording.next_observations
        )
    }
    return Transitions(**columns)


PLAIN = expert_recording(40)
MIXED = with_chance(PLAIN, 0.25)


def test_chance_asks_for_the_mode_and_none_for_the_mean() -> None:
    assert settled_power(None, [PLAIN]) == 2.0
    assert settled_power(None, [MIXED, with_chance(PLAIN, 0.1)]) == 0.5
    assert settled_power(1.0, [MIXED, PLAIN]) == 1.0
    assert power_of(None) == 0.5, "where it can't be told, chance isn't ruled out"
    with pytest.raises(UserError, match="some hold chance and some don't"):
        settled_power(None, [MIXED, PLAIN])


@pytest.mark.parametrize(("recording", "power"), [(PLAIN, 2.0), (MIXED, 0.5)])
def test_d3g_measured_is_d3g_told(recording: Transitions, power: float, tmp_path: Path) -> None:
    def trained(asked: float | None) -> dict[str, torch.Tensor]:
        task = SeedTask(0, "x", SeedFolder(tmp_path / str(asked)))
        config = replace(CONFIG, behaviour_power=asked)
        OfflineTrainer([task], {"x": recording}, config).run(100, lambda updates: None)
        return load_checkpoint(task.folder.training).tensors

    measured, told, other = trained(None), trained(power), trained(2.5 - power)
    assert all(torch.equal(measured[name], told[name]) for name in told)
    assert any(not torch.equal(other[name], told[name]) for name in told)


@pytest.mark.parametrize(("recording", "power"), [(PLAIN, 2.0), (MIXED, 0.5)])
def test_bco_measured_is_bco_told(recording: Transitions, power: float) -> None:
    def trained(asked: float | None) -> torch.Tensor:
        trainer = BCOTrainer(
            [0],
            [recording],
            [SCALE],
            PointMass,
            InverseFitConfig(1, 100, 50, model=MODEL),
            replace(CLONING, error_power=asked),
            cloning_updates=50,
        )
        trainer.run_round()
        return trainer.policy(0).policy.flat

    assert torch.equal(trained(None), trained(power))
    assert not torch.equal(trained(None), trained(2.5 - power))


def test_losses_are_given_numbers() -> None:
    algorithm = ObservationalD3G(replace(CONFIG, behaviour_power=None), 3)
    networks = algorithm.parameters_type(**initial_state(algorithm, [0]).networks)
    obs = torch.zeros(1, 4, 3)
    batch = ObservationBatch(obs, obs, obs[..., 0], obs[..., 0])
    with pytest.raises(UserError, match="measured before training"):
        algorithm.proposal_loss(networks, batch)
    with pytest.raises(UserError, match="measured before training"):
        BehaviouralCloning(CloningConfig(error_power=None), 3, 1)


def test_who_measures() -> None:
    assert PRESETS["bodies"].algorithm.behaviour_power is None
    assert PRESETS["paper"].algorithm.behaviour_power == 2


def test_a_run_that_measured_is_looked_at(minari_root: Path, tmp_path: Path) -> None:
    dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id
    few = settings(dataset)
    algorithm = replace(few.preset.algorithm, behaviour_coef=1.0, behaviour_power=None)
    preset = replace(few.preset, algorithm=algorithm, updates=50)
    results = run(replace(few, seeds=(0,), preset=preset), RunFolder(tmp_path), workers=1)
    assert results["chance_share"] > 0.3
    proposed = load_run(tmp_path).planner(0).propose(np.zeros((2, 4), np.float32))
    assert np.isfinite(proposed).all()


def test_users_are_told_what_was_measured() -> None:
    assert chance_line({"chance_share": 0.0021}, "proposals") == (
        "chance in the recording: 0.2% of the variance of its steps; proposals held to the mean of "
        "what was done"
    )
    assert "can't be measured; the policy held to the mode" in chance_line(
        {"chance_share": None}, "the policy"
    )


def test_a_recording_that_seeds_share_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []
    monkeypatch.setattr(error_power, "chance_share", lambda one: looked_at.append(one) or 0.5)
    assert settled_power(None, [MIXED, MIXED, PLAIN, MIXED]) == 0.5
    assert len(looked_at) == 2
