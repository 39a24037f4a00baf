"""What the parts of a page are written into, and the words that they share."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from qss_offline.analysis.plots import style
from qss_offline.analysis.report import page
from qss_offline.errors import UserError
from qss_offline.files import read_regular_file, write_bytes
from qss_offline.parallel.reporting import Notice
from qss_offline.statistics import ENOUGH, counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure


_MAX_PICTURE_BYTES = 64 << 20


@dataclass
class Book:
    """Writes figures beside the page, and keeps what goes into it.

    Attributes:
        folder: of the page and the figures.
        notice: called with a line for whatever is left out.
        parts: of the page, as HTML.
    """

    folder: Path
    notice: Notice
    parts: list[str] = field(default_factory=list)

    def figure(self, name: str, figure: Figure, alt: str, caption: str) -> str:
        """Write a figure as PNG and SVG, and return it for the page."""
        content = style.to_png(figure)
        # It is laid out by now; doing that again would take as long as drawing.
        figure.set_layout_engine("none")
        # Names of runs and environments may hold what no file's name may.
        stem = re.sub(r"[^\w.()-]+", "-", name)
        for suffix, written in ((".png", content), (".svg", style.to_svg(figure))):
            write_bytes(self.folder / f"{stem}{suffix}", written)
        return page.picture(content, alt, caption)

    def seen(
        self,
        folder: Path,
        film: str,
        captions: tuple[str, str, str],
        beside: Sequence[str] = (),
    ) -> None:
        """Write what was drawn of a run: a video, a sheet of it, and dimensions; what is there.

        Args:
            folder: of the pictures, which anybody may have made.
            film: name of the video and the sheet.
            captions: what the video shows, its caption, and what stands in the dimensions' plot.
            beside: figures beside that of the dimensions.

        Raises:
            UserError: a picture is no regular file of this folder, or too large.
        """
        what, caption, moves = captions
        if (folder / f"{film}.mp4").exists():
            mp4 = _picture(folder / f"{film}.mp4")
            self.parts.append(page.video(mp4, f"Video of {what}.", caption))
        if (folder / f"{film}.png").exists():
            alt = f"Contact sheet, every fifth step: {what}."
            sheet = _picture(folder / f"{film}.png")
            self.parts.append(page.wide_picture(sheet, alt, "Every fifth step."))
        drawn = list(beside)
        if (folder / "dimensions.png").exists():
            alt = f"Line chart of each dimension of the observation over the steps, {moves}."
            plot = _picture(folder / "dimensions.png")
            drawn.append(page.picture(plot, alt, f"Dimensions of the observation, {moves}."))
        if drawn:
            self.parts.append(page.figures(drawn))

    def attempt(self, whose: str, what: str, do: Callable[[], None]) -> None:
        """Leave a part out, and say so, rather than give up the page."""
        try:
            do()
        except UserError as error:
            self.notice(f"{whose}: no {what}: {error}")
            self.parts.append(page.paragraph(f"No {what}: {error}.", "quiet"))


def _picture(path: Path) -> bytes:
    # The page is handed on: a link might put any file of the user's into it.
    return read_regular_file(path, _MAX_PICTURE_BYTES, links=False)


def spread_note(seeds: int) -> str:
    """Return what lines and bands of a figure are, by the number of seeds."""
    if seeds == 1:
        return "One seed."
    if seeds < ENOUGH:
        return f"The mean of {counted(seeds, 'seed')}; thin lines are seeds."
    return "The mean with its 95% bootstrap interval over seeds; thin lines are seeds."


def scores_note() -> str:
    """Return how tables show a group of scores."""
    return (
        f"the mean with every seed's score in parentheses, or from {ENOUGH} seeds on with its 95% "
        "bootstrap interval in brackets"
    )
