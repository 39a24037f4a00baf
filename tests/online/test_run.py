"""Online runs as a user meets them: killed and resumed, exported, started from an offline run."""

import html
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from safetensors import safe_open

from qss_offline.algorithms.inverse_dynamics import InverseDynamicsConfig, InverseForm
from qss_offline.algorithms.networks import Network, mlp
from qss_offline.algorithms.observational_d3g import ObservationalD3GConfig
from qss_offline.algorithms.qss import QSSConfig, qss_shapes
from qss_offline.analysis.plots.learning_curves import load_curves
from qss_offline.api.training import train_online
from qss_offline.comparison.online_runs import online_run
from qss_offline.data import environment_sources
from qss_offline.data.build import build_dataset
from qss_offline.data.load import load_transitions
from qss_offline.data.specs import DatasetSpec
from qss_offline.engine.checkpoint import load_checkpoint
from qss_offline.errors import UserError
from qss_offline.evaluation.policies import Policy
from qss_offline.evaluation.policy_files import load_policy
from qss_offline.files import write_json
from qss_offline.launch.local import LocalLauncher
from qss_offline.online.config import EvaluationPlan, OnlineSettings
from qss_offline.online.env_loop import OnlineTask
from qss_offline.online.export import export_replay
from qss_offline.online.files import replay_files
from qss_offline.online.presets import online_preset
from qss_offline.online.trainer import OnlineTrainer
from qss_offline.online.warm_start import load_start, start_config, steps_before
from qss_offline.parallel.reporting import no_tick
from qss_offline.presets import Preset
from qss_offline.runs.config import RunConfig
from qss_offline.runs.folder import RunFolder, SeedFolder, read_json
from qss_offline.runs.inverse_config import InverseFitConfig
from qss_offline.runs.reader import load_online_run, load_run, read_run_config
from qss_offline.runs.results import best_seed, evaluation_means, learning_curve
from qss_offline.training.runner import run
from tests.online.small_run import CONFIG, settings
from tests.own_env import write_own
from tests.program import Qss

ROOT = Path(__file__).parents[2]
PENDULUM, GRIDWORLD = "InvertedPendulum-v5", "Gridworld-v0"


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "120", "OMP_NUM_THREADS": "1"},
    )


def checkpoint_step(path: Path) -> int:
    try:
        with safe_open(path, framework="np") as file:
            return int(json.loads(file.metadata()["json"])["step"])
    except FileNotFoundError:
        return 0


