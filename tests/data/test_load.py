from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import minari
import numpy as np
import pytest
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

from qss_offline.data import StoredDatasets, Transitions, load_transitions
from qss_offline.data import sidecar as columns
from qss_offline.errors import UserError

from .conftest import same

FOREIGN = "foreign/thing/plain-v0"


def buffers(
    lengths: tuple[int, ...] = (4, 1, 6), act_dim: int = 2, **changes: Any
) -> list[EpisodeBuffer]:
    """Episodes of an untrusted dataset; `changes` replace a field of the second."""
    rng = np.random.default_rng(0)
    episodes = []
    for index, length in enumerate(lengths):
        fields: dict[str, Any] = {
            "observations": rng.normal(size=(length + 1, 3)),
            "actions": rng.uniform(-1, 1, (length, act_dim)).astype(np.float32),
            "rewards": rng.normal(size=length).tolist(),
            "terminations": [False] * (length - 1) + [index % 2 == 0],
            "truncations": [False] * (length - 1) + [index % 2 == 1],
            "infos": {},
        }
        if index == 1:
            fields |= changes
        episodes.append(EpisodeBuffer(id=None, **fields))
    return episodes


def create(
    episodes: list[EpisodeBuffer],
    observation_space: Any = None,
    action_space: Any = None,
    **more: Any,
) -> None:
    minari.create_dataset_from_buffers(
        FOREIGN,
        episodes,
        observation_space=observation_space or spaces.Box(-np.inf, np.inf, (3,), np.float64),
        action_space=action_space or spaces.Box(-1, 1, (2,), np.float32),
        **more,
    )


def quiet(message: str) -> None:
    pass


def refusal(dataset_id: str = FOREIGN) -> str:
    with pytest.raises(UserError) as caught:
        load_transitions(dataset_id, notice=lambda message: None)
    assert "\n" not in str(caught.value)
    return str(caught.value)


pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


def test_info(pair: StoredDatasets, recording: Transitions) -> None:
    notices: list[str] = []
    obs = load_transitions(pair.obs_id, notice=notices.append)
    act = load_transitions(pair.act_id, notice=notices.append)
    assert not notices
    assert same(act.transitions, recording)
    assert obs.transitions.actions is None
    assert obs.info.observation_only and not act.info.observation_only
    assert obs.info.action_low is None and obs.info.action_high is None
    assert act.info.action_low is not None and act.info.action_low.tolist() == [-3.0]
    assert act.info.action_high is not None and act.info.action_high.tolist() == [3.0]
    for info in (obs.info, act.info):
        assert info.env_id == "InvertedPendulum-v5"
        assert info.random_action_prob == 1.0
        assert info.total_steps == 1500
        assert info.total_episodes == pair.episodes
        assert info.behaviour_return == pair.behaviour_return
    assert (obs.info.digest, act.info.digest) == (pair.obs_digest, pair.act_digest)


def test_without_sidecar_the_episodes_are_read_once(
    pair: StoredDatasets, minari_root: Path
) -> None:
    path = minari_root / pair.act_id / "data" / "columns.arrow"
    written = path.read_bytes()
    before = load_transitions(pair.act_id)
    path.unlink()
    notices: list[str] = []
    after = load_transitions(pair.act_id, notice=notices.append)
    assert len(notices) == 1 and "one by one" in notices[0]
    assert same(before.transitions, after.transitions)
    assert before.info.digest == after.info.digest
    assert path.read_bytes() == written
    again = load_transitions(pair.act_id, notice=notices.append)
    assert len(notices) == 1 and same(again.transitions, before.transitions)


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
def test_foreign_dataset(minari_root: Path, data_format: str) -> None:
    episodes = buffers()
    create(episodes, data_format=data_format)
    notices: list[str] = []
    first = load_transitions(FOREIGN, notice=notices.append)
    assert len(notices) == 1
    second = load_transitions(FOREIGN, notice=notices.append)
    assert len(notices) == 1
    assert same(first.transitions, second.transitions)
    transitions = second.transitions
    assert transitions.episode_lengths().tolist() == [4, 1, 6]
    np.testing.assert_array_equal(
        transitions.observations[:4], np.float32(episodes[0].observations)[:-1]
    )
    np.testing.assert_array_equal(
        transitions.next_observations[5:], np.float32(episodes[2].observations)[1:]
    )
    assert transitions.terminations.nonzero()[0].tolist() == [3, 10]
    assert transitions.truncations.nonzero()[0].tolist() == [4]
    assert transitions.actions is not None and transitions.actions.shape == (11, 2)
    info = second.info
    assert info.env_id is None and info.random_action_prob is None
    assert info.behaviour_return is None and not info.observation_only
    assert minari.load_dataset(FOREIGN).total_steps == 11


