"""The sets that each experiment must use, drawn a second time, straight from the data: train, choose and test.

Nothing here is imported from `xattn_edu.experiments`. `sets_of(kind, ...)` gives what a run of this kind is trained on
and what its model must be evaluated with, set by set.
"""

import functools
import random
from dataclasses import dataclass, field

import numpy as np
import torch

from xattn_edu.data import fashion_mnist, hierarchical, objects, translation
from xattn_edu.data import scenes as referring_scenes
from xattn_edu.data.scenes import KINDS


@dataclass
class Expected:
    """`train`: tensors, one a column; `tested`: {name: list of samples}, in the order in which they are measured."""

    train: list
    tested: dict = field(default_factory=dict)


load = functools.cache(fashion_mnist.load)  # read once; tiny runs read with these two as well
_draw = functools.cache(referring_scenes.scenes)


def draw_scenes(split, count, seed=0, *, size=64, kinds=KINDS):
    """The same scenes as `data.scenes.scenes`, drawn once: number i is the same for every count."""
    return _draw(split, 40, seed, size=size, kinds=tuple(kinds))[:count]


@functools.cache
def _fashion(split):
    return load(split).tensors()


def shuffled(count, seed):
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()


def in_turn(places, labels, number):
    """The first `number` places, where each class has its turn: the first of each class, then the second of each."""
    lots = {}
    for place in places:
        lots.setdefault(int(labels[place]), []).append(place)
    chosen = []
    for turn in range(max(map(len, lots.values()))):
        allowed = {lot[turn] for lot in lots.values() if turn < len(lot)}
        chosen += [place for place in places if place in allowed] if len(chosen) < number else []
    return chosen[:number]


def fashion(train_images, test_images, seed, split="test"):
    """Indices are into the shipped training images and test images."""
    images, labels = _fashion("train")
    there = list(range(len(labels)))
    if split == "validation":
        mixed = shuffled(len(labels), 0)
        there, measured = mixed[test_images:], mixed[:test_images]
        tested = images[measured], labels[measured]
    else:
        tested = tuple(column[in_turn(range(2000), _fashion("test")[1], test_images)] for column in _fashion("test"))
    train = there
    if train_images is not None:
        train = in_turn([there[place] for place in shuffled(len(there), seed)], labels, train_images)
    return Expected([images[train], labels[train]], {split: list(zip(*tested))})


def hierarchical_task(task, train_images, test_images, seed, split="test"):
    draw = {"letters": hierarchical.letters, "cues": hierarchical.cues}[task]
    return Expected(
        list(draw("train", train_images, seed).tensors()), {split: list(zip(*draw(split, test_images).tensors()))}
    )


def pairs(train_pairs, test_pairs, seed):
    numbers = translation.pairs("test", test_pairs, formats=["number in words", "British words", "grouped digits",
                                                             "Korean in words", "만 and 억"])  # fmt: skip
    train = translation.tensors(translation.pairs("train", train_pairs, seed)).tensors
    return Expected(list(train), {"test": translation.pairs("test", test_pairs), "numbers": numbers})


@functools.cache
def _questions(split, seed, about):
    return objects.questions(split, 200, seed, about=about)


def questions(about, train_questions, test_questions, seed):
    """Samples are (objects, present, sentence, answer); `train` has the sentences as a list."""

    def columns(split, count, seed):
        asked = _questions(split, seed, about)
        return [*(tensor[:count] for tensor in asked.tensors()), list(asked.sentences[:count])]

    things, present, answer, said = columns("test", test_questions, 0)
    other = [*said[1:], said[0]]
    tested = {"test": list(zip(things, present, said, answer)), "exchanged": list(zip(things, present, other, answer))}
    return Expected(columns("train", train_questions, seed), tested)


@dataclass
class Scene:
    """One scene to test with: its image (bytes), sentence, mask and kind."""

    image: np.ndarray
    sentence: str
    mask: np.ndarray
    kind: str


def scene_list(scenes, sentences=None):
    sentences = scenes.sentences if sentences is None else sentences
    kinds = [KINDS[number] for number in scenes.kinds]
    return [Scene(*row) for row in zip(scenes.images, sentences, scenes.masks, kinds)]


def scenes(train_scenes, test_scenes, seed, easy, size):
    """`train` are columns of images and masks (arrays) and the sentences."""
    count = round(easy * train_scenes)
    lots = [draw_scenes("train", train_scenes - count, seed, size=size)]
    if count:
        lots.append(draw_scenes("train", count, seed, size=size, kinds=("attribute",)))
    train = [np.concatenate([lot.images for lot in lots]), [s for lot in lots for s in lot.sentences],
             np.concatenate([lot.masks for lot in lots])]  # fmt: skip
    test = draw_scenes("test", test_scenes, size=size)
    tested = {"test": scene_list(test)}
    tested["exchanged"] = scene_list(test, [test.sentences[(n + 1) % test_scenes] for n in range(test_scenes)])
    draw = np.random.default_rng(0)
    tested["disordered"] = scene_list(test, [" ".join(draw.permutation(line.split())) for line in test.sentences])
    for split in ("unseen_words", "unseen_pairs"):
        tested[split] = scene_list(draw_scenes(split, test_scenes, size=size))
    return Expected(train, tested)


def answer(pair):
    """What a fair reader writes who is right half the time, and else forgets the end or mistakes a digit."""
    luck = random.Random(pair.source).randrange(4)
    if luck == 2:
        return pair.target[:-1]
    if luck == 3:
        return pair.target[:-1] + str((int(pair.target[-1]) + 1) % 10)
    return pair.target
