"""What Figures 6 and 7 show, on policies and results made by hand."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.analysis.plots.gridworld import png as gridworld_png
from qss_offline.analysis.plots.learning_curves import (
    curve,
    load_curves,
    png,
    return_lines,
    score_lines,
)
from qss_offline.analysis.plots.style import to_svg
from qss_offline.api.training import train_online
from qss_offline.cli.reproduce import LADDER, figure6, figure7, ladder, offline_to_online
from qss_offline.comparison import online_study
from qss_offline.data import build
from qss_offline.engine.checkpoint import Checkpoint, save_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import DiscretePolicy, ObservationScale
from qss_offline.files import write_json
from qss_offline.online.gridworld_measures import imagine, measure_seed, optimal_values
from qss_offline.online.presets import ALGORITHMS, online_preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import SeedFolder, read_json
from qss_offline.runs.results import (
    EvaluationPoint,
    best_seed,
    final_mean,
    seed_results,
    value_curve,
)

PNG = b"\x89PNG"
SCALE = ObservationScale(torch.zeros(2), torch.ones(2), torch.ones(2))


def evaluated(seed: int, returns: dict[int, list[float]]) -> dict[str, Any]:
    """Results of a seed, from the returns at each number of online steps."""
    return seed_results(seed, [EvaluationPoint(*one) for one in returns.items()])


def constant_policy(step: tuple[float, float]) -> DiscretePolicy:
    """τ(s) is the same everywhere."""
    proposal = Network(MLPShape((2, 4, 2)), torch.zeros(1, 64))
    proposal.biases[-1].copy_(torch.tensor([[step]]))
    inverse = Network(MLPShape((4, 4, 4)), torch.zeros(1, 64))
    return DiscretePolicy(proposal, inverse, SCALE, False, 0)


def made_by_hand(folder: SeedFolder, step: tuple[float, float]) -> None:
    """A seed whose critic says −2 and whose τ goes one `step` further at each evaluation."""
    for index in range(3):
        distance = (step[0] * index, step[1] * index)
        path = folder.path / "policies" / f"{index * 500:09d}.safetensors"
        constant_policy(distance).save(path, "Gridworld-v0")
    constant_policy(step).save(folder.policy, "Gridworld-v0")
    critic = Network(MLPShape((4, 4, 1), members=2), torch.zeros(1, 2, 64))
    critic.biases[-1].copy_(torch.tensor([[[-2.0]], [[50.0]]]))  # the second isn't asked
    save_checkpoint(folder.training, Checkpoint({"network.critic": critic.flat[0]}))


def test_measures_of_a_seed_made_by_hand(tmp_path: Path) -> None:
    folder = SeedFolder(tmp_path)
    made_by_hand(folder, (3.0, 2.0))
    found = measure_seed(folder, gamma=0.99)
    # From ⟨0, 0⟩, ⟨3, 2⟩ and ⟨6, 4⟩ to the nearest of ⟨0, 0⟩, ⟨1, 0⟩ and ⟨0, 1⟩.
    assert found["distance"] == [[0, 0.0], [500, 4.0], [1000, 9.0]]
    assert found["trajectory"][:3] == [[0.0, 0.0], [3.0, 2.0], [6.0, 4.0]]
    assert found["values"][10][10] is None
    assert found["values"][3][4] == -2.0
    expected = -2.0 - np.nanmean(optimal_values(0.99))
    assert found["value_error"] == pytest.approx(expected)


def test_optimal_values() -> None:
    values = optimal_values(0.5)
    assert (values[10, 9], values[9, 10], values[9, 9]) == (-1.0, -1.0, -1.5)
    assert np.isnan(values[10, 10])


def test_a_trajectory_that_leaves_the_grid_far_behind_ends() -> None:
    path = imagine(constant_policy((5e3, 0.0)))
    assert len(path) == 2 and np.isfinite(path).all()


def test_imagination_ends_at_the_goal() -> None:
    path = imagine(constant_policy((1.0, 1.0)))
    np.testing.assert_array_equal(path, np.arange(11)[:, None].repeat(2, axis=1))


def test_a_run_that_started_offline_counts_the_steps_before_it() -> None:
    seeds = [evaluated(seed, {0: [1.0, 3.0], 500: [4.0 + seed]}) for seed in range(2)]
    result = {"env_id": "E", "algorithm": "d3g", "start_run": "r", "seeds": seeds}
    started = result | {"steps_before": 3000}
    steps, means = curve(started)
    assert steps.tolist() == [3000, 3500] and means.tolist() == [[2.0, 2.0], [4.0, 5.0]]
    assert curve(result)[0].tolist() == [0, 500]
    lines = return_lines(started)
    assert "from an offline run" in lines[0]
    assert "3,500 online steps:      4.5  (4.0, 5.0)" in lines[2]


def test_the_gridworld_figure_is_drawn(tmp_path: Path) -> None:
    rows = {}
    for name, step in {"d3g": (1.0, 0.0), "d3g-no-cycle": (400.0, 300.0)}.items():
        measured = []
        for seed in range(2):
            folder = SeedFolder(tmp_path / name / str(seed))
            made_by_hand(folder, step)
            measured.append(measure_seed(folder, 0.99))
        rows[name] = measured
    assert gridworld_png(rows, 0.99).startswith(PNG)


def results(env_id: str, algorithm: str) -> dict[str, object]:
    seeds = [
        evaluated(seed, {5000 * k: [float(seed + k)] * 2 for k in range(5)}) for seed in (0, 1)
    ]
    return {"env_id": env_id, "algorithm": algorithm, "steps": 20_000, "seeds": seeds,
            "wall_seconds": 1.0}  # fmt: skip


def test_scores_are_the_mean_of_the_last_three_evaluations() -> None:
    found = evaluated(3, {0: [0.0], 1: [9.0, 3.0], 2: [1.0], 3: [2.0], 4: [6.0]})
    assert final_mean(found) == pytest.approx(3.0)
    assert found["last"] == {"mean": 6.0, "returns": [6.0]}
    assert found["best"] == {"mean": 6.0, "evaluation": 2, "online_steps": 1}


def test_the_best_seed_is_by_last_returns() -> None:
    lasts = {4: [1.0], 7: [3.0], 2: [float("nan")], 9: [3.0]}
    seeds = [evaluated(seed, {0: [9.0 - seed], 1: last}) for seed, last in lasts.items()]
    assert best_seed({"seeds": seeds}) == 7, "of equals the first"
    assert best_seed({"seeds": seeds[2:3]}) == 2
    assert best_seed({"seeds": [{"seed": 5, "evaluations": []}]}) == 5


def test_curves_are_read_and_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for env_id in ("A-v0", "B-v0"):
        for algorithm in ("d3g", "td3"):
            write_json(tmp_path / f"{env_id}-{algorithm}.json", results(env_id, algorithm))
    write_json(tmp_path / "other.json", {"something": "else"})
    found = load_curves(tmp_path)
    assert [(one["env_id"], one["algorithm"]) for one in found] == [
        ("A-v0", "d3g"),
        ("A-v0", "td3"),
        ("B-v0", "d3g"),
        ("B-v0", "td3"),
    ]
    steps, samples = curve(found[0])
    np.testing.assert_array_equal(steps, np.arange(5) * 5000)
    np.testing.assert_array_equal(samples, np.arange(5)[:, None] + [0.0, 1.0])
    assert score_lines(found)[0].endswith(": 3.0, 4.0")
    assert png(found).startswith(PNG)
    figure7(results=tmp_path, draw=True)
    assert (tmp_path / "figure7.png").read_bytes().startswith(PNG)
    assert "A-v0 d3g, 20,000 steps" in capsys.readouterr().out


def test_values_are_drawn_beside_what_they_were_worth(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def judged(high: float) -> list[EvaluationPoint]:
        return [EvaluationPoint(n, (1.0,), None, high * n, 1.0 * n) for n in range(4)]

    known, unknown = results("A-v0", "dqn"), results("A-v0", "d3g")
    known["seeds"] = [seed_results(seed, judged(seed + 2.0)) for seed in (0, 1)]
    found = value_curve(known["seeds"])
    assert found is not None
    np.testing.assert_array_equal(found[0], [1, 2, 3])
    np.testing.assert_array_equal(found[1], [[1, 2], [2, 4], [3, 6]])
    assert value_curve(unknown["seeds"]) is None
    for one in (known, unknown):
        write_json(tmp_path / f"A-v0-{one['algorithm']}.json", one)
    assert load_curves(tmp_path) == [unknown, known], "they survive their file"
    figure7(results=tmp_path, draw=True)
    assert "figure7_values.png" in capsys.readouterr().out
    assert (tmp_path / "figure7_values.png").read_bytes().startswith(PNG)


def test_a_run_folder_is_drawn_and_results_of_another_layout_are_refused(tmp_path: Path) -> None:
    written = results("A-v0", "d3g")
    write_json(tmp_path / "results.json", written)
    write_json(tmp_path / "config.json", {"algorithm": "d3g", "seeds": [0, 1]})
    assert load_curves(tmp_path) == [written]
    write_json(
        tmp_path / "earlier.json", {**written, "seeds": [{"seed": 0, "evaluations": [{"step": 0}]}]}
    )
    with pytest.raises(UserError, match=r"earlier.*online_steps is None"):
        load_curves(tmp_path)


STRANGE = ("text", r"a$\frac$", "a$x$b", "\x1b[2J", "")


@pytest.mark.parametrize("name", STRANGE)
@pytest.mark.parametrize("field", ["env_id", "algorithm", "steps", "start_run"])
def test_whatever_results_say_is_drawn(
    field: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written = {**results("A-v0", "d3g"), field: name}
    if field == "steps":
        del written[field]
    write_json(tmp_path / "a.json", written)
    figure7(results=tmp_path, draw=True)
    assert "20,000 steps" in (said := capsys.readouterr().out) and "\x1b" not in said


def test_names_are_no_formulas_and_powers_are() -> None:
    figure = Figure()
    panel = figure.subplots()
    panel.plot([1, 1000], label="a$x$b")
    panel.set(yscale="log", title="c$x$d")
    panel.legend()
    drawn = re.sub("<!--.*?-->", "", to_svg(figure).decode())
    assert "a$x$b" in drawn and "c$x$d" in drawn and "mathdefault" not in drawn


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no results yet"):
        figure7(results=tmp_path / "empty", draw=True)


def test_the_ladder_has_every_method_and_climbs_in_each_environment(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("d3rlpy")
    climbed = {method for methods in LADDER.values() for method in methods}
    assert climbed == set(ALGORITHMS) - {"d3g-no-cycle"}
    where = {"runs": tmp_path / "runs", "results": tmp_path / "results"}
    ladder(env="CartPole", seeds="1", steps=1_010, workers=1, **where)
    made = {path.name for path in (tmp_path / "results").glob("*.json")}
    assert made == {
        "provenance.json", *(f"CartPole-v1-{method}.json" for method in LADDER["CartPole"])
    }  # fmt: skip
    for name in ("ladder", "ladder_values"):
        assert (tmp_path / "results" / f"{name}.png").read_bytes().startswith(PNG)
    assert "CartPole-v1 double-dqn, 1,010 steps" in capsys.readouterr().out
    with pytest.raises(UserError, match="did you mean Reacher"):
        ladder(env="Reachr", seeds="1", steps=1_010, **where)


def test_figure_6_is_measured_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = made_twice(figure6, tmp_path, seeds="1", steps=60)
    assert made == {"gridworld.json", "gridworld.png", "provenance.json"}
    assert "d3g-no-cycle" in capsys.readouterr().out


def test_figure_7_says_which_machine_made_it(tmp_path: Path) -> None:
    made = made_twice(figure7, tmp_path, env="InvertedPendulum", algo="d3g", seeds="1", steps=60)
    pictures = {"figure7.png", "figure7_values.png"}
    assert made == {"InvertedPendulum-v5-d3g.json", "provenance.json", *pictures}


def made_twice(figure: Callable[..., None], tmp_path: Path, **options: Any) -> set[str]:
    """Return the files of results, after a repeat that ran nothing and left them as they were."""
    results = tmp_path / "results"
    where = {"workers": 1, "runs": tmp_path / "runs", "results": results}
    figure(**options, **where)
    provenance = results / "provenance.json"
    assert read_json(provenance)["machine"]["cores"]
    write_json(provenance, {"machine": "another"})
    figure(**options, **where)
    assert read_json(provenance) == {"machine": "another"}
    return {path.name for path in results.iterdir()}


@pytest.mark.usefixtures("minari_root")
def test_offline_and_online_runs_are_drawn_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trained(offline: RunConfig, *_: object) -> dict[str, Any]:
        assert (offline.method, offline.env_id, offline.seeds) == ("d3g", "Reacher-v5", (0, 1))
        made = results("Reacher-v5", "d3g")
        return {"from-offline": {**made, "start_run": "run"}, "from-nothing": made}

    monkeypatch.setattr(build, "build_dataset", lambda spec, **_: SimpleNamespace(obs_id="x"))
    monkeypatch.setattr(online_study, "run_from_offline_and_nothing", trained)
    offline_to_online(env="Reacher", seeds="2", results=tmp_path / "results")
    assert {path.name for path in (tmp_path / "results").iterdir()} == {
        "Reacher-v5-from-offline.json", "Reacher-v5-from-nothing.json", "Reacher-v5.png",
        "provenance.json",
    }  # fmt: skip
    said = capsys.readouterr().out
    assert "from nothing" in said and "from an offline run" in said


def test_results_of_other_settings_are_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "Reacher-v5-d3g.json"
    written = {"preset": "default", "steps": 50_000, "seeds": [{"seed": 0}, {"seed": 1}]}
    for change, options, words in (
        ({}, {"preset": "paper"}, "preset = default, not paper"),
        ({}, {"steps": 20}, "steps = 50000, not 20"),
        ({"steps": 20}, {"steps": 20, "seeds": "1"}, "holds seed 1, too, which isn't asked for"),
    ):
        path.write_text(json.dumps({**written, **change}))
        before = path.read_bytes()
        asked = {"env": "Reacher", "algo": "d3g", "seeds": "2", **options}
        with pytest.raises(UserError, match=words):
            figure7(**asked, runs=tmp_path / "runs", results=tmp_path)
        assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("env_id", "gamma"),
    [
        ("Reacher-v5", 0.95),  # 50 steps
        ("Hopper-v5", 0.99),  # 1,000
        ("Reacher-v5?max_episode_steps=1", 0.0),
        ("Reacher-v5?max_episode_steps=250", 0.99),
    ],
)
def test_the_defaults_horizon_is_within_the_time_limit(env_id: str, gamma: float) -> None:
    assert online_preset("default", "d3g", env_id).algorithm.gamma == pytest.approx(gamma)
    assert online_preset("default", "td3", env_id).algorithm.gamma == pytest.approx(gamma)
    assert online_preset("paper", "d3g", env_id).algorithm.gamma == 0.99


def test_a_gamma_that_is_asked_for_is_taken(tmp_path: Path) -> None:
    for changes, gamma in (((), 0.95), (("gamma=0.99",), 0.99)):
        out = tmp_path / f"{gamma}"
        train_online(
            "Reacher", steps=60, warm_up=59, evaluate_every=60, episodes=1,
            changes=(*changes, "model_updates=1"), out=out, progress=False,
        )  # fmt: skip
        assert read_json(out / "config.json")["config"]["algorithm"]["gamma"] == pytest.approx(
            gamma
        )
