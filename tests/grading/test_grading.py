"""Submissions of every kind: right marks, nothing lost, nothing leaked, and nobody stops another."""

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.submissions import (
    ASSIGNMENT,
    CASES,
    EXERCISES,
    SOURCE,
    WRITTEN,
    changed,
    hand_in,
    submission,
)

from xattn_edu.exercises.checking import compare
from xattn_edu.grading import forkserver, sheets
from xattn_edu.grading.feedback import student_page
from xattn_edu.grading.judging import Assignment
from xattn_edu.grading.record import load
from xattn_edu.grading.run import grade, hidden_seeds
from xattn_edu.homework.exercise import Exercise

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")]


def graded(course, submissions, assignment=ASSIGNMENT, workers=1):
    hand_in(course, submissions)
    return {record.student: record for record, _ in grade(course, assignment, workers)}


@pytest.fixture(scope="module")
def the_class(tmp_path_factory):
    """All cases graded as one class, two at a time, by a lecturer whose environment has a secret."""
    course = tmp_path_factory.mktemp("course")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SECRET_OF_THE_LECTURER", "1")
        return graded(course, {f"이름 {case}": notebook for case, (notebook, *_) in CASES.items()}, workers=2)


def runs(number):
    """Whether a process is there that has not ended."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def words(record):
    return json.dumps([record.remarks, [outcome.words for outcome in record.outcomes.values()]], ensure_ascii=False)


@pytest.mark.parametrize("case", CASES)
def test_a_submission_gets_its_marks(case, the_class):
    _, points, said = CASES[case]
    record = the_class[f"이름 {case}"]
    assert record.points == points, words(record)
    assert said in words(record) and "SECRET" not in words(record)
    assert set(record.outcomes) == set(EXERCISES) and len(record.output) <= 2000


@pytest.mark.parametrize(
    ("case", "not_attempted"),
    [
        ("empty", {"double", "shares"}),
        ("deleted answer", {"double"}),
        ("a stub that another answer calls", {"double", "shares"}),
        ("no file", {"double", "shares"}),
    ],
)
def test_what_was_not_attempted(case, not_attempted, the_class):
    outcomes = the_class[f"이름 {case}"].outcomes
    assert {name for name, outcome in outcomes.items() if outcome.kind == "not attempted"} == not_attempted


@pytest.mark.parametrize("case", ["a session of its own", "fork bomb"])
def test_no_process_outlives_its_notebook(case, the_class):
    numbers = the_class[f"이름 {case}"].output.split()
    end = time.monotonic() + 60  # a busy machine takes its time to clear up
    while running := [number for number in numbers if runs(number)]:
        assert time.monotonic() < end, running
        time.sleep(0.1)
    assert numbers


def test_a_new_process_does_as_a_copy_does(tmp_path, monkeypatch):
    """As on systems without the server."""
    monkeypatch.setattr(forkserver.ForkServer, "copy", lambda self, folder: forkserver.new(folder))
    record = graded(tmp_path, {"a": submission("import os\nos._exit(0)")})["a"]
    assert record.points == 7 and "ended by itself" in words(record) and record.confined


def test_a_server_that_ends_is_no_students_fault(tmp_path):
    hand_in(tmp_path, {"a": submission()})
    with forkserver.ForkServer() as server, pytest.MonkeyPatch.context() as patch:
        server._server.kill()
        server._server.wait()
        patch.setattr(forkserver, "ForkServer", lambda: server)
        with pytest.raises(ChildProcessError, match="give the same command again"):
            list(grade(tmp_path, ASSIGNMENT, 1))
    assert not (tmp_path / "graded").exists()


def test_an_interrupted_run_goes_on_and_a_change_is_graded_anew(tmp_path):
    hand_in(tmp_path, {"a": submission(), "b": submission("return x"), "c": sheets.released(SOURCE)})
    first = grade(tmp_path, ASSIGNMENT, 1)
    assert next(first)[0].points == 10
    first.close()  # as an interruption does
    assert not (tmp_path / "graded" / "a" / "c.json").exists()  # the second may have been begun
    path = tmp_path / "graded" / "a" / "a.json"
    stored, record = path.stat().st_mtime_ns, load(path)
    found = {record.student: (record.points, before) for record, before in grade(tmp_path, ASSIGNMENT, 2)}
    assert found["a"] == (10, True) and found["b"][0] == 7 and found["c"] == (0, False)
    assert path.stat().st_mtime_ns == stored and load(path) == record
    again = graded(tmp_path, {"b": submission()})
    assert [again[student].points for student in "abc"] == [10, 10, 0]
    other = replace(ASSIGNMENT, exercises=EXERCISES | {"double": replace(EXERCISES["double"], points=4)})
    assert [before for _, before in grade(tmp_path, other, 2)] == [False] * 3
    hidden = hidden_seeds(tmp_path, "a")
    assert len(hidden) == 2 and hidden == hidden_seeds(tmp_path, "a") and 0 not in hidden


def test_written_answers_are_kept_for_a_person(tmp_path):
    written = changed(submission(), "why", "Because of the gate.")
    assert graded(tmp_path, {"a": written})["a"].written == {"why": "Because of the gate."}


# --- hidden cases stay hidden

SEED, KEY = 1_987_654_321_987_654_321, 0x5A5A5A5B
# A function that keeps what it is given, and looks for a number in its process's memory and in all files that it can
# read: as bytes, as a Python number and as digits. It holds only the products with KEY of two words of each, as it
# would otherwise find the number itself.
SEEKER = """import os, numpy as np
def occurs(data):
    for start in range(4):
        words = np.frombuffer(data[start : start + (len(data) - start) // 4 * 4], np.uint32) * np.uint32(KEY)
        for one, other in NEEDLES:
            if np.any((words[:-1] == one) & (words[1:] == other)):
                return True
    return False
def seek():
    places = [name for name in os.environ if occurs((name + os.environ[name]).encode().ljust(8))]
    with open('/proc/self/maps') as maps, open('/proc/self/mem', 'rb', 0) as memory:
        for line in maps:
            span, rights, *_, = line.split()
            if rights.startswith('rw'):
                begin, end = (int(x, 16) for x in span.split('-'))
                try:
                    memory.seek(begin)
                    places += ['memory'] if occurs(memory.read(end - begin)) else []
                except (OSError, ValueError):
                    pass
    for root in ('.', '/tmp', '/proc/self'):
        for folder, _, files in os.walk(root):
            for file in files:
                try:
                    if os.path.isfile(os.path.join(folder, file)) and root != '/proc/self':
                        with open(os.path.join(folder, file), 'rb') as opened:
                            places += [file] if occurs(opened.read(1 << 20)) else []
                except OSError:
                    pass
    return places
"""


def seeker():
    number, digits = SEED.to_bytes(8, "little"), str(SEED).encode()[:8]
    python = (SEED % 2**30 + (SEED // 2**30 % 2**30 << 32)).to_bytes(8, "little")  # 30 bits a word
    forms = (number, digits, python)
    needles = [[int.from_bytes(form[i : i + 4], "little") * KEY % 2**32 for i in (0, 4)] for form in forms]
    return SEEKER.replace("NEEDLES", repr(needles)).replace("KEY", str(KEY))


def check_searching(given, seed):
    compare(given(1.0), 0.0, "here")
    return "right"


def check_leaking(given, seed):
    compare(given(float(seed)) if seed == 0 else given([seed, str(seed)]), 0.0, "here")
    return "right"


@pytest.mark.parametrize(("check", "found"), [(check_searching, False), (check_leaking, True)])
def test_no_hidden_seed_is_in_reach_of_a_student(tmp_path, check, found):
    """The second check hands its seed over, to show that it would be found."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "a.json").write_text(json.dumps([SEED]))
    assignment = Assignment("a", SOURCE, {"double": Exercise(check, "double", 1)}, ASSIGNMENT.limits)
    notebook = submission("kept.append(x)\nreturn float(len(seek()))", more=["kept = []\n" + seeker()])
    record = graded(tmp_path, {"a": notebook}, assignment)["a"]
    assert record.outcomes["double"].kind == ("wrong" if found else "right"), words(record)
    assert record.outcomes["double"].hidden == found


def test_feedback_shows_nothing_of_a_hidden_case(tmp_path):
    """A function writes down what it is given, keeps it, and raises it in an error when it is next called.

    The other function returns what the first has kept.
    """
    tell = "import os\nos.write(2, b'GIVEN %d' % len(x))\nkept.append(len(x))\nif len(kept) > 1:\n"
    tell += "    raise ValueError(f'GIVEN {kept}')\nreturn 2 * x"
    notebook = submission(tell, "return torch.full_like(x, kept[-1])", more=["kept = []"])
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "a.json").write_text("[4, 9]")  # 7 rows
    record = graded(tmp_path, {"a": notebook})["a"]
    page = student_page(record, EXERCISES, WRITTEN)
    assert record.points == 0 and record.outcomes["double"].hidden
    assert "given 3" in page and not any(words in page for words in ("given 7", ", 7]", "GIVEN 7"))
