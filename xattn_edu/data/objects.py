"""Questions about the objects of a scene: six tokens and a sentence, and the answer is one of the tokens.

    closest     "what is closest to the umbrella"
    colour      "what has the colour of the umbrella"
    side        "what is the next thing to the left of the umbrella"
    any         one of these three, or "what is furthest from the umbrella"
    distance    the grammar's own sentences: "the red car farthest from the tree"

All but the last do not name the thing that is meant, only the anchor, here the umbrella. So no object can be found
before it is known which object is the anchor. The scenes are those of `xattn_edu.data.scenes`, before they are painted:
an object is its category, colour, size and place. Splits share no scene.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from numpy.random import Generator, SeedSequence, default_rng
from torch import Tensor

from xattn_edu.data.scenes import CATEGORIES, SPLITS, Layout, scene_layouts, vocabulary
from xattn_edu.data.scenes.sprites import TINTS
from xattn_edu.shapes import check_choice, whole_number

COLUMNS = ("category", "colour", "size", "row", "column")  # of an object; places in units of 1/240 of a side
WAYS = ("left", "right", "above", "below")
QUESTION_WORDS = tuple("what is closest furthest from to the has colour of next thing left right above below".split())
_CLEARLY = 1.15  # the second closest object is at least this many times as far away as the closest one
_STEP = 12  # units by which an object must lie further to one side than another to count as such
_LEAST, _BLOCK = 4, 4096  # objects in a scene; scenes drawn at a time


@dataclass(frozen=True, eq=False)
class Questions:
    """Questions about scenes of up to six objects, one a scene.

    objects (count, 6, 5) int64: COLUMNS of each object, 0 where there is none. present (count, 6) bool.
    sentences: one a scene. anchor, answer (count,) int64: the slots of the object that is named and of the one meant.
    candidates (count, 6) bool: the objects that the sentence could mean by its form.
    """

    objects: ndarray
    present: ndarray
    sentences: tuple[str, ...]
    anchor: ndarray
    answer: ndarray
    candidates: ndarray

    def __len__(self) -> int:
        return len(self.sentences)

    @property
    def guess(self) -> float:
        """The share of right answers of a reader that takes any of the candidates."""
        return float((1 / self.candidates.sum(axis=1)).mean())

    def scene(self, number: int) -> dict[str, Any]:
        """One question as `plots.object_scene` takes it: names, places and colours of its objects, anchor, answer."""
        slots = np.flatnonzero(self.present[number]).tolist()
        category, colour, _, row, column = self.objects[number, slots].T
        return {
            "names": [CATEGORIES["emoji"][index] for index in category],
            "places": np.stack([row, column], axis=1),
            "colours": TINTS[colour] / 255,
            "anchor": slots.index(self.anchor[number]),
            "answer": slots.index(self.answer[number]),
            "title": self.sentences[number],
        }

    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """objects (count, 6, 5) int64, present (count, 6) bool, answer (count,) int64; all are copies."""
        return torch.tensor(self.objects), torch.tensor(self.present), torch.tensor(self.answer)


def question_vocabulary() -> tuple[str, ...]:
    """All words of all questions, sorted: those of the scenes' sentences and QUESTION_WORDS."""
    return tuple(sorted({*vocabulary("english"), *QUESTION_WORDS}))


def questions(split: str, count: int, seed: int = 0, *, about: str = "closest") -> Questions:
    """Questions of one kind about the scenes of a split.

    Scenes have four objects or more. Those without a clear answer are left out. Question number i of (split, seed,
    about) is the same for every count.

    Args:
        split: "train", "validation" or "test".
        count: how many, 1 or more.
        seed: 0 or more; another one gives other scenes.
        about: a key of ABOUT.

    Raises ValueError or TypeError for any other argument.
    """
    check_choice("split", split, SPLITS[:3])
    check_choice("about", about, ABOUT)
    count, seed = whole_number("count", count, 1), whole_number("seed", seed, 0)
    kinds = ("distance",) if about == "distance" else ("attribute", "location")
    parts: list[Questions] = []
    while sum(map(len, parts)) < count:
        block = len(parts)
        layout, sentences, _ = scene_layouts(split, _BLOCK, seed, start=block * _BLOCK, kinds=kinds)
        rng = default_rng(SeedSequence(seed, spawn_key=(SPLITS.index(split), [*ABOUT].index(about), block)))
        parts.append(ABOUT[about](rng, layout, sentences))
    sentences = tuple(sentence for part in parts for sentence in part.sentences)[:count]
    columns = [np.concatenate([getattr(part, name) for part in parts])[:count] for name in _ARRAYS]
    objects, present, anchor, answer, candidates = columns
    return Questions(objects, present, sentences, anchor, answer, candidates)


# --- one function a kind of question


