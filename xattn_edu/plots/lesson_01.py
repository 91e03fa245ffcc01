"""Pictures of lesson 1: one look-up, tables on one scale, multi-head attention, attention as a filter."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from xattn_edu.plots.style import (
    CYCLE,
    GREY,
    KEY,
    OUTPUT,
    QUERY,
    STYLE,
    VALUE,
    as_array,
    axes_or_new,
    caption,
    headline,
    set_title,
)
from xattn_edu.plots.weights import attention_heatmap, attention_over_image

# --- one look-up


def look_up(query: Any, keys: Any, values: Any, shares: Any) -> Figure:
    """One query (2,) among keys (key, 2) as arrows, and the values (key,) as bars as wide as their shares (key,).

    The output is the mean height of the bars. Raises ValueError for arrays that do not fit.
    """
    query, keys, values, shares = (as_array(given) for given in (query, keys, values, shares))
    if query.shape != (2,) or keys.shape != (len(values), 2) or values.shape != shares.shape:
        raise ValueError(
            "expected a query (2,), keys (key, 2), values (key,) and shares (key,), given "
            f"{query.shape}, {keys.shape}, {values.shape}, {shares.shape}"
        )
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), width_ratios=[1, 1.35])
    for number, (key, share) in enumerate(zip(keys, shares)):
        _ray(left, key, KEY)
        side = "left" if key[0] > 0.2 else "right"
        left.annotate(f"key {number}: {share:.2f}", 1.06 * key, color=KEY, ha=side, va="center", fontsize=9.5)
    _ray(left, query, QUERY)
    left.annotate("query", 1.06 * query, color=QUERY, ha="center", va="bottom", fontsize=11)
    left.plot(0, 0, "o", color="black", ms=5)
    reach = 1.5 * np.abs(np.vstack([keys, query])).max()
    left.set(xlim=(-reach, reach), ylim=(min(keys[:, 1].min(), 0) - 0.4, 0.85 * reach), aspect="equal")
    left.set_axis_off()
    set_title(left, "One query shares out its attention")
    start = np.cumsum(shares) - shares
    right.bar(start, values, width=shares, align="edge", color=VALUE, edgecolor="white", alpha=0.8)
    for number, (at, share, value) in enumerate(zip(start, shares, values)):
        middle, text = at + share / 2, f"value {number} = {value:g}"
        if share > 0.15:
            right.text(middle, value + 0.06, text, color=VALUE, ha="center", va="bottom", fontsize=9.5)
        elif share > 0.005:  # too thin a bar for its name; one that cannot be seen needs none
            aside = (min(max(middle, 0.13), 0.8 + 0.06 * (number % 2)), values.max() + 0.4 + 0.8 * (number % 2))
            line = {"arrowstyle": "-", "color": "black", "lw": 0.8}
            look: dict[str, Any] = {"color": VALUE, "ha": "center", "va": "bottom", "fontsize": 9.5}
            right.annotate(text, (middle, value), aside, arrowprops=line, **look)
    mean = float(shares @ values)
    right.axhline(mean, color=OUTPUT, lw=2.5)
    right.annotate(f" output\n {mean:.2f}", (1, mean), color=OUTPUT, va="center", annotation_clip=False)
    right.set(xlim=(0, 1), ylim=(0, values.max() + 2), xlabel="share of the attention", ylabel="value")
    set_title(right, "The output is the mean height of the bars")
    return figure


def _ray(ax: Axes, end: Any, colour: str) -> None:
    """An arrow from the origin."""
    ax.annotate("", tuple(end), (0, 0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 2, "shrinkA": 0})


# --- tables on one scale


def weight_tables(
    tables: Mapping[str, Any],
    *,
    queries: Sequence[str] | None = None,
    keys: Sequence[str] | None = None,
    numbers: bool = False,
    title: str = "",
) -> Figure:
    """Attention weights {title: (query, key)} side by side on one scale, 0 to 1, with its bar.

    `queries` and `keys` label the rows and columns of each table, and `numbers` writes the weights into them. Raises
    ValueError for no tables, and as `attention_heatmap` does.
    """
    if not tables:
        raise ValueError("weight_tables needs at least one table, given none")
    arrays = {name: as_array(table) for name, table in tables.items()}
    widths = [max(table.shape[-1], 4) for table in arrays.values()]
    width = min(0.4 * sum(widths) + 1.1 * len(widths) + 0.8, 13)
    cell = (width - 0.75 * len(widths) - 0.8) / sum(widths)
    with plt.rc_context(STYLE):
        size = (width, cell * max(table.shape[0] for table in arrays.values()) + 1.2)
        figure, axes = plt.subplots(1, len(tables), figsize=size, width_ratios=widths, squeeze=False)
    for ax, (name, table) in zip(axes[0], arrays.items()):
        attention_heatmap(table, queries=queries, keys=keys, numbers=numbers, ax=ax)
        ax.images[0].set_clim(0, 1)
        for text, weight in zip(ax.texts, table.flat):
            text.set_color("white" if weight > 0.6 else "black")
        caption(ax, name)
    figure.colorbar(axes[0, -1].images[0], ax=axes[0, :].tolist(), label="weight", shrink=0.8, ticks=[0, 0.5, 1])
    headline(figure, title)
    return figure


# --- multi-head attention


def multi_head_diagram(
    *, tokens: int = 5, width: int = 8, heads: int = 2, context: tuple[int, int] | None = None, title: str = ""
) -> Axes:
    """Multi-head attention as matrices and arrows, with the shape (row x column) of everything.

    Args:
        tokens: number of tokens, which are the queries.
        width: channels of a token.
        heads: number of heads, 2 or 3 (more have no room).
        context: tokens and channels of the context; by default the tokens are their own context.
        title: the finding.

    Raises ValueError for other numbers of heads, or heads that do not divide the width.
    """
    if heads not in (2, 3) or width % heads:
        raise ValueError(f"the diagram has room for 2 or 3 heads, which divide the width: given {heads} and {width}")
    others, context_width = (tokens, width) if context is None else context
    ax = axes_or_new(None, (12.5, 5))
    top, middle, bottom = 4.9, 2.75, 0.6
    own = context is None
    _matrix(ax, (0.9, middle if own else top), [GREY], "tokens", f"{tokens} x {width}")
    if not own:
        _matrix(ax, (0.9, (middle + bottom) / 2), [GREY], "context", f"{others} x {context_width}")
    for letter, y, colour, rows, wide in (
        ("Q", top, QUERY, tokens, width),
        ("K", middle, KEY, others, context_width),
        ("V", bottom, VALUE, others, context_width),
    ):
        source = middle if own else top if letter == "Q" else (middle + bottom) / 2
        _arrow(ax, (1.65, source), (2.85, y), colour)
        _operation(ax, f"$W^{letter}$\n{wide} x {width}", (3.4, y), colour)
        _arrow(ax, (3.95, y), (4.85, y), colour)
        _matrix(ax, (5.55, y), _shades(colour, heads), f"${letter}$", f"{rows} x {width}")
    for head in range(heads):
        _head(ax, head, heads, (tokens, others, width // heads), (top, middle, bottom))
    _matrix(ax, (12.15, middle), _shades(OUTPUT, heads), "heads,\nside by side", f"{tokens} x {width}")
    _arrow(ax, (12.85, middle), (13.35, middle), OUTPUT)
    _operation(ax, f"$W^O$\n{width} x {width}", (13.9, middle), OUTPUT)
    _arrow(ax, (14.45, middle), (14.95, middle), OUTPUT)
    _matrix(ax, (15.65, middle), [OUTPUT], "output", f"{tokens} x {width}")
    for x, text in (
        (3.4, "1  project: each matrix\nreads all channels"),
        (5.9, "2  share the\nchannels out"),
        (9.1, "3  each head attends\nby itself"),
        (13.6, "4  put the heads side by side,\nproject again"),
    ):
        ax.text(x, 6.5, text, ha="center", va="center", fontsize=10, fontweight="bold")
    ax.set(xlim=(0, 16.5), ylim=(-0.6, 6.9))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _head(ax: Axes, head: int, heads: int, sizes: tuple[int, int, int], rows: tuple[float, float, float]) -> None:
    """One head's box, the arrows that bring its share of each of Q, K and V, and the arrow of its output."""
    tokens, others, dim = sizes
    y = np.linspace(rows[0] - 0.5, rows[2] + 0.5, heads)[head]
    lift = 0.3 * (1 - 2 * head / (heads - 1))
    for number, (source, colour) in enumerate(zip(rows, (QUERY, KEY, VALUE))):
        _arrow(ax, (6.3, source + lift), (7.35, y + 0.35 - 0.35 * number), _shades(colour, heads)[head])
    i = head + 1
    lines = (
        f"head {i}:  $Q_{i}$ {tokens} x {dim},  $K_{i}$ and $V_{i}$ {others} x {dim}",
        rf"$A_{i} = \mathrm{{softmax}}(Q_{i} K_{i}^\top / \sqrt{{{dim}}})$   {tokens} x {others}",
        f"$A_{i} V_{i}$   {tokens} x {dim}",
    )
    frame = {"boxstyle": "round,pad=0.45", "fc": "white", "ec": "black", "lw": 1.2}
    ax.text(9.15, y, "\n".join(lines), ha="center", va="center", fontsize=9.5, bbox=frame, linespacing=1.6)
    _arrow(ax, (10.95, y), (11.4, rows[1] + lift), _shades(OUTPUT, heads)[head])


