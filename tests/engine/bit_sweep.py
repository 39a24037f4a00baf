"""Train every loss and preset alone and in stacks, and name the seeds whose bits differ.

python -m tests.engine.bit_sweep [CASE …]

Prints one JSON object a case: `{"case": …, "differ": [[stack size, seed, tensor], …]}`. The vector
width is that of the process: ATEN_CPU_CAPABILITY=default, avx2 or avx512.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import Any, TypeVar

import torch

from qss_offline.algorithms.bco import BehaviouralCloning, CloningConfig, LabelledBatch
from qss_offline.algorithms.d3g import D3G, D3GBatch, D3GParameters
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
from qss_offline.algorithms.protocol import Algorithm
from qss_offline.algorithms.semi_supervised_inverse import (
    SemiSupervisedBatch,
    SemiSupervisedInverseDynamics,
)
from qss_offline.algorithms.td3_bc import TD3BC, TD3BCConfig, ValuedBatch
from qss_offline.algorithms.validation import ROWS_TOGETHER
from qss_offline.engine.checkpoint import seed_checkpoint
from qss_offline.engine.loop import Mode, fit
from qss_offline.engine.sampler import Columns, UniformSampler
from qss_offline.engine.state import TrainState, initial_state
from qss_offline.online.presets import ONLINE_PRESETS
from qss_offline.presets import PRESETS

STACKS = ((2, 4), (1, 4, 0), (1, 2, 3, 4, 0))
"""Stacks of 2, 3 and 5 seeds; each is held against its seeds alone."""

OBS_DIM, ACTION_DIM, ROWS = 11, 3, 300

MakeAlgorithm = Callable[[int], Algorithm]
"""From the number of seeds to an algorithm."""


def table(seed: int, kinds: str) -> Columns:
    """Random columns of a seed: o(bservation), a(ction), d(iscrete action), s(calar), f(lag)."""
    generator = torch.Generator().manual_seed(seed)
    columns = []
    for kind in kinds:
        drawn = torch.randn(ROWS, OBS_DIM, generator=generator)
        columns.append(
            {
                "o": drawn,
                "a": drawn[:, :ACTION_DIM].tanh(),
                "d": torch.eye(ACTION_DIM)[drawn[:, :ACTION_DIM].argmax(-1)],
                "s": drawn[:, 0].clone(),
                "f": (drawn[:, 0] > 1).float(),
            }[kind]
        )
    return tuple(columns)


def step_scale(seeds: int) -> torch.Tensor:
    """The spread of steps; alike for all seeds, as from one recording."""
    return torch.linspace(0.1, 2.0, OBS_DIM).expand(seeds, 1, OBS_DIM)


def d3g_batch(obs: Any, action: Any, next_obs: Any, reward: Any, terminated: Any) -> D3GBatch:
    """A batch whose targets are clamped to the same limits for every seed."""
    limits = torch.full((*reward.shape[:2], 1), 50.0)
    return D3GBatch(obs, action, next_obs, reward, terminated, -limits, limits)


def offline(config: ObservationalD3GConfig) -> MakeAlgorithm:
    """Offline D3G."""

    def make(seeds: int) -> Algorithm:
        limit = torch.full((seeds, 1), 50.0)
        limits = (-limit, limit) if config.clamp_targets else ()
        return ObservationalD3G(config, OBS_DIM, *limits)

    return make


def inverse(config: InverseDynamicsConfig, discrete: bool = False) -> MakeAlgorithm:
    """The inverse dynamics model, semi-supervised where it learns from recorded steps."""

    def make(seeds: int) -> Algorithm:
        if config.recorded_coef:
            return SemiSupervisedInverseDynamics(config, OBS_DIM, ACTION_DIM, step_scale(seeds))
        scale = step_scale(seeds) if config.step_inputs else None
        return InverseDynamics(config, OBS_DIM, ACTION_DIM, scale, discrete)

    return make


Config = TypeVar("Config")


def _distinct(named: dict[str, Config]) -> dict[str, Config]:
    """Leave out settings that are there already by another name."""
    first = {one: name for name, one in reversed(named.items())}
    return {name: one for one, name in first.items()}


def cases() -> Iterator[tuple[str, MakeAlgorithm, int, Callable[..., Any], str, Mode]]:
    """Name, algorithm, batch size, batch, kinds of its columns, and mode."""
    presets = {
        f"{name} {method}": preset
        for name, methods in PRESETS.items()
        for method, preset in methods.items()
    }
    algorithms = {name: preset.algorithm for name, preset in presets.items()}
    for name, config in _distinct(algorithms).items():
        yield (
            f"{name} offline",
            offline(config),
            config.batch_size,
            ObservationBatch,
            "oosf",
            "recorded",
        )
    models = {
        f"{name}, recorded {coef:g}": replace(model, recorded_coef=coef)
        for name, model in ((k, one.inverse.model) for k, one in presets.items())
        for coef in ((0.0, 1.0) if model.recorded_coef is None else (model.recorded_coef,))
    }
    for name, model in _distinct(models).items():
        batch, kinds = (
            (SemiSupervisedBatch, "ooaooa") if model.recorded_coef else (ActionBatch, "ooa")
        )
        yield f"{name} inverse", inverse(model), model.batch_size, batch, kinds, "recorded"
        softmax = replace(model, form="network", recorded_coef=0.0)
        yield (
            f"{name} softmax inverse",
            inverse(softmax, discrete=True),
            model.batch_size,
            ActionBatch,
            "ood",
            "recorded",
        )
    for name, settings in ONLINE_PRESETS.items():
        d3g = settings.algorithm
        for loss in ("box", "squared_error", "cross_entropy"):
            discrete = loss != "box"
            chosen = replace(d3g, discrete_loss=loss) if discrete else d3g
            kinds = "odosf" if discrete else "oaosf"
            yield (
                f"{name} online {loss}",
                lambda seeds, chosen=chosen, discrete=discrete: D3G(
                    chosen, OBS_DIM, ACTION_DIM, discrete, step_scale(seeds)
                ),
                chosen.batch_size,
                d3g_batch,
                kinds,
                "recorded",
            )
    valued = TD3BCConfig((30, 30), 96)
    yield (
        "td3+bc on labels",
        lambda seeds: TD3BC(valued, OBS_DIM, ACTION_DIM),
        valued.batch_size,
        ValuedBatch,
        "oaosfa",
        "recorded",
    )
    for batch_size, width in ((32, 30), (96, 8), (160, 30)):
        size = f"{width} wide, batches of {batch_size}"
        dims = (width, width)
        for power in (0.5, 1.0, 1.7, 2.0):
            cloning = CloningConfig(dims, batch_size, error_power=power)
            yield (
                f"clone power {power}, {size}",
                lambda seeds, cloning=cloning: BehaviouralCloning(cloning, OBS_DIM, ACTION_DIM),
                batch_size,
                LabelledBatch,
                "oa",
                "eager",
            )
        for pessimism, clamped in product((0.5, 1.0), (False, True)):
            config = ObservationalD3GConfig(
                dims, batch_size, clamp_targets=clamped, twin_pessimism=pessimism
            )
            yield (
                f"offline pessimism {pessimism}, clamped {clamped}, {size}",
                offline(config),
                batch_size,
                ObservationBatch,
                "oosf",
                "eager",
            )
        model = InverseDynamicsConfig(dims, batch_size, step_inputs=True)
        yield (
            f"softmax inverse, {size}",
            inverse(model, discrete=True),
            batch_size,
            ActionBatch,
            "ood",
            "eager",
        )
        yield f"inverse, {size}", inverse(model), batch_size, ActionBatch, "ooa", "eager"
        half = replace(model, recorded_coef=1.0)
        yield (
            f"semi-supervised, {size}",
            inverse(half),
            batch_size,
            SemiSupervisedBatch,
            "ooaooa",
            "eager",
        )
        bilinear = replace(model, form="bilinear")
        yield f"bilinear, {size}", inverse(bilinear), batch_size, ActionBatch, "ooa", "eager"


def train(
    make: MakeAlgorithm,
    seeds: Sequence[int],
    batch_size: int,
    batch: Callable[..., Any],
    kinds: str,
    mode: Mode,
) -> tuple[Algorithm, TrainState]:
    algorithm = make(len(seeds))
    state = initial_state(algorithm, seeds)
    sampler = UniformSampler([table(seed, kinds) for seed in seeds], batch_size, batch)
    fit(algorithm, state, sampler, 5, 1e-3, mode=mode)
    return algorithm, state


def tensors(algorithm: Algorithm, state: TrainState, row: int) -> dict[str, torch.Tensor]:
    """Everything of a seed: its networks, moments and, online, the action that it takes."""
    found = dict(seed_checkpoint(state, row).tensors)
    if isinstance(algorithm, D3G):
        obs = torch.stack([table(seed, "o")[0][0] for seed in state.seeds]).unsqueeze(1)
        acting = obs.repeat(1, ROWS_TOGETHER, 1)
        with torch.no_grad():
            action = algorithm.policy_action(D3GParameters(**state.networks), acting)
        found["action"] = action[row, 0]
    return found


def main(chosen: Sequence[str]) -> None:
    torch.set_num_threads(1)
    print(json.dumps({"capability": torch.backends.cpu.get_cpu_capability()}))
    for name, make, *how in cases():
        if chosen and not any(text in name for text in chosen):
            continue
        alone = {
            seed: tensors(*train(make, [seed], *how), 0) for seed in sorted({*sum(STACKS, ())})
        }
        differ = []
        for stack in STACKS:
            together = train(make, stack, *how)
            for row, seed in enumerate(stack):
                found = tensors(*together, row)
                differ += [
                    [len(stack), seed, key]
                    for key, tensor in alone[seed].items()
                    if not torch.equal(tensor, found[key])
                ]
        print(json.dumps({"case": name, "differ": differ}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
