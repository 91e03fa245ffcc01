"""Pictures of the objects in the referring scenes: emoji, shapes or clothes, in any colour and size.

A sprite is a picture without its colours: how light each pixel is, from the dark outline (0) to the fill (1), and how
opaque. Tinting gives the fill one of eight colours, so that a colour word means what it says and every category comes
in every colour.

Source of the emoji: OpenMoji 17 (openmoji.org), CC BY-SA 4.0, see datasets/openmoji/README.md; of the clothes:
Fashion-MNIST, see `xattn_edu.data.fashion_mnist`.
"""

import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy import ndarray

from xattn_edu.data import fashion_mnist

OBJECTS = ("emoji", "shapes", "clothes")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
TINTS = np.array(  # red, green, blue of each colour
    [
        (222, 32, 38),
        (250, 138, 18),
        (252, 228, 48),
        (52, 168, 60),
        (44, 98, 238),
        (138, 58, 188),
        (255, 138, 200),
        (250, 250, 250),
    ]
)
OUTLINE = 16  # grey level of what is darkest in a sprite

EMOJI = {  # the pictures of each category
    "car": "🚗🚙",
    "airplane": "✈🛩",
    "rocket": "🚀",
    "tree": "🌳🌲",
    "flower": "🌻🌺",
    "mushroom": "🍄",
    "apple": "🍎",
    "fish": "🐟🐠",
    "bird": "🐦🦜",
    "cat": "🐱😺",
    "butterfly": "🦋",
    "turtle": "🐢",
    "house": "🏠🛖",
    "umbrella": "☂",
    "key": "🔑",
    "bell": "🔔",
    "hat": "👒🧢",
    "shoe": "👟👞",
    "crown": "👑",
    "gift": "🎁",
    "telephone": "☎",
    "lock": "🔒🔓",
    "bucket": "🪣",
    "cake": "🎂🍰",
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring", "diamond", "heart")
CLOTHES = ("tee", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
CATEGORIES = {"emoji": tuple(EMOJI), "shapes": SHAPES, "clothes": CLOTHES}  # clothes in Fashion-MNIST's order

ATLAS = Path(__file__).parents[3] / "datasets" / "openmoji" / "atlas.png"
LARGEST = 2**20  # bytes that are read of the atlas, which has fewer
CELL, ACROSS = 96, 6  # pixels of an emoji's square in the atlas; squares in a row
GARMENTS = 16  # photographs of each class of clothes


class Sprite(NamedTuple):
    """A colourless picture that fills its box: `light` and `alpha` (height, width) float32, both 0 to 1."""

    light: ndarray
    alpha: ndarray


class Stamp(NamedTuple):
    """A tinted sprite at its final size, ready to be pasted: old * clear / 256 + paint. `solid` is the object's mask.

    paint (height, width, 3) uint8, clear (height, width, 3) uint16, solid (height, width) bool.
    """

    paint: ndarray
    clear: ndarray
    solid: ndarray


@cache
def sprites(objects: str, train: bool = True) -> tuple[tuple[Sprite, ...], ...]:
    """All sprites of a kind of objects: for each category its variants.

    Clothes are photographs of Fashion-MNIST's training set, or, without `train`, of its test set. Raises
    FileNotFoundError or ValueError, with the likely fix, for a missing or a broken file.
    """
    if objects == "clothes":
        return _clothes("train" if train else "test")
    return _emoji() if objects == "emoji" else _shapes()


@lru_cache(maxsize=4096)  # more than there are in one size; a large one takes some 60 kB
def stamp(objects: str, train: bool, category: int, variant: int, colour: int, height: int, width: int) -> Stamp:
    """A sprite in one of the eight colours, scaled to its final size.

    Args:
        objects: one of OBJECTS.
        train: as in `sprites`.
        category, variant: the sprite's place in `sprites(objects, train)`.
        colour: index into COLOURS.
        height, width: the size in pixels.
    """
    sprite = sprites(objects, train)[category][variant]
    rows, columns = resampling(sprite.alpha.shape[0], height), resampling(sprite.alpha.shape[1], width)
    alpha = (rows @ sprite.alpha @ columns.T)[..., None]
    light = (rows @ (sprite.light * sprite.alpha) @ columns.T)[..., None]  # times alpha: clear pixels have no weight
    paint = OUTLINE * (alpha - light) + TINTS[colour] * light
    clear = np.repeat((256 * (1 - alpha)).round().astype(np.uint16), 3, axis=2)
    return Stamp(paint.clip(0, 255).astype(np.uint8), clear, alpha[..., 0] > 0.4)


def resampling(source: int, target: int) -> ndarray:
    """The matrix (target, source) that scales a line of pixels: each new one is a weighted mean of those it covers."""
    scale = source / target
    centres = (np.arange(target) + 0.5) * scale - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(source) - centres[:, None]) / max(scale, 1))
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


