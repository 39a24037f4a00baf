"""Multilayer perceptrons as plain functions of their parameters, with seeds as a leading axis."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

PAD = 64
"""Flat parameters are padded to a multiple of this many numbers, so that no vector instruction
straddles two seeds: a seed's bits must not depend on its place in the stack."""


@dataclass(frozen=True)
class MLPShape:
    """Sizes of an MLP with ReLU between its layers, and how its parameters lie in a flat row.

    Attributes:
        dims: input, hidden and output sizes.
        members: how many such networks one seed has side by side (2 for twin critics);
            None for a single network without that axis.
    """

    dims: tuple[int, ...]
    members: int | None = None

    @cached_property
    def layers(self) -> tuple[tuple[int, int], ...]:
        """`(in_dim, out_dim)` of each layer."""
        return tuple(zip(self.dims[:-1], self.dims[1:], strict=True))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """How many numbers each weight and bias takes in the row, in order, then the padding."""
        used = [size for i, o in self.layers for size in (i * o, o)]
        return (*used, -sum(used) % PAD)

    def views(self, flat: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """View rows `(N, P)` as weights `(N, in, out)` and biases `(N, 1, out)`."""
        pieces = flat.split(self.sizes, dim=-1)
        weights = [
            piece.unflatten(-1, layer)
            for piece, layer in zip(pieces[:-1:2], self.layers, strict=True)
        ]
        return weights, [piece.unsqueeze(-2) for piece in pieces[1::2]]

    def init(self, generator: torch.Generator) -> Tensor:
        """Draw one seed's parameters as `torch.nn.Linear` does: uniform in ±1/√in_dim.

        Returns:
            `(P,)`, or `(members, P)`.
        """
        flat = torch.zeros(self.members or 1, sum(self.sizes))
        for (in_dim, _), weight, bias in zip(self.layers, *self.views(flat), strict=True):
            bound = 1.0 / math.sqrt(in_dim)
            weight.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)
        return flat[0] if self.members is None else flat


class Network:
    """The networks of S seeds: one flat tensor, and the layers as views of it.

    Args:
        shape: their common shape.
        flat: all parameters, `(S, P)`, or `(S, members, P)` where the shape has members.
            What writes to it in place moves the layers.
        plain: run it in operations of torch alone, which a compiler sees through.

    Attributes:
        weights: `(N, in, out)` of each layer, where N = S times the members.
        biases: `(N, 1, out)` of each layer.
    """

    def __init__(self, shape: MLPShape, flat: Tensor, plain: bool = False) -> None:
        self.shape, self.flat, self.plain = shape, flat, plain
        rows = flat if plain else flat.detach()
        self.weights, self.biases = shape.views(
            rows if shape.members is None else rows.flatten(0, 1)
        )
        self.weights_t = [weight.transpose(1, 2) for weight in self.weights]
        self._trainable: Network | None = None

    def trainable(self) -> Network:
        """Return the same parameters as a leaf that gradients are taken for."""
        if self._trainable is None:
            flat = self.flat.detach().requires_grad_()
            self._trainable = Network(self.shape, flat, self.plain)
        return self._trainable

    @cached_property
    def members(self) -> tuple[Network, ...]:
        """Each of the networks that a seed has side by side, as a network of its own."""
        single = replace(self.shape, members=None)
        return tuple(Network(single, flat, self.plain) for flat in self.flat.detach().unbind(1))


def _forward(
    network: Network,
    inputs: Tensor,
    activations: list[Tensor] | None,
) -> Tensor:
    """`(N, B, in)` to `(N, B, out)`; the inputs of each layer are added to `activations`.

    A layer with one output is a sum of products: a batched product of one matrix by one column
    takes another path than that of several, and a seed's bits would depend on its company. The
    same holds for a layer with one input. The last layer's bias is added afterwards: spreading it
    over few columns first takes longer.
    """
    hidden = inputs
    for index, weight in enumerate(network.weights):
        if index > 0:
            hidden = hidden.relu_()
        if activations is not None:
            activations.append(hidden)
        if weight.shape[-1] == 1:
            product = hidden * network.weights_t[index]
            hidden = product.sum(-1, keepdim=True).add_(network.biases[index])
        elif weight.shape[-2] == 1:
            hidden = torch.addcmul(network.biases[index], hidden, weight)
        elif index == len(network.weights) - 1:
            hidden = torch.bmm(hidden, weight).add_(network.biases[index])
        else:
            hidden = torch.baddbmm(network.biases[index], hidden, weight)
    return hidden


