"""Recipes on CrossViT's fusions: three tasks, five fusions, equal budget and equal tuning.

    fashion   Fashion-MNIST; both branches see the whole image, in patches of 4 and of 7 pixels
    letters   hierarchical letters; branch S sees a small letter, branch L the big one. Asked for is their relation
    cues      branch S sees sixteen letters, branch L a glow over one of them. Asked for is the letter that glows

As in the paper, the loss is that of the averaged logits of both heads, and beside their accuracy stands that of each
head alone.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.data import hierarchical
from xattn_edu.data.batches import take
from xattn_edu.experiments.fashion import balanced, fashion_sets, flip, xavier
from xattn_edu.experiments.records import Result
from xattn_edu.machine import Profile, choose_profile, seed_everything
from xattn_edu.measure import costs
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.fusions import FUSIONS
from xattn_edu.models.layers import evaluating
from xattn_edu.shapes import check_choice
from xattn_edu.training.loop import train


@dataclass(frozen=True)
class Size:
    """What a profile decides: both ViTs, small branch first, and how much they are trained."""

    widths: tuple[int, int]
    depths: tuple[int, int]  # blocks in a multi-scale encoder
    heads: tuple[int, int]
    encoders: int
    images: int  # to train on; of Fashion-MNIST all there are
    epochs: dict[str, int]


SIZES = {
    "ci": Size((32, 64), (1, 1), (4, 4), encoders=2, images=12_000, epochs={"fashion": 5, "letters": 3, "cues": 3}),
    "cpu": Size((48, 96), (1, 2), (4, 4), encoders=3, images=30_000, epochs={"fashion": 15, "letters": 4, "cues": 4}),
    "gpu": Size(
        (96, 192), (1, 3), (6, 6), encoders=3, images=60_000, epochs={"fashion": 60, "letters": 10, "cues": 10}
    ),
}
RECIPE: dict[str, Any] = {"batch_size": 64, "weight_decay": 0.05, "warmup": 0.1, "clip": 1.0}
RATES = (0.75e-3, 1.5e-3, 3e-3, 6e-3)  # the learning rates that each fusion was tried with, on each task

# The best of them for one seed on held-out images, in profile ci (`xattn reproduce fusion-rates`; a test compares).
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
    """What each branch sees, how many classes a head has, and the loss of the averaged logits."""

    image_sizes: tuple[int, int]
    patches: tuple[int, int]
    classes: int
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy
    augment: Callable[[Tensor], Tensor] | None = None


def letters_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of the relation (the last 4 logits) and of the pair of letters (the first 16).

    The relation is what is asked. Without the pair beside it, it is hardly ever found.
    """
    return F.cross_entropy(logits[:, 16:], targets[:, 1]) + F.cross_entropy(logits[:, :16], targets[:, 0])


TASKS = {
    "fashion": Task((28, 28), (4, 7), 10, augment=flip),
    "letters": Task((16, 36), (4, 6), 16 + 4, letters_loss),
    "cues": Task((32, 32), (8, 8), 4),
}


