"""Recipes on Fashion-MNIST: a small ViT, a CNN to compare it with, and other mixers in place of its attention."""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.data import fashion_mnist
from xattn_edu.experiments.records import ACCURACY, Result
from xattn_edu.experiments.running import run
from xattn_edu.experiments.sets import Sets, fashion_sets
from xattn_edu.experiments.sizes import FASHION_SIZES, FashionSize
from xattn_edu.machine import Profile, choose_profile
from xattn_edu.measure.accuracy import accuracy
from xattn_edu.models.mixers import MIXERS
from xattn_edu.models.vit import Mixer, ViT
from xattn_edu.shapes import check_choice, shaped

RECIPE: dict[str, Any] = {"batch_size": 64, "learning_rate": 3e-3, "weight_decay": 0.05, "warmup": 0.1, "clip": 1.0}
VITS = {"vit": 4, "vit_patch_14": 14}  # the ViTs of `little_data`: the sides of their patches
INSIDE = {"fixed_positions": "sincos", "learned_positions": "learned"}  # the ViTs of `vit_inside`: their positions
RECORDED_AS = {"flip": "horizontal flip"}  # what records call an augmentation, by its function's name


def vit_fashion_mnist(
    patch: int = 7,
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    positions: str = "sincos",
    train_images: int | None = None,
    test_images: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a small ViT on Fashion-MNIST (28 x 28, ten classes) and test it.

    The first weights are Xavier's, as in the ViT paper's code.

    Args:
        patch: side of a patch in pixels; it divides 28.
        seed: of the first weights, the order of the images, and the choice of `train_images`.
        profile: a row of FASHION_SIZES: the model, the epochs, and whether the full set is used if it is on the disk.
        positions: as in `ViT`: sines and cosines, or learned.
        train_images: how many, as many of each class as possible; all by default.
        test_images: how many, the first of each class; all by default.
        epochs: instead of the profile's.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for patches that do not divide 28, an unknown profile, and more images than there are.
    """
    profile = choose_profile(profile)
    size = FASHION_SIZES[profile.name]
    full = size.full_epochs > 0 and fashion_mnist.full_available()
    if epochs is None:
        epochs = size.full_epochs if full else size.epochs
    return _run(
        {"patch": patch, "profile": profile.name},
        size,
        partial(small_vit, patch, positions=positions),
        fashion_sets(train_images, test_images, seed=seed, full=full),
        {"epochs": epochs, "seed": seed, "checkpoint": checkpoint, "device": device, "progress": progress},
        shown=("width", "depth"),
    )


def little_data(
    model: str = "vit",
    images: int = 1000,
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    steps: int | None = None,
    test_images: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a ViT, or a CNN of about its size, on few images, for about the same number of steps (whole epochs).

    Args:
        model: "vit" (patches of 4), "vit_patch_14" or "cnn".
        images: how many to train on, as many of each class as possible; the seed chooses the same for all models.
        seed: of the images, their order, and the first weights.
        profile: a row of FASHION_SIZES.
        steps: instead of the profile's.
        test_images: how many, the first of each class; all by default.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for another model's name, an unknown profile, and more images than there are.
    """
    profile = choose_profile(profile)
    size = FASHION_SIZES[profile.name]
    check_choice("model", model, (*VITS, "cnn"))
    patch = VITS.get(model, VITS["vit"])  # the CNN's record has the patch of the ViT that it is compared with
    steps = size.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, given {steps}")
    sets = fashion_sets(images, test_images, seed=seed)
    epochs = max(1, round(steps / math.ceil(images / RECIPE["batch_size"])))
    return _run(
        {"model": model, "images": len(sets.train), "patch": patch, "profile": profile.name},
        size,
        small_cnn if model == "cnn" else partial(small_vit, patch),
        sets,
        {"epochs": epochs, "seed": seed, "checkpoint": checkpoint, "device": device, "progress": progress},
        evaluate_every=epochs,  # an epoch of 100 images is two steps: only the end is measured
    )


def vit_inside(
    model: str = "fixed_positions", seed: int = 0, profile: str | Profile | None = None, **settings: Any
) -> Result:
    """`vit_fashion_mnist` with patches of 7, and weights that are stored, so that a reader can look inside.

    "fixed_positions" is that very model; "learned_positions" differs in them alone. `settings` are those of
    `vit_fashion_mnist`. Raises ValueError for another model's name, and as `vit_fashion_mnist` does.
    """
    check_choice("model", model, INSIDE)
    result = vit_fashion_mnist(7, seed, profile, positions=INSIDE[model], **settings)
    return replace(result, config={"model": model, "positions": INSIDE[model]} | result.config)


def vit_mixers(
    mixer: str = "attention",
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    patch: int = 4,
    train_images: int | None = None,
    test_images: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train the small ViT with "attention" or one of `mixers.MIXERS` in its place, all else equal.

    All models classify the mean of the patches instead of a class token, which only attention can fill.

    Args:
        mixer: "attention" or a key of `mixers.MIXERS`.
        seed, profile, patch, train_images, test_images, epochs: as in `vit_fashion_mnist`.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for a mixer that is not known, and as `vit_fashion_mnist` does.
    """
    profile = choose_profile(profile)
    size = FASHION_SIZES[profile.name]
    check_choice("mixer", mixer, ("attention", *MIXERS))
    epochs = size.epochs if epochs is None else epochs
    return _run(
        {"mixer": mixer, "patch": patch, "profile": profile.name},
        size,
        partial(small_vit, patch, pool="mean", mixer=MIXERS.get(mixer)),
        fashion_sets(train_images, test_images, seed=seed),
        {"epochs": epochs, "seed": seed, "checkpoint": checkpoint, "device": device, "progress": progress},
    )


def _run(
    names: dict[str, Any],
    size: FashionSize,
    build: Callable[[FashionSize], nn.Module],
    sets: Sets,
    settings: dict[str, Any],
    **options: Any,
) -> Result:
    result = run(
        names, size, build, sets, RECIPE | {"augment": flip} | settings, score=ACCURACY, watch=_accuracy, **options
    )
    augment = result.config["augment"]
    return replace(result, config=result.config | {"augment": RECORDED_AS.get(augment, augment)})


def _accuracy(model: nn.Module, samples: TensorDataset) -> dict[str, float]:
    return {ACCURACY: accuracy(model, samples)}


def small_vit(
    patch: int,
    size: FashionSize,
    *,
    positions: str = "sincos",
    pool: str = "class_token",
    mixer: Mixer | None = None,
) -> ViT:
    """A ViT for 28 x 28 grey images, with Xavier's first weights (Glorot and Bengio, 2010) as in the ViT paper's code.

    A deviation of 0.02, the library's and DeiT's, suits a width of 384 and more. At a width of 64 it is so small that
    attention starts out uniform and stays uniform for long.
    """
    shape: dict[str, Any] = {"mlp_ratio": 2, "positions": positions, "pool": pool, "mixer": mixer}
    model = ViT(28, patch, size.width, size.depth, size.heads, classes=10, channels=1, **shape)
    xavier(model.blocks)
    return model


def xavier(module: nn.Module) -> None:
    """Xavier's first weights for every linear layer in `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)


def small_cnn(size: FashionSize) -> "SmallCNN":
    """The CNN that `little_data` compares with the ViT of the same size."""
    return SmallCNN(size.cnn_width)


class SmallCNN(nn.Module):
    """Three 3 x 3 convolutions with max-pooling between, the average over positions, a linear head: a plain CNN."""

    def __init__(self, width: int, classes: int = 10):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
            for inputs, outputs in ((1, width), (width, 2 * width), (2 * width, 4 * width))
        )
        self.head = nn.Linear(4 * width, classes)

    @shaped
    def forward(self, images: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch classes"]:
        maps = images
        for number, convolution in enumerate(self.convolutions):
            maps = F.relu(convolution(F.max_pool2d(maps, 2) if number else maps))
        return self.head(maps.mean(dim=(2, 3)))


@shaped
def flip(images: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch channel height width"]:
    """Mirror each image with a probability of one half; clothes keep their class."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)
