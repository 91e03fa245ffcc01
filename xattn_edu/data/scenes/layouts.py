"""Layouts of referring scenes: which objects stand where, and which expressions fit one of them alone.

First a layout is drawn. Then every expression of its kind is tried on it. One that fits a single object is chosen, and
that object is the referent. "Large", "on the left" or "closest" have no sharp border. So each expression has two
readings, a strict and a lax one, and it is used only if both fit the same single object.

    "the car on the left"    strict: cars whose centre lies in the left third of the image
                             lax:    cars whose centre is not clearly in the right half
    Cars at columns 30 and 120 (of 240): strict fits the first, lax fits both, so the expression is not used.
    Cars at columns 30 and 200: both readings fit the first car alone, so it becomes the referent.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator

from xattn_edu.data.scenes.expressions import KINDS, RANKS, SIDES, Program
from xattn_edu.data.scenes.sprites import CATEGORIES, COLOURS, sprites

SPLITS = ("train", "validation", "test", "unseen_words", "unseen_pairs")
ATTRIBUTE, LOCATION, SUPERLATIVE, RELATION, DISTANCE, NEGATION, ORDINAL = range(len(KINDS))
SLOTS = 6  # objects at most
SIDE = 240  # units to a side of the image; all places and sizes in a layout are in these units
EXTENTS = np.array((50, 64, 84))  # of small, medium and large objects: the side of a square one
GAP = 4  # units at least between boxes, before one object is moved by up to two


def held_out(category: ndarray) -> ndarray:
    """The one colour of each category that train never names: each colour is held out equally often."""
    return 3 * category % len(COLOURS)


@dataclass(frozen=True, eq=False)
class Layout:
    """The objects of `count` scenes, six slots a scene.

    present (count, 6) bool: whether a slot holds an object; all other columns are 0 where it holds none.
    category, colour, size (count, 6): indices into CATEGORIES[objects], COLOURS and SIZE_NAMES.
    variant (count, 6): the number of the category's sprite.
    row, column (count, 6): the centre of an object; height, width (count, 6): its box. All are int64, in units of 1/240
    of the image's side.
    target (count,): the slot of the referent. anchor (count,): the slot of the object it is related to, or -1.
    """

    present: ndarray
    category: ndarray
    colour: ndarray
    size: ndarray
    variant: ndarray
    row: ndarray
    column: ndarray
    height: ndarray
    width: ndarray
    target: ndarray
    anchor: ndarray

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, index: Any) -> "Layout":
        return Layout(*(column[index] for column in self.columns()))

    def columns(self) -> list[ndarray]:
        return [getattr(self, field.name) for field in fields(self)]

    def of(self, name: str, slot: ndarray) -> ndarray:
        """The value of the column `name` at one slot of each scene, (count,)."""
        return np.take_along_axis(getattr(self, name), slot[:, None], axis=1)[:, 0]

    @property
    def namesakes(self) -> ndarray:
        """How many objects have the referent's category, (count,); 1 where the noun alone is enough."""
        return (self.present & (self.category == self.of("category", self.target)[:, None])).sum(axis=1)


# --- drawing the objects


def draw(rng: Generator, kind: ndarray, split: str, objects: str) -> tuple[Layout, ndarray]:
    """A layout and a program, (count, 9) int64, see `Program`, for each kind, (count,) int64, index into KINDS."""
    missing, numbers, accepted = np.arange(len(kind)), [], []
    while missing.size:
        seats = np.resize(missing, max(len(missing), 256))  # few missing ones get several tries at a time
        layout, programs, good = _draft(rng, kind[seats], split, objects)
        found, first = np.unique(seats[good], return_index=True)
        chosen = np.flatnonzero(good)[first]
        numbers.append(found)
        accepted.append([*layout[chosen].columns(), programs[chosen]])
        missing = np.setdiff1d(missing, found)
    order = np.concatenate(numbers).argsort()
    *columns, programs = (np.concatenate(column)[order] for column in zip(*accepted))
    return Layout(*columns), programs


