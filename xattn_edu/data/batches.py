"""Samples and batches: the form of a training set, the order of its samples, and how samples become a batch."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import TensorDataset, default_collate

from xattn_edu.machine import check_seed, seed_from


class Samples(Protocol):
    """A training set: a torch Dataset of known length, or a list of tuples of tensors."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: Any, /) -> Any: ...


def epoch_batches(samples: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The batches of an epoch: every index below `samples` once, shuffled by (seed, epoch); the last may be smaller."""
    generator = torch.Generator().manual_seed(seed_from(check_seed(seed), "epoch", epoch))
    return list(torch.randperm(samples, generator=generator).split(batch_size))


def take(dataset: Samples, indices: Tensor, device: torch.device) -> list[Tensor]:
    """The samples at these indices, stacked, on the device: a list of tensors (batch, ...), as many as a sample has."""
    if isinstance(dataset, TensorDataset):  # faster than one sample after the other
        batch = [tensor[indices] for tensor in dataset.tensors]
    else:
        batch = default_collate([dataset[int(index)] for index in indices])
    return [tensor.to(device) for tensor in batch]
