"""Referring segmentation: a scene with its mask, and the layers of LAVT."""

import textwrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from xattn_edu.plots.style import GREY, KEY, OUTPUT, QUERY, VALUE, as_array, as_image, axes_or_new, caption, set_title

PAINT = (1.0, 0.0, 1.0)  # magenta: no object and no background of the scenes has this colour


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
        predicted: a mask (height, width) that is painted magenta; the true one is then an outline.
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
        shown = np.where(painted, 0.2 * shown + 0.8 * np.array(PAINT), 0.75 * shown)
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


PWAM_BOXES = {  # name: (text, x, y, colour)
    "V": ("$V_i$", 0, 2.2, QUERY),
    "L": ("$L$", 0, -0.5, KEY),
    "Vm": ("$V_{im}$: $w_{im}$, GELU", 2.6, 3.3, QUERY),
    "Vq": ("$V_{iq}$: $w_{iq}$, norm", 2.6, 1.7, QUERY),
    "Lk": ("$L_{ik}$: $w_{ik}$", 2.6, 0.3, KEY),
    "Lv": ("$L_{iv}$: $w_{iv}$", 2.6, -1.3, VALUE),
    "A": (r"softmax of $V_{iq}L_{ik}^T/\sqrt{C_i}$", 5.9, 1, GREY),
    "G1": ("$G_i'$", 5.9, -0.9, VALUE),
    "G": ("$G_i$: $w_{iw}$, norm", 8.4, -0.9, VALUE),
    "x": (r"$\times$", 8.4, 3.3, "black"),
    "F": ("$F_i$: $w_{io}$, GELU", 10.3, 3.3, OUTPUT),
    "gate": ("gate", 11.5, 1.6, OUTPUT),
    "y": (r"$\times$", 12.7, 3.3, "black"),
    "+": ("+", 13.8, 3.3, "black"),
    "E": ("$E_i$", 15, 3.3, QUERY),
    "D": ("decoder", 10.3, 0.3, GREY),
}
PWAM_ARROWS = {  # (from, to): the shape of what goes along, if it is written there
    **{("V", end): "" for end in ("Vm", "Vq")},
    **{("L", end): "" for end in ("Lk", "Lv")},
    **{("Vq", "A"): r"$N\times C_i$", ("Lk", "A"): r"$T\times C_i$", ("A", "G1"): r"$N\times T$"},
    **{("Lv", "G1"): r"$T\times C_i$", ("G1", "G"): r"$N\times C_i$", ("G", "x"): r"$N\times C_i$"},
    **{("Vm", "x"): r"$N\times C_i$", ("x", "F"): "", ("F", "gate"): "", ("F", "D"): "", ("F", "y"): ""},
    **{("gate", "y"): "", ("y", "+"): "", ("+", "E"): ""},
}


def pwam_diagram(*, title: str = "", ax: Axes | None = None) -> Axes:
    """LAVT's pixel-word attention and its gate as boxes and arrows, with shapes: blue from pixels, the rest from words.

    Keys are orange, values and what is gathered from them green, F_i and the gate pink.
    """
    ax = axes_or_new(ax, (13, 4.6))
    frames = {}
    for name, (text, x, y, colour) in PWAM_BOXES.items():
        style = {"boxstyle": "circle,pad=0.2" if len(name) == 1 and name in "xy+" else "round,pad=0.4"}
        style |= {"fc": colour, "ec": "none"}
        frames[name] = ax.text(x, y, text, ha="center", va="center", color="white", bbox=style).get_bbox_patch()
    for (start, end), shape in PWAM_ARROWS.items():
        ends = {"patchA": frames[start], "patchB": frames[end], "arrowstyle": "->", "lw": 1.3}
        (x0, y0), (x1, y1) = PWAM_BOXES[start][1:3], PWAM_BOXES[end][1:3]
        ax.annotate("", (x1, y1), (x0, y0), arrowprops=ends)
        side: dict[str, Any] = {"ha": "left" if x0 == x1 else "center", "va": "center" if x0 == x1 else "bottom"}
        ax.text((x0 + x1) / 2 + 0.12, (y0 + y1) / 2 + 0.12, shape, fontsize=9, color=GREY, **side)
    ax.text(0, 2.85, r"$N\times C_i$", fontsize=9, color=GREY, ha="right")
    ax.text(0, -1.25, r"$T\times C_t$", fontsize=9, color=GREY, ha="right")
    ax.plot([0, 0, 13.8], [2.6, 4.3, 4.3], color="black", lw=1.3)  # the way past everything, from V to E
    ax.annotate("", (13.8, 3.6), (13.8, 4.3), arrowprops={"arrowstyle": "->", "lw": 1.3, "shrinkA": 0})
    ax.text(15, 2.6, "to stage $i+1$\n$N\\times C_i$", fontsize=9, color=GREY, ha="center", va="top")
    ax.text(10.3, -1.9, "$N=H_iW_i$ pixels of $C_i$ channels, $T$ words of $C_t$ channels", fontsize=9, color=GREY)
    ax.set(xlim=(-1.1, 15.9), ylim=(-2.1, 4.6))
    ax.set_axis_off()
    set_title(ax, title)
    return ax
