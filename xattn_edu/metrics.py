"""How good a model is, and how sure a few runs let us be of it."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import nn

from xattn_edu.training import Samples, take


class Interval(NamedTuple):
    """A mean and half the width of its confidence interval; `str` reads "86.4 ± 0.5"."""

    mean: float
    half: float

    @property
    def low(self) -> float:
        return self.mean - self.half

    @property
    def high(self) -> float:
        return self.mean + self.half

    def __format__(self, spec: str) -> str:
        return f"{self.mean:{spec}} ± {self.half:{spec}}"

    def __str__(self) -> str:
        return f"{self:.3g}"


@torch.no_grad()
def accuracy(model: nn.Module, test_set: Samples, *, batch_size: int = 500) -> float:
    """The share (0 to 1) of `test_set` for which the largest of the model's logits (batch, class) is the label's.

    Items are (input, ..., label). The model computes on the device it lies on, in eval mode, and is left in the mode it
    was in. When several processes train, call it in all of them: each takes its share of the samples, counted once.
    Raises ValueError for an empty set, and for outputs or labels that are not those of a classifier.
    """
    if not len(test_set):
        raise ValueError("test_set is empty")
    if batch_size < 1:
        raise ValueError(f"batch_size must be 1 or more, given {batch_size}")
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if shared else (0, 1)
    device, was_training = next(model.parameters(), torch.empty(0)).device, model.training
    right = torch.zeros((), dtype=torch.int64, device=device)
    model.eval()
    try:
        for indices in torch.arange(rank, len(test_set), processes).split(batch_size):
            if not len(indices):
                continue
            *inputs, labels = take(test_set, indices, device)
            logits = model(*inputs)
            if logits.ndim != 2 or labels.shape != logits.shape[:1]:
                given = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
                raise ValueError(f"expected logits (batch, class) and labels (batch,), given {given}")
            right += (logits.argmax(dim=1) == labels).sum()
    finally:
        model.train(was_training)
    if shared:
        torch.distributed.all_reduce(right)
    return right.item() / len(test_set)


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval:
    """The mean of independent runs and the half-width of its confidence interval by Student's t: t * s / sqrt(n).

    It answers: how far could the mean of very many such runs be? One run says nothing about that: its half-width is
    infinite. Raises ValueError for no values, values that are not finite, and a level outside (0, 1).
    """
    numbers = [float(value) for value in values]
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ValueError(f"mean_interval needs finite values, one at least, given {numbers}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, given {level}")
    mean = math.fsum(numbers) / len(numbers)
    if len(numbers) == 1:
        return Interval(mean, math.inf)
    degrees = len(numbers) - 1
    deviation = math.sqrt(math.fsum((number - mean) ** 2 for number in numbers) / degrees)
    return Interval(mean, _student_t(level, degrees) * deviation / math.sqrt(len(numbers)))


def _student_t(level: float, degrees: int) -> float:
    """The t that a Student variable stays below in size with probability `level`.

    By bisection on the angle atan(t / sqrt(degrees)), in which the probability is a finite sum. Source: Abramowitz and
    Stegun, "Handbook of Mathematical Functions" (1964), 26.7.3 and 26.7.4.
    """

    def inside(angle: float) -> float:
        if degrees % 2:
            term, total = math.cos(angle), 0.0
            for k in range(1, degrees, 2):
                total += term
                term *= math.cos(angle) ** 2 * (k + 1) / (k + 2)
            return 2 / math.pi * (angle + math.sin(angle) * total)
        term, total = 1.0, 0.0
        for k in range(0, degrees, 2):
            total += term
            term *= math.cos(angle) ** 2 * (k + 1) / (k + 2)
        return math.sin(angle) * total

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if inside(middle) < level else (low, middle)
    return math.tan(low) * math.sqrt(degrees)
