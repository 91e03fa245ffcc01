"""Pictures with one look: queries, keys and values keep their colours for the whole course.

Functions take arrays (NumPy or torch) and return the matplotlib Axes or Figure they drew. Colours are Okabe and Ito's,
which colour-blind readers can distinguish. Weights run from white (0) to dark blue.
"""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy import ndarray

from xattn_edu.fonts import written
from xattn_edu.measure.intervals import mean_interval
from xattn_edu.shapes import check_choice

QUERY, KEY, VALUE, OUTPUT = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY = "#E69F00", "#56B4E9", "#6E6E6E"  # for everything that is none of the four above
CYCLE = ["#000000", ORANGE, SKY, OUTPUT, GREY]
WEIGHTS = "Blues"  # colour map of attention weights
STYLE: dict[str, Any] = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": plt.cycler(color=CYCLE),
    "lines.linewidth": 2,
    "legend.frameon": False,
    "image.interpolation": "nearest",
}


def use_style() -> None:
    """Give every plot made from now on the course's look."""
    plt.rcParams.update(STYLE)


def headline(figure: Figure, title: str) -> None:
    """One title over all axes of a figure, bold and at the left, like the titles of the axes."""
    text, font = written(title)
    figure.suptitle(text, x=0.01, ha="left", **({"fontweight": "bold"} | font))


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
    array = _array(weights)
    if array.ndim != 2:
        raise ValueError(f"weights must be (query, key), given {array.shape}: choose one image and head first")
    for name, labels, size in (("queries", queries, array.shape[0]), ("keys", keys, array.shape[1])):
        if labels is not None and len(labels) != size:
            raise ValueError(f"{len(labels)} labels in {name} for weights of shape {array.shape}")
    ax = _axes(ax, (0.55 * min(array.shape[1], 10) + 1.6, 0.45 * min(array.shape[0], 10) + 1.4))
    top = max(float(array.max()), 1e-12)
    ax.imshow(array, cmap=WEIGHTS, vmin=0, vmax=top, aspect="auto" if array.shape[0] != array.shape[1] else "equal")
    ax.spines[:].set_visible(False)
    for axis, labels in ((ax.yaxis, queries), (ax.xaxis, keys)):
        if labels is None:
            axis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
        else:
            names, font = _written_all(labels)
            axis.set_ticks(range(len(labels)), names, **font)
        axis.set_tick_params(length=0)
    if keys is not None and max(map(len, keys)) > 3:
        ax.tick_params(axis="x", labelrotation=45)
    ax.set_xlabel("key", color=KEY)
    ax.set_ylabel("query", color=QUERY)
    _set_title(ax, title)
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
    array = _array(weights)
    if array.shape != (len(target), len(source)):
        raise ValueError(f"{len(target)} target and {len(source)} source tokens for weights of shape {array.shape}")
    ax = _axes(ax, (0.11 * max(len(" ".join(labels)) for labels in (source, target)) + 1.5, 2.2))
    places: list[ndarray] = []
    for labels, height, color, side in ((source, 1, KEY, "bottom"), (target, 0, QUERY, "top")):
        room = np.cumsum([0, *(len(label) + 1.5 for label in labels)])  # for long words more than for digits
        places.append((room[:-1] + room[1:]) / (2 * room[-1]))
        names, font = _written_all(labels)
        for place, name in zip(places[-1], names):
            ax.text(place, height + (0.06 if height else -0.06), name, ha="center", va=side, color=color, **font)
    for (row, column), weight in np.ndenumerate(array):
        if weight >= 0.1:
            ends = [places[1][row], places[0][column]], [0, 1]
            ax.plot(*ends, color=plt.get_cmap(WEIGHTS)(0.25 + 0.75 * min(weight, 1)), lw=0.5 + 2.5 * weight)
    ax.set(xlim=(0, 1), ylim=(-0.3, 1.3))
    ax.set_axis_off()
    _set_title(ax, title)
    return ax


