"""Recipes on CrossViT's fusions: three tasks, five fusions, equal budget and equal tuning.

    fashion   Fashion-MNIST; both branches see the whole image, in patches of 4 and of 7 pixels
    letters   hierarchical letters; branch S sees a small letter, branch L the big one; the class is their relation
    cues      branch S sees sixteen letters, branch L a glow over one of them; the class is the letter that glows

As in the paper, the loss is computed from the averaged logits of both heads. The accuracy of each head alone is
reported beside the accuracy of the average.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.data.batches import take
from xattn_edu.experiments.fashion import flip, xavier
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.running import run
from xattn_edu.experiments.sets import task_sets
from xattn_edu.experiments.sizes import FUSION_SIZES, FusionSize
from xattn_edu.machine import Profile, choose_profile
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.fusions import FUSIONS
from xattn_edu.models.layers import evaluating
from xattn_edu.shapes import check_choice

RECIPE: dict[str, Any] = {"batch_size": 64, "weight_decay": 0.05, "warmup": 0.1, "clip": 1.0}
RATES = (0.75e-3, 1.5e-3, 3e-3, 6e-3)  # the learning rates that each of the paper's fusions is tried with

# The best rate of each task and fusion for one seed on held-out images, in the profile ci (`xattn reproduce
# fusion-rates`; a test compares).
BEST_RATES: dict[str, dict[str, float]] = {
    "fashion": {
        "none": 3e-3,
        "all_attention": 1.5e-3,
        "class_token": 1.5e-3,
        "pairwise": 3e-3,
        "cross_attention": 1.5e-3,
    },
    "letters": {
        "none": 3e-3,
        "all_attention": 0.75e-3,
        "class_token": 1.5e-3,
        "pairwise": 1.5e-3,
        "cross_attention": 1.5e-3,
    },
    "cues": {
        "none": 0.75e-3,
        "all_attention": 0.75e-3,
        "class_token": 0.75e-3,
        "pairwise": 3e-3,
        "cross_attention": 0.75e-3,
    },
}


@dataclass(frozen=True)
class Task:
    """The views of the branches, how many logits a head has, and the loss of the averaged logits."""

    image_sizes: tuple[int, int]
    patches: tuple[int, int]
    classes: int
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    augment: Callable[[Tensor], Tensor] | None = None


def letters_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the relation (the last 4 logits) and of the pair of letters (the first 16).

    The relation is the class that is tested. With the loss of the relation alone, models hardly ever find it.
    """
    return F.cross_entropy(logits[:, 16:], targets[:, 1]) + F.cross_entropy(logits[:, :16], targets[:, 0])


TASKS = {
    "fashion": Task((28, 28), (4, 7), 10, augment=flip),
    "letters": Task((16, 36), (4, 6), 16 + 4, letters_loss),
    "cues": Task((32, 32), (8, 8), 4),
}


