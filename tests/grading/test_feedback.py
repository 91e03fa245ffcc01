"""Pages: every verdict is there, with what to read again; text stays text; nothing of a hidden case is told."""

from xattn_edu.grading import feedback
from xattn_edu.grading.feedback import class_page, mistake_in, student_page, too_hard, written_page
from xattn_edu.grading.record import Graded, Outcome
from xattn_edu.homework.exercise import Exercise
from xattn_edu.homework.mistakes import Mistake

EXERCISES = {"double": Exercise(print, "double", 3, section="01, 1.1"), "shares": Exercise(print, "shares", 7)}
WRITTEN = {"why": 5.0}
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


def test_a_students_page(monkeypatch):
    page = student_page(CLASS[0], EXERCISES, WRITTEN)
    assert "0 of 15 points" in page and "The scale is missing." in page and "&lt;b&gt;stopped" in page
    assert page.count("Read again") == 1 and "Read again: lesson 01, 1.1." in page
    assert not any(tag in page for tag in ("<script>", "<b>", "<i>"))
    known = Mistake("hw1.double", "no scale", print, "scale is missing", "02, 2.3")
    monkeypatch.setattr(feedback, "MISTAKES", (known,))
    assert "Read again: lesson 02, 2.3." in student_page(CLASS[0], EXERCISES, WRITTEN)
    assert "Read again" not in student_page(CLASS[1], EXERCISES, WRITTEN)


def test_points_of_written_answers_are_open_until_a_person_gives_them():
    page = student_page(CLASS[1], EXERCISES, WRITTEN)
    assert "10 of 15 points" in page and "open of 5" in page
    page = student_page(CLASS[1], EXERCISES, WRITTEN, {"=ada": {"why": 4.5}})
    assert "14.5 of 15 points" in page and "4.5 of 5" in page
    assert "0 of 5" in student_page(CLASS[2], EXERCISES, WRITTEN)  # nothing was written


def test_the_page_of_the_class_counts_mistakes_by_their_cause():
    page = class_page("hw1", CLASS, EXERCISES, WRITTEN, {"=ada": {"why": 4.5}})
    assert "3 students" in page and "2 × The scale is missing." in page and "1 of 3" in page and "<script>" not in page
    assert page.index("=ada") < page.index("bo</td>") < page.index("cy</td>")
    assert "<td>14.5</td>" in page and "<b>too hard</b>" not in page


def test_a_mistake_is_counted_without_the_sizes_of_its_case():
    assert mistake_in(CAUSE) == "The scale is missing."
    assert mistake_in("3 keys: expected shape (2, 3), given (3, 2)") == "expected shape (2, 3), given (3, 2)"
    assert mistake_in("") == ""


def test_what_was_too_hard_is_decided_by_the_better_half_of_the_class():
    able = [record(f"a{n}", "right", "right" if n else "wrong") for n in range(3)]
    others = [record(f"b{n}", "wrong", "not attempted") for n in range(5)]
    assert not too_hard("shares", able + others)  # five of eight do not have it, and those who can do more have
    lost = [record(f"a{n}", "right", "wrong") for n in range(3)]
    assert too_hard("shares", lost + others) and "<b>too hard</b>" in class_page("a", lost + others, EXERCISES, WRITTEN)
    assert not too_hard("shares", lost + others[:2])  # too few to tell


def test_the_written_answers_of_all_stand_below_their_question():
    page = written_page("hw1", CLASS, WRITTEN)
    assert page.index("why (5 points)") < page.index("=ada") < page.index("&lt;u&gt;because") and "<u>" not in page
    assert ">bo<" not in page
