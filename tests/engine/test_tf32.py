"""The rounding that stands for TF32 on a CPU."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.tf32 import emulated, rounded


@settings(deadline=None)
@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False), min_size=1))
def test_rounding_keeps_ten_bits(numbers: list[float]) -> None:
    exact = torch.tensor(numbers)
    short = rounded(exact)
    assert ((short - exact).abs() <= exact.abs() * 2**-11).all()
    assert torch.equal(rounded(short), short)
    # NumPy's float16 has as many bits, and rounds the same way, where its range is wide enough.
    near = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-11, 1 + 3 * 2**-11, -3.14159])
    assert torch.equal(rounded(near), near.half().float())


def test_products_are_rounded_inside_and_exact_again_outside() -> None:
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(2, 8, 8, generator=generator) for _ in range(2))
    bias = torch.randn(2, 1, 8, generator=generator)
    exact = torch.bmm(left, right)
    with emulated():
        product, sum_ = torch.bmm(left, right), torch.baddbmm(bias, left, right)
    assert torch.equal(product, torch.bmm(rounded(left), rounded(right)))
    torch.testing.assert_close(sum_, bias + product)
    assert not torch.equal(product, exact)
    assert torch.equal(torch.bmm(left, right), exact)
