"""The table of marks: no spreadsheet executes it, and points that a person wrote into it are counted and never lost."""

import csv
import io

import pytest
from test_feedback import CLASS, EXERCISES, WRITTEN

from xattn_edu.grading.marks import marks, read_by_hand

STUDENTS = [record.student for record in CLASS]
COLUMN = "why (by hand, of 5)"


def rows(given):
    return list(csv.DictReader(io.StringIO(marks(CLASS, EXERCISES, WRITTEN, given))))


def test_marks_are_a_table_that_no_spreadsheet_executes():
    table = rows({})
    assert [row["student"] for row in table] == ["'=ada", "bo", "cy"]
    assert table[0] == {"student": "'=ada", "double": "3", "shares": "7", COLUMN: "", "points": "10", "remarks": ""}
    assert [row["points"] for row in table] == ["10", "0", "0"]
    assert [row[COLUMN] for row in table] == ["", "0", "0"]  # an empty text has no points


@pytest.mark.parametrize(
    ("begin", "separator", "points", "end"),
    [("", ",", "4.5", "\n"), ("\ufeff", ",", "4.5", "\r\n"), ("", ";", "4,5", "\n"), ("", "\t", "4,5", "\r\n")],
)
def test_points_that_were_filled_in_come_back_from_any_spreadsheet(tmp_path, begin, separator, points, end):
    table = list(csv.reader(io.StringIO(marks(CLASS, EXERCISES, WRITTEN, {}))))
    table[1][table[0].index(COLUMN)] = points
    stored = io.StringIO()
    csv.writer(stored, delimiter=separator, lineterminator=end).writerows(table)
    (tmp_path / "m.csv").write_bytes((begin + stored.getvalue()).encode())
    given = read_by_hand(tmp_path / "m.csv", STUDENTS, WRITTEN)
    assert given["=ada"] == {"why": 4.5}
    assert rows(given)[0]["points"] == "14.5" and rows(given)[0][COLUMN] == "4.5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("student,%s\nbo,many\n", "m.csv, bo, why .by hand, of 5.: expected a number from 0 to 5, given 'many'"),
        ("student,%s\nbo,6\n", "expected a number from 0 to 5, given '6'"),
        ("student,%s\nbo,nan\n", "expected a number from 0 to 5, given 'nan'"),
        ("student,%s\nnobody,1\n", "gives points to 'nobody', who has no record"),
        ("student,points\nbo,1\n", "has no column 'why .by hand, of 5.': fill in the table"),
        ("", "has no column 'student'"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path, text, message):
    (tmp_path / "m.csv").write_text(text.replace("%s", f'"{COLUMN}"'))
    with pytest.raises(ValueError, match=message):
        read_by_hand(tmp_path / "m.csv", STUDENTS, WRITTEN)
    (tmp_path / "m.csv").write_bytes("student\n\xe9".encode("latin-1"))
    with pytest.raises(ValueError, match="store it as CSV UTF-8"):
        read_by_hand(tmp_path / "m.csv", STUDENTS, WRITTEN)
