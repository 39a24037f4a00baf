"""I(s, s') that learns from another recording's actions first."""

import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from qss_offline.algorithms.inverse_dynamics import (
    ActionBatch,
    InverseDynamicsConfig,
    InverseForm,
)
from qss_offline.data import plan_arrays
from qss_offline.data.build import build_dataset
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.engine.sampler import UniformSampler
from qss_offline.errors import UserError
from qss_offline.launch.local import LocalLauncher
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.training.bco import BCOTrainer
from qss_offline.training.interaction import (
    ActionSteps,
    known_steps,
    recorded_steps,
    steps_of_run,
    take_steps,
)
from qss_offline.training.inverse.fitting import InverseFitter
from qss_offline.training.inverse.models import InverseModels
from qss_offline.training.runner import TrainingRun, run
from tests.evaluation.test_policies import SCALE, PointMass, fits_alike, to_origin_proposal
from tests.small_run import settings
from tests.training.test_bco import CLONING, expert_recording

MODEL = InverseDynamicsConfig((16, 16), 32, 3e-3, step_inputs=True, form="either")
CONFIG = InverseFitConfig(2, 30, 50, known_updates=300, model=MODEL)


def known(steps: int = 400) -> ActionSteps:
    """Steps of the point mass from elsewhere."""
    models = InverseModels((0,), [SCALE], PointMass, CONFIG)
    return take_steps(
        PointMass(), steps, models.actions, None, 0.0, np.random.default_rng(np.uint32(5))
    )


def fitter(seeds: tuple[int, ...], config: InverseFitConfig = CONFIG) -> InverseFitter:
    proposals = [to_origin_proposal() for _ in seeds]
    return InverseFitter(seeds, proposals, [SCALE] * len(seeds), PointMass, config, known())


def test_a_twin_is_read_in_units_of_the_action_box(minari_root: Path) -> None:
    pair = build_dataset(DatasetSpec("InvertedPendulum", transitions=300), workers=1)
    env = gym.make("InvertedPendulum-v5")
    steps = recorded_steps(pair.act_id, env)
    recorded = load_transitions(pair.act_id).transitions
    np.testing.assert_array_equal(steps.obs, recorded.observations)
    np.testing.assert_array_equal(steps.next_obs, recorded.next_observations)
    np.testing.assert_allclose(steps.actions * 3.0, recorded.actions, atol=1e-6)
    with pytest.raises(UserError, match=f"holds no actions.*{pair.act_id}"):
        recorded_steps(pair.obs_id, env)
    env.close()
    other = gym.make("Reacher-v5")
    with pytest.raises(UserError, match="another environment"):
        recorded_steps(pair.act_id, other)
    other.close()


@pytest.mark.parametrize(
    ("bounds", "share"), [(1.0, 0.0), (1.0001, 0.0), (1.5, 1 / 3), (3.0, 2 / 3)]
)
@pytest.mark.usefixtures("in_process")
def test_actions_that_an_environment_does_not_take_are_refused(
    minari_root: Path, bounds: float, share: float
) -> None:
    """Cut to the environment's bounds they would be other actions, which led elsewhere."""
    rng, rows = np.random.default_rng(0), 300
    actions = 3.0 * bounds * np.linspace(-1, 1, rows, dtype=np.float32)[:, None]
    stored = plan_arrays(
        observations=rng.normal(size=(rows + 1, 4)),
        rewards=np.zeros(rows),
        terminations=np.arange(rows) == rows - 1,
        actions=actions,
    ).store("mine/wide")
    assert stored.act_id is not None
    if not share:
        steps = known_steps(stored.act_id, "InvertedPendulum-v5")
        assert steps is not None and np.abs(steps.actions).max() <= 1
        return
    with pytest.raises(UserError, match=rf"takes -3 to 3, which {share:.0%}"[:-2]):
        known_steps(stored.act_id, "InvertedPendulum-v5")


@pytest.mark.usefixtures("in_process")
def test_recordings_of_actions_in_other_units_are_refused_unless_told_not_to(
    minari_root: Path, tmp_path: Path
) -> None:
    pair = build_dataset(DatasetSpec("InvertedPendulum", transitions=300), workers=1)
    recorded = load_transitions(pair.act_id).transitions
    degrees = plan_arrays(
        observations=recorded.observations * 57.3,
        next_observations=recorded.next_observations * 57.3,
        rewards=recorded.rewards,
        terminations=recorded.terminations,
        truncations=recorded.truncations,
        actions=recorded.actions,
    ).store("mine/degrees")
    asked = replace(settings(pair.obs_id), actions_from=degrees.act_id)
    with pytest.raises(UserError, match=f"from '{degrees.act_id}': the recording doesn't fit"):
        TrainingRun(asked, RunFolder(tmp_path / "run"), False)
    TrainingRun(asked, RunFolder(tmp_path / "run"), False, check_ranges=False)
    TrainingRun(replace(asked, actions_from=pair.act_id), RunFolder(tmp_path / "run"), False)


