"""Pages and tables: every verdict is there, text stays text, nothing of a hidden case is told."""

import csv
import io

from xattn_edu.grading.feedback import class_page, marks, student_page
from xattn_edu.grading.run import Graded, Outcome
from xattn_edu.homework.exercise import Exercise

EXERCISES = {"double": Exercise(print, "double", 3), "shares": Exercise(print, "shares", 7)}
CAUSE = "2 queries, 3 keys: right shape, wrong numbers, the first at [0]: expected 1, given 2. The scale is missing."


def record(student, double, shares, **more):
    outcomes = {
        "double": Outcome(double, "right" if double == "right" else CAUSE, 3.0 * (double == "right"), 3),
        "shares": Outcome(shares, "<b>stopped</b>" if shares == "error" else "", 7.0 * (shares == "right"), 7),
    }
    return Graded(student, "hw1", "", outcomes, **more)


CLASS = [
    record("bo", "wrong", "error", remarks=["<script>alert(1)</script>"], output="<i>printed</i>"),
    record("=ada", "right", "right", written={"why": "<u>because</u>"}),
    record("cy", "wrong", "not attempted"),
]


def test_a_students_page():
    page = student_page(CLASS[0])
    assert "0 of 10 points" in page and "The scale is missing." in page and "&lt;b&gt;stopped" in page
    assert not any(tag in page for tag in ("<script>", "<b>", "<i>"))
    assert "by hand" in student_page(CLASS[1]) and "by hand" not in page


def test_the_page_of_the_class_counts_mistakes_by_their_cause():
    page = class_page("hw1", CLASS, EXERCISES)
    assert "3 students" in page and "2 × The scale is missing." in page and "1 of 3" in page and "<script>" not in page
    assert page.index("=ada") < page.index("bo</td>") < page.index("cy</td>")


def test_marks_are_a_table_that_no_spreadsheet_executes():
    rows = list(csv.DictReader(io.StringIO(marks(CLASS, EXERCISES))))
    assert [row["student"] for row in rows] == ["'=ada", "bo", "cy"]
    assert rows[0] == {
        "student": "'=ada", "double": "3", "shares": "7", "why (by hand)": "", "points": "10", "remarks": ""
    }  # fmt: skip
    assert [row["points"] for row in rows] == ["10", "0", "0"]
