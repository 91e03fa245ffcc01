"""Numbers of runs, with their seeds."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from xattn_edu.fonts import written
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots.style import CYCLE, SKY, as_array, axes_or_new, set_title, written_all


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


def seed_bars(
    runs: Mapping[str, Any],
    *,
    colours: Sequence[str] | None = None,
    xlabel: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores {name: one a seed} as bars from the top down: their mean, its 95 % interval, and a dot for each seed.

    A single run has no interval. `colours` are the bars', in order. Raises ValueError when there is no name, a name
    without runs, a score that is not finite, or when there are not as many colours as names.
    """
    colours = [SKY] * len(runs) if colours is None else colours
    if not runs or len(colours) != len(runs):
        raise ValueError(f"{len(runs)} names, {len(colours)} colours: give one name at least, and a colour each")
    ax = axes_or_new(ax, (5.2, 0.45 * len(runs) + 1))
    for row, ((name, given), colour) in enumerate(zip(runs.items(), colours)):
        scores = as_array(given)
        if scores.ndim != 1:
            raise ValueError(f"{name!r}: scores of shape {scores.shape}, give a list of them, one a seed")
        mean, half = mean_interval(scores)
        ax.barh(row, mean, height=0.65, color=colour)
        if np.isfinite(half):
            ax.errorbar(mean, row, xerr=half, color="black", capsize=3, lw=1.2)
        ax.plot(scores, [row] * len(scores), "o", color="black", ms=3)
    names, font = written_all(list(runs))
    ax.set_yticks(range(len(runs)), names, **font)
    ax.set(ylim=(len(runs) - 0.5, -0.5), xlabel=xlabel)
    set_title(ax, title)
    return ax
