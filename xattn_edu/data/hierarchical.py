"""Two small tasks made on the spot that need two scales at once: one for each way CrossViT's branches can meet.

    letters   a big H, S, T or Z drawn out of small ones: one branch sees one small letter, the other the big one
    cues      a sheet of sixteen letters, and a glow over one of them: one branch sees what, the other where

Each view shows one half of the answer and nothing of the other; only the sheet, whose letters can be counted, allows a
guess better than chance (38 instead of 25 % right).

Source of the letters: Navon, "Forest before trees: the precedence of global features in visual perception", Cognitive
Psychology 9 (1977), which had H and S; the bitmaps and the cues are made for this course.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange, repeat
from numpy import ndarray
from numpy.random import Generator, SeedSequence, default_rng

from xattn_edu.shapes import check_choice, whole_number

if TYPE_CHECKING:
    from torch import Tensor

SPLITS = ("train", "validation", "test")
NAMES = "HSTZ"
BITMAPS = """
#...#  .####  #####  #####
#...#  #....  #.#.#  ...#.
#####  .###.  ..#..  ..#..
#...#  ....#  ..#..  .#...
#...#  ####.  .###.  #####
"""
LETTERS = np.array([[[pixel == "#" for pixel in word] for word in line.split()] for line in BITMAPS.split("\n")[1:-1]])
LETTERS = LETTERS.swapaxes(0, 1).astype(np.float32)  # (4, 5, 5), 1 where lit: 13 of 25, whichever letter it is
BLOCK = 256  # images drawn at a time: all pairs of letters, and all pairs of letter and cell, equally often
GLYPHS_ALONE = 0.3837  # the best guess without the glow: the commonest of 16 letters is right so often, on average


@dataclass(frozen=True, eq=False)
class Letters:
    """Big letters made of small ones; uint8, 0 black to 255 white. Classes are 0 to 3, named by `NAMES`.

    images (count, 48, 48): the whole picture, 6 x 6 cells of 8 x 8 pixels; thirteen cells hold the small letter.
    fovea (count, 16, 16): one of these thirteen, at random, each pixel 2 x 2 large. It ends where the cell ends: which
    neighbours are lit would tell of the big letter.
    thumbnail (count, 36, 36): the mean of each cell, 6 x 6 pixels large. Cells hold whole letters and all letters are
    equally light, so the means have the same distribution whichever the small letter is.
    big, small (count,): int64.
    """

    images: ndarray
    fovea: ndarray
    thumbnail: ndarray
    big: ndarray
    small: ndarray

    def __len__(self) -> int:
        return len(self.big)

    @property
    def pair(self) -> ndarray:
        """4 big + small, (count,) int64: adding up what each view says names it."""
        return 4 * self.big + self.small

    @property
    def relation(self) -> ndarray:
        """(big + small) mod 4, (count,) int64: one letter alone says nothing about it, and no sum of a score
        of each letter is highest at the right relation for all sixteen pairs."""
        return (self.big + self.small) % 4

    def tensors(self) -> "tuple[Tensor, Tensor, Tensor]":
        """fovea (count, 1, 16, 16) and thumbnail (count, 1, 36, 36) as float32 of mean 0 and deviation 1 over many
        images; [pair, relation] (count, 2) int64. All are copies."""
        import torch

        targets = torch.from_numpy(np.stack([self.pair, self.relation], axis=1))
        return _standardised(self.fovea, 56, 56), _standardised(self.thumbnail, 39, 14.5), targets


@dataclass(frozen=True, eq=False)
class Cues:
    """Sheets of letters with one of them marked; uint8, 0 black to 255 white.

    glyphs (count, 32, 32): 4 x 4 cells of 8 x 8 pixels, in each a letter drawn independently of all others.
    glow (count, 32, 32): one bright spot, blurred and a little off the middle of the marked cell; no letters.
    label (count,): the letter in the marked cell, 0 to 3, named by `NAMES`. cell (count,): 0 to 15, row by row. int64.

    The glow alone leaves all four labels equally likely; the glyphs alone allow a guess, see `GLYPHS_ALONE`.
    """

    glyphs: ndarray
    glow: ndarray
    label: ndarray
    cell: ndarray

    def __len__(self) -> int:
        return len(self.label)

    def tensors(self) -> "tuple[Tensor, Tensor, Tensor]":
        """glyphs and glow (count, 1, 32, 32) as float32 of mean 0 and deviation 1 over many images; label (count,)
        int64. All are copies."""
        import torch

        labels = torch.from_numpy(self.label.copy())
        return _standardised(self.glyphs, 56, 56), _standardised(self.glow, 48, 37), labels


def letters(split: str, count: int, seed: int = 0) -> Letters:
    """`count` hierarchical letters of a split ("train", "validation" or "test").

    The same (split, seed) gives the same images (as far as NumPy keeps its generator), and more of them begins with
    fewer of them; splits and seeds share no random numbers. In each 256 images from the start, all 16 pairs are equally
    frequent. Raises ValueError for an unknown split, a count below 1 and a negative seed, TypeError for a count or seed
    that is no int.
    """
    return Letters(*_draw(_letters, split, count, seed))


def cues(split: str, count: int, seed: int = 0) -> Cues:
    """`count` sheets with a marked letter. Splits, seeds and errors are as in `letters`.

    All pairs of label and cell are equally frequent in each 256 images from the start.
    """
    return Cues(*_draw(_cues, split, count, seed))


def _letters(rng: Generator) -> tuple[ndarray, ...]:
    big, small = np.divmod(rng.permutation(BLOCK) % 16, 4)
    large = _BIG[big, *rng.integers(2, size=(2, BLOCK))] * rng.uniform(0.75, 1, (BLOCK, 6, 6))
    little = _SMALL[small, *rng.integers(4, size=(2, BLOCK))]
    images = _photograph(rng, np.einsum("irc, iyx -> ircyx", large, little))  # image row column y x
    cells = rearrange(images, "image (row y) (column x) -> image (row column) y x", y=8, x=8)
    seen = ((large > 0) * rng.uniform(0.5, 1, large.shape)).reshape(BLOCK, 36).argmax(axis=1)  # any lit cell
    fovea = repeat(cells[np.arange(BLOCK), seen], "image y x -> image (y 2) (x 2)")
    means = cells.mean(axis=(2, 3)).round().astype(np.uint8)
    thumbnail = repeat(means, "image (row column) -> image (row 6) (column 6)", row=6)
    return images, fovea, thumbnail, big, small


def _cues(rng: Generator) -> tuple[ndarray, ...]:
    cell, label = np.divmod(rng.permutation(BLOCK) % 64, 4)
    kinds = rng.integers(4, size=(BLOCK, 16))
    kinds[np.arange(BLOCK), cell] = label
    cells = _SMALL[kinds, *rng.integers(4, size=(2, BLOCK, 16))] * rng.uniform(0.75, 1, (BLOCK, 16, 1, 1))
    glyphs = _photograph(rng, cells.reshape(BLOCK, 4, 4, 8, 8))
    centres = 8 * np.stack([cell // 4, cell % 4]) + 3.5 + rng.uniform(-1.5, 1.5, (2, BLOCK))
    fall_y, fall_x = np.exp(-(((np.arange(32) - centres[..., None]) / 5) ** 2) / 2)
    spot = np.einsum("iy, ix -> iyx", fall_y, fall_x)[:, None, None]  # one "cell" as large as the sheet
    return glyphs, _photograph(rng, spot), label, cell


def _places(size: int) -> ndarray:
    """Every letter at every place of a square: (letter, row of its corner, column of its corner, size, size)."""
    places = np.zeros((4, size - 4, size - 4, size, size), np.float32)
    for y, x in np.ndindex(size - 4, size - 4):
        places[:, y, x, y : y + 5, x : x + 5] = LETTERS
    return places


_BIG, _SMALL = _places(6), _places(8)


def _photograph(rng: Generator, cells: ndarray) -> ndarray:
    """0..1 (image row column y x) as uint8 (image y x): each image with its darkness and contrast, each pixel noisy."""
    scene = rearrange(cells, "image row column y x -> image (row y) (column x)").astype(np.float32)
    dark, contrast = rng.uniform([[20], [100]], [[40], [200]], (2, len(scene))).astype(np.float32)[..., None, None]
    noise = 12 * rng.standard_normal(scene.shape, np.float32)
    return (dark + contrast * scene + noise).clip(0, 255).astype(np.uint8)


def _standardised(images: ndarray, mean: float, deviation: float) -> "Tensor":
    import torch

    return torch.from_numpy(images).float().sub_(mean).div_(deviation)[:, None]


def _draw(block: Callable[[Generator], tuple[ndarray, ...]], split: str, count: int, seed: int) -> list[ndarray]:
    """The first `count` images of the stream (split, seed), each column of the blocks joined."""
    check_choice("split", split, SPLITS)
    count, seed = whole_number("count", count, 1), whole_number("seed", seed, 0)
    blocks = range((count - 1) // BLOCK + 1)
    streams = (SeedSequence(seed, spawn_key=(SPLITS.index(split), number)) for number in blocks)
    columns = zip(*(block(default_rng(stream)) for stream in streams))
    return [np.concatenate(column)[:count] for column in columns]
