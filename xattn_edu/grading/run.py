"""Grade a set for a class: each submission in a process of its own, each record written by the lecturer's process.

    course/                        the lecturer's folder
        submitted/<set>/<student>/*.ipynb
        hidden/<set>.json          seeds of the cases that no student sees; made at the first run
        graded/<set>/<student>.json

A student's record is written whole when he is done, so an interrupted run goes on with the others. It is made anew when
the notebook, the source or the hidden cases have changed.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from pathlib import Path

from xattn_edu.exercises.checking import Verdict, judge
from xattn_edu.files import write_atomically
from xattn_edu.grading import sheets
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.sandbox import Remote, Sandbox
from xattn_edu.grading.wire import Broken
from xattn_edu.homework.exercise import Exercise

HIDDEN_CASES = 2  # seeds besides that of the released check
OUTPUT = 2000  # characters of what a notebook has printed that feedback shows


@dataclass
class Outcome:
    """What came of one exercise. The kinds are those of `Verdict`."""

    kind: str
    words: str
    points: float
    out_of: float
    hidden: bool = False  # whether the released check passes and a hidden case does not


@dataclass
class Graded:
    """The record of one student and one set."""

    student: str
    set: str
    fingerprint: str  # of all that it depends on
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)  # texts that a person reads
    remarks: list[str] = field(default_factory=list)
    confined: list[str] = field(default_factory=list)
    output: str = ""

    @property
    def points(self) -> float:
        return sum(outcome.points for outcome in self.outcomes.values())


def load(path: Path) -> Graded:
    """A stored record. Raises ValueError for a file that is none."""
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        outcomes = {name: Outcome(**outcome) for name, outcome in stored.pop("outcomes").items()}
        return Graded(**stored, outcomes=outcomes)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no record of grading ({error}): delete it and grade again") from error


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


def grade(
    folder: Path,
    name: str,
    source: sheets.Notebook,
    exercises: Mapping[str, Exercise],
    *,
    limits: Limits | None = None,
    workers: int | None = None,
) -> Iterator[Graded]:
    """Grade every submission of the set `name` in the lecturer's `folder`, and yield each record when it is stored.

    Raises ValueError before any work if nothing was handed in, or stored seeds are none.
    """
    seeds, limits = [0, *hidden_seeds(folder, name)], limits or Limits()
    students = sorted(path for path in (folder / "submitted" / name).glob("*") if path.is_dir())
    if not students:
        raise ValueError(f"{folder / 'submitted' / name} has no folders of students: run `xattn grade collect` first")
    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        jobs = [pool.submit(_graded, folder, student, name, source, exercises, seeds, limits) for student in students]
        try:
            for job in as_completed(jobs):
                yield job.result()
        finally:
            for job in jobs:
                job.cancel()


def _graded(
    folder: Path,
    student: Path,
    name: str,
    source: sheets.Notebook,
    exercises: Mapping[str, Exercise],
    seeds: list[int],
    limits: Limits,
) -> Graded:
    record = Graded(student.name, name, "")
    payload = _payload(student, record)
    depends = [payload, json.dumps([source, seeds, asdict(limits)], sort_keys=True).encode()]
    record.fingerprint = hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in depends)).hexdigest()
    path = folder / "graded" / name / f"{student.name}.json"
    if path.exists() and (stored := load(path)).fingerprint == record.fingerprint:
        return stored
    judge_notebook(record, payload, source, exercises, seeds, limits)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(record), indent=1, ensure_ascii=False).encode())
    return record


def _payload(student: Path, record: Graded) -> bytes:
    """The bytes of the notebook that was handed in, the newest if there are several."""
    notebooks = sorted(student.glob("*.ipynb"), key=lambda path: (path.stat().st_mtime, path.name))
    if not notebooks:
        return b""
    if len(notebooks) > 1:
        record.remarks.append(f"{len(notebooks)} notebooks were handed in; the newest, {notebooks[-1].name}, is graded")
    with notebooks[-1].open("rb") as file:
        return file.read(sheets.LARGEST + 1)


def judge_notebook(
    record: Graded,
    payload: bytes,
    source: sheets.Notebook,
    exercises: Mapping[str, Exercise],
    seeds: list[int],
    limits: Limits,
) -> None:
    """Put outcomes, texts and remarks into `record`: an outcome for each exercise, whatever the notebook does."""
    nothing = {name: Outcome("not attempted", "", 0.0, one.points) for name, one in exercises.items()}
    record.outcomes = nothing
    try:
        mended = sheets.mend(sheets.read(payload), source)
    except sheets.NoSheet as reason:
        record.remarks.append(str(reason) if payload else "nothing was handed in")
        return
    record.remarks += mended.remarks
    record.written = {name: text for name, text in mended.written.items() if name in mended.attempted}
    left = dict(exercises)
    while left:  # a process that ends takes one exercise with it; the others get a new one
        try:
            with Sandbox(mended.cells, limits) as sandbox:
                first = True
                record.confined = sandbox.force
                for cell, error in sandbox.errors.items():
                    remark = f"the cell {cell} stopped: {error}"
                    record.remarks += [remark] if remark not in record.remarks else []
                while left:
                    name, one = next(iter(left.items()))
                    record.outcomes[name] = _outcome(one, sandbox, seeds)
                    ended = record.outcomes[name].kind == "ended"
                    if not ended or first:  # otherwise an exercise before it may be the cause: it is tried again, first
                        del left[name]
                    if ended:
                        break
                    first = False
                record.output = sandbox.output.decode(errors="replace")[:OUTPUT]
        except Broken as reason:
            for name, one in left.items():
                record.outcomes[name] = Outcome("error", str(reason), 0.0, one.points)
            return


def _outcome(one: Exercise, sandbox: Sandbox, seeds: list[int]) -> Outcome:
    verdict, hidden = Verdict("not attempted", ""), False
    try:
        for seed in seeds:
            verdict = judge(one.run, Remote(sandbox, one.function), seed)
            if verdict.kind != "right":
                hidden = seed != seeds[0]
                break
    except Broken as reason:
        return Outcome("ended", str(reason), 0.0, one.points)
    if hidden:  # what a hidden case is like is not told
        verdict = Verdict(
            verdict.kind, "right in the case of the notebook, but not in others: sizes and numbers differ there"
        )
    return Outcome(verdict.kind, verdict.words, one.points * (verdict.kind == "right"), one.points, hidden)
