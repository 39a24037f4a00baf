from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import minari
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from gymnasium import spaces

from qss_offline.data import (
    About,
    ColumnNames,
    StoredDatasets,
    Transitions,
    collect_with_policy,
    export_dataset,
    load_transitions,
    plan_arrays,
    plan_file,
    plan_minari,
    plan_replay_buffer,
    verify_dataset,
)
from qss_offline.data.local import local_dataset_ids, read_metadata
from qss_offline.data.spaces import read_space
from qss_offline.errors import UserError
from tests.program import Qss

from .conftest import loaded, make_transitions, same
from .logs import D3rlpyBuffer, D3rlpyEpisode
from .test_load import FOREIGN, buffers, create

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]

BASE, OTHER = "mine/thing/first", "mine/thing/second"
LENGTHS = [3, 1, 7, 2]


def arrays(**changes: Any) -> dict[str, Any]:
    transitions = make_transitions(LENGTHS)
    named: dict[str, Any] = dict(transitions.columns()) | changes
    return {name: np.copy(value) for name, value in named.items() if value is not None}


def refusal(**changes: Any) -> str:
    with pytest.raises(UserError) as caught:
        plan_arrays(**arrays(**changes)).store(BASE)
    assert "\n" not in str(caught.value)
    assert not minari.list_local_datasets()
    return str(caught.value)


def raw_bytes(root: Path, dataset_id: str) -> bytes:
    files = sorted(path for path in (root / dataset_id).rglob("*") if path.is_file())
    return b"".join(path.read_bytes() for path in files)


def holds_actions(content: bytes, actions: np.ndarray[Any, Any]) -> bool:
    return any(
        needle in content
        for number in actions.reshape(-1)
        for needle in (
            np.float32(number).tobytes(),
            np.float64(number).tobytes(),
            np.float32(number).tobytes()[::-1],
            repr(float(number)).encode(),
        )
    )


# --- arrays ---------------------------------------------------------------------------------


def test_a_pair_of_arrays(minari_root: Path) -> None:
    given = make_transitions(LENGTHS)
    stored = plan_arrays(**given.columns()).store(BASE)
    assert stored.ids == ("mine/thing/first-obs-v0", "mine/thing/first-act-v0")
    assert same(loaded(stored.ids[1]), given)
    assert same(loaded(stored.ids[0]), given.without_actions())
    assert given.actions is not None
    assert not holds_actions(raw_bytes(minari_root, stored.obs_id), given.actions)
    assert holds_actions(raw_bytes(minari_root, stored.ids[1]), given.actions)
    for dataset_id in stored.ids:
        dataset = minari.load_dataset(dataset_id)
        assert dataset.total_steps == 13 and dataset.total_episodes == 4
        assert verify_dataset(dataset_id).ok


def test_observation_only_alone(minari_root: Path) -> None:
    given = make_transitions(LENGTHS)
    first = plan_arrays(observation_only=True, **given.columns()).store(BASE)
    second = plan_arrays(**given.without_actions().columns()).store("mine/thing/second")
    assert first.act_id is None and second.act_id is None
    assert sorted(minari.list_local_datasets()) == sorted((first.obs_id, second.obs_id))
    assert first.obs_digest == second.obs_digest
    metadata = minari.load_dataset(first.obs_id).storage.metadata
    assert metadata["observation_only"] is True and "twin" not in metadata


def test_one_observation_more_than_steps(minari_root: Path) -> None:
    given = make_transitions(LENGTHS)
    observations = []
    for start, length in zip(given.episode_starts(), given.episode_lengths(), strict=True):
        observations.append(given.observations[start : start + length])
        observations.append(given.next_observations[start + length - 1 : start + length])
    changes = {"observations": np.concatenate(observations), "next_observations": None}
    stored = plan_arrays(**arrays(**changes)).store(BASE)
    assert same(loaded(stored.obs_id), given.without_actions())


