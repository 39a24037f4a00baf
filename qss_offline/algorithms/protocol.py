"""What an algorithm tells the engine: networks, losses, and when each is applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from qss_offline.algorithms.networks import MLPShape

LossFunction = Callable[[Any, Any], tuple[Tensor, dict[str, Tensor]]]
"""`loss(parameters, batch)` gives losses `(S,)` and metrics `(S,)`; it never mixes seeds."""


@dataclass(frozen=True)
class UpdateRule:
    """One gradient step: `network` moves down `loss` every `interval`-th update."""

    network: str
    loss: LossFunction
    interval: int = 1


@dataclass(frozen=True)
class TrackRule:
    """One averaging step: θ' ← ηθ + (1 − η)θ' every `interval`-th update."""

    target: str
    source: str
    step_size: float
    interval: int = 1


class Algorithm(Protocol):
    """Everything that the engine needs to know to train an algorithm.

    Attributes:
        name: tells its random streams from those of other models of the same seed.
        shapes: networks that are drawn at random and trained.
        copies: networks that start as a copy of another, by name.
        updates: gradient steps of one update, in order.
        tracks: averaging steps that follow them, in order.
        parameters_type: called with all networks by name; what the losses get.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def shapes(self) -> Mapping[str, MLPShape]: ...  # noqa: D102
    @property
    def copies(self) -> Mapping[str, str]: ...  # noqa: D102
    @property
    def updates(self) -> tuple[UpdateRule, ...]: ...  # noqa: D102
    @property
    def tracks(self) -> tuple[TrackRule, ...]: ...  # noqa: D102
    @property
    def parameters_type(self) -> Callable[..., Any]: ...  # noqa: D102