def _draft(rng: Generator, kind: ndarray, split: str, objects: str) -> tuple[Layout, ndarray, ndarray]:
    """Layouts for these kinds, their programs, and whether each is good: placed, unambiguous, allowed in the split.

    The noun phrase is made for object 0, so it fits object 0. The expression may in the end fit one of its namesakes
    instead, which is then the referent.
    """
    anchored = (kind == RELATION) | (kind == DISTANCE)
    present, namesake, category = _cast(rng, kind, anchored, len(CATEGORIES[objects]))
    colour, size, says_colour, says_size, denied = _dress(rng, kind, split, namesake, held_out(category[:, :1]))

    # Large objects are placed first, absent ones last, equally large ones in random order. `seats` undoes the order.
    absent_last, large_first, shuffled = 9 * ~present, -size, rng.random(size.shape)
    order = (absent_last + large_first + shuffled).argsort(axis=1)
    present, category, colour, size = (np.take_along_axis(one, order, 1) for one in (present, category, colour, size))
    variant, height, width = _boxes(rng, split, objects, category, size)
    row, column, placed = _places(rng, height, width, present, SPLITS.index(split))
    seats, everyone = order.argsort(axis=1), np.arange(len(kind))
    anchor = np.where(anchored, seats[everyone, namesake.sum(axis=1) % SLOTS], -1)
    shown = (one * present for one in (category, colour, size, variant, row, column, height, width))
    layout = Layout(*(present, *shown, seats[:, 0], anchor))

    layout, programs, unambiguous = _described(rng, layout, kind, says_colour, says_size, denied)
    says_held_out = _says_held_out(programs)
    is_held_out = (held_out(layout.category) == layout.colour)[everyone, layout.target]
    allowed = says_held_out if split == "unseen_pairs" else ~says_held_out & ~is_held_out
    return layout, programs, placed & unambiguous & allowed


def _cast(rng: Generator, kind: ndarray, anchored: ndarray, categories: int) -> tuple[ndarray, ndarray, ndarray]:
    """Whether each object is present, whether it has object 0's category, and its category, (count, 6) each.

    Object 0 and its namesakes come first, then the anchor (if the kind has one), then objects of other categories.
    """
    count, number = len(kind), np.arange(SLOTS)
    total = rng.choice((3, 4, 5, 6), count, p=(0.1, 0.2, 0.3, 0.4))  # crowded scenes find no room more often
    group = rng.choice((1, 2, 3, 4), count, p=(0.11, 0.27, 0.34, 0.28))
    compared = (kind == SUPERLATIVE) | (kind == NEGATION) | (kind == ORDINAL)
    group = np.minimum(np.where(compared, np.maximum(group, 2), group), total - anchored)
    present, namesake = number < total[:, None], number < group[:, None]
    names = rng.permuted(np.tile(np.arange(categories), (count, 1)), axis=1)
    others = np.take_along_axis(names, rng.integers(1, 5, (count, SLOTS)), axis=1)
    return present, namesake, np.where(namesake, names[:, :1], others)


