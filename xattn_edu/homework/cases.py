"""What the checks of the graded sets share: sizes from a seed, and answers of several steps."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from xattn_edu.exercises.checking import close, compare, refuse_none
from xattn_edu.exercises.guard import Wrong


def different_sizes(seed: int, count: int, low: int = 2, high: int = 9) -> list[int]:
    """So many sizes from `low` to `high`, all different, so that exchanged axes show in the shape."""
    return random.Random(f"sizes {seed}").sample(range(low, high + 1), count)


def compare_steps(
    given: Any, expected: Mapping[str, Any], where: str, mistakes: Callable[[], Mapping[str, Sequence[Any]]]
) -> None:
    """Raise Wrong unless `given` holds the steps of `expected`, in their order; name the first step that differs.

    `mistakes` makes, if one is needed, a map of explanations to all steps as the mistake makes them. A mistake that
    explains all steps is named first. A step of None means that this case does not show the mistake there.
    """
    parts, right = several(given, list(expected)), list(expected.values())
    for number, (name, step) in enumerate(expected.items()):
        if words := _difference(parts[number], step, f"{name}, {where}"):
            known = mistakes()
            for cause, steps in known.items():
                if all(map(_alike, parts, steps)) and not all(map(close, steps, right)):
                    raise Wrong(f"{where}: {cause}")
            raise Wrong(_named(words, parts[number], step, {cause: steps[number] for cause, steps in known.items()}))


def compare_named(given: Any, expected: Any, where: str, causes: Mapping[str, Any]) -> None:
    """`compare`, which also names mistakes that give nan, another shape, or one number for an array."""
    if words := _difference(given, expected, where):
        raise Wrong(_named(words, given, expected, causes))


def _difference(given: Any, expected: Any, where: str) -> str:
    """What differs, in words; empty if nothing does."""
    if isinstance(given, np.generic | int | float) and isinstance(expected, ndarray):
        given = np.asarray(given)
    try:
        compare(given, expected, where)
    except Wrong as wrong:
        return str(wrong)
    return ""


def _named(words: str, given: Any, expected: Any, causes: Mapping[str, Any]) -> str:
    """The words, and the first cause that gives the same result and another than the right one."""
    found = (cause for cause, result in causes.items() if _alike(given, result) and not close(result, expected))
    return f"{words.rstrip('.')}. {next(found, '')}".rstrip()


def _alike(given: Any, result: Any) -> bool:
    """Whether both have the same numbers, nan at the same places included."""
    return result is not None and close(_comparable(given), _comparable(result))


def _comparable(x: Any) -> Any:
    if isinstance(x, Tensor) and x.is_floating_point():
        return torch.nan_to_num(x.detach(), nan=1e9)
    if isinstance(x, ndarray) and x.dtype.kind == "f":
        return np.nan_to_num(x, nan=1e9)
    return x


def several(given: Any, names: Sequence[str]) -> Sequence[Any]:
    """The parts of what the answer returned. Raises Wrong unless there are as many as names."""
    refuse_none(given)
    expected = f"return {len(names)} values, {', '.join(names)}"
    if not isinstance(given, tuple | list):
        raise Wrong(f"{expected}, given a {type(given).__name__}")
    if len(given) != len(names):
        raise Wrong(f"{expected}, given {len(given)}")
    for name, part in zip(names, given):
        if part is None:
            raise Wrong(f"{expected}: {name} is None")
    return given
