"""The program of a student's process: confine itself, run the notebook's cells, then call what the lecturer's asks for.

It holds nothing to be found: no expected value, no hidden case, no path of the lecturer. `sandbox` starts it.
"""

import builtins
import contextlib
import linecache
import os
import pickle
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, BinaryIO, cast

from torch import nn

from xattn_edu.exercises.guard import Guarded, NotAttempted, Stopped, TimeLimit, Wrong, time_limit
from xattn_edu.grading.confine import confine
from xattn_edu.grading.wire import Broken, packed, plain, receive, send

WORDS = 2000  # characters of an error that are kept
CALL_SECONDS = 10.0  # for one call of a student's function
CELL_SECONDS = 20.0  # for one cell
CELLS_SECONDS = 40.0  # for all cells; when they are used up, each further one has LEAST
LEAST = 2.0  # to define a function takes milliseconds


def main() -> None:
    """Talk over the standard input and output; what the student's code prints goes to the standard error."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    start = pickle.loads(receive(source))
    force = confine(Path(start["folder"]), start["limits"], [*map(Path, start["readable"])])
    _enter(sink, force)
    _hide_the_checks()
    names, ran = run_cells(start["cells"])
    send(sink, packed({"cells": ran}))
    with contextlib.suppress(Broken):
        serve(source, sink, names)
    os._exit(0)  # without the exit handlers of the student's code


def _enter(sink: BinaryIO, force: Sequence[str]) -> None:
    """Go on inside the new namespace of processes, if there is one, as its first; tell the other side its number.

    `force` is told as well, while no code of the student's can tell something else. The process before it stays
    outside and waits for it.
    """
    if "no process outlives its own" not in force:
        send(sink, packed({"inner": 0, "force": force}))
        return
    told, tell = os.pipe()
    if inner := os.fork():
        send(sink, packed({"inner": inner, "force": force}))
        for stream in (tell, told, sink.fileno(), 0, 1, 2):  # else they would stay open when the one inside ends
            os.close(stream)
        _, status = os.waitpid(inner, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 255)
    os.close(tell)
    os.read(told, 1)  # until the number is sent
    os.close(told)


def _hide_the_checks() -> None:
    """Put an empty `check` in the place of `xattn_edu.homework`: the real one and its catalogue hold right answers."""
    for name in [name for name in sys.modules if name.startswith("xattn_edu.homework")]:
        del sys.modules[name]
    hidden = ModuleType("xattn_edu.homework")  # no package, so nothing can be imported from below it
    vars(hidden)["check"] = lambda name, answer: None
    sys.modules["xattn_edu.homework"] = hidden


def run_cells(cells: Sequence[tuple[str, str]]) -> tuple[dict[str, Any], dict[str, str]]:
    """Run the cells (name, source) in order; the names that they bind, and the errors of those that stopped."""
    import matplotlib
    from IPython.core.inputtransformer2 import TransformerManager

    matplotlib.use("agg")
    transform = TransformerManager().transform_cell
    shell = SimpleNamespace(run_line_magic=lambda *_: None, run_cell_magic=lambda *_: None, system=lambda *_: None)
    names: dict[str, Any] = {"__name__": "__main__", "get_ipython": lambda: shell, "display": lambda *_, **__: None}
    names["__builtins__"] = builtins
    errors, end = {}, time.monotonic() + CELLS_SECONDS
    for name, source in cells:
        seconds = max(LEAST, min(CELL_SECONDS, end - time.monotonic()))
        file = f"<cell {name}>"
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        try:
            with time_limit(seconds):
                exec(compile(transform(source), file, "exec"), names)
        except NotImplementedError:
            pass  # a stub that is called further down
        except TimeLimit:
            errors[name] = f"did not end within {seconds:.0f} seconds"
        except BaseException as error:  # noqa: BLE001 - a student's code may raise anything, and the next cell follows
            errors[name] = f"{type(error).__name__}: {error}"[:WORDS]
    return names, errors


def serve(source: BinaryIO, sink: BinaryIO, names: dict[str, Any]) -> None:
    """Answer requests until the stream ends. A request is (what, name or number, arguments)."""
    guards: dict[Any, Guarded] = {}
    objects: list[Any] = []
    while True:
        what, key, arguments = pickle.loads(receive(source))
        try:
            if key not in guards:
                if key not in names:
                    raise Wrong(f"{key} is not defined: is its cell still there, and does it run?")
                guards[key] = Guarded(names[key], CALL_SECONDS)
            if what == "learns":
                guards[key].learns()
                reply: dict[str, Any] = {"value": None}
            elif what == "load":
                cast(nn.Module, guards[key].answer).load_state_dict(arguments[0])
                reply = {"value": None}
            else:
                reply = _value(guards[key](*arguments), guards[key], guards, objects)
        except NotAttempted:
            reply = {"not attempted": True}
        except Wrong as wrong:
            reply = {"wrong": str(wrong)[:WORDS]}
        except Stopped as stopped:
            reply = {"stopped": str(stopped)[:WORDS]}
        except BaseException as error:  # noqa: BLE001 - objects of the student's may raise when they are looked at
            reply = {"stopped": f"stopped with {type(error).__name__}: {error}"[:WORDS]}
        send(sink, packed(reply))


def _value(result: Any, guard: Guarded, guards: dict[Any, Guarded], objects: list[Any]) -> dict[str, Any]:
    if isinstance(result, nn.Module):  # it stays here; the other side gets its number and the shapes of its weights
        objects.append(result)
        guards[len(objects)] = guard.of(result)
        shapes = {name: list(value.shape) for name, value in result.state_dict().items()}
        return {"object": len(objects), "shapes": shapes}
    return {"value": plain(result)}


if __name__ == "__main__":
    main()
