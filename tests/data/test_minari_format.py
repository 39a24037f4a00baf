from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import minari
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qss_offline.data import (
    DatasetSpec,
    StoredDatasets,
    Transitions,
    build_dataset,
    collect,
    load_transitions,
    publish,
)
from qss_offline.data.build import description_of
from qss_offline.data.write import Draft, write_drafts
from qss_offline.errors import UserError

from .conftest import make_transitions, same

pytestmark = pytest.mark.usefixtures("in_process")


def write_pair(transitions: Transitions, spec: DatasetSpec, **options: Any) -> StoredDatasets:
    with publish.hold_stage(spec.base_id) as held:
        draft = Draft(transitions, description_of(spec, transitions), held)
        (pair,) = write_drafts([draft], **options)
    return pair


def cli(*arguments: str) -> str:
    """Run the stock `minari` program."""
    environment = os.environ | {"COLUMNS": "250"}
    done = subprocess.run(
        [sys.executable, "-c", "from minari.cli import app; app()", *arguments],
        capture_output=True,
        text=True,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def check_against(episodes: list[Any], transitions: Transitions) -> None:
    starts = transitions.episode_starts()
    ends = np.append(starts[1:], len(transitions))
    assert len(episodes) == len(starts)
    for index, (episode, start, end) in enumerate(zip(episodes, starts, ends, strict=True)):
        assert episode.id == index
        assert len(episode) == end - start
        np.testing.assert_array_equal(
            episode.observations[:-1], transitions.observations[start:end]
        )
        np.testing.assert_array_equal(
            episode.observations[1:], transitions.next_observations[start:end]
        )
        np.testing.assert_array_equal(episode.rewards, transitions.rewards[start:end])
        np.testing.assert_array_equal(episode.terminations, transitions.terminations[start:end])
        np.testing.assert_array_equal(episode.truncations, transitions.truncations[start:end])
        assert episode.terminations.dtype == np.bool_
        assert not episode.infos


def test_stock_minari_reads_both(pair: StoredDatasets, recording: Transitions) -> None:
    assert recording.actions is not None
    for dataset_id in (pair.obs_id, pair.act_id):
        dataset = minari.load_dataset(dataset_id)
        assert dataset.total_steps == len(recording)
        episodes = list(dataset.iterate_episodes())
        check_against(episodes, recording)
        assert episodes[0].observations.dtype == dataset.observation_space.dtype == np.float64
        for episode in episodes[:50]:
            assert dataset.observation_space.contains(episode.observations[0])
            assert dataset.action_space.contains(episode.actions[0])
        actions = np.concatenate([episode.actions for episode in episodes])
        if dataset_id == pair.act_id:
            np.testing.assert_array_equal(actions, recording.actions)
        else:
            assert actions.shape == (len(recording), 0)
        dataset.set_seed(0)
        assert len(dataset.sample_episodes(5)) == 5
        long = dataset.filter_episodes(lambda episode: len(episode) > 6)
        assert long.total_steps == sum(len(episode) for episode in episodes if len(episode) > 6)
        parts = minari.split_dataset(dataset, [10, 20], seed=0)
        assert [len(part) for part in parts] == [10, 20]
        assert len(next(iter(parts[1].iterate_episodes()))) > 0
        env = dataset.recover_environment()
        assert env.action_space.shape == (1,)
        assert env.spec is not None and env.spec.id == "InvertedPendulum-v5"
        assert len(list(dataset.storage.get_episode_metadata([0, 1]))) == 2


def test_stock_command_line(pair: StoredDatasets, minari_root: Path) -> None:
    listed = cli("list", "local")
    assert pair.obs_id in listed and pair.act_id in listed
    assert "Box([], [], (0,), float32)" in cli("show", pair.obs_id)
    assert "Box(-3.0, 3.0, (1,), float32)" in cli("show", pair.act_id)
    assert sorted(minari.list_local_datasets()) == sorted([pair.obs_id, pair.act_id])
    from minari.namespace import list_local_namespaces

    assert list_local_namespaces() == ["qss", "qss/InvertedPendulum"]


def test_stock_minari_combines(minari_root: Path) -> None:
    pair = build_dataset(DatasetSpec("InvertedPendulum", transitions=60))
    dataset = minari.load_dataset(pair.obs_id)
    combined = minari.combine_datasets([dataset, dataset], "qss/InvertedPendulum/twice-v0")
    assert combined.total_steps == 2 * dataset.total_steps
    assert combined.action_space.shape == (0,)


def test_metadata(pair: StoredDatasets, minari_root: Path, small_spec: DatasetSpec) -> None:
    metadata = {}
    for dataset_id in (pair.obs_id, pair.act_id):
        text = (minari_root / dataset_id / "data" / "metadata.json").read_text()
        metadata[dataset_id] = json.loads(text)
    obs, act = metadata[pair.obs_id], metadata[pair.act_id]
    assert obs["observation_only"] is True and act["observation_only"] is False
    assert (obs["twin"], act["twin"]) == (pair.act_id, pair.obs_id)
    assert (obs["digest"], act["digest"]) == (pair.obs_digest, pair.act_digest)
    for one in metadata.values():
        assert one["random_action_prob"] == 1.0
        assert one["seed"] == small_spec.seed
        assert one["spec"] == small_spec.identity()
        assert one["total_steps"] == one["transitions"] == 1500
        assert set(one["versions"]) >= {"python", "numpy", "gymnasium", "mujoco", "minari"}
        returns = one["behaviour_return"]
        assert returns["min"] <= returns["mean"] <= returns["max"]
        assert returns["n"] == one["total_episodes"] - 3
        assert one["dataset_size"] > 0
    dataset = minari.load_dataset(pair.obs_id)
    dataset.storage.update_metadata({"note": "mine"})
    assert minari.load_dataset(pair.obs_id).storage.metadata["observation_only"] is True


@pytest.mark.parametrize("env_id", ["InvertedPendulum", "Reacher"])
def test_no_byte_of_an_action(minari_root: Path, env_id: str) -> None:
    spec = DatasetSpec(env_id, transitions=600, shards=2)
    transitions = collect(spec, workers=1)
    pair = write_pair(transitions, spec)
    assert transitions.actions is not None

    def found(dataset_id: str) -> int:
        files = [path for path in (minari_root / dataset_id).rglob("*") if path.is_file()]
        contents = [path.read_bytes() for path in files]
        assert len(files) == 3
        return sum(
            any(needle in content for content in contents)
            for row in transitions.actions
            for number in row
            for needle in (
                np.float32(number).tobytes(),
                np.float64(number).tobytes(),
                np.float32(number).tobytes()[::-1],
                repr(float(number)).encode(),
            )
        )

    assert found(pair.obs_id) == 0
    assert found(pair.act_id) >= transitions.actions.size


def test_twins_share_everything_but_actions(pair: StoredDatasets, recording: Transitions) -> None:
    obs = load_transitions(pair.obs_id).transitions
    act = load_transitions(pair.act_id).transitions
    assert same(act, recording)
    assert same(obs, act.without_actions())


def test_refusals(minari_root: Path, small_spec: DatasetSpec, recording: Transitions) -> None:
    with pytest.raises(UserError, match="actions: a pair"):
        write_pair(recording.without_actions(), small_spec)
    columns = recording.columns()
    shifted = np.roll(columns["next_observations"], 1, axis=0)
    with pytest.raises(UserError, match=r"row \d+ differs from the observations of row"):
        write_pair(Transitions(**(columns | {"next_observations": shifted})), small_spec)
    assert minari.list_local_datasets() == {}
    write_pair(recording, small_spec)
    with pytest.raises(UserError, match="exists"):
        write_pair(recording, small_spec)
    assert len(minari.list_local_datasets()) == 2


@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=20), seed=st.integers(0, 2**32 - 1)
)
def test_round_trip_of_any_lengths(minari_root: Path, lengths: list[int], seed: int) -> None:
    transitions = make_transitions(lengths, obs_dim=10, act_dim=2, seed=seed)
    spec = DatasetSpec("Reacher", transitions=len(transitions), shards=1, name="round-trip")
    pair = write_pair(transitions, spec, overwrite=True)
    check_against(list(minari.load_dataset(pair.act_id).iterate_episodes()), transitions)
    assert same(load_transitions(pair.act_id).transitions, transitions)
    for dataset_id in (pair.obs_id, pair.act_id):
        (minari_root / dataset_id / "data" / "columns.arrow").unlink()
    quiet: list[str] = []
    loaded = load_transitions(pair.act_id, notice=quiet.append)
    assert same(loaded.transitions, transitions)
    loaded = load_transitions(pair.obs_id, notice=quiet.append)
    assert same(loaded.transitions, transitions.without_actions())
    assert loaded.info.digest == pair.obs_digest


