"""How an answer is checked: on several inputs, against a reference, with the cause of a mistake named."""

import functools
import math
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy import allclose, asarray, ndarray  # bound before an answer can put something else in their place
from torch import Tensor

from xattn_edu.exercises.guard import Ended, Guarded, NotAttempted, Stopped, Wrong

Answer = Callable[..., Any]
PRINTED = 1000  # characters of what an answer has printed


class Verdict(NamedTuple):
    """What a check has found: "right", "not attempted", "wrong" or "error", and in which words."""

    kind: str
    words: str

    def text(self, name: str) -> str:
        """The lines that a reader sees about the answer of this name."""
        return {
            "right": f"✓ {name}: {self.words}",
            "not attempted": f"○ {name} is waiting for your code.",
            "wrong": f"✗ {name}: {self.words}",
            "error": f"✗ {name} {self.words}",
        }[self.kind]


def judge(check: Callable[..., str], answer: Any, *settings: Any) -> Verdict:
    """The verdict of a check, which raises Wrong or returns what it has shown to be right, on a guarded answer."""
    try:
        # The check draws random numbers; those of the lesson must stay as they are.
        with torch.random.fork_rng(devices=[]):
            right = check(answer, *settings)
        answer.learns()
        return Verdict("right", right)
    except NotAttempted:
        return Verdict("not attempted", "")
    except Wrong as wrong:
        return Verdict("wrong", str(wrong))
    except Stopped as stopped:
        return Verdict("error", str(stopped))
    except Ended:
        raise
    except Exception as error:  # noqa: BLE001 - what the answer returned may be of any kind
        return Verdict("wrong", f"what it returned cannot be compared ({type(error).__name__}: {error})")


def exercise(check: Callable[[Guarded], str]) -> Callable[[Answer], None]:
    """Make a check print its verdict on an answer."""

    @functools.wraps(check)
    def verdict(answer: Answer) -> None:
        show(check, answer)

    return verdict


def show(check: Callable[..., str], answer: Answer, *settings: Any) -> None:
    """Print the verdict of a check on a reader's answer, and below it what the answer has printed."""
    name = getattr(answer, "__name__", "your answer")
    try:
        guarded = Guarded(answer)
    except Wrong as wrong:
        print(Verdict("wrong", str(wrong)).text(name))
        return
    print(judge(check, guarded, *settings).text(name))
    if printed := guarded.printed.getvalue().strip():
        print(f"  Your code printed:\n{textwrap.indent(printed[:PRINTED], '    ')}")


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
    if isinstance(given, ndarray) and isinstance(expected, Tensor):
        given = torch.from_numpy(given)
    elif isinstance(given, Tensor) and isinstance(expected, ndarray):
        given = given.detach().numpy()
    elif not isinstance(given, kind := type(expected)):
        raise Wrong(f"{where}: expected a {kind.__name__}, given a {type(given).__name__}")
    if tuple(given.shape) != tuple(expected.shape):
        shapes = f"expected shape {tuple(expected.shape)}, given {tuple(given.shape)}"
        raise Wrong(f"{where}: {shapes}. {cause}" if (cause := known_cause(given, causes)) else f"{where}: {shapes}")
    if str(expected.dtype).endswith("bool") and not str(given.dtype).endswith("bool"):
        raise Wrong(f"{where}: a mask is made of True and False, given {given.dtype}: compare instead of computing")
    if not close(given, expected):
        difference, cause = _first_difference(given, expected), known_cause(given, causes)
        raise Wrong(f"{where}: right shape, wrong numbers{difference}. {cause}".rstrip())


def _first_difference(given: Any, expected: Any) -> str:
    """Where the first wrong number stands, and which it should be; empty for a single number."""
    given, expected = (asarray(a.detach() if isinstance(a, Tensor) else a) for a in (given, expected))
    wrong = ~np.isclose(given, expected, rtol=1e-4, atol=1e-5)
    place = tuple(int(axis[0]) for axis in wrong.nonzero()) if wrong.ndim and wrong.any() else ()
    if not place:
        return ""
    return f", the first at [{', '.join(map(str, place))}]: expected {expected[place]:.4g}, given {given[place]:.4g}"


def known_cause(given: Any, causes: Mapping[str, Any], rtol: float | None = None, atol: float | None = None) -> str:
    """The explanation of the first mistake that gives this result; empty if there is none."""
    mistakes = ((cause, result) for cause, result in causes.items() if result is not None)
    return next((cause for cause, result in mistakes if close(given, result, rtol, atol)), "")


def close(given: Any, expected: Any, rtol: float | None = None, atol: float | None = None) -> bool:
    """Whether two arrays, tensors, numbers or tuples of numbers have one shape and the same numbers.

    An answer computes tensors in float32, so they may differ more by rounding than the rest.
    """
    of_tensors = isinstance(given, Tensor)
    rtol = (1e-4 if of_tensors else 1e-5) if rtol is None else rtol
    atol = (1e-5 if of_tensors else 1e-6) if atol is None else atol
    given, expected = (asarray(a.detach() if isinstance(a, Tensor) else a) for a in (given, expected))
    return given.shape == expected.shape and allclose(given, expected, rtol=rtol, atol=atol)


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
