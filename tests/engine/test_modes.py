"""Eager, recorded and captured run the same functions and agree."""

from dataclasses import replace

import pytest
import torch

from qss_offline.algorithms.observational_d3g import (
    ObservationalD3G,
    ObservationalD3GConfig,
    ObservationBatch,
)
from qss_offline.engine.loop import Mode, fit
from qss_offline.engine.sampler import UniformSampler
from qss_offline.engine.schedule import linear_decay
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.engine.update import CHUNK
from qss_offline.errors import UserError
from tests.engine.test_stacking import table

PLAIN = ObservationalD3GConfig((16, 16), batch_size=32, learning_rate=1e-3)
SWITCHED = replace(
    PLAIN,
    clamp_targets=True,
    twin_pessimism=0.5,
    proposal_average_step_size=0.1,
)


def train(
    mode: Mode,
    device: str,
    updates: int,
    seeds: int = 2,
    config: ObservationalD3GConfig = PLAIN,
) -> TrainState:
    limit = torch.full((seeds, 1), 0.5, device=device)
    limits = (-limit, limit) if config.clamp_targets else ()
    algorithm = ObservationalD3G(config, 3, *limits)
    state = initial_state(algorithm, range(seeds), device)
    columns = tuple(column.to(device) for column in table(0, 3))
    sampler = UniformSampler([columns] * seeds, 8, ObservationBatch)
    seen: dict[str, list[float]] = {}
    fit(
        algorithm,
        state,
        sampler,
        updates,
        linear_decay(1e-3, 0.5, 3 * CHUNK),
        lambda _, read: seen.update(read()),
        mode=mode,
    )
    assert set(seen) == {
        "critic_loss",
        "q",
        "td_target",
        "forward_loss",
        "proposal_value",
        "cycle_error",
    }
    return state


def assert_close(left: TrainState, right: TrainState, tolerance: float) -> None:
    assert left.update == right.update
    for name, network in left.networks.items():
        torch.testing.assert_close(
            network.flat, right.networks[name].flat, rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize("config", [PLAIN, SWITCHED])
@pytest.mark.parametrize("seeds", [1, 3])
def test_recorded_gives_the_bits_of_eager(
    seeds: int, config: ObservationalD3GConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded, eager = (train(mode, "cpu", 70, seeds, config) for mode in ("recorded", "eager"))
    for name, network in eager.networks.items():
        assert torch.equal(network.flat, recorded.networks[name].flat), name
    assert capsys.readouterr().err == "", "a loss was not recorded"


def test_captured_needs_a_cuda_device() -> None:
    with pytest.raises(UserError, match="CUDA"):
        train("captured", "cpu", CHUNK)


@pytest.mark.gpu
def test_captured_agrees_with_eager() -> None:
    for updates in (CHUNK, 3 * CHUNK, 2 * CHUNK + 7):
        assert_close(train("captured", "cuda", updates), train("eager", "cuda", updates), 1e-4)


@pytest.mark.gpu
def test_a_gpu_agrees_with_the_cpu_given_the_same_batches() -> None:
    config = ObservationalD3GConfig((16, 16), batch_size=32)
    states = {}
    for device in ("cpu", "cuda"):
        algorithm = ObservationalD3G(config, 3)
        states[device] = initial_state(algorithm, [0, 1], device)
        columns = tuple(column.to(device) for column in table(0, 3))

        class Fixed:
            """Rows 0 to B − 1, then the next B, …"""

            def draw(self, generators: object, updates: int) -> ObservationBatch:
                return ObservationBatch(
                    *(
                        column[: updates * 8]
                        .unflatten(0, (updates, 1, 8))
                        .expand(updates, 2, 8, *column.shape[1:])
                        for column in columns  # noqa: B023
                    )
                )

        fit(algorithm, states[device], Fixed(), 20, config.learning_rate)
    for name, network in states["cpu"].networks.items():
        torch.testing.assert_close(
            network.flat, states["cuda"].networks[name].flat.cpu(), rtol=1e-3, atol=1e-5
        )
