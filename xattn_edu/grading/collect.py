"""From what a learning platform hands out to one folder a student.

Taken are: folders of notebooks, zip archives of them (and archives inside an archive, once), and notebooks by
themselves. The student's name is the first folder's; without a folder it is the part of the file's name that comes
before the platform's numbers and words, as in Moodle's "Ada Lovelace_12345_assignsubmission_file_hw1.ipynb", Canvas's
"lovelaceada_1234_5678_hw1.ipynb" and plain "ada-hw1.ipynb". Two students of one name keep the platform's numbers behind
it. Names are kept in Unicode's composed form.
"""

import datetime
import io
import os
import re
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from xattn_edu.files import write_atomically
from xattn_edu.grading.sheets import LARGEST

ARCHIVE = 2**30  # bytes of all that one archive may unpack to
PLATFORMS = r"_(\d+)_assignsubmission_.*|_(?:late_)?(\d+)_\d+_.*"
SKIPPED = ("__MACOSX", ".ipynb_checkpoints")


@dataclass(frozen=True)
class Found:
    """A notebook that was handed in: where, what is in it, when, and why it is left out ("" if it is not)."""

    place: PurePosixPath
    payload: bytes = b""
    time: float = 0.0
    remark: str = ""


@dataclass
class Collected:
    """What was found: how many notebooks by student, and what was left out, with the reason."""

    students: dict[str, int] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def collect(handed_in: Path, folder: Path, name: str) -> Collected:
    """Copy all submissions of the set `name` from `handed_in`, a folder or an archive, to `folder`/submitted/`name`.

    Nothing that was collected before is overwritten by other content: it gets a number. Raises ValueError if there is
    no notebook, FileNotFoundError if `handed_in` does not exist.
    """
    if not handed_in.exists():
        raise FileNotFoundError(f"{handed_in} does not exist: give the folder or the archive that the platform made")
    collected = Collected()
    places = [found.place for found in _walk(handed_in)]
    around = _around(places)
    numbers: dict[str, set[str]] = {}
    for place in places:
        numbers.setdefault(student_of(place.relative_to(around), name), set()).add(_number(place))
    for found in _walk(handed_in):
        if found.remark:
            collected.left_out.append(f"{found.place}: {found.remark}")
            continue
        student = student_of(found.place.relative_to(around), name)
        if len(numbers[student]) > 1 and (number := _number(found.place)):
            student = f"{student} ({number})"
        target = _free(folder / "submitted" / name / student, found.place.name, found.payload)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, found.payload)
        os.utime(target, (found.time, found.time))  # the newest is graded
        collected.students[student] = collected.students.get(student, 0) + 1
    if not collected.students:
        reasons = "".join(f"\n  {line}" for line in collected.left_out)
        raise ValueError(f"no notebook (.ipynb) was found in {handed_in}{reasons}")
    return collected


def _around(places: Sequence[PurePosixPath]) -> PurePosixPath:
    """The one folder that is around the folders, or the platform's files, of several students; "." if there is none."""
    first, inner = {place.parts[0] for place in places}, [PurePosixPath(*place.parts[1:]) for place in places]
    known = all(len(place.parts) > 1 or re.search(PLATFORMS, place.stem) for place in inner)
    several = len({place.parts[:1] for place in inner}) > 1
    return PurePosixPath(first.pop() if len(first) == 1 and known and several else ".")


def student_of(place: PurePosixPath, name: str) -> str:
    """The student's name from the place of a notebook below what was handed in."""
    parts = [part for part in place.parts[:-1] if part != name]
    text = re.sub(PLATFORMS, "", parts[0] if parts else place.stem)
    if not parts:
        text = re.sub(rf"(?i)[-_. ]*{re.escape(name)}[-_. ]*", "", text) or text
    text = unicodedata.normalize("NFC", text)
    text = re.sub(r"[^\w .,'@+()-]", "_", text).strip(" .")
    return text[:80] or "unnamed"


def _number(place: PurePosixPath) -> str:
    """The platform's number of the student; "" if there is none."""
    found = re.search(PLATFORMS, str(place))
    return (found.group(1) or found.group(2)) if found else ""


def _free(folder: Path, file: str, payload: bytes) -> Path:
    """A name in the folder that is not taken by another content."""
    stem = re.sub(r"[^\w .,'@+-]", "_", PurePosixPath(file).stem)[:80] or "notebook"
    for number in range(1, 1000):
        path = folder / (f"{stem}.ipynb" if number == 1 else f"{stem} {number}.ipynb")
        if not path.exists() or path.read_bytes() == payload:
            return path
    raise ValueError(f"{folder} has a thousand notebooks of one name")


def _walk(handed_in: Path) -> Iterator[Found]:
    """Every notebook."""
    if handed_in.is_file():
        yield from _unpacked(PurePosixPath(), handed_in.name, handed_in.read_bytes(), inside=False)
        return
    for path in sorted(handed_in.rglob("*")):
        place = PurePosixPath(path.relative_to(handed_in).as_posix())
        if path.is_symlink() or not path.is_file() or set(place.parts) & set(SKIPPED):
            continue
        if path.suffix.lower() == ".zip":
            yield from _unpacked(place.parent / place.stem, path.name, path.read_bytes(), inside=True)
        elif path.suffix == ".ipynb":
            if path.stat().st_size > LARGEST:
                yield Found(place, remark=f"larger than {LARGEST // 2**20} MB")
            else:
                yield Found(place, path.read_bytes(), path.stat().st_mtime)


def _unpacked(folder: PurePosixPath, file: str, payload: bytes, inside: bool) -> Iterator[Found]:
    """The notebooks of an archive, below `folder`; `inside` is whether it lay inside something itself."""
    if not file.lower().endswith(".zip"):
        yield Found(
            folder / file, payload, remark="" if file.endswith(".ipynb") else "neither a notebook nor an archive"
        )
        return
    try:
        with zipfile.ZipFile(io.BytesIO(payload)) as archive:
            infos = archive.infolist()
            if sum(info.file_size for info in infos) > ARCHIVE:
                yield Found(folder / file, remark=f"an archive that unpacks to more than {ARCHIVE // 2**20} MB")
                return
            for info in infos:
                parts = [part for part in PurePosixPath(info.filename).parts if part not in ("/", "..", ".")]
                if info.is_dir() or not parts or set(parts) & set(SKIPPED):
                    continue
                place = folder.joinpath(*parts)
                if place.suffix.lower() == ".zip" and not inside:
                    yield from _unpacked(place.parent / place.stem, place.name, archive.read(info), inside=True)
                elif place.suffix == ".ipynb" and info.file_size > LARGEST:
                    yield Found(place, remark=f"larger than {LARGEST // 2**20} MB")
                elif place.suffix == ".ipynb":
                    yield Found(place, archive.read(info), _time_of(info))
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, OSError, zlib.error) as error:
        yield Found(folder / file, remark=f"a damaged archive ({error})")


def _time_of(info: zipfile.ZipInfo) -> float:
    try:
        return datetime.datetime(*info.date_time).timestamp()
    except (ValueError, OverflowError, OSError):  # no date at all, which some programs write
        return 0.0
