"""Scenes as objects: a question drawn, the model with its pathway, and what the pathway buys."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from xattn_edu.fonts import written
from xattn_edu.plots.style import GREY, KEY, OUTPUT, QUERY, SKY, VALUE, axes_or_new, set_title

ANCHOR, ANSWER = SKY, OUTPUT


def object_scene(
    names: Sequence[str],
    places: Any,
    *,
    anchor: int,
    answer: int,
    colours: Sequence[Any] | None = None,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Objects as named points in their places; rings mark the anchor, which the question names, and the answer.

    Args:
        names: one for each object.
        places: (object, 2), row and column in units of 1/240 of a side.
        anchor, answer: which objects they are.
        colours: of the points; grey by default.
        title: of the axes.
        ax: axes to draw into; new ones by default.

    Raises ValueError if there are not as many names as places.
    """
    places = np.asarray(places, dtype=float)
    if places.shape != (len(names), 2):
        raise ValueError(f"each name needs a row and a column: expected places ({len(names)}, 2), given {places.shape}")
    ax = axes_or_new(ax, (4, 4))
    colours = [GREY] * len(names) if colours is None else colours
    for number, (name, (row, column)) in enumerate(zip(names, places)):
        role, ring = {anchor: ("anchor", ANCHOR), answer: ("answer", ANSWER)}.get(number, ("", GREY))
        if role:
            ax.plot(column, row, "o", ms=26, mfc="none", mec=ring, mew=3.5)
            at: dict[str, Any] = {"xytext": (0, -22), "textcoords": "offset points", "ha": "center", "va": "center"}
            ax.annotate(role, (column, row), color=ring, fontweight="bold", fontsize=10, **at)
        ax.plot(column, row, "o", ms=12, color=colours[number], mec="black", mew=0.8)
        text, font = written(name)
        ax.annotate(text, (column, row), xytext=(0, 17), textcoords="offset points", ha="center", fontsize=10, **font)
    ax.set(xlim=(-8, 248), ylim=(262, -22), xticks=[], yticks=[], aspect="equal")
    ax.spines[["top", "right"]].set_visible(True)
    set_title(ax, title)
    return ax


_BOXES = {  # centre, and what stands in the box
    "objects": (0.4, "V₁\nobjects"),
    "first": (2.0, "F₁\nattend\nto words"),
    "onward": (3.6, "E₁"),
    "relate": (5.2, "V₂\nattend to\neach other"),
    "second": (6.8, "F₂\nattend\nto words"),
    "score": (8.4, "score"),
}


def object_finder_diagram(pathway: bool, *, title: str = "", ax: Axes | None = None) -> Axes:
    """The model over objects, from left to right, with the language pathway or without it."""
    ax = axes_or_new(ax, (8.6, 2.3))
    for name, (x, text) in _BOXES.items():
        colour = VALUE if name in ("first", "second") else QUERY if name == "relate" else GREY
        box = FancyBboxPatch((x - 0.55, -0.42), 1.1, 0.84, boxstyle="round,pad=0.06", fc="white", ec=colour, lw=2)
        ax.add_patch(box)
        ax.text(x, 0, text, ha="center", va="center", fontsize=9.5)
    steps = [("objects", "first", GREY), ("onward", "relate", GREY), ("relate", "second", GREY)]
    steps += [("second", "score", VALUE)] + ([("first", "onward", VALUE)] if pathway else [])
    for start, end, colour in steps:
        _arrow(ax, (_BOXES[start][0] + 0.62, 0), (_BOXES[end][0] - 0.62, 0), colour)
    if pathway:
        ax.text(2.8, 0.1, "gate", ha="center", va="bottom", fontsize=9, color=VALUE)
    _arrow(ax, (0.4, 0.5), (3.6, 0.5), GREY, bend=-0.22)  # V1 is part of E1 in both models
    ax.text(2.0, 1.0, "+ V₁" if pathway else "E₁ = V₁", ha="center", va="bottom", fontsize=9, color=GREY)
    _arrow(ax, (2.0, -0.5), (8.4, -0.5), VALUE, bend=0.16)
    for x in (2.0, 6.8):
        _arrow(ax, (x, -1.28), (x, -0.52), KEY)
        ax.text(x, -1.32, "words", ha="center", va="top", fontsize=9.5, color=KEY)
    ax.set(xlim=(-0.4, 9.2), ylim=(-1.7, 1.5))
    ax.set_axis_off()
    set_title(ax, title)
    return ax


def _arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], colour: str, bend: float = 0.0) -> None:
    style = f"arc3,rad={bend}"
    ax.add_patch(FancyArrowPatch(start, end, connectionstyle=style, arrowstyle="-|>", mutation_scale=13, color=colour))


def leads_of_pathway(
    found: Mapping[str, tuple[Sequence[float], Sequence[float], float]], *, title: str = "", ax: Axes | None = None
) -> Axes:
    """For each kind of question the runs with and without the pathway, a dot a seed, joined where they are paired.

    `found` has, by the name of a row, the shares of right answers (0 to 1) with the pathway and without, in the order
    of the seeds, and the share that guessing gets. Raises ValueError for rows whose runs are not pairs.
    """
    ax = axes_or_new(ax, (7, 0.62 * len(found) + 1.3))
    for row, (name, (ahead, behind, guess)) in enumerate(found.items()):
        if len(ahead) != len(behind) or not len(ahead):
            raise ValueError(f"{name!r} has {len(ahead)} runs with the pathway, {len(behind)} without: give pairs")
        ax.plot([np.mean(behind), np.mean(ahead)], [row, row], color="#d0d0d0", lw=6, solid_capstyle="butt", zorder=1)
        spread = np.linspace(-0.17, 0.17, len(ahead)) if len(ahead) > 1 else [0.0]
        for shares, colour in ((behind, GREY), (ahead, VALUE)):
            ax.plot(shares, row + np.asarray(spread), "o", ms=5, color=colour, alpha=0.75, zorder=2)
        ax.plot([guess, guess], [row - 0.3, row + 0.3], color="black", lw=1.2, ls=":", zorder=0)
        lead = 100 * (np.mean(ahead) - np.mean(behind))
        ax.text(1.03, row, f"{lead:+.0f}", va="center", fontsize=11, fontweight="bold")
    ax.text(1.03, -0.75, "lead (points)", va="center", fontsize=9, color=GREY)
    ax.set(yticks=range(len(found)), yticklabels=list(found), ylim=(len(found) - 0.5, -0.95), xlim=(0, 1.16))
    ax.set_xlabel("share of right answers")
    ax.set_xticks(np.arange(0, 1.01, 0.25))
    marks = {"with the pathway": (VALUE, "o"), "without": (GREY, "o")}
    handles = [Line2D([], [], color=colour, marker=mark, ls="", label=label) for label, (colour, mark) in marks.items()]
    handles.append(Line2D([], [], color="black", ls=":", lw=1.2, label="guess"))
    ax.legend(handles=handles, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.22), fontsize=10)
    set_title(ax, title)
    return ax
