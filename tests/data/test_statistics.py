from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import minari
import numpy as np
import pytest

from qss_offline.data import (
    StoredDatasets,
    dataset_card,
    dataset_statistics,
    plan_arrays,
    verify_dataset,
    write_card,
)
from qss_offline.errors import UserError

from .conftest import loaded, make_transitions
from .test_verify import edit_metadata

pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.usefixtures("in_process"),
]


def test_statistics_and_picture(mine: tuple[str, str], tmp_path: Path) -> None:
    path = tmp_path / "look.png"
    numbers = dataset_statistics(mine[0], path)
    assert path.read_bytes().startswith(b"\x89PNG")
    transitions = loaded(mine[0])
    assert numbers.return_mean == pytest.approx(transitions.episode_returns().mean())
    assert numbers.return_interval is not None
    low, high = numbers.return_interval
    assert low < numbers.return_mean < high
    assert numbers.length_mean == 20.5 and numbers.terminated == 0.5
    assert 0.05 < numbers.coverage < 0.6
    assert numbers.stochasticity is not None and numbers.stochasticity > 0.3, (
        "next observations are noise"
    )
    with pytest.raises(UserError, match="exists"):
        dataset_statistics(mine[0], path)
    with pytest.raises(UserError, match=r"ends in \.png"):
        dataset_statistics(mine[0], tmp_path / "x.jpg")
    one = plan_arrays(**make_transitions([1], obs_dim=1).columns()).store("mine/one")
    numbers = dataset_statistics(one.obs_id, tmp_path / "one.png")
    assert numbers.episodes == 1 and numbers.stochasticity is None
    assert numbers.return_interval is None and numbers.length_interval is None


@pytest.mark.parametrize(
    ("returns", "spread"),
    [(0.0, 0.0), *itertools.product((-4.0, 1e-30, 5e7, 3e38), (0.0, 1e-7, 0.5))],
)
def test_returns_of_any_size_are_drawn(
    minari_root: Path, tmp_path: Path, returns: float, spread: float
) -> None:
    rows = 40
    growing = (1 + spread * np.arange(rows) / rows) / (1 + spread)
    rewards = (returns * growing).astype(np.float32)
    stored = plan_arrays(
        observations=np.random.default_rng(0).normal(size=(rows + 10, 2)),
        rewards=rewards,
        terminations=np.arange(rows) % 4 == 3,
    ).store("mine/big")
    numbers = dataset_statistics(stored.obs_id, tmp_path / "big.png")
    assert (tmp_path / "big.png").read_bytes().startswith(b"\x89PNG")
    assert np.isfinite([numbers.return_mean, numbers.return_min, numbers.return_max]).all()


def test_card(pair: StoredDatasets, minari_root: Path) -> None:
    text = dataset_card(pair.obs_id)
    front, _, rest = text.removeprefix("---\n").partition("\n---\n")
    assert "license: unknown" in front and "size_categories:\n- 1K<n<10K" in front
    assert "- observation-only" in front
    for words in (
        "## How it was made", "uniformly random actions", "with probability 1", "seed: 3",
        "95% interval", "versions: python", "mujoco", "## Licence", "## Citation",
        "minari.load_dataset", "load_transitions", "Box(-inf, inf, (0,), float32)",
        pair.obs_digest, "InvertedPendulum-v5", "isn't explained by the state they start from",
    ):  # fmt: skip
        assert words in rest, words
    path = Path(write_card(pair.obs_id, license="cc-by-4.0", citation="@misc{me}"))
    assert path == minari_root / pair.obs_id / "README.md"
    assert "license: cc-by-4.0" in path.read_text() and "@misc{me}" in path.read_text()
    assert verify_dataset(pair.obs_id).ok
    assert "license: cc-by-4.0" in dataset_card(pair.obs_id)
    assert minari.load_dataset(pair.obs_id).total_steps == 1500
    with pytest.raises(UserError, match="license: expected an identifier"):
        dataset_card(pair.obs_id, license="a: b\nevil: true")
    edit_metadata(minari_root, pair.obs_id, description="x\n---\nevil: <script> | y")
    assert "\nevil" not in dataset_card(pair.obs_id)
    act = dataset_card(pair.act_id)
    assert "observation-only convention" not in act


def test_the_cards_examples_run(pair: StoredDatasets) -> None:
    code = "\n".join(
        part.partition("```")[0] for part in dataset_card(pair.obs_id).split("```python")[1:]
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "(1500, 4) (1500, 4)" in done.stdout
