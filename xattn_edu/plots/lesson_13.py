"""Pictures of lesson 13: which tokens attend to which, what can pass, and what a choice of keys and values brings."""

from collections.abc import Mapping, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from xattn_edu.measure.intervals import mean_interval
from xattn_edu.plots.referring import referent
from xattn_edu.plots.style import (
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
from xattn_edu.plots.weights import attention_heatmap

# --- which tokens attend to which, as lanes


class Step(NamedTuple):
    """One attention in `attention_lanes`: the tokens of the lane `query` attend to those of the lane `context`.

    `query_plus` and `key_plus` are what is added before queries and keys are made ("+ places"), and not before values.
    `join` is how the output meets its lane: "+" adds it; "" replaces the lane's tokens; other words are written at the
    arrow of the output, which is then added.
    """

    query: str
    context: str
    query_plus: str = ""
    key_plus: str = ""
    join: str = "+"


Column = Step | tuple[Step, Step]
Size = int | str  # a letter where the size is not known
Lanes = Mapping[str, tuple[Size, Size]]
COLUMN, LANE, BOX = 4.0, 1.9, (0.62, 0.3)  # the distances of columns and lanes, half the sides of a box
PLUS = {"boxstyle": "circle,pad=0.2", "fc": "white", "ec": "black"}


def attention_lanes(
    lanes: Lanes,
    steps: Sequence[Column],
    *,
    ends: Mapping[str, str] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A system's attention layers: a lane for each set of tokens, from left to right, and a box for each layer.

    A box stands on the lane of its queries and names the size of its weights, queries x keys. The arrows are blue for
    the query, orange for the keys, green for the values and pink for the output. They carry tokens x width, so that a
    reader sees which lane decides what. The black line around a box is the residual.

    Args:
        lanes: {name: (tokens, width)}, from the top down; letters for what is not known.
        steps: the layers, from left to right. Two in one tuple share their scores: each lane attends to the other.
        ends: {name: what the lane's tokens become}, written at its right end.
        title: the title of the plot.
        ax: the axes to draw on; new ones by default.

    Raises ValueError for no lanes or steps, for steps and ends that name no lane, and for two steps in one column that
    are not each other's turn.
    """
    _check_lanes(lanes, steps, ends or {})
    height = {name: -LANE * number for number, name in enumerate(lanes)}
    right = COLUMN * len(steps) + 0.2
    ax = axes_or_new(ax, (1.0 * right + 3.3, 0.72 * LANE * len(lanes) + 0.5))
    for name, (tokens, width) in lanes.items():
        _arrow(ax, (0, height[name]), (right, height[name]), "black", zorder=0)
        ax.text(-0.1, height[name], f"{name}\n{_times(tokens, width)}", ha="right", va="center", fontsize=10)
        ax.text(right + 0.1, height[name], (ends or {}).get(name, ""), va="center", fontsize=10)
    for number, column in enumerate(steps):
        x = COLUMN * (number + 0.5) + 0.15
        if isinstance(column, Step):
            _draw_step(ax, column, x, height, lanes)
        else:
            for step in column:
                _draw_step(ax, step, x, height, lanes, crossed=True)
            between = [height[step.query] for step in column]
            ax.plot([x, x], between, color=GREY, ls="--", lw=1.5, zorder=1)
            ax.text(x + 0.12, sum(between) / 2, "one table\nof scores", color=GREY, ha="left", va="center", fontsize=9)
    ax.set(xlim=(-1.9, right + 1.9), ylim=(min(height.values()) - 0.85, 0.85))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _check_lanes(lanes: Mapping[str, Any], steps: Sequence[Column], ends: Mapping[str, str]) -> None:
    if not lanes or not steps:
        raise ValueError(f"{len(lanes)} lanes, {len(steps)} steps: give one of each at least")
    flat = [step for column in steps for step in ([column] if isinstance(column, Step) else column)]
    named = {name for step in flat for name in (step.query, step.context)} | set(ends)
    if unknown := sorted(named - set(lanes)):
        raise ValueError(f"no lane is called {', '.join(unknown)}: the lanes are {', '.join(lanes)}")
    for column in steps:
        if not isinstance(column, Step) and (column[0].query, column[0].context) != (
            column[1].context,
            column[1].query,
        ):
            raise ValueError(f"two steps share their scores only if each is the other's turn, given {column}")


def _draw_step(
    ax: Axes,
    step: Step,
    x: float,
    height: Mapping[str, float],
    lanes: Lanes,
    crossed: bool = False,
) -> None:
    """One box at (x, its lane) with its arrows; `crossed` lets keys and values come from the left, past each other."""
    y, there = height[step.query], height[step.context]
    (queries, width), (keys, context_width) = lanes[step.query], lanes[step.context]
    side = -1 if there <= y else 1  # the context is below or above; of self-attention, keys and values come from below
    fork, join, over = x - 1.75, x + 1.4, y - side * 0.62
    corner, sides = (x - BOX[0], y - BOX[1]), (2 * BOX[0], 2 * BOX[1])
    ax.add_patch(FancyBboxPatch(corner, *sides, boxstyle="round,pad=0.03", fc="white", ec=GREY, zorder=2))
    ax.text(x, y, _times(queries, keys), ha="center", va="center", fontsize=10, fontweight="bold", zorder=3)
    _arrow(ax, (fork, y), (x - BOX[0], y), QUERY)
    _label(
        ax,
        ((fork + x - BOX[0]) / 2, y - side * 0.28),
        f"{_with('Q', step.query_plus)}\n{_times(queries, width)}",
        QUERY,
    )
    for letter, extra, colour, shift in (("K", step.key_plus, KEY, -0.35), ("V", "", VALUE, 0.35)):
        end, words = (x + shift, y + side * BOX[1]), _with(letter, extra)
        if step.query == step.context:
            depth = y + side * (0.82 + 0.75 * shift)
            ax.plot([fork, fork, end[0]], [y, depth, depth], color=colour, lw=1.8, zorder=1)
            _arrow(ax, (end[0], depth), end, colour)
            _label(ax, ((fork + x - 0.35) / 2, depth), words, colour)
            continue
        start = (fork - 0.2 + shift / 2, there) if crossed else (end[0], there)
        _arrow(ax, start, end, colour)
        ax.plot(*start, "o", color=colour, ms=4, zorder=3)
        part = 0.85 if crossed else 0.55
        at = [begin + part * (stop - begin) for begin, stop in zip(start, end)]
        size = "" if crossed else "\n" + _times(keys, context_width)  # no room for it; the lanes say it too
        _label(ax, (at[0] + 0.3 * shift, at[1]), words + size, colour, side=shift)
    _arrow(ax, (x + BOX[0], y), (join - 0.1 * bool(step.join), y), OUTPUT)
    if step.join not in ("", "+"):
        _label(ax, ((x + BOX[0] + join) / 2, y - side * 0.24), step.join, OUTPUT)
    if step.join:
        ax.plot([fork, fork, join, join], [y, over, over, y], color="black", lw=1.2, zorder=1)
        ax.text(join, y, "+", ha="center", va="center", fontsize=10, zorder=5, bbox=PLUS)


def _times(*sizes: Size) -> str:
    return " x ".join(size if isinstance(size, str) else f"{size:,}" for size in sizes)


def _with(letter: str, extra: str) -> str:
    return f"{letter} {extra}".strip()


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, zorder: int = 1) -> None:
    look: dict[str, Any] = {"arrowstyle": "-|>", "mutation_scale": 11, "shrinkA": 0, "shrinkB": 0}
    ax.add_patch(FancyArrowPatch(start, end, color=colour, lw=1.2 if colour == "black" else 1.8, zorder=zorder, **look))


def _label(ax: Axes, at: tuple[float, float], text: str, colour: str, side: float = 0) -> None:
    """Words on an arrow, or beside it: to the left where `side` is negative, to the right where it is positive."""
    look: dict[str, Any] = {"fontsize": 8.5, "va": "center", "zorder": 2, "linespacing": 1.05}
    ha = "center" if not side else "right" if side < 0 else "left"
    ax.text(*at, text, color=colour, ha=ha, bbox={"fc": "white", "ec": "none", "pad": 0.6}, **look)


# --- what a choice of queries, keys and values makes possible


def query_key_graph(
    queries: int, keys: int, *, names: tuple[str, str] = ("", ""), title: str = "", ax: Axes | None = None
) -> Axes:
    """Queries as blue circles below, keys as orange squares above, and a line for each weight.

    `names` are the words below the queries and above the keys. Raises ValueError for fewer than one of either.
    """
    if min(queries, keys) < 1:
        raise ValueError(f"{queries} queries, {keys} keys: draw one of each at least")
    ax = axes_or_new(ax, (3.2, 2.8))
    below, above = (np.linspace(0, 1, count + 2)[1:-1] for count in (queries, keys))
    for start, end in product(below, above):
        ax.plot([start, end], [0, 1], color=QUERY, lw=0.9, alpha=0.45)
    ax.scatter(above, np.ones(keys), s=110, marker="s", color=KEY, zorder=3)
    ax.scatter(below, np.zeros(queries), s=110, color=QUERY, zorder=3)
    ax.text(0.5, -0.28, names[0], color=QUERY, ha="center")
    ax.text(0.5, 1.18, names[1], color=KEY, ha="center")
    ax.set(xlim=(0, 1), ylim=(-0.35, 1.35))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def dependence_tables(tables: Mapping[str, tuple[Any, Any]], *, title: str = "") -> Figure:
    """Which output token depends on which input token, {name: (table of x, table of c)}, rows are the outputs.

    A table (output, input) is 1 where the output depends on the input and 0 elsewhere; that of c may have no column.
    What comes from x is blue, what comes from the context c is orange, and white is impossible. Raises ValueError for
    no tables, and where the two of one name have different numbers of outputs.
    """
    if not tables:
        raise ValueError("dependence_tables needs at least one pair of tables, given none")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(tables), figsize=(3.25 * len(tables), 3.3), squeeze=False)
    for ax, (name, (own, other)) in zip(axes[0], tables.items()):
        own, other = as_array(own), as_array(other)
        if len(own) != len(other):
            raise ValueError(f"{name!r}: {len(own)} outputs depend on x, {len(other)} on c: give a row for each output")
        table = np.concatenate([own, 2 * other], axis=1)
        colours = ListedColormap(["white", QUERY, KEY])
        ax.pcolormesh(table, cmap=colours, vmin=0, vmax=2, edgecolors="#CCCCCC", linewidth=0.5)
        middles = [own.shape[1] / 2, own.shape[1] + other.shape[1] / 2][: 1 + bool(other.size)]
        ax.set(xticks=middles, xticklabels=["x", "c"][: len(middles)], yticks=[], xlabel="input token", aspect="equal")
        ax.invert_yaxis()
        caption(ax, name)
        ax.title.set_fontsize(11)
    axes[0, 0].set_ylabel("output token")
    headline(figure, title)
    return figure


def value_mixes(values: Any, outputs: Any, *, mine: Any = None, title: str = "", ax: Axes | None = None) -> Axes:
    """Values (value, 2) as diamonds, outputs (output, 2) as points, and in grey all mixes of the values.

    `mine` (2,) is one more output, drawn as a star. Raises ValueError for points that do not have two channels.
    """
    values, outputs = as_array(values), as_array(outputs)
    for name, points in (("values", values), ("outputs", outputs)):
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"{name} must be (point, 2), given {points.shape}: a picture has two channels")
    ax = axes_or_new(ax, (7, 3.8))
    for corners in combinations(values.tolist(), 3):  # together they are all mixes of points in a plane
        ax.fill(*zip(*corners), color="#E8E8E8", lw=0)
    ax.fill([], [], color="#E8E8E8", label="all possible mixes")
    ax.scatter(outputs[:, 0], outputs[:, 1], s=9, color=OUTPUT, label=f"{len(outputs)} outputs")
    ax.scatter(
        values[:, 0],
        values[:, 1],
        s=130,
        marker="D",
        color=VALUE,
        edgecolor="black",
        zorder=3,
        label=f"{len(values)} values",
    )
    for number, (x, y) in enumerate(values.tolist()):
        ax.annotate(str(number), (x, y), ha="center", va="center", color="white", fontsize=8, zorder=4)
    if mine is not None:
        star: dict[str, Any] = {"marker": "*", "s": 260, "color": "#FFFFFF", "edgecolor": "black", "zorder": 5}
        ax.scatter(*as_array(mine), label="your output", **star)
    ax.set(xlabel="channel 1", ylabel="channel 2")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    set_title(ax, title)
    return ax


# --- what a choice brings


def scores_by_size(
    scores: Mapping[str, Mapping[int, Any]],
    *,
    colours: Sequence[str],
    baseline: float | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores {name: {training examples: one score a seed}}: their means with 95 % intervals, cut off at 0 and 1.

    `baseline` is a dotted line. Raises ValueError if there are not as many colours as names, or no name.
    """
    if not scores or len(colours) != len(scores):
        raise ValueError(f"{len(scores)} names, {len(colours)} colours: give one name at least, and a colour each")
    ax = axes_or_new(ax, (7, 3.5))
    shifts = 1 + 0.03 * (np.arange(len(scores)) - (len(scores) - 1) / 2)  # bars beside each other, not one on the other
    for (name, by_size), colour, shift in zip(scores.items(), colours, shifts):
        means = [mean_interval(as_array(each)) for each in by_size.values()]
        middle, low, high = np.array([(e.mean, max(e.low, 0), min(e.high, 1)) for e in means]).T
        look: dict[str, Any] = {"color": colour, "marker": "o", "capsize": 3, "label": name}
        ax.errorbar(shift * np.array(list(by_size)), middle, [middle - low, high - middle], **look)
    if baseline is not None:
        ax.axhline(baseline, color=GREY, ls=":", lw=1.5)
    sizes = sorted({size for by_size in scores.values() for size in by_size})
    ax.set_xscale("log", base=2)
    ax.set(xticks=sizes, xticklabels=sizes, xlabel="training examples", ylim=(0, 1.05))
    set_title(ax, title)
    return ax


def paired_leads(leads: Mapping[str, Any], *, xlabel: str = "", title: str = "", ax: Axes | None = None) -> Axes:
    """Leads {name: one a seed} from the top down: a dot for each seed, their mean and its 95 % interval, and zero.

    An interval that leaves zero out is drawn bold. Raises ValueError for no names and for leads that are not a list.
    """
    if not leads:
        raise ValueError("paired_leads needs at least one name, given none")
    ax = axes_or_new(ax, (7, 0.42 * len(leads) + 1))
    ax.axvline(0, color=GREY, lw=1.2)
    for row, (name, given) in enumerate(leads.items()):
        each = as_array(given)
        if each.ndim != 1:
            raise ValueError(f"{name!r}: leads of shape {each.shape}, give a list of them, one a seed")
        interval = mean_interval(each)
        clear = interval.low > 0 or interval.high < 0
        ax.plot(each, np.full(len(each), row + 0.22), "o", color=GREY, ms=3.5)
        ax.errorbar(interval.mean, row, xerr=interval.half, fmt="D", color="black", capsize=3, lw=3 if clear else 1.2)
    ax.set(yticks=range(len(leads)), yticklabels=list(leads), ylim=(len(leads) - 0.5, -0.5), xlabel=xlabel)
    set_title(ax, title)
    return ax


def objects_and_words(
    image: Any,
    centres: Any,
    weights: Any,
    *,
    objects: Sequence[str],
    words: Sequence[str],
    mask: Any = None,
    sentence: str = "",
    title: str = "",
) -> Figure:
    """A scene with its objects numbered, and beside it how much weight each object gives to each word.

    Args:
        image: (height, width, 3).
        centres: (object, 2), row and column of each object's number, in pixels.
        weights: (object, word).
        objects, words: the labels of the rows and of the columns. The rows are numbered here, from 1.
        mask: (height, width), True on the object that the sentence names; everything else is dimmed.
        sentence: the caption of the picture.
        title: the title of the figure.

    Raises ValueError for labels, centres and a mask that do not fit.
    """
    if len(centres) != len(objects):
        raise ValueError(f"{len(centres)} centres for {len(objects)} objects: give each object one")
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(12, 3.9), width_ratios=[1, 1.9])
    referent(image, mask, sentence, width=44, ax=left)
    for number, (row, column) in enumerate(as_array(centres).tolist(), start=1):
        look: dict[str, Any] = {"color": "white", "fontweight": "bold", "bbox": {"fc": "black", "pad": 2}}
        left.text(column, row, number, ha="center", va="center", **look)
    rows = [f"{number} {name}" for number, name in enumerate(objects, start=1)]
    attention_heatmap(weights, queries=rows, keys=words, numbers=True, ax=right)
    right.set(xlabel="words (keys)", ylabel="objects (queries)")
    headline(figure, title)
    return figure
