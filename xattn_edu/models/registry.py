"""Models by the names that practitioners know: `create_model("deit_small_patch16_224")`.

`_MODELS` holds, for each name, the class or function that builds the model and the arguments that make its size.
"""

import difflib
import fnmatch
import inspect
from collections.abc import Callable
from typing import Any

from torch import nn

from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.lavt import lavt_swin
from xattn_edu.models.swin import Swin
from xattn_edu.models.vit import ViT

_VIT = {  # width, depth, heads: Dosovitskiy et al. (2021), table 1; Touvron et al. (2021), table 1
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
_CROSSVIT = {  # widths of S and L, blocks of L in an encoder, heads, MLP ratio: Chen et al. (2021), table 1
    "tiny": ((96, 192), 4, 3, 4),
    "small": ((192, 384), 4, 6, 4),
    "base": ((384, 768), 4, 12, 4),
    "9": ((128, 256), 3, 4, 3),
    "15": ((192, 384), 5, 6, 3),
    "18": ((224, 448), 6, 7, 3),
}
_SWIN = {  # width, depths, heads: Liu et al. (2021), section 3.3, where a head has 32 channels
    "tiny": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "small": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "base": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
    "large": (192, (2, 2, 18, 2), (6, 12, 24, 48)),
}

_MODELS: dict[str, tuple[Callable[..., nn.Module], dict[str, Any]]] = {}


def _add_vit(name: str, size: str, patch: int) -> None:
    width, depth, heads = _VIT[size]
    _MODELS[name] = (ViT, {"image_size": 224, "patch": patch, "width": width, "depth": depth, "heads": heads})


for _size in _VIT:
    for _patch in (16, 32):
        _add_vit(f"vit_{_size}_patch{_patch}_224", _size, _patch)
for _size in ("tiny", "small", "base"):
    _add_vit(f"deit_{_size}_patch16_224", _size, 16)


def _add_crossvit(name: str, size: str, image_sizes: tuple[int, int], embedding: str) -> None:
    widths, depth, heads, mlp_ratio = _CROSSVIT[size]
    shape = {"image_sizes": image_sizes, "widths": widths, "depths": (1, depth), "heads": (heads, heads)}
    _MODELS[name] = (CrossViT, shape | {"mlp_ratio": mlp_ratio, "embedding": embedding})


for _size in _CROSSVIT:
    _add_crossvit(f"crossvit_{_size}_240", _size, (240, 224), "linear")
for _size in ("9", "15", "18"):
    _add_crossvit(f"crossvit_{_size}_dagger_240", _size, (240, 224), "convolutions")
for _size in ("15", "18"):
    _add_crossvit(f"crossvit_{_size}_dagger_408", _size, (408, 384), "convolutions")


def _add_swin(name: str, size: str, window: int) -> None:
    width, depths, heads = _SWIN[size]
    _MODELS[name] = (Swin, {"width": width, "depths": depths, "heads": heads, "window": window})


for _size in _SWIN:
    _add_swin(f"swin_{_size}_patch4_window7_224", _size, 7)
for _size in ("base", "large"):
    _add_swin(f"swin_{_size}_patch4_window12_384", _size, 12)


def _add_lavt(name: str, size: str, window: int) -> None:
    width, depths, heads = _SWIN[size]
    _MODELS[name] = (lavt_swin, {"width": width, "depths": depths, "heads": heads, "window": window})


for _size, _window in (
    ("tiny", 7),
    ("small", 7),
    ("base", 12),
    ("large", 12),
):  # the window that each size was pre-trained with
    _add_lavt(f"lavt_swin_{_size}", _size, _window)


def list_models(pattern: str = "*") -> list[str]:
    """The names that `create_model` takes, sorted; `pattern` may hold wildcards, as in "deit_*"."""
    return sorted(fnmatch.filter(_MODELS, pattern))


def create_model(name: str, **overrides: Any) -> nn.Module:
    """Build a model with random weights: `create_model("vit_base_patch16_224", classes=10)`.

    Names are timm's. `overrides` replace arguments of the model's class (see `ViT`, `CrossViT`, `Swin`). A Swin has no
    head: it returns its feature maps, for images of any size. A LAVT (see `lavt.lavt_swin`) also takes sentences, and
    has a whole BERT-base unless `language` is another encoder. Raises ValueError for an unknown name (the message lists
    the nearest ones), TypeError for an argument that the class does not have.
    """
    if name not in _MODELS:
        near = difflib.get_close_matches(name, _MODELS, n=3, cutoff=0.4)
        hint = f"did you mean {', '.join(near)}?" if near else "list_models() lists all names"
        raise ValueError(f"no model is called {name!r}: {hint}")
    build, arguments = _MODELS[name]
    known = inspect.signature(build).parameters
    if unknown := [argument for argument in overrides if argument not in known]:
        raise TypeError(
            f"{build.__name__} has no argument {', '.join(unknown)}: it has {', '.join(known)} "
            "(to load published weights, see xattn_edu.weights)"
        )
    return build(**(arguments | overrides))