def _dress(
    rng: Generator, kind: ndarray, split: str, namesake: ndarray, held: ndarray
) -> tuple[ndarray, ndarray, ndarray, ndarray, ndarray]:
    """Colours and sizes (count, 6), whether those of object 0 are said (count,), and the denied colours (count, 2).

    They are drawn so that the said words are needed. `held` (count, 1) is the colour held out for the category.
    """
    count, number = len(kind), np.arange(SLOTS)
    attribute, negation = kind == ATTRIBUTE, kind == NEGATION
    dice = rng.random((3, count))
    says_colour = ((dice[0] < np.where(attribute, 0.8, 0.35)) | (split == "unseen_pairs")) & ~negation
    says_size = np.where(attribute, ~says_colour | (dice[1] < 0.4), dice[1] < 0.12)
    denies = negation[:, None] & np.stack([negation, (dice[2] < 0.5) & namesake[:, 2]], axis=1)

    # Three colours a scene: object 0's, and two that may be denied. The split decides whether the said one is held out.
    palette = rng.permuted(np.tile(np.arange(len(COLOURS)), (count, 1)), axis=1)[:, :3]
    key = np.where(negation, palette[:, 1], palette[:, 0])[:, None]
    offset = 0 if split == "unseen_pairs" else rng.integers(1, len(COLOURS), (count, 1))
    palette = (palette + held + offset - key) % len(COLOURS)

    # `pick` is a colour's place in the palette; 0 is object 0's colour. Object 1 shares the said colour if something
    # else separates the two. The other namesakes have another colour (attribute) or a denied one (negation).
    shares_colour = np.where(attribute, says_colour & says_size, says_colour)[:, None] & (number == 1)
    other_namesake = namesake & (number > 0) & ~shares_colour
    pick = rng.integers(0, 3, (count, SLOTS)) * (number > 0) * ~shares_colour
    pick = np.where(other_namesake & (attribute & says_colour)[:, None], 1 + pick % 2, pick)
    pick = np.where(other_namesake & negation[:, None], 1 + number % 2 * denies[:, 1:], pick)
    colour = np.take_along_axis(palette, pick, axis=1)

    # A said size is small or large, never medium: object 0 has it, and a namesake that it must separate has the other.
    said_size = 2 * rng.integers(0, 2, (count, 1))
    shares_size = says_size[:, None] & ((number == 0) | ~attribute[:, None] & (number == 1))
    separated = np.where(says_colour[:, None], number == 1, number > 0)
    other_size = (says_size & attribute)[:, None] & namesake & separated
    any_size = rng.integers(0, 3, (count, SLOTS))
    size = np.where(shares_size, said_size, np.where(other_size, 2 - said_size, any_size))
    return colour, size, says_colour, says_size, np.where(denies, palette[:, 1:], -1)


def _boxes(
    rng: Generator, split: str, objects: str, category: ndarray, size: ndarray
) -> tuple[ndarray, ndarray, ndarray]:
    """A sprite for each object, and the height and width of its box; long objects are longer, and narrower."""
    shapes = [[sprite.alpha.shape for sprite in variants] for variants in sprites(objects, split == "train")]
    most = max(map(len, shapes))
    table = np.array([[variants[number % len(variants)] for number in range(most)] for variants in shapes], float)
    variant = rng.integers(0, np.array([len(variants) for variants in shapes])[category])
    height, width = np.moveaxis(table[category, variant], -1, 0)
    longer, ratio = np.maximum(height, width), np.maximum(height, width) / np.minimum(height, width)
    scale = EXTENTS[size] * ratio**0.25 / longer
    return variant, (height * scale).round().astype(np.int64), (width * scale).round().astype(np.int64)


def _places(
    rng: Generator, height: ndarray, width: ndarray, present: ndarray, split: int
) -> tuple[ndarray, ndarray, ndarray]:
    """Rows and columns (count, 6) of centres at which no boxes overlap, and whether all objects found one (count,)."""
    count, tries = len(height), 12
    everyone, row, column = np.arange(count), np.zeros_like(height), np.zeros_like(width)
    placed = np.ones(count, bool)
    for slot in range(SLOTS):
        tall, wide = height[:, slot, None], width[:, slot, None]
        rows = (tall / 2 + 3 + rng.random((count, tries)) * (SIDE - 6 - tall)).astype(np.int64)
        columns = (wide / 2 + 3 + rng.random((count, tries)) * (SIDE - 6 - wide)).astype(np.int64)
        free = np.ones((count, tries), bool)
        for other in range(slot):
            apart_y = 2 * np.abs(rows - row[:, other, None]) >= tall + height[:, other, None] + 2 * GAP
            apart_x = 2 * np.abs(columns - column[:, other, None]) >= wide + width[:, other, None] + 2 * GAP
            free &= apart_y | apart_x
        best = free.argmax(axis=1)
        row[:, slot], column[:, slot] = rows[everyone, best], columns[everyone, best]
        placed &= free[everyone, best] | ~present[:, slot]
    row[:, 0] += _step_to_split(row, column, present, split)
    return row, column, placed


