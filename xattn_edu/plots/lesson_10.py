"""Pictures of lesson 10: where words and image meet, who attends to whom, windows, masked words, scenes in rows."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from xattn_edu.plots.referring import referent
from xattn_edu.plots.style import (
    GREY,
    KEY,
    ORANGE,
    QUERY,
    SKY,
    STYLE,
    VALUE,
    as_array,
    axes_or_new,
    caption,
    headline,
    set_title,
    written,
    written_all,
)

STAGES = (1.6, 3.2, 4.8, 6.4)  # where the four stages stand
ARROW: dict[str, Any] = {"arrowstyle": "->", "lw": 1.4, "shrinkA": 0, "shrinkB": 2}


def fusion_paradigms() -> Figure:
    """LAVT's figure 1 as two diagrams: words that reach the decoder alone, and words that reach every stage.

    Blue boxes have received the image alone, orange ones the words alone, green ones both.
    """
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(2, 1, figsize=(9, 5.6), height_ratios=[1, 1.2])
    _late(axes[0])
    _early(axes[1])
    for ax in axes:
        ax.set(xlim=(-1.9, 9.1))
        ax.set_axis_off()
    return figure


def _late(ax: Axes) -> None:
    set_title(ax, "(a) The words reach the decoder only: the image encoder never receives them")
    top, bottom = 1.7, 0.0
    _box(ax, "image", 0, top, GREY)
    for number, x in enumerate(STAGES, start=1):
        _box(ax, f"stage {number}", x, top, QUERY)
        _arrow(ax, (x - 1.15, top), (x - 0.5, top))
        if number > 1:  # the last three of four stages
            _arrow(ax, (x, top - 0.32), (x, bottom + 0.36))
            ax.text(x + 0.1, 0.85, f"$V_{number}$", fontsize=10, va="center")
    _box(ax, "decoder: its places attend to the words", 4.8, bottom, VALUE, width=4.3)
    _box(ax, "mask", 8.4, bottom, GREY)
    _arrow(ax, (7.0, bottom), (7.95, bottom))
    _words(ax, bottom)
    _arrow(ax, (0.57, bottom), (2.6, bottom), KEY)
    ax.set(ylim=(-0.5, 2.2))


def _early(ax: Axes) -> None:
    set_title(ax, "(b) LAVT: the words reach every stage, and the stages behind it")
    top, middle, bottom = 2.9, 1.3, 0.0
    _box(ax, "image", 0, top, GREY)
    _words(ax, middle)
    bus = 2.05
    ax.plot([0.1, 0.1, STAGES[-1] - 0.3], [middle + 0.3, bus, bus], color=KEY, lw=1.4)
    for number, x in enumerate(STAGES, start=1):
        _box(ax, f"stage {number}", x, top, QUERY if number == 1 else VALUE)
        _arrow(ax, (x - 0.3, bus), (x - 0.3, middle + 0.32), KEY)
        _box(ax, "PWAM", x, middle, VALUE)
        _arrow(ax, (x + 0.1, top - 0.32), (x + 0.1, middle + 0.34), QUERY if number == 1 else VALUE)
        ax.text(x + 0.17, 2.33, f"$V_{number}$", fontsize=10, va="center")
        _arrow(ax, (x, middle - 0.32), (x, bottom + 0.36), VALUE)
        ax.text(x + 0.1, 0.66, f"$F_{number}$", fontsize=10, va="center")
        if number == 1:
            _arrow(ax, (0.5, top), (x - 0.5, top))
        if number < len(STAGES):  # past the words' line, to the next stage
            _arrow(ax, (x + 0.5, middle + 0.1), (x + 1.6 - 0.5, top - 0.1), VALUE)
            ax.text(x + 0.93, 2.33, f"$E_{number}$", fontsize=10, va="center")
    _box(ax, "decoder: convolutions, no words", 4.0, bottom, VALUE, width=5.9)
    _box(ax, "mask", 8.4, bottom, GREY)
    _arrow(ax, (7.0, bottom), (7.95, bottom))
    ax.set(ylim=(-0.5, 3.4))


def _words(ax: Axes, y: float) -> None:
    """The sentence and its encoder, at the left."""
    _box(ax, "words", -1.3, y, GREY)
    _box(ax, "language\nencoder", 0.1, y, KEY)
    _arrow(ax, (-0.83, y), (-0.36, y), KEY)


def _box(ax: Axes, text: str, x: float, y: float, colour: str, *, width: float = 0.9) -> None:
    half = 0.3
    frame = plt.Rectangle((x - width / 2, y - half), width, 2 * half, fc=colour, ec="none")
    ax.add_patch(frame)
    ax.text(x, y, text, ha="center", va="center", fontsize=9, color="white")


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = GREY, lw: float = 1.4) -> None:
    ax.annotate("", end, start, arrowprops=ARROW | {"color": colour, "lw": lw})


def who_attends() -> Figure:
    """Two choices of queries: each place of the image attends to the words, or queries from words attend to places.

    Queries are blue, keys and values orange, as everywhere in the course.
    """
    words = ("the", "orange", "house", "right")
    places = [(column, row) for row in range(4) for column in range(4)]
    with plt.rc_context(STYLE):
        figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), width_ratios=[1, 1.25])
    set_title(left, "Here and in LAVT: places attend to words")
    _places(left, places, 0, QUERY, "queries: places of the image")
    for number, word in enumerate(words):
        y = 3.3 - 1.1 * number
        _box(left, word, 7, y, KEY, width=1.7)
        _arrow(left, (2.5, 1.5), (6.1, y), QUERY, (0.8, 2.6, 1.8, 1.2)[number])
    left.text(7, -1.0, "keys, values: words", ha="center", fontsize=9)
    left.text(3.3, -1.75, "out: one vector for each place", ha="center", fontsize=9, style="italic")
    set_title(right, "VLT: queries made from the words attend to places")
    for number, word in enumerate(words):
        _box(right, word, 0, 3.3 - 1.1 * number, GREY, width=1.7)
    for number in range(3):
        y = 2.9 - 1.25 * number
        _box(right, f"query {number + 1}", 4, y, QUERY, width=1.7)
        for other in range(len(words)):
            _arrow(right, (0.9, 3.3 - 1.1 * other), (3.1, y), GREY, 0.6)
    _places(right, places, 7.5, KEY, "keys, values: places")
    for column, row, width in ((0, 1, 2.6), (1, 2, 1.8), (2, 0, 0.8), (3, 3, 0.8)):
        _arrow(right, (4.9, 2.9), (7.5 + column, 3 - row), QUERY, width)
    right.text(4, -1.0, "made from the words", ha="center", fontsize=9)
    right.text(5.5, -1.75, "out: one vector for each query", ha="center", fontsize=9, style="italic")
    for ax, reach in ((left, 8.2), (right, 11.4)):
        ax.set(xlim=(-1.2, reach), ylim=(-2, 4))
        ax.set_axis_off()
    return figure


def _places(ax: Axes, places: Sequence[tuple[int, int]], x: float, colour: str, text: str) -> None:
    for column, row in places:
        ax.add_patch(plt.Rectangle((x + column - 0.45, 3 - row - 0.45), 0.9, 0.9, fc=colour, ec="none", alpha=0.75))
    ax.text(x + 1.5, -1.0, text, ha="center", fontsize=9)


def window_grid(
    windows: Any,
    *,
    query: tuple[int, int] | None = None,
    keys: Any = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """A grid of pixels cut into windows: `windows` (row, column) has one number for the pixels of one window.

    Thick lines run between windows. The pixel `query` (row, column) is blue; the pixels of `keys` (row, column), True
    where the query may attend to, are orange. Raises ValueError for windows that are no grid, and for keys or a query
    that do not fit it.
    """
    grid = as_array(windows)
    if grid.ndim != 2:
        raise ValueError(f"windows must be a grid (row, column) of window numbers, given {grid.shape}")
    chosen = np.zeros(grid.shape) if keys is None else as_array(keys)
    if chosen.shape != grid.shape:
        raise ValueError(f"keys {chosen.shape} do not fit the windows {grid.shape}")
    if query is not None and not all(0 <= place < side for place, side in zip(query, grid.shape)):
        raise ValueError(f"the query {query} does not lie in the windows {grid.shape}")
    ax = axes_or_new(ax, (2.8, 3))
    shown = np.ones((*grid.shape, 3)) * 0.93
    shown[chosen > 0.5] = to_rgb(KEY)
    if query is not None:
        shown[query] = to_rgb(QUERY)
    ax.imshow(shown, interpolation="nearest")
    rows, columns = grid.shape
    for row, column in np.ndindex(*grid.shape):
        for below in (True, False):
            other = (row + 1, column) if below else (row, column + 1)
            inside = other[0] < rows and other[1] < columns
            thick = not inside or grid[row, column] != grid[other]
            line = (
                ([column - 0.5, column + 0.5], [row + 0.5] * 2)
                if below
                else ([column + 0.5] * 2, [row - 0.5, row + 0.5])
            )
            ax.plot(*line, color="black" if thick else "white", lw=2 if thick else 1, solid_capstyle="butt")
    ax.plot([-0.5, columns - 0.5], [-0.5, -0.5], color="black", lw=2)
    ax.plot([-0.5, -0.5], [-0.5, rows - 0.5], color="black", lw=2)
    ax.set_axis_off()
    caption(ax, textwrap.fill(title, 34))
    return ax


def masked_words(guesses: Mapping[str, Mapping[str, float]], *, title: str = "") -> Figure:
    """For each sentence with a hidden word, the likeliest words {word: probability} as bars, in the given order.

    Raises ValueError when there is no sentence, or one without a guess.
    """
    if not guesses or not all(guesses.values()):
        raise ValueError("masked_words needs one sentence at least, and one guess for each")
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, len(guesses), figsize=(3.4 * len(guesses), 2.7), squeeze=False, sharex=True)
    for ax, (sentence, words) in zip(axes[0], guesses.items()):
        names, font = written_all(list(words))
        ax.barh(range(len(words)), list(words.values()), color=SKY, height=0.7)
        ax.set_yticks(range(len(words)), names, fontsize=9, **font)
        ax.invert_yaxis()
        ax.set(xlim=(0, 1), xlabel="probability")
        caption(ax, textwrap.fill(sentence, 30))
    headline(figure, title)
    return figure


def scene_rows(
    images: Sequence[Any],
    captions: Sequence[str],
    painted: Mapping[str, Sequence[Any]],
    *,
    truth: Sequence[Any] | None = None,
    notes: Mapping[str, Sequence[str]] | None = None,
    title: str = "",
) -> Figure:
    """Scenes side by side, and a row for each model: {model: the mask that it predicts in each scene}.

    Args:
        images: (height, width, 3) each.
        captions: one a scene, above the first row.
        painted: for each row its name and its masks (height, width), painted magenta.
        truth: the true masks, drawn as outlines.
        notes: {row: a line of text below each picture}.
        title: the title of the figure.

    Raises ValueError unless there are as many captions, masks and notes as images.
    """
    counts = {"captions": captions, "truth": images if truth is None else truth, **painted, **(notes or {})}
    for name, values in counts.items():
        if len(values) != len(images):
            raise ValueError(f"{len(images)} images, but {len(values)} of {name!r}: give one for each image")
    size = (1.75 * len(images) + 0.3, (1.95 if notes else 1.75) * len(painted) + 0.9)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(len(painted), len(images), figsize=size, squeeze=False)
    for number, (row, (name, masks)) in enumerate(zip(axes, painted.items())):
        for scene, ax in enumerate(row):
            sentence = "" if number else captions[scene]
            outline = None if truth is None else truth[scene]
            referent(images[scene], outline, sentence, predicted=masks[scene], width=21, ax=ax)
            if notes and name in notes:
                text, font = written(notes[name][scene])
                ax.text(0.5, -0.03, text, transform=ax.transAxes, ha="center", va="top", fontsize=9, **font)
        text, font = written(name)
        row[0].text(-0.06, 0.5, text, transform=row[0].transAxes, rotation=90, ha="right", va="center", **font)
    headline(figure, title)
    return figure


def grouped_bars(
    scores: Mapping[str, Mapping[str, Any]],
    *,
    colours: Sequence[str] = (SKY, ORANGE),
    xlabel: str = "",
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Scores {series: {name: one number, or one a seed}}: for each name a bar for each series, its mean written behind.

    Several numbers are drawn as dots on the bar of their mean. Raises ValueError when series have other names than the
    first, and for more series than colours.
    """
    names = list(next(iter(scores.values()), {}))
    if not names or any(list(series) != names for series in scores.values()) or len(scores) > len(colours):
        raise ValueError(
            f"give one series at least, each with the same names, and a colour each: {len(scores)} series, "
            f"{len(colours)} colours"
        )
    ax = axes_or_new(ax, (7, 0.5 * len(names) + 1))
    height = 0.8 / len(scores)
    for number, ((label, series), colour) in enumerate(zip(scores.items(), colours)):
        for at, value in enumerate(series.values()):
            seeds = np.atleast_1d(as_array(value))
            place = at + (number - (len(scores) - 1) / 2) * height
            ax.barh(place, seeds.mean(), height=height, color=colour, label=label if at == 0 else None)
            if seeds.size > 1:
                ax.plot(seeds, [place] * seeds.size, "o", color="black", ms=3)
            ax.text(seeds.max() + 0.012, place, f"{seeds.mean():.2f}", va="center", fontsize=9)
    ax.set_yticks(range(len(names)), names)
    ax.set(xlim=(0, None), xlabel=xlabel)
    ax.invert_yaxis()
    set_title(ax, title)
    return ax
