"""What does the language pathway buy? LAVT over the objects of a scene, with the pathway and without.

Everything else is equal: the same words are fused before the objects attend to each other and after it. Four kinds of
questions, see `xattn_edu.data.objects`; the objects attend to each word, or to the sentence's mean.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from xattn_edu.data.objects import ABOUT, question_vocabulary
from xattn_edu.data.scenes import CATEGORIES
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.running import run
from xattn_edu.experiments.sets import Sets, question_sets
from xattn_edu.experiments.sizes import OBJECT_SIZES, ObjectSize
from xattn_edu.machine import Profile, choose_profile
from xattn_edu.models.language import build_tokenizer
from xattn_edu.models.layers import evaluating
from xattn_edu.models.object_finder import ObjectFinder
from xattn_edu.shapes import check_choice

RECIPE: dict[str, Any] = {"batch_size": 128, "learning_rate": 3e-3, "weight_decay": 0.01, "warmup": 0.1, "clip": 1.0}
SCORE = "right answers"
PATHWAYS = {"pathway": True, "no_pathway": False}
WORDS = {"each": True, "mean": False}

# The lead of the pathway in points, at least or at most, as written down before the stored runs:
#   closest   An object that does not know the anchor must keep its distance to every other object, for any question.
#   side      The same with the steps to one side.
#   colour    An object can keep its own colour without a question; the second fusion compares it with the anchor's.
#   distance  The noun is named, so a good part can be guessed; the rest needs the anchor as in "closest".
#   any       Written down later: by then one seed of "closest" and one of "any" had been seen on validation questions,
#             with leads of 7 and 11 points.
PREDICTED_LEADS: dict[str, tuple[str, float]] = {
    "closest": ("at least", 20.0),
    "side": ("at least", 20.0),
    "colour": ("at most", 2.0),
    "distance": ("at least", 0.0),
    "any": ("at least", 5.0),
}


def find_objects(
    about: str = "closest",
    model: str = "pathway",
    words: str = "each",
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    train_questions: int | None = None,
    test_questions: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train an `ObjectFinder` on one kind of questions, and test by the share of right answers.

    The result's `more` has this share with the question of another scene ("exchanged"), and the share that a reader
    finds who takes any object that the question's form allows ("guess").

    Args:
        about: a key of ABOUT, the kind of questions.
        model: a key of PATHWAYS.
        words: a key of WORDS: the objects attend to each word, or to the mean of the words.
        seed: of the training questions, their order, and the first weights; the test questions are always the same.
        profile: a row of OBJECT_SIZES.
        train_questions, test_questions, epochs: instead of the profile's.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for an unknown kind, model, word setting or profile.
    """
    profile = choose_profile(profile)
    for name, given, known in (("about", about, ABOUT), ("model", model, PATHWAYS), ("words", words, WORDS)):
        check_choice(name, given, known)
    size = OBJECT_SIZES[profile.name]
    counts = [
        size.questions if train_questions is None else train_questions,
        size.test_questions if test_questions is None else test_questions,
    ]
    settings = RECIPE | {"epochs": size.epochs if epochs is None else epochs, "seed": seed}
    return run(
        {"about": about, "model": model, "words": words, "profile": profile.name},
        size,
        partial(object_finder, model, words),
        question_sets(about, *counts, seed=seed),
        settings | {"device": device, "checkpoint": checkpoint, "progress": progress},
        score=SCORE,
        score_name=SCORE,
        shown=("width", "depth"),
        watch=lambda trained, samples: {SCORE: share(trained, samples)},
        finish=_more,
    )


def object_finder(model: str, words: str, size: ObjectSize) -> ObjectFinder:
    """The model of an experiment's point, for the questions' vocabulary."""
    return ObjectFinder(
        len(build_tokenizer(question_vocabulary())),
        categories=len(CATEGORIES["emoji"]),
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        pathway=PATHWAYS[model],
        each_word=WORDS[words],
    )


def _more(model: ObjectFinder, sets: Sets) -> dict[str, float]:
    return {name: share(model, samples) for name, samples in sets.further.items()} | {"guess": sets.guess}


def share(model: ObjectFinder, samples: TensorDataset, gate: float | Tensor = 1.0) -> float:
    """The share of right answers, see `right`."""
    return float(right(model, samples, gate).float().mean())


@torch.no_grad()
def right(model: ObjectFinder, samples: TensorDataset, gate: float | Tensor = 1.0, batch_size: int = 500) -> Tensor:
    """Whether each answer is right, (count,) bool, computed in eval mode; `gate` as in `ObjectFinder.maps`.

    A `gate` for each object is (count, 6).
    """
    device, found = next(model.parameters()).device, []
    with evaluating(model):
        for indices in torch.arange(len(samples)).split(batch_size):
            objects, present, ids, mask, answer = (tensor[indices].to(device) for tensor in samples.tensors)
            opened = gate[indices].to(device) if isinstance(gate, Tensor) else gate
            scores = model(objects, present, ids, mask, gate=opened)
            found.append((scores.argmax(dim=1) == answer).cpu())
    return torch.cat(found)
