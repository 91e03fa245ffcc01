"""Pictures of lesson 5: cuts, ViT beside the encoder of lesson 3, its block, maps of positions, filters, distances."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.patheffects import withStroke

from xattn_edu.plots.style import (
    GREY,
    KEY,
    ORANGE,
    OUTPUT,
    QUERY,
    SKY,
    STYLE,
    WEIGHTS,
    as_array,
    as_image,
    axes_or_new,
    caption,
    headline,
    set_title,
)

PALE, DARKER = "#EFEFEF", "#BDBDBD"


def patch_cuts(image: Any, patches: Sequence[int], *, title: str = "") -> Figure:
    """The same image whole, and beside it cut into patches of each size: white lines are the cuts, numbers the order.

    Raises ValueError for a patch that does not divide the image.
    """
    array = as_image(image)
    height, width = array.shape[:2]
    for patch in patches:
        if patch < 1 or height % patch or width % patch:
            raise ValueError(f"the patch size must divide height and width: image {height}x{width}, patch {patch}")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(patches) + 1, figsize=(3 * (len(patches) + 1), 3.5))
    for ax, patch in zip(axes, (0, *patches)):
        ax.imshow(array, cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        ax.set_axis_off()
        if not patch:
            caption(ax, f"{height} × {width} pixels")
            continue
        rows, columns = height // patch, width // patch
        ax.hlines(np.arange(1, rows) * patch, 0, width, color="white", lw=2)
        ax.vlines(np.arange(1, columns) * patch, 0, height, color="white", lw=2)
        for number in range(rows * columns if rows * columns <= 64 else 0):
            at = (number % columns * patch + 0.4, number // columns * patch + 0.4)
            text = ax.text(*at, str(number), color="#FFB000", fontsize=9, va="top")
            text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
        caption(ax, f"patch {patch}: {rows * columns} tokens")
    headline(figure, title)
    return figure


# --- ViT and its block


def vit_beside_encoder(
    *, image: int = 28, patch: int = 7, channels: int = 1, width: int = 32, depth: int = 3, classes: int = 10
) -> Figure:
    """Lesson 3's Transformer above, ViT below: what both have stands in one column and has one colour.

    The shapes on ViT's arrows are those of one image. Raises ValueError for a patch that does not divide the image.
    """
    if patch < 1 or image % patch:
        raise ValueError(f"the patch size must divide the image: image {image}, patch {patch}")
    count, values = (image // patch) ** 2, channels * patch**2
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(13, 4.9))
    xs = np.array([0.0, 2.35, 4.75, 7.15, 9.6, 11.7, 13.4])
    above = [
        ("sentence", PALE), ("cut into\nwords", PALE), ("embed:\na row of a table", SKY), ("+ positions", ORANGE),
        ("encoder layers\nattention + MLP", DARKER), ("decoder", "white"), ("answer", "white"),
    ]  # fmt: skip
    below = [
        ("image", PALE), ("cut into\npatches", PALE), ("embed:\none matrix E", SKY), ("+ positions", ORANGE),
        (f"{depth} blocks\nattention + MLP", DARKER), ("norm, read\nclass token", PALE), ("linear\nhead", PALE),
    ]  # fmt: skip
    shapes_above = ["", "N ids", "N × D", "N × D", "N × D", ""]
    shapes_below = [
        f"{channels}×{image}×{image}", f"{count} × {values}", f"{count} × {width}\n+ class token",
        f"{count + 1} × {width}", f"{count + 1} × {width}", f"{width}",
    ]  # fmt: skip
    for y, boxes, shapes in ((2.3, above, shapes_above), (0, below, shapes_below)):
        for number, ((text, colour), x) in enumerate(zip(boxes, xs)):
            gone = colour == "white"
            _box(ax, (x, y), text, colour, dashed=gone)
            if number:
                start, end = (xs[number - 1] + 0.72, y), (x - 0.72, y)
                _arrow(ax, start, end, GREY if gone else "black", dashed=gone)
                ax.text((start[0] + end[0]) / 2, y + 0.58, shapes[number - 1], ha="center", va="bottom", fontsize=9)
    for x in xs[2:5]:
        ax.plot([x, x], [0.52, 1.78], color=GREY, lw=1, ls=":", zorder=0)
    ax.text((xs[5] + xs[6]) / 2, 3.02, "ViT has no decoder", ha="center", fontsize=10, color=GREY)
    ax.text(-0.8, 3.25, "Notebook 3: a Transformer for sentences", fontweight="bold")
    ax.text(-0.8, -1.0, f"ViT: {classes} logits for one image; the shapes are those of this lesson's small ViT",
            fontweight="bold")  # fmt: skip
    ax.set(xlim=(-0.9, 14.3), ylim=(-1.2, 3.6))
    ax.set_axis_off()
    headline(figure, "ViT is the encoder of notebook 3 with another input, another output and its norms moved")
    return figure


def two_blocks(*, tokens: int | str = "N", width: int | str = "D") -> Figure:
    """A post-norm layer, as in lesson 3, and a pre-norm block, as in ViT: the same parts, with the norm elsewhere."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 1, figsize=(12, 4.6))
    shape = f"{tokens} × {width}"
    post = [("attention", DARKER), ("+", ""), ("LN", ORANGE), ("MLP", SKY), ("+", ""), ("LN", ORANGE)]
    pre = [("LN", ORANGE), ("attention", DARKER), ("+", ""), ("LN", ORANGE), ("MLP", SKY), ("+", "")]
    titles = (
        "Post-norm (notebook 3): a norm stands on the way of the residual",
        "Pre-norm (ViT): the residual passes from end to end, the norms stand in the branches",
    )
    for ax, parts, title in zip(axes, (post, pre), titles):
        _draw_block(ax, parts, shape)
        set_title(ax, title)
    return figure


