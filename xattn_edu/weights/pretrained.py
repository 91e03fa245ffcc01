"""Models with the weights that their authors published: `load_pretrained("crossvit_small_240")`."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor, nn

from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.registry import create_model, list_models
from xattn_edu.weights.crossvit import (
    crossvit_from_published,
    crossvit_from_timm,
    crossvit_to_published,
    crossvit_to_timm,
)
from xattn_edu.weights.hub import cached_or_fetched
from xattn_edu.weights.names import prefix_hint, shorten, unwrapped
from xattn_edu.weights.reading import read_weights

_FORMS = {  # a name that only this form has: conversion from it and to it
    "pos_embed_0": (crossvit_from_timm, crossvit_to_timm),
    "pos_embed.0": (crossvit_from_published, crossvit_to_published),
}


def load_pretrained(name: str, file: str | os.PathLike[str] | None = None) -> nn.Module:
    """A CrossViT with its authors' ImageNet weights, in eval mode.

    `file` is a file from timm or from the published code, also one that a training script wrote: see `read_weights`.
    Without `file` the weights come from the
    hub's repository timm/NAME.in1k and are kept in huggingface_hub's cache.

    The model expects RGB in [0, 1]: the shorter side resized to 274 pixels (bicubic) and the middle 240 x 240 cut out
    (a crop of 0.875; the models named 408: resized to 408, the middle 408 x 408), minus the mean (0.485, 0.456, 0.406),
    divided by the deviation (0.229, 0.224, 0.225).

    Raises ValueError for a name without published weights and for a file that does not hold them, FileNotFoundError if
    there is no file, OSError if the hub cannot be reached. With HF_HUB_OFFLINE=1 only the cache is used.
    """
    model = create_model(name)
    if not isinstance(model, CrossViT):
        known = ", ".join(list_models("crossvit_*"))
        raise ValueError(
            f"load_pretrained knows the weights of {known}; not of {name!r}: for DeiT, see "
            "weights.vit_from_transformers"
        )
    path = _download(name) if file is None else Path(file)
    state = unwrapped(read_weights(path).parts["model"])
    form = next((form for form in _FORMS if form in state), None)
    if form is None:
        hint = "".join(prefix_hint(state, [form]) for form in _FORMS)
        if "small.positions" in state:
            hint = "; these are our own names: model.load_state_dict takes them as they are"
        raise ValueError(
            f"{path} holds no CrossViT of timm or of the published code, but {shorten(list(state)) or 'nothing'}{hint}"
        )
    convert_from, convert_to = _FORMS[form]
    _check_names(path, state, name, convert_to(model.state_dict()))
    model.load_state_dict(convert_from(state))
    return model.eval()


def _download(name: str) -> Path:
    """The hub's file in the local cache, downloaded if it is not there."""
    from huggingface_hub import hf_hub_download

    repository, file = f"timm/{name}.in1k", "model.safetensors"
    what = f"no weights for {name}: {file} of the hub's {repository}"
    advice = f"Try again online, or get that file and name it: load_pretrained({name!r}, file=...)"
    return Path(cached_or_fetched(partial(hf_hub_download, repository, file), what, advice))


def _check_names(path: Path, state: Mapping[str, Tensor], name: str, expected: Mapping[str, Tensor]) -> None:
    """Raises ValueError, with the names that the file has, if it is another model's."""
    wrong = [f"{key} is missing" for key in expected if key not in state]
    wrong += [f"{key} is not known" for key in state if key not in expected]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if wrong:
        raise ValueError(f"{path} is not a file of {name}: {shorten(wrong)}")
