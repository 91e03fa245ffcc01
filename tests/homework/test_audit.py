"""The record of the checks' trials: of today's catalogue, counted rightly, and the document says what it says."""

import json

import pytest

from xattn_edu.cli import main
from xattn_edu.homework import audit
from xattn_edu.homework.mistakes import DIFFERENT, MISTAKES


@pytest.fixture(scope="module")
def stored():
    return json.loads(audit.RECORD.read_text(encoding="utf-8"))


def row(**changed):
    mistake = {"exercise": "01.a", "name": "n", "verdict": "wrong", "words": "Mine.", "cause": "Mine", "others": []}
    return mistake | {"section": "01, 1.2"} | changed


def test_the_record_is_of_the_catalogue(stored):
    entries = [(entry.exercise, entry.name) for entry in (*MISTAKES, *DIFFERENT)]
    assert [(one["exercise"], one["name"]) for one in stored] == entries, "run `xattn homework audit --write`"


def test_the_record_shows_checks_to_give_marks_by(stored):
    numbers = audit.counts(stored)
    assert numbers["rejected"] == numbers["mistakes"]
    assert numbers["named rightly"] >= 0.9 * numbers["with a name"]
    assert numbers["named wrongly"] == 0
    assert numbers["accepted"] == numbers["right answers"]


def test_the_document_says_what_the_record_says(stored):
    assert audit.DOCUMENT.read_text(encoding="utf-8") == audit.markdown(stored)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, (1, 1, 1, 1, 0, 0, 0)),
        ({"verdict": "error"}, (1, 1, 1, 1, 0, 0, 0)),
        ({"verdict": "right", "words": "right"}, (1, 0, 1, 0, 0, 0, 0)),
        ({"verdict": "not attempted", "words": ""}, (1, 0, 1, 0, 0, 0, 0)),
        ({"words": "Another.", "others": ["Another"]}, (1, 1, 1, 0, 1, 0, 0)),
        ({"words": "Another.", "others": ["Another"], "cause": ""}, (1, 1, 0, 0, 1, 0, 0)),
        ({"words": "wrong numbers", "cause": ""}, (1, 1, 0, 0, 0, 0, 0)),
    ],
)
def test_a_row_is_counted(changed, expected):
    assert tuple(audit.counts([row(**changed)]).values()) == expected


def test_right_answers_are_counted():
    right = {"exercise": "01.a", "name": "n", "verdict": "right", "words": "right"}
    assert tuple(audit.counts([right, right | {"verdict": "wrong"}]).values()) == (0, 0, 0, 0, 0, 2, 1)


def test_the_table_has_a_line_for_each_lesson_and_set_and_one_for_all():
    lines = audit.table([row(), row(exercise="hw1.a"), row(exercise="01.b")]).splitlines()
    assert [line.split()[:3] for line in lines[1:]] == [["lesson", "01", "2"], ["hw1", "1", "1"], ["all", "3", "3"]]


def test_the_command_prints_and_writes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(audit, "record", lambda: [row()])
    monkeypatch.setattr(audit, "RECORD", tmp_path / "new" / "audit.json")
    monkeypatch.setattr(audit, "DOCUMENT", tmp_path / "audit.md")
    assert main(["homework", "audit"]) == 0
    assert not audit.DOCUMENT.exists()
    assert main(["homework", "audit", "--write"]) == 0
    assert json.loads(audit.RECORD.read_text()) == [row()]
    assert audit.DOCUMENT.read_text() == audit.markdown([row()])
    assert "lesson 01" in capsys.readouterr().out
