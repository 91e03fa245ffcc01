"""A student's process, seen from the lecturer's: start it, call a function of the student's, end it."""

import pickle
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from xattn_edu.exercises.guard import NotAttempted, Stopped, Wrong
from xattn_edu.grading import forkserver
from xattn_edu.grading.child import CALL_SECONDS, WORDS
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.wire import Broken, parsed, receive, send, unpacked

SYSTEM = "/usr /lib /lib64 /etc /dev/null /dev/zero /dev/urandom /proc /sys/devices/system/cpu".split()
# The library without the checks and their catalogue, which hold right answers.
LIBRARY = [str(path) for path in (forkserver.ROOT / "xattn_edu").iterdir() if path.name not in ("homework", "grading")]
READABLE = [sys.prefix, sys.base_prefix, *LIBRARY, *SYSTEM]
GRACE = 10.0  # seconds after which a call whose own time limit did not end it is ended with its process

Start = Callable[[Path], forkserver.Process]


class Sandbox:
    """The cells of one notebook, run in a confined process of their own; use it in a `with` statement.

    `force` says in words how the process is confined, `errors` which cells stopped, `output` what was printed (cut).
    Raises Broken if the process ends before its cells have run.

    Args:
        cells: name and source of each, in order.
        limits: of this process and all that it starts.
        start: starts a process in a folder: `forkserver.new`, or the faster `copy` of a ForkServer.
    """

    def __init__(self, cells: Sequence[tuple[str, str]], limits: Limits | None = None, start: Start = forkserver.new):
        self.limits, self.output = limits or Limits(), b""
        self._folder = tempfile.TemporaryDirectory(prefix="xattn_student_", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        folder.chmod(0o777)  # the process may run as another user; other users of the machine may write here, too
        try:
            self._process = start(folder)
        except OSError:
            self._folder.cleanup()
            raise
        self._late = False
        self._timer = self._end_after(self.limits.seconds)
        threading.Thread(target=self._drain, daemon=True).start()
        try:
            asked = {"folder": str(folder), "limits": self.limits, "readable": READABLE, "cells": list(cells)}
            self._send(asked)
            hello = self._receive()  # sent before any code of the student's runs
            if inner := hello["inner"]:
                self._process.watch(int(inner))
            self.force = [*map(str, hello["force"])]
            errors = self._receive()["cells"]
            self.errors = {name: str(errors[name])[:WORDS] for name, _ in cells if name in errors}
        except (Broken, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            reason = self._end("its cells have run")
            self.close()
            raise Broken(reason) from error

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process with all that it has started, and remove its folder."""
        self._timer.cancel()
        self._process.close()
        self._folder.cleanup()

    def request(self, what: str, key: str | int, arguments: Sequence[Any] = ()) -> dict[str, Any]:
        """The reply to a request. Raises Wrong, NotAttempted and Stopped as a guarded call does, Broken if it ended."""
        timer = self._end_after(CALL_SECONDS + GRACE)
        try:
            self._send((what, key, tuple(arguments)))
            reply = self._receive()
        except Broken as error:
            raise Broken(self._end("it was finished")) from error
        finally:
            timer.cancel()
        if "not attempted" in reply:
            raise NotAttempted
        if "wrong" in reply:
            raise Wrong(str(reply["wrong"])[:WORDS])
        if "stopped" in reply:
            raise Stopped(str(reply["stopped"])[:WORDS])
        return reply

    def _send(self, message: Any) -> None:
        send(self._process.to, pickle.dumps(message))

    def _receive(self) -> dict[str, Any]:
        return unpacked(receive(self._process.back))

    def _end_after(self, seconds: float) -> threading.Timer:
        def end() -> None:
            self._late = True
            self._process.end()

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        return timer

    def _end(self, before: str) -> str:
        if self._late:
            return f"the notebook's process took too long and was ended before {before}"
        return f"the notebook's process ended by itself before {before}: out of memory, or os._exit?"

    def _drain(self) -> None:
        """Keep the beginning of what is printed, and read on, so that printing never stops the process."""
        with self._process.printed as stream:
            while chunk := stream.read1(1 << 16):  # type: ignore[attr-defined]
                self.output = (self.output + chunk)[: self.limits.output]


class Remote:
    """A student's function, or a module that it has made, called like a `Guarded` answer."""

    def __init__(self, sandbox: Sandbox, key: str | int, shapes: dict[str, tuple[int, ...]] | None = None):
        self.sandbox, self.key, self.shapes = sandbox, key, shapes or {}
        self.__name__ = str(key)

    def __call__(self, *arguments: Any) -> Any:
        reply = self.sandbox.request("call", self.key, arguments)
        if "object" in reply:
            try:
                shapes = {str(name): tuple(map(int, shape)) for name, shape in reply["shapes"].items()}
                return Remote(self.sandbox, int(reply["object"]), shapes)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise Broken("a result that is none") from error
        return parsed(reply.get("value"))

    def load(self, state: dict[str, Tensor]) -> None:
        """Give the module these weights. Raises Stopped if it has others."""
        self.sandbox.request("load", self.key, (state,))

    def learns(self) -> None:
        """As `Guarded.learns`."""
        self.sandbox.request("learns", self.key)
