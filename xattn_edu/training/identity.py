"""What a run is recognised by: a text for each thing that changes its numbers.

A checkpoint stores these texts, and only a run with the same ones continues it. So a text is the same in every process
that makes the same object, and another one for other settings: it holds no address in memory, and of a tensor it holds
the checksum. Code is not compared: after a change inside a function, delete the checkpoint.
"""

import copyreg
import functools
import inspect
import pickle
import types
import zlib
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xattn_edu.models.layers import settings

LONGEST = 300  # characters of a text; of a longer one the rest is a checksum
_NAMELESS = (TypeError, ValueError, AttributeError, RuntimeError, pickle.PicklingError)  # errors of what has no text
_SETTINGS = (bool, int, float, str, tuple, types.FunctionType, types.BuiltinFunctionType, functools.partial)
_EVERY_MODULES = vars(nn.Module()).keys() - {"training"}  # hooks, and dictionaries of tensors and modules


def describe(name: str, value: Any) -> str:
    """The text for the argument `name` of `train`.

    A function is its name, with its defaults, the values it has captured and those that a partial has fixed. A module
    is its class, settings, tensors and parts. Any other object is its class and what pickle would store of it. Raises
    ValueError for a lambda and for what cannot be pickled.
    """
    try:
        text = _text(value)
    except _NAMELESS as error:
        raise ValueError(
            f"with a checkpoint, {name} needs a name by which its run is recognised, and {value!r} has none ({error}): "
            "define a function at the top level of a file or notebook, or a dataclass with the settings as fields; or "
            "train without a checkpoint"
        ) from error
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..., checksum {zlib.crc32(text.encode()):08x}"


def describe_model(model: nn.Module) -> dict[str, str]:
    """Classes of all modules, the numbers and functions they were built with, and all tensors' shapes, by name.

    The weights themselves are not described: a checkpoint brings its own.
    """
    described = {}
    for path, module in model.named_modules():
        described[f"model {path}".strip()] = _name(type(module))
        for name, value in settings(module, _SETTINGS).items():
            try:
                described[f"model {path}.{name}" if path else f"model {name}"] = _text(value)
            except _NAMELESS:  # a lambda, a tuple of anything
                continue
    frozen = {name for name, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}
    for name, tensor in model.state_dict().items():
        described[f"model {name}"] = f"{_shape(tensor)}{' frozen' * (name in frozen)}"
    return described


def checksum(tensor: Tensor, start: int = 0) -> int:
    """CRC-32 of a tensor's bytes, which continues from `start`."""
    flat = tensor.detach().cpu().contiguous().flatten()
    return zlib.crc32(flat.view(torch.uint8).numpy().data, start) if flat.numel() else start


def _text(value: Any) -> str:
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, Tensor):
        return f"tensor {_shape(value)} {checksum(value):08x}"
    if isinstance(value, np.ndarray):
        content = value.tolist() if value.dtype.hasobject else value.tobytes()
        return f"array {value.shape} {value.dtype} {_text(content)}"
    if isinstance(value, bytes) and len(value) > LONGEST:
        return f"{len(value)} bytes {zlib.crc32(value):08x}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes):
        return repr(value)
    if isinstance(value, list | tuple):
        return f"({', '.join(map(_text, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_text(key)}: {_text(item)}' for key, item in value.items())}}}"
    if isinstance(value, nn.Module):
        return _module(value)
    if isinstance(value, functools.partial):
        return f"{_text(value.func)}{_arguments(value.args, value.keywords)}"
    if isinstance(value, type | types.ModuleType):
        return _name(value)
    if hasattr(value, "__wrapped__"):  # by a decorator
        return _text(inspect.unwrap(value))
    if isinstance(value, types.FunctionType):
        return _function(value)
    if isinstance(value, types.MethodType | types.BuiltinFunctionType):
        owner = value.__self__
        is_plain = owner is None or isinstance(owner, type | types.ModuleType)
        return _name(value) if is_plain else f"{_text(owner)}.{value.__name__}"
    return _object(value)


def _function(function: types.FunctionType) -> str:
    if function.__name__ == "<lambda>":
        raise ValueError("a lambda has no name")
    captured = dict(inspect.getclosurevars(function).nonlocals)
    fixed = captured | (function.__kwdefaults__ or {})
    return f"{_name(function)}{_arguments(function.__defaults__ or (), fixed)}"


def _module(module: nn.Module) -> str:
    parts: dict[str, Any] = {name: value for name, value in vars(module).items() if name not in _EVERY_MODULES}
    parts |= dict(module.named_parameters(recurse=False)) | dict(module.named_buffers(recurse=False))
    return f"{_name(type(module))}{_arguments((), parts | dict(module.named_children()))}"


def _object(value: Any) -> str:
    """The class, and all that pickle would store to make the object again."""
    registered = copyreg.dispatch_table.get(type(value))  # by the types that pickle cannot ask themselves
    reduced = value.__reduce_ex__(4) if registered is None else registered(value)
    if isinstance(reduced, str):  # the name of something that there is once
        return f"{_name(type(value))}.{reduced}"
    _, arguments, *rest = reduced
    state, items, pairs = ([*rest, None, None, None])[:3]
    given = [argument for argument in arguments if argument is not type(value)]
    given += [list(items)] if items is not None else []
    given += [dict(pairs)] if pairs is not None else []
    if isinstance(state, dict):
        return f"{_name(type(value))}{_arguments(given, state)}"
    return f"{_name(type(value))}{_arguments(given if state is None else [*given, state], {})}"


def _arguments(unnamed: Iterable[Any], named: dict[str, Any]) -> str:
    """(1, rate=0.5), or nothing if there are none."""
    texts = [_text(value) for value in unnamed] + [f"{name}={_text(value)}" for name, value in named.items()]
    return f"({', '.join(texts)})" if texts else ""


def _name(thing: type | types.ModuleType | Callable[..., Any]) -> str:
    if isinstance(thing, types.ModuleType):
        return thing.__name__
    return f"{thing.__module__}.{thing.__qualname__}"


def _shape(tensor: Tensor) -> str:
    return f"{'x'.join(map(str, tensor.shape)) or 'scalar'} {tensor.dtype}"
