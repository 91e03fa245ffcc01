"""Models with the weights that their authors published: `load_pretrained("crossvit_small_240")`."""

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from xattn_edu.files import first_line
from xattn_edu.models.crossvit import CrossViT
from xattn_edu.models.registry import create_model, list_models
from xattn_edu.weights import (
    crossvit_from_published,
    crossvit_from_timm,
    crossvit_to_published,
    crossvit_to_timm,
)
from xattn_edu.weights.names import shorten

_FORMS = {  # a name that only this form has; conversion both ways
    "pos_embed_0": (crossvit_from_timm, crossvit_to_timm),
    "pos_embed.0": (crossvit_from_published, crossvit_to_published),
}


def load_pretrained(name: str, file: str | os.PathLike[str] | None = None) -> nn.Module:
    """A CrossViT with its authors' ImageNet weights, ready to classify.

    Without `file` they come from the hub, repository timm/NAME.in1k, once; afterwards they are in huggingface_hub's
    cache. `file` is a .safetensors or .pth file of timm's or of the published code.

    The model expects RGB in [0, 1], the shorter side resized to 274 pixels (bicubic) and the middle 240 x 240 cut out
    (a crop of 0.875; the models named 408: resized to 408, the middle 408 x 408), then less the mean (0.485, 0.456,
    0.406) and divided by the deviation (0.229, 0.224, 0.225).

    Raises ValueError for a name without published weights and for a file that does not hold them, OSError where there
    is no file, or no way to the hub. With HF_HUB_OFFLINE=1 only the cache is looked at.
    """
    model = create_model(name)
    if not isinstance(model, CrossViT):
        known = ", ".join(list_models("crossvit_*"))
        raise ValueError(
            f"load_pretrained knows the weights of {known}; not of {name!r}: for DeiT, see convert.vit_from_transformers"
        )
    path = _download(name) if file is None else Path(file)
    state = _read(path)
    form = next((form for form in _FORMS if form in state), None)
    if form is None:
        raise ValueError(
            f"{path} holds no CrossViT of timm or of the published code, but {shorten(list(state)) or 'nothing'} "
            "(weights of this course's own CrossViT need no conversion: model.load_state_dict)"
        )
    convert_from, convert_to = _FORMS[form]
    _check(path, state, name, convert_to(model.state_dict()))
    model.load_state_dict(convert_from(state))
    return model.eval()


def _download(name: str) -> Path:
    """Where the hub's file lies in the local cache; it is fetched if it does not."""
    repository, file = f"timm/{name}.in1k", "model.safetensors"
    try:
        from huggingface_hub import constants, get_session, hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError

        try:
            return Path(hf_hub_download(repository, file, local_files_only=True))
        except LocalEntryNotFoundError:
            # One short question, because hf_hub_download goes on asking an absent network for minutes.
            get_session().head(constants.ENDPOINT, timeout=10)
            return Path(hf_hub_download(repository, file))
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in there, what helps is the same
        raise OSError(
            f"no weights for {name}: {file} of the hub's {repository} is not in the cache and cannot be fetched "
            f"({first_line(error)}). Try again online, or get that file and name it: load_pretrained({name!r}, file=...)"
        ) from None


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by name; those under "model" where a training script wrapped them."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: file= names a .safetensors or .pth file")
    if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        raise ValueError(f"file= names a .safetensors or .pth file, given {path}")
    try:
        state = _load(path)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors, which could be code and is not run: if you trust it, "
            'load it with torch.load(weights_only=False) and save its ["model"] alone'
        ) from None
    except Exception as error:  # noqa: BLE001 - each library has its own words for a damaged file
        raise ValueError(f"{path} cannot be read ({first_line(error)}): is it complete?") from None
    if isinstance(state, Mapping) and isinstance(state.get("model"), Mapping):
        state = state["model"]
    if not isinstance(state, Mapping) or not all(
        isinstance(key, str) and isinstance(tensor, Tensor) for key, tensor in state.items()
    ):
        raise ValueError(f"{path} holds no state dict, tensors by name, but a {type(state).__name__}")
    return dict(state)


def _load(path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _check(path: Path, state: Mapping[str, Tensor], name: str, expected: Mapping[str, Tensor]) -> None:
    """Refuse another model's file, by the names that the file has."""
    wrong = [f"{key} is missing" for key in expected if key not in state]
    wrong += [f"{key} is not known" for key in state if key not in expected]
    wrong += [
        f"{key} is {tuple(state[key].shape)}, not {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if wrong:
        raise ValueError(f"{path} is not a file of {name}: {shorten(wrong)}")
