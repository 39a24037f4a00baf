"""MLPs over a seed axis against torch's own layers and numerical derivatives."""

import pytest
import torch
from torch import nn

from qss_offline.algorithms.networks import MLPShape, Network, mlp


def stacked(shape: MLPShape, seeds: int, dtype: torch.dtype = torch.float32) -> Network:
    generator = torch.Generator().manual_seed(7)
    rows = torch.stack([shape.init(generator) for _ in range(seeds)])
    return Network(shape, rows.to(dtype))


def torch_module(network: Network, row: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for weight, bias in zip(network.weights, network.biases, strict=True):
        if layers:
            layers.append(nn.ReLU())
        linear = nn.Linear(weight.shape[1], weight.shape[2])
        with torch.no_grad():
            linear.weight.copy_(weight[row].T)
            linear.bias.copy_(bias[row, 0])
        layers.append(linear)
    return nn.Sequential(*layers)


@pytest.mark.parametrize("out_dim", [1, 4])
def test_each_seed_computes_what_torch_layers_compute(out_dim: int) -> None:
    network = stacked(MLPShape((3, 32, 16, out_dim)), seeds=3)
    inputs = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1))
    outputs = mlp(network, inputs)
    assert outputs.shape == (3, 5, out_dim)
    for seed in range(3):
        expected = torch_module(network, seed)(inputs[seed])
        torch.testing.assert_close(outputs[seed], expected)


def test_members_are_networks_of_their_own() -> None:
    network = stacked(MLPShape((3, 16, 1), members=2), seeds=2)
    inputs = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    outputs = mlp(network, inputs)
    assert outputs.shape == (2, 2, 5, 1)
    for index, single in enumerate(network.members):
        torch.testing.assert_close(mlp(single, inputs), outputs[:, index])
    assert not torch.equal(outputs[:, 0], outputs[:, 1])


@pytest.mark.parametrize(
    "shape",
    [
        MLPShape((2, 5, 3)),
        MLPShape((2, 5, 1)),
        MLPShape((1, 5, 2)),
        MLPShape((3, 4, 4, 1), members=2),
    ],
)
def test_gradients_agree_with_finite_differences(shape: MLPShape) -> None:
    network = stacked(shape, seeds=2, dtype=torch.float64)
    inputs = torch.randn(
        2, 3, shape.dims[0], dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )

    def run(x: torch.Tensor, flat: torch.Tensor) -> torch.Tensor:
        return mlp(Network(shape, flat), x)

    assert torch.autograd.gradcheck(
        run, (inputs.requires_grad_(), network.flat.clone().requires_grad_())
    )


def test_a_frozen_network_passes_gradients_on_and_gets_none() -> None:
    network = stacked(MLPShape((2, 8, 1)), seeds=1)
    inputs = torch.ones(1, 4, 2, requires_grad=True)
    mlp(network, inputs).sum().backward()
    assert inputs.grad is not None
    assert inputs.grad.abs().sum() > 0
    assert network.flat.grad is None


def test_init_is_within_the_bounds_of_torch_linear() -> None:
    network = stacked(MLPShape((4, 100, 2)), seeds=1)
    for weight, bias, in_dim in zip(network.weights, network.biases, (4, 100), strict=True):
        bound = in_dim**-0.5
        assert weight.abs().max() <= bound
        assert weight.abs().max() > 0.9 * bound
        assert bias.abs().max() <= bound


def test_writing_to_flat_moves_the_layers() -> None:
    network = stacked(MLPShape((2, 4, 1), members=2), seeds=2)
    before = mlp(network, torch.ones(2, 1, 2))
    network.flat.mul_(2.0)
    assert not torch.equal(mlp(network, torch.ones(2, 1, 2)), before)
