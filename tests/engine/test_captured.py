"""Captured updates on an emulated device: the numbers of eager, one capture, few kernels."""

import gc
import math
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.inverse_dynamics import (
    ActionBatch,
    InverseDynamics,
    InverseDynamicsConfig,
)
from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.engine import cuda_graph
from qss_offline.engine.checkpoint import seed_checkpoint, stack_checkpoints
from qss_offline.engine.device import check_room
from qss_offline.engine.fused import FusedUpdate
from qss_offline.engine.graph_device import GRAPH_DEVICES
from qss_offline.engine.loop import Mode, fit
from qss_offline.engine.replay import ReplaySampler, ReplayTable
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.schedule import linear_decay
from qss_offline.engine.state import TrainState, initial_state, seeded_generator
from qss_offline.engine.update import apply_update
from qss_offline.errors import UserError
from qss_offline.presets import PRESETS
from tests.engine.emulated import Emulated
from tests.engine.test_stacking import table

PLAIN = ObservationalD3GConfig((8, 8), batch_size=32, learning_rate=1e-3)
SETTINGS = {
    "plain": PLAIN,
    "switched": replace(
        PLAIN, clamp_targets=True, twin_pessimism=0.5, proposal_average_step_size=0.1
    ),
    "each": replace(PLAIN, proposal_update_interval=1),
    "every third": replace(PLAIN, proposal_update_interval=3),
    "every seventh": replace(PLAIN, proposal_update_interval=7),
}
CHUNK = 12
END = 4 * CHUNK
SEEDS = 0, 1
Rows = list[dict[str, list[float]]]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulated]:
    """The CPU as a device that captures, a few updates at a time."""
    emulated = Emulated()
    monkeypatch.setattr("qss_offline.engine.loop.CHUNK", CHUNK)
    monkeypatch.setitem(GRAPH_DEVICES, "cpu", emulated)
    yield emulated


def offline(config: ObservationalD3GConfig) -> ObservationalD3G:
    limit = torch.full((len(SEEDS), 1), 0.5)
    limits = (-limit, limit) if config.clamp_targets else ()
    return ObservationalD3G(config, 3, *limits)


def train(
    mode: Mode, config: ObservationalD3GConfig, stops: tuple[int, ...], resume: bool = False
) -> tuple[TrainState, Rows]:
    """Train to each stop in a call of `fit` of its own, from checkpoints if asked to."""
    algorithm = offline(config)
    state = initial_state(algorithm, SEEDS)
    sampler = UniformSampler([table(0, 3), table(1, 3)], 32, ObservationBatch)
    metrics: Rows = []
    for stop in stops:
        if resume:
            state = stack_checkpoints(algorithm, [seed_checkpoint(state, i) for i in SEEDS])
        rate = linear_decay(1e-3, 0.8, END)
        fit(algorithm, state, sampler, stop, rate, lambda _, r: metrics.append(r()), mode)
    return state, metrics


def assert_equal(left: tuple[TrainState, Rows], right: tuple[TrainState, Rows]) -> None:
    for name, network in left[0].networks.items():
        other = right[0].networks[name].flat
        torch.testing.assert_close(network.flat, other, rtol=1e-5, atol=1e-6)
    assert [row.keys() for row in left[1]] == [row.keys() for row in right[1]]
    for one, another in zip(left[1], right[1], strict=True):
        for name, values in one.items():
            np.testing.assert_allclose(values, another[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("stops", [(CHUNK, END), (7, CHUNK + 5, END - 1)])
@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "each"])
def test_captured_is_eager_from_wherever_it_starts(
    device: Emulated, name: str, stops: tuple[int, ...]
) -> None:
    assert_equal(train("captured", SETTINGS[name], stops), train("eager", SETTINGS[name], stops))
    assert device.replays > 0


def test_captured_is_eager_across_resumptions(device: Emulated) -> None:
    stops = CHUNK, 2 * CHUNK, END
    whole = train("eager", PLAIN, stops)
    assert_equal(train("captured", PLAIN, stops, resume=True), whole)


@pytest.mark.parametrize(("interval", "graphs"), [(2, 1), (5, 5), (8, 2)])
def test_a_state_is_captured_once_for_each_place_among_the_intervals(
    device: Emulated, interval: int, graphs: int
) -> None:
    config = replace(PLAIN, proposal_update_interval=interval)
    assert graphs == math.lcm(interval, CHUNK) // CHUNK
    train("captured", config, (CHUNK, 2 * CHUNK, 5 * CHUNK))
    assert (len(device.recordings), device.replays) == (graphs, 5)


