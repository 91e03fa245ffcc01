"""The accuracy of a classifier."""

import torch
from torch import nn

from xattn_edu.data.batches import Samples, take
from xattn_edu.models.layers import evaluating
from xattn_edu.shapes import whole_number


@torch.no_grad()
def accuracy(model: nn.Module, test_set: Samples, *, batch_size: int = 500) -> float:
    """The share (0 to 1) of `test_set` for which the largest of the model's logits (batch, class) is the label's.

    Items are (input, ..., label). The model computes on its own device in eval mode; afterwards it is in its old mode.
    When several processes train, call this in each of them: it shares the samples out, and every process returns the
    accuracy on all of them. There may be fewer samples than processes. Raises ValueError for an empty set, for a batch
    size below 1, and for outputs or labels that are not those of a classifier.
    """
    if not len(test_set):
        raise ValueError("test_set is empty")
    batch_size = whole_number("batch_size", batch_size, 1)
    shared = torch.distributed.is_available() and torch.distributed.is_initialized()
    rank, processes = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if shared else (0, 1)
    device = next(model.parameters(), torch.empty(0)).device
    right = torch.zeros((), dtype=torch.int64, device=device)
    with evaluating(model):
        for indices in torch.arange(len(test_set))[rank::processes].split(batch_size):
            if not len(indices):  # there are fewer samples than processes
                continue
            *inputs, labels = take(test_set, indices, device)
            logits = model(*inputs)
            if logits.ndim != 2 or labels.shape != logits.shape[:1]:
                given = f"{tuple(logits.shape)} and {tuple(labels.shape)}"
                raise ValueError(f"expected logits (batch, class) and labels (batch,), given {given}")
            right += (logits.argmax(dim=1) == labels).sum()
    if shared:
        torch.distributed.all_reduce(right)
    return right.item() / len(test_set)
