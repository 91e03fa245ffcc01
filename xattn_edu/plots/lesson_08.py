"""Lesson 8, four fusions: what moves when a patch changes, accuracies by fusion and seed, and where a query looks."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots.lesson_07 import BRANCHES
from xattn_edu.plots.style import GREY, OUTPUT, QUERY, STYLE, WEIGHTS, as_array, as_image, caption, headline

OURS, PAPER = "black", GREY  # a dot with an interval; a hollow diamond


def moved_tokens(moved: Mapping[str, Any], grid: tuple[int, int], *, title: str = "") -> Figure:
    """How far each token of L moves, {fusion: (1 + patches,)}: the class token as a disc, patches as a grid.

    Each panel is scaled to its own largest move; white did not move at all. Raises ValueError for another number of
    tokens than 1 + rows x columns.
    """
    rows, columns = grid
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(moved), figsize=(2.5 * len(moved), 2.0), squeeze=False)
    for ax, (name, given) in zip(axes[0], moved.items()):
        change = as_array(given)
        if len(change) != 1 + rows * columns:
            raise ValueError(
                f"{name!r} has {len(change)} tokens: a class token and {rows} x {columns} patches are more"
            )
        shade = plt.get_cmap(WEIGHTS)(change / max(change.max(), 1e-9))
        ax.plot(0, rows / 2, "o", ms=20, mfc=shade[0], mec="black")
        for patch in range(rows * columns):
            place = (1 + patch % columns, rows - 1 - patch // columns)
            ax.add_patch(Rectangle(place, 0.94, 0.94, fc=shade[1 + patch], ec="black", lw=0.8))
        ax.set(xlim=(-0.6, columns + 1.1), ylim=(-0.2, rows + 0.2), aspect="equal")
        ax.set_axis_off()
        ax.add_patch(Rectangle((-0.55, -0.15), columns + 1.6, rows + 0.3, fill=False, ec="#CCCCCC"))
        caption(ax, f"{name}: {np.count_nonzero(change > 1e-6)} of {len(change)}")
        ax.title.set_fontsize(10.5)
    headline(figure, title)
    return figure


def accuracies_by_fusion(
    panels: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    chance: Mapping[str, float] | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    title: str = "",
) -> Figure:
    """Accuracy in %, {panel: {fusion: one a seed}}: the seeds as ticks, their mean and its 95 % interval above them.

    Args:
        panels: a fusion with a single number, such as a paper's, is a hollow grey diamond.
        chance: of a panel, a dotted line.
        limits: of a panel's axis; by default matplotlib's.
        title: the finding.

    Raises ValueError when panels have other fusions than the first.
    """
    fusions = _same_names(panels)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.0), sharey=True, squeeze=False)
    for ax, (panel, values) in zip(axes[0], panels.items()):
        for y, name in enumerate(fusions):
            found = list(values[name])
            if len(found) == 1:
                ax.plot(found, [y], "D", mfc="white", mec=PAPER, mew=1.6, ms=7)
                continue
            mean = mean_interval(found)
            ax.errorbar(mean.mean, y - 0.1, xerr=mean.half, fmt="o", color=OURS, capsize=3)
            ax.plot(found, [y + 0.22] * len(found), "|", color=OURS, ms=7)
        _finish(ax, panel, chance, limits)
    axes[0, 0].set_yticks(range(len(fusions)), [name.replace("_", " ") for name in fusions])
    axes[0, 0].set_ylim(len(fusions) - 0.4, -0.6)
    headline(figure, title)
    return figure


def heads_alone(
    panels: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
    *,
    chance: Mapping[str, float] | None = None,
    title: str = "",
) -> Figure:
    """What each branch's classifier knows alone, {panel: {fusion: {"S" and "L": accuracies in %}}}, on one scale.

    A grey line joins the two; a 95 % interval is drawn where there are seeds. Raises ValueError when panels have other
    fusions than the first.
    """
    fusions = _same_names(panels)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(3.3 * len(panels), 3.2), sharey=True, squeeze=False)
    for ax, (panel, values) in zip(axes[0], panels.items()):
        for y, name in enumerate(fusions):
            means = {branch: mean_interval(values[name][branch]) for branch in "SL"}
            ax.plot([m.mean for m in means.values()], [y, y], color="#CCCCCC", lw=4, zorder=0, solid_capstyle="butt")
            for (branch, mean), shift in zip(means.items(), (-0.12, 0.12)):
                half = mean.half if np.isfinite(mean.half) else 0.0
                label = f"{branch}'s classifier alone" if y == 0 else None
                ax.errorbar(mean.mean, y + shift, xerr=half, fmt="o", color=BRANCHES[branch], ms=7, label=label)
        _finish(ax, panel, chance, dict.fromkeys(panels, (-4, 104)))
    axes[0, 0].set_yticks(range(len(fusions)), [name.replace("_", " ") for name in fusions])
    axes[0, 0].set_ylim(len(fusions) - 0.4, -0.6)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    headline(figure, title)
    return figure


def _same_names(panels: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names = list(next(iter(panels.values()), {}))
    if not names or any(list(values) != names for values in panels.values()):
        raise ValueError("every panel needs the fusions of the first one, one at least")
    return names


def _finish(ax: Axes, panel: str, chance: Any, limits: Any) -> None:
    if chance and panel in chance:
        ax.axvline(chance[panel], color=GREY, lw=1, ls=":")
    if limits and panel in limits:
        ax.set_xlim(limits[panel])
    ax.grid(axis="y", alpha=0.25)
    ax.set(xlabel="accuracy (%)")
    caption(ax, panel)
    ax.title.set_fontsize(11)


def added_cost(macs: Mapping[str, float], top1: Mapping[str, float], *, title: str = "") -> Figure:
    """What each fusion adds to the MACs of the model without one, as bars, and what the paper's top-1 gained beside.

    Both are {row: number}, with the row "None" to compare with.
    """
    names = [name for name in macs if name != "None"]
    more = [100 * (macs[name] / macs["None"] - 1) for name in names]
    gains = [top1[name] - top1["None"] for name in names]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 2.5), sharey=True)
    left.barh(names, more, color="#BBBBBB")
    for y, percent in enumerate(more):
        left.text(percent + 0.5, y, f"+{percent:.1f} %", va="center")
    right.axvline(0, color=GREY, lw=1)
    right.plot(gains, names, "D", mfc="white", mec=PAPER, mew=1.6, ms=7)
    for y, gain in enumerate(gains):
        right.text(gain + 0.05, y, f"{gain:+.1f}", va="center")
    left.set(xlabel="MACs added to the two branches (%), counted", xlim=(0, 1.2 * max(more)))
    right.set(xlabel="top-1 gained over no fusion (points), printed", xlim=(-0.5, 1.1))
    left.invert_yaxis()
    headline(figure, title)
    return figure


def looks_at_sheet(sheets: Any, cells: Any, rows: Mapping[str, Any], *, title: str = "") -> Figure:
    """Sheets of letters with the weights of one query as dots on them, {model: (sheet, row, column)}.

    A dot's area is its cell's weight; the ring marks the right cell. All dots have one scale.

    Args:
        sheets: (sheet, height, width) grey pictures.
        cells: the right cell of each sheet, row by row.
        rows: one row of pictures for each model.
        title: the finding.
    """
    with plt.rc_context(STYLE):
        size = (2.3 * len(sheets) + 0.4, 2.3 * len(rows) + 0.5)
        figure, axes = plt.subplots(len(rows), len(sheets), figsize=size, squeeze=False)
    for line, (name, maps) in zip(axes, rows.items()):
        for ax, sheet, cell, weights in zip(line, sheets, cells, maps):
            image, grid = as_image(sheet), as_array(weights)
            side = image.shape[0] / len(grid)
            middles = side * (np.arange(len(grid)) + 0.5) - 0.5
            x, y = np.meshgrid(middles, middles)
            ax.imshow(image, cmap="gray", vmin=0, vmax=2)  # darkened, so that dots show
            ax.scatter(x, y, s=900 * grid, color=QUERY, alpha=0.85)
            row, column = divmod(int(cell), len(grid))
            ax.plot(middles[column], middles[row], "o", ms=31, mfc="none", mec="white", mew=1.8)
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(name)
    headline(figure, title)
    return figure


def learning_with_a_hint(losses: Mapping[str, Any], until: int, *, title: str = "") -> Figure:
    """The loss against steps, {model: losses}, each smoothed over 25 steps; the hint ends at step `until`."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(7.5, 3.2))
    for (name, values), color in zip(losses.items(), (OUTPUT, "black", GREY, QUERY)):
        smooth = np.convolve(as_array(values), np.ones(25) / 25, mode="valid")
        ax.plot(np.arange(len(smooth)) + 25, smooth, color=color, label=name)
    ax.axvline(until, color=GREY, lw=1, ls="--")
    ax.text(until, ax.get_ylim()[1], " the hint ends", va="top", fontsize=10, color=GREY)
    ax.set(xlabel="step", ylabel="loss of the answer")
    ax.legend()
    headline(figure, title)
    return figure