def test_what_was_captured_goes_with_its_state(device: Emulated) -> None:
    state, _ = train("captured", PLAIN, (CHUNK,))
    assert state in cuda_graph._captured
    device.recordings.clear()
    count = len(cuda_graph._captured)
    del state
    gc.collect()
    assert len(cuda_graph._captured) < count


def test_capturing_changes_nothing(device: Emulated) -> None:
    algorithm = ObservationalD3G(PLAIN, 3)
    state = initial_state(algorithm, SEEDS)
    before = [seed_checkpoint(state, index).tensors for index in SEEDS]
    block = UniformSampler([table(0, 3)] * 2, 32, ObservationBatch).draw(
        [seeded_generator(9, "batches", "cpu") for _ in SEEDS], CHUNK
    )
    cuda_graph.CapturedUpdates(algorithm, state, block, device)
    after = [seed_checkpoint(state, index).tensors for index in SEEDS]
    for one, another in zip(before, after, strict=True):
        assert all(torch.equal(value, another[name]) for name, value in one.items())


def kernels(algorithm: Any, batch: Callable[..., Any], shapes: list[tuple[int, ...]]) -> float:
    """Count the kernels of an update, a mean over a chunk."""
    device = Emulated()
    state = initial_state(algorithm, [0])
    block = batch(*(torch.rand(CHUNK, *shape) for shape in shapes))
    cuda_graph.CapturedUpdates(algorithm, state, block, device)
    return sum(device.recordings[0].kernels.values()) / CHUNK


def offline_settings() -> list[ObservationalD3GConfig]:
    """What offline D3G is trained with, by all presets."""
    algorithms = [one.algorithm for by_method in PRESETS.values() for one in by_method.values()]
    return list(dict.fromkeys(algorithms))


@pytest.mark.parametrize("algorithm", offline_settings())
def test_the_kernels_of_an_update_keep_to_their_budget(algorithm: ObservationalD3GConfig) -> None:
    config = replace(algorithm, hidden_dims=(8, 8), batch_size=32)
    rows, one = (1, 32, 3), (1, 32)
    found = kernels(ObservationalD3G(config, 3), ObservationBatch, [rows, rows, one, one])
    # Of the authors' 165 are 36 matrix products; of the others most can be fused, see below.
    assert found <= 170
    inverse = InverseDynamics(InverseDynamicsConfig((8, 8), 32), 3, 2)
    assert kernels(inverse, ActionBatch, [rows, rows, (1, 32, 2)]) <= 45
    cloning = BehaviouralCloning(CloningConfig((8, 8), 32), 3, 2)
    assert kernels(cloning, LabelledBatch, [rows, (1, 32, 2)]) <= 45


