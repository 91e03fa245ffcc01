"""Fashion-MNIST: 28 x 28 grey photographs of clothes in ten classes.

A balanced subset ships with the course (datasets/fashion_mnist); the full set is read from disk where it is installed.
Every file's SHA-256 is compared before a byte of it is believed.

Source: Xiao, Rasul and Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms"
(2017), arXiv 1708.07747; MIT licence.
"""

import gzip
import hashlib
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy import ndarray

if TYPE_CHECKING:
    from torch import Tensor

CLASSES = (
    "T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
MEAN, DEVIATION = 0.2860, 0.3530  # of all pixels of the full training set, in 0..1
SUBSET_FOLDER = Path(__file__).parents[2] / "datasets" / "fashion_mnist"
FULL_FOLDER = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package puts it
ENVIRONMENT = "XATTN_FASHION_MNIST"

LARGEST = 16 + 60_000 * 28 * 28  # bytes of an unpacked file: the header and the images of the full training set

FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
_FULL_CHECKSUMS = {
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images (count, 28, 28) uint8, 0 black to 255 white, and their labels (count,) int64, named by `classes`."""

    images: ndarray
    labels: ndarray
    classes: tuple[str, ...] = CLASSES

    def __len__(self) -> int:
        return len(self.labels)

    def tensors(self, mean: float = MEAN, deviation: float = DEVIATION) -> "tuple[Tensor, Tensor]":
        """Images (count, 1, 28, 28) float32, (pixel / 255 - mean) / deviation, and labels (count,) int64, as copies.

        Raises ValueError for a `deviation` that is not positive.
        """
        import torch

        if not deviation > 0:
            raise ValueError(f"deviation must be positive, given {deviation}")
        images = torch.from_numpy(self.images).float().div_(255).sub_(mean).div_(deviation)
        return images[:, None], torch.from_numpy(self.labels.copy())


def load(split: str, full: bool = False, folder: str | Path | None = None) -> ImageSet:
    """The "train" or "test" images: the shipped subset (12,000 / 2,000), or with `full` all (60,000 / 10,000).

    The full set is looked for in `folder`, else where XATTN_FASHION_MNIST points, else in /usr/share/datasets. Raises
    ValueError for an unknown split and for a file that is not, byte for byte, the published one (or the shipped one),
    FileNotFoundError for a file that is not there; both name the file and the fix.
    """
    if split not in tuple(FILES):
        raise ValueError(f"split must be one of {', '.join(FILES)}, given {split!r}")
    if folder is not None and not full:
        raise ValueError("`folder` is where the full set is: write full=True to read it from there")
    where = _full_folder(folder) if full else SUBSET_FOLDER
    fix = (
        f"`apt-get install dataset-fashion-mnist` puts the full set into {FULL_FOLDER}; or set {ENVIRONMENT} to a "
        "folder with the four published .gz files"
        if full
        else "restore it with `git checkout -- datasets/fashion_mnist` (the course is used from a clone of its "
        "repository)"
    )
    checksums = _FULL_CHECKSUMS if full else _subset_checksums(fix)
    images, labels = (_read(where / name, checksums[name], fix) for name in FILES[split])
    if images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
        raise ValueError(f"{where}: images {images.shape} and labels {labels.shape} do not belong together: {fix}")
    if (labels >= len(CLASSES)).any():
        raise ValueError(f"{where}: labels are 0 to {len(CLASSES) - 1}, found {labels.max()}: {fix}")
    return ImageSet(images, labels.astype(np.int64))


def full_available(folder: str | Path | None = None) -> bool:
    """Whether all four files of the full set are where `load(full=True)` would look (`load` then checks them)."""
    where = _full_folder(folder)
    return all((where / name).is_file() for names in FILES.values() for name in names)


def _full_folder(folder: str | Path | None) -> Path:
    from xattn_edu.files import expanded  # not above, so that this module needs neither the package nor torch

    return expanded(folder or os.environ.get(ENVIRONMENT) or FULL_FOLDER)


def _subset_checksums(fix: str) -> dict[str, str]:
    """{file name: SHA-256} of the shipped files, from the list beside them (made with them, checked by a test)."""
    path = SUBSET_FOLDER / "checksums.sha256"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {fix}")
    with path.open(encoding="ascii", errors="replace") as file:
        entries = [line.split() for line in file.read(4096).splitlines()]
    checksums = {name: digest for digest, name in (entry for entry in entries if len(entry) == 2)}
    missing = [name for names in FILES.values() for name in names if name not in checksums]
    if missing:
        raise ValueError(f"{path} has no checksum of {', '.join(missing)}: {fix}")
    return checksums


def _sha256(path: Path) -> str:
    if path.stat().st_size > LARGEST:  # not worth the minutes
        return "none: it is too large"
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path, checksum: str, fix: str) -> ndarray:
    """The array in a gzipped idx file, after its SHA-256 has been found right."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {fix}")
    found = _sha256(path)
    if found != checksum:
        raise ValueError(
            f"{path} is not the file it should be ({path.stat().st_size:,} bytes): "
            f"expected SHA-256 {checksum}, found {found}: {fix}"
        )
    try:
        with gzip.open(path) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it unpacks to more than {LARGEST:,} bytes")
        return parse_idx(content)
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise ValueError(f"{path} has the expected SHA-256, but is no gzipped idx file ({error}): {fix}") from error


def parse_idx(content: bytes) -> ndarray:
    """The uint8 array in an idx file: magic 0, 0, 8 (unsigned byte), number of axes; sizes, big-endian; the bytes.

    Raises ValueError for another type, a cut header, or more or fewer bytes than the header announces.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or content[3] == 0:
        raise ValueError(f"not an idx file of unsigned bytes: it begins with {content[:4].hex(' ') or 'nothing'}")
    axes, start = content[3], 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"idx header cut off: {len(content)} bytes, {start} needed for {axes} axes")
    shape = struct.unpack(f">{axes}I", content[4:start])
    announced = start + int(np.prod(shape, dtype=object))
    if len(content) != announced:
        raise ValueError(f"idx file of shape {shape} should have {announced:,} bytes, it has {len(content):,}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()  # writable, as torch wants it
