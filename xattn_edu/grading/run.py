"""Grade a set for a class: each submission in a process of its own, each record written by the lecturer's process.

    course/                        the lecturer's folder
        submitted/<set>/<student>/*.ipynb
        hidden/<set>.json          seeds of the cases that no student sees; made at the first run
        graded/<set>/<student>.json

A student's record is written whole when the student is done, so an interrupted run goes on with the others. It is made
anew when the notebooks, the source, the limits or the hidden cases have changed.
"""

import contextlib
import functools
import hashlib
import inspect
import json
import os
import secrets
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from xattn_edu.files import write_atomically
from xattn_edu.grading import forkserver, sheets
from xattn_edu.grading.judging import Assignment, judge_submission
from xattn_edu.grading.record import Graded, load, save
from xattn_edu.grading.sandbox import Start

HIDDEN_CASES = 2  # seeds besides that of the released check


def hidden_seeds(folder: Path, name: str) -> list[int]:
    """The seeds of the set's hidden cases, drawn and stored at first."""
    path = folder / "hidden" / f"{name}.json"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps([1 + secrets.randbelow(2**31 - 2) for _ in range(HIDDEN_CASES)]).encode())
    try:
        seeds = json.loads(path.read_text(encoding="utf-8"))
        if not (isinstance(seeds, list) and seeds and all(type(seed) is int and seed >= 0 for seed in seeds)):
            raise ValueError("expected a list of whole numbers")
    except ValueError as error:
        raise ValueError(f"{path} holds no seeds ({error}): delete it, and new ones are drawn") from error
    return seeds


def students_of(folder: Path, name: str) -> list[Path]:
    """The folders of those who handed in. Raises FileNotFoundError if there are none."""
    submitted = folder / "submitted" / name
    if not (students := sorted(path for path in submitted.glob("*") if path.is_dir())):
        raise FileNotFoundError(f"{submitted} has no folders of students: `xattn grade collect {name} ...` makes them")
    return students


def grade(
    folder: Path, assignment: Assignment, workers: int | None = None, start: Start | None = None
) -> Iterator[tuple[Graded, bool]]:
    """Grade every submission in the lecturer's `folder`; yield each record, and whether it was stored before.

    `workers` is the number of students at a time, by default that of the cores; `start` is as in Sandbox. Raises
    FileNotFoundError before any work if nothing was handed in, ValueError if stored seeds are none.
    """
    students, seeds = students_of(folder, assignment.name), hidden_seeds(folder, assignment.name)
    with contextlib.ExitStack() as stack:
        if start is None:
            linux = sys.platform == "linux"
            start = stack.enter_context(forkserver.ForkServer()).copy if linux else forkserver.new
        pool = stack.enter_context(ThreadPoolExecutor(workers or os.cpu_count()))
        jobs = [pool.submit(_graded, folder, student, assignment, seeds, start) for student in students]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


def _graded(folder: Path, student: Path, assignment: Assignment, seeds: list[int], start: Start) -> tuple[Graded, bool]:
    payloads = _payloads(student)
    fingerprint = _fingerprint(payloads, assignment, seeds)
    path = folder / "graded" / assignment.name / f"{student.name}.json"
    if path.exists() and (stored := load(path)).fingerprint == fingerprint:
        return stored, True
    record = Graded(student.name, assignment.name, fingerprint)
    judge_submission(record, payloads, assignment, seeds, start)
    save(record, path)
    return record, False


def _payloads(student: Path) -> dict[str, bytes]:
    """The notebooks that were handed in, the newest first; of one that is too large, as much as shows that it is."""
    paths = sorted(student.glob("*.ipynb"), key=lambda path: (path.stat().st_mtime, path.name), reverse=True)
    payloads = {}
    for path in paths:
        with path.open("rb") as file:
            payloads[path.name] = file.read(sheets.LARGEST + 1)
    return payloads


def _fingerprint(payloads: Mapping[str, bytes], assignment: Assignment, seeds: list[int]) -> str:
    """Of the notebooks in their order, and of all that they are judged by: checks and library as well."""
    checks = {
        name: [one.points, inspect.getsource(inspect.getmodule(one.run) or one.run)]
        for name, one in assignment.exercises.items()
    }
    judged_by = json.dumps([assignment.source, checks, _library(), seeds, asdict(assignment.limits)], sort_keys=True)
    parts = [judged_by.encode(), *(part for name, payload in payloads.items() for part in (name.encode(), payload))]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


@functools.cache
def _library() -> str:
    """Of the library's code: a check compares with what the library computes."""
    texts = [path.read_bytes() for path in sorted(Path(__file__).parents[1].rglob("*.py"))]
    return hashlib.sha256(b"".join(texts)).hexdigest()
