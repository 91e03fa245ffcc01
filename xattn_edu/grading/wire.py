"""What a student's process and the lecturer's say to each other: frames of bytes, and results as plain data.

To the student's process go pickles: it trusts the lecturer's. Back come JSON texts alone, with arrays as text: nothing
that a student's process sends is ever executed.
"""

import base64
import json
import math
import struct
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from xattn_edu.exercises.guard import Ended

LARGEST = 64 * 2**20  # bytes of a frame
DTYPES = {"bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"}


class Broken(Ended):
    """The other side has ended, or sends what is no frame or no result."""


def send(stream: BinaryIO, payload: bytes) -> None:
    try:
        stream.write(struct.pack("<I", len(payload)) + payload)
        stream.flush()
    except (OSError, ValueError) as error:
        raise Broken("the process has ended") from error


def receive(stream: BinaryIO) -> bytes:
    """The next frame. Raises Broken at the end of the stream, and for a frame longer than LARGEST."""
    head = stream.read(4)
    if len(head) < 4:
        raise Broken("the process has ended")
    (length,) = struct.unpack("<I", head)
    if length > LARGEST:
        raise Broken(f"a result of {length:,} bytes: at most {LARGEST:,} are read")
    payload = stream.read(length)
    if len(payload) < length:
        raise Broken("the process has ended in the middle of a result")
    return payload


def plain(x: Any) -> Any:
    """A result as something that JSON can hold; of another object only the name of its class is kept."""
    if x is None or isinstance(x, bool | int | str):
        return x
    if isinstance(x, float):
        return {"float": repr(float(x))}  # NumPy's float64 is a float, and writes itself in another way
    if isinstance(x, np.generic):
        return plain(x.item())
    if isinstance(x, Tensor) and not x.is_complex():
        x = x.detach().cpu()
        return {"tensor": _array((x.float() if x.dtype == torch.bfloat16 else x).numpy())}
    if isinstance(x, np.ndarray) and x.dtype.name in DTYPES:
        return {"array": _array(x)}
    if isinstance(x, list | tuple | set | frozenset):
        kind = "list" if isinstance(x, list) else "tuple" if isinstance(x, tuple) else "set"
        return {kind: [plain(part) for part in x]}
    if isinstance(x, dict):
        return {"dict": [[plain(key), plain(value)] for key, value in x.items()]}
    return {"other": type(x).__name__}


def _array(x: np.ndarray) -> dict[str, Any]:
    return {"dtype": x.dtype.name, "shape": list(x.shape), "bytes": base64.b64encode(x.tobytes()).decode()}


class Other:
    """Stands for a result that cannot be sent: an object of a class of the student's, say."""


def parsed(x: Any) -> Any:
    """The result that `plain` was given. Raises Broken for anything that `plain` does not make."""
    if x is None or isinstance(x, bool | int | str):
        return x
    if not (isinstance(x, dict) and len(x) == 1):
        raise Broken("a result that is none")
    ((kind, value),) = x.items()
    try:
        if kind == "float":
            return float(value)
        if kind in ("tensor", "array"):
            array = _parsed_array(value)
            return torch.from_numpy(array) if kind == "tensor" else array
        if kind in ("list", "tuple", "set"):
            return {"list": list, "tuple": tuple, "set": set}[kind](map(parsed, value))
        if kind == "dict":
            return {parsed(key): parsed(part) for key, part in value}
        if kind == "other":
            return type(str(value)[:50], (Other,), {})()
    except (TypeError, ValueError, KeyError, OverflowError, RecursionError) as error:
        raise Broken("a result that is none") from error
    raise Broken("a result that is none")


def _parsed_array(value: Any) -> np.ndarray:
    shape, dtype = [int(side) for side in value["shape"]], value["dtype"]
    if dtype not in DTYPES or min(shape, default=0) < 0 or len(shape) > 32:
        raise ValueError("no array")
    data = base64.b64decode(value["bytes"], validate=True)
    if len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError("no array")
    return np.frombuffer(data, dtype).reshape(shape).copy()


def packed(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode()


def unpacked(payload: bytes) -> dict[str, Any]:
    """A message of a student's process. Raises Broken for anything else."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise Broken("a message that is none") from error
    if not isinstance(message, dict):
        raise Broken("a message that is none")
    return message
