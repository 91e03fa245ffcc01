"""What the tests of the exercises share: the exercises as the notebooks store them, and answers held to verdicts.

A lesson's test file lists wrong answers, and right ones that differ from the solution, by exercise and by name:
{exercise: {name: answer}}. The functions below make a test of such a table.
"""

import ast
import contextlib
import functools
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from xattn_edu import exercises

LESSONS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))
Answer = Callable[..., Any]


class Exercise(NamedTuple):
    """An exercise in a notebook: the name of its check, the source of its cell, the solution folded away above it."""

    lesson: Path
    name: str
    source: str
    solution: str


class Named(NamedTuple):
    """A wrong answer whose mistake the verdict must name, in these words."""

    words: str
    answer: Answer


Answers = dict[str, dict[str, Answer]]
WrongAnswers = dict[str, dict[str, Answer | Named]]


def exercises_in(lesson: Path) -> list[Exercise]:
    """The exercises of a notebook. Their cells carry the tag `exercise`; the cell before holds the solution."""
    cells = json.loads(lesson.read_text(encoding="utf-8"))["cells"]
    found = []
    for before, cell in zip(cells, cells[1:]):
        if "exercise" in cell["metadata"].get("tags", []):
            source = "".join(cell["source"])
            (name,) = re.findall(r"exercises\.(\w+)\(", source)
            unquoted = re.sub(r"(?m)^> ?", "", "".join(before["source"]))
            (solution,) = re.findall(r"(?s)<summary>Solution</summary>.*?```python\n(.*?)```", unquoted)
            found.append(Exercise(lesson, name, source, solution))
    return found


def imported_in(lesson: Path) -> dict[str, Any]:
    """The names that the import statements of a notebook bind, and nothing else."""
    namespace: dict[str, Any] = {}
    for cell in json.loads(lesson.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            for node in ast.walk(ast.parse("".join(cell["source"]))):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    exec(compile(ast.Module([node], []), str(lesson), "exec"), namespace)
    return namespace


@functools.cache
def verdict(exercise: str, answer: Answer) -> str:
    """What the check prints about an answer."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        getattr(exercises, exercise)(answer)
    return printed.getvalue()


def covers(number: int, wrong: WrongAnswers) -> Callable[[], None]:
    """A test: there are wrong answers for each exercise of this lesson, and for no other."""

    def test() -> None:
        (lesson,) = (path for path in LESSONS if path.name.startswith(f"{number:02}_"))
        assert {exercise.name for exercise in exercises_in(lesson)} == {
            name for name, answers in wrong.items() if answers
        }

    return test


def refused(wrong: WrongAnswers) -> Callable[..., None]:
    """A test: no wrong answer is accepted."""

    @_each(wrong)
    def test(exercise: str, answer: Answer | Named) -> None:
        said = verdict(exercise, answer.answer if isinstance(answer, Named) else answer)
        assert said.startswith("✗"), said

    return test


def named(wrong: WrongAnswers) -> Callable[..., None]:
    """A test: the verdict on each `Named` answer names its mistake."""

    @_each({exercise: _only_named(answers) for exercise, answers in wrong.items()})
    def test(exercise: str, answer: Named) -> None:
        said = verdict(exercise, answer.answer)
        assert answer.words in said, said

    return test


def says_every_cause(number: int, wrong: WrongAnswers) -> Callable[[], None]:
    """A test: each mistake that the checks of this lesson can name is named to one of the wrong answers."""

    def test() -> None:
        answers = [(exercise, answer) for exercise, by_name in wrong.items() for answer in by_name.values()]
        said = "\n".join(verdict(name, a.answer if isinstance(a, Named) else a) for name, a in answers)
        never = [cause for cause in _causes(number) if cause not in said]
        assert _causes(number) and not never

    return test


def _causes(number: int) -> list[str]:
    """The explanations of mistakes in the source of a lesson's checks: the keys of dictionaries that are sentences."""
    source = Path(exercises.__file__).with_name(f"lesson_{number:02}.py").read_text(encoding="utf-8")
    keys = []
    for node in ast.walk(ast.parse(source)):
        keys += node.keys if isinstance(node, ast.Dict) else []
        keys += [node.slice] if isinstance(node, ast.Subscript) else []
    begun = [key.values[0] for key in keys if isinstance(key, ast.JoinedStr)]
    texts = [key.value for key in [*keys, *begun] if isinstance(key, ast.Constant) and isinstance(key.value, str)]
    return [text for text in texts if " " in text and (text[-1] in ".?!" or text in {b.value for b in begun})]


def accepted(right: Answers) -> Callable[..., None]:
    """A test: right answers are accepted."""

    @_each(right)
    def test(exercise: str, answer: Answer) -> None:
        said = verdict(exercise, answer)
        assert said.startswith("✓"), said

    return test


def _only_named(answers: dict[str, Answer | Named]) -> dict[str, Named]:
    return {name: answer for name, answer in answers.items() if isinstance(answer, Named)}


def _each(answers: dict[str, Any]) -> pytest.MarkDecorator:
    cases = [
        pytest.param(exercise, answer, id=f"{exercise}-{name}")
        for exercise, by_name in answers.items()
        for name, answer in by_name.items()
    ]
    return pytest.mark.parametrize(("exercise", "answer"), cases)
