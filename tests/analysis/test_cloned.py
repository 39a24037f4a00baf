"""Seeing what BCO did: its report, its checks, its pictures, and D3G beside it."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qss_offline.algorithms.bco import CloningConfig
from qss_offline.analysis.diagnostics import diagnose, hints
from qss_offline.analysis.measures import inverse_fit
from qss_offline.analysis.models import inverse_model_of
from qss_offline.analysis.report.making import make_report
from qss_offline.analysis.report.reproduce import command
from qss_offline.analysis.video import render_run
from qss_offline.engine.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.presets import preset
from qss_offline.runs.reader import FinishedRun, load_run


def hint(run: FinishedRun, name: str) -> str | None:
    (found,) = [one for one in diagnose(run, 0) if one.name == name]
    return found.hint and found.hint.replace("{}", found.figure)


def with_results(run: FinishedRun, **values: object) -> FinishedRun:
    return replace(run, results={**run.results, **values})


@pytest.mark.usefixtures("undrawn")
def test_d3g_and_bco_are_put_side_by_side(
    trained: FinishedRun, cloned: FinishedRun, tmp_path: Path
) -> None:
    notices: list[str] = []
    sources = [trained.folder.path, cloned.folder.path]
    text = make_report(sources, tmp_path / "out", video=False, notice=notices.append).read_text()
    d3g, bco = text.split('id="run-1"')
    for words in ("All together", "BCO (small with error_power=2)", "D3G (small)",
                  "Probabilities of improvement",
                  "Line chart of returns on InvertedPendulum-v5, v5-random-100"):  # fmt: skip
        assert words in d3g, words
    for words in ("--env InvertedPendulum-v5 --method bco --seeds 0,1 --preset small",
                  "something to repeat", "random actions left out", "inverse model fits",
                  "Returns of every seed", "Configuration", "Dataset card"):  # fmt: skip
        assert words in bco, words
    # What a policy that proposes nothing doesn't have.
    for words in ("What was learned", "Mean overestimation", "Outside the data"):
        assert words in d3g
        assert words not in bco, words
    assert all("no video" in notice for notice in notices), notices


def test_the_inverse_model_that_labels_is_the_one_that_was_saved(cloned: FinishedRun) -> None:
    folder = cloned.folder.seed(0)
    good = inverse_fit(inverse_model_of(cloned, 0), folder)
    saved = load_checkpoint(folder.online)
    model = inverse_model_of(cloned, 0)
    assert (model.network.flat[0] == saved.tensors["network.inverse_average"]).all()
    actions = saved.tensors["steps.actions"]
    shuffled = actions[np.random.default_rng(0).permutation(len(actions))]
    wrong = Checkpoint({**saved.tensors, "steps.actions": shuffled}, saved.metadata)
    save_checkpoint(folder.online, wrong)
    assert inverse_fit(inverse_model_of(cloned, 0), folder) < 0.2 < good <= 1
    assert "explains only" in (hint(cloned, "inverse model fits") or "")


def test_what_bco_can_not_repeat_is_named(cloned: FinishedRun) -> None:
    found = hint(cloned, "something to repeat")
    assert f"qss train {cloned.dataset_id}" in (found or "")
    assert hint(with_results(cloned, random_action_prob=0.5), "something to repeat") is None
    assert hint(with_results(cloned, random_action_prob=None), "something to repeat") is None


def test_a_mean_over_random_actions_is_named_where_the_seed_failed(cloned: FinishedRun) -> None:
    name = "random actions left out"
    assert cloned.config.error_power == 2
    assert "leave out --error-power" in (hint(cloned, name) or "")
    without = replace(cloned.facts, behaviour_stochasticity=0.001, error_power=2.0)
    config = replace(cloned.config, recording=without)
    assert hint(replace(cloned, config=config), name) is None
    learned = [{**seed, "last": {"mean": 1000.0}} for seed in cloned.results["seeds"]]
    assert hint(with_results(cloned, seeds=learned), name) is None
    assert cloned.config.cloning is not None
    measured = replace(cloned.config, cloning=replace(cloned.config.cloning, error_power=0.5))
    assert hint(replace(cloned, config=measured), name) is None


def test_hints_are_of_seeds_that_failed(cloned: FinishedRun) -> None:
    lines = hints(cloned)
    assert lines[0].startswith("2 of 2 seeds did not learn")
    assert sum("all recorded actions are random" in line for line in lines) == 1
    assert any(line.startswith("seeds 0 and 1: ") for line in lines)


def test_the_command_repeats_the_run(cloned: FinishedRun) -> None:
    line, remark = command(cloned)
    assert line == (
        "qss data record InvertedPendulum-v5 --randomness 1 --transitions 2000 --seed 0\n"
        "qss train qss/InvertedPendulum/v5-random-100-n2000-s0-obs-v0 --env InvertedPendulum-v5 "
        "--method bco --seeds 0,1 --preset small --episodes 2 --device cpu"
    )
    assert remark == "The preset small is unknown here; config.json has all settings."
    spent = preset("default", "bco").spend(None, 600, 3)
    sizes = spent.algorithm
    power = cloned.facts.error_power
    config = replace(
        cloned.config,
        preset_name="default",
        preset=spent.with_recording(cloned.facts),
        cloning=CloningConfig(sizes.hidden_dims, sizes.batch_size, sizes.learning_rate, power),
        cloning_updates=5000,
        evaluation_episodes=10,
    )
    line, remark = command(replace(cloned, config=config))
    assert remark is None
    assert shlex.split(line)[-8:] == [
        "--preset", "default", "--online-steps", "600", "--online-rounds", "3",
        "--device", "cpu",
    ]  # fmt: skip
    assert config.cloning is not None
    other = replace(config, cloning=replace(config.cloning, error_power=1.5, hidden_dims=(9,)))
    line, remark = command(replace(cloned, config=other))
    assert "--error-power 1.5" in line
    assert remark == "The preset has other settings; config.json has them all."


@pytest.mark.usefixtures("drawing")
@pytest.mark.usefixtures("undrawn")
def test_the_policy_is_drawn_beside_the_recording(cloned: FinishedRun) -> None:
    pytest.importorskip("imageio_ffmpeg")
    made = render_run(cloned, steps=5, seed=1)
    assert {path.name for path in made.files} == {
        "acting.mp4", "acting.gif", "acting.png", "dimensions.png", "acting.json",
    }  # fmt: skip
    assert json.loads(made.numbers.read_text())["shown_seed"] == 1
    assert made.sheet is not None
    # Two steps are shown, 0 and 5: twice as many rows as a sheet of one strip would have.
    sheet = Image.open(made.sheet)
    assert sheet.width == 2 * 132 - 4 and sheet.height > 2 * 96
    text = make_report([cloned.folder.path], notice=lambda message: None).read_text()
    assert "Seed 1: recorded behaviour and the policy acting, side by side" in text


def test_what_is_no_run_of_these_is_refused(cloned: FinishedRun, tmp_path: Path) -> None:
    path = cloned.folder.path
    with pytest.raises(UserError, match="does not exist; give a run folder"):
        load_run(tmp_path / "none")
    config = json.loads((path / "config.json").read_text())
    for missing, words in (
        ("env_id", "env_id is missing.*another version of this package"),
        ("recording", "recording is missing"),
        ("cloning", "method bco needs settings of its policy"),
    ):
        rest = {name: value for name, value in config.items() if name != missing}
        (path / "config.json").write_text(json.dumps(rest))
        with pytest.raises(UserError, match=words):
            load_run(path)


@pytest.mark.parametrize(
    ("kind", "part"),
    [("cloned", "preset.inverse"), ("cloned", "cloning"), ("trained", "preset.algorithm"),
     ("trained", "preset.inverse.model"), ("trained", "preset")],
)  # fmt: skip
def test_a_run_with_a_setting_that_is_unknown_here_is_refused(
    kind: str, part: str, request: pytest.FixtureRequest
) -> None:
    file = request.getfixturevalue(kind).folder.config
    config = json.loads(file.read_text())
    inner = config
    for name in part.split("."):
        inner = inner[name]
    inner["of_tomorrow"] = False
    file.write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"of_tomorrow.*another version of this package"):
        load_run(file.parent)
