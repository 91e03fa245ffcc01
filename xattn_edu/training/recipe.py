"""Checks before training begins: its settings, and whether model and data fit each other."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from xattn_edu.data.batches import Samples
from xattn_edu.machine import check_seed
from xattn_edu.models.layers import evaluating
from xattn_edu.shapes import real_number, whole_number


@dataclass(frozen=True)
class Recipe:
    """The settings of `train` that decide the trained weights: a checkpoint is continued only with the same ones.

    Numbers of NumPy and torch become Python's. Raises TypeError for other objects than numbers, ValueError for numbers
    out of range.
    """

    epochs: int
    batch_size: int
    accumulate: int
    learning_rate: float
    weight_decay: float
    warmup: float
    clip: float | None
    seed: int
    loss: Callable[..., Tensor]
    augment: Callable[[Tensor], Tensor] | None

    def __post_init__(self) -> None:
        plain: dict[str, Any] = {"epochs": whole_number("epochs", self.epochs, 1), "seed": check_seed(self.seed)}
        plain["batch_size"] = whole_number("batch_size", self.batch_size, 1)
        plain["accumulate"] = whole_number("accumulate", self.accumulate, 1, plain["batch_size"])
        plain |= {name: real_number(name, getattr(self, name)) for name in ("learning_rate", "weight_decay", "warmup")}
        plain["clip"] = None if self.clip is None else real_number("clip", self.clip)
        vars(self).update(plain)  # a frozen dataclass does not let its fields be set
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate must be positive, given {self.learning_rate}")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay must be 0 or positive, given {self.weight_decay}")
        if not 0 <= self.warmup < 1:
            raise ValueError(f"warmup is a share of all steps, from 0 to below 1, given {self.warmup}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip must be positive, or None for no clipping, given {self.clip}")


def check_data(model: nn.Module, train_set: Samples, loss: Callable[..., Tensor]) -> None:
    """Raise ValueError for a `train_set` that is no Dataset or empty, labels without a class, an untrainable model."""
    if isinstance(train_set, tuple) or not all(hasattr(train_set, name) for name in ("__getitem__", "__len__")):
        raise ValueError(
            f"train_set must be a Dataset of samples, given a {type(train_set).__name__}: for tensors in memory write "
            "TensorDataset(images, labels)"
        )
    if not len(train_set):
        raise ValueError("train_set is empty")
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(f"{type(model).__name__} has no parameters to train (none requires a gradient)")
    _check_labels(model, train_set, loss)


def _check_labels(model: nn.Module, train_set: Samples, loss: Any) -> None:
    """Each label must be one of the model's classes; checked only with labels in memory and cross-entropy."""
    cross_entropy = F.cross_entropy in (loss, getattr(loss, "func", None))
    if not (cross_entropy and isinstance(train_set, TensorDataset)):
        return
    *inputs, labels = train_set.tensors
    if labels.ndim != 1 or labels.is_floating_point():
        return
    labels = labels[labels != getattr(loss, "keywords", {}).get("ignore_index", -100)]  # cross-entropy ignores these
    if not len(labels):
        return
    device = next(model.parameters()).device
    with evaluating(model), torch.no_grad():
        output = model(*(tensor[:1].to(device) for tensor in inputs))
    low, high = int(labels.min()), int(labels.max())
    if output.ndim == 2 and (low < 0 or high >= output.shape[1]):
        raise ValueError(
            f"labels go from {low} to {high}, but the model's {output.shape[1]} classes are 0 to {output.shape[1] - 1}"
        )
