"""The course's measured experiments: recipes that notebooks call and `xattn reproduce` runs with several seeds.

A recipe is a function of its settings, a seed and a profile. Its result goes to results/ as one JSON a run; notebooks
read the numbers from there with `load_results`.
"""

import functools
import importlib.metadata
import itertools
import json
import math
import os
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu import costs
from xattn_edu.channel_spatial import MIXERS
from xattn_edu.checkpoints import write_atomically
from xattn_edu.data import fashion_mnist
from xattn_edu.metrics import accuracy
from xattn_edu.profiles import Profile, choose_profile, seed_everything
from xattn_edu.shapes import shaped
from xattn_edu.training import History, train
from xattn_edu.vit import Mixer, ViT

RESULTS = Path(__file__).parents[1] / "results"


@dataclass(frozen=True)
class Size:
    """What a profile decides: the ViT, how long it is trained, and on how much."""

    width: int
    depth: int
    heads: int
    epochs: int  # over all training images there are
    full_epochs: int  # if the full 60,000 are on the disk, and the profile uses them; 0: it does not
    steps: int  # of each little-data run


SIZES = {
    "ci": Size(width=64, depth=4, heads=4, epochs=10, full_epochs=0, steps=1000),
    "cpu": Size(width=96, depth=6, heads=6, epochs=40, full_epochs=12, steps=4000),
    "gpu": Size(width=192, depth=8, heads=6, epochs=100, full_epochs=60, steps=10000),
}
RECIPE: dict[str, Any] = {"batch_size": 64, "learning_rate": 3e-3, "weight_decay": 0.05, "warmup": 0.1, "clip": 1.0}


@dataclass(frozen=True)
class Result:
    """One run: the trained model and what was measured. `record()` is what goes into its JSON."""

    config: dict[str, Any]  # every setting, seed and profile among them
    model: nn.Module
    history: History
    accuracy: float  # on the test images, 0 to 1
    parameters: int
    macs: int  # multiply-accumulates for one image

    @property
    def seconds(self) -> float:
        return self.history["seconds"][-1]

    @property
    def cpu_seconds(self) -> float:
        return self.history["cpu_seconds"][-1]

    def __str__(self) -> str:
        return (
            f"test accuracy {self.accuracy:.1%}, {self.parameters:,} parameters, {self.macs:,} MACs an image, "
            f"{self.seconds:.0f} s ({self.cpu_seconds / self.seconds:.1f} cores busy)"
        )

    def record(self) -> dict[str, Any]:
        """Settings, numbers, versions, machine: all that is needed to run it again and compare."""
        numbers = {"test_accuracy": self.accuracy, "parameters": self.parameters, "macs": self.macs}
        times = {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}
        packages = ("xattn-edu", "torch", "numpy", "accelerate")
        versions = {"python": platform.python_version()} | {p: importlib.metadata.version(p) for p in packages}
        return {
            "config": self.config,
            "metrics": numbers | times | {"cpu_per_wall": round(self.cpu_seconds / self.seconds, 2)},
            "machine": describe_machine(next(self.model.parameters()).device),
            "versions": versions,
            "history": self.history.rows,
        }


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
    """Train a reduced ViT on Fashion-MNIST (28 x 28, ten classes) and test it.

    The profile decides the model's size, the epochs and whether the full set is used where it is on the disk;
    `train_images` (balanced, chosen by the seed) and `epochs` can be set. Positions are sines and cosines, and the
    first weights Xavier's as in the ViT paper's code. Raises ValueError for patches that do not divide 28, an unknown
    profile and more images than there are.
    """
    profile = profile if isinstance(profile, Profile) else choose_profile(profile)
    size = SIZES[profile.name]
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
    """Train a "vit" or a "cnn" of about its size on few images, for about the same number of steps (whole epochs).

    Which images (as many of each class) is chosen by the seed, and is the same for both models. Raises ValueError for
    another model's name, an unknown profile and more images than there are.
    """
    profile = profile if isinstance(profile, Profile) else choose_profile(profile)
    size = SIZES[profile.name]
    if model not in ("vit", "cnn"):
        raise ValueError(f'model must be "vit" or "cnn", given {model!r}')
    steps = size.steps if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be 1 or more, given {steps}")
    train_set, test_set = fashion_sets(images, test_images, seed=seed)
    epochs = max(1, round(steps / math.ceil(images / RECIPE["batch_size"])))
    seed_everything(seed)
    network = small_vit(patch, size) if model == "vit" else SmallCNN(CNN_WIDTHS[profile.name])
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
    """Train the reduced ViT with "attention" or one of `channel_spatial.MIXERS` in its place, all else equal.

    All of them read the mean of the patches instead of a class token, which only attention can fill. Raises ValueError
    for a mixer that is not known, and as `vit_fashion_mnist` does.
    """
    profile = profile if isinstance(profile, Profile) else choose_profile(profile)
    size = SIZES[profile.name]
    if mixer != "attention" and mixer not in MIXERS:
        raise ValueError(f"mixer must be one of attention, {', '.join(MIXERS)}, given {mixer!r}")
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
        accuracy=history["test accuracy"][-1],
        parameters=counted.parameters,
        macs=counted.macs,
    )


