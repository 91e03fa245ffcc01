"""Recipes on Fashion-MNIST: a small ViT, a CNN to compare it with, and other mixers in place of its attention."""

import math
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.data import fashion_mnist
from xattn_edu.experiments.records import Result
from xattn_edu.experiments.sizes import FASHION_SIZES, FashionSize
from xattn_edu.machine import Profile, choose_profile, seed_everything
from xattn_edu.measure import costs
from xattn_edu.measure.accuracy import accuracy
from xattn_edu.models.mixers import MIXERS
from xattn_edu.models.vit import Mixer, ViT
from xattn_edu.shapes import check_choice, shaped
from xattn_edu.training.loop import train

RECIPE: dict[str, Any] = {"batch_size": 64, "learning_rate": 3e-3, "weight_decay": 0.05, "warmup": 0.1, "clip": 1.0}


def vit_fashion_mnist(
    patch: int = 7,
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    train_images: int | None = None,
    test_images: int | None = None,
    epochs: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a small ViT on Fashion-MNIST (28 x 28, ten classes) and test it.

    Positions are sines and cosines, and the first weights are Xavier's, as in the ViT paper's code.

    Args:
        patch: side of a patch in pixels; it divides 28.
        seed: of the first weights, the order of the images, and the choice of `train_images`.
        profile: a row of FASHION_SIZES: the model, the epochs, and whether the full set is used if it is on the disk.
        train_images: how many, as many of each class as possible; all by default.
        test_images: how many, the first of each class; all by default.
        epochs: instead of the profile's.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for patches that do not divide 28, an unknown profile, and more images than there are.
    """
    profile = choose_profile(profile)
    size = FASHION_SIZES[profile.name]
    full = size.full_epochs > 0 and fashion_mnist.full_available()
    train_set, test_set = fashion_sets(train_images, test_images, seed=seed, full=full)
    if epochs is None:
        epochs = size.full_epochs if full else size.epochs
    seed_everything(seed)
    model = small_vit(patch, size)
    return _run(
        model,
        train_set,
        test_set,
        {"patch": patch, "seed": seed, "profile": profile.name, "width": size.width, "depth": size.depth},
        {"epochs": epochs, "seed": seed, "checkpoint": checkpoint, "device": device, "progress": progress},
    )


def little_data(
    model: str = "vit",
    images: int = 1000,
    seed: int = 0,
    profile: str | Profile | None = None,
    *,
    patch: int = 4,
    steps: int | None = None,
    test_images: int | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Result:
    """Train a ViT, or a CNN of about its size, on few images, for about the same number of steps (whole epochs).

    Args:
        model: "vit" or "cnn".
        images: how many to train on, as many of each class as possible; the seed chooses the same for both models.
        seed: of the images, their order, and the first weights.
        profile: a row of FASHION_SIZES.
        patch: side of the ViT's patches in pixels.
        steps: instead of the profile's.
        test_images: how many, the first of each class; all by default.
        checkpoint, device, progress: as in `train`.

    Raises ValueError for another model's name, an unknown profile, and more images than there are.
    """
    profile = choose_profile(profile)
    size = FASHION_SIZES[profile.name]
    check_choice("model", model, ("vit", "cnn"))
    steps = size.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, given {steps}")
    train_set, test_set = fashion_sets(images, test_images, seed=seed)
    epochs = max(1, round(steps / math.ceil(images / RECIPE["batch_size"])))
    seed_everything(seed)
    network = small_vit(patch, size) if model == "vit" else SmallCNN(size.cnn_width)
    return _run(
        network,
        train_set,
        test_set,
        {"model": model, "images": images, "patch": patch, "seed": seed, "profile": profile.name},
        {"epochs": epochs, "seed": seed, "checkpoint": checkpoint, "device": device, "progress": progress},
        evaluate_every=epochs,  # an epoch of 100 images is two steps: only the end is measured
    )


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
    train_set, test_set = fashion_sets(train_images, test_images, seed=seed)
    epochs = size.epochs if epochs is None else epochs
    seed_everything(seed)
    return _run(
        small_vit(patch, size, pool="mean", mixer=MIXERS.get(mixer)),
        train_set,
        test_set,
        {"mixer": mixer, "patch": patch, "seed": seed, "profile": profile.name},
        {"epochs": epochs, "seed": seed, "checkpoint": checkpoint, "device": device, "progress": progress},
    )


def _run(
    model: nn.Module,
    train_set: TensorDataset,
    test_set: TensorDataset,
    config: dict[str, Any],
    settings: dict[str, Any],
    evaluate_every: int = 1,
) -> Result:
    counted = costs.count(model, train_set.tensors[0][:1])
    history = train(
        model,
        train_set,
        **RECIPE,
        **settings,
        augment=flip,
        evaluate=lambda model: {"test accuracy": accuracy(model, test_set)},
        evaluate_every=evaluate_every,
    )
    config = config | {"train_images": len(train_set), "test_images": len(test_set), "epochs": settings["epochs"]}
    return Result(
        config=config | RECIPE | {"steps": int(history["step"][-1]), "augment": "horizontal flip"},
        model=model,
        history=history,
        score=history["test accuracy"][-1],
        parameters=counted.parameters,
        macs=counted.macs,
    )


def fashion_sets(
    train_images: int | None = None, test_images: int | None = None, *, seed: int = 0, full: bool = False
) -> tuple[TensorDataset, TensorDataset]:
    """Fashion-MNIST's training set and test set: all images, or a number of them, as many of each class as possible.

    `seed` chooses the training images; test images are the first. Raises ValueError for more images than there are.
    """
    train_set = TensorDataset(*fashion_mnist.load("train", full=full).tensors())
    test_set = TensorDataset(*fashion_mnist.load("test", full=full).tensors())
    return balanced(train_set, train_images, seed), _balanced(test_set, test_images, torch.arange(len(test_set)))


def balanced(dataset: TensorDataset, number: int | None, seed: int) -> TensorDataset:
    """`number` images of a set, as many of each class as possible, chosen by `seed`; all images for None."""
    shuffled = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return _balanced(dataset, number, shuffled)


def _balanced(dataset: TensorDataset, number: int | None, order: Tensor) -> TensorDataset:
    """The first `number` images in this order, one class after the other in turn."""
    if number is None:
        return dataset
    if not 10 <= number <= len(dataset):
        raise ValueError(f"choose from 10 to {len(dataset):,} images, given {number}")
    images, labels = dataset.tensors
    turn = torch.empty(len(labels), dtype=torch.int64)  # of an image: how many of its class come before it
    for label in labels.unique():
        places = order[labels[order] == label]
        turn[places] = torch.arange(len(places))
    chosen = order[turn[order].argsort(stable=True)[:number]]
    return TensorDataset(images[chosen], labels[chosen])


def small_vit(patch: int, size: FashionSize, *, pool: str = "class_token", mixer: Mixer | None = None) -> ViT:
    """A ViT for 28 x 28 grey images, with Xavier's first weights (Glorot and Bengio, 2010) as in the ViT paper's code.

    A deviation of 0.02, the library's and DeiT's, suits a width of 384 and more. At a width of 64 it is so small that
    attention starts out uniform and stays uniform for long.
    """
    shape: dict[str, Any] = {"mlp_ratio": 2, "positions": "sincos", "pool": pool, "mixer": mixer}
    model = ViT(28, patch, size.width, size.depth, size.heads, classes=10, channels=1, **shape)
    xavier(model.blocks)
    return model


def xavier(module: nn.Module) -> None:
    """Xavier's first weights for every linear layer in `module`."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)


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
