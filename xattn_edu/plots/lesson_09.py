"""Lesson 9, what it costs: a recount beside a table, the parts of a model, the frontier, and time beside FLOPs."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xattn_edu.plots.lesson_07 import BRANCHES
from xattn_edu.plots.style import GREY, QUERY, STYLE, as_array, axes_or_new, caption, headline, set_title

LIGHT = "#BBBBBB"
FAMILIES = {"CrossViT": ("black", "o"), "DeiT": (GREY, "s")}  # of a model, by the first word of its name
OTHERS = ("#9A9A9A", "^")
SIDES = {"n": (0, 6, "center"), "s": (0, -14, "center"), "e": (6, -4, "left"), "w": (-6, -4, "right"),
         "ne": (6, 1, "left"), "se": (6, -12, "left"), "nw": (-6, 2, "right"), "sw": (-6, -12, "right")}  # fmt: skip


def recounted(panels: Mapping[str, tuple[str, Mapping[str, Mapping[str, float]]]], *, title: str = "") -> Figure:
    """How far counts are from printed numbers, in units of the last printed digit; what lies in the band rounds to it.

    `panels` is {what: (unit, {series: {row: distance}})}. The first series has dots, the second rings.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(11, 4.2), sharey=True, squeeze=False)
    for ax, (what, (unit, series)) in zip(axes[0], panels.items()):
        ax.axvspan(-0.5, 0.5, color="#E4E4E4", lw=0)
        ax.axvline(0, color=GREY, lw=0.8)
        for (label, distances), (face, size) in zip(series.items(), (("black", 6), ("none", 10))):
            places = range(len(distances))
            ax.plot(list(distances.values()), places, "o", mfc=face, mec="black", ms=size, mew=1.5, label=label)
        ax.set_yticks(range(len(distances)), list(distances))
        ax.set(xlabel=f"counted − printed, in {unit}")
        caption(ax, what)
        ax.title.set_fontsize(11)
        if len(series) > 1:
            ax.legend(loc="lower right")
    axes[0, 0].set(xlim=(-1, 1))
    axes[0, 0].invert_yaxis()
    headline(figure, title)
    return figure


def block_terms(terms: Mapping[str, Sequence[float]], labels: Sequence[str], *, title: str = "") -> Figure:
    """The MACs of one block in each branch, term by term, with the share of each; the last term is blue."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(9, 2.4))
    for branch, values in terms.items():
        starts = np.cumsum([0, *values]) / 1e6
        for start, value, color, label in zip(starts, values, ("#DDDDDD", LIGHT, QUERY), labels):
            ax.barh(branch, value / 1e6, left=start, color=color, label=label if branch == next(iter(terms)) else None)
            ink = "white" if color == QUERY else "black"
            text = f"{value / 1e6:.0f} M\n{value / sum(values):.0%}"
            ax.text(start + value / 2e6, branch, text, ha="center", va="center", fontsize=9, color=ink)
    ax.set(xlabel="million MACs")
    ax.invert_yaxis()
    figure.legend(loc="outside lower center", ncols=len(labels))
    headline(figure, title)
    return figure


def shares_of_parts(shares: Mapping[str, Mapping[str, Sequence[float]]], *, title: str = "") -> Figure:
    """{what: {model: shares in % of branch S, branch L and the fusions}} as bars of 100 %."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(shares), figsize=(11, 3.3), sharey=True, squeeze=False)
    for ax, (what, models) in zip(axes[0], shares.items()):
        table, names = np.array(list(models.values()), dtype=float), list(models)
        left = np.zeros(len(names))
        parts = {"branch S": BRANCHES["S"], "branch L": BRANCHES["L"], "fusions": "black"}
        for column, (label, color) in zip(table.T, parts.items()):
            ax.barh(names, column, left=left, color=color, label=label)
            for y, (x, width) in enumerate(zip(left, column)):
                ink = "white" if color == "black" else "black"
                ax.text(x + width / 2, y, f"{width:.0f}", ha="center", va="center", fontsize=9, color=ink)
            left += column
        ax.set(xlabel=f"% of the {what}", xlim=(0, 100))
    axes[0, 0].invert_yaxis()
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    headline(figure, title)
    return figure


