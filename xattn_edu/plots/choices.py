"""Choices of queries, keys and values, compared."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from xattn_edu.plots.style import GREY, QUERY, VALUE, axes_or_new, set_title


def queries_against_keys(
    uses: Mapping[str, tuple[int, int]],
    *,
    products: Mapping[float, float] | None = None,
    sides: Mapping[str, str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Attention layers {name: (queries N, keys M)} as points over two logarithmic axes, with the line N = M.

    A point is blue where many queries attend to few keys, green where few attend to many, black on the line.
    `products` {N x M: M} adds dotted lines of equal products, with their number where the line passes that M. Names
    stand to the right of their point, or on the "left" or "above" if `sides` says so.
    Raises ValueError for no uses, sizes below 1, and unknown names or places in `sides`.
    """
    if not uses or min(min(sizes) for sizes in uses.values()) < 1:
        raise ValueError(f"uses must be {{name: (N, M)}}, one at least and all sizes 1 or more, given {dict(uses)}")
    offsets = {"right": (9, 0, "left"), "left": (-9, 0, "right"), "above": (20, 12, "right")}
    for name, side in (sides or {}).items():
        if name not in uses or side not in offsets:
            raise ValueError(f"sides: {name!r} {side!r} is not a name of uses with {', '.join(offsets)}")
    ax = axes_or_new(ax, (9, 5.4))
    most_queries, most_keys = np.max(list(uses.values()), axis=0)
    ax.set(xscale="log", yscale="log", xlim=(0.7, 4 * most_keys), ylim=(0.7, 4 * most_queries))
    ax.set(xlabel="keys and values M", ylabel="queries N")
    note: dict[str, Any] = {"color": GREY, "transform_rotates_text": True, "rotation_mode": "anchor", "ha": "center"}
    ax.axline((1, 1), (10, 10), color=GREY, lw=1.2)
    at = 0.5 * min(most_keys, most_queries)  # in both axes, whatever the sizes
    ax.text(at, 1.2 * at, "N = M", rotation=np.degrees(np.arctan(1.2)), **note)
    for product, keys in (products or {}).items():
        ax.axline((1, product), (product, 1), color=GREY, lw=0.8, ls=":")
        height = 1.2 * product / keys  # a little above the line, and parallel to it
        slope = np.degrees(np.arctan(-height / keys))
        ax.text(keys, height, f"N x M = {product:,.0f}", rotation=slope, size=9, **note)
    for name, (queries, keys) in uses.items():
        colour = "black" if queries == keys else QUERY if queries > keys else VALUE
        ax.plot(keys, queries, "o", ms=9, color=colour)
        x, y, side = offsets[(sides or {}).get(name, "right")]
        ax.annotate(name, (keys, queries), xytext=(x, y), textcoords="offset points", ha=side, va="center", fontsize=10)
    set_title(ax, title)
    return ax