def test_without_the_last_observation_its_step_is_left_out(minari_root: Path) -> None:
    given = make_transitions(LENGTHS)
    plan = plan_arrays(**arrays(next_observations=None))
    stored = plan.store(BASE)
    imported = loaded(stored.obs_id)
    assert imported.episode_lengths().tolist() == [2, 6, 1]
    np.testing.assert_array_equal(imported.observations[:2], given.observations[:2])
    np.testing.assert_array_equal(imported.next_observations[:2], given.observations[1:3])
    assert not imported.terminations.any()
    left_out = dict(plan.report.table())["left out"]
    assert left_out.startswith("4 of 13 steps, ") and "2 of 2 terminations" in left_out


def test_ends_are_assumed_and_said(minari_root: Path) -> None:
    given = arrays(episodes=None)
    given["truncations"][-1] = False
    plan = plan_arrays(**given)
    stored = plan.store(BASE)
    assert same(loaded(stored.obs_id), make_transitions(LENGTHS).without_actions())
    assert plan.report.notices == (
        "1 episodes end without termination or truncation; they count as truncated",
    )


def test_lists_flags_and_labels_of_other_kinds(minari_root: Path) -> None:
    given = make_transitions(LENGTHS)
    stored = plan_arrays(
        observations=given.observations.astype(np.float64).tolist(),
        next_observations=given.next_observations.astype(np.float64),
        rewards=given.rewards[:, None],
        terminations=given.terminations.astype(int).tolist(),
        truncations=given.truncations.astype(np.float32)[:, None],
        episodes=np.array([9, 4, 7, 1])[given.episodes],
    ).store(BASE)
    assert same(loaded(stored.obs_id), given.without_actions())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": np.zeros((5, 3))}, "observations: expected 13 rows, got 5"),
        ({"observations": np.zeros((5, 3)), "next_observations": None}, "expected 13 rows, or 17"),
        ({"rewards": np.full(13, np.nan)}, "values are missing: 13 of 'rewards' (first in row 0)"),
        ({"rewards": [1e300] * 13}, "rewards: row 0 holds NaN or infinity"),
        ({"rewards": []}, "rows of rewards 0, but of"),
        ({"rewards": np.zeros(12)}, "rows of rewards 12, but of terminations, truncations"),
        ({"rewards": ["x"] * 13}, "rewards: expected numbers"),
        ({"rewards": [object()] * 13}, "rewards: expected numbers, got dtype object"),
        ({"rewards": 3.0}, "rewards: expected one row"),
        ({"terminations": np.arange(13)}, "expected true and false"),
        ({"terminations": np.zeros(4, bool)}, "rows of terminations 4, but"),
        ({"terminations": np.ones(13, bool)}, "row 0 ends an episode"),
        ({"episodes": np.arange(4)}, "rows of episodes 4, but"),
        ({"episodes": [0, 1] * 6 + [0]}, "must lie together"),
        ({"actions": np.zeros((4, 2))}, "rows of actions 4, but"),
        ({"next_observations": np.zeros((13, 3))}, "row 0 differs from the observations of row 1"),
    ],
)
def test_refused_arrays(minari_root: Path, changes: dict[str, Any], words: str) -> None:
    assert words in refusal(**changes)


