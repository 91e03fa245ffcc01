"""A trained model in use: from a file of weights, a photograph and a sentence to a mask.

    segmenter = load_segmenter("lavt.pth")
    found = segmenter.predict(read_image("street.jpg"), "the man in red")
    found.mask                                    # (height, width) bool, of the photograph's own size

A model alone takes tensors. What makes them of pictures and words belongs to its training: the tokenizer, the size to
which images are squashed, the mean and deviation of their pixels. A `Segmenter` keeps these together. Two kinds of
files become one: a published LAVT, of any size, and the weights that `xattn reproduce` leaves in results/.
"""

import argparse
import json
import pickle
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from matplotlib.figure import Figure, FigureBase
from numpy import ndarray
from PIL import Image, ImageOps
from torch import Tensor, nn

from xattn_edu import convert
from xattn_edu.checkpoints import write_atomically
from xattn_edu.data import referring_scenes
from xattn_edu.experiments import referring
from xattn_edu.language import SmallBert, Tokenizer, build_tokenizer, load_tokenizer
from xattn_edu.lavt import LAVT, lavt_swin
from xattn_edu.plots import STYLE, attention_over_image, referent
from xattn_edu.profiles import choose_device
from xattn_edu.segmentation import predicted_masks, resize

SIZE = 480  # pixels: to 480 x 480 the published LAVT squashes every image
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels in 0..1, as published
LENGTH = 20  # word pieces, [CLS] and [SEP] among them, as published
TOKENIZER = "bert-base-uncased"
OWN = {"referring": referring.SIZES, "lavt": referring.LAVT_SIZES}  # experiments that leave weights
FIXED = {"image", "patch", "width", "depths", "words", "fusion", "word_layers", "positions"}  # of a size, in its record
SHOWN = 800  # pixels of the longer side in a picture
COLUMNS, SIDE = 6, 1.75  # word maps in a row of it, and their width in inches


