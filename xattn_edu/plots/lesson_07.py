"""Lesson 7, CrossViT: two scales in a CNN and in a ViT, the model and its settings, one fusion, and what crossed."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from xattn_edu.plots.style import (
    GREY,
    KEY,
    ORANGE,
    QUERY,
    SKY,
    STYLE,
    VALUE,
    WEIGHTS,
    as_array,
    as_image,
    axes_or_new,
    caption,
    headline,
    set_title,
)

BRANCHES = {"S": ORANGE, "L": SKY}  # the colours of branch S and branch L in lessons 7 to 9
LIGHT = "#BBBBBB"


def two_scale_networks() -> Figure:
    """Big-Little Net beside CrossViT: little work on the fine image, much on the coarse one, and they meet often.

    Source: Chen, Fan, Mallinar, Sercu and Feris, "Big-Little Net: An Efficient Multi-Scale Feature Representation for
    Visual and Speech Recognition" (ICLR 2019), figure 1; Chen, Fan and Panda, "CrossViT" (ICCV 2021), figure 2.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(12, 3.5))
    texts = (
        (
            "A CNN: Big-Little Net (2019)",
            "the image, whole",
            "the image, halved",
            "+",
            "summed, place\nby place, for both",
        ),
        ("A ViT: CrossViT (2021)", "patches of 12", "patches of 16", "", "class tokens\nattend across"),
    )
    for ax, (name, fine, coarse, mark, meeting) in zip(axes, texts):
        for branch, y, height, blocks, label in (("S", 2.2, 0.45, 1, fine), ("L", 0.6, 1.0, 3, coarse)):
            color = BRANCHES[branch]
            ax.plot([0, 8.6], [y, y], color=color, lw=1.5, zorder=0)
            ax.text(-0.15, y, label, ha="right", va="center", fontsize=10)
            for stage in range(3):
                for block in range(blocks):
                    x = 0.35 + 2.8 * stage + (0.5 * block if blocks > 1 else 0.5)
                    ax.add_patch(Rectangle((x, y - height / 2), 0.38, height, color=color))
        for stage in range(3):
            _meet(ax, 2.25 + 2.8 * stage, mark)
        ax.text(2.5, 1.75, meeting, va="center", fontsize=9.5)
        ax.text(0.35, 2.62, "narrow and shallow: many places, cheap", fontsize=9.5, color=GREY)
        ax.text(0.35, -0.22, "wide and deep: few places", fontsize=9.5, color=GREY)
        ax.set(xlim=(-2.7, 9.2), ylim=(-0.4, 2.95))
        ax.set_axis_off()
        caption(ax, name)
        ax.title.set_fontsize(11)
    headline(figure, "The same idea twice: little work on the fine image, much on the coarse one")
    return figure


def _meet(ax: Axes, x: float, mark: str) -> None:
    """An arrow both ways, where two branches exchange, with a mark on it for a sum."""
    arrow = {"arrowstyle": "<|-|>", "lw": 1.6, "color": "black", "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (x, 0.6), (x, 2.2), arrowprops=arrow)
    if mark:
        ax.plot(x, 1.3, "o", ms=14, mfc="white", mec="black", zorder=5)
        ax.text(x, 1.29, mark, ha="center", va="center", zorder=6)


def crossvit_settings(models: Mapping[str, Mapping[str, Any]]) -> Figure:
    """CrossViT's models side by side: the blocks of one multi-scale encoder, each as high as it is wide in channels.

    `models` is {name: row of the paper's table 1}, with the columns "dimension S", "dimension L", "M" (blocks of L in
    one encoder), "r" and "heads". Raises ValueError for no models.
    """
    if not models:
        raise ValueError("crossvit_settings needs at least one model, given none")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(models), figsize=(2.1 * len(models), 3.6), sharey=True)
    for ax, (name, row) in zip(np.atleast_1d(axes), models.items()):
        for branch, y, blocks in (("S", 720, 1), ("L", 0, row["M"])):
            width = row[f"dimension {branch}"]
            for block in range(blocks):
                ax.add_patch(Rectangle((block, y - width / 2), 0.75, width, color=BRANCHES[branch]))
            ax.text(blocks + 0.1, y, f"{width}", va="center", fontsize=9.5)
        ax.text(
            0, -700, f"3 x {row['M']} = {3 * row['M']} blocks in L\nr = {row['r']}, {row['heads']} heads", fontsize=9.5
        )
        ax.set(xlim=(-0.3, 7.4), ylim=(-720, 930))
        ax.set_axis_off()
        caption(ax, name)
        ax.title.set_fontsize(11)
    headline(
        figure, "The number in a name counts branch L's blocks: 9, 15, 18. Ti, S and B copy DeiT's sizes and its 12"
    )
    return figure