def _closest(rng: Generator, layout: Layout, sentences: tuple[str, ...]) -> Questions:
    anchor, others, down, right = _anchored(rng, layout)
    distance = np.where(others, np.hypot(down, right), np.inf)
    first, second = np.sort(distance, axis=1)[:, :2].T
    clear = second > _CLEARLY * first
    asked = [f"what is closest to the {noun}" for noun in _nouns(layout, anchor)]
    return _kept(layout, asked, anchor, distance.argmin(axis=1), others, clear)


def _furthest(rng: Generator, layout: Layout, sentences: tuple[str, ...]) -> Questions:
    anchor, others, down, right = _anchored(rng, layout)
    distance = np.where(others, np.hypot(down, right), -1)
    second, first = np.sort(distance, axis=1)[:, -2:].T
    asked = [f"what is furthest from the {noun}" for noun in _nouns(layout, anchor)]
    return _kept(layout, asked, anchor, distance.argmax(axis=1), others, first > _CLEARLY * second)


def _colour(rng: Generator, layout: Layout, sentences: tuple[str, ...]) -> Questions:
    anchor, others, *_ = _anchored(rng, layout)
    alike = others & (layout.colour == layout.of("colour", anchor.clip(0))[:, None])
    asked = [f"what has the colour of the {noun}" for noun in _nouns(layout, anchor)]
    return _kept(layout, asked, anchor, alike.argmax(axis=1), others, alike.sum(axis=1) == 1)


def _side(rng: Generator, layout: Layout, sentences: tuple[str, ...]) -> Questions:
    """Two objects or more lie on the side that is said, so the answer is never the one furthest to that side."""
    anchor, others, down, right = _anchored(rng, layout)
    way = rng.integers(len(WAYS), size=len(layout))
    along = np.stack([-right, right, -down, down])[way, np.arange(len(layout))]
    level = (others & (np.abs(along) <= _STEP)).any(axis=1)
    along = np.where(others & (along > 0), along, np.inf)
    first, second = np.sort(along, axis=1)[:, :2].T
    clear = ~level & np.isfinite(second) & (second > first + _STEP)
    said = [f"to the {side} of" if side in ("left", "right") else side for side in WAYS]
    asked = [f"what is the next thing {said[turn]} the {noun}" for turn, noun in zip(way, _nouns(layout, anchor))]
    return _kept(layout, asked, anchor, along.argmin(axis=1), others, clear)


def _distance(rng: Generator, layout: Layout, sentences: tuple[str, ...]) -> Questions:
    named = layout.present & (layout.category == layout.of("category", layout.target)[:, None])
    enough = np.full(len(layout), True)
    return _kept(layout, sentences, layout.anchor, layout.target, named, enough)


def _any(rng: Generator, layout: Layout, sentences: tuple[str, ...]) -> Questions:
    """One of the kinds that name only the anchor, in turn."""
    kinds = (_closest, _furthest, _side, _colour)
    lots = [kind(rng, layout[turn :: len(kinds)], sentences) for turn, kind in enumerate(kinds)]
    order = rng.permutation(sum(map(len, lots)))
    said = tuple(chain(*(lot.sentences for lot in lots)))
    columns = (np.concatenate([getattr(lot, name) for lot in lots])[order] for name in _ARRAYS)
    objects, present, anchor, answer, candidates = columns
    return Questions(objects, present, tuple(said[number] for number in order), anchor, answer, candidates)


_ARRAYS = ("objects", "present", "anchor", "answer", "candidates")


ABOUT: dict[str, Callable[[Generator, Layout, tuple[str, ...]], Questions]] = {
    "closest": _closest,
    "colour": _colour,
    "side": _side,
    "distance": _distance,
    "any": _any,
}


def _anchored(rng: Generator, layout: Layout) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """An anchor whose noun names it alone, or -1; the other objects; and how far below and right of it each slot is."""
    alike = (layout.category[:, :, None] == layout.category[:, None, :]) & layout.present[:, None, :]
    alone = layout.present & (alike.sum(axis=2) == 1)
    anchor = np.where(alone, rng.random(alone.shape), -1).argmax(axis=1)
    others = layout.present & (np.arange(layout.present.shape[1]) != anchor[:, None])
    down, right = (getattr(layout, name) - layout.of(name, anchor)[:, None] for name in ("row", "column"))
    return np.where(alone.any(axis=1), anchor, -1), others, down, right


def _nouns(layout: Layout, anchor: ndarray) -> list[str]:
    return [CATEGORIES["emoji"][number] for number in layout.of("category", anchor.clip(0))]


def _kept(
    layout: Layout,
    sentences: tuple[str, ...] | list[str],
    anchor: ndarray,
    answer: ndarray,
    candidates: ndarray,
    clear: ndarray,
) -> Questions:
    """The questions whose answer is `clear` and whose scenes are large enough."""
    chosen = np.flatnonzero(clear & (anchor >= 0) & (layout.present.sum(axis=1) >= _LEAST))
    objects = np.stack([getattr(layout, name) for name in COLUMNS], axis=2)
    said = tuple(sentences[number] for number in chosen)
    return Questions(objects[chosen], layout.present[chosen], said, anchor[chosen], answer[chosen], candidates[chosen])
