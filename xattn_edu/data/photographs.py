"""Two photographs, a cat and a cup of coffee, for models that are trained on photographs.

Source: scikit-image's "chelsea" and "coffee", both CC0 1.0, see datasets/photographs/README.md.
"""

import hashlib
import io
from pathlib import Path

import numpy as np
from numpy import ndarray

from xattn_edu.shapes import check_choice

FOLDER = Path(__file__).parents[2] / "datasets" / "photographs"
NAMES = {"cat": "chelsea", "coffee": "coffee"}  # ours, and scikit-image's
SHORTER = 274  # pixels of the shorter side
LARGEST = 2**20  # bytes that are read of a file, which has fewer
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in 0..1: red, green, blue


def load(name: str, size: int | None = None) -> ndarray:
    """A photograph, "cat" or "coffee": (height, width, 3) uint8; with `size` the middle (size, size, 3).

    Raises ValueError for another name, a size outside 1 to 274, and a file that is not the shipped one;
    FileNotFoundError for a file that is missing.
    """
    from PIL import Image

    check_choice("name", name, NAMES)
    if size is not None and not 1 <= size <= SHORTER:
        raise ValueError(f"size is 1 to {SHORTER} pixels, given {size}")
    path = FOLDER / f"{name}.jpg"
    fix = "restore it with `git checkout -- datasets/photographs`"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: {fix}")
    with path.open("rb") as file:
        content = file.read(LARGEST)
    if hashlib.sha256(content).hexdigest() not in (FOLDER / "checksums.sha256").read_text(encoding="ascii"):
        raise ValueError(f"{path} is not the file that ships with the course: {fix}")
    pixels = np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    if size is None:
        return pixels
    top, left = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return pixels[top : top + size, left : left + size]