def crossvit_diagram(model: Any, *, title: str = "", ax: Axes | None = None) -> Axes:
    """A CrossViT with linear patch embeddings from image to logits, with tokens x channels at each branch.

    Every block is drawn as high as it is wide in channels; what crosses in a fusion stands at its arrows.
    """
    ax = axes_or_new(ax, (12.5, 4.1))
    step, gap = 1.25 * max(model.depths) + 1.6, 1.0
    end = step * len(model.fusions)
    for name, y, branch, depth in (("S", 2.0, model.small, model.depths[0]), ("L", 0.0, model.large, model.depths[1])):
        tokens, width = branch.positions.shape[1:]
        height = 1.3 * width / max(b.positions.shape[2] for b in model.branches)
        embedding = branch.patch_embedding
        ax.text(-0.4, y, _view(name, embedding, tokens, width), ha="right", va="center", fontsize=10)
        ax.plot([-0.3, end + 0.3], [y, y], color=BRANCHES[name], lw=1.5, zorder=0)
        for number in range(len(branch.blocks)):
            x = step * (number // depth) + 1.25 * (number % depth if depth > 1 else (max(model.depths) - 1) / 2)
            ax.add_patch(Rectangle((x, y - height / 2), 0.8, height, color=BRANCHES[name]))
        _end_of_branch(ax, end, y)
    for encoder in range(len(model.fusions)):
        x = step * (encoder + 1) - gap
        for shift, tail, head in ((-0.13, 2.0, 0.0), (0.13, 0.0, 2.0)):
            arrow = {"arrowstyle": "-|>", "lw": 1.6, "color": QUERY, "shrinkA": 0, "shrinkB": 0}
            ax.annotate("", (x + shift, head), (x + shift, tail), arrowprops=arrow)
        ax.text(x - 0.3, 1.2, "class token\nof each branch", ha="right", va="center", fontsize=9.5, color=QUERY)
        ax.add_patch(Rectangle((x - step + gap + 0.7 - 1, -0.85), step - 0.2, 3.45, fill=False, ls=":", color=GREY))
        ax.text(x - step / 2 + 0.4, -1.12, f"encoder {encoder + 1}", ha="center", fontsize=10, color=GREY)
    ax.plot([end + 3.0, end + 3.6, end + 3.0], [2.0, 1.0, 0.0], color="black", lw=1)
    ax.text(end + 3.8, 1.0, "mean of\nthe logits", va="center", fontsize=10)
    ax.set(xlim=(-4.4, end + 5.6), ylim=(-1.3, 2.7))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _view(name: str, embedding: Any, tokens: int, width: int) -> str:
    size, patch = embedding.image_size[0], embedding.patch
    return f"{name}: image at {size},\npatches of {patch}:\n{tokens} x {width}"


def _end_of_branch(ax: Axes, x: float, y: float) -> None:
    """The branch's last norm and its classifier."""
    frame = {"boxstyle": "round,pad=0.35", "fc": "white", "ec": "black"}
    ax.text(x + 1.6, y, "LayerNorm,\nclassifier", ha="center", va="center", fontsize=9.5, bbox=frame)


def class_token_attention_diagram(
    width: int = 384, other: int = 192, patches: int = 400, *, title: str = "", ax: Axes | None = None
) -> Axes:
    """Equations (5) to (7) when L's class token attends to S's patches, with tokens x channels on the arrows.

    `width` is L's width, `other` S's width and `patches` their number in S.
    """
    ax = axes_or_new(ax, (12.5, 4.0))
    one, row = f"1 x {other}", f"{1 + patches} x {other}"
    boxes = {
        "cls": (0.3, 3, "$x^l_{cls}$", "black"), "f": (2.3, 3, "$f^l$", GREY), "join": (4.4, 1.5, r"$\Vert$", "black"),
        "patches": (4.4, 0, "$x^s_{patch}$", BRANCHES["S"]), "ln": (6.1, 1.5, "LN", GREY),
        "q": (8.1, 2.4, "q", QUERY), "k": (8.1, 1.5, "k", KEY), "v": (8.1, 0, "v", VALUE),
        "A": (9.9, 1.95, "A", QUERY), "Av": (12.1, 0.75, "A v", VALUE), "o": (12.1, 1.95, "$W_o$", GREY),
        "+": (12.1, 3, "+", "black"), "g": (13.7, 3, "$g^l$", GREY), "z": (15.6, 3, "new $x^l_{cls}$", "black"),
    }  # fmt: skip
    shapes = {
        "cls f": f"1 x {width}", "f join": "", "patches join": f"{patches} x {other}", "join ln": row, "ln q": one,
        "ln k": row, "ln v": row, "q A": "", "k A": "", "A Av": f"1 x {1 + patches}", "v Av": "", "Av o": one,
        "o +": "", "f +": f"{one}: the residual, as it was before LN", "+ g": one, "g z": f"1 x {width}",
    }  # fmt: skip
    drawn = {}
    for name, (x, y, text, color) in boxes.items():
        frame = {"boxstyle": "round,pad=0.4", "fc": "white", "ec": color, "lw": 1.5}
        drawn[name] = ax.text(x, y, text, ha="center", va="center", color=color, bbox=frame).get_bbox_patch()
    for arrow, shape in shapes.items():
        start, end = arrow.split()
        ends = {"patchA": drawn[start], "patchB": drawn[end]}
        ax.annotate("", boxes[end][:2], boxes[start][:2], arrowprops={"arrowstyle": "-|>", "color": GREY, **ends})
        (x, y), (to_x, to_y) = boxes[start][:2], boxes[end][:2]
        side = "left" if x == to_x or y > to_y else "right" if y < to_y else "center"  # which side of the line is free
        away = {"left": 0.12, "right": -0.12, "center": 0.0}[side]
        ax.text((x + to_x) / 2 + away, (y + to_y) / 2 + 0.1, shape, ha=side, fontsize=9)
    for x, text in ((2.3, "(5) to S's width"), (8.4, "(6) attend"), (13.7, "(7) back to L's width")):
        ax.text(x, -0.75, text, ha="center", color=GREY, fontsize=10)
    ax.set(xlim=(-0.6, 16.7), ylim=(-0.95, 3.5))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def cost_by_patch(macs: Mapping[int, tuple[float, float]], *, title: str = "", ax: Axes | None = None) -> Axes:
    """{patch: (linear, quadratic) MACs} as stacked bars in G MACs, with the quadratic share above each."""
    ax = axes_or_new(ax, (6.4, 3.4))
    names = [str(patch) for patch in macs]
    linear, quadratic = np.array(list(macs.values()), dtype=float).T / 1e9
    ax.bar(names, linear, color=LIGHT, label="linear in the patches")
    ax.bar(names, quadratic, bottom=linear, color=QUERY, label=r"$2cp^2$, quadratic")
    for x, (a, b) in enumerate(zip(linear, quadratic)):
        ax.text(x, a + b, f"{b / (a + b):.0%}", ha="center", va="bottom", fontsize=10, color=QUERY)
    ax.set(xlabel="patch (pixels)", ylabel="G MACs for one image")
    ax.legend()
    set_title(ax, title)
    return ax


def branch_dependence(tables: Mapping[str, Any], patches: tuple[int, int], *, title: str = "") -> Figure:
    """Which token's output depends on which token's input, {name: (token, token) True or False}, S's tokens first.

    Args:
        tables: rows are outputs, columns inputs: branch S (class token, then patches), then branch L.
        patches: the numbers of patches of S and of L.
        title: the finding.

    Raises ValueError for a table of another size.
    """
    small, whole = 1 + patches[0], 2 + sum(patches)
    across = np.zeros((whole, whole), dtype=bool)
    across[:small, small:] = across[small:, :small] = True
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(tables), figsize=(3.25 * len(tables), 4.2))
    places = [0, small / 2, small, small + (whole - small) / 2]
    names = ["S class", "S patches", "L class", "L patches"]
    for number, (ax, (name, given)) in enumerate(zip(np.atleast_1d(axes), tables.items())):
        table = as_array(given) > 0
        if table.shape != across.shape:
            raise ValueError(f"{name!r} is {table.shape}: {patches} patches and two class tokens make {across.shape}")
        ax.imshow(np.where(table & across, 1.0, np.where(table, 0.3, 0.0)), cmap=WEIGHTS, vmin=0, vmax=1)
        for draw in (ax.axhline, ax.axvline):
            draw(small - 0.5, color=GREY, lw=1)
        ax.set_xticks(places, names, rotation=90, color=KEY, fontsize=10)
        ax.set_yticks(places, [] if number else names, color=QUERY, fontsize=10)
        ax.tick_params(length=0)
        caption(ax, f"{name}: {(table & across).sum()}")
        ax.title.set_fontsize(11)
    axes = np.atleast_1d(axes)
    axes[0].set(ylabel="this token's output ...", xlabel="... depends on this token's input")
    shades = {"in the other branch": 1.0, "in its own branch": 0.3, "does not depend": 0.0}
    boxes = [Rectangle((0, 0), 1, 1, fc=plt.get_cmap(WEIGHTS)(shade), ec=GREY) for shade in shades.values()]
    figure.legend(boxes, shades, loc="outside lower right", ncols=3)
    headline(figure, title)
    return figure


