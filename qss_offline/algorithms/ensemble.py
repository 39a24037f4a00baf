"""Several networks as one: the mean of what proposals say.

A departure. Networks that are trained apart err in directions of their own, and what is good in
them is common; so their mean errs less than they do, as models of an ensemble do (Hansen & Salamon,
1990, https://doi.org/10.1109/34.58871). Networks of a stack are trained together, so that a few
more of them cost little where the hardware isn't busy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from qss_offline.algorithms.networks import MLPShape, Network
from qss_offline.errors import UserError

_APART = 1_000_000


def member_seeds(seed: int, count: int) -> tuple[int, ...]:
    """Return the seeds of the trainings of a seed; the first is the seed's own.

    Raises:
        UserError: the seed is so great that its ensemble would meet another's.
    """
    if count > 1 and seed >= _APART:
        raise UserError(f"with {count} trainings of each, seeds must be below {_APART:,}: {seed}")
    return tuple(seed + number * _APART for number in range(count))


@torch.no_grad()
def mean_network(networks: Sequence[Network]) -> Network:
    """Return one network that gives the mean of what several give.

    Their hidden layers lie side by side, with zeros between them, so that whatever takes a network
    takes this one.

    Args:
        networks: of one shape, without members, each for the same S seeds,
            `(S, P)`; one alone is returned itself.

    Returns:
        A network for S seeds, `(S, P)`, with hidden layers as wide as theirs together: from
        `(S, B, in_dim)` to `(S, B, out_dim)`.
    """
    first, count = networks[0], len(networks)
    if count == 1:
        return first
    inputs, *hidden, outputs = first.shape.dims
    shape = MLPShape((inputs, *(count * width for width in hidden), outputs))
    flat = first.flat.new_zeros(first.flat.shape[0], sum(shape.sizes))
    mean = Network(shape, flat)
    for index, network in enumerate(networks):
        for layer, (i, o) in enumerate(first.shape.layers):
            is_last = layer == len(hidden)
            rows = slice(0, i) if layer == 0 else slice(index * i, (index + 1) * i)
            columns = slice(0, o) if is_last else slice(index * o, (index + 1) * o)
            share = 1 / count if is_last else 1.0
            mean.weights[layer][:, rows, columns] += share * network.weights[layer]
            mean.biases[layer][:, :, columns] += share * network.biases[layer]
    return mean
