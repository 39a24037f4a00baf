"""What Figure 6 shows of an online run in the gridworld, measured and drawn.

For each seed: the values Q(s, τ(s)) of all states at the end, the distance of τ(⟨0, 0⟩) from its
nearest neighbour over training, and the trajectory that τ imagines from ⟨0, 0⟩.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from qss_offline.algorithms.networks import MLPShape
from qss_offline.algorithms.qss import transition_value
from qss_offline.engine.checkpoint import load_checkpoint, network_of
from qss_offline.evaluation.policies import Policy, load_policy
from qss_offline.online.gridworld import neighbour_distance
from qss_offline.runs.folder import SeedFolder
from qss_offline.tabular.intervals import interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIZE = 11
IMAGINED_STEPS = 30
_ARRIVED = 0.5
_LOST = 100.0 * SIZE
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")
_TITLES = {"d3g": "D3G", "d3g-no-cycle": "D3G⁻"}


def measure_seed(folder: SeedFolder, gamma: float) -> dict[str, Any]:
    """Return what Figure 6 shows of one seed, in plain JSON types.

    Args:
        folder: of a seed that was trained with its policies kept.
        gamma: discount γ, for the values that are right.

    Returns:
        `values`, 11 rows of 11, null at the goal, where no step begins; `value_error`, their mean
        difference from the optimal values; `distance`, pairs of environment step and distance;
        `trajectory`, imagined states ⟨row, column⟩.
    """
    policy = _load(folder.policy)
    values = state_values(folder, policy)
    error = values - optimal_values(gamma)
    return {
        "values": [[None if np.isnan(v) else float(v) for v in row] for row in values],
        "value_error": float(np.nanmean(error)),
        "distance": [
            [int(path.stem), _distance(_load(path))]
            for path in sorted((folder.path / "policies").glob("*.safetensors"))
        ],
        "trajectory": imagine(policy).tolist(),
    }


def state_values(folder: SeedFolder, policy: Policy) -> NDArray[np.float64]:
    """Q_1(s, s + τ(s)) of every state after the last update, `(11, 11)`; NaN at the goal."""
    states = np.stack(np.divmod(np.arange(SIZE * SIZE), SIZE), axis=1).astype(np.float32)
    shape = MLPShape((4, *policy.proposal.shape.dims[1:-1], 1), members=2)
    critic = network_of(load_checkpoint(folder.training), "critic", shape)
    obs, proposed = (
        policy.scale.apply(torch.from_numpy(array)).unsqueeze(0)
        for array in (states, policy.propose(states))
    )
    with torch.no_grad():
        q = transition_value(critic.members[0], obs, proposed)[0].numpy()
    values = q.astype(np.float64).reshape(SIZE, SIZE)
    values[-1, -1] = np.nan
    return values


def optimal_values(gamma: float) -> NDArray[np.float64]:
    """Discounted sums of −1 a step along shortest paths, `(11, 11)`; NaN at the goal."""
    row, column = np.divmod(np.arange(SIZE * SIZE), SIZE)
    steps = 2 * (SIZE - 1) - row - column
    values = -(1 - gamma**steps) / (1 - gamma)
    values[-1] = np.nan
    return np.asarray(values.reshape(SIZE, SIZE), np.float64)


def _load(path: Path) -> Policy:
    policy, _ = load_policy(path)
    assert isinstance(policy, Policy)
    return policy


def _distance(policy: Policy) -> float:
    origin = np.zeros(2, np.float32)
    return neighbour_distance(policy.propose(origin[None])[0], origin, SIZE)


def imagine(policy: Policy) -> NDArray[np.float32]:
    """s, s + τ(s), … from ⟨0, 0⟩ until the goal is near or the grid far, `(states, 2)`."""
    states = [np.zeros(2, np.float32)]
    for _ in range(IMAGINED_STEPS):
        states.append(policy.propose(states[-1][None])[0])
        # Without a cycle, proposals may grow beyond what a number can hold.
        if np.abs(states[-1]).max() > _LOST or np.abs(states[-1] - (SIZE - 1)).max() < _ARRIVED:
            break
    return np.stack(states)


def png(rows: Mapping[str, Sequence[Mapping[str, Any]]], gamma: float) -> bytes:
    """Draw a row of three panels for each algorithm.

    Args:
        rows: what `measure_seed` returned for each seed, by algorithm.
        gamma: discount γ.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"font.size": 10, "axes.titlesize": 11, "legend.frameon": False}):
        figure = Figure(figsize=(12.5, 4.1 * len(rows)), layout="constrained")
        axes = figure.subplots(len(rows), 3, squeeze=False)
        for panels, (algorithm, seeds) in zip(axes, rows.items(), strict=True):
            name = _TITLES.get(algorithm, algorithm)
            _draw_values(figure, panels[0], seeds, name, gamma)
            _draw_distance(panels[1], seeds, name)
            _draw_trajectories(panels[2], seeds, name)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=110)
    return content.getvalue()


