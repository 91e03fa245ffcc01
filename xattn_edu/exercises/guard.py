"""One call of the reader's answer: it may take so long, print, raise and change what it likes, and nothing leaks.

- The call has a time limit. What it prints is kept until the verdict is out.
- Random numbers, default dtype, gradient mode and NumPy's error state are afterwards as they were.
- Tensors and modules come as float32, as in the lessons, and results go back as float64, so that a check computes its
  references exactly. An answer that writes into `torch.zeros(...)` is as right as any other.
- Arguments that it changes in place are found, and the answer is refused: the caller still needs them.
- Where it is given a module with weights, the result must be differentiable, so that the module can be trained.
"""

import contextlib
import copy
import ctypes
import inspect
import io
import os
import random
import threading
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor, nn

SECONDS = 20.0  # for one call; the longest right answer takes a hundredth of it


class Wrong(Exception):
    """The answer is wrong; the message says what differs and, if a known mistake gives this result, names it."""


class NotAttempted(Exception):
    """The answer is still the stub that raises NotImplementedError."""


class Ended(Exception):
    """The process in which an answer runs has ended: there is no verdict."""


class TimeLimit(BaseException):
    """Raised inside an answer that takes too long. No `except Exception` of the answer catches it."""


class Stopped(Exception):
    """The answer raised an error; the message has the error and the line."""


class _Beginning(io.StringIO):
    """The first characters of what is printed; a loop that prints must not fill the memory."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, 10_000 - self.tell())])
        return len(text)


class Guarded:
    """An answer that a check calls as if it were the answer itself, with positional arguments.

    `printed` holds what the answer has printed, `calls` what went into each call and what came out (see `learns`).
    """

    def __init__(self, answer: Callable[..., Any], seconds: float = SECONDS):
        if not callable(answer):
            raise Wrong(f"give the check the function itself, without brackets behind it, given {answer!r}")
        self.answer, self.seconds = answer, seconds
        self.printed, self.calls = _Beginning(), list[tuple[list[Any], Any]]()

    def of(self, module: nn.Module) -> "Guarded":
        """The same guard for a module that the answer, a class, has made."""
        guard = Guarded(module, self.seconds)
        guard.printed, guard.calls = self.printed, self.calls
        return guard

    def __call__(self, *arguments: Any) -> Any:
        return self._call(arguments, [_converted(x, torch.float64, torch.float32) for x in (self.answer, *arguments)])

    def exactly(self, *arguments: Any) -> Any:
        """A call with the arguments as they are, where float32 would be too coarse."""
        return self._call(arguments, [self.answer, *arguments])

    def _call(self, arguments: tuple[Any, ...], converted: list[Any]) -> Any:
        answer, *given = converted
        before = [_snapshot(x) for x in given]
        result = self._run(answer, given)
        for name, now, was in zip(self._names(len(given)), given, before):
            if not _same(now, was):
                raise Wrong(
                    f"it changes {name} in place, and its caller may need {name} again. Write x = x + 1 instead of "
                    "x += 1, or change a copy."
                )
        self.calls.append((converted, result))
        as_given = all(now is was for now, was in zip(converted, (self.answer, *arguments)))
        return result if as_given else _converted(result, torch.float32, torch.float64)

    def learns(self) -> None:
        """Raise Wrong if no gradient reached a weight that a call was given, for the calls since the last time."""
        # Here and not in each call, because a check may count what a call computes.
        calls = list(self.calls)
        self.calls.clear()  # a second case must not go backward through the graphs of the first: they are freed
        if unreached := set().union(*(_unreached(*call) for call in calls)):
            raise Wrong(
                f"the numbers are right, but no gradient reaches {', '.join(sorted(unreached))}, so it cannot be "
                "trained: is something detached, or computed under torch.no_grad()?"
            )

    def _run(self, answer: Callable[..., Any], given: list[Any]) -> Any:
        try:
            with _restored(), contextlib.redirect_stdout(self.printed), time_limit(self.seconds):
                return answer(*given)
        except TimeLimit:
            raise Wrong(f"it did not end within {self.seconds:g} seconds: is there a loop without an end?") from None
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the reader's code may raise anything
            raise self._explained(error) from error

    def _explained(self, error: BaseException) -> Exception:
        """The error with the line of the answer that it came from.

        A stub is known by its own `raise`. It may be another one than the answer, in another cell: a cell is no file.
        """
        frames = traceback.extract_tb(error.__traceback__)
        mine = [frame for frame in frames if frame.filename == _file_of(self.answer)]
        raised_here = bool(mine) and (mine[-1] is frames[-1] or not os.path.exists(frames[-1].filename))
        if isinstance(error, NotImplementedError) and raised_here:
            return NotAttempted()
        message = f"stopped with {type(error).__name__}" + (f": {error}" if str(error) else "")
        return Stopped(f"{message}\n  line {mine[-1].lineno}: {mine[-1].line}" if mine and mine[-1].line else message)

    def _names(self, count: int) -> list[str]:
        """How the answer calls its arguments."""
        try:
            called = self.answer.forward if isinstance(self.answer, nn.Module) else self.answer
            names = [f"`{name}`" for name in inspect.signature(called).parameters]
        except (TypeError, ValueError):  # some callables have no signature
            names = []
        return names if len(names) >= count else [f"its argument {number}" for number in range(1, count + 1)]


def _file_of(answer: Any) -> str:
    """The file, or the notebook's cell, in which a function or a class is written; empty if it is not known."""
    answer = getattr(inspect.unwrap(answer), "func", answer)  # of a functools.partial
    if not hasattr(answer, "__code__"):  # a class or a module: any of its methods
        methods = vars(answer if inspect.isclass(answer) else type(answer)).values()
        answer = next((method for method in methods if hasattr(method, "__code__")), None)
    return answer.__code__.co_filename if answer else ""


