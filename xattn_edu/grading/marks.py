"""The marks of a class as a table (CSV): points of the checks, and those that a person gives for written answers.

The table is also where a person writes points: a row is a student, a column "why (by hand, of 5)" a written answer.
Whoever has filled in cells has them read, and counted, when the table is made again.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from xattn_edu.grading.record import Graded
from xattn_edu.homework.exercise import Exercise

Given = Mapping[str, Mapping[str, float]]  # points by student and by written answer
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a cell that begins so is a formula for a spreadsheet


def marks(
    records: Sequence[Graded], exercises: Mapping[str, Exercise], written: Mapping[str, float], given: Given
) -> str:
    """CSV: a row for each student, a column for each exercise and each written answer, whose points are `written`.

    A written answer that has no points yet is an empty cell, one that was left empty by the student has 0.
    """
    sheet = io.StringIO()
    table = csv.writer(sheet, lineterminator="\n")
    table.writerow(["student", *exercises, *(_column(name, of) for name, of in written.items()), "points", "remarks"])
    for record in sorted(records, key=lambda record: record.student):
        points = [f"{record.outcomes[name].points:g}" if name in record.outcomes else "" for name in exercises]
        own = by_hand(record, written, given)
        texts = ["" if value is None else f"{value:g}" for value in own.values()]
        row = [record.student, *points, *texts, f"{total(record, written, given):g}", "; ".join(record.remarks)]
        table.writerow(["'" + cell if cell.startswith(FORMULA) else cell for cell in row])
    return sheet.getvalue()


def by_hand(record: Graded, written: Mapping[str, float], given: Given) -> dict[str, float | None]:
    """The points of a student's written answers: those given, 0 where nothing was written, None where one is due."""
    own = given.get(record.student, {})
    return {name: own.get(name, None if name in record.written else 0.0) for name in written}


def total(record: Graded, written: Mapping[str, float], given: Given) -> float:
    return record.points + sum(value or 0.0 for value in by_hand(record, written, given).values())


def read_by_hand(path: Path, students: Sequence[str], written: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """The points that a person wrote into a table of marks, whichever spreadsheet has stored it.

    Raises ValueError, naming row and column, for a cell that is no number from 0 to the points of its answer, for a
    student without a record, and for a file that is no such table.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not in UTF-8: store it as CSV UTF-8") from None
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    rows = list(csv.DictReader(io.StringIO(text), delimiter=separator))
    columns = {name: _column(name, of) for name, of in written.items()}
    for column in ("student", *columns.values()):
        if column not in (rows[0] if rows else first.strip().split(separator)):
            raise ValueError(f"{path} has no column {column!r}: fill in the table that `xattn grade marks` made")
    given: dict[str, dict[str, float]] = {}
    for row in rows:
        student = _as_it_was(row["student"] or "")
        for name, column in columns.items():
            if cell := (row[column] or "").strip():
                given.setdefault(student, {})[name] = _points(cell, written[name], f"{path}, {student}, {column}")
        if student in given and student not in students:
            raise ValueError(f"{path} gives points to {student!r}, who has no record: mend the name, or delete the row")
    return given


def _column(name: str, of: float) -> str:
    return f"{name} (by hand, of {of:g})"


def _as_it_was(cell: str) -> str:
    return cell[1:] if cell[:1] == "'" and cell[1:].startswith(FORMULA) else cell


def _points(cell: str, of: float, where: str) -> float:
    try:
        points = float(cell.replace(",", "."))  # as some languages write numbers
    except ValueError:
        points = -1.0
    if not 0 <= points <= of:
        raise ValueError(f"{where}: expected a number from 0 to {of:g}, given {cell!r}")
    return points
