"""A file with an environment of one's own, for tests of everything that takes one."""

from __future__ import annotations

from pathlib import Path

SOURCE = '''
import os
from pathlib import Path

import gymnasium
import numpy as np

with Path(__file__).with_name("loaded_by").open("a") as file:
    file.write(f"{os.getpid()}\\n")


class Cart(gymnasium.Env):
    """Pushed along a track; every step is worth its gain."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}
    action_space = gymnasium.spaces.Box(-1, 1, (1,))
    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def __init__(self, gain=1, model=None, render_mode=None):
        self.gain, self.render_mode = gain, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2)
        return self.state.astype(np.float32), {}

    def step(self, action):
        self.state[1] += 0.1 * action[0]
        self.state[0] += 0.1 * self.state[1]
        return self.state.astype(np.float32), float(self.gain), False, False, {}

    def render(self):
        picture = np.full((40, 40, 3), 255, np.uint8)
        picture[:, int(np.clip(20 + 5 * self.state[0], 0, 39))] = 0
        return picture


class Blind(Cart):
    """Has no picture."""

    metadata = {"render_modes": []}

    def __init__(self, gain=1):
        super().__init__(gain)


def make_cart(gain=1):
    return Cart(gain)
'''


def write_own(folder: Path, name: str = "own.py") -> Path:
    """Write the file, and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(SOURCE)
    return path


def loaded_by(path: Path) -> list[str]:
    """Return the processes that have loaded the file, once for each time."""
    told = path.with_name("loaded_by")
    return told.read_text().split() if told.exists() else []
