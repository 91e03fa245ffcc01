"""Shape annotations that are checked, and the checks of arguments that several modules share.

`Float[Tensor, "batch token channel"]` in a signature states a shape. Decorate the function with `@shaped`: while checks
are on, every call compares its arguments and its result with the stated shapes (jaxtyping keeps the sizes of the axes,
beartype checks the types). The tests run with checks on. A learner turns them on with `check_shapes()`, or by setting
XATTN_CHECK_SHAPES=1 before importing the library. While checks are off, a call costs one `if` more.
"""

import functools
import inspect
import os
import typing
from collections.abc import Callable, Iterable
from typing import Any, ParamSpec, TypeVar

import jaxtyping
import torch
from numpy import ndarray
from torch import Tensor, nn

P = ParamSpec("P")
R = TypeVar("R")

LONGEST = 64  # items of a list whose form is remembered

_on = os.environ.get("XATTN_CHECK_SHAPES", "").lower() not in ("", "0", "false")


class ShapeError(ValueError):
    """The shape of an argument differs from the shape in the function's annotation."""


def check_choice(name: str, given: object, choices: Iterable[str]) -> None:
    """Refuse an argument that is none of the names it may be. Raises ValueError that lists these names."""
    if given not in (known := list(choices)):
        raise ValueError(f"{name} must be one of {', '.join(known)}, given {given!r}")


def check_heads(width: int, heads: int) -> None:
    """Refuse a width that cannot be cut into heads of one size. Raises ValueError with both numbers."""
    if heads < 1 or width < 1 or width % heads:
        raise ValueError(f"the width must be a multiple of the number of heads: width {width}, heads {heads}")


def whole_number(name: str, given: Any, least: int | None = None, most: int | None = None) -> int:
    """The argument `name` as Python's int; it may be NumPy's or torch's, without axes.

    So a seed of np.int64(3) is the seed 3, in a hash and in a file too. Raises TypeError for anything else (True, "3",
    3.0, an array), ValueError for a number below `least` or above `most`.
    """
    number = python_number(given)
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{name} must be an int, given {given!r}: write {name}=int(...) if it is a whole number")
    if least is not None and number < least or most is not None and number > most:
        raise ValueError(f"{name} must be {least} {'or more' if most is None else f'to {most}'}, given {number}")
    return number


def real_number(name: str, given: Any) -> float:
    """The argument `name` as Python's float; it may be an int, or a number of NumPy or torch without axes.

    Raises TypeError for anything else (True, "0.1", an array).
    """
    number = python_number(given)
    if not isinstance(number, int | float) or isinstance(number, bool):
        raise TypeError(f"{name} must be a number, given {given!r}: write {name}=float(...) if it is one")
    return float(number)


def python_number(given: Any) -> Any:
    """Python's number for one of NumPy or torch; anything else as it is."""
    return given.item() if getattr(given, "ndim", None) == 0 else given


def check_shapes(on: bool = True) -> None:
    """Check the shape annotations of every `@shaped` function from now on (or, with False, stop checking)."""
    global _on
    _on = on


def shaped(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: check the jaxtyping annotations of `function` at every call while checks are on (`check_shapes`).

    A call raises ShapeError if an argument has the wrong shape; the message names the argument and the axis. For an
    argument of the wrong type and for a result of the wrong shape it raises jaxtyping's TypeCheckError, a TypeError.
    """
    right: dict[Any, set[Any]] = {}  # the forms of arguments that were right, and of the results that were

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not _on:
            return function(*args, **kwargs)
        # The same form has the same shapes: a check would find what it found before, and costs more than a small layer.
        given = None if torch.compiler.is_compiling() else _form((args, kwargs))
        if given not in right:
            result = _checked(_checking(function), function, args, kwargs)
        else:
            result = function(*args, **kwargs)
            if _form(result) not in right[given]:
                _checked(_with_checks(functools.wraps(function)(lambda *_, **__: result)), function, args, kwargs)
        if given is not None and (returned := _form(result)) is not None:
            right.setdefault(given, set()).add(returned)
        return result

    return call


def _form(value: Any) -> Any:
    """All that an annotation says something about: types, dtypes, shapes; None if `value` is of no kind known here."""
    kind = type(value)
    if kind in (Tensor, nn.Parameter, ndarray):
        return kind, value.dtype, value.shape
    if kind in (tuple, list, dict):
        if len(value) > LONGEST:  # such as the sentences of a data set, which nothing should keep
            return None
        parts = tuple(map(_form, value.items() if kind is dict else value))
        return None if None in parts else (kind, parts)
    if kind in (bool, int, float, str, type(None)):
        return kind, value
    return kind if isinstance(value, nn.Module) else None


def _with_checks(function: Callable[..., Any]) -> Callable[..., Any]:
    from beartype import beartype  # imported at the first check, since the import takes time

    return jaxtyping.jaxtyped(typechecker=beartype)(function)


_checking = functools.cache(_with_checks)


def _checked(checking: Callable[..., R], function: Callable[..., Any], args: Any, kwargs: Any) -> R:
    """The result of a function with checks; an argument's wrong shape becomes a ShapeError."""
    try:
        return checking(*args, **kwargs)
    except jaxtyping.TypeCheckError as error:
        disagreement = _explain(function, inspect.signature(function).bind(*args, **kwargs).arguments)
        if disagreement is None:  # no argument has a wrong shape: keep the checker's own message
            raise
        raise ShapeError(disagreement) from error


def _explain(function: Callable[..., Any], arguments: dict[str, Any]) -> str | None:
    """Describe the first argument whose shape differs from its annotation; None if there is none."""
    hints = typing.get_type_hints(function)
    sizes: dict[str, tuple[int, str]] = {}  # axis name -> (size, the argument that set it)
    for name, value in arguments.items():
        annotation = _array_annotation(hints.get(name), value)
        if annotation is None:
            continue
        shape = tuple(value.shape)
        given = f'{function.__qualname__}: {name} has shape {shape}, expected "{annotation.dim_str}"'
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
    """Pair the names of axes with their sizes; a leading `*name` gets all sizes that the other names do not need."""
    if axes and axes[0].startswith("*"):
        rest = len(shape) - (len(axes) - 1)
        return [(axes[0][1:], shape[:rest]), *zip(axes[1:], shape[rest:])]
    return [(axis, size) for axis, size in zip(axes, shape) if axis not in ("...", "_")]