def frontier_panels(
    names: Sequence[str],
    accuracy: Any,
    costs: Mapping[str, tuple[Any, Any, Mapping[str, str], Sequence[float]]],
    *,
    cut: tuple[tuple[float, float], tuple[float, float]],
    title: str = "",
) -> Figure:
    """Accuracy against cost, a column for each kind of cost, with the frontier as a staircase.

    Args:
        names: of the models; CrossViT's are shortened to their size.
        accuracy: in %, one a model.
        costs: {axis label: (cost of each model, True for each model on the frontier, {name: the side of its label, a
            point of the compass}, the axis' ticks)}; a cost of NaN is not drawn.
        cut: the limits of the upper and of the lower part of the accuracy axis.
        title: the finding.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2, len(costs), figsize=(12.5, 6.4), sharex="col", height_ratios=[3, 1], squeeze=False
        )
    y = as_array(accuracy)
    for column, (label, (cost, first, sides, ticks)) in zip(axes.T, costs.items()):
        x, first = as_array(cost), np.asarray(first, dtype=bool)
        order = np.flatnonzero(first)[x[first].argsort()]
        for ax, limits in zip(column, cut):
            ax.set(xscale="log", ylim=limits, xlim=(0.85 * min(ticks), 2.0 * max(ticks)))
            ax.step(np.append(x[order], 1e3), np.append(y[order], y[order[-1]]), where="post", color=LIGHT, zorder=0)
            for name, at, value, on in zip(names, x, y, first):
                if limits[0] < value < limits[1] and np.isfinite(at):
                    _model(ax, name, at, value, on, sides.get(name, "e"))
            ax.grid(alpha=0.25)
        column[1].set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        column[1].minorticks_off()
        column[1].set_xlabel(label)
    axes[0, 0].set_ylabel("ImageNet top-1 (%), printed")
    looks = [
        plt.Line2D([], [], color=c, marker=m, ls="", label=n) for n, (c, m) in (*FAMILIES.items(), ("others", OTHERS))
    ]
    axes[0, 0].legend(handles=looks, loc="lower right", fontsize=9, title="filled: on the frontier", title_fontsize=9)
    headline(figure, title)
    return figure


def _model(ax: Axes, name: str, x: float, y: float, on: bool, side: str) -> None:
    color, marker = FAMILIES.get(name.split("-")[0], OTHERS)
    ax.plot(x, y, marker, color=color, mfc=color if on else "white", mew=1.5, ms=6)
    dx, dy, align = SIDES[side]
    text, color = name.removeprefix("CrossViT-"), GREY if color == OTHERS[0] else color
    ax.annotate(text, (x, y), (dx, dy), textcoords="offset points", color=color, ha=align, fontsize=9)


def changed_models(
    points: Mapping[str, tuple[float, float]], band: tuple[float, float], *, title: str = "", below: Sequence[str] = ()
) -> Figure:
    """{model: (G MACs, accuracy)}, the first in a filled dot with a band (middle, half its height) around it.

    Labels of the models in `below` stand under their points, the others above.
    """
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8.5, 3.6))
    ax.axhspan(band[0] - band[1], band[0] + band[1], color="#E4E4E4", lw=0, zorder=0)
    for number, (name, (x, y)) in enumerate(points.items()):
        ax.plot(x, y, "o", color="black", mfc="white" if number else "black", mew=1.5)
        ax.annotate(name, (x, y), (7, -13 if name in below else 6), textcoords="offset points", fontsize=10)
    ax.set(xlim=(5.4, 8.9), ylim=(79.9, 81.4), xlabel="G MACs, counted", ylabel="ImageNet top-1 (%), printed")
    ax.text(8.88, band[0], "± one standard error", ha="right", va="center", fontsize=9, color=GREY)
    headline(figure, title)
    return figure


def speed_by_width(
    points: Mapping[str, tuple[float, float]], peak: float, *, sides: Mapping[str, str] | None = None, title: str = ""
) -> Figure:
    """{model: (width, T MACs/s)}, with the most that the device can do in float32 as a dashed line."""
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 4))
    for name, (x, y) in points.items():
        _model(ax, name, x, y, True, (sides or {}).get(name, "e"))
    ax.axhline(peak, color=GREY, ls="--", lw=1.2)
    ax.text(870, peak - 0.55, f"the card's peak in float32: {peak:.2f}", ha="right", fontsize=10, color=GREY)
    ax.set(xlim=(150, 880), ylim=(0, 1.1 * peak), xlabel="width (CrossViT: of branch L)", ylabel="T MACs/s on the V100")
    looks = [plt.Line2D([], [], color=c, marker=m, ls="", label=n) for n, (c, m) in FAMILIES.items()]
    ax.legend(handles=looks, loc="lower right", fontsize=9)
    headline(figure, title)
    return figure


def relative_speeds(rows: Mapping[str, tuple[str, float]], *, title: str = "") -> Figure:
    """{row: (kind, images/s relative to DeiT-S)} as bars; kinds are "counted", "measured here" and "printed"."""
    colors = {"counted": "#DDDDDD", "measured here": "black", "printed": GREY}
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(8, 3.1))
    for name, (kind, value) in rows.items():
        ax.barh(name, value, color=colors[kind])
        ax.text(value, name, f" {value:.2f}", va="center")
    ax.axvline(1, color="black", lw=1, ls=":")
    ax.text(1.01, 0, "DeiT-S", fontsize=10, va="center")
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.15), xlabel="images per second, relative to DeiT-S")
    headline(figure, title)
    return figure


def time_and_macs(shares: Mapping[str, Mapping[str, float]], *, title: str = "") -> Figure:
    """{bar: {group of operators: share in %}} as bars of 100 %."""
    colors = (QUERY, "#DDDDDD", LIGHT, "#E69F00", "#CC79A7", "black", "#F2F2F2")
    with plt.rc_context(STYLE):
        figure, ax = plt.subplots(figsize=(11, 3.3))
    left = np.zeros(len(shares))
    for group, color in zip(next(iter(shares.values())), colors):
        column = np.array([share[group] for share in shares.values()])
        ax.barh(list(shares), column, left=left, color=color, label=group, edgecolor="white")
        left += column
    ax.invert_yaxis()
    ax.set(xlabel="%", xlim=(0, 100))
    figure.legend(loc="outside lower center", ncols=4, fontsize=10)
    headline(figure, title)
    return figure


def intensities(values: Mapping[str, float], limit: float, *, title: str = "", ax: Axes | None = None) -> Axes:
    """MACs for each byte as dots on a logarithmic axis, and the limit of a device; 0 stands at the left end."""
    ax = axes_or_new(ax, (8.5, 2.9))
    left = 0.15
    ax.axvspan(left / 1.3, limit, color="#F0F0F0", lw=0, zorder=0)
    for y, (name, value) in enumerate(values.items()):
        color = BRANCHES.get(name.split(":")[0], "black")
        ax.plot(max(value, left), y, "o" if value else "<", color=color, ms=8)
        ax.text(max(value, left) * 1.2, y, f"{value:.3g}", va="center", fontsize=10)
    ax.set_yticks(range(len(values)), list(values))
    ax.axvline(limit, color=GREY, ls="--", lw=1.2)
    ax.text(limit * 1.08, -0.55, f"V100: {limit:.1f}", fontsize=10, color=GREY)
    ax.set(xscale="log", xlim=(left / 1.3, 300), ylim=(len(values) - 0.5, -0.9), xlabel="MACs for each byte moved")
    set_title(ax, title)
    return ax


def token_sweeps(
    panels: Mapping[str, Mapping[str, tuple[Any, Any]]],
    batch: tuple[Sequence[int], Sequence[float]],
    *,
    title: str = "",
) -> Figure:
    """{unit: {series: (tokens, cost)}} on logarithmic axes, with the exponent from the second point to the last, and
    beside them the time of an image against the size of its batch."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels) + 1, figsize=(13, 4.1))
    for ax, (unit, series) in zip(axes, panels.items()):
        for (name, (tokens, cost)), style in zip(series.items(), ("ko-", "ks:", "b--")):
            tokens, cost = as_array(tokens), as_array(cost)
            slope = np.log(cost[-1] / cost[1]) / np.log(tokens[-1] / tokens[1])
            color = QUERY if style[0] == "b" else "black"
            look = {"color": color, "mfc": "white" if "s" in style else color, "ms": 7 if "s" in style else 5}
            ax.loglog(tokens, cost, style[1:], label=f"{name}: $T^{{{slope:.1f}}}$", **look)
        ax.set_xticks((151, 598, 1343, 2386), ("151", "598", "1343", "2386"))
        ax.minorticks_off()
        low, high = ax.get_ylim()
        ticks = [n for n in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= n <= high]
        ax.set_yticks(ticks, [f"{n:g}" for n in ticks])
        ax.set(xlabel="tokens T of both branches", ylabel=unit)
        ax.legend(fontsize=9)
    axes[-1].plot(*batch, "ko-")
    axes[-1].set(
        xlabel="images in a batch", ylabel="CPU ms for each image", ylim=(0, 1.25 * max(batch[1])), xticks=batch[0]
    )
    headline(figure, title)
    return figure
