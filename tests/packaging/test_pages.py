"""Every command in the blocks of the pages that newcomers follow runs, with small budgets."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

import qss_offline as qss
from tests.packaging.test_stories import shell as shell
from tests.test_docs import CODE, commands_of

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/index.md", "docs/training.md", "docs/online.md", "docs/seeing.md")

RECIPE = "python -m recipes."

HOURS = ("reproduce", "--preset paper", "--steps 100000")
"""What takes hours, in words of its command."""

SMALL = {
    "demo": "--updates 60 --online-steps 60",
    "train": "--updates 60 --episodes 1",
    "train-online": "--warm-up 20 --evaluate-every 30 --episodes 1 --set model_updates=5",
    "render": "--steps 5 --episodes 2",
    "report": "--no-video",
}
"""Options that make a command one of seconds."""

ENVIRONMENT = """
import gymnasium as gym
import numpy as np


class Cart(gym.Env):
    observation_space = gym.spaces.Box(-np.inf, np.inf, (2,))
    action_space = gym.spaces.Box(-1.0, 1.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.uniform(-1.0, 1.0, 2), 0
        return self.state.astype(np.float32), {}

    def step(self, action):
        place, speed = self.state
        self.state, self.steps = np.array([place + 0.1 * speed, speed + action[0]]), self.steps + 1
        return self.state.astype(np.float32), -abs(place), False, self.steps == 20, {}


Arm = Cart
"""


def small(command: str) -> str | None:
    """Return a command with a small budget, None where it takes hours whatever its options."""
    if any(words in command for words in HOURS):
        return None
    command = re.sub(r"--steps \d+", "--steps 60", command)
    name = "train" if command.startswith(RECIPE) else shlex.split(command)[1]
    options = SMALL.get(name, "")
    if name == "train" and "--offline-only" not in command:
        options += " --online-steps 60 --set updates_per_round=20 --set known_updates=20"
    if name == "train-online" and "--steps" not in command:
        options += " --steps 60"
    if command.startswith(RECIPE):
        options += " --transitions 300"
    return f"{command} {options}"


@pytest.fixture
def desk(shell: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with everything that the pages speak of."""
    monkeypatch.chdir(shell)
    for name in ("cart_env.py", "my_env.py"):
        (shell / name).write_text(ENVIRONMENT)
    rows = ["episode,obs_0,obs_1,next_obs_0,next_obs_1,reward,terminated"]
    for row in range(200):
        x = (0.01 * row, 0.5 - 0.002 * row)
        end = int(row % 20 == 19)
        rows.append(f"{row // 20},{x[0]},{x[1]},{x[0] + 0.01},{x[1] - 0.002},{-abs(x[0])},{end}")
    (shell / "log.csv").write_text("\n".join(rows) + "\n")
    return shell


def run(command: str, desk: Path) -> None:
    done = subprocess.run(command, shell=True, cwd=desk, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def record(desk: Path) -> None:
    """Make the recordings and runs that a page takes to be there."""
    for seed, name in enumerate(("my/log", "my/other")):
        made = qss.Recording.from_env("InvertedPendulum", steps=300, seed=seed, progress=False)
        run(f"qss data import {made.with_actions().dataset_id} --into {name}", desk)
    run(f"{small('qss train my/log-obs-v0 --method d3g')} --out runs/my-earlier-run", desk)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(desk: Path, page: str) -> None:
    blocks = "\n".join(CODE.findall((ROOT / page).read_text()))
    if "--into my/log" not in blocks:
        record(desk)
    commands = [one for one in map(small, commands_of(blocks, ("qss ", RECIPE))) if one is not None]
    assert commands
    for command in commands:
        if command.startswith("qss resume"):
            # As if the newest run had been stopped before its end.
            newest = max(
                (desk / "runs").glob("*/results.json"), key=lambda one: one.stat().st_mtime
            )
            newest.unlink()
        run(command, desk)
