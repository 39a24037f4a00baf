"""One safetensors file a seed, so that seeds can be resumed in any company.

A file holds the seed's rows of every network and moment, the state of its random stream, and
whatever arrays the caller adds; its metadata hold the update count. It is written to a temporary
name, flushed and renamed, so that a reader sees the old checkpoint or the new one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.adam import AdamState
from qss_offline.engine.state import TrainState, seeded_generator
from qss_offline.errors import UserError, printable, shown
from qss_offline.files import open_regular_file, parse_json, write_bytes


@dataclass(frozen=True)
class Checkpoint:
    """What a file holds.

    Attributes:
        tensors: by name.
        metadata: plain JSON values.
    """

    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, Any] = field(default_factory=dict)


_MAX_BYTES = 16 << 30
_TIMES_AS_LONG = 30
"""Nothing is written for so many times as long as the last writing took."""
_STATES = {5056: "cpu", 16: "cuda"}
"""The devices of random streams, by the bytes of their state."""
_OF_A_SEED = ("training.safetensors", "online.safetensors")


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically.

    Raises:
        UserError: the folder can't be written to or the disk is full.
    """
    tensors = {
        name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()
    }
    write_bytes(path, save(tensors, metadata={"json": json.dumps(dict(checkpoint.metadata))}))


