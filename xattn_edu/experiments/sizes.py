"""The sizes of all experiments, a table an experiment and a row a profile: for a new profile, add a row to each.

docs/choices.md explains how the numbers were chosen. The profiles themselves are in machine.py.
"""

from dataclasses import dataclass, replace
from typing import Any, NoReturn, TypeVar

Row = TypeVar("Row")


class SizeTable(dict[str, Row]):
    """The rows of the table `name`, keyed by profile: SizeTable("NAME_SIZES", ci=..., cpu=..., gpu=...).

    Raises ValueError for a profile that has no row.
    """

    def __init__(self, name: str, **rows: Row):
        super().__init__(rows)
        self.name = name

    def __missing__(self, profile: str) -> NoReturn:
        raise ValueError(
            f"{self.name} has no row for the profile {profile!r}, only for {', '.join(self)}: "
            "add one in xattn_edu/experiments/sizes.py"
        )


@dataclass(frozen=True)
class FashionSize:
    """The ViT and the CNN for Fashion-MNIST, and how long they are trained."""

    width: int
    depth: int
    heads: int
    epochs: int  # over all training images that the repository holds
    full_epochs: int  # over all 60,000, if they are on the disk; 0: the profile does not use them
    steps: int  # of each run of `little_data`
    cnn_width: int  # for about as many parameters as the ViT has


@dataclass(frozen=True)
class FusionSize:
    """Both ViTs of a small CrossViT, small branch first, and how long it is trained."""

    widths: tuple[int, int]
    depths: tuple[int, int]  # blocks in a multi-scale encoder
    heads: tuple[int, int]
    encoders: int
    images: int  # training images; of Fashion-MNIST as many as the repository holds, if that is fewer
    epochs: dict[str, int]  # keyed by task


@dataclass(frozen=True)
class ReferringSize:
    """The models of referring segmentation, LAVT among them, and how long they are trained."""

    image: int  # pixels of a side
    width: int  # of the image encoder's first stage; it doubles with each stage
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    window: int
    patch: int
    words: int  # width of the language encoder
    fusion: int  # width of the decoder, Transformer or convolutions
    train_scenes: int
    epochs: int
    word_layers: int = 2  # of the language encoder
    positions: bool = False  # whether the image encoder is given position embeddings
    easy: float = 0.0  # share of the training sentences that describe only the referent itself
    xavier: bool = False  # LAVT's first weights: Xavier's instead of torch's
    shut: bool = False  # LAVT's gates: the second layer's first weights are 0, so nothing passes
    learning_rate: float = 1e-3
    test_scenes: int = 2000


@dataclass(frozen=True)
class TranslationSize:
    """The Transformer that translates dates and numbers, and how long it is trained."""

    width: int
    depth: int
    heads: int
    hidden: int
    pairs: int
    epochs: int


@dataclass(frozen=True)
class ObjectSize:
    """LAVT over objects, and how long it is trained."""

    width: int
    depth: int
    heads: int
    questions: int
    epochs: int
    test_questions: int = 2000


FASHION_SIZES = SizeTable(
    "FASHION_SIZES",
    ci=FashionSize(width=64, depth=4, heads=4, epochs=10, full_epochs=0, steps=1000, cnn_width=40),
    cpu=FashionSize(width=96, depth=6, heads=6, epochs=40, full_epochs=12, steps=4000, cnn_width=72),
    gpu=FashionSize(width=192, depth=8, heads=6, epochs=100, full_epochs=60, steps=10000, cnn_width=160),
)

