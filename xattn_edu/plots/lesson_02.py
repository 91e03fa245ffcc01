"""Pictures of lesson 2: self-attention drawn to scale, heads cut right and wrong, what a place sees, real heads."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from xattn_edu.plots.style import (
    GREY,
    KEY,
    OUTPUT,
    QUERY,
    STYLE,
    VALUE,
    WEIGHTS,
    as_array,
    axes_or_new,
    caption,
    headline,
    set_title,
)

# --- one head of self-attention


def self_attention_diagram(tokens: Any, weights: Any, *, title: str = "") -> Axes:
    """z U_qkv = [q, k, v], A = softmax(q k^T / sqrt(D_h)) and SA(z) = A v, as matrices drawn to scale.

    `tokens` z is (token, D) and `weights` U_qkv (D, 3 D_h). A cell is dark where its number is large in its own matrix.
    Queries are blue, keys orange, values green, the output pink. Raises ValueError for matrices that do not fit.
    """
    z, u = as_array(tokens), as_array(weights)
    if z.ndim != 2 or u.ndim != 2 or z.shape[1] != u.shape[0] or u.shape[1] % 3:
        raise ValueError(f"expected tokens (token, D) and weights (D, 3 D_h), given {z.shape} and {u.shape}")
    dim = u.shape[1] // 3
    roles = list(zip("qkv", (QUERY, KEY, VALUE), np.split(u, 3, axis=1)))
    q, k, v = (z @ block for _, _, block in roles)
    scores = q @ k.T / dim**0.5
    a = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    ax = axes_or_new(None, (10.5, 5.4))
    x = _sign(ax, _cells(ax, z, 0, 0, GREY, "z"), 0, r"$\cdot$")
    for letter, colour, block in roles:
        x = _cells(ax, block, x, 0, colour, f"$U_{letter}$") + 0.4
    x = _sign(ax, x - 0.4, 0, "=")
    for (letter, colour, _), made in zip(roles, (q, k, v)):
        x = _cells(ax, made, x, 0, colour, letter) + 0.8
    low = -max(len(z), len(u)) / 2 - max(len(z), dim) / 2 - 4.2
    x = _sign(ax, _cells(ax, a, 0, low, "black", "A"), low, "=  softmax(", 7)
    x = _sign(ax, _cells(ax, q, x, low, QUERY, "q"), low, r"$\cdot$")
    x = _sign(ax, _cells(ax, k.T, x, low, KEY, r"$k^\top$"), low, rf"/ $\sqrt{{{dim}}}$ )", 5)
    x = _sign(ax, _cells(ax, a @ v, x + 1.5, low, OUTPUT, "SA(z)"), low, "=")
    x = _sign(ax, _cells(ax, a, x, low, "black", "A"), low, r"$\cdot$")
    _cells(ax, v, x, low, VALUE, "v")
    ax.set(aspect="equal", xlim=(-0.5, 47), ylim=(low - max(len(z), dim) / 2 - 2, max(len(z), len(u)) / 2 + 2))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _cells(ax: Axes, matrix: Any, left: float, middle: float, colour: str, name: str) -> float:
    """A matrix as unit cells, white (its smallest number) to `colour` (its largest); returns its right edge."""
    rows, columns = matrix.shape
    shades = LinearSegmentedColormap.from_list(name, ["white", colour])
    extent = (left, left + columns, middle - rows / 2, middle + rows / 2)
    ax.imshow(matrix, cmap=shades, extent=extent, interpolation="nearest")
    ax.add_patch(plt.Rectangle((left, middle - rows / 2), columns, rows, fc="none", ec=colour, lw=1.2))
    ax.text(left + columns / 2, middle + rows / 2 + 0.3, name, ha="center", va="bottom", fontsize=12, color=colour)
    ax.text(left + columns / 2, middle - rows / 2 - 0.3, f"{rows} x {columns}", ha="center", va="top", fontsize=9.5)
    return left + columns


def _sign(ax: Axes, left: float, middle: float, sign: str, room: float = 2) -> float:
    """A sign between two matrices; returns where the next one begins."""
    ax.text(left + room / 2, middle, sign, ha="center", va="center", fontsize=15)
    return left + room


# --- heads, cut right and wrong


def owners(blocks: Mapping[str, Any], title: str = "") -> Figure:
    """Blocks {caption: (row, channel)} of token numbers side by side, each number in the colour of its token.

    Raises ValueError for no blocks.
    """
    if not blocks:
        raise ValueError("owners needs at least one block of token numbers, given none")
    arrays = {name: as_array(block).astype(int) for name, block in blocks.items()}
    top = max(block.max() for block in arrays.values())
    widths = [block.shape[1] for block in arrays.values()]
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(arrays), figsize=(11, 3), width_ratios=widths, squeeze=False)
    for ax, (name, block) in zip(axes[0], arrays.items()):
        ax.imshow(block, cmap="viridis", vmin=0, vmax=top)
        for (row, column), number in np.ndenumerate(block):
            shade = "white" if number < 0.7 * top else "black"
            ax.text(column, row, number, ha="center", va="center", fontsize=9, color=shade)
        ax.set(xticks=[], yticks=[])
        caption(ax, name)
    axes[0, 0].set_ylabel("row")
    headline(figure, title)
    return figure


# --- what a place depends on


def dependence_fields(fields: Mapping[str, Any], title: str = "") -> Figure:
    """Sizes of dependence {caption: (row, column)} on one logarithmic scale, 1 for a field's largest; white is zero.

    Raises ValueError for no fields.
    """
    if not fields:
        raise ValueError("dependence_fields needs at least one field, given none")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(fields), figsize=(2.3 * len(fields) + 0.8, 2.9), squeeze=False)
    for ax, (name, given) in zip(axes[0], fields.items()):
        field = as_array(given)
        seen = np.where(field > 0, np.clip(field / field.max(), 1e-4, None), np.nan)
        shown = ax.imshow(np.log10(seen), cmap="YlGnBu", vmin=-4, vmax=0)
        ax.set(xticks=[], yticks=[])
        caption(ax, f"{name}\n{100 * (field > 0).mean():.0f} % of the image")
    bar = figure.colorbar(shown, ax=axes[0].tolist(), shrink=0.8, ticks=[-4, -2, 0], label="size of the gradient")
    bar.ax.set_yticklabels(["1/10,000", "1/100", "largest"])
    headline(figure, title)
    return figure


# --- the heads of a trained model


def head_kinds(kinds: Mapping[str, Any], title: str = "") -> Figure:
    """For each kind of token {caption: (layer, head)} the mean weight that each head gives to it, on one scale, 0 to 1.

    Layers and heads are counted from 1. Raises ValueError for no kinds.
    """
    if not kinds:
        raise ValueError("head_kinds needs at least one table (layer, head), given none")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(kinds), figsize=(3.1 * len(kinds) + 0.9, 2.7), squeeze=False, sharey=True)
    for ax, (name, given) in zip(axes[0], kinds.items()):
        table = as_array(given)
        shown = ax.imshow(table, cmap=WEIGHTS, vmin=0, vmax=1, aspect="auto")
        ax.set_xticks(range(0, table.shape[1], 2), range(1, table.shape[1] + 1, 2))
        ax.set_yticks(range(len(table)), range(1, len(table) + 1))
        ax.set_xlabel("head")
        caption(ax, name)
    axes[0, 0].set_ylabel("layer")
    figure.colorbar(shown, ax=axes[0].tolist(), label="mean weight", ticks=[0, 0.5, 1])
    headline(figure, title)
    return figure


def word_links(
    panels: Mapping[str, tuple[Sequence[str], Any]], *, only: Sequence[str] | None = None, title: str = ""
) -> Figure:
    """Heads {caption: (words, weights (query, key))} as lines from each query word, left, to the key words, right.

    The thicker the line, the larger the weight; weights below 0.1 are not drawn. `only` names the query words whose
    lines are drawn. Raises ValueError for no panels and for weights that do not fit their words.
    """
    if not panels:
        raise ValueError("word_links needs at least one panel, given none")
    longest = max(len(words) for words, _ in panels.values())
    with plt.rc_context(STYLE):
        size = (3.4 * len(panels), 0.24 * longest + 0.9)
        figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False)
    for ax, (name, (words, given)) in zip(axes[0], panels.items()):
        weights = as_array(given)
        if weights.shape != (len(words), len(words)):
            raise ValueError(f"{name!r}: {len(words)} words for weights of shape {weights.shape}")
        for row, word in enumerate(words):
            bold = "bold" if only is not None and word in only else "normal"
            ax.text(-0.03, -row, word, color=QUERY, ha="right", va="center", fontsize=10, fontweight=bold)
            ax.text(1.03, -row, word, color=KEY, ha="left", va="center", fontsize=10)
            for column, weight in enumerate(weights[row]):
                if weight >= 0.1 and (only is None or word in only):
                    look: dict[str, Any] = {"lw": 4 * weight, "alpha": min(1, 0.25 + weight)}
                    ax.plot([0, 1], [-row, -column], color="black", solid_capstyle="butt", **look)
        ax.set(xlim=(-0.6, 1.6), ylim=(0.6 - longest, 0.7))
        ax.set_axis_off()
        caption(ax, name)
    headline(figure, title)
    return figure
