"""A run is recognised by its loss, augmentation and data: other settings give other texts, the same ones the same."""

import collections
import dataclasses
import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from helpers.small_runs import RUN, interrupted, noise, small_model, small_set
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset, Subset, TensorDataset

from xattn_edu.experiments.fashion import flip
from xattn_edu.models.losses import dice_loss
from xattn_edu.training.identity import LONGEST, describe, describe_model
from xattn_edu.training.loop import train


class Noise(nn.Module):
    def __init__(self, strength, table=None):
        super().__init__()
        self._strength = strength
        self.register_buffer("table", table, persistent=False)
        self.inner = nn.Dropout(strength)

    def forward(self, images):
        return images


class Shift:
    """A callable without a __repr__: Python's own holds an address in memory."""

    def __init__(self, by, way="left"):
        self.by, self.way = by, way

    def __call__(self, images):
        return images

    def method(self, images):
        return images


@dataclasses.dataclass(frozen=True)
class Erase:
    share: float
    colours: tuple = (0, 0, 0)


class Slotted:
    __slots__ = ("by",)

    def __init__(self, by):
        self.by = by


class Table:
    """An object that pickle makes again from pairs of keys and values."""

    def __init__(self, **pairs):
        self.pairs = pairs

    def __reduce__(self):
        return Table, (), None, None, iter(self.pairs.items())


class Listed(Dataset):
    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def scaled(images, by=2.0, *, way="up"):
    return images


def made(by):
    def inner(images):
        return images * by

    return inner


def made_with_default(strength):
    def inner(images, by=strength):
        return images * by

    return inner


def generator(seed):
    return np.random.default_rng(seed)


def labels(last):
    return torch.tensor([0, 1, last])


PAIRS = {
    "a loss module": lambda n: nn.CrossEntropyLoss(label_smoothing=n / 10),
    "its class weights": lambda n: nn.CrossEntropyLoss(weight=torch.tensor([1.0, n])),
    "a partial": lambda n: functools.partial(F.cross_entropy, label_smoothing=n / 10),
    "a partial's tensor": lambda n: functools.partial(F.cross_entropy, weight=torch.tensor([1.0, n])),
    "a partial's position": lambda n: functools.partial(scaled, n),
    "a partial's array": lambda n: functools.partial(scaled, by=np.arange(1000) * n),
    "a private setting": lambda n: Noise(n / 10),
    "a buffer": lambda n: Noise(0.1, torch.full((3,), float(n))),
    "modules in order": lambda n: nn.Sequential(nn.Dropout(0.1), nn.Dropout(n / 10)),
    "an object": lambda n: Shift(n),
    "an object's object": lambda n: Shift([{"by": Shift(n)}]),
    "a method": lambda n: Shift(n).method,
    "a dataclass": lambda n: Erase(n / 10),
    "slots": lambda n: Slotted(n),
    "a set": lambda n: Shift({"a", "b", str(n)}),
    "a queue": lambda n: collections.deque([1, n]),
    "pairs": lambda n: Table(by=n),
    "an array's shape": lambda n: Shift(np.arange(4).reshape(n, -1)),
    "a tensor's shape": lambda n: Shift(torch.arange(4).reshape(n, -1)),
    "a captured value": made,
    "a captured tensor": lambda n: made(torch.arange(n + 1)),
    "a default": made_with_default,
    "a generator": generator,
    "a dtype": lambda n: Shift((torch.float32, torch.float64)[n - 1]),
    "labels in tensors": lambda n: TensorDataset(torch.zeros(3, 2), labels(n)),
    "labels in a list": lambda n: [(torch.zeros(2), label) for label in labels(n)],
    "labels in a data set": lambda n: Listed([(torch.zeros(2), int(label)) for label in labels(n)]),
    "a subset": lambda n: Subset(small_set(), [0, n]),
    "the end of a long text": lambda n: Shift([*range(LONGEST), n]),
}


@pytest.mark.parametrize("make", PAIRS.values(), ids=PAIRS.keys())
def test_equal_settings_are_equal_and_others_are_not(make):
    assert describe("loss", make(1)) == describe("loss", make(1))
    assert describe("loss", make(1)) != describe("loss", make(2))
    assert "0x" not in describe("loss", make(1)) and len(describe("loss", make(1))) < LONGEST + 40


