"""How an answer is checked: on several inputs, against a reference, with the cause of a mistake named."""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

Answer = Callable[..., Any]


class Wrong(Exception):
    """The answer is wrong; the message says how it shows and what may have caused it."""


def exercise(check: Callable[[Answer], str]) -> Callable[[Answer], None]:
    """Turn a check (which raises Wrong, or returns what was shown to be right) into one that prints its verdict."""

    @functools.wraps(check)
    def verdict(answer: Answer) -> None:
        name = getattr(answer, "__name__", "your answer")
        try:
            # The check's random weights leave the lesson's random numbers alone.
            with torch.random.fork_rng(devices=[]):
                print(f"✓ {name}: {check(answer)}")
        except NotImplementedError:
            print(f"○ {name} is waiting for your code.")
        except Wrong as wrong:
            print(f"✗ {name}: {wrong}")
        except Exception as error:  # noqa: BLE001 - what the reader's code raises is news for the reader
            print(f"✗ {name} stopped with {type(error).__name__}: {error}")

    return verdict


def compare(given: Any, expected: Any, where: str, causes: dict[str, Any] | None = None) -> None:
    """Raise Wrong unless `given` is `expected`; `causes` maps an explanation to the result that mistake would give."""
    if given is None:
        raise Wrong("it returns None: is the return statement missing?")
    if isinstance(expected, (int, float)):
        given = given.item() if isinstance(given, Tensor | ndarray) and math.prod(given.shape) == 1 else given
        tolerance = 0 if isinstance(expected, int) else 1e-5
        if isinstance(given, Tensor | ndarray) or not np.isclose(given, expected, rtol=tolerance, atol=0):
            known = [cause for cause, result in (causes or {}).items() if np.isclose(given, result, tolerance, 0)]
            raise Wrong(f"{where}: expected {expected:,}, given {given}. " + (known[0] if known else ""))
        return
    kind = type(expected)
    if not isinstance(given, kind):
        raise Wrong(f"{where}: expected a {kind.__name__}, given a {type(given).__name__}")
    if tuple(given.shape) != tuple(expected.shape):
        raise Wrong(f"{where}: expected shape {tuple(expected.shape)}, given {tuple(given.shape)}")
    if str(expected.dtype).endswith("bool") and not str(given.dtype).endswith("bool"):
        raise Wrong(f"{where}: a mask is made of True and False, given {given.dtype}: compare instead of computing")
    if close(given, expected):
        return
    known = [cause for cause, result in (causes or {}).items() if result is not None and close(given, result)]
    raise Wrong(f"{where}: right shape, wrong numbers. " + (known[0] if known else ""))


def close(given: Any, expected: Any) -> bool:
    given, expected = (np.asarray(a.detach() if isinstance(a, Tensor) else a) for a in (given, expected))
    return given.shape == expected.shape and np.allclose(given, expected, rtol=1e-5, atol=1e-6)


def two(given: Any, names: str) -> tuple[Any, Any]:
    if given is None:
        raise Wrong("it returns None: is the return statement missing?")
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise Wrong(f"return two tensors, {names}, given a {type(given).__name__}")
    return given[0], given[1]
