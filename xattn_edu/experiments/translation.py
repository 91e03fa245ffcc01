"""Recipes on the translation of dates and numbers, with cross-attention and through a bottleneck of one vector."""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xattn_edu.data import translation
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.running import run
from xattn_edu.experiments.sets import Sets, translation_sets
from xattn_edu.experiments.sizes import TRANSLATION_SIZES, TranslationSize
from xattn_edu.machine import Profile, choose_profile
from xattn_edu.models.decoding import greedy_decode
from xattn_edu.models.losses import next_token_loss
from xattn_edu.models.transformer import Transformer
from xattn_edu.shapes import check_choice

RECIPE: dict[str, Any] = {"batch_size": 128, "learning_rate": 4e-3, "weight_decay": 0.0, "warmup": 0.1, "clip": 1.0}


class Bottleneck(Transformer):
    """The Transformer with the whole source in one vector, the mean of the encoder's outputs.

    Cross-attention has only one key: its weight is always 1, and every step of the decoder reads the same vector.
    """

    def encode(self, source: Tensor, return_weights: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        memory, mask, maps = super().encode(source, return_weights)
        share = mask.transpose(1, 2).to(memory) / mask.sum(dim=2, keepdim=True).clamp(min=1)
        return (memory * share).sum(dim=1, keepdim=True), torch.ones_like(mask[:, :, :1]), maps


MODELS = {"cross_attention": Transformer, "bottleneck": Bottleneck}


def translate(
    model: str = "cross_attention",
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    train_pairs: int | None = None,
    test_pairs: int = 2000,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a small Transformer, or its "bottleneck", to write dates and numbers in ISO form; test by exact match.

    The result's `more` has the share of right numbers for each number of digits.

    Args:
        model: a key of MODELS.
        seed: of the training pairs, their order, and the first weights; the test pairs are always the same.
        profile: a row of TRANSLATION_SIZES.
        train_pairs, epochs: instead of the profile's.
        test_pairs: how many pairs to test with, and how many numbers for `more`.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for another model's name and an unknown profile.
    """
    profile = choose_profile(profile)
    size = TRANSLATION_SIZES[profile.name]
    check_choice("model", model, MODELS)
    settings = RECIPE | {"epochs": size.epochs if epochs is None else epochs, "seed": seed, "loss": next_token_loss}
    return run(
        {"model": model, "profile": profile.name},
        size,
        partial(small_transformer, model),
        translation_sets(size.pairs if train_pairs is None else train_pairs, test_pairs, seed=seed),
        settings | {"device": device, "checkpoint": checkpoint, "progress": progress},
        score="exact match",
        shown=("width", "depth"),
        watch=lambda trained, pairs: {"exact match": sum(exact_matches(trained, pairs)) / len(pairs)},
        finish=_numbers_by_digits,
    )


def _numbers_by_digits(model: Transformer, sets: Sets) -> dict[str, float]:
    numbers = sets.further["numbers"]
    return by_digits(numbers, exact_matches(model, numbers))


def small_transformer(model: str, size: TranslationSize) -> Transformer:
    """A Transformer or Bottleneck for the task's vocabulary, without dropout: the data is too much to overfit."""
    return MODELS[model](len(translation.VOCABULARY), size.width, size.depth, size.heads, size.hidden, dropout=0.0)


def exact_matches(model: Transformer, pairs: Sequence[translation.Pair], batch_size: int = 500) -> list[bool]:
    """Whether each answer, decoded greedily, is right as a whole: one wrong digit makes it wrong."""
    source = translation.encode([pair.source for pair in pairs], translation.SOURCE_LENGTH)
    device = next(model.parameters()).device
    answers: list[str] = []
    for batch in source.split(batch_size):
        answers += translation.decode(greedy_decode(model, batch.to(device), translation.TARGET_LENGTH))
    return [answer == pair.target for answer, pair in zip(answers, pairs)]


def by_digits(pairs: Sequence[translation.Pair], right: Sequence[bool]) -> dict[str, float]:
    """The share of right answers for each length of the answer: {"digits 1": 0.98, ...}."""
    groups = defaultdict(list)
    for pair, is_right in zip(pairs, right):
        groups[len(pair.target)].append(is_right)
    return {f"digits {length}": sum(group) / len(group) for length, group in sorted(groups.items())}
