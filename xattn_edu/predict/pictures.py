"""An image and a sentence from a file to a mask and a picture of it."""

import textwrap
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure, FigureBase
from numpy import ndarray
from PIL import ExifTags, Image

from xattn_edu.files import check_folder_of, expanded, first_line, write_atomically
from xattn_edu.fonts import fonts_for, without_font, written
from xattn_edu.models.language import clean
from xattn_edu.plots import STYLE, attention_over_image, referent
from xattn_edu.predict.loading import load_segmenter
from xattn_edu.predict.segmenter import Prediction, check_sentence

LONGEST_SIDE = 800  # pixels of the photograph in a picture, at most
COLUMNS = 6  # word maps in a row
MAP_WIDTH = 1.75  # inches, of a word map
_BITS, _MEANING = 258, 262  # tags of a TIFF: bits of a number; which number is white
_TURNS = {  # what shows an image upright, by its orientation in the EXIF data
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")  # how EPS files begin: programs, which Pillow has Ghostscript run


# --- pictures in and out


def read_image(path: str | Path) -> ndarray:
    """An image file as (height, width, 3) uint8, of any kind that Pillow reads.

    - Colours (RGB, CMYK, YCbCr, LAB, HSV, palettes) become RGB. Colour profiles are not applied, as in the readers of
      the published data sets.
    - Grey becomes three equal channels. White is 255 in 8 bits, 65535 in 16 bits, the largest number of 12 bits, and 1
      in floats. No image is stretched: a dark one stays dark. Whole numbers of 32 bits are read as 16 bits; if none is
      above 255, they could also be 8 bits, and the image is refused.
    - Transparent pixels are shown on white.
    - The image is rotated as its EXIF data says. Damaged EXIF data, profiles and comments are left out.
    - Of an animation or of several pages the first one is taken.

    Raises FileNotFoundError if there is no file. Raises ValueError for a file that is damaged or no image, for more
    pixels than Pillow trusts (89 million), for floats that are not all in 0..1 (NaN and infinity among them), and for
    whole numbers outside 0..65535. No program is run: PostScript is refused.
    """
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: name an image, such as a .jpg or .png")
    with open(path, "rb") as file:
        if file.read(4).startswith(POSTSCRIPT):
            raise ValueError(f"{path} is PostScript, a program that would have to be run: save the image as a PNG")
    try:
        with warnings.catch_warnings(action="ignore"):  # about damaged metadata
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                image.verify()  # the checksums of a PNG, which are not compared when it is decoded
            with Image.open(path) as image:
                image.load()
                if image.mode[0] not in "IF":
                    return np.array(_on_white(_turned(image)))
                grey = np.array(_turned(image))
                kept = image.info.get("transparency"), dict(getattr(image, "tag_v2", {}))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} has more pixels than Pillow trusts ({error}): make the image smaller") from error
    except Exception as error:  # noqa: BLE001 - each format's reader has its own words for what is wrong
        raise ValueError(f"{path} is no image that can be read ({first_line(error)})") from error
    try:
        return _eight_bits(grey, *kept)[..., None].repeat(3, axis=2)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _turned(image: Image.Image) -> Image.Image:
    """The image as its EXIF data wants it shown, or as it is stored if they are damaged.

    ImageOps.exif_transpose also writes the EXIF data anew, which fails for data that can be read but not written.
    """
    try:
        turn = _TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # noqa: BLE001 - each kind of damage has an error of its own
        return image
    return image if turn is None else image.transpose(turn)


def _on_white(image: Image.Image) -> Image.Image:
    """An image of 8 bits in RGB; what is transparent in it becomes white."""
    if image.mode == "La":  # colours that are multiplied by their opacity
        image = image.convert("LA")
    if image.mode[-1] in "Aa" or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _eight_bits(grey: ndarray, transparent: int | None, tags: Mapping[int, Any]) -> ndarray:
    """Grey (height, width) of other numbers than 8 bits as uint8. Raises ValueError if its white is not known.

    Args:
        grey: as Pillow reads it: uint16, int32 or float32.
        transparent: the grey that is transparent, if there is one.
        tags: of a TIFF, its tags by number; empty for other formats.
    """
    low, high = grey.min(), grey.max()  # NaN if there is one
    if grey.dtype.kind == "f":
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"its grey values are floats from {low:.4g} to {high:.4g}, and floats are read where 0 is black and 1 "
                "is white: scale them, without NaN, or save the image with 8 or 16 bits"
            )
        eight = np.rint(255 * grey)
    else:
        bits = tags.get(_BITS, (16,))[0]
        if low < 0 or high > 65535 or (bits > 16 and 0 < high <= 255):
            raise ValueError(
                f"its grey values are whole numbers of {bits} bits from {low} to {high}, which do not show what white "
                "is: save the image with 8 or 16 bits"
            )
        eight = 255 * grey.astype(np.int64) // (2 ** min(bits, 16) - 1)
    if tags.get(_MEANING) == 0:  # of a TIFF whose white is 0, which Pillow turns round for 8 bits alone
        eight = 255 - eight
    return np.where(grey == transparent, 255, eight).astype(np.uint8)


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
    out = expanded(out)
    check_sentence(sentence)
    if out.suffix.lower() != ".png":
        raise ValueError(f"the picture is a PNG: its name must end in .png, given {out}")
    check_folder_of(out)
    _check_free(out, force)
    photograph = read_image(image)
    segmenter = load_segmenter(checkpoint, **model)
    found = segmenter.predict(photograph, sentence)
    remarks = segmenter.remarks(sentence)
    with warnings.catch_warnings():
        if lost := fonts_for(clean(sentence)).lost:  # one remark instead of a warning for each word
            warnings.simplefilter("ignore")
            remarks.append(without_font(lost))
        png = picture(photograph, sentence, found, stage)
    _check_free(out, force)  # again: another process may have written it meanwhile
    write_atomically(out, png)
    return float(found.mask.mean()), remarks


def _check_free(out: Path, force: bool) -> None:
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already: name another file, or overwrite it with force=True")


def picture(image: ndarray, sentence: str, found: Prediction, stage: int | None = None) -> bytes:
    """A PNG: the image, the image with the mask painted on it, and a map for each word: how much pixels read of it.

    Stages (of a model fused in its decoder: the decoder's layers) are numbered from 1, finest first; the default is the
    last but one. A square of a map is a pixel of the stage. It is bright where it reads more of a word than an even
    share. [CLS] and [SEP] have maps of their own, because pixels read them like words. Raises ValueError for a stage
    that the model does not have. A letter that no installed font has is a box, and a warning names it.
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
        for ax, title in ((left, textwrap.fill(clean(sentence), 45)), (right, share)):
            text, font = written(title)
            ax.set_title(text, fontsize=11, loc="left", parse_math=False, **font)
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
            text, font = written(found.words[place])
            ax.set_title(text, fontsize=10, loc="center", parse_math=False, **font)
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
