"""Files that are written whole or not at all, JSON that is read, and the line to quote of an error."""

import contextlib
import errno
import itertools
import json
import os
import platform
import zlib
from pathlib import Path
from typing import Any

_counter = itertools.count()
_NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # what file systems without fsync answer


def write_atomically(path: str | Path, data: bytes) -> None:
    """Replace the file by `data`, or leave it as it was: there is never half a file, even after a crash.

    Several processes may write the same file at once; the last one wins. Raises OSError with the file's name (disk
    full, folder missing, read-only) and leaves the old file as it was.
    """
    path = Path(path)
    part = _temporary(path)  # in the same folder, so on the same disk, where os.replace is one step
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            _to_disk(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(part)
        _remove_leftovers(path)
    if os.name == "posix":  # write the folder's entry to the disk as well; the file is in place if that fails
        with contextlib.suppress(OSError):
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def check_folder_of(path: Path) -> None:
    """Refuse an output file that cannot be written, before any work: an empty file beside it is written and removed.

    Raises FileNotFoundError for a missing folder, ValueError for a name that is too long, IsADirectoryError if `path`
    is a folder, and another OSError with the path for a folder that cannot be written.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}, where {path.name} should go, is not a folder: make it first")
    longest = os.pathconf(path.parent, "PC_NAME_MAX") if os.name == "posix" else 255
    if (length := len(os.fsencode(path.name))) > longest:
        raise ValueError(f"{path.name} is {length} bytes long, a name here has {longest} at most: name a shorter one")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: name a file in it")
    part = _temporary(path)
    try:
        open(part, "xb").close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        _remove(part)
        _remove_leftovers(path)


def expanded(path: str | Path) -> Path:
    """The path with "~" expanded. Raises FileNotFoundError if nothing tells where the home folder is."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{path}: there is no home folder for ~: write the whole path, or set HOME") from error


def read_json(path: Path, limit: int = 2**26) -> Any:
    """What a file of JSON holds.

    Raises FileNotFoundError for what is no file (a folder, a pipe, a link to nothing), ValueError for more than `limit`
    bytes and for text that is no JSON. Only the first of them names the file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file")
    if (size := path.stat().st_size) > limit:  # before it is read: any file may have been named so
        raise ValueError(f"{size:,} bytes are more than the {limit:,} that such a file has at most")
    return parse_json(path.read_bytes())


def parse_json(text: str | bytes) -> Any:
    """`json.loads`, which raises ValueError also for brackets that are nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets are nested too deeply") from error


def first_line(error: Exception) -> str:
    """The name of an error and its first line, or two lines where the first one only announces the second."""
    return ": ".join([type(error).__name__, *(line.strip()[:400] for line in str(error).splitlines()[:2])]).rstrip(":")


def _temporary(path: Path) -> Path:
    """A file beside `path` for this process alone, whose name is short, since `path` may use all that is allowed."""
    return path.with_name(f"{_prefix(path)}{os.getpid()}.{next(_counter)}.part")


def _prefix(path: Path) -> str:
    """The begin of temporary names: it stands for the file and the computer, whose processes can be looked up."""
    return f".{zlib.crc32(os.fsencode(path.name)):08x}.{zlib.crc32(platform.node().encode()):08x}."


def _to_disk(file: int) -> None:
    """os.fsync, where the file system has it."""
    try:
        os.fsync(file)
    except OSError as error:
        if error.errno not in _NO_FSYNC:
            raise


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # on a read-only disk there is nothing to remove
        path.unlink(missing_ok=True)


def _remove_leftovers(path: Path) -> None:
    """Remove the temporary files of processes that were killed while they wrote this file."""
    if os.name != "posix":  # elsewhere os.kill would end the process
        return
    with contextlib.suppress(OSError):
        for part in path.parent.glob(f"{_prefix(path)}*.part"):
            if not _runs(int(part.name.split(".")[3])):
                _remove(part)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True
