"""A small model, a small set and a short training, and a way to interrupt it at any call."""

import functools

import torch
from torch.utils.data import TensorDataset

from xattn_edu.models.vit import ViT


def small_set(samples=53, classes=3, seed=0):
    """Images 8 x 8 whose brightest quarter, by and large, is their label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (samples,), generator=generator)
    images = torch.randn(samples, 1, 8, 8, generator=generator)
    for image, label in zip(images, labels):
        row, column = divmod(int(label), 2)
        image[0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 2
    return TensorDataset(images, labels)


def small_model(seed=0, **changes):
    torch.manual_seed(seed)
    sizes = {"image_size": 8, "patch": 4, "width": 16, "depth": 2, "heads": 2, "classes": 3, "channels": 1}
    return ViT(**(sizes | {"stochastic_depth": 0.3} | changes))


def noise(images):
    return images + 0.1 * torch.randn_like(images)


RUN = {"epochs": 3, "batch_size": 8, "learning_rate": 5e-3, "device": "cpu", "augment": noise}


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def without_times(history):
    return [{name: value for name, value in row.items() if "seconds" not in name} for row in history.rows]


class Interrupted(Exception):
    pass


def interrupted(function, calls):
    """`function`, until it has been called so often; then the lights go out."""
    left = [calls]

    @functools.wraps(function)
    def call(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise Interrupted
        return function(*arguments)

    return call


def blobs_for_chance() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(16, 4, generator=generator), torch.arange(16) % 2)