def fashion_sets(
    train_images: int | None = None, test_images: int | None = None, *, seed: int = 0, full: bool = False
) -> tuple[TensorDataset, TensorDataset]:
    """Fashion-MNIST to train on and to test on, all of it or as many images of each class as add up to a number.

    Which training images is chosen by `seed`; test images are the first. Raises ValueError for more than there are.
    """
    train_set = TensorDataset(*fashion_mnist.load("train", full=full).tensors())
    test_set = TensorDataset(*fashion_mnist.load("test", full=full).tensors())
    shuffled = torch.randperm(len(train_set), generator=torch.Generator().manual_seed(seed))
    return _balanced(train_set, train_images, shuffled), _balanced(test_set, test_images, torch.arange(len(test_set)))


def _balanced(dataset: TensorDataset, number: int | None, order: Tensor) -> TensorDataset:
    """The first `number` images of the order, the classes taking turns."""
    if number is None:
        return dataset
    if not 10 <= number <= len(dataset):
        raise ValueError(f"choose from 10 to {len(dataset):,} images, given {number}")
    images, labels = dataset.tensors
    turn = torch.empty(len(labels), dtype=torch.int64)  # how many of its class come before it
    for label in labels.unique():
        places = order[labels[order] == label]
        turn[places] = torch.arange(len(places))
    chosen = order[turn[order].argsort(stable=True)[:number]]
    return TensorDataset(images[chosen], labels[chosen])


def small_vit(patch: int, size: Size, *, pool: str = "class_token", mixer: Mixer | None = None) -> ViT:
    """A ViT for 28 x 28 grey images, with Xavier's first weights (Glorot and Bengio, 2010) as in the ViT paper's code.

    A deviation of 0.02, the library's and DeiT's, suits a width of 384 and more; at 64 it is so small that attention
    starts out uniform and stays so for long.
    """
    shape: dict[str, Any] = {"mlp_ratio": 2, "positions": "sincos", "pool": pool, "mixer": mixer}
    model = ViT(28, patch, size.width, size.depth, size.heads, classes=10, channels=1, **shape)
    for module in model.blocks.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
    return model


CNN_WIDTHS = {"ci": 40, "cpu": 72, "gpu": 160}  # about as many parameters as the profile's ViT


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
    """Mirror half of the images, by chance: a coat stays a coat."""
    mirrored = torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
    return torch.where(mirrored, images.flip(-1), images)


