"""The sets of every experiment, all drawn here: what a run is trained on, what it is compared on, what it is tested on.

                    train                           choose                          test
    fashion         training images                 training images held out        test images
    letters, cues   images of the split "train"     images of "validation"          images of "test"
    translation     pairs of the split "train"      none                            pairs of "test"
    questions       questions of "train"            questions of "validation"       questions of "test"
    scenes          scenes of the split "train"     none                            scenes of "test"

The three share no sample. The seed draws what is trained on; the other two are always the same. Where nothing is drawn
to choose with, docs/choices.md says how the settings were chosen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import TensorDataset

from xattn_edu.data import fashion_mnist, hierarchical, translation
from xattn_edu.data import scenes as referring_scenes
from xattn_edu.data.objects import Questions, question_vocabulary, questions
from xattn_edu.data.scenes import KINDS, Scenes
from xattn_edu.experiments.sizes import ReferringSize
from xattn_edu.machine import check_seed
from xattn_edu.models.language import LENGTH, PhraseBook, Tokenizer, build_tokenizer
from xattn_edu.shapes import check_choice

HELD_OUT = ("unseen_words", "unseen_pairs")  # splits of scenes that are only ever tested with


@dataclass(frozen=True, eq=False)
class Sets:
    """What one run sees: it is trained on `train` and measured on `choose` or on `test`, never on both.

    A run that compares settings is measured on `choose` and has no test set at all. Raises ValueError for a run that
    has both or neither.
    """

    train: TensorDataset
    choose: Any = None
    test: Any = None
    further: dict[str, Any] = field(default_factory=dict)  # more sets to test with, by name
    kinds: ndarray | None = None  # of each test sample, for scores by kind
    unit: str = "images"  # what the samples are
    guess: float = 0.0  # the share of right answers of a reader that guesses, where a task has one

    def __post_init__(self) -> None:
        if (self.choose is None) == (self.test is None):
            raise ValueError("a run is measured on one set: give either `choose`, to compare settings, or `test`")

    @property
    def measured(self) -> Any:
        return self.test if self.choose is None else self.choose

    @property
    def split(self) -> str:
        """The name of the set that is measured, as records have it."""
        return "test" if self.choose is None else "validation"


# --- images in classes


def fashion_sets(
    train_images: int | None = None,
    test_images: int | None = None,
    *,
    seed: int = 0,
    full: bool = False,
    split: str = "test",
) -> Sets:
    """Fashion-MNIST: all images, or a number of them, as many of each class as possible.

    Args:
        train_images: how many to train on, chosen by `seed`.
        test_images: how many to measure with: the first test images, or images held out of the training images.
        seed: of the choice of training images.
        full: the full set instead of the subset that ships.
        split: "test", or "validation": `test_images` of the training images, always the same, are held out.

    Raises ValueError for more images than there are.
    """
    check_choice("split", split, ("test", "validation"))
    there = TensorDataset(*fashion_mnist.load("train", full=full).tensors())
    if split == "validation":
        held_out = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        rest, choose = (TensorDataset(*there[part]) for part in (held_out[test_images:], held_out[:test_images]))
        return Sets(balanced(rest, train_images, seed), choose=choose)
    test = TensorDataset(*fashion_mnist.load("test", full=full).tensors())
    return Sets(balanced(there, train_images, seed), test=_balanced(test, test_images, torch.arange(len(test))))


def balanced(dataset: TensorDataset, number: int | None, seed: int) -> TensorDataset:
    """`number` images of a set, as many of each class as possible, chosen by `seed`; all images for None."""
    shuffled = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(check_seed(seed)))
    return _balanced(dataset, number, shuffled)


def _balanced(dataset: TensorDataset, number: int | None, order: Tensor) -> TensorDataset:
    """The first `number` images in this order, one class after the other in turn."""
    if number is None:
        return dataset
    if not 10 <= number <= len(dataset):
        raise ValueError(f"choose from 10 to {len(dataset):,} images, given {number}")
    images, labels = dataset.tensors
    turn = torch.empty(len(labels), dtype=torch.int64)  # of an image: how many of its class come before it
    for label in labels.unique():
        places = order[labels[order] == label]
        turn[places] = torch.arange(len(places))
    chosen = order[turn[order].argsort(stable=True)[:number]]
    return TensorDataset(images[chosen], labels[chosen])


def task_sets(task: str, train_images: int, test_images: int = 2000, *, seed: int = 0, split: str = "test") -> Sets:
    """The sets of a task of `experiments.fusions`: samples (view, ..., target).

    Args:
        task: "fashion", "letters" or "cues".
        train_images: how many; of Fashion-MNIST all there are, if that is fewer.
        test_images: how many to measure with.
        seed: of the training images.
        split: the set that is measured, "test" or "validation".

    Raises ValueError for another split.
    """
    check_choice("split", split, ("test", "validation"))
    if task == "fashion":
        sets = fashion_sets(None, test_images, split=split)
        return replace(sets, train=balanced(sets.train, min(train_images, len(sets.train)), seed))
    draw = hierarchical.letters if task == "letters" else hierarchical.cues
    drawn = draw("train", train_images, seed), draw(split, test_images)
    train, measured = (TensorDataset(*images.tensors()) for images in drawn)
    return Sets(train, choose=measured) if split == "validation" else Sets(train, test=measured)


# --- pairs of sentences


def translation_sets(train_pairs: int, test_pairs: int, *, seed: int = 0) -> Sets:
    """Pairs to translate: a tensor set to train on, lists of pairs to test with.

    `further` has "numbers", as many pairs of the test split that are all numbers. No answer occurs in two splits.
    """
    return Sets(
        translation.tensors(translation.pairs("train", train_pairs, seed)),
        test=translation.pairs("test", test_pairs),
        further={"numbers": translation.pairs("test", test_pairs, formats=tuple(translation.NUMBERS))},
        unit="pairs",
    )


# --- questions about objects


def question_sets(about: str, train: int, test: int, *, seed: int = 0, split: str = "test") -> Sets:
    """The sets of a kind of questions, see `data.objects`: samples (objects, present, ids, mask of the words, answer).

    `further` has "exchanged", the measured scenes with the sentence of the next one. Raises ValueError for a kind that
    is unknown, and for a split that is neither "test" nor "validation".
    """
    check_choice("split", split, ("test", "validation"))
    words = build_tokenizer(question_vocabulary())
    measured = questions(split, test, about=about)
    samples = question_set(measured, words)
    return Sets(
        question_set(questions("train", train, seed, about=about), words),
        choose=samples if split == "validation" else None,
        test=samples if split == "test" else None,
        further={"exchanged": question_set(measured, words, exchanged(measured.sentences))},
        unit="questions",
        guess=measured.guess,
    )


def question_set(asked: Questions, tokenizer: Tokenizer, sentences: Sequence[str] | None = None) -> TensorDataset:
    """Samples (objects, present, ids, mask of the words, answer); `sentences` replace the questions' own."""
    objects, present, answer = asked.tensors()
    ids, mask = tokenizer(asked.sentences if sentences is None else sentences, LENGTH)
    longest = int(mask.sum(dim=1).max())  # padding that no sentence needs would only cost time
    return TensorDataset(objects, present, ids[:, :longest], mask[:, :longest], answer)


