"""Make the shipped subset of Fashion-MNIST from the full set, byte for byte the same with every Python built on zlib.

    python datasets/fashion_mnist/make_subset.py [--source FOLDER]

Of each class the first 1,200 training images and the first 200 test images are kept, in their original order: nothing
is chosen by hand or by chance. The full set is Debian's package dataset-fashion-mnist (or the four published files).
A Python built on zlib-ng packs the same pixels into other bytes.
"""

import argparse
import gzip
import hashlib
import struct
from pathlib import Path

import numpy as np

from xattn_edu.data import fashion_mnist

PER_CLASS = {"train": 1200, "test": 200}


def idx_gz(array: np.ndarray) -> bytes:
    """A uint8 array as a gzipped idx file without a time stamp, so that the bytes depend on the array alone."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    packed = gzip.compress(header + array.astype(np.uint8).tobytes(), compresslevel=9, mtime=0)
    return packed[:9] + b"\x03" + packed[10:]  # byte 9 names the operating system, and Python's versions disagree on it


def subset(full: fashion_mnist.ImageSet, per_class: int) -> tuple[np.ndarray, np.ndarray]:
    """The first `per_class` images of each class, in the order of the file."""
    keep = np.sort(np.concatenate([np.flatnonzero(full.labels == label)[:per_class] for label in range(10)]))
    return full.images[keep], full.labels[keep]


def make(source: Path | None, target: Path) -> None:
    """Write the four files and their checksums into `target`."""
    sums = []
    for split, per_class in PER_CLASS.items():
        arrays = subset(fashion_mnist.load(split, full=True, folder=source), per_class)
        for name, array in zip(fashion_mnist.FILES[split], arrays):
            content = idx_gz(array)
            (target / name).write_bytes(content)
            sums.append(f"{hashlib.sha256(content).hexdigest()}  {name}\n")
    (target / "checksums.sha256").write_text("".join(sums), encoding="ascii", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, help="folder of the full set (default: where the library looks)")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    make(arguments.source, arguments.target)