@dataclass(frozen=True)
class Experiment:
    """A recipe and the settings it is run with: every combination, with every seed."""

    description: str
    recipe: Callable[..., Result]
    grid: dict[str, tuple[Any, ...]]

    def points(self, **chosen: Sequence[Any]) -> Iterator[dict[str, Any]]:
        """Each combination of the grid's settings, or of those `chosen` instead."""
        values = [chosen.get(name) or default for name, default in self.grid.items()]
        for point in itertools.product(*values):
            yield dict(zip(self.grid, point))


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
    "vit-mixers": Experiment(
        "the small ViT with self-attention and with something else in its place, same budget (notebook 04)",
        vit_mixers,
        {"mixer": ("attention", *MIXERS)},
    ),
}


def reproduce(
    name: str, point: dict[str, Any], seed: int, profile: Profile, folder: Path, progress: bool = True
) -> dict[str, Any]:
    """One run of an experiment, or what is stored of it if it was finished before; an interrupted one is continued.

    The record is written to `folder` whole or not at all; the checkpoint beside it goes when it is.
    """
    path = result_path(name, point, seed, profile.name, folder)
    if path.exists():
        return _read_record(path)
    scratch = folder / ".checkpoints"
    scratch.mkdir(parents=True, exist_ok=True)
    (scratch / ".gitignore").write_text("*\n", encoding="ascii")
    path.parent.mkdir(parents=True, exist_ok=True)
    checkpoint = scratch / f"{path.parent.name}-{path.stem}.safetensors"
    recipe = functools.partial(EXPERIMENTS[name].recipe, checkpoint=checkpoint, progress=progress)
    record = {"experiment": name} | recipe(**point, seed=seed, profile=profile).record()
    write_atomically(path, (json.dumps(record, indent=1) + "\n").encode())
    checkpoint.unlink(missing_ok=True)
    return record


def result_path(name: str, point: dict[str, Any], seed: int, profile: str, folder: Path) -> Path:
    """Where the record of a run lies: vit_fashion_mnist/patch-4_seed-0_ci.json."""
    settings = "_".join(f"{setting}-{value}" for setting, value in (point | {"seed": seed}).items())
    return folder / name.replace("-", "_") / f"{settings}_{profile}.json"


def load_results(name: str, folder: str | Path | None = None) -> list[dict[str, Any]]:
    """The stored runs of an experiment, a flat row each: settings, seed, profile, metrics, and "history" (a `History`).

    Raises FileNotFoundError, saying how to make them, if there are none; ValueError for a file that is no such record.
    """
    folder = RESULTS if folder is None else Path(folder)
    paths = sorted((folder / name.replace("-", "_")).glob("*.json"))
    if not paths:
        raise FileNotFoundError(f"no results of {name!r} in {folder}: run `xattn reproduce {name.replace('_', '-')}`")
    rows = []
    for path in paths:
        record = _read_record(path)
        rows.append(record["config"] | record["metrics"] | {"history": History(record["history"])})
    return sorted(rows, key=lambda row: [_sortable(row[key]) for key in row if key in _order(name) or key == "seed"])


def _order(name: str) -> tuple[str, ...]:
    experiment = EXPERIMENTS.get(name.replace("_", "-"))
    return () if experiment is None else tuple(experiment.grid)


def _sortable(value: Any) -> tuple[bool, Any]:
    return isinstance(value, str), value


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_bytes())
        if not {"config", "metrics", "history"} <= record.keys():
            raise ValueError("config, metrics or history is missing")
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"{path} is not the record of a run ({error}): delete it and run the experiment again"
        ) from error
    return record


def describe_machine(device: torch.device) -> dict[str, Any]:
    """What the run ran on, in words that name no one's machine: CPU model, cores, torch's threads, device."""
    model = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        names = [
            line.split(":", 1)[1] for line in information.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0].strip() if names else model
    described = {"cpu": model, "cores": os.cpu_count(), "threads": torch.get_num_threads(), "device": device.type}
    return described | ({"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {})
