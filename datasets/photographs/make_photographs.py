"""Make the two photographs from those in scikit-image's wheel.

    pip download --no-deps scikit-image==0.26.0 && unzip scikit_image-0.26.0-*.whl -d FOLDER
    python datasets/photographs/make_photographs.py FOLDER/skimage/data

The shorter side becomes 274 pixels, which is what CrossViT's evaluation makes of a photograph before it cuts out the
middle. Other versions of Pillow may write other bytes.
"""

import argparse
import hashlib
from pathlib import Path

from PIL import Image

from xattn_edu.data.photographs import NAMES, SHORTER


def make(source: Path, target: Path) -> None:
    """Write the photographs and their checksums into `target`."""
    lines = []
    for name, original in NAMES.items():
        picture = Image.open(source / f"{original}.png").convert("RGB")
        scale = SHORTER / min(picture.size)
        size = round(picture.width * scale), round(picture.height * scale)
        path = target / f"{name}.jpg"
        picture.resize(size, Image.Resampling.BICUBIC).save(path, quality=90, optimize=True)
        lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n")
    (target / "checksums.sha256").write_text("".join(lines), encoding="ascii", newline="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="the folder skimage/data of the unpacked wheel")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    make(arguments.source, arguments.target)
