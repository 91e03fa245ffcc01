"""The course's measured experiments: each recipe with its settings."""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from xattn_edu.data.objects import ABOUT
from xattn_edu.experiments import objects
from xattn_edu.experiments.fashion import INSIDE, little_data, vit_fashion_mnist, vit_inside, vit_mixers
from xattn_edu.experiments.fusions import RATES, SETTINGS, TASKS, fusion_rates, fusion_search, train_fusion
from xattn_edu.experiments.records import ACCURACY, Result
from xattn_edu.experiments.referring import (
    MODELS,
    SCORE,
    lavt_ablation,
    lavt_finer,
    lavt_recipe,
    referring_segmentation,
)
from xattn_edu.experiments.sizes import RECIPE_CHANGES
from xattn_edu.experiments.translation import translate
from xattn_edu.models.fusions import PAPER_FUSIONS
from xattn_edu.models.mixers import MIXERS


@dataclass(frozen=True)
class Experiment:
    """A recipe and its settings: it is run with every combination of the grid and every seed.

    For each model in `keep_weights` (values of the setting "model"), the weights of the first `kept_seeds` seeds are
    stored in float16, beside the record.
    """

    description: str
    recipe: Callable[..., Result]
    grid: dict[str, tuple[Any, ...]]
    keep_weights: tuple[str, ...] = ()
    kept_seeds: int = 1
    score_name: str = ACCURACY  # of the number that records call "test_accuracy"

    def points(self, **chosen: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """Each combination of the grid's settings, or of those `chosen` instead."""
        values = [chosen.get(name) or default for name, default in self.grid.items()]
        for point in itertools.product(*values):
            yield dict(zip(self.grid, point))


segmentation = functools.partial(Experiment, score_name=SCORE)

EXPERIMENTS = {
    "vit-fashion-mnist": Experiment(
        "a small ViT on Fashion-MNIST with patches of 4, 7 and 14 pixels: accuracy against cost (notebook 06)",
        vit_fashion_mnist,
        {"patch": (4, 7, 14)},
    ),
    "vit-little-data": Experiment(
        "a ViT and a CNN of its size on 100 to 12,000 images, about the same number of steps (notebook 06)",
        little_data,
        {"model": ("vit", "cnn"), "images": (100, 300, 1000, 3000, 12000)},
    ),
    "vit-inside": Experiment(
        "small ViTs whose weights are kept, to look inside: positions, filters, attention (notebooks 05 and 06)",
        vit_inside,
        {"model": tuple(INSIDE)},
        keep_weights=tuple(INSIDE),
        kept_seeds=5,
    ),
    "translation": Experiment(
        "dates and numbers to ISO form, with cross-attention and through a bottleneck of one vector (notebook 03)",
        translate,
        {"model": ("cross_attention", "bottleneck")},
    ),
    "vit-mixers": Experiment(
        "the small ViT with self-attention and with something else in its place, same budget (notebook 04)",
        vit_mixers,
        {"mixer": ("attention", *MIXERS)},
    ),
    "fusion-rates": Experiment(
        "learning rates for CrossViT's fusions, compared on held-out images (notebook 08)",
        fusion_rates,
        {"task": tuple(TASKS), "fusion": PAPER_FUSIONS, "rate": RATES},
    ),
    "fusions": Experiment(
        "CrossViT's five fusions on three tasks, and each head alone (notebook 08)",
        train_fusion,
        {"task": tuple(TASKS), "fusion": PAPER_FUSIONS},
    ),
    "fusion-search": Experiment(
        "a search for a setting in which cross-attention is ahead, as in the paper (notebook 08)",
        fusion_search,
        {"setting": tuple(SETTINGS), "fusion": PAPER_FUSIONS},
    ),
    "objects": Experiment(
        "LAVT over the objects of a scene, with the language pathway and without it (notebook 12)",
        objects.find_objects,
        {"about": tuple(ABOUT), "model": tuple(objects.PATHWAYS), "words": tuple(objects.WORDS)},
        score_name=objects.SCORE,
    ),
    "referring": segmentation(
        "segment the object that a sentence names, in small scenes (notebook 10)",
        referring_segmentation,
        {"model": ("decoder_fusion",)},
        keep_weights=("decoder_fusion",),
    ),
    "lavt": segmentation(
        "the same with LAVT, without each of its parts, and with decoder fusion, on an equal budget (notebook 12)",
        lavt_ablation,
        {"model": tuple(MODELS)},
        keep_weights=("lavt",),
    ),
    "lavt-finer": segmentation(
        "LAVT with and without its language pathway, on a finer grid, with more blocks behind the gates (notebook 12)",
        lavt_finer,
        {"model": ("lavt", "lavt_pwam")},
    ),
    "lavt-words": segmentation(
        "LAVT with MiniLM's words, frozen, tested on words it was never trained on (notebook 12; needs MiniLM)",
        lavt_ablation,
        {"model": ("lavt",), "language": ("minilm",)},
    ),
    "lavt-recipe": segmentation(
        "LAVT with one choice of its recipe taken back or changed at a time (notebook 12)",
        lavt_recipe,
        {"change": tuple(RECIPE_CHANGES)},
    ),
}
