"""CIFAR-10: 32 x 32 colour photographs in ten classes, read from the user's disk ("binary version").

Source: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images" (2009), chapter 3; the files and their
format: www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange
from numpy import ndarray

from xattn_edu.files import expanded
from xattn_edu.shapes import check_choice

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MEAN, DEVIATION = (
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
)  # of red, green, blue in the training set, as customary
ENVIRONMENT = "XATTN_CIFAR10"
FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
RECORD = 1 + 3 * 32 * 32  # bytes: the label; the red, the green and the blue plane, row by row
RECORDS = 10_000  # in each file
FIX = 'get "CIFAR-10 binary version (suitable for C programs)", cifar-10-binary.tar.gz, and unpack it'


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images (count, 32, 32, 3) uint8, red green blue, and their labels (count,) int64, named by `classes`."""

    images: ndarray
    labels: ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(
        self, mean: tuple[float, float, float] = MEAN, deviation: tuple[float, float, float] = DEVIATION
    ) -> "tuple[Tensor, Tensor]":
        """Images (count, 3, 32, 32) float32, (pixel / 255 - mean) / deviation by channel; labels (count,) int64.

        Both are copies. Raises ValueError unless mean and deviation are three numbers each, and deviation positive.
        """
        import torch

        if len(mean) != 3 or len(deviation) != 3 or not all(value > 0 for value in deviation):
            raise ValueError(
                f"mean and deviation must be three numbers each, deviation positive, given {mean} and {deviation}"
            )
        planes = np.ascontiguousarray(rearrange(self.images, "image y x channel -> image channel y x"))
        images = torch.from_numpy(planes).float().div_(255)
        middle, spread = (torch.tensor(values).view(3, 1, 1) for values in (mean, deviation))
        return images.sub_(middle).div_(spread), torch.from_numpy(self.labels.copy())


def load(split: str, folder: str | Path | None = None, *, complete: bool = True) -> ImageSet:
    """The "train" (50,000) or "test" (10,000) images.

    They are looked for in `folder`, else where XATTN_CIFAR10 points, and there in cifar-10-batches-bin, too. With
    complete=False files may have fewer records than the published 10,000. Raises ValueError for an unknown split, no
    folder, and a file that is not of the format or size, FileNotFoundError for one that is not there; they name the
    file and the fix.
    """
    check_choice("split", split, FILES)
    given = folder or os.environ.get(ENVIRONMENT)
    if not given:
        raise ValueError(f"CIFAR-10 does not come with the course: {FIX}, then set {ENVIRONMENT} to its folder")
    where = expanded(given)
    if (where / "cifar-10-batches-bin").is_dir():
        where /= "cifar-10-batches-bin"
    for name in FILES[split]:  # all are there before one is read
        if not (where / name).is_file():
            python = where / name.removesuffix(".bin")
            found = f", {python.name} is the pickled version, which is not read here" if python.exists() else ""
            raise FileNotFoundError(f"{where / name} is missing{found}: {FIX}")
    records = np.concatenate([_records(where / name, complete) for name in FILES[split]])
    images = rearrange(records[:, 1:], "image (channel y x) -> image y x channel", channel=3, y=32)
    return ImageSet(np.ascontiguousarray(images), records[:, 0].astype(np.int64))


def _records(path: Path, complete: bool) -> ndarray:
    """(count, 3073) uint8, after size and labels have been found right."""
    size = path.stat().st_size  # before it is read: any file may have been named so
    if size % RECORD or not 0 < size <= RECORDS * RECORD or (complete and size < RECORDS * RECORD):
        expected = f"{RECORDS * RECORD:,}" if complete else f"a multiple of {RECORD:,}, up to {RECORDS * RECORD:,}"
        raise ValueError(f"{path} has {size:,} bytes, it should have {expected}: {FIX}")
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD)
    if (records[:, 0] >= len(CLASSES)).any():
        raise ValueError(f"{path}: labels are 0 to {len(CLASSES) - 1}, found {records[:, 0].max()}: {FIX}")
    return records