# --- what must not leak


@contextlib.contextmanager
def _restored() -> Iterator[None]:
    """Gradients are on inside; global state that the body changes is afterwards as before."""
    states, dtype = (random.getstate(), np.random.get_state()), torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad(), np.errstate():
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_default_dtype(dtype)


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeLimit in the body after so many seconds.

    A second thread raises it between two of Python's instructions, on every system; a single operation of NumPy or
    torch ends first.
    """
    thread, lock, over = threading.get_ident(), threading.Lock(), False

    def fire() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(TimeLimit))

    timer = threading.Timer(seconds, fire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            over = True
        timer.cancel()


# --- what an answer is given, and what it did to it


def _converted(x: Any, old: torch.dtype, new: torch.dtype) -> Any:
    """`x` with tensors and modules of one dtype in another; the very same object if nothing in it has that dtype."""
    if isinstance(x, Tensor):
        return x.to(new) if x.dtype == old else x
    if isinstance(x, nn.Module):
        return copy.deepcopy(x).to(new) if any(p.dtype == old for p in x.parameters()) else x
    if type(x) in (list, tuple):
        parts = [_converted(part, old, new) for part in x]
        return x if all(now is was for now, was in zip(parts, x)) else type(x)(parts)
    return x


def _snapshot(x: Any) -> Any:
    if isinstance(x, Tensor):
        return x.detach().clone()
    if isinstance(x, nn.Module):
        return {name: value.clone() for name, value in x.state_dict().items()} | {"training": x.training}
    if type(x) in (list, tuple):
        return type(x)(_snapshot(part) for part in x)
    return copy.copy(x) if isinstance(x, ndarray | dict | set) else x


def _same(now: Any, was: Any) -> bool:
    if isinstance(now, nn.Module):
        return _same(now.state_dict() | {"training": now.training}, was)
    if isinstance(now, dict):
        return now.keys() == was.keys() and all(_same(now[name], was[name]) for name in now)
    if type(now) in (list, tuple):
        return len(now) == len(was) and all(map(_same, now, was))
    if isinstance(now, Tensor | ndarray):
        return now.shape == was.shape and bool(((now == was) | ((now != now) & (was != was))).all())
    return not isinstance(now, set | bool) or now == was


def _unreached(given: list[Any], result: Any) -> set[str]:
    """The weights of modules among `given` that no gradient of the result reaches.

    The bias of the keys is left out: softmax takes it away, and an answer may leave it out as well.
    """
    modules = [x for x in given if isinstance(x, nn.Module)]
    weights = {name: p for module in modules for name, p in module.named_parameters() if p.requires_grad}
    if not weights or not isinstance(result, tuple | list | Tensor):
        return set()
    results = [x for x in ([result] if isinstance(result, Tensor) else result) if isinstance(x, Tensor)]
    with torch.enable_grad():
        sums = [x.sum() for x in results if x.requires_grad]
    if not sums:
        return set(weights)
    gradients = torch.autograd.grad(sums, list(weights.values()), allow_unused=True)
    return {name for name, gradient in zip(weights, gradients) if gradient is None and not name.endswith("key.bias")}