def _draw_block(ax: Axes, parts: Sequence[tuple[str, str]], shape: str) -> None:
    """Six parts from left to right; the first three are attention's, and each half has one residual that ends in +."""
    end = 2.0 * len(parts) + 1.4
    edges = [0.0] + [2.0 * (number + 1) for number in range(len(parts))] + [end]
    halves = [0.0] + [0.6 if colour else 0.2 for _, colour in parts] + [0.0]
    for number in range(len(edges) - 1):
        start, stop = edges[number] + halves[number], edges[number + 1] - halves[number + 1]
        _arrow(ax, (start, 0), (stop, 0), "black")
    for number, (text, colour) in enumerate(parts):
        x = edges[number + 1]
        if colour:
            _box(ax, (x, 0), text, colour, half=(0.6, 0.34))
            continue
        fork = edges[3 * (number // 3)] + 0.75  # behind the third part, or at the beginning
        ax.plot([fork, fork, x, x], [0, 0.85, 0.85, 0], color=OUTPUT, lw=2.2, zorder=0)
        ax.text((fork + x) / 2, 0.92, "residual", color=OUTPUT, ha="center", va="bottom", fontsize=9)
        ax.text(x, 0, "+", ha="center", va="center", fontsize=13, zorder=5,
                bbox={"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black"})  # fmt: skip
    for at in (0.0, end - 0.1):
        ax.text(at, -0.28, shape, ha="center", va="top", fontsize=9)
    ax.set(xlim=(-0.8, end + 0.8), ylim=(-0.75, 1.35))
    ax.set_axis_off()


def _box(
    ax: Axes,
    at: tuple[float, float],
    text: str,
    colour: str,
    *,
    half: tuple[float, float] = (0.7, 0.45),
    dashed: bool = False,
) -> None:
    corner, sides = (at[0] - half[0], at[1] - half[1]), (2 * half[0], 2 * half[1])
    style: dict[str, Any] = {"boxstyle": "round,pad=0.04", "fc": colour, "ec": GREY, "ls": "--" if dashed else "-"}
    ax.add_patch(FancyBboxPatch(corner, *sides, alpha=0.85, zorder=2, **style))
    ax.text(*at, text, ha="center", va="center", fontsize=9.5, zorder=3, color=GREY if dashed else "black")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, dashed: bool = False) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 12, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, lw=1.3, ls="--" if dashed else "-", zorder=1, **look))


# --- what is inside