# --- three sources


def _emoji() -> tuple[tuple[Sprite, ...], ...]:
    from PIL import Image  # here, so that importing the library stays fast

    remedy = "restore it with `git checkout -- datasets/openmoji` (the course is used from a clone of its repository)"
    sums = ATLAS.with_name("checksums.sha256")
    for path in (ATLAS, sums):
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {remedy}")
    with ATLAS.open("rb") as file, sums.open(encoding="ascii", errors="replace") as listed:
        found, expected = hashlib.sha256(file.read(LARGEST)).hexdigest(), listed.read(4096).split()
    if expected != [found, ATLAS.name]:
        raise ValueError(f"{ATLAS} is not the file whose SHA-256 {sums.name} has, its own is {found}: {remedy}")
    atlas = np.asarray(Image.open(ATLAS).convert("RGBA"), np.float32) / 255
    cells = (atlas[y : y + CELL, x : x + CELL] for y, x in np.ndindex(*atlas.shape[:2]) if y % CELL == x % CELL == 0)
    return tuple(tuple(_drawn(next(cells)) for _ in variants) for variants in EMOJI.values())


def _drawn(cell: ndarray) -> Sprite:
    """The brightest channel says what is outline and what is fill, however the artist coloured it."""
    value = cell[..., :3].max(axis=2)
    return _cut(((value - 0.25) / 0.4).clip(0, 1) * (0.75 + 0.25 * value), cell[..., 3])


def _shapes() -> tuple[tuple[Sprite, ...], ...]:
    """Each shape as its depth: how far inside a point lies; the outline is where that is little."""
    y, x = (np.mgrid[:CELL, :CELL] + 0.5) / (CELL / 2) - 1  # -1 to 1, downwards and to the right
    side, radius = np.abs(x), np.hypot(y, x)
    from_point = np.abs((np.arctan2(x, -y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)  # angle to a star's next point
    lobe = 0.57 - np.hypot(side - 0.4, y + 0.32)
    depth = {
        "circle": 0.97 - radius,
        "square": 0.9 - np.maximum(np.abs(y), side),
        "triangle": np.minimum(0.85 - y, 0.87 * ((y + 0.95) / 1.8 - side)),
        "star": 0.4 * (1 - radius * (np.cos(from_point) + 2.2 * np.sin(from_point))),
        "cross": np.minimum(0.95 - np.maximum(np.abs(y), side), 0.38 - np.minimum(np.abs(y), side)),
        "ring": 0.29 - np.abs(radius - 0.68),
        "diamond": 0.7 * (0.97 - np.abs(y) - side),
        "heart": np.maximum(lobe, 0.7 * (0.8 - np.abs(y - 0.08) - side)),
    }
    soft = {name: (depth[name][..., None] * CELL / 2 - (0, 5)).clip(0, 1).astype(np.float32) for name in SHAPES}
    return tuple((_cut(pair[..., 1], pair[..., 0]),) for pair in soft.values())


def _clothes(split: str) -> tuple[tuple[Sprite, ...], ...]:
    data = fashion_mnist.load(split)
    return tuple(
        tuple(_garment(image) for image in data.images[data.labels == label][:GARMENTS])
        for label in range(len(CLOTHES))
    )


def _garment(image: ndarray) -> Sprite:
    """A photograph on black: what is not black is the garment, and the pixels around it become its outline."""
    value = np.pad(image, 1) / np.float32(255)
    alpha = (value / 0.15).clip(0, 1)
    around = np.max([np.roll(alpha, shift, (0, 1)) for shift in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))], axis=0)
    return _cut(alpha * (0.55 + 0.45 * value), around)


def _cut(light: ndarray, alpha: ndarray) -> Sprite:
    """The part of a picture that is not clear."""
    rows, columns = (np.flatnonzero((alpha > 0.1).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    return Sprite(light[box].astype(np.float32), alpha[box].astype(np.float32))
