"""A tiny run of any experiment in the catalogue, with all that reaches training and evaluation written down.

`watched(name, point, seed)` runs it once and keeps it. Models are tiny and their answers are made so that scores tell
sets apart: the weights of classifiers are shaken before training, translations are those of `expected_sets.answer`, and
a mask is a part of the true one, a share that depends on image and sentence.
"""

import contextlib
import functools
import inspect
import math
import sys
from dataclasses import asdict, dataclass, replace

import numpy as np
import pytest
import torch
from helpers import expected_sets
from torch import nn

from xattn_edu.data import fashion_mnist, translation
from xattn_edu.data import scenes as referring_scenes
from xattn_edu.experiments import EXPERIMENTS, fashion, fusions, referring, sizes, translate
from xattn_edu.experiments.objects import find_objects
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.decoder_fusion import DecoderFusion
from xattn_edu.models.language import FrozenWords, build_tokenizer
from xattn_edu.models.lavt import LAVT
from xattn_edu.training import loop

TOKENIZER = build_tokenizer(referring_scenes.vocabulary("english"))
SCENE = {"width": 8, "depths": (1, 1, 1), "heads": (1, 2, 4), "words": 16, "fusion": 16}
FINER = SCENE | {"depths": (1, 1, 1, 1), "heads": (1, 1, 2, 2)}
ROWS = {  # of the profile ci, with numbers of epochs and samples that no other place has
    "FASHION_SIZES": {"width": 16, "depth": 2, "heads": 2, "epochs": 2, "steps": 4, "cnn_width": 4},
    "FUSION_SIZES": {
        "widths": (8, 16),
        "depths": (1, 2),
        "heads": (2, 2),
        "images": 133,
        "epochs": {"fashion": 2, "letters": 3, "cues": 1},
    },
    "TRANSLATION_SIZES": {"width": 16, "depth": 1, "heads": 2, "hidden": 32, "pairs": 150, "epochs": 2},
    "OBJECT_SIZES": {"width": 16, "depth": 1, "heads": 2, "questions": 150, "epochs": 2, "test_questions": 43},
    "REFERRING_SIZES": SCENE | {"train_scenes": 36, "epochs": 2, "test_scenes": 21},
    "LAVT_SIZES": SCENE | {"train_scenes": 34, "epochs": 1, "test_scenes": 20},
    "LAVT_FINER_SIZES": FINER | {"train_scenes": 35, "epochs": 1, "test_scenes": 22},
}
GIVEN = {
    "train_images": 131,
    "test_images": 40,
    "test_pairs": 41,
    "epochs": 2,
}  # of recipes that take them and whose rows do not say it


@dataclass(eq=False)
class Watched:
    """What one run used and found."""

    name: str
    point: dict
    seed: int
    result: object
    first: dict  # the model's state before training
    train_set: list  # the tensors that reached `train`
    settings: dict  # all of `train`'s other arguments
    evaluated: list  # every batch of inputs that the model was given in eval mode, from the start of training

    @property
    def config(self):
        return self.result.config