def named_letters(shares: Mapping[str, Sequence[float]], rows: Sequence[str], *, title: str = "") -> Figure:
    """Shares in %, {"S" and "L": one a row}: what a branch's classifier names when the other branch's view changes.

    The dashed line is chance, 25 %. Raises ValueError for another number of shares than rows.
    """
    if any(len(values) != len(rows) for values in shares.values()):
        raise ValueError(f"give {len(rows)} shares to each branch, one a row")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(11.5, 2.7), sharey=True)
    whats = {"S": "S's classifier, the big letter", "L": "L's classifier, the small letter"}
    for ax, (branch, values) in zip(axes, shares.items()):
        ax.barh(list(rows), list(values), color=BRANCHES[branch], height=0.6)
        for y, percent in enumerate(values):
            ax.text(percent + 1, y, f"{percent:.0f} %", va="center")
        ax.axvline(25, color="black", ls="--", lw=1)
        ax.set(xlim=(0, 115), xlabel="named (%); dashed: chance")
        caption(ax, whats[branch])
        ax.title.set_fontsize(11)
    axes[0].invert_yaxis()
    headline(figure, title)
    return figure


def letter_views(pictures: Sequence[Sequence[Any]], rows: Sequence[str], captions: Sequence[str], title: str) -> Figure:
    """Grey pictures (height, width) in rows, each scaled to its own brightest pixel, with a caption above a column.

    `pictures` has a sequence for each of `rows`, with one picture for each of `captions`.
    """
    with plt.rc_context(STYLE):
        size = (1.6 * len(captions), 1.62 * len(rows) + 0.6)
        figure, axes = plt.subplots(len(rows), len(captions), figsize=size, squeeze=False)
    for row, (ax_row, name) in enumerate(zip(axes, rows)):
        for column, ax in enumerate(ax_row):
            image = as_array(pictures[row][column])
            ax.imshow(image, cmap="gray", vmin=0, vmax=image.max())
            ax.set(xticks=[], yticks=[])
            if row == 0:
                caption(ax, captions[column])
                ax.title.set_fontsize(10)
        ax_row[0].set_ylabel(name, fontsize=10)
    headline(figure, title)
    return figure