def _draw_values(
    figure: Figure, panel: Axes, seeds: Sequence[Mapping[str, Any]], name: str, gamma: float
) -> None:
    values = np.mean([np.array(seed["values"], np.float64) for seed in seeds], axis=0)
    image = panel.imshow(values, cmap="cividis")
    figure.colorbar(image, ax=panel, label="mean over seeds", shrink=0.85)
    best = optimal_values(gamma)
    panel.set_title(
        f"{name}: Q(s, τ(s)); optimal {np.nanmin(best):.1f} to {np.nanmax(best):.1f}", loc="left"
    )
    panel.set_xlabel("column")
    panel.set_ylabel("row")
    panel.set_xticks(range(0, SIZE, 2))
    panel.set_yticks(range(0, SIZE, 2))
    panel.text(0, 0, "S", color="white", ha="center", va="center", weight="bold")
    panel.text(SIZE - 1, SIZE - 1, "G", ha="center", va="center", weight="bold")


def _draw_distance(panel: Axes, seeds: Sequence[Mapping[str, Any]], name: str) -> None:
    steps = np.array([step for step, _ in seeds[0]["distance"]])
    samples = np.array([[distance for _, distance in seed["distance"]] for seed in seeds]).T
    for line, colour in zip(samples.T, _COLOURS * len(seeds), strict=False):
        panel.plot(steps, line, color=colour, linewidth=0.8, alpha=0.6)
    if len(seeds) > 1:
        means = interval(samples)
        panel.fill_between(
            steps, np.maximum(means.low, 0.0), means.high, color="black", alpha=0.12, linewidth=0
        )
        panel.plot(steps, means.mean, color="black", label="mean, 95% interval")
        panel.legend(loc="upper right")
    panel.axhline(1.0, color="#888888", linestyle="--", linewidth=1)
    panel.set_yscale("symlog", linthresh=1.0)
    panel.set_ylim(bottom=0)
    panel.set_title(f"{name}: τ(⟨0, 0⟩) to its nearest neighbour", loc="left")
    panel.set_xlabel("environment steps")
    panel.set_ylabel("Manhattan distance")


def _draw_trajectories(panel: Axes, seeds: Sequence[Mapping[str, Any]], name: str) -> None:
    panel.add_patch(
        _rectangle((-0.5, -0.5), SIZE, SIZE, facecolor="#f2f2f2", edgecolor="black", zorder=0)
    )
    for number, (seed, colour) in enumerate(zip(seeds, _COLOURS * len(seeds), strict=False)):
        # Lines of several seeds that lie on each other stay visible.
        shift = 0.08 * (number - (len(seeds) - 1) / 2)
        path = np.array(seed["trajectory"])
        panel.plot(path[:, 1] + shift, path[:, 0] + shift, ".-", color=colour, linewidth=1)
    panel.text(0, -1.1, "S", ha="center", va="center", weight="bold")
    panel.text(SIZE - 1, SIZE, "G", ha="center", va="center", weight="bold")
    low, high = -SIZE / 2, 2 * SIZE
    panel.set_xlim(low, high)
    panel.set_ylim(high, low)
    panel.set_aspect("equal")
    panel.set_title(f"{name}: trajectories that τ imagines", loc="left")
    panel.set_xlabel("column")
    panel.set_ylabel("row")


def _rectangle(corner: tuple[float, float], width: float, height: float, **style: Any) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(corner, width, height, **style)