def shift_and_erase(images: Tensor) -> Tensor:
    """Mirror each image, move it by up to 3 pixels and blank a square of 8 x 8 pixels, all at random."""
    images, (height, width) = flip(images), images.shape[-2:]
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    dy, dx = torch.randint(-3, 4, (2, len(images), 1), device=images.device)
    moved = F.pad(images, (3, 3, 3, 3), mode="replicate")
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    moved = moved[batch, :, (rows + 3 + dy)[:, :, None], (columns + 3 + dx)[:, None, :]].permute(0, 3, 1, 2)
    top, left = (torch.randint(n - 7, (len(images), 1), device=images.device) for n in (height, width))
    inside = ((rows - top) // 8 == 0)[:, :, None] & ((columns - left) // 8 == 0)[:, None, :]
    return moved.masked_fill(inside[:, None], 0.0)


# The settings in which `fusion_search` looks for a lead of cross-attention: little data, and then one more change.
_LITTLE = {"train_images": 2000, "epochs": 12}
SETTINGS: dict[str, dict[str, Any]] = {
    "little_data": _LITTLE,
    "augmented": _LITTLE | {"augment": shift_and_erase},
    "encoders": _LITTLE | {"encoders": 4},
    "longer": _LITTLE | {"epochs": 24},
    "cues_longer": {"task": "cues", "epochs": 6},
}


def train_fusion(
    task: str = "fashion",
    fusion: str = "cross_attention",
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    rate: float | None = None,
    split: str = "test",
    encoders: int | None = None,
    augment: Callable[[Tensor], Tensor] | None = None,
    train_images: int | None = None,
    test_images: int = 2000,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a small CrossViT with one of the `FUSIONS` on a task, and test it and each of its heads alone.

    The result's `more` has "small_accuracy" and "large_accuracy", one a head, and for the letters the same of the pair.
    Multiply-accumulates are counted as in the paper, with keys and values computed.

    Args:
        task: a key of TASKS.
        fusion: a key of FUSIONS, also one that was registered later; such a fusion needs a `rate`.
        seed: of the training images, their order, and the first weights.
        profile: a row of FUSION_SIZES.
        rate: the learning rate; by default the one in BEST_RATES.
        split: "test", or "validation": images held out of training, 2,000 of Fashion-MNIST's training images.
        encoders, epochs, train_images: instead of the profile's.
        augment: instead of the task's.
        test_images: how many to test with.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for names that are not known, a fusion without a rate, and more images than there are.
    """
    profile = choose_profile(profile)
    check_choice("task", task, TASKS)
    check_choice("fusion", fusion, FUSIONS)
    size, chosen = FUSION_SIZES[profile.name], TASKS[task]
    settings = RECIPE | {
        "epochs": size.epochs[task] if epochs is None else epochs,
        "learning_rate": best_rate(task, fusion) if rate is None else rate,
        "augment": chosen.augment if augment is None else augment,
        "seed": seed,
        "loss": chosen.loss,
    }
    sets = task_sets(task, train_images or size.images, test_images, seed=seed, split=split)
    return run(
        {"task": task, "fusion": fusion, "profile": profile.name, "split": sets.split},
        replace(size, encoders=size.encoders if encoders is None else encoders),
        partial(small_crossvit, task, fusion),
        sets,
        settings | {"device": device, "checkpoint": checkpoint, "progress": progress},
        score="test_accuracy",
        shown=("widths", "depths", "encoders"),
        watch=branch_accuracies,
        evaluate_every=settings["epochs"],
        counted=partial(small_crossvit, task, fusion, folded=False),
    )


def best_rate(task: str, fusion: str) -> float:
    """The learning rate in BEST_RATES. Raises ValueError for a fusion that none was chosen for."""
    if fusion not in BEST_RATES[task]:
        raise ValueError(
            f"no learning rate was chosen for the fusion {fusion!r} on {task}: give rate=, the best on held-out images "
            f'(split="validation") of, for instance, {", ".join(map(str, RATES))}'
        )
    return BEST_RATES[task][fusion]


def fusion_rates(
    task: str, fusion: str, rate: float, seed: int = 0, profile: str | Profile | None = None, **settings: Any
) -> Result:
    """`train_fusion` with a given learning rate, tested on held-out images: how `BEST_RATES` was chosen."""
    result = train_fusion(task, fusion, seed, profile, rate=rate, split="validation", **settings)
    return replace(result, config=result.config | {"rate": result.config["learning_rate"]})


def fusion_search(
    setting: str, fusion: str, seed: int = 0, profile: str | Profile | None = None, **settings: Any
) -> Result:
    """`train_fusion` with the changes in SETTINGS[setting], on Fashion-MNIST unless they name another task.

    Raises ValueError for a setting that is not known.
    """
    check_choice("setting", setting, SETTINGS)
    result = train_fusion(
        fusion=fusion, seed=seed, profile=profile, **({"task": "fashion"} | SETTINGS[setting] | settings)
    )
    return replace(result, config=result.config | {"setting": setting})


def small_crossvit(task: str, fusion: str, size: FusionSize, *, folded: bool = True) -> CrossViT:
    """A CrossViT for one of the `TASKS`, with fixed positions and Xavier's first weights, as in `small_vit`."""
    chosen = TASKS[task]
    model = CrossViT(
        chosen.image_sizes,
        chosen.patches,
        size.widths,
        size.depths,
        size.heads,
        encoders=size.encoders,
        fusion=fusion,
        classes=chosen.classes,
        channels=1,
        mlp_ratio=2,
        positions="sincos",
        folded=folded,
    )
    for part in (model.small.blocks, model.large.blocks, model.fusions):
        xavier(part)
    return model


@torch.no_grad()
def branch_accuracies(model: CrossViT, test_set: TensorDataset, batch_size: int = 500) -> dict[str, float]:
    """Accuracy (0 to 1) of the averaged logits, of S's head alone and of L's: "test_", "small_", "large_accuracy".

    With two targets (pair, relation) these are accuracies of the relation, and "pair_test_accuracy" and so on are of
    the pair. The model computes in eval mode and is left in the mode it was in.
    """
    device = next(model.parameters()).device
    batches = [take(test_set, indices, device) for indices in torch.arange(len(test_set)).split(batch_size)]
    # One view for both branches, or one for each; the logits are (image, branch, class).
    with evaluating(model):
        logits = torch.cat([model.branch_logits(*batch[:-1])[0] for batch in batches])  # type: ignore[arg-type]
    targets = torch.cat([batch[-1] for batch in batches])
    heads = {"test": logits.mean(dim=1), "small": logits[:, 0], "large": logits[:, 1]}

    def right(scores: Tensor, labels: Tensor) -> float:
        return (scores.argmax(dim=1) == labels).float().mean().item()

    if targets.ndim == 1:
        return {f"{name}_accuracy": right(scores, targets) for name, scores in heads.items()}
    found = {f"{name}_accuracy": right(scores[:, 16:], targets[:, 1]) for name, scores in heads.items()}
    return found | {f"pair_{name}_accuracy": right(scores[:, :16], targets[:, 0]) for name, scores in heads.items()}
