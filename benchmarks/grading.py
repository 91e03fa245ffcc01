"""How long a class takes to grade: thirty submissions of every kind to one set, with all of its exercises.

    make benchmark                      (or: python benchmarks/grading.py [--quick] [--save])

Twelve are right, four empty, one is no notebook; the others have one answer that fails: it loops without an end, forks
without an end, prints or takes a gigabyte, ends its process, and so on. Their points are checked. Two are graded at a
time, on two cores.
`--save` writes results/benchmarks/grading.json.
"""

import argparse
import copy
import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch

from xattn_edu.files import write_atomically
from xattn_edu.grading import commands, sheets
from xattn_edu.grading.forkserver import ForkServer
from xattn_edu.grading.judging import Assignment
from xattn_edu.grading.run import grade
from xattn_edu.homework import SETS, Exercise
from xattn_edu.machine import describe_machine

RESULT = Path(__file__).parents[1] / "results" / "benchmarks" / "grading.json"
WORKERS = 2
FAILING = {  # what one answer does instead, and how many students hand it in
    "returns nothing": ("return None", 3),
    "raises an error": ("raise ValueError('x')", 2),
    "a module that is not there": ("import no_such_module", 1),
    "an endless loop": ("while True:\n    pass", 2),
    "ends its process": ("import os\nos._exit(1)", 1),
    "a fork bomb": ("import os, time\nwhile True:\n    if os.fork() == 0:\n        time.sleep(1000)", 1),
    "a gigabyte of output": ("import os\nfor n in range(1024):\n    os.write(1, bytes(1 << 20))", 1),
    "a gigabyte of memory": ("return bytearray(1 << 30)", 1),
    "a lock that nobody opens": ("import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()", 1),
}


ROLES = ("check", "answer")


def the_class(name: str) -> dict[str, bytes]:
    """The submissions, by student; the part of a student's name before the number is the kind."""
    opened = commands.open_sheet(name)
    right, empty = opened.source, sheets.released(opened.source)
    submissions = {"right": [right] * 8, "empty": [empty] * 4, "not JSON": [b"{"]}
    check, answer = (next(one for one, cell in sheets.named(right) if sheets.role_of(cell) == role) for role in ROLES)
    submissions["right, a check deleted"] = [
        {**right, "cells": [c for c in right["cells"] if sheets.name_of(c) != check]}
    ]
    submissions["right, an answer twice"] = [{**right, "cells": [*right["cells"], dict(sheets.named(right))[answer]]}]
    submissions["right, a cell that fails"] = [{**right, "cells": [code("1 / 0"), *right["cells"]]}] * 2
    for number, (kind, (body, count)) in enumerate(FAILING.items()):
        one = _spoilt(name, number)
        submissions[kind] = [failing(right, one.function, body)] * count
    return {
        f"{kind} {number}": notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
        for kind, notebooks in submissions.items()
        for number, notebook in enumerate(notebooks)
    }


def _spoilt(name: str, number: int) -> Exercise:
    """The exercise in which the submission of this number in FAILING fails."""
    exercises = list(SETS[name].values())
    return exercises[number % len(exercises)]


def code(source: str) -> sheets.Cell:
    return {"cell_type": "code", "source": source, "metadata": {}, "outputs": [], "execution_count": None}


def failing(source: sheets.Notebook, function: str, body: str) -> sheets.Notebook:
    """The notebook with one function defined again, below its right definition."""
    notebook = copy.deepcopy(source)
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    for _, cell in sheets.named(notebook):
        text = sheets.source_of(cell)
        if sheets.role_of(cell) == "answer" and any(f"{kind} {function}" in text for kind in ("def", "class")):
            cell["source"] = f"{text}\n\ndef {function}(*_, **__):\n{lines}"
    return notebook


def check_points(name: str, points: Mapping[str, float]) -> None:
    """Right ones have all points of the checks, empty ones none, the others all but those of one exercise."""
    full = sum(one.points for one in SETS[name].values())
    for student, found in points.items():
        if student.startswith("right"):
            assert found == full, (student, found)
        elif student.startswith(("empty", "not JSON")):
            assert found == 0, (student, found)
        else:
            number = list(FAILING).index(student.rpartition(" ")[0])
            assert found == full - _spoilt(name, number).points, (student, found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", default=next(iter(SETS)), choices=SETS, help="which set (default: the first)")
    parser.add_argument("--quick", action="store_true", help="five students, to see that it runs")
    parser.add_argument("--save", action="store_true", help=f"write {RESULT.relative_to(RESULT.parents[2])}")
    options = parser.parse_args()
    students = the_class(options.set)
    if options.quick:
        students = dict(list(students.items())[7:12])

    opened = commands.open_sheet(options.set)
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for student, payload in students.items():
            path = Path(folder) / "submitted" / options.set / student / "hw.ipynb"
            path.parent.mkdir(parents=True)
            path.write_bytes(payload)
        begin = time.perf_counter()
        points = {}
        for record, _ in grade(Path(folder), Assignment(options.set, opened.source, opened.exercises), WORKERS):
            seconds[record.student] = time.perf_counter() - begin
            points[record.student] = record.points
            print(f"{seconds[record.student]:7.1f} s  {record.student}: {record.points:g}", flush=True)
        total = time.perf_counter() - begin
    check_points(options.set, points)
    begin = time.perf_counter()
    with ForkServer() as server, tempfile.TemporaryDirectory() as folder:
        server.copy(Path(folder)).close()
        start = time.perf_counter() - begin

    print(f"\n{options.set}, {len(students)} students, {WORKERS} at a time: {total:.0f} s ({start:.1f} s to start)")
    if options.save:
        RESULT.parent.mkdir(parents=True, exist_ok=True)
        record = {"set": options.set, "exercises": len(opened.exercises), "students": len(students), "workers": WORKERS}
        record |= {"seconds": total, "start_seconds": start, "points": points}
        record |= {"machine": describe_machine(torch.device("cpu"))}
        write_atomically(RESULT, (json.dumps(record, indent=1) + "\n").encode())
        print(f"written to {RESULT.relative_to(RESULT.parents[2])}")


if __name__ == "__main__":
    main()