def patch_grid(
    image: Any, patch: int, *, title: str = "", numbers: bool = True, gap: int | None = None, ax: Axes | None = None
) -> Axes:
    """An image (height, width) or (height, width, 3) cut into patch x patch squares, numbered in token order.

    Args:
        image: pixels in 0..1, or uint8.
        patch: the side of a patch in pixels.
        title: the title of the plot.
        numbers: whether to write the number of each patch.
        gap: pixels between the patches; a quarter of `patch` by default, at least 1.
        ax: the axes to draw on; new ones by default.

    Raises ValueError if the patch does not divide the image.
    """
    array = _image(image)
    height, width = array.shape[:2]
    if patch < 1 or height % patch or width % patch:
        raise ValueError(f"the patch size must divide height and width: image {height}x{width}, patch {patch}")
    gap = max(1, patch // 4) if gap is None else gap
    rows, columns = height // patch, width // patch
    apart = np.ones((rows * (patch + gap) - gap, columns * (patch + gap) - gap, *array.shape[2:]))
    ax = _axes(ax, (3.4, 3.4 * height / width))
    for row in range(rows):
        for column in range(columns):
            top, left = row * (patch + gap), column * (patch + gap)
            square = array[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            apart[top : top + patch, left : left + patch] = square
            if numbers and rows * columns <= 64:
                number = ax.text(left, top, str(row * columns + column), color="#FFB000", fontsize=8, va="top")
                number.set_path_effects([withStroke(linewidth=1.5, foreground="black")])
    ax.imshow(apart, cmap="gray", vmin=0, vmax=1)
    ax.set_axis_off()
    _set_title(ax, title)
    return ax


def attention_over_image(
    image: Any, weights: Any, *, full: float | None = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """One query's attention over a grid of patches (rows, columns), laid over the image it comes from.

    A patch is dark at weight 0 and fully bright at `full` (by default the largest weight).
    Raises ValueError for weights that are not a grid.
    """
    array, grid = _image(image), _array(weights)
    if grid.ndim != 2:
        raise ValueError(f"weights must be a grid (rows, columns) of patches, given {grid.shape}: reshape them first")
    ax = _axes(ax, (2.6, 2.6))
    extent = (0, array.shape[1], array.shape[0], 0)
    ax.imshow(0.6 * array, cmap="gray", vmin=0, vmax=1, extent=extent)  # dimmed, so that the weights shine
    strength = np.clip(grid / max(float(grid.max()) if full is None else full, 1e-12), 0, 1)
    light = np.broadcast_to(to_rgba("#FFB000"), (*grid.shape, 4)).copy()
    light[..., 3] = 0.9 * strength
    ax.imshow(light, extent=extent, interpolation="nearest")
    ax.set_axis_off()
    _set_title(ax, title)
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
        axes[0, column].imshow(_image(image), cmap="gray", vmin=0, vmax=1)
        axes[0, column].set_axis_off()
        _caption(axes[0, column], name)
        share = _array(rollout) / max(float(_array(rollout).mean()), 1e-12)  # 1: an even share
        attention_over_image(image, share - 1, full=1.5, ax=axes[1, column])
    headline(figure, title)
    return figure


def referent(
    image: Any,
    mask: Any = None,
    sentence: str = "",
    *,
    predicted: Any = None,
    width: int = 22,
    ax: Axes | None = None,
) -> Axes:
    """An image with a sentence above it, dimmed outside the `mask` (height, width) of the object that it names.

    Args:
        image: (height, width, 3) or (height, width), in 0..1 or uint8.
        mask: True on the object; without it nothing is dimmed.
        sentence: the title, broken after `width` letters.
        predicted: a mask (height, width) that is painted; the true one is then an outline.
        width: letters in a line of the sentence.
        ax: the axes to draw on; new ones by default.

    Raises ValueError for masks of another size than the image.
    """
    array = _image(image)
    shapes = {name: np.shape(given) for name, given in (("mask", mask), ("predicted", predicted)) if given is not None}
    for name, shape in shapes.items():
        if shape != array.shape[:2]:
            raise ValueError(f"{name} {shape} does not fit the image {array.shape[:2]}: resize one of them")
    ax = _axes(ax, (2, 2.4))
    truth = None if mask is None else _array(mask)
    extent = (0, array.shape[1], array.shape[0], 0)
    shown = array[..., None].repeat(3, axis=2) if array.ndim == 2 else array[..., :3]
    if predicted is not None:
        painted = _array(predicted)[..., None] > 0.5
        shown = np.where(painted, 0.3 * shown + 0.7 * np.array(to_rgba("#FFB000")[:3]), 0.75 * shown)
    elif truth is not None:
        shown = np.where(truth[..., None] > 0.5, shown, 0.35 * shown + 0.25 * shown.mean(axis=2, keepdims=True))
    ax.imshow(shown, extent=extent, interpolation="nearest")
    if truth is not None:
        fine = np.pad(truth, 1).repeat(8, axis=0).repeat(8, axis=1)  # so that the outline follows the pixels' edges
        corners = np.arange(fine.shape[0]) / 8 - 1 + 1 / 16, np.arange(fine.shape[1]) / 8 - 1 + 1 / 16
        for colour, line in (("black", 2.6), ("white", 1.3)):
            ax.contour(corners[1], corners[0], fine, levels=[0.5], colors=colour, linewidths=line)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.set_axis_off()
    _caption(ax, textwrap.fill(sentence, width))
    return ax


def fusion_diagram(fusion: str, *, title: str = "", ax: Axes | None = None) -> Axes:
    """One of CrossViT's five fusions drawn: branch S to the left, L to the right, class tokens (circles) above patches.

    Blue lines lead from a query to its keys; grey lines join tokens that are added. Raises ValueError for another name:
    a fusion of your own has no drawing here. Source: Chen et al. (2021), figure 3, which draws the last four.
    """
    places = {
        "S": [(0.2 + 0.22 * column, 0.62 - 0.22 * row) for row in range(3) for column in range(3)],
        "L": [(1.5 + 0.36 * column, 0.56 - 0.34 * row) for row in range(2) for column in range(2)],
        "class": [(0.42, 1.05), (1.68, 1.05)],
    }
    same_place = [(s, l) for s, l in zip((0, 2, 6, 8), range(4))]  # the corners of S's grid: one in each patch of L
    small, large = [places["class"][0], *places["S"]], [places["class"][1], *places["L"]]
    pairs: dict[str, list] = {  # (from, to); what asks, or what is added, first
        "none": [],
        "all_attention": [(a, b) for a in small for b in large],
        "class_token": [(small[0], large[0])],
        "pairwise": [(small[0], large[0]), *((small[1 + s], large[1 + l]) for s, l in same_place)],
        "cross_attention": [(large[0], patch) for patch in small[1:]] + [(small[0], patch) for patch in large[1:]],
    }
    check_choice("fusion", fusion, pairs)
    ax = _axes(ax, (2.4, 1.6))
    attends = fusion in ("all_attention", "cross_attention")
    for number, (start, end) in enumerate(pairs[fusion]):
        # Pairs in the same row would hide each other: every second one takes a bow.
        bow = f"arc3,rad={-0.3 if fusion == 'pairwise' and number % 2 else 0}"
        line: dict[str, Any] = {"color": QUERY if attends else GREY, "lw": 0.8 if attends else 1.8, "arrowstyle": "-"}
        over: dict[str, Any] = {
            "zorder": 4 if fusion == "pairwise" else 1,
            "connectionstyle": bow,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        ax.add_patch(FancyArrowPatch(start, end, **line, **over))
    asks = {"all_attention": small + large, "cross_attention": places["class"]}.get(fusion, [])
    for name, side in (("S", 0.16), ("L", 0.28)):
        for x, y in places[name]:
            color = QUERY if (x, y) in asks else KEY if attends else "#D9D9D9"
            ax.add_patch(
                Rectangle((x - side / 2, y - side / 2), side, side, facecolor=color, edgecolor="black", lw=0.8)
            )
    for (x, y), name in zip(places["class"], "SL"):
        color = QUERY if (x, y) in asks else "#D9D9D9"
        ax.add_patch(Circle((x, y), 0.11, facecolor=color, edgecolor="black", lw=0.8, zorder=3))
        ax.text(x, y + 0.16, f"branch {name}", ha="center", va="bottom", fontsize=9)
    ax.set(xlim=(0, 2.1), ylim=(-0.05, 1.4), aspect="equal")
    ax.set_axis_off()
    _set_title(ax, title)
    return ax


def learning_curves(
    curves: Mapping[str, tuple[Any, Any]],
    *,
    xlabel: str = "epoch",
    ylabel: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Curves {name: (x, y)} in one plot, each with its name at its right end.

    Raises ValueError when there is no curve, or one whose x and y differ in length.
    """
    if not curves:
        raise ValueError("learning_curves needs at least one curve, given none")
    ax = _axes(ax, (5.2, 3.2))
    ends = []
    for number, (name, (x, y)) in enumerate(curves.items()):
        x, y = _array(x), _array(y)
        if x.shape != y.shape or x.ndim != 1 or not len(x):
            raise ValueError(
                f"curve {name!r}: x {x.shape} and y {y.shape} must be as long as each other, and not empty"
            )
        color = CYCLE[number % len(CYCLE)]
        ax.plot(x, y, color=color, marker="o" if len(x) == 1 else None)
        ends.append((float(x[-1]), float(y[-1]), name, color))
    low, high = ax.get_ylim()
    last = -np.inf
    for x_end, y_end, name, color in sorted(ends, key=lambda end: end[1]):
        last = max(y_end, last + 0.07 * (high - low))  # names of curves that end together stand one above the other
        at = (x_end, last)
        text, font = written(name)
        look: dict[str, Any] = {"color": color, "va": "center", "annotation_clip": False} | font
        ax.annotate(text, at, xytext=(6, 0), textcoords="offset points", **look)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    _set_title(ax, title)
    return ax


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
    ax = _axes(ax, (3.2, 0.25 * len(words) + 1))
    height = 0.8 / len(shares)
    for number, ((group, given), colour) in enumerate(zip(shares.items(), colours)):
        array = _array(given)
        if array.shape != (len(words),):
            raise ValueError(f"group {group!r}: shares of shape {array.shape} for {len(words)} words, give one a word")
        at = np.arange(len(words)) + (number - (len(shares) - 1) / 2) * height  # a word can occur twice: by its place
        ax.barh(at, array, height=height, color=colour, label=group)
    names, font = _written_all(words)
    ax.set_yticks(range(len(words)), names, fontsize=9, **font)
    ax.set(ylim=(len(words) - 0.4, -0.6), xlabel="attention")
    _set_title(ax, title)
    return ax


def seed_bars(
    runs: Mapping[str, Any],
    *,
    colours: Sequence[str] | None = None,
    xlabel: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores {name: one a seed} as bars from the top down: their mean, its 95 % interval, and a dot for each seed.

    A single run has no interval. `colours` are the bars', in order. Raises ValueError when there is no name, a name
    without runs, a score that is not finite, or when there are not as many colours as names.
    """
    colours = [SKY] * len(runs) if colours is None else colours
    if not runs or len(colours) != len(runs):
        raise ValueError(f"{len(runs)} names, {len(colours)} colours: give one name at least, and a colour each")
    ax = _axes(ax, (5.2, 0.45 * len(runs) + 1))
    for row, ((name, given), colour) in enumerate(zip(runs.items(), colours)):
        scores = _array(given)
        if scores.ndim != 1:
            raise ValueError(f"{name!r}: scores of shape {scores.shape}, give a list of them, one a seed")
        mean, half = mean_interval(scores)
        ax.barh(row, mean, height=0.65, color=colour)
        if np.isfinite(half):
            ax.errorbar(mean, row, xerr=half, color="black", capsize=3, lw=1.2)
        ax.plot(scores, [row] * len(scores), "o", color="black", ms=3)
    names, font = _written_all(list(runs))
    ax.set_yticks(range(len(runs)), names, **font)
    ax.set(ylim=(len(runs) - 0.5, -0.5), xlabel=xlabel)
    _set_title(ax, title)
    return ax


def signed_map(
    values: Any, *, limit: float | None = None, image: Any = None, title: str = "", ax: Axes | None = None
) -> Axes:
    """A grid (rows, columns) of numbers of either sign: white at 0, orange above, violet below.

    Colours are full at `limit` (the largest size, unless given; give one to compare maps). With an `image` the map lies
    over it, pale and grey. `figure.colorbar(ax.images[-1], ax=ax)` adds the scale. Raises ValueError for values that
    are not a grid.
    """
    array = _array(values)
    if array.ndim != 2:
        raise ValueError(
            f"values must be a grid (rows, columns), given {array.shape}: choose one channel or word first"
        )
    limit = max(float(np.abs(array).max()), 1e-12) if limit is None else limit
    look: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -limit, "vmax": limit, "interpolation": "nearest"}
    shown = None if image is None else _image(image)
    ax = _axes(ax, (2.6, 2.6))
    if shown is not None:
        look |= {"alpha": 0.6, "extent": (0, shown.shape[1], shown.shape[0], 0)}
        grey = shown if shown.ndim == 2 else shown[..., :3].mean(axis=2)
        ax.imshow(grey, cmap="gray", vmin=-0.8, vmax=2, extent=look["extent"], interpolation="nearest")
    ax.imshow(array, **look)
    ax.set_axis_off()
    _caption(ax, title)
    return ax


def pwam_diagram(*, title: str = "", ax: Axes | None = None) -> Axes:
    """LAVT's pixel-word attention and its gate as boxes and arrows: blue from pixels, orange and green from words."""
    boxes = {  # name: (text, x, y, colour)
        "V": ("$V_i$", 0, 2, QUERY),
        "L": ("$L$", 0, -0.1, KEY),
        "Vm": ("$V_{im}=w_{im}(V_i)$", 2, 2.7, QUERY),
        "Vq": ("$V_{iq}=w_{iq}(V_i)$", 2, 1.5, QUERY),
        "Lk": ("$L_{ik}=w_{ik}(L)$", 2, 0.5, KEY),
        "Lv": ("$L_{iv}=w_{iv}(L)$", 2, -0.7, VALUE),
        "A": ("softmax", 4, 1, GREY),
        "G1": ("$G_i'$", 5.2, 0.2, VALUE),
        "G": ("$G_i=w_{iw}(G_i')$", 6.8, 0.2, VALUE),
        "x": (r"$V_{im}\odot G_i$", 6.8, 2.7, GREY),
        "F": (r"$F_i=w_{io}(\cdot)$", 8.6, 2.7, OUTPUT),
        "gate": ("gate", 9.6, 1.4, OUTPUT),
        "E": ("$E_i$", 10.7, 2.7, "black"),
    }
    arrows = "V-Vm V-Vq L-Lk L-Lv Vq-A Lk-A A-G1 Lv-G1 G1-G G-x Vm-x x-F F-gate gate-E F-E"
    ax = _axes(ax, (10, 4))
    frames = {}
    for name, (text, x, y, colour) in boxes.items():
        style = {"boxstyle": "round,pad=0.45", "fc": colour, "ec": "none"}
        frames[name] = ax.text(x, y, text, ha="center", va="center", color="white", bbox=style).get_bbox_patch()
    for start, end in (pair.split("-") for pair in arrows.split()):
        ends = {"patchA": frames[start], "patchB": frames[end], "arrowstyle": "->", "lw": 1.3}
        ax.annotate("", boxes[end][1:3], boxes[start][1:3], arrowprops=ends)
    ax.plot([0, 0, 10.7], [2.4, 3.7, 3.7], color="black", lw=1.3)  # the way past everything, from V to E
    ax.annotate("", (10.7, 3.0), (10.7, 3.7), arrowprops={"arrowstyle": "->", "lw": 1.3, "shrinkA": 0})
    ax.set(xlim=(-0.5, 11.2), ylim=(-1.2, 4))
    ax.set_axis_off()
    _set_title(ax, title)
    return ax


def queries_against_keys(
    uses: Mapping[str, tuple[int, int]],
    *,
    products: Mapping[float, float] | None = None,
    sides: Mapping[str, str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Attention layers {name: (queries N, keys M)} as points over two logarithmic axes, with the line N = M.

    A point is blue where many queries attend to few keys, green where few attend to many, orange on the line.
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
    ax = _axes(ax, (9, 5.4))
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
        colour = KEY if queries == keys else QUERY if queries > keys else VALUE
        ax.plot(keys, queries, "o", ms=9, color=colour)
        x, y, side = offsets[(sides or {}).get(name, "right")]
        ax.annotate(name, (keys, queries), xytext=(x, y), textcoords="offset points", ha=side, va="center", fontsize=10)
    _set_title(ax, title)
    return ax


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    if ax is not None:
        return ax
    with plt.rc_context(STYLE):
        return plt.subplots(figsize=size)[1]


def _set_title(ax: Axes, title: str) -> None:
    text, font = written(title)
    with plt.rc_context(STYLE):  # a title takes its look when it is set, not when the axes are made
        ax.set_title(text, **font)


def _caption(ax: Axes, text: str) -> None:
    """A small title in the middle, of one picture among several."""
    text, font = written(text)
    ax.set_title(text, fontsize=9, loc="center", **({"fontweight": "normal"} | font))


def _written_all(labels: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """Labels as they can be drawn, and the arguments with which matplotlib draws them, as `fonts.written`."""
    text, font = written("\x1f".join(map(str, labels)))  # a character that no label has
    return text.split("\x1f") if labels else [], font


def _array(values: Any) -> ndarray:
    """A NumPy array from an array, a list, or a torch tensor on any device."""
    values = values.detach().cpu().float() if hasattr(values, "detach") else values
    return np.asarray(values, dtype=float)


def _image(image: Any) -> ndarray:
    """(height, width) or (height, width, 3) in 0..1; 8-bit images are divided by 255."""
    eight_bit = str(getattr(image, "dtype", "")).endswith("uint8")
    array = _array(image)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(
            f"an image is (height, width) or (height, width, 3), given {array.shape}: write image[0] for one channel, "
            "image.permute(1, 2, 0) for three"
        )
    array = array / 255 if eight_bit else array
    if array.size and not (array.min() >= -1e-6 and array.max() <= 1 + 1e-6):
        raise ValueError(
            f"an image lies in 0..1 (or is uint8), given {array.min():.3g} to {array.max():.3g}: divide by 255, or "
            "undo the normalisation (pixels * DEVIATION + MEAN)"
        )
    return array