def test_an_episode_too_long_for_a_header(minari_root: Path) -> None:
    transitions = make_transitions([9_000, 3], obs_dim=10, act_dim=2)
    spec = DatasetSpec("Reacher", transitions=len(transitions), shards=1)
    pair = write_pair(transitions, spec)
    check_against(list(minari.load_dataset(pair.act_id).iterate_episodes()), transitions)


def test_a_builder_killed_between_its_renames_is_finished(
    minari_root: Path,
    small_spec: DatasetSpec,
    recording: Transitions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moved = []
    rename = Path.rename

    class Killed(BaseException):
        pass

    def dying(self: Path, target: Path) -> Path:
        if target.name.startswith("."):  # a temporary name, not a dataset's
            return rename(self, target)
        if moved:
            raise Killed
        moved.append(target)
        return rename(self, target)

    def nothing(folder: Path) -> None:
        """What a killed process does to its staging folder."""

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", dying)
        patch.setattr(publish, "_recover", nothing)
        with pytest.raises(Killed):
            write_pair(recording, small_spec)
    assert list(minari.list_local_datasets()) == [small_spec.act_id]
    notices: list[str] = []
    build_dataset(small_spec, workers=1, notice=notices.append)
    assert "kept" in notices[0]
    assert sorted(minari.list_local_datasets()) == [small_spec.act_id, small_spec.obs_id]
    assert list((minari_root / ".qss-offline").glob("*")) == list(
        (minari_root / ".qss-offline").glob("*.lock")
    )