class Prediction(NamedTuple):
    """What a model found, and how its pixels read the sentence."""

    mask: Bool[ndarray, "height width"]  # of the image's own size
    words: tuple[str, ...]  # [CLS], the words, [SEP]; those cut off after `LENGTH` pieces are missing
    weights: tuple[Float[ndarray, "row column word"], ...]  # of each stage (or decoder layer): see `predict`


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A model, called with (images, ids, mask, return_weights), and what makes its input of pictures and sentences.

    `known` are the words that the model has, if its vocabulary is closed; None for a BERT's, which knows most.
    """

    model: nn.Module
    tokenizer: Tokenizer
    size: int  # pixels: images become size x size
    mean: tuple[float, float, float]  # of red, green and blue, in 0..255
    deviation: tuple[float, float, float]
    known: frozenset[str] | None = None

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def pixels(self, image: ndarray) -> Float[Tensor, "3 size size"]:
        """An image (height, width, 3) uint8 as the model takes it: squashed to a square, bilinear, and standardised.

        Raises ValueError for anything else than such an image.
        """
        if not isinstance(image, ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            given = f"{getattr(image, 'dtype', type(image).__name__)} {np.shape(image)}"
            raise ValueError(f"an image is an array (height, width, 3) of uint8, given {given}: see read_image()")
        squashed = np.array(Image.fromarray(image).resize((self.size, self.size), Image.Resampling.BILINEAR))
        colours = torch.from_numpy(squashed).permute(2, 0, 1).float()
        return (colours - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.deviation)[:, None, None]

    def ids(self, sentences: list[str]) -> tuple[Int[Tensor, "batch word"], Bool[Tensor, "batch word"]]:
        """Sentences as the model takes them. A blank one, as a data set may hold, is [CLS] [SEP], as BERT's code has it."""
        blank = torch.tensor([not sentence.strip() for sentence in sentences])
        ids, mask = self.tokenizer([sentence if sentence.strip() else "a" for sentence in sentences], LENGTH)
        ids[blank, 1] = ids[blank, 2]  # [CLS] a [SEP]: what ended the sentence now follows its start
        mask[blank, 2] = False
        return ids, mask

    @torch.no_grad()
    def logits(self, images: Float[Tensor, "batch 3 size size"], sentences: list[str]) -> Tensor:
        """Logits (batch, 2, size, size) of images made by `pixels`, on the model's device."""
        ids, mask = self.ids(sentences)
        return self.model(images.to(self.device), ids.to(self.device), mask.to(self.device))

    @torch.no_grad()
    def predict(self, image: ndarray, sentence: str) -> Prediction:
        """The mask of what the sentence names in an image (height, width, 3) uint8.

        The logits are resized to the image's own size (bilinear, corners on corners) before they become a mask.
        `weights` say how much each pixel of a stage's grid reads of each word: the mean of the heads, the pieces of a
        word added up. Raises ValueError for what is no such image and for a blank sentence.
        """
        _check_sentence(sentence)
        words, pieces, _ = self._words(sentence)
        images = self.pixels(image)[None].to(self.device)
        ids, mask = self.ids([sentence])
        logits, weights = self.model(images, ids.to(self.device), mask.to(self.device), return_weights=True)
        stages = [stage[0].float().mean(dim=0).cpu().numpy() for stage in weights]
        joined = [np.stack([stage[..., places].sum(axis=-1) for places in pieces], axis=-1) for stage in stages]
        height, width = image.shape[:2]
        found = predicted_masks(resize(logits.float(), (height, width)))[0]
        return Prediction(found.cpu().numpy(), words, tuple(joined))

    def remarks(self, sentence: str) -> list[str]:
        """What a user should know before trusting a mask: words the model does not know, words it does not get to read.

        Of a closed vocabulary all words are unknown that are not in `known`, though they be cut into letters; of a
        BERT's those that became [UNK].
        """
        _check_sentence(sentence)
        words, pieces, end = self._words(sentence)
        said = []
        if self.known is not None:
            named = [word for word in words[1:-1] if word.lower() not in self.known and any(map(str.isalnum, word))]
            hint = f"it knows {len(self.known)} words, those of this course's scenes, and reads others letter by letter"
        else:
            tokens = self.tokenizer.tokens(self.ids([sentence])[0][0])
            named = [word for word, places in zip(words, pieces) if "[UNK]" in (tokens[place] for place in places)]
            hint = "its tokenizer has no pieces for that"
        if named:
            said.append(f"the model does not know {', '.join(map(repr, dict.fromkeys(named)))}: {hint}")
        if sentence[end:].strip():
            said.append(
                f"the model reads {LENGTH} pieces of an expression at most: {sentence[end:].strip()!r} is left out"
            )
        return said

    def _words(self, sentence: str) -> tuple[tuple[str, ...], list[list[int]], int]:
        """[CLS], the words as they were written, [SEP]; the places of the pieces of each; where the last word ends."""
        self.ids([sentence])  # from here on the tokenizer cuts off and pads as for the model
        encoding = self.tokenizer.backend.encode(sentence)
        counted = [place for place, counts in enumerate(encoding.attention_mask) if counts]
        word_ids = [-1 - place if word is None else word for place, word in enumerate(encoding.word_ids)]
        pieces = [list(places) for _, places in groupby(counted, key=lambda place: word_ids[place])]
        if len(pieces) < 3:
            raise ValueError(f"there is no word in the expression {sentence!r}")
        ends = [(encoding.offsets[places[0]][0], encoding.offsets[places[-1]][1]) for places in pieces]
        inner = [sentence[start:end] for start, end in ends[1:-1]]
        return (encoding.tokens[0], *inner, encoding.tokens[counted[-1]]), pieces, max(end for _, end in ends)


def _check_sentence(sentence: str) -> None:
    if not isinstance(sentence, str) or not sentence.strip():
        raise ValueError(f'an expression names a thing in the image, such as "the man in red", given {sentence!r}')


# --- from a file to a model


