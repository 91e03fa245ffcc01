"""Drawings of lesson 3: a summary for each step, the Transformer with norms and residuals, heads that share keys."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Rectangle

from xattn_edu.plots.style import GREY, KEY, OUTPUT, QUERY, STYLE, VALUE, axes_or_new, set_title

PLUS: dict[str, Any] = {"boxstyle": "circle,pad=0.15", "fc": "white", "ec": "black", "lw": 1.2}


def box(
    ax: Axes, text: str, x: float, y: float, colour: str = GREY, *, width: float = 2.4, height: float = 0.56
) -> None:
    """A filled box with white words, its middle at (x, y)."""
    corner = (x - width / 2, y - height / 2)
    shape = FancyBboxPatch(
        corner, width, height, boxstyle="round,pad=0,rounding_size=0.1", fc=colour, ec="none", zorder=3
    )
    ax.add_patch(shape)
    ax.text(x, y, text, ha="center", va="center", color="white", fontsize=10, zorder=4)


def arrow(ax: Axes, *points: tuple[float, float], colour: str = "black", lw: float = 1.5, head: bool = True) -> None:
    """A line through the points, with its head at the last one."""
    *_, before, end = points
    ax.plot(*zip(*points[:-1]), color=colour, lw=lw, zorder=2, solid_joinstyle="miter")
    style = {"arrowstyle": "-|>" if head else "-", "color": colour, "lw": lw, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", end, before, arrowprops=style, zorder=2)


def fixed_and_own_summaries() -> Figure:
    """Two decoders: all steps read one vector c, or each step t reads its own weighted mean c_t."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11, 3.1))
    weights = ((0.1, 0.1, 0.9), (0.9, 0.15, 0.1), (0.1, 0.9, 0.15))
    for ax, own in zip(axes, (False, True)):
        for place in range(3):
            box(ax, f"$h_{place + 1}$", 2 * place, 0, KEY, width=0.8)
            box(ax, f"step {place + 1}", 2 * place, 3.4, QUERY, width=1.2)
            middle = 2 * place if own else 2
            if own or place == 0:
                box(
                    ax,
                    f"$c_{place + 1}$" if own else "$c$: one vector for all steps",
                    middle,
                    1.9,
                    VALUE,
                    width=0.8 if own else 4.4,
                )
            arrow(ax, (middle if own else 2 * place, 2.18), (2 * place, 3.1))
            for source in range(3):
                if own:
                    arrow(ax, (2 * source, 0.28), (middle, 1.6), lw=0.6 + 3 * weights[place][source], colour=KEY)
                elif place == 0:
                    arrow(ax, (2 * source, 0.28), (2 * source, 1.6), colour=KEY)
        ax.text(-0.7, 0, "encoder", ha="right", va="center", fontsize=10, color=KEY)
        ax.text(-0.7, 3.4, "decoder", ha="right", va="center", fontsize=10, color=QUERY)
        if own:
            ax.text(-0.7, 1.0, "width of a line:\nits weight", ha="right", va="center", fontsize=9.5, color=KEY)
        ax.set(xlim=(-2.5, 5), ylim=(-0.5, 3.9))
        ax.set_axis_off()
    set_title(axes[0], r"Bottleneck: every step reads the same $\mathbf{c}$")
    set_title(axes[1], r"Attention: each step has its own weighted mean $\mathbf{c}_t$")
    return figure