def test_arguments_that_are_none() -> None:
    with pytest.raises(UserError, match="observations: expected an array"):
        plan_arrays(observations=None).store(BASE)
    with pytest.raises(UserError, match="expected names in one text"):
        ColumnNames(observations=["x", "y"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "dataset_id",
    ["", "x", "no_namespace", "a/b/c-v0", "../up/x", "/abs/x", "me/x.y", "me/ü", "me/"],
)
def test_refused_ids(minari_root: Path, dataset_id: str) -> None:
    with pytest.raises(UserError, match=r"expected namespace/\.\.\./name"):
        plan_arrays(**arrays()).store(dataset_id)


def test_taken_ids(minari_root: Path) -> None:
    plan_arrays(**arrays()).store(BASE)
    with pytest.raises(UserError, match="exists"):
        plan_arrays(**arrays()).store(BASE)
    plan_arrays(**arrays()).store(BASE, overwrite=True)


def test_the_twin_of_a_pair_that_is_replaced_goes_with_it(
    minari_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Actions of other rollouts would be taken for those of the new ones."""
    pair = plan_arrays(**arrays()).store(BASE)
    assert pair.act_id is not None
    other = plan_arrays(**arrays()).store(OTHER)
    without = {name: column for name, column in arrays().items() if name != "actions"}
    alone = plan_arrays(**without).store(BASE, overwrite=True)
    assert alone.ids == (pair.obs_id,)
    assert sorted(local_dataset_ids()) == sorted((pair.obs_id, *other.ids))
    assert f"{pair.act_id} is removed" in capsys.readouterr().err
    assert verify_dataset(pair.obs_id).ok


def test_a_dataset_of_a_twins_name_that_is_none_stays(minari_root: Path) -> None:
    pair = plan_arrays(**arrays()).store(OTHER)
    assert pair.act_id is not None
    own = minari_root / f"{BASE}-act-v0"
    shutil.copytree(minari_root / pair.act_id, own)
    without = {name: column for name, column in arrays().items() if name != "actions"}
    plan_arrays(**without).store(BASE, overwrite=True)
    assert own.is_dir()


def test_what_is_known_is_kept(minari_root: Path) -> None:
    recording = make_transitions(LENGTHS, obs_dim=10)
    about = About(
        env_id="reacher", text="From a robot.", author=("A. Nother",), license="cc-by-4.0"
    )
    stored = plan_arrays(**recording.columns()).store(BASE, about=about)
    info = load_transitions(stored.ids[1]).info
    assert info.env_id == "Reacher-v5"
    assert info.action_low is not None and info.action_low.tolist() == [-1, -1]
    dataset = minari.load_dataset(stored.obs_id)
    assert dataset.recover_environment().action_space.shape == (2,)
    assert dataset.storage.metadata["license"] == "cc-by-4.0"
    assert dataset.storage.metadata["author"] == {"A. Nother"}
    with pytest.raises(UserError, match=r"observations: they hold 3 numbers"):
        plan_arrays(**arrays()).store("mine/other", about=About(env_id="Reacher"))


def swings(noise: float = 0.0, obs_dim: int = 3) -> dict[str, Any]:
    """A pendulum's log: its observations leave their bounds where there is noise."""
    rows = arrays()
    angles = np.linspace(0, 3, 14)
    states = np.column_stack([np.cos(angles), np.sin(angles), angles, angles])[:, :obs_dim]
    states[:, 0] += noise * np.linspace(1, -1, 14)
    states[-1, 0] = -1
    chosen = {"observations": states[:-1], "next_observations": states[1:]}
    one = {"terminations": rows["terminations"] & False, "truncations": np.arange(13) == 12}
    return chosen | one | {"rewards": rows["rewards"], "actions": 2 * rows["actions"][:, :1]}


@pytest.mark.parametrize("noise", [0.0, 1e-3, 0.5])
@pytest.mark.parametrize("only_the_last", [False, True])
def test_observations_that_leave_an_environments_space_have_none_with_bounds(
    noise: float, only_the_last: bool, minari_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = swings(0 if only_the_last else noise)
    if only_the_last:
        rows["next_observations"][-1, 0] -= noise
    stored = plan_arrays(**rows).store(BASE, About(env_id="Pendulum"))
    told = capsys.readouterr().err
    assert ("without bounds" in told and "Pendulum-v1" in told) == bool(noise)
    metadata = read_metadata(stored.obs_id)
    space = read_space(metadata, "observation_space")
    assert isinstance(space, spaces.Box)
    assert space.shape == (3,) and space.dtype == np.float32
    assert np.isinf(space.low).all() == bool(noise) and metadata["env_id"] == "Pendulum-v1"
    assert all(verify_dataset(one).ok for one in stored.ids)
    assert load_transitions(stored.ids[1]).info.action_low == pytest.approx([-2])


FAULTS = {
    "another environment": "--env Reacher",
    "actions outside": "--env Pendulum",
    "taken": "--env Pendulum",
    "shifted": "--env Pendulum --offset observations[2]",
}


@pytest.mark.parametrize("fault", [None, *FAULTS])
def test_a_dry_run_ends_as_the_import_would(
    fault: str | None, minari_root: Path, tmp_path: Path, qss: Qss
) -> None:
    rows = swings(1e-3)
    if fault == "taken":
        plan_arrays(**rows).store(BASE)
    if fault == "actions outside":
        rows["actions"][5] = 2.5
    np.savez(tmp_path / "log.npz", **rows)
    line = f"data import --into {BASE} {FAULTS.get(fault or '', '--env Pendulum')}"
    before = local_dataset_ids()
    dry = qss(f"{line} --dry-run", tmp_path / "log.npz", code=2 if fault else 0)
    assert local_dataset_ids() == before
    real = qss(line, tmp_path / "log.npz", code=2 if fault else 0)
    assert dry.error == real.error and ("without bounds" in dry.err) == (
        "without bounds" in real.err
    )
    if fault is None:
        assert len(local_dataset_ids()) == 2
    else:
        assert local_dataset_ids() == before
        words = {"actions outside": "number 0 of row 5 is 2.5", "taken": "exists"}
        assert words.get(fault, "") in dry.error
    if fault == "taken":
        qss(f"{line} --dry-run --overwrite", tmp_path / "log.npz")
        alone = line.replace(f"--into {BASE}", "")
        qss(f"{alone} --dry-run", tmp_path / "log.npz")


# --- Minari ---------------------------------------------------------------------------------


def test_the_environment_that_is_named_counts_and_not_the_sources(minari_root: Path) -> None:
    source = plan_arrays(**swings()).store(OTHER, About(env_id="Pendulum"))
    for dataset_id in source.ids:
        with pytest.raises(UserError, match=r"hold 3 numbers, but the space of InvertedPendulum"):
            plan_minari(dataset_id).store("me/wrong", About(env_id="InvertedPendulum"))
    wide = swings(obs_dim=4)
    act_id = plan_arrays(**wide).store(BASE, action_space=spaces.Box(-9, 9, (1,))).act_id
    assert act_id is not None
    right = plan_minari(act_id).store("me/right", About(env_id="InvertedPendulum"))
    info = load_transitions(right.ids[1]).info
    assert info.env_id == "InvertedPendulum-v5" and info.action_low == pytest.approx([-3])
    outside = {**wide, "actions": wide["actions"] * 0 + 5}
    act_id = plan_arrays(**outside).store("me/strong", action_space=spaces.Box(-9, 9, (1,))).act_id
    assert act_id is not None
    with pytest.raises(UserError, match=r"5\.0, but the space of InvertedPendulum-v5 reaches"):
        plan_minari(act_id).store("me/weak", About(env_id="InvertedPendulum"))
    assert load_transitions(plan_minari(act_id).store("me/weak").ids[1]).info.env_id is None


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_minari_of_any_format(minari_root: Path, data_format: str) -> None:
    episodes = buffers()
    infos = {"reward_ctrl": np.concatenate([episodes[1].actions, episodes[1].actions])}
    episodes[1] = replace(episodes[1], infos=infos)
    create(episodes, data_format=data_format, author="Someone", algorithm_name="a trained one")
    plan = plan_minari(FOREIGN)
    stored = plan.store(BASE)
    assert stored.act_id is not None
    assert plan.report.notices == (f"{FOREIGN}: infos are left out",)
    source = loaded(FOREIGN)
    assert same(loaded(stored.act_id), source)
    assert same(loaded(stored.obs_id), source.without_actions())
    actions = np.concatenate([one.actions for one in episodes])
    assert not holds_actions(raw_bytes(minari_root, stored.obs_id), actions)
    metadata = minari.load_dataset(stored.obs_id).storage.metadata
    assert metadata["author"] == {"Someone"}
    assert metadata["algorithm_name"] == "a trained one"
    assert metadata["made_from"]["dataset_id"] == FOREIGN
    alone = plan_minari(FOREIGN, observation_only=True).store("mine/thing/alone")
    assert alone.act_id is None and alone.obs_digest == stored.obs_digest


def test_our_own_act_dataset(pair: StoredDatasets, minari_root: Path) -> None:
    stored = plan_minari(pair.act_id, observation_only=True).store(BASE)
    assert stored.obs_digest == pair.obs_digest
    metadata = minari.load_dataset(stored.obs_id).storage.metadata
    assert metadata["env_id"] == "InvertedPendulum-v5"


NESTED = spaces.Dict(
    {
        "where": spaces.Box(-10, 10, (2, 2), np.float64),
        "mode": spaces.Discrete(3, start=1),
        "both": spaces.Tuple((spaces.MultiBinary(2), spaces.MultiDiscrete([2, 3]))),
    }
)


def nested_episodes() -> tuple[list[Any], list[list[Any]]]:
    """Episodes whose observations are nested, and the same observations one by one."""
    NESTED.seed(0)
    episodes, singles = [], []
    for one in buffers():
        sampled = [NESTED.sample() for _ in range(len(one.rewards) + 1)]
        singles.append(sampled)
        observations = {
            "where": np.stack([x["where"] for x in sampled]),
            "mode": np.stack([x["mode"] for x in sampled]),
            "both": tuple(np.stack([x["both"][i] for x in sampled]) for i in range(2)),
        }
        episodes.append(replace(one, observations=observations))
    return episodes, singles


@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_nested_observations_are_flattened(minari_root: Path, data_format: str) -> None:
    episodes, singles = nested_episodes()
    create(episodes, observation_space=NESTED, data_format=data_format)
    stored = plan_minari(FOREIGN).store(BASE)
    transitions = loaded(stored.obs_id)
    flat = [[spaces.flatten(NESTED, x) for x in one] for one in singles]
    expected = np.concatenate([np.stack(one[:-1]) for one in flat]).astype(np.float32)
    np.testing.assert_array_equal(transitions.observations, expected)
    recipe = minari.load_dataset(stored.obs_id).storage.metadata["observations_flattened"]
    assert "FlattenObservation" in recipe["by"]
    assert json.loads(recipe["space"])["type"] == "Dict"


def test_discrete_actions_make_the_observation_only_one(minari_root: Path) -> None:
    episodes = [replace(one, actions=np.zeros(len(one.rewards), np.int64)) for one in buffers()]
    create(episodes, action_space=spaces.Discrete(2))
    plan = plan_minari(FOREIGN)
    assert plan.store(BASE).act_id is None
    assert "are no vectors (Discrete(2))" in plan.report.notices[0]


def test_images_are_refused(minari_root: Path) -> None:
    shape = (8, 8, 3)
    episodes = [
        replace(one, observations=np.zeros((len(one.rewards) + 1, *shape), np.uint8))
        for one in buffers()
    ]
    create(episodes, observation_space=spaces.Box(0, 255, shape, np.uint8))
    with pytest.raises(UserError, match="images are no vectors"):
        plan_minari(FOREIGN).store(BASE)


# --- files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".npz", ".parquet"])
@pytest.mark.parametrize("act_dim", [None, 1, 2])
def test_export_and_back(
    minari_root: Path, tmp_path: Path, suffix: str, act_dim: int | None
) -> None:
    first = plan_arrays(**make_transitions(LENGTHS, act_dim=act_dim).columns()).store(BASE)
    path = export_dataset(first.ids[-1], tmp_path / f"out{suffix}")
    second = plan_file(path).store("mine/thing/second")
    assert (second.obs_digest, second.act_digest) == (first.obs_digest, first.act_digest)


def csv_table(given: Transitions) -> pa.Table:
    assert given.actions is not None
    columns = {"ep": given.episodes, "r": given.rewards}
    columns |= {"over": given.terminations, "cut": given.truncations}
    for index, name in enumerate(("x", "y", "vel")):
        columns[name] = given.observations[:, index]
        columns[f"next {name}"] = given.next_observations[:, index]
    columns |= {"push_0": given.actions[:, 0], "push_1": given.actions[:, 1]}
    return pa.table(columns)


def test_csv_with_named_columns(minari_root: Path, tmp_path: Path) -> None:
    given = make_transitions(LENGTHS)
    path = tmp_path / "robot.csv"
    pa.csv.write_csv(csv_table(given), path)
    names = ColumnNames(
        observations="x,y,vel",
        next_observations="next x,next y,next vel",
        rewards="r",
        terminations="over",
        truncations="cut",
        episodes="ep",
        actions="push_*",
    )
    stored = plan_file(path, names=names).store(BASE)
    assert stored.act_id is not None
    assert same(loaded(stored.act_id), given)
    pa.parquet.write_table(csv_table(given), tmp_path / "robot.parquet")
    again = plan_file(tmp_path / "robot.parquet", names=names).store("mine/thing/again")
    assert again.act_digest == stored.act_digest
    with pytest.raises(UserError, match=r"actions: no column 'pull_\*'; did you mean"):
        plan_file(path, names=replace(names, actions="pull_*")).store("mine/x")
    with pytest.raises(UserError, match="observations: no column has a well-known name"):
        plan_file(path).store("mine/x")
    with pytest.raises(UserError, match="rewards: expected one column"):
        plan_file(path, names=replace(names, rewards="r,x")).store("mine/x")


def test_untrusted_files(minari_root: Path, tmp_path: Path) -> None:
    def fails(path: Path) -> str:
        with pytest.raises(UserError) as caught:
            plan_file(path).store(BASE)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "does not exist" in fails(tmp_path / "none.npz")
    assert "ends in .npz, .parquet" in fails(tmp_path / "x.pkl")
    given: dict[str, Any] = dict(make_transitions(LENGTHS).columns())
    np.savez(tmp_path / "objects.npz", **(given | {"rewards": np.array([{}] * 13)}))
    assert "Python objects: refused" in fails(tmp_path / "objects.npz")
    np.savez(tmp_path / "short.npz", **given)
    content = (tmp_path / "short.npz").read_bytes()
    (tmp_path / "short.npz").write_bytes(content.replace(b"'shape': (13, 3)", b"'shape': (99, 3)"))
    assert "short.npz" in fails(tmp_path / "short.npz")
    for suffix in (".npz", ".parquet", ".csv"):
        for text in (b"", b"nonsense", b"\xff" * 999):
            (tmp_path / f"bad{suffix}").write_bytes(text)
            fails(tmp_path / f"bad{suffix}")
    (tmp_path / "gap.csv").write_text("obs_0,reward,terminated\n1,,0\n2,1,1\n")
    assert "reward" in fails(tmp_path / "gap.csv")
    ragged = pa.table({"obs_0": [[1.0], [1.0, 2.0]], "reward": [1, 2], "terminated": [0, 1]})
    pa.parquet.write_table(ragged, tmp_path / "ragged.parquet")
    assert "different lengths" in fails(tmp_path / "ragged.parquet")
    assert not minari.list_local_datasets()


# --- a policy -------------------------------------------------------------------------------


class Nested(gymnasium.Env[Any, Any]):
    """Dict observations; ends after seven steps."""

    observation_space = NESTED
    action_space = spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        if seed is not None:
            NESTED.seed(seed)
        self.steps = 0
        return NESTED.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        return NESTED.sample(), float(action.sum()), self.steps == 7, False, {"leak": action}


def test_a_policy_in_an_environment_of_dicts(minari_root: Path) -> None:
    given: list[Any] = []

    def policy(observation: Any) -> Any:
        given.append(observation)
        return np.array([0.25, 0.5])

    stored = collect_with_policy(Nested(), policy, BASE, transitions=17, seed=3)
    assert stored.act_id is not None
    transitions = loaded(stored.act_id)
    assert transitions.episode_lengths().tolist() == [7, 7, 3]
    assert transitions.terminations.nonzero()[0].tolist() == [6, 13]
    assert transitions.truncations.nonzero()[0].tolist() == [16]
    assert sorted(given[0]) == sorted(NESTED.spaces)
    expected = np.stack([spaces.flatten(NESTED, one) for one in given]).astype(np.float32)
    np.testing.assert_array_equal(transitions.observations, expected)
    wrapped = gymnasium.wrappers.FlattenObservation(Nested())
    first, _ = wrapped.reset(seed=3)
    np.testing.assert_array_equal(transitions.observations[0], first.astype(np.float32))
    again = collect_with_policy(Nested(), policy, "mine/thing/again", transitions=17, seed=3)
    assert again.act_digest == stored.act_digest
    metadata = minari.load_dataset(stored.obs_id).storage.metadata
    assert "policy" in metadata["algorithm_name"]
    assert "observations_flattened" in metadata


def test_a_policy_by_environment_id(minari_root: Path) -> None:
    stored = collect_with_policy(
        "Reacher", lambda _: np.zeros(2), BASE, transitions=60, observation_only=True
    )
    assert stored.act_id is None and stored.episodes == 2
    assert load_transitions(stored.obs_id).info.env_id == "Reacher-v5"
    with pytest.raises(UserError, match=r"policy: it returned an action of shape \(3,\)"):
        collect_with_policy("Reacher", lambda _: np.zeros(3), "mine/x", transitions=5)
    with pytest.raises(UserError, match="transitions: expected a whole number"):
        collect_with_policy("Reacher", lambda _: np.zeros(2), "mine/x", transitions=0)


# --- d3rlpy ---------------------------------------------------------------------------------


def test_a_replay_buffer(minari_root: Path) -> None:
    given = make_transitions([4, 6])
    assert given.actions is not None
    parts = [slice(0, 4), slice(4, 10)]
    buffer = D3rlpyBuffer(
        [
            D3rlpyEpisode(given.observations[p], given.actions[p], given.rewards[p, None], i == 0)
            for i, p in enumerate(parts)
        ]
    )
    plan = plan_replay_buffer(buffer)
    stored = plan.store(BASE)
    assert stored.act_id is not None
    transitions = loaded(stored.act_id)
    assert transitions.episode_lengths().tolist() == [3, 5]
    np.testing.assert_array_equal(transitions.observations[:3], given.observations[:3])
    np.testing.assert_array_equal(transitions.next_observations[:3], given.observations[1:4])
    assert not transitions.terminations.any()
    assert dict(plan.report.table())["left out"].startswith("2 of 10 steps, ")
    for bad, words in ((D3rlpyBuffer([]), "holds no episodes"), (3, "expected one of d3rlpy")):
        with pytest.raises(UserError, match=words):
            plan_replay_buffer(bad)


def test_a_replay_buffer_of_several_observations() -> None:
    whole = make_transitions([4, 6])
    episodes = [
        D3rlpyEpisode((x[:, :1], x[:, 1:]), np.zeros((len(x), 1)), np.arange(len(x)), False)
        for x in (whole.observations[:4], whole.observations[4:])
    ]
    found = plan_replay_buffer(D3rlpyBuffer(episodes)).transitions
    np.testing.assert_array_equal(found.observations[:3], whole.observations[:3])
    episodes[1].observations = (whole.observations[4:],)
    with pytest.raises(UserError, match="observations don't fit together"):
        plan_replay_buffer(D3rlpyBuffer(episodes))


@pytest.mark.skipif(find_spec("d3rlpy") is None, reason="d3rlpy is not installed")
def test_d3rlpys_own_replay_buffer(minari_root: Path) -> None:
    import d3rlpy

    given = make_transitions([4, 6])
    assert given.actions is not None
    buffer = d3rlpy.dataset.MDPDataset(
        observations=given.observations,
        actions=given.actions,
        rewards=given.rewards,
        terminals=given.terminations.astype(np.float32),
        timeouts=given.truncations.astype(np.float32),
    )
    stored = plan_replay_buffer(buffer).store(BASE)
    assert stored.act_id is not None
    transitions = loaded(stored.act_id)
    assert transitions.episode_lengths().tolist() == [3, 5]
    np.testing.assert_array_equal(transitions.next_observations[:3], given.observations[1:4])