def test_foreign_discrete_actions_are_left_out(minari_root: Path) -> None:
    episodes = [replace(one, actions=np.zeros(len(one.rewards), np.int64)) for one in buffers()]
    create(episodes, action_space=spaces.Discrete(2))
    notices: list[str] = []
    loaded = load_transitions(FOREIGN, notice=notices.append)
    assert loaded.transitions.actions is None
    assert "Discrete" in notices[0]


def test_an_unfinished_episode_counts_as_truncated(minari_root: Path) -> None:
    create(buffers(truncations=[False]))
    notices: list[str] = []
    loaded = load_transitions(FOREIGN, notice=notices.append)
    assert loaded.transitions.truncations.nonzero()[0].tolist() == [4]
    assert "1 episodes end without" in notices[1]


def test_stale_sidecar(pair: StoredDatasets) -> None:
    dataset = minari.load_dataset(pair.obs_id)
    extra = EpisodeBuffer(
        id=None,
        observations=np.ones((3, 4)),
        actions=np.zeros((2, 0), np.float32),
        rewards=[1.0, 1.0],
        terminations=[False, True],
        truncations=[False, False],
        infos={},
    )
    dataset.update_dataset_from_buffer([extra])
    notices: list[str] = []
    for _ in range(2):
        loaded = load_transitions(pair.obs_id, notice=notices.append)
        assert len(loaded.transitions) == 1502
        assert loaded.transitions.observations[-1].tolist() == [1.0] * 4
        assert loaded.info.digest != pair.obs_digest
    assert len(notices) == 1 and "episodes were added" in notices[0]


@pytest.mark.parametrize("field", ["observations", "rewards"])
@pytest.mark.parametrize("data_format", ["hdf5", "arrow"])
def test_numbers_that_float32_cannot_hold_are_refused_by_column(
    minari_root: Path, data_format: str, field: str
) -> None:
    clock = 1.7e9 + 0.01 * np.arange(13)
    episodes = []
    for index, episode in enumerate(buffers((12, 12))):
        changed: Any = list(clock[:12])
        if field == "observations":
            changed = np.column_stack((np.sin(clock), clock + index, np.cos(clock)))
        episodes.append(replace(episode, **{field: changed}))
    create(episodes, data_format=data_format)
    message = refusal()
    assert f"{field}[{1 if field == 'observations' else 0}]" in message
    assert f"qss data import {FOREIGN} --into" in message
    assert not list((minari_root / FOREIGN).rglob("columns.arrow"))


FIELDS = ["observations", "rewards", "terminations", "actions"]


@pytest.mark.parametrize("data_format", ["hdf5", "arrow", "parquet"])
@pytest.mark.parametrize("field", FIELDS)
def test_an_episode_that_somebody_changed_is_read_again(
    minari_root: Path, data_format: str, field: str
) -> None:
    create(buffers(), data_format=data_format)
    load_transitions(FOREIGN, notice=quiet)
    changes = {
        "observations": np.ones((2, 3)),
        "rewards": [7.0],
        "terminations": [True],
        "actions": np.full((1, 2), 0.5, np.float32),
    }
    copy = minari_root / "copy"
    shutil.copytree(minari_root / FOREIGN, copy)
    shutil.rmtree(minari_root / FOREIGN)
    create(buffers(**{field: changes[field]}), data_format=data_format)
    # The same number of rows, written into the place of the old ones.
    for file in (minari_root / FOREIGN / "data").rglob("*"):
        if file.is_file() and file.name != "metadata.json":
            (copy / "data" / file.relative_to(minari_root / FOREIGN / "data")).write_bytes(
                file.read_bytes()
            )
    shutil.rmtree(minari_root / FOREIGN)
    copy.rename(minari_root / FOREIGN)
    notices: list[str] = []
    found = load_transitions(FOREIGN, notice=notices.append).transitions
    stored = list(minari.load_dataset(FOREIGN))
    for name in FIELDS:
        rows = [getattr(episode, name) for episode in stored]
        expected = np.concatenate([r[:-1] if name == "observations" else r for r in rows])
        np.testing.assert_allclose(found.columns()[name], expected, rtol=1e-6)
    assert any("newer than columns.arrow" in line for line in notices)
    notices.clear()
    assert same(load_transitions(FOREIGN, notice=notices.append).transitions, found)
    assert not notices


