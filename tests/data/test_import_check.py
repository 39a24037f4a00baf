"""`data check` and `data import --dry-run`: what a recording would become, on one screen."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from minari.data_collector import EpisodeBuffer

from qss_offline.data import About, ColumnNames, ImportRules, plan_arrays, plan_file, plan_minari
from qss_offline.data.environments import make_env
from qss_offline.data.importing.checking import check_source
from qss_offline.errors import UserError
from tests.program import Qss

from .logs import happened, make_log

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


def table(rows: dict[str, Any]) -> dict[str, Any]:
    numbers = {f"obs_{k}": rows["observations"][:, k] for k in range(rows["observations"].shape[1])}
    return numbers | {
        "reward": rows["rewards"],
        "terminated": rows["terminations"],
        "truncated": rows["truncations"],
        "episode": rows["episodes"],
    }


def write(path: Path, columns: dict[str, Any]) -> str:
    pa.parquet.write_table(pa.table(columns), path)
    return str(path)


def names(path: str) -> dict[str, str]:
    found = check_source(path)
    lines = found.lines()
    assert len(lines) <= 24 and all(len(line) <= 80 for line in lines)
    assert not found.refused or any(line.startswith("refused: ") for line in lines)
    json.dumps(found.as_json())
    return found.findings


def test_what_is_suspicious_is_named(tmp_path: Path) -> None:
    log = make_log([40, 30, 20, 2])
    good = table(log.rows())
    path = tmp_path / "log.parquet"
    assert names(write(path, good)).keys() == {"behaviour stochasticity", "episodes of one step"}
    twice = good | {"obs_2": good["obs_0"], "obs_3": good["obs_0"] * 0 + 3}
    found = names(write(path, twice))
    assert found["constant columns"] == "obs_3" and found["equal columns"] == "obs_0 = obs_2"
    assert "all are 1" in names(write(path, good | {"reward": np.ones(92)}))["rewards"]
    frozen = {name: np.array(column) for name, column in good.items()}
    for name in ("obs_0", "obs_1"):
        frozen[name][5:8] = frozen[name][4]
    assert "3 rows" in names(write(path, frozen))["duplicated rows"]
    wild = {name: np.array(column, copy=True) for name, column in good.items()}
    wild["obs_1"][[7, 8]] = -9999
    assert names(write(path, wild))["wild values"].startswith("obs_1 holds -9999 and 1 more")


def test_refusals_come_with_what_mends_them(tmp_path: Path) -> None:
    columns = {name: np.array(column) for name, column in table(make_log([9, 9, 9]).rows()).items()}
    columns["obs_0"][4] = np.nan
    columns["obs_1"] = columns["obs_1"] * 1e-3 + 1e9
    found = check_source(write(tmp_path / "log.parquet", columns))
    assert len(found.refused) == 2
    assert "--missing" in found.refused[0] and "--offset obs_1" in found.refused[1]
    assert found.report is not None and found.report.kept.episodes == 2
    columns["reward"][12] = np.inf
    columns["step"] = np.concatenate([np.arange(9.0)] * 3)
    columns["step"][3] = np.nan
    _, *refused = check_source(write(tmp_path / "log.parquet", columns)).refused
    assert any("reward" in one and "--missing drop-step" in one for one in refused)
    clock = check_source(str(tmp_path / "log.parquet")).refused[0]
    assert clock.startswith("'step' is missing in row 3;") and "--ignore step" in clock
    rules = ImportRules(missing="drop-step", ignore=("step", "obs_1"))
    mended = check_source(str(tmp_path / "log.parquet"), rules=rules)
    assert not mended.refused and mended.report is not None
    assert mended.report.kept.steps == 27 - 3 - 2 - 1
    (tmp_path / "bad.csv").write_text("a,b\n1,2\n")
    nothing = check_source(str(tmp_path / "bad.csv"))
    assert nothing.report is None and "--observations" in nothing.refused[0]
    assert nothing.lines()[0].endswith("can't be imported as it stands")


def test_commands_show_and_write_nothing(minari_root: Path, tmp_path: Path, qss: Qss) -> None:
    path = write(tmp_path / "log.parquet", table(make_log([9, 9]).rows()) | {"\x1b[2Jx": range(18)})
    shown = qss("data import --dry-run", path).out
    assert "observations       obs_0, obs_1 (2 numbers)" in shown and "\x1b" not in shown
    assert "2 of 18 steps, the last of each" in " ".join(shown.split())
    assert "\x1b" not in qss("data check", path).out
    assert json.loads(qss("data check --json", path).out)["report"]["kept"]["steps"] == 16
    assert not minari.list_local_datasets()
    plan_arrays(**make_log([4]).rows()).store("mine/x")
    qss("data import mine/x-act-v0 --dry-run")
    qss("data check mine/x-obs-v0")
    assert len(minari.list_local_datasets()) == 2
    made = qss("data import --into mine/y --ignore obs_1,reward", path).out
    assert "made mine/y-obs-v0: 16 transitions, 2 episodes" in made
    assert "--into is missing" in qss("data import", path, code=2).error


@pytest.mark.parametrize("name", ["obs_1,deg", "obs_1, deg", "a,obs_0", "obs*,x"])
def test_what_a_refusal_recommends_can_be_typed(
    name: str, minari_root: Path, tmp_path: Path, qss: Qss
) -> None:
    """Names may hold what separates them, and what stands for any characters."""
    columns = table(make_log([9, 9]).rows()) | {"battery": np.zeros(18), "volts": np.zeros(18)}
    columns[name] = 1e9 + 0.001 * np.arange(18)
    path = write(tmp_path / "log.parquet", columns)
    words = [path, "--observations", f"obs_0,obs_1,{name}"]
    line = "data import --into mine/x"
    qss(line, *words, code=2)
    qss(line, *words, "--offset", name, "--ignore", "battery,volts")
    for more in ("--dry-run", ""):
        qss(f"{line} --overwrite --skip-bad {more}", *words, code=2)
    words[-1] = "obs_0,obs_1"
    qss(f"{line} --overwrite", *words, "--ignore", f"battery,{name}")
    report = check_source(path, rules=ImportRules((f"battery,{name}",))).report
    assert report is not None and report.ignored == ("battery", name)


@pytest.mark.parametrize("json_too", ["", "--json"])
def test_a_script_is_told_of_a_refusal(json_too: str, tmp_path: Path, qss: Qss) -> None:
    qss(f"data check {json_too}", tmp_path / "nothere.csv", code=2)


@pytest.mark.parametrize("into", ["", "x", "me/x.y", "../up/x"])
def test_a_bad_name_is_refused_before_anything_is_read(into: str, qss: Qss) -> None:
    assert "namespace/.../name" in qss.refused("data import nothere.csv --into", into)


@pytest.mark.parametrize("role", [role.name for role in fields(ColumnNames)])
def test_a_minari_dataset_has_its_roles(role: str, minari_root: Path, qss: Qss) -> None:
    plan_arrays(**make_log([9, 4]).rows()).store("mine/x")
    option = f"--{role.replace('_', '-')}"
    imported = qss(f"data import mine/x-act-v0 --into mine/y {option} {role}", code=2)
    checked = qss(f"data check mine/x-act-v0 {option} {role}", code=2)
    for told in (imported.err, "".join(checked)):
        assert f"{role}: mine/x-act-v0 is a Minari dataset" in " ".join(told.split())
    assert not imported.out
    try:
        left = plan_minari("mine/x-act-v0", rules=ImportRules((role,)))
    except UserError as error:
        assert role == "observations" and "no column is left" in str(error)
    else:
        assert left.report.ignored == (role,)
        assert role not in [one.role for one in left.report.roles if one.columns]


@pytest.mark.parametrize(
    ("more", "key", "value"),
    [
        ("", "algorithm_name", "theirs"),
        ("--algorithm mine", "algorithm_name", "mine"),
        ("", "author", {"Someone"}),
        ("--author Me", "author", {"Me"}),
        ("", "env_id", "Reacher-v5"),
        ("--env InvertedPendulum", "env_id", "InvertedPendulum-v5"),
    ],
)
def test_what_a_minari_dataset_says_of_itself_stays_unless_told_otherwise(
    more: str, key: str, value: Any, minari_root: Path, qss: Qss
) -> None:
    env_id = "Reacher" if key == "env_id" and not more else None
    about = About(env_id=env_id, algorithm_name="theirs", author=("Someone",))
    width = 4 if env_id is None else 10
    rows = {k: v for k, v in make_log([6], width).rows().items() if k != "actions"}
    plan_arrays(**rows).store("ext/a", about)
    qss(f"data import ext/a-obs-v0 --into me/a {more}")
    assert minari.load_dataset("me/a-obs-v0").storage.metadata[key] == value


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_minari_dataset_that_lacks_values_is_imported_from_its_file(
    bad: float, minari_root: Path
) -> None:
    log = make_log([6, 5])
    log.states[0][2, 1] = bad
    episodes = [
        EpisodeBuffer(
            id=k, observations=states, actions=log.actions[k], rewards=list(log.rewards[k]),
            terminations=[False] * (len(states) - 1),
            truncations=[False] * (len(states) - 2) + [True],
        )
        for k, states in enumerate(log.states)
    ]  # fmt: skip
    minari.create_dataset_from_buffers(
        "ext/bad-v0", episodes, observation_space=spaces.Box(-np.inf, np.inf, (2,), np.float64),
        action_space=spaces.Box(-1, 1, (1,), np.float64),
    )  # fmt: skip
    file = minari_root / "ext/bad-v0/data/main_data.hdf5"
    for rules in (
        ImportRules(),
        ImportRules(skip_bad=True),
        ImportRules(missing="drop-step"),
        ImportRules(missing="interpolate"),
    ):
        (told,) = check_source("ext/bad-v0", rules=rules).refused
        assert str(file) in told
    left = plan_file(file, rules=ImportRules(missing="drop-step")).transitions
    assert len(left) == 9 and happened(left, log)
    whole = plan_file(file, rules=ImportRules(missing="interpolate")).transitions
    assert len(whole) == 11


@pytest.mark.usefixtures("minari_root")
def test_an_online_run_is_stored_as_it_is_or_not_at_all(tmp_path: Path, qss: Qss) -> None:
    (tmp_path / "run" / "seeds").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text('{"method": "online"}')
    line = "data import --into mine/x"
    assert "no replays yet" in qss.refused(line, tmp_path / "run")
    (tmp_path / "run" / "seeds" / "0").mkdir()
    assert "no replay of seed 0" in qss.refused(line, tmp_path / "run")
    for more in (
        *("--dry-run", "--text mine", "--ignore x", "--missing drop-step"),
        *("--observation-only", "--observations x"),
    ):
        assert "leave out all" in qss.refused(f"{line} {more}", tmp_path / "run")


@pytest.mark.parametrize("beside", [[], ["seeds"], ["seeds/0"]])
def test_a_log_beside_a_file_of_settings_is_a_log(
    beside: list[str], tmp_path: Path, qss: Qss
) -> None:
    for name in beside:
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "log.parquet", table(make_log([9, 9]).rows()))
    (tmp_path / "config.json").write_text('{"robot": "arm"}')
    qss("data import --dry-run", tmp_path)


@pytest.mark.parametrize("ends", ["terminations", "timeouts", "done", "is_first"])
def test_episodes_by_steps_are_not_taken_for_steps_by_environments(
    ends: str, tmp_path: Path
) -> None:
    """They would become steps from one episode to the next."""
    rng = np.random.default_rng(0)
    flags = np.zeros((20, 50), bool)
    flags[:, 0 if ends == "is_first" else -1] = True
    columns = {
        "observations": rng.normal(size=(20, 50, 2)).cumsum(axis=1),
        "rewards": rng.normal(size=(20, 50)),
        ends: flags,
    }
    np.savez(tmp_path / "wrong.npz", **columns)
    (refused,) = check_source(tmp_path / "wrong.npz").refused
    assert "swap their first two axes" in refused
    right = {name: np.swapaxes(column, 0, 1) for name, column in columns.items()}
    np.savez(tmp_path / "right.npz", **right)
    found = check_source(tmp_path / "right.npz")
    assert not found.refused and found.report is not None
    assert found.report.kept.episodes == 20


@settings(max_examples=60, deadline=None)
@given(
    episodes=st.integers(4, 20), steps=st.integers(12, 200), numbers=st.integers(3, 6),
    flags=st.booleans(), goal=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_smooth_rows_are_episodes_and_smooth_columns_are_environments(
    episodes: int, steps: int, numbers: int, flags: bool, goal: bool, seed: int
) -> None:
    """Nothing terminates: only how observations move tells steps from environments."""
    rng = np.random.default_rng(seed)
    shape = episodes, 1, numbers
    times = np.linspace(0, 2, steps)[:, None]
    states = 3 * rng.normal(size=shape) + np.sin(times * rng.uniform(1, 2, shape))
    if goal:  # which stays
        states = np.concatenate((states, 0 * states + rng.normal(size=shape)), axis=2)
    rows: dict[str, Any] = {"observations": states, "rewards": states.sum(axis=2)}
    flagged = rows | {"terminations": np.zeros((episodes, steps), bool)}
    with pytest.raises(UserError, match="swap their first two axes"):
        plan_arrays(**flagged if flags else rows)
    plan = plan_arrays(**{name: np.swapaxes(one, 0, 1) for name, one in flagged.items()})
    assert plan.report.recorded.episodes == episodes


@pytest.mark.parametrize("env_id", ["InvertedPendulum", "Hopper", "Reacher", "Pendulum"])
@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("environments", [2, 4, 20])
def test_environments_that_move_alike_are_environments(
    env_id: str, together: bool, environments: int
) -> None:
    """Acting in step they differ less from each other than from one step to the next."""
    rng = np.random.default_rng(0)
    streams = []
    for seed in range(environments):
        env = make_env(env_id)
        assert isinstance(env.action_space, spaces.Box)
        low, high = env.action_space.low, env.action_space.high
        stream = [env.reset(seed=0 if together else seed)[0]]
        for step in range(12):
            wave = np.sin(step) if together else rng.uniform(-1, 1, low.shape)
            action = (low + (high - low) * (0.5 + 0.3 * wave)).astype(np.float32)
            observation, _, terminated, _, _ = env.step(action)
            stream.append(env.reset()[0] if terminated else observation)
        streams.append(np.array(stream) + 1e-4 * rng.normal(size=stream[0].shape))
        env.close()
    plan = plan_arrays(
        observations=np.stack(streams, axis=1),
        terminations=np.zeros((13, environments)),
        rules=ImportRules(resets="keep"),
    )
    assert plan.report.recorded.episodes == environments
