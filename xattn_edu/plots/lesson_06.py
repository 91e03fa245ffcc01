"""Pictures of lesson 6: a run step by step, accuracy against cost, rollout over images, norms, erased patches."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots.style import (
    CYCLE,
    GREY,
    ORANGE,
    OUTPUT,
    SKY,
    STYLE,
    as_array,
    as_image,
    axes_or_new,
    caption,
    headline,
    set_title,
)


def training_steps(rates: Any, losses: Any, *, warmup: int, title: str = "") -> Figure:
    """The learning rate and the loss of each step, one above the other; a grey band marks the `warmup` steps.

    The loss is drawn twice: each step pale, and the mean of the last 25 steps dark. Raises ValueError unless there are
    as many rates as losses.
    """
    rates, losses = as_array(rates), as_array(losses)
    if rates.shape != losses.shape or rates.ndim != 1 or not len(rates):
        raise ValueError(f"{rates.shape} rates and {losses.shape} losses: give one of each for each step")
    with plt.rc_context(STYLE):
        figure, (above, below) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, height_ratios=[1, 1.5])
    steps = np.arange(1, len(rates) + 1)
    above.plot(steps, 1000 * rates, color=ORANGE)
    above.annotate("warm-up", (warmup, 0), xytext=(6, 6), textcoords="offset points", fontsize=9)
    above.set(ylabel="rate × 1000", ylim=(0, None))
    window = min(25, len(losses))
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    below.plot(steps, losses, color=SKY, lw=0.7, alpha=0.8)
    below.plot(steps[window - 1 :], smooth, color="black")
    below.set(xlabel="step", ylabel="loss of the batch", ylim=(0, None))
    for ax in (above, below):
        ax.axvspan(0, warmup, color=GREY, alpha=0.15, lw=0)
    headline(figure, title)
    return figure


def against_cost(
    scores: Mapping[str, tuple[float, Sequence[float]]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Scores against cost, {name: (million MACs, one score in % a seed)}: a tick a seed, the mean and its interval.

    Raises ValueError for no name.
    """
    if not scores:
        raise ValueError("against_cost needs at least one name, given none")
    ax = axes_or_new(ax, (6, 3.5))
    for name, (cost, given) in scores.items():
        interval = mean_interval(given)
        ax.plot(np.full(len(given), cost * 0.93), given, "_", color=GREY, ms=9)
        half = interval.half if np.isfinite(interval.half) else 0
        ax.errorbar(cost, interval.mean, yerr=half, fmt="o", color="black", capsize=4)
        words = f"{name}\n{len(given)} seeds"
        ax.annotate(words, (cost, interval.mean), xytext=(8, 0), textcoords="offset points", fontsize=9, va="center")
    costs = [cost for cost, _ in scores.values()]
    ax.set_xscale("log")
    ax.set_xticks(costs, [f"{cost:.1f}" for cost in costs])
    ax.minorticks_off()
    ax.set(xlabel="million MACs for one image", ylabel="test accuracy (%)", xlim=(0.8 * min(costs), 1.8 * max(costs)))
    set_title(ax, title)
    return ax


