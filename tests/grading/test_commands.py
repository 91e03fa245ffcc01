"""`xattn grade`: its steps from a release to marks, its messages, and what it refuses before any work."""

import argparse
import json
import re
import sys

import pytest
from helpers.submissions import EXERCISES, SOURCE, changed, hand_in, submission

from xattn_edu.cli import _parser, main
from xattn_edu.grading import commands, sheets
from xattn_edu.grading.confine import Limits
from xattn_edu.homework import SETS


@pytest.fixture
def homework(tmp_path, monkeypatch):
    """A folder with the source of the set `a`, which the course then has."""
    monkeypatch.setitem(SETS, "a", EXERCISES)
    (tmp_path / "homework" / "source").mkdir(parents=True)
    (tmp_path / "homework" / "source" / "a.ipynb").write_text(json.dumps(SOURCE))
    return tmp_path / "homework"


def grade(*arguments):
    return main(["grade", *map(str, arguments)])


def test_a_release_is_the_source_without_its_solutions(homework, capsys):
    assert grade("release", "a", "--homework", homework) == 0
    text = (homework / "release" / "a.ipynb").read_text(encoding="utf-8")
    assert json.loads(text) == sheets.released(SOURCE) and "return 2 * x" not in text and sheets.STUB in text
    assert "a.ipynb: written" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits are those of POSIX")
def test_from_what_was_handed_in_to_marks(homework, tmp_path, capsys):
    course, platform = tmp_path / "course", tmp_path / "platform"
    notebooks = {
        "Ada Kim": changed(submission(), "why", "Because."),
        "Bo": submission("return x"),
        "+cy": {"cells": []},
    }
    for number, (student, notebook) in enumerate(notebooks.items()):
        folder = platform / f"{student}_{number}_assignsubmission_file_"
        folder.mkdir(parents=True)
        (folder / "a.ipynb").write_text(json.dumps(notebook))
    (platform / "broken.zip").write_bytes(b"x")
    assert grade("collect", "a", course, platform) == 0
    said = capsys.readouterr().out
    assert "left out: broken/broken.zip: a damaged archive" in said and "3 students" in said
    assert grade("marks", "a", course, "--homework", homework) == 1
    assert "3 of 3 students are not graded" in capsys.readouterr().err
    assert grade("run", "a", course, "--homework", homework, "--workers", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a: 3 students" and sum("/3  " in line for line in lines) == 3
    assert any("Ada Kim: 10 of 10 points" in line for line in lines) and any("min left" in line for line in lines)
    assert grade("run", "a", course, "--homework", homework) == 0
    assert capsys.readouterr().out.count("graded before") == 3
    assert grade("marks", "a", course, "--homework", homework) == 0
    assert "1 written answers have no points yet" in capsys.readouterr().out
    table = course / "marks" / "a.csv"
    filled = table.read_text(encoding="utf-8-sig").replace("Ada Kim,3,7,,10", "Ada Kim,3,7,4,10")
    table.write_text(filled, encoding="utf-8")
    for step in ("marks", "feedback", "marks"):
        assert grade(step, "a", course, "--homework", homework) == 0
    assert (
        "Ada Kim,3,7,4,14" in table.read_text(encoding="utf-8-sig") and "no points yet" not in capsys.readouterr().out
    )
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (course / "feedback" / "a").iterdir()}
    assert set(pages) == {"Ada Kim", "Bo", "+cy"} and "14 of 15 points" in pages["Ada Kim"]
    assert "Read again: lesson 01, 1.1." in pages["Bo"] and "another set" in pages["+cy"]
    assert "3 students" in (course / "class" / "a.html").read_text(encoding="utf-8")
    assert "Because." in (course / "class" / "a_written.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("release b", "set must be one of .*, given 'b'"),
        ("collect b {course} {course}", "set must be one of"),
        ("collect a {course} {course}/nowhere", "nowhere does not exist: give the folder or the archive"),
        ("run a {course}", "submitted/a has no folders of students: `xattn grade collect a"),
        ("run a {course} --workers 0", "--workers must be 1 or more, given 0"),
        ("run a {course} --memory 0.5", "--memory must be 2 or more, since torch alone takes most of that, given 0.5"),
        ("run a {course} --seconds 0", "--seconds must be more than 0, given 0"),
        ("feedback a {course}", "has no folders of students"),
        ("run a {course} --homework {course}", "source/a.ipynb is not there: work in a clone"),
        ("marks a {filled} --filled-in {course}/none.csv", "none.csv does not exist: name the filled-in table"),
    ],
)
def test_what_it_refuses_before_any_work(arguments, message, homework, tmp_path, capsys):
    course, filled = tmp_path / "course", tmp_path / "filled"
    hand_in(filled, {"ada": submission()})
    (filled / "graded" / "a").mkdir(parents=True)
    (filled / "graded" / "a" / "ada.json").write_text(
        json.dumps({"student": "ada", "set": "a", "fingerprint": "", "outcomes": {}})
    )
    own = [] if "--homework" in arguments or arguments.startswith("collect") else ["--homework", homework]
    assert grade(*arguments.format(course=course, filled=filled).split(), *own) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said
    assert not course.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda cells: cells[3]["metadata"]["nbgrader"].update(points=4),
            "double-check': 4.0.*have .*'double-check': 3.0",
        ),
        (lambda cells: cells.pop(5), "has check cells with the points"),
        (lambda cells: cells[2].update(source="def double(x): return 2 * x"), "needs the lines '### BEGIN SOLUTION'"),
        (lambda cells: cells[1].update(metadata={}), "cell 1 has code and no grade_id"),
    ],
)
def test_a_source_that_does_not_fit_its_exercises_is_refused(homework, change, message):
    source = json.loads(json.dumps(SOURCE))
    change(source["cells"])
    (homework / "source" / "a.ipynb").write_text(json.dumps(source))
    with pytest.raises(ValueError, match=message):
        commands.open_sheet("a", homework)


def test_the_defaults_are_those_of_the_limits():
    options = _parser().parse_args(["grade", "run", "a", "x"])
    assert isinstance(options, argparse.Namespace)
    assert (options.seconds, options.memory * 2**30) == (Limits().seconds, Limits().memory)
