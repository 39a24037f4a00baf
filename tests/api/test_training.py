"""Training from Python: online, offline only, without a simulator, and the inverse fit later."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import qss_offline as qss
from qss_offline import UserError
from qss_offline.data.environments import env_id_of
from qss_offline.evaluation.export import export_policy
from qss_offline.runs.folder import read_json
from qss_offline.training.options import TrainOptions
from tests.api.conftest import SMALL


@pytest.fixture
def without_env(recording: qss.Recording) -> tuple[qss.Recording, qss.Recording]:
    """A log of an environment that nobody has: without actions, and its twin with actions."""
    rows = recording.with_actions().transitions
    log = qss.Recording.from_arrays(
        rows.observations,
        rows.rewards,
        rows.terminations,
        truncations=rows.truncations,
        next_observations=rows.next_observations,
        actions=rows.actions,
        episodes=rows.episodes,
        progress=False,
    )
    return log, log.with_actions()


def offline_parts(path: Path) -> dict[str, bytes]:
    return {
        f"{one.parent.name}/{one.name}": one.read_bytes()
        for one in path.glob("seeds/*/*")
        if one.name in {"training.safetensors", "metrics.jsonl"}
    }


def fitted_parts(path: Path) -> dict[str, bytes]:
    return {
        f"{one.parent.name}/{one.name}": one.read_bytes()
        for one in path.glob("seeds/*/*")
        if one.name in {"online.safetensors", "result.json", "policy.safetensors"}
    }


def test_a_run_is_what_it_was_asked_for(run: qss.Run, recording: qss.Recording) -> None:
    assert run.seeds == (0, 1)
    assert run.env_id == "InvertedPendulum-v5" == recording.env_id
    assert run.method == "d3g" and run.evaluated
    rows = run.returns()
    assert [(row["seed"], row["evaluation"]) for row in rows] == [
        (seed, number) for seed in (0, 1) for number in (1, 2, 3)
    ]
    assert [row["online_steps"] for row in rows[:3]] == [20, 40, 60]
    for row in rows:
        assert row["mean_return"] == pytest.approx(np.mean(row["returns"]))
        assert len(row["returns"]) == 2
    summary = run.summary()
    assert [one.last for one in summary.seeds] == [rows[2]["mean_return"], rows[5]["mean_return"]]
    assert summary.recorded == pytest.approx(recording.summary().return_mean, abs=1.0)
    assert "seed 1: last" in str(summary)
    assert "InvertedPendulum" in repr(run)
    action = run.policy(1)(np.zeros(4, np.float32))
    assert action.shape == (1,)
    with pytest.raises(UserError, match="no seed 7; its seeds are 0, 1"):
        run.policy(7)
    figure = run.plot()
    # A notebook shows it.
    assert figure._repr_png_().startswith(b"\x89PNG")
    axis = figure.axes[0]
    assert "InvertedPendulum" in axis.get_title()


def test_offline_first_and_the_inverse_later_is_the_run_at_once(
    run: qss.Run, recording: qss.Recording, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = {key: value for key, value in SMALL.items() if key != "online_steps"}
    capsys.readouterr()
    offline = qss.train(recording, seeds=2, offline_only=True, out=tmp_path / "offline", **steps)
    assert capsys.readouterr() == ("", ""), "progress is off"
    assert not offline.evaluated and offline.returns() == [] and offline.diagnose() == []
    assert offline_parts(offline.path) == offline_parts(run.path)
    with pytest.raises(UserError, match=r"offline only; qss fit-inverse .*offline makes policies"):
        offline.policy()
    with pytest.raises(UserError, match="never evaluated"):
        offline.plot()
    fitted = qss.fit_inverse(offline, online_steps=60, progress=False)
    assert fitted.path == tmp_path / "offline-inverse"
    assert fitted_parts(fitted.path) == fitted_parts(run.path)
    # As often as wanted, and of a finished run too.
    other = qss.fit_inverse(run, online_steps=30, out=tmp_path / "other", progress=False)
    assert [row["online_steps"] for row in other.returns()] == [10, 20, 30] * 2
    assert fitted_parts(other.path) != fitted_parts(run.path)
    assert (
        qss.fit_inverse(offline, online_steps=60, progress=False).path.name == "offline-inverse-2"
    )


def test_a_fit_in_an_environment_that_is_named_looks_up_no_other(
    without_env: tuple[qss.Recording, qss.Recording], tmp_path: Path
) -> None:
    path = tmp_path / "poles.py"
    path.write_text(
        "from gymnasium.envs.mujoco.inverted_pendulum_v5 import InvertedPendulumEnv\n"
        "class Pole(InvertedPendulumEnv): pass\n"
        "class Other(InvertedPendulumEnv): pass\n"
    )
    own, other = (f"{path}:{name}?max_episode_steps=20" for name in ("Pole", "Other"))
    steps = {key: value for key, value in SMALL.items() if key != "online_steps"}
    out = tmp_path / "run"
    qss.train(without_env[0], env=own, offline_only=True, out=out, **steps)
    asked: dict[str, Any] = {"online_steps": 30, "workers": 1, "progress": False}
    for env in (own, other, "InvertedPendulum"):
        # As in a process of its own.
        gymnasium.registry.pop("Pole", None)
        with pytest.raises(UserError, match="'Pole' is not registered"):
            qss.fit_inverse(out, **asked)
        fitted = qss.fit_inverse(out, env=env, **asked)
        assert fitted.env_id == env_id_of(env) and fitted.evaluated
    with pytest.raises(UserError, match="name it with env"):
        qss.fit_inverse(out, env_kwargs={"max_episode_steps": 20}, **asked)
    (out / "results.json").unlink()
    with pytest.raises(UserError, match="is not finished"):
        qss.fit_inverse(out, env=other, **asked)


def test_a_race_without_online_steps_leaves_d3g(recording: qss.Recording, tmp_path: Path) -> None:
    few = {"ensemble": 1, "known_updates": 40, "updates_per_round": 20}
    options: dict[str, Any] = {"updates": 40, "changes": few, "progress": False}
    fitted = []
    for method in ("auto", "d3g"):
        out = tmp_path / method
        offline = qss.train(recording, method=method, offline_only=True, out=out, **options)
        with_actions = qss.fit_inverse(offline, actions=recording.with_actions(), progress=False)
        assert (with_actions.method, with_actions.evaluated) == ("d3g", True)
        fitted.append(fitted_parts(with_actions.path))
    assert fitted[0] == fitted[1] != {}


def test_a_fit_that_was_interrupted_goes_on(
    run: qss.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "fit"
    with monkeypatch.context() as patch:
        patch.setattr("qss_offline.training.rounds.evaluate", stop)
        with pytest.raises(KeyboardInterrupt):
            qss.fit_inverse(run, online_steps=60, out=out, workers=1, progress=False)
    assert not (out / "results.json").exists()
    resumed = qss.resume(out, progress=False)
    assert fitted_parts(resumed.path) == fitted_parts(run.path)


def test_a_fit_that_stopped_while_it_copied_is_not_taken_for_a_run(
    run: qss.Run, recording: qss.Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies there was trained on another recording, perhaps."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "fit"
    with monkeypatch.context() as patch:
        patch.setattr("qss_offline.runs.folder.write_json", stop)
        with pytest.raises(KeyboardInterrupt):
            qss.fit_inverse(run, online_steps=60, out=out, progress=False)
    assert (out / "seeds" / "0" / "training.safetensors").exists()
    with pytest.raises(qss.UserError, match="parts of a run that never began"):
        qss.fit_inverse(run, online_steps=60, out=out, progress=False)
    for if_exists in ("error", "resume"):
        with pytest.raises(qss.UserError, match="parts of a run that never began"):
            qss.train(recording, out=out, if_exists=if_exists, **SMALL)


def test_an_earlier_run_is_found_from_any_folder(
    run: qss.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run.path.parent)
    asked = {"actions": run.path.name, "episodes": 1, "progress": False}
    fitted = qss.fit_inverse(run.path.name, out=tmp_path / "fit", **asked)
    monkeypatch.chdir(tmp_path)
    (fitted.path / "results.json").unlink()
    (fitted.path / "seeds" / "0" / "result.json").unlink()
    assert qss.resume(fitted.path, progress=False).config.actions_from == str(run.path.resolve())


@pytest.mark.parametrize("method", ["d3g", "bco"])
@pytest.mark.parametrize("form", ["either", "network", "bilinear"])
def test_steps_with_actions_do_without_a_simulator(
    without_env: tuple[qss.Recording, qss.Recording], tmp_path: Path, method: str, form: str
) -> None:
    log, with_actions = without_env
    asked: dict[str, Any] = {**SMALL, "online_steps": 0, "method": method}
    asked["changes"] = {**asked["changes"], "form": form}
    if form == "bilinear":
        asked["changes"]["recorded_coef"] = 0.0
    run = qss.train(log, actions=with_actions, out=tmp_path / "run", **asked)
    assert run.env_id is None and not run.evaluated
    assert run.results["known_steps"] == len(with_actions)
    policy = run.policy()
    assert policy.env_id is None
    rows = with_actions.transitions
    acted = policy(np.asarray(rows.observations))
    assert rows.actions is not None
    assert acted.shape == rows.actions.shape
    assert (acted >= rows.actions.min(axis=0) - 1e-6).all()
    assert (acted <= rows.actions.max(axis=0) + 1e-6).all()
    if method == "d3g":
        offline = qss.train(
            log, offline_only=True, out=tmp_path / "offline",
            **{k: v for k, v in asked.items() if k != "online_steps"},
        )  # fmt: skip
        later = qss.fit_inverse(offline, actions=with_actions, progress=False)
        assert fitted_parts(later.path) == fitted_parts(run.path)


def test_actions_and_an_environment_need_no_online_steps_either(
    recording: qss.Recording, run: qss.Run, tmp_path: Path
) -> None:
    fitted = qss.fit_inverse(
        run, actions=recording.with_actions(), out=tmp_path / "fit", progress=False
    )
    assert [(row["online_steps"], len(row["returns"])) for row in fitted.returns()] == [(0, 2)] * 2
    assert fitted.env_id == "InvertedPendulum-v5"
    from_run = qss.fit_inverse(run, actions=run, out=tmp_path / "again", progress=False)
    assert from_run.config.actions_from == str(run.path.resolve())
    assert from_run.results["known_steps"] == 2 * 60


def test_the_form_that_errs_less_on_steps_held_out_is_taken(
    without_env: tuple[qss.Recording, qss.Recording], tmp_path: Path
) -> None:
    """The pendulum's step is nearly affine in its action; 20 updates leave a network far off."""
    log, with_actions = without_env
    asked = {**SMALL, "online_steps": 0, "actions": with_actions}
    taken = {}
    for form in ("either", "bilinear"):
        changes = {**SMALL["changes"], "form": form}
        run = qss.train(log, out=tmp_path / form, **{**asked, "changes": changes})
        taken[form] = run.policy()(np.asarray(log.transitions.observations))
    np.testing.assert_array_equal(taken["either"], taken["bilinear"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"online_steps": 60}, "online steps need an environment: name it with --env"),
        ({"online_steps": 0}, "give them with --actions, or take --offline-only"),
        ({"offline_only": True, "actions": "x/y-v0"}, "leave out one of them"),
        ({"offline_only": True, "online_steps": 30}, "--online-steps doesn't apply"),
        ({"offline_only": True, "online_rounds": 3}, "--online-rounds doesn't apply"),
        ({"offline_only": True, "method": "bco"}, "bco can't learn offline only"),
        ({"method": "bcp"}, "did you mean bco"),
        ({"error_power": 0.5}, "doesn't apply to method auto"),
        ({"method": "auto", "preset": "paper"}, "paper doesn't apply to method auto"),
        ({"preset": "papr"}, "did you mean paper"),
        ({"changes": {"gama": 0.9}}, "did you mean gamma"),
        ({"seeds": [1, 1]}, "--seeds"),
        ({"seeds": 0}, "--seeds"),
        ({"workers": 0}, "workers must be above 0"),
        ({"workers": "2"}, "workers must be a whole number, not '2'"),
        ({"changes": None}, "changes must be settings by name"),
        ({"changes": "gamma=0.9"}, "changes must be settings by name"),
        ({"changes": [0.9]}, "changes must be texts"),
        ({"preset": None}, "preset None is no text: there are default, quick, paper"),
        ({"method": ["d3g"]}, "is no text"),
        ({"actions": 3}, "expected a recording or an earlier run, got 3"),
        ({"if_exists": "resum"}, "did you mean resume"),
        ({"env_kwargs": {"a": 1}}, "name it with env"),
    ],
)
def test_what_does_not_apply_is_refused_by_name_and_leaves_nothing(
    without_env: tuple[qss.Recording, qss.Recording],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        qss.train(without_env[0], **{"progress": False, **asked})
    assert list(tmp_path.iterdir()) == []


def test_runs_are_called_after_the_recording_and_the_method(
    without_env: tuple[qss.Recording, qss.Recording],
    recording: qss.Recording,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    offline = {k: v for k, v in SMALL.items() if k != "online_steps"} | {"offline_only": True}
    first = qss.train(recording, **offline)
    assert first.path == Path("runs/InvertedPendulum-v5-random-100-n500-s0-d3g")
    log = without_env[0]
    name = log.dataset_id.removeprefix("local/").removesuffix("-obs-v0")
    assert qss.train(log, **offline).path == Path(f"runs/{name}-d3g")
    with pytest.raises(UserError, match="holds a run already"):
        qss.train(recording, **offline)
    assert qss.train(recording, if_exists="new", **offline).path.name.endswith("-d3g-2")


def test_a_run_of_bco_has_no_inverse_fit_of_its_own(
    recording: qss.Recording, tmp_path: Path
) -> None:
    asked = {**SMALL, "updates": 30, "method": "bco"}
    run = qss.train(recording, out=tmp_path / "bco", **asked)
    with pytest.raises(UserError, match=r"a run of BCO.*qss train --method bco"):
        qss.fit_inverse(run, online_steps=30)


def test_online_runs_are_runs_too(tmp_path: Path) -> None:
    run = qss.train_online(
        "InvertedPendulum", steps=60, warm_up=20, evaluate_every=30, episodes=1,
        changes={"model_updates": 5}, out=tmp_path / "online", progress=False,
    )  # fmt: skip
    assert [row["online_steps"] for row in run.returns()] == [0, 30, 60]
    assert run.policy()(np.zeros(4, np.float32)).shape == (1,)
    opened = qss.load(tmp_path / "online")
    assert isinstance(opened, qss.OnlineRun)
    assert opened.summary().seeds == run.summary().seeds
    assert read_json(tmp_path / "online" / "config.json")["method"] == "online"
    assert run.plot().axes


@pytest.mark.usefixtures("in_process")
def test_a_recording_that_was_replaced_is_not_taken_for_the_one_that_was_learned_from(
    minari_root: Path, tmp_path: Path
) -> None:
    """By whatever goes on with a run."""

    def recorded(seed: int) -> qss.Recording:
        drawn = qss.Recording.from_env("InvertedPendulum", steps=300, seed=seed, progress=False)
        rows = drawn.transitions
        return qss.Recording.from_arrays(
            rows.observations, rows.rewards, rows.terminations, truncations=rows.truncations,
            next_observations=rows.next_observations, episodes=rows.episodes, progress=False,
            name="mine/log", env="InvertedPendulum", overwrite=True,
        )  # fmt: skip

    few: dict[str, Any] = {"method": "d3g", "updates": 20, "offline_only": True, "progress": False}
    run = qss.train(recorded(0), out=tmp_path / "run", **few)
    recorded(1)
    with pytest.raises(UserError, match="replaced since"):
        qss.fit_inverse(run, online_steps=30, out=tmp_path / "fit", progress=False)
    (run.path / "results.json").unlink()
    with pytest.raises(UserError, match="replaced since"):
        qss.resume(run.path, progress=False)


@pytest.mark.parametrize(
    "asked",
    [
        {"updates": 1e2}, {"updates": True}, {"updates": "100"}, {"online_steps": 6e1},
        {"online_rounds": 3.0}, {"episodes": 1.0}, {"seeds": 2.0}, {"seeds": None},
    ],
)  # fmt: skip
def test_budgets_that_are_no_whole_numbers_are_refused_before_anything_is_made(
    recording: qss.Recording, tmp_path: Path, asked: dict[str, Any]
) -> None:
    budgets = {"updates": 20, "online_steps": 60, "online_rounds": 5, "episodes": 1, **asked}
    with pytest.raises(UserError, match=r"must be a whole number|seeds"):
        qss.train(recording, out=tmp_path / "run", progress=False, **budgets)
    assert not (tmp_path / "run").exists()


def test_whole_numbers_of_numpy_are_whole_numbers(recording: qss.Recording) -> None:
    options = TrainOptions("d3g", seeds=np.int64(2), updates=np.int64(20), device="cpu")
    assert options.config(recording.dataset_id, "InvertedPendulum-v5").seeds == (0, 1)


def test_a_file_is_no_recording_yet(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_text("obs,reward\n1,2\n")
    with pytest.raises(UserError, match="is a file: import it first"):
        qss.train(str(log))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"evaluate_every": 1.5}, "interval must be a whole number, not 1.5"),
        ({"evaluate_every": "a"}, "interval must be a whole number"),
        ({"episodes": None}, "episodes must be a whole number, not None"),
        ({"algorithm": None}, "algorithm None is no text"),
        ({"preset": 5}, "preset 5 is no text"),
        ({"start": 5}, "start: expected a path, got 5"),
        ({"tf32": "x"}, "tf32 must be true or false"),
        ({"out": 5}, "out: expected a path"),
        ({"progress": "yes"}, "progress: expected true, false or a function"),
        ({"algorithm": "ddpg", "changes": {"cycle_coef": 3.0}}, "ddpg has no setting .*cycle_coef"),
        ({"algorithm": "td3", "changes": ["model_updates=1"]}, "td3 has no setting model_updates"),
    ],
)
def test_what_the_online_mode_cant_use_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    few = {"steps": 40, "warm_up": 20, "workers": 1, "progress": False}
    with pytest.raises(UserError, match=message):
        qss.train_online("InvertedPendulum", **{**few, **asked})
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_path_policy_or_run_is_refused_in_one_line(
    recording: qss.Recording, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    few: dict[str, Any] = {"steps": 40, "warm_up": 20, "evaluate_every": 20, "episodes": 1}
    online = qss.train_online("InvertedPendulum", **few, workers=1, progress=False)
    refusals: list[tuple[Callable[[], Any], str]] = [
        (lambda: qss.load(None), "run or policy: expected a path, got None"),
        (lambda: qss.load(online), "run or policy: expected a path"),
        (lambda: qss.resume(5), "run: expected a path, got 5"),
        (lambda: qss.fit_inverse(None), "run: expected a path"),
        (lambda: qss.fit_inverse(online), "is an online run"),
        (lambda: qss.train_online("Reacher", start=online, **few), "holds no offline run"),
        (lambda: online.policy(seed="0"), "seed must be a whole number, not '0'"),
        (lambda: online.render(steps=1.5), "--steps must be a whole number of at least 1, not 1.5"),
        (lambda: online.report(out=5), "out: expected a path"),
        (lambda: qss.compare({5: online}), "a run is called 5, which is no text"),
        (lambda: qss.compare({"a": 5}), "expected a path, got 5"),
        (lambda: export_policy("run", "a.pt"), "expected a policy"),
        (lambda: export_policy(online.policy(), 5), "expected a path, got 5"),
        (lambda: qss.train(recording, out=5), "out: expected a path"),
        (lambda: qss.train(recording, progress=None), "progress: expected true"),
        (lambda: qss.train(recording, tf32="x"), "tf32 must be true or false"),
    ]
    for refused, message in refusals:
        with pytest.raises(UserError, match=message):
            refused()
    assert [path.name for path in Path("runs").iterdir()] == [online.path.name]
