"""One safetensors file a seed, so that seeds can be resumed in any company.

A file holds the seed's rows of every network and moment, the state of its random stream, and
whatever arrays the caller adds; its metadata hold the update count. It is written to a temporary
name, flushed and renamed, so that a reader sees the old checkpoint or the new one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.adam import AdamState
from qss_offline.engine.state import TrainState
from qss_offline.errors import UserError, printable
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
    return Checkpoint(tensors, metadata)


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


def stack_checkpoints(
    algorithm: Algorithm, checkpoints: Sequence[Checkpoint], device: torch.device | str = "cpu"
) -> TrainState:
    """Stack the checkpoints of several seeds, all taken at the same update.

    Raises:
        UserError: the checkpoints don't fit the algorithm, as after a change of sizes.
    """
    shapes = {**algorithm.shapes, **{c: algorithm.shapes[s] for c, s in algorithm.copies.items()}}

    def stacked(key: str) -> Tensor:
        try:
            rows = [checkpoint.tensors[key] for checkpoint in checkpoints]
        except KeyError:
            raise UserError(f"a checkpoint lacks {key!r}: it is of another algorithm") from None
        return torch.stack(rows).to(device)

    networks = {}
    for name, shape in shapes.items():
        flat = stacked(f"network.{name}")
        if flat.shape[-1] != sum(shape.sizes):
            raise UserError(f"the checkpoint's {name} has other sizes than this run's")
        networks[name] = Network(shape, flat)
    moments = {
        name: AdamState(
            stacked(f"first.{name}"),
            stacked(f"second.{name}"),
            checkpoints[0].tensors[f"steps.{name}"].to(device).clone(),
        )
        for name in algorithm.shapes
    }
    generators = []
    for checkpoint in checkpoints:
        generator = torch.Generator(device)
        generator.set_state(checkpoint.tensors["generator"])
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