def transformer_diagram(
    *, source: int = 6, target: int = 3, width: int = 64, layers: int = 2, title: str = "", ax: Axes | None = None
) -> Axes:
    """The Transformer with its post-norm residuals and the shapes (token x channel) of one pair of sentences.

    Queries are blue, keys orange, values green. Raises ValueError for a size below 1.

    Args:
        source, target: tokens of the source, and of the answer so far.
        width: channels of a token.
        layers: of the encoder, and as many of the decoder.
        title: the finding.
        ax: the axes to draw on; new ones by default.

    Source: Vaswani et al., "Attention Is All You Need" (2017), figure 1.
    """
    if min(source, target, width, layers) < 1:
        raise ValueError(f"sizes must be 1 or more, given source {source}, target {target}, {width} x {layers}")
    ax = axes_or_new(ax, (10.5, 7.2))
    left, right = 0.0, 6.4
    for x, words, tokens in ((left, "the source", source), (right, "the answer so far", target)):
        ax.text(x, -1.75, words, ha="center", va="center", fontsize=10.5)
        arrow(ax, (x, -1.5), (x, -0.98))
        box(ax, "embedding + position", x, -0.7)
        arrow(ax, (x, -0.42), (x, 0.45))
        ax.text(x + 0.12, -0.12, f"{tokens} x {width}", fontsize=9.5, va="center")
    _sublayer(ax, left, 1.3, "self-attention", -1, "qkv")
    top = _sublayer(ax, left, 3.6, "feed-forward", -1, "")
    _frame(ax, left, top, layers, -1)
    _sublayer(ax, right, 1.3, "causal self-attention", 1, "qkv")
    _sublayer(ax, right, 3.6, "cross-attention", 1, "q")
    last = _sublayer(ax, right, 5.9, "feed-forward", 1, "")
    _frame(ax, right, last, layers, 1)
    arrow(ax, (left, top), (left, top + 0.75), (3.0, top + 0.75), (3.0, 3.75), colour=GREY, head=False)
    ax.text(1.6, top + 1.0, f"memory {source} x {width}", fontsize=9.5, ha="center")
    for shift, letter, colour in ((0.14, "K", KEY), (-0.14, "V", VALUE)):
        ax.plot([3.0, 3.0], [3.6 + shift, 3.75], color=GREY, lw=1.5, zorder=1)
        arrow(ax, (3.0, 3.6 + shift), (right - 1.2, 3.6 + shift), colour=colour, lw=2)
        ax.text(3.8, 3.6 + 2.1 * shift, letter, color=colour, fontsize=10.5, ha="center", va="center", weight="bold")
    box(ax, "embedding, transposed", right, last + 0.95)
    arrow(ax, (right, last), (right, last + 0.67))
    ax.text(right + 0.12, last + 0.36, f"{target} x {width}", fontsize=9.5, va="center")
    arrow(ax, (right, last + 1.23), (right, last + 1.75))
    ax.text(right, last + 1.95, f"scores of the next token: {target} x vocabulary", ha="center", fontsize=10.5)
    ax.set(xlim=(-2.6, 9.4), ylim=(-2.1, last + 2.3))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _sublayer(ax: Axes, x: float, y: float, text: str, side: int, letters: str) -> float:
    """A part at height y, above it the sum with the residual and the norm; returns the height of the norm's top."""
    fork, join = y - 0.85, y + 0.62
    box(ax, text, x, y, OUTPUT if letters else GREY)
    if letters:
        for letter, shift, colour in zip("qkv", (-0.7, 0, 0.7) if len(letters) > 1 else (0,), (QUERY, KEY, VALUE)):
            arrow(ax, (x, fork), (x + shift, fork + 0.2), (x + shift, y - 0.28), colour=colour, lw=2)
            ax.text(x + shift + 0.1, y - 0.46, letter.upper(), color=colour, fontsize=10.5, va="center", weight="bold")
    else:
        arrow(ax, (x, fork), (x, y - 0.28))
    around = x + side * 1.55
    arrow(ax, (x, fork), (around, fork), (around, join), (x + side * 0.14, join))
    arrow(ax, (x, y + 0.28), (x, y + 0.5))
    ax.text(x, join, "+", ha="center", va="center", fontsize=9, zorder=5, bbox=PLUS)
    arrow(ax, (x, join + 0.12), (x, join + 0.3))
    box(ax, "LayerNorm", x, join + 0.52, "black", height=0.4)
    return join + 0.72 if text == "feed-forward" else _up(ax, x, join + 0.72)


def _up(ax: Axes, x: float, y: float) -> float:
    ax.plot([x, x], [y, y + 0.12], color="black", lw=1.5, zorder=1)
    return y


def _frame(ax: Axes, x: float, top: float, layers: int, side: int) -> None:
    ax.add_patch(Rectangle((x - 1.85, 0.3), 3.7, top - 0.12, fc="none", ec=GREY, ls="--"))
    ax.text(x + side * 1.95, 0.5, f"x {layers}", color=GREY, fontsize=11, ha="right" if side < 0 else "left")


def shared_keys(heads: int = 8, groups: tuple[int, ...] = (8, 2, 1)) -> Figure:
    """Heads that have their own keys and values, share them in groups, or all share one: what a cache has to hold.

    Raises ValueError for a number of groups that does not divide the heads.
    Source: Ainslie et al., "GQA" (2023), figure 2.
    """
    if any(number < 1 or heads % number for number in groups):
        raise ValueError(f"each number of groups must divide {heads} heads, given {groups}")
    names = {heads: "multi-head", 1: "multi-query"}
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(groups), figsize=(3.7 * len(groups), 2.7), squeeze=False)
    for ax, number in zip(axes[0], groups):
        for head in range(heads):
            group = head // (heads // number)
            middle = (group + 0.5) * heads / number - 0.5
            box(ax, "", head, 0, QUERY, width=0.6, height=0.7)
            arrow(ax, (head, 0.35), (middle, 1.75), colour=GREY, lw=1)
            box(ax, "", middle, 2.1, KEY, width=0.6, height=0.7)
            box(ax, "", middle, 3.0, VALUE, width=0.6, height=0.7)
        for y, word, colour in ((0, "Q", QUERY), (2.1, "K", KEY), (3.0, "V", VALUE)):
            ax.text(-0.9, y, word, color=colour, ha="right", va="center", weight="bold")
        share = "all" if number == heads else f"1 / {heads // number}"
        ax.text((heads - 1) / 2, -0.85, f"cache: {share} of the keys and values", ha="center", fontsize=10)
        ax.set(xlim=(-1.7, heads - 0.4), ylim=(-1.2, 3.5))
        ax.set_axis_off()
        set_title(ax, names.get(number, f"grouped: {number} groups"))
    return figure
