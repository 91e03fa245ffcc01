"""A task for referring segmentation, drawn by a program: objects, an expression that names one of them, its mask.

    "the red car to the left of the tree", "the second fish from the top", "파란색이 아닌 모자"

Scenes are built so that the words are needed: more than half of the objects have the referent's category, and the noun
alone is enough for one referent in ten. Every expression fits exactly one object, see `xattn_edu.data.scenes.layouts`.

    train, validation, test   One colour of each category is held out, see `held_out`: an object of that colour is never
                              the referent, and no sentence says that colour with that noun (of the referent, of an
                              anchor, or in a negation). Such objects do stand in scenes, among the others.
    unseen_words              as test, but every sentence has a synonym that no other split uses
    unseen_pairs              every sentence says a held-out colour with its noun, in known words

Splits share no layout: the sum of all centres' rows and columns, modulo 5, names the split.

Sources: Hu, Rohrbach and Darrell, "Segmentation from Natural Language Expressions" (2016), for the task; Johnson et
al., "CLEVR" (2017), for scenes made by a program. The seven kinds of expressions are those of RefCOCO's annotators.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import ndarray
from numpy.random import Generator, SeedSequence, default_rng

from xattn_edu.data.scenes.expressions import KINDS, LANGUAGES, Program, phrase
from xattn_edu.data.scenes.layouts import SIDE, SPLITS, Layout, draw
from xattn_edu.data.scenes.sprites import OBJECTS, stamp
from xattn_edu.shapes import check_choice, whole_number

if TYPE_CHECKING:
    from torch import Tensor


BLOCK = 512  # scenes drawn at a time
GRAIN = 96  # how far the grain of one image can be shifted from another's, in pixels
MEAN, DEVIATION = 114.0, 36.5  # of the pixels of many scenes


@dataclass(frozen=True, eq=False)
class Scenes:
    """Scenes with their sentences and masks.

    images (count, size, size, 3) uint8; masks (count, size, size) bool, True on the referent; one sentence a scene;
    kinds (count,) int64, index into KINDS; the layout that the scenes were painted from.
    """

    images: ndarray
    masks: ndarray
    sentences: tuple[str, ...]
    kinds: ndarray
    layout: Layout

    def __len__(self) -> int:
        return len(self.sentences)

    def __getitem__(self, index: Any) -> "Scenes":
        """Some of the scenes: a slice, an array of indices or a mask."""
        chosen = np.arange(len(self))[index]
        if chosen.ndim != 1:
            raise TypeError(f"scenes are chosen by a slice or an array of indices, given {index!r}: write [[{index}]]")
        sentences = tuple(self.sentences[number] for number in chosen)
        return Scenes(self.images[chosen], self.masks[chosen], sentences, self.kinds[chosen], self.layout[chosen])

    def tensors(self) -> "tuple[Tensor, Tensor]":
        """Images (count, 3, size, size) float32, masks (count, size, size) int64, 1 on the referent; both are copies.

        Over many scenes the pixels have mean 0 and standard deviation 1.
        """
        import torch

        images = torch.from_numpy(self.images).permute(0, 3, 1, 2).contiguous()
        return images.float().sub_(MEAN).div_(DEVIATION), torch.from_numpy(self.masks).long()


def scenes(
    split: str,
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    size: int = 64,
    objects: str = "emoji",
    language: str = "english",
    kinds: Sequence[str] = KINDS,
) -> Scenes:
    """Scenes of a split, with sentences and masks.

    Scene number i of (split, seed, objects, kinds) is the same for every count and start. It has the same layout and
    meaning in each size and language. In each 512 scenes from number 0 on, all kinds are equally frequent, give or take
    one.

    Args:
        split: one of SPLITS.
        count: how many scenes, 1 or more.
        seed: 0 or more; other seeds give other scenes.
        start: the number of the first scene, 0 or more.
        size: height and width of the images in pixels, 48 to 256.
        objects: "emoji", "shapes" or "clothes".
        language: "english" or "korean".
        kinds: the kinds of expressions, some of KINDS.

    Raises ValueError or TypeError for any other argument, FileNotFoundError or ValueError for a file of sprites that is
    missing or broken (see `xattn_edu.data.scenes.sprites`).
    """
    size = whole_number("size", size, 48, 256)
    layout, sentences, found = scene_layouts(
        split, count, seed, start=start, objects=objects, language=language, kinds=kinds
    )
    images, masks = _paint(layout, split, seed, int(start), size, objects)
    return Scenes(images, masks, sentences, found, layout)


def scene_layouts(
    split: str,
    count: int,
    seed: int = 0,
    *,
    start: int = 0,
    objects: str = "emoji",
    language: str = "english",
    kinds: Sequence[str] = KINDS,
) -> tuple[Layout, tuple[str, ...], ndarray]:
    """Layouts, sentences and kinds (count,) of the scenes that `scenes` paints for these arguments.

    Several times as fast as painting them.

    Args: as in `scenes`. The errors are the same as well.
    """
    _check_arguments(split, count, seed, start, objects, language, kinds)
    start, end, wanted = int(start), int(start) + int(count), np.array([KINDS.index(kind) for kind in kinds])
    drawn = []
    for block in range(start // BLOCK, (end - 1) // BLOCK + 1):
        rng = _stream(split, seed, block, 0)
        layout, programs = draw(rng, wanted[rng.permutation(BLOCK) % len(wanted)], split, objects)
        drawn.append([*layout.columns(), programs, rng.integers(2**62, size=BLOCK)])
    first = start % BLOCK
    *columns, programs, styles = (np.concatenate(column)[first : first + end - start] for column in zip(*drawn))
    unseen = split == "unseen_words"
    pairs = zip(programs.tolist(), styles.tolist())
    sentences = tuple(phrase(Program(*program), objects, language, style, unseen) for program, style in pairs)
    return Layout(*columns), sentences, programs[:, 0].copy()


def _stream(split: str, seed: int, block: int, purpose: int) -> Generator:
    return default_rng(SeedSequence(int(seed), spawn_key=(SPLITS.index(split), block, purpose)))


# --- painting


def _paint(layout: Layout, split: str, seed: int, start: int, size: int, objects: str) -> tuple[ndarray, ndarray]:
    count = len(layout)
    images, masks = np.empty((count, size, size, 3), np.uint8), np.zeros((count, size, size), bool)
    for block in range(start // BLOCK, (start + count - 1) // BLOCK + 1):
        first, last = max(block * BLOCK, start), min((block + 1) * BLOCK, start + count)
        _backgrounds(_stream(split, seed, block, 1), images[first - start : last - start], first % BLOCK)
    scale = size / SIDE
    heights, widths = ((scale * array).round().astype(int) for array in (layout.height, layout.width))
    tops = (scale * layout.row - heights / 2).round().astype(int).clip(0, size - heights)
    lefts = (scale * layout.column - widths / 2).round().astype(int).clip(0, size - widths)
    columns = (layout.category, layout.variant, layout.colour, heights, widths, tops, lefts)
    where = np.argwhere(layout.present)
    is_target = (where[:, 1] == layout.target[where[:, 0]]).tolist()
    values = zip(where[:, 0].tolist(), is_target, *(array[layout.present].tolist() for array in columns))
    for scene, referent, category, variant, colour, height, width, top, left in values:
        paint, clear, solid = stamp(objects, split == "train", category, variant, colour, height, width)
        window = images[scene, top : top + height, left : left + width]
        window[...] = (window * clear >> 8) + paint
        if referent:
            masks[scene, top : top + height, left : left + width] = solid
    return images, masks


def _backgrounds(rng: Generator, images: ndarray, first: int) -> None:
    """Paint the backgrounds of a block, from its number `first` on, into `images`: grey patterns with little colour.

    Gradient, stripes, checks and smooth noise are each a sum of few products of a column and a row. So one product of
    matrices paints any of them, in all three channels.
    """
    size = images.shape[1]
    line = np.linspace(0, 1, size)
    texture = rng.integers(4, size=BLOCK)
    ramp = rng.uniform(-0.5, 0.5, (2, BLOCK, 1)) * (2 * line - 1)  # axis image pixel
    wave = rng.uniform(12, 30, (2, BLOCK, 1)) * line + rng.uniform(0, 2 * np.pi, (2, BLOCK, 1))
    step = np.tanh(5 * np.sin(wave))
    knots = rng.uniform(-1, 1, (BLOCK, 5, 5))
    bumps = np.maximum(0, 1 - np.abs(4 * line[:, None] - np.arange(5)))  # linear from knot to knot
    flat = np.ones((BLOCK, size))
    products = (
        ((ramp[0], flat), (flat, ramp[1])),
        ((np.sin(wave[0]), np.cos(wave[1])), (np.cos(wave[0]), np.sin(wave[1]))),
        ((step[0], step[1]),),
    )
    down, across = np.zeros((2, BLOCK, size, 5), np.float32)
    for kind, factors in enumerate(products):
        chosen = texture == kind
        for term, (left, right) in enumerate(factors):
            down[chosen, :, term], across[chosen, :, term] = left[chosen], right[chosen]
    down[texture == 3], across[texture == 3] = bumps, bumps @ knots[texture == 3]

    contrast = rng.uniform(10, 26, (BLOCK, 1))
    middle = (rng.uniform(80, 120, (BLOCK, 1)) + contrast + rng.uniform(-12, 12, (BLOCK, 3))).astype(np.float32)
    swing = (contrast + rng.uniform(-6, 6, (BLOCK, 3))).astype(np.float32)
    corners = rng.integers(GRAIN, size=(BLOCK, 2))
    grain = rng.integers(-7, 8, (size + GRAIN, size + GRAIN, 1)).astype(np.float32)  # each image has a window of it
    for number, image in enumerate(images, first):
        row = across[number].T[..., None] * swing[number]  # term x channel
        pattern = (down[number] @ row.reshape(5, -1)).reshape(image.shape)
        y, x = corners[number]
        image[...] = pattern + middle[number] + grain[y : y + size, x : x + size]


# --- bad input


def _check_arguments(
    split: str, count: int, seed: int, start: int, objects: str, language: str, kinds: Sequence[str]
) -> None:
    choices = (("split", split, SPLITS), ("objects", objects, OBJECTS), ("language", language, LANGUAGES))
    for name, given, known in choices:
        check_choice(name, given, known)
    if isinstance(kinds, str) or not kinds or any(kind not in KINDS for kind in kinds) or len({*kinds}) < len(kinds):
        raise ValueError(f"kinds must be some of {', '.join(KINDS)}, in a list, each once, given {kinds!r}")
    for name, value, least in (("count", count, 1), ("seed", seed, 0), ("start", start, 0)):
        whole_number(name, value, least)