FUSION_SIZES = SizeTable(
    "FUSION_SIZES",
    ci=FusionSize(
        widths=(32, 64),
        depths=(1, 1),
        heads=(4, 4),
        encoders=2,
        images=12_000,
        epochs={"fashion": 5, "letters": 3, "cues": 3},
    ),
    cpu=FusionSize(
        widths=(48, 96),
        depths=(1, 2),
        heads=(4, 4),
        encoders=3,
        images=30_000,
        epochs={"fashion": 15, "letters": 4, "cues": 4},
    ),
    gpu=FusionSize(
        widths=(96, 192),
        depths=(1, 3),
        heads=(6, 6),
        encoders=3,
        images=60_000,
        epochs={"fashion": 60, "letters": 10, "cues": 10},
    ),
)

REFERRING_SIZES = SizeTable(
    "REFERRING_SIZES",
    ci=ReferringSize(
        image=64,
        width=32,
        depths=(1, 2, 2),
        heads=(2, 4, 8),
        window=8,
        patch=4,
        words=64,
        fusion=64,
        train_scenes=16_000,
        epochs=4,
    ),
    cpu=ReferringSize(
        image=64,
        width=48,
        depths=(2, 2, 4),
        heads=(3, 6, 12),
        window=8,
        patch=4,
        words=96,
        fusion=96,
        train_scenes=40_000,
        epochs=4,
    ),
    gpu=ReferringSize(
        image=96,
        width=64,
        depths=(2, 2, 6, 2),
        heads=(2, 4, 8, 16),
        window=6,
        patch=2,
        words=128,
        fusion=192,
        train_scenes=200_000,
        epochs=10,
    ),
)

# LAVT and the models that it is compared with: all of them have the same encoders and the same budget.
_LAVT: dict[str, Any] = {"word_layers": 1, "positions": True, "epochs": 2, "test_scenes": 1000}
_FINER: dict[str, Any] = {"patch": 2, "width": 16, "depths": (1, 1, 4, 2), "heads": (1, 2, 4, 8), "fusion": 32}
_FASTER: dict[str, Any] = {"learning_rate": 2e-3}
LAVT_SIZES = SizeTable(
    "LAVT_SIZES",
    ci=replace(REFERRING_SIZES["ci"], **_LAVT, train_scenes=12_000, easy=1 / 3),
    cpu=replace(REFERRING_SIZES["ci"], **_LAVT, **_FINER, **_FASTER, train_scenes=96_000, easy=1 / 6),
    gpu=replace(REFERRING_SIZES["gpu"], **_LAVT, train_scenes=400_000, easy=1 / 3),
)

# What `lavt_recipe` changes in a row of LAVT_SIZES, one change at a time.
RECIPE_CHANGES: dict[str, dict[str, Any]] = {
    "no_positions": {"positions": False},
    "no_easy_sentences": {"easy": 0.0},
    "xavier": {"xavier": True},
    "finer": _FINER,
    "finer_and_faster": _FINER | _FASTER,
    "finer_and_shut": _FINER | _FASTER | {"shut": True},
}

# As many training steps as in LAVT_SIZES, with more blocks behind the first gate: is the language pathway worth more?
LAVT_FINER_SIZES = SizeTable(
    "LAVT_FINER_SIZES",
    **{profile: replace(size, **RECIPE_CHANGES["finer_and_faster"]) for profile, size in LAVT_SIZES.items()},
)

TRANSLATION_SIZES = SizeTable(
    "TRANSLATION_SIZES",
    ci=TranslationSize(width=64, depth=2, heads=4, hidden=128, pairs=80_000, epochs=3),
    cpu=TranslationSize(width=96, depth=3, heads=4, hidden=192, pairs=120_000, epochs=4),
    gpu=TranslationSize(width=192, depth=4, heads=8, hidden=512, pairs=400_000, epochs=10),
)

OBJECT_SIZES = SizeTable(
    "OBJECT_SIZES",
    ci=ObjectSize(width=64, depth=1, heads=4, questions=16_000, epochs=8),
    cpu=ObjectSize(width=64, depth=1, heads=4, questions=40_000, epochs=10),
    gpu=ObjectSize(width=128, depth=3, heads=8, questions=200_000, epochs=20),
)
