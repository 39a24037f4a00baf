from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qss_offline.data import Transitions
from qss_offline.data.sidecar import (
    SidecarInfo,
    StaleSidecarError,
    digest,
    read_sidecar,
    write_sidecar,
)
from qss_offline.errors import UserError

from .conftest import make_transitions, same

LENGTHS = [3, 1, 7, 2]


@pytest.fixture
def transitions() -> Transitions:
    return make_transitions(LENGTHS)


def write(path: Path, transitions: Transitions) -> SidecarInfo:
    episodes = len(transitions.episode_lengths())
    info = SidecarInfo(len(transitions), episodes, "test/x-v0", digest(transitions))
    write_sidecar(path, transitions, info)
    return info


def refusal(path: Path, steps: int = 13, episodes: int = 4, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        read_sidecar(path, steps, episodes, **more)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith("; delete it to rebuild it from the episodes")
    return message


@pytest.mark.parametrize("act_dim", [None, 1, 6])
def test_round_trip(tmp_path: Path, act_dim: int | None) -> None:
    transitions = make_transitions(LENGTHS, act_dim=act_dim)
    info = write(tmp_path / "columns.arrow", transitions)
    sidecar = read_sidecar(tmp_path / "columns.arrow", 13, 4, info.digest)
    assert same(sidecar.transitions, transitions)
    assert sidecar.info == info
    assert [path.name for path in tmp_path.iterdir()] == ["columns.arrow"]


def test_columns_are_mapped_and_aligned(tmp_path: Path) -> None:
    transitions = make_transitions([1000] * 300, obs_dim=8)
    write(tmp_path / "columns.arrow", transitions)
    before = pa.total_allocated_bytes()
    sidecar = read_sidecar(tmp_path / "columns.arrow", 300_000, 300)
    assert pa.total_allocated_bytes() - before < 1 << 20
    for column in sidecar.transitions.columns().values():
        assert not column.flags.owndata and column.flags.aligned and column.flags.c_contiguous


def test_any_arrow_reader_opens_it(tmp_path: Path, transitions: Transitions) -> None:
    write(tmp_path / "columns.arrow", transitions)
    with pa.ipc.open_file(tmp_path / "columns.arrow") as reader:
        table = reader.read_all()
    assert table["observations"].to_pylist()[0] == transitions.observations[0].tolist()


def test_digest_covers_every_column_and_nothing_else(transitions: Transitions) -> None:
    digests = {digest(transitions), digest(transitions.without_actions())}
    for name, column in transitions.columns().items():
        altered = column.copy()
        if name in ("terminations", "truncations"):
            altered[[2, 3]] = True  # the ends of the first two episodes
            digests.add(digest(Transitions(**transitions.columns() | {name: altered})))
        elif name == "episodes":
            altered[-2:] += 1
            digests.add(digest(Transitions(**transitions.columns() | {name: altered})))
        else:
            altered[0] += 1
            digests.add(digest(Transitions(**transitions.columns() | {name: altered})))
    assert len(digests) == 9
    assert digest(make_transitions(LENGTHS)) == digest(transitions)


def test_stale(tmp_path: Path, transitions: Transitions) -> None:
    write(tmp_path / "columns.arrow", transitions)
    for steps, episodes in ((14, 4), (13, 5)):
        with pytest.raises(StaleSidecarError):
            read_sidecar(tmp_path / "columns.arrow", steps, episodes)


def test_another_digest(tmp_path: Path, transitions: Transitions) -> None:
    write(tmp_path / "columns.arrow", transitions)
    assert "metadata" in refusal(tmp_path / "columns.arrow", expected_digest="blake2b-256:0")


def test_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read"):
        read_sidecar(tmp_path / "none.arrow", 1, 1)
    refusal(tmp_path)  # a folder of that name


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_flipped_bytes(tmp_path: Path, data: st.DataObject) -> None:
    """A flipped bit gives the same transitions or one error, never anything else."""
    path = tmp_path / "columns.arrow"
    transitions = make_transitions(LENGTHS)
    write(path, transitions)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        sidecar = read_sidecar(path, 13, 4)
    except (UserError, StaleSidecarError) as error:
        assert "\n" not in str(error)
    else:
        assert same(sidecar.transitions, transitions)


def test_every_flipped_byte_of_the_columns_is_noticed(
    tmp_path: Path, transitions: Transitions
) -> None:
    path = tmp_path / "columns.arrow"
    write(path, transitions)
    good = path.read_bytes()
    for column in transitions.columns().values():
        where = good.index(column.tobytes())
        for position in range(where, where + column.nbytes, 5):
            content = bytearray(good)
            content[position] ^= 0x40
            path.write_bytes(content)
            refusal(path)


def test_truncated_anywhere(tmp_path: Path, transitions: Transitions) -> None:
    path = tmp_path / "columns.arrow"
    write(path, transitions)
    good = path.read_bytes()
    for size in [*range(0, len(good), 13), len(good) - 1]:
        path.write_bytes(good[:size])
        refusal(path)


def forge(path: Path, columns: dict[str, Any], options: Any = None, **metadata: str) -> None:
    """Write an Arrow file that claims to be a sidecar."""
    known = {"format": "1", "total_steps": "13", "total_episodes": "4"}
    known |= {"dataset_id": "x", "digest": "blake2b-256:0"} | metadata
    batch = pa.record_batch(list(columns.values()), names=list(columns))
    schema = batch.schema.with_metadata(
        {f"qss_offline.{key}": value for key, value in known.items()}
    )
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, schema, options=options) as out:
        out.write_batch(pa.record_batch(list(columns.values()), schema=schema))


