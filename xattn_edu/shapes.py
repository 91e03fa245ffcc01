"""Shape annotations that are checked, and arguments that must be one of a few names.

`Float[Tensor, "batch token channel"]` in a signature is a promise. Decorate the function with `@shaped` and, while
checks are on, every call compares the promise with the tensors it was given and the one it returns (jaxtyping does the
bookkeeping, beartype the checking). The tests run with checks on; a learner turns them on with `check_shapes()`, or
by setting XATTN_CHECK_SHAPES=1 before importing the library. Off, they cost one `if` a call.
"""

import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import jaxtyping

P = ParamSpec("P")
R = TypeVar("R")

_on = os.environ.get("XATTN_CHECK_SHAPES", "").lower() not in ("", "0", "false")


class ShapeError(ValueError):
    """A tensor's shape breaks the annotation of the function that took it."""


def check_choice(name: str, given: object, choices: Iterable[str]) -> None:
    """Refuse an argument that is none of the names it may be. Raises ValueError that lists these names."""
    if given not in (known := list(choices)):
        raise ValueError(f"{name} must be one of {', '.join(known)}, given {given!r}")


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that cannot be cut into heads of one size. Raises ValueError with both numbers."""
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"the width must be a multiple of the number of heads: width {width}, heads {heads}")


def check_shapes(on: bool = True) -> None:
    """Check the shape annotations of every `@shaped` function from now on (or, with False, stop checking)."""
    global _on
    _on = on


def shaped(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: check the jaxtyping annotations of `function` at every call while `check_shapes` is on.

    Raises ShapeError, naming the argument and the axis that disagrees. What is no argument's shape (another type, or a
    result of the wrong shape) stays jaxtyping's TypeCheckError, a TypeError.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _on:
            return function(*args, **kwargs)
        try:
            return _checked(function)(*args, **kwargs)
        except jaxtyping.TypeCheckError as error:
            disagreement = _explain(function, inspect.signature(function).bind(*args, **kwargs).arguments)
            if disagreement is None:  # no argument's shape is at fault: the checker's own message says what is
                raise
            raise ShapeError(disagreement) from error

    return call


@functools.cache
def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    from beartype import beartype  # imported at the first check: a learner who never checks never waits for it

    return jaxtyping.jaxtyped(typechecker=beartype)(function)


def _explain(function: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    """The first argument whose shape disagrees, in words; None when no argument does."""
    hints = typing.get_type_hints(function)
    sizes: dict[str, tuple[int, str]] = {}  # axis name -> (size, the argument that set it)
    for name, value in arguments.items():
        annotation = _array_annotation(hints.get(name), value)
        if annotation is None:
            continue
        promise, shape = f'"{annotation.dim_str}"', tuple(value.shape)
        given = f"{function.__qualname__}: {name} has shape {shape}, expected {promise}"
        axes = annotation.dim_str.split()
        named = [axis for axis in axes if not axis.startswith(("*", "..."))]
        if len(shape) < len(named) or (len(named) == len(axes) and len(shape) != len(axes)):
            return f"{given}: {len(shape)} axes instead of {len(named)}"
        for axis, size in _align(axes, shape):
            if axis.isdigit() and size != int(axis):
                return f"{given}: an axis of size {axis} is {size} here"
            known = sizes.setdefault(axis, (size, name))
            if known[0] != size:
                return f"{given}: axis '{axis}' is {size} here but {known[0]} in {known[1]}"
    return None


def _array_annotation(hint: Any, value: Any) -> Any:
    """The one jaxtyping array type in `hint` (also inside a union), if `value` has a shape to compare with it."""
    options = [option for option in typing.get_args(hint) or (hint,) if hasattr(option, "dim_str")]
    return options[0] if len(options) == 1 and hasattr(value, "shape") else None


def _align(axes: list[str], shape: tuple[int, ...]) -> list[tuple[str, Any]]:
    """Pair axis names with sizes; a leading `*name` takes all the sizes that the other names leave over."""
    if axes and axes[0].startswith("*"):
        rest = len(shape) - (len(axes) - 1)
        return [(axes[0][1:], shape[:rest]), *zip(axes[1:], shape[rest:])]
    return [(axis, size) for axis, size in zip(axes, shape) if axis not in ("...", "_")]
