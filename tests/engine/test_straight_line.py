"""A recorded function gives the bits of the function, on whatever tensors it is bound to."""

import pytest
import torch
from torch import Tensor

from qss_offline.engine.denormals import denormals_as_zero
from qss_offline.engine.straight_line import SpareBuffers, StraightLine


def function(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Views, writes in place and into views, constants, results that outlive what they came of."""
    hidden = torch.bmm(x, weight.transpose(1, 2)).relu_()
    doubled = torch.empty_like(hidden)
    torch.mul(hidden, 2.0, out=doubled)
    doubled[:, :, 2:].zero_()
    left, right = hidden.split(2, dim=-1)
    scale = torch.ones_like(left).mul(3.0).neg()
    product = (left * right * scale).tanh()
    return product + doubled[:, :, :2], hidden.sum(dim=(1, 2)), doubled.sigmoid() - product.sum()


def arguments(stream: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(stream)
    return torch.randn(2, 5, 3, generator=generator), torch.randn(2, 4, 3, generator=generator)


def assert_same_bits(results: list[Tensor], expected: tuple[Tensor, ...]) -> None:
    assert len(results) == len(expected)
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))


def test_a_bound_function_reads_what_its_tensors_hold_by_then() -> None:
    line = StraightLine(function, arguments(0), {})
    bound_to = arguments(1)
    run = line.bind(bound_to)
    assert_same_bits(run(), function(*bound_to))
    for tensor, value in zip(bound_to, arguments(2), strict=True):
        tensor.copy_(value)
    assert_same_bits(run(), function(*arguments(2)))


def test_a_record_serves_several_tensors() -> None:
    line = StraightLine(function, arguments(0), {})
    runs = [line.bind(arguments(stream)) for stream in range(3)]
    for stream, run in enumerate(runs):
        assert_same_bits(run(), function(*arguments(stream)))


def test_functions_that_share_buffers_keep_their_results_apart() -> None:
    spare: SpareBuffers = {}
    first, second = (
        StraightLine(function, arguments(0), spare).bind(arguments(stream)) for stream in (3, 4)
    )
    results = first()
    second()
    assert_same_bits(results, function(*arguments(3)))


def test_an_operation_with_several_results_is_refused() -> None:
    with pytest.raises(NotImplementedError, match="max"):
        StraightLine(lambda x: x.max(dim=0), [torch.zeros(3, 2)], {})


def test_denormals_are_zero_inside_only() -> None:
    tiny = torch.tensor(1e-39)
    if not torch.set_flush_denormal(False):
        pytest.skip("this processor can't")
    with denormals_as_zero():
        assert float(tiny * 1.0) == 0
        with denormals_as_zero():
            pass
        assert float(tiny * 1.0) == 0
    assert float(tiny * 1.0) > 0
