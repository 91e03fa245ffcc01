"""An image and a sentence from a file to a mask and a picture of it."""

import textwrap
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure, FigureBase
from numpy import ndarray
from PIL import Image, ImageOps

from xattn_edu.files import check_folder_of, first_line, write_atomically
from xattn_edu.plots import STYLE, attention_over_image, referent
from xattn_edu.predict.loading import load_segmenter
from xattn_edu.predict.segmenter import Prediction, check_sentence

LONGEST_SIDE = 800  # pixels of the photograph in a picture, at most
COLUMNS = 6  # word maps in a row
MAP_WIDTH = 1.75  # inches, of a word map


# --- pictures in and out


def read_image(path: str | Path) -> ndarray:
    """An image file as (height, width, 3) uint8, of any kind that Pillow reads.

    It is rotated as its EXIF data says. Transparent pixels are shown on white, grey becomes three equal channels, 16
    bits become 8, and of an animation the first frame is taken. Raises FileNotFoundError if there is no file,
    ValueError for a file that is damaged or no image, and for more pixels than Pillow trusts (89 million).
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: name an image, such as a .jpg or .png")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                if file.format == "EPS":  # Pillow would give it to Ghostscript, which runs it
                    raise ValueError("PostScript is a program: convert it to PNG first")
                file.verify()  # the checksums of a PNG, which are not compared when it is decoded
            with Image.open(path) as file:
                image = ImageOps.exif_transpose(file)
                if image.mode[0] in "IF":  # grey of 16 bits or more, which Pillow would cut off at 255
                    grey = np.asarray(image, dtype=float)
                    image = Image.fromarray((grey / (257 if grey.max() > 255 else 1)).clip(0, 255).astype(np.uint8))
                if image.mode[-1] in "Aa" or "transparency" in image.info:
                    image = image.convert("RGBA")
                    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
                return np.array(image.convert("RGB"))
    except Exception as error:  # noqa: BLE001 - each format's reader has its own words for what is wrong
        raise ValueError(f"{path} is no image that can be read ({first_line(error)})") from error


def segment_file(
    image: str | Path,
    sentence: str,
    checkpoint: str | Path,
    out: str | Path,
    *,
    stage: int | None = None,
    force: bool = False,
    **model: Any,
) -> tuple[float, list[str]]:
    """Write the `picture` of what a model finds in an image file; returns the mask's share of the image, and `remarks`.

    `out` is written whole or not at all. Errors that do not depend on the model are raised before it is loaded.
    Raises FileExistsError if `out` exists and `force` is False, ValueError for another type than .png, and the errors
    of `read_image`, `load_segmenter`, `Segmenter.predict` and `picture`.

    Args:
        image: the image file.
        sentence: what to find in it.
        checkpoint: the file of weights.
        out: the PNG to write.
        stage: whose word maps are drawn, see `picture`.
        force: overwrite `out`.
        model: further arguments of `load_segmenter`.
    """
    out = Path(out).expanduser()
    check_sentence(sentence)
    if out.suffix.lower() != ".png":
        raise ValueError(f"the picture is a PNG: its name must end in .png, given {out}")
    check_folder_of(out)
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already: name another file, or overwrite it with --force (force=True)")
    photograph = read_image(image)
    segmenter = load_segmenter(checkpoint, **model)
    found = segmenter.predict(photograph, sentence)
    write_atomically(out, picture(photograph, sentence, found, stage))
    return float(found.mask.mean()), segmenter.remarks(sentence)


def picture(image: ndarray, sentence: str, found: Prediction, stage: int | None = None) -> bytes:
    """A PNG: the image, the image with the mask painted on it, and a map for each word: how much pixels read of it.

    Stages (of a model fused in its decoder: the decoder's layers) are numbered from 1, finest first; the default is the
    last but one. A square of a map is a pixel of the stage. It is bright where it reads more of a word than an even
    share. [CLS] and [SEP] have maps of their own, because pixels read them like words. Raises ValueError for a stage
    that the model does not have.
    """
    count = len(found.weights)
    stage = max(1, count - 1) if stage is None else stage
    if not 1 <= stage <= count:
        raise ValueError(f"the model has the stages 1 to {count}, given {stage}")
    rows = -(-len(found.words) // COLUMNS)
    shown = _smaller(image, LONGEST_SIDE)
    ratio = min(max(shown.shape[0] / shown.shape[1], 0.3), 2.0)  # height / width of the room for an image
    heights = [MAP_WIDTH * COLUMNS / 2 * ratio + 0.55, rows * (MAP_WIDTH * ratio + 0.3) + 0.35]  # inches
    with plt.rc_context(STYLE):
        figure = Figure(figsize=(MAP_WIDTH * COLUMNS, sum(heights)))
        above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
        left, right = above.subplots(1, 2)
        referent(shown, ax=left)
        referent(shown, predicted=_smaller(found.mask.astype(np.uint8), LONGEST_SIDE), ax=right)
        share = f"found: {found.mask.mean():.1%} of the image" if found.mask.any() else "nothing was found"
        for ax, title in ((left, textwrap.fill(sentence, 45)), (right, share)):
            ax.set_title(title, fontsize=11, loc="left", parse_math=False)
        _word_maps(below, _smaller(image, LONGEST_SIDE // 2), found, stage, rows)
        file = BytesIO()
        figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _word_maps(figure: FigureBase, image: ndarray, found: Prediction, stage: int, rows: int) -> None:
    weights, even = found.weights[stage - 1], 1 / len(found.words)
    # At least twice an even share, so that a map stays dark if no pixel prefers a word.
    full = max(float(weights.max()), 2 * even)
    for place, ax in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).ravel()):
        ax.set_axis_off()
        if place < len(found.words):
            attention_over_image(image, weights[..., place] - even, full=full - even, ax=ax)
            ax.set_title(found.words[place], fontsize=10, loc="center", parse_math=False)
    alike = np.ptp(weights, axis=(0, 1)).max() < 1e-6  # as in a model without PWAM
    figure.suptitle(
        f"stage {stage} of {len(found.weights)}: every pixel reads the words alike"
        if alike
        else f"what the pixels of stage {stage} of {len(found.weights)} read: dark, an even share of the words "
        f"({even:.2f}) or less; bright, {full:.2f}",
        fontsize=10,
        x=0.005,
        ha="left",
    )


def _smaller(image: ndarray, side: int) -> ndarray:
    """An image (height, width, 3) or a mask (height, width), uint8, with no side longer than `side`."""
    pillow = Image.fromarray(image)
    pillow.thumbnail((side, side), Image.Resampling.NEAREST if image.ndim == 2 else Image.Resampling.BICUBIC)
    return np.array(pillow)