def test_with_known_steps_the_first_round_acts_on_the_proposal() -> None:
    fitted = fitter((0,))
    assert fitted.rounds_done == 0
    ticks: list[float] = []
    phases: set[str] = set()

    def tick(units: float, phase: str = "", note: str = "") -> None:
        ticks.append(units)
        phases.add(phase)

    fitted.run_round(tick)
    assert fitted.rounds_done == 1
    assert fitted.state.update == CONFIG.known_updates + CONFIG.updates_per_round
    assert phases == {"known actions", "inverse"}
    taken = fitted.steps[0]
    assert taken is not None
    assert len(taken) == CONFIG.steps_per_round, "known steps are no part of the online budget"
    # π(s) = −10 s, clipped to ±2 (±1 in units of the box), and noise of a tenth.
    assert np.abs(taken.actions[:, 0] - np.clip(-5 * taken.obs[:, 0], -1, 1)).mean() < 0.2
    while fitted.rounds_done < CONFIG.rounds:
        fitted.run_round(tick)
    assert ticks == sorted(ticks)
    assert fitted.state.update == CONFIG.updates(known=True)
    assert ticks[-1] == pytest.approx(CONFIG.work(known=True))


@pytest.mark.parametrize("form", ["network", "either"])
def test_known_steps_fit_alike_alone_in_company_and_after_an_interruption(
    form: InverseForm,
) -> None:
    config = replace(CONFIG, model=replace(MODEL, form=form))
    fits_alike(lambda seeds: fitter(seeds, config))


def test_bco_labels_with_known_steps() -> None:
    recording = expert_recording(5)
    bco = BCOTrainer((0,), [recording], [SCALE], [SCALE], PointMass, CONFIG, CLONING, 50, known())
    bco.run_round()
    taken = bco.steps[0]
    assert taken is not None
    assert np.std(taken.actions) > 0.4, "nothing is cloned yet: the first round is random"
    expected = (recording.next_observations - recording.observations) * 5
    np.testing.assert_allclose(bco.labels(0), expected, atol=0.1)


def test_without_noise_draws_are_what_they_were() -> None:
    columns = (torch.randn(50, 2), torch.randn(50, 2), torch.randn(50, 1))
    noise = (None, torch.tensor([0.0, 2.0]), None)
    plain, noisy, again = (
        UniformSampler([columns], 8, ActionBatch, noise=used).draw(
            [torch.Generator().manual_seed(3)], 4
        )
        for used in ((), noise, noise)
    )
    assert torch.equal(plain.obs, noisy.obs)
    assert torch.equal(plain.action, noisy.action)
    assert torch.equal(plain.next_obs[..., 0], noisy.next_obs[..., 0])
    assert (noisy.next_obs - plain.next_obs)[..., 1].std() == pytest.approx(2.0, rel=0.4)
    assert torch.equal(noisy.next_obs, again.next_obs)


def test_a_run_says_where_actions_came_from_and_resumes(minari_root: Path, tmp_path: Path) -> None:
    spec = DatasetSpec("InvertedPendulum", transitions=500, shards=1)
    recording = build_dataset(spec, workers=1).obs_id
    other = build_dataset(replace(spec, seed=1), workers=1).act_id
    asked = settings(recording)
    inverse = replace(asked.preset.inverse, known_updates=100)
    asked = replace(
        asked,
        seeds=(0,),
        preset=replace(asked.preset, updates=100, inverse=inverse),
        actions_from=other,
    )
    folder = RunFolder(tmp_path / "run")
    results = run(asked, folder, launcher=LocalLauncher(1))
    assert (results["actions_from"], results["known_steps"]) == (other, 500)
    assert results["seeds"][0]["online_steps"] == 200
    assert read_json(folder.path / "config.json")["actions_from"] == other
    names = ("policy", "online", "result")
    before = {name: getattr(folder.seed(0), name).read_bytes() for name in names}
    _forget(folder.seed(0))
    folder.results.unlink()
    run(asked, folder, resume=True, launcher=LocalLauncher(1))
    assert {name: getattr(folder.seed(0), name).read_bytes() for name in names} == before
    with pytest.raises(UserError, match="actions_from"):
        run(replace(asked, actions_from=None), folder, resume=True, launcher=LocalLauncher(1))
    with pytest.raises(UserError, match="holds no actions"):
        run(
            replace(asked, actions_from=recording),
            RunFolder(tmp_path / "none"),
            launcher=LocalLauncher(1),
        )
    assert not (tmp_path / "none").exists()


