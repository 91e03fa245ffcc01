"""The verdicts on one submission: first all exercises in the case of the notebook, then the right ones in hidden cases.

What a student reads, verdicts and what was printed, comes from the first part alone. A function that keeps its
arguments, prints them or raises them in an error can therefore show nothing of a hidden case.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from xattn_edu.exercises.checking import Verdict, judge
from xattn_edu.grading import forkserver, sheets
from xattn_edu.grading.child import WORDS
from xattn_edu.grading.confine import Limits
from xattn_edu.grading.record import Graded, Outcome
from xattn_edu.grading.sandbox import Remote, Sandbox, Start
from xattn_edu.grading.wire import Broken
from xattn_edu.homework.exercise import Exercise

OUTPUT = 2000  # characters of what a notebook has printed that feedback shows
HIDDEN = "right in the case of the notebook, but not in others: sizes and numbers differ there"
HIDDEN_ENDED = "right in the case of the notebook, but in others it took too long, or its process ended"
LEAST = 20.0  # seconds that a process has, when those of the student are used up: the next answer may be right


@dataclass(frozen=True)
class Assignment:
    """What a submission is judged by: the source with its solutions, the exercises, the limits of a process."""

    name: str
    source: sheets.Notebook
    exercises: Mapping[str, Exercise]
    limits: Limits = Limits()


def judge_submission(
    record: Graded,
    payloads: Mapping[str, bytes],
    assignment: Assignment,
    hidden_seeds: Sequence[int],
    start: Start = forkserver.new,
) -> None:
    """Put outcomes, texts and remarks into `record`: an outcome for each exercise, whatever the notebooks do.

    Args:
        record: of the student.
        payloads: the notebooks' bytes by their files' names, the newest first.
        assignment: what they are judged by.
        hidden_seeds: of the cases after that of the notebook.
        start: see Sandbox.
    """
    exercises = assignment.exercises
    record.outcomes = {name: Outcome("not attempted", "", 0.0, one.points) for name, one in exercises.items()}
    mended = _first_of_this_set(payloads, assignment.source, record.remarks)
    if mended is None:
        return
    record.remarks += mended.remarks
    record.written = {name: text for name, text in mended.written.items() if name in mended.attempted}
    untouched = _untouched(assignment.source, mended)
    left = {name: one for name, one in exercises.items() if one.function not in untouched}
    with Marking(mended.cells, assignment.limits, start) as marking:
        for name, one in left.items():
            verdict = marking.verdict(one, [0])
            right = verdict.kind == "right"
            words = verdict.words[:WORDS]  # a verdict may quote a text of 60 MB that an answer has returned
            record.outcomes[name] = Outcome(verdict.kind, words, one.points * right, one.points)
        record.output, record.confined = marking.output(), marking.force
        record.remarks += marking.remarks
        for name, one in left.items():
            shown = record.outcomes[name]
            if shown.kind == "right" and hidden_seeds and (kind := marking.verdict(one, hidden_seeds).kind) != "right":
                words = HIDDEN_ENDED if kind == "ended" else HIDDEN
                record.outcomes[name] = replace(shown, kind="wrong", words=words, points=0.0, hidden=True)


def _first_of_this_set(
    payloads: Mapping[str, bytes], source: sheets.Notebook, remarks: list[str]
) -> sheets.Mended | None:
    """The newest notebook that is one of this set; if there is none, the reasons go to the remarks."""
    reasons = []
    for file, payload in payloads.items():
        try:
            mended = sheets.mend(sheets.read(payload), source)
        except sheets.NoSheet as reason:
            reasons.append(f"{file}: {reason}" if payload else f"{file}: the file is empty")
            continue
        if len(payloads) > 1:
            remarks.append(f"{len(payloads)} notebooks were handed in; {file}, the newest of this set, is graded")
        return mended
    remarks += reasons or ["nothing was handed in"]
    return None


def _untouched(source: sheets.Notebook, mended: sheets.Mended) -> set[str]:
    """The functions and classes whose cell is as it was released, so that there is nothing to judge."""
    release = sheets.released(source)
    stubs = [
        sheets.source_of(cell)
        for name, cell in sheets.named(release)
        if sheets.role_of(cell) == "answer" and name not in mended.attempted
    ]
    touched = "\n".join(text for _, text in mended.cells if text not in stubs)
    defined = [set(re.findall(r"(?m)^(?:async )?(?:def|class) +(\w+)", text)) for text in (touched, *stubs)]
    return set().union(*defined[1:]) - defined[0]


class Marking:
    """The cells of a submission, in as many processes as it takes: one that ends costs one exercise."""

    def __init__(self, cells: Sequence[tuple[str, str]], limits: Limits, start: Start):
        self.cells, self.limits, self.start = cells, limits, start
        self.remarks, self.force = list[str](), list[str]()
        self._end = time.monotonic() + limits.seconds
        self._sandbox: Sandbox | None = None
        self._printed = b""

    def __enter__(self) -> "Marking":
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def output(self) -> str:
        """The beginning of what was printed until now, without the time in which processes came to their end."""
        printed = self._printed or (self._sandbox.output if self._sandbox else b"")
        return printed[: 4 * OUTPUT].decode(errors="replace")[:OUTPUT]

    def verdict(self, one: Exercise, seeds: Sequence[int]) -> Verdict:
        """The verdict of the first case that is not right, or of the last; "ended" if the process ends in it."""
        verdict, first = self._tried(one, seeds)
        if verdict.kind in ("ended", "error") and not first:
            # An exercise before it may be the cause: it may have used up what the process is allowed.
            self._close()
            verdict, _ = self._tried(one, seeds)
        return verdict

    def _tried(self, one: Exercise, seeds: Sequence[int]) -> tuple[Verdict, bool]:
        """The verdict, and whether this exercise was the first one of its process."""
        first, verdict = self._sandbox is None, Verdict("not attempted", "")
        try:
            sandbox = self._sandbox = self._sandbox or self._begun()
            for seed in seeds:
                verdict = judge(one.run, Remote(sandbox, one.function), seed)
                if verdict.kind != "right":
                    break
        except Broken as reason:
            self._close()
            verdict = Verdict("ended", str(reason))
        return verdict, first

    def _begun(self) -> Sandbox:
        """A new process in which the cells have run. Raises Broken if they end it."""
        try:
            sandbox = self._started()
        except Broken:
            required = [(name, text) for name, text in self.cells if name != sheets.OWN]
            if len(required) == len(self.cells):
                raise
            self.cells = required
            self._remark("your own cells were left out, because with them the notebook did not come to its end")
            sandbox = self._started()
        self.force = sandbox.force
        for cell, error in sandbox.errors.items():
            self._remark(f"the cell {cell} stopped: {error}")
        return sandbox

    def _started(self) -> Sandbox:
        left = max(LEAST, self._end - time.monotonic())
        return Sandbox(self.cells, replace(self.limits, seconds=left), self.start)

    def _remark(self, words: str) -> None:
        if words not in self.remarks:
            self.remarks.append(words)

    def _close(self) -> None:
        if self._sandbox:
            self._sandbox.close()
            self._printed = self._printed or self._sandbox.output
            self._sandbox = None
