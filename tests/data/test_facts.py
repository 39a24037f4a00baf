"""What is measured of a recording: once, and read from the run's config ever after."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig
from qss_offline.data import facts as facts_module
from qss_offline.data.build import build_dataset
from qss_offline.data.facts import (
    MODE_POWER,
    eased_spread,
    facts_of_config,
    observation_spread,
    power_of,
    recording_facts,
    stochasticity_line,
)
from qss_offline.data.specs import DatasetSpec
from qss_offline.data.transitions import Transitions
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import ObservationScale
from qss_offline.launch.local import LocalLauncher
from qss_offline.parallel.progress import Reporter
from qss_offline.presets import preset
from qss_offline.runs.folder import RunFolder, read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.portfolio_config import portfolio_beside
from qss_offline.settings_json import to_plain
from qss_offline.training.options import TrainOptions
from qss_offline.training.runner import run
from tests.small_run import settings
from tests.training.test_bco import CLONING, MODEL, expert_recording


def with_random_steps(recording: Transitions, share: float) -> Transitions:
    """The recording, but at a share of its steps the point moves at random."""
    rng = np.random.default_rng(0)
    random = rng.uniform(size=len(recording)) < share
    moves = rng.uniform(-2, 2, (len(recording), 1)).astype(np.float32)
    columns = recording.columns() | {
        "next_observations": np.where(
            random[:, None], recording.observations + moves, recording.next_observations
        )
    }
    return Transitions(**columns)


PLAIN = expert_recording(40)
MIXED = with_random_steps(PLAIN, 0.25)


def test_random_actions_ask_for_the_mode_and_none_for_the_mean() -> None:
    assert recording_facts(PLAIN, True).error_power == 2.0
    for recording in (MIXED, with_random_steps(PLAIN, 0.1)):
        assert recording_facts(recording, True).error_power == 0.5
    assert power_of(None) == 0.5, "where it is unknown, random actions aren't ruled out"


def test_recorded_steps_teach_the_idm_where_they_say_something_of_actions() -> None:
    """Where the next state follows from the state, codes in the place of actions are arbitrary."""
    plain, mixed = (recording_facts(recording, True) for recording in (PLAIN, MIXED))
    unknown = replace(plain, behaviour_stochasticity=None, error_power=power_of(None))
    for method in ("bco", "auto"):
        asked = preset("default", method)
        for facts, coef in ((plain, 0.0), (mixed, 1.0), (unknown, 1.0)):
            decided = asked.with_recording(facts)
            assert decided.inverse.model.recorded_coef == coef
            assert decided.with_recording(mixed) == decided, "decided once"
        form = replace(asked.inverse.model, form="bilinear")
        bilinear = replace(asked, inverse=replace(asked.inverse, model=form))
        decided = bilinear.with_recording(mixed)
        assert decided.inverse.model.recorded_coef == 0.0, "it takes no recorded steps"
    assert preset("paper").inverse.model.recorded_coef == 0.0


def test_eased_spreads_are_half_as_far_apart_in_whatever_unit() -> None:
    std = np.array([0.001, 1.0, 1.0, 8.0, 0.2], np.float32)
    eased = eased_spread(std)
    assert eased[1] == eased[2] == 1, "what never moves stays"
    moving = [0, 3, 4]
    apart, before = (np.log(one[moving]) for one in (eased, std))
    np.testing.assert_allclose(np.diff(apart), np.diff(before) / 2, rtol=1e-5)
    assert np.square(std[moving] / eased[moving]).mean() == pytest.approx(1, rel=1e-5)
    micro = np.where(std == 1, 1, 1e6 * std).astype(np.float32)
    scaled = np.where(std == 1, 1, 1e6 * eased)
    np.testing.assert_allclose(eased_spread(micro), scaled, rtol=1e-5)
    ones = np.ones(3, np.float32)
    assert (eased_spread(ones) == ones).all(), "where nothing is scaled, nothing is"


def test_eased_facts_are_of_the_same_recording_in_other_units() -> None:
    assert recording_facts(MIXED, True).eased() == recording_facts(MIXED, True)
    facts = recording_facts(PLAIN, True)
    eased = facts.eased()
    scale = ObservationScale.of_recording(eased)
    obs, after = (
        scale.apply(torch.from_numpy(np.array(column)))
        for column in (PLAIN.observations, PLAIN.next_observations)
    )
    assert scale.step_std is not None
    torch.testing.assert_close(
        (after - obs).std(0, correction=0), scale.step_std, rtol=1e-3, atol=0
    )
    assert replace(eased, observation_std=facts.observation_std, step_std=facts.step_std) == facts


@pytest.mark.parametrize("normalize", [False, True])
def test_facts_come_back_from_json_as_they_were(normalize: bool) -> None:
    facts = recording_facts(MIXED, normalize)
    read = facts_of_config(json.loads(json.dumps({"recording": to_plain(facts)})), "here")
    assert read == facts
    measured = ObservationScale.of(*observation_spread(MIXED, normalize))
    for name, tensor in measured.named_tensors().items():
        assert torch.equal(tensor, ObservationScale.of_recording(read).named_tensors()[name]), name
    low, high = read.value_limits(0.9)
    assert low == pytest.approx(min(MIXED.rewards.min(), 0) * 10)
    assert high == pytest.approx(max(MIXED.rewards.max(), 0) * 10)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"step_std": [1.0, 1.0, 1.0, 1.0]}, "different sizes"),
        ({"observation_std": [0.0]}, "above 0"),
        ({"observation_mean": [float("nan")]}, "finite"),
        ({"reward_low": 10**400}, "finite"),
        ({"reward_low": "0"}, "a number"),
        ({"behaviour_stochasticity": [1]}, "a number"),
        ({"step_std": {"a": 1}}, "a list"),
        ({"of_tomorrow": 1}, "no setting"),
    ],
)
def test_damaged_facts_are_refused(damage: dict[str, Any], words: str) -> None:
    plain = to_plain(recording_facts(PLAIN, True))
    with pytest.raises(UserError, match=words):
        facts_of_config({"recording": {**plain, **damage}}, "here")
    with pytest.raises(UserError, match="of another version"):
        facts_of_config({}, "here")


def test_the_loss_is_given_a_number() -> None:
    with pytest.raises(UserError, match="measured before training"):
        BehaviouralCloning(CloningConfig(error_power=None), 3, 1)


def test_cloning_in_the_race_measures_a_power_and_the_papers_does_not() -> None:
    assert portfolio_beside(preset("default").algorithm).cloning.error_power is None
    assert CloningConfig().error_power == 2
    facts = replace(recording_facts(PLAIN, True), error_power=MODE_POWER)
    for name, asked, power in (("default", None, 0.5), ("paper", None, 2.0), ("paper", 0.5, 0.5)):
        options = TrainOptions("bco", name, error_power=asked, device="cpu")
        config = options.config("qss/a/b-v0", "InvertedPendulum-v5").with_recording(facts)
        assert config.error_power == power


def files(folder: Path) -> dict[str, bytes]:
    names = ("policy.safetensors", "result.json", "online.safetensors")
    return {name: (folder / "seeds" / "0" / name).read_bytes() for name in names}


@contextmanager
def interrupted(_: str, total: int, unit: str) -> Iterator[Reporter]:
    def report(done: int, note: str = "") -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    yield report


def d3g(dataset: str, coef: float | None) -> Callable[..., dict[str, Any]]:
    few = settings(dataset)
    inverse = InverseFitConfig(2, 40, 50, model=replace(MODEL, recorded_coef=coef))
    preset = replace(few.preset, inverse=inverse, updates=100)
    return partial(run, replace(few, seeds=(0,), preset=preset), launcher=LocalLauncher(1))


def bco(dataset: str, power: float | None) -> Callable[..., dict[str, Any]]:
    inverse = InverseFitConfig(2, 40, 50, model=replace(MODEL, recorded_coef=None))
    cloning = replace(CLONING, error_power=power)
    few = settings(dataset)
    preset = replace(few.preset, inverse=inverse)
    asked = replace(few, method="bco", preset=preset, cloning=cloning, cloning_updates=50)
    return partial(run, replace(asked, seeds=(0,)), launcher=LocalLauncher(1))


@pytest.mark.parametrize(("method", "decided"), [(d3g, 1.0), (bco, 0.5)])
def test_a_resumed_run_trains_on_what_was_measured_when_it_began(
    minari_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    method: Callable[..., Callable[..., dict[str, Any]]],
    decided: float,
) -> None:
    dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id
    whole, given, broken = (RunFolder(tmp_path / name) for name in ("whole", "given", "broken"))
    measured = method(dataset, None)(whole)
    assert measured["behaviour_stochasticity"] > 0.3
    method(dataset, decided)(given)
    assert files(given.path) == files(whole.path), "measured or given, the run is the same"
    config = read_json(whole.config)
    settled = config["cloning"] if method is bco else config["preset"]["inverse"]["model"]
    assert settled["error_power" if method is bco else "recorded_coef"] == decided

    with pytest.raises(KeyboardInterrupt):
        method(dataset, None)(broken, show_progress=interrupted)

    def measured_again(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(facts_module, "behaviour_stochasticity", measured_again)
    monkeypatch.setattr(facts_module, "observation_statistics", measured_again)
    # A later version that would draw the line elsewhere.
    monkeypatch.setattr(facts_module, "STOCHASTIC_FROM", 0.99)
    method(dataset, None)(broken, resume=True)
    assert files(broken.path) == files(whole.path)


def test_users_see_what_was_measured() -> None:
    facts = replace(recording_facts(PLAIN, True), behaviour_stochasticity=0.0021)
    line = stochasticity_line(facts, 2.0)
    assert "0.2% of the variance of its steps; the policy held to the mean" in line
    unknown = replace(facts, behaviour_stochasticity=None)
    assert "can't be measured; the policy held to the mode" in stochasticity_line(unknown, 0.5)
