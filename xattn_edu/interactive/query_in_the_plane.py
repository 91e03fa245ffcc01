"""A query turned by hand in the plane, and what dividing by the root of the width saves: lesson 1, 1.1 and 1.3.

The keys and values are those of section 1.1. The random queries are drawn as in section 1.3.
"""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy import ndarray

from xattn_edu.interactive.picture import Picture
from xattn_edu.models.attention_numpy import softmax
from xattn_edu.plots.style import GREY, KEY, ORANGE, OUTPUT, QUERY, SKY

WIDTHS = (1, 2, 4, 8, 16, 64, 256, 1024)
QUERIES, SHOWN = 500, 32  # random queries of each width, and how many of them are shown
DEAD = 0.003  # a query whose shares change less than this with the query learns practically nothing


def query_in_the_plane(degrees: int = 90, length: float = 2.0) -> Picture:
    """Five keys of length 2 and a query that the reader turns; below it, random queries of eight widths.

    `degrees` (0 to 360) and `length` (0 to 4) are where the query starts. Raises ValueError for others.
    """
    if not (0 <= degrees <= 360 and 0 <= length <= 4):
        raise ValueError(f"the query has 0 to 360 degrees and a length of 0 to 4, given {degrees} and {length}")
    angles = np.deg2rad([10, 60, 100, 150, 200])
    keys = 2 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    data = {
        "keys": keys.round(4).tolist(),
        "values": [1.0, 3.0, 2.0, 5.0, 4.0],
        "degrees": degrees,
        "length": length,
        "dead": DEAD,
        "random": [at_random(width) for width in WIDTHS],
    }
    return Picture("query_in_the_plane", "A query turned by hand, and what √d saves", data, draw)


def at_random(width: int) -> dict[str, Any]:
    """The scores of random queries with 16 random keys each, and how much their shares change with the query.

    "sizes" holds the Frobenius norm of the derivative of the shares in the query, without the division ("plain") and
    with it ("scaled"). About every sixteenth query is kept, in the order of their plain sizes, so that the
    share of dead queries is that of all.
    """
    rng = np.random.default_rng(0)
    query, key = rng.normal(size=(QUERIES, 1, width)), rng.normal(size=(QUERIES, 16, width))
    scores = (query * key).sum(axis=-1)
    sizes = {name: _gradient_sizes(scores, key, root) for name, root in (("plain", 1.0), ("scaled", width**0.5))}
    order = np.argsort(-sizes["plain"], kind="stable")
    kept = order[((np.arange(SHOWN) + 0.5) * QUERIES / SHOWN).astype(int)]
    return {
        "width": width,
        "scores": scores[kept].astype(np.float32),
        "sizes": {name: size[kept].astype(np.float32) for name, size in sizes.items()},
    }


def _gradient_sizes(scores: ndarray, key: ndarray, root: float) -> ndarray:
    shares = softmax(scores / root)
    in_scores = shares[:, :, None] * (np.eye(shares.shape[1]) - shares[:, None, :])
    return np.linalg.norm(in_scores @ key / root, axis=(1, 2))


def draw(data: dict[str, Any]) -> Figure:
    """The still picture: the start, all directions, and the share of dead queries by width."""
    figure, (plane, curve, dead) = plt.subplots(1, 3, figsize=(11, 3.4))
    keys, values = np.array(data["keys"]), np.array(data["values"])
    shares = softmax(_query(data["degrees"], data["length"]) @ keys.T)[0]
    for key, share in zip(keys, shares):
        plane.plot(*zip((0, 0), key), color=KEY)
        plane.scatter(*key, s=30 + 2200 * share, color=KEY, alpha=0.85, linewidths=0)
        plane.annotate(f"{share:.0%}", 1.5 * key, ha="center", va="center")
    plane.annotate("", _query(data["degrees"], data["length"])[0], (0, 0), arrowprops={"color": QUERY, "width": 3})
    plane.set(xlim=(-4, 4), ylim=(-2.2, 4.2), aspect="equal", xticks=[], yticks=[])
    plane.set_title("A query's shares of five keys")
    plane.axis("off")

    turn = np.arange(361)
    scores = _query(turn, data["length"]) @ keys.T
    curve.plot(turn, values[scores.argmax(axis=1)], color=GREY, label="hard")
    curve.plot(turn, softmax(scores) @ values, color=OUTPUT, lw=3, label="soft")
    curve.set(xlabel="direction of the query (degrees)", ylabel="output", xticks=range(0, 361, 90), ylim=(0, 5.4))
    curve.set_title("Soft look-up glides, hard jumps")
    curve.legend(loc="upper left")

    widths = [row["width"] for row in data["random"]]
    for kind, name, colour in (("plain", "q·k", ORANGE), ("scaled", "q·k / √d", SKY)):
        share = [100 * (row["sizes"][kind] < data["dead"]).mean() for row in data["random"]]
        dead.plot(widths, share, "o-", color=colour, label=name)
    dead.set_xscale("log", base=2)
    dead.set(xlabel="width d", ylabel="dead queries (%)", ylim=(-3, 100), xticks=widths, xticklabels=widths)
    dead.tick_params(axis="x", labelsize=9)
    dead.set_title("√d keeps queries alive")
    dead.legend()
    return figure


def _query(degrees: Any, length: float) -> ndarray:
    turn = np.deg2rad(np.atleast_1d(degrees))
    return length * np.stack([np.cos(turn), np.sin(turn)], axis=1)