# --- scenes


@dataclass(frozen=True, eq=False)
class DrawnScenes:
    """The scenes of a run before their sentences are tokenized."""

    train: list[Scenes]  # of all kinds, then the share of easy ones
    test: Scenes
    held_out: dict[str, Scenes]  # by the names in HELD_OUT

    def sentences(self) -> Iterator[str]:
        """Every sentence that the run is trained on or tested with."""
        tested = (self.test, *self.held_out.values())
        return chain(*(part.sentences for part in (*self.train, *tested)), disordered(self.test.sentences))

    def sets(self, words: Tokenizer | PhraseBook) -> Sets:
        """The sets of the run, tokenized by `words`.

        `further` has the test scenes with "exchanged" and "disordered" sentences, and the splits in HELD_OUT.
        """
        parts = [scene_set(part, words).tensors for part in self.train]
        changed = {"exchanged": exchanged(self.test.sentences), "disordered": disordered(self.test.sentences)}
        return Sets(
            TensorDataset(*(torch.cat(tensors) for tensors in zip(*parts))),
            test=scene_set(self.test, words),
            further={name: scene_set(self.test, words, sentences) for name, sentences in changed.items()}
            | {split: scene_set(held_out, words) for split, held_out in self.held_out.items()},
            kinds=self.test.kinds,
            unit="scenes",
        )


def draw_scenes(size: ReferringSize, seed: int) -> DrawnScenes:
    """`size.train_scenes` training scenes, drawn by `seed`, and `size.test_scenes` of each set to test with.

    A share `size.easy` of the training sentences are easy: they describe only the referent. In the others every kind is
    equally frequent.
    """
    easy = round(size.easy * size.train_scenes)
    lots = [(part, kinds) for part, kinds in ((size.train_scenes - easy, KINDS), (easy, ("attribute",))) if part]
    return DrawnScenes(
        [referring_scenes.scenes("train", part, seed, size=size.image, kinds=kinds) for part, kinds in lots],
        referring_scenes.scenes("test", size.test_scenes, size=size.image),
        {split: referring_scenes.scenes(split, size.test_scenes, size=size.image) for split in HELD_OUT},
    )


def scene_set(
    scenes: Scenes, tokenizer: Tokenizer | PhraseBook, sentences: Sequence[str] | None = None
) -> TensorDataset:
    """Scenes to train on or test with: samples (image uint8, ids, mask of the words, mask of the referent).

    Images (3, size, size) stay bytes, which take a quarter of the memory; `referring.standardise` turns a batch into
    numbers. `sentences` replace the scenes' own.
    """
    ids, mask = tokenizer(scenes.sentences if sentences is None else sentences, LENGTH)
    images = torch.from_numpy(scenes.images).permute(0, 3, 1, 2)
    return TensorDataset(images, ids, mask, torch.from_numpy(scenes.masks.astype(np.uint8)))


def exchanged(sentences: Sequence[str]) -> list[str]:
    """For each scene the sentence of the next one: a model that uses its words can no longer find the referent."""
    return [*sentences[1:], sentences[0]]


def disordered(sentences: Sequence[str], seed: int = 0) -> list[str]:
    """Each sentence with its words in random order: the order of "left of the tree" is lost, its words are not."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.permutation(sentence.split())) for sentence in sentences]
