"""A recorded gradient gives the bits of eager, whatever the loss is."""

import gc
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qss_offline.algorithms.networks import MLPShape, Network, mlp
from qss_offline.algorithms.protocol import TrackRule, UpdateRule
from qss_offline.engine.cpu_graph import recorded_gradients
from qss_offline.engine.cpu_graph.graph import Graph, SpareMemory
from qss_offline.engine.cpu_graph.recorder import CannotRecordError, Recorder
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import Gradients, apply_update, eager_gradients
from qss_offline.parallel.reporting import say_once

WAYS: tuple[Gradients, Gradients] = (recorded_gradients, eager_gradients)
Function = Callable[..., Sequence[Tensor]]


@torch.library.custom_op("qss_test::halve", mutates_args=())
def halve(x: Tensor) -> Tensor:
    return x / 2


@torch.library.custom_op("qss_test::double_in_place", mutates_args={"x"})
def double_in_place(x: Tensor) -> None:
    x.mul_(2)


@torch.library.custom_op("qss_test::opaque", mutates_args="unknown")
def opaque(x: Tensor) -> Tensor:
    return x * 3


def mixed(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Views, writes in place and into views, constants, results that outlive what they came of."""
    hidden = torch.bmm(x, weight.transpose(1, 2)).relu_()
    doubled = torch.empty_like(hidden)
    torch.mul(hidden, 2.0, out=doubled)
    doubled[:, :, 2:].zero_()
    left, right = hidden.split(2, dim=-1)
    scale = torch.ones_like(left).mul(3.0).neg()
    product = (left * right * scale).tanh()
    unused = product.exp()
    unused.add_(1.0)
    return product + doubled[:, :, :2], hidden.sum(dim=(1, 2)), doubled.sigmoid() - product.sum(), x


def several_results(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    values, order = (x @ weight.mT).sort(dim=-1)
    return values, order, *x.max(dim=0), values.gather(-1, order.flip(-1))


def filled(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    """Constants that are written to, and such that are results."""
    zeros = torch.zeros(x.shape)
    zeros[0] = x[1]
    return zeros, torch.arange(3.0), torch.full_like(x, 2.0).add_(x), weight.new_ones(2)


def own_operations(x: Tensor, weight: Tensor) -> tuple[Tensor, ...]:
    copy = halve(x) + 1.0
    double_in_place(copy)
    return copy, halve(weight)


def arguments(stream: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(stream)
    return torch.randn(2, 5, 3, generator=generator), torch.randn(2, 4, 3, generator=generator)


def record(function: Function, tensors: Sequence[Tensor], spare: SpareMemory) -> Graph:
    with Recorder() as recorder:
        results = function(*tensors)
    return Graph(recorder, tensors, results, spare)


def assert_same_bits(results: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert len(results) == len(expected)
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True))


@pytest.mark.parametrize("function", [mixed, several_results, filled, own_operations])
def test_a_graph_reads_what_its_tensors_hold_by_then(function: Function) -> None:
    tensors = arguments(0)
    graph = record(function, tensors, {})
    assert_same_bits(graph.run(), function(*tensors))
    for stream in (1, 2):
        for tensor, value in zip(tensors, arguments(stream), strict=True):
            tensor.copy_(value)
        for _ in range(2):
            assert_same_bits(graph.run(), function(*arguments(stream)))


def test_graphs_that_share_memory_keep_their_results_apart() -> None:
    spare: SpareMemory = {}
    first, second = (record(mixed, arguments(stream), spare) for stream in (3, 4))
    results = first.run()
    second.run()
    assert_same_bits(results, mixed(*arguments(3)))


def test_memory_serves_again() -> None:
    def deep(x: Tensor) -> tuple[Tensor, ...]:
        for _ in range(20):
            x = x.tanh()
        return (x,)

    spare: SpareMemory = {}
    record(deep, [torch.ones(5)], spare)
    assert 1 <= sum(map(len, spare.values())) <= 2


def test_what_never_changes_and_what_no_result_needs_is_not_run() -> None:
    names: list[str] = []

    class Names(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(func._schema.name)
            return func(*args, **kwargs or {})

    def function(x: Tensor) -> tuple[Tensor, ...]:
        x.exp()
        return ((x.T * torch.ones_like(x.T).mul(3.0)).unsqueeze(0),)

    graph = record(function, [torch.ones(2, 3)], {})
    with Names():
        graph.run()
    assert names == ["aten::mul"]


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x: (x * float(x.max()),), "values"),
        (lambda x: (x.sum() if x.sum() > 0 else -x.sum(),), "values"),
        (lambda x: (x[x > 0].sum(),), "values"),
        (lambda x: (x + torch.rand_like(x),), "random"),
        (lambda x: (x.add_(1.0),), "own"),
        (lambda x: (x.clone().unsqueeze_(0),), "shape"),
        (lambda x: (opaque(x.clone()),), "opaque"),
    ],
)
def test_what_cannot_be_run_from_a_record_is_refused(function: Function, reason: str) -> None:
    tensor = torch.ones(3)
    with pytest.raises(CannotRecordError, match=reason), Recorder():
        function(tensor)
    assert tensor.eq(1).all(), "a refused operation isn't run"


class Batch(NamedTuple):
    x: Tensor
    y: Tensor


class Parameters(NamedTuple):
    net: Network


class Regression:
    """One network, and a loss of what it gives and of what it should."""

    name = "regression"
    tracks: tuple[TrackRule, ...] = ()
    parameters_type = Parameters

    def __init__(self, error: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.copies: dict[str, str] = {}
        self.shapes = {"net": MLPShape((3, 8, 1))}

        def loss(networks: Parameters, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
            errors = error(mlp(networks.net, batch.x)[..., 0], batch.y).mean(-1)
            return errors, {"error": errors}

        self.updates = (UpdateRule("net", loss),)


def squared(y: Tensor, target: Tensor) -> Tensor:
    return (y - target).square()


def scaled_by_item(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, target) * target.max().item()


def switched(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, target) if target.sum() > 0 else (y - target).abs()


def scaled_by_list(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, target) * max(target[0].tolist())


def scaled_by_numpy(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, target) * torch.from_numpy(target.numpy() ** 2)


def scaled_by_opaque(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, target) * opaque(target)


def noisy(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, nn.functional.dropout(target))


def scaled_by_own(y: Tensor, target: Tensor) -> Tensor:
    return squared(y, target) * halve(target)


def batch(stream: int, size: int = 8, seeds: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(stream)
    x, y = (torch.randn(seeds, size, dim, generator=generator) for dim in (3, 1))
    return Batch(x, y[..., 0])


def assert_same_networks(left: TrainState, right: TrainState) -> None:
    for name, network in left.networks.items():
        assert torch.equal(network.flat, right.networks[name].flat), name


def train(algorithm: Regression, gradients: Gradients, updates: int = 6) -> TrainState:
    torch.manual_seed(0)
    state = initial_state(algorithm, [0, 1])
    for update in range(1, updates + 1):
        measured = apply_update(algorithm, state, batch(update), update, 1e-2, gradients)
        assert measured["error"].shape == (2,)
    return state


@pytest.fixture(autouse=True)
def unsaid() -> Iterator[None]:
    say_once.cache_clear()
    yield


@pytest.mark.parametrize("error", [squared, scaled_by_own])
def test_losses_are_recorded_silently(
    error: Callable[[Tensor, Tensor], Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    recorded, eager = (train(Regression(error), way) for way in WAYS)
    assert_same_networks(recorded, eager)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "error",
    [scaled_by_item, switched, scaled_by_list, scaled_by_numpy, scaled_by_opaque, noisy],
)
def test_what_cannot_be_recorded_runs_eager_and_says_so_once(
    error: Callable[[Tensor, Tensor], Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    algorithms = Regression(error), Regression(error)
    first, second = (train(algorithm, recorded_gradients) for algorithm in algorithms)
    (line,) = capsys.readouterr().err.splitlines()
    assert "net" in line and "eager" in line
    if error is not noisy:
        for state in (first, second):
            assert_same_networks(state, train(Regression(error), eager_gradients))


def test_an_error_in_a_loss_is_raised_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="size"):
        train(Regression(lambda y, target: y - target[:, :5]), recorded_gradients)
    assert capsys.readouterr().err == ""


def test_other_networks_and_other_batches_are_recorded_anew(
    capsys: pytest.CaptureFixture[str],
) -> None:
    algorithm = Regression(squared)
    recorded, eager = ([initial_state(algorithm, [k, k + 1]) for k in (0, 2)] for _ in range(2))
    for pair in 2 * list(zip(recorded, eager, strict=True)):
        for size in (8, 12, 8):
            for update in range(1, 5):
                for state, gradients in zip(pair, WAYS, strict=True):
                    apply_update(algorithm, state, batch(update, size), update, 1e-2, gradients)
            assert_same_networks(*pair)
    assert capsys.readouterr().err == ""


def test_recordings_end_with_their_algorithm() -> None:
    algorithm = Regression(squared)
    train(algorithm, recorded_gradients)
    alive = weakref.ref(algorithm)
    del algorithm
    gc.collect()
    assert alive() is None


PROGRAM = """
import sys, torch
from tests.engine.test_cpu_graph import *
states = [train(Regression(squared), way) for way in WAYS]
assert_same_networks(*states)
assert torch.backends.cpu.get_cpu_capability() in (sys.argv[1], "NO AVX"), "not taken"
sys.exit(bool({"torch._dynamo", "torch._inductor"} & set(sys.modules)))
"""


@pytest.mark.parametrize("width", ["DEFAULT", "AVX2"])
def test_no_width_of_vectors_makes_a_difference(width: str) -> None:
    """Nor are warnings silenced, or torch's compiler imported, which takes seconds."""
    if width == "AVX2" and torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        pytest.skip("this processor can't")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM, width],
        env={**os.environ, "ATEN_CPU_CAPABILITY": width.lower()},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
