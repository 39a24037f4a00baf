"""A record holds a function's operations in their order, and nothing of the run that it was."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qss_offline.engine.recording import LAYOUT, Layout, record


def test_operations_constants_and_results_are_told_apart() -> None:
    held = torch.full((2,), 3.0)

    def function(x: Tensor) -> tuple[Tensor, ...]:
        left, right = x.split(1, dim=1)
        return (left * right).sum(), held, x

    example = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    recorded = record(function, [example])
    nodes = list(recorded.graph.nodes)
    kinds = [node.op for node in nodes]
    assert kinds.count("placeholder") == 1
    assert [name for node in nodes if (name := str(node.target)).startswith("aten")] == [
        "aten.split.Tensor",
        "aten.mul.Tensor",
        "aten.sum.default",
    ]
    assert [constant is held for constant in recorded.constants.values()] == [True]
    product, constant, argument = nodes[-1].args[0]
    assert (product.op, constant.op, argument.op) == ("call_function", "get_attr", "placeholder")
    assert product.meta[LAYOUT] == Layout.of(torch.zeros(()))


def test_gradients_are_operations_like_others() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        weight = x.clone().requires_grad_()
        return torch.autograd.grad(weight.tanh().sum(), weight)

    recorded = record(function, [torch.ones(3)])
    assert "aten.tanh_backward.default" in [str(node.target) for node in recorded.graph.nodes]
    assert not recorded.constants, "what the forward pass left is no constant"


@pytest.mark.parametrize(
    "function",
    [
        lambda x: (x * float(x.max()),),
        lambda x: (x.sum() if x.sum() > 0 else -x.sum(),),
        lambda x: (x[x > 0].sum(),),
    ],
)
def test_what_looks_at_values_is_refused(function: Callable[[Tensor], tuple[Tensor, ...]]) -> None:
    with pytest.raises(NotImplementedError, match="looks at values"):
        record(function, [torch.ones(3)])


def test_what_is_written_in_place_is_read_from_there() -> None:
    def function(x: Tensor) -> tuple[Tensor, ...]:
        copy = x.clone()
        copy.mul_(2.0)
        return (copy + 1.0,)

    recorded = record(function, [torch.ones(3)])
    calls = [node for node in recorded.graph.nodes if node.op == "call_function"]
    assert [str(node.target) for node in calls] == [
        "aten.clone.default",
        "aten.mul_.Tensor",
        "aten.add.Tensor",
    ]
    assert calls[2].args[0] is calls[1]


def test_a_layout_tells_views_from_the_memory_that_they_lie_in() -> None:
    whole = torch.zeros(4, 6, dtype=torch.float64)
    layout = Layout.of(whole[:, ::2])
    assert (layout.shape, layout.stride, layout.elements) == ((4, 3), (6, 2), 24)
    made = layout.empty()
    assert (made.shape, made.stride(), made.dtype) == ((4, 3), (6, 2), torch.float64)


def test_torchs_compiler_is_not_imported() -> None:
    program = (
        "import sys, torch\n"
        "from qss_offline.engine.straight_line import StraightLine\n"
        "def gradient(x):\n"
        "    weight = x.detach().requires_grad_()\n"
        "    return torch.autograd.grad((weight @ weight).relu().sum(), weight)\n"
        "x = torch.ones(2, 2)\n"
        "assert StraightLine(gradient, [x], {}).bind([x])()[0].eq(4).all()\n"
        "sys.exit(bool({'torch._dynamo', 'torch._inductor'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