def _step_to_split(row: ndarray, column: ndarray, present: ndarray, split: int) -> ndarray:
    """By how many rows, -2 to 2, object 0 must move so that the sum of all rows and columns is `split` modulo 5.

    The sum names the split, so no two splits share a layout.
    """
    total = ((row + column) * present).sum(axis=1)
    return (split - total + 2) % len(SPLITS) - 2


# --- expressions that fit


def _described(
    rng: Generator, layout: Layout, kind: ndarray, says_colour: ndarray, says_size: ndarray, denied: ndarray
) -> tuple[Layout, ndarray, ndarray]:
    """The layout with its referent, a program (count, 9) that fits it, and whether the program fits nothing else."""
    count, anchor = len(kind), np.maximum(layout.anchor, 0)
    category, colour, size = (layout.of(name, layout.target) for name in ("category", "colour", "size"))
    colour, size = np.where(says_colour, colour, -1), np.where(says_size, size, -1)

    # The noun phrase. Strictly, "large" fits large objects only; laxly, medium ones are both large and small.
    named = layout.present & (layout.category == category[:, None])
    named &= (layout.colour == colour[:, None]) | (colour < 0)[:, None]
    away = np.where(says_size[:, None], np.abs(layout.size - size[:, None]), 0)
    strict, lax = named & (away == 0), named & (away <= 1)

    # The anchor is named by its noun where that is enough, else by its colour too.
    alike = layout.present & (layout.category == layout.of("category", anchor)[:, None])
    tinted = alike & (layout.colour == layout.of("colour", anchor)[:, None])
    says_tint = (alike.sum(axis=1) > 1) | (rng.random(count) < 0.3)
    related = layout.anchor >= 0
    good = ~related | (np.where(says_tint[:, None], tinted, alike).sum(axis=1) == 1)
    anchor_category = np.where(related, layout.of("category", anchor), -1)
    tint = np.where(related & says_tint, layout.of("colour", anchor), -1)
    programs = np.stack([kind, kind, category, colour, size, anchor_category, tint, *denied.T], axis=1)

    # What the kind adds: any of its ways whose two readings fit the same single object.
    target = layout.target.copy()
    for number, readings in enumerate(_READINGS):
        chosen = np.flatnonzero(kind == number)
        strictly, laxly = readings(layout[chosen], strict[chosen], lax[chosen], denied[chosen])
        holds = (strictly == laxly).all(axis=2) & (laxly.sum(axis=2) == 1)  # scene way
        way = (holds * (1 + rng.random(holds.shape))).argmax(axis=1)
        everyone = np.arange(len(chosen))
        programs[chosen, 1], target[chosen] = way, laxly[everyone, way].argmax(axis=1)
        good[chosen] &= holds[everyone, way]
    good &= ~((kind == SUPERLATIVE) & says_size & (programs[:, 1] >= len(SIDES)))  # not "the largest small car"
    return replace(layout, target=target), programs, good


def _says_held_out(programs: ndarray) -> ndarray:
    """Whether a held-out colour is said with its noun: of the referent, of the anchor, or in a negation."""
    said = dict(zip(Program._fields, programs.T))
    held = held_out(said["category"])
    of_referent = (held == said["colour"]) | (held == said["not_a"]) | (held == said["not_b"])
    return of_referent | (held_out(said["anchor"]) == said["anchor_colour"])


# The two readings of each kind, strict and lax: whether an expression fits an object, (scene, way, slot). They take the
# layout, the objects that the noun phrase fits strictly and laxly, (scene, slot), and the denied colours, (scene, 2).

