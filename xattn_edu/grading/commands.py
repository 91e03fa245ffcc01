"""The commands of `xattn grade`: release a set, collect what was handed in, run it, write feedback and marks.

course/                        the lecturer's folder, which `run` describes
    feedback/<set>/<student>.html      to send back
    class/<set>.html, <set>_written.html       for the lecturer
    marks/<set>.csv
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from xattn_edu.files import write_atomically
from xattn_edu.grading import collect as collecting
from xattn_edu.grading import feedback as pages
from xattn_edu.grading import marks as table
from xattn_edu.grading import run as running
from xattn_edu.grading import sheets
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.judging import Assignment
from xattn_edu.grading.record import Graded, load
from xattn_edu.homework import SETS
from xattn_edu.homework.exercise import Exercise
from xattn_edu.shapes import check_choice

HOMEWORK = Path(__file__).parents[2] / "notebooks" / "homework"  # with source/ and release/
CHECK = "-check"  # a check cell is called after its exercise


@dataclass(frozen=True)
class Sheet:
    """A set's source, and the points of its written answers."""

    source: sheets.Notebook
    exercises: Mapping[str, Exercise]
    written: Mapping[str, float]


def open_sheet(name: str, homework: Path = HOMEWORK) -> Sheet:
    """The set of this name, from homework/source/. Raises FileNotFoundError if it is not there.

    Raises ValueError for a name that no set has, and for a source whose check cells are not those of its exercises.
    """
    check_choice("set", name, SETS)
    path = homework / "source" / f"{name}.ipynb"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: work in a clone of the course, or name another --homework folder"
        )
    try:
        source = sheets.read(path.read_bytes())
        sheets.released(source)  # raises for a solution that is not marked
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    cells = {one: sheets.points_of(cell) for one, cell in sheets.named(source) if sheets.role_of(cell) == "check"}
    expected = {one + CHECK: float(exercise.points) for one, exercise in SETS[name].items()}
    if cells != expected:
        raise ValueError(f"{path} has check cells with the points {cells}, and the set's exercises have {expected}")
    written = {one: sheets.points_of(cell) for one, cell in sheets.named(source) if sheets.role_of(cell) == "written"}
    return Sheet(source, SETS[name], written)


def release(names: Sequence[str], homework: Path = HOMEWORK) -> int:
    """Write the release of each named set, or of all, without its solutions."""
    for name, opened in {name: open_sheet(name, homework) for name in names or SETS}.items():
        path = homework / "release" / f"{name}.ipynb"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, release_text(opened.source).encode())
        print(f"{path}: written")
    return 0


def release_text(source: sheets.Notebook) -> str:
    return json.dumps(sheets.released(source), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def collect(name: str, course: Path, handed_in: Path) -> int:
    """Sort what a learning platform handed out into a folder for each student."""
    check_choice("set", name, SETS)
    found = collecting.collect(handed_in, course, name)
    for line in found.left_out:
        print(f"left out: {line}")
    several = [student for student, count in found.students.items() if count > 1]
    if several:
        print(f"more than one notebook, of which the newest of the set is graded: {', '.join(several)}")
    print(f"{course / 'submitted' / name}: {len(found.students)} students")
    return 0


def run(name: str, course: Path, limits: Limits, workers: int | None = None, homework: Path = HOMEWORK) -> int:
    """Grade all submissions, a line for each student; what was graded before is not graded again.

    Raises ValueError for workers or limits that are too small, and what `running.grade` raises.
    """
    opened = open_sheet(name, homework)
    if workers is not None and workers < 1:
        raise ValueError(f"--workers must be 1 or more, given {workers}")
    if not limits.seconds > 0:
        raise ValueError(f"--seconds must be more than 0, given {limits.seconds:g}")
    if limits.memory < 2**31:
        given = limits.memory / 2**30
        raise ValueError(f"--memory must be 2 or more, since torch alone takes most of that, given {given:g}")
    count, begin, new, confined = len(running.students_of(course, name)), time.monotonic(), 0, False
    print(f"{name}: {count} students", flush=True)
    assignment = Assignment(name, opened.source, opened.exercises, limits)
    for number, (record, stored) in enumerate(running.grade(course, assignment, workers), start=1):
        if record.confined and not confined:
            print(f"confined by: {'; '.join(record.confined)}")
            confined = True
        new += not stored
        left = (count - number) * (time.monotonic() - begin) / new / 60 if new else 0.0
        note = "graded before" if stored else f"about {left:.0f} min left" if number < count else "done"
        print(f"{number}/{count}  {record.student}: {record.points:g} of {record.out_of:g} points ({note})", flush=True)
    print(f"{course / 'graded' / name}: {count} records; next: xattn grade feedback {name} {course}")
    return 0


def feedback(name: str, course: Path, homework: Path = HOMEWORK) -> int:
    """Write a page for each student, and for the lecturer the class and its written answers."""
    opened, records = open_sheet(name, homework), records_of(name, course)
    given = _given(_marks_file(name, course), records, opened)
    for record in records:
        page = pages.student_page(record, opened.exercises, opened.written, given)
        _write(course / "feedback" / name / f"{record.student}.html", page)
    own = course / "class"
    _write(own / f"{name}.html", pages.class_page(name, records, opened.exercises, opened.written, given))
    print(f"{course / 'feedback' / name}: {len(records)} pages to send back")
    print(f"{own / name}.html: the class")
    if opened.written:
        _write(own / f"{name}_written.html", pages.written_page(name, records, opened.written))
        print(f"{own / name}_written.html: the written answers, whose points go into {_marks_file(name, course)}")
    return 0


def marks(name: str, course: Path, filled_in: Path | None = None, homework: Path = HOMEWORK) -> int:
    """Write the table of marks; points that a person has filled in are kept and counted."""
    opened, records = open_sheet(name, homework), records_of(name, course)
    path = _marks_file(name, course)
    if filled_in and not filled_in.is_file():
        raise FileNotFoundError(f"{filled_in} does not exist: name the filled-in table that `xattn grade marks` made")
    given = _given(filled_in or path, records, opened)
    # With a mark at its begin that tells spreadsheets that it is UTF-8.
    _write(path, "\ufeff" + table.marks(records, opened.exercises, opened.written, given))
    due = sum(list(table.by_hand(record, opened.written, given).values()).count(None) for record in records)
    print(f"{path}: {len(records)} students")
    if due:
        print(f"{due} written answers have no points yet: fill in their columns, then give this command again")
    return 0


def records_of(name: str, course: Path) -> list[Graded]:
    """The stored records of all who handed in. Raises ValueError if some were not graded yet."""
    students = running.students_of(course, name)
    paths = {student.name: course / "graded" / name / f"{student.name}.json" for student in students}
    if missing := [student for student, path in paths.items() if not path.exists()]:
        raise ValueError(
            f"{len(missing)} of {len(students)} students are not graded, {missing[0]!r} for one: "
            f"`xattn grade run {name} {course}` first"
        )
    return [load(path) for path in paths.values()]


def _marks_file(name: str, course: Path) -> Path:
    return course / "marks" / f"{name}.csv"


def _given(path: Path, records: Sequence[Graded], opened: Sheet) -> dict[str, dict[str, float]]:
    if not path.exists():
        return {}
    return table.read_by_hand(path, [record.student for record in records], opened.written)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.encode(errors="backslashreplace"))  # a student may write half a surrogate pair
