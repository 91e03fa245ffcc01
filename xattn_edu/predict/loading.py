"""Segmenters from files: a published LAVT of any size, or weights that `xattn reproduce` stored."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.files import first_line
from xattn_edu.machine import choose_device
from xattn_edu.models.builders import build_model
from xattn_edu.models.language import LENGTH
from xattn_edu.models.lavt import LAVT
from xattn_edu.predict.segmenter import DEVIATION, MEAN, SIZE, TOKENIZER, Segmenter
from xattn_edu.weights.description import ModelDescription
from xattn_edu.weights.language import load_tokenizer
from xattn_edu.weights.lavt import lavt_arguments, lavt_from_published
from xattn_edu.weights.reading import check_weight_file, is_safetensors, read_weights


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

    Raises FileNotFoundError, OSError and ValueError, each with the name of the file and the likely fix.

    Args:
        checkpoint: a published LAVT (.pth, .pt), or weights of `xattn reproduce` (.safetensors). The latter describe
            themselves, so that the arguments from `tokenizer` to `window` must be None.
        tokenizer: of the LAVT's BERT, a folder or a name on the hub; bert-base-uncased if not given.
        size: images are squashed to size x size pixels; 480 if not given.
        word_heads: as in `load_lavt`.
        bert_heads: as in `load_lavt`.
        window: as in `load_lavt`.
        device: "auto", or a device of torch.
    """
    path, place = check_weight_file(checkpoint), choose_device(device)
    if is_safetensors(path):
        given = {"tokenizer": tokenizer, "size": size, "word_heads": word_heads, "bert_heads": bert_heads}
        if chosen := [name for name, value in (given | {"window": window}).items() if value is not None]:
            raise ValueError(f"{chosen[0]} is for published checkpoints: {path} says itself what its model needs")
        found = _load_described(path)
    else:
        found = _load_published(
            path,
            TOKENIZER if tokenizer is None else tokenizer,
            SIZE if size is None else size,
            1 if word_heads is None else word_heads,
            bert_heads,
            window,
        )
    found.model.to(place).eval()
    return found


def load_lavt(
    checkpoint: str | Path, *, word_heads: int = 1, bert_heads: int | None = None, window: int | None = None
) -> LAVT:
    """The LAVT in a published checkpoint, in eval mode. Its sizes are read from its tensors.

    Both published forms are read, with BERT beside the model or in it. No code in the file is run. Two numbers are in
    no such file: `word_heads`, PWAM's heads (1 in the published model), and `bert_heads`, by default the BERT's width
    / 64, as in every published size. Another `window` than the file's resizes Swin's bias tables. Raises
    FileNotFoundError if there is no file, ValueError for a file that is damaged or holds something else, and for
    numbers that do not fit.
    """
    path = check_weight_file(checkpoint)
    parts = read_weights(path).parts
    try:
        state = lavt_from_published(parts, window)
        arguments = lavt_arguments(state, word_heads, bert_heads)
        if (length := arguments["language"]["length"]) < LENGTH:
            raise ValueError(f"its BERT has {length} positions, and an expression up to {LENGTH} pieces")
        model = _with_weights(partial(build_model, "LAVT", **arguments), state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (RuntimeError, IndexError, KeyError, AttributeError, TypeError) as error:  # shapes that fit no LAVT
        raise ValueError(f"{path} holds no published LAVT: {first_line(error)}") from error
    assert isinstance(model, LAVT)  # for the type checker
    return model.eval()


def _load_published(
    path: Path, tokenizer: str, size: int, word_heads: int, bert_heads: int | None, window: int | None
) -> Segmenter:
    if size < 1:
        raise ValueError(f"size is the side of the images in pixels, 1 at least, given {size}")
    words = load_tokenizer(tokenizer)
    model = load_lavt(path, word_heads=word_heads, bert_heads=bert_heads, window=window)
    vocabulary = model.language.bert.config.vocab_size  # type: ignore[union-attr]
    if len(words) != vocabulary:
        raise ValueError(
            f"the tokenizer {tokenizer} has {len(words):,} pieces, the BERT in {path} {vocabulary:,}: name the one "
            "that it was trained with"
        )
    return Segmenter(model, words, size, MEAN, DEVIATION)


def _load_described(path: Path) -> Segmenter:
    """Weights that `xattn reproduce` stored, by the description in them."""
    parts, metadata = read_weights(path)
    try:
        description = ModelDescription.from_metadata(metadata)
        if description is None:
            raise ValueError("it does not describe its model")
        if (layers := _layers(description.arguments)) > len(parts["model"]):
            raise ValueError(f"it describes {layers:,} layers, and has {len(parts['model']):,} tensors")
        tokenizer, model = description.tokenizer(), _with_weights(description.build, parts["model"])
    except (ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError, ArithmeticError) as error:
        raise ValueError(
            f"{path} holds no model that segments ({first_line(error)}): make it again with `xattn reproduce`"
        ) from error
    return Segmenter(
        model,
        tokenizer,
        description.image_size,
        description.mean,
        description.deviation,
        description.length,
        frozenset(description.words),
    )


def _with_weights(build: Callable[[], nn.Module], state: Mapping[str, Tensor]) -> nn.Module:
    """A model with its weights. It is built without memory first, because a file can describe a model of any size."""
    with torch.device("meta"):
        build().load_state_dict(state, assign=True)  # raises for tensors of other shapes
    model = build()
    model.load_state_dict(state)
    return model


def _layers(arguments: Any) -> int:
    """How many layers the arguments of a model announce."""
    if not isinstance(arguments, dict):
        return 0
    counted = [arguments[name] for name in ("depths", "depth", "layers") if name in arguments]
    return sum(map(_layers, arguments.values())) + sum(sum(c) if isinstance(c, list) else c for c in counted)