NEAR, FAR_APART = 12, 24  # units: smaller differences of place, and of distance, could be overlooked


def _attribute(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    return strict[:, None], lax[:, None]


def _location(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    """On the left: in the left third; laxly, anywhere but clearly on the right."""

    def places(edge: float, middle: float) -> ndarray:
        left, right = layout.column < edge, layout.column > SIDE - edge
        top, bottom = layout.row < edge, layout.row > SIDE - edge
        centre = np.maximum(np.abs(layout.row - SIDE / 2), np.abs(layout.column - SIDE / 2)) < middle
        corners = top & left, top & right, bottom & left, bottom & right
        return np.stack([left, right, top, bottom, *corners, centre], axis=1)

    return strict[:, None] & places(SIDE / 3, SIDE / 8), lax[:, None] & places(SIDE * 0.54, SIDE / 4)


def _superlative(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    places = [layout.column, -layout.column, layout.row, -layout.row]
    return _least(np.stack([*places, -2 * NEAR * layout.size, 2 * NEAR * layout.size], axis=1), strict, lax, NEAR)


def _distance(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    away = np.hypot(*(getattr(layout, axis) - layout.of(axis, layout.anchor)[:, None] for axis in ("row", "column")))
    return _least(np.stack([away, -away], axis=1), strict, lax, FAR_APART)


def _least(values: ndarray, strict: ndarray, lax: ndarray, margin: float) -> tuple[ndarray, ndarray]:
    """Objects with the least of the values (scene, way, slot); laxly, also those less than `margin` above it."""
    least, about = (np.where(fits[:, None], values, np.inf).min(axis=2, keepdims=True) for fits in (strict, lax))
    return strict[:, None] & (values <= least), lax[:, None] & (values <= about + margin)


def _relation(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    """Left of the anchor: further left of it than above or below it; laxly, anything that is not right of it."""
    down, right = (getattr(layout, axis) - layout.of(axis, layout.anchor)[:, None] for axis in ("row", "column"))
    ahead = np.stack([-right, right, -down, down], axis=1)  # scene side slot
    beside = np.abs(np.stack([down, down, right, right], axis=1))
    return strict[:, None] & (ahead > 20) & (ahead > beside), lax[:, None] & (ahead > -4)


def _negation(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    other = (layout.colour[..., None] != denied[:, None]).all(axis=2)
    ways = np.eye(2, dtype=bool)[(denied[:, 1] >= 0).astype(int)]  # one colour is denied, or two are
    fits = ways[..., None] & other[:, None]
    return strict[:, None] & fits, lax[:, None] & fits


def _ordinal(layout: Layout, strict: ndarray, lax: ndarray, denied: ndarray) -> tuple[ndarray, ndarray]:
    """Second from the left: one is further left; laxly, close neighbours may be counted in either order."""
    places = np.stack([layout.column, -layout.column, layout.row, -layout.row], axis=1)  # scene side slot
    gaps = places[..., None] - places[..., None, :]  # scene side slot other
    rank = np.arange(len(RANKS))[:, None]
    before = ((gaps > 0) & strict[:, None, None]).sum(axis=3)[:, :, None]
    surely = ((gaps > NEAR) & lax[:, None, None]).sum(axis=3)[:, :, None]
    perhaps = ((gaps > -NEAR) & lax[:, None, None]).sum(axis=3)[:, :, None] - 1
    exact = strict[:, None, None] & (before == rank)
    about = lax[:, None, None] & (surely <= rank) & (rank <= perhaps)
    shape = len(strict), len(SIDES) * len(RANKS), SLOTS  # side and rank are one number
    return exact.reshape(shape), about.reshape(shape)


_READINGS: tuple[Callable[..., tuple[ndarray, ndarray]], ...] = (  # in the order of KINDS
    _attribute,
    _location,
    _superlative,
    _relation,
    _distance,
    _negation,
    _ordinal,
)