def test_names():
    assert describe("loss", F.mse_loss).startswith("torch.nn.functional.mse_loss(")
    assert describe("augment", flip) == "xattn_edu.experiments.fashion.flip"  # behind a decorator
    assert describe("loss", dice_loss) == "xattn_edu.models.losses.dice_loss"
    assert describe("augment", torch.relu).endswith("relu") and "tanh" in describe("augment", np.tanh)
    assert describe("augment", None) == "None"
    assert describe("augment", scaled) == f"{__name__}.scaled(2.0, way='up')"
    assert describe("seed", np.float64(0.5)) == describe("seed", 0.5) == "0.5"


@pytest.mark.parametrize(
    "nameless",
    [
        lambda images: images,
        functools.partial(lambda images: images, 1),
        Shift(lambda images: images),
        made(lambda images: images),
        Shift(threading.Lock()),
        (images for images in ()),
    ],
)
def test_what_has_no_name_is_refused_with_the_fix_before_any_work(tmp_path, nameless):
    run = RUN | {"augment": nameless}
    with pytest.raises(ValueError, match="augment needs a name.*define a function at the top level.*dataclass"):
        train(small_model(), small_set(), **run, evaluate=lambda _: 1 / 0, checkpoint=tmp_path / "run.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_without_a_checkpoint_nothing_needs_a_name():
    history = train(small_model(), small_set(), **RUN | {"epochs": 1, "augment": lambda images: images})
    assert len(history) == 1


@pytest.mark.slow
def test_the_texts_are_the_same_in_another_process():
    code = (
        "import test_identity as t\n"
        "print(*(t.describe('loss', make(1)) for make in t.PAIRS.values()), sep='\\n')\n"
        "print(*sorted(t.describe_model(t.small_model()).items()), sep='\\n')"
    )
    here = os.path.dirname(__file__)
    path = os.pathsep.join([here, os.path.dirname(here), os.environ.get("PYTHONPATH", "")])
    found = []
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": seed}
        found.append(subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True))
    assert found[0].returncode == 0, found[0].stderr
    assert found[0].stdout == found[1].stdout and len(found[0].stdout.splitlines()) > len(PAIRS)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (nn.Sequential(nn.Linear(4, 2), nn.ReLU()), nn.Sequential(nn.Linear(4, 2), nn.GELU())),
        (nn.Dropout(0.1), nn.Dropout(0.1 + 1e-9)),
        (nn.Linear(4, 2), nn.Linear(4, 2).requires_grad_(False)),
        (nn.Linear(4, 2), nn.Linear(4, 2).double()),
        (nn.TransformerEncoderLayer(4, 2, 4), nn.TransformerEncoderLayer(4, 2, 4, activation=F.gelu)),
        *[tuple(nn.TransformerEncoderLayer(4, 2, 4, activation=f) for f in (F.gelu, torch.tanh))],
    ],
)
def test_models_that_differ_where_no_shape_shows_it(one, other):
    assert describe_model(one) != describe_model(other)


def test_changed_labels_are_noticed_on_resuming(tmp_path):
    """One label of 53 is another one: in tensors, and in a data set that yields one sample after the other."""
    images, targets = small_set().tensors
    changed = targets.clone()
    changed[-1] = (changed[-1] + 1) % 3
    for number, kind in enumerate((TensorDataset, lambda *tensors: Listed(list(zip(*tensors))))):
        path = tmp_path / f"{number}.safetensors"
        train(small_model(), kind(images, targets), **RUN, checkpoint=path)
        with pytest.raises(ValueError, match="belongs to another run.*data: 53 samples"):
            train(small_model(), kind(images, changed), **RUN, checkpoint=path)
        train(small_model(), kind(images, targets), **RUN | {"augment": interrupted(noise, 0)}, checkpoint=path)


def test_a_set_is_described_in_an_order_of_its_own():
    assert [*{8, 1}] == [8, 1]  # as CPython keeps it; of words the order is another one in every process
    assert describe("augment", {8, 1}) == describe("augment", frozenset({8, 1})) == "{1, 8}"
