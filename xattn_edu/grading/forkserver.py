"""Start the processes in which students' code runs: on Linux copies of one clean process, elsewhere new ones.

A copy takes milliseconds, a new Python that imports torch takes seconds. The process that is copied is a program of its
own with a bare environment. It never holds a hidden case, an expected value or a path of the lecturer's, so its copies
do not either.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

ROOT = Path(__file__).parents[2]
ONE = "import sys; sys.path.insert(0, sys.argv[1]); from xattn_edu.grading.child import main; main()"
SERVER = "import sys; sys.path.insert(0, sys.argv[1]); from xattn_edu.grading.forkserver import main; main()"
COPY, FORGET = b"c", b"f"  # requests: copy yourself, giving the copy these streams; let this one's number go


class Process:
    """A running process: its three streams, and how it is ended with all that it has started."""

    def __init__(self, to: BinaryIO, back: BinaryIO, printed: BinaryIO, number: int, forget: Callable[[], object]):
        self.to, self.back, self.printed = to, back, printed
        self._number, self._forget = number, forget
        self._inner: int | None = None
        self._lock, self._ended = threading.Lock(), False

    def watch(self, inner: int) -> None:
        """The first process of the namespace in which this one's students' code runs: with it end all others there."""
        with contextlib.suppress(OSError):
            self._inner = os.pidfd_open(inner)  # its number may be another's later, this is always the same process

    def end(self) -> None:
        """Kill it with all that it has started. The second call does nothing."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self._inner is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._inner, signal.SIGKILL)
                os.close(self._inner)
            if os.name == "posix":  # its number stays its own until it is let go
                for kill in (os.killpg, os.kill):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        kill(self._number, signal.SIGKILL)
            self._forget()

    def close(self) -> None:
        """End it and close its streams."""
        self.end()
        for stream in (self.to, self.back):
            with contextlib.suppress(OSError):  # what could not be written any more
                stream.close()


def environment() -> dict[str, str]:
    """What a new program gets: one thread, no window, nothing of the lecturer's."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT",) if name in os.environ}  # Windows needs it
    return kept | {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "LANG": "C.UTF-8", "PATH": os.defpath}


def new(folder: Path) -> Process:
    """A new Python."""
    popen = subprocess.Popen(
        [sys.executable, "-I", "-c", ONE, str(ROOT)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        cwd=folder,
        start_new_session=True,
    )

    def forget() -> None:
        popen.kill()  # on Windows nothing else has
        popen.wait()

    to, back, printed = (cast(BinaryIO, stream) for stream in (popen.stdin, popen.stdout, popen.stderr))
    return Process(to, back, printed, popen.pid, forget)


class ForkServer:
    """One clean process that copies itself on request; threads may share it. Use it in a `with` statement."""

    def __init__(self) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, "-I", "-c", SERVER, str(ROOT), str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env=environment(),
                cwd="/",
                start_new_session=True,
            )
        self._lock = threading.Lock()

    def __enter__(self) -> "ForkServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._control.close()  # which ends it
        self._server.wait()

    def copy(self, folder: Path) -> Process:
        """A copy. Raises ChildProcessError if the server has ended, which is no student's fault."""
        (source, to), (back, sink), (printed, errors) = os.pipe(), os.pipe(), os.pipe()
        try:
            with self._lock:
                socket.send_fds(self._control, [struct.pack("=ci", COPY, 0)], [source, sink, errors])
                answer = self._control.recv(4)
        except OSError:
            answer = b""
        for stream in (source, sink, errors):
            os.close(stream)
        if not answer:
            for stream in (to, back, printed):
                os.close(stream)
            raise ChildProcessError("the server of students' processes has ended; give the same command again to go on")
        (number,) = struct.unpack("=i", answer)
        streams = os.fdopen(to, "wb"), os.fdopen(back, "rb"), os.fdopen(printed, "rb")
        return Process(*streams, number, lambda: self._let_go(number))

    def _let_go(self, number: int) -> None:
        with self._lock, contextlib.suppress(OSError):
            self._control.send(struct.pack("=ci", FORGET, number))


def main() -> None:
    """The server: import what students' notebooks import, then copy."""
    import IPython.core.inputtransformer2  # noqa: F401
    import matplotlib.pyplot  # noqa: F401

    import xattn_edu.measure
    import xattn_edu.models  # noqa: F401
    from xattn_edu.grading import child

    control = socket.socket(fileno=int(sys.argv[2]))
    while True:
        message, streams, _, _ = socket.recv_fds(control, 5, 3)
        if len(message) < 5:
            os._exit(0)
        request, number = struct.unpack("=ci", message)
        if request == FORGET:
            os.waitpid(number, 0)
            continue
        if not (number := os.fork()):
            _become_the_child(control, streams, child.main)
        for stream in streams:
            os.close(stream)
        control.send(struct.pack("=i", number))


def _become_the_child(control: socket.socket, streams: list[int], child: Callable[[], None]) -> None:
    try:
        control.close()
        os.setsid()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        child()
    except BaseException:  # noqa: BLE001 - a copy must never go on as the server
        traceback.print_exc()
    finally:
        os._exit(1)
