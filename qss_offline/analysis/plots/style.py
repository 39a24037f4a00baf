"""How every figure of runs looks: colours, dashes, and saving as PNG and SVG.

Okabe and Ito's colours stay apart for colour-blind readers, and every line has its own dashes. The
background is white, so that a picture can be read on a dark page too. Matplotlib is imported when a
figure is drawn, not before.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from numpy.typing import NDArray

from qss_offline.statistics import ENOUGH, mean_band

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

Given = ParamSpec("Given")
Drawn = TypeVar("Drawn")

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
BLUE, ORANGE, GREEN, PURPLE, SKY, YELLOW, BLACK = COLOURS
GREY = "#767676"
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
PANEL_SIZE = (4.6, 3.3)
"""Inches of a figure of one panel, to be read on a phone."""
WIDE_DPI = 110
"""Of figures of several panels."""

_STYLE: dict[Any, Any] = {
    "figure.figsize": PANEL_SIZE,
    "figure.facecolor": "white",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",
    "svg.hashsalt": "qss-offline",
}


def band(
    axis: Axes,
    x: Any,
    samples: NDArray[Any],
    label: str,
    colour: str,
    dashes: Any = "-",
    scale: Callable[[NDArray[Any]], NDArray[Any]] = lambda values: values,
    each: bool = False,
) -> None:
    """Draw means over seeds in their 95% intervals; of seeds too few for one, each as a thin line.

    Args:
        axis: of a panel.
        x: `(points,)`.
        samples: `(points, seeds)`.
        label: of the line.
        colour: of it.
        dashes: of it.
        scale: of what is drawn, where `samples` are of another.
        each: draw thin lines however many seeds there are.
    """
    means, count = mean_band(samples), samples.shape[-1]
    point = "o" if len(samples) == 1 else None  # which no line shows
    if each or count < ENOUGH:
        axis.plot(
            x, scale(samples), color=colour, linewidth=0.6, alpha=0.45, marker=point, markersize=2
        )
    axis.fill_between(x, scale(means.low), scale(means.high), color=colour, alpha=0.18, linewidth=0)
    axis.plot(
        x, scale(means.mean), color=colour, ls=dashes, label=label, marker=point, markersize=4
    )


def thousands(axis: Axis) -> None:
    """Write an axis' steps as 20k, and fewer than a thousand as they are."""
    axis.set_major_formatter(
        lambda value, _: f"{value / 1000:g}k" if abs(value) >= 1000 else f"{value:g}"
    )


def styled(draw: Callable[Given, Drawn]) -> Callable[Given, Drawn]:
    """Draw under this module's style, whatever the user's own is."""
    from functools import wraps

    @wraps(draw)
    def drawn(*arguments: Given.args, **options: Given.kwargs) -> Drawn:
        import matplotlib as mpl

        with mpl.rc_context({**mpl.rcParamsDefault, **_STYLE, "backend": mpl.get_backend()}):
            return draw(*arguments, **options)

    return drawn


@styled
def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return a figure as a PNG file."""
    _without_formulas(figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    return content.getvalue()


@styled
def to_svg(figure: Figure) -> bytes:
    """Return a figure as an SVG file, with text as text and no date."""
    _without_formulas(figure)
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _without_formulas(figure: Figure) -> None:
    """Show names with dollar signs as they are: what files say is no TeX, which may be wrong."""
    from matplotlib.text import Text

    axes = [axis for panel in figure.axes for axis in (panel.xaxis, panel.yaxis)]
    # The labels of other scales are formulas, of powers of ten.
    powers = {text for one in axes if one.get_scale() != "linear" for text in one.findobj(Text)}
    for text in set(figure.findobj(Text)) - powers:
        text.set_parse_math(False)