def learning_from_few(
    scores: Mapping[str, Mapping[int, Sequence[float]]],
    *,
    colours: Sequence[str] = (ORANGE, OUTPUT, SKY),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores {name: {training images: one score in % a seed}}: the means as lines, the seeds as dots.

    Raises ValueError for no name, and for more names than colours.
    """
    if not 1 <= len(scores) <= len(colours):
        raise ValueError(f"{len(scores)} names, {len(colours)} colours: give one name at least, and a colour each")
    ax = axes_or_new(ax, (7, 3.8))
    sizes = sorted({size for by_size in scores.values() for size in by_size})
    for number, ((name, by_size), colour) in enumerate(zip(scores.items(), colours)):
        shift = 1.06 ** (number - (len(scores) - 1) / 2)  # dots of two names stand side by side
        ax.plot(list(by_size), [np.mean(each) for each in by_size.values()], color=colour, label=name)
        for size, each in by_size.items():
            ax.plot(np.full(len(each), size * shift), each, "o", color=colour, ms=3.5)
    ax.set_xscale("log")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.set(xlabel="training images", ylabel="test accuracy (%)")
    ax.legend(loc="lower right")
    set_title(ax, title)
    return ax


# --- looking inside


def rollout_rows(
    images: Sequence[Any], rows: Mapping[str, Any], *, titles: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Images in the first row, and below them a row of maps for each name in `rows`, {name: (image, row, column)}.

    A map's unit is an even share: 1 is what each patch would have if all had as much. All maps share one scale, 0 to
    2.5; a white line is the outline of the object. Raises ValueError for rows of another length than images.
    """
    titles = [""] * len(images) if titles is None else titles
    for name, maps in {"titles": titles, **rows}.items():
        if len(maps) != len(images):
            raise ValueError(f"{len(images)} images, but {len(maps)} of {name!r}: give one for each image")
    with plt.rc_context(STYLE):
        size = (1.22 * len(images) + 1.2, 1.3 * (len(rows) + 1) + 0.5)
        figure, axes = plt.subplots(len(rows) + 1, len(images), figsize=size, squeeze=False)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    for column, (image, name) in enumerate(zip(images, titles)):
        array = as_image(image)
        axes[0, column].imshow(array, cmap="gray", vmin=0, vmax=1)
        caption(axes[0, column], name)
        extent = (-0.5, array.shape[1] - 0.5, array.shape[0] - 0.5, -0.5)
        for ax, maps in zip(axes[1:, column], rows.values()):
            grid = as_array(maps[column])
            share = grid / max(float(grid.mean()), 1e-12)
            shown = ax.imshow(share, cmap="inferno", vmin=0, vmax=2.5, extent=extent)
            ax.contour(array, levels=[0.15], colors="white", linewidths=0.8)
    for ax, name in zip(axes[:, 0], ("image", *rows)):
        ax.set_ylabel(name, fontsize=10)
    figure.colorbar(shown, ax=axes[1:], shrink=0.8, fraction=0.03, label="times an even share")
    headline(figure, title)
    return figure


def stream_norms(norms: Mapping[str, Any], *, title: str = "", ax: Axes | None = None) -> Axes:
    """Lengths {part: one a layer}, a bar for each part of each layer side by side, with the number above the bar.

    Raises ValueError for no part, more than three, and parts of different lengths.
    """
    arrays = {name: as_array(given) for name, given in norms.items()}
    if not 1 <= len(arrays) <= 3 or len({array.shape for array in arrays.values()}) != 1:
        shapes = [array.shape for array in arrays.values()]
        raise ValueError(f"give one to three parts, each with one length a layer, given {shapes}")
    ax = axes_or_new(ax, (7, 3.2))
    wide = 0.8 / len(arrays)
    for number, ((name, array), colour) in enumerate(zip(arrays.items(), (GREY, SKY, ORANGE))):
        at = np.arange(1, len(array) + 1) + (number - (len(arrays) - 1) / 2) * wide
        ax.bar(at, array, width=0.92 * wide, color=colour, label=name)
        for x, height in zip(at, array):
            ax.text(x, height, f"{height:.1f}", ha="center", va="bottom", fontsize=9)
    ax.set(xticks=range(1, len(array) + 1), xlabel="layer", ylabel="length of the vector")
    ax.legend(fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    set_title(ax, title)
    return ax


def erased(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str = "",
    colours: Sequence[str] = (ORANGE, CYCLE[0], GREY, SKY),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Accuracy after patches were erased, {order: (what was erased, accuracy)}, both (seed, point).

    A thin line for each seed, a thick one for their mean. Raises ValueError for arrays that do not fit, and for more
    orders than colours.
    """
    if not 1 <= len(curves) <= len(colours):
        raise ValueError(f"{len(curves)} orders, {len(colours)} colours: give one order at least, and a colour each")
    ax = axes_or_new(ax, (6.4, 3.8))
    for (name, (given, scores)), colour in zip(curves.items(), colours):
        gone, accuracy = as_array(given), as_array(scores)
        if gone.shape != accuracy.shape or gone.ndim != 2:
            raise ValueError(f"{name!r}: {gone.shape} and {accuracy.shape}, give two arrays (seed, point)")
        ax.plot(gone.T, accuracy.T, color=colour, lw=0.6, alpha=0.6)
        ax.plot(gone.mean(axis=0), accuracy.mean(axis=0), "o-", ms=4, color=colour, label=name)
    ax.set(xlabel=xlabel, ylabel="test accuracy (%)", xlim=(0, None), ylim=(0, 100))
    ax.legend(fontsize=9, loc="lower left")
    set_title(ax, title)
    return ax


# --- the ViT paper's table


def patch_or_size(
    published: Mapping[str, tuple[float, float]], widths: Mapping[str, int], marks: Mapping[str, int]
) -> Figure:
    """Two panels: the paper's accuracy against its cost, and the quadratic part of a block against the tokens.

    Args:
        published: {"ViT-B/32": (exaFLOPs, accuracy in %)}; models of one size (B, L) are joined by a line.
        widths: {size: channels of a token}.
        marks: {patch size as "/16": tokens of an image of 224 pixels}.

    Raises ValueError for a model whose size is not in `widths`.
    """
    sizes = {name: name.split("-")[1][0] for name in published}
    if unknown := sorted(set(sizes.values()) - set(widths)):
        raise ValueError(f"widths has no size {', '.join(unknown)}, only {', '.join(widths)}")
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.7))
    tokens = np.arange(10, 4100, 10)
    for (size, width), colour in zip(widths.items(), (CYCLE[0], CYCLE[2])):
        points = [published[name] for name in published if sizes[name] == size]
        left.plot(*zip(*points), "o-", color=colour)
        linear, square = 12 * tokens * width**2, 2 * tokens**2 * width
        right.plot(tokens, 100 * square / (linear + square), color=colour, label=f"ViT-{size}, width {width}")
    for name, point in published.items():
        above = name.endswith("/32")  # two models cost nearly the same: one name goes up, one down
        place: dict[str, Any] = {"xytext": (0, 7 if above else -15), "ha": "right" if above else "left"}
        left.annotate(name, point, textcoords="offset points", fontsize=9, **place)
    for name, count in marks.items():
        right.axvline(count, color=GREY, lw=0.8, ls=":")
        right.annotate(f"{name}\n{count}", (count, 39), xytext=(3, 0), textcoords="offset points", fontsize=9,
                       color=GREY, va="top")  # fmt: skip
    left.set(xlabel="pre-training cost (exaFLOPs)", ylabel="ImageNet top-1 after fine-tuning (%)")
    left.set(xlim=(-60, 920), ylim=(79.5, 87.2))
    right.set(xscale="log", xlabel="tokens N (an image of 224 pixels)", ylabel="quadratic part of a block (%)")
    right.set_ylim(0, 40)
    right.legend(loc="center left", fontsize=9, frameon=True, facecolor="white", edgecolor="none")
    set_title(left, "Published: L/32 matches B/16 at its cost")
    set_title(right, "Counted: up to 4 % at 197 tokens")
    return figure
