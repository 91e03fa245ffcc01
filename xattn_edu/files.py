"""Files that are written whole or not at all, and the line to quote of an error that reading one raised."""

import os
import uuid
from pathlib import Path


def write_atomically(path: str | Path, data: bytes) -> None:
    """Replace the file by `data`, or leave it as it was: there is never half a file, even after a crash.

    Raises OSError (disk full, folder missing) and leaves the old file as it was.
    """
    path = Path(path)
    # In the same folder, so on the same disk, where os.replace is one step. Its own name is short, because the file's
    # may already be as long as a name can be.
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":  # write the folder's entry to the disk as well
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)


def check_folder_of(path: Path) -> None:
    """Refuse an output file whose folder is missing, or whose name is too long for it.

    Raises FileNotFoundError and ValueError.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}, where {path.name} should go, is not a folder: make it first")
    longest = os.pathconf(path.parent, "PC_NAME_MAX") if os.name == "posix" else 255
    if (length := len(os.fsencode(path.name))) > longest:
        raise ValueError(f"{path.name} is {length} bytes long, a name here has {longest} at most: name a shorter one")


def expanded(path: str | Path) -> Path:
    """The path with "~" expanded. Raises FileNotFoundError if nothing tells where the home folder is."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise FileNotFoundError(f"{path}: there is no home folder for ~: write the whole path, or set HOME") from error


def first_line(error: Exception) -> str:
    """The name of an error and its first line, or two lines where the first one only announces the second."""
    return ": ".join([type(error).__name__, *(line.strip() for line in str(error).splitlines()[:2])]).rstrip(":")
