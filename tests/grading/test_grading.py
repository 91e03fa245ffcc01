"""Submissions of every kind: right marks, nothing lost, nothing leaked, and nobody stops another."""

import copy
import json
import os
import sys

import pytest
import torch

from xattn_edu.exercises.checking import compare
from xattn_edu.grading import sheets
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.run import grade, hidden_seeds, load
from xattn_edu.homework.exercise import Exercise

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the limits are Linux's")]


def cell(kind, source, name=None, **marks):
    made = {"cell_type": kind, "source": source.splitlines(keepends=True), "metadata": {}}
    if name:
        marks = {"grade_id": name, "schema_version": 3, "grade": False, "solution": False, "locked": True} | marks
        made["metadata"] = {"nbgrader": marks}
    return made | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def answer(name, head, body):
    lines = [head, f"    {sheets.BEGIN}", *(f"    {line}" for line in body.splitlines()), f"    {sheets.END}"]
    return cell("code", "\n".join(lines), name, solution=True, locked=False)


SOURCE = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"language": "python", "name": "python3"}},
    "cells": [
        cell("markdown", "# A set"),
        cell("code", "import torch\n%matplotlib inline", "imports"),
        answer("first", "def double(x):", "return 2 * x"),
        cell("code", "homework.check('double', double)", "first-check", grade=True, points=3),
        answer("second", "def shares(x):", "return x.softmax(-1)"),
        cell("code", "homework.check('shares', shares)", "second-check", grade=True, points=7),
        cell("markdown", "Because.", "why", grade=True, solution=True, locked=False, points=5),
    ],
}


def check_double(given, seed):
    x = torch.randn(3 + seed % 5, 4, generator=torch.Generator().manual_seed(seed))
    compare(given(x.clone()), 2 * x, "here")
    return "right"


def check_shares(given, seed):
    x = torch.randn(2, 3 + seed % 7, generator=torch.Generator().manual_seed(seed))
    compare(given(x.clone()), x.softmax(-1), "here", {"The softmax is over the last axis.": x.softmax(0)})
    return "right"


EXERCISES = {"double": Exercise(check_double, "double", 3), "shares": Exercise(check_shares, "shares", 7)}
LIMITS = Limits(seconds=90, memory=3 * 2**30, processes=40)


def submission(double="return 2 * x", shares="return x.softmax(-1)", more=()):
    notebook = sheets.released(SOURCE)
    by_name = dict(sheets.named(notebook))
    by_name["first"]["source"] = ["def double(x):\n", *(f"    {line}\n" for line in double.splitlines())]
    by_name["second"]["source"] = ["def shares(x):\n", *(f"    {line}\n" for line in shares.splitlines())]
    notebook["cells"][2:2] = [cell("code", text) for text in more]
    return notebook


def without(notebook, name):
    notebook["cells"] = [cell for cell in notebook["cells"] if sheets.name_of(cell) != name]
    return notebook


def twice(notebook, name):
    notebook["cells"] += [copy.deepcopy(dict(sheets.named(notebook))[name])]
    return notebook


def changed(notebook, name, text):
    dict(sheets.named(notebook))[name]["source"] = text
    return notebook


@pytest.fixture
def graded(tmp_path):
    """Grade one or several submissions: {student: notebook, or the bytes of a file}."""

    def run(submissions, limits=LIMITS, workers=1):
        for student, notebook in submissions.items():
            folder = tmp_path / "submitted" / "a" / student
            folder.mkdir(parents=True, exist_ok=True)
            payload = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
            (folder / "a.ipynb").write_bytes(payload)
        records = grade(tmp_path, "a", SOURCE, EXERCISES, limits=limits, workers=workers)
        return {record.student: record for record in records}

    return run


