"""How an answer is checked: on several inputs, against a reference, with the cause of a mistake named."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

Answer = Callable[..., Any]


class Wrong(Exception):
    """The answer is wrong; the message says what differs and, if a known mistake gives this result, names it."""


def exercise(check: Callable[[Answer], str]) -> Callable[[Answer], None]:
    """Make a check print its verdict. The check itself raises Wrong, or returns what it has shown to be right."""

    @functools.wraps(check)
    def verdict(answer: Answer) -> None:
        name = getattr(answer, "__name__", "your answer")
        try:
            # The check draws random numbers; those of the lesson must stay as they are.
            with torch.random.fork_rng(devices=[]):
                print(f"✓ {name}: {check(answer)}")
        except NotImplementedError:
            print(f"○ {name} is waiting for your code.")
        except Wrong as wrong:
            print(f"✗ {name}: {wrong}")
        except Exception as error:  # noqa: BLE001 - the reader's code may raise anything, and the notebook must go on
            print(f"✗ {name} stopped with {type(error).__name__}: {error}")

    return verdict


def compare(given: Any, expected: Any, where: str, causes: Mapping[str, Any] | None = None) -> None:
    """Raise Wrong unless `given` equals `expected`, which is a number, an array or a tensor.

    `where` describes the input. `causes` maps the explanation of a mistake to the result of that mistake; a result of
    None means that this input does not show the mistake.
    """
    refuse_none(given)
    if isinstance(expected, int | float):
        _compare_numbers(given, expected, where, causes or {})
    else:
        _compare_arrays(given, expected, where, causes or {})


def compare_pairs(
    given: tuple[Any, Any],
    expected: tuple[Any, Any],
    where: str,
    mistakes: Mapping[str, tuple[Any, Any]],
    names: Mapping[int, str],
) -> None:
    """Raise Wrong unless both parts are the expected ones; name a mistake that explains both, or else one of them.

    `names` says what the parts are called, by number, in the order in which they are compared.
    """
    visible = {cause: pair for cause, pair in mistakes.items() if not all(map(close, pair, expected))}
    for cause, pair in visible.items():
        if all(map(close, given, pair)):
            raise Wrong(f"{where}: {cause}")
    for number, name in names.items():
        causes = {cause: pair[number] for cause, pair in visible.items() if not close(pair[number], expected[number])}
        compare(given[number], expected[number], f"{name}, {where}", causes)


def _compare_numbers(given: Any, expected: float, where: str, causes: Mapping[str, Any]) -> None:
    if isinstance(given, Tensor | ndarray):
        if math.prod(given.shape) != 1:
            raise Wrong(f"{where}: expected one number, {expected:,}, given shape {tuple(given.shape)}")
        given = given.item()
    tolerance = 0.0 if isinstance(expected, int) else 1e-5
    if not np.isclose(given, expected, rtol=tolerance, atol=0):
        cause = known_cause(given, causes, rtol=tolerance, atol=0)
        raise Wrong(f"{where}: expected {expected:,}, given {given}. {cause}".rstrip())


def _compare_arrays(given: Any, expected: Any, where: str, causes: Mapping[str, Any]) -> None:
    kind = type(expected)
    if not isinstance(given, kind):
        raise Wrong(f"{where}: expected a {kind.__name__}, given a {type(given).__name__}")
    if tuple(given.shape) != tuple(expected.shape):
        raise Wrong(f"{where}: expected shape {tuple(expected.shape)}, given {tuple(given.shape)}")
    if str(expected.dtype).endswith("bool") and not str(given.dtype).endswith("bool"):
        raise Wrong(f"{where}: a mask is made of True and False, given {given.dtype}: compare instead of computing")
    if not close(given, expected):
        raise Wrong(f"{where}: right shape, wrong numbers. {known_cause(given, causes)}".rstrip())


def known_cause(given: Any, causes: Mapping[str, Any], rtol: float = 1e-5, atol: float = 1e-6) -> str:
    """The explanation of the first mistake that gives this result; empty if there is none."""
    mistakes = ((cause, result) for cause, result in causes.items() if result is not None)
    return next((cause for cause, result in mistakes if close(given, result, rtol, atol)), "")


def close(given: Any, expected: Any, rtol: float = 1e-5, atol: float = 1e-6) -> bool:
    """Whether two arrays, tensors, numbers or tuples of numbers have one shape and the same numbers."""
    given, expected = (np.asarray(a.detach() if isinstance(a, Tensor) else a) for a in (given, expected))
    return given.shape == expected.shape and np.allclose(given, expected, rtol=rtol, atol=atol)


def refuse_none(given: Any) -> None:
    """Raise Wrong if the answer returned nothing."""
    if given is None:
        raise Wrong("it returns None: is the return statement missing?")


def two(given: Any, names: str) -> tuple[Any, Any]:
    """The two parts of what the answer returned. Raises Wrong unless there are two; `names` says which are expected."""
    refuse_none(given)
    if not isinstance(given, tuple | list) or len(given) != 2:
        raise Wrong(f"return two values, {names}, given a {type(given).__name__}")
    return given[0], given[1]