def fused(config: ObservationalD3GConfig, backend: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what two updates give fused, and as they are: states, metrics."""
    monkeypatch.setattr("qss_offline.engine.fused.BACKEND", backend)
    algorithm = offline(config)
    left, right = (initial_state(algorithm, SEEDS) for _ in range(2))
    update = FusedUpdate(algorithm, left)
    block = UniformSampler([table(0, 3)] * 2, 32, ObservationBatch).draw(
        [seeded_generator(9, "batches", "cpu") for _ in SEEDS], 4
    )
    for number in range(1, 5):
        batch = ObservationBatch(*(column[number - 1] for column in block))
        found = update(batch, number, torch.tensor(1e-3))
        expected = apply_update(algorithm, right, batch, number, 1e-3)
    return (left, found), (right, expected)


@pytest.mark.parametrize(
    "name", [n if n == "each" else pytest.param(n, marks=pytest.mark.slow) for n in SETTINGS]
)
def test_fused_updates_are_those_they_were_made_of(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (left, found), (right, expected) = fused(SETTINGS[name], "aot_eager", monkeypatch)
    assert capsys.readouterr().err == "", "nothing was fused"
    for one, another in zip(left.tensors(), right.tensors(), strict=True):
        torch.testing.assert_close(one, another, rtol=1e-4, atol=1e-5)
    assert found.keys() == expected.keys()
    for metric, value in found.items():
        torch.testing.assert_close(value, expected[metric], rtol=1e-4, atol=1e-5)


def test_without_a_compiler_updates_run_as_they_are(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("there is no compiler\nat all")

    (left, found), (right, expected) = fused(SETTINGS["each"], broken, monkeypatch)
    (line,) = set(capsys.readouterr().err.splitlines())
    assert line.startswith("updates aren't fused, which is slower: ")
    for one, another in zip(left.tensors(), right.tensors(), strict=True):
        torch.testing.assert_close(one, another, rtol=1e-5, atol=1e-6)
    assert found.keys() == expected.keys()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no compiler here")
def test_fused_updates_are_few_kernels() -> None:
    """As torch's compiler for CPUs fuses them; that for GPUs fuses by rules of its own."""
    from torch._inductor.utils import run_and_get_code

    algorithm = ObservationalD3G(ObservationalD3GConfig((64, 64), batch_size=64), 11)
    state = initial_state(algorithm, SEEDS)
    batch = ObservationBatch(*(torch.rand(2, 64, *sizes) for sizes in ((11,), (11,), (), ())))
    update, counts = FusedUpdate(algorithm, state), []
    for number in (1, 2):
        _, codes = run_and_get_code(update, batch, number, torch.tensor(1e-3))
        calls = re.findall(r"^\s+(?:\w*fused\w*|extern_kernels\.\w+)\(", codes[-1], re.MULTILINE)
        counts.append(len(calls))
    assert 20 < sum(counts) / 2 <= 80, counts


def test_columns_of_seeds_are_gathered_at_once_and_the_same(device: Emulated) -> None:
    shared, own = torch.rand(50, 2), [torch.rand(50, 1), torch.rand(30, 1)]

    def draw() -> Any:
        tables = [(shared[: len(column)], column) for column in own]
        generators = [torch.Generator().manual_seed(seed) for seed in SEEDS]
        noise = (None, torch.tensor([0.5]))
        return UniformSampler(tables, 4, lambda *c: c, noise=noise).draw(generators, 3)

    together = draw()
    del GRAPH_DEVICES["cpu"]
    for left, right in zip(together, draw(), strict=True):
        assert torch.equal(left, right)


@pytest.mark.parametrize("capacity", [6, 10, 40])
def test_a_replay_on_a_device_draws_what_its_tables_hold(device: Emulated, capacity: int) -> None:
    def tables() -> list[ReplayTable]:
        return [ReplayTable(capacity, 2) for _ in SEEDS]

    on_device, plain = tables(), tables()
    sampler = ReplaySampler(on_device, 4, lambda rows: rows)
    del GRAPH_DEVICES["cpu"]
    expected = ReplaySampler(plain, 4, lambda rows: rows)
    GRAPH_DEVICES["cpu"] = device
    generators = [[torch.Generator().manual_seed(seed) for seed in SEEDS] for _ in range(2)]
    rng = np.random.default_rng(0)
    for count in (3, 1, 1, 5, 6, 1, 2):
        for left, right in zip(on_device, plain, strict=True):
            rows = rng.normal(size=(count, 2)).astype(np.float32)
            left.append(rows)
            right.append(rows)
        drawn = sampler.draw(generators[0], 2)
        assert torch.equal(drawn, expected.draw(generators[1], 2))


def test_what_does_not_fit_is_refused_in_one_line(device: Emulated) -> None:
    device.free = 5 * 10**9
    check_room(torch.device("cpu"), 4 * 10**9, "The recording")
    with pytest.raises(UserError, match=r"The recording takes 6\.0 GB .* 5\.0 GB are free"):
        check_room(torch.device("cpu"), 6 * 10**9, "The recording")


@pytest.mark.parametrize("fault", ["reads", "draws", "builds"])
def test_the_emulated_device_refuses_what_a_capture_would(device: Emulated, fault: str) -> None:
    class Faulty(ObservationalD3G):
        def forward_loss(self, parameters: Any, batch: Any) -> Any:
            loss, metrics = super().forward_loss(parameters, batch)
            if fault == "reads":
                loss = loss * float(loss.detach().sum())
            elif fault == "draws":
                loss = loss + torch.rand(2)
            else:
                loss = loss * torch.tensor([1.0, 2.0])
            return loss, metrics

    algorithm = Faulty(PLAIN, 3)
    sampler = UniformSampler([table(0, 3)] * 2, 32, ObservationBatch)
    with pytest.raises(AssertionError):
        fit(algorithm, initial_state(algorithm, SEEDS), sampler, CHUNK, 1e-3, mode="captured")