def _shades(colour: str, count: int) -> list[Any]:
    """The colour for the first head, paler for each head after it."""
    return [tuple(1 - (1 - np.array(to_rgb(colour))) * (1 - 0.55 * n / max(count - 1, 1))) for n in range(count)]


def _matrix(ax: Axes, centre: tuple[float, float], colours: Sequence[Any], name: str, shape: str) -> None:
    """A matrix, 1.4 x 1.1, in as many strips of channels as there are colours."""
    (x, y), strip = centre, 1.4 / len(colours)
    for number, colour in enumerate(colours):
        ax.add_patch(plt.Rectangle((x - 0.7 + number * strip, y - 0.55), strip, 1.1, fc=colour, ec="white", zorder=2))
    for line in np.linspace(y - 0.55, y + 0.55, 6)[1:-1]:
        ax.plot([x - 0.7, x + 0.7], [line, line], color="white", lw=0.8, zorder=3)
    ax.text(x, y + 0.62, name, ha="center", va="bottom", fontsize=10)
    ax.text(x, y - 0.62, shape, ha="center", va="top", fontsize=9.5)


def _operation(ax: Axes, text: str, centre: tuple[float, float], colour: str) -> None:
    frame = {"boxstyle": "round,pad=0.5", "fc": "white", "ec": colour, "lw": 2}
    ax.text(*centre, text, ha="center", va="center", fontsize=10, color=colour, bbox=frame, zorder=4)


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: Any) -> None:
    look = {"arrowstyle": "-|>", "color": colour, "lw": 1.8, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, start, arrowprops=look, zorder=1)


