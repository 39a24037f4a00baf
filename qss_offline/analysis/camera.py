"""Pictures that an environment takes of itself while a policy acts: `render_mode="rgb_array"`.

For environments whose state can't be set from an observation.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from qss_offline.errors import one_line

Frames = NDArray[np.uint8]

FILM_HEIGHT, FILM_WIDTH = 384, 512
_MARGIN = 255


class Camera:
    """Takes a picture of an environment whenever it is told to.

    Attributes:
        frames: `(384, 512, 3)` each, so far.
        why_not: why there are no more; None while all goes well.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        self._env = env
        self.frames: list[Frames] = []
        self.why_not: str | None = None

    def shoot(self) -> None:
        """Take a picture; what can't be taken says why, and ends the film."""
        if self.why_not is not None:
            return
        try:
            picture = self._env.render()
        except Exception as error:
            # An environment's own drawing may raise anything, a missing package first of all.
            self.why_not = f"it can't be drawn: {one_line(error)}"
            return
        array = np.asarray(picture) if picture is not None else np.zeros(0)
        if array.ndim != 3 or array.shape[2] < 3 or not array.size:
            got = "nothing" if picture is None else f"an array of shape {array.shape}"
            self.why_not = f"its render() returns {got}, not pictures of shape (height, width, 3)"
            return
        self.frames.append(framed(array[:, :, :3]))

    def film(self, count: int) -> Frames:
        """Return so many frames, the last one held to the end."""
        frames = self.frames + [self.frames[-1]] * (count - len(self.frames))
        return np.stack(frames)


def framed(picture: NDArray[Any]) -> Frames:
    """Fit a picture `(h, w, 3)` into a frame, with margins where its shape is another."""
    from PIL import Image

    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    scale = min(FILM_HEIGHT / image.height, FILM_WIDTH / image.width)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    page = Image.new("RGB", (FILM_WIDTH, FILM_HEIGHT), (_MARGIN, _MARGIN, _MARGIN))
    left, top = (FILM_WIDTH - size[0]) // 2, (FILM_HEIGHT - size[1]) // 2
    page.paste(image.resize(size, Image.Resampling.LANCZOS), (left, top))
    return np.asarray(page)