class CheckpointWriter:
    """Writes checkpoints in a thread of its own while training goes on.

    Checkpoints are due so seldom that the time spent on writing them stays small. What it was given
    is written when its context ends.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1)
        self._writing: Future[None] | None = None
        self._free_at = 0.0

    def __enter__(self) -> CheckpointWriter:
        return self

    def __exit__(self, *raised: object) -> None:
        self._thread.shutdown()
        if self._writing is not None and raised[0] is None:
            self._writing.result()

    @property
    def due(self) -> bool:
        """Whether it is time to write again."""
        idle = self._writing is None or self._writing.done()
        return idle and time.monotonic() >= self._free_at

    def write(self, checkpoints: Mapping[Path, Checkpoint]) -> None:
        """Begin to write, once what was given before is written.

        Raises:
            UserError: that could not be written.
        """
        if self._writing is not None:
            self._writing.result()
        self._writing = self._thread.submit(self._write, checkpoints)

    def _write(self, checkpoints: Mapping[Path, Checkpoint]) -> None:
        begun = time.monotonic()
        for path, checkpoint in checkpoints.items():
            save_checkpoint(path, checkpoint)
        now = time.monotonic()
        self._free_at = now + _TIMES_AS_LONG * (now - begun)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        UserError: the file is missing, truncated or no checkpoint.
    """
    if path.is_dir():
        raise UserError(
            f"{path} is a folder; give a file, such as {path}/seeds/0/policy.safetensors"
        )
    # Only what a run itself wrote, and would write again, is to be deleted.
    own = path.parent.parent.name == "seeds" and path.name in _OF_A_SEED
    anew = "; delete it to start that seed anew" if own else ""
    try:
        with open_regular_file(path, _MAX_BYTES), safe_open(path, framework="pt") as file:
            text = (file.metadata() or {})["json"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        reason = printable(error)
        raise UserError(f"{path} is no readable checkpoint or policy ({reason}){anew}") from error
    # Returns of a policy that diverged may be NaN.
    metadata = parse_json(text, f"{path}{anew}: its metadata", nan=True)
    if not isinstance(metadata, dict):
        raise UserError(f"{path} is no readable checkpoint or policy (no metadata){anew}")
    for name, value in metadata.items():
        if not _METADATA.get(name, _anything)(value):
            raise UserError(f"{path}: {printable(name)} is {shown(value)}{anew}")
    return Checkpoint(_Held(tensors, path), _Held(metadata, path))


def with_part(whole: Checkpoint, name: str, part: Checkpoint) -> Checkpoint:
    """Return a seed's checkpoint with another algorithm's of the same seed in it."""
    tensors = {f"{name}.{key}": tensor for key, tensor in part.tensors.items()}
    return Checkpoint(
        {**whole.tensors, **tensors},
        {**whole.metadata, f"{name}_update": part.metadata["update"]},
    )


def part_of(whole: Checkpoint, name: str) -> Checkpoint:
    """Undo `with_part`.

    Raises:
        UserError: there is no such part.
    """
    head = f"{name}."
    tensors = {
        key.removeprefix(head): tensor
        for key, tensor in whole.tensors.items()
        if key.startswith(head)
    }
    return Checkpoint(tensors, {**whole.metadata, "update": whole.metadata[f"{name}_update"]})


class _Held(dict[str, Any]):
    """What a file holds by name; what it lacks is refused by whoever asks for it."""

    def __init__(self, held: Mapping[str, Any], path: Path) -> None:
        super().__init__(held)
        self._path = path

    def __missing__(self, name: str) -> NoReturn:
        raise UserError(f"{self._path} holds no {name!r}: it is of another algorithm or version")


def _anything(value: object) -> bool:
    return True


def _is_whole(value: object) -> bool:
    return type(value) is int and value >= 0


def _are_numbers(value: object) -> bool:
    return isinstance(value, list) and all(type(number) in (int, float) for number in value)


def _are_evaluations(value: object) -> bool:
    """Whether these are returns, or each a step, returns, a value and what that was worth."""
    return isinstance(value, list) and all(_are_numbers(one) or _is_judged(one) for one in value)


def _is_judged(value: object) -> bool:
    if not isinstance(value, list) or len(value) != 4:
        return False
    step, returns, *judged = value
    known = all(one is None or _are_numbers([one]) for one in judged)
    return known and _is_whole(step) and _are_numbers(returns)


_METADATA: Mapping[str, Callable[[object], bool]] = {
    **dict.fromkeys(
        ("seed", "update", "cloning_update", "step", "episode", "episode_length"), _is_whole
    ),
    "reward_limits": lambda value: _are_numbers(value) and len(cast(list[float], value)) == 2,
    "evaluations": _are_evaluations,
}
"""What metadata that this package writes must be."""


def seed_checkpoint(state: TrainState, index: int) -> Checkpoint:
    """Take the seed at `index` out of a stack."""
    tensors = {
        f"network.{name}": network.flat[index].clone() for name, network in state.networks.items()
    }
    for name, moments in state.moments.items():
        tensors[f"first.{name}"] = moments.first[index].clone()
        tensors[f"second.{name}"] = moments.second[index].clone()
        tensors[f"steps.{name}"] = moments.steps.clone()
    tensors["generator"] = state.generators[index].get_state().clone()
    return Checkpoint(tensors, {"seed": state.seeds[index], "update": state.update})


def network_of(checkpoint: Checkpoint, name: str, shape: MLPShape) -> Network:
    """Take one network out of a seed's checkpoint, as a stack of one seed.

    Raises:
        UserError: it isn't there, or of another shape.
    """
    flat = _tensor(checkpoint, f"network.{name}", _sizes(shape))
    return Network(shape, flat.unsqueeze(0))


def _sizes(shape: MLPShape) -> tuple[int, ...]:
    members = () if shape.members is None else (shape.members,)
    return (*members, sum(shape.sizes))


def _tensor(checkpoint: Checkpoint, key: str, sizes: tuple[int, ...]) -> Tensor:
    try:
        tensor = checkpoint.tensors[key]
    except KeyError:
        raise UserError(f"a checkpoint lacks {key!r}: it is of another algorithm") from None
    if tensor.shape != sizes or tensor.dtype != torch.float32:
        raise UserError(f"a checkpoint's {key} is of other sizes than the run's settings say")
    return tensor


def stack_checkpoints(
    algorithm: Algorithm, checkpoints: Sequence[Checkpoint], device: torch.device | str = "cpu"
) -> TrainState:
    """Stack the checkpoints of several seeds, all taken at the same update.

    Raises:
        UserError: the checkpoints don't fit the algorithm, as after a change of sizes.
    """
    shapes = {**algorithm.shapes, **{c: algorithm.shapes[s] for c, s in algorithm.copies.items()}}

    def stacked(key: str, sizes: tuple[int, ...]) -> Tensor:
        return torch.stack([_tensor(one, key, sizes) for one in checkpoints]).to(device)

    networks, moments = {}, {}
    for name, shape in shapes.items():
        sizes = _sizes(shape)
        networks[name] = Network(shape, stacked(f"network.{name}", sizes))
        if name in algorithm.shapes:
            moments[name] = AdamState(
                stacked(f"first.{name}", sizes),
                stacked(f"second.{name}", sizes),
                stacked(f"steps.{name}", ())[0].clone(),
            )
    generators = []
    for checkpoint in checkpoints:
        generator, stored = torch.Generator(device), checkpoint.tensors["generator"]
        kind = generator.device.type
        if stored.dtype == torch.uint8 and _STATES.get(stored.numel(), kind) != kind:
            # What was trained on another kind of device goes on with draws of its own.
            seed, update = int(checkpoint.metadata["seed"]), int(checkpoint.metadata["update"])
            stream = f"{algorithm.name}.batches.{update}"
            generators.append(seeded_generator(seed, stream, device))
            continue
        try:
            generator.set_state(stored)
        except (RuntimeError, TypeError) as error:
            raise UserError(f"a checkpoint's generator can't go on: {printable(error)}") from error
        generators.append(generator)
    return TrainState(
        seeds=tuple(int(checkpoint.metadata["seed"]) for checkpoint in checkpoints),
        networks=networks,
        moments=moments,
        generators=generators,
        update=int(checkpoints[0].metadata["update"]),
    )


def merge_states(states: Sequence[TrainState]) -> TrainState:
    """Put stacks that stand at the same update into one."""
    first = states[0]
    return TrainState(
        seeds=tuple(seed for state in states for seed in state.seeds),
        networks={
            name: Network(network.shape, torch.cat([s.networks[name].flat for s in states]))
            for name, network in first.networks.items()
        },
        moments={
            name: AdamState(
                torch.cat([s.moments[name].first for s in states]),
                torch.cat([s.moments[name].second for s in states]),
                moments.steps.clone(),
            )
            for name, moments in first.moments.items()
        },
        generators=[generator for state in states for generator in state.generators],
        update=first.update,
    )