# --- attention as an old filter


def kernel_curves(x: Any, y: Any, grid: Any, curves: Mapping[str, Any], *, truth: Any = None, title: str = "") -> Axes:
    """Points (x, y), and over a grid of queries the curves {name: output} that attention draws through them.

    `truth` is the curve that the points were made of. Raises ValueError for more curves than colours.
    """
    if len(curves) > len(CYCLE):
        raise ValueError(f"{len(curves)} curves for {len(CYCLE)} colours: draw fewer")
    ax = axes_or_new(None, (7.5, 3.4))
    ax.plot(as_array(x), as_array(y), "o", color=VALUE, ms=5, label="values, at their keys")
    if truth is not None:
        ax.plot(as_array(grid), as_array(truth), color=GREY, ls=":", label="truth")
    for (name, curve), colour in zip(curves.items(), CYCLE):
        ax.plot(as_array(grid), as_array(curve), color=colour, label=name)
    ax.set(xlabel="place x (keys, and queries)", ylabel="value y")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    set_title(ax, title)
    return ax


def filtered_images(images: Mapping[str, Any], looked_at: Mapping[str, tuple[tuple[int, int], Any]]) -> Figure:
    """Grey images {caption: image}, then {caption: (pixel, its attention)} over the first image, the pixel circled.

    An attention map is (row, column), on its own scale: bright is the largest weight of that pixel. Raises ValueError
    for no images.
    """
    if not images:
        raise ValueError("filtered_images needs at least one image, given none")
    count = len(images) + len(looked_at)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, count, figsize=(2.15 * count, 2.7), squeeze=False)
    for ax, (name, image) in zip(axes[0], images.items()):
        ax.imshow(as_array(image), cmap="gray", vmin=0, vmax=1)
        ax.set_axis_off()
        caption(ax, name)
    first = next(iter(images.values()))
    for ax, (name, ((row, column), weights)) in zip(axes[0, len(images) :], looked_at.items()):
        attention_over_image(first, weights, ax=ax)
        ax.plot(column + 0.5, row + 0.5, "o", mfc="none", mec=QUERY, mew=2.5, ms=11)
        caption(ax, name)
    return figure
