"""The reduced models of the course's experiments, each as its own recipe hands it to `train`.

A recipe is run up to its call of `train`, which is replaced for that time. So the model, its training set and all
settings are those of the recipe, and nothing here can differ from them. Sets that a program draws are bounded: for
LAVT alone the profile gpu draws 400,000 scenes.
"""

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

from torch import nn

from xattn_edu.data import hierarchical, scenes, translation
from xattn_edu.data.batches import Samples
from xattn_edu.experiments import EXPERIMENTS, running
from xattn_edu.experiments.sizes import (
    FUSION_SIZES,
    LAVT_FINER_SIZES,
    LAVT_SIZES,
    REFERRING_SIZES,
    TRANSLATION_SIZES,
)

FEW, FEWER = 512, 64  # samples that are drawn on a card, and in a rehearsal
SCENE_SIZES = {"referring": REFERRING_SIZES, "lavt": LAVT_SIZES, "lavt-finer": LAVT_FINER_SIZES}
POINTS: dict[str, list[dict[str, Any]] | None] = {  # None: all points of the experiment
    "vit-fashion-mnist": None,
    "vit-little-data": [{"model": "cnn", "images": 12_000}],  # its ViT is that of vit-fashion-mnist
    "vit-mixers": None,
    "translation": None,
    "fusions": None,
    "referring": None,
    "lavt": None,
    "lavt-finer": None,
}
LEFT_OUT = {  # experiment: why
    "fusion-rates": "the models of fusions with other learning rates",
    "fusion-search": "the models of fusions on less data",
    "lavt-words": "LAVT with the words of MiniLM, which is not shipped",
    "vit-inside": "the models of vit-fashion-mnist, one of them with learned positions",
    "objects": "one layer over six tokens, which a CPU trains in a minute",
    "lavt-recipe": "the models of lavt and lavt-finer with one setting changed",
}


@dataclass(frozen=True)
class Reduced:
    """One reduced model: its recipe with its settings."""

    name: str  # "lavt model-lavt"
    recipe: Callable[..., Any]
    settings: dict[str, Any]  # of the recipe; they bound the data
    samples: int | None = None  # that the whole recipe trains on; None: as many as with `settings`
    draw: Callable[[int], object] | None = None  # draws so many of them


@dataclass(frozen=True)
class Handed:
    """What a recipe hands to `train`."""

    model: nn.Module
    train_set: Samples
    settings: dict[str, Any]


class _HandedOver(Exception):
    """Ends a recipe where its training would begin."""


def reduced_models(profile: str, patterns: str = "*", rehearsal: bool = False) -> list[Reduced]:
    """The models of a profile whose name fits one of the patterns, with commas between. Raises ValueError if none."""
    found = []
    for experiment, chosen in POINTS.items():
        for point in EXPERIMENTS[experiment].points() if chosen is None else chosen:
            name = " ".join([experiment, *(f"{setting}-{value}" for setting, value in point.items())])
            if any(fnmatch.fnmatch(name, pattern) for pattern in patterns.split(",")):
                bounds, samples, draw = _bounds(experiment, point, profile, FEWER if rehearsal else FEW, rehearsal)
                found.append(Reduced(name, EXPERIMENTS[experiment].recipe, point | bounds, samples, draw))
    if not found:
        raise ValueError(f"no reduced model fits {patterns!r}: their names are like 'lavt model-lavt'")
    return found


def _bounds(
    experiment: str, point: dict[str, Any], profile: str, few: int, rehearsal: bool
) -> tuple[dict[str, Any], int | None, Callable[[int], object] | None]:
    """The settings that bound a recipe's data, how many samples it draws without them, and the function that draws."""
    if experiment in SCENE_SIZES:
        size = SCENE_SIZES[experiment][profile]
        draw = partial(_scenes, size=size.image)
        return {"train_scenes": few, "test_scenes": few}, size.train_scenes, draw
    if experiment == "translation":
        bounds = {"train_pairs": few} | ({"test_pairs": few} if rehearsal else {})
        return bounds, TRANSLATION_SIZES[profile].pairs, partial(translation.pairs, "train")
    bounds = {"test_images": few} if rehearsal else {}
    if experiment == "fusions" and point["task"] != "fashion":
        draw = partial(hierarchical.letters if point["task"] == "letters" else hierarchical.cues, "train")
        return bounds | {"train_images": few}, FUSION_SIZES[profile].images, draw
    return bounds, None, None


def _scenes(count: int, size: int) -> object:
    return scenes.scenes("train", count, size=size)


def handed_to_train(reduced: Reduced, profile: str) -> Handed:
    """Model, training set and settings, as the recipe hands them to `train`."""

    def hand_over(model: nn.Module, train_set: Samples, **settings: Any) -> None:
        raise _HandedOver(Handed(model, train_set, settings))

    with mock.patch.object(running, "train", hand_over):  # through which all recipes go
        try:
            reduced.recipe(**reduced.settings, seed=0, profile=profile, progress=False)
        except _HandedOver as handed:
            return handed.args[0]
    raise RuntimeError(f"the recipe of {reduced.name} ended without a call of `train` in {running.__name__}")
