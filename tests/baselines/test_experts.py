"""Experts: what is stored of a training, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("d3rlpy")

from qss_offline.baselines.experts import ExpertSettings, evaluate_expert, train_expert
from qss_offline.cli.recording import train_expert as recipe
from qss_offline.data.policies import load_expert
from qss_offline.errors import UserError

BRIEF = ExpertSettings(
    "Reacher-v5",
    steps=700,
    random_steps=200,
    hidden_dims=(16, 16),
    batch_size=32,
    learning_rate=1e-3,
    evaluate_every=100,
    evaluation_episodes=3,
)


def test_half_trained_is_the_first_that_reached_its_return_and_the_expert_the_last_best():
    trained = train_expert(BRIEF)
    steps, means = zip(*trained.evaluations, strict=True)
    assert trained.half_trained is None
    assert len(set(means)) > 2
    # Not all reach the median, and some do.
    enough = float(np.median(means))
    again = train_expert(replace(BRIEF, half_trained_return=enough))
    assert again.evaluations == trained.evaluations
    assert again.half_trained is not None
    expert, found = again.half_trained
    assert found == next(step for step, mean in trained.evaluations if mean >= enough)
    assert evaluate_expert(expert, 3, BRIEF.seed).mean == means[steps.index(found)]
    assert again.steps == max(step for step, mean in trained.evaluations if mean == max(means))
    for ours, theirs in zip(again.expert.weights, trained.expert.weights, strict=True):
        assert_array_equal(ours, theirs)


def test_the_recipe_stores_both_and_refuses_to_replace_either(tmp_path, capsys):
    path = tmp_path / "brief.safetensors"
    brief = {"steps": 5_400, "evaluate_every": 200, "width": 16, "batch_size": 32, "out": path}
    recipe(env="InvertedPendulum", half_trained=1.0, **brief)
    printed = capsys.readouterr().out
    medium = tmp_path / "brief_medium.safetensors"
    assert str(path) in printed
    assert str(medium) in printed
    assert load_expert(path).env_id == load_expert(medium).env_id == "InvertedPendulum-v5"
    path.unlink()
    with pytest.raises(UserError, match=r"brief_medium\.safetensors exists"):
        recipe(env="InvertedPendulum", half_trained=1.0, **brief)


def test_the_recipe_says_when_nothing_was_as_good(tmp_path, capsys):
    path = tmp_path / "brief.safetensors"
    recipe(
        env="InvertedPendulum",
        steps=5_200,
        evaluate_every=200,
        width=16,
        batch_size=32,
        half_trained=1e6,
        out=path,
    )
    assert "No evaluation reached 1e+06" in capsys.readouterr().out
    assert not (tmp_path / "brief_medium.safetensors").exists()
