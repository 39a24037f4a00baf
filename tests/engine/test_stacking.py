"""A seed's numbers depend on that seed alone: not on its company, place or interruptions."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.engine.checkpoint import (
    Checkpoint,
    CheckpointWriter,
    load_checkpoint,
    merge_states,
    save_checkpoint,
    seed_checkpoint,
    stack_checkpoints,
)
from qss_offline.engine.loop import fit
from qss_offline.engine.sampler import Columns, UniformSampler
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.errors import UserError


def table(stream: int, obs_dim: int) -> Columns:
    generator = torch.Generator().manual_seed(stream)
    rows = 500
    return (
        torch.randn(rows, obs_dim, generator=generator),
        torch.randn(rows, obs_dim, generator=generator),
        torch.rand(rows, generator=generator),
        (torch.rand(rows, generator=generator) < 0.1).float(),
    )


def train(
    seeds: Sequence[int],
    updates: int,
    obs_dim: int = 3,
    width: int = 48,
    tables: Sequence[int] | None = None,
    state: TrainState | None = None,
    batch_size: int = 32,
) -> TrainState:
    config = ObservationalD3GConfig((width, width), batch_size, learning_rate=1e-3)
    algorithm = ObservationalD3G(config, obs_dim)
    sampler = UniformSampler(
        [table(stream, obs_dim) for stream in tables or [0] * len(seeds)],
        batch_size,
        ObservationBatch,
    )
    state = state or initial_state(algorithm, seeds)
    fit(algorithm, state, sampler, updates, config.learning_rate)
    return state


def assert_same_bits(left: Checkpoint, right: Checkpoint) -> None:
    assert left.tensors.keys() == right.tensors.keys()
    for name, tensor in left.tensors.items():
        assert torch.equal(tensor, right.tensors[name]), name


@pytest.mark.parametrize(
    ("obs_dim", "width", "batch_size"),
    [(1, 8, 32), (3, 48, 32), (10, 128, 64), (11, 128, 96), (17, 64, 160), (11, 30, 32)],
)
def test_a_seed_alone_equals_the_same_seed_in_any_stack(
    obs_dim: int, width: int, batch_size: int
) -> None:
    alone = train([4], 60, obs_dim, width, batch_size=batch_size)
    for company in ([4, 0], [1, 2, 4, 7, 3]):
        stack = train(company, 60, obs_dim, width, batch_size=batch_size)
        assert_same_bits(seed_checkpoint(stack, company.index(4)), seed_checkpoint(alone, 0))


def test_seeds_of_one_stack_may_read_different_datasets() -> None:
    stack = train([0, 0, 1], 60, tables=[5, 6, 5])
    for row, (seed, stream) in enumerate([(0, 5), (0, 6), (1, 5)]):
        alone = train([seed], 60, tables=[stream])
        assert_same_bits(seed_checkpoint(stack, row), seed_checkpoint(alone, 0))


def test_different_seeds_differ() -> None:
    stack = train([0, 1], 20)
    flat = stack.networks["proposal"].flat
    assert not torch.equal(flat[0], flat[1])


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    whole = train([3, 5], 170)
    half = train([3, 5], 73)
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for row, path in enumerate(files):
        save_checkpoint(path, seed_checkpoint(half, row))
    algorithm = ObservationalD3G(ObservationalD3GConfig((48, 48), batch_size=32), 3)
    # Resumed in the other order, on purpose.
    loaded = stack_checkpoints(algorithm, [load_checkpoint(path) for path in reversed(files)])
    assert loaded.seeds == (5, 3)
    resumed = train([5, 3], 170, state=loaded)
    for row in range(2):
        assert_same_bits(seed_checkpoint(resumed, 1 - row), seed_checkpoint(whole, row))


def test_stacks_that_stand_alike_merge() -> None:
    merged = merge_states([train([0], 40), train([1, 2], 40)])
    together = train([0, 1, 2], 40)
    for row in range(3):
        assert_same_bits(seed_checkpoint(merged, row), seed_checkpoint(together, row))


def test_checkpoint_files_hold_what_was_saved_and_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "seed.safetensors"
    checkpoint = seed_checkpoint(train([0], 10), 0)
    save_checkpoint(path, checkpoint)
    loaded = load_checkpoint(path)
    assert_same_bits(loaded, checkpoint)
    assert loaded.metadata == {"seed": 0, "update": 10}
    content = path.read_bytes()
    for damaged in (content[:-100], content[: len(content) // 2], b"", b"nonsense" * 10):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="no readable checkpoint"):
            load_checkpoint(path)
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(tmp_path / "none.safetensors")


def test_a_checkpoint_of_another_kind_of_device_goes_on_with_other_draws() -> None:
    algorithm = ObservationalD3G(ObservationalD3GConfig((48, 48), 32), 3)
    checkpoint = seed_checkpoint(train([0], 10), 0)
    bytes_on_a_gpu = torch.zeros(16, dtype=torch.uint8)
    moved = Checkpoint({**checkpoint.tensors, "generator": bytes_on_a_gpu}, checkpoint.metadata)
    state, again = (stack_checkpoints(algorithm, [moved]) for _ in range(2))
    drawn = [torch.randint(99, (9,), generator=one.generators[0]) for one in (state, again)]
    assert torch.equal(*drawn)
    assert torch.equal(state.networks["critic"].flat[0], checkpoint.tensors["network.critic"])
    broken = Checkpoint({**moved.tensors, "generator": bytes_on_a_gpu[:5]}, checkpoint.metadata)
    with pytest.raises(UserError, match="generator can't go on"):
        stack_checkpoints(algorithm, [broken])


def test_a_checkpoint_of_other_sizes_is_refused() -> None:
    checkpoint = seed_checkpoint(train([0], 1), 0)
    other = ObservationalD3G(ObservationalD3GConfig((64, 64)), 3)
    with pytest.raises(UserError, match="other sizes"):
        stack_checkpoints(other, [checkpoint])


def test_checkpoints_are_written_beside_and_what_fails_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = seed_checkpoint(train([0], 1), 0)
    with CheckpointWriter() as writer:
        assert writer.due
        writer.write({tmp_path / "a.safetensors": whole, tmp_path / "b.safetensors": whole})
    for name in "ab":
        assert_same_bits(load_checkpoint(tmp_path / f"{name}.safetensors"), whole)
    assert not writer.due, "it rests after writing"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"), CheckpointWriter() as writer:
        writer.write({tmp_path / "file" / "c.safetensors": whole})
    with pytest.raises(KeyError), CheckpointWriter() as writer:
        writer.write({tmp_path / "file" / "c.safetensors": whole})
        raise KeyError("what ended training is told, not what it ended")
