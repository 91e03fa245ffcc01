"""Referring segmentation: a scene with its mask, and the layers of LAVT."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba

from xattn_edu.plots.style import GREY, KEY, OUTPUT, QUERY, VALUE, as_array, as_image, axes_or_new, caption, set_title


def referent(
    image: Any,
    mask: Any = None,
    sentence: str = "",
    *,
    predicted: Any = None,
    width: int = 22,
    ax: Axes | None = None,
) -> Axes:
    """An image with a sentence above it, dimmed outside the `mask` (height, width) of the object that it names.

    Args:
        image: (height, width, 3) or (height, width), in 0..1 or uint8.
        mask: True on the object; without it nothing is dimmed.
        sentence: the title, broken after `width` letters.
        predicted: a mask (height, width) that is painted; the true one is then an outline.
        width: letters in a line of the sentence.
        ax: the axes to draw on; new ones by default.

    Raises ValueError for masks of another size than the image.
    """
    array = as_image(image)
    shapes = {name: np.shape(given) for name, given in (("mask", mask), ("predicted", predicted)) if given is not None}
    for name, shape in shapes.items():
        if shape != array.shape[:2]:
            raise ValueError(f"{name} {shape} does not fit the image {array.shape[:2]}: resize one of them")
    ax = axes_or_new(ax, (2, 2.4))
    truth = None if mask is None else as_array(mask)
    extent = (0, array.shape[1], array.shape[0], 0)
    shown = array[..., None].repeat(3, axis=2) if array.ndim == 2 else array[..., :3]
    if predicted is not None:
        painted = as_array(predicted)[..., None] > 0.5
        shown = np.where(painted, 0.3 * shown + 0.7 * np.array(to_rgba("#FFB000")[:3]), 0.75 * shown)
    elif truth is not None:
        shown = np.where(truth[..., None] > 0.5, shown, 0.35 * shown + 0.25 * shown.mean(axis=2, keepdims=True))
    ax.imshow(shown, extent=extent, interpolation="nearest")
    if truth is not None:
        fine = np.pad(truth, 1).repeat(8, axis=0).repeat(8, axis=1)  # so that the outline follows the pixels' edges
        corners = np.arange(fine.shape[0]) / 8 - 1 + 1 / 16, np.arange(fine.shape[1]) / 8 - 1 + 1 / 16
        for colour, line in (("black", 2.6), ("white", 1.3)):
            ax.contour(corners[1], corners[0], fine, levels=[0.5], colors=colour, linewidths=line)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.set_axis_off()
    caption(ax, textwrap.fill(sentence, width))
    return ax


def pwam_diagram(*, title: str = "", ax: Axes | None = None) -> Axes:
    """LAVT's pixel-word attention and its gate as boxes and arrows: blue from pixels, orange and green from words."""
    boxes = {  # name: (text, x, y, colour)
        "V": ("$V_i$", 0, 2, QUERY),
        "L": ("$L$", 0, -0.1, KEY),
        "Vm": ("$V_{im}=w_{im}(V_i)$", 2, 2.7, QUERY),
        "Vq": ("$V_{iq}=w_{iq}(V_i)$", 2, 1.5, QUERY),
        "Lk": ("$L_{ik}=w_{ik}(L)$", 2, 0.5, KEY),
        "Lv": ("$L_{iv}=w_{iv}(L)$", 2, -0.7, VALUE),
        "A": ("softmax", 4, 1, GREY),
        "G1": ("$G_i'$", 5.2, 0.2, VALUE),
        "G": ("$G_i=w_{iw}(G_i')$", 6.8, 0.2, VALUE),
        "x": (r"$V_{im}\odot G_i$", 6.8, 2.7, GREY),
        "F": (r"$F_i=w_{io}(\cdot)$", 8.6, 2.7, OUTPUT),
        "gate": ("gate", 9.6, 1.4, OUTPUT),
        "E": ("$E_i$", 10.7, 2.7, "black"),
    }
    arrows = "V-Vm V-Vq L-Lk L-Lv Vq-A Lk-A A-G1 Lv-G1 G1-G G-x Vm-x x-F F-gate gate-E F-E"
    ax = axes_or_new(ax, (10, 4))
    frames = {}
    for name, (text, x, y, colour) in boxes.items():
        style = {"boxstyle": "round,pad=0.45", "fc": colour, "ec": "none"}
        frames[name] = ax.text(x, y, text, ha="center", va="center", color="white", bbox=style).get_bbox_patch()
    for start, end in (pair.split("-") for pair in arrows.split()):
        ends = {"patchA": frames[start], "patchB": frames[end], "arrowstyle": "->", "lw": 1.3}
        ax.annotate("", boxes[end][1:3], boxes[start][1:3], arrowprops=ends)
    ax.plot([0, 0, 10.7], [2.4, 3.7, 3.7], color="black", lw=1.3)  # the way past everything, from V to E
    ax.annotate("", (10.7, 3.0), (10.7, 3.7), arrowprops={"arrowstyle": "->", "lw": 1.3, "shrinkA": 0})
    ax.set(xlim=(-0.5, 11.2), ylim=(-1.2, 4))
    ax.set_axis_off()
    set_title(ax, title)
    return ax