def load_segmenter(
    checkpoint: str | Path,
    *,
    tokenizer: str | None = None,
    size: int | None = None,
    word_heads: int | None = None,
    bert_heads: int | None = None,
    window: int | None = None,
    device: str = "auto",
) -> Segmenter:
    """A model in eval mode on a device, with all that makes its input.

    `checkpoint` is a published LAVT (.pth, .pt): `tokenizer` is then its BERT's, a folder or a name on the hub
    (bert-base-uncased, unless given), `size` the side of its images (480), and the rest as in `load_lavt`. Or weights
    of `xattn reproduce` (.safetensors): the record beside them (.json) says what they need, and all these stay None.
    Raises FileNotFoundError, OSError and ValueError, each with the file's name and the remedy.
    """
    path, place = Path(checkpoint).expanduser(), choose_device(device)
    given = {"tokenizer": tokenizer, "size": size, "word_heads": word_heads, "bert_heads": bert_heads, "window": window}
    _check_file(path)
    if path.suffix == ".safetensors":
        if chosen := [name for name, value in given.items() if value is not None]:
            raise ValueError(f"{chosen[0]} is for published checkpoints: what {path} needs is in its record")
        found = _load_own(path)
    else:
        if size is not None and size < 1:
            raise ValueError(f"size is the side of the images in pixels, 1 at least, given {size}")
        words = load_tokenizer(TOKENIZER if tokenizer is None else tokenizer)
        model = load_lavt(
            path, word_heads=1 if word_heads is None else word_heads, bert_heads=bert_heads, window=window
        )
        vocabulary = model.language.bert.config.vocab_size  # type: ignore[union-attr]
        if len(words) != vocabulary:
            raise ValueError(
                f"the tokenizer {tokenizer or TOKENIZER} has {len(words):,} pieces, the BERT in {path} {vocabulary:,}: "
                "name the one that it was trained with"
            )
        (r, g, b), (r_, g_, b_) = MEAN, DEVIATION
        found = Segmenter(
            model, words, SIZE if size is None else size, (255 * r, 255 * g, 255 * b), (255 * r_, 255 * g_, 255 * b_)
        )
    found.model.to(place).eval()
    return found


def load_lavt(
    checkpoint: str | Path, *, word_heads: int = 1, bert_heads: int | None = None, window: int | None = None
) -> LAVT:
    """The LAVT in a published checkpoint, in eval mode; its sizes are read off its tensors.

    Both published forms are read, BERT beside the model or in it, and only tensors and plain values: no code in the
    file is run. Two numbers are in no such file: `word_heads`, PWAM's (1, as published, unless given), and
    `bert_heads`, which by default are the BERT's width / 64, as in every published size. Another `window` than the
    file's resizes Swin's bias tables. Raises FileNotFoundError where there is no file, ValueError for one that is
    damaged or holds something else, and for numbers that do not fit.
    """
    path = Path(checkpoint).expanduser()
    _check_file(path)
    content = _read_published(path)
    try:
        state = convert.lavt_from_published(content, window)
        model = _empty_lavt(state, word_heads, bert_heads)
        model.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (RuntimeError, IndexError, KeyError, AttributeError, TypeError) as error:  # shapes that fit no LAVT
        raise ValueError(f"{path} holds no published LAVT: {_first_line(error)}") from error
    return model.eval()


