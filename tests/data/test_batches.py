"""Samples become a batch: all tensors of a sample, in the order of the indices."""

import pytest
import torch
from torch.utils.data import TensorDataset

from xattn_edu.data.batches import epoch_batches, take

IMAGES, IDS, LABELS = torch.arange(24.0).reshape(6, 4), torch.arange(6) * 10, torch.arange(6) * 100


@pytest.mark.parametrize("kind", [TensorDataset, lambda *tensors: list(zip(*tensors))])
def test_a_batch_holds_every_tensor_of_the_samples_in_the_order_of_the_indices(kind):
    indices = torch.tensor([4, 0, 5, 1])
    batch = take(kind(IMAGES, IDS, LABELS), indices, torch.device("cpu"))
    assert len(batch) == 3
    assert all(torch.equal(found, whole[indices]) for found, whole in zip(batch, (IMAGES, IDS, LABELS)))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ValueError, match="seed"):
        epoch_batches(8, 4, seed, 0)
