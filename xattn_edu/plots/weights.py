"""Attention weights as tables and over images."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy import ndarray

from xattn_edu.plots.style import (
    GREY,
    KEY,
    ORANGE,
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
    written_all,
)


def attention_heatmap(
    weights: Any,
    *,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    title: str = "",
    numbers: bool | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Attention weights (query, key) as a table of colours: a row holds the weights of one query.

    Args:
        weights: (query, key).
        queries, keys: labels of the rows and of the columns.
        title: the title of the plot.
        numbers: whether to write the weights into the table; by default up to 8 x 8.
        ax: the axes to draw on; new ones by default.

    Raises ValueError for weights that are not two-dimensional or labels that do not fit.
    """
    array = as_array(weights)
    if array.ndim != 2:
        raise ValueError(f"weights must be (query, key), given {array.shape}: choose one image and head first")
    for name, labels, size in (("queries", queries, array.shape[0]), ("keys", keys, array.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{len(labels)} labels in {name} for weights of shape {array.shape}")
    ax = axes_or_new(ax, (0.55 * min(array.shape[1], 10) + 1.6, 0.45 * min(array.shape[0], 10) + 1.4))
    top = max(float(array.max()), 1e-12)
    ax.imshow(array, cmap=WEIGHTS, vmin=0, vmax=top, aspect="auto" if array.shape[0] != array.shape[1] else "equal")
    ax.spines[:].set_visible(False)
    for axis, labels in ((ax.yaxis, queries), (ax.xaxis, keys)):
        if labels is None:
            axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        else:
            names, font = written_all(labels)
            axis.set_ticks(range(len(labels)), names, **font)
        axis.set_tick_params(length=0)
    if keys is not None and max(map(len, keys)) > 3:
        ax.tick_params(axis="x", labelrotation=45)
    ax.set_xlabel("key", color=KEY)
    ax.set_ylabel("query", color=QUERY)
    set_title(ax, title)
    if numbers or (numbers is None and max(array.shape) <= 8):
        for (row, column), weight in np.ndenumerate(array):
            shade = "white" if weight > 0.6 * top else "black"
            ax.text(column, row, f"{weight:.2f}", ha="center", va="center", color=shade, fontsize=9)
    return ax


def alignment(
    weights: Any, *, source: Sequence[str], target: Sequence[str], title: str = "", ax: Axes | None = None
) -> Axes:
    """Cross-attention (target, source) as lines from each target token, below, to source tokens, above.

    The darker and thicker the line, the larger the weight; weights below 0.1 are not drawn. Raises ValueError for
    weights that are not two-dimensional or labels that do not fit.
    """
    array = as_array(weights)
    if array.shape != (len(target), len(source)):
        raise ValueError(f"{len(target)} target and {len(source)} source tokens for weights of shape {array.shape}")
    ax = axes_or_new(ax, (0.11 * max(len(" ".join(labels)) for labels in (source, target)) + 1.5, 2.2))
    places: list[ndarray] = []
    for labels, height, color, side in ((source, 1, KEY, "bottom"), (target, 0, QUERY, "top")):
        room = np.cumsum([0, *(len(label) + 1.5 for label in labels)])  # for long words more than for digits
        places.append((room[:-1] + room[1:]) / (2 * room[-1]))
        names, font = written_all(labels)
        for place, name in zip(places[-1], names):
            ax.text(place, height + (0.06 if height else -0.06), name, ha="center", va=side, color=color, **font)
    for (row, column), weight in np.ndenumerate(array):
        if weight >= 0.1:
            ends = [places[1][row], places[0][column]], [0, 1]
            ax.plot(*ends, color=plt.get_cmap(WEIGHTS)(0.25 + 0.75 * min(weight, 1)), lw=0.5 + 2.5 * weight)
    ax.set(xlim=(0, 1), ylim=(-0.3, 1.3))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def attention_over_image(
    image: Any, weights: Any, *, full: float | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """One query's attention over a grid of patches (rows, columns), laid over the image it comes from.

    A patch is dark at weight 0 and fully bright at `full` (by default the largest weight).
    Raises ValueError for weights that are not a grid.
    """
    array, grid = as_image(image), as_array(weights)
    if grid.ndim != 2:
        raise ValueError(f"weights must be a grid (rows, columns) of patches, given {grid.shape}: reshape them first")
    ax = axes_or_new(ax, (2.6, 2.6))
    extent = (0, array.shape[1], array.shape[0], 0)
    ax.imshow(0.6 * array, cmap="gray", vmin=0, vmax=1, extent=extent)  # dimmed, so that the weights shine
    strength = np.clip(grid / max(float(grid.max()) if full is None else full, 1e-12), 0, 1)
    light = np.broadcast_to(to_rgba("#FFB000"), (*grid.shape, 4)).copy()
    light[..., 3] = 0.9 * strength
    ax.imshow(light, extent=extent, interpolation="nearest")
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def attention_rollout(
    images: Sequence[Any], rollouts: Sequence[Any], *, titles: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Images in one row, below each the same image under its rollout (rows, columns) from the class token.

    A patch lights up if more than an even share of it arrives, fully at two and a half times that: maps of different
    images and models can be compared, and an even map stays dark.
    Raises ValueError if there are not as many rollouts (and titles) as images.
    """
    titles = [""] * len(images) if titles is None else titles
    if not len(images) == len(rollouts) == len(titles) or not len(images):
        raise ValueError(f"{len(images)} images, {len(rollouts)} rollouts, {len(titles)} titles: give as many of each")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, len(images), figsize=(1.35 * len(images), 3.2), squeeze=False)
    for column, (image, rollout, name) in enumerate(zip(images, rollouts, titles)):
        axes[0, column].imshow(as_image(image), cmap="gray", vmin=0, vmax=1)
        axes[0, column].set_axis_off()
        caption(axes[0, column], name)
        share = as_array(rollout) / max(float(as_array(rollout).mean()), 1e-12)  # 1: an even share
        attention_over_image(image, share - 1, full=1.5, ax=axes[1, column])
    headline(figure, title)
    return figure


def word_shares(
    shares: Mapping[str, Any],
    words: Sequence[str],
    *,
    colours: Sequence[str] = (KEY, GREY, ORANGE, SKY),
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """The share of attention that each word gets: one bar a word, from the top down in the sentence's order.

    `shares` holds {group: one share a word}, for one pixel or for several groups of them, whose bars lie side by side
    in `colours`; `ax.legend()` names the groups. Raises ValueError when there is no group, more groups than colours,
    or one that has not as many shares as there are words.
    """
    if not 1 <= len(shares) <= len(colours):
        raise ValueError(f"{len(shares)} groups for {len(colours)} colours: give one group at least, and a colour each")
    ax = axes_or_new(ax, (3.2, 0.25 * len(words) + 1))
    height = 0.8 / len(shares)
    for number, ((group, given), colour) in enumerate(zip(shares.items(), colours)):
        array = as_array(given)
        if array.shape != (len(words),):
            raise ValueError(f"group {group!r}: shares of shape {array.shape} for {len(words)} words, give one a word")
        at = np.arange(len(words)) + (number - (len(shares) - 1) / 2) * height  # a word can occur twice: by its place
        ax.barh(at, array, height=height, color=colour, label=group)
    names, font = written_all(words)
    ax.set_yticks(range(len(words)), names, fontsize=9, **font)
    ax.set(ylim=(len(words) - 0.4, -0.6), xlabel="attention")
    set_title(ax, title)
    return ax


def signed_map(
    values: Any, *, limit: float | None = None, image: Any = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """A grid (rows, columns) of numbers of either sign: white at 0, orange above, violet below.

    Colours are full at `limit` (the largest size, unless given; give one to compare maps). With an `image` the map lies
    over it, pale and grey. `figure.colorbar(ax.images[-1], ax=ax)` adds the scale. Raises ValueError for values that
    are not a grid.
    """
    array = as_array(values)
    if array.ndim != 2:
        raise ValueError(
            f"values must be a grid (rows, columns), given {array.shape}: choose one channel or word first"
        )
    limit = max(float(np.abs(array).max()), 1e-12) if limit is None else limit
    look: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    shown = None if image is None else as_image(image)
    ax = axes_or_new(ax, (2.6, 2.6))
    if shown is not None:
        look |= {"alpha": 0.6, "extent": (0, shown.shape[1], shown.shape[0], 0)}
        grey = shown if shown.ndim == 2 else shown[..., :3].mean(axis=2)
        ax.imshow(grey, cmap="gray", vmin=-0.8, vmax=2, extent=look["extent"], interpolation="nearest")
    ax.imshow(array, **look)
    ax.set_axis_off()
    caption(ax, title)
    return ax
