"""One reader for all files of weights. No code in a file is ever run."""

import argparse
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from xattn_edu.files import expanded, first_line
from xattn_edu.weights.names import shorten, taken_out

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".tar")  # in capitals as well; timm writes .pth.tar
BERT = "bert_model"  # where the published LAVT has its BERT, beside "model"


class WeightFile(NamedTuple):
    """The content of a file of weights."""

    parts: dict[str, dict[str, Tensor]]  # the state dict at "model", wherever the file has it; LAVT's at "bert_model"
    metadata: dict[str, str]  # of a .safetensors file; empty for the others


def check_weight_file(path: str | Path) -> Path:
    """The path, with "~" expanded. Raises FileNotFoundError if there is no file, ValueError for another suffix."""
    path = expanded(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file: name a file of weights ({', '.join(SUFFIXES)})")
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"a file of weights ends in {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}, given {path}")
    return path


def is_safetensors(path: Path) -> bool:
    """Whether a file is one of safetensors, by its suffix."""
    return path.suffix.lower() == ".safetensors"


def read_weights(path: str | Path) -> WeightFile:
    """The tensors of a file, on the CPU, and its metadata.

    Besides the state dict, a file of torch.save may hold an optimizer's, plain values and an argparse.Namespace, as
    training scripts save them; they are left out. So is a moving average of the weights (EMA), if the weights
    themselves are there. Names of tensors stay as they are: `names.unwrapped` takes prefixes off.

    The checksums in a .pth file are compared; a .safetensors file has none. Raises FileNotFoundError if there is no
    file; ValueError, which names the file, if it is empty, damaged or of another kind than its suffix says, holds
    objects that loading would have to run code for, or holds no state dict.
    """
    path = check_weight_file(path)
    _check_kind(path)
    metadata: dict[str, str] = {}
    try:
        if is_safetensors(path):
            content, metadata = _read_safetensors(path)
        else:
            content = _read_pickle(path)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} is damaged, or holds more than tensors and plain values. Loading the rest could run code, so "
            "nothing is loaded: if you trust the file, load it with torch.load(weights_only=False) and save "
            f'its state dict alone (of a LAVT: its "model" and its "{BERT}")'
        ) from None
    except Exception as error:  # noqa: BLE001 - each library has errors of its own for a damaged file
        raise ValueError(f"{path} cannot be read ({first_line(error)}): is it complete?") from None
    return WeightFile(_state_dicts(path, content), metadata)


def _check_kind(path: Path) -> None:
    """Refuse a file that is empty or whose first bytes are those of the other kind."""
    with open(path, "rb") as file:
        start = file.read(9)
    if not start:
        raise ValueError(f"{path} is empty: is it complete?")
    safe = start[8:] == b"{"  # after the header's length in 8 bytes
    if is_safetensors(path) and start[:2] in (b"PK", b"\x80\x02"):
        raise ValueError(f"{path} is a file of torch.save: rename it to {path.stem}.pth")
    if not is_safetensors(path) and safe:
        raise ValueError(f"{path} is a file of safetensors: rename it to {path.stem}.safetensors")


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118


def _read_pickle(path: Path) -> Any:
    _check_archive(path)
    # A Namespace is what training scripts save their arguments in: it holds values and runs nothing.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings(action="ignore"):
        return torch.load(path, map_location="cpu", weights_only=True)


def _check_archive(path: Path) -> None:
    """Refuse an archive that was compressed, because it may unpack to any size, or in which a checksum is wrong.

    torch.save compresses nothing, and torch.load compares no checksums. A checksum of 0 is one that was left out, by
    torch.serialization.set_crc32_options.
    """
    with open(path, "rb") as file:
        if file.read(4) != b"PK\3\4":
            return  # the form of torch before 1.6, which has no checksums
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > path.stat().st_size or any(e.compress_type for e in entries):
            raise ValueError("the archive is compressed, which torch.save does not do")
        for entry in entries:
            if entry.CRC:
                with archive.open(entry) as content:
                    while content.read(2**20):  # at its end the checksum is compared
                        pass


def _state_dicts(path: Path, content: Any) -> dict[str, dict[str, Tensor]]:
    state, keys = taken_out(content) if isinstance(content, Mapping) else (content, [])
    parts = {"model": (state, keys)}
    if keys and BERT in content:
        parts[BERT] = (content[BERT], [BERT])
    for part, keys in parts.values():
        if not _is_state_dict(part):
            place = f' at "{".".join(keys)}"' if keys else ""
            kind = f"a {type(part).__name__}"
            if isinstance(part, Mapping):
                inner = [str(name) for name, value in part.items() if _is_state_dict(value) and len(value)]
                kind += " with other values"
                kind += f"; there are state dicts at {shorten(inner)}: save one of them alone" if inner else ""
            raise ValueError(f"{path} holds no state dict{place}, that is tensors by name, but {kind}")
        numbers, size = sum(tensor.numel() for tensor in part.values()), path.stat().st_size
        if numbers > size:  # views of a few numbers, which take no memory until they are copied
            raise ValueError(f"{path} is damaged: {size:,} bytes cannot hold the {numbers:,} numbers of its tensors")
    return {name: dict(part) for name, (part, _) in parts.items()}


def _is_state_dict(part: Any) -> bool:
    return isinstance(part, Mapping) and all(
        isinstance(name, str) and isinstance(value, Tensor) and value.device.type == "cpu"
        for name, value in part.items()
    )
