"""Four objects, a rectangle painted for each, and the scores that follow: lesson 10, section 10.4."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xattn_edu.interactive.picture import Picture
from xattn_edu.measure.overlaps import Overlaps
from xattn_edu.measure.overlaps import overlaps as overlaps_of
from xattn_edu.plots.style import GREY, OUTPUT, VALUE

GRID = (12, 16)  # rows and columns
# Top, left, height, width: the boxes of section 10.4, the true ones and the painted ones.
OBJECTS = {
    "hit": ((2, 2, 4, 4), (2, 3, 4, 4)),
    "miss": ((2, 2, 4, 4), (7, 9, 4, 4)),
    "large": ((1, 1, 10, 14), (1, 1, 10, 13)),
    "small": ((5, 6, 2, 2), (5, 6, 2, 3)),
}


def overlaps() -> Picture:
    """The four masks of section 10.4; the reader drags the painted rectangles."""
    data = {
        "grid": list(GRID),
        "names": list(OBJECTS),
        "targets": [list(target) for target, _ in OBJECTS.values()],
        "painted": [list(painted) for _, painted in OBJECTS.values()],
    }
    return Picture("overlaps", "Four masks: IoU, oIoU, mIoU and P@0.5", data, draw)


def scores(targets: Any, painted: Any) -> Overlaps:
    """The overlaps of boxes (top, left, height, width), by the library, from their masks."""
    return overlaps_of(torch.stack(list(map(_mask, painted))), torch.stack(list(map(_mask, targets))))


def _mask(box: Any) -> torch.Tensor:
    top, left, height, width = box
    mask = torch.zeros(GRID, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def _rectangle(box: Any, **look: Any) -> Rectangle:
    top, left, height, width = box
    return Rectangle((left - 0.5, top - 0.5), width, height, **look)


def draw(data: dict[str, Any]) -> Figure:
    """The still picture: the four masks, and all unions side by side."""
    found = scores(data["targets"], data["painted"])
    figure = plt.figure(figsize=(10, 4))
    above, below = figure.subfigures(2, 1, height_ratios=(1.6, 1))
    for ax, name, target, painted, iou in zip(
        above.subplots(1, 4), data["names"], data["targets"], data["painted"], found.iou.tolist()
    ):
        ax.imshow(np.full((*GRID, 3), 0.88))
        ax.add_patch(_rectangle(painted, facecolor=OUTPUT, alpha=0.8))
        ax.add_patch(_rectangle(target, fill=False, edgecolor="black", linewidth=2.5))
        ax.set(xticks=[], yticks=[])
        ax.set_title(f"{name}: IoU {iou:.2f}")
    ax, left = below.subplots(), 0
    for name, intersection, union in zip(data["names"], found.intersections.tolist(), found.unions.tolist()):
        ax.barh(0, union, left=left, color=GREY, alpha=0.35, edgecolor="black")
        ax.barh(0, intersection, left=left, color=VALUE)
        ax.text(left + union / 2, 0.45, f"{name}\n{intersection} / {union}", ha="center", va="bottom", fontsize=9)
        left += union
    ax.set(yticks=[], ylim=(-0.5, 1.1), xlabel="pixels in all unions; filled: in the intersections", xlim=(0, left))
    ax.set_title(f"oIoU {found.oiou:.3f}, mIoU {found.miou:.3f}: a miss has two objects in its union")
    return figure
