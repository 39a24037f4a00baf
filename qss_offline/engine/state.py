"""What training changes: networks, moments, random streams and the update count of S seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qss_offline.algorithms.networks import Network
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.engine.adam import AdamState
from qss_offline.engine.streams import stream


def seeded_generator(seed: int, purpose: str, device: torch.device | str) -> torch.Generator:
    """Return a generator that depends on a seed and the name of what it is for, on nothing else."""
    words = stream(seed, purpose).generate_state(2, np.uint32)
    return torch.Generator(device).manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)


@dataclass(eq=False)
class TrainState:
    """Everything that an update reads and changes.

    Attributes:
        seeds: the S seeds, in the order of the stack.
        networks: every network by name.
        moments: Adam's state of each trained network.
        generators: one stream of batch indices a seed.
        update: number of updates done.
    """

    seeds: tuple[int, ...]
    networks: dict[str, Network]
    moments: dict[str, AdamState]
    generators: list[torch.Generator]
    update: int

    @property
    def device(self) -> torch.device:
        """Where the tensors live."""
        return next(iter(self.networks.values())).flat.device

    def tensors(self) -> list[Tensor]:
        """Return all that updates change: networks, then moments."""
        moments = [(m.first, m.second, m.steps) for m in self.moments.values()]
        return [network.flat for network in self.networks.values()] + [
            tensor for three in moments for tensor in three
        ]

    def on_cpu(self) -> TrainState:
        """Return itself on a CPU, else a copy there: one transfer a tensor, for all seeds."""
        if self.device.type == "cpu":
            return self
        return TrainState(
            self.seeds,
            {name: Network(n.shape, n.flat.cpu()) for name, n in self.networks.items()},
            {
                name: AdamState(m.first.cpu(), m.second.cpu(), m.steps.cpu())
                for name, m in self.moments.items()
            },
            self.generators,
            self.update,
        )


def initial_state(
    algorithm: Algorithm, seeds: Sequence[int], device: torch.device | str = "cpu"
) -> TrainState:
    """Draw the networks of each seed from a stream of that seed and algorithm, and stack them.

    The draw happens on the CPU, so that a seed starts alike on every device.
    """
    device = torch.device(device)
    generators = [seeded_generator(seed, f"{algorithm.name}.init", "cpu") for seed in seeds]
    networks = {
        name: Network(shape, torch.stack([shape.init(g) for g in generators]).to(device))
        for name, shape in algorithm.shapes.items()
    }
    for copy, source in algorithm.copies.items():
        networks[copy] = Network(networks[source].shape, networks[source].flat.clone())
    return TrainState(
        seeds=tuple(seeds),
        networks=networks,
        moments={name: AdamState.zeros_like(networks[name].flat) for name in algorithm.shapes},
        generators=[seeded_generator(seed, f"{algorithm.name}.batches", device) for seed in seeds],
        update=0,
    )