def _empty_lavt(state: Mapping[str, Tensor], word_heads: int, bert_heads: int | None) -> LAVT:
    """A LAVT of the sizes that the tensors have, under our names."""
    stages = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("fusions."))
    blocks = [name.split(".") for name in state if name.startswith("image_encoder.stages.")]
    depths = [1 + max(int(block[4]) for block in blocks if int(block[2]) == stage) for stage in range(stages)]
    tables = [state[f"image_encoder.stages.{stage}.blocks.0.attention.bias_table"] for stage in range(stages)]
    patches = state["image_encoder.patch_embedding.projection.weight"].shape  # (width, channel, patch, patch)
    embedding = state["language.bert.embeddings.word_embeddings.weight"].shape  # (vocabulary, width)
    vocabulary, words = embedding[0], embedding[1]
    layers = {name.split(".")[4] for name in state if name.startswith("language.bert.encoder.layer.")}
    length = len(state["language.bert.embeddings.position_embeddings.weight"])
    if length < LENGTH:
        raise ValueError(f"its BERT has {length} positions, and an expression up to {LENGTH} pieces")
    bert_heads = max(1, words // 64) if bert_heads is None else bert_heads
    if bert_heads < 1 or words % bert_heads:
        raise ValueError(f"bert_heads must divide the BERT's width: {words} wide, {bert_heads} heads")
    return lavt_swin(
        patches[0],
        depths,
        [table.shape[1] for table in tables],
        window=(round(len(tables[0]) ** 0.5) + 1) // 2,
        patch=patches[2],
        channels=patches[1],
        language=SmallBert(vocabulary, words, len(layers), bert_heads, length),
        word_heads=word_heads,
        decoder_width=len(state["decoder.levels.0.0.0.weight"]),
    )


def _read_published(path: Path) -> Mapping[str, Any]:
    try:
        # Training scripts save their arguments beside the weights: a Namespace, which holds values and does nothing.
        with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which could be code and is not run: if you trust it, load "
            'it with torch.load(weights_only=False) and save its ["model"] and ["bert_model"] alone'
        ) from None
    except Exception as error:  # noqa: BLE001 - each version of torch has its own words for a damaged file
        raise ValueError(f"{path} cannot be read ({_first_line(error)}): is it complete?") from None
    parts = [content.get(name, {}) for name in ("model", "bert_model")] if isinstance(content, Mapping) else [None]
    if not all(isinstance(part, Mapping) for part in parts):
        raise ValueError(f"{path} holds no state dict, tensors by name, but a {type(content).__name__}")
    return content


def _load_own(path: Path) -> Segmenter:
    """Weights that `xattn reproduce` stored, by the record beside them."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    record = path.with_suffix(".json")
    if not record.is_file():
        raise FileNotFoundError(f"{record} is missing: it lies beside the weights and says which model they are of")
    try:
        content = json.loads(record.read_bytes())
        experiment, config = content["experiment"], content["config"]
        name, profile = config["model"], config["profile"]
        make, size = referring.MODELS[name], OWN[experiment][profile]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{record} is no record of a model that segments ({_first_line(error)}): these come from "
            f"{' and '.join(f'`xattn reproduce {experiment}`' for experiment in OWN)}"
        ) from error
    remedy = f"make them again with `xattn reproduce {experiment} --seeds 1 --profile {profile}`"
    now = json.loads(json.dumps(vars(size)))
    # A width would not fit and be noticed, but whether there are positions is written in no weight.
    if changed := [key for key in sorted(FIXED & config.keys()) if config[key] != now[key]]:
        raise ValueError(
            f"{path} was made when {changed[0]} was {config[changed[0]]}, now it is {now[changed[0]]}: {remedy}"
        )
    words = referring_scenes.vocabulary("english")
    tokenizer = build_tokenizer(words)
    model = make(size, len(tokenizer))
    try:
        model.load_state_dict(load_file(path))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ValueError(
            f"{path} holds no weights of {name}, profile {profile} ({_first_line(error)}): {remedy}"
        ) from error
    mean, deviation = referring_scenes.MEAN, referring_scenes.DEVIATION
    return Segmenter(model, tokenizer, size.image, (mean,) * 3, (deviation,) * 3, frozenset(words))


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is no file: a checkpoint is a published .pth or .pt, or a .safetensors of results/"
        )
    if path.suffix not in (".pth", ".pt", ".safetensors"):
        raise ValueError(f"a checkpoint is a published .pth or .pt, or a .safetensors of results/, given {path}")


def _first_line(error: Exception) -> str:
    """An error's name and its first line, or two where the first only announces them."""
    return ": ".join([type(error).__name__, *(line.strip() for line in str(error).splitlines()[:2])]).rstrip(":")


# --- pictures in and out


