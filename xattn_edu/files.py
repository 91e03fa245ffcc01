"""Files that are written whole or not at all, JSON that is read, and the line to quote of an error."""

import json
import os
from pathlib import Path
from typing import Any


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
