"""Numbers of runs, with their seeds."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from xattn_edu.fonts import written
from xattn_edu.plots.style import CYCLE, as_array, axes_or_new, set_title


def learning_curves(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str = "epoch",
    ylabel: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Curves {name: (x, y)} in one plot, each with its name at its right end.

    Raises ValueError when there is no curve, or one whose x and y differ in length.
    """
    if not curves:
        raise ValueError("learning_curves needs at least one curve, given none")
    ax = axes_or_new(ax, (5.2, 3.2))
    ends = []
    for number, (name, (x, y)) in enumerate(curves.items()):
        x, y = as_array(x), as_array(y)
        if x.shape != y.shape or x.ndim != 1 or not len(x):
            raise ValueError(
                f"curve {name!r}: x {x.shape} and y {y.shape} must be as long as each other, and not empty"
            )
        color = CYCLE[number % len(CYCLE)]
        ax.plot(x, y, color=color, marker="o" if len(x) == 1 else None)
        ends.append((float(x[-1]), float(y[-1]), name, color))
    low, high = ax.get_ylim()
    last = -np.inf
    for x_end, y_end, name, color in sorted(ends, key=lambda end: end[1]):
        last = max(y_end, last + 0.07 * (high - low))  # names of curves that end together stand one above the other
        at = (x_end, last)
        text, font = written(name)
        look: dict[str, Any] = {"color": color, "va": "center", "annotation_clip": False} | font
        ax.annotate(text, at, xytext=(6, 0), textcoords="offset points", **look)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    set_title(ax, title)
    return ax
