"""Confine this process before it runs a student's code: no files, no network, no other processes, bounded resources.

`confine` is called in a process of the student's own and cannot be taken back. It uses what the system has:

    Linux     Landlock (files, and from its version 4 on TCP), namespaces (processes, network), resource limits
    macOS     resource limits
    Windows   nothing

and returns in words what is in force, which a lecturer sees with the marks. Landlock and namespaces need no root.
Source: Linux's manual pages landlock(7), namespaces(7), getrlimit(2).
"""

import contextlib
import ctypes
import os
import struct
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

if sys.platform != "win32":
    import resource

KEPT = ("LANG", "OMP_NUM_THREADS", "MPLBACKEND", "SYSTEMROOT")  # variables; Windows needs the last one


@dataclass(frozen=True)
class Limits:
    """What one student's process may use."""

    seconds: float = 120.0  # of the clock, for all cells and calls of a student together
    memory: int = 4 * 2**30  # bytes of address space, for each process; torch alone takes most of 2 GiB of it
    file: int = 64 * 2**20  # bytes of the largest file that it may write
    processes: int = 64
    output: int = 100_000  # bytes of what it prints that are kept


def confine(folder: Path, limits: Limits, readable: Iterable[Path]) -> list[str]:
    """Let this process read `readable`, write below `folder` and use `limits`; what is in force, in words.

    Its children inherit all of it. The environment keeps nothing but KEPT.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    os.environ.clear()
    os.environ.update(
        kept | {"HOME": str(folder), "TMPDIR": str(folder), "MPLCONFIGDIR": str(folder), "USER": "student"}
    )
    os.chdir(folder)
    force = ["an environment without the lecturer's variables"]
    own = _namespaces() if sys.platform == "linux" else []
    force += own
    if sys.platform != "win32":
        force += _resource_limits(limits, readable, alone=bool(own))
    if sys.platform == "linux":
        force += _landlock(folder, readable)
    return force


def _resource_limits(limits: Limits, readable: Iterable[Path], alone: bool) -> list[str]:
    """`alone` is whether no process outside counts as this user's."""
    bounds = {"CPU": int(limits.seconds) + 5, "AS": limits.memory, "FSIZE": limits.file, "CORE": 0, "NOFILE": 256}
    force = []
    for name, bound in bounds.items():
        number = getattr(resource, f"RLIMIT_{name}")
        _, hardest = resource.getrlimit(number)
        bound = bound if hardest == resource.RLIM_INFINITY else min(bound, hardest)
        with contextlib.suppress(ValueError, OSError):  # macOS has no limit on address space
            resource.setrlimit(number, (bound, bound))
            force.append(name)
    words = []
    if os.geteuid() == 0:
        _become_somebody_else(readable)
        words, alone = ["a user without rights"], True
    if (others := 0 if alone else _threads_of_this_user()) is not None:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NPROC, (others + limits.processes, others + limits.processes))
            force.append("NPROC")
    return [*words, f"limits on {', '.join(force)}"]


def _threads_of_this_user() -> int | None:
    """How many run now, all programs together; None where /proc does not tell."""
    count = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
            if int(lines["Uid"].split()[0]) == os.getuid():
                count += int(lines["Threads"])
    return count or None


def _become_somebody_else(readable: Iterable[Path]) -> None:
    """Give up root, for which no limit on processes holds, for a user that no other process has.

    If this user cannot read `readable`, it keeps root's right to read, as far as Landlock lets it.
    """
    libc = ctypes.CDLL(None)
    keep_capabilities = 8
    linux = sys.platform == "linux" and libc.prctl(keep_capabilities, 1, 0, 0, 0) == 0
    user = 1 << 30 | os.getpid()
    os.setgroups([])
    try:
        os.setgid(user)
        os.setuid(user)
    except OSError:  # a container that knows fewer users
        os.setgid(65534)
        os.setuid(65534)
    if linux:
        read_all = 0 if all(map(_may_be_read, readable)) else 1 << 2  # CAP_DAC_READ_SEARCH
        libc.capset(struct.pack("Ii", 0x20080522, 0), struct.pack("6I", read_all, read_all, 0, 0, 0, 0))


def _may_be_read(path: Path) -> bool:
    """Also true if there is no such path."""
    try:
        return os.access(path, os.R_OK) or not path.exists()
    except PermissionError:
        return False


# --- Linux

_USER, _PID, _NET, _IPC = 0x10000000, 0x20000000, 0x40000000, 0x08000000  # CLONE_NEW...


def _namespaces() -> list[str]:
    """A network without a wire, and processes that all end with this one: the caller forks once after it."""
    user = 0 if os.geteuid() == 0 else _USER  # root needs no namespace of users, and would lose its rights in one
    if ctypes.CDLL(None).unshare(user | _PID | _NET | _IPC):
        return []
    return ["no network", "no process outlives its own"]


_CREATE, _ADD_RULE, _RESTRICT = 444, 445, 446  # the system calls, the same on all processors
_READ = 1 | 4 | 8  # execute, read a file, read a folder
_BY_VERSION = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}  # which rights on files a version knows


def _landlock(folder: Path, readable: Iterable[Path]) -> list[str]:
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, 0, 1)
    if version < 1:
        return []
    every = sum(rights for since, rights in _BY_VERSION.items() if version >= since)
    tcp, scopes = (3 if version >= 4 else 0), (3 if version >= 6 else 0)  # bind, connect; signals, abstract sockets
    attributes = struct.pack("QQQ", every, tcp, scopes)
    rules = libc.syscall(_CREATE, attributes, len(attributes) if version >= 6 else 16 if version >= 4 else 8, 0)
    if rules < 0:
        return []
    for path, rights in [*((path, _READ) for path in readable), (folder, every), (Path(os.devnull), every)]:
        with contextlib.suppress(OSError):  # what is not there needs no rule
            opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
            file_only = 0 if path.is_dir() else 1 | 2 | 4 | (every & 1 << 14)
            rule = struct.pack("=Qi", rights & file_only if file_only else rights, opened)
            libc.syscall(_ADD_RULE, rules, 1, rule, 0)
            os.close(opened)
    no_new_privileges = 38
    restricted = libc.prctl(no_new_privileges, 1, 0, 0, 0) == 0 and libc.syscall(_RESTRICT, rules, 0) == 0
    os.close(rules)
    if not restricted:
        return []
    return ["no files but Python's own and an empty folder"] + (["no TCP"] if tcp else [])