def test_changed_episodes_of_a_dataset_with_a_digest_are_refused(
    pair: StoredDatasets, minari_root: Path
) -> None:
    with h5py.File(minari_root / pair.obs_id / "data" / "main_data.hdf5", "r+") as file:
        file["episode_1/rewards"][0] += 1
    assert "do not match the digest" in refusal(pair.obs_id)
    assert len(load_transitions(pair.act_id, notice=quiet).transitions) == 1500


def test_unwritable_folder_is_only_a_notice(
    pair: StoredDatasets, minari_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (minari_root / pair.obs_id / "data" / "columns.arrow").unlink()

    write_sidecar = columns.write_sidecar

    def full(path: Path, *more: Any) -> None:
        if minari_root in path.parents:
            raise UserError("cannot write columns.arrow: No space left on device")
        write_sidecar(path, *more)

    monkeypatch.setattr("qss_offline.data.sidecar.write_sidecar", full)
    notices: list[str] = []
    assert len(load_transitions(pair.obs_id, notice=notices.append).transitions) == 1500
    assert "No space left" in notices[1]


@pytest.mark.parametrize(
    ("dataset_id", "words"),
    [
        ("qss/InvertedPendulum/v5-random-100-n1500-s3-k3-obs-v1", "did you mean qss/Inv"),
        ("../../etc/passwd-v0", "malformed"),
        ("/etc/passwd-v0", "malformed"),
        ("", "malformed"),
        ("no version", "malformed"),
        ("qss/noversion", "malformed"),
        ("m/log-obs-v0", "the namespace of two characters or more"),
        ("me/l-v0", "no dataset 'me/l-v0'"),
        ("m/y/l-v0", "no dataset 'm/y/l-v0'"),
    ],
)
def test_unknown_ids(pair: StoredDatasets, dataset_id: str, words: str) -> None:
    assert words in refusal(dataset_id)


def test_no_datasets_at_all(minari_root: Path) -> None:
    assert "there are no datasets yet" in refusal("qss/x/y-v0")


Damage = Callable[[Path], Any]


def edit(**changes: Any) -> Damage:
    def damage(data: Path) -> None:
        metadata = json.loads((data / "metadata.json").read_text()) | changes
        present = {key: value for key, value in metadata.items() if value is not None}
        (data / "metadata.json").write_text(json.dumps(present))

    return damage


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: (data / "metadata.json").unlink(), "half-built"),
        (lambda data: (data / "metadata.json").write_text(""), "damaged"),
        (lambda data: (data / "metadata.json").write_text("[]"), "not an object"),
        (lambda data: (data / "metadata.json").write_text("[" * 100_000), "damaged"),
        (lambda data: (data / "metadata.json").write_bytes(b"\xff\xfe{"), "damaged"),
        (edit(total_steps=None), "total_steps is None"),
        (edit(total_steps=1.5), "total_steps is 1.5"),
        (edit(total_episodes=-1), "total_episodes is -1"),
        (edit(observation_space=None), "observation_space is missing"),
        (edit(observation_space="{}"), "observation_space can't be read"),
        (edit(observation_space='{"type": "Nonsense"}'), "observation_space can't be read"),
        (edit(dataset_id="qss/other-v0"), "its metadata name it"),
        (edit(digest="blake2b-256:00"), "digest in the dataset's metadata"),
        (edit(observation_only=False, action_space=json.dumps(
            {"type": "Box", "dtype": "float32", "shape": [1], "low": [-1.0], "high": [1.0]}
        )), "does not fit its spaces"),
        (edit(action_space='{"type": "Discrete", "n": 2, "start": 0}'), "observation_only"),
        (lambda data: (data / "columns.arrow").write_bytes(b"ARROW1"), "delete it to rebuild"),
        (lambda data: (data / "columns.arrow").write_bytes(b""), "delete it to rebuild"),
    ],
)  # fmt: skip
def test_damaged(pair: StoredDatasets, minari_root: Path, damage: Damage, words: str) -> None:
    damage(minari_root / pair.obs_id / "data")
    assert words in refusal(pair.obs_id)


