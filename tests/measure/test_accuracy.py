"""Accuracy, counted sample by sample."""

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from xattn_edu.measure.accuracy import accuracy


class Listed(Dataset):
    """A data set that is not a TensorDataset."""

    def __init__(self, inputs, labels):
        self.items = list(zip(inputs, labels))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


@pytest.mark.parametrize("batch_size", [1, 4, 10, 500])
@pytest.mark.parametrize("kind", [TensorDataset, Listed])
def test_accuracy_counts_each_sample_once(kind, batch_size):
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])]
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 2, 1, 1])  # the last three are wrong
    assert accuracy(_Identity(), kind(logits, labels), batch_size=batch_size) == 0.7


class _Identity(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.modes = []

    def forward(self, x):
        self.modes.append(self.training)
        return x * self.scale


@pytest.mark.parametrize("training", [True, False])
def test_mode_is_restored_also_after_an_error(training):
    model = _Identity().train(training)
    accuracy(model, TensorDataset(torch.eye(3), torch.arange(3)))
    assert model.training is training and model.modes == [False]
    with pytest.raises(ValueError, match=r"logits \(batch, class\).*\(3, 3, 3\)"):
        accuracy(model, TensorDataset(torch.zeros(3, 3, 3), torch.arange(3)))
    assert model.training is training


def test_no_gradient_is_kept():
    model = _Identity()
    accuracy(model, TensorDataset(torch.eye(3), torch.arange(3)))
    assert model.scale.grad is None and torch.is_grad_enabled()


def test_empty_set():
    with pytest.raises(ValueError, match="empty"):
        accuracy(_Identity(), TensorDataset(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64)))


def test_labels_that_are_not_one_a_sample_are_refused():
    """Labels (batch, 1) would be compared with every sample's guess."""
    with pytest.raises(ValueError, match=r"labels \(batch,\), given \(3, 3\) and \(3, 1\)"):
        accuracy(_Identity(), TensorDataset(torch.eye(3), torch.arange(3)[:, None]))


def test_it_is_computed_without_gradients():
    model, seen = _Identity(), []
    model.register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    accuracy(model, TensorDataset(torch.eye(3), torch.arange(3)))
    assert seen == [False]
