"""Files that are written whole or not at all, and the line to quote of an error that reading one raised."""

import os
from pathlib import Path


def write_atomically(path: str | Path, data: bytes) -> None:
    """Replace the file by `data`, or leave it as it was: there is never half a file, even after a crash.

    Raises OSError (disk full, folder missing) and leaves the old file as it was.
    """
    path = Path(path)
    part = path.with_name(
        f".{path.name}.{os.getpid()}.part"
    )  # in the same folder, so on the same disk, where os.replace is one step
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
    """Refuse an output file whose folder is missing. Raises FileNotFoundError."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}, where {path.name} should go, is not a folder: make it first")


def first_line(error: Exception) -> str:
    """The name of an error and its first line, or two lines where the first one only announces the second."""
    return ": ".join([type(error).__name__, *(line.strip() for line in str(error).splitlines()[:2])]).rstrip(":")
