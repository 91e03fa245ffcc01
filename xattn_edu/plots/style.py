"""The course's one look: its colours, titles, and what every picture is checked for."""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy import ndarray

from xattn_edu.fonts import written

QUERY, KEY, VALUE, OUTPUT = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#6E6E6E"  # for everything that is none of the four above
CYCLE = ["#000000", ORANGE, SKY, OUTPUT, GREY]
WEIGHTS = "Blues"  # colour map of attention weights
STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "lines.linewidth": 2,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def use_style() -> None:
    """Give every plot made from now on the course's look."""
    plt.rcParams.update(STYLE)


def headline(figure: Figure, title: str) -> None:
    """One title over all axes of a figure, bold and at the left, like the titles of the axes."""
    text, font = written(title)
    figure.suptitle(text, x=0.01, ha="left", **({"fontweight": "bold"} | font))


def axes_or_new(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    with plt.rc_context(STYLE):
        return plt.subplots(figsize=size)[1]


def set_title(ax: Axes, title: str) -> None:
    text, font = written(title)
    with plt.rc_context(STYLE):  # a title takes its look when it is set, not when the axes are made
        ax.set_title(text, **font)


def caption(ax: Axes, text: str) -> None:
    """A small title in the middle, of one picture among several."""
    text, font = written(text)
    ax.set_title(text, fontsize=9, loc="center", **({"fontweight": "normal"} | font))


def written_all(labels: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Labels as they can be drawn, and the arguments with which matplotlib draws them, as `fonts.written`."""
    text, font = written("\x1f".join(map(str, labels)))  # a character that no label has
    return text.split("\x1f") if labels else [], font


def as_array(values: Any) -> ndarray:
    """A NumPy array from an array, a list, or a torch tensor on any device."""
    values = values.detach().cpu().float() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=float)


def as_image(image: Any) -> ndarray:
    """(height, width) or (height, width, 3) in 0..1; 8-bit images are divided by 255."""
    eight_bit = str(getattr(image, "dtype", "")).endswith("uint8")
    array = as_array(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(
            f"an image is (height, width) or (height, width, 3), given {array.shape}: write image[0] for one channel, "
            "image.permute(1, 2, 0) for three"
        )
    array = array / 255 if eight_bit else array
    if array.size and not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):
        raise ValueError(
            f"an image lies in 0..1 (or is uint8), given {array.min():.3g} to {array.max():.3g}: divide by 255, or "
            "undo the normalisation (pixels * DEVIATION + MEAN)"
        )
    return array
