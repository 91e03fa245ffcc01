"""Recipes on the translation of dates and numbers: what cross-attention does, and what a bottleneck cannot."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xattn_edu.data import translation
from xattn_edu.experiments.records import Result
from xattn_edu.machine import Profile, choose_profile, seed_everything
from xattn_edu.measure import costs
from xattn_edu.models.decoding import greedy_decode
from xattn_edu.models.losses import next_token_loss
from xattn_edu.models.transformer import Transformer
from xattn_edu.shapes import check_choice
from xattn_edu.training.loop import train


@dataclass(frozen=True)
class Size:
    """What a profile decides: the model, how many pairs it sees, and how often."""

    width: int
    depth: int
    heads: int
    hidden: int
    pairs: int
    epochs: int


SIZES = {
    "ci": Size(width=64, depth=2, heads=4, hidden=128, pairs=80_000, epochs=3),
    "cpu": Size(width=96, depth=3, heads=4, hidden=192, pairs=120_000, epochs=4),
    "gpu": Size(width=192, depth=4, heads=8, hidden=512, pairs=400_000, epochs=10),
}
RECIPE: dict[str, Any] = {"batch_size": 128, "learning_rate": 4e-3, "weight_decay": 0.0, "warmup": 0.1, "clip": 1.0}


class Bottleneck(Transformer):
    """The Transformer with the whole source squeezed into one vector, the mean of what its encoder says.

    Cross-attention with one key has nothing to choose: its weight is 1, and every step of the decoder reads the same.
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

    The pairs are drawn by the seed; the test's are always the same. The result's `more` has the share of numbers that
    are right for each number of digits. Raises ValueError for another model's name and an unknown profile.
    """
    profile = choose_profile(profile)
    size = SIZES[profile.name]
    check_choice("model", model, MODELS)
    pairs = size.pairs if train_pairs is None else train_pairs
    epochs = size.epochs if epochs is None else epochs
    train_set = translation.tensors(translation.pairs("train", pairs, seed))
    test = translation.pairs("test", test_pairs)
    numbers = translation.pairs("test", test_pairs, formats=tuple(translation.NUMBERS))

    seed_everything(seed)
    network = small_transformer(model, size)
    counted = costs.count(network, *(tensor[:1] for tensor in train_set.tensors[:2]))
    history = train(
        network,
        train_set,
        epochs=epochs,
        seed=seed,
        loss=next_token_loss,
        evaluate=lambda _: {"exact match": sum(exact_matches(network, test)) / len(test)},
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        **RECIPE,
    )
    return Result(
        config={"model": model, "seed": seed, "profile": profile.name, "train_pairs": pairs, "test_pairs": test_pairs}
        | {"width": size.width, "depth": size.depth, "epochs": epochs}
        | RECIPE
        | {"steps": int(history["step"][-1])},
        model=network,
        history=history,
        accuracy=history["exact match"][-1],
        parameters=counted.parameters,
        macs=counted.macs,
        more=by_digits(numbers, exact_matches(network, numbers)),
    )


def small_transformer(model: str, size: Size) -> Transformer:
    """A Transformer or Bottleneck for the task's vocabulary, without dropout: there is more data than it can learn."""
    return MODELS[model](len(translation.VOCABULARY), size.width, size.depth, size.heads, size.hidden, dropout=0.0)


def exact_matches(model: Transformer, pairs: Sequence[translation.Pair], batch_size: int = 500) -> list[bool]:
    """Whether the whole of each answer is right, written greedily: one wrong digit makes it wrong."""
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