def test_half_built_by_stock_minari(minari_root: Path) -> None:
    (minari_root / "foreign/thing/plain-v0/data").mkdir(parents=True)
    assert "half-built" in refusal()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"observations": np.zeros((1, 3))}, "episode 1 has observations of shape (1, 3)"),
        ({"observations": np.zeros((3, 3))}, "expected (2, 3) for its 1 rewards"),
        ({"observations": np.zeros((2, 4))}, "episode 1 has observations of shape (2, 4)"),
        ({"observations": np.full((2, 3), np.nan)}, "observations: row 4 holds NaN"),
        ({"observations": np.full((2, 3), 1e300)}, "observations: row 4 holds NaN or infinity"),
        ({"rewards": [np.inf]}, "rewards: row 4"),
        ({"actions": np.zeros((2, 2), np.float32)}, "episode 1 has actions of shape (2, 2)"),
        ({"actions": np.zeros((1, 3), np.float32)}, "episode 1 has actions of shape (1, 3)"),
        ({"terminations": [False, False]}, "episode 1 has terminations of shape (2,)"),
        (
            {
                "observations": np.zeros((3, 3)),
                "actions": np.zeros((2, 2), np.float32),
                "rewards": [0.0, 0.0],
                "terminations": [True, True],
                "truncations": [False, False],
            },
            "row 4 ends an episode",
        ),
    ],
)
def test_bad_episodes(minari_root: Path, changes: dict[str, Any], words: str) -> None:
    create(buffers(**changes))
    message = refusal()
    assert words in message and FOREIGN in message
    assert not (minari_root / FOREIGN / "data" / "columns.arrow").exists()


def test_dict_observations(minari_root: Path) -> None:
    episodes = [replace(one, observations={"a": one.observations}) for one in buffers()]
    space = spaces.Dict({"a": spaces.Box(-np.inf, np.inf, (3,), np.float64)})
    create(episodes, observation_space=space)
    assert "of kind Dict" in refusal() and "flatten" in refusal()


def test_image_observations(minari_root: Path) -> None:
    episodes = [
        replace(one, observations=np.zeros((len(one.rewards) + 1, 2, 3))) for one in buffers()
    ]
    create(episodes, observation_space=spaces.Box(-1, 1, (2, 3), np.float64))
    assert "arrays of shape (2, 3)" in refusal()


def test_steps_that_the_metadata_do_not_know(minari_root: Path) -> None:
    create(buffers())
    for steps, words in (
        (12, "its episodes hold 11 steps"),
        (10, "more than the 10 steps"),
        (10**12, "would take"),
        (10**15, "total_steps is 1000000000000000, expected"),
        (0, "is empty"),
    ):
        edit(total_steps=steps)(minari_root / FOREIGN / "data")
        assert words in refusal()
    edit(total_steps=11, total_episodes=2)(minari_root / FOREIGN / "data")
    assert "its file holds 3 episodes" in refusal()


def test_altered_episodes_of_ours_are_noticed(pair: StoredDatasets, minari_root: Path) -> None:
    data = minari_root / pair.act_id / "data"
    (data / "columns.arrow").unlink()
    content = (data / "main_data.hdf5").read_bytes()
    row = load_transitions(pair.obs_id).transitions.observations[2].astype(np.float64).tobytes()
    (data / "main_data.hdf5").write_bytes(content.replace(row, row[::-1]))
    message = refusal(pair.act_id)
    assert "do not match the digest" in message or "can't be read" in message
    assert not (data / "columns.arrow").exists()


def test_episodes_of_ours_are_plain_hdf5(pair: StoredDatasets, minari_root: Path) -> None:
    with h5py.File(minari_root / pair.obs_id / "data" / "main_data.hdf5") as file:
        group = file["episode_0"]
        assert sorted(group) == sorted(
            ["observations", "actions", "rewards", "terminations", "truncations"]
        )
        assert group["actions"].shape[1] == 0
        assert group.attrs["total_steps"] == len(group["rewards"])
