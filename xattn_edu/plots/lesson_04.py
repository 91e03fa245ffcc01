"""Drawings of lesson 4: gates, a block with a place for a mixer, two orders of a product, influence, leads."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xattn_edu.plots.lesson_03 import PLUS, arrow, box
from xattn_edu.plots.style import (
    GREY,
    KEY,
    ORANGE,
    OUTPUT,
    QUERY,
    SKY,
    STYLE,
    VALUE,
    WEIGHTS,
    as_array,
    axes_or_new,
    headline,
    set_title,
)


def gate_diagrams(places: int = 9, width: int = 8) -> Figure:
    """Channel and spatial attention with the shapes (place x channel) of one image: what is pooled, what is gated."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 1, figsize=(11, 4))
    rows = (
        ("mean over places", f"1 x {width}", "two linear layers,\nsigmoid", f"gate 1 x {width}"),
        ("mean and maximum\nover channels", f"{places} x 2", "7 x 7 convolution,\nsigmoid", f"gate {places} x 1"),
    )
    titles = (
        "Squeeze-and-excitation: pool the places, one factor for each channel",
        "CBAM's spatial attention: pool the channels, one factor for each place",
    )
    for ax, (pool, pooled, relate, gate), title in zip(axes, rows, titles):
        ax.text(-1.0, 0, f"z\n{places} x {width}", ha="center", va="center", fontsize=10.5)
        arrow(ax, (-0.5, 0), (1.0, 0))
        box(ax, pool, 2.3, 0, width=2.6, height=0.9)
        arrow(ax, (3.6, 0), (5.3, 0))
        ax.text(4.45, 0.17, pooled, ha="center", fontsize=10)
        box(ax, relate, 6.6, 0, width=2.6, height=0.9)
        arrow(ax, (7.9, 0), (10.0, 0), colour=OUTPUT)
        ax.text(8.85, 0.17, gate, ha="center", fontsize=10, color=OUTPUT)
        arrow(ax, (0.3, 0), (0.3, -0.95), (10.22, -0.95), (10.22, -0.28))
        ax.text(10.22, 0, "x", ha="center", va="center", fontsize=11, zorder=5, bbox=PLUS)
        arrow(ax, (10.44, 0), (11.9, 0))
        ax.text(12.6, 0, f"out\n{places} x {width}", ha="center", va="center", fontsize=10.5)
        ax.set(xlim=(-1.7, 13.3), ylim=(-1.15, 0.75))
        ax.set_axis_off()
        set_title(ax, title)
    return figure


def mixer_block_diagram(
    *, patches: int = 49, pixels: int = 16, width: int = 64, blocks: int = 4, title: str = "", ax: Axes | None = None
) -> Axes:
    """A small vision transformer with a place for any mixer, with the shapes (token x channel) of one image.

    Args:
        patches: of an image.
        pixels: of a patch.
        width: channels of a token.
        blocks: how many.
        title: the finding.
        ax: the axes to draw on; new ones by default.

    Source: Yu et al., "MetaFormer Is Actually What You Need for Vision" (2022), figure 1.
    """
    ax = axes_or_new(ax, (12.5, 3.2))
    ax.text(-3.5, 0, f"patches\n{patches} x {pixels}", ha="center", va="center", fontsize=10)
    arrow(ax, (-2.8, 0), (-2.2, 0))
    box(ax, "linear,\n+ position", -1.3, 0, width=1.8, height=0.9)
    arrow(ax, (-0.4, 0), (1.5, 0))
    ax.text(0.25, 0.15, f"{patches} x {width}", ha="center", fontsize=10)
    for x, text, colour in ((2.4, "mixer", OUTPUT), (7.4, "MLP", GREY)):
        fork, join = x - 1.2, x + 3.0
        box(ax, "LayerNorm", x - 0.15, 0, "black", width=1.5)
        arrow(ax, (x + 0.6, 0), (x + 1.05, 0))
        box(ax, text, x + 1.8, 0, colour, width=1.5, height=0.9)
        arrow(ax, (x + 2.55, 0), (join - 0.18, 0))
        arrow(ax, (fork, 0), (fork, 0.95), (join, 0.95), (join, 0.2))
        ax.text(join, 0, "+", ha="center", va="center", fontsize=10, zorder=5, bbox=PLUS)
    arrow(ax, (5.58, 0), (6.5, 0))
    ax.text(
        4.2,
        -0.95,
        "relates places:\nattention, or what\ntakes its place",
        ha="center",
        va="center",
        fontsize=9.5,
        color=OUTPUT,
    )
    ax.text(9.2, -0.95, "each token\nby itself", ha="center", va="center", fontsize=9.5, color=GREY)
    ax.add_patch(Rectangle((0.9, -1.45), 9.95, 2.7, fc="none", ec=GREY, ls="--"))
    ax.text(10.75, -1.25, f"x {blocks}", ha="right", color=GREY, fontsize=11)
    arrow(ax, (10.58, 0), (11.9, 0))
    box(ax, "LayerNorm,\nmean over\nplaces", 12.7, 0, width=1.6, height=0.9)
    arrow(ax, (13.5, 0), (14.2, 0))
    ax.text(15.0, 0, "linear:\n10 scores", ha="center", va="center", fontsize=10)
    ax.set(xlim=(-4.3, 15.9), ylim=(-1.6, 1.4))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def product_orders(tokens: int = 1000, width: int = 16) -> Figure:
    """Three matrices multiplied in two orders: from the left through a table token x token, from the right without it.

    The areas are schematic; the shapes and counts are those given. Raises ValueError for sizes below 1.
    """
    if min(tokens, width) < 1:
        raise ValueError(f"sizes must be 1 or more, given {tokens} tokens of width {width}")
    long, short = 2.2, 0.66
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(12, 3))
    words = {long: f"{tokens:,}", short: f"{width:,}"}
    factors = {"Q": (short, long, QUERY), "K": (long, short, KEY), "V": (short, long, VALUE)}
    for ax, first in zip(axes, ("QK", "KV")):
        middle = (long, long) if first == "QK" else (short, short)
        row = [(*factors[name][:2], name, factors[name][2]) for name in "QKV"]
        after = [(*middle, rf"${'QK^T' if first == 'QK' else 'K^TV'}$", GREY)]
        rest = [row[2]] if first == "QK" else [row[0]]
        done = after + rest if first == "QK" else rest + after
        x = 0.0
        for part in (row, done):
            for wide, high, name, colour in part:
                ax.add_patch(Rectangle((x, -high / 2), wide, high, fc=colour, ec="none", alpha=0.85))
                label = rf"${name}^T$" if name == "K" else name
                ax.text(x + wide / 2, 0, label, color="white", ha="center", va="center", fontsize=10.5)
                ax.text(
                    x + wide / 2,
                    -high / 2 - 0.25,
                    f"{words[high]} x {words[wide]}",
                    ha="center",
                    va="center",
                    fontsize=9,
                )
                x += wide + 0.75
            if part is row:
                ax.text(x - 0.15, 0, "=", ha="center", va="center", fontsize=14)
                x += 0.4
        macs = 2 * tokens**2 * width if first == "QK" else 2 * tokens * width**2
        ax.set(xlim=(-0.3, 11), ylim=(-1.7, 1.3))
        ax.set_axis_off()
        order = r"$(QK^T)V$" if first == "QK" else r"$Q(K^TV)$"
        set_title(ax, f"{order}: {macs / 1e6:,.1f} million multiply-adds")
    return figure