def _plain_forward(network: Network, inputs: Tensor) -> Tensor:
    """Do what `_forward` does in separate operations, of which biases and ReLUs can be fused."""
    hidden = inputs
    for index, (weight, bias) in enumerate(zip(network.weights, network.biases, strict=True)):
        if index > 0:
            hidden = hidden.relu()
        if weight.shape[-1] == 1:
            hidden = (hidden * weight.transpose(1, 2)).sum(-1, keepdim=True) + bias
        elif weight.shape[-2] == 1:
            hidden = hidden * weight + bias
        else:
            hidden = torch.bmm(hidden, weight) + bias
    return hidden


class _MLP(torch.autograd.Function):
    """An MLP as one node of the graph: a tenth of the bookkeeping of a node for each operation."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, flat: Tensor, network: Network) -> Tensor:
        activations: list[Tensor] = []
        outputs = _forward(network, inputs, activations)
        ctx.network = network
        ctx.save_for_backward(*activations)
        return outputs

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        network: Network = ctx.network
        depth = len(network.weights)
        activations = ctx.saved_tensors
        inputs_grad = flat_grad = None
        if ctx.needs_input_grad[1]:
            flat_grad = torch.empty_like(network.flat)
            padding = network.shape.sizes[-1]
            flat_grad.narrow(-1, flat_grad.shape[-1] - padding, padding).zero_()
            weight_grads, bias_grads = network.shape.views(
                flat_grad if network.shape.members is None else flat_grad.flatten(0, 1)
            )
        (gradient,) = grads
        for index in reversed(range(depth)):
            inputs, weight_t = activations[index], network.weights_t[index]
            one_column, one_row = weight_t.shape[1] == 1, weight_t.shape[2] == 1
            if flat_grad is not None:
                if one_column:
                    product = inputs * gradient
                    torch.sum(product, 1, keepdim=True, out=weight_grads[index].transpose(1, 2))
                elif one_row:
                    torch.sum(inputs * gradient, 1, keepdim=True, out=weight_grads[index])
                else:
                    torch.bmm(inputs.transpose(1, 2), gradient, out=weight_grads[index])
                torch.sum(gradient, 1, keepdim=True, out=bias_grads[index])
            if index == 0 and not ctx.needs_input_grad[0]:
                break
            if one_column:
                gradient = gradient * weight_t
            elif one_row:
                gradient = (gradient * weight_t.transpose(1, 2)).sum(-1, keepdim=True)
            else:
                gradient = torch.bmm(gradient, weight_t)
            if index > 0:
                # The derivative of ReLU is 1 where its output is above 0; in place.
                torch.ops.aten.threshold_backward.grad_input(
                    gradient, inputs, 0, grad_input=gradient
                )
            else:
                inputs_grad = gradient
        return inputs_grad, flat_grad, None


def mlp(network: Network, inputs: Tensor) -> Tensor:
    """Run a stack of MLPs, one per seed, in batched matrix products.

    Args:
        network: networks of S seeds.
        inputs: `(S, B, in_dim)`.

    Returns:
        `(S, B, out_dim)`, or `(S, members, B, out_dim)` where the network has members.
    """
    members = network.shape.members
    if members is not None:
        inputs = inputs.repeat_interleave(members, dim=0)
    if network.plain:
        outputs = _plain_forward(network, inputs)
    elif torch.is_grad_enabled() and (inputs.requires_grad or network.flat.requires_grad):
        # torch leaves `apply` without types.
        outputs = cast(Tensor, _MLP.apply(inputs, network.flat, network))  # type: ignore[no-untyped-call]
    else:
        outputs = _forward(network, inputs, None)
    return outputs if members is None else outputs.unflatten(0, (-1, members))