TIMES = Limits(seconds=15, memory=3 * 2**30, processes=40)
CASES = {  # submission: points, words of a remark or an outcome
    "right": (submission(), 10, ""),
    "empty": (sheets.released(SOURCE), 0, ""),
    "half": (submission(shares="return x.softmax(0)"), 3, "softmax is over the last axis"),
    "only the shown case": (
        submission(double="return 2 * x if len(x) == 3 else x"),
        7,
        "right in the case of the notebook, but not in others",
    ),
    "import error": (submission(more=["import no_such_module"]), 10, "ModuleNotFoundError: No module named"),
    "syntax error in one cell": (changed(submission(), "first", "def double(x:\n"), 7, "SyntaxError"),
    "tampered check": (changed(submission("return x"), "first-check", "print('ok')"), 7, "is locked; it was changed"),
    "deleted check": (without(submission(), "first-check"), 10, "first-check was missing"),
    "deleted answer": (without(submission(), "first"), 7, "first was missing"),
    "duplicated": (twice(submission(), "second"), 10, "there 2 times"),
    "rebinds allclose": (
        submission("import numpy as np\nnp.allclose = torch.allclose = lambda *a, **k: True\nreturn 0 * x"),
        7,
        "numbers",
    ),
    "memory": (submission("return bytearray(8 << 30)"), 7, "MemoryError"),
    "output": (submission("print('x' * 2**29)\nreturn 2 * x"), 10, ""),
    "exits": (submission("import os\nos._exit(3)"), 7, "ended by itself"),
    "system exit": (submission("raise SystemExit"), 7, "SystemExit"),
    "forges a reply": (
        submission(
            "import os\nfor n in range(3, 20):\n    try: os.write(n, b'\\x0f\\0\\0\\0{\"value\": true} ')\n"
            "    except OSError: pass\nreturn 0 * x"
        ),
        7,
        "",
    ),
    "a network": (submission("import socket\nsocket.create_connection(('127.0.0.1', 80), 1)"), 7, "stopped with"),
    "reads the course": (submission(f"import os\nreturn os.listdir({os.getcwd()!r})"), 7, "PermissionError"),
    "reads the environment": (submission("import os\nraise ValueError(sorted(os.environ))"), 7, "ValueError"),
    "deletes its folder": (submission("import shutil\nshutil.rmtree('.', True)\nreturn 2 * x"), 10, ""),
    "not JSON": (b"{", 0, "not JSON"),
    "200 MB": (b" " * (200 << 20), 0, "more than 20 MB"),
    "nothing": (b"", 0, "nothing was handed in"),
    "no cells": (b"[]", 0, "no list of cells"),
    "of another kernel": ({"cells": [], "metadata": {"kernelspec": {"language": "R"}}}, 0, "is in R"),
    "of another set": ({"cells": [cell("code", "1")], "metadata": {}}, 0, "another set"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_submission_gets_its_marks(case, graded, monkeypatch):
    notebook, points, words = CASES[case]
    monkeypatch.setenv("SECRET_OF_THE_LECTURER", "1")
    student = f"이름 {case}"
    record = graded({student: notebook})[student]
    said = json.dumps([record.remarks, [outcome.words for outcome in record.outcomes.values()]])
    assert record.points == points, said
    assert words in said and "SECRET" not in said and "expected" not in record.outcomes.get("hidden", "")


def test_an_endless_loop_costs_its_own_exercise_alone(graded):
    record = graded({"a": submission("while True: pass")}, TIMES)["a"]
    assert record.points == 7 and "seconds" in record.outcomes["double"].words


def test_a_fork_bomb_ends_with_its_process(graded):
    before = len(os.listdir("/proc"))
    bomb = "import os, time\ntry:\n    while True:\n        if os.fork() == 0: time.sleep(1000)\nexcept OSError:\n    return 2 * x"
    assert graded({"a": submission(bomb)})["a"].points in (3, 7, 10)
    assert len(os.listdir("/proc")) < before + 20


def test_an_interrupted_run_goes_on_and_a_change_is_graded_anew(graded, tmp_path):
    first = graded({"a": submission(), "b": submission("return x")})
    assert {name: record.points for name, record in first.items()} == {"a": 10, "b": 7}
    path = tmp_path / "graded" / "a" / "a.json"
    stored = path.stat().st_mtime_ns
    again = graded({"b": submission(), "c": sheets.released(SOURCE)}, workers=2)
    assert {name: record.points for name, record in again.items()} == {"a": 10, "b": 10, "c": 0}
    assert path.stat().st_mtime_ns == stored and load(path) == first["a"]
    hidden = hidden_seeds(tmp_path, "a")
    assert len(hidden) == 2 and hidden == hidden_seeds(tmp_path, "a") and 0 not in hidden


def test_written_answers_are_kept_for_a_person(graded):
    written = changed(submission(), "why", "Because of the gate.")
    assert graded({"a": written})["a"].written == {"why": "Because of the gate."}
