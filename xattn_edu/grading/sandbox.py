"""A student's process, seen from the lecturer's: start it, call a function of the student's, end it."""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from torch import Tensor

import xattn_edu
from xattn_edu.exercises.guard import NotAttempted, Stopped, Wrong
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.wire import Broken, parsed, receive, send, unpacked

PACKAGE = Path(xattn_edu.__file__).parent
START = "import sys; sys.path.insert(0, sys.argv[1]); from xattn_edu.grading.child import main; main()"
SYSTEM = "/usr /lib /lib64 /etc /dev/null /dev/zero /dev/urandom /proc /sys/devices/system/cpu".split()


class Sandbox:
    """The cells of one notebook, run in a confined process of their own; use it in a `with` statement.

    `force` says in words how the process is confined, `errors` which cells stopped, `output` what was printed (cut).
    Raises Broken if the process ends before its cells have run.
    """

    def __init__(self, cells: Sequence[tuple[str, str]], limits: Limits | None = None):
        limits = limits or Limits()
        self.limits, self.output = limits, b""
        self._folder = tempfile.TemporaryDirectory(prefix="xattn_student_", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        folder.chmod(0o777)  # the process may run as another user; nobody else gets through its parent
        environment = {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "LANG": "C.UTF-8", "PATH": os.defpath}
        environment |= {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-c", START, str(PACKAGE.parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        self._to, self._back = cast(BinaryIO, self._process.stdin), cast(BinaryIO, self._process.stdout)
        self._timer = threading.Timer(limits.seconds, self._kill)
        self._timer.daemon = True
        self._timer.start()
        threading.Thread(target=self._drain, daemon=True).start()
        readable = [sys.prefix, sys.base_prefix, str(PACKAGE), *SYSTEM]
        start = {"folder": str(folder), "limits": limits, "readable": readable, "cells": list(cells)}
        try:
            self._send(start)
            hello = self._receive()
            self.force, self.errors = [*map(str, hello["force"])], {str(k): str(v) for k, v in hello["cells"].items()}
        except (Broken, KeyError, TypeError, AttributeError) as error:
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
        self._kill()
        self._process.wait()
        self._folder.cleanup()

    def request(self, what: str, key: str | int, arguments: Sequence[Any] = ()) -> dict[str, Any]:
        """The reply to a request. Raises Wrong, NotAttempted and Stopped as a guarded call does, Broken if it ended."""
        try:
            self._send((what, key, tuple(arguments)))
            reply = self._receive()
        except Broken as error:
            raise Broken(self._end("it was finished")) from error
        if "not attempted" in reply:
            raise NotAttempted
        if "wrong" in reply:
            raise Wrong(str(reply["wrong"]))
        if "stopped" in reply:
            raise Stopped(str(reply["stopped"]))
        return reply

    def _send(self, message: Any) -> None:
        send(self._to, pickle.dumps(message))

    def _receive(self) -> dict[str, Any]:
        return unpacked(receive(self._back))

    def _end(self, before: str) -> str:
        if self._timer.finished.is_set():
            return f"the notebook was ended after {self.limits.seconds:g} seconds, before {before}"
        return f"the notebook's process ended by itself before {before}: out of memory, or os._exit?"

    def _kill(self) -> None:
        if self._process.poll() is None:
            if os.name == "posix":
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def _drain(self) -> None:
        """Keep the beginning of what is printed, and read on, so that printing never stops the process."""
        stream = cast(BinaryIO, self._process.stderr)
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