def points(name):
    """Points of the experiment's grid in which each value of each setting occurs."""
    grid = EXPERIMENTS[name].grid
    longest = max(map(len, grid.values()))
    rows = [{key: values[number % len(values)] for key, values in grid.items()} for number in range(longest)]
    return [row | ({"images": 20 + row["images"] // 100} if "images" in row else {}) for row in rows]


CASES = [(name, number) for name in EXPERIMENTS for number in range(len(points(name)))]


def arguments(name):
    """Those of GIVEN and of the common arguments that the recipe takes, itself or in the recipe that it calls."""
    recipe = EXPERIMENTS[name].recipe
    inner = {fusions.fusion_rates: fusions.train_fusion, fusions.fusion_search: fusions.train_fusion}
    inner[referring.lavt_recipe] = referring.referring_segmentation
    called = {fashion.vit_inside: fashion.vit_fashion_mnist} | inner
    taken = inspect.signature(called.get(recipe, recipe)).parameters
    given = {key: GIVEN[key] for key in GIVEN if key in taken and key != "epochs"}
    if recipe is fusions.fusion_search:  # its settings are large
        given["epochs"] = GIVEN["epochs"]
    elif recipe in inner.values() or recipe in inner:  # their rows say it
        given.pop("train_images", None)
    return given | {"device": "cpu", "progress": False}


def row_of(name, point):
    """The row of sizes that a run of this experiment uses while it is watched."""
    recipe = EXPERIMENTS[name].recipe
    tables = {referring.referring_segmentation: "REFERRING_SIZES", referring.lavt_finer: "LAVT_FINER_SIZES"}
    tables |= {
        referring.lavt_ablation: "LAVT_SIZES",
        referring.lavt_recipe: "LAVT_SIZES",
        translate: "TRANSLATION_SIZES",
        find_objects: "OBJECT_SIZES",
    }
    of_fusions = (fusions.train_fusion, fusions.fusion_rates, fusions.fusion_search)
    table = "FUSION_SIZES" if recipe in of_fusions else tables.get(recipe, "FASHION_SIZES")
    row = asdict(getattr(sizes, table)["ci"]) | ROWS[table]
    changes = sizes.RECIPE_CHANGES.get(point.get("change"), {})
    return row | changes | (FINER if "depths" in changes else {})


@functools.cache
def _watched(name, number, seed):
    with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng(), _one_thread():
        torch.manual_seed(99)  # a run that does not seed itself begins like every other
        return _run(patch, name, points(name)[number], seed)


def watched(name, number=0, seed=3):
    return _watched(name, number, seed)


def _run(patch, name, point, seed):
    watch = _Watch()
    _shrink(patch)
    for module in [module for key, module in sys.modules.items() if key.startswith("xattn_edu.experiments")]:
        for attribute in ("train", "greedy_decode"):
            if hasattr(module, attribute):
                patch.setattr(module, attribute, getattr(watch, attribute))

    branch_logits = CrossViT.branch_logits

    def watched_logits(model, *views, **more):
        watch.see(model, views)
        return branch_logits(model, *views, **more)

    patch.setattr(CrossViT, "branch_logits", watched_logits)
    see = lambda model, inputs: None if isinstance(model, CrossViT) else watch.see(model, inputs)  # noqa: E731
    hook = nn.modules.module.register_module_forward_pre_hook(see)
    try:
        result = EXPERIMENTS[name].recipe(**point, seed=seed, profile="ci", **arguments(name))
    finally:
        hook.remove()
    assert len(watch.trained) == 1, "an experiment trains one model"
    return Watched(name, point, seed, result, *watch.trained[0], watch.evaluated)


class _Watch:
    """Stands in for `train` and `greedy_decode`, and sees every batch that the trained model is evaluated with."""

    def __init__(self):
        self.model, self.evaluates, self.trained, self.evaluated = None, False, [], []
        self.left = 0  # evaluations during training; all but the last one see another model

    def train(self, *given, **named):
        bound = inspect.signature(loop.train).bind(*given, **named)
        bound.apply_defaults()
        settings = dict(bound.arguments)
        self.model, samples = settings.pop("model"), settings.pop("train_set")
        first = {key: tensor.clone() for key, tensor in self.model.state_dict().items()}
        self.trained.append((first, [tensor.clone() for tensor in samples.tensors], settings))
        _shake(self.model)
        self.left = math.ceil(settings["epochs"] / settings["evaluate_every"])
        evaluate = settings["evaluate"] and functools.partial(self._evaluate, settings["evaluate"])
        history = loop.train(self.model, samples, **settings | {"evaluate": evaluate})
        if isinstance(self.model, LAVT | DecoderFusion):
            self.model.forward = functools.partial(_part_of_the_mask, _truth(samples.tensors[0].shape[-1]))
        self.evaluates = True
        return history

    def _evaluate(self, evaluate, model):
        self.evaluates, self.left = True, self.left - 1
        state = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        if self.left:
            _shake(model, self.left)
        try:
            return evaluate(model)
        finally:
            self.evaluates = False
            model.load_state_dict(state)

    def see(self, model, inputs):
        if self.evaluates and model is self.model:
            assert not model.training
            self.evaluated.append(tuple(tensor.clone() for tensor in inputs if tensor is not None))

    def greedy_decode(self, model, source, length):
        assert model is self.model and length == translation.TARGET_LENGTH
        self.evaluated.append((source.clone(),))
        answers = {} if self.left else _answers()
        return translation.encode([answers.get(tuple(row), "7") for row in source.tolist()], length)


def _shrink(patch):
    """Tiny rows for the profile ci, data read once, and an encoder of words whose features are the words' ids."""
    for table, row in ROWS.items():
        patch.setitem(getattr(sizes, table), "ci", replace(getattr(sizes, table)["ci"], **row))
    for changes in sizes.RECIPE_CHANGES.values():
        if "depths" in changes:
            for key, value in FINER.items():
                patch.setitem(changes, key, value)
    patch.setattr(fashion_mnist, "load", lambda split, full=False: expected_sets.load(split))
    patch.setattr(referring_scenes, "scenes", expected_sets.draw_scenes)
    patch.setattr(referring, "minilm_folder", lambda: "folder")
    patch.setattr(referring, "load_bert", lambda folder: Bits())
    patch.setattr(referring, "load_tokenizer", lambda folder: TOKENIZER)


class Bits(nn.Module):
    """A frozen encoder whose word features are the bits of the word's id: ids can be read off them."""

    width = 9

    def forward(self, ids, mask):
        return (ids[..., None] >> torch.arange(self.width) & 1) * mask[..., None].float()


def ids_of(model, ids):
    """The tokenizer's ids, also if the model looks its words up in a book."""
    if isinstance(model.language, FrozenWords):
        return (model.language.table[ids].long() << torch.arange(Bits.width)).sum(dim=-1)
    return ids


def sentences_of(model, ids, mask):
    return [" ".join(TOKENIZER.tokens(row[words])[1:-1]) for row, words in zip(ids_of(model, ids), mask)]


@torch.no_grad()
def _shake(model, seed=7):
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter += 0.3 * torch.randn(parameter.shape, generator=generator)


@functools.cache
def _answers():
    """{ids of a source: the answer} of all pairs that a run is tested with."""
    pairs = translation.pairs("test", GIVEN["test_pairs"])
    pairs += translation.pairs("test", GIVEN["test_pairs"], formats=tuple(translation.NUMBERS))
    sources = translation.encode([pair.source for pair in pairs], translation.SOURCE_LENGTH).tolist()
    return {tuple(source): expected_sets.answer(pair) for source, pair in zip(sources, pairs)}


@functools.cache
def _truth(size):
    """{bytes of an image: the referent's mask} of all scenes that a run is tested with, and of others."""
    found = {}
    for split in ("test", "unseen_words", "unseen_pairs"):
        drawn = expected_sets.draw_scenes(split, 24, size=size)
        found |= {image.tobytes(): mask for image, mask in zip(drawn.images, drawn.masks)}
    return found


def _part_of_the_mask(truth, images, ids, mask):
    """Logits of the first rows of the true mask: how many depends on the sentence; and of nothing for other scenes."""
    logits = torch.zeros(len(images), 2, *images.shape[-2:])
    pixels = (images * 36.5 + 114.0).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    for row, (image, sentence) in enumerate(zip(pixels, ids.tolist())):
        true = truth.get(np.ascontiguousarray(image).tobytes(), np.zeros(image.shape[:2], bool))
        share = 0.35 + 0.65 * ((sum(n * n for n in sentence) * 7919 % 101) / 100)
        left = np.cumsum(true).reshape(true.shape) <= share * true.sum()
        logits[row, 1] = torch.from_numpy(np.where(true & left, 1.0, -1.0))
    return logits


@contextlib.contextmanager
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