def shift_and_erase(images: Tensor) -> Tensor:
    """Mirror, move by up to 3 pixels, and blank a square of 8 x 8 pixels, each image by chance."""
    images, (height, width) = flip(images), images.shape[-2:]
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    dy, dx = torch.randint(-3, 4, (2, len(images), 1), device=images.device)
    moved = F.pad(images, (3, 3, 3, 3), mode="replicate")
    batch = torch.arange(len(images), device=images.device)[:, None, None]
    moved = moved[batch, :, (rows + 3 + dy)[:, :, None], (columns + 3 + dx)[:, None, :]].permute(0, 3, 1, 2)
    top, left = (torch.randint(n - 7, (len(images), 1), device=images.device) for n in (height, width))
    inside = ((rows - top) // 8 == 0)[:, :, None] & ((columns - left) // 8 == 0)[:, None, :]
    return moved.masked_fill(inside[:, None], 0.0)


# What the search for cross-attention's advantage tries: little data, and then one thing more.
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
    """Train a reduced CrossViT with one of the `FUSIONS` on a task, and test it and each of its heads alone.

    `rate` is the learning rate, else the one that was best for this task and fusion on held-out images (`BEST_RATES`).
    With `split="validation"` it is tested on such images instead: of Fashion-MNIST, 2,000 of the training images, left
    out of training. The result's `more` has "small_accuracy" and "large_accuracy", a head each, and for the letters
    the same of the pair. Multiply-accumulates are counted as the paper does, keys and values formed.
    Raises ValueError for names that are not known and more images than there are.
    """
    profile = choose_profile(profile)
    for name, value, known in (
        ("task", task, TASKS),
        ("fusion", fusion, FUSIONS),
        ("split", split, ("test", "validation")),
    ):
        check_choice(name, value, known)
    size, chosen = SIZES[profile.name], TASKS[task]
    rate = BEST_RATES[task][fusion] if rate is None else rate
    encoders = size.encoders if encoders is None else encoders
    epochs = size.epochs[task] if epochs is None else epochs
    augment = chosen.augment if augment is None else augment
    train_set, test_set = task_sets(task, train_images or size.images, test_images, seed=seed, split=split)

    seed_everything(seed)
    model = small_crossvit(task, fusion, size, encoders=encoders)
    as_written = small_crossvit(task, fusion, size, encoders=encoders, folded=False)
    counted = costs.count(as_written, *(view[:1] for view in train_set.tensors[:-1]))
    history = train(
        model,
        train_set,
        epochs=epochs,
        learning_rate=rate,
        seed=seed,
        loss=chosen.loss,
        augment=augment,
        evaluate=lambda _: branch_accuracies(model, test_set),
        evaluate_every=epochs,
        device=device,
        checkpoint=checkpoint,
        progress=progress,
        **RECIPE,
    )
    found = {name: history[name][-1] for name in history.columns if name.endswith("_accuracy")}
    return Result(
        config={"task": task, "fusion": fusion, "seed": seed, "profile": profile.name, "split": split}
        | {"widths": size.widths, "depths": size.depths, "encoders": encoders, "epochs": epochs, "learning_rate": rate}
        | {"train_images": len(train_set), "test_images": len(test_set), "steps": int(history["step"][-1])}
        | {"augment": None if augment is None else augment.__name__}
        | RECIPE,
        model=model,
        history=history,
        accuracy=found.pop("test_accuracy"),
        parameters=counted.parameters,
        macs=counted.macs,
        more=found,
    )


def fusion_rates(
    task: str, fusion: str, rate: float, seed: int = 0, profile: str | Profile | None = None, **settings: Any
) -> Result:
    """`fusions` with a given learning rate, tested on held-out images: how `BEST_RATES` was chosen."""
    result = train_fusion(task, fusion, seed, profile, rate=rate, split="validation", **settings)
    return replace(result, config=result.config | {"rate": rate})


def fusion_search(
    setting: str, fusion: str, seed: int = 0, profile: str | Profile | None = None, **settings: Any
) -> Result:
    """`fusions` (on Fashion-MNIST, but for "cues_longer") with one thing changed, named in `SETTINGS`.

    Raises ValueError for another name.
    """
    check_choice("setting", setting, SETTINGS)
    result = train_fusion(
        fusion=fusion, seed=seed, profile=profile, **({"task": "fashion"} | SETTINGS[setting] | settings)
    )
    return replace(result, config=result.config | {"setting": setting})


def small_crossvit(task: str, fusion: str, size: Size, *, encoders: int | None = None, folded: bool = True) -> CrossViT:
    """A CrossViT for one of the `TASKS`, with fixed positions and Xavier's first weights, as in `small_vit`."""
    chosen = TASKS[task]
    model = CrossViT(
        chosen.image_sizes,
        chosen.patches,
        size.widths,
        size.depths,
        size.heads,
        encoders=size.encoders if encoders is None else encoders,
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


def task_sets(
    task: str, train_images: int, test_images: int = 2000, *, seed: int = 0, split: str = "test"
) -> tuple[TensorDataset, TensorDataset]:
    """What to train on and to test with: (view, ..., target) a sample. Test and validation sets never depend on the seed."""
    if task != "fashion":
        draw = hierarchical.letters if task == "letters" else hierarchical.cues
        drawn = draw("train", train_images, seed), draw(split, test_images)
        return TensorDataset(*drawn[0].tensors()), TensorDataset(*drawn[1].tensors())
    there, test_set = fashion_sets(None, test_images)
    if split == "validation":
        held_out = torch.randperm(len(there), generator=torch.Generator().manual_seed(0))
        there, test_set = (TensorDataset(*there[part]) for part in (held_out[test_images:], held_out[:test_images]))
    return balanced(there, min(train_images, len(there)), seed), test_set


@torch.no_grad()
def branch_accuracies(model: CrossViT, test_set: TensorDataset, batch_size: int = 500) -> dict[str, float]:
    """Accuracy (0 to 1) of the averaged logits, of S's head alone and of L's: "test_", "small_", "large_accuracy".

    With two targets (pair, relation) those are of the relation, and "pair_..." of the pair. The model computes in eval
    mode and is left in the mode it was in.
    """
    device = next(model.parameters()).device
    batches = [take(test_set, indices, device) for indices in torch.arange(len(test_set)).split(batch_size)]
    # Either one view for both branches, or one for each: (image, branch, class).
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
