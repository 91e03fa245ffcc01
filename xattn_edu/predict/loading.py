"""Segmenters from files: a published LAVT of any size, or weights that `xattn reproduce` stored."""

import argparse
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xattn_edu.data import scenes as referring_scenes
from xattn_edu.experiments import referring
from xattn_edu.files import first_line
from xattn_edu.machine import choose_device
from xattn_edu.models.language import SmallBert, build_tokenizer, load_tokenizer
from xattn_edu.models.lavt import LAVT, lavt_swin
from xattn_edu.predict.segmenter import DEVIATION, LENGTH, MEAN, SIZE, TOKENIZER, Segmenter
from xattn_edu.weights import lavt_from_published

OWN = {"referring": referring.REFERRING_SIZES, "lavt": referring.LAVT_SIZES}  # experiments that leave weights
FIXED = {"image", "patch", "width", "depths", "words", "fusion", "word_layers", "positions"}  # of a size, in its record


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
        state = lavt_from_published(content, window)
        model = _empty_lavt(state, word_heads, bert_heads)
        model.load_state_dict(state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (RuntimeError, IndexError, KeyError, AttributeError, TypeError) as error:  # shapes that fit no LAVT
        raise ValueError(f"{path} holds no published LAVT: {first_line(error)}") from error
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
        raise ValueError(f"{path} cannot be read ({first_line(error)}): is it complete?") from None
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
            f"{record} is no record of a model that segments ({first_line(error)}): these come from "
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
            f"{path} holds no weights of {name}, profile {profile} ({first_line(error)}): {remedy}"
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
