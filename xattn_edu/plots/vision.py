"""Patches of an image, and the fusions of CrossViT."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke

from xattn_edu.plots.style import GREY, KEY, QUERY, as_image, axes_or_new, set_title
from xattn_edu.shapes import check_choice


def patch_grid(
    image: Any, patch: int, *, title: str = "", numbers: bool = True, gap: int | None = None, ax: Axes | None = None
) -> Axes:
    """An image (height, width) or (height, width, 3) cut into patch x patch squares, numbered in token order.

    Args:
        image: pixels in 0..1, or uint8.
        patch: the side of a patch in pixels.
        title: the title of the plot.
        numbers: whether to write the number of each patch.
        gap: pixels between the patches; a quarter of `patch` by default, at least 1.
        ax: the axes to draw on; new ones by default.

    Raises ValueError if the patch does not divide the image.
    """
    array = as_image(image)
    height, width = array.shape[:2]
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"the patch size must divide height and width: image {height}x{width}, patch {patch}")
    gap = max(1, patch // 4) if gap is None else gap
    rows, columns = height // patch, width // patch
    apart = np.ones((rows * (patch + gap) - gap, columns * (patch + gap) - gap, *array.shape[2:]))
    ax = axes_or_new(ax, (3.4, 3.4 * height / width))
    for row in range(rows):
        for column in range(columns):
            top, left = row * (patch + gap), column * (patch + gap)
            square = array[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            apart[top : top + patch, left : left + patch] = square
            if numbers and rows * columns <= 64:
                number = ax.text(left, top, str(row * columns + column), color="#FFB000", fontsize=8, va="top")
                number.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
    ax.imshow(apart, cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def fusion_diagram(fusion: str, *, title: str = "", ax: Axes | None = None) -> Axes:
    """One of CrossViT's five fusions drawn: branch S to the left, L to the right, class tokens (circles) above patches.

    Blue lines lead from a query to its keys; grey lines join tokens that are added. Raises ValueError for another name:
    a fusion of your own has no drawing here. Source: Chen et al. (2021), figure 3, which draws the last four.
    """
    places = {
        "S": [(0.2 + 0.22 * column, 0.62 - 0.22 * row) for row in range(3) for column in range(3)],
        "L": [(1.5 + 0.36 * column, 0.56 - 0.34 * row) for row in range(2) for column in range(2)],
        "class": [(0.42, 1.05), (1.68, 1.05)],
    }
    same_place = [(s, l) for s, l in zip((0, 2, 6, 8), range(4))]  # the corners of S's grid: one in each patch of L
    small, large = [places["class"][0], *places["S"]], [places["class"][1], *places["L"]]
    pairs: dict[str, list] = {  # (from, to); what asks, or what is added, first
        "none": [],
        "all_attention": [(a, b) for a in small for b in large],
        "class_token": [(small[0], large[0])],
        "pairwise": [(small[0], large[0]), *((small[1 + s], large[1 + l]) for s, l in same_place)],
        "cross_attention": [(large[0], patch) for patch in small[1:]] + [(small[0], patch) for patch in large[1:]],
    }
    check_choice("fusion", fusion, pairs)
    ax = axes_or_new(ax, (2.4, 1.6))
    attends = fusion in ("all_attention", "cross_attention")
    for number, (start, end) in enumerate(pairs[fusion]):
        # Pairs in the same row would hide each other: every second one takes a bow.
        bow = f"arc3,rad={-0.3 if fusion == 'pairwise' and number % 2 else 0}"
        lw = {"all_attention": 0.25, "cross_attention": 0.9}.get(fusion, 1.8)  # thin where there are very many
        line: dict[str, Any] = {"color": QUERY if attends else GREY, "lw": lw, "arrowstyle": "-"}
        over: dict[str, Any] = {
            "zorder": 4 if fusion == "pairwise" else 1,
            "connectionstyle": bow,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        ax.add_patch(FancyArrowPatch(start, end, **line, **over))
    asks = {"all_attention": small + large, "cross_attention": places["class"]}.get(fusion, [])
    for name, side in (("S", 0.16), ("L", 0.28)):
        for x, y in places[name]:
            color = QUERY if (x, y) in asks else KEY if attends else "#D9D9D9"
            ax.add_patch(
                Rectangle((x - side / 2, y - side / 2), side, side, facecolor=color, edgecolor="black", lw=0.8)
            )
    for (x, y), name in zip(places["class"], "SL"):
        color = QUERY if (x, y) in asks else "#D9D9D9"
        ax.add_patch(Circle((x, y), 0.11, facecolor=color, edgecolor="black", lw=0.8, zorder=3))
        ax.text(x, y + 0.16, f"branch {name}", ha="center", va="bottom", fontsize=9)
    ax.set(xlim=(0, 2.1), ylim=(-0.05, 1.4), aspect="equal")
    ax.set_axis_off()
    set_title(ax, title)
    return ax