def influence_tables(tables: Mapping[str, Sequence[Any]], *, title: str = "", floor: float = 1e-4) -> Figure:
    """{name: (place on place, channel on channel)}: a row is what changes, a column whose input was changed.

    All tables share one logarithmic scale, from `floor` (white) to 1. Raises ValueError without tables.
    """
    if not tables:
        raise ValueError("influence_tables needs one layer at least, given none")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(tables), figsize=(2.2 * len(tables) + 0.8, 5.2), squeeze=False)
    for column, (name, both) in enumerate(tables.items()):
        for row, (table, what) in enumerate(zip(both, ("place", "channel"))):
            ax, shown = axes[row, column], np.log10(np.maximum(as_array(table), floor))
            image = ax.imshow(shown, cmap=WEIGHTS, vmin=np.log10(floor), vmax=0)
            ax.set(xticks=[], yticks=[], xlabel=f"changed {what}")
            ax.spines[:].set_visible(False)
            if column == 0:
                ax.set_ylabel(f"{what} that moves")
        axes[0, column].set_title(name, fontsize=10, loc="center")
    bar = figure.colorbar(image, ax=axes, shrink=0.6, label="influence, largest = 1")
    bar.set_ticks([np.log10(floor), np.log10(floor) / 2, 0], labels=[f"{floor:g}", f"{floor**0.5:g}", "1"])
    headline(figure, title)
    return figure


def influence_maps(maps: Mapping[str, Any], *, patch: tuple[int, int], title: str = "", floor: float = 1e-3) -> Figure:
    """{name: (row, column)}: how strongly each patch moves the one in the ring, at `patch` (row, column).

    All maps share one logarithmic scale, from `floor` (white) to 1. Raises ValueError without maps.
    """
    if not maps:
        raise ValueError("influence_maps needs one map at least, given none")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(maps), figsize=(1.8 * len(maps) + 0.9, 2.6), squeeze=False)
    for ax, (name, table) in zip(axes[0], maps.items()):
        image = ax.imshow(np.log10(np.maximum(as_array(table), floor)), cmap=WEIGHTS, vmin=np.log10(floor), vmax=0)
        ax.plot(patch[1], patch[0], "o", ms=13, mfc="none", mec=ORANGE, mew=2)
        ax.set(xticks=[], yticks=[])
        ax.set_title(name.replace("_", " "), fontsize=10, loc="center")
    bar = figure.colorbar(image, ax=axes, shrink=0.8, label="influence")
    bar.set_ticks([np.log10(floor), 0], labels=[f"{floor:g}", "1"])
    headline(figure, title)
    return figure


def leads_with_interval(
    leads: Mapping[str, tuple[float, float, float]], *, xlabel: str = "", title: str = "", ax: Axes | None = None
) -> Axes:
    """{name: (lead, half of its interval, half of the wider interval)}: points on one axis, with 0 as a line.

    The dark line is the interval of one comparison, the pale one the interval for all comparisons together.
    Raises ValueError without leads.
    """
    if not leads:
        raise ValueError("leads_with_interval needs one lead at least, given none")
    ax = axes_or_new(ax, (7.2, 0.45 * len(leads) + 1.2))
    for row, (mean, half, wider) in enumerate(leads.values()):
        ax.errorbar(mean, row, xerr=wider, fmt="none", ecolor=SKY, elinewidth=5, alpha=0.5)
        ax.errorbar(mean, row, xerr=half, fmt="o", color="black", capsize=3)
    ax.axvline(0, color=GREY, lw=1)
    ax.set_yticks(range(len(leads)), [name.replace("_", " ") for name in leads])
    ax.set(ylim=(len(leads) - 0.5, -0.5), xlabel=xlabel)
    set_title(ax, title)
    return ax
