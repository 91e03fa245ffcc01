"""What the checks of the graded sets share: sizes from a seed, and answers of several steps."""

import random
from collections.abc import Mapping, Sequence
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
    given: Any, expected: Mapping[str, Any], where: str, mistakes: Mapping[str, Sequence[Any] | None]
) -> None:
    """Raise Wrong unless `given` holds the steps of `expected`, in their order; name the first step that differs.

    `mistakes` maps an explanation to all steps as the mistake makes them. A mistake that explains all steps is named
    first. A step of None, or None for all, means that this case does not show the mistake there.
    """
    parts, right = several(given, list(expected)), list(expected.values())
    shown = {cause: steps for cause, steps in mistakes.items() if steps is not None}
    for cause, steps in shown.items():
        if all(map(_alike, parts, steps)) and not all(map(close, steps, right)):
            raise Wrong(f"{where}: {cause}")
    for number, (name, step) in enumerate(expected.items()):
        compare_named(parts[number], step, f"{name}, {where}", {cause: steps[number] for cause, steps in shown.items()})


def compare_named(given: Any, expected: Any, where: str, causes: Mapping[str, Any]) -> None:
    """`compare`, which also names mistakes that give nan, another shape, or one number for an array."""
    if isinstance(given, np.generic | int | float) and isinstance(expected, ndarray):
        given = np.asarray(given)
    try:
        compare(given, expected, where)
    except Wrong as wrong:
        visible = {cause: result for cause, result in causes.items() if result is not None}
        found = (c for c, result in visible.items() if _alike(given, result) and not close(result, expected))
        raise Wrong(f"{str(wrong).rstrip('.')}. {next(found, '')}".rstrip()) from None


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