def read_image(path: str | Path) -> ndarray:
    """An image file as (height, width, 3) uint8, of any kind that Pillow reads.

    It is turned as its EXIF data says, transparency lies on white, grey becomes three equal channels, 16 bits become 8,
    and of an animation the first frame counts. Raises FileNotFoundError where there is no file, ValueError for one that
    is no sound image or has more pixels than Pillow trusts (89 million).
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: name an image, such as a .jpg or .png")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
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
        raise ValueError(f"{path} is no image that can be read ({_first_line(error)})") from error


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
    """Write the `picture` of what a model finds in an image file; the share of the image it marks, and its `remarks`.

    `model` are the arguments of `load_segmenter`. `out` is written whole or not at all. Raises FileExistsError if it is
    there and not `force`, ValueError for another type than .png, and the errors of the steps; what can be told without
    the model is told before that is read.
    """
    out = Path(out).expanduser()
    _check_sentence(sentence)
    if out.suffix.lower() != ".png":
        raise ValueError(f"the picture is a PNG: its name must end in .png, given {out}")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent}, where {out.name} should go, is no folder: make it first")
    if out.exists() and not force:
        raise FileExistsError(f"{out} is there already: name another file, or overwrite it with --force (force=True)")
    photograph = read_image(image)
    segmenter = load_segmenter(checkpoint, **model)
    found = segmenter.predict(photograph, sentence)
    write_atomically(out, picture(photograph, sentence, found, stage))
    return float(found.mask.mean()), segmenter.remarks(sentence)


def picture(image: ndarray, sentence: str, found: Prediction, stage: int | None = None) -> bytes:
    """A PNG: the image, the mask that was found painted on it, and for each word how much the pixels read of it.

    Stages (for a model fused in its decoder: the decoder's layers) are numbered from 1, finest first; without `stage`
    it is the last but one. A square of a map is a pixel of the stage. It lights up where it reads more of a word than
    an even share of all; [CLS] and [SEP], which are read as words are, have maps of their own. Raises ValueError for a
    stage that the model does not have.
    """
    count = len(found.weights)
    stage = max(1, count - 1) if stage is None else stage
    if not 1 <= stage <= count:
        raise ValueError(f"the model has the stages 1 to {count}, given {stage}")
    rows = -(-len(found.words) // COLUMNS)
    shown = _smaller(image, SHOWN)
    tall = min(max(shown.shape[0] / shown.shape[1], 0.3), 2.0)  # of the room for it, however long the image is
    heights = [SIDE * COLUMNS / 2 * tall + 0.55, rows * (SIDE * tall + 0.3) + 0.35]  # inches
    with plt.rc_context(STYLE):
        figure = Figure(figsize=(SIDE * COLUMNS, sum(heights)))
        above, below = figure.subfigures(2, 1, height_ratios=heights, squeeze=False)[:, 0]
        left, right = above.subplots(1, 2)
        referent(shown, ax=left)
        referent(shown, predicted=_smaller(found.mask.astype(np.uint8), SHOWN), ax=right)
        share = f"found: {found.mask.mean():.1%} of the image" if found.mask.any() else "nothing was found"
        for ax, title in ((left, textwrap.fill(sentence, 45)), (right, share)):
            ax.set_title(title, fontsize=11, loc="left", parse_math=False)
        _word_maps(below, _smaller(image, SHOWN // 2), found, stage, rows)
        file = BytesIO()
        figure.savefig(file, format="png", dpi=150)
    return file.getvalue()


def _word_maps(figure: FigureBase, image: ndarray, found: Prediction, stage: int, rows: int) -> None:
    weights, even = found.weights[stage - 1], 1 / len(found.words)
    # Not below twice an even share: where no pixel prefers a word, all stays dark.
    full = max(float(weights.max()), 2 * even)
    for place, ax in enumerate(figure.subplots(rows, COLUMNS, squeeze=False).ravel()):
        ax.set_axis_off()
        if place < len(found.words):
            attention_over_image(image, weights[..., place] - even, full=full - even, ax=ax)
            ax.set_title(found.words[place], fontsize=10, loc="center", parse_math=False)
    alike = np.ptp(weights, axis=(0, 1)).max() < 1e-6  # so it is in a model without PWAM
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