def test_killed_runs_resume_to_the_same_bits(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    online_run(settings(PENDULUM), RunFolder(whole), launcher=LocalLauncher(1))
    rng = np.random.default_rng(0)
    process = start("tests.online.small_run", PENDULUM, str(killed))
    while checkpoint_step(killed / "seeds" / "0" / "training.safetensors") < 200:
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    time.sleep(float(rng.uniform(0, 0.5)))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    online_run(settings(PENDULUM), RunFolder(killed), resume=True, launcher=LocalLauncher(1))
    names = ("policy.safetensors", "metrics.jsonl", "training.safetensors", "result.json")
    for seed in (0, 1):
        ours, theirs = (folder / "seeds" / str(seed) for folder in (killed, whole))
        for name in names:
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
        rows = [path.name for path in replay_files(SeedFolder(ours))]
        assert rows == [path.name for path in replay_files(SeedFolder(theirs))]

    with pytest.raises(UserError, match="is an online run"):
        load_run(killed)
    assert load_curves(killed)[0]["algorithm"] == "d3g"
    results = json.loads((killed / "results.json").read_text())
    assert (results["env_id"], results["algorithm"]) == (PENDULUM, "d3g")
    read = load_online_run(killed)
    assert (read.env_id, read.algorithm, read.seeds) == (PENDULUM, "d3g", (0, 1))
    assert read.results["seeds"] == results["seeds"]
    assert (read.last <= read.best).all()
    for seed in results["seeds"]:
        assert learning_curve([seed])[0].tolist() == list(range(0, 701, 100))
        means = evaluation_means(seed)
        assert (seed["last"]["mean"], seed["best"]["mean"]) == (means[-1], max(means))


def run_here(made: OnlineSettings, folder: RunFolder) -> None:
    """Do what `online_run` does in one process, without compiling for so few updates."""
    folder.start(asdict(made), False)
    start = None if made.start_run is None else Path(made.start_run)
    tasks = [
        OnlineTask(seed, folder.seed(seed), None if start is None else load_start(start, seed))
        for seed in made.seeds
    ]
    OnlineTrainer(tasks, made.env_id, made.config, made.plan, mode="eager").run(no_tick)


@pytest.mark.usefixtures("in_process")
def test_a_replay_becomes_a_pair_of_datasets(minari_root: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = replace(CONFIG, steps=300)
    run_here(replace(settings(), seeds=(2,), config=config), folder)
    stored = export_replay(folder, 2, "test/pendulum/online")
    assert stored.ids == ("test/pendulum/online-obs-v0", "test/pendulum/online-act-v0")
    files = replay_files(folder.seed(2))
    rows = np.concatenate([load_checkpoint(path).tensors["rows"].numpy() for path in files])
    exported = load_transitions(stored.ids[1])
    np.testing.assert_array_equal(exported.transitions.observations, rows[:, :4])
    np.testing.assert_array_equal(exported.transitions.next_observations, rows[:, 5:9])
    np.testing.assert_allclose(exported.transitions.actions, 3 * rows[:, 4:5], atol=1e-6)
    np.testing.assert_array_equal(exported.transitions.terminations, rows[:, 10] > 0)
    assert exported.transitions.truncations[-1] or exported.transitions.terminations[-1]
    assert exported.info.env_id == PENDULUM
    without = load_transitions(stored.ids[0])
    assert without.transitions.actions is None
    assert without.info.observation_only


@pytest.mark.usefixtures("in_process")
def test_an_episode_ends_where_rows_are_missing(minari_root: Path, tmp_path: Path) -> None:
    """The replay drops rows between two checkpoints; a resumed run may begin an episode anew."""
    folder = RunFolder(tmp_path / "run")
    config = replace(CONFIG, steps=600, replay_capacity=200)
    run_here(replace(settings(), seeds=(2,), config=config, plan=EvaluationPlan(300, 1)), folder)
    exported = load_transitions(export_replay(folder, 2, "test/pendulum/few").ids[1]).transitions
    assert len(exported) == 400
    ends = exported.terminations | exported.truncations
    goes_on = (exported.next_observations[:-1] == exported.observations[1:]).all(axis=1)
    np.testing.assert_array_equal(~ends[:-1], goes_on)


@pytest.mark.usefixtures("in_process")
def test_replays_of_an_environment_of_ones_own_are_imported_by_another_process(
    minari_root: Path, tmp_path: Path, qss: Qss, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_id = f"{write_own(tmp_path / 'mine')}:Cart?max_episode_steps=20"
    run, into = tmp_path / "run", ("--into", "me/cart")
    few = "--seeds 3, --steps 60 --warm-up 20 --evaluate-every 30 --episodes 1"
    qss(f"train-online {few}", env_id, "--out", run)
    monkeypatch.setattr(environment_sources, "_sources", {})
    assert "--env" in qss.refused("data import", run, *into)
    assert "not in Reacher-v5" in qss.refused("data import", run, *into, "--env", "Reacher")
    qss("data import", run, *into, "--env", env_id)
    assert load_transitions("me/cart-s3-obs-v0").info.total_steps == 60


def test_what_an_online_run_says_next_can_be_typed(
    minari_root: Path, tmp_path: Path, qss: Qss, monkeypatch: pytest.MonkeyPatch
) -> None:
    env_id, run = f"{write_own(tmp_path / 'mine')}:Cart?max_episode_steps=20", tmp_path / "a run"
    few = "--seeds 2 --steps 60 --warm-up 20 --evaluate-every 30 --episodes 1"
    said = qss(f"train-online {few}", env_id, "--out", run).out
    best = best_seed(read_json(run / "results.json"))
    assert f"seeds/{best}/policy.safetensors (the policy of seed {best}, which" in said
    monkeypatch.setattr(environment_sources, "_sources", {})
    gym.registry.pop("Cart")
    commands = re.findall(r"qss (report|data import)( .+?)(?:;|$)", said.splitlines()[-1])
    assert len(commands) == 2
    for command, rest in commands:
        qss(f"{command}{rest}" + (" --no-video" if command == "report" else ""))
    page = html.unescape((run / "report" / "report.html").read_text())
    assert f"qss render '{run}' draws it" in page


def test_policies_that_are_not_there_or_not_final_are_told_apart(tmp_path: Path, qss: Qss) -> None:
    run, to = tmp_path / "run", ("--to", tmp_path / "policy.pt")
    qss("train-online InvertedPendulum --seeds 2 --steps 40 --warm-up 20 --evaluate-every 20 "
        "--episodes 1 --set model_updates=1 --out", run)  # fmt: skip
    best = best_seed(read_json(run / "results.json"))
    assert f"the policy of seed {best}, whose last return is highest" in qss("export", run, *to).out
    assert "its seeds are 0, 1" in qss.refused("export --seed 7", run, *to, "--overwrite")
    assert "is no run folder" in qss.refused("evaluate", tmp_path)
    policy = run / "seeds" / str(best) / "policy.safetensors"
    kept = policy.read_bytes()
    policy.unlink()
    # The seed that returned most has none; the other one's isn't taken in its place.
    shutil.copytree(run / "seeds" / str(1 - best), run / "seeds" / "2")
    assert f"no policy of seed {best}" in qss.refused("export --overwrite", run, *to)
    shutil.rmtree(run / "seeds" / "2")
    policy.write_bytes(kept)
    (run / "results.json").unlink()
    said = qss("export --overwrite", run, *to)
    assert "is not finished" in said.err and "the policy of seed 0" in said.out
    for command in ("compare", "report", "render"):
        assert "is not finished (no results.json)" in qss.refused(command, run)
    for policy in run.glob("seeds/*/policy.safetensors"):
        policy.unlink()
    assert "is not finished" in qss.refused("evaluate", run)
    write_json(run / "results.json", {})
    assert "a method of d3rlpy" in qss.refused("evaluate", run)


def test_discrete_actions_are_exported_one_hot(minari_root: Path, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    config = replace(CONFIG, steps=200)
    plan = EvaluationPlan(200, 1)
    run_here(replace(settings(GRIDWORLD), seeds=(0,), config=config, plan=plan), folder)
    stored = export_replay(folder, 0, "test/grid/online")
    actions = load_transitions(stored.ids[1]).transitions.actions
    assert actions is not None and actions.shape == (200, 4)
    np.testing.assert_array_equal(actions.sum(axis=1), 1)


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small offline run of seeds 0 and 1."""
    root = tmp_path_factory.mktemp("offline")
    (root / "minari").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root / "minari"))
        dataset = build_dataset(DatasetSpec("InvertedPendulum", transitions=500), workers=1).obs_id
        preset = Preset(
            ObservationalD3GConfig((16, 16), 32, gamma=0.9, normalize_observations=True),
            InverseFitConfig(
                1, 100, 50, model=InverseDynamicsConfig((16, 16), 32, step_inputs=True)
            ),
            updates=100,
        )
        made = RunConfig("d3g", PENDULUM, dataset, (0, 1), "small", preset, evaluation_episodes=1)
        run(made, RunFolder(root / "run"), launcher=LocalLauncher(1))
    return root / "run"


def test_an_online_run_starts_where_the_offline_run_ended(offline: Path, tmp_path: Path) -> None:
    config = start_config(CONFIG, offline)
    assert (config.algorithm.gamma, config.algorithm.hidden_dims) == (0.9, (16, 16))
    start = load_start(offline, 1)
    folder = SeedFolder(tmp_path / "1")
    only_acting = replace(config, steps=100, warm_up=100, model_updates=0, exploration_noise=0.0)
    task = OnlineTask(1, folder, start)
    plan = EvaluationPlan(100, 1)
    OnlineTrainer([task], PENDULUM, only_acting, plan, mode="eager").run(no_tick)
    online, training = (
        load_checkpoint(folder.training),
        load_checkpoint(offline / "seeds" / "1" / "training.safetensors"),
    )
    for name in ("critic", "critic_target", "proposal", "proposal_target", "proposal_average"):
        assert torch.equal(online.tensors[f"network.{name}"], training.tensors[f"network.{name}"])
    assert torch.equal(online.tensors["second.critic"], training.tensors["second.critic"])
    assert torch.equal(online.tensors["scale.mean"], start.scale.mean)
    # It acts with what it brought, from the first step on, as long as it learns nothing.
    brought = offline / "seeds" / "1" / "policy.safetensors"
    assert folder.policy.read_bytes() == brought.read_bytes()
    learning = replace(config, steps=150, warm_up=50)
    task = OnlineTask(1, SeedFolder(tmp_path / "learning"), start)
    OnlineTrainer([task], PENDULUM, learning, plan, mode="eager").run(no_tick)
    moved = load_checkpoint(tmp_path / "learning" / "training.safetensors")
    assert not torch.equal(moved.tensors["network.critic"], training.tensors["network.critic"])


@pytest.mark.parametrize("form", ["network", "either"])
def test_all_trainings_of_an_ensemble_go_on(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: InverseForm
) -> None:
    """The online run begins as the policy that the offline run ended with."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(offline.parent / "minari"))
    made = read_run_config(RunFolder(offline))
    inverse = replace(made.preset.inverse, model=replace(made.preset.inverse.model, form=form))
    preset = replace(made.preset, updates=60, ensemble=3, inverse=inverse)
    folder = RunFolder(tmp_path / "run")
    run(replace(made, preset=preset, seeds=(4,), recording=None), folder, launcher=LocalLauncher(1))
    config = start_config(CONFIG, folder.path)
    assert config.algorithm.hidden_dims == (48, 48)
    task = OnlineTask(4, SeedFolder(tmp_path / "online"), load_start(folder.path, 4))
    only_acting = replace(config, steps=40, warm_up=40, model_updates=0, exploration_noise=0.0)
    OnlineTrainer([task], PENDULUM, only_acting, EvaluationPlan(40, 1), mode="eager").run(no_tick)
    before, after = (load_policy(one.policy) for one in (folder.seed(4), task.folder))
    assert isinstance(before, Policy) and isinstance(after, Policy)
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_allclose(after.propose(obs), before.propose(obs), atol=1e-5)
    if form == "network":
        np.testing.assert_allclose(after(obs), before(obs), atol=1e-5)
    saved = load_checkpoint(task.folder.training).tensors
    shapes = [qss_shapes(replace(config.algorithm, hidden_dims=(w, w)), 4) for w in (48, 16)]
    rows = torch.randn(1, 32, 8, generator=torch.Generator().manual_seed(1))
    online = Network(shapes[0]["critic"], saved["network.critic"].unsqueeze(0))
    trained = [
        load_checkpoint(folder.seed(4).member(n).training).tensors["network.critic"]
        for n in range(3)
    ]
    for twin in (0, 1):
        values = [
            mlp(Network(shapes[1]["critic"], one.unsqueeze(0)).members[twin], rows)
            for one in trained
        ]
        mean = torch.stack(values).mean(0)
        torch.testing.assert_close(mlp(online.members[twin], rows), mean, atol=1e-5, rtol=1e-5)
    # What was the same learns on.
    learning = OnlineTask(4, SeedFolder(tmp_path / "learning"), task.start)
    OnlineTrainer(
        [learning], PENDULUM, replace(config, steps=60, warm_up=40), EvaluationPlan(60, 1)
    ).run(no_tick)
    moved = load_checkpoint(learning.folder.training).tensors["network.critic"]
    assert not torch.equal(moved, saved["network.critic"])


def test_a_start_needs_no_results_and_keeps_its_own_settings(
    offline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (offline / "results.json").rename(offline / "moved.json")
    try:
        assert steps_before(offline) == 100
    finally:
        (offline / "moved.json").rename(offline / "results.json")
    with pytest.raises(UserError, match=r"leave out --set algorithm\.gamma=0\.5"):
        train_online(PENDULUM, start=offline, changes=["gamma=0.5"])
    with pytest.raises(UserError, match="--algo's"):
        train_online(PENDULUM, changes={"cycle": False})
    assert not list(tmp_path.iterdir())


def test_networks_are_carried_with_all_that_they_depend_on(offline: Path, tmp_path: Path) -> None:
    """A setting that is added to both is carried, or named here as one that may change."""
    free = {
        "batch_size", "learning_rate", "polyak_step_size", "proposal_update_interval",
        "clamp_targets", "proposal_average_step_size",
    }  # fmt: skip
    other: dict[str, Any] = {
        "hidden_dims": [8, 24], "gamma": 0.5, "cycle_coef": 7.0, "twin_pessimism": 0.25,
    }  # fmt: skip
    assert free | other.keys() == {field.name for field in fields(QSSConfig)}
    config = json.loads((offline / "config.json").read_text())
    config["preset"]["algorithm"] |= other
    config["preset"]["inverse"]["model"]["hidden_dims"] = other["hidden_dims"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    carried = start_config(CONFIG, tmp_path).algorithm
    for name, value in other.items():
        was = getattr(CONFIG.algorithm, name)
        assert getattr(carried, name) == (tuple(value) if isinstance(value, list) else value) != was


def test_seeds_that_start_offline_are_the_same_alone_and_resumed(
    offline: Path, tmp_path: Path
) -> None:
    config = replace(start_config(CONFIG, offline), steps=200, warm_up=50)
    made = replace(settings(), config=config, plan=EvaluationPlan(100, 1), start_run=str(offline))
    run_here(made, RunFolder(tmp_path / "both"))
    run_here(replace(made, seeds=(1,)), RunFolder(tmp_path / "alone"))
    both, alone = (tmp_path / name / "seeds" / "1" for name in ("both", "alone"))
    for name in ("training.safetensors", "metrics.jsonl"):
        assert (both / name).read_bytes() == (alone / name).read_bytes()


def test_a_start_of_another_environment_is_refused_before_anything_is_written(
    offline: Path, tmp_path: Path
) -> None:
    made = replace(settings(), env_id="Reacher-v5", start_run=str(offline))
    with pytest.raises(
        UserError, match="is of another environment: InvertedPendulum-v5, not Reacher-v5"
    ):
        online_run(made, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_an_offline_run_lacks_is_named(offline: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no seed 7; it holds 0, 1"):
        load_start(offline, 7)
    with pytest.raises(UserError, match=r"config\.json does not exist"):
        start_config(CONFIG, tmp_path)
    config = json.loads((offline / "config.json").read_text())
    config["preset"]["inverse"]["model"]["form"] = "bilinear"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="in bilinear form"):
        start_config(CONFIG, tmp_path)
    for lacking, message in (
        ({"method": "bco"}, "was not trained by D3G"),
        ({"offline_only": True}, "learned offline only: qss fit-inverse"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **lacking}))
        with pytest.raises(UserError, match=message):
            train_online(PENDULUM, start=tmp_path, out=tmp_path / "online")
        assert not (tmp_path / "online").exists()
    config["preset"]["algorithm"]["of_tomorrow"] = False
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"of_tomorrow.*another version of this package"):
        start_config(CONFIG, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": "InvertedPendulun"}, "did you mean"),
        ({"algorithm": "d3h"}, "d3g-no-cycle, nfq, dqn"),
        ({"preset": "papr"}, "did you mean paper"),
        ({"steps": 0}, "steps"),
        ({"steps": 60}, "60 steps end within the warm-up of 1,000"),
        ({"steps": 60, "warm_up": 60}, "60 steps end within the warm-up of 60"),
        ({"seeds": "none"}, "--seeds"),
        ({"workers": 0}, "workers"),
        ({"start": Path("nowhere")}, "nowhere"),
        ({"if_exists": "rusume"}, "did you mean resume"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        train_online(**{"env": PENDULUM, **arguments})
    assert not list(tmp_path.iterdir())


def test_what_is_set_has_to_make_sense_with_the_budget_that_is_asked_for(tmp_path: Path) -> None:
    made = train_online(
        PENDULUM, steps=60, warm_up=50, changes={"replay_capacity": 55, "model_updates": 1},
        evaluate_every=60, episodes=1, out=tmp_path / "run", progress=False,
    )  # fmt: skip
    assert made.results["config"]["replay_capacity"] == 55


def test_bad_input_is_one_line_and_code_2(qss: Qss) -> None:
    line = qss.refused("train-online Pendulum --algo none")
    assert line.startswith("error: unknown algorithm 'none'")


def test_baselines_need_what_they_need(tmp_path: Path) -> None:
    made = replace(settings(), algorithm="td3", start_run="somewhere")
    pytest.importorskip("d3rlpy")
    with pytest.raises(UserError, match="can't start from an offline run"):
        online_run(made, RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_d3g_learns_to_balance_the_pendulum(tmp_path: Path) -> None:
    """Random behaviour balances for five steps."""
    config = replace(online_preset("default"), steps=15_000)
    made = replace(settings(), seeds=(0,), config=config, plan=EvaluationPlan(5_000, 10))
    results = online_run(made, RunFolder(tmp_path / "run"))
    assert results["seeds"][0]["best"]["mean"] > 100
    assert read_json(tmp_path / "run" / "results.json")["steps"] == 15_000
