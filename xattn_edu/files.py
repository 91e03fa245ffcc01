"""Files that are written whole or not at all."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def write_atomically(path: str | Path, data: bytes) -> None:
    """Replace the file by `data`, or leave it as it was: whatever happens, there is never half a file.

    Raises OSError (disk full, folder missing) with the old file untouched.
    """
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # same folder, so same disk: the replacement is one step
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    if os.name == "posix":  # the folder's entry, too, is on the disk
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
