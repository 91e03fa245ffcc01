"""Lesson 12, LAVT: the whole model as boxes and arrows, its maps stage by stage, and leads on one axis."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xattn_edu.fonts import written
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots.referring import referent
from xattn_edu.plots.style import (
    CYCLE,
    GREY,
    KEY,
    OUTPUT,
    QUERY,
    STYLE,
    as_array,
    axes_or_new,
    headline,
    set_title,
    written_all,
)

STEP = 4.6  # from one stage to the next, in the diagram's own units
FEW = 12  # values up to this number are drawn one by one


def lavt_diagram(
    *,
    image: int = 64,
    patch: int = 2,
    widths: Sequence[int] = (16, 32, 64, 128),
    words: tuple[int, int] = (20, 64),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """LAVT with the shapes (row x column x channel) of one image on its arrows.

    Args:
        image: height and width of the image in pixels.
        patch: height and width of a patch in pixels.
        widths: channels of the stages, finest first, two stages or more.
        words: number of words and channels of a word.
        title: the finding.
        ax: the axes to draw on; new ones by default.

    Raises ValueError for fewer than two stages, or an image that the coarsest grid does not divide.
    """
    coarsest = patch * 2 ** (len(widths) - 1)
    if len(widths) < 2 or image % coarsest:
        raise ValueError(
            f"lavt_diagram needs two stages or more and an image whose side {coarsest} divides, given {len(widths)} "
            f"widths and a side of {image}"
        )
    ax = axes_or_new(ax, (13, 5.4))
    end = STEP * (len(widths) - 1)
    _box(ax, "image", -2.4, 1.5, "black", f"{image} x {image} x 3")
    _box(ax, "sentence", -2.4, 5, "black")
    _arrow(ax, (-1.7, 5), (-0.6, 5), "black")
    _arrow(ax, (0, 5), (end + 1.5, 5), KEY, head=False)
    _box(ax, "BERT", 0, 5, KEY)
    ax.text(2.4, 5.2, f"words $L$  {words[0]} x {words[1]}", fontsize=9.5, color=KEY, ha="center")
    _arrow(ax, (-1.9, 1.5), (-0.65, 1.5), "black")
    for number, width in enumerate(widths, start=1):
        side = image // (patch * 2 ** (number - 1))
        _stage(ax, number, f"{side} x {side} x {width}", last=number == len(widths))
    _arrow(ax, (1.5, -1.2), (0.8, -1.2), GREY)
    _arrow(ax, (-0.8, -1.2), (-1.9, -1.2), "black")
    _box(ax, "logits, resize", 0, -1.2, GREY)
    _box(ax, "mask", -2.4, -1.2, "black", f"{image} x {image}")
    ax.set(xlim=(-3.1, end + 3.5), ylim=(-2, 5.6))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _stage(ax: Axes, number: int, shape: str, last: bool) -> None:
    """One stage from left to right: Swin's blocks, PWAM above, the gate, the sum, and below the decoder's level."""
    x = STEP * (number - 1)
    _box(ax, f"{'merge, ' if number > 1 else ''}Swin {number}", x, 1.5, QUERY)
    _box(ax, "PWAM", x + 1.5, 3.4, GREY)
    _arrow(ax, (x + 1.5, 5), (x + 1.5, 3.75), KEY)
    _arrow(ax, (x + 1.5, 1.5), (x + 1.5, 3.05), QUERY)
    _arrow(ax, (x + 0.4, 1.5), (x + 1.5 if last else x + 2.82, 1.5), QUERY, head=not last)
    ax.text(x + 1.42, 2.3, f"$V_{number}$\n{shape}", fontsize=8.5, color=QUERY, ha="right", va="center")
    _arrow(ax, (x + 2.05, 3.4), (x + 2.05, -1.2 if last else -0.85), OUTPUT, head=not last)
    ax.text(x + 2.15, 0.55, f"$F_{number}$\n{shape}", fontsize=8.5, color=OUTPUT, va="center")
    _box(ax, "norm", x + 2.05, -0.25, GREY, size=8)
    if last:
        _arrow(ax, (x + 2.05, 3.4), (x + 1.95, 3.4), OUTPUT, head=False)
        _arrow(ax, (x + 2.05, -1.2), (x - STEP + 2.65, -1.2), GREY)
        return
    _box(ax, "up, join,\nconvolve", x + 2.05, -1.2, GREY, size=9)
    _arrow(ax, (x + 1.95, 3.4), (x + 2.48, 3.4), OUTPUT)
    _box(ax, r"gate $\odot$", x + 3, 3.4, OUTPUT)
    _arrow(ax, (x + 3, 3.05), (x + 3, 1.78), OUTPUT)
    ax.plot(x + 3, 1.5, "o", ms=15, mfc="white", mec="black", zorder=5)
    ax.text(x + 3, 1.5, "+", ha="center", va="center", fontsize=13, zorder=6)
    _arrow(ax, (x + 3.2, 1.5), (x + STEP - 0.9, 1.5), "black")
    ax.text(x + 3.2, 1.98, f"$E_{number}$\n{shape}", fontsize=8.5, va="center")
    if number > 1:  # the decoder goes from the coarsest stage back to the finest
        _arrow(ax, (x + 1.5, -1.2), (x - STEP + 2.65, -1.2), GREY)


def _box(ax: Axes, text: str, x: float, y: float, colour: str, below: str = "", size: float = 10) -> None:
    frame = {"boxstyle": "round,pad=0.4", "fc": colour, "ec": "none"}
    ax.text(x, y, text, ha="center", va="center", color="white", fontsize=size, bbox=frame, zorder=5)
    ax.text(x, y - 0.62, below, ha="center", fontsize=8.5)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, head: bool = True) -> None:
    """An arrow; a white rim parts it from what it crosses."""
    for line, shown in ((5, "white"), (1.6, colour)):
        style = {"arrowstyle": "-|>" if head and shown == colour else "-", "color": shown, "lw": line}
        ax.annotate("", end, start, arrowprops=style | {"shrinkA": 0, "shrinkB": 0})


def stage_maps(
    image: Any, mask: Any, sentence: str, stages: Mapping[str, Sequence[tuple[Any, Any]]], title: str = ""
) -> Figure:
    """A scene, and beside it a column for each stage with maps of lengths: bright is long.

    `stages` is {row: one (map, brightest) a stage}: what the row shows, and for each stage a map (row, column) with the
    number that is drawn brightest; a map of None leaves its place empty. Raises ValueError if rows differ in length.
    """
    counts = {len(maps) for maps in stages.values()}
    if len(counts) != 1:
        raise ValueError(f"each row needs as many maps as there are stages, given {sorted(counts)}")
    (columns,) = counts
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(stages), columns + 1, figsize=(2.2 * (columns + 1), 2.1 * len(stages) + 0.4))
    axes = np.array(axes, dtype=object).reshape(len(stages), columns + 1)
    for ax in axes.flat:
        ax.set_axis_off()
    referent(image, mask, sentence, ax=axes[0, 0])
    for row, (name, maps) in zip(axes, stages.items()):
        text, font = written(name)
        row[1].text(-0.08, 0.5, text, ha="right", va="center", transform=row[1].transAxes, rotation=90, **font)
        for number, (ax, (values, brightest)) in enumerate(zip(row[1:], maps), start=1):
            if values is not None:
                ax.imshow(as_array(values), cmap="viridis", vmin=0, vmax=float(brightest))
                ax.set_title(f"stage {number}", fontsize=9, loc="center", fontweight="normal")
    headline(figure, title)
    return figure


def leads(
    series: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    colours: Sequence[str] = CYCLE,
    xlabel: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Leads on one axis: for each row and series the mean of the differences and its 95 % interval.

    Args:
        series: {name: {row: differences}}. A row stands where it occurs first, from the top down; a series may lack
            rows. A single difference, such as a paper's, is a hollow diamond without an interval; a few are also dots.
        colours: of the series, in order.
        xlabel: what the differences are of, with the unit.
        title: the finding.
        ax: the axes to draw on; new ones by default.

    Raises ValueError for no series, more series than colours, and a row without finite differences.
    """
    if not 1 <= len(series) <= len(colours):
        raise ValueError(f"{len(series)} series for {len(colours)} colours: give one at least, and a colour each")
    rows = list(dict.fromkeys(row for values in series.values() for row in values))
    ax = axes_or_new(ax, (8, 0.3 * len(rows) * len(series) + 1))
    ax.axvline(0, color=GREY, lw=1)
    for number, ((name, values), colour) in enumerate(zip(series.items(), colours)):
        shift = 0.7 * ((number + 0.5) / len(series) - 0.5)
        label: str | None = written(name)[0]
        for row, differences in values.items():
            at, (mean, half) = rows.index(row) + shift, mean_interval(differences)
            if np.isfinite(half):
                ax.errorbar(mean, at, xerr=half, fmt="o", ms=6, color=colour, capsize=3, lw=1.6, label=label)
                few = list(differences) if len(list(differences)) <= FEW else []
                ax.plot(few, [at] * len(few), "o", ms=3, color=colour, alpha=0.5)
            else:
                ax.plot(mean, at, "D", ms=7, mfc="white", mec=colour, mew=1.6, label=label)
            label = None  # one entry a series in the legend
    names, font = written_all(rows)
    ax.set_yticks(range(len(rows)), names, **font)
    ax.set(ylim=(len(rows) - 0.5, -0.5), xlabel=xlabel)
    set_title(ax, title)
    return ax