def arrow_columns(rows: int = 13) -> dict[str, Any]:
    transitions = make_transitions([rows])
    columns: dict[str, Any] = {}
    for name, column in transitions.columns().items():
        flat = column.reshape(-1)
        values = pa.array(flat.view(np.uint8) if flat.dtype == np.bool_ else flat)
        if column.ndim == 2:
            values = pa.FixedSizeListArray.from_arrays(values, column.shape[1])
        columns[name] = values
    return columns


def test_untrusted_files(tmp_path: Path) -> None:
    path = tmp_path / "columns.arrow"
    lists = pa.list_(pa.float32(), 3)
    nothing = {"observations": pa.array([[]] * 13, pa.list_(pa.float32(), 0))}
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({}, {}, "does not match its digest"),
        ({}, {"format": "2"}, "its format is '2'"),
        ({}, {"total_steps": "9" * 400}, "its total_steps"),
        ({}, {"total_steps": "-13"}, "its total_steps"),
        (nothing, {}, "expected lists of float32"),
        ({"rewards": pa.array(np.zeros(13))}, {}, "rewards is double"),
        ({"rewards": pa.array([None] * 13, pa.float32())}, {}, "rewards holds nulls"),
        ({"observations": pa.array([None] * 13, lists)}, {}, "observations holds nulls"),
        ({"observations": pa.array([[0.0, None, 1.0]] * 13, lists)}, {}, "holds nulls"),
        ({"terminations": pa.array([7] * 13, pa.uint8())}, {}, "other than 0 and 1"),
        ({"terminations": pa.array([True] * 13)}, {}, "terminations is bool"),
        ({"surprise": pa.array([0] * 13)}, {}, "its columns are"),
        ({"episodes": pa.array(["x"] * 13)}, {}, "episodes is string"),
        ({"rewards": pa.array([float("nan")] * 13, pa.float32())}, {}, "rewards: row 0"),
    ]
    for columns, metadata, words in cases:
        forge(path, arrow_columns() | columns, **metadata)
        assert words in refusal(path), words
    forge(path, arrow_columns(), total_steps="13000000000")
    assert "claims 13 rows" in refusal(path, steps=13_000_000_000)
    empty = {name: column[:0] for name, column in arrow_columns().items()}
    forge(path, empty, total_steps="0", total_episodes="0")
    assert "no rows" in refusal(path, steps=0, episodes=0)
    without = arrow_columns()
    del without["rewards"]
    forge(path, without)
    assert "its columns are" in refusal(path)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_files_are_refused_unread(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "columns.arrow"
    rows = 1_000_000
    columns = arrow_columns()
    for name, column in columns.items():
        zeros = np.zeros(rows * (column.type.list_size if name in LISTS else 1), np.float32)
        values = pa.array(zeros).cast(column.type if name not in LISTS else pa.float32())
        columns[name] = (
            pa.FixedSizeListArray.from_arrays(values, column.type.list_size)
            if name in LISTS
            else values
        )
    options = pa.ipc.IpcWriteOptions(compression=codec)
    forge(path, columns, options, total_steps=str(rows))
    assert path.stat().st_size < 1 << 20
    before = pa.total_allocated_bytes()
    assert "compressed" in refusal(path, steps=rows)
    assert pa.total_allocated_bytes() - before < 1 << 20


LISTS = ("observations", "next_observations", "actions")
