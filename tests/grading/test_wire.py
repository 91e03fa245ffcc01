"""Results come back as they were, and whatever else a student's process sends is an error and nothing more."""

import json
import math

import numpy as np
import pytest
import torch

from xattn_edu.exercises.checking import close
from xattn_edu.grading.wire import Broken, Other, packed, parsed, plain, unpacked


def sent(x):
    return parsed(unpacked(packed({"value": plain(x)}))["value"])


@pytest.mark.parametrize(
    "x",
    [None, True, 3, "text", 0.1, math.inf, np.float64(0.1), np.float32(0.5), np.int64(3), np.bool_(True)]
    + [[1, (2.5, None)], {"a": [1], 2: {3, 4}}, {(1, 2)}],
)
def test_plain_results_come_back(x):
    assert sent(x) == x and type(sent(x)) is type(x.item() if isinstance(x, np.generic) else x)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
def test_arrays_and_tensors_come_back_in_their_dtype(dtype):
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for x in (array, torch.from_numpy(array), array[0, 0:0], torch.from_numpy(array).T, array.max(keepdims=False)):
        back = sent(x)
        assert close(back, x) and (isinstance(x, np.generic) or back.dtype == x.dtype)
    assert sent(torch.ones(2, dtype=torch.bfloat16, requires_grad=True)).dtype == torch.float32
    assert math.isnan(sent(math.nan))


@pytest.mark.parametrize("x", [object(), 1j, np.array([1j]), torch.ones(1, dtype=torch.complex64), np.array(["a"])])
def test_of_another_object_only_the_name_of_its_class_comes_back(x):
    assert isinstance(sent(x), Other) and type(sent(x)).__name__ == type(x).__name__


@pytest.mark.parametrize(
    "message",
    [
        {"float": "nothing"},
        {"float": 10**400},
        {"tensor": {"dtype": "float32", "shape": [math.inf], "bytes": ""}},
        {"tensor": {"dtype": "float32", "shape": [2**40], "bytes": ""}},
        {"tensor": {"dtype": "float32", "shape": [-1, -1], "bytes": "AAAAAA=="}},
        {"array": {"dtype": "object", "shape": [1], "bytes": "AAAAAAAAAAA="}},
        {"array": 3},
        {"dict": [[{"list": []}, 1]]},
        {"pickle": "x"},
        {"float": "1", "int": "2"},
        1.5,
        [],
    ],
)
def test_what_no_result_is_made_of_is_refused(message):
    with pytest.raises(Broken):
        parsed(unpacked(json.dumps({"value": message}).encode())["value"])


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b"[" * 100_000])
def test_what_is_no_message_is_refused(payload):
    with pytest.raises(Broken):
        unpacked(payload)
