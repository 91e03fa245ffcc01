"""Lesson 11, PWAM: pixels and words in one space, the map of one word, and scores with parts of the model changed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xattn_edu.plots.referring import referent
from xattn_edu.plots.style import (
    CYCLE,
    GREY,
    KEY,
    SKY,
    STYLE,
    as_array,
    axes_or_new,
    headline,
    set_title,
    written_all,
)
from xattn_edu.plots.weights import signed_map


def pixels_and_words(
    queries: Any,
    keys: Any,
    colours: Any,
    words: Sequence[str],
    *,
    marked: Any = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Queries of pixels as points and keys of words as arrows, in the plane that shows most of their products.

    The keys are drawn less their mean, which softmax does not notice, and all by one factor, so that they can be read.

    Args:
        queries: (pixel, channel).
        keys: (word, channel).
        colours: (pixel, 3), in 0..1: what a pixel shows.
        words: one name a key.
        marked: (pixel,), True for pixels with a ring around.
        title: the finding.
        ax: the axes to draw on; new ones by default.

    Raises ValueError if queries and keys have not as many channels, or names or colours do not fit.
    """
    q, k, paint = as_array(queries), as_array(keys), as_array(colours)
    if q.ndim != 2 or k.ndim != 2 or q.shape[1] != k.shape[1] or min(k.shape) < 2:
        raise ValueError(
            f"queries (pixel, channel) and keys (word, channel) with as many channels, two words or more, given "
            f"{q.shape} and {k.shape}: choose one scene"
        )
    if len(words) != len(k) or paint.shape != (len(q), 3):
        raise ValueError(f"{len(words)} words for {len(k)} keys, colours {paint.shape} for {len(q)} pixels")
    k = k - k.mean(axis=0)
    scores = (q - q.mean(axis=0)) @ k.T
    plane = np.linalg.qr(k.T @ np.linalg.svd(scores, full_matrices=False)[2][:2].T)[0]  # (channel, 2)
    points, arrows = q @ plane, k @ plane
    arrows = arrows * 0.9 * np.abs(points).max() / np.abs(arrows).max()
    ax = axes_or_new(ax, (6.4, 4.8))
    ax.scatter(points[:, 0], points[:, 1], c=np.clip(paint, 0, 1), s=14, edgecolors="none")
    if marked is not None:
        rings = points[as_array(marked) > 0.5]
        ax.scatter(rings[:, 0], rings[:, 1], s=34, facecolors="none", edgecolors="black", linewidths=0.8)
    names, font = written_all(words)
    for name, tip in zip(names, arrows):
        ax.annotate("", tip, (0, 0), arrowprops={"arrowstyle": "->", "color": KEY, "lw": 1.5})
        side: dict[str, Any] = {"ha": "left" if tip[0] >= 0 else "right", "va": "center"}
        ax.annotate(name, tip, (4 * np.sign(tip[0]), 0), textcoords="offset points", color=KEY, **side, **font)
    ax.margins(0.12)
    ax.update_datalim(arrows)
    ax.autoscale_view()
    ax.set_aspect("equal")
    ax.set(xticks=[], yticks=[])
    set_title(ax, title)
    return ax


def word_maps(
    image: Any,
    shares: Any,
    words: Sequence[str],
    *,
    mask: Any = None,
    predicted: Any = None,
    sentence: str = "",
    limit: float = 1,
    title: str = "",
) -> Figure:
    """Where some words are read: an image and, as large, a map for each word, all on one scale with a colour bar.

    Args:
        image, mask, predicted, sentence: as in `referent`.
        shares: (row, column, word), in even shares: a pixel's attention times the number of words in its sentence. The
            mean over the pixels is subtracted here.
        words: the words' names.
        limit: the scale's ends, in even shares.
        title: the finding.

    Raises ValueError if there are not as many names as maps.
    """
    array = as_array(shares)
    if array.ndim != 3 or array.shape[2] != len(words):
        raise ValueError(f"shares must be (row, column, word) with {len(words)} words, given {array.shape}")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 1 + len(words), figsize=(2.7 * (1 + len(words)) + 0.8, 3.1))
    referent(image, mask, sentence, predicted=predicted, width=26, ax=axes[0])
    for ax, word, values in zip(axes[1:], words, np.moveaxis(array - array.mean(axis=(0, 1)), 2, 0)):
        signed_map(values, limit=limit, title=word, ax=ax)
    figure.colorbar(axes[-1].images[-1], ax=axes, label="even shares, less the mean", shrink=0.8, pad=0.01)
    headline(figure, title)
    return figure


def score_bars(
    scores: Mapping[str, float],
    *,
    whole: float | None = None,
    groups: Sequence[int] | None = None,
    label: str = "mIoU",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """One bar a score, with its number; a dotted line at `whole`, the score of the model as it is.

    `groups` (one number a bar) gives bars that belong together one colour. Raises ValueError without scores or if there
    are not as many groups as scores.
    """
    groups = [0] * len(scores) if groups is None else groups
    if not scores or len(groups) != len(scores):
        raise ValueError(
            f"{len(groups)} groups for {len(scores)} scores: give a group for each, and one score at least"
        )
    colours = [SKY, *CYCLE[1:2], GREY, *CYCLE[3:]]
    ax = axes_or_new(ax, (7.2, 0.36 * len(scores) + 1.1))
    names, font = written_all(list(scores))
    bars = ax.barh(range(len(scores)), list(scores.values()), color=[colours[i % len(colours)] for i in groups])
    ax.set_yticks(range(len(scores)), names, **font)
    if whole is not None:
        ax.axvline(whole, color="black", ls=":", lw=1.5)
    background = {"fc": "white", "ec": "none", "pad": 1}  # so that the line does not cross a number
    ax.bar_label(bars, fmt="%.3f", padding=5, fontsize=9, bbox=background)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1.2 * max(*scores.values(), whole or 0, 1e-3)), xlabel=label)
    set_title(ax, title)
    return ax


def dots_by_group(
    panels: Mapping[str, Mapping[str, Any]], *, control: str = "", label: str = "", title: str = ""
) -> Figure:
    """Measurements as dots with their mean as a line: {panel: {group: values}}, the groups of a panel below each other.

    The group called `control` is grey. All panels share one axis, with a dotted line at 0. Raises ValueError without a
    panel, or for a group without values.
    """
    if not panels or any(not len(as_array(values)) for groups in panels.values() for values in groups.values()):
        raise ValueError("dots_by_group needs one panel at least, and values in every group")
    with plt.rc_context(STYLE):
        rows = max(map(len, panels.values()))
        size = (4.2 * len(panels) + 1.2, 0.55 * rows + 1.5)
        figure, axes = plt.subplots(1, len(panels), figsize=size, sharex=True, squeeze=False)
    for ax, (name, groups) in zip(axes[0], panels.items()):
        for place, (group, given) in enumerate(groups.items()):
            values = as_array(given)
            colour = GREY if group == control else KEY
            at = place + np.linspace(-0.22, 0.22, len(values))
            ax.plot(values, at, "o", ms=3.5, color=colour, alpha=0.5)
            ax.vlines(values.mean(), place - 0.36, place + 0.36, color="black")
        names, font = written_all(list(groups))
        ax.set_yticks(range(len(groups)), names, **font)
        ax.axvline(0, color=GREY, ls=":", lw=1.5)
        ax.invert_yaxis()
        ax.set_xlabel(label)
        set_title(ax, name)
    headline(figure, title)
    return figure