def test_online_steps_of_an_earlier_run_are_used_again(minari_root: Path, tmp_path: Path) -> None:
    recording = build_dataset(DatasetSpec("InvertedPendulum", transitions=500, shards=1)).obs_id
    asked = settings(recording)
    inverse = replace(asked.preset.inverse, known_updates=100)
    asked = replace(asked, preset=replace(asked.preset, updates=100, inverse=inverse))
    earlier = RunFolder(tmp_path / "earlier")
    run(asked, earlier, launcher=LocalLauncher(1))
    env = gym.make("InvertedPendulum-v5")
    steps = steps_of_run(earlier.path, env)
    each = [load_checkpoint(earlier.seed(seed).online).tensors for seed in asked.seeds]
    for name in ActionSteps.columns:
        taken = np.concatenate([tensors[f"steps.{name}"].numpy() for tensors in each])
        np.testing.assert_array_equal(getattr(steps, name), taken)
    # What they say of actions holds of the environment, in units of the box.
    env.reset()
    env.unwrapped.set_state(steps.obs[5, :2].astype(float), steps.obs[5, 2:].astype(float))  # type: ignore[attr-defined]
    reached = env.step(3.0 * steps.actions[5])[0]
    np.testing.assert_allclose(reached, steps.next_obs[5], atol=1e-4)

    later = replace(asked, seeds=(3,), actions_from=str(earlier.path))
    results = run(later, RunFolder(tmp_path / "later"), launcher=LocalLauncher(1))
    assert results["known_steps"] == 400
    assert results["seeds"][0]["online_steps"] == 200
    online = load_checkpoint(RunFolder(tmp_path / "later").seed(3).online)
    assert online.metadata["update"] == 100 + 400

    with pytest.raises(
        UserError, match=r"earlier is of another environment: InvertedPendulum-v5, not R"
    ):
        known_steps(str(earlier.path), "Reacher-v5")
    with pytest.raises(UserError, match="'runs/typo': that is neither the folder of a run nor"):
        known_steps("runs/typo", "InvertedPendulum-v5")
    # What a name stands for may change; a run that began with something else isn't resumed.
    remade = earlier.seed(1).online
    remade.write_bytes(earlier.seed(0).online.read_bytes())
    RunFolder(tmp_path / "later").results.unlink()
    with pytest.raises(UserError, match="known_digest"):
        run(later, RunFolder(tmp_path / "later"), resume=True, launcher=LocalLauncher(1))
    remade.unlink()
    with pytest.raises(UserError, match="took no online steps"):
        steps_of_run(earlier.path, env)
    earlier.seed(1).result.unlink()
    with pytest.raises(UserError, match="isn't done"):
        steps_of_run(earlier.path, env)
    shutil.rmtree(earlier.seed(1).path)
    with pytest.raises(UserError, match="isn't done"):
        steps_of_run(earlier.path, env)
    env.close()


def test_a_later_run_of_the_same_seed_takes_other_steps() -> None:
    """Otherwise two of its rounds would begin alike and be disturbed alike."""
    first = InverseModels((0,), [SCALE], PointMass, CONFIG)
    for _ in range(2):
        first.fit_round(lambda index: lambda obs: np.zeros(1, np.float32))
    earlier = first.steps[0]
    assert earlier is not None
    for taken_online, repeats in ((False, True), (True, False)):
        steps = replace(earlier, taken_online=taken_online)
        later = InverseModels((0,), [SCALE], PointMass, CONFIG, steps)
        for _ in range(2):
            later.fit_round(lambda index: lambda obs: np.zeros(1, np.float32))
        taken = later.steps[0]
        assert taken is not None
        assert np.array_equal(taken.actions[30:], earlier.actions[30:]) is repeats


def _forget(seed: SeedFolder) -> None:
    """Leave of a seed what a kill during its inverse fit leaves."""
    for path in (seed.policy, seed.online, seed.result):
        path.unlink()