def heads_over_view(view: Any, maps: Any, notes: Sequence[str], *, title: str = "") -> Figure:
    """One view (height, width), and over it the map (row, column) of each attention head; a note stands below each.

    All maps have one scale, with a bar: white has the weight 0, the darkest blue the largest weight of all heads.
    """
    weights, image = as_array(maps), as_image(view)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 1 + len(weights), figsize=(2.2 * (1 + len(weights)) + 0.8, 2.9))
    axes[0].imshow(image, cmap="gray", vmin=0, vmax=1)
    caption(axes[0], "what L sees")
    rows, columns = weights.shape[1:]
    lit = image.reshape(rows, image.shape[0] // rows, columns, -1).mean(axis=(1, 3))
    for number, (ax, one) in enumerate(zip(axes[1:], weights), start=1):
        shown = ax.imshow(one, cmap=WEIGHTS, vmin=0, vmax=weights.max())
        ax.contour(np.kron(lit > (lit.max() + lit.min()) / 2, np.ones((8, 8))), [0.5], colors="black", linewidths=1.2,
                   extent=(-0.5, columns - 0.5, -0.5, rows - 0.5))  # fmt: skip
        caption(ax, f"head {number}")
        ax.set_xlabel(notes[number - 1], fontsize=10)
    for ax in axes:
        ax.set(xticks=[], yticks=[])
        ax.title.set_fontsize(11)
    figure.colorbar(shown, ax=axes[-1], label="weight", fraction=0.05)
    headline(figure, title)
    return figure


def growth(tokens: Any, panels: Mapping[str, Mapping[str, Any]], *, last: int = 3, title: str = "") -> Figure:
    """Costs against the number of tokens on logarithmic axes, {unit: {series: one value a number of tokens}}.

    A series' exponent, the slope over the `last` points, stands in the legend. Series that begin with "all" are grey,
    the others blue; "fused" in a name makes the line dotted.
    """
    tokens = as_array(tokens)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 3.8), squeeze=False)
    for ax, (unit, lines) in zip(axes[0], panels.items()):
        for name, values in lines.items():
            y = as_array(values)
            power = np.polyfit(np.log(tokens[-last:]), np.log(y[-last:]), 1)[0]
            color, style = GREY if name.startswith("all") else QUERY, "o:" if "fused" in name else "o-"
            ax.loglog(tokens, y, style, color=color, ms=4, label=f"{name}: $N^{{{power:.1f}}}$")
        ax.set(xlabel="tokens N", ylabel=unit, xticks=tokens[::2])
        ax.set_xticklabels([f"{n:,.0f}" for n in tokens[::2]])
        ax.minorticks_off()
        ax.legend(fontsize=9, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=1)
        ax.set_title("")
    headline(figure, title)
    return figure


def folding_pays(keys: int, width: int, heads: int, *, title: str = "", ax: Axes | None = None) -> Axes:
    """MACs of one layer of attention against the number of queries, with keys and values formed, and folded."""
    ax = axes_or_new(ax, (6.4, 3.5))
    queries = np.arange(1, 2 * keys + 1)
    formed = (2 * keys * width**2 + queries * 2 * keys * width) / 1e6
    folded = queries * (2 * keys * width * heads + 2 * width**2) / 1e6
    crossing = keys * width / (width + keys * (heads - 1))  # formed = folded, solved for the queries
    ax.loglog(queries, formed, color=GREY, label="keys and values formed")
    ax.loglog(queries, folded, color=QUERY, label="folded")
    ax.axvline(crossing, color=GREY, lw=1, ls="--")
    ax.text(crossing * 1.08, folded[0] * 1.2, f"{crossing:.0f} queries", color=GREY)
    ax.plot(1, folded[0], "o", color=QUERY)
    ax.text(1.12, folded[0] * 0.95, "a class token", va="center", color=QUERY)
    ax.set(xlabel=f"queries ({keys} keys, {width} wide, {heads} heads)", ylabel="million MACs")
    ax.legend(loc="upper left")
    set_title(ax, title)
    return ax