def position_maps(similarity: Any, place: tuple[int, int], *, low: float = 0, title: str = "") -> Figure:
    """How similar each position is to each other one: `similarity` (row, column, row, column), cosines.

    On the left the map of one `place` (row, column), framed; on the right the maps of all places, each where its place
    is. All have one scale, `low` to 1; what is below is white. Raises ValueError for a table of another shape and for a
    place outside of it.
    """
    table = as_array(similarity)
    if table.ndim != 4 or table.shape[:2] != table.shape[2:]:
        raise ValueError(f"similarity must be (row, column, row, column), given {table.shape}")
    rows, columns = table.shape[:2]
    if not (0 <= place[0] < rows and 0 <= place[1] < columns):
        raise ValueError(f"the place {place} does not lie in the grid {rows}x{columns}")
    look: dict[str, Any] = {"cmap": WEIGHTS, "vmin": low, "vmax": 1, "interpolation": "nearest"}
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4))
    shown = left.imshow(table[place], **look)
    left.add_patch(plt.Rectangle((place[1] - 0.5, place[0] - 0.5), 1, 1, fill=False, ec=ORANGE, lw=3))
    left.set(xticks=range(columns), yticks=range(rows), xlabel="column", ylabel="row")
    caption(left, f"similar to the position in row {place[0]}, column {place[1]}")
    gap = 1  # cells between two small maps
    step = (rows + gap, columns + gap)
    whole = np.full((rows * step[0] - gap, columns * step[1] - gap), np.nan)
    for row, column in np.ndindex(rows, columns):
        top, side = row * step[0], column * step[1]
        whole[top : top + rows, side : side + columns] = table[row, column]
    right.imshow(whole, **look)
    corner = place[1] * step[1] - 0.7, place[0] * step[0] - 0.7
    right.add_patch(plt.Rectangle(corner, columns + 0.4, rows + 0.4, fill=False, ec=ORANGE, lw=2))
    right.set_axis_off()
    caption(right, "the same for every position: each map stands at its place")
    figure.colorbar(shown, ax=[left, right], shrink=0.75, label="cosine")
    headline(figure, title)
    return figure


def filters(kernels: Any, *, columns: int = 16, title: str = "") -> Figure:
    """Kernels (number, height, width) of a patch embedding, all on one scale: white 0, orange above, violet below.

    Raises ValueError for kernels of another shape.
    """
    array = as_array(kernels)
    if array.ndim != 3 or not len(array):
        raise ValueError(f"kernels must be (number, height, width), given {array.shape}: choose one channel first")
    limit = float(np.abs(array).max()) or 1.0
    rows = -(-len(array) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, columns, figsize=(0.62 * columns, 0.62 * rows + 0.5), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, kernel in zip(axes.flat, array):
        shown = ax.imshow(kernel, cmap="PuOr_r", vmin=-limit, vmax=limit)
    figure.colorbar(shown, ax=axes, shrink=0.9, label="weight", fraction=0.03)
    headline(figure, title)
    return figure


def attention_distances(
    distances: Mapping[str, Any], *, far: float | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """Mean attention distances {model: (layer, head)}: a dot for each head, a line through the layers' means.

    `far` is a dotted line: the distance of attention that is even over all patches. Raises ValueError for no model, or
    more than two.
    """
    if not 1 <= len(distances) <= 2:
        raise ValueError(f"attention_distances compares one or two models, given {len(distances)}")
    ax = axes_or_new(ax, (7, 3.2))
    for number, ((name, given), colour) in enumerate(zip(distances.items(), (GREY, QUERY))):
        array = as_array(given)
        layers = np.arange(1, len(array) + 1) + 0.12 * (number - (len(distances) - 1) / 2)
        ax.plot(np.repeat(layers, array.shape[1]), array.ravel(), "o", ms=4, alpha=0.6, color=colour)
        ax.plot(layers, array.mean(axis=1), color=colour, label=name)
    if far is not None:
        ax.axhline(far, ls=":", color=KEY, lw=1.5, label="even attention")
    ax.set(xticks=range(1, len(array) + 1), xlabel="layer", ylabel="mean distance (pixels)")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=9)
    set_title(ax, title)
    return ax
